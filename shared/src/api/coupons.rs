//! Coupons as they are offered, claimed and held.

use serde::{Deserialize, Serialize};

use super::{Paging, read_query};
use crate::ids::{CategoryId, CouponId, CouponIssueId, OrderId, ProductId};
use crate::money::Fen;
use crate::problem::FieldProblem;

/// How a coupon reduces what is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CouponKind {
    /// `amount_off` yuan less.
    Amount,
    /// `percent_off` per cent less, at most `max_discount` yuan.
    Percent,
}

/// Which goods a coupon counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CouponScope {
    Shop,
    /// Those of `category_id`.
    Category,
    /// `product_id` alone.
    Product,
}

/// What a coupon is good for. It does not change any more once a shopper holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CouponTerms {
    pub name: String,
    pub kind: CouponKind,
    /// Yuan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount_off: Option<Fen>,
    /// 1 to 99.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent_off: Option<u32>,
    /// Yuan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_discount: Option<Fen>,
    /// Yuan: usable once the goods in scope come to this.
    pub threshold: Fen,
    pub scope: CouponScope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_id: Option<CategoryId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<ProductId>,
}

/// A coupon that can be claimed now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CouponIssue {
    pub id: CouponIssueId,
    #[serde(flatten)]
    pub terms: CouponTerms,
    /// How many are left.
    pub remaining: u32,
    /// How many of it one shopper may claim.
    pub per_user: u32,
    /// How many of it this shopper has claimed.
    pub claimed: u32,
    pub claim_until: String,
    /// From when it can be used, if that is a fixed date.
    pub valid_from: Option<String>,
    /// Until when it can be used, if that is a fixed date.
    pub valid_until: Option<String>,
    /// For how many days from its claim it can be used, otherwise.
    pub valid_days: Option<u32>,
}

/// A coupon that a shopper holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Coupon {
    /// What `coupon_id` of `POST /api/orders` means.
    pub id: CouponId,
    #[serde(flatten)]
    pub terms: CouponTerms,
    pub status: CouponStatus,
    pub claimed_at: String,
    pub valid_from: String,
    pub valid_until: String,
    pub used_at: Option<String>,
    /// The order that it is spent on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
}

/// Whether a coupon can still be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CouponStatus {
    /// It can, now or from `valid_from` on.
    Unused,
    Used,
    Expired,
}

/// The query of `GET /api/coupons`, in range.
///
/// # Errors
/// One [`FieldProblem`] a bad, unknown or repeated parameter.
pub fn parse_issues_query(query: &str) -> Result<Paging, Vec<FieldProblem>> {
    let mut paging = Paging::default();
    read_query(query, |name, value, problems| paging.take(name, value, problems))?;
    Ok(paging)
}

/// The query of `GET /api/coupons/mine`, in range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CouponQuery {
    pub paging: Paging,
    /// Only coupons of this kind.
    pub status: Option<CouponStatus>,
}

impl CouponQuery {
    /// Reads a query string (without `?`).
    ///
    /// # Errors
    /// One [`FieldProblem`] a bad, unknown or repeated parameter.
    pub fn parse(query: &str) -> Result<CouponQuery, Vec<FieldProblem>> {
        let mut parsed = CouponQuery::default();
        read_query(query, |name, value, problems| {
            if name != "status" {
                return parsed.paging.take(name, value, problems);
            }
            match value {
                "" => {}
                "unused" => parsed.status = Some(CouponStatus::Unused),
                "used" => parsed.status = Some(CouponStatus::Used),
                "expired" => parsed.status = Some(CouponStatus::Expired),
                _ => problems.push(FieldProblem::new(name, "须为 unused、used 或 expired")),
            }
            true
        })?;
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coupon_is_one_flat_object_and_names_no_order_before_it_is_spent() {
        let coupon = Coupon {
            id: CouponId(7),
            terms: CouponTerms {
                name: "满30减5".into(),
                kind: CouponKind::Amount,
                amount_off: Some(Fen(500)),
                percent_off: None,
                max_discount: None,
                threshold: Fen(3000),
                scope: CouponScope::Shop,
                category_id: None,
                product_id: None,
            },
            status: CouponStatus::Unused,
            claimed_at: "2026-11-01T00:00:00+08:00".into(),
            valid_from: "2026-11-01T00:00:00+08:00".into(),
            valid_until: "2026-12-01T00:00:00+08:00".into(),
            used_at: None,
            order_id: None,
        };
        let json = serde_json::to_value(&coupon).unwrap();
        let expected = serde_json::json!({
            "id": 7, "name": "满30减5", "kind": "amount", "amount_off": 5.0, "threshold": 30.0, "scope": "shop",
            "status": "unused", "claimed_at": "2026-11-01T00:00:00+08:00",
            "valid_from": "2026-11-01T00:00:00+08:00", "valid_until": "2026-12-01T00:00:00+08:00", "used_at": null,
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<Coupon>(json).unwrap(), coupon);
    }

    #[test]
    fn the_shoppers_coupons_can_be_narrowed_to_one_kind() {
        assert_eq!(CouponQuery::parse("status=used&page=2").unwrap().status, Some(CouponStatus::Used));
        assert_eq!(CouponQuery::parse("").unwrap(), CouponQuery::default());
        assert_eq!(CouponQuery::parse("status=0").unwrap_err()[0].field, "status");
        assert_eq!(parse_issues_query("status=used").unwrap_err()[0].field, "status");
    }
}
