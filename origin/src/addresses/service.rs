//! Use cases of addresses.

use std::sync::Arc;

use farmgate_shared::api::addresses::{Address, AddressInput};
use farmgate_shared::ids::{AddressId, UserId};
use farmgate_shared::problem::Problem;
use serde::{Deserialize, Serialize};
use sqlx::{MySqlConnection, MySqlPool};

use super::store::{self, AddressRow};
use crate::app::App;
use crate::db::lookup::{Lookup, LookupError, Reader};
use crate::db::reseal::{self, Resealed, SealedRow};
use crate::db::seal::{Place, Seal, SealError};
use crate::db::{Retryable, TransactionError};
use crate::error::ApiError;

/// Most addresses a shopper may keep.
const MAX_ADDRESSES: i64 = 50;

/// Reads addresses, those of many orders at once. An address is asked for together with its user, so that another's is
/// not found.
pub type Addresses = Lookup<(UserId, AddressId), AddressRow>;

/// How addresses are read.
pub fn addresses(reader: &Reader) -> Addresses {
    let with_key = |row: AddressRow| ((UserId(row.user_id), AddressId(row.id)), row);
    Lookup::new(
        reader,
        |script, asked| store::find_all(script, asked.iter().map(|(_, id)| *id)),
        move |ran, said| Ok(ran.read(said)?.into_iter().map(with_key).collect()),
    )
}

/// Why an address was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("no such address of this user")]
    NotFound,
    #[error("the user has {MAX_ADDRESSES} addresses already")]
    TooMany,
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Retryable for AddressError {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            AddressError::Database(error) => Some(error),
            _ => None,
        }
    }
}

impl From<AddressError> for ApiError {
    fn from(error: AddressError) -> ApiError {
        match error {
            AddressError::NotFound => Problem::AddressNotFound.into(),
            AddressError::TooMany => Problem::AddressLimit.into(),
            AddressError::Seal(error) => ApiError::caused(Problem::Internal, error),
            AddressError::Lookup(error) => error.into(),
            AddressError::Database(error) => error.into(),
        }
    }
}

/// What of an address is sealed.
#[derive(Serialize, Deserialize)]
struct Contact {
    name: String,
    phone: String,
    detail: String,
}

/// The shopper's addresses, the default first, then the newest.
///
/// # Errors
/// When MySQL is away or a sealed value does not open.
pub async fn list(app: &App, user: UserId) -> Result<Vec<Address>, AddressError> {
    store::list(app.db.pool(), user).await?.into_iter().map(|row| open(&app.seal, row)).collect()
}

/// One address of the shopper's.
///
/// # Errors
/// [`AddressError::NotFound`], also for another user's.
pub async fn get(app: &App, user: UserId, id: AddressId) -> Result<Address, AddressError> {
    let row = app.reads.addresses.get((user, id)).await?.ok_or(AddressError::NotFound)?;
    open(&app.seal, row)
}

/// Adds an address. The first becomes the default.
///
/// # Errors
/// [`AddressError::TooMany`].
pub async fn create(app: &Arc<App>, user: UserId, input: AddressInput) -> Result<Address, AddressError> {
    let id = change(app, "create_address", move |app, connection| {
        let input = input.clone();
        Box::pin(async move {
            store::lock_user(connection, user).await?;
            let count = store::count(connection, user).await?;
            if count >= MAX_ADDRESSES {
                return Err(AddressError::TooMany);
            }
            let id = store::insert(connection, user, &input, false).await?;
            store::set_contact(connection, id, &seal(&app.seal, id, &input)?).await?;
            if input.is_default || count == 0 {
                store::make_default(connection, user, id).await?;
            }
            Ok(id)
        })
    })
    .await?;
    get(app, user, id).await
}

/// Replaces an address. `is_default: false` on the default changes nothing: one must remain.
///
/// # Errors
/// [`AddressError::NotFound`], also for another user's.
pub async fn update(
    app: &Arc<App>,
    user: UserId,
    id: AddressId,
    input: AddressInput,
) -> Result<Address, AddressError> {
    change(app, "update_address", move |app, connection| {
        let input = input.clone();
        Box::pin(async move {
            store::lock_user(connection, user).await?;
            if !store::update(connection, user, id, &input, &seal(&app.seal, id, &input)?).await? {
                return Err(AddressError::NotFound);
            }
            if input.is_default {
                store::make_default(connection, user, id).await?;
            }
            Ok(())
        })
    })
    .await?;
    get(app, user, id).await
}

/// Deletes an address; when it was the default, the newest of the others becomes it.
///
/// # Errors
/// [`AddressError::NotFound`], also for another user's.
pub async fn delete(app: &Arc<App>, user: UserId, id: AddressId) -> Result<(), AddressError> {
    change(app, "delete_address", move |_, connection| {
        Box::pin(async move {
            store::lock_user(connection, user).await?;
            if !store::delete(connection, user, id).await? {
                return Err(AddressError::NotFound);
            }
            store::ensure_default(connection, user).await?;
            Ok(())
        })
    })
    .await
}

/// A transaction whose unknown outcome is told as a database error: doing any of these again does no harm that the
/// shopper would not see.
async fn change<T, F>(app: &Arc<App>, name: &'static str, work: F) -> Result<T, AddressError>
where
    T: Send + 'static,
    F: for<'c> Fn(
            Arc<App>,
            &'c mut MySqlConnection,
        ) -> futures_core::future::BoxFuture<'c, Result<T, AddressError>>
        + Send
        + Sync
        + 'static,
{
    let shared = app.clone();
    app.db
        .transaction(name, move |connection| work(shared.clone(), connection))
        .await
        .map_err(TransactionError::flatten)
}

fn seal(seal: &Seal, id: AddressId, input: &AddressInput) -> Result<String, SealError> {
    let contact = Contact {
        name: input.name.trim().to_owned(),
        phone: input.phone.clone(),
        detail: input.detail.trim().to_owned(),
    };
    seal.seal(place(&id.to_string()), &contact)
}

fn open(seal: &Seal, row: AddressRow) -> Result<Address, AddressError> {
    let sealed = std::str::from_utf8(&row.contact_sealed).map_err(|_| SealError::Malformed)?;
    let contact: Contact = seal.open(place(&row.id.to_string()), sealed)?;
    Ok(Address {
        id: AddressId(row.id),
        name: contact.name,
        phone: contact.phone,
        province: row.province,
        city: row.city,
        district: row.district,
        detail: contact.detail,
        region_code: row.region_code,
        is_default: row.is_default,
    })
}

/// Seals the contacts anew that another key than the first has sealed.
///
/// # Errors
/// When MySQL is away; what was done until then stays.
pub async fn reseal(pool: &MySqlPool, seal: &Seal) -> Result<Resealed, sqlx::Error> {
    let rows = async |after, most| store::sealed_contacts(pool, after, most).await;
    let replace = async |old: &SealedRow, renewed: &str| store::reseal_contact(pool, old, renewed).await;
    reseal::run(seal, (TABLE, COLUMN), rows, replace).await
}

const TABLE: &str = "addresses";
const COLUMN: &str = "contact";

fn place(row: &str) -> Place<'_> {
    Place { table: TABLE, row, column: COLUMN }
}
