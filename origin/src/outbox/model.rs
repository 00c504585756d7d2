//! Events, those who consume them, and how long a failed attempt waits for the next.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farmgate_shared::ids::OrderId;
use futures_core::future::BoxFuture;
use sqlx::MySqlConnection;
use time::OffsetDateTime;

use crate::app::App;
use crate::config::Config;

/// What happened to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    OrderPlaced,
    OrderPaid,
    OrderCancelled,
    OrderCompleted,
    /// A payment arrived for a cancelled order: its refund is due.
    PaidTooLate,
    /// Some or all of an order's money was promised back.
    RefundStarted,
    /// A refund, perhaps of a part, was paid back.
    RefundPaid,
    /// WeChat ended a refund without paying: the money is the order's again.
    RefundClosed,
    /// WeChat cannot pay a refund: somebody has to look.
    RefundStuck,
    /// All of an order's money was paid back, and the order is refunded.
    OrderRefunded,
    OrderShipped,
    /// A shipped order got another parcel number.
    OrderReshipped,
    /// A line was reviewed, and its text is to be checked.
    ReviewWritten,
}

impl EventKind {
    pub const ALL: [EventKind; 13] = [
        EventKind::OrderPlaced,
        EventKind::OrderPaid,
        EventKind::OrderCancelled,
        EventKind::OrderCompleted,
        EventKind::PaidTooLate,
        EventKind::RefundStarted,
        EventKind::RefundPaid,
        EventKind::RefundClosed,
        EventKind::RefundStuck,
        EventKind::OrderRefunded,
        EventKind::OrderShipped,
        EventKind::OrderReshipped,
        EventKind::ReviewWritten,
    ];

    /// The name in the database: never changed, since rows of older binaries carry it.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::OrderPlaced => "order_placed",
            EventKind::OrderPaid => "order_paid",
            EventKind::OrderCancelled => "order_cancelled",
            EventKind::OrderCompleted => "order_completed",
            EventKind::PaidTooLate => "paid_too_late",
            EventKind::RefundStarted => "refund_started",
            EventKind::RefundPaid => "refund_paid",
            EventKind::RefundClosed => "refund_closed",
            EventKind::RefundStuck => "refund_stuck",
            EventKind::OrderRefunded => "order_refunded",
            EventKind::OrderShipped => "order_shipped",
            EventKind::OrderReshipped => "order_reshipped",
            EventKind::ReviewWritten => "review_written",
        }
    }

    /// The kind behind a name; `None` when this binary does not know it.
    pub fn from_name(name: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// An event that is to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEvent {
    pub kind: EventKind,
    pub order: OrderId,
}

/// An event as a consumer gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: i64,
    pub kind: EventKind,
    pub order: OrderId,
    /// When its transaction wrote it.
    pub happened_at: OffsetDateTime,
    /// What it is about beside its order: the row's id that [`super::service::record_about`] was given.
    pub subject: Option<i64>,
}

/// Why a consumer did not take an event.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Trying again cannot help: it becomes a dead letter at once.
    #[error("{0}")]
    Permanent(String),
    /// It is tried again, later and later.
    #[error(transparent)]
    Transient(#[from] sqlx::Error),
}

/// A consumer's effect on some events, in the transaction that also ends their delivery. It may be run again after a
/// roll-back and must call nothing but MySQL.
pub type Apply = for<'c> fn(&'c mut MySqlConnection, &'c [Event]) -> BoxFuture<'c, Result<(), Failure>>;

/// A consumer's call of somebody outside MySQL for one event, outside any transaction. It is made again when nobody can
/// tell whether it was made: calling twice must do no harm.
pub type Call = for<'a> fn(&'a App, &'a Event) -> BoxFuture<'a, Result<Done, CallFailure>>;

/// What is left to write when a call is over, in the transaction that ends the delivery. It may be run again after a
/// roll-back and must call nothing but MySQL.
pub type Write =
    Arc<dyn for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<(), sqlx::Error>> + Send + Sync>;

/// A call that is over: what was wanted has happened, or turned out not to be wanted.
pub enum Done {
    Nothing,
    Write(Write),
}

impl Done {
    /// Over, and this is to be written.
    pub fn and(
        write: impl for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<(), sqlx::Error>>
        + Send
        + Sync
        + 'static,
    ) -> Done {
        Done::Write(Arc::new(write))
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Done::Nothing => "Nothing",
            Done::Write(_) => "Write",
        })
    }
}

