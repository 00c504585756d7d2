//! One whole shop for one test: schema, seed, wechat-sim, origin and, where the plan says so, the worker.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};

use farmgate_bench::target::Target;
use farmgate_shared::edge_auth::EdgeKey;
use sqlx::{AssertSqlSafe, MySqlPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::books::Stock;
use crate::caller::{Caller, unique};
use crate::chaos::Cable;
use crate::env;
use crate::gate;
use crate::process::{self, Process};
use crate::schema::{Schema, Servers};
use crate::servers::{Mysql, Redis};
use crate::shopper::Shopper;
use crate::tap::Tap;
use crate::tokens::Tokens;
use crate::until::{LONG, eventually};
use crate::wechat::Wechat;

/// Each shop is three or four processes; more at once only wait for each other.
static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(3)));

/// Tests ask more than any shopper does; those of the limits set their own.
const LIMITS: [&str; 8] = [
    "ADDRESS_READS",
    "ADDRESS_WRITES",
    "ADDRESS_ORDERS",
    "ADDRESS_LOGINS",
    "USER_READS",
    "USER_WRITES",
    "USER_ORDERS",
    "USER_LOGINS",
];
pub(crate) const UNLIMITED: &str = "1000000/s burst 1000000";

/// What is special about a test's shop.
#[derive(Clone, Debug, Default)]
pub struct ShopPlan {
    settings: Vec<(String, String)>,
    stock: Vec<i32>,
    worker: bool,
    redis_cable: bool,
    mysql_cable: bool,
    mysql: Option<String>,
    redis: Option<String>,
    origin_dies_at: Option<String>,
    worker_dies_at: Option<String>,
}

impl ShopPlan {
    pub fn new() -> ShopPlan {
        ShopPlan::default()
    }

    /// Overrides a setting of the origin, `FARMGATE_<SECTION>__<KEY>`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl ToString) -> ShopPlan {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Every SKU has this many.
    #[must_use]
    pub fn stock(self, each: i32) -> ShopPlan {
        self.stock_levels(&[each])
    }

    /// The first SKU has as many as the first level says, and so on; after the last level it begins anew.
    #[must_use]
    pub fn stock_levels(mut self, levels: &[i32]) -> ShopPlan {
        self.stock = levels.to_vec();
        self
    }

    /// The jobs run too, ten rounds a second.
    #[must_use]
    pub fn worker(mut self) -> ShopPlan {
        self.worker = true;
        self.setting("FARMGATE_WORKER__INTERVAL_MS", 100)
    }

    /// Redis can be pulled out ([`Shop::redis_cable`]).
    #[must_use]
    pub fn redis_cable(mut self) -> ShopPlan {
        self.redis_cable = true;
        self
    }

    /// MySQL can be pulled out ([`Shop::mysql_cable`]) of the origin and its worker, not of the test.
    #[must_use]
    pub fn mysql_cable(mut self) -> ShopPlan {
        self.mysql_cable = true;
        self
    }

    /// The origin kills itself at the n-th passing of a named point, `name:n`.
    #[must_use]
    pub fn origin_dies_at(mut self, point: Option<&str>) -> ShopPlan {
        self.origin_dies_at = point.map(str::to_owned);
        self
    }

    /// The worker kills itself at the n-th passing of a named point, `name:n`.
    #[must_use]
    pub fn worker_dies_at(mut self, point: Option<&str>) -> ShopPlan {
        self.worker_dies_at = point.map(str::to_owned);
        self
    }

    /// The shop's schema is on this server, which must outlive the shop.
    #[must_use]
    pub fn on_mysql(mut self, mysql: &Mysql) -> ShopPlan {
        self.mysql = Some(mysql.url());
        self
    }

    /// The shop's gate is on this server.
    #[must_use]
    pub fn on_redis(mut self, redis: &Redis) -> ShopPlan {
        self.redis = Some(redis.url());
        self
    }

    pub async fn start(self) -> Shop {
        let door = Tap::open().await;
        let mut shop = Shop::launch(self, door.url()).await;
        door.lead_to_signed(&shop.origin_url, Shop::edge_key());
        shop.door = Some(door);
        shop
    }
}

