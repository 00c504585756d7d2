//! SQL of `bill_days`, `bill_lines` and `bill_differences`.

use farmgate_shared::money::Fen;
use sqlx::{FromRow, MySqlConnection, MySqlPool, QueryBuilder};
use time::{Date, OffsetDateTime};

use super::day::BillDay;
use super::model::{BillLine, Difference};
use crate::db::{MOST_WIDE_ROWS, push_list};
use crate::text::cut;

/// `bill_days.status`; it is 0 before.
const COMPARED: i8 = 1;
/// Numbers in one `IN (…)`.
pub const MOST_NUMBERS: usize = 128;
/// `bill_differences.detail` and `bill_days.last_error`.
const DETAIL_CHARACTERS: usize = 200;
const ERROR_CHARACTERS: usize = 500;

/// What a day's bill comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaySums {
    pub payments: i32,
    pub paid: Fen,
    pub refunds: i32,
    pub refunded: Fen,
    pub of_others: i32,
    pub hash: Option<String>,
}

/// The day is wanted from now on, if it was not before.
pub async fn want(pool: &MySqlPool, day: BillDay, now: OffsetDateTime) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO bill_days (bill_date, due_at) VALUES (?, ?) ON DUPLICATE KEY UPDATE bill_date = bill_date")
        .bind(day.0)
        .bind(now)
        .execute(pool)
        .await?;
    Ok(())
}

