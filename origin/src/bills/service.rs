//! Use cases of the daily reconciliation.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use farmgate_shared::money::Fen;
use sqlx::{MySqlConnection, MySqlPool};
use time::OffsetDateTime;

use super::books_store;
use super::compare::{self, Books};
use super::csv::{self, FormatError};
use super::day::{BillDay, DayError};
use super::model::{BillLine, OurRefund};
use super::store::{self, DaySums, DifferenceRow};
use crate::app::App;
use crate::text::with_causes;
use crate::wechat::pay::bill::BillError;

pub use super::store::{DayRow, Standing, newest_days, open_differences, standing};

/// Why a day could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Day(#[from] DayError),
    #[error("the bill of {0} could not be had")]
    Bill(BillDay, #[source] BillError),
    #[error("the bill of {0} cannot be read")]
    Format(BillDay, #[source] FormatError),
    #[error("the bill of {0} cannot be true: its amounts add up to more than there is")]
    Overflow(BillDay),
    #[error("the books could not be read or written")]
    Database(#[from] sqlx::Error),
}

/// What a day came to.
#[derive(Debug)]
pub struct DayReport {
    pub day: BillDay,
    pub sums: DaySums,
    /// Settled ones too.
    pub differences: Vec<DifferenceRow>,
}

impl DayReport {
    /// Differences that nobody has dealt with.
    pub fn open(&self) -> usize {
        self.differences.iter().filter(|difference| difference.settled_at.is_none()).count()
    }
}

/// WeChat says in the same words that a day had no trades and that its bill is not there yet. Where our books had none either,
/// it is asked once a day whether it still says so.
const ASK_AGAIN_ABOUT_NOTHING: time::Duration = time::Duration::DAY;

/// Fetches a day's bill, compares it with our books and records what differs. May be repeated: the findings of the same day
/// are replaced in one transaction, and what an operator settled stays settled.
///
/// # Errors
/// [`ReconcileError`]; then nothing was changed.
pub async fn reconcile(app: &Arc<App>, day: BillDay) -> Result<DayReport, ReconcileError> {
    let now = app.clock.now();
    day.check(now)?;
    let bill = app
        .pay
        .trade_bill(&day.to_string(), app.clock.unix_seconds())
        .await
        .map_err(|error| ReconcileError::Bill(day, error))?;
    let (all, hash) = match bill {
        Some(bill) => {
            (csv::read(&bill.csv).map_err(|error| ReconcileError::Format(day, error))?, Some(bill.hash))
        }
        None => (Vec::new(), None),
    };
    let (lines, of_others): (Vec<BillLine>, Vec<BillLine>) =
        all.into_iter().partition(|line| line.appid == app.pay.appid());
    let sums = sums(&lines, of_others.len(), hash).ok_or(ReconcileError::Overflow(day))?;
    let (lines, kept) = (Arc::new(lines), sums.clone());
    let retry = retry(app);
    store::want(app.db.pool(), day, now).await?;
    app.db
        .long_transaction("reconcile_bill", move |connection| {
            let (lines, sums) = (lines.clone(), kept.clone());
            Box::pin(async move {
                store::lock_days(connection).await?;
                let mut touched = touched(connection, day).await?;
                let again_at = ask_again_at(connection, day, &sums, (now, retry)).await?;
                store::set_compared(connection, day, &sums, now, again_at).await?;
                store::replace_lines(connection, day, &lines).await?;
                touched.extend(self::touched(connection, day).await?);
                for day in had_of(connection, &touched).await? {
                    compare_day(connection, day, now).await?;
                }
                Ok(())
            })
        })
        .await
        .map_err(|error: crate::db::TransactionError<sqlx::Error>| error.flatten())?;
    Ok(DayReport { day, sums, differences: store::differences_of(app.db.pool(), day).await? })
}

/// When a day is asked for once more: a day without a bill, for as long as the worker looks back at it.
async fn ask_again_at(
    connection: &mut MySqlConnection,
    day: BillDay,
    sums: &DaySums,
    (now, retry): (OffsetDateTime, time::Duration),
) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    if sums.hash.is_some() {
        return Ok(None);
    }
    let has_trades = books_store::has_trades(connection, day.start(), day.end()).await?;
    Ok(Some(now + if has_trades { retry } else { retry.max(ASK_AGAIN_ABOUT_NOTHING) }))
}

fn retry(app: &App) -> time::Duration {
    time::Duration::try_from(app.config.bills.retry()).unwrap_or(time::Duration::HOUR)
}

fn sums(lines: &[BillLine], of_others: usize, hash: Option<String>) -> Option<DaySums> {
    let of_kind = |is_refund: bool| {
        let mut amounts = Vec::new();
        amounts.extend(lines.iter().filter(|line| line.is_refund() == is_refund).map(|line| line.amount));
        Some((i32::try_from(amounts.len()).ok()?, Fen::checked_sum(amounts)?))
    };
    let ((payments, paid), (refunds, refunded)) = (of_kind(false)?, of_kind(true)?);
    Some(DaySums { payments, paid, refunds, refunded, of_others: i32::try_from(of_others).ok()?, hash })
}

/// The days about which the kept lines of one day may decide: a trade near midnight stands in the neighbour's bill, and a slow
/// refund in that of any day from the one on which it was asked for. Asked before and after the lines are replaced, since a
/// line that is gone decides as much as one that is new.
async fn touched(connection: &mut MySqlConnection, day: BillDay) -> Result<BTreeSet<BillDay>, sqlx::Error> {
    let mut days = BTreeSet::from([day.plus(-1), day, day.plus(1)]);
    let named = books_store::refunds_named_paid_back(connection, day).await?;
    let slow = books_store::slow_refunds_paid_back(connection, day.end(), day.plus(1).end()).await?;
    days.extend(named.into_iter().chain(slow).map(BillDay::of));
    Ok(days)
}

/// Those of the days whose bills were had, oldest first.
async fn had_of(
    connection: &mut MySqlConnection,
    days: &BTreeSet<BillDay>,
) -> Result<Vec<BillDay>, sqlx::Error> {
    let (Some(first), Some(last)) = (days.first(), days.last()) else { return Ok(Vec::new()) };
    let mut had = store::had(connection, *first, *last).await?;
    had.retain(|day| days.contains(day));
    Ok(had)
}

/// Compares a day whose lines are kept.
async fn compare_day(
    connection: &mut MySqlConnection,
    day: BillDay,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let lines = store::lines(connection, day).await?;
    let neighbours = store::had(connection, day.plus(-1), day.plus(1)).await?;
    let mut bills = [None, None];
    for (bill, neighbour) in bills.iter_mut().zip([day.plus(-1), day.plus(1)]) {
        if neighbours.contains(&neighbour) {
            *bill = Some(store::lines(connection, neighbour).await?);
        }
    }
    let [before, after] = bills;

    let sales: Vec<&BillLine> = lines.iter().filter(|line| !line.is_refund()).collect();
    let mut payments = books_store::payments_named(connection, &sales).await?;
    payments.extend(books_store::payments_of_day(connection, day.start(), day.end()).await?);
    let mut known = HashSet::new();
    payments.retain(|payment| known.insert(payment.out_trade_no.clone()));

    let numbers: Vec<&str> =
        lines.iter().filter(|line| line.is_refund()).map(|line| line.out_refund_no.as_str()).collect();
    let mut refunds = books_store::refunds_named(connection, &numbers).await?;
    refunds.extend(books_store::refunds_of_day(connection, day.start(), day.end()).await?);
    let mut known = HashSet::new();
    refunds.retain(|refund| known.insert(refund.out_refund_no.clone()));
    let numbers: Vec<&str> = refunds.iter().map(|refund| refund.out_refund_no.as_str()).collect();
    let refunds_in_bills = store::refunds_in_bills(connection, &numbers).await?.into_iter().collect();
    let had = store::had(connection, oldest_day(&refunds, day), day.plus(1)).await?.into_iter().collect();

    let differences = compare::differences(&Books {
        day,
        lines: &lines,
        before: before.as_deref(),
        after: after.as_deref(),
        payments: &payments,
        refunds: &refunds,
        refunds_in_bills: &refunds_in_bills,
        had: &had,
    });
    store::replace_differences(connection, day, &differences, now).await
}

fn oldest_day(refunds: &[OurRefund], day: BillDay) -> BillDay {
    refunds.iter().map(|refund| BillDay::of(refund.created_at)).min().map_or(day, |first| first.min(day))
}

/// What became of a day that the worker wanted.
#[derive(Debug)]
pub enum Fetched {
    /// It is not due: it was had before, or another worker is at it, or it is not to be tried again yet.
    Before,
    Compared(DayReport),
}

/// Reconciles a day that is due, once across all workers: whoever takes it keeps the others off for a while, which is also
/// when it is tried again if it fails or WeChat has no bill of it.
///
/// # Errors
/// [`ReconcileError`], which is also on record.
pub async fn reconcile_once(app: &Arc<App>, day: BillDay) -> Result<Fetched, ReconcileError> {
    let (pool, now) = (app.db.pool(), app.clock.now());
    store::want(pool, day, now).await?;
    if !store::claim(pool, day, now, now + retry(app)).await? {
        return Ok(Fetched::Before);
    }
    match reconcile(app, day).await {
        Ok(report) => Ok(Fetched::Compared(report)),
        Err(error) => {
            store::set_error(pool, day, &with_causes(&error)).await?;
            Err(error)
        }
    }
}

/// Why a difference could not be settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error("there is no open difference {0}")]
    NotOpen(i64),
    #[error("a note of 1 to 500 characters has to say how it was dealt with")]
    Note,
    #[error("the books could not be written")]
    Database(#[from] sqlx::Error),
}

/// Puts on record that somebody dealt with a difference, and how. `now` is when.
///
/// # Errors
/// [`SettleError`].
pub async fn settle(pool: &MySqlPool, id: i64, note: &str, now: OffsetDateTime) -> Result<(), SettleError> {
    let note = note.trim();
    if note.is_empty() || note.chars().count() > 500 {
        return Err(SettleError::Note);
    }
    if store::settle(pool, id, note, now).await? { Ok(()) } else { Err(SettleError::NotOpen(id)) }
}
