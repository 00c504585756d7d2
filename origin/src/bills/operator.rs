//! What `farmgate-origin reconcile --bill …` and `farmgate-origin bills …` show and do.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::ensure;
use clap::Subcommand;
use farmgate_shared::money::Fen;
use sqlx::MySqlPool;

use super::day::BillDay;
use super::service::{self, DayReport, DayRow};
use super::store::DifferenceRow;
use crate::app::App;
use crate::clock::{Clock, SystemClock, shanghai_rfc3339};

/// Days and differences listed at once.
const MOST_DAYS: u32 = 31;
const MOST_DIFFERENCES: u32 = 1000;

#[derive(Debug, Subcommand)]
pub enum BillsCommand {
    /// The newest days: what each bill came to and how many differences are open.
    Status,
    /// Lists the differences that nobody has dealt with.
    Differences,
    /// Puts on record that a difference was dealt with.
    Settle {
        /// As `differences` lists it.
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
        /// How it was dealt with.
        #[arg(long)]
        note: String,
    },
}

/// Does what was asked, and returns what to print.
///
/// # Errors
/// When MySQL is away, or there is no such difference.
pub async fn run(pool: &MySqlPool, command: &BillsCommand) -> anyhow::Result<String> {
    match command {
        BillsCommand::Status => status(pool).await,
        BillsCommand::Differences => {
            let rows = service::open_differences(pool, MOST_DIFFERENCES).await?;
            if rows.is_empty() { Ok("no open differences\n".to_owned()) } else { lines(&rows) }
        }
        BillsCommand::Settle { id, note } => {
            service::settle(pool, *id, note, SystemClock.now()).await?;
            Ok(format!("difference {id} is settled\n"))
        }
    }
}

/// Compares one day and prints what it came to, differences included.
///
/// # Errors
/// When the bill cannot be had, or a difference is open.
pub async fn reconcile(app: &Arc<App>, day: BillDay) -> anyhow::Result<()> {
    let report = service::reconcile(app, day).await?;
    print!("{}", show(&report)?);
    ensure!(report.open() == 0, "{} differences of {day} are open", report.open());
    Ok(())
}

fn show(report: &DayReport) -> anyhow::Result<String> {
    let sums = &report.sums;
    let mut text = String::new();
    writeln!(text, "{}  payments  {:>6}  {:>14} yuan", report.day, sums.payments, sums.paid.to_string())?;
    writeln!(text, "{}  refunds   {:>6}  {:>14} yuan", report.day, sums.refunds, sums.refunded.to_string())?;
    if sums.of_others > 0 {
        writeln!(
            text,
            "{}  of others {:>6}  lines of other apps of the merchant",
            report.day, sums.of_others
        )?;
    }
    if sums.hash.is_none() {
        writeln!(text, "{}  WeChat has no bill: a day without trades", report.day)?;
    }
    let settled = report.differences.len() - report.open();
    writeln!(text, "{}  {} differences open, {settled} settled", report.day, report.open())?;
    text.push_str(&lines(&report.differences)?);
    Ok(text)
}

fn lines(differences: &[DifferenceRow]) -> anyhow::Result<String> {
    let mut text = String::new();
    let yuan = |fen: Option<i64>| fen.map_or_else(|| "—".to_owned(), |fen| Fen(fen).to_string());
    for row in differences {
        let number = if row.out_refund_no.is_empty() { &row.out_trade_no } else { &row.out_refund_no };
        writeln!(
            text,
            "{}  {}  {:<13}  {}  {number}  ours {}  theirs {}",
            row.id,
            BillDay(row.bill_date),
            row.kind,
            if row.out_refund_no.is_empty() { "payment" } else { "refund" },
            yuan(row.ours_fen),
            yuan(row.theirs_fen),
        )?;
        writeln!(text, "    {}; transaction {}, order {}", row.detail, row.transaction_id, row.out_trade_no)?;
        if let Some(settled_at) = row.settled_at {
            let note = row.note.as_deref().unwrap_or_default();
            writeln!(text, "    settled {}: {note}", shanghai_rfc3339(settled_at))?;
        } else {
            writeln!(text, "    found {}", shanghai_rfc3339(row.found_at))?;
        }
    }
    Ok(text)
}

async fn status(pool: &MySqlPool) -> anyhow::Result<String> {
    let days = service::newest_days(pool, MOST_DAYS).await?;
    if days.is_empty() {
        return Ok("no bill was asked for yet\n".to_owned());
    }
    let mut text = String::new();
    for day in days {
        text.push_str(&line(&day)?);
    }
    Ok(text)
}

fn line(row: &DayRow) -> anyhow::Result<String> {
    let mut text = String::new();
    let day = BillDay(row.bill_date);
    if row.is_compared() {
        writeln!(
            text,
            "{day}  {:>6} payments {:>14}  {:>5} refunds {:>12}  {:>3} open  compared {}",
            row.payments,
            Fen(row.payments_fen).to_string(),
            row.refunds,
            Fen(row.refunds_fen).to_string(),
            row.open,
            row.checked_at.map(shanghai_rfc3339).unwrap_or_default(),
        )?;
        if row.hash.is_none() {
            let next = row.due_at.map(shanghai_rfc3339).unwrap_or_default();
            writeln!(
                text,
                "            WeChat had no bill; asked again from {next}, if the worker still looks back so far"
            )?;
        }
        if row.of_others > 0 {
            writeln!(text, "            {} lines of other apps of the merchant", row.of_others)?;
        }
    } else {
        writeln!(text, "{day}  not had yet: {}", row.last_error.as_deref().unwrap_or("being fetched"))?;
    }
    Ok(text)
}
