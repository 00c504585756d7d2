//! Use cases of shipments.

use farmgate_shared::api::shipments::{Shipment, ShipmentKind, Tracking};
use farmgate_shared::ids::{OrderId, UserId};
use sqlx::{MySqlConnection, MySqlPool};
use time::OffsetDateTime;

use super::model::{self, Courier, Way};
use super::store::{self, FoundRow, NewShipment, ShipmentRow};
use crate::app::App;
use crate::clock::shanghai_rfc3339;
use crate::db::reseal::{self, Resealed, SealedRow};
use crate::db::seal::{Place, Seal, SealError};
use crate::db::{Retryable, TransactionError};
use crate::error::ApiError;
use crate::orders;
use crate::orders::model::Status;
use crate::orders::of_shop::Named;
use crate::orders::service::OrderError;
use crate::outbox::model::CallFailure;

/// WeChat takes one change of a shipment.
const LAST_ROUND: i8 = 2;

/// Why an order was not shipped, or its shipment not read.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    #[error("there is no such order")]
    NotFound,
    #[error("an order that is {} cannot be shipped", .0.text())]
    NotShippable(Status),
    #[error("the order was shipped twice already, and WeChat takes no third parcel number")]
    ShippedTwice,
    #[error("the shipment in the database has the kind {0}")]
    UnknownKind(i8),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Order(#[from] OrderError),
}

impl From<sqlx::Error> for ShipError {
    fn from(error: sqlx::Error) -> ShipError {
        ShipError::Order(error.into())
    }
}

impl Retryable for ShipError {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            ShipError::Order(error) => error.database(),
            _ => None,
        }
    }
}

/// What became of a wish to ship.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shipped {
    Now,
    /// It was shipped just so before.
    Before,
    /// It was shipped otherwise before, and goes by this one from now on.
    Anew,
}

/// Ships a paid order. A second wish of the same words finds it shipped; other words are the one change that WeChat takes,
/// while the order is on its way.
///
/// # Errors
/// [`ShipError`]; nothing was changed then.
pub async fn ship(app: &App, order: OrderId, way: Way) -> Result<Shipped, ShipError> {
    let (seal, now) = (app.seal.clone(), app.clock.now());
    app.db
        .transaction("ship_order", move |connection| {
            let (seal, way) = (seal.clone(), way.clone());
            Box::pin(async move { ship_within(connection, &seal, order, &way, now).await })
        })
        .await
        .map_err(TransactionError::flatten)
}

async fn ship_within(
    connection: &mut MySqlConnection,
    seal: &Seal,
    order: OrderId,
    way: &Way,
    now: OffsetDateTime,
) -> Result<Shipped, ShipError> {
    let status = orders::shipping::lock_status(connection, order).await?.ok_or(ShipError::NotFound)?;
    if orders::shipping::mark_shipped(connection, order, now).await? {
        insert(connection, seal, (order, 1), way, now).await?;
        return Ok(Shipped::Now);
    }
    let Some(last) = store::last(&mut *connection, order).await? else {
        return Err(ShipError::NotShippable(status));
    };
    if read_way(seal, order, &last)? == *way {
        return Ok(Shipped::Before);
    }
    if status != Status::Shipped {
        return Err(ShipError::NotShippable(status));
    }
    if last.round >= LAST_ROUND {
        return Err(ShipError::ShippedTwice);
    }
    insert(connection, seal, (order, LAST_ROUND), way, now).await?;
    orders::shipping::mark_reshipped(connection, order).await?;
    Ok(Shipped::Anew)
}

async fn insert(
    connection: &mut MySqlConnection,
    seal: &Seal,
    (order, round): (OrderId, i8),
    way: &Way,
    shipped_at: OffsetDateTime,
) -> Result<(), ShipError> {
    let (company, tracking_no) = match way {
        Way::Express { company, tracking_no } => (Some(company.as_str()), Some(tracking_no.as_str())),
        Way::City(_) | Way::PickUp => (None, None),
    };
    let courier_sealed = match way {
        Way::City(courier) => Some(seal.seal(courier_place(&row_name(order, round)), courier)?),
        Way::Express { .. } | Way::PickUp => None,
    };
    let shipment = NewShipment {
        order,
        round,
        kind: model::number(way.kind()),
        company,
        tracking_no,
        courier_sealed: courier_sealed.as_deref(),
        shipped_at,
    };
    Ok(store::insert(connection, &shipment).await?)
}

/// Where a courier's name and phone stand.
fn courier_place(row: &str) -> Place<'_> {
    Place { table: TABLE, row, column: COURIER }
}

const TABLE: &str = "shipments";
const COURIER: &str = "courier_sealed";

/// Seals the couriers anew that another key than the first has sealed.
///
/// # Errors
/// When MySQL is away; what was done until then stays.
pub async fn reseal(pool: &MySqlPool, seal: &Seal) -> Result<Resealed, sqlx::Error> {
    let rows = async |after, most| store::sealed_couriers(pool, after, most).await;
    let replace = async |old: &SealedRow, renewed: &str| store::reseal_courier(pool, old, renewed).await;
    reseal::run(seal, (TABLE, COURIER), rows, replace).await
}

fn row_name(order: OrderId, round: i8) -> String {
    format!("{order}:{round}")
}

