//! The states of a refund and how they follow each other, what a refund is for, and its number.

use farmgate_shared::ids::{OrderId, OrderNo};
use farmgate_shared::money::Fen;
use time::{Duration, OffsetDateTime};

/// Refunds that one order may have, whatever became of them (WeChat's rule).
pub const MOST_PARTS: usize = 50;
/// Bytes of a reason. WeChat's documents count characters; whoever keeps to bytes is right either way.
const MOST_REASON: usize = 80;
/// Characters of an operator's key: with an order's number it makes at most 64.
const MOST_KEY: usize = 30;
/// How long after the payment WeChat refunds it.
const REFUNDABLE_FOR: Duration = Duration::days(365);

/// Where a refund stands, with the number that the database uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Promised; WeChat is to be asked, perhaps once more.
    ToAsk = 0,
    /// WeChat has taken it and will decide.
    AtWechat = 1,
    PaidBack = 2,
    /// WeChat ended it without paying: the money may be promised anew, under another number.
    Closed = 3,
    /// WeChat cannot pay it back: somebody has to look.
    Stuck = 4,
    /// An operator paid it in another way.
    PaidByHand = 5,
}

impl Status {
    pub const ALL: [Status; 6] = [
        Status::ToAsk,
        Status::AtWechat,
        Status::PaidBack,
        Status::Closed,
        Status::Stuck,
        Status::PaidByHand,
    ];

    /// The states that may follow this one: the only place that says so.
    pub const fn followers(self) -> &'static [Status] {
        match self {
            Status::ToAsk => &[Status::AtWechat, Status::PaidBack, Status::Closed, Status::Stuck],
            // WeChat may turn out not to know it after all: it is asked for again, under the same number.
            Status::AtWechat => &[Status::ToAsk, Status::PaidBack, Status::Closed, Status::Stuck],
            Status::Stuck => &[Status::ToAsk, Status::PaidBack, Status::Closed, Status::PaidByHand],
            Status::PaidBack | Status::Closed | Status::PaidByHand => &[],
        }
    }

    pub fn may_become(self, next: Status) -> bool {
        self.followers().contains(&next)
    }

    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The state behind a database value; `None` when it is none.
    pub fn from_number(number: i8) -> Option<Status> {
        Status::ALL.into_iter().find(|status| i8::try_from(status.number()) == Ok(number))
    }

    /// As an operator reads it.
    pub const fn text(self) -> &'static str {
        match self {
            Status::ToAsk => "to be asked for",
            Status::AtWechat => "at WeChat",
            Status::PaidBack => "paid back",
            Status::Closed => "closed unpaid",
            Status::Stuck => "STUCK",
            Status::PaidByHand => "paid by hand",
        }
    }
}

/// What a refund is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A payment met a cancelled order.
    PaidTooLate,
    /// An operator said so.
    Operator,
}

impl Cause {
    /// The name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::PaidTooLate => "paid_too_late",
            Cause::Operator => "operator",
        }
    }
}

/// How much is to go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All that is not promised back already.
    Rest,
    Part(Fen),
}

/// A refund that is to be promised.
#[derive(Clone, Debug)]
pub struct NewRefund {
    pub order: OrderId,
    /// What it is for, within its order: asked for twice it is the same refund.
    pub key: String,
    pub share: Share,
    pub cause: Cause,
    /// The shopper reads it in WeChat.
    pub reason: String,
    /// Now.
    pub at: OffsetDateTime,
}

/// What is wrong with a wish for a refund, whatever its order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    #[error("the amount must be more than nothing")]
    Amount,
    #[error("the reason must have 1 to 80 bytes (a Chinese character has 3) and no control characters")]
    Reason,
    #[error("the key must have 1 to 30 letters, digits, - or _")]
    Key,
    #[error("it was paid more than a year ago: WeChat refunds no more")]
    TooOld,
}

