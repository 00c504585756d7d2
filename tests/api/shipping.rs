//! `farmgate-origin order …` and `GET /api/orders/{id}/tracking`.

use farmgate_tests::{Problem, Shop, Shopper, Value, bought, json, number};

async fn tracking(shopper: &Shopper, order: &Value) -> Value {
    shopper.api.get(&format!("/api/orders/{}/tracking", order["order_id"])).await.data()
}

const BY_SF: [&str; 4] = ["--express", "SF", "--tracking", "SF1234567890"];

#[tokio::test]
async fn a_paid_order_goes_out_once_and_a_second_click_changes_nothing() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    let before = tracking(&shopper, &order).await;
    assert_eq!((&before["status"], &before["shipment"]), (&json!(1), &json!(null)));
    assert_eq!(before["order_no"], order["order_no"]);

    assert!(shop.ship(&order, &BY_SF).await.contains("shipped"));
    let seen = shopper.see(&order).await;
    assert_eq!((&seen["status"], &seen["status_text"]), (&json!(2), &json!("待收货")));
    let after = tracking(&shopper, &order).await;
    let shipment = &after["shipment"];
    assert_eq!(
        (&shipment["kind"], &shipment["company"], &shipment["company_name"], &shipment["tracking_no"]),
        (&json!("express"), &json!("SF"), &json!("顺丰速运"), &json!("SF1234567890"))
    );
    assert_eq!((&shipment["is_reshipped"], &shipment["shipped_at"]), (&json!(false), &seen["shipped_at"]));

    // As it was copied from the company's page this time.
    let said = shop.ship(&order, &["--express", "sf", "--tracking", "SF 1234 5678 90"]).await;
    assert!(said.contains("had been shipped so"), "{said}");
    assert_eq!(tracking(&shopper, &order).await, after);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'order_shipped'").await, 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM shipments").await, 1);

    // Also after the shopper has it.
    shopper.api.post(&format!("/api/orders/{}/confirm", order["order_id"]), &json!({})).await.data();
    assert!(shop.ship(&order, &BY_SF).await.contains("had been shipped so"));
    let done = tracking(&shopper, &order).await;
    assert!(done["status"] == 3 && done["completed_at"].is_string(), "{done}");
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
}

#[tokio::test]
async fn a_wrong_number_is_put_right_once() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    shop.ship(&order, &BY_SF).await;
    let first = shopper.see(&order).await;
    let said = shop.ship(&order, &["--express", "ZTO", "--tracking", "78001"]).await;
    assert!(said.contains("anew"), "{said}");
    let shown = tracking(&shopper, &order).await["shipment"].clone();
    assert_eq!(
        (&shown["company"], &shown["tracking_no"], &shown["is_reshipped"]),
        (&json!("ZTO"), &json!("78001"), &json!(true))
    );
    assert_eq!(
        shopper.see(&order).await["shipped_at"],
        first["shipped_at"],
        "the clock to completion runs on"
    );
    // The same words again are no third shipment, other words would be.
    assert!(shop.ship(&order, &["--express", "ZTO", "--tracking", "78001"]).await.contains("so"));
    for by in [&BY_SF[..], &["--pick-up"]] {
        let (is_shipped, said) = shop.try_to_ship(&order, by).await;
        assert!(!is_shipped && said.contains("twice already"), "{said}");
    }
    let (is_clean, report) = shop.reconcile(&["--repair"]).await;
    assert!(is_clean, "{report}");
    // What has arrived cannot be sent elsewhere.
    let other = bought(&shop, &shopper).await;
    shop.ship(&other, &["--pick-up"]).await;
    shopper.api.post(&format!("/api/orders/{}/confirm", other["order_id"]), &json!({})).await.data();
    let (is_shipped, said) = shop.try_to_ship(&other, &BY_SF).await;
    assert!(!is_shipped && said.contains("已完成"), "{said}");
}

#[tokio::test]
async fn what_is_not_paid_cannot_go_out() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let unpaid = shopper.order(product, 1).await;
    let cancelled = shopper.order(product, 2).await;
    shopper.api.post(&format!("/api/orders/{}/cancel", cancelled["order_id"]), &json!({})).await.data();
    for (order, why) in [(&unpaid, "待付款"), (&cancelled, "已取消")] {
        let (is_shipped, said) = shop.try_to_ship(order, &BY_SF).await;
        assert!(!is_shipped && said.contains(why) && said.contains(number(order)), "{said}");
    }
    let paid = bought(&shop, &shopper).await;
    for (status, why) in [(5, "退款中"), (6, "已退款")] {
        shop.script(&format!("UPDATE orders SET status = {status} WHERE id = {}", paid["order_id"])).await;
        let (is_shipped, said) = shop.try_to_ship(&paid, &BY_SF).await;
        assert!(!is_shipped && said.contains(why), "{said}");
    }
    shop.script(&format!("UPDATE orders SET status = 1 WHERE id = {}", paid["order_id"])).await;
    let unknown = json!({"order_no": "2020010100000000000000"});
    let (is_shipped, said) = shop.try_to_ship(&unknown, &BY_SF).await;
    assert!(!is_shipped && said.contains("no order"), "{said}");
    assert_eq!(shop.count("SELECT COUNT(*) FROM shipments").await, 0);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind LIKE 'order_%shipped'").await, 0);
}

