//! Every way a request can fail, as the client sees it: a stable slug, the HTTP status and a Chinese sentence that can
//! be shown to a shopper. The table in docs/API.md is this enum.

use serde::{Deserialize, Serialize};

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    InvalidJson,
    InvalidParameter,
    WechatCodeInvalid,
    PhoneCodeInvalid,
    Unauthenticated,
    TokenExpired,
    EdgeSignatureRequired,
    AccountDisabled,
    WechatHighRisk,
    NotFound,
    PhoneBindingOff,
    ProductNotFound,
    AddressNotFound,
    OrderNotFound,
    CouponNotFound,
    MethodNotAllowed,
    OutOfStock,
    OrderStateConflict,
    OrderExpired,
    CouponUsed,
    CouponNotValidNow,
    CouponNotApplicable,
    CouponNotClaimable,
    CouponSoldOut,
    CouponLimit,
    AddressLimit,
    AlreadyReviewed,
    PayloadTooLarge,
    UnsupportedMediaType,
    IdempotencyKeyReused,
    RateLimited,
    Internal,
    WechatUnavailable,
    Unavailable,
}

impl Problem {
    /// Every problem, in the order of docs/API.md.
    pub const ALL: [Problem; 34] = [
        Problem::InvalidJson,
        Problem::InvalidParameter,
        Problem::WechatCodeInvalid,
        Problem::PhoneCodeInvalid,
        Problem::Unauthenticated,
        Problem::TokenExpired,
        Problem::EdgeSignatureRequired,
        Problem::AccountDisabled,
        Problem::WechatHighRisk,
        Problem::NotFound,
        Problem::PhoneBindingOff,
        Problem::ProductNotFound,
        Problem::AddressNotFound,
        Problem::OrderNotFound,
        Problem::CouponNotFound,
        Problem::MethodNotAllowed,
        Problem::OutOfStock,
        Problem::OrderStateConflict,
        Problem::OrderExpired,
        Problem::CouponUsed,
        Problem::CouponNotValidNow,
        Problem::CouponNotApplicable,
        Problem::CouponNotClaimable,
        Problem::CouponSoldOut,
        Problem::CouponLimit,
        Problem::AddressLimit,
        Problem::AlreadyReviewed,
        Problem::PayloadTooLarge,
        Problem::UnsupportedMediaType,
        Problem::IdempotencyKeyReused,
        Problem::RateLimited,
        Problem::Internal,
        Problem::WechatUnavailable,
        Problem::Unavailable,
    ];

