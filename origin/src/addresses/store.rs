//! SQL of `addresses`. Each statement for a shopper names the user beside the address.

use farmgate_shared::api::addresses::AddressInput;
use farmgate_shared::ids::{AddressId, UserId};
use sqlx::{FromRow, MySqlConnection, MySqlPool};

use crate::db::reseal::SealedRow;
use crate::db::script::{Said, Script};

#[derive(Clone, Debug, FromRow)]
pub struct AddressRow {
    pub id: i64,
    pub user_id: i64,
    pub contact_sealed: Vec<u8>,
    pub province: String,
    pub city: String,
    pub district: String,
    pub region_code: Option<String>,
    pub is_default: bool,
}

pub async fn list(pool: &MySqlPool, user: UserId) -> Result<Vec<AddressRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, user_id, contact_sealed, province, city, district, region_code, is_default FROM addresses \
         WHERE user_id = ? ORDER BY is_default DESC, id DESC",
    )
    .bind(user.0)
    .fetch_all(pool)
    .await
}

/// Addresses of several users: the caller compares `user_id`.
pub fn find_all(script: &mut Script, ids: impl Iterator<Item = AddressId>) -> Said {
    script.statement(|sql| {
        sql.sql(
            "SELECT id, user_id, contact_sealed, province, city, district, region_code, is_default FROM addresses \
             WHERE id IN ",
        );
        sql.list(ids, |sql, id| {
            sql.int(id.0);
        });
    })
}

/// Takes the user's row, so that two changes of one shopper's addresses go one after the other.
pub async fn lock_user(connection: &mut MySqlConnection, user: UserId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT id FROM users WHERE id = ? FOR UPDATE").bind(user.0).fetch_one(connection).await?;
    Ok(())
}

pub async fn count(connection: &mut MySqlConnection, user: UserId) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT COUNT(*) FROM addresses WHERE user_id = ?")
        .bind(user.0)
        .fetch_one(connection)
        .await
}

/// The contact is sealed for the row's id, which this returns; [`set_contact`] follows.
pub async fn insert(
    connection: &mut MySqlConnection,
    user: UserId,
    input: &AddressInput,
    is_default: bool,
) -> Result<AddressId, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO addresses (user_id, contact_sealed, province, city, district, region_code, is_default) \
         VALUES (?, '', ?, ?, ?, ?, ?)",
    )
    .bind(user.0)
    .bind(input.province.trim())
    .bind(input.city.trim())
    .bind(input.district.trim())
    .bind(&input.region_code)
    .bind(is_default)
    .execute(connection)
    .await?;
    Ok(AddressId(i64::try_from(done.last_insert_id()).map_err(|error| sqlx::Error::Decode(error.into()))?))
}

pub async fn set_contact(
    connection: &mut MySqlConnection,
    id: AddressId,
    sealed: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE addresses SET contact_sealed = ? WHERE id = ?")
        .bind(sealed.as_bytes())
        .bind(id.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether there was such an address. The connection counts found rows, not changed ones, so an update that changes
/// nothing still finds its row.
pub async fn update(
    connection: &mut MySqlConnection,
    user: UserId,
    id: AddressId,
    input: &AddressInput,
    sealed: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE addresses SET contact_sealed = ?, province = ?, city = ?, district = ?, region_code = ? \
         WHERE id = ? AND user_id = ?",
    )
    .bind(sealed.as_bytes())
    .bind(input.province.trim())
    .bind(input.city.trim())
    .bind(input.district.trim())
    .bind(&input.region_code)
    .bind(id.0)
    .bind(user.0)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Makes `id` the user's only default.
pub async fn make_default(
    connection: &mut MySqlConnection,
    user: UserId,
    id: AddressId,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE addresses SET is_default = (id = ?) WHERE user_id = ?")
        .bind(id.0)
        .bind(user.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether there was such an address.
pub async fn delete(
    connection: &mut MySqlConnection,
    user: UserId,
    id: AddressId,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("DELETE FROM addresses WHERE id = ? AND user_id = ?")
        .bind(id.0)
        .bind(user.0)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The newest address becomes the default where none is.
pub async fn ensure_default(connection: &mut MySqlConnection, user: UserId) -> Result<(), sqlx::Error> {
    let newest: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM addresses WHERE user_id = ? ORDER BY is_default DESC, id DESC LIMIT 1",
    )
    .bind(user.0)
    .fetch_optional(&mut *connection)
    .await?;
    match newest {
        Some(id) => make_default(connection, user, AddressId(id)).await,
        None => Ok(()),
    }
}

/// Sealed contacts with a higher id, by their ids.
pub async fn sealed_contacts(pool: &MySqlPool, after: i64, most: u32) -> Result<Vec<SealedRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, CAST(id AS CHAR) AS name, CAST(contact_sealed AS CHAR) AS sealed FROM addresses \
         WHERE id > ? ORDER BY id LIMIT ?",
    )
    .bind(after)
    .bind(most)
    .fetch_all(pool)
    .await
}

/// Writes the same contact sealed anew; false when it was edited or deleted meanwhile.
pub async fn reseal_contact(pool: &MySqlPool, old: &SealedRow, renewed: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE addresses SET contact_sealed = ? WHERE id = ? AND contact_sealed = ?")
        .bind(renewed.as_bytes())
        .bind(old.id)
        .bind(old.sealed.as_bytes())
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}
