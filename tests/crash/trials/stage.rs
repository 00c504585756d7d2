//! The shop of a trial: its origins, its worker and the servers below them, and the faults that strike them.

use std::sync::{Arc, Mutex};

use farmgate_tests::{Caller, LONG, Mysql, Process, Redis, Shop, ShopPlan, Shopper, Value, eventually, json};

use super::plan::{Fault, Plan};

/// The message that a shopper gets of a payment.
pub const PAID: &str = "PAID-1";

/// The servers of a set of trials; each trial has a schema and a prefix of its own there.
pub struct Servers {
    pub mysql: Mysql,
    pub redis: Redis,
}

impl Servers {
    pub async fn start() -> Servers {
        let (mysql, redis) = tokio::join!(Mysql::start(), Redis::start());
        Servers { mysql, redis }
    }
}

/// Where each origin is called; an origin that comes back has a new address.
#[derive(Clone)]
pub struct Doors(Arc<Mutex<Vec<Caller>>>);

impl Doors {
    pub fn at(&self, origin: usize) -> Caller {
        self.0.lock().unwrap()[origin].clone()
    }

    fn moved(&self, origin: usize, door: Caller) {
        self.0.lock().unwrap()[origin] = door;
    }
}

pub struct Stage {
    pub shop: Shop,
    pub doors: Doors,
    /// The origins beside the shop's own, which is the first.
    others: Vec<Process>,
    /// Where each origin kills itself, if it has not been replaced.
    armed: Vec<Option<String>>,
    armed_worker: Option<String>,
    /// Points at which an origin or the worker has killed itself.
    pub died_at: Vec<String>,
}

impl Stage {
    pub async fn set(plan: &Plan, servers: &Servers) -> Stage {
        let shop = ShopPlan::new()
            .stock_levels(&plan.stock)
            .worker()
            .redis_cable()
            .mysql_cable()
            // Waits for moments where a shop waits for minutes.
            .setting("FARMGATE_MESSAGES__PAID_TEMPLATE", PAID)
            .setting("FARMGATE_WECHAT__TIMEOUT_MS", 1000)
            .setting("FARMGATE_OUTBOX__POLL_MS", 50)
            .setting("FARMGATE_OUTBOX__FIRST_RETRY_MS", 100)
            .setting("FARMGATE_OUTBOX__LONGEST_RETRY_MS", 1000)
            .setting("FARMGATE_OUTBOX__RESEND_AFTER_MS", 1000)
            .setting("FARMGATE_OUTBOX__AWAY_RETRY_MS", 200)
            .setting("FARMGATE_OUTBOX__CALL_LEASE_MS", 3000)
            .on_mysql(&servers.mysql)
            .on_redis(&servers.redis)
            .origin_dies_at(plan.origins[0].as_deref())
            .worker_dies_at(plan.worker_dies_at.as_deref())
            .start()
            .await;
        // WeChat repeats a notification that nobody took after 150 ms, not 15 s.
        shop.wechat.misbehave(json!({"retry_scale": 0.01})).await;
        shop.wechat.add_template(PAID, &["character_string1", "thing2", "amount3", "time4"]).await;
        let mut doors = vec![shop.api.clone()];
        let mut others = Vec::new();
        for (process, url) in started(&shop, &plan.origins[1..]).await {
            doors.push(shop.call_origin(&url));
            others.push(process);
        }
        Stage {
            shop,
            doors: Doors(Arc::new(Mutex::new(doors))),
            others,
            armed: plan.origins.clone(),
            armed_worker: plan.worker_dies_at.clone(),
            died_at: Vec::new(),
        }
    }

    /// What the first origin shows a shopper; one that MySQL left may have to find out first.
    pub async fn shown(&self, shopper: &Shopper, path: &str) -> Value {
        let shopper = shopper.through(&self.doors.at(0));
        let reply = eventually(LONG, path, async || {
            let reply = shopper.api.get(path).await;
            (reply.status != 503).then_some(reply)
        })
        .await;
        reply.data()
    }

    /// The page of an order.
    pub async fn order(&self, shopper: &Shopper, order: &Value) -> Value {
        self.shown(shopper, &format!("/api/orders/{}", order["order_id"])).await
    }

