//! What an order is before it is written: everything that the client does not decide. Promises that prices, freight and
//! the address come from the database.

use farmgate_shared::api::orders::{CreateOrder, CreatedOrder, Wanted};
use farmgate_shared::ids::{OrderId, OrderNo};
use farmgate_shared::money::Fen;
use farmgate_shared::problem::{FieldProblem, Problem};
use ring::rand::{SecureRandom, SystemRandom};
use time::{Duration, OffsetDateTime};

use super::model::{self, Sums};
use super::service::{OrderError, address_place};
use crate::app::App;
use crate::catalog::service::Offer;
use crate::clock::shanghai_rfc3339;
use crate::error::ApiError;
use crate::idempotency::Keyed;
use crate::stock::Line;
use crate::stock::gate::Hold;
use crate::{addresses, freight};

/// An order that is ready to be written.
#[derive(Debug)]
pub struct Draft {
    pub keyed: Keyed,
    /// Its key has a row already, too old to count: it is written alone, since that row has to be renewed.
    pub renews_key: bool,
    pub order_no: OrderNo,
    pub offers: Vec<Offer>,
    /// In SKU order.
    pub lines: Vec<Line>,
    pub sums: Sums,
    pub address_sealed: String,
    pub remark: String,
    pub now: OffsetDateTime,
    pub pay_deadline: OffsetDateTime,
}

impl Draft {
    /// Prices what `body` asks for (`wanted`), at `now`.
    ///
    /// # Errors
    /// [`Problem::ProductNotFound`], [`Problem::AddressNotFound`], [`Problem::CouponNotFound`],
    /// [`Problem::InvalidParameter`], or MySQL being away.
    pub async fn make(
        app: &App,
        keyed: Keyed,
        renews_key: bool,
        body: CreateOrder,
        wanted: &Wanted,
        now: OffsetDateTime,
    ) -> Result<Draft, ApiError> {
        if body.coupon_id.is_some() {
            // No shopper has been given a coupon yet, so whichever is named is not theirs.
            return Err(Problem::CouponNotFound.into());
        }
        let address = async {
            let address = addresses::service::get(app, keyed.user(), body.address_id).await;
            address.map_err(ApiError::from)
        };
        let (address, offers) = tokio::try_join!(address, app.reads.offers.of(wanted))?;
        let sums = Sums::of(&offers, Fen::ZERO, |goods| freight::fee(app.config.freight, goods))
            .ok_or_else(|| ApiError::fields(vec![FieldProblem::new("quantity", "订单金额超出范围")]))?;
        let lines = offers
            .iter()
            .map(|offer| Line { sku_id: offer.sku_id, quantity: offer.quantity.get() })
            .collect();
        let order_no = model::order_no(now, random_number()?);
        let address_sealed =
            app.seal.seal(address_place(order_no.as_str()), &address).map_err(OrderError::from)?;
        Ok(Draft {
            keyed,
            renews_key,
            order_no,
            offers,
            lines,
            sums,
            address_sealed,
            remark: body.remark.unwrap_or_default().trim().to_owned(),
            now,
            pay_deadline: now + Duration::seconds(i64::from(app.config.orders.pay_window_seconds)),
        })
    }

    /// How the gate knows this order.
    pub fn hold(&self) -> Hold {
        Hold { order_no: self.order_no.clone(), request: self.keyed.name() }
    }

    /// The reply once it is made.
    pub fn created(&self, order_id: OrderId) -> CreatedOrder {
        CreatedOrder {
            order_id,
            order_no: self.order_no.clone(),
            total_amount: self.sums.total,
            actual_amount: self.sums.actual,
            delivery_fee: self.sums.delivery,
            pay_deadline: shanghai_rfc3339(self.pay_deadline),
        }
    }
}

fn random_number() -> Result<u32, ApiError> {
    let mut bytes = [0; 4];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ApiError::caused(Problem::Internal, anyhow::anyhow!("the system gave no randomness")))?;
    Ok(u32::from_le_bytes(bytes))
}
