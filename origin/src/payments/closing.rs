//! The end of a payment that did not come: WeChat is asked, then told to take none any more. Promises orders that after
//! [`Closing::Closed`] no money can arrive for goods which somebody else may buy.

use std::sync::Arc;

use farmgate_shared::ids::OrderNo;

use super::service::{self, RecordError};
use super::store;
use crate::app::App;
use crate::db;
use crate::wechat::pay::{PayError, Refusal};

/// What became of an order that was to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// WeChat takes no payment for it any more.
    Closed,
    /// It had been paid; that is recorded now.
    Paid,
}

/// Why nothing may be concluded yet: the caller tries later.
#[derive(Debug, thiserror::Error)]
pub enum ClosingError {
    #[error(transparent)]
    Wechat(#[from] PayError),
    /// WeChat says that it was paid, and that could not be recorded.
    #[error("WeChat says that it was paid")]
    Record(#[from] RecordError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl ClosingError {
    /// Whether the next order would fare no better.
    pub fn is_outage(&self) -> bool {
        match self {
            ClosingError::Wechat(error) => error.is_outage(),
            ClosingError::Record(error) => error.is_outage(),
            ClosingError::Database(error) => db::is_away(error),
        }
    }
}

/// Makes sure that an order can no longer be paid at WeChat, or records that it was.
///
/// # Errors
/// [`ClosingError`].
pub async fn close_at_wechat(app: &Arc<App>, order_no: &OrderNo) -> Result<Closing, ClosingError> {
    let Some(payment) = store::find(app.db.pool(), order_no).await? else {
        // Its payment was never prepared, so WeChat has never heard of it.
        return Ok(Closing::Closed);
    };
    if payment.status == store::PAID {
        return Ok(Closing::Paid);
    }
    let now = app.clock.unix_seconds();
    match app.pay.query(order_no.as_str(), now).await {
        Ok(transaction) if transaction.trade_state.is_paid() => {
            service::record(app, &transaction).await?;
            return Ok(Closing::Paid);
        }
        Ok(_) | Err(PayError::Refused { code: Refusal::OrderUnknown | Refusal::ResourceUnknown, .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match app.pay.close(order_no.as_str(), now).await {
        Ok(()) => Ok(Closing::Closed),
        Err(PayError::Refused { code: Refusal::OrderPaid, .. }) => {
            service::record(app, &app.pay.query(order_no.as_str(), now).await?).await?;
            Ok(Closing::Paid)
        }
        Err(error) => Err(error.into()),
    }
}
