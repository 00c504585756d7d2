//! What a shopkeeper does with an order that is paid, and what WeChat hears and tells of it.

use serde_json::{Value, json};

use crate::shop::Shop;
use crate::shopper::number;
use crate::until::{LONG, eventually};
use crate::wechat::Wechat;

impl Shop {
    /// Ships an order as `farmgate-origin order ship` does; it must be possible.
    pub async fn ship(&self, order: &Value, by: &[&str]) -> String {
        let (is_shipped, said) = self.try_to_ship(order, by).await;
        assert!(is_shipped, "{said}");
        said
    }

    /// Whether an order can be shipped so, and what is said to it.
    pub async fn try_to_ship(&self, order: &Value, by: &[&str]) -> (bool, String) {
        self.command(&[&["order", "ship", number(order)], by].concat()).await
    }

    /// The shop knows that WeChat has every shipment.
    pub async fn all_is_uploaded(&self) {
        eventually(LONG, "WeChat has every shipment", async || {
            (self.count("SELECT COUNT(*) FROM shipments WHERE uploaded_at IS NULL").await == 0).then_some(())
        })
        .await;
    }
}

impl Wechat {
    /// What WeChat has of an order's shipment: how often it was uploaded anew, and `[logistics_type, is_split, parcels]`.
    pub async fn shipment(&self, order: &Value) -> (u64, Value) {
        let shown = self.look(&format!("/sim/shipments?out_trade_no={}", number(order))).await;
        (shown["rounds"].as_u64().expect("rounds are a number"), shown["said"].clone())
    }

    /// The shop has this template of a subscribe message.
    pub async fn add_template(&self, id: &str, fields: &[&str]) {
        self.control("/sim/templates", json!({"template_id": id, "fields": fields})).await;
    }

    /// The shopper takes so many messages of a template, no more and no fewer.
    pub async fn subscribe(&self, shopper: &str, template: &str, accepts: u32) {
        let consent = json!({"shopper": shopper, "template_id": template, "accepts": accepts});
        self.control("/sim/subscriptions", consent).await;
    }

    /// The messages that reached their shoppers, the oldest first.
    pub async fn messages(&self) -> Vec<Value> {
        self.look("/sim/messages").await.as_array().cloned().unwrap_or_default()
    }
}
