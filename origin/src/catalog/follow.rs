//! Keeping the snapshot and the stock beside it near what MySQL says. Promises readers a snapshot of one moment, swapped
//! whole, and stock that is as old as `catalog.stock_refresh_ms` and the time of one look; while MySQL is away, both stay
//! as they were.

use std::collections::BTreeSet;
use std::sync::Arc;

use farmgate_shared::ids::SkuId;
use futures_core::stream::BoxStream;
use sqlx::MySqlConnection;
use tokio::time::Instant;

use super::TooLarge;
use super::assembly::Assembly;
use super::feed::{Feed, Rewritten};
use super::snapshot::Snapshot;
use super::{stock_store, store};
use crate::app::App;
use crate::stock;

/// Movements read at once.
const MOVEMENTS: u32 = 4000;
/// Ranges in which missing movements are looked for at once. None holds more than what turned up in it.
const RANGES: usize = 128;
/// SKUs whose stock is read at once; for more than [`MANY`], all stock is read instead.
const SKUS: usize = 500;
const MANY: usize = 4000;
/// Rows after which others may have the thread.
const ROWS: usize = 64;

/// Where the follower stands. Held while stock is looked at and while a snapshot is swapped, by nobody who answers
/// requests.
#[derive(Debug, Default)]
pub struct Following {
    /// `None` before the first load.
    feed: Option<Feed>,
    /// SKUs that moved and whose stock was not read since: a look that broke off leaves them to the next.
    unread: BTreeSet<SkuId>,
    /// The last SKU of the sweep.
    swept: i64,
}

/// Why a snapshot could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the catalogue cannot be read")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("putting the catalogue together failed")]
    Assembly(#[from] tokio::task::JoinError),
}

/// Whether MySQL has another version of the catalogue than the snapshot.
///
/// # Errors
/// When MySQL is away.
pub async fn is_outdated(app: &App) -> Result<bool, sqlx::Error> {
    let mut connection = app.db.borrow().await?;
    let version = store::version(&mut *connection).await?;
    app.db.give_back(connection);
    Ok(version != app.catalog.snapshot().version)
}

/// Loads the snapshot anew, with the stock of its SKUs.
///
/// # Errors
/// When MySQL is away or holds what cannot be loaded; the old snapshot stays.
pub async fn load(app: &App) -> Result<(), LoadError> {
    let previous = app.catalog.snapshot();
    // A connection of its own, closed afterwards: one that was left in this transaction could not go back.
    let mut connection = app.db.pool().acquire().await?.detach();
    store::begin_reading(&mut connection).await?;
    let version = store::version(&mut connection).await?;
    let categories = store::categories(&mut connection).await?;
    let mut assembly = Assembly::after(&previous)?;
    take_all(store::skus(&mut connection), |row| assembly.add_sku(&row)).await?;
    take_all(store::products(&mut connection), |row| assembly.add_product(&row)).await?;
    sqlx::Connection::close(connection).await?;
    let public_url = app.config.http.public_url.clone();
    let snapshot =
        tokio::task::spawn_blocking(move || assembly.finish(version, categories, &public_url)).await??;
    install(app, snapshot).await?;
    Ok(())
}

