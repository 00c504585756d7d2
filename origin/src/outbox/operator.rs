//! What `farmgate-origin outbox …` shows and does.

use std::fmt::Write as _;

use clap::{ArgGroup, Subcommand};
use farmgate_shared::ids::{OrderId, OrderNo};
use sqlx::MySqlPool;

use super::service;
use crate::clock::{Clock, SystemClock, shanghai_rfc3339};
use crate::{orders, timeline};

/// Dead letters listed at once.
const MOST_LISTED: u32 = 1000;

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// How many events wait, are being delivered, or are dead letters.
    Status,
    /// Lists the dead letters: what failed too often, at whom, and why.
    Dead,
    /// Puts dead letters back, with all of their attempts; says how many.
    #[command(group = ArgGroup::new("which").required(true))]
    Replay {
        /// Every dead letter.
        #[arg(long, group = "which")]
        all: bool,
        /// The events whose dead letters are meant, as `dead` lists them.
        #[arg(group = "which", value_parser = clap::value_parser!(i64).range(1..))]
        events: Vec<i64>,
    },
    /// What happened to an order, and when.
    Timeline { order_no: OrderNo },
}

/// Does what was asked, and returns what to print.
///
/// # Errors
/// When MySQL is away, or an order that is asked for is not there.
pub async fn run(pool: &MySqlPool, command: &OutboxCommand) -> anyhow::Result<String> {
    match command {
        OutboxCommand::Status => status(pool).await,
        OutboxCommand::Dead => dead(pool).await,
        OutboxCommand::Replay { all, events } => {
            let events = (!all).then_some(events.as_slice());
            let revived = service::replay(pool, events, SystemClock.now()).await?;
            Ok(format!("{revived} dead letters put back\n"))
        }
        OutboxCommand::Timeline { order_no } => life(pool, order_no).await,
    }
}

async fn status(pool: &MySqlPool) -> anyhow::Result<String> {
    let totals = service::totals(pool).await?;
    let mut text = String::new();
    write!(text, "unpublished   {:>8}", totals.unpublished)?;
    if let Some(seconds) = totals.oldest_seconds {
        write!(text, "  the oldest for {seconds} s")?;
    }
    write!(text, "\nin delivery   {:>8}  {} of them failed before", totals.open, totals.failing)?;
    if totals.waiting > 0 {
        write!(text, ", {} wait for somebody who is away", totals.waiting)?;
    }
    text.push('\n');
    writeln!(text, "dead letters  {:>8}", totals.dead)?;
    Ok(text)
}

async fn dead(pool: &MySqlPool) -> anyhow::Result<String> {
    let letters = service::dead_letters(pool, MOST_LISTED).await?;
    if letters.is_empty() {
        return Ok("no dead letters\n".to_owned());
    }
    let ids: Vec<OrderId> = letters.iter().map(|letter| OrderId(letter.order_id)).collect();
    let orders = orders::of_shop::named(pool, &ids).await?;
    let mut text = String::new();
    for letter in letters {
        let order = orders.get(&OrderId(letter.order_id));
        writeln!(
            text,
            "{}  {}  order {}  at {}  {} attempts, dead since {}\n    {}",
            letter.event_id,
            letter.kind,
            order.map_or("unknown", |order| order.order_no.as_str()),
            letter.consumer,
            letter.attempts,
            shanghai_rfc3339(letter.died_at),
            // Somebody else's words.
            letter.last_error.as_deref().unwrap_or_default().escape_debug(),
        )?;
    }
    Ok(text)
}

async fn life(pool: &MySqlPool, order_no: &OrderNo) -> anyhow::Result<String> {
    let entries = timeline::of_order(pool, order_no).await?;
    anyhow::ensure!(!entries.is_empty(), "nothing is known of an order {order_no}");
    let mut text = String::new();
    for entry in entries {
        writeln!(text, "{}  {}", shanghai_rfc3339(entry.happened_at), entry.kind)?;
    }
    Ok(text)
}
