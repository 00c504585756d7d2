//! Taking a notification: check the signature, keep it, read it, hand it to the domain that it concerns, note what was
//! decided.

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::{Instant, timeout, timeout_at};

use super::model::{Decision, NotificationError, Outcome};
use super::store;
use crate::app::App;
use crate::crash::{self, Point};
use crate::wechat::notify::{Label, Notification, NotifyOpener};
use crate::{payments, refunds};

/// Takes a notification of WeChat's, of whatever kind and wherever it arrived. `Ok` means that what it says is recorded for
/// good, now or earlier; what cannot be recorded in time is an error, and WeChat sends it again.
///
/// # Errors
/// [`NotificationError`].
pub async fn take(app: &Arc<App>, headers: &HeaderMap, body: &[u8]) -> Result<Outcome, NotificationError> {
    let signed = app
        .pay
        .platform()
        .verify(headers, body, app.clock.unix_seconds())
        .map_err(NotificationError::Unverified)?;
    let give_up = Instant::now() + app.config.pay.notification_within();
    let label = NotifyOpener::label(body);
    let kept = timeout_at(give_up, store::keep(app.db.pool(), &label, &signed, body, app.clock.now()))
        .await
        .map_err(|_| NotificationError::TooSlow)?
        .map_err(|error| NotificationError::NotNow(error.into()))?;
    crash::point(Point::NotificationKept);
    // What is cut off here goes on in its transaction or is rolled back there; WeChat hears that it was not taken.
    let result = timeout_at(give_up, act(app, body)).await.unwrap_or(Err(NotificationError::TooSlow));
    crash::point(Point::NotificationDone);
    note(app, &label, kept, &Decision::of(&result)).await;
    result
}

/// Notes what was decided. Where that fails, what was done stands and WeChat is told the truth about it.
async fn note(app: &Arc<App>, label: &Label, kept: u64, decision: &Decision) {
    let noting = store::decide(app.db.pool(), kept, decision, app.clock.now());
    // WeChat waits for this too: it is given less than half of the time that the rest had.
    let within = app.config.pay.notification_within() * 2 / 5;
    let missing = match timeout(within, noting).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "not in time".to_owned(),
    };
    tracing::warn!(
        notification = label.id,
        decision = decision.word,
        missing,
        "a decision could not be noted"
    );
}

/// Does what a notification asks for.
async fn act(app: &Arc<App>, body: &[u8]) -> Result<Outcome, NotificationError> {
    match app.notify.open(body)? {
        Notification::Paid(transaction) => Ok(payments::service::record(app, &transaction).await?.into()),
        Notification::Refund(notice) => Ok(refunds::service::take_notification(app, &notice).await?.into()),
        Notification::Other(kind) => {
            tracing::info!(kind, "a notification that nothing is done about");
            Ok(Outcome::Taken(Some(format!("nothing is done about {kind}"))))
        }
    }
}
