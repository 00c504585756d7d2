//! What the rest of the shop may know of a payment that was made.

use farmgate_shared::ids::OrderNo;
use serde::Deserialize;
use sqlx::MySqlPool;

use super::store;

/// By what WeChat knows a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub transaction_id: String,
    /// Who paid.
    pub openid: String,
}

/// What of the stored prepay request says who was to pay; a payment by anybody else was refused.
#[derive(Deserialize)]
struct Asked {
    payer: Payer,
}

#[derive(Deserialize)]
struct Payer {
    openid: String,
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
    let asked: Asked = serde_json::from_str(&payment.prepay_request)
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Some(Receipt { transaction_id, openid: asked.payer.openid }))
}
