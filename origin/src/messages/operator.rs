//! What `farmgate-origin messages …` shows.

use std::fmt::Write as _;

use anyhow::Context;
use clap::Subcommand;
use farmgate_shared::ids::OrderNo;
use sqlx::MySqlPool;

use super::service::{self, Told};
use crate::clock::{Clock, SystemClock, shanghai_rfc3339};
use crate::orders;

#[derive(Debug, Subcommand)]
pub enum MessagesCommand {
    /// How many messages of each kind were sent of late, and how many their shoppers had not agreed to.
    Summary {
        /// Of so many days.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=90))]
        days: u16,
    },
    /// What a shopper was told of an order.
    Show { order_no: OrderNo },
}

/// Does what was asked, and returns what to print.
///
/// # Errors
/// When MySQL is away, or an order that is asked for is not there.
pub async fn run(pool: &MySqlPool, command: &MessagesCommand) -> anyhow::Result<String> {
    match command {
        MessagesCommand::Summary { days } => summary(pool, *days).await,
        MessagesCommand::Show { order_no } => of_order(pool, order_no).await,
    }
}

async fn summary(pool: &MySqlPool, days: u16) -> anyhow::Result<String> {
    let since = SystemClock.now() - time::Duration::days(days.into());
    let counts = service::counts(pool, since).await?;
    if counts.is_empty() {
        return Ok(format!("nobody was told of anything in {days} days\n"));
    }
    let mut text = String::new();
    for (occasion, told, count) in counts {
        writeln!(text, "{occasion:<10}{count:>8}  {}", text_of(told))?;
    }
    Ok(text)
}

async fn of_order(pool: &MySqlPool, order_no: &OrderNo) -> anyhow::Result<String> {
    let order = orders::of_shop::find(pool, order_no).await?;
    let order = order.with_context(|| format!("there is no order {order_no}"))?;
    let messages = service::of_order(pool, order).await?;
    if messages.is_empty() {
        return Ok("nothing was told of it\n".to_owned());
    }
    let mut text = String::new();
    for message in messages {
        let at = shanghai_rfc3339(message.told_at);
        writeln!(text, "{at}  {:<10}{}", message.occasion, text_of(message.told))?;
    }
    Ok(text)
}

const fn text_of(told: Told) -> &'static str {
    match told {
        Told::Sent => "sent",
        Told::NotAgreed => "not agreed to",
    }
}