/// A running shop. Fields are dropped in this order: programs first, the schema they use last.
#[derive(Debug)]
pub struct Shop {
    /// The origin, called as the edge calls it, by nobody in particular.
    pub api: Caller,
    pub wechat: Wechat,
    pub db: MySqlPool,
    pub origin_url: String,
    origin: Process,
    worker: Option<Process>,
    replicas: Vec<Process>,
    redis_cable: Option<Cable>,
    mysql_cable: Option<Cable>,
    /// Where WeChat's notifications come in when no edge is there to take them.
    door: Option<Tap>,
    settings: Vec<(String, String)>,
    pub(crate) schema: Schema,
    folder: Folder,
    _room: OwnedSemaphorePermit,
}

impl Shop {
    /// The usual shop: seeded, without the worker.
    pub async fn start() -> Shop {
        ShopPlan::new().start().await
    }

    /// Starts everything behind `front`, the URL at which shoppers and WeChat reach the shop.
    pub(crate) async fn launch(plan: ShopPlan, front: &str) -> Shop {
        let room = ROOM.clone().acquire_owned().await.expect("the semaphore is never closed");
        let is_mysql_spared = plan.mysql.is_none() && !plan.mysql_cable;
        let folder = Folder::create();
        let servers = Servers {
            mysql: plan.mysql.unwrap_or_else(env::mysql_url),
            redis: plan.redis.unwrap_or_else(env::redis_url),
        };
        let schema = Schema::create(servers).await;
        let wechat = start_wechat(&folder.path).await;
        let redis_cable = if plan.redis_cable { Some(Cable::to(schema.redis_url()).await) } else { None };
        let redis_url = redis_cable.as_ref().map_or(schema.redis_url(), Cable::url).to_owned();
        let mysql_cable = if plan.mysql_cable { Some(Cable::to(&schema.mysql_url()).await) } else { None };
        let mysql_url = mysql_cable.as_ref().map_or(schema.mysql_url(), |cable| cable.url().to_owned());

        let keys = env::keys_folder();
        let mut settings = env::read_settings(&keys.join("keys/origin.env"));
        settings.extend(env::read_settings(&keys.join("wechat/origin.env")));
        let own = [
            ("FARMGATE_HTTP__LISTEN", "127.0.0.1:0".to_owned()),
            ("FARMGATE_HTTP__PUBLIC_URL", front.to_owned()),
            ("FARMGATE_MYSQL__URL", mysql_url),
            ("FARMGATE_MYSQL__MAX_CONNECTIONS", "8".to_owned()),
            ("FARMGATE_REDIS__URL", redis_url),
            ("FARMGATE_REDIS__PREFIX", schema.name.clone()),
            // A Redis that is up is not away: on a busy machine the shop's own limit takes one for the other.
            ("FARMGATE_REDIS__RESPONSE_TIMEOUT_MS", "5000".to_owned()),
            // Nor does MySQL hang, and tests keep rows locked until all is as they want it.
            ("FARMGATE_MYSQL__ANSWER_TIMEOUT_MS", "60000".to_owned()),
            ("FARMGATE_MYSQL__LOCK_WAIT_SECONDS", "50".to_owned()),
            // Who stands still for some seconds is slow, and no more.
            ("FARMGATE_HTTP__REQUEST_TIMEOUT_MS", "25000".to_owned()),
            ("FARMGATE_PAY__TIMEOUT_MS", "20000".to_owned()),
            ("FARMGATE_PAY__CALL_WITHIN_MS", "20000".to_owned()),
            ("FARMGATE_HTTP__DOUBLE_TAP_SECONDS", "60".to_owned()),
            ("FARMGATE_ORDERS__TWIN_WITHIN_MS", "9000".to_owned()),
            ("FARMGATE_PAY__NOTIFICATION_WITHIN_MS", "10000".to_owned()),
            ("FARMGATE_WECHAT__BASE_URL", wechat.url().to_owned()),
            ("FARMGATE_PAY__BASE_URL", wechat.url().to_owned()),
            ("FARMGATE_PAY__BACKUP_BASE_URL", String::new()),
            ("FARMGATE_PAY__NOTIFY_URL", format!("{front}/api/payments/wechat/notify")),
            ("FARMGATE_PAY__REFUND_NOTIFY_URL", format!("{front}/api/payments/wechat/refund-notify")),
            // The worker of a test asks for bills only where the test is about them.
            ("FARMGATE_BILLS__LOOK_BACK_DAYS", "0".to_owned()),
            ("FARMGATE_LOG__FILTER", "info,farmgate_origin=debug".to_owned()),
        ];
        settings.extend(own.map(|(name, value)| (name.to_owned(), value)));
        // Only a MySQL that this test takes away is ever away.
        let patience = if is_mysql_spared { "9000" } else { "4000" };
        for name in ["ACQUIRE_TIMEOUT_MS", "AWAY_AFTER_MS"] {
            settings.push((format!("FARMGATE_MYSQL__{name}"), patience.to_owned()));
        }
        settings.extend(LIMITS.map(|name| (format!("FARMGATE_LIMITS__{name}"), UNLIMITED.to_owned())));
        settings.extend(plan.settings);

        for step in ["migrate", "seed"] {
            process::run(step, Command::new(env::origin_binary()).arg(step), &patient(&settings)).await;
        }
        let db = MySqlPool::connect_lazy(&schema.mysql_url()).expect("the schema's URL is well formed");
        if !plan.stock.is_empty() {
            restock(&db, &plan.stock).await;
        }
        // The worker goes first: an origin that starts beside a finished gate uses it from its first order on.
        let worker = if plan.worker {
            let worker =
                start_worker("worker", &folder.path, &armed(&settings, plan.worker_dies_at.as_deref())).await;
            // The generation is written after the last level.
            eventually(LONG, "the worker builds the stock gate", async || {
                let epoch: i64 =
                    sqlx::query_scalar("SELECT epoch FROM gate_epoch").fetch_one(&db).await.ok()?;
                (epoch > 0 && gate::epoch(&schema).await == Some(epoch)).then_some(())
            })
            .await;
            Some(worker)
        } else {
            None
        };
        let origin_settings = armed(&settings, plan.origin_dies_at.as_deref());
        let (origin, origin_url) = start_origin("origin", &folder.path, &origin_settings).await;
        let api = Caller::edge(&origin_url, Shop::edge_key());
        Shop {
            api,
            wechat,
            db,
            origin_url,
            origin,
            worker,
            replicas: Vec::new(),
            redis_cable,
            mysql_cable,
            door: None,
            settings,
            schema,
            folder,
            _room: room,
        }
    }

