//! SQL of the auditor's own look at `payments` and `refunds`: it reads the rows themselves, as `audit/store.rs` does, since a
//! service that was wrong would be wrong here as well.

use farmgate_shared::money::Fen;
use sqlx::{FromRow, MySqlConnection, QueryBuilder};
use time::OffsetDateTime;

use super::day::BillDay;
use super::model::{BillLine, OurPayment, OurRefund};
use super::store::MOST_NUMBERS;
use crate::db::push_list;
use crate::refunds::Status;

/// When our books paid back the refunds that the kept lines of a day name.
pub async fn refunds_named_paid_back(
    connection: &mut MySqlConnection,
    day: BillDay,
) -> Result<Vec<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT DISTINCT r.refunded_at FROM bill_lines l JOIN refunds r ON r.out_refund_no = l.out_refund_no \
         WHERE l.bill_date = ? AND l.is_refund AND r.refunded_at IS NOT NULL",
    )
    .bind(day.0)
    .fetch_all(connection)
    .await
}

/// When our books paid back the refunds that were asked for before `end`, from `first` on.
pub async fn slow_refunds_paid_back(
    connection: &mut MySqlConnection,
    end: OffsetDateTime,
    first: OffsetDateTime,
) -> Result<Vec<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar("SELECT DISTINCT refunded_at FROM refunds WHERE refunded_at >= ? AND created_at < ?")
        .bind(first)
        .bind(end)
        .fetch_all(connection)
        .await
}

#[derive(FromRow)]
struct PaymentRow {
    out_trade_no: String,
    transaction_id: Option<String>,
    amount_fen: i64,
    paid_at: Option<OffsetDateTime>,
}

impl From<PaymentRow> for OurPayment {
    fn from(row: PaymentRow) -> OurPayment {
        OurPayment {
            out_trade_no: row.out_trade_no,
            transaction_id: row.transaction_id,
            amount: Fen(row.amount_fen),
            paid_at: row.paid_at,
        }
    }
}

/// Whether our books were paid or paid back anything from `first` on and before `end`.
pub async fn has_trades(
    connection: &mut MySqlConnection,
    first: OffsetDateTime,
    end: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let found: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM payments WHERE paid_at >= ? AND paid_at < ?) \
         OR EXISTS (SELECT 1 FROM refunds WHERE refunded_at >= ? AND refunded_at < ?)",
    )
    .bind(first)
    .bind(end)
    .bind(first)
    .bind(end)
    .fetch_one(connection)
    .await?;
    Ok(found != 0)
}

/// Payments that were paid from `first` on and before `end`.
pub async fn payments_of_day(
    connection: &mut MySqlConnection,
    first: OffsetDateTime,
    end: OffsetDateTime,
) -> Result<Vec<OurPayment>, sqlx::Error> {
    let rows: Vec<PaymentRow> = sqlx::query_as(
        "SELECT out_trade_no, transaction_id, amount_fen, paid_at FROM payments \
         WHERE paid_at >= ? AND paid_at < ? ORDER BY paid_at, id",
    )
    .bind(first)
    .bind(end)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(OurPayment::from).collect())
}

/// Payments with one of these numbers of ours, or of WeChat's.
pub async fn payments_named(
    connection: &mut MySqlConnection,
    lines: &[&BillLine],
) -> Result<Vec<OurPayment>, sqlx::Error> {
    let mut found = Vec::new();
    for lines in lines.chunks(MOST_NUMBERS) {
        // Two statements joined: with OR, neither index would be used.
        let mut query = QueryBuilder::new(
            "SELECT out_trade_no, transaction_id, amount_fen, paid_at FROM payments WHERE out_trade_no IN ",
        );
        push_list(&mut query, lines.iter().map(|line| line.out_trade_no.as_str()));
        query.push(
            " UNION SELECT out_trade_no, transaction_id, amount_fen, paid_at FROM payments WHERE transaction_id IN ",
        );
        push_list(&mut query, lines.iter().map(|line| line.transaction_id.as_str()));
        let rows: Vec<PaymentRow> = query.build_query_as().fetch_all(&mut *connection).await?;
        found.extend(rows.into_iter().map(OurPayment::from));
    }
    Ok(found)
}

#[derive(FromRow)]
struct RefundRow {
    out_refund_no: String,
    out_trade_no: String,
    amount_fen: i64,
    status: i8,
    created_at: OffsetDateTime,
    refunded_at: Option<OffsetDateTime>,
}

impl TryFrom<RefundRow> for OurRefund {
    type Error = sqlx::Error;

    fn try_from(row: RefundRow) -> Result<OurRefund, sqlx::Error> {
        let unknown = || sqlx::Error::Decode(format!("no refund has the status {}", row.status).into());
        Ok(OurRefund {
            state: Status::from_number(row.status).ok_or_else(unknown)?,
            out_refund_no: row.out_refund_no,
            out_trade_no: row.out_trade_no,
            amount: Fen(row.amount_fen),
            created_at: row.created_at,
            refunded_at: row.refunded_at,
        })
    }
}

/// Refunds that WeChat paid back from `first` on and before `end`.
pub async fn refunds_of_day(
    connection: &mut MySqlConnection,
    first: OffsetDateTime,
    end: OffsetDateTime,
) -> Result<Vec<OurRefund>, sqlx::Error> {
    let rows: Vec<RefundRow> = sqlx::query_as(
        "SELECT r.out_refund_no, p.out_trade_no, r.amount_fen, r.status, r.created_at, r.refunded_at FROM refunds r \
         JOIN payments p ON p.order_id = r.order_id WHERE r.refunded_at >= ? AND r.refunded_at < ? \
         ORDER BY r.refunded_at, r.id",
    )
    .bind(first)
    .bind(end)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(OurRefund::try_from).collect()
}

/// Refunds with one of these numbers.
pub async fn refunds_named(
    connection: &mut MySqlConnection,
    numbers: &[&str],
) -> Result<Vec<OurRefund>, sqlx::Error> {
    let mut found = Vec::new();
    for numbers in numbers.chunks(MOST_NUMBERS) {
        let mut query = QueryBuilder::new(
            "SELECT r.out_refund_no, p.out_trade_no, r.amount_fen, r.status, r.created_at, r.refunded_at \
             FROM refunds r JOIN payments p ON p.order_id = r.order_id WHERE r.out_refund_no IN ",
        );
        push_list(&mut query, numbers.iter().copied());
        let rows: Vec<RefundRow> = query.build_query_as().fetch_all(&mut *connection).await?;
        for row in rows {
            found.push(row.try_into()?);
        }
    }
    Ok(found)
}
