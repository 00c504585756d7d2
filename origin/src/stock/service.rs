//! Use cases of stock. Those that change it run in the caller's transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use farmgate_shared::ids::{OrderId, OrderNo, SkuId, UserId};
use sqlx::MySqlConnection;

use super::Line;
use super::buyers::Bought;
use super::model::{Change, Shift};
use super::sold_out::Outlook;
use super::store::{self, Movement};
use crate::app::App;
use crate::db;
use crate::db::script::{RowId, Said, Script};
use crate::idempotency::KEY_LIFE;

/// Movements of one SKU that are read to know its buyers.
const MOST_BUYERS: u32 = 10_000;

/// What can be ordered of each SKU now; unknown ones are left out.
///
/// # Errors
/// When MySQL is away.
pub async fn available(app: &App, skus: &[SkuId]) -> Result<HashMap<SkuId, i64>, sqlx::Error> {
    if skus.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = store::available(app.db.pool(), skus).await?;
    Ok(rows.into_iter().map(|(sku, available)| (SkuId(sku), available)).collect())
}

/// Why stock did not change.
#[derive(Debug, thiserror::Error)]
pub enum StockError {
    /// There is less than asked for of this SKU.
    #[error("not enough of SKU {0}")]
    NotEnough(SkuId),
    /// Several orders ask for more of a SKU together than can be counted.
    #[error("more of a SKU than can be counted")]
    TooMuch,
    /// The books are wrong: an order says that it holds what `stock` does not hold.
    #[error("SKU {0} does not hold what its order says")]
    NotHeld(SkuId),
    /// The books are wrong: an order says that it bought what `stock` has not sold.
    #[error("SKU {0} was not sold as often as its order says")]
    NotSold(SkuId),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Holds the lines of some orders that await payment, as the last part of a script and of its transaction, so that a hot
/// row is locked as short as can be; rows are taken in SKU order, so that two transactions never wait for each other in a
/// circle.
///
/// # Errors
/// [`StockError::TooMuch`].
pub fn hold(script: &mut Script, orders: &[(RowId, &[Line])]) -> Result<Guards, StockError> {
    let mut movements = Vec::with_capacity(orders.len());
    let mut sums: BTreeMap<SkuId, u32> = BTreeMap::new();
    for (order, lines) in orders {
        for line in *lines {
            movements.push(movement(*order, *line, Shift::Hold));
            let sum = sums.entry(line.sku_id).or_default();
            *sum = sum.checked_add(line.quantity).ok_or(StockError::TooMuch)?;
        }
    }
    store::record(script, &movements);
    let lines: Vec<Line> = sums.into_iter().map(|(sku_id, quantity)| Line { sku_id, quantity }).collect();
    if orders.len() > 1 {
        store::hold_all(script, &lines);
        script.require_changed(lines.len());
        return Ok(Guards { shift: Shift::Hold, each: Vec::new() });
    }
    // One order's SKUs one by one, so that the one that it fails for has a name.
    Ok(Guards::add(script, &lines, Shift::Hold))
}

/// The guarded updates in a script, one a SKU.
#[derive(Debug)]
pub struct Guards {
    shift: Shift,
    each: Vec<(Said, SkuId)>,
}

impl Guards {
    fn add(script: &mut Script, lines: &[Line], shift: Shift) -> Guards {
        let mut guard = |line: &Line| (store::shift(script, *line, shift), line.sku_id);
        Guards { shift, each: lines.iter().map(&mut guard).collect() }
    }

