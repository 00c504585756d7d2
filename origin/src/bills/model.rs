//! What a bill says, what our books say, and what can differ.

use farmgate_shared::money::Fen;
use time::OffsetDateTime;

use crate::refunds::Status;

/// One line of a bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillLine {
    pub happened_at: OffsetDateTime,
    pub appid: String,
    pub transaction_id: String,
    pub out_trade_no: String,
    /// A refund's number; empty for a payment.
    pub out_refund_no: String,
    /// What the order costs, or what goes back, before WeChat's own coupons.
    pub amount: Fen,
    /// The trade's state; the refund's for a refund.
    pub state: String,
}

impl BillLine {
    pub fn is_refund(&self) -> bool {
        !self.out_refund_no.is_empty()
    }
}

/// A payment in our books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurPayment {
    pub out_trade_no: String,
    pub transaction_id: Option<String>,
    pub amount: Fen,
    /// When WeChat says that it was paid; `None` while it is not.
    pub paid_at: Option<OffsetDateTime>,
}

/// A refund in our books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurRefund {
    pub out_refund_no: String,
    pub out_trade_no: String,
    pub amount: Fen,
    pub state: Status,
    pub created_at: OffsetDateTime,
    /// When WeChat paid it back.
    pub refunded_at: Option<OffsetDateTime>,
}

/// Whether our books may have a refund in this state while the bill says `theirs`. A bill is written in the night, so that
/// ours may have come further, but never less far, nor elsewhere.
pub fn agrees(ours: Status, theirs: &str) -> bool {
    match theirs {
        "SUCCESS" => ours == Status::PaidBack,
        "PROCESSING" => ours != Status::ToAsk,
        // FAIL, CHANGE, REFUNDCLOSE: it did not go back this way.
        _ => matches!(ours, Status::Closed | Status::Stuck | Status::PaidByHand),
    }
}

/// What can be wrong between a bill and our books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DifferenceKind {
    /// WeChat has it, we do not.
    MissingHere,
    /// We have it, WeChat does not.
    MissingThere,
    /// Both have it, with different amounts.
    Amount,
    /// Both have it, with different outcomes.
    State,
    /// It stands in the bill more than once.
    Doubled,
}

impl DifferenceKind {
    /// As `bill_differences.kind` has it.
    pub fn name(self) -> &'static str {
        match self {
            DifferenceKind::MissingHere => "missing_here",
            DifferenceKind::MissingThere => "missing_there",
            DifferenceKind::Amount => "amount",
            DifferenceKind::State => "state",
            DifferenceKind::Doubled => "doubled",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub kind: DifferenceKind,
    pub out_trade_no: String,
    /// Empty for a payment.
    pub out_refund_no: String,
    /// Empty when nobody knows it.
    pub transaction_id: String,
    pub ours: Option<Fen>,
    pub theirs: Option<Fen>,
    /// In words, for whoever has to deal with it.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_books_may_be_ahead_of_a_refund_but_not_behind() {
        for (ours, theirs, agrees) in [
            (Status::PaidBack, "SUCCESS", true),
            (Status::AtWechat, "SUCCESS", false),
            (Status::ToAsk, "SUCCESS", false),
            (Status::PaidBack, "PROCESSING", true),
            (Status::AtWechat, "PROCESSING", true),
            (Status::ToAsk, "PROCESSING", false),
            (Status::PaidBack, "FAIL", false),
            (Status::Closed, "REFUNDCLOSE", true),
            (Status::Stuck, "CHANGE", true),
            (Status::AtWechat, "CHANGE", false),
            (Status::PaidByHand, "CHANGE", true),
            (Status::PaidByHand, "SUCCESS", false),
        ] {
            assert_eq!(self::agrees(ours, theirs), agrees, "{ours:?} {theirs}");
        }
    }
}
