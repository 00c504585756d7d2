//! What a shop asks to have refunded, with every limit that the real service documents for the request.

use serde_json::Value;

use crate::pay::{Fields, check_notify_url};
use crate::reply::PayError;
use crate::state::Order;

/// What a shop asked to have refunded, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    pub transaction_id: Option<String>,
    pub out_trade_no: Option<String>,
    pub out_refund_no: String,
    pub notify_url: Option<String>,
    /// Fen.
    pub refund: i64,
    /// Fen.
    pub total: i64,
}

impl Wish {
    /// Checks the body of a refund.
    pub fn parse(body: &Value) -> Result<Wish, PayError> {
        let fields = Fields(body);
        let transaction_id = fields.optional_text("/transaction_id", 1..=32)?;
        let out_trade_no = fields.optional_text("/out_trade_no", 6..=32)?;
        if transaction_id.is_none() && out_trade_no.is_none() {
            return fields.refuse("/transaction_id", "transaction_id和out_trade_no不能同时为空");
        }
        let out_refund_no = fields.text("/out_refund_no", 1..=64)?;
        if !is_refund_no(out_refund_no) {
            return fields.refuse("/out_refund_no", "只能是数字、大小写字母_-|*@");
        }
        fields.optional_text("/reason", 1..=80)?;
        let notify_url = fields.optional_text("/notify_url", 8..=256)?;
        if let Some(Err(issue)) = notify_url.map(check_notify_url) {
            return fields.refuse("/notify_url", issue);
        }
        if fields.text("/amount/currency", 1..=16)? != "CNY" {
            return fields.refuse("/amount/currency", "只支持人民币CNY");
        }
        Ok(Wish {
            transaction_id: transaction_id.map(str::to_owned),
            out_trade_no: out_trade_no.map(str::to_owned),
            out_refund_no: out_refund_no.to_owned(),
            notify_url: notify_url.map(str::to_owned),
            refund: fields.fen("/amount/refund")?,
            total: fields.fen("/amount/total")?,
        })
    }

    /// Whether the order is the one that it names.
    pub fn is_for(&self, order: &Order) -> bool {
        let paid = order.payment.as_ref().map(|paid| &paid.transaction_id);
        self.transaction_id.as_ref().is_none_or(|id| Some(id) == paid)
            && self.out_trade_no.as_ref().is_none_or(|number| *number == order.prepay.out_trade_no)
    }
}

/// Whether a text may be the number of a refund.
pub fn is_refund_no(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-|*@".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{body, order};
    use super::*;

    fn outcome(pointer: &str, value: Value) -> Result<Wish, &'static str> {
        let mut body = body();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[key] = value;
        Wish::parse(&body).map_err(|error| error.code)
    }

    #[test]
    fn each_limit_of_a_request_is_kept() {
        assert!(outcome("/reason", Value::Null).is_ok());
        assert!(outcome("/notify_url", Value::Null).is_ok());
        assert!(outcome("/out_refund_no", json!("aZ0_-|*@")).is_ok());
        for number in [json!(""), json!("1".repeat(65)), json!("1 2"), json!("退"), Value::Null] {
            assert_eq!(outcome("/out_refund_no", number.clone()), Err("PARAM_ERROR"), "{number}");
        }
        assert!(outcome("/reason", json!("农".repeat(26))).is_ok());
        assert_eq!(outcome("/reason", json!("农".repeat(27))), Err("PARAM_ERROR"));
        assert_eq!(outcome("/transaction_id", Value::Null), Err("PARAM_ERROR"), "which payment?");
        for url in ["http://shop.example/n", "https://shop.example/n?a=1"] {
            assert_eq!(outcome("/notify_url", json!(url)), Err("PARAM_ERROR"), "{url}");
        }
        for field in ["/amount/refund", "/amount/total"] {
            for fen in [json!(0), json!(-1), json!(1.5), json!("100"), Value::Null] {
                assert_eq!(outcome(field, fen.clone()), Err("PARAM_ERROR"), "{field} {fen}");
            }
        }
        for currency in [json!("USD"), Value::Null] {
            assert_eq!(outcome("/amount/currency", currency), Err("PARAM_ERROR"));
        }
    }

    #[test]
    fn a_request_is_for_the_order_that_it_names() {
        assert!(Wish::parse(&body()).unwrap().is_for(&order(3160)));
        assert!(!outcome("/transaction_id", json!("4201")).unwrap().is_for(&order(3160)));
        assert!(!outcome("/out_trade_no", json!("2023111500000000000002")).unwrap().is_for(&order(3160)));
    }
}
