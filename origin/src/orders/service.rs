//! Use cases of orders.

use std::collections::HashMap;
use std::sync::Arc;

use farmgate_shared::api::Page;
use farmgate_shared::api::addresses::Address;
use farmgate_shared::api::orders::{CreateOrder, CreatedOrder, Order, OrderItem, OrderQuery};
use farmgate_shared::ids::{OrderId, OrderNo, ProductId, SkuId, UserId};
use farmgate_shared::money::Fen;
use farmgate_shared::problem::{FieldProblem, Problem};
use ring::rand::{SecureRandom, SystemRandom};
use sqlx::MySqlConnection;
use time::{Duration, OffsetDateTime};
use tracing::Instrument;

use super::model::{self, Status, Sums};
use super::store::{self, ItemRow, NewOrder, OrderRow};
use crate::app::App;
use crate::catalog::service::{Offer, absolute};
use crate::clock::shanghai_rfc3339;
use crate::db::seal::{Place, SealError};
use crate::db::{Retryable, TransactionError};
use crate::error::ApiError;
use crate::idempotency::{IdempotencyError, Keyed, Start};
use crate::payments::service::Closing;
use crate::stock::gate::Taken;
use crate::stock::service::StockError;
use crate::stock::{self, Line};
use crate::{addresses, catalog, freight, payments};

/// Why an order was not made, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error("no such order of this user")]
    NotFound,
    #[error(transparent)]
    Stock(#[from] StockError),
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the order's hold was given back while it was being made")]
    Buried,
    #[error("the order in the database has the state {0}")]
    UnknownStatus(i8),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Retryable for OrderError {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            OrderError::Database(error)
            | OrderError::Stock(StockError::Database(error))
            | OrderError::Idempotency(IdempotencyError::Database(error)) => Some(error),
            _ => None,
        }
    }
}

impl From<OrderError> for ApiError {
    fn from(error: OrderError) -> ApiError {
        match error {
            OrderError::NotFound => Problem::OrderNotFound.into(),
            OrderError::Stock(StockError::NotEnough(_)) => Problem::OutOfStock.into(),
            OrderError::Idempotency(IdempotencyError::Reused) => Problem::IdempotencyKeyReused.into(),
            OrderError::Buried => ApiError::caused(Problem::Unavailable, error),
            OrderError::Database(error)
            | OrderError::Stock(StockError::Database(error))
            | OrderError::Idempotency(IdempotencyError::Database(error)) => error.into(),
            other => ApiError::caused(Problem::Internal, other),
        }
    }
}

/// What of an order is decided before its transaction: all that the client does not decide.
#[derive(Debug)]
struct Draft {
    keyed: Keyed,
    order_no: OrderNo,
    offers: Vec<Offer>,
    lines: Vec<Line>,
    sums: Sums,
    address_sealed: String,
    remark: String,
    now: OffsetDateTime,
    pay_deadline: OffsetDateTime,
}

