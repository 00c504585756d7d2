//! How rows become terms that can be computed with, and what the wire shows of them. Promises that a row which the
//! tables' CHECKs should have refused is an error and no guess.

use farmgate_shared::api::coupons::{Coupon, CouponIssue, CouponKind, CouponScope, CouponTerms};
use farmgate_shared::ids::{CategoryId, CouponId, CouponIssueId, OrderId, ProductId};
use farmgate_shared::money::Fen;
use time::OffsetDateTime;

use super::model::{self, Reduction, Scope, Terms, Validity};
use super::service::CouponError;
use super::store::{HeldRow, IssueRow, TermsRow};
use crate::clock::shanghai_rfc3339;

/// What a coupon is good for; `id` names the row when it is wrong.
pub(super) fn terms(row: &TermsRow, id: i64) -> Result<Terms, CouponError> {
    let reduction = match (row.kind.as_str(), row.cap_fen, u32::try_from(row.reduction)) {
        ("amount", None, _) => Reduction::Amount(Fen(row.reduction)),
        ("percent", Some(cap), Ok(off)) => Reduction::Percent { off, cap: Fen(cap) },
        _ => return Err(CouponError::Unreadable(id)),
    };
    let scope = match (row.scope.as_str(), row.scope_id) {
        ("shop", None) => Scope::Shop,
        ("category", Some(category)) => Scope::Category(CategoryId(category)),
        ("product", Some(product)) => Scope::Product(ProductId(product)),
        _ => return Err(CouponError::Unreadable(id)),
    };
    Ok(Terms { reduction, threshold: Fen(row.threshold_fen), scope })
}

/// When a coupon that is claimed can be used.
pub(super) fn validity(row: &IssueRow) -> Result<Validity, CouponError> {
    match (row.valid_from, row.valid_until, row.valid_days) {
        (Some(from), Some(until), None) => Ok(Validity::Fixed { from, until }),
        (None, None, Some(days)) => Ok(Validity::Days(days)),
        _ => Err(CouponError::Unreadable(row.id)),
    }
}

fn show_terms(row: TermsRow, id: i64) -> Result<CouponTerms, CouponError> {
    let terms = terms(&row, id)?;
    let (kind, amount_off, percent_off, max_discount) = match terms.reduction {
        Reduction::Amount(amount) => (CouponKind::Amount, Some(amount), None, None),
        Reduction::Percent { off, cap } => (CouponKind::Percent, None, Some(off), Some(cap)),
    };
    let (scope, category_id, product_id) = match terms.scope {
        Scope::Shop => (CouponScope::Shop, None, None),
        Scope::Category(category) => (CouponScope::Category, Some(category), None),
        Scope::Product(product) => (CouponScope::Product, None, Some(product)),
    };
    Ok(CouponTerms {
        name: row.name,
        kind,
        amount_off,
        percent_off,
        max_discount,
        threshold: terms.threshold,
        scope,
        category_id,
        product_id,
    })
}

/// A coupon of which this shopper has claimed `claimed`.
pub(super) fn show_issue(row: IssueRow, claimed: u32) -> Result<CouponIssue, CouponError> {
    Ok(CouponIssue {
        id: CouponIssueId(row.id),
        terms: show_terms(row.terms, row.id)?,
        remaining: row.issued.saturating_sub(row.claimed),
        per_user: row.per_user,
        claimed,
        claim_until: shanghai_rfc3339(row.claim_until),
        valid_from: row.valid_from.map(shanghai_rfc3339),
        valid_until: row.valid_until.map(shanghai_rfc3339),
        valid_days: row.valid_days,
    })
}

/// A shopper's coupon, as it stands `now`.
pub(super) fn show(row: HeldRow, now: OffsetDateTime) -> Result<Coupon, CouponError> {
    let order_id = row.order_id.map(OrderId);
    Ok(Coupon {
        id: CouponId(row.id),
        terms: show_terms(row.terms, row.id)?,
        status: model::status(order_id, row.valid_until, now),
        claimed_at: shanghai_rfc3339(row.claimed_at),
        valid_from: shanghai_rfc3339(row.valid_from),
        valid_until: shanghai_rfc3339(row.valid_until),
        used_at: row.used_at.map(shanghai_rfc3339),
        order_id,
    })
}