    /// The jobs, from now on; a worker that ran before ends.
    pub async fn start_worker(&mut self) {
        self.start_worker_to_die_at(None).await;
    }

    /// A worker that kills itself at the n-th passing of a named point, `name:n`.
    pub async fn start_worker_to_die_at(&mut self, point: Option<&str>) {
        self.worker = Some(self.one_more_worker(point).await);
    }

    /// One more worker beside the first.
    pub async fn another_worker(&mut self) {
        let worker = self.one_more_worker(None).await;
        self.replicas.push(worker);
    }

    /// Runs `seed` once more.
    pub async fn seed_again(&self) {
        process::run("seed", Command::new(env::origin_binary()).arg("seed"), &self.settings).await;
    }

    /// The key that the edge signs with.
    pub fn edge_key() -> EdgeKey {
        let keys = env::read_setting(&env::keys_folder().join("keys/edge.env"), "EDGE_KEY");
        EdgeKey::parse(&keys).expect("EDGE_KEY is kid=hex")
    }

    pub fn tokens(&self) -> Tokens {
        Tokens::load()
    }

    /// The origin as the benchmark's load finds it, with this many shoppers, each of whom has an address.
    pub async fn bench_target(&self, shoppers: usize) -> Target {
        let mut users = Vec::new();
        for index in 0..shoppers {
            users.push(self.shopper(&format!("顾客{index}")).await.id);
        }
        let address =
            self.origin_url.trim_start_matches("http://").parse().expect("the origin has an address");
        let keys = env::keys_folder().join("keys");
        let mut target = Target::origin(address, &keys, &users).expect("the keys can be read");
        target.make_addresses().await.expect("the origin takes addresses");
        target
    }

    /// Logs the shopper of this name in.
    pub async fn shopper(&self, name: &str) -> Shopper {
        Shopper::log_in(&self.api, name).await
    }

    /// The origin's process: its log, its end.
    pub fn origin(&mut self) -> &mut Process {
        &mut self.origin
    }

    /// Starts a new origin in the place of the one that ended, at another address. Who logged in before must do so
    /// again through [`Shop::shopper`], since their calls still go to the old one.
    pub async fn restart_origin(&mut self) {
        self.restart_origin_to_die_at(None).await;
    }

