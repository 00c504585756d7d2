//! SQL of `product_sales`.

use std::collections::BTreeMap;

use farmgate_shared::ids::ProductId;
use sqlx::{MySqlConnection, QueryBuilder};

use super::Sales;

pub async fn add(
    connection: &mut MySqlConnection,
    sales: &BTreeMap<ProductId, Sales>,
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::new("INSERT INTO product_sales (product_id, units, orders) ");
    query.push_values(sales, |mut row, (product, sold)| {
        row.push_bind(product.0).push_bind(sold.units).push_bind(sold.orders);
    });
    query.push(" ON DUPLICATE KEY UPDATE units = units + VALUES(units), orders = orders + VALUES(orders)");
    query.build().execute(connection).await?;
    Ok(())
}
