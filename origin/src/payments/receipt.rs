//! What the rest of the shop may know of a payment that was made.

use farmgate_shared::ids::OrderNo;
use sqlx::MySqlPool;

use super::store;
use crate::wechat::pay::PrepayAsked;

/// By what WeChat knows a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub transaction_id: String,
    /// Who paid.
    pub openid: String,
}

/// The receipt of an order's payment; `None` while it is not paid.
///
/// # Errors
/// When MySQL is away, or the stored request cannot be read.
pub async fn of_order(pool: &MySqlPool, order_no: &OrderNo) -> Result<Option<Receipt>, sqlx::Error> {
    let Some(payment) = store::find(pool, order_no).await? else { return Ok(None) };
    let Some(transaction_id) = payment.transaction_id.filter(|_| payment.status == store::PAID) else {
        return Ok(None);
    };
    // A payment by anybody else than who was to pay was refused.
    let asked =
        PrepayAsked::read(&payment.prepay_request).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Some(Receipt { transaction_id, openid: asked.openid }))
}
