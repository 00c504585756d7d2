//! What the shoppers of a trial do, what they were told, and what must be true of it in the end.

use std::sync::Arc;

use farmgate_tests::{Call, Caller, LONG, Reply, Shopper, Value, Wechat, eventually, json};
use sqlx::MySqlPool;

use super::plan::{Then, Wish};
use super::stage::Doors;

/// What all shoppers share.
pub struct World {
    pub doors: Doors,
    pub wechat: Wechat,
    pub db: MySqlPool,
    /// Is told of every event: a reply or a broken line.
    pub events: tokio::sync::mpsc::UnboundedSender<()>,
}

/// A shopper and what they bring.
pub struct Customer {
    pub shopper: Shopper,
    pub address: i64,
    /// The id of a coupon, which is good for any order.
    pub coupon: i64,
}

/// A wish and how far it came.
pub struct Errand {
    pub wish: Wish,
    pub shopper: Shopper,
    /// The shopper's coupon, whether it is wanted for this order or not.
    pub coupon: i64,
    call: Call,
    /// The order that the shopper was told of.
    pub order: Option<Value>,
    /// The shopper was told that it cannot be had.
    refused: bool,
    /// The parameters of the payment, once the shopper has them.
    payment: Option<Value>,
    /// Whether the shopper tried to pay, and WeChat took it.
    pub paid: Option<bool>,
    /// Whether the shopper was told that the order is cancelled, or that it no longer can be.
    pub cancelled: Option<bool>,
    expired: bool,
}

/// What came of a call.
enum Answer {
    Ok(Value),
    /// 409: it cannot be, and will not.
    Refused(String),
    /// 503 or nothing: nobody knows.
    Unknown,
}

fn understood(reply: Reply) -> Answer {
    match reply.status {
        200 => Answer::Ok(reply.data()),
        409 => Answer::Refused(reply.json()["error"].as_str().unwrap_or_default().to_owned()),
        503 => Answer::Unknown,
        status => panic!("{}: {status} {}", reply.asked, reply.text()),
    }
}

impl Errand {
    pub fn new(wish: Wish, customer: &Customer, skus: &[i64], key: &str) -> Errand {
        let items: Vec<Value> = wish
            .lines
            .iter()
            .map(|(sku, quantity)| json!({"sku_id": skus[*sku], "quantity": quantity}))
            .collect();
        let Customer { shopper, address, coupon } = customer;
        let mut body = json!({"items": items, "address_id": address});
        if wish.coupon {
            body["coupon_id"] = json!(coupon);
        }
        let call = Call::post("/api/orders", &body).idempotent(key);
        Errand {
            wish,
            shopper: shopper.clone(),
            coupon: *coupon,
            call,
            order: None,
            refused: false,
            payment: None,
            paid: None,
            cancelled: None,
            expired: false,
        }
    }

    /// The wish as it is first carried out: each call once, whatever becomes of it.
    pub async fn attempt(mut self, world: Arc<World>) -> Errand {
        let wish = self.wish.clone();
        let first = self.place(&world, wish.origin);
        match wish.twin {
            None => {
                let answer = first.await;
                self.told(answer);
            }
            Some(origin) => {
                let (first, twin) = tokio::join!(first, self.place(&world, origin));
                self.told(first);
                self.told(twin);
            }
        }
        if self.order.is_some() {
            self.go_on(&world, wish.origin).await;
        }
        self
    }

    /// Everything runs again: the shopper repeats what is still open until it is decided.
    pub async fn finish(mut self, world: Arc<World>) -> Errand {
        let origin = self.wish.again_at;
        eventually(LONG, "the order is made or refused", async || {
            if self.order.is_none() && !self.refused {
                let answer = self.place(&world, origin).await;
                self.told(answer);
            }
            (self.order.is_some() || self.refused).then_some(())
        })
        .await;
        if self.order.is_some() {
            eventually(LONG, "what the shopper does with the order is done", async || {
                self.go_on(&world, origin).await;
                self.is_done().then_some(())
            })
            .await;
        }
        // Once more with the same key. Who has an order finds that one; who was refused may be luckier now.
        let before = self.order.clone();
        eventually(LONG, "a repetition is answered", async || match self.place(&world, origin).await {
            Answer::Unknown => None,
            answer => {
                self.told(answer);
                Some(())
            }
        })
        .await;
        if before.is_none() && self.order.is_some() {
            self.wish.then = Then::Keep;
        }
        self
    }

    async fn place(&self, world: &World, origin: usize) -> Answer {
        self.ask(world, origin, self.call.clone()).await
    }

    async fn post(&self, world: &World, origin: usize, what: &str) -> Answer {
        let order = self.order.as_ref().expect("there is an order");
        let path = format!("/api/orders/{}/{what}", order["order_id"]);
        self.ask(world, origin, Call::new(reqwest::Method::POST, &path)).await
    }