    /// The same; the new one kills itself at the n-th passing of a named point, `name:n`.
    pub async fn restart_origin_to_die_at(&mut self, point: Option<&str>) {
        let (origin, url) = self.one_more_origin(point).await;
        self.origin = origin;
        self.api = Caller::edge(&url, Shop::edge_key());
        if let Some(door) = &self.door {
            door.lead_to_signed(&url, Shop::edge_key());
        }
        self.origin_url = url;
    }

    /// One more origin beside the first, over the same MySQL and Redis; called as the edge calls it.
    pub async fn replica(&mut self) -> Caller {
        let (origin, url) = self.one_more_origin(None).await;
        self.replicas.push(origin);
        Caller::edge(&url, Shop::edge_key())
    }

    /// An origin that is the caller's to keep, and its URL.
    pub async fn one_more_origin(&self, die_at: Option<&str>) -> (Process, String) {
        start_origin(&unique("origin"), &self.folder.path, &armed(&self.settings, die_at)).await
    }

    /// Calls an origin of this shop's as the edge calls it.
    pub fn call_origin(&self, url: &str) -> Caller {
        Caller::edge(url, Shop::edge_key())
    }

    /// A worker that is the caller's to keep.
    pub async fn one_more_worker(&self, die_at: Option<&str>) -> Process {
        start_worker(&unique("worker"), &self.folder.path, &armed(&self.settings, die_at)).await
    }

    /// From now on WeChat's notifications go to the origin at this URL.
    pub fn lead_notifications_to(&self, url: &str) {
        self.door().lead_to_signed(url, Shop::edge_key());
    }

    /// Where WeChat's notifications come in.
    pub fn door(&self) -> &Tap {
        self.door.as_ref().expect("a shop with an edge in front has no door of its own")
    }

    /// The worker's process.
    pub fn worker(&mut self) -> &mut Process {
        self.worker.as_mut().expect("the plan asked for a worker")
    }

    /// In front of this shop's keys in Redis.
    pub fn redis_prefix(&self) -> &str {
        &self.schema.name
    }

    /// What the origin was started with.
    pub fn settings(&self) -> Vec<(String, String)> {
        self.settings.clone()
    }

