//! Refunds: a shop that is in a hurry with them, and what wechat-sim does to them (`tests/wechat-sim/refunds`).

use serde_json::{Value, json};

use crate::shop::{Shop, ShopPlan};
use crate::until::{LONG, eventually};
use crate::wechat::Wechat;

/// A row of `refunds`.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Refund {
    pub out_refund_no: String,
    pub amount_fen: i64,
    pub status: i8,
    pub attempts: i32,
    pub last_error: Option<String>,
}

impl ShopPlan {
    /// Whatever a refund waits for comes within moments, and the shop leaves no time between two of one order.
    #[must_use]
    pub fn hasty_refunds(self) -> ShopPlan {
        self.setting("FARMGATE_OUTBOX__POLL_MS", 50)
            .setting("FARMGATE_REFUNDS__SPACING_MS", 0)
            .setting("FARMGATE_REFUNDS__FIRST_RETRY_MS", 200)
            .setting("FARMGATE_REFUNDS__LONGEST_RETRY_MS", 400)
            .setting("FARMGATE_REFUNDS__LEASE_MS", 2000)
    }
}

impl Shop {
    /// The refunds of an order, the oldest first.
    pub async fn refunds(&self, order: &Value) -> Vec<Refund> {
        sqlx::query_as(
            "SELECT out_refund_no, amount_fen, status, attempts, last_error FROM refunds WHERE order_id = ? ORDER BY id",
        )
        .bind(order["order_id"].as_i64())
        .fetch_all(&self.db)
        .await
        .expect("the refunds can be read")
    }

    /// Waits until the order's refunds have these states.
    pub async fn refunds_become(&self, order: &Value, states: &[i8]) {
        let what = format!("the refunds of {} are {states:?}", order["order_no"]);
        eventually(LONG, &what, async || {
            let there: Vec<i8> = self.refunds(order).await.iter().map(|refund| refund.status).collect();
            (there == states).then_some(())
        })
        .await;
    }

    /// Fen of the order's payment that are promised back.
    pub async fn promised_back(&self, order: &Value) -> i64 {
        sqlx::query_scalar("SELECT refunded_fen FROM payments WHERE order_id = ?")
            .bind(order["order_id"].as_i64())
            .fetch_one(&self.db)
            .await
            .expect("the order has a payment")
    }

    /// `farmgate-origin refund start` of all that is left; what it said.
    pub async fn refund_all(&self, order: &Value) -> String {
        let number = order["order_no"].as_str().expect("an order has a number");
        let (is_done, said) = self.command(&["refund", "start", number, "--reason", "缺货"]).await;
        assert!(is_done, "{said}");
        said
    }
}

impl Wechat {
    /// Money that was on its way when its order was closed arrives; the shop's answer to the notification.
    pub async fn pay_late(&self, out_trade_no: &str) -> Value {
        self.control("/sim/pay", json!({"out_trade_no": out_trade_no, "late": true})).await
    }

    /// Decides a refund that is under way, `SUCCESS`, `ABNORMAL` or `CLOSED`; the shop's answer to the notification.
    pub async fn decide_refund(&self, out_refund_no: &str, status: &str) -> Value {
        self.control("/sim/refund", json!({"out_refund_no": out_refund_no, "status": status})).await
    }

    /// One more notification of a refund, that says this state, with these faults; the shop's answer.
    pub async fn notify_refund(&self, out_refund_no: &str, status: &str, faults: &[&str]) -> Value {
        let faults: Vec<Value> = faults.iter().map(|fault| json!({"fault": fault})).collect();
        let body = json!({"out_refund_no": out_refund_no, "status": status, "faults": faults});
        self.control("/sim/refund-notify", body).await
    }

    /// What it was asked to refund, oldest first: each request as it came.
    pub async fn refunds_asked(&self) -> Vec<Value> {
        let calls = self.calls("/v3/refund/domestic/refunds").await;
        calls.into_iter().filter(|call| call["method"] == "POST").map(|call| call["body"].clone()).collect()
    }
}