    async fn ask(&self, world: &World, origin: usize, call: Call) -> Answer {
        let at: Caller = world.doors.at(origin);
        let answer = self.shopper.through(&at).api.try_send(call).await.map_or(Answer::Unknown, understood);
        // Nobody listens any more once the faults are over.
        let _ = world.events.send(());
        answer
    }

    fn told(&mut self, answer: Answer) {
        match answer {
            Answer::Ok(order) => {
                let earlier = self.order.get_or_insert_with(|| order.clone());
                assert_eq!(*earlier, order, "two replies to one key");
                self.refused = false;
            }
            Answer::Refused(why) => {
                let is_expected = why == "out_of_stock" || (why == "coupon_used" && self.wish.coupon);
                assert!(is_expected, "{} was refused: {why}", self.shopper.name);
                // Twins race for the last units and the coupon: one may be told too early that they are gone.
                self.refused = self.order.is_none();
            }
            Answer::Unknown => {}
        }
    }

    /// Takes the order further, each open call once.
    async fn go_on(&mut self, world: &World, origin: usize) {
        match self.wish.then {
            Then::Keep => {}
            Then::Pay => {
                self.prepare(world, origin).await;
                self.pay(world).await;
            }
            Then::Cancel => self.cancel(world, origin).await,
            Then::PayWhileCancelling => {
                // Whoever has lost the parameters in a crash may find the order cancelled; then nobody pays.
                if self.cancelled.is_none() {
                    self.prepare(world, origin).await;
                }
                let (paid, cancelled) = tokio::join!(self.try_pay(world), self.try_cancel(world, origin));
                self.paid = paid;
                self.cancelled = cancelled;
            }
            Then::Expire => self.expire(world).await,
            Then::PrepareAndExpire => {
                if !self.expired {
                    self.prepare(world, origin).await;
                }
                self.expire(world).await;
            }
            Then::PayWhileExpiring => {
                if !self.expired {
                    self.prepare(world, origin).await;
                }
                self.expire(world).await;
                self.pay(world).await;
            }
        }
    }

    fn is_done(&self) -> bool {
        match self.wish.then {
            Then::Keep => true,
            Then::Pay => self.paid.is_some(),
            Then::Cancel | Then::PayWhileCancelling => self.cancelled.is_some(),
            Then::Expire | Then::PrepareAndExpire | Then::PayWhileExpiring => self.expired,
        }
    }

    async fn prepare(&mut self, world: &World, origin: usize) {
        if self.payment.is_none()
            && let Answer::Ok(parameters) = self.post(world, origin, "pay").await
        {
            self.payment = Some(parameters);
        }
    }

    async fn pay(&mut self, world: &World) {
        self.paid = self.try_pay(world).await;
    }

    async fn try_pay(&self, world: &World) -> Option<bool> {
        match (&self.payment, self.paid) {
            (Some(parameters), None) => Some(world.wechat.try_pay_with(&self.number(), parameters).await),
            (_, paid) => paid,
        }
    }

    async fn cancel(&mut self, world: &World, origin: usize) {
        self.cancelled = self.try_cancel(world, origin).await;
    }

    async fn try_cancel(&self, world: &World, origin: usize) -> Option<bool> {
        if self.cancelled.is_some() {
            return self.cancelled;
        }
        match self.post(world, origin, "cancel").await {
            Answer::Ok(order) => {
                assert_eq!(order["status"], 4, "cancelled, it says: {order}");
                Some(true)
            }
            Answer::Refused(_) => Some(false),
            Answer::Unknown => None,
        }
    }

    /// The time to pay is over. MySQL may be away just now.
    async fn expire(&mut self, world: &World) {
        if !self.expired {
            let earlier =
                "UPDATE orders SET pay_deadline = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE order_no = ?";
            self.expired = sqlx::query(earlier).bind(self.number()).execute(&world.db).await.is_ok();
        }
    }

    /// The order's number.
    pub fn number(&self) -> String {
        let order = self.order.as_ref().expect("there is an order");
        order["order_no"].as_str().expect("an order has a number").to_owned()
    }

    /// Whether an order of this status, with or without a recorded payment, is what the shopper's doing comes to.
    /// `None` while it may still become so.
    pub fn accepts(&self, status: i64, is_paid: bool) -> Option<bool> {
        match (self.paid == Some(true), self.wish.then) {
            // WeChat has the money, so the order is paid. A payment beside a cancelled order, which waits for its refund,
            // takes a prepare that is under way while the order is cancelled: no errand does that.
            (true, _) => match (status, is_paid) {
                (1, true) => Some(self.cancelled != Some(true)),
                // The notification is repeated until it is taken.
                (0, false) => None,
                _ => Some(false),
            },
            (false, Then::Keep) => Some((status, is_paid) == (0, false)),
            (false, Then::Pay) => Some(false),
            (false, Then::Cancel | Then::PayWhileCancelling) => Some((status, is_paid) == (4, false)),
            // The worker closes it.
            (false, _) => match (status, is_paid) {
                (4, false) => Some(true),
                (0, false) => None,
                _ => Some(false),
            },
        }
    }
}
