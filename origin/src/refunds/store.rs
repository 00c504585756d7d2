//! SQL of `refunds`.

use farmgate_shared::ids::{OrderId, OrderNo};
use sqlx::{FromRow, MySqlConnection, MySqlPool};
use time::OffsetDateTime;

use super::model::Status;
use crate::orders;
use crate::text::cut;

/// Longest `last_error`, in characters.
const ERROR_CHARS: usize = 500;

#[derive(Clone, Debug, FromRow)]
pub struct RefundRow {
    pub id: i64,
    pub order_id: i64,
    pub out_refund_no: String,
    pub amount_fen: i64,
    pub cause: String,
    pub reason: String,
    pub status: i8,
    pub request: Option<String>,
    pub sent_at: Option<OffsetDateTime>,
    pub wechat_refund_id: Option<String>,
    pub attempts: i32,
    pub due_at: Option<OffsetDateTime>,
    pub last_error: Option<String>,
    pub created_at: OffsetDateTime,
    pub refunded_at: Option<OffsetDateTime>,
}

/// The columns of [`RefundRow`].
macro_rules! refund_columns {
    () => {
        "r.id, r.order_id, r.out_refund_no, r.amount_fen, r.cause, r.reason, r.status, r.request, r.sent_at, \
         r.wechat_refund_id, r.attempts, r.due_at, r.last_error, r.created_at, r.refunded_at"
    };
}

/// What is to be inserted.
#[derive(Debug)]
pub struct NewRow<'a> {
    pub order: OrderId,
    pub out_refund_no: &'a str,
    pub amount_fen: i64,
    pub cause: &'static str,
    pub reason: &'a str,
    pub order_status: Option<orders::model::Status>,
    pub due_at: OffsetDateTime,
}

/// Promised, and due.
pub async fn insert(connection: &mut MySqlConnection, new: &NewRow<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO refunds (order_id, out_refund_no, amount_fen, cause, reason, order_status, due_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(new.order.0)
    .bind(new.out_refund_no)
    .bind(new.amount_fen)
    .bind(new.cause)
    .bind(new.reason)
    .bind(new.order_status.map(orders::model::Status::number))
    .bind(new.due_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// The refund of a number.
pub async fn find<'c>(
    executor: impl sqlx::MySqlExecutor<'c>,
    out_refund_no: &str,
) -> Result<Option<RefundRow>, sqlx::Error> {
    sqlx::query_as(concat!("SELECT ", refund_columns!(), " FROM refunds r WHERE r.out_refund_no = ?"))
        .bind(out_refund_no)
        .fetch_optional(executor)
        .await
}

/// All refunds of an order, the oldest first.
pub async fn of_order<'c>(
    executor: impl sqlx::MySqlExecutor<'c>,
    order: OrderId,
) -> Result<Vec<RefundRow>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        refund_columns!(),
        " FROM refunds r WHERE r.order_id = ? ORDER BY r.id"
    ))
    .bind(order.0)
    .fetch_all(executor)
    .await
}

/// What the order was before the refund that last made it whole; `None` when none did.
pub async fn order_status_before(
    connection: &mut MySqlConnection,
    order: OrderId,
) -> Result<Option<i8>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT order_status FROM refunds WHERE order_id = ? AND order_status IS NOT NULL ORDER BY id DESC LIMIT 1",
    )
    .bind(order.0)
    .fetch_optional(connection)
    .await
}

/// Numbers of refunds that WeChat is to be asked for or about, the longest waiting first.
pub async fn due(pool: &MySqlPool, now: OffsetDateTime, most: u32) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT out_refund_no FROM refunds WHERE due_at <= ? ORDER BY due_at, id LIMIT ?")
        .bind(now)
        .bind(most)
        .fetch_all(pool)
        .await
}

