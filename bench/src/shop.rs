//! The shop that is measured: users, and SKUs for each kind of load, put into the origin's schema before it starts.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, QueryBuilder};
use time::OffsetDateTime;

use crate::batch::{self, MOST_ORDERS, Order, Sku};
use crate::load::next_number;
use crate::plan::Plan;
use crate::{bare, oversell};

/// A SKU that never runs out. Each product here has one SKU of the same id.
pub const HOT: i64 = 1;
/// One that was sold out before the run, one unit each to [`BUYERS`].
pub const SOLD_OUT: i64 = 2;
/// The one of the storm, and how many of it there are.
pub const STORM: i64 = 3;
pub const STORM_STOCK: i64 = 1000;
/// SKUs over which orders are spread; they never run out.
pub const SPREAD: std::ops::Range<i64> = 101..229;
/// SKUs of the oversell trials, one each.
pub const TRIALS: std::ops::Range<i64> = 1001..1061;

/// What every SKU is called and costs.
pub const NAME: &str = "红富士苹果";
pub const SPECIFICATIONS: &str = "5 斤装";
pub const IMAGE: &str = "/static/demo/apple.jpg";
pub const PRICE_FEN: i64 = 1580;

const PLENTY: i64 = 1_000_000_000;
/// More than the connections of any run, twice.
pub const USERS: i64 = 1024;
/// The ids of those who bought of [`SOLD_OUT`], as many as a good day of a farm's shop has; none of them is one of [`users`].
pub const BUYERS: std::ops::Range<i64> = 2001..3001;

/// One of these SKUs, as an order has it.
#[must_use]
pub fn sku(id: i64) -> Sku {
    Sku { id, product: id }
}

/// The ids of everybody who orders at all servers.
#[must_use]
pub fn users() -> Vec<i64> {
    (1..=USERS).collect()
}

/// Every SKU and how many there are of it.
#[must_use]
pub fn stocked() -> Vec<(i64, i64)> {
    let sold_out = BUYERS.end - BUYERS.start;
    let mut all = vec![(HOT, PLENTY), (SOLD_OUT, sold_out), (STORM, STORM_STOCK)];
    all.extend(SPREAD.map(|sku| (sku, PLENTY)));
    all.extend(TRIALS.map(|sku| (sku, oversell::STOCK)));
    all
}

/// Makes a database anew, has the origin bring its schema there, and fills it.
///
/// # Errors
/// When MySQL or the origin refuses.
pub async fn make(plan: &Plan, database: &str) -> Result<()> {
    fill(&make_empty(plan, database).await?).await
}

/// Sells all there is of [`SOLD_OUT`] in a schema that [`make`] made.
///
/// # Errors
/// When MySQL refuses.
pub async fn sell_out(url: &str) -> Result<()> {
    let mut connection = bare::connect(url).await?;
    let (sku, now) = (sku(SOLD_OUT), OffsetDateTime::now_utc());
    let orders: Vec<Order> = BUYERS.map(|user| Order::new(next_number(), user, now)).collect();
    for batch in orders.chunks(MOST_ORDERS) {
        bare::write(&mut connection, &batch::trips(sku, batch)).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Makes a database anew and has the origin bring its schema there; its URL.
///
/// # Errors
/// When MySQL or the origin refuses.
pub async fn make_empty(plan: &Plan, database: &str) -> Result<String> {
    let mut connection = MySqlConnection::connect(&plan.mysql_url).await?;
    for statement in [
        format!("DROP DATABASE IF EXISTS {database}"),
        format!("CREATE DATABASE {database} CHARACTER SET utf8mb4"),
    ] {
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    connection.close().await?;
    let url = plan.database_url(database);
    let mut migrate = Command::new(&plan.origin.program);
    migrate.arg("migrate").envs(&plan.origin.settings).env("FARMGATE_MYSQL__URL", &url);
    let status = migrate.status().with_context(|| format!("cannot run {}", plan.origin.program.display()))?;
    ensure!(status.success(), "farmgate-origin migrate failed ({status})");
    Ok(url)
}

async fn fill(url: &str) -> Result<()> {
    let mut connection = MySqlConnection::connect(url).await?;
    let stocked = stocked();
    let mut query = QueryBuilder::new("INSERT INTO users (id, openid, nickname) ");
    query.push_values(users().into_iter().chain(BUYERS), |mut row, id| {
        row.push_bind(id).push_bind(format!("bench-{id}")).push_bind("小王");
    });
    query.build().execute(&mut connection).await?;
    sqlx::query("INSERT INTO categories (id, name) VALUES (1, '水果')").execute(&mut connection).await?;
    let mut query = QueryBuilder::new("INSERT INTO products (id, name, price, category_id, stock, images) ");
    query.push_values(&stocked, |mut row, (id, quantity)| {
        row.push_bind(*id).push_bind(NAME).push("15.80").push("1").push_bind(*quantity);
        row.push_bind(format!("[\"{IMAGE}\"]"));
    });
    query.build().execute(&mut connection).await?;
    let mut query =
        QueryBuilder::new("INSERT INTO product_skus (id, product_id, specifications, price_fen) ");
    query.push_values(&stocked, |mut row, (id, _)| {
        row.push_bind(*id).push_bind(*id).push_bind(SPECIFICATIONS).push_bind(PRICE_FEN);
    });
    query.build().execute(&mut connection).await?;
    let mut query = QueryBuilder::new("INSERT INTO stock (sku_id, total, available) ");
    query.push_values(&stocked, |mut row, (id, quantity)| {
        row.push_bind(*id).push_bind(*quantity).push_bind(*quantity);
    });
    query.build().execute(&mut connection).await?;
    let mut query = QueryBuilder::new(
        "INSERT INTO stock_movements (sku_id, reason, available_change, held_change, sold_change) ",
    );
    query.push_values(&stocked, |mut row, (id, quantity)| {
        row.push_bind(*id).push_bind("stocked").push_bind(*quantity).push("0").push("0");
    });
    query.build().execute(&mut connection).await?;
    sqlx::query("UPDATE catalog_version SET version = version + 1").execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