/// Makes an order: price, address and freight from the database, then the gate, then one transaction. The reply is
/// given only after its COMMIT. A repetition gets the first reply.
///
/// It runs in a task of its own: a client that hangs up, or a request that times out, must not leave a hold in the
/// gate that nobody settles.
///
/// # Errors
/// As docs/API.md lists for `POST /api/orders`.
pub async fn place(
    app: &Arc<App>,
    user: UserId,
    key: Option<String>,
    body: CreateOrder,
) -> Result<CreatedOrder, ApiError> {
    let app = app.clone();
    let task =
        tokio::spawn(async move { place_uninterrupted(&app, user, key, body).await }.in_current_span());
    // The task is never aborted, so a failure to join is a panic: the outermost layer answers for it.
    task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

async fn place_uninterrupted(
    app: &App,
    user: UserId,
    key: Option<String>,
    body: CreateOrder,
) -> Result<CreatedOrder, ApiError> {
    let keyed = Keyed::new(user, key, "POST /api/orders", &body).map_err(OrderError::from)?;
    // One shopper's orders go one after the other here, so that the second of two equal taps finds the first one's
    // reply instead of a gate that the first one has just emptied.
    let _turn = app.order_turns.take(user).await;
    let now = app.clock.now();
    if let Some(reply) = keyed.earlier_reply(app.db.pool(), now).await.map_err(OrderError::from)? {
        return Ok(reply);
    }
    let draft = Arc::new(draft(app, keyed, body, now).await?);
    if let Taken::SoldOut(_) = app.gate.take(&draft.order_no, &draft.lines, milliseconds(now)).await {
        // It may be this very order's twin, at another replica, that took the last ones.
        let twin = draft.keyed.earlier_reply(app.db.pool(), now).await.map_err(OrderError::from)?;
        return twin.ok_or_else(|| Problem::OutOfStock.into());
    }
    let work = draft.clone();
    let written = app
        .db
        .transaction("place_order", move |connection| {
            let draft = work.clone();
            Box::pin(async move { write(connection, &draft).await })
        })
        .await;
    match written {
        Ok(reply) if reply.order_no == draft.order_no => {
            app.gate.settle(&draft.order_no).await;
            Ok(reply)
        }
        // Another process made this order with the same key: ours was not made.
        Ok(reply) => {
            app.gate.release(&draft.order_no).await;
            Ok(reply)
        }
        Err(TransactionError::Failed(error)) => {
            app.gate.release(&draft.order_no).await;
            if let OrderError::Stock(StockError::NotEnough(sku)) = &error {
                stock::service::lower_gate(app, *sku).await;
            }
            Err(error.into())
        }
        Err(TransactionError::CommitUnknown(error)) => settle_unknown(app, &draft, error).await,
    }
}

/// Milliseconds since 1970.
fn milliseconds(moment: OffsetDateTime) -> i128 {
    moment.unix_timestamp_nanos() / 1_000_000
}

/// The connection broke during COMMIT. The hold is never given back blindly: the order's number tells.
async fn settle_unknown(app: &App, draft: &Draft, cause: sqlx::Error) -> Result<CreatedOrder, ApiError> {
    match store::find_id(app.db.pool(), &draft.order_no).await {
        Ok(Some(order_id)) => {
            app.gate.settle(&draft.order_no).await;
            Ok(created(order_id, draft))
        }
        // Not found may still mean "not yet": the server may be finishing the COMMIT whose reply was lost. The hold
        // stays; a repetition with the same key finds the truth.
        Ok(None) | Err(_) => Err(ApiError::caused(Problem::Unavailable, cause)),
    }
}

async fn draft(app: &App, keyed: Keyed, body: CreateOrder, now: OffsetDateTime) -> Result<Draft, ApiError> {
    let wanted = body.wanted().map_err(ApiError::fields)?;
    if body.coupon_id.is_some() {
        // No shopper has been given a coupon yet, so whichever is named is not theirs.
        return Err(Problem::CouponNotFound.into());
    }
    let address = addresses::service::get(app, keyed.user(), body.address_id).await?;
    let offers = catalog::service::offers(app, &wanted).await?;
    let sums = Sums::of(&offers, Fen::ZERO, |goods| freight::fee(app.config.freight, goods))
        .ok_or_else(|| ApiError::fields(vec![FieldProblem::new("quantity", "订单金额超出范围")]))?;
    let lines =
        offers.iter().map(|offer| Line { sku_id: offer.sku_id, quantity: offer.quantity.get() }).collect();
    let order_no = model::order_no(now, random_number()?);
    let address_sealed =
        app.seal.seal(address_place(order_no.as_str()), &address).map_err(OrderError::from)?;
    Ok(Draft {
        keyed,
        order_no,
        offers,
        lines,
        sums,
        address_sealed,
        remark: body.remark.unwrap_or_default().trim().to_owned(),
        now,
        pay_deadline: now + Duration::seconds(i64::from(app.config.orders.pay_window_seconds)),
    })
}

fn random_number() -> Result<u32, ApiError> {
    let mut bytes = [0; 4];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ApiError::caused(Problem::Internal, anyhow::anyhow!("the system gave no randomness")))?;
    Ok(u32::from_le_bytes(bytes))
}

async fn write(connection: &mut MySqlConnection, draft: &Draft) -> Result<CreatedOrder, OrderError> {
    if let Start::Done(reply) = draft.keyed.start(connection, draft.now).await? {
        return Ok(reply);
    }
    let order = NewOrder {
        order_no: &draft.order_no,
        user: draft.keyed.user(),
        sums: draft.sums,
        address_sealed: &draft.address_sealed,
        remark: &draft.remark,
        created_at: draft.now,
        pay_deadline: draft.pay_deadline,
    };
    let id = store::insert(connection, &order).await?;
    store::insert_items(connection, id, &draft.offers).await?;
    let reply = created(id, draft);
    draft.keyed.finish(connection, &reply).await?;
    // After the order's row: whichever of this and the sweeper comes second waits for the other, or one is turned
    // away by the deadlock check and tries anew.
    if store::is_buried(connection, &draft.order_no).await? {
        return Err(OrderError::Buried);
    }
    stock::service::hold(connection, id, &draft.lines).await?;
    Ok(reply)
}

fn created(order_id: OrderId, draft: &Draft) -> CreatedOrder {
    CreatedOrder {
        order_id,
        order_no: draft.order_no.clone(),
        total_amount: draft.sums.total,
        actual_amount: draft.sums.actual,
        delivery_fee: draft.sums.delivery,
        pay_deadline: shanghai_rfc3339(draft.pay_deadline),
    }
}

