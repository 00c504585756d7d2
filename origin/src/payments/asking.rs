//! Asking WeChat about payments of which nothing was heard: a notification is not guaranteed to arrive. Promises that an order
//! which was paid becomes paid without one, minutes after the payment, and that WeChat is asked less and less often about one
//! which is not. At the order's deadline [`super::closing`] asks for the last time.

use std::sync::Arc;
use std::time::Duration;

use farmgate_shared::ids::OrderNo;
use time::OffsetDateTime;

use super::service::{self, RecordError, Recorded};
use super::store::{self, ToAsk};
use crate::app::App;
use crate::db;
use crate::wechat::pay::{PayError, PrepayAsked, TradeState};

/// The longest pause between two questions about one payment.
const LONGEST: Duration = Duration::from_secs(600);

/// Why a round of questions ended early.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("WeChat cannot be asked now")]
    Wechat(#[from] PayError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl AskError {
    /// Whether the next question would fare no better.
    fn is_outage(&self) -> bool {
        match self {
            AskError::Wechat(error) => error.is_outage(),
            AskError::Record(error) => error.is_outage(),
            AskError::Database(error) => db::is_away(error),
        }
    }
}

/// Asks about the payments that are due, at most `most` of them; how many were found paid.
///
/// # Errors
/// When WeChat or MySQL is away. What concerns one payment alone is logged, and it is asked about again.
pub async fn ask_due(app: &Arc<App>, most: u32) -> Result<u32, AskError> {
    let mut found = 0;
    for due in store::to_ask(app.db.pool(), app.clock.now(), most).await? {
        match ask(app, &due).await {
            Ok(true) => found += 1,
            Ok(false) => {}
            Err(error) if error.is_outage() => return Err(error),
            Err(error) => {
                let order_no = due.out_trade_no;
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::error!(order_no, error, "a payment cannot be asked about");
            }
        }
    }
    Ok(found)
}

/// Whether WeChat says that it was paid, and the shop had not known.
async fn ask(app: &Arc<App>, due: &ToAsk) -> Result<bool, AskError> {
    let pool = app.db.pool();
    // Of a request that cannot be read nobody knows when it ends: WeChat is asked on.
    let last = PrepayAsked::read(&due.prepay_request).ok().map(|asked| asked.last_moment);
    let next = next(app.clock.now(), app.config.pay.ask_after(), due.asked, last);
    if !store::set_next_question(pool, due, next).await? {
        return Ok(false); // another worker asks, or it became paid
    }
    let transaction = app.pay.query(&due.out_trade_no, app.clock.unix_seconds()).await?;
    match transaction.trade_state {
        state if state.is_paid() => {
            let recorded = service::record(app, &transaction).await?;
            if recorded != Recorded::Before {
                tracing::warn!(
                    order_no = due.out_trade_no,
                    "paid, as WeChat said when it was asked; no notification came"
                );
            }
            Ok(recorded != Recorded::Before)
        }
        TradeState::Closed | TradeState::Revoked => {
            store::ask_no_more(pool, &due.out_trade_no).await?;
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// When to ask after the question that is asked at `now`, the `asked`-th but one; `None` when the order's closing comes first.
fn next(
    now: OffsetDateTime,
    first: Duration,
    asked: i32,
    last: Option<OffsetDateTime>,
) -> Option<OffsetDateTime> {
    let doublings = u32::try_from(asked).unwrap_or(0).saturating_add(1);
    let pause = first.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST.max(first));
    let next = now + pause;
    last.is_none_or(|last| next < last).then_some(next)
}

/// Asks WeChat about one order because a person wants to know, and records what it says.
///
/// # Errors
/// When WeChat does not know it or does not answer, or what it says is not what the order says.
pub async fn ask_about(app: &Arc<App>, question: &Question) -> Result<(OrderNo, TradeState), AskError> {
    let now = app.clock.unix_seconds();
    let transaction = match question {
        Question::Order(order_no) => app.pay.query(order_no.as_str(), now).await?,
        Question::Transaction(id) => app.pay.query_by_transaction(id, now).await?,
    };
    let order_no: OrderNo = transaction.out_trade_no.parse().map_err(|_| RecordError::UnknownOrder)?;
    if transaction.trade_state.is_paid() {
        service::record(app, &transaction).await?;
    }
    Ok((order_no, transaction.trade_state))
}

/// What a person has in hand.
#[derive(Clone, Debug)]
pub enum Question {
    Order(OrderNo),
    /// WeChat's own number, as the shopper's bill and the merchant console show it.
    Transaction(String),
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_double_up_to_ten_minutes_and_end_where_the_order_closes() {
        let prepaid = datetime!(2026-11-23 08:00:00 UTC);
        let mut at = prepaid + MINUTE;
        let mut minutes = vec![1];
        for asked in 0.. {
            let Some(following) = next(at, MINUTE, asked, Some(prepaid + 30 * MINUTE)) else { break };
            at = following;
            minutes.push((at - prepaid).whole_minutes());
        }
        assert_eq!(minutes, [1, 3, 7, 15, 25]);
        assert_eq!(next(at, MINUTE, i32::MAX, None), Some(at + 10 * MINUTE), "no number overflows");
    }
}
