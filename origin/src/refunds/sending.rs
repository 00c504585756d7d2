//! The job's part: asks WeChat for refunds that are promised and about those that it has. Any number of workers may do this
//! at once and may die anywhere: a refund is claimed for a while, WeChat is asked outside of any transaction, and a claim
//! that nobody ended is somebody else's when its time is over. What is asked twice is the same to the byte, so that WeChat
//! answers the second time with the refund of the first.

use farmgate_shared::ids::OrderId;
use farmgate_shared::money::Fen;
use sqlx::MySqlConnection;
use time::OffsetDateTime;

use super::model::Status;
use super::service::RefundError;
use super::settling::{Outcome, settle};
use super::store::{self, RefundRow};
use super::told::{ASK_ABNORMAL_AGAIN, Told};
use crate::app::App;
use crate::crash::{self, Point};
use crate::db::{TransactionError, is_away};
use crate::outbox::model::Retries;
use crate::payments::money_back::{self, Received};
use crate::wechat::notify::RefundStatus;
use crate::wechat::pay::refund::{RefundAsked, RefundShown};
use crate::wechat::pay::{Advice, PayError, Refusal};

/// A refund that is this worker's for a while.
#[derive(Debug)]
struct Claimed {
    row: RefundRow,
    payment: Received,
    status: Status,
    request: String,
}

/// Asks WeChat for, or about, refunds that are due, at most so many; says of how many it decided something. Stops where
/// WeChat cannot be reached: the others will not fare better. One whose books are wrong holds no other up.
///
/// # Errors
/// When MySQL is away.
pub async fn send_due(app: &App, most: u32) -> Result<u32, sqlx::Error> {
    let mut changed = 0;
    for number in store::due(app.db.pool(), app.clock.now(), most).await? {
        match send(app, &number).await {
            Ok(Sent::Decided) => changed += 1,
            Ok(Sent::Waits) => {}
            Ok(Sent::Away) => break,
            Err(RefundError::Database(error)) if is_away(&error) => return Err(error),
            Err(error) => {
                tracing::error!(refund = number, error = %error, "a refund cannot be worked on");
                let later = app.clock.now() + app.config.refunds.longest_retry();
                store::put_off(app.db.pool(), &number, &error.to_string(), later).await?;
            }
        }
    }
    Ok(changed)
}

/// What came of asking WeChat once.
enum Sent {
    Decided,
    Waits,
    /// WeChat cannot be talked to.
    Away,
}

async fn send(app: &App, number: &str) -> Result<Sent, RefundError> {
    let Some(claimed) = claim(app, number).await? else { return Ok(Sent::Waits) };
    crash::point(Point::RefundBeforeCall);
    let answer = match claimed.status {
        Status::ToAsk => app.pay.refund(&claimed.request, app.clock.unix_seconds()).await,
        _ => app.pay.query_refund(number, app.clock.unix_seconds()).await,
    };
    crash::point(Point::RefundAfterCall);
    let is_away = answer.as_ref().is_err_and(PayError::is_outage);
    Ok(match take_answer(app, &claimed, answer).await? {
        true => Sent::Decided,
        false if is_away => Sent::Away,
        false => Sent::Waits,
    })
}

/// `None` where another worker has it, it is not due any more, or another refund of its order was sent a moment ago.
async fn claim(app: &App, number: &str) -> Result<Option<Claimed>, RefundError> {
    let now = app.clock.now();
    let until = now + app.config.refunds.lease();
    let spacing = app.config.refunds.spacing();
    let notify_url = app.config.pay.refund_notify_url.clone();
    let number = number.to_owned();
    app.db
        .transaction("claim_refund", move |connection| {
            let (number, notify_url) = (number.clone(), notify_url.clone());
            Box::pin(async move {
                let Some((row, payment, status)) = lock_due(connection, &number, now).await? else {
                    return Ok(None);
                };
                if status == Status::ToAsk {
                    let others = store::of_order(&mut *connection, OrderId(row.order_id)).await?;
                    let last = others
                        .iter()
                        .filter(|other| other.id != row.id)
                        .filter_map(|other| other.sent_at)
                        .max();
                    if let Some(free_at) = last.map(|sent| sent + spacing).filter(|free_at| *free_at > now) {
                        store::postpone(connection, row.id, free_at).await?;
                        return Ok(None);
                    }
                }
                let request = match &row.request {
                    Some(request) => request.clone(),
                    None => request(&row, &payment, &notify_url)?,
                };
                let sent_at = if status == Status::ToAsk { Some(now) } else { row.sent_at };
                store::claim(connection, row.id, &request, sent_at, until).await?;
                let row = RefundRow { attempts: row.attempts + 1, ..row };
                Ok(Some(Claimed { row, payment, status, request }))
            })
        })
        .await
        .map_err(TransactionError::<RefundError>::flatten)
}

/// The refund, if it is still due once the lock of its payment is ours.
async fn lock_due(
    connection: &mut MySqlConnection,
    number: &str,
    now: OffsetDateTime,
) -> Result<Option<(RefundRow, Received, Status)>, RefundError> {
    let Some(row) = store::find(&mut *connection, number).await? else { return Ok(None) };
    let payment = money_back::lock_received(connection, OrderId(row.order_id)).await?;
    let payment = payment.ok_or(RefundError::NotPaid)?;
    let Some(row) = store::find(&mut *connection, number).await? else { return Ok(None) };
    if row.due_at.is_none_or(|due_at| due_at > now) {
        return Ok(None);
    }
    let status = Status::from_number(row.status).ok_or(RefundError::UnknownStatus(row.status))?;
    Ok(Some((row, payment, status)))
}

