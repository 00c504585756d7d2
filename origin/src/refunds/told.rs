//! What WeChat says of a refund, in a reply or in a notification. Promises whoever records it that it is about the refund that
//! was asked for, to the fen, and that it says how that one ended.

use std::sync::Arc;

use farmgate_shared::ids::OrderId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::service::RefundError;
use super::settling::{Outcome, Settled, settle};
use super::store::{self, RefundRow};
use crate::app::App;
use crate::payments::money_back::{self, Received};
use crate::wechat::notify::{RefundAmount, RefundNotice, RefundStatus};
use crate::wechat::pay::refund::RefundShown;

/// Somebody ends it in WeChat's console, in hours or days.
pub const ASK_ABNORMAL_AGAIN: time::Duration = time::Duration::hours(6);

/// What replies and notifications have in common.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    out_refund_no: &'a str,
    transaction_id: &'a str,
    refund_id: &'a str,
    status: RefundStatus,
    success_time: Option<&'a str>,
    amount: RefundAmount,
}

impl<'a> From<&'a RefundShown> for Told<'a> {
    fn from(shown: &'a RefundShown) -> Told<'a> {
        Told {
            out_refund_no: &shown.out_refund_no,
            transaction_id: &shown.transaction_id,
            refund_id: &shown.refund_id,
            status: shown.status,
            success_time: shown.success_time.as_deref(),
            amount: shown.amount,
        }
    }
}

impl<'a> From<&'a RefundNotice> for Told<'a> {
    fn from(notice: &'a RefundNotice) -> Told<'a> {
        Told {
            out_refund_no: &notice.out_refund_no,
            transaction_id: &notice.transaction_id,
            refund_id: &notice.refund_id,
            status: notice.refund_status,
            success_time: notice.success_time.as_deref(),
            amount: notice.amount,
        }
    }
}

impl Told<'_> {
    /// # Errors
    /// What of it is not the refund that was asked for.
    pub fn check(&self, row: &RefundRow, payment: &Received) -> Result<(), &'static str> {
        let checks = [
            ("out_refund_no", self.out_refund_no == row.out_refund_no),
            ("transaction_id", self.transaction_id == payment.transaction_id),
            ("amount.refund", self.amount.refund == row.amount_fen),
            ("amount.total", self.amount.total == payment.amount.0),
            ("refund_id", row.wechat_refund_id.as_ref().is_none_or(|known| known == self.refund_id)),
        ];
        match checks.into_iter().find(|(_, agrees)| !agrees) {
            Some((what, _)) => Err(what),
            None => Ok(()),
        }
    }

    /// How it ended; `None` where it is under way, or in a state that nobody here knows.
    ///
    /// # Errors
    /// Where it does not say when it was paid back.
    pub fn end(&self, now: OffsetDateTime) -> Result<Option<Outcome>, &'static str> {
        let refund_id = self.refund_id.to_owned();
        Ok(match self.status {
            RefundStatus::Success => {
                let at = self.success_time.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
                Some(Outcome::PaidBack { refund_id, at: at.ok_or("success_time")? })
            }
            RefundStatus::Closed => Some(Outcome::Closed { refund_id: Some(refund_id) }),
            RefundStatus::Abnormal => Some(abnormal(refund_id, now)),
            RefundStatus::Processing | RefundStatus::Unknown => None,
        })
    }
}

/// WeChat has it and cannot pay it into the shopper's account; how it ends, WeChat will know.
fn abnormal(refund_id: String, now: OffsetDateTime) -> Outcome {
    Outcome::Stuck {
        refund_id: Some(refund_id),
        why: "ABNORMAL: the shopper's account cannot take it; end it in WeChat's merchant console".to_owned(),
        ask_at: Some(now + ASK_ABNORMAL_AGAIN),
    }
}

/// Why a refund's notification was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    #[error("no such refund")]
    UnknownRefund,
    /// What it says is not what was asked for.
    #[error("not what the refund says: {0}")]
    Mismatch(&'static str),
    /// It could not be recorded now; WeChat sends it again.
    #[error("could not be recorded")]
    NotNow(#[source] RefundError),
}

/// Takes a refund's notification, which WeChat signed. `Ok` means that what it says is recorded for good, now or earlier, or
/// that it came too late to matter; it says which.
///
/// # Errors
/// [`NoticeError`].
pub async fn take_notification(app: &Arc<App>, notice: &RefundNotice) -> Result<Settled, NoticeError> {
    let not_now = |error: sqlx::Error| NoticeError::NotNow(error.into());
    if notice.mchid != app.pay.mchid() {
        return Err(NoticeError::Mismatch("mchid"));
    }
    let number = notice.out_refund_no.as_str();
    let pool = app.db.pool();
    let row = store::find(pool, number).await.map_err(not_now)?.ok_or(NoticeError::UnknownRefund)?;
    let payment = money_back::received(pool, OrderId(row.order_id)).await.map_err(not_now)?;
    let Some(payment) = payment else { return Err(NoticeError::UnknownRefund) };
    if notice.out_trade_no != payment.order_no.as_str() {
        return Err(NoticeError::Mismatch("out_trade_no"));
    }
    let told = Told::from(notice);
    told.check(&row, &payment).map_err(NoticeError::Mismatch)?;
    // WeChat tells of what it decided only.
    let outcome = told.end(app.clock.now()).map_err(NoticeError::Mismatch)?;
    let outcome = outcome.ok_or(NoticeError::Mismatch("refund_status"))?;
    settle(app, number, outcome).await.map_err(NoticeError::NotNow)
}
