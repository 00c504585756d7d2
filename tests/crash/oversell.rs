//! The proof that an oversell would be seen. The same burst of buyers and the same audit go to the seed's own lock, which
//! must oversell, to the same design repaired, and to the origin, which must not. A harness to which all three look alike
//! would prove nothing.

use std::sync::Arc;

use farmgate_bench::audit::{self, Ledger, Units};
use farmgate_bench::oversell::{BUYERS, STOCK, trial};
use farmgate_bench::target::Target;
use farmgate_tests::{Express, ShopPlan};

/// The seed's lock fails in about every second trial.
const MOST_TRIALS: i64 = 60;
/// Trials of those that must never fail.
const TRIALS: i64 = 20;

fn stocked(trials: i64) -> Vec<(i64, i64)> {
    (1..=trials).map(|product| (product, STOCK)).collect()
}

async fn burst(target: &Arc<Target>, product: i64) {
    let tally = trial(target, product).await.unwrap();
    assert_eq!(tally.failed(), 0, "product {product}: {:?}", tally.failed);
    assert!(tally.accepted > 0, "product {product}: nobody got anything");
}

#[tokio::test]
async fn the_seeds_lock_oversells_and_the_audit_sees_it() {
    let peer = Express::seed(&stocked(MOST_TRIALS)).await;
    for product in 1..=MOST_TRIALS {
        burst(&peer.target, product).await;
        let units = peer.units().await;
        if let Some(found) = units.iter().find(|units| units.oversold() > 0) {
            assert_eq!((found.sku, found.stocked), (product, STOCK), "the trial that was just made");
            assert!(found.ordered > STOCK && audit::oversold(&units) == found.ordered - STOCK, "{units:?}");
            println!("trial {product}: {} units sold of {STOCK}", found.ordered);
            return;
        }
    }
    panic!("the harness saw no oversell in {MOST_TRIALS} trials of a lock that does not hold");
}

/// Each trial sold all there was and not one more.
fn assert_all_sold(units: &[Units], trials: i64) {
    assert_eq!(i64::try_from(units.len()), Ok(trials), "{units:?}");
    for units in units {
        assert_eq!((units.stocked, units.ordered), (STOCK, STOCK), "{units:?}");
    }
}

#[tokio::test]
async fn the_same_burst_oversells_nothing_once_the_seed_is_repaired() {
    let peer = Express::repaired(&stocked(TRIALS)).await;
    for product in 1..=TRIALS {
        burst(&peer.target, product).await;
    }
    assert_all_sold(&peer.units().await, TRIALS);
}

#[tokio::test]
async fn the_same_burst_oversells_nothing_at_the_origin() {
    let shop = ShopPlan::new().stock(i32::try_from(STOCK).unwrap()).worker().start().await;
    let target = Arc::new(shop.bench_target(BUYERS).await);
    let products: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM products WHERE status = 1 ORDER BY id LIMIT ?")
            .bind(TRIALS)
            .fetch_all(&shop.db)
            .await
            .unwrap();
    for product in products {
        burst(&target, product).await;
    }
    let units = audit::units(&mut shop.db.acquire().await.unwrap(), Ledger::Origin).await.unwrap();
    assert_all_sold(&units, TRIALS);
}
