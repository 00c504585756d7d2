//! WeChat's notifications pass byte for byte, with WeChat's headers, without a token.

use farmgate_tests::{Call, EdgeShop, LONG, Line, eventually, json};
use reqwest::Method;

const NOTIFY: &str = "/api/payments/wechat/notify";

#[tokio::test]
async fn a_callback_arrives_as_it_was_sent() {
    let shop = EdgeShop::start().await;
    // Odd white space, escapes, bytes that are no UTF-8: the signature is over these very bytes.
    let body: Vec<u8> =
        [&b"{ \"id\" :\t\"\\u82f9\\u679c\",\r\n\"x\": 1.0e+2 }\n\n"[..], &[0, 0xff, 0xfe, 0x80]].concat();
    let sent = [
        ("wechatpay-timestamp", "1700000000"),
        ("wechatpay-nonce", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
        ("wechatpay-signature", "AAAA+/BBBB=="),
        ("wechatpay-serial", "PUB_KEY_ID_0116000000012025010100000000"),
        ("wechatpay-signature-type", "WECHATPAY2-SHA256-RSA2048"),
        ("content-type", "application/json"),
        ("user-agent", "Mozilla/4.0"),
    ];
    let mut call = Call { body: body.clone(), ..Call::new(Method::POST, NOTIFY) };
    for (name, value) in sent {
        call = call.header(name, value);
    }
    let reply = shop.phone.send(call.header("authorization", "Bearer x")).await;
    assert_eq!(
        (reply.status, reply.json()["code"].as_str().map(str::to_owned)),
        (401, Some("FAIL".to_owned()))
    );
    let seen = shop.line.seen(NOTIFY);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, body);
    for (name, value) in sent {
        assert_eq!(seen[0].header(name), value, "{name}");
    }
    assert_eq!(seen[0].header("authorization"), "", "nothing of a shopper's goes with it");
}

#[tokio::test]
async fn a_forged_callback_is_refused_in_wechats_form_through_the_edge() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.shop.first_product().await;
    let order = shopper.order(product, 1).await;
    shopper.prepay(&order).await;
    let number = order["order_no"].as_str().unwrap();
    for fault in ["forged_signature", "signtest", "stale_timestamp", "wrong_amount"] {
        let answer = shop.shop.wechat.notify(number, &[fault]).await;
        let status = answer["notify_status"].as_u64().unwrap_or_default();
        assert!((400..500).contains(&status), "{fault}: {answer}");
        assert_eq!(answer["notify_body"]["code"], "FAIL", "{fault}: {answer}");
        assert_eq!(shopper.see(&order).await["status"], json!(0), "{fault}");
    }
    let paid = shop.shop.wechat.pay(number).await;
    shop.shop.wechat.is_heard(number, &paid).await;
    assert_eq!(shopper.see(&order).await["status"], json!(1));
}

#[tokio::test]
async fn a_callback_that_met_a_broken_line_is_sent_again_by_wechat() {
    let shop = EdgeShop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.shop.first_product().await;
    let order = shopper.order(product, 1).await;
    shopper.prepay(&order).await;
    shop.shop.wechat.misbehave(json!({"retry_scale": 0.02})).await;
    shop.line.set(Line::Down);
    let paid = shop.shop.wechat.pay(order["order_no"].as_str().unwrap()).await;
    assert_eq!(paid["notify_status"], 503, "not taken, so that WeChat tries again: {paid}");
    shop.line.set(Line::Up);
    eventually(LONG, "the retry pays the order", async || {
        (shopper.see(&order).await["status"] == json!(1)).then_some(())
    })
    .await;
}