async fn take_all<T>(
    mut rows: BoxStream<'_, Result<T, sqlx::Error>>,
    mut take: impl FnMut(T) -> Result<(), TooLarge>,
) -> Result<(), LoadError> {
    let mut count = 0;
    while let Some(row) = std::future::poll_fn(|context| rows.as_mut().poll_next(context)).await {
        take(row?)?;
        count += 1;
        if count % ROWS == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Gives a new snapshot the stock of now and puts it in the place of the old one.
async fn install(app: &App, snapshot: Snapshot) -> Result<(), sqlx::Error> {
    let mut following = app.catalog.following.lock().await;
    let mut connection = app.db.borrow().await?;
    let old = app.catalog.snapshot();
    let mut missing = BTreeSet::new();
    let mut known = Vec::new();
    for (row, sku) in (0..).zip(snapshot.sku_ids()) {
        match old.sku_row_of(sku) {
            Some(old_row) => known.push((row, old.levels.of(old_row))),
            None => {
                missing.insert(sku);
            }
        }
    }
    snapshot.levels.set(known);
    if following.feed.is_none() {
        following.feed = Some(begin(&mut connection).await?);
        read_all_stock(&mut connection, &snapshot).await?;
    } else {
        read_stock(&mut connection, &snapshot, &missing).await?;
    }
    app.db.give_back(connection);
    app.catalog.replace(Arc::new(snapshot));
    Ok(())
}

/// Brings the stock that pages show up to date.
///
/// # Errors
/// When MySQL is away; the stock stays as it was.
pub async fn refresh_stock(app: &App) -> Result<(), sqlx::Error> {
    let mut following = app.catalog.following.lock().await;
    let following = &mut *following;
    let snapshot = app.catalog.snapshot();
    let Some(feed) = &mut following.feed else { return Ok(()) };
    // Four times a second: each trip more is a trip that an order may have to wait for.
    let mut connection = app.db.borrow().await?;
    let looked = std::time::Instant::now();
    match advance(&mut connection, feed, &mut following.unread).await? {
        Ok(()) => {
            stock::service::note_moved(app, &following.unread, looked);
            read_stock(&mut connection, &snapshot, &following.unread).await?;
        }
        Err(Rewritten) => {
            stock::service::note_rewritten(app);
            tracing::warn!("stock movements that were read are gone; reading all stock anew");
            let anew = begin(&mut connection).await?;
            read_all_stock(&mut connection, &snapshot).await?;
            *feed = anew;
        }
    }
    following.unread.clear();
    let most = app.config.catalog.stock_sweep;
    if most > 0 {
        let rows = stock_store::levels_after(&mut connection, following.swept, most).await?;
        let is_round = rows.len() < most as usize;
        following.swept = if is_round { 0 } else { rows.last().map_or(0, |(sku, _)| *sku) };
        show(&snapshot, rows);
    }
    app.db.give_back(connection);
    Ok(())
}

/// A feed that has been read to its end once.
async fn begin(connection: &mut MySqlConnection) -> Result<Feed, sqlx::Error> {
    let mut feed = Feed::before(stock_store::last_movement(connection).await?);
    // A feed that has read nothing yet cannot miss anything that it read.
    let _ = advance(connection, &mut feed, &mut BTreeSet::new()).await?;
    Ok(feed)
}

/// Reads what moved since the last look. What the feed has taken is in `unread`, also when the rest cannot be read.
async fn advance(
    connection: &mut MySqlConnection,
    feed: &mut Feed,
    unread: &mut BTreeSet<SkuId>,
) -> Result<Result<(), Rewritten>, sqlx::Error> {
    let missing = feed.missing(RANGES, Instant::now());
    if !missing.is_empty() {
        unread.extend(feed.take_late(&stock_store::movements_within(connection, missing).await?));
    }
    loop {
        let movements = stock_store::movements_from(connection, feed.next(), MOVEMENTS).await?;
        match feed.take_new(&movements, Instant::now()) {
            Ok(new) => unread.extend(new),
            Err(rewritten) => return Ok(Err(rewritten)),
        }
        if movements.len() < MOVEMENTS as usize {
            return Ok(Ok(()));
        }
    }
}

async fn read_stock(
    connection: &mut MySqlConnection,
    snapshot: &Snapshot,
    skus: &BTreeSet<SkuId>,
) -> Result<(), sqlx::Error> {
    if skus.len() > MANY {
        return read_all_stock(connection, snapshot).await;
    }
    let skus: Vec<SkuId> = skus.iter().copied().collect();
    for portion in skus.chunks(SKUS) {
        show(snapshot, stock_store::levels(connection, portion).await?);
    }
    Ok(())
}

async fn read_all_stock(connection: &mut MySqlConnection, snapshot: &Snapshot) -> Result<(), sqlx::Error> {
    let mut after = 0;
    loop {
        let rows = stock_store::levels_after(connection, after, MOVEMENTS).await?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after = *last;
        show(snapshot, rows);
    }
}

fn show(snapshot: &Snapshot, rows: Vec<(i64, i32)>) {
    let placed =
        rows.into_iter().filter_map(|(sku, available)| Some((snapshot.sku_row_of(SkuId(sku))?, available)));
    snapshot.levels.set(placed);
}