/// Why a call is not over.
#[derive(Debug, thiserror::Error)]
pub enum CallFailure {
    /// Calling again cannot help: it becomes a dead letter at once.
    #[error("{0}")]
    Permanent(String),
    /// This event failed. It is tried again, later and later, the first time after `wait` at least.
    #[error("{reason}")]
    Transient { reason: String, wait: Duration },
    /// The other side is away or busy, which is no failure of the event: it waits until the other side is back, for `wait`
    /// at least.
    #[error("{reason}")]
    Away { reason: String, wait: Duration },
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl CallFailure {
    /// This event failed, and nobody says when to try again.
    pub fn transient(reason: impl Into<String>) -> CallFailure {
        CallFailure::Transient { reason: reason.into(), wait: Duration::ZERO }
    }

    /// Nobody is there, and nobody says for how long.
    pub fn away(reason: impl Into<String>) -> CallFailure {
        CallFailure::Away { reason: reason.into(), wait: Duration::ZERO }
    }
}

/// What a consumer does.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    /// It writes to MySQL and to nothing else: happens once.
    Books(Apply),
    /// It calls somebody: happens at least once, and hardly ever twice.
    Call(Call),
}

/// One who wants to know.
#[derive(Debug)]
pub struct Consumer {
    /// Its name in the database and in Redis: letters, digits and `_`, at most 32; never changed.
    pub name: &'static str,
    pub wants: &'static [EventKind],
    /// Whether the shop uses it; what happens while it does not is never handed to it. [`ALWAYS`] for most.
    pub is_on: fn(&Config) -> bool,
    pub effect: Effect,
}

/// The shop cannot do without this consumer.
pub const ALWAYS: fn(&Config) -> bool = |_| true;

/// How failed attempts are repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// Attempts before an event is a dead letter.
    pub attempts: u32,
    /// The wait after the first failure; it doubles with each one.
    pub first: Duration,
    pub longest: Duration,
}

impl Retries {
    /// The same, with a first wait of at least this long.
    pub fn waiting_at_least(self, wait: Duration) -> Retries {
        Retries { first: self.first.max(wait), longest: self.longest.max(wait), ..self }
    }

    /// How long event `id` waits after its `failed`-th failure; `None` when that was its last attempt. The wait is the
    /// doubled one less up to half of it, a different part for each event, so that events which failed together do not
    /// all come back together.
    pub fn wait(&self, failed: u32, id: i64) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let doubled = 1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(doubled).min(self.longest);
        // The golden ratio's fraction spreads successive ids evenly.
        let mixed =
            id.wrapping_add(i64::from(failed)).unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
        let share = u32::try_from(mixed).unwrap_or(0);
        Some(whole - whole / 2 * share / 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRIES: Retries =
        Retries { attempts: 12, first: Duration::from_secs(1), longest: Duration::from_secs(600) };

    #[test]
    fn every_kind_is_known_by_its_name() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_name(kind.name()), Some(kind));
            assert!(kind.name().len() <= 32 && kind.name().is_ascii());
        }
        assert_eq!(EventKind::from_name("order_eaten"), None);
    }

    #[test]
    fn waits_double_up_to_the_longest_and_lose_at_most_half() {
        for id in [1, 2, 77, i64::MAX] {
            for failed in 1..12 {
                let whole = Duration::from_secs((1 << (failed - 1)).min(600));
                let wait = RETRIES.wait(failed, id).unwrap();
                assert!(wait <= whole && wait >= whole / 2, "{failed}: {wait:?} of {whole:?}");
            }
        }
    }

    #[test]
    fn the_last_attempt_is_followed_by_none() {
        assert_eq!(RETRIES.wait(12, 1), None);
        assert_eq!(RETRIES.wait(u32::MAX, 1), None);
        let once = Retries { attempts: 1, ..RETRIES };
        assert_eq!(once.wait(1, 1), None);
    }

    #[test]
    fn no_number_of_attempts_overflows() {
        let endless = Retries { attempts: u32::MAX, ..RETRIES };
        for failed in [31, 32, 33, 64, 1_000_000] {
            let wait = endless.wait(failed, 5).unwrap();
            assert!(wait >= endless.longest / 2 && wait <= endless.longest, "{failed}: {wait:?}");
        }
    }

    #[test]
    fn events_that_failed_together_come_back_apart() {
        let waits: std::collections::HashSet<Duration> =
            (1..=100).map(|id| RETRIES.wait(5, id).unwrap()).collect();
        assert!(waits.len() > 90, "{}", waits.len());
    }
}
