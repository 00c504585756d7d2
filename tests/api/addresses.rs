//! Delivery addresses: a shopper's own, sealed at rest.

use farmgate_tests::{Problem, Shop, Value, json};

use crate::has_keys;

const KEYS: [&str; 8] = ["id", "name", "phone", "province", "city", "district", "detail", "is_default"];

#[tokio::test]
async fn an_address_is_made_read_changed_and_deleted() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let mut body = shopper.address_body();
    body["region_code"] = json!("370686");
    let made = shopper.api.post("/api/addresses", &body).await.data();
    has_keys(&made, &KEYS);
    assert_eq!(made["is_default"], json!(true), "the first is the default, whatever was said");
    for (key, value) in body.as_object().unwrap().iter().filter(|(key, _)| *key != "is_default") {
        assert_eq!(made[key], *value, "{key}");
    }
    let path = format!("/api/addresses/{}", made["id"]);
    assert_eq!(shopper.api.get(&path).await.data(), made);

    body["detail"] = json!("果园路 2 号");
    let changed = shopper.api.put(&path, &body).await.data();
    assert_eq!(changed["detail"], "果园路 2 号");
    assert_eq!(shopper.api.get("/api/addresses").await.data(), json!([changed]));

    shopper.api.delete(&path).await.data();
    shopper.api.get(&path).await.fails_with(Problem::AddressNotFound);
    shopper.api.delete(&path).await.fails_with(Problem::AddressNotFound);
    assert_eq!(shopper.api.get("/api/addresses").await.data(), json!([]));
}

#[tokio::test]
async fn there_is_one_default_and_it_comes_first() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let first = shopper.address().await;
    let second = shopper.address().await;
    let defaults = async || {
        let list = shopper.api.get("/api/addresses").await.data();
        let list: Vec<Value> = list.as_array().unwrap().clone();
        let default: Vec<i64> = list
            .iter()
            .filter(|a| a["is_default"] == json!(true))
            .map(|a| a["id"].as_i64().unwrap())
            .collect();
        assert_eq!(list[0]["is_default"], json!(true), "{list:?}");
        default
    };
    assert_eq!(defaults().await, [first]);
    let mut body = shopper.address_body();
    body["is_default"] = json!(true);
    shopper.api.put(&format!("/api/addresses/{second}"), &body).await.data();
    assert_eq!(defaults().await, [second]);
    shopper.api.delete(&format!("/api/addresses/{second}")).await.data();
    assert_eq!(defaults().await, [first], "one of the others becomes it");
}

#[tokio::test]
async fn another_users_address_is_not_found() {
    let shop = Shop::start().await;
    let owner = shop.shopper("小王").await;
    let stranger = shop.shopper("小李").await;
    let path = format!("/api/addresses/{}", owner.address().await);
    stranger.api.get(&path).await.fails_with(Problem::AddressNotFound);
    stranger.api.put(&path, &stranger.address_body()).await.fails_with(Problem::AddressNotFound);
    stranger.api.delete(&path).await.fails_with(Problem::AddressNotFound);
    assert_eq!(stranger.api.get("/api/addresses").await.data(), json!([]));
    assert_eq!(owner.api.get(&path).await.data()["name"], "小王", "and is untouched");
    for id in ["999999999", "0", "-1", "abc"] {
        owner.api.get(&format!("/api/addresses/{id}")).await.fails_with(Problem::AddressNotFound);
    }
}

#[tokio::test]
async fn each_bad_field_is_named() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    for (field, values) in [
        ("name", vec![json!(""), json!("  "), json!("字".repeat(31)), json!(1), json!(null)]),
        (
            "phone",
            vec![
                json!("1380000000"),
                json!("138000000000"),
                json!("23800000000"),
                json!("１３８０００００００"),
                json!(13_800_000_000_i64),
            ],
        ),
        ("province", vec![json!(""), json!([])]),
        ("city", vec![json!("")]),
        ("district", vec![json!("")]),
        ("detail", vec![json!(""), json!("字".repeat(201)), json!("a\u{0}b")]),
        ("region_code", vec![json!("37068"), json!("abcdef")]),
        ("is_default", vec![json!("yes"), json!(1)]),
    ] {
        for value in values {
            let mut body = shopper.address_body();
            body[field] = value;
            shopper.api.post("/api/addresses", &body).await.refuses_fields(&[field]);
        }
    }
    let mut body = shopper.address_body();
    body.as_object_mut().unwrap().remove("phone");
    shopper.api.post("/api/addresses", &body).await.refuses_fields(&["phone"]);
    assert_eq!(shopper.api.get("/api/addresses").await.data(), json!([]));
}

#[tokio::test]
async fn who_lives_where_is_sealed_in_the_database() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("王小明").await;
    let (product, _, _) = shop.first_product().await;
    shopper.order(product, 1).await;
    for (table, query) in [
        ("addresses", "SELECT CAST(contact_sealed AS CHAR) FROM addresses"),
        ("orders", "SELECT CAST(delivery_address AS CHAR) FROM orders"),
    ] {
        let stored: String = sqlx::query_scalar(query).fetch_one(&shop.db).await.unwrap();
        for secret in ["王小明", "13800000000", "果园路"] {
            assert!(!stored.contains(secret), "{table} holds {secret} in the clear: {stored}");
        }
        assert!(stored.len() > 40, "{table}: {stored}");
    }
}

#[tokio::test]
async fn there_is_an_end_to_how_many() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    for _ in 0..50 {
        shopper.address().await;
    }
    shopper.api.post("/api/addresses", &shopper.address_body()).await.fails_with(Problem::AddressLimit);
}
