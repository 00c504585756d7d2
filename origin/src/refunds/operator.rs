//! What `farmgate-origin refund …` shows and does.

use std::fmt::Write as _;

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use farmgate_shared::edge_auth::hex;
use farmgate_shared::ids::OrderNo;
use farmgate_shared::money::Fen;
use ring::digest::{SHA256, digest};

use super::model::{Cause, NewRefund, Share, Status};
use super::service::{self, RefundError};
use super::settling::{self, Outcome};
use super::store::{self, ListedRow, RefundRow};
use crate::clock::{Clock, SystemClock, shanghai_rfc3339};
use crate::db::Db;
use crate::payments::money_back;

/// Refunds listed at once.
const MOST_LISTED: u32 = 1000;

#[derive(Debug, Subcommand)]
pub enum RefundCommand {
    /// Promises an order's money back, or a part of it; the worker sends it to WeChat. The same command again finds the
    /// first refund.
    Start {
        order_no: OrderNo,
        /// Yuan, such as 15.80; all that is left where it is not given.
        #[arg(long, value_parser = Fen::parse_yuan)]
        amount: Option<Fen>,
        /// The shopper reads it in WeChat: at most 80 bytes, which are 26 Chinese characters.
        #[arg(long)]
        reason: String,
        /// Tells a refund from another one of the same order that is equal in amount and reason.
        #[arg(long)]
        key: Option<String>,
    },
    /// Lists the refunds that nobody has ended, with what keeps them.
    List {
        /// The ended ones too, the newest first.
        #[arg(long)]
        all: bool,
    },
    /// What became of an order's money.
    Show { order_no: OrderNo },
    /// Has WeChat asked at once: for a refund that is stuck or waits, or about one that WeChat has.
    Retry { out_refund_no: String },
    /// Records that a stuck refund, which WeChat does not have, was paid in another way.
    ByHand {
        out_refund_no: String,
        /// How, by whom and when.
        #[arg(long)]
        note: String,
    },
}

/// Does what was asked, and returns what to print.
///
/// # Errors
/// When MySQL is away, or what was asked for cannot be.
pub async fn run(db: &Db, command: &RefundCommand) -> anyhow::Result<String> {
    match command {
        RefundCommand::Start { order_no, amount, reason, key } => {
            start(db, order_no, *amount, reason, key.as_deref()).await
        }
        RefundCommand::List { all } => list(db, *all).await,
        RefundCommand::Show { order_no } => show(db, order_no).await,
        RefundCommand::Retry { out_refund_no } => retry(db, out_refund_no).await,
        RefundCommand::ByHand { out_refund_no, note } => pay_by_hand(db, out_refund_no, note).await,
    }
}

async fn start(
    db: &Db,
    order_no: &OrderNo,
    amount: Option<Fen>,
    reason: &str,
    key: Option<&str>,
) -> anyhow::Result<String> {
    let order = money_back::order_with_payment(db.pool(), order_no)
        .await?
        .with_context(|| format!("no payment of an order {order_no} is known"))?;
    let wish = NewRefund {
        order,
        key: match key {
            Some(key) => operators_key(key)?,
            None => made_up_key(amount, reason),
        },
        share: amount.map_or(Share::Rest, Share::Part),
        cause: Cause::Operator,
        reason: reason.to_owned(),
        at: SystemClock.now(),
    };
    let promised = service::start(db, wish).await?;
    let word = if promised.is_new { "promised" } else { "was promised before" };
    Ok(format!("{}  {} yuan  {word}\n", promised.out_refund_no, promised.amount))
}

/// A key that an operator gives. Those that the shop makes its own numbers with would shadow a refund of its own: `late`, and
/// a number at the end, which tells an attempt from the one that WeChat closed.
fn operators_key(key: &str) -> anyhow::Result<String> {
    let numbered = key.rsplit_once('-').is_some_and(|(_, end)| end.bytes().all(|byte| byte.is_ascii_digit()));
    ensure!(key != "late" && !numbered, "the key must not be `late`, and must not end with - and a number");
    Ok(key.to_owned())
}

/// The same for the same command.
fn made_up_key(amount: Option<Fen>, reason: &str) -> String {
    match amount {
        None => "all".to_owned(),
        Some(amount) => {
            let told_apart = hex(digest(&SHA256, reason.as_bytes()).as_ref());
            format!("{}-{}", amount.0, told_apart.get(..8).unwrap_or_default())
        }
    }
}