#[tokio::test]
async fn words_that_make_no_sense_ship_nothing() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    for by in [
        &[][..],
        &["--express", "SF"],
        &["--tracking", "SF123456"],
        &["--express", "顺丰", "--tracking", "SF123456"],
        &["--express", "SF", "--tracking", "12"],
        &["--express", "SF", "--tracking", "x'; DROP TABLE shipments"],
        &["--express", "SF", "--tracking", "SF123456", "--pick-up"],
        &["--pick-up", "--phone", "13800000000"],
        &["--city", "张师傅", "--tracking", "SF123456"],
        &["--city", " "],
        &["--city", "张师傅", "--phone", "打我电话"],
    ] {
        let (is_shipped, said) = shop.try_to_ship(&order, by).await;
        assert!(!is_shipped && said.contains("error"), "{by:?}: {said}");
    }
    assert_eq!(shopper.see(&order).await["status"], 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM shipments").await, 0);
}

#[tokio::test]
async fn five_wishes_at_once_ship_once() {
    let shop = std::sync::Arc::new(Shop::start().await);
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    let mut wishes = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (shop, order) = (shop.clone(), order.clone());
        wishes.spawn(async move { shop.ship(&order, &BY_SF).await });
    }
    let said = wishes.join_all().await;
    assert_eq!(said.iter().filter(|said| !said.contains("had been")).count(), 1, "{said:?}");
    assert_eq!(shop.count("SELECT COUNT(*) FROM shipments").await, 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM outbox WHERE kind = 'order_shipped'").await, 1);
}

#[tokio::test]
async fn a_courier_is_seen_by_the_shopper_and_by_nobody_in_the_database() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let order = bought(&shop, &shopper).await;
    shop.ship(&order, &["--city", "张师傅", "--phone", "13900001111"]).await;
    let shown = tracking(&shopper, &order).await["shipment"].clone();
    assert_eq!(
        (&shown["kind"], &shown["kind_text"], &shown["courier"], &shown["courier_phone"]),
        (&json!("city"), &json!("同城配送"), &json!("张师傅"), &json!("13900001111"))
    );
    assert_eq!(shown["tracking_no"], json!(null));
    let sealed: String =
        sqlx::query_scalar("SELECT courier_sealed FROM shipments").fetch_one(&shop.db).await.unwrap();
    assert!(!sealed.contains("张师傅") && !sealed.contains("13900001111"), "{sealed}");
    assert!(shop.ship(&order, &["--city", "张师傅", "--phone", "13900001111"]).await.contains("had been"));

    let other = bought(&shop, &shopper).await;
    shop.ship(&other, &["--pick-up"]).await;
    let shown = tracking(&shopper, &other).await["shipment"].clone();
    assert_eq!((&shown["kind"], &shown["kind_text"]), (&json!("pick_up"), &json!("到店自提")));
}

#[tokio::test]
async fn nobody_tracks_another_shoppers_order() {
    let shop = Shop::start().await;
    let (owner, stranger) = (shop.shopper("小王").await, shop.shopper("小李").await);
    let order = bought(&shop, &owner).await;
    shop.ship(&order, &BY_SF).await;
    let path = format!("/api/orders/{}/tracking", order["order_id"]);
    stranger.api.get(&path).await.fails_with(Problem::OrderNotFound);
    shop.api.get(&path).await.fails_with(Problem::Unauthenticated);
    owner.api.get("/api/orders/999999999/tracking").await.fails_with(Problem::OrderNotFound);
    assert_eq!(tracking(&owner, &order).await["status"], 2);
}

#[tokio::test]
async fn the_packing_list_has_what_is_paid_and_has_not_gone_out() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (is_listed, said) = shop.command(&["order", "list", "--to-ship"]).await;
    assert!(is_listed && said == "nothing to ship\n", "{said}");
    let (first, second) = (bought(&shop, &shopper).await, bought(&shop, &shopper).await);
    let (product, ..) = shop.first_product().await;
    let unpaid = shopper.order(product, 1).await;
    shop.ship(&second, &BY_SF).await;

    let (_, said) = shop.command(&["order", "list", "--to-ship"]).await;
    for part in [number(&first), "小王", "13800000000", "果园路 1 号", "× 2"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(number(&second)) && !said.contains(number(&unpaid)), "{said}");
    // Without a worker nobody has told WeChat.
    let (_, said) = shop.command(&["order", "list", "--not-uploaded"]).await;
    assert!(said.contains(number(&second)) && !said.contains(number(&first)), "{said}");
    let (is_listed, _) = shop.command(&["order", "list"]).await;
    assert!(!is_listed, "which ones?");
    // A refunded order has no money that WeChat could keep.
    shop.script(&format!("UPDATE orders SET status = 6 WHERE id = {}", second["order_id"])).await;
    let (_, said) = shop.command(&["order", "list", "--not-uploaded"]).await;
    assert_eq!(said, "WeChat knows of all shipments\n");
    shop.script(&format!("UPDATE orders SET status = 2 WHERE id = {}", second["order_id"])).await;
}

#[tokio::test]
async fn a_parcel_that_came_back_is_found_by_its_number() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (first, other) = (bought(&shop, &shopper).await, bought(&shop, &shopper).await);
    shop.ship(&first, &BY_SF).await;
    shop.ship(&other, &["--express", "ZTO", "--tracking", "78001"]).await;
    // Put right: it is found by either number.
    shop.ship(&first, &["--express", "SF", "--tracking", "SF0000000001"]).await;
    for written in ["SF1234567890", "SF 0000 0000 01"] {
        let (is_listed, said) = shop.command(&["order", "list", "--tracking", written]).await;
        assert!(is_listed && said.contains(number(&first)) && said.contains("待收货"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let (_, said) = shop.command(&["order", "list", "--tracking", "78002"]).await;
    assert_eq!(said, "nothing went out under 78002\n");
    let (is_listed, said) = shop.command(&["order", "list", "--tracking", "12_34"]).await;
    assert!(!is_listed && said.contains("a parcel's number"), "{said}");
}
