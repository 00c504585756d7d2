//! SQL of `shipments`.

use farmgate_shared::ids::OrderId;
use sqlx::{FromRow, MySqlConnection, MySqlExecutor, MySqlPool};
use time::OffsetDateTime;

use crate::db::reseal::SealedRow;

#[derive(Debug, FromRow)]
pub struct ShipmentRow {
    pub round: i8,
    pub kind: i8,
    pub company: Option<String>,
    pub tracking_no: Option<String>,
    pub courier_sealed: Option<String>,
    pub shipped_at: OffsetDateTime,
    pub uploaded_at: Option<OffsetDateTime>,
}

/// A row that is to be.
#[derive(Debug)]
pub struct NewShipment<'a> {
    pub order: OrderId,
    pub round: i8,
    pub kind: u8,
    pub company: Option<&'a str>,
    pub tracking_no: Option<&'a str>,
    pub courier_sealed: Option<&'a str>,
    pub shipped_at: OffsetDateTime,
}

pub async fn insert(connection: &mut MySqlConnection, shipment: &NewShipment<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO shipments (order_id, round, kind, company, tracking_no, courier_sealed, shipped_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(shipment.order.0)
    .bind(shipment.round)
    .bind(shipment.kind)
    .bind(shipment.company)
    .bind(shipment.tracking_no)
    .bind(shipment.courier_sealed)
    .bind(shipment.shipped_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// The last shipment of an order.
pub async fn last(
    executor: impl MySqlExecutor<'_>,
    order: OrderId,
) -> Result<Option<ShipmentRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT round, kind, company, tracking_no, courier_sealed, shipped_at, uploaded_at FROM shipments \
         WHERE order_id = ? ORDER BY round DESC LIMIT 1",
    )
    .bind(order.0)
    .fetch_optional(executor)
    .await
}

/// WeChat has this round, and needs none before it.
pub async fn set_uploaded(
    connection: &mut MySqlConnection,
    order: OrderId,
    round: i8,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE shipments SET uploaded_at = ? WHERE order_id = ? AND round <= ? AND uploaded_at IS NULL",
    )
    .bind(at)
    .bind(order.0)
    .bind(round)
    .execute(connection)
    .await?;
    Ok(())
}

/// A shipment as an operator finds it.
#[derive(Debug, FromRow)]
pub struct FoundRow {
    pub id: i64,
    pub order_id: i64,
    pub shipped_at: OffsetDateTime,
}

/// Shipments with a higher id that WeChat does not have yet, the longest shipped first.
pub async fn to_upload(pool: &MySqlPool, after: i64, most: u32) -> Result<Vec<FoundRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, order_id, shipped_at FROM shipments WHERE uploaded_at IS NULL AND id > ? ORDER BY id LIMIT ?",
    )
    .bind(after)
    .bind(most)
    .fetch_all(pool)
    .await
}

/// Shipments under a parcel's number, the earliest first.
pub async fn by_number(pool: &MySqlPool, tracking_no: &str, most: u32) -> Result<Vec<FoundRow>, sqlx::Error> {
    sqlx::query_as("SELECT id, order_id, shipped_at FROM shipments WHERE tracking_no = ? ORDER BY id LIMIT ?")
        .bind(tracking_no)
        .bind(most)
        .fetch_all(pool)
        .await
}

/// Sealed couriers of shipments with a higher id, by their ids.
pub async fn sealed_couriers(pool: &MySqlPool, after: i64, most: u32) -> Result<Vec<SealedRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, CONCAT(order_id, ':', round) AS name, courier_sealed AS sealed FROM shipments \
         WHERE id > ? AND courier_sealed IS NOT NULL ORDER BY id LIMIT ?",
    )
    .bind(after)
    .bind(most)
    .fetch_all(pool)
    .await
}

/// Writes the same courier sealed anew; false when another one stands there.
pub async fn reseal_courier(pool: &MySqlPool, old: &SealedRow, renewed: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE shipments SET courier_sealed = ? WHERE id = ? AND courier_sealed = ?")
        .bind(renewed)
        .bind(old.id)
        .bind(&old.sealed)
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}