async fn list(db: &Db, is_all: bool) -> anyhow::Result<String> {
    let rows = store::list(db.pool(), is_all, MOST_LISTED).await?;
    if rows.is_empty() {
        return Ok("no refunds\n".to_owned());
    }
    let mut text = String::new();
    for row in rows {
        describe(&mut text, &row)?;
    }
    Ok(text)
}

fn describe(text: &mut String, ListedRow { refund, out_trade_no }: &ListedRow) -> anyhow::Result<()> {
    write!(
        text,
        "{}  order {out_trade_no}  {} yuan  {}  {}  since {}",
        refund.out_refund_no,
        Fen(refund.amount_fen),
        status(refund)?.text(),
        refund.cause,
        shanghai_rfc3339(refund.created_at),
    )?;
    if let Some(at) = refund.refunded_at {
        write!(text, "  paid back {}", shanghai_rfc3339(at))?;
    }
    if let Some(due_at) = refund.due_at {
        write!(text, "  {} attempts, next {}", refund.attempts, shanghai_rfc3339(due_at))?;
    }
    writeln!(text, "\n    {}", refund.reason)?;
    if let Some(error) = &refund.last_error {
        writeln!(text, "    {error}")?;
    }
    Ok(())
}

fn status(refund: &RefundRow) -> Result<Status, RefundError> {
    Status::from_number(refund.status).ok_or(RefundError::UnknownStatus(refund.status))
}

async fn show(db: &Db, order_no: &OrderNo) -> anyhow::Result<String> {
    let order = money_back::order_with_payment(db.pool(), order_no).await?;
    let payment = match order {
        Some(order) => money_back::received(db.pool(), order).await?.map(|payment| (order, payment)),
        None => None,
    };
    let Some((order, payment)) = payment else { bail!("nothing was paid for an order {order_no}") };
    let paid_back = service::paid_back(db.pool(), order).await?;
    let paid_back = Fen::checked_sum(paid_back.iter().map(|refund| refund.amount)).unwrap_or(Fen::ZERO);
    let mut text = format!(
        "paid {} yuan {}, promised back {}, paid back {}\n",
        payment.amount,
        shanghai_rfc3339(payment.paid_at),
        payment.refunded,
        paid_back,
    );
    for row in store::of_number(db.pool(), order_no).await? {
        describe(&mut text, &row)?;
    }
    Ok(text)
}

async fn retry(db: &Db, number: &str) -> anyhow::Result<String> {
    let row = store::find(db.pool(), number).await?.ok_or(RefundError::Unknown)?;
    let now = SystemClock.now();
    match status(&row)? {
        Status::Stuck if row.wechat_refund_id.is_none() => {
            let again = Outcome::ToAsk { why: "an operator asks again".to_owned(), at: now };
            settling::record(db, number, again).await?;
        }
        Status::ToAsk | Status::AtWechat | Status::Stuck => {
            let mut connection = db.pool().acquire().await?;
            // Decided since it was read.
            ensure!(store::postpone(&mut connection, row.id, now).await?, "{number} was decided just now");
        }
        ended => return Err(RefundError::State(ended.text()).into()),
    }
    Ok(format!("{number}  WeChat is asked again\n"))
}

async fn pay_by_hand(db: &Db, number: &str, note: &str) -> anyhow::Result<String> {
    ensure!(!note.trim().is_empty(), "the note must say how it was paid");
    let by_hand = Outcome::PaidByHand { why: note.to_owned(), at: SystemClock.now() };
    let settled = settling::record(db, number, by_hand).await?;
    if !settled.is_new {
        return Err(RefundError::State(settled.was.text()).into());
    }
    Ok(format!("{number}  paid by hand\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_key_shadows_none_of_the_shops_own() {
        assert_eq!(operators_key("crate-of-apples").unwrap(), "crate-of-apples");
        for key in ["late", "all-2", "x-"] {
            assert!(operators_key(key).is_err(), "{key}");
        }
    }

    #[test]
    fn a_command_has_the_same_key_each_time_and_another_one_another() {
        let key = |fen, reason| made_up_key(Some(Fen(fen)), reason);
        assert_eq!(made_up_key(None, "坏果"), made_up_key(None, "缺货"), "all can go back once");
        assert_eq!(key(500, "坏果"), key(500, "坏果"));
        assert_ne!(key(500, "坏果"), key(501, "坏果"));
        assert_ne!(key(500, "坏果"), key(500, "缺货"));
        assert!(key(i64::MAX, "坏果").len() <= 30);
    }
}
