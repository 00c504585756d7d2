//! The writing of orders. Promises that an order is told to be made only after its COMMIT, that orders which come while
//! others are being written share one transaction and so one flush of the disk, and that one order which cannot be made
//! does not take its neighbours with it: a batch whose counts do not match is rolled back and replayed one by one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use farmgate_shared::api::orders::CreatedOrder;
use farmgate_shared::ids::OrderId;
use futures_core::future::BoxFuture;
use sqlx::MySqlConnection;
use tokio::sync::oneshot;

use super::draft::Draft;
use super::service::OrderError;
use super::store;
use crate::coupons::{self, Spend};
use crate::crash::{self, Point};
use crate::db::batch::{Batcher, Rules};
use crate::db::script::Script;
use crate::db::{Db, TransactionError, is_contention, is_duplicate, is_shutdown};
use crate::idempotency::{IdempotencyError, Keyed, Start};
use crate::outbox::model::{EventKind, NewEvent};
use crate::stock::Line;
use crate::{outbox, stock};

/// At most 64 orders a transaction, and none waits longer than 2 ms for others to come; only for a lane. A second
/// transaction begins beside a first one when a quarter of a batch waits: it inserts its rows while the first waits for the disk.
/// More would only queue for the rows of the same hot SKU.
const RULES: Rules = Rules { name: "orders", most: 64, lanes: 2, crowd: 16, pace: Duration::from_millis(2) };

/// What became of an order that was to be written.
#[derive(Debug)]
pub enum Written {
    /// It was made.
    Made(CreatedOrder),
    /// An equal request came first, at another process; this is its reply, and this order was not made.
    Earlier(CreatedOrder),
}

/// Why an order was not written.
#[derive(Debug)]
pub enum WriteError {
    /// It was definitely not made.
    Failed(OrderError),
    /// The connection broke during COMMIT: it may or may not have been made.
    Unknown(Arc<sqlx::Error>),
}

type Answer = Result<Written, WriteError>;
type Job = (Arc<Draft>, oneshot::Sender<Answer>);

/// Writes orders, together where it can.
#[derive(Debug)]
pub struct Writer {
    batcher: Batcher<Job>,
}

impl Writer {
    pub fn new(db: &Db) -> Writer {
        let db = db.clone();
        Writer {
            batcher: Batcher::new(RULES, move |jobs| {
                let db = db.clone();
                Box::pin(async move { write_jobs(&db, jobs).await })
            }),
        }
    }

    /// Writes an order; returns after its COMMIT.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write(&self, draft: Arc<Draft>) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.batcher.submit((draft, answer));
        // A batch that panicked may have done so on either side of its COMMIT.
        answered.await.unwrap_or_else(|_| Err(WriteError::Unknown(Arc::new(sqlx::Error::WorkerCrashed))))
    }
}

async fn write_jobs(db: &Db, jobs: Vec<Job>) {
    let (alone, together): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|(draft, _)| draft.renews_key);
    if !together.is_empty() {
        write_together(db, together).await;
    }
    write_one_by_one(db, alone).await;
}

async fn write_together(db: &Db, jobs: Vec<Job>) {
    let drafts: Arc<Vec<Arc<Draft>>> = Arc::new(jobs.iter().map(|(draft, _)| draft.clone()).collect());
    let result =
        db.transaction("place_orders", move |connection| insert_together(connection, drafts.clone())).await;
    match result {
        Ok(replies) => {
            for ((_, answer), reply) in jobs.into_iter().zip(replies) {
                // The task that waits for this is never dropped; only a stop of the runtime drops it.
                let _ = answer.send(Ok(Written::Made(reply)));
            }
        }
        Err(TransactionError::Failed(error)) if is_about_an_order(&error) => {
            tracing::debug!(%error, orders = jobs.len(), "a batch was rolled back, writing its orders one by one");
            write_one_by_one(db, jobs).await;
        }
        Err(TransactionError::Failed(error)) => {
            // Nothing about the orders: each on its own would fare no better.
            let error = Arc::new(error);
            for (_, answer) in jobs {
                let _ = answer.send(Err(WriteError::Failed(OrderError::Shared(error.clone()))));
            }
        }
        Err(TransactionError::CommitUnknown(error)) => {
            let error = Arc::new(error);
            for (_, answer) in jobs {
                let _ = answer.send(Err(WriteError::Unknown(error.clone())));
            }
        }
    }
}

/// Whether one of a batch's orders may be the reason, so that the others can be made without it.
fn is_about_an_order(error: &OrderError) -> bool {
    match crate::db::Retryable::database(error) {
        Some(error @ sqlx::Error::Database(_)) => !is_contention(error) && !is_shutdown(error),
        Some(_) => false,
        None => true,
    }
}

