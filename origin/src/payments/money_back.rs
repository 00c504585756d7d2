//! What of a payment may still go back. Promises whoever refunds that all parts together never exceed what was paid, however
//! many ask at once: the payment's row is locked first, and the promise is a guarded update of it.

use farmgate_shared::ids::{OrderId, OrderNo};
use farmgate_shared::money::Fen;
use sqlx::{MySqlConnection, MySqlPool};
use time::OffsetDateTime;

use super::store;

/// Money that WeChat took for an order.
#[derive(Clone, Debug)]
pub struct Received {
    pub order_no: OrderNo,
    pub transaction_id: String,
    pub amount: Fen,
    /// Promised or paid back.
    pub refunded: Fen,
    pub paid_at: OffsetDateTime,
}

/// The payment of an order, locked until the transaction ends; `None` where nothing was paid. Whatever changes an order's
/// refunds locks this first, so that two never wait for each other in a circle.
///
/// # Errors
/// When MySQL is away.
pub async fn lock_received(
    connection: &mut MySqlConnection,
    order: OrderId,
) -> Result<Option<Received>, sqlx::Error> {
    store::lock_received(connection, order).await?.map(read).transpose()
}

/// The same without a lock, to compare something with.
///
/// # Errors
/// When MySQL is away.
pub async fn received(pool: &MySqlPool, order: OrderId) -> Result<Option<Received>, sqlx::Error> {
    store::received(pool, order).await?.map(read).transpose()
}

fn read(row: store::ReceivedRow) -> Result<Received, sqlx::Error> {
    let order_no = row.out_trade_no.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Received {
        order_no,
        transaction_id: row.transaction_id,
        amount: Fen(row.amount_fen),
        refunded: Fen(row.refunded_fen),
        paid_at: row.paid_at,
    })
}

/// Promises so much of a payment back. False when it would be more than was paid.
///
/// # Errors
/// When MySQL is away.
pub async fn promise_back(
    connection: &mut MySqlConnection,
    order: OrderId,
    amount: Fen,
) -> Result<bool, sqlx::Error> {
    store::raise_refunded(connection, order, amount).await
}

/// Takes a promise back that WeChat did not keep. False when so much was never promised.
///
/// # Errors
/// When MySQL is away.
pub async fn keep_after_all(
    connection: &mut MySqlConnection,
    order: OrderId,
    amount: Fen,
) -> Result<bool, sqlx::Error> {
    store::lower_refunded(connection, order, amount).await
}

/// The order behind a number, where a payment of it was ever prepared.
///
/// # Errors
/// When MySQL is away.
pub async fn order_with_payment(
    pool: &MySqlPool,
    order_no: &OrderNo,
) -> Result<Option<OrderId>, sqlx::Error> {
    Ok(store::find(pool, order_no).await?.map(|payment| OrderId(payment.order_id)))
}
