//! What was told, for the shop itself, and forgetting it.

use farmgate_shared::ids::OrderId;
use sqlx::MySqlPool;
use time::{Duration, OffsetDateTime};

use super::store;

/// What was told is kept this long: a season's worth of figures, and any question that a shopper still asks.
const KEPT: Duration = Duration::days(90);
/// Rows forgotten at once, so that no lock is held for long.
const MOST_FORGOTTEN: u32 = 1000;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Sent,
    /// WeChat refused it: the shopper had not agreed, or no more. Of a message whose worker died after it was sent, WeChat
    /// says the same to the repetition.
    NotAgreed,
}

impl Told {
    /// `shopper_messages.outcome`.
    pub const fn number(self) -> i8 {
        match self {
            Told::Sent => 1,
            Told::NotAgreed => 2,
        }
    }

    fn from_number(number: i8) -> Result<Told, sqlx::Error> {
        [Told::Sent, Told::NotAgreed]
            .into_iter()
            .find(|told| told.number() == number)
            .ok_or_else(|| sqlx::Error::Decode(format!("no outcome has the number {number}").into()))
    }
}

/// How often each came of each occasion since then.
///
/// # Errors
/// When MySQL is away.
pub async fn counts(
    pool: &MySqlPool,
    since: OffsetDateTime,
) -> Result<Vec<(String, Told, i64)>, sqlx::Error> {
    let rows = store::counts(pool, since).await?;
    rows.into_iter()
        .map(|(occasion, outcome, count)| Ok((occasion, Told::from_number(outcome)?, count)))
        .collect()
}

/// A message that was sent, or refused.
#[derive(Debug)]
pub struct Message {
    pub occasion: String,
    pub told: Told,
    pub told_at: OffsetDateTime,
}

/// What was told of an order, the earliest first.
///
/// # Errors
/// When MySQL is away.
pub async fn of_order(pool: &MySqlPool, order: OrderId) -> Result<Vec<Message>, sqlx::Error> {
    let rows = store::of_order(pool, order).await?;
    rows.into_iter()
        .map(|(occasion, outcome, told_at)| {
            Ok(Message { occasion, told: Told::from_number(outcome)?, told_at })
        })
        .collect()
}

/// Forgets what was told long ago; says how much.
///
/// # Errors
/// When MySQL is away.
pub async fn forget_old(pool: &MySqlPool, now: OffsetDateTime) -> Result<u64, sqlx::Error> {
    store::forget(pool, now - KEPT, MOST_FORGOTTEN).await
}
