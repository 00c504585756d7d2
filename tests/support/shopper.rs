//! A shopper who is logged in, and the few steps that most tests begin with.

use std::time::Instant;

use serde_json::{Value, json};

use crate::caller::{Call, Caller, unique};
use crate::reply::Reply;
use crate::shop::Shop;
use crate::until::LONG;
use crate::wechat::Wechat;

/// Somebody with a token. Calls go out as the edge, which names this shopper as the subject, or as a phone.
#[derive(Clone, Debug)]
pub struct Shopper {
    pub api: Caller,
    pub id: i64,
    pub name: String,
}

impl Shopper {
    /// Logs the shopper of this name in, through whatever `caller` calls; once more with a new code where the shop or WeChat is
    /// too slow for it.
    pub async fn log_in(caller: &Caller, name: &str) -> Shopper {
        let begun = Instant::now();
        let reply = loop {
            let reply = caller.post("/api/user/login", &json!({"code": Shopper::code(name)})).await;
            if reply.status != 503 || begun.elapsed() > LONG {
                break reply;
            }
        };
        let data = reply.data();
        let token = data["token"].as_str().expect("a login gives a token").to_owned();
        let id = data["userInfo"]["id"].as_i64().expect("a login gives the user's id");
        Shopper { api: caller.with_token(&token).with_subject(&id.to_string()), id, name: name.to_owned() }
    }

    /// The same shopper, through another caller.
    #[must_use]
    pub fn through(&self, caller: &Caller) -> Shopper {
        let api = caller.with_token(self.api.token()).with_subject(&self.id.to_string());
        Shopper { api, ..self.clone() }
    }

    /// A login code of the shopper of this name; each one works once.
    pub fn code(name: &str) -> String {
        format!("as:{name}:{}", unique("code"))
    }

    /// An address that every rule likes.
    pub fn address_body(&self) -> Value {
        json!({
            "name": self.name, "phone": "13800000000", "province": "山东省", "city": "烟台市", "district": "栖霞市",
            "detail": "果园路 1 号", "is_default": false,
        })
    }

    /// A new address of this shopper; its id.
    pub async fn address(&self) -> i64 {
        let data = self.api.post("/api/addresses", &self.address_body()).await.data();
        data["id"].as_i64().expect("an address has an id")
    }

    /// Orders one product to a new address; the reply's data.
    pub async fn order(&self, product: i64, quantity: u32) -> Value {
        let address = self.address().await;
        self.try_order(product, quantity, address).await.data()
    }

    /// Orders one product.
    pub async fn try_order(&self, product: i64, quantity: u32, address: i64) -> Reply {
        self.send_order(Call::post("/api/orders", &order_body(product, quantity, address))).await
    }

    pub async fn send_order(&self, call: Call) -> Reply {
        self.api.send(call).await
    }

    /// Asks for the payment's parameters.
    pub async fn prepay(&self, order: &Value) -> Value {
        let path = format!("/api/orders/{}/pay", order["order_id"]);
        self.api.send(Call::new(reqwest::Method::POST, &path)).await.data()
    }

    /// Orders one product and pays for it; the order's data.
    pub async fn buy(&self, wechat: &Wechat, product: i64, quantity: u32) -> Value {
        let order = self.order(product, quantity).await;
        self.prepay(&order).await;
        let paid = wechat.pay(number(&order)).await;
        wechat.is_heard(number(&order), &paid).await;
        order
    }

    /// The order as its own page shows it.
    pub async fn see(&self, order: &Value) -> Value {
        self.api.get(&format!("/api/orders/{}", order["order_id"])).await.data()
    }
}

/// An order's number, as any reply about it has it.
pub fn number(order: &Value) -> &str {
    order["order_no"].as_str().expect("an order has a number")
}

/// Where an order stands, as its shopper sees it.
pub async fn status(shopper: &Shopper, order: &Value) -> i64 {
    shopper.see(order).await["status"].as_i64().expect("an order has a status")
}

/// An order of the shop's first product, paid for.
pub async fn bought(shop: &Shop, shopper: &Shopper) -> Value {
    let (product, ..) = shop.first_product().await;
    shopper.buy(&shop.wechat, product, 2).await
}

/// A shopper with an order of the shop's first product that awaits payment.
pub async fn ordered(shop: &Shop) -> (Shopper, Value) {
    let shopper = shop.shopper("小王").await;
    let (product, ..) = shop.first_product().await;
    let order = shopper.order(product, 2).await;
    (shopper, order)
}

/// The seed's body of an order.
pub(crate) fn order_body(product: i64, quantity: u32, address: i64) -> Value {
    json!({"product_id": product, "quantity": quantity, "address_id": address, "coupon_id": null})
}
