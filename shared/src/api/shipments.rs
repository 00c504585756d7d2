//! Where an order is on its way.

use serde::{Deserialize, Serialize};

use crate::ids::{OrderId, OrderNo};

/// How an order gets to its shopper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ShipmentKind {
    /// With an express company, under a number.
    Express,
    /// By a courier within the city.
    City,
    /// The shopper comes for it.
    PickUp,
}

impl ShipmentKind {
    /// As a shopper reads it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            ShipmentKind::Express => "快递配送",
            ShipmentKind::City => "同城配送",
            ShipmentKind::PickUp => "到店自提",
        }
    }
}

/// Data of `GET /api/orders/{id}/tracking`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Tracking {
    pub order_id: OrderId,
    pub order_no: OrderNo,
    /// 0 awaiting payment, 1 paid, 2 shipped, 3 completed, 4 cancelled, 5 refunding, 6 refunded.
    pub status: u8,
    pub status_text: String,
    /// `null` until the shop has shipped the order.
    pub shipment: Option<Shipment>,
    /// When the shopper confirmed the order, or it completed by itself.
    pub completed_at: Option<String>,
}

/// How and when an order went out; where it was shipped anew, the last time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Shipment {
    pub kind: ShipmentKind,
    pub kind_text: String,
    /// Express: WeChat's code of the company, `SF`.
    pub company: Option<String>,
    /// Express: its name, where the shop knows it.
    pub company_name: Option<String>,
    /// Express: the parcel's number.
    pub tracking_no: Option<String>,
    /// Within the city: who brings it.
    pub courier: Option<String>,
    pub courier_phone: Option<String>,
    pub shipped_at: String,
    /// The parcel got another number after it was shipped.
    pub is_reshipped: bool,
}