fn read_way(seal: &Seal, order: OrderId, row: &ShipmentRow) -> Result<Way, ShipError> {
    let kinds = [ShipmentKind::Express, ShipmentKind::City, ShipmentKind::PickUp];
    let kind = kinds.into_iter().find(|kind| i8::try_from(model::number(*kind)) == Ok(row.kind));
    match (kind, &row.company, &row.tracking_no, &row.courier_sealed) {
        (Some(ShipmentKind::Express), Some(company), Some(tracking_no), _) => {
            Ok(Way::Express { company: company.clone(), tracking_no: tracking_no.clone() })
        }
        (Some(ShipmentKind::City), _, _, Some(sealed)) => {
            let courier: Courier = seal.open(courier_place(&row_name(order, row.round)), sealed)?;
            Ok(Way::City(courier))
        }
        (Some(ShipmentKind::PickUp), ..) => Ok(Way::PickUp),
        _ => Err(ShipError::UnknownKind(row.kind)),
    }
}

/// How an order went out, the last time.
#[derive(Debug)]
pub struct Sent {
    pub round: i8,
    pub way: Way,
    pub shipped_at: OffsetDateTime,
    pub is_uploaded: bool,
}

/// How an order went out; `None` when it did not.
///
/// # Errors
/// [`ShipError`].
pub async fn sent(app: &App, order: OrderId) -> Result<Option<Sent>, ShipError> {
    let Some(row) = store::last(app.db.pool(), order).await? else { return Ok(None) };
    Ok(Some(Sent {
        round: row.round,
        way: read_way(&app.seal, order, &row)?,
        shipped_at: row.shipped_at,
        is_uploaded: row.uploaded_at.is_some(),
    }))
}

/// A shipment and its order, as an operator finds it.
#[derive(Debug)]
pub struct Found {
    pub order_no: String,
    pub status: Status,
    pub shipped_at: OffsetDateTime,
}

/// Shipments of which WeChat has not been told yet, the longest shipped first, at most so many. Those of refunded orders,
/// which have no money left to unfreeze, are passed over.
///
/// # Errors
/// When MySQL is away.
pub async fn to_upload(app: &App, most: u32) -> Result<Vec<Found>, ShipError> {
    let (wanted, mut found, mut after) = (usize::try_from(most).unwrap_or(usize::MAX), Vec::new(), 0);
    loop {
        let rows = store::to_upload(app.db.pool(), after, most).await?;
        let Some(last) = rows.last() else { return Ok(found) };
        after = last.id;
        let more = with_orders(app, rows).await?;
        found.extend(more.into_iter().filter(|found| found.status != Status::Refunded));
        if found.len() >= wanted {
            found.truncate(wanted);
            return Ok(found);
        }
    }
}

/// Shipments under a parcel's number, the earliest first, at most so many: the same number may come again after a year.
///
/// # Errors
/// When MySQL is away.
pub async fn of_parcel(app: &App, tracking_no: &str, most: u32) -> Result<Vec<Found>, ShipError> {
    let rows = store::by_number(app.db.pool(), tracking_no, most).await?;
    with_orders(app, rows).await
}

async fn with_orders(app: &App, rows: Vec<FoundRow>) -> Result<Vec<Found>, ShipError> {
    let ids: Vec<OrderId> = rows.iter().map(|row| OrderId(row.order_id)).collect();
    let names = orders::of_shop::named(app.db.pool(), &ids).await?;
    let found = rows.into_iter().filter_map(|row| {
        let Named { order_no, status } = names.get(&OrderId(row.order_id))?.clone();
        Some(Found { order_no, status, shipped_at: row.shipped_at })
    });
    Ok(found.collect())
}

/// Where the shopper's order is.
///
/// # Errors
/// [`farmgate_shared::problem::Problem::OrderNotFound`], also for another user's order.
pub async fn tracking(app: &App, user: UserId, id: OrderId) -> Result<Tracking, ApiError> {
    let order = orders::service::get(app, user, id).await?;
    let sent = sent(app, id).await?;
    Ok(Tracking {
        order_id: order.id,
        order_no: order.order_no,
        status: order.status,
        status_text: order.status_text,
        shipment: sent.map(show),
        completed_at: order.completed_at,
    })
}

/// For calls of the outbox that read a shipment.
impl From<ShipError> for CallFailure {
    fn from(error: ShipError) -> CallFailure {
        match error {
            ShipError::Order(error) => error.into(),
            error => CallFailure::Permanent(error.to_string()),
        }
    }
}

impl From<ShipError> for ApiError {
    fn from(error: ShipError) -> ApiError {
        use farmgate_shared::problem::Problem;
        match error {
            ShipError::NotFound => Problem::OrderNotFound.into(),
            ShipError::NotShippable(_) | ShipError::ShippedTwice => Problem::OrderStateConflict.into(),
            ShipError::Order(error) => error.into(),
            other => ApiError::caused(Problem::Internal, other),
        }
    }
}

fn show(sent: Sent) -> Shipment {
    let kind = sent.way.kind();
    let mut shown = Shipment {
        kind,
        kind_text: kind.text().to_owned(),
        company: None,
        company_name: None,
        tracking_no: None,
        courier: None,
        courier_phone: None,
        shipped_at: shanghai_rfc3339(sent.shipped_at),
        is_reshipped: sent.round > 1,
    };
    match sent.way {
        Way::Express { company, tracking_no } => {
            shown.company_name = model::company_name(&company).map(str::to_owned);
            shown.company = Some(company);
            shown.tracking_no = Some(tracking_no);
        }
        Way::City(courier) => {
            shown.courier = Some(courier.name);
            shown.courier_phone = courier.phone;
        }
        Way::PickUp => {}
    }
    shown
}
