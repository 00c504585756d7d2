//! SQL of `payments`.

use farmgate_shared::ids::{OrderId, OrderNo};
use farmgate_shared::money::Fen;
use sqlx::{FromRow, MySqlConnection, MySqlPool};
use time::OffsetDateTime;

/// `payments.status`.
pub const AWAITING: i8 = 0;
pub const PAID: i8 = 1;

#[derive(Debug, FromRow)]
pub struct PaymentRow {
    pub order_id: i64,
    pub amount_fen: i64,
    pub status: i8,
    pub prepay_request: String,
    pub prepay_id: Option<String>,
    pub prepaid_at: Option<OffsetDateTime>,
    pub transaction_id: Option<String>,
}

pub async fn find(pool: &MySqlPool, order_no: &OrderNo) -> Result<Option<PaymentRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT order_id, amount_fen, status, prepay_request, prepay_id, prepaid_at, transaction_id \
         FROM payments WHERE out_trade_no = ?",
    )
    .bind(order_no.as_str())
    .fetch_optional(pool)
    .await
}

/// The first request stays: a second caller's is not stored.
pub async fn insert_if_new(
    pool: &MySqlPool,
    order: OrderId,
    order_no: &OrderNo,
    amount: Fen,
    prepay_request: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO payments (order_id, out_trade_no, amount_fen, prepay_request) VALUES (?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE id = id",
    )
    .bind(order.0)
    .bind(order_no.as_str())
    .bind(amount.0)
    .bind(prepay_request)
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn set_prepay_id(
    pool: &MySqlPool,
    order_no: &OrderNo,
    prepay_id: &str,
    prepaid_at: OffsetDateTime,
    ask_at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE payments SET prepay_id = ?, prepaid_at = ?, ask_at = IF(status = ?, ?, NULL) \
         WHERE out_trade_no = ?",
    )
    .bind(prepay_id)
    .bind(prepaid_at)
    .bind(AWAITING)
    .bind(ask_at)
    .bind(order_no.as_str())
    .execute(pool)
    .await?;
    Ok(())
}

/// False when it was not awaiting: paid before.
pub async fn mark_paid(
    connection: &mut MySqlConnection,
    order: OrderId,
    transaction_id: &str,
    paid_at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE payments SET status = ?, transaction_id = ?, paid_at = ?, ask_at = NULL \
         WHERE order_id = ? AND status = ?",
    )
    .bind(PAID)
    .bind(transaction_id)
    .bind(paid_at)
    .bind(order.0)
    .bind(AWAITING)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A payment that WeChat is to be asked about.
#[derive(Debug, FromRow)]
pub struct ToAsk {
    pub out_trade_no: String,
    pub prepay_request: String,
    pub ask_at: OffsetDateTime,
    pub asked: i32,
}

/// Those that are due, the longest waiting first.
pub async fn to_ask(pool: &MySqlPool, now: OffsetDateTime, most: u32) -> Result<Vec<ToAsk>, sqlx::Error> {
    sqlx::query_as(
        "SELECT out_trade_no, prepay_request, ask_at, asked FROM payments WHERE ask_at <= ? \
         ORDER BY ask_at LIMIT ?",
    )
    .bind(now)
    .bind(most)
    .fetch_all(pool)
    .await
}

/// Written before the question, so that of several workers one asks, and one that dies is not asked for at once again. False
/// when it is no longer due.
pub async fn set_next_question(
    pool: &MySqlPool,
    due: &ToAsk,
    next: Option<OffsetDateTime>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE payments SET ask_at = ?, asked = asked + 1 WHERE out_trade_no = ? AND ask_at = ?",
    )
    .bind(next)
    .bind(&due.out_trade_no)
    .bind(due.ask_at)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn ask_no_more(pool: &MySqlPool, out_trade_no: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE payments SET ask_at = NULL WHERE out_trade_no = ?")
        .bind(out_trade_no)
        .execute(pool)
        .await?;
    Ok(())
}

/// What a refund needs to know of a payment that was made.
#[derive(Debug, FromRow)]
pub struct ReceivedRow {
    pub out_trade_no: String,
    pub transaction_id: String,
    pub amount_fen: i64,
    pub refunded_fen: i64,
    pub paid_at: OffsetDateTime,
}

macro_rules! received {
    () => {
        "SELECT out_trade_no, transaction_id, amount_fen, refunded_fen, paid_at FROM payments \
         WHERE order_id = ? AND status = ?"
    };
}

/// The payment of an order, if it was made.
pub async fn received(pool: &MySqlPool, order: OrderId) -> Result<Option<ReceivedRow>, sqlx::Error> {
    sqlx::query_as(received!()).bind(order.0).bind(PAID).fetch_optional(pool).await
}

/// The same, locked for this transaction.
pub async fn lock_received(
    connection: &mut MySqlConnection,
    order: OrderId,
) -> Result<Option<ReceivedRow>, sqlx::Error> {
    sqlx::query_as(concat!(received!(), " FOR UPDATE"))
        .bind(order.0)
        .bind(PAID)
        .fetch_optional(connection)
        .await
}

/// False when it would be more than was paid.
pub async fn raise_refunded(
    connection: &mut MySqlConnection,
    order: OrderId,
    amount: Fen,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE payments SET refunded_fen = refunded_fen + ? \
         WHERE order_id = ? AND status = ? AND refunded_fen + ? <= amount_fen",
    )
    .bind(amount.0)
    .bind(order.0)
    .bind(PAID)
    .bind(amount.0)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// False when less was promised back.
pub async fn lower_refunded(
    connection: &mut MySqlConnection,
    order: OrderId,
    amount: Fen,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE payments SET refunded_fen = refunded_fen - ? WHERE order_id = ? AND refunded_fen >= ?",
    )
    .bind(amount.0)
    .bind(order.0)
    .bind(amount.0)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}