    /// Why the script ended at a condition, if it is one of these.
    pub fn refusal(&self, broken: Said) -> Option<StockError> {
        let (_, sku) = self.each.iter().find(|(guard, _)| *guard == broken)?;
        Some(match self.shift {
            Shift::Hold => StockError::NotEnough(*sku),
            Shift::Sell | Shift::Release => StockError::NotHeld(*sku),
            Shift::TakeBack => StockError::NotSold(*sku),
        })
    }
}

/// Moves the stock of an order's lines, which are in SKU order, in one trip.
///
/// # Errors
/// [`StockError::NotHeld`] or [`StockError::NotSold`] when the books are wrong, or MySQL being away.
pub async fn shift(
    connection: &mut MySqlConnection,
    order: OrderId,
    lines: &[Line],
    shift: Shift,
) -> Result<(), StockError> {
    let movements: Vec<Movement> = lines.iter().map(|line| movement(order, *line, shift)).collect();
    let mut script = Script::default();
    store::record(&mut script, &movements);
    let guards = Guards::add(&mut script, lines, shift);
    let ran = script.run(connection).await?;
    ran.broken().and_then(|broken| guards.refusal(broken)).map_or(Ok(()), Err)
}

/// Records the first stock of a SKU; one that has stock already is left alone.
///
/// # Errors
/// When MySQL is away.
pub async fn create(connection: &mut MySqlConnection, line: Line) -> Result<bool, sqlx::Error> {
    if !store::create(connection, line).await? {
        return Ok(false);
    }
    let change = Change { available: i64::from(line.quantity), held: 0, sold: 0 };
    let mut script = Script::default();
    store::record(&mut script, &[Movement { line, order: None, reason: "stocked", change }]);
    script.run(connection).await?;
    Ok(true)
}

fn movement(order: impl Into<RowId>, line: Line, shift: Shift) -> Movement {
    Movement { line, order: Some(order.into()), reason: shift.reason(), change: shift.of(line.quantity) }
}

/// Brings the seed's `products.stock` column up to date; says how many products changed.
///
/// # Errors
/// When MySQL is away.
pub async fn mirror_into_products(app: &App) -> Result<u64, sqlx::Error> {
    store::mirror_into_products(app.db.pool()).await
}

/// Learns the gate's generation from MySQL, so that this process believes no other.
///
/// # Errors
/// When MySQL is away.
pub async fn learn_gate_epoch(app: &App) -> Result<(), sqlx::Error> {
    app.gate.set_epoch(store::gate_epoch(app.db.pool()).await?);
    Ok(())
}

/// Order numbers whose hold has stood in the gate for longer than `life_ms` milliseconds: their maker died, or could not say
/// whether it committed.
///
/// # Errors
/// When Redis is away.
pub async fn old_holds(app: &App, life_ms: i64, most: usize) -> redis::RedisResult<Vec<OrderNo>> {
    app.gate.holds_older_than(life_ms, most).await
}

/// The gate refused: requests for as much are refused here for a moment, without asking it.
pub fn note_sold_out(app: &App, sku: SkuId, left: u32) {
    app.sold_out.raise(sku, left, Instant::now());
}

/// Whether some of the lines were sold out a moment ago. To be asked once for an order: where a flag has to be looked
/// after, the one who is told that the way is open looks after it.
pub fn outlook(app: &App, lines: &[Line]) -> Outlook {
    app.sold_out.outlook(lines, Instant::now())
}

/// Whether something has been sold out for a while, and the shopper has bought nothing of it that they could be asking for
/// once more.
pub fn is_sold_out_to(app: &Arc<App>, user: UserId, outlook: Outlook) -> bool {
    let Outlook::ShortForLong(sku) = outlook else { return false };
    match app.buyers.ask(sku, user, Instant::now()) {
        Bought::No => true,
        Bought::Perhaps => false,
        Bought::Read(reading) => {
            let app = app.clone();
            tokio::spawn(async move { read_buyers(&app, sku, reading).await });
            false
        }
    }
}

async fn read_buyers(app: &App, sku: SkuId, reading: u64) {
    let since = app.clock.now() - KEY_LIFE;
    match db::look(store::buyers(app.db.pool(), sku, since, MOST_BUYERS)).await {
        Ok(users) => app.buyers.learn(sku, reading, users),
        Err(error) => {
            tracing::debug!(%error, %sku, "who bought is not known");
            app.buyers.give_up(sku, reading);
        }
    }
}

/// Some lines went to somebody: what this process took for sold out is not.
pub fn note_taken(app: &App, lines: &[Line]) {
    app.sold_out.lower_if_wrong(lines);
}

/// A look at the movements, which began at `looked`, found that these SKUs moved.
pub fn note_moved(app: &App, skus: &BTreeSet<SkuId>, looked: Instant) {
    app.buyers.moved(skus, looked);
}

/// The movements that were looked at are gone.
pub fn note_rewritten(app: &App) {
    app.buyers.forget();
}

/// MySQL refused what the gate let through, so the gate shows too much of this SKU: lowers it to the truth.
pub async fn lower_gate(app: &App, sku: SkuId) {
    match available(app, &[sku]).await {
        Ok(levels) => {
            let left = levels.get(&sku).copied().unwrap_or(0);
            app.gate.lower(sku, left).await;
            note_sold_out(app, sku, u32::try_from(left).unwrap_or(0));
        }
        Err(error) => tracing::debug!(%error, %sku, "the gate stays too high until the next refusal"),
    }
}

/// The goods of a cancelled or refunded order are for sale again.
pub async fn give_back(app: &App, lines: &[Line]) {
    app.gate.give_back(lines).await;
    app.sold_out.lower(lines);
}
