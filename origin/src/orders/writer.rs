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
use crate::crash::{self, Point};
use crate::db::batch::{Batcher, Rules};
use crate::db::script::{Ran, RowId, Said, Script};
use crate::db::{Db, TransactionError, is_contention, is_duplicate, is_shutdown};
use crate::idempotency::{Keyed, ReplyWithId, Start};
use crate::outbox::model::EventKind;
use crate::stock::Line;
use crate::{coupons, outbox, stock};

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
    Box::pin(insert_all(connection, drafts, Keys::Take))
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
        let made = insert_all(connection, Arc::new(vec![draft.clone()]), Keys::AreTaken).await?;
        let only = made.into_iter().next().ok_or(OrderError::NotFound)?;
        draft.keyed.finish(connection, &only).await?;
        Ok(Written::Made(only))
    })
}

/// Whether the script has to take the requests' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Take,
    AreTaken,
}

/// One script: the orders, what hangs on them by the ids that they are given there, and last their stock, whose rows others
/// wait for. What it came to is looked at before COMMIT.
async fn insert_all(
    connection: &mut MySqlConnection,
    drafts: Arc<Vec<Arc<Draft>>>,
    keys: Keys,
) -> Result<Vec<CreatedOrder>, OrderError> {
    let mut script = Script::default();
    let rows = store::insert(&mut script, &drafts);
    let orders: Vec<(&Draft, RowId)> = drafts.iter().map(AsRef::as_ref).zip(rows).collect();
    let spends = orders.iter().filter_map(|(draft, id)| draft.spend(*id)).collect();
    let spending = coupons::service::spend(&mut script, spends);
    if keys == Keys::Take {
        let reply = |(draft, id): &(&Draft, RowId)| ReplyWithId::new(*id, |id| draft.created(OrderId(id)));
        let replies = orders.iter().map(reply).collect::<Result<Vec<_>, _>>()?;
        let keys = drafts.iter().zip(&replies).map(|(draft, reply)| (&draft.keyed, draft.now, reply));
        Keyed::add_all(&mut script, keys);
    }
    let items = orders.iter().flat_map(|(draft, id)| {
        draft.offers.iter().zip(&draft.discounts).map(|(offer, discount)| (*id, offer, *discount))
    });
    store::insert_items(&mut script, items);
    outbox::service::add(&mut script, orders.iter().map(|(_, id)| (EventKind::OrderPlaced, *id)));
    let numbers = || drafts.iter().map(|draft| &draft.order_no);
    // After the orders' rows, so that whichever of this and the sweeper comes second waits for the other, or one is turned
    // away by the deadlock check and tries anew.
    let tombstones = store::tombstones(&mut script, numbers());
    // The id of one row alone is told with it.
    let told = (drafts.len() > 1).then(|| store::ids(&mut script, numbers()));
    let lines: Vec<(RowId, &[Line])> =
        orders.iter().map(|(draft, id)| (*id, draft.lines.as_slice())).collect();
    let holding = stock::service::hold(&mut script, &lines)?;
    let ran = script.run(connection).await.map_err(|error| match is_duplicate(&error) {
        true => OrderError::NumberTaken,
        false => OrderError::Database(error),
    })?;
    if ran.rows(tombstones).next().is_some() {
        return Err(OrderError::Buried);
    }
    let ids = given_ids(&orders, &ran, told)?;
    spending.check(&ran, connection).await?;
    holding.check(&ran)?;
    crash::point(Point::InBatch);
    Ok(drafts.iter().zip(ids).map(|(draft, id)| draft.created(id)).collect())
}

/// The ids that MySQL gave the orders. What hangs on several was written by the rule that it gives ids by, so what the orders'
/// own rows say (`told`) must agree.
fn given_ids(orders: &[(&Draft, RowId)], ran: &Ran, told: Option<Said>) -> Result<Vec<OrderId>, OrderError> {
    let rows = told.map(|told| store::read_ids(ran, told)).transpose()?.unwrap_or_default();
    let told: HashMap<&str, (i64, i64)> =
        rows.iter().map(|(number, id, step)| (number.as_str(), (*id, *step))).collect();
    let id = |(draft, row): &(&Draft, RowId)| match told.get(draft.order_no.as_str()) {
        Some((id, step)) => ran.id(*row, *step).filter(|ruled| ruled == id),
        None => ran.id(*row, 0).filter(|_| orders.len() == 1),
    };
    orders.iter().map(|order| id(order).map(OrderId).ok_or(OrderError::OddIds)).collect()
}
