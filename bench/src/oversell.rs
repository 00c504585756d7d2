//! The oversell trial: more buyers than units, at once, and then the books. A harness that cannot see an oversell proves
//! nothing by not seeing one, so the same trial is run against the seed's own lock, which must oversell.

use std::sync::Arc;

use anyhow::Result;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::http::Connection;
use crate::load::{Tally, failure, next_number, send};
use crate::target::{Goods, Outcome, Target};

/// Units on sale in each trial.
pub const STOCK: i64 = 5;
/// Buyers in each trial, each on a connection of their own.
pub const BUYERS: usize = 30;
/// How often a buyer who is told to try again does so, as people do.
const TRIES: u32 = 100;

/// One trial: every buyer wants one unit of the product, and tries again while the shop is busy.
///
/// # Errors
/// When a connection cannot be made.
pub async fn trial(target: &Arc<Target>, product: i64) -> Result<Tally> {
    let start = Arc::new(Barrier::new(BUYERS));
    let mut buyers = JoinSet::new();
    for buyer in 0..BUYERS {
        let mut connection = Connection::open(target.address).await?;
        let (target, start) = (target.clone(), start.clone());
        buyers.spawn(async move {
            let mut tally = Tally::default();
            let mut request = Vec::new();
            start.wait().await;
            for _ in 0..TRIES {
                target.write_request(&mut request, buyer, &Goods::Hot(product), next_number());
                let outcome = send(&mut connection, &request).await.unwrap_or_else(failure);
                let again = outcome == Outcome::Busy;
                tally.count_untimed(outcome);
                if !again {
                    break;
                }
            }
            tally
        });
    }
    let mut tally = Tally::default();
    while let Some(part) = buyers.join_next().await {
        tally.add(part?);
    }
    Ok(tally)
}