impl NewRefund {
    /// # Errors
    /// [`WishError`].
    pub fn check(&self, paid_at: OffsetDateTime) -> Result<(), WishError> {
        let is_key_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=MOST_KEY).contains(&self.key.len()) || !self.key.bytes().all(is_key_letter) {
            return Err(WishError::Key);
        }
        let is_readable = !self.reason.trim().is_empty() && !self.reason.chars().any(char::is_control);
        // WeChat takes no characters beyond three bytes.
        let is_short = self.reason.chars().all(|letter| letter.len_utf8() <= 3);
        if self.reason.len() > MOST_REASON || !is_readable || !is_short {
            return Err(WishError::Reason);
        }
        if matches!(self.share, Share::Part(amount) if amount <= Fen::ZERO) {
            return Err(WishError::Amount);
        }
        if self.at - paid_at > REFUNDABLE_FOR {
            return Err(WishError::TooOld);
        }
        Ok(())
    }

    /// The refund's number at WeChat: at most 64 characters.
    pub fn number(&self, order_no: &OrderNo) -> String {
        format!("{order_no}-{}", self.key)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const PAID: OffsetDateTime = datetime!(2023-12-01 00:00 UTC);

    fn wish() -> NewRefund {
        NewRefund {
            order: OrderId(1),
            key: "late".into(),
            share: Share::Rest,
            cause: Cause::PaidTooLate,
            reason: "订单已取消，款项退回".into(),
            at: PAID,
        }
    }

    #[test]
    fn an_end_is_an_end_and_every_state_is_reached() {
        for status in Status::ALL {
            let is_end = matches!(status, Status::PaidBack | Status::Closed | Status::PaidByHand);
            assert_eq!(status.followers().is_empty(), is_end, "{status:?}");
            assert_eq!(Status::from_number(i8::try_from(status.number()).unwrap()), Some(status));
            let is_reached = Status::ALL.iter().any(|before| before.may_become(status));
            assert!(is_reached, "nothing leads to {status:?}");
        }
        assert_eq!(Status::from_number(6), None);
    }

    #[test]
    fn only_what_is_stuck_is_paid_by_hand() {
        for status in Status::ALL {
            assert_eq!(status.may_become(Status::PaidByHand), status == Status::Stuck, "{status:?}");
        }
    }

    #[test]
    fn a_number_is_what_the_refund_is_for_and_fits_wechat() {
        let order_no: OrderNo = "2023120100000012345678".parse().unwrap();
        assert_eq!(wish().number(&order_no), "2023120100000012345678-late");
        let longest: OrderNo = "1".repeat(32).parse().unwrap();
        let long = NewRefund { key: "k".repeat(MOST_KEY), ..wish() };
        assert!(long.check(PAID).is_ok() && long.number(&longest).len() <= 64);
    }

    #[test]
    fn a_wish_keeps_to_wechats_limits() {
        assert_eq!(wish().check(PAID), Ok(()));
        for key in ["", "a b", "a/b", "农", &"k".repeat(MOST_KEY + 1)] {
            assert_eq!(NewRefund { key: key.into(), ..wish() }.check(PAID), Err(WishError::Key), "{key}");
        }
        for reason in ["", "  ", "a\nb", &"农".repeat(27), "🍎"] {
            let wish = NewRefund { reason: reason.into(), ..wish() };
            assert_eq!(wish.check(PAID), Err(WishError::Reason), "{reason}");
        }
        assert!(NewRefund { reason: "农".repeat(26), ..wish() }.check(PAID).is_ok());
        for amount in [0, -1] {
            let wish = NewRefund { share: Share::Part(Fen(amount)), ..wish() };
            assert_eq!(wish.check(PAID), Err(WishError::Amount));
        }
        let late = |days| NewRefund { at: PAID + Duration::days(days), ..wish() };
        assert_eq!(late(365).check(PAID), Ok(()));
        assert_eq!(late(366).check(PAID), Err(WishError::TooOld));
    }
}
