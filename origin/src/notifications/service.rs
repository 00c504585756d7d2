//! Taking a notification: check the signature, keep it, read it, hand it to the domain that it concerns, note what was
//! decided.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::model::{Decision, NotificationError, Outcome};
use super::store;
use crate::app::App;
use crate::payments;
use crate::wechat::notify::{Notification, NotifyOpener};
use crate::wechat::platform::Signed;

/// WeChat waits five seconds for the answer, the way through the edge included.
const WITHIN: Duration = Duration::from_secs(3);

/// Takes a notification of WeChat's, of whatever kind and wherever it arrived. `Ok` means that what it says is recorded for
/// good, now or earlier; what cannot be recorded within three seconds is an error, and WeChat sends it again.
///
/// # Errors
/// [`NotificationError`].
pub async fn take(app: &Arc<App>, headers: &HeaderMap, body: &[u8]) -> Result<Outcome, NotificationError> {
    let signed = app
        .pay
        .platform()
        .verify(headers, body, app.clock.unix_seconds())
        .map_err(NotificationError::Unverified)?;
    // What is cut off here goes on in its transaction or is rolled back there; WeChat hears that it was not taken.
    tokio::time::timeout(WITHIN, take_verified(app, &signed, body))
        .await
        .unwrap_or(Err(NotificationError::TooSlow))
}

async fn take_verified(app: &Arc<App>, signed: &Signed, body: &[u8]) -> Result<Outcome, NotificationError> {
    let pool = app.db.pool();
    let label = NotifyOpener::label(body);
    let kept = store::keep(pool, &label, signed, body, app.clock.now())
        .await
        .map_err(|error| NotificationError::NotNow(error.into()))?;
    let result = act(app, body).await;
    if let Err(error) = store::decide(pool, kept, &Decision::of(&result), app.clock.now()).await {
        // What was done stands, and WeChat is told the truth about it; only this note of it is missing.
        tracing::warn!(notification = label.id, %error, "the decision on a notification could not be noted");
    }
    result
}

/// Does what a notification asks for.
async fn act(app: &Arc<App>, body: &[u8]) -> Result<Outcome, NotificationError> {
    match app.notify.open(body)? {
        Notification::Paid(transaction) => Ok(payments::service::record(app, &transaction).await?.into()),
        Notification::Refund(notice) => {
            let (refund, status) = (notice.out_refund_no, notice.refund_status);
            tracing::warn!(refund, ?status, "a refund that this shop did not ask for");
            Err(NotificationError::Unknown("refund"))
        }
        Notification::Other(kind) => {
            tracing::info!(kind, "a notification that nothing is done about");
            Ok(Outcome::Taken(Some(format!("nothing is done about {kind}"))))
        }
    }
}
