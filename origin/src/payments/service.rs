//! Use cases of payments.

use std::sync::Arc;

use farmgate_shared::api::payments::PaymentParams;
use farmgate_shared::ids::{OrderId, OrderNo, UserId};
use farmgate_shared::problem::Problem;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::store::{self, PaymentRow};
use crate::app::App;
use crate::db::{self, Retryable, TransactionError};
use crate::error::ApiError;
use crate::orders::service::{OrderError, Payable};
use crate::outbox::model::{EventKind, NewEvent};
use crate::wechat::pay::{Advice, PayError, PrepayAsked, Refusal, Transaction};
use crate::wechat::sign::SignError;
use crate::{orders, outbox, users};

/// WeChat keeps a prepay_id for two hours; one that is nearly over is asked for anew with the same request.
const PREPAY_ID_LIFE: Duration = Duration::minutes(110);

/// With less time left than this WeChat may find that there is too little: it counts in whole seconds, by its own clock, and
/// does not say from when on.
const SHORTEST_TO_PAY: Duration = Duration::minutes(1);

impl From<PayError> for ApiError {
    fn from(error: PayError) -> ApiError {
        let problem = match &error {
            // Paid or closed at WeChat while we still wait: the notification or the closing job is on its way.
            PayError::Refused { code: Refusal::OrderPaid | Refusal::OrderClosed, .. } => {
                Problem::OrderStateConflict
            }
            PayError::Unverified(_) | PayError::Malformed(_) | PayError::ClockOff(_) => {
                Problem::WechatUnavailable
            }
            other => match other.advice() {
                Advice::RepeatSame | Advice::BackOff | Advice::QueryFirst => Problem::WechatUnavailable,
                _ => Problem::Internal,
            },
        };
        ApiError::caused(problem, error)
    }
}

impl From<SignError> for ApiError {
    fn from(error: SignError) -> ApiError {
        ApiError::caused(Problem::Internal, error)
    }
}

/// Prepares the payment of an order and signs the parameters for the phone. May be asked again: the same prepay is
/// used as long as it lives.
///
/// # Errors
/// [`Problem::OrderNotFound`], [`Problem::OrderStateConflict`], [`Problem::OrderExpired`], or WeChat being away.
pub async fn prepare(app: &Arc<App>, user: UserId, id: OrderId) -> Result<PaymentParams, ApiError> {
    let order = orders::service::payable(app, user, id).await?;
    let openid = users::service::openid(app, user).await?;
    let pool = app.db.pool();
    let request = app.pay.prepay_request(order.order_no.as_str(), order.amount, &openid, order.deadline)?;
    store::insert_if_new(pool, order.order_id, &order.order_no, order.amount, &request).await?;
    let payment = store::find(pool, &order.order_no).await?.ok_or(Problem::OrderNotFound)?;
    if payment.status != store::AWAITING {
        return Err(Problem::OrderStateConflict.into());
    }
    let now = app.clock.now();
    let prepay_id = match live_prepay_id(&payment, now) {
        Some(prepay_id) => prepay_id,
        None => {
            let prepay_id = match app.pay.prepay(&payment.prepay_request, app.clock.unix_seconds()).await {
                Ok(prepay_id) => prepay_id,
                Err(error) => return Err(refused(app, user, &order, error).await),
            };
            let ask_at = now + app.config.pay.ask_after();
            store::set_prepay_id(pool, &order.order_no, &prepay_id, now, ask_at).await?;
            // Cancelled meanwhile, perhaps before WeChat had heard of it: without our signature it cannot be paid.
            orders::service::payable(app, user, id).await?;
            prepay_id
        }
    };
    Ok(app.pay.payment_params(&prepay_id, app.clock.unix_seconds())?)
}

/// What a shopper is told whose payment WeChat would not prepare: how the order stands by now, if it cannot be paid any more.
async fn refused(app: &App, user: UserId, order: &Payable, error: PayError) -> ApiError {
    if let Err(state) = orders::service::payable(app, user, order.order_id).await {
        return state.because(error);
    }
    let is_about_the_request =
        matches!(&error, PayError::Refused { code: Refusal::ParamError | Refusal::InvalidRequest, .. });
    if is_about_the_request && order.deadline - app.clock.now() < SHORTEST_TO_PAY {
        return ApiError::caused(Problem::OrderExpired, error);
    }
    error.into()
}

