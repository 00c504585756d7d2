//! What an order is before it is written: everything that the client does not decide. Promises that prices, freight, the
//! discount and the address come from the database.

use farmgate_shared::api::addresses::Address;
use farmgate_shared::api::orders::{CreateOrder, CreatedOrder, Wanted};
use farmgate_shared::ids::{CouponId, OrderId, OrderNo};
use farmgate_shared::money::Fen;
use farmgate_shared::problem::{FieldProblem, Problem};
use ring::rand::{SecureRandom, SystemRandom};
use time::{Duration, OffsetDateTime};

use super::model::{Sums, line_amount};
use super::service::{OrderError, address_place};
use crate::app::App;
use crate::catalog::offers::Offer;
use crate::clock::shanghai_rfc3339;
use crate::coupons::Spend;
use crate::coupons::model::{Goods, Terms};
use crate::db::script::RowId;
use crate::error::ApiError;
use crate::idempotency::Keyed;
use crate::stock::Line;
use crate::stock::taking::Hold;
use crate::{addresses, coupons, freight};

/// An order that is ready to be written.
#[derive(Clone, Debug)]
pub struct Draft {
    pub keyed: Keyed,
    /// Its key has a row already, too old to count: it is written alone, since that row has to be renewed.
    pub renews_key: bool,
    pub order_no: OrderNo,
    pub offers: Vec<Offer>,
    /// In SKU order.
    pub lines: Vec<Line>,
    pub sums: Sums,
    /// To be spent on it.
    pub coupon: Option<CouponId>,
    /// Each line's share of the discount, in the lines' order.
    pub discounts: Vec<Fen>,
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
    /// [`Problem::CouponUsed`], [`Problem::CouponNotValidNow`], [`Problem::CouponNotApplicable`],
    /// [`Problem::InvalidParameter`], or MySQL being away.
    pub async fn make(
        app: &App,
        keyed: Keyed,
        body: CreateOrder,
        wanted: &Wanted,
        now: OffsetDateTime,
    ) -> Result<Draft, ApiError> {
        let address = async {
            let address = addresses::service::get(app, keyed.user(), body.address_id).await;
            address.map_err(ApiError::from)
        };
        let terms = async {
            match body.coupon_id {
                Some(id) => Ok(Some(coupons::service::usable(app, keyed.user(), id, now).await?)),
                None => Ok::<_, ApiError>(None),
            }
        };
        let (address, offers, terms) =
            tokio::try_join!(address, app.reads.offers.of(&app.catalog, wanted), terms)?;
        let (sums, discounts) = price(app, &offers, terms.as_ref())?;
        let lines = offers
            .iter()
            .map(|offer| Line { sku_id: offer.sku_id, quantity: offer.quantity.get() })
            .collect();
        let order_no = app.order_numbers.draw(now, random_number()?);
        let address_sealed =
            app.seal.seal(address_place(order_no.as_str()), &address).map_err(OrderError::from)?;
        Ok(Draft {
            keyed,
            renews_key: false,
            order_no,
            offers,
            lines,
            sums,
            coupon: body.coupon_id,
            discounts,
            address_sealed,
            remark: body.remark.unwrap_or_default().trim().to_owned(),
            now,
            pay_deadline: now + Duration::seconds(i64::from(app.config.orders.pay_window_seconds)),
        })
    }

    /// The same order under another number.
    ///
    /// # Errors
    /// When the system gives no randomness or the address cannot be sealed.
    pub fn renumbered(&self, app: &App) -> Result<Draft, ApiError> {
        let order_no = app.order_numbers.draw(self.now, random_number()?);
        let place = |order_no| address_place(OrderNo::as_str(order_no));
        let address: Address =
            app.seal.open(place(&self.order_no), &self.address_sealed).map_err(OrderError::from)?;
        let address_sealed = app.seal.seal(place(&order_no), &address).map_err(OrderError::from)?;
        Ok(Draft { order_no, address_sealed, ..self.clone() })
    }

    /// How the gate knows this order.
    pub fn hold(&self) -> Hold {
        Hold { order_no: self.order_no.clone(), request: self.keyed.name() }
    }

    /// The coupon that goes with it, if one does.
    pub fn spend(&self, order: RowId) -> Option<Spend> {
        self.coupon.map(|coupon| Spend { coupon, user: self.keyed.user(), order, at: self.now })
    }

    /// The reply once it is made.
    pub fn created(&self, order_id: OrderId) -> CreatedOrder {
        CreatedOrder {
            order_id,
            order_no: self.order_no.clone(),
            total_amount: self.sums.total,
            discount_amount: self.sums.discount,
            actual_amount: self.sums.actual,
            delivery_fee: self.sums.delivery,
            pay_deadline: shanghai_rfc3339(self.pay_deadline),
        }
    }
}

/// What the goods come to, and each line's share of the discount.
fn price(app: &App, offers: &[Offer], coupon: Option<&Terms>) -> Result<(Sums, Vec<Fen>), ApiError> {
    let sums = |discount: Fen| {
        // Freight looks at the goods before the discount: using a coupon never costs the shopper the free delivery.
        Sums::of(offers, discount, |goods| freight::fee(app.config.freight, goods))
            .ok_or_else(|| ApiError::fields(vec![FieldProblem::new("quantity", "订单金额超出范围")]))
    };
    let full = sums(Fen::ZERO)?;
    let Some(coupon) = coupon else { return Ok((full, vec![Fen::ZERO; offers.len()])) };
    let goods = |offer: &Offer| {
        let amount = line_amount(offer)?;
        Some(Goods { product_id: offer.product_id, category_id: offer.category_id, amount })
    };
    let discount = offers
        .iter()
        .map(goods)
        .collect::<Option<Vec<Goods>>>()
        .and_then(|goods| coupon.discount(&goods, full.actual))
        .ok_or(Problem::CouponNotApplicable)?;
    Ok((sums(discount.total)?, discount.shares))
}

fn random_number() -> Result<u32, ApiError> {
    let mut bytes = [0; 4];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ApiError::caused(Problem::Internal, anyhow::anyhow!("the system gave no randomness")))?;
    Ok(u32::from_le_bytes(bytes))
}
