//! What `farmgate-origin review …` shows and does.

use std::fmt::Write as _;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use sqlx::MySqlPool;

use super::model::Status;
use super::service::{self, ReviewRow};
use crate::clock::shanghai_rfc3339;

/// Reviews listed at once.
const MOST_LISTED: u32 = 1000;

#[derive(Debug, Subcommand)]
pub enum ReviewCommand {
    /// Lists reviews, the oldest first.
    List {
        #[arg(long, value_enum, default_value = "by-hand")]
        status: Which,
    },
    /// Shows one.
    Show { id: i64 },
    /// Shows these on their products' pages, whatever WeChat thinks of them.
    Approve {
        #[arg(required = true)]
        ids: Vec<i64>,
    },
    /// Takes these off their products' pages.
    Refuse {
        #[arg(required = true)]
        ids: Vec<i64>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Which {
    InCheck,
    Shown,
    Refused,
    ByHand,
}

impl Which {
    fn status(self) -> Status {
        match self {
            Which::InCheck => Status::InCheck,
            Which::Shown => Status::Shown,
            Which::Refused => Status::Refused,
            Which::ByHand => Status::ByHand,
        }
    }
}

/// Does what was asked, and returns what to print.
///
/// # Errors
/// When MySQL is away, or a review that is named is not there.
pub async fn run(pool: &MySqlPool, command: &ReviewCommand) -> anyhow::Result<String> {
    let mut text = String::new();
    match command {
        ReviewCommand::List { status } => {
            for row in service::list(pool, status.status(), MOST_LISTED).await? {
                show(&mut text, &row)?;
            }
            if text.is_empty() {
                writeln!(text, "none {}", status.status().name())?;
            }
        }
        ReviewCommand::Show { id } => show(&mut text, &find(pool, *id).await?)?,
        ReviewCommand::Approve { ids } => decide(pool, ids, true, &mut text).await?,
        ReviewCommand::Refuse { ids } => decide(pool, ids, false, &mut text).await?,
    }
    Ok(text)
}

async fn find(pool: &MySqlPool, id: i64) -> anyhow::Result<ReviewRow> {
    service::find(pool, id).await?.with_context(|| format!("there is no review {id}"))
}

async fn decide(pool: &MySqlPool, ids: &[i64], is_shown: bool, text: &mut String) -> anyhow::Result<()> {
    for id in ids {
        find(pool, *id).await?;
    }
    for id in ids {
        if service::decide(pool, *id, is_shown).await? {
            writeln!(text, "{id}  {}", if is_shown { "shown" } else { "refused" })?;
        }
    }
    Ok(())
}

fn show(text: &mut String, row: &ReviewRow) -> anyhow::Result<()> {
    let status = Status::from_number(row.status).map_or("unknown", Status::name);
    writeln!(
        text,
        "{}  {status}  {}  product {}  order {}  user {}  {} of 5  {} pictures\n    {}",
        row.id,
        shanghai_rfc3339(row.created_at),
        row.product_id,
        row.order_id,
        row.user_id,
        row.rating,
        row.images.len(),
        // What a shopper wrote must not write to the terminal.
        row.content.escape_debug(),
    )?;
    for image in &row.images.0 {
        writeln!(text, "    {}", image.escape_debug())?;
    }
    Ok(())
}