fn live_prepay_id(payment: &PaymentRow, now: OffsetDateTime) -> Option<String> {
    match (&payment.prepay_id, payment.prepaid_at) {
        (Some(prepay_id), Some(at)) if now - at < PREPAY_ID_LIFE => Some(prepay_id.clone()),
        _ => None,
    }
}

/// Why what WeChat says of a payment was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("no such order")]
    UnknownOrder,
    /// What it says is not what the order says.
    #[error("{0} is not what the order says")]
    Mismatch(&'static str),
    /// It could not be recorded now.
    #[error("could not be recorded")]
    NotNow(#[source] OrderError),
}

impl RecordError {
    /// Whether MySQL is away, so that the next record would fare no better.
    pub fn is_outage(&self) -> bool {
        match self {
            RecordError::NotNow(error) => error.database().is_some_and(db::is_away),
            RecordError::UnknownOrder | RecordError::Mismatch(_) => false,
        }
    }
}

/// Records what WeChat says of an order, from a notification or from a query, after checking it against the order.
///
/// # Errors
/// [`RecordError`].
pub async fn record(app: &Arc<App>, transaction: &Transaction) -> Result<Recorded, RecordError> {
    let not_now = |error: sqlx::Error| RecordError::NotNow(error.into());
    let order_no: OrderNo = transaction.out_trade_no.parse().map_err(|_| RecordError::UnknownOrder)?;
    let payment =
        store::find(app.db.pool(), &order_no).await.map_err(not_now)?.ok_or(RecordError::UnknownOrder)?;
    let paid = check(app, &payment, transaction)?;
    let order = OrderId(payment.order_id);
    let outcome = app
        .db
        .transaction("record_payment", move |connection| {
            let paid = paid.clone();
            Box::pin(async move {
                if !store::mark_paid(connection, order, &paid.transaction_id, paid.at).await? {
                    return Ok(Recorded::Before);
                }
                match orders::service::mark_paid(connection, order, paid.at).await? {
                    true => Ok(Recorded::Paid),
                    false => {
                        outbox::service::record(
                            connection,
                            &[NewEvent { kind: EventKind::PaidTooLate, order }],
                        )
                        .await?;
                        Ok(Recorded::TooLate)
                    }
                }
            })
        })
        .await
        .map_err(|error: TransactionError<OrderError>| RecordError::NotNow(error.flatten()))?;
    match outcome {
        Recorded::Paid => tracing::info!(%order_no, "paid"),
        Recorded::Before => tracing::debug!(%order_no, "told again that it is paid"),
        // The money is here and the goods are not: the payment stays recorded as paid beside a cancelled order, which
        // is what marks it for a refund.
        Recorded::TooLate => tracing::error!(%order_no, "paid after it was cancelled, a refund is due"),
    }
    Ok(outcome)
}

/// What a payment was when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// In time: its order is paid.
    Paid,
    /// Known before.
    Before,
    /// Its order had been cancelled.
    TooLate,
}

/// A payment that agrees with its order.
#[derive(Clone, Debug)]
struct Paid {
    transaction_id: String,
    at: OffsetDateTime,
}

fn check(app: &App, payment: &PaymentRow, transaction: &Transaction) -> Result<Paid, RecordError> {
    let differs = |what: &'static str| Err(RecordError::Mismatch(what));
    if !transaction.trade_state.is_paid() {
        return differs("trade_state");
    }
    if transaction.mchid != app.pay.mchid() {
        return differs("mchid");
    }
    if transaction.appid.as_deref() != Some(app.pay.appid()) {
        return differs("appid");
    }
    let Some(amount) = &transaction.amount else { return differs("amount") };
    if amount.total != Some(payment.amount_fen) {
        return differs("amount.total");
    }
    if amount.currency.as_deref() != Some("CNY") {
        return differs("amount.currency");
    }
    let asked = PrepayAsked::read(&payment.prepay_request).ok();
    let payer = transaction.payer.as_ref().and_then(|payer| payer.openid.as_deref());
    if payer.is_none() || payer != asked.as_ref().map(|asked| asked.openid.as_str()) {
        return differs("payer.openid");
    }
    let Some(transaction_id) =
        transaction.transaction_id.as_deref().filter(|id| (1..=32).contains(&id.len()))
    else {
        return differs("transaction_id");
    };
    if payment.transaction_id.as_deref().is_some_and(|known| known != transaction_id) {
        return differs("transaction_id");
    }
    let at = transaction.success_time.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let Some(at) = at else { return differs("success_time") };
    Ok(Paid { transaction_id: transaction_id.to_owned(), at })
}