/// The shopper's orders, the newest first.
///
/// # Errors
/// When MySQL is away.
pub async fn list(app: &App, user: UserId, query: OrderQuery) -> Result<Page<Order>, OrderError> {
    let pool = app.db.pool();
    let total = store::count(pool, user, query.status).await?;
    let rows = store::list(pool, user, query).await?;
    let mut items_of: HashMap<i64, Vec<ItemRow>> = HashMap::new();
    if !rows.is_empty() {
        for item in store::items(pool, rows.iter().map(|row| OrderId(row.id))).await? {
            items_of.entry(item.order_id).or_default().push(item);
        }
    }
    let list = rows
        .into_iter()
        .map(|row| {
            let items = items_of.remove(&row.id).unwrap_or_default();
            show(app, row, items)
        })
        .collect::<Result<_, _>>()?;
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
    })
}

fn stored_order_no(text: &str) -> Result<OrderNo, OrderError> {
    text.parse().map_err(|error| OrderError::Database(sqlx::Error::Decode(Box::new(error))))
}

fn address_place(order_no: &str) -> Place<'_> {
    Place { table: "orders", row: order_no, column: "delivery_address" }
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
    let lines = lines(connection, order).await?;
    stock::service::sell(connection, order, &lines).await?;
    Ok(true)
}

/// Closes an order that was not paid: at WeChat first, and only then here, so that no payment can still arrive for
/// goods that somebody else may buy.
///
/// # Errors
/// When WeChat or MySQL does not answer: the order stays as it is, to be tried again.
pub async fn close_unpaid(app: &Arc<App>, order: OrderId, order_no: &OrderNo) -> anyhow::Result<Closing> {
    let closing = payments::service::close_at_wechat(app, order_no).await?;
    if closing == Closing::Closed {
        // False where another worker or a notification was quicker; either way it no longer awaits payment.
        cancel_unpaid(app, order).await?;
    }
    Ok(closing)
}

/// Cancels an order for its shopper, who may change their mind until it is paid. A second click finds it cancelled.
///
/// # Errors
/// [`Problem::OrderNotFound`], [`Problem::OrderStateConflict`] once it was paid, or
/// [`Problem::WechatUnavailable`] while WeChat cannot be told.
pub async fn cancel(app: &Arc<App>, user: UserId, id: OrderId) -> Result<Order, ApiError> {
    let order = get(app, user, id).await?;
    if order.status == Status::AwaitingPayment.number() {
        close_unpaid(app, id, &order.order_no)
            .await
            .map_err(|error| ApiError::caused(Problem::WechatUnavailable, error))?;
    }
    let order = get(app, user, id).await?;
    if order.status == Status::Cancelled.number() {
        Ok(order)
    } else {
        Err(Problem::OrderStateConflict.into())
    }
}

/// Gives the stock of an order that can no longer be paid back. False when it no longer awaits payment.
async fn cancel_unpaid(app: &App, order: OrderId) -> Result<bool, OrderError> {
    let released = app
        .db
        .transaction("cancel_unpaid", move |connection| {
            Box::pin(async move {
                if !leave(connection, order, Status::AwaitingPayment, Status::Cancelled).await? {
                    return Ok(None);
                }
                let lines = lines(connection, order).await?;
                stock::service::release(connection, order, &lines).await?;
                Ok(Some(lines))
            })
        })
        .await
        .map_err(TransactionError::<OrderError>::flatten)?;
    let Some(lines) = released else { return Ok(false) };
    app.gate.give_back(&lines).await;
    Ok(true)
}

/// The one way out of a state; the table of [`model`] has the say.
async fn leave(
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

/// What became of a hold in the gate that stood too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Its order was made: the hold was only left over.
    Settled,
    /// Its order was not made and never will be: the hold was given back.
    Released,
}

/// Decides a hold that stood too long. The number is buried before the hold is given back, so that an order whose
/// maker was only slow cannot come alive afterwards.
///
/// # Errors
/// When MySQL is away; the hold stays.
pub async fn sweep_hold(app: &App, order_no: OrderNo) -> Result<Swept, OrderError> {
    let number = order_no.clone();
    let is_made = app
        .db
        .transaction("sweep_hold", move |connection| {
            let number = number.clone();
            Box::pin(async move {
                store::bury(connection, &number).await?;
                let is_made = store::is_made(connection, &number).await?;
                if is_made {
                    store::unbury(connection, &number).await?;
                }
                Ok(is_made)
            })
        })
        .await
        .map_err(TransactionError::<OrderError>::flatten)?;
    if is_made {
        app.gate.settle(&order_no).await;
        Ok(Swept::Settled)
    } else {
        app.gate.release(&order_no).await;
        Ok(Swept::Released)
    }
}

/// Orders that await payment past their deadline.
///
/// # Errors
/// When MySQL is away.
pub async fn overdue(app: &App, most: u32) -> Result<Vec<(OrderId, OrderNo)>, OrderError> {
    let rows = store::overdue(app.db.pool(), app.clock.now(), most).await?;
    rows.into_iter().map(|(id, number)| Ok((OrderId(id), stored_order_no(&number)?))).collect()
}
