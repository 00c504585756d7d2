//! The gate held against MySQL, and brought back to it. Promises the worker and `reconcile` that a difference is one that stays:
//! an order or a cancellation in the making shows as one for a moment, and is named to nobody and mended by nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use farmgate_shared::ids::SkuId;

use super::store;
pub use super::suspects::Difference;
use super::suspects::{Moment, Suspects};
use crate::app::App;

/// SKUs compared in one look at the gate.
const CHUNK: usize = 500;
/// Between two looks: longer than the moment from a COMMIT to the gate's hearing of it.
const PAUSE: Duration = Duration::from_millis(100);
/// Looks at what differs each time by another amount; it is named without one then.
const MOST_LOOKS: usize = 60;

/// Where the gate and MySQL differ, and go on to differ.
#[derive(Debug, Default)]
pub struct Drift {
    /// SKUs compared.
    pub looked_at: usize,
    /// The gate is of another generation, or empty.
    pub is_lost: bool,
    /// By SKU, what must be done about its level.
    pub levels: BTreeMap<SkuId, Difference>,
    /// When this was so.
    moment: Moment,
}

impl Drift {
    /// Whether the gate shows what MySQL has.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty() && !self.is_lost
    }
}

/// One look.
enum Look {
    Lost,
    Levels { looked_at: usize, differences: BTreeMap<SkuId, Difference>, moment: Moment },
}

/// Compares the gate with MySQL, and what differs again and again, until each SKU was right once or differed by one amount as
/// often as [`Suspects`] asks. Takes a second where something is wrong on a quiet SKU, and up to six on a busy one.
/// On a SKU that sells at that moment a small difference may hide behind an order once, until the next comparison.
///
/// # Errors
/// When MySQL or Redis is away.
pub async fn lasting(app: &App) -> anyhow::Result<Drift> {
    let mut suspects: Option<Suspects> = None;
    let mut looked_at = 0;
    let mut times_lost = 0;
    for _ in 0..MOST_LOOKS {
        let open = suspects.as_ref().map(Suspects::open);
        match look(app, open.as_deref()).await? {
            Look::Lost => {
                // Whoever fills it raises MySQL's generation first, so for a moment every new gate looks lost.
                (suspects, times_lost) = (None, times_lost + 1);
                if times_lost == Suspects::ENOUGH {
                    return Ok(Drift { is_lost: true, ..Drift::default() });
                }
            }
            Look::Levels { looked_at: all, differences, moment } => {
                times_lost = 0;
                match &mut suspects {
                    Some(suspects) => suspects.see(moment, differences),
                    None => {
                        looked_at = all;
                        suspects = Some(Suspects::first_seen(moment, differences));
                    }
                }
            }
        }
        if suspects.as_ref().is_some_and(|suspects| suspects.open().is_empty()) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let is_lost = suspects.is_none();
    let (moment, levels) = suspects.map(Suspects::verdict).unwrap_or_default();
    Ok(Drift { looked_at, is_lost, levels, moment })
}

/// Compares some SKUs, or all. What the gate has taken for orders that MySQL does not have yet is counted as right.
async fn look(app: &App, skus: Option<&[SkuId]>) -> anyhow::Result<Look> {
    let pool = app.db.pool();
    let epoch = store::gate_epoch(pool).await?;
    if epoch == 0 || app.gate.shown_epoch().await? != Some(epoch) {
        return Ok(Look::Lost);
    }
    // A process that serves nothing has not learnt it, and what it is to mend is of this generation.
    app.gate.set_epoch(epoch);
    let skus = match skus {
        Some(skus) => skus.to_vec(),
        None => store::all_available(pool).await?.into_iter().map(|(sku, _)| SkuId(sku)).collect(),
    };
    let mut differences = BTreeMap::new();
    let mut moment = None;
    for chunk in skus.chunks(CHUNK) {
        // The gate first: what it holds then and MySQL has by now is in MySQL's numbers already.
        let levels = app.gate.levels(chunk).await?;
        moment.get_or_insert(Moment { epoch, mends: levels.mends() });
        let (available, made) = store::available_and_made(pool, chunk, levels.orders()).await?;
        for (sku, available) in available {
            let sku = SkuId(sku);
            // The gate never goes below 0.
            let right = (available - levels.held_for_orders_other_than(sku, &made)).max(0);
            match levels.shown(sku) {
                Some(shown) if shown == right => {}
                Some(shown) => {
                    differences.insert(sku, Difference::Off(right - shown));
                }
                None => {
                    differences.insert(sku, Difference::Unknown(right));
                }
            }
        }
    }
    Ok(Look::Levels { looked_at: skus.len(), differences, moment: moment.unwrap_or_default() })
}

/// Brings the gate to what MySQL has. A gate that is lost is built anew; of any other each level is moved by what it was off,
/// so that orders made meanwhile stay counted, unless another process has mended the gate since. What differs by another amount
/// each time is left. Returns which SKUs were mended, and how.
///
/// # Errors
/// When MySQL or Redis is away.
pub async fn mend(app: &App, drift: &Drift) -> anyhow::Result<BTreeMap<SkuId, Difference>> {
    if drift.is_lost {
        rebuild_gate_if_lost(app).await?;
        return Ok(BTreeMap::new());
    }
    let mut mended = BTreeMap::new();
    let mut seen = drift.moment;
    let differences: Vec<(SkuId, Difference)> = drift.levels.iter().map(|(sku, d)| (*sku, *d)).collect();
    for chunk in differences.chunks(CHUNK) {
        let moved = app.gate.adjust(seen, chunk).await?;
        seen.mends += i64::from(moved.contains(&true));
        mended.extend(chunk.iter().zip(moved).filter(|(_, moved)| *moved).map(|(difference, _)| *difference));
    }
    Ok(mended)
}

/// Builds the gate anew from MySQL if Redis does not show the generation that MySQL names; says whether it did.
///
/// # Errors
/// When MySQL or Redis is away.
pub async fn rebuild_gate_if_lost(app: &App) -> anyhow::Result<bool> {
    let epoch = store::gate_epoch(app.db.pool()).await?;
    if epoch > 0 && app.gate.shown_epoch().await? == Some(epoch) {
        app.gate.set_epoch(epoch);
        return Ok(false);
    }
    rebuild_gate(app).await?;
    Ok(true)
}

/// Builds the gate anew from MySQL, as a new generation. Orders go by MySQL alone where this fails half-way.
async fn rebuild_gate(app: &App) -> anyhow::Result<()> {
    let pool = app.db.pool();
    // From here on nobody believes the old gate; orders go by MySQL alone until the new one is complete.
    store::raise_gate_epoch(pool).await?;
    let epoch = store::gate_epoch(pool).await?;
    let levels = store::all_available(pool).await?;
    app.gate.fill(epoch, levels.into_iter().map(|(sku, available)| (SkuId(sku), available))).await?;
    app.gate.set_epoch(epoch);
    Ok(())
}