    /// The fault happens; a server that it kills is back when this returns.
    pub async fn strike(&mut self, fault: Fault, servers: &mut Servers) {
        match fault {
            Fault::KillOrigin { which, back } => {
                self.end_origin(which);
                if back {
                    self.bring_back(which).await;
                }
            }
            Fault::KillWorker { back } => {
                self.end_worker();
                if back {
                    self.start_worker().await;
                }
            }
            Fault::AgeHolds => self.shop.age_holds().await,
            Fault::RedisFlush => servers.redis.flush().await,
            Fault::RedisRestart => {
                servers.redis.kill();
                servers.redis.restart_empty().await;
            }
            Fault::RedisSave => servers.redis.save().await,
            Fault::RedisRollBack => servers.redis.roll_back().await,
            Fault::RedisHang => self.shop.redis_cable().deafen(),
            Fault::RedisRecover => {
                // What was lost of a connection never comes, so that none of them can go on.
                self.shop.redis_cable().pull();
                self.shop.redis_cable().plug();
            }
            Fault::MysqlRestart => {
                servers.mysql.kill();
                servers.mysql.restart().await;
            }
            Fault::MysqlDeaf { replies } => self.deafen_mysql(replies).await,
        }
    }

    /// Returns when every connection to MySQL has broken. Whoever lives asks MySQL something all the time.
    async fn deafen_mysql(&mut self, replies: u64) {
        let lost = self.shop.mysql_cable().lost();
        self.shop.mysql_cable().deafen();
        eventually(LONG, "replies of MySQL are lost", async || {
            let is_lost = self.shop.mysql_cable().lost() - lost >= replies;
            (is_lost || self.all_have_ended()).then_some(())
        })
        .await;
        self.shop.mysql_cable().pull();
        self.shop.mysql_cable().plug();
    }

    fn all_have_ended(&mut self) -> bool {
        let origins = (0..self.armed.len()).all(|which| self.origin(which).has_ended());
        origins && self.shop.worker().has_ended()
    }

    /// Whatever died or is still to die is replaced; what survived goes on as it is.
    pub async fn restart(&mut self) {
        for which in 0..self.armed.len() {
            if self.armed[which].is_some() || self.origin(which).has_ended() {
                self.end_origin(which);
                self.bring_back(which).await;
            }
        }
        if self.armed_worker.is_some() && !self.shop.worker().has_ended() {
            self.sweep_with_the_old_worker().await;
        }
        if self.armed_worker.is_some() || self.shop.worker().has_ended() {
            self.end_worker();
            self.start_worker().await;
        }
    }

    /// The holds that the dead have left are this worker's to sweep, which is where it may be told to die.
    async fn sweep_with_the_old_worker(&mut self) {
        eventually(LONG, "the worker sweeps, or dies of it", async || {
            self.shop.age_holds().await;
            let is_swept = self.shop.holds().await.is_empty();
            (is_swept || self.shop.worker().has_ended()).then_some(())
        })
        .await;
    }

    fn end_origin(&mut self, which: usize) {
        let point = self.armed[which].take();
        if self.origin(which).has_ended() {
            self.died_at.extend(point);
        }
        self.origin(which).kill();
    }

    fn end_worker(&mut self) {
        let point = self.armed_worker.take();
        if self.shop.worker().has_ended() {
            self.died_at.extend(point);
        }
        self.shop.worker().kill();
    }

    fn origin(&mut self, which: usize) -> &mut Process {
        match which {
            0 => self.shop.origin(),
            other => &mut self.others[other - 1],
        }
    }

    async fn bring_back(&mut self, which: usize) {
        let (process, url) = self.shop.one_more_origin(None).await;
        *self.origin(which) = process;
        self.doors.moved(which, self.shop.call_origin(&url));
        if which == 0 {
            self.shop.lead_notifications_to(&url);
        }
    }

    async fn start_worker(&mut self) {
        self.shop.start_worker().await;
    }
}

/// Up to two more origins, started at the same time.
async fn started(shop: &Shop, deaths: &[Option<String>]) -> Vec<(Process, String)> {
    match deaths {
        [] => Vec::new(),
        [one] => vec![shop.one_more_origin(one.as_deref()).await],
        [one, two, ..] => {
            let both =
                tokio::join!(shop.one_more_origin(one.as_deref()), shop.one_more_origin(two.as_deref()));
            vec![both.0, both.1]
        }
    }
}
