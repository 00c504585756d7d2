//! A data key that is exchanged: what the old one sealed is sealed anew, and then it can be dropped.

use farmgate_tests::{Problem, Shop, ShopPlan, Shopper, Value, json, unique};

const KEYS: &str = "FARMGATE_CRYPTO__DATA_KEYS";

/// A shop with something sealed in each place: a phone number, an address, and an order that a courier brings.
async fn shop() -> (Shop, Shopper, Value) {
    let shop = ShopPlan::new().setting("FARMGATE_WECHAT__PHONE", "on").start().await;
    let shopper = shop.shopper("小王").await;
    let code = json!({"code": format!("phone:13812345678:{}", unique("p"))});
    shopper.api.post("/api/user/phone", &code).await.data();
    let (product, ..) = shop.first_product().await;
    let order = shopper.buy(&shop.wechat, product, 1).await;
    shop.ship(&order, &["--city", "张师傅", "--phone", "13900001111"]).await;
    (shop, shopper, order)
}

/// A new key in front of the old one; the two by themselves.
fn exchange(shop: &mut Shop) -> (String, String) {
    let old = shop.setting_of(KEYS).to_owned();
    let new = format!("data-new={}", "5a".repeat(32));
    shop.change_setting(KEYS, &format!("{new},{old}"));
    (new, old)
}

/// All that was sealed, as a shopper and an operator read it.
async fn readable(shop: &Shop, shopper: &Shopper, order: &Value) -> Value {
    let (is_shown, said) = shop.command(&["user", "show", &shopper.id.to_string(), "--reveal"]).await;
    assert!(is_shown, "{said}");
    let phone = said.split_once("phone ").unwrap().1.split(' ').next().unwrap().to_owned();
    let path = format!("/api/orders/{}", order["order_id"]);
    json!({
        "phone": phone,
        "addresses": shopper.api.get("/api/addresses").await.data(),
        "order": shopper.see(order).await["delivery_address"],
        "courier": shopper.api.get(&format!("{path}/tracking")).await.data()["shipment"]["courier_phone"],
    })
}

#[tokio::test]
async fn an_old_data_key_can_be_dropped_once_all_is_sealed_anew() {
    let (mut shop, shopper, order) = shop().await;
    let before = readable(&shop, &shopper, &order).await;
    assert_eq!((&before["phone"], &before["courier"]), (&json!("+8613812345678"), &json!("13900001111")));
    let (new, _) = exchange(&mut shop);
    for (command, said) in [
        ("user", "telephone numbers: 1 of 1 sealed anew\naddresses: 1 of 1 sealed anew\n"),
        ("user", "telephone numbers: 0 of 1 sealed anew\naddresses: 0 of 1 sealed anew\n"),
        ("order", "delivery addresses: 1 of 1 sealed anew\ncouriers: 1 of 1 sealed anew\n"),
        ("order", "delivery addresses: 0 of 1 sealed anew\ncouriers: 0 of 1 sealed anew\n"),
    ] {
        assert_eq!(shop.command(&[command, "reseal"]).await, (true, said.to_owned()));
    }
    // The origin that still has the old key alone cannot read what is new: it goes last.
    shopper.api.get("/api/addresses").await.fails_with(Problem::Internal);
    shop.change_setting(KEYS, &new);
    shop.restart_origin().await;
    let shopper = shopper.through(&shop.api);
    assert_eq!(readable(&shop, &shopper, &order).await, before);
    // The number is found by its index as before.
    let (is_found, said) = shop.command(&["user", "show", "--phone", "13812345678"]).await;
    assert!(is_found && said.contains("138****5678"), "{said}");
}

#[tokio::test]
async fn a_value_that_does_not_open_is_named_and_holds_no_other_up() {
    let (mut shop, shopper, order) = shop().await;
    let other = shop.shopper("小李").await;
    let code = json!({"code": format!("phone:13900000000:{}", unique("p"))});
    other.api.post("/api/user/phone", &code).await.data();
    // Moved from the other account: it opens only where it was put.
    shop.script(&format!(
        "UPDATE users u JOIN users v ON v.id = {} SET u.phone_sealed = v.phone_sealed WHERE u.id = {}",
        other.id, shopper.id
    ))
    .await;
    let (new, old) = exchange(&mut shop);
    let (is_whole, said) = shop.command(&["user", "reseal"]).await;
    let broken = format!("{} DOES NOT OPEN", shopper.id);
    for part in ["older keys are still needed", "1 of 2 sealed anew", &broken, "addresses: 1 of 1"] {
        assert!(!is_whole && said.contains(part), "{part}: {said}");
    }
    // With a key too few nothing is lost either.
    shop.change_setting(KEYS, &new);
    let (is_whole, said) = shop.command(&["order", "reseal"]).await;
    assert!(!is_whole && said.contains("no key") && said.contains("0 of 1"), "{said}");
    shop.change_setting(KEYS, &format!("{new},{old}"));
    assert!(shop.command(&["order", "reseal"]).await.0);
    shop.restart_origin().await;
    let shopper = shopper.through(&shop.api);
    let path = format!("/api/orders/{}/tracking", order["order_id"]);
    assert_eq!(shopper.api.get(&path).await.data()["shipment"]["courier"], "张师傅");
}