fn request(row: &RefundRow, payment: &Received, notify_url: &str) -> Result<String, RefundError> {
    let asked = RefundAsked {
        transaction_id: &payment.transaction_id,
        out_refund_no: &row.out_refund_no,
        reason: &row.reason,
        notify_url,
        refund: Fen(row.amount_fen),
        total: payment.amount,
    };
    Ok(asked.to_request()?)
}

/// Records what WeChat answered; says whether that changed the refund's state.
async fn take_answer(
    app: &App,
    claimed: &Claimed,
    answer: Result<RefundShown, PayError>,
) -> Result<bool, RefundError> {
    let number = claimed.row.out_refund_no.as_str();
    let shown = match answer {
        Ok(shown) => shown,
        Err(PayError::Refused { code, message, .. }) if is_decided(&code) => {
            return take_refusal(app, claimed, &code, &message).await;
        }
        Err(error) => {
            if matches!(error, PayError::Refused { code: Refusal::NotEnough, .. }) {
                tracing::error!(refund = number, "the merchant's balance is too low for a refund: top it up");
            }
            return wait(app, claimed, Some(&error.to_string())).await;
        }
    };
    match outcome(app, claimed, &shown) {
        Ok(Some(outcome)) if outcome_is(&outcome, claimed.status) => wait(app, claimed, None).await,
        Ok(Some(outcome)) => Ok(settle(app, number, outcome).await?.is_new),
        Ok(None) => wait(app, claimed, Some("WeChat names a state that is not known here")).await,
        Err(what) => {
            tracing::error!(refund = number, what, "WeChat answers with another refund than was asked for");
            wait(app, claimed, Some(&format!("WeChat's reply differs in {what}"))).await
        }
    }
}

/// Whether the same request will be refused for ever, as far as a refusal can say.
fn is_decided(code: &Refusal) -> bool {
    let passes = matches!(code.advice(), Advice::RepeatSame | Advice::BackOff | Advice::TopUpAndRepeat);
    !passes && *code != Refusal::SignError
}

/// Still the same: at WeChat and on its way, or stuck there.
fn outcome_is(outcome: &Outcome, status: Status) -> bool {
    matches!(
        (outcome, status),
        (Outcome::AtWechat { .. }, Status::AtWechat | Status::Stuck) | (Outcome::Stuck { .. }, Status::Stuck)
    )
}

/// What a reply means; `None` for a state that nobody here knows.
///
/// # Errors
/// What of it is not the refund that was asked for.
fn outcome(app: &App, claimed: &Claimed, shown: &RefundShown) -> Result<Option<Outcome>, &'static str> {
    let told = Told::from(shown);
    told.check(&claimed.row, &claimed.payment)?;
    let now = app.clock.now();
    if shown.status == RefundStatus::Processing {
        let ask_at = now + next_wait(app, 1, claimed.row.id);
        return Ok(Some(Outcome::AtWechat { refund_id: shown.refund_id.clone(), ask_at }));
    }
    told.end(now)
}

/// A refusal that does not pass by itself. Nothing is given up on a refusal alone, which a gateway can make up too: WeChat is
/// asked whether it knows the number, and only when it says that it does not is a person called.
async fn take_refusal(
    app: &App,
    claimed: &Claimed,
    code: &Refusal,
    message: &str,
) -> Result<bool, RefundError> {
    let number = claimed.row.out_refund_no.as_str();
    let why = format!("{code}: {message}");
    match claimed.status {
        Status::ToAsk => {
            let known = app.pay.query_refund(number, app.clock.unix_seconds()).await;
            if matches!(&known, Err(PayError::Refused { code, .. }) if is_unknown_there(code)) {
                let stuck = Outcome::Stuck { refund_id: None, why, ask_at: None };
                return Ok(settle(app, number, stuck).await?.is_new);
            }
            match known.map(|shown| outcome(app, claimed, &shown)) {
                Ok(Ok(Some(outcome))) => Ok(settle(app, number, outcome).await?.is_new),
                _ => wait(app, claimed, Some(&why)).await,
            }
        }
        Status::AtWechat if is_unknown_there(code) => {
            let again = Outcome::ToAsk { why, at: app.clock.now() + next_wait(app, 1, claimed.row.id) };
            Ok(settle(app, number, again).await?.is_new)
        }
        _ => wait(app, claimed, Some(&why)).await,
    }
}

/// WeChat has signed that it never heard of the number.
fn is_unknown_there(code: &Refusal) -> bool {
    matches!(code, Refusal::ResourceUnknown | Refusal::OrderUnknown)
}

/// Nothing was decided: again later, and later each time.
async fn wait(app: &App, claimed: &Claimed, error: Option<&str>) -> Result<bool, RefundError> {
    let row = &claimed.row;
    let wait = match claimed.status {
        Status::Stuck => ASK_ABNORMAL_AGAIN,
        _ => next_wait(app, row.attempts, row.id),
    };
    if let Some(error) = error {
        tracing::warn!(refund = row.out_refund_no, attempts = row.attempts, error, "a refund waits");
    }
    let attempt = (row.id, row.attempts, claimed.status);
    store::note_attempt(app.db.pool(), attempt, error, app.clock.now() + wait).await?;
    Ok(false)
}

fn next_wait(app: &App, attempts: i32, id: i64) -> time::Duration {
    let settings = &app.config.refunds;
    let retries =
        Retries { attempts: u32::MAX, first: settings.first_retry(), longest: settings.longest_retry() };
    let failed = u32::try_from(attempts).unwrap_or(1).max(1);
    retries.wait(failed, id).and_then(|wait| wait.try_into().ok()).unwrap_or(ASK_ABNORMAL_AGAIN)
}
