//! Orders that exist: reading them, and what every step from one state to the next is made of. [`super::placing`] makes
//! them, [`super::closing`] cancels them, [`super::receiving`] and [`super::refunding`] end them.

use std::collections::HashMap;
use std::sync::Arc;

use farmgate_shared::api::Page;
use farmgate_shared::api::addresses::Address;
use farmgate_shared::api::orders::{Order, OrderItem, OrderQuery};
use farmgate_shared::ids::{OrderId, OrderNo, ProductId, SkuId, UserId};
use farmgate_shared::money::Fen;
use farmgate_shared::problem::Problem;
use sqlx::{MySqlConnection, MySqlPool};
use time::OffsetDateTime;

use super::model::Status;
use super::store::{self, ItemRow, OrderRow};
use crate::app::App;
use crate::catalog::service::absolute;
use crate::clock::shanghai_rfc3339;
use crate::coupons::service::CouponError;
use crate::db::Retryable;
use crate::db::reseal::{self, Resealed, SealedRow};
use crate::db::seal::{Place, Seal, SealError};
use crate::error::ApiError;
use crate::idempotency::IdempotencyError;
use crate::outbox;
use crate::outbox::model::{CallFailure, EventKind, NewEvent};
use crate::stock::service::StockError;
use crate::stock::{self, Line};

/// Why an order was not made, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("no such order of this user")]
    NotFound,
    #[error(transparent)]
    Stock(#[from] StockError),
    #[error(transparent)]
    Coupon(#[from] CouponError),
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the order's hold was given back while it was being made")]
    Buried,
    #[error("another order has the same number")]
    NumberTaken,
    #[error("the request's time was up before the order was begun")]
    TooLate,
    #[error("the order in the database has the state {0}")]
    UnknownStatus(i8),
    /// The failure of a transaction that this order shared with others.
    #[error("the orders' transaction failed")]
    Shared(#[source] Arc<sqlx::Error>),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Retryable for OrderError {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            OrderError::Database(error)
            | OrderError::Stock(StockError::Database(error))
            | OrderError::Idempotency(IdempotencyError::Database(error)) => Some(error),
            OrderError::Coupon(error) => error.database(),
            OrderError::Shared(error) => Some(error),
            _ => None,
        }
    }
}

/// For calls of the outbox that read an order: only a database may be another time what it was now.
impl From<OrderError> for CallFailure {
    fn from(error: OrderError) -> CallFailure {
        match error {
            OrderError::Database(error) => CallFailure::Database(error),
            error => CallFailure::Permanent(error.to_string()),
        }
    }
}

impl From<OrderError> for ApiError {
    fn from(error: OrderError) -> ApiError {
        match error {
            OrderError::NotFound => Problem::OrderNotFound.into(),
            OrderError::Stock(StockError::NotEnough(_)) => Problem::OutOfStock.into(),
            OrderError::Coupon(error) => error.into(),
            OrderError::Idempotency(error) => error.into(),
            OrderError::Shared(error) => error.into(),
            OrderError::Buried | OrderError::NumberTaken | OrderError::TooLate => {
                ApiError::caused(Problem::Unavailable, error)
            }
            OrderError::Database(error) | OrderError::Stock(StockError::Database(error)) => error.into(),
            other => ApiError::caused(Problem::Internal, other),
        }
    }
}

/// The shopper's orders, the newest first.
///
/// # Errors
/// When MySQL is away.
pub async fn list(app: &App, user: UserId, query: OrderQuery) -> Result<Page<Order>, OrderError> {
    let pool = app.db.pool();
    let total = store::count(pool, user, query.status).await?;
    let list = with_items(app, store::list(pool, user, query).await?).await?;
    let total = u64::try_from(total).unwrap_or(0);
    Ok(Page { list, total, page: query.paging.page, size: query.paging.size })
}

/// One order of the shopper's.
///
/// # Errors
/// [`OrderError::NotFound`], also for another user's.
pub async fn get(app: &App, user: UserId, id: OrderId) -> Result<Order, OrderError> {
    let pool = app.db.pool();
    let row = store::find(pool, user, id).await?.ok_or(OrderError::NotFound)?;
    let items = store::items(pool, [id]).await?;
    show(app, row, items)
}

/// Orders with their lines, as they are shown.
pub(super) async fn with_items(app: &App, rows: Vec<OrderRow>) -> Result<Vec<Order>, OrderError> {
    let mut items_of: HashMap<i64, Vec<ItemRow>> = HashMap::new();
    if !rows.is_empty() {
        for item in store::items(app.db.pool(), rows.iter().map(|row| OrderId(row.id))).await? {
            items_of.entry(item.order_id).or_default().push(item);
        }
    }
    rows.into_iter()
        .map(|row| {
            let items = items_of.remove(&row.id).unwrap_or_default();
            show(app, row, items)
        })
        .collect()
}