    const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Problem::InvalidJson => (400, "invalid_json", "请求内容不是有效的 JSON"),
            Problem::InvalidParameter => (400, "invalid_parameter", "请求参数有误"),
            Problem::WechatCodeInvalid => {
                (400, "wechat_code_invalid", "微信登录凭证无效或已使用，请重新登录")
            }
            Problem::PhoneCodeInvalid => (400, "phone_code_invalid", "手机号授权已失效，请重新点击授权"),
            Problem::Unauthenticated => (401, "unauthenticated", "请先登录"),
            Problem::TokenExpired => (401, "token_expired", "登录已过期，请重新登录"),
            Problem::EdgeSignatureRequired => (403, "edge_signature_required", "请通过商城域名访问"),
            Problem::AccountDisabled => (403, "account_disabled", "账号已被停用，请联系客服"),
            Problem::WechatHighRisk => (403, "wechat_high_risk", "微信提示该账号存在风险，暂时无法登录"),
            Problem::NotFound => (404, "not_found", "没有找到您要的内容"),
            Problem::PhoneBindingOff => (404, "phone_binding_off", "本店未开通微信手机号授权"),
            Problem::ProductNotFound => (404, "product_not_found", "商品不存在或已下架"),
            Problem::AddressNotFound => (404, "address_not_found", "收货地址不存在"),
            Problem::OrderNotFound => (404, "order_not_found", "订单不存在"),
            Problem::CouponNotFound => (404, "coupon_not_found", "优惠券不存在"),
            Problem::MethodNotAllowed => (405, "method_not_allowed", "不支持这种请求方式"),
            Problem::OutOfStock => (409, "out_of_stock", "库存不足"),
            Problem::OrderStateConflict => (409, "order_state_conflict", "订单状态已变化，请刷新后再试"),
            Problem::OrderExpired => (409, "order_expired", "订单已超过支付时限，请重新下单"),
            Problem::CouponUsed => (409, "coupon_used", "优惠券已使用"),
            Problem::CouponNotValidNow => (409, "coupon_not_valid_now", "优惠券不在有效期内"),
            Problem::CouponNotApplicable => (409, "coupon_not_applicable", "订单未达到优惠券的使用条件"),
            Problem::CouponNotClaimable => (409, "coupon_not_claimable", "优惠券不在领取时间内"),
            Problem::CouponSoldOut => (409, "coupon_sold_out", "优惠券已被领完"),
            Problem::CouponLimit => (409, "coupon_limit", "已达到每人领取上限"),
            Problem::AddressLimit => (409, "address_limit", "收货地址数量已达上限，请先删除不用的地址"),
            Problem::AlreadyReviewed => (409, "already_reviewed", "该商品已评价过"),
            Problem::PayloadTooLarge => (413, "payload_too_large", "请求内容过大"),
            Problem::UnsupportedMediaType => (415, "unsupported_media_type", "请求内容须为 JSON"),
            Problem::IdempotencyKeyReused => (422, "idempotency_key_reused", "重复的请求编号，内容却不相同"),
            Problem::RateLimited => (429, "rate_limited", "操作太频繁，请稍后再试"),
            Problem::Internal => (500, "internal", "系统开小差了，请稍后再试"),
            Problem::WechatUnavailable => (503, "wechat_unavailable", "微信服务暂时不可用，请稍后再试"),
            Problem::Unavailable => (503, "unavailable", "服务繁忙，请稍后再试"),
        }
    }

    /// The HTTP status, which is also the body's `code`.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// The stable name that clients may switch on.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        self.row().1
    }

    /// What a shopper may read.
    #[must_use]
    pub const fn message(self) -> &'static str {
        self.row().2
    }

    /// The reply's body with the standard message.
    #[must_use]
    pub fn body(self, request_id: &str, details: Vec<FieldProblem>) -> ProblemBody {
        ProblemBody {
            code: self.status(),
            message: self.message().to_owned(),
            error: self.slug().to_owned(),
            request_id: request_id.to_owned(),
            details,
        }
    }
}

/// The body of every failed request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProblemBody {
    /// The HTTP status.
    pub code: u16,
    /// Chinese, can be shown to a shopper.
    pub message: String,
    /// Stable slug; the table is in docs/API.md.
    pub error: String,
    /// Names this request in the logs.
    pub request_id: String,
    /// What is wrong with which field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<FieldProblem>,
}

/// One field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldProblem {
    /// The field's path, as in `items[0].quantity`.
    pub field: String,
    pub message: String,
}

impl FieldProblem {
    #[must_use]
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> FieldProblem {
        FieldProblem { field: field.into(), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slugs_are_unique_and_statuses_are_errors() {
        let slugs: HashSet<_> = Problem::ALL.iter().map(|problem| problem.slug()).collect();
        assert_eq!(slugs.len(), Problem::ALL.len());
        assert!(Problem::ALL.iter().all(|problem| (400..600).contains(&problem.status())));
    }

    #[test]
    fn the_table_of_the_docs_is_this_enum() {
        let docs = include_str!("../../docs/API.md");
        let rows: Vec<&str> = docs.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), Problem::ALL.len());
        for (row, problem) in rows.iter().zip(Problem::ALL) {
            let start = format!("| `{}` | {} | {} | ", problem.slug(), problem.status(), problem.message());
            assert!(row.starts_with(&start), "{row}\nshould start with\n{start}");
        }
    }

    #[test]
    fn the_body_has_the_wire_shape() {
        let body = serde_json::to_value(Problem::OutOfStock.body("r1", vec![])).unwrap();
        let expected = serde_json::json!({"code": 409, "message": "库存不足", "error": "out_of_stock", "request_id": "r1"});
        assert_eq!(body, expected);
    }
}