/// Claims a refund until `until`: it is this worker's to ask WeChat for. Its request is set once and never again.
pub async fn claim(
    connection: &mut MySqlConnection,
    id: i64,
    request: &str,
    sent_at: Option<OffsetDateTime>,
    until: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE refunds SET request = COALESCE(request, ?), sent_at = ?, attempts = attempts + 1, due_at = ? WHERE id = ?",
    )
    .bind(request)
    .bind(sent_at)
    .bind(until)
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Asks for it then. False when it is decided, and nothing is asked any more.
pub async fn postpone(
    connection: &mut MySqlConnection,
    id: i64,
    due_at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE refunds SET due_at = ? WHERE id = ? AND due_at IS NOT NULL")
        .bind(due_at)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// An attempt brought no decision. Nothing is written when the refund has moved on since: `attempts` and `status` are those
/// of the attempt.
pub async fn note_attempt(
    pool: &MySqlPool,
    (id, attempts, status): (i64, i32, Status),
    error: Option<&str>,
    due_at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE refunds SET last_error = ?, due_at = ? WHERE id = ? AND attempts = ? AND status = ?")
        .bind(error.map(|error| cut(error, ERROR_CHARS)))
        .bind(due_at)
        .bind(id)
        .bind(attempts)
        .bind(status.number())
        .execute(pool)
        .await?;
    Ok(())
}

/// Nothing can be done about it now.
pub async fn put_off(
    pool: &MySqlPool,
    out_refund_no: &str,
    error: &str,
    due_at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE refunds SET last_error = ?, due_at = ? WHERE out_refund_no = ? AND due_at IS NOT NULL",
    )
    .bind(cut(error, ERROR_CHARS))
    .bind(due_at)
    .bind(out_refund_no)
    .execute(pool)
    .await?;
    Ok(())
}

/// What a change of status writes beside it.
#[derive(Debug, Default)]
pub struct Change<'a> {
    /// Stays as it is when `None`.
    pub wechat_refund_id: Option<&'a str>,
    pub refunded_at: Option<OffsetDateTime>,
    pub due_at: Option<OffsetDateTime>,
    pub error: Option<&'a str>,
}

/// Leaves `from` once. False when the refund is not in that state.
pub async fn change_status(
    connection: &mut MySqlConnection,
    id: i64,
    (from, to): (Status, Status),
    change: &Change<'_>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE refunds SET status = ?, wechat_refund_id = COALESCE(?, wechat_refund_id), refunded_at = ?, \
         due_at = ?, last_error = ?, attempts = 0 WHERE id = ? AND status = ?",
    )
    .bind(to.number())
    .bind(change.wechat_refund_id)
    .bind(change.refunded_at)
    .bind(change.due_at)
    .bind(change.error.map(|error| cut(error, ERROR_CHARS)))
    .bind(id)
    .bind(from.number())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// WeChat has a stuck refund after all, which it was not known to have: by which number, and when to ask about it. False when
/// it is not stuck any more.
pub async fn learn_of_wechat(
    connection: &mut MySqlConnection,
    id: i64,
    change: &Change<'_>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE refunds SET wechat_refund_id = ?, due_at = ?, last_error = COALESCE(?, last_error) \
         WHERE id = ? AND status = ? AND wechat_refund_id IS NULL",
    )
    .bind(change.wechat_refund_id)
    .bind(change.due_at)
    .bind(change.error.map(|error| cut(error, ERROR_CHARS)))
    .bind(id)
    .bind(Status::Stuck.number())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A refund with its order's number, for an operator.
#[derive(Debug, FromRow)]
pub struct ListedRow {
    #[sqlx(flatten)]
    pub refund: RefundRow,
    pub out_trade_no: String,
}

/// Refunds that nobody has ended, the oldest first; or all, the newest first.
pub async fn list(pool: &MySqlPool, is_all: bool, most: u32) -> Result<Vec<ListedRow>, sqlx::Error> {
    let open = concat!(
        "SELECT ",
        refund_columns!(),
        ", p.out_trade_no FROM refunds r JOIN payments p ON p.order_id = r.order_id \
         WHERE r.status IN (0, 1, 4) ORDER BY r.id LIMIT ?"
    );
    let all = concat!(
        "SELECT ",
        refund_columns!(),
        ", p.out_trade_no FROM refunds r JOIN payments p ON p.order_id = r.order_id ORDER BY r.id DESC LIMIT ?"
    );
    sqlx::query_as(if is_all { all } else { open }).bind(most).fetch_all(pool).await
}

/// The refunds of an order's number, the oldest first.
pub async fn of_number(pool: &MySqlPool, order_no: &OrderNo) -> Result<Vec<ListedRow>, sqlx::Error> {
    sqlx::query_as(concat!(
        "SELECT ",
        refund_columns!(),
        ", p.out_trade_no FROM refunds r JOIN payments p ON p.order_id = r.order_id \
         WHERE p.out_trade_no = ? ORDER BY r.id"
    ))
    .bind(order_no.as_str())
    .fetch_all(pool)
    .await
}