    /// One of them.
    pub fn setting_of(&self, name: &str) -> &str {
        let found = self.settings.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("{name} is not set"))
    }

    /// The address of one of the shop's own pictures.
    pub fn own_picture(&self) -> String {
        format!("{}/static/demo/1f34e.webp", self.setting_of("FARMGATE_HTTP__PUBLIC_URL"))
    }

    pub fn redis_cable(&self) -> &Cable {
        self.redis_cable.as_ref().expect("the plan asked for a cable to Redis")
    }

    pub fn mysql_cable(&self) -> &Cable {
        self.mysql_cable.as_ref().expect("the plan asked for a cable to MySQL")
    }

    /// The product that comes first in the shop, its default SKU and that SKU's price in fen.
    pub async fn first_product(&self) -> (i64, i64, i64) {
        sqlx::query_as(
            "SELECT p.id, s.id, s.price_fen FROM products p JOIN product_skus s ON s.product_id = p.id
             WHERE p.status = 1 AND s.status = 1 ORDER BY p.id, s.sort_order, s.id LIMIT 1",
        )
        .fetch_one(&self.db)
        .await
        .expect("the demo shop has products")
    }

    pub async fn stock(&self, sku: i64) -> Stock {
        sqlx::query_as("SELECT total, available, held, sold FROM stock WHERE sku_id = ?")
            .bind(sku)
            .fetch_one(&self.db)
            .await
            .expect("the SKU has a row of stock")
    }

    /// Changes the books behind the origin's back; `number` ends the statement.
    pub async fn change(&self, statement: &'static str, number: i64) {
        self.script(&format!("{statement}{number}")).await;
    }

    /// Runs statements behind the origin's back, on one connection.
    pub async fn script(&self, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(&self.db)
            .await
            .unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// What `farmgate-origin reconcile` says, and whether it found every invariant to hold.
    pub async fn reconcile(&self, arguments: &[&str]) -> (bool, String) {
        self.command(&[&["reconcile"], arguments].concat()).await
    }

    /// Runs a subcommand of the origin to its end: whether it succeeded, and what it said.
    pub async fn command(&self, arguments: &[&str]) -> (bool, String) {
        process::try_run(Command::new(env::origin_binary()).args(arguments), &patient(&self.settings)).await
    }

    /// What `farmgate-origin serve` says when it is to die at a point that there is none of, and whether it served.
    pub async fn try_to_serve(&self, die_at: &str) -> (bool, String) {
        let mut command = Command::new(env::origin_binary());
        process::try_run(command.arg("serve"), &armed(&self.settings, Some(die_at))).await
    }

    /// From now on origins and workers start with this setting.
    pub fn change_setting(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// The time to pay this order is over, as if it had been made that much earlier.
    pub async fn let_time_run_out(&self, order: &serde_json::Value) {
        sqlx::query("UPDATE orders SET pay_deadline = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND WHERE id = ?")
            .bind(order["order_id"].as_i64())
            .execute(&self.db)
            .await
            .expect("an order has a deadline");
    }

    /// One number from the database.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.db).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// A number out of MySQL's list of connections. That shows the text of everybody's statements, and fails while one holds
    /// the bytes of a prepared one: `None` then.
    pub async fn count_connections(&self, query: &'static str) -> Option<i64> {
        match sqlx::query_scalar(query).fetch_one(&self.db).await {
            Err(error) if error.to_string().contains("Cannot convert string") => None,
            number => Some(number.unwrap_or_else(|error| panic!("{query}: {error}"))),
        }
    }
}

/// The settings of a process that is to die at a named point.
fn armed(settings: &[(String, String)], die_at: Option<&str>) -> Vec<(String, String)> {
    let mut settings = settings.to_vec();
    settings.extend(die_at.map(|point| ("FARMGATE_CRASH_AT".to_owned(), point.to_owned())));
    settings
}

async fn start_worker(name: &str, folder: &Path, settings: &[(String, String)]) -> Process {
    let mut command = Command::new(env::origin_binary());
    let worker = Process::start(name, command.arg("worker"), folder, settings);
    eventually(LONG, "the worker logs that it is ready", async || {
        worker.log().contains("worker ready").then_some(())
    })
    .await;
    worker
}

async fn start_origin(name: &str, folder: &Path, settings: &[(String, String)]) -> (Process, String) {
    let mut origin = Process::start(name, Command::new(env::origin_binary()).arg("serve"), folder, settings);
    let url = origin.listening().await;
    let probe = Caller::phone(&url);
    eventually(LONG, "the origin is ready", async || {
        (probe.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    (origin, url)
}

/// For a command that is asked once: what it needs is there, if not at once.
fn patient(settings: &[(String, String)]) -> Vec<(String, String)> {
    let names = ["MYSQL__ACQUIRE_TIMEOUT_MS", "MYSQL__AWAY_AFTER_MS", "REDIS__RESPONSE_TIMEOUT_MS"];
    let longer = names.map(|name| (format!("FARMGATE_{name}"), "30000".to_owned()));
    [settings, &longer].concat()
}

async fn start_wechat(folder: &Path) -> Wechat {
    let mut command = Command::new(env::wechat_sim_binary());
    // Longer than the origin takes for it (`FARMGATE_PAY__NOTIFICATION_WITHIN_MS`).
    command
        .args(["serve", "--answer-within-ms", "20000", "--listen", "127.0.0.1:0", "--dir"])
        .arg(env::keys_folder().join("wechat"));
    let mut process = Process::start("wechat-sim", &mut command, folder, &[]);
    let url = process.listening().await;
    Wechat::new(&url, process)
}

/// Sets every SKU's stock before anything was sold, with movements to match.
async fn restock(db: &MySqlPool, levels: &[i32]) {
    let list = levels.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    let level = format!("ELT(1 + (sku_id - (SELECT MIN(id) FROM product_skus)) % {}, {list})", levels.len());
    let statements = [
        format!("UPDATE stock SET total = {level}, available = total"),
        "DELETE FROM stock_movements".to_owned(),
        "INSERT INTO stock_movements (sku_id, reason, available_change, held_change, sold_change)
         SELECT sku_id, 'stocked', available, 0, 0 FROM stock"
            .to_owned(),
    ];
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement)).execute(db).await.expect("the stock can be set");
    }
}

/// A folder for logs; it stays when the test failed.
#[derive(Debug)]
pub(crate) struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn create() -> Folder {
        let path = std::env::temp_dir().join(format!("farmgate-{}", unique("test")));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Folder { path }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- whole logs: {}", self.path.display());
        } else {
            // Logs that stay behind are a nuisance and no wrong result.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