async fn write_one_by_one(db: &Db, jobs: Vec<Job>) {
    for (draft, answer) in jobs {
        let written = db
            .transaction("place_order", move |connection| insert_alone(connection, draft.clone()))
            .await
            .map_err(|error| match error {
                TransactionError::Failed(error) => WriteError::Failed(error),
                TransactionError::CommitUnknown(error) => WriteError::Unknown(Arc::new(error)),
            });
        let _ = answer.send(written);
    }
}

/// All orders of a batch, or none.
fn insert_together(
    connection: &mut MySqlConnection,
    drafts: Arc<Vec<Arc<Draft>>>,
) -> BoxFuture<'_, Result<Vec<CreatedOrder>, OrderError>> {
    Box::pin(async move {
        let made = insert_orders(connection, &drafts).await?;
        let texts: Vec<String> = made
            .iter()
            .map(|made| serde_json::to_string(&made.reply).map_err(IdempotencyError::Reply))
            .collect::<Result<_, _>>()?;
        let mut script = Script::default();
        let keys = made.iter().zip(&texts);
        Keyed::add_all(
            &mut script,
            keys.map(|(made, text)| (&made.draft.keyed, made.draft.now, text.as_str())),
        );
        finish(connection, script, &made).await?;
        Ok(made.into_iter().map(|made| made.reply).collect())
    })
}

/// One order, or the reply of the equal request that came first.
fn insert_alone(
    connection: &mut MySqlConnection,
    draft: Arc<Draft>,
) -> BoxFuture<'_, Result<Written, OrderError>> {
    Box::pin(async move {
        if let Start::Done(reply) = draft.keyed.start(connection, draft.now).await? {
            return Ok(Written::Earlier(reply));
        }
        let drafts = [draft];
        let mut made = insert_orders(connection, &drafts).await?;
        let ([draft], [only]) = (&drafts, made.as_slice()) else {
            return Err(OrderError::Database(sqlx::Error::RowNotFound));
        };
        draft.keyed.finish(connection, &only.reply).await?;
        finish(connection, Script::default(), &made).await?;
        made.pop().map(|made| Written::Made(made.reply)).ok_or(OrderError::NotFound)
    })
}

/// An order whose row is there.
struct Made<'a> {
    draft: &'a Draft,
    reply: CreatedOrder,
}

/// The first trip: the orders, and the ids that they were given.
async fn insert_orders<'a>(
    connection: &mut MySqlConnection,
    drafts: &'a [Arc<Draft>],
) -> Result<Vec<Made<'a>>, OrderError> {
    let mut script = Script::default();
    store::insert(&mut script, drafts);
    // Asked for rather than counted up from the first, since a server in a group hands them out in steps. The same
    // statement looks for tombstones: after the orders' rows, so that whichever of this and the sweeper comes second
    // waits for the other, or one is turned away by the deadlock check and tries anew.
    store::ids_or_tombstones(&mut script, drafts.iter().map(|draft| &draft.order_no));
    let ran = script.run(connection).await.map_err(|error| match is_duplicate(&error) {
        true => OrderError::NumberTaken,
        false => OrderError::Database(error),
    })?;
    let rows = store::read_ids(&ran)?;
    if rows.iter().any(|(_, id)| *id == 0) {
        return Err(OrderError::Buried);
    }
    let ids: HashMap<&str, i64> = rows.iter().map(|(number, id)| (number.as_str(), *id)).collect();
    let made = |draft: &'a Arc<Draft>| {
        let id = ids.get(draft.order_no.as_str()).copied().map(OrderId).ok_or(OrderError::NotFound)?;
        Ok(Made { draft, reply: draft.created(id) })
    };
    drafts.iter().map(made).collect()
}

/// The second trip: what hangs on the orders, and last their stock, whose rows others wait for. `script` is what is to be
/// said first.
async fn finish(
    connection: &mut MySqlConnection,
    mut script: Script,
    made: &[Made<'_>],
) -> Result<(), OrderError> {
    let spends: Vec<Spend> = made.iter().filter_map(|made| made.draft.spend(made.reply.order_id)).collect();
    coupons::service::spend(connection, &spends).await?;
    store::insert_items(
        &mut script,
        made.iter().flat_map(|Made { draft, reply }| {
            let lines = draft.offers.iter().zip(&draft.discounts);
            lines.map(|(offer, discount)| (reply.order_id, offer, *discount))
        }),
    );
    let placed = |made: &Made<'_>| NewEvent { kind: EventKind::OrderPlaced, order: made.reply.order_id };
    outbox::service::add(&mut script, &made.iter().map(placed).collect::<Vec<_>>());
    let lines: Vec<(OrderId, &[Line])> =
        made.iter().map(|made| (made.reply.order_id, made.draft.lines.as_slice())).collect();
    let holding = stock::service::hold(&mut script, &lines)?;
    crash::point(Point::InBatch);
    let ran = script.run(connection).await?;
    Ok(holding.check(&ran)?)
}
