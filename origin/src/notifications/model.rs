//! What may become of a notification: what payments and refunds say of theirs, in the words of notifications. They know
//! nothing of these.

use std::error::Error;

use crate::payments::service::{RecordError, Recorded};
use crate::refunds::service::{NoticeError, Settled};
use crate::text::with_causes;
use crate::wechat::notify::NotifyError;
use crate::wechat::platform::VerifyError;

/// A notification that was taken: WeChat need not send it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was news; what was notable about it.
    Taken(Option<String>),
    /// The shop knew.
    Repeated,
}

/// Why a notification was not taken. WeChat sends it again, on its schedule.
#[derive(Debug, thiserror::Error)]
pub enum NotificationError {
    /// WeChat did not sign it, not just now, or not for us.
    #[error("not from WeChat")]
    Unverified(#[source] VerifyError),
    /// WeChat signed it, but it has another form.
    #[error("not readable")]
    Unreadable(#[from] NotifyError),
    #[error("no such {0}")]
    Unknown(&'static str),
    /// What it says is not what the books say.
    #[error("{0} is not what the books say")]
    Mismatch(&'static str),
    /// It could not be recorded now.
    #[error("could not be recorded")]
    NotNow(#[source] Box<dyn Error + Send + Sync>),
    #[error("could not be recorded in time")]
    TooSlow,
}

impl From<Recorded> for Outcome {
    fn from(recorded: Recorded) -> Outcome {
        match recorded {
            Recorded::Paid => Outcome::Taken(None),
            Recorded::Before => Outcome::Repeated,
            Recorded::TooLate => Outcome::Taken(Some("paid after it was cancelled".to_owned())),
        }
    }
}

impl From<RecordError> for NotificationError {
    fn from(error: RecordError) -> NotificationError {
        match error {
            RecordError::UnknownOrder => NotificationError::Unknown("order"),
            RecordError::Mismatch(what) => NotificationError::Mismatch(what),
            RecordError::NotNow(error) => NotificationError::NotNow(error.into()),
        }
    }
}

impl From<Settled> for Outcome {
    fn from(settled: Settled) -> Outcome {
        if settled.is_new { Outcome::Taken(None) } else { Outcome::Repeated }
    }
}

impl From<NoticeError> for NotificationError {
    fn from(error: NoticeError) -> NotificationError {
        match error {
            NoticeError::UnknownRefund => NotificationError::Unknown("refund"),
            NoticeError::Mismatch(what) => NotificationError::Mismatch(what),
            NoticeError::NotNow(error) => NotificationError::NotNow(error.into()),
        }
    }
}

/// A row of `wechat_notification_decisions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub word: &'static str,
    pub reason: Option<String>,
}

impl Decision {
    /// The decision behind a result.
    pub fn of(result: &Result<Outcome, NotificationError>) -> Decision {
        let (word, reason) = match result {
            Ok(Outcome::Taken(notable)) => ("taken", notable.clone()),
            Ok(Outcome::Repeated) => ("repeated", None),
            Err(error @ (NotificationError::NotNow(_) | NotificationError::TooSlow)) => {
                ("postponed", Some(error.to_string()))
            }
            Err(error) => ("refused", Some(with_causes(error))),
        };
        Decision { word, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_says_why() {
        let refused = Decision::of(&Err(NotificationError::Mismatch("amount.total")));
        assert_eq!(refused.word, "refused");
        assert_eq!(refused.reason.unwrap(), "amount.total is not what the books say");
        let unreadable = Decision::of(&Err(NotifyError::Sealed.into()));
        assert!(unreadable.reason.unwrap().starts_with("not readable: the sealed part"));
        assert_eq!(Decision::of(&Ok(Outcome::Repeated)), Decision { word: "repeated", reason: None });
        assert_eq!(Decision::of(&Err(NotificationError::TooSlow)).word, "postponed");
    }
}
