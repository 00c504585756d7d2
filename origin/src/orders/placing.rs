//! The making of an order: what it is for and costs, the gate, one transaction, and only then "ok".

use std::sync::Arc;

use farmgate_shared::api::orders::{CreateOrder, CreatedOrder};
use farmgate_shared::ids::{OrderId, OrderNo, UserId};
use farmgate_shared::money::Fen;
use farmgate_shared::problem::{FieldProblem, Problem};
use ring::rand::{SecureRandom, SystemRandom};
use sqlx::MySqlConnection;
use time::{Duration, OffsetDateTime};
use tracing::Instrument;

use super::model::{self, Sums};
use super::service::{OrderError, address_place};
use super::store::{self, NewOrder};
use crate::app::App;
use crate::catalog::service::Offer;
use crate::clock::shanghai_rfc3339;
use crate::db::TransactionError;
use crate::error::ApiError;
use crate::idempotency::{Keyed, Start};
use crate::stock::gate::Taken;
use crate::stock::service::StockError;
use crate::stock::{self, Line};
use crate::{addresses, catalog, freight};

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
