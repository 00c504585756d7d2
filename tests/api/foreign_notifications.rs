//! Notifications that an implementation which is not ours sealed and signed: taken by the origin as they are, and refused
//! when any bit of them is another.

use farmgate_tests::{Call, ForeignWechat, Reply, Shop, ShopPlan, Shopper, Value, json, status};

const SIGNED: [&str; 4] =
    ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-serial", "wechatpay-signature"];

/// A shop at the foreign WeChat Pay with an order that was paid there, and what WeChat says of it.
async fn paid_there(wechat: &ForeignWechat) -> (Shop, Shopper, Value, Value) {
    let shop = ShopPlan::new().setting("FARMGATE_PAY__BASE_URL", wechat.url()).start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let order = shopper.order(product, 2).await;
    shopper.prepay(&order).await;
    let transaction = wechat.control("pay", &json!({"out_trade_no": order["order_no"]})).await;
    (shop, shopper, order, transaction)
}

#[track_caller]
fn refused(reply: &Reply, what: &str) {
    assert!((400..500).contains(&reply.status), "{what}: {} {}", reply.status, reply.text());
    assert_eq!(reply.json()["code"], "FAIL", "{what}");
}

#[tokio::test]
async fn a_foreign_notification_of_a_payment_is_taken() {
    let wechat = ForeignWechat::start().await;
    let (shop, shopper, order, transaction) = paid_there(&wechat).await;
    let call = wechat.notification("TRANSACTION.SUCCESS", "transaction", &transaction).await;
    for attempt in ["first", "repeated"] {
        let reply = shop.api.send(call.clone()).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (200, Some("SUCCESS")), "{attempt}");
    }
    assert_eq!(status(&shopper, &order).await, 1);
    let stored: String =
        sqlx::query_scalar("SELECT transaction_id FROM payments").fetch_one(&shop.db).await.unwrap();
    assert_eq!(json!(stored), transaction["transaction_id"]);
}

#[tokio::test]
async fn associated_data_may_be_empty() {
    let wechat = ForeignWechat::start().await;
    let (shop, shopper, order, transaction) = paid_there(&wechat).await;
    let asked = json!({"event_type": "TRANSACTION.SUCCESS", "original_type": "transaction", "resource": transaction,
                       "associated_data": ""});
    let made = wechat.control("notification", &asked).await;
    let mut envelope: Value = serde_json::from_str(made["body"].as_str().unwrap()).unwrap();
    envelope["resource"].as_object_mut().unwrap().remove("associated_data");
    let reply = shop.api.send(wechat.signed(&envelope.to_string()).await).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(status(&shopper, &order).await, 1);
}

#[tokio::test]
async fn one_other_bit_anywhere_is_refused() {
    let wechat = ForeignWechat::start().await;
    let (shop, shopper, order, transaction) = paid_there(&wechat).await;
    let call = wechat.notification("TRANSACTION.SUCCESS", "transaction", &transaction).await;
    for at in 0..call.body.len() {
        let mut other = call.clone();
        other.body[at] ^= 1 << (at % 8);
        refused(&shop.api.send(other).await, &format!("byte {at} of the body"));
    }
    for name in SIGNED {
        let (index, length) = header(&call, name);
        for at in 0..length {
            let mut other = call.clone();
            let mut bytes = other.headers[index].1.clone().into_bytes();
            bytes[at] ^= 1;
            other.headers[index].1 = String::from_utf8(bytes).unwrap();
            refused(&shop.api.send(other).await, &format!("character {at} of {name}"));
        }
        let mut without = call.clone();
        without.headers.remove(index);
        refused(&shop.api.send(without).await, &format!("without {name}"));
    }
    assert_eq!(status(&shopper, &order).await, 0);
    assert_eq!(shop.api.send(call).await.status, 200, "the one that was not changed");
    assert_eq!(status(&shopper, &order).await, 1);
}

fn header(call: &Call, name: &str) -> (usize, usize) {
    let index = call.headers.iter().position(|(there, _)| there == name).unwrap();
    (index, call.headers[index].1.len())
}

#[tokio::test]
async fn what_was_sealed_otherwise_is_refused_though_wechat_signed_it() {
    let wechat = ForeignWechat::start().await;
    let (shop, shopper, order, transaction) = paid_there(&wechat).await;
    let made = wechat.notification("TRANSACTION.SUCCESS", "transaction", &transaction).await;
    let envelope: Value = serde_json::from_slice(&made.body).unwrap();
    let changes: [(&str, Value); 8] = [
        ("ciphertext", json!(turned(&envelope["resource"]["ciphertext"]))),
        ("ciphertext", json!("")),
        ("ciphertext", json!("AAAA")),
        ("ciphertext", Value::Null),
        ("nonce", json!(turned(&envelope["resource"]["nonce"]))),
        ("nonce", json!("eleven--byt")),
        ("associated_data", json!("refund")),
        ("algorithm", json!("AEAD_AES_128_GCM")),
    ];
    for (field, value) in changes {
        let mut other = envelope.clone();
        other["resource"][field] = value.clone();
        let reply = shop.api.send(wechat.signed(&other.to_string()).await).await;
        refused(&reply, &format!("{field} is {value}"));
    }
    assert_eq!(status(&shopper, &order).await, 0);
}

/// The first bit of the first character is another.
fn turned(text: &Value) -> String {
    let mut bytes = text.as_str().unwrap().to_owned().into_bytes();
    bytes[0] ^= 1;
    String::from_utf8(bytes).unwrap()
}