fn show(app: &App, row: OrderRow, items: Vec<ItemRow>) -> Result<Order, OrderError> {
    let status = Status::from_number(row.status).ok_or(OrderError::UnknownStatus(row.status))?;
    let delivery_address: Address =
        app.seal.open(address_place(&row.order_no), &row.delivery_address.0.sealed)?;
    let items = items
        .into_iter()
        .map(|item| OrderItem {
            sku_id: SkuId(item.sku_id),
            product_id: ProductId(item.product_id),
            name: item.name,
            image: absolute(&item.image, &app.config.http.public_url),
            specifications: item.specifications,
            price: Fen(item.price_fen),
            quantity: u32::try_from(item.quantity).unwrap_or(0),
            amount: Fen(item.amount_fen),
        })
        .collect();
    Ok(Order {
        id: OrderId(row.id),
        order_no: stored_order_no(&row.order_no)?,
        status: status.number(),
        status_text: status.text().to_owned(),
        items,
        total_amount: Fen(row.total_fen),
        discount_amount: Fen(row.discount_fen),
        delivery_fee: Fen(row.delivery_fee_fen),
        actual_amount: Fen(row.actual_fen),
        delivery_address,
        remark: row.remark,
        created_at: shanghai_rfc3339(row.created_at),
        pay_deadline: shanghai_rfc3339(row.pay_deadline),
        payment_time: row.payment_time.map(shanghai_rfc3339),
        shipped_at: row.shipped_at.map(shanghai_rfc3339),
        completed_at: row.completed_at.map(shanghai_rfc3339),
    })
}

pub(super) fn stored_order_no(text: &str) -> Result<OrderNo, OrderError> {
    text.parse().map_err(|error| OrderError::Database(sqlx::Error::Decode(Box::new(error))))
}

/// Where an order's sealed address stands.
pub(super) fn address_place(order_no: &str) -> Place<'_> {
    Place { table: TABLE, row: order_no, column: ADDRESS }
}

const TABLE: &str = "orders";
const ADDRESS: &str = "delivery_address";

/// Seals the delivery addresses anew that another key than the first has sealed.
///
/// # Errors
/// When MySQL is away; what was done until then stays.
pub async fn reseal(pool: &MySqlPool, seal: &Seal) -> Result<Resealed, sqlx::Error> {
    let rows = async |after, most| store::sealed_addresses(pool, after, most).await;
    let replace = async |old: &SealedRow, renewed: &str| store::reseal_address(pool, old, renewed).await;
    reseal::run(seal, (TABLE, ADDRESS), rows, replace).await
}

/// What a payment needs to know of an order.
#[derive(Debug)]
pub struct Payable {
    pub order_id: OrderId,
    pub order_no: OrderNo,
    pub amount: Fen,
    pub deadline: OffsetDateTime,
}

/// The shopper's order, if it can be paid now.
///
/// # Errors
/// [`Problem::OrderNotFound`], [`Problem::OrderStateConflict`] or [`Problem::OrderExpired`].
pub async fn payable(app: &App, user: UserId, id: OrderId) -> Result<Payable, ApiError> {
    let row = store::find(app.db.pool(), user, id).await?.ok_or(Problem::OrderNotFound)?;
    if Status::from_number(row.status) != Some(Status::AwaitingPayment) {
        return Err(Problem::OrderStateConflict.into());
    }
    if row.pay_deadline <= app.clock.now() {
        return Err(Problem::OrderExpired.into());
    }
    Ok(Payable {
        order_id: id,
        order_no: stored_order_no(&row.order_no)?,
        amount: Fen(row.actual_fen),
        deadline: row.pay_deadline,
    })
}

/// In the transaction that records a payment: the order becomes paid and its stock sold. False when it no longer
/// awaits payment.
///
/// # Errors
/// When the books are wrong or MySQL is away.
pub async fn mark_paid(
    connection: &mut MySqlConnection,
    order: OrderId,
    paid_at: OffsetDateTime,
) -> Result<bool, OrderError> {
    if !leave(connection, order, Status::AwaitingPayment, Status::Paid).await? {
        return Ok(false);
    }
    store::set_payment(connection, order, paid_at).await?;
    outbox::service::record(connection, &[NewEvent { kind: EventKind::OrderPaid, order }]).await?;
    move_stock(connection, order, Status::AwaitingPayment, Status::Paid).await?;
    Ok(true)
}

/// In the transaction of a change of state: moves the stock of the order's goods as [`Status::shift`] says. Says which goods
/// moved.
///
/// # Errors
/// When the books are wrong or MySQL is away.
pub(super) async fn move_stock(
    connection: &mut MySqlConnection,
    order: OrderId,
    before: Status,
    after: Status,
) -> Result<Vec<Line>, OrderError> {
    let Some(shift) = before.shift(after) else { return Ok(Vec::new()) };
    let lines = lines(connection, order).await?;
    stock::service::shift(connection, order, &lines, shift).await?;
    Ok(lines)
}

/// What some orders bought: order, product and units, summed over the product's SKUs.
///
/// # Errors
/// When MySQL is away.
pub async fn bought(
    connection: &mut MySqlConnection,
    orders: &[OrderId],
) -> Result<Vec<(OrderId, ProductId, i64)>, sqlx::Error> {
    let rows = store::bought(connection, orders).await?;
    Ok(rows.into_iter().map(|(order, product, units)| (OrderId(order), ProductId(product), units)).collect())
}

/// The one way out of a state; the table of [`model`] has the say.
pub(super) async fn leave(
    connection: &mut MySqlConnection,
    order: OrderId,
    from: Status,
    to: Status,
) -> Result<bool, sqlx::Error> {
    debug_assert!(from.may_become(to), "{from:?} may not become {to:?}");
    Ok(from.may_become(to) && store::change_status(connection, order, from, to).await?)
}

async fn lines(connection: &mut MySqlConnection, order: OrderId) -> Result<Vec<Line>, sqlx::Error> {
    let rows = store::lines(connection, order).await?;
    Ok(rows.into_iter().map(|(sku, quantity)| Line { sku_id: SkuId(sku), quantity }).collect())
}