/// Whether the day is the caller's to fetch: it is due, and nobody else asks before `until`.
pub async fn claim(
    pool: &MySqlPool,
    day: BillDay,
    now: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE bill_days SET due_at = ? WHERE bill_date = ? AND due_at <= ?")
        .bind(until)
        .bind(day.0)
        .bind(now)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn set_error(pool: &MySqlPool, day: BillDay, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE bill_days SET last_error = ? WHERE bill_date = ?")
        .bind(cut(error, ERROR_CHARACTERS))
        .bind(day.0)
        .execute(pool)
        .await?;
    Ok(())
}

/// The day was had: its sums, and when it is to be asked for once more, if at all.
pub async fn set_compared(
    connection: &mut MySqlConnection,
    day: BillDay,
    sums: &DaySums,
    now: OffsetDateTime,
    again_at: Option<OffsetDateTime>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO bill_days (bill_date, status, payments, payments_fen, refunds, refunds_fen, of_others, hash, \
         checked_at, due_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE status = VALUES(status), \
         payments = VALUES(payments), payments_fen = VALUES(payments_fen), refunds = VALUES(refunds), \
         refunds_fen = VALUES(refunds_fen), of_others = VALUES(of_others), hash = VALUES(hash), \
         checked_at = VALUES(checked_at), due_at = VALUES(due_at), last_error = NULL",
    )
    .bind(day.0)
    .bind(COMPARED)
    .bind(sums.payments)
    .bind(sums.paid.0)
    .bind(sums.refunds)
    .bind(sums.refunded.0)
    .bind(sums.of_others)
    .bind(sums.hash.as_deref())
    .bind(now)
    .bind(again_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// The days from `first` to `last` that were had, oldest first.
pub async fn had(
    connection: &mut MySqlConnection,
    first: BillDay,
    last: BillDay,
) -> Result<Vec<BillDay>, sqlx::Error> {
    let days: Vec<Date> = sqlx::query_scalar(
        "SELECT bill_date FROM bill_days WHERE status = ? AND bill_date BETWEEN ? AND ? ORDER BY bill_date",
    )
    .bind(COMPARED)
    .bind(first.0)
    .bind(last.0)
    .fetch_all(connection)
    .await?;
    Ok(days.into_iter().map(BillDay).collect())
}

/// Takes all days for this transaction: one comparison at a time, since a slow refund ties days together that are far apart.
pub async fn lock_days(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT bill_date FROM bill_days ORDER BY bill_date FOR UPDATE")
        .fetch_all(connection)
        .await?;
    Ok(())
}

/// Puts these lines in the place of the day's.
pub async fn replace_lines(
    connection: &mut MySqlConnection,
    day: BillDay,
    lines: &[BillLine],
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM bill_lines WHERE bill_date = ?").bind(day.0).execute(&mut *connection).await?;
    let numbered: Vec<(i32, &BillLine)> = (1..).zip(lines).collect();
    for rows in numbered.chunks(MOST_WIDE_ROWS) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO bill_lines (bill_date, line, is_refund, out_trade_no, out_refund_no, transaction_id, \
             amount_fen, state, happened_at) ",
        );
        insert.push_values(rows, |mut row, (number, line)| {
            row.push_bind(day.0)
                .push_bind(*number)
                .push_bind(line.is_refund())
                .push_bind(&line.out_trade_no)
                .push_bind(&line.out_refund_no)
                .push_bind(&line.transaction_id)
                .push_bind(line.amount.0)
                .push_bind(&line.state)
                .push_bind(line.happened_at);
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

#[derive(FromRow)]
struct LineRow {
    out_trade_no: String,
    out_refund_no: String,
    transaction_id: String,
    amount_fen: i64,
    state: String,
    happened_at: OffsetDateTime,
}

/// The kept lines of a day, in the bill's order.
pub async fn lines(connection: &mut MySqlConnection, day: BillDay) -> Result<Vec<BillLine>, sqlx::Error> {
    let rows: Vec<LineRow> = sqlx::query_as(
        "SELECT out_trade_no, out_refund_no, transaction_id, amount_fen, state, happened_at FROM bill_lines \
         WHERE bill_date = ? ORDER BY line",
    )
    .bind(day.0)
    .fetch_all(connection)
    .await?;
    let line = |row: LineRow| BillLine {
        happened_at: row.happened_at,
        appid: String::new(),
        transaction_id: row.transaction_id,
        out_trade_no: row.out_trade_no,
        out_refund_no: row.out_refund_no,
        amount: Fen(row.amount_fen),
        state: row.state,
    };
    Ok(rows.into_iter().map(line).collect())
}

/// Those of the refunds' numbers that stand in any day's bill.
pub async fn refunds_in_bills(
    connection: &mut MySqlConnection,
    numbers: &[&str],
) -> Result<Vec<String>, sqlx::Error> {
    let mut found = Vec::new();
    for numbers in numbers.chunks(MOST_NUMBERS) {
        let mut query = QueryBuilder::new(
            "SELECT DISTINCT out_refund_no FROM bill_lines WHERE is_refund AND out_refund_no IN ",
        );
        push_list(&mut query, numbers.iter().copied());
        found.extend(query.build_query_scalar::<String>().fetch_all(&mut *connection).await?);
    }
    Ok(found)
}

/// Puts these differences in the place of the day's open ones. One that an operator settled stays settled, unless an amount
/// is another now.
pub async fn replace_differences(
    connection: &mut MySqlConnection,
    day: BillDay,
    differences: &[Difference],
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM bill_differences WHERE bill_date = ? AND settled_at IS NULL")
        .bind(day.0)
        .execute(&mut *connection)
        .await?;
    for rows in differences.chunks(MOST_WIDE_ROWS) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO bill_differences (bill_date, kind, out_trade_no, out_refund_no, transaction_id, ours_fen, \
             theirs_fen, detail, found_at) ",
        );
        insert.push_values(rows, |mut row, difference| {
            row.push_bind(day.0)
                .push_bind(difference.kind.name())
                .push_bind(&difference.out_trade_no)
                .push_bind(&difference.out_refund_no)
                .push_bind(&difference.transaction_id)
                .push_bind(difference.ours.map(|fen| fen.0))
                .push_bind(difference.theirs.map(|fen| fen.0))
                .push_bind(cut(&difference.detail, DETAIL_CHARACTERS))
                .push_bind(now);
        });
        // In this order: an assignment sees the new values of those on its left.
        insert.push(
            " ON DUPLICATE KEY UPDATE settled_at = IF(ours_fen <=> VALUES(ours_fen) AND \
             theirs_fen <=> VALUES(theirs_fen), settled_at, NULL), ours_fen = VALUES(ours_fen), \
             theirs_fen = VALUES(theirs_fen), detail = VALUES(detail)",
        );
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// A difference as it is on record.
#[derive(Debug, FromRow)]
pub struct DifferenceRow {
    pub id: i64,
    pub bill_date: Date,
    pub kind: String,
    pub out_trade_no: String,
    pub out_refund_no: String,
    pub transaction_id: String,
    pub ours_fen: Option<i64>,
    pub theirs_fen: Option<i64>,
    pub detail: String,
    pub found_at: OffsetDateTime,
    pub settled_at: Option<OffsetDateTime>,
    pub note: Option<String>,
}

const DIFFERENCE: &str = "SELECT id, bill_date, kind, out_trade_no, out_refund_no, transaction_id, ours_fen, theirs_fen, \
                          detail, found_at, settled_at, note FROM bill_differences ";

/// A day's differences, settled ones too.
pub async fn differences_of(pool: &MySqlPool, day: BillDay) -> Result<Vec<DifferenceRow>, sqlx::Error> {
    let mut query = QueryBuilder::new(DIFFERENCE);
    query.push("WHERE bill_date = ").push_bind(day.0).push(" ORDER BY id");
    query.build_query_as().fetch_all(pool).await
}

/// Differences that nobody has dealt with, oldest day first, at most so many.
pub async fn open_differences(pool: &MySqlPool, most: u32) -> Result<Vec<DifferenceRow>, sqlx::Error> {
    let mut query = QueryBuilder::new(DIFFERENCE);
    query.push("WHERE settled_at IS NULL ORDER BY bill_date, id LIMIT ").push_bind(most);
    query.build_query_as().fetch_all(pool).await
}

/// Whether there was such an open difference.
pub async fn settle(pool: &MySqlPool, id: i64, note: &str, now: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE bill_differences SET settled_at = ?, note = ? WHERE id = ? AND settled_at IS NULL",
    )
    .bind(now)
    .bind(note)
    .bind(id)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A day as it is on record.
#[derive(Clone, Debug, FromRow)]
pub struct DayRow {
    pub bill_date: Date,
    pub status: i8,
    pub payments: i32,
    pub payments_fen: i64,
    pub refunds: i32,
    pub refunds_fen: i64,
    pub of_others: i32,
    /// None of a day without a bill.
    pub hash: Option<String>,
    pub checked_at: Option<OffsetDateTime>,
    /// When the worker asks for it, if it looks back so far.
    pub due_at: Option<OffsetDateTime>,
    pub last_error: Option<String>,
    pub open: i64,
}

impl DayRow {
    pub fn is_compared(&self) -> bool {
        self.status == COMPARED
    }
}

/// The newest days that were asked for, newest first, with their open differences.
pub async fn newest_days(pool: &MySqlPool, most: u32) -> Result<Vec<DayRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT d.bill_date, d.status, d.payments, d.payments_fen, d.refunds, d.refunds_fen, d.of_others, d.hash, \
         d.checked_at, d.due_at, d.last_error, (SELECT COUNT(*) FROM bill_differences f WHERE f.bill_date = d.bill_date \
         AND f.settled_at IS NULL) AS open FROM bill_days d ORDER BY d.bill_date DESC LIMIT ?",
    )
    .bind(most)
    .fetch_all(pool)
    .await
}

/// Open differences of all days, and of the newest day that was compared; when a bill was last compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub struct Standing {
    pub open: i64,
    pub open_of_last_day: i64,
    pub checked_at: Option<OffsetDateTime>,
}

pub async fn standing(pool: &MySqlPool) -> Result<Standing, sqlx::Error> {
    sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM bill_differences WHERE settled_at IS NULL) AS open, \
         (SELECT COUNT(*) FROM bill_differences WHERE settled_at IS NULL AND bill_date = \
         (SELECT MAX(bill_date) FROM bill_days WHERE status = ?)) AS open_of_last_day, \
         (SELECT MAX(checked_at) FROM bill_days WHERE status = ?) AS checked_at",
    )
    .bind(COMPARED)
    .bind(COMPARED)
    .fetch_one(pool)
    .await
}
