//! An order that was paid, and a request to refund a part of it.

use serde_json::{Value, json};

use crate::pay::Prepay;
use crate::state::{Order, Payment, TradeState};

pub fn order(total: i64) -> Order {
    let prepay = Prepay {
        out_trade_no: "2023111500000000000001".into(),
        notify_url: "http://127.0.0.1:1/".into(),
        total,
        openid: "o1".into(),
        attach: None,
        time_expire: None,
    };
    let payment = Payment {
        transaction_id: "4200".into(),
        success_time: "2023-11-15T06:13:20+08:00".into(),
        bank_type: "OTHERS",
    };
    Order {
        prepay,
        request: Value::Null,
        prepay_id: "p".into(),
        opened_at: 0,
        state: TradeState::Success,
        payment: Some(payment),
    }
}

pub fn body() -> Value {
    json!({
        "transaction_id": "4200", "out_refund_no": "2023111500000000000001-late", "reason": "订单已取消",
        "notify_url": "https://shop.example/api/payments/wechat/refund-notify",
        "amount": {"refund": 100, "total": 3160, "currency": "CNY"},
    })
}
