//! The writing of orders. Promises that an order is told to be made only after its COMMIT, that orders which come while
//! others are being written share one transaction and so one flush of the disk, and that one order which cannot be made
//! does not take its neighbours with it: a batch whose counts do not match is rolled back and replayed one by one.

use std::sync::{Arc, Once};
use std::time::Duration;

use farmgate_shared::api::orders::CreatedOrder;
use farmgate_shared::ids::OrderId;
use futures_core::future::BoxFuture;
use sqlx::MySqlConnection;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::draft::Draft;
use super::service::OrderError;
use super::store;
use crate::coupons::service::Spending;
use crate::crash::{self, Point};
use crate::db::batch::{Asked, Batcher, Rules};
use crate::db::script::{Ran, RowId, Said, Script};
use crate::db::{Db, TransactionError, is_deadlock, is_duplicate, is_shutdown};
use crate::idempotency::{Keyed, ReplyWithId, Start};
use crate::outbox::model::EventKind;
use crate::stock::Line;
use crate::stock::service::Guards;
use crate::{coupons, outbox, stock};

/// Orders that are written beside each other when they could not be written together: one that waits for a row which somebody
/// keeps locked must not hold all others up.
const APART: usize = 4;

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
    /// The connection broke, perhaps during COMMIT: it may or may not have been made.
    Unknown(Arc<sqlx::Error>),
}

type Answer = Result<Written, WriteError>;
type Job = Asked<Arc<Draft>, Answer>;

/// Writes orders, together where it can.
#[derive(Debug)]
pub struct Writer {
    batcher: Batcher<Job>,
}

impl Writer {
    /// An order that waited longer than `longest` is not begun: its shopper was told so, and may have ordered otherwise.
    pub fn new(db: &Db, longest: Duration) -> Writer {
        let desk = Desk { db: db.clone(), longest, apart: Arc::new(Semaphore::new(APART)) };
        Writer {
            batcher: Batcher::new(RULES, move |jobs| {
                let desk = desk.clone();
                Box::pin(async move { desk.write_jobs(jobs).await })
            }),
        }
    }

    /// Writes an order; returns after its COMMIT.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write(&self, draft: Arc<Draft>) -> Answer {
        // A batch that panicked may have done so on either side of its COMMIT.
        let lost = || Err(WriteError::Unknown(Arc::new(sqlx::Error::WorkerCrashed)));
        self.batcher.ask(draft).await.unwrap_or_else(lost)
    }
}

/// Where batches are written, all of a process.
#[derive(Clone, Debug)]
struct Desk {
    db: Db,
    longest: Duration,
    /// Places of orders that are written apart, whatever batch they were in: each keeps a connection while it waits for a row.
    apart: Arc<Semaphore>,
}

impl Desk {
    async fn write_jobs(&self, jobs: Vec<Job>) {
        let (alone, together): (Vec<Job>, Vec<Job>) =
            self.in_time(jobs).into_iter().partition(|(draft, _)| draft.renews_key);
        if !together.is_empty() {
            self.write_together(together).await;
        }
        self.write_one_by_one(alone).await;
    }

    /// The jobs that somebody still waits for.
    fn in_time(&self, jobs: Vec<Job>) -> Vec<Job> {
        let (in_time, late): (Vec<Job>, Vec<Job>) =
            jobs.into_iter().partition(|(draft, _)| draft.keyed.waited() < self.longest);
        for (_, answer) in late {
            let _ = answer.send(Err(WriteError::Failed(OrderError::TooLate)));
        }
        in_time
    }

    async fn write_together(&self, jobs: Vec<Job>) {
        let drafts: Vec<Arc<Draft>> = jobs.iter().map(|(draft, _)| draft.clone()).collect();
        match commit_together(&self.db, &drafts).await {
            Ok(Some(replies)) => {
                for ((_, answer), reply) in jobs.into_iter().zip(replies) {
                    // The task that waits for this is never dropped; only a stop of the runtime drops it.
                    let _ = answer.send(Ok(Written::Made(reply)));
                }
            }
            Ok(None) => {
                tracing::debug!(
                    orders = jobs.len(),
                    "a batch was rolled back, writing its orders one by one"
                );
                self.write_one_by_one(jobs).await;
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

    async fn write_one_by_one(&self, jobs: Vec<Job>) {
        let mut writing = JoinSet::new();
        for job in jobs {
            let desk = self.clone();
            writing.spawn(async move {
                // Never closed.
                let _place = desk.apart.acquire().await;
                if let Some(job) = desk.in_time(vec![job]).pop() {
                    write_alone(&desk.db, job).await;
                }
            });
        }
        // One that panics drops its answer, which says so.
        while writing.join_next().await.is_some() {}
    }
}

/// All orders of a batch, or `None` of them where one of them may be the reason that it failed, so that the others can be made
/// without it.
async fn commit_together(
    db: &Db,
    drafts: &[Arc<Draft>],
) -> Result<Option<Vec<CreatedOrder>>, TransactionError<sqlx::Error>> {
    let mut script = Script::default();
    let batch = match Batch::insert(&mut script, drafts, Keys::Take) {
        Ok(batch) => batch,
        Err(error) => {
            tracing::debug!(%error, "a batch that cannot be written as it is");
            return Ok(None);
        }
    };
    if crash::is_armed(Point::InBatch) {
        script.cut();
    }
    match db.commit("place_orders", script, || crash::point(Point::InBatch)).await {
        Ok(ran) => match ran.broken() {
            Some(broken) => {
                batch.note(broken);
                Ok(None)
            }
            // It is committed: an answer that cannot be read leaves their numbers to tell.
            None => batch.made(&ran).map(Some).map_err(TransactionError::CommitUnknown),
        },
        Err(TransactionError::Failed(error @ sqlx::Error::Database(_)))
            if !is_deadlock(&error) && !is_shutdown(&error) =>
        {
            tracing::debug!(%error, "a batch that failed");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn write_alone(db: &Db, (draft, answer): Job) {
    let written = db
        .transaction("place_order", move |connection| insert_alone(connection, draft.clone()))
        .await
        .map_err(|error| match error {
            TransactionError::Failed(error) => WriteError::Failed(error),
            TransactionError::CommitUnknown(error) => WriteError::Unknown(Arc::new(error)),
        });
    let _ = answer.send(written);
}

/// One order, or the reply of the equal request that came first.
fn insert_alone(
    connection: &mut MySqlConnection,
    draft: Arc<Draft>,
) -> BoxFuture<'_, Result<Written, OrderError>> {
    Box::pin(async move {
        if let Start::Done(reply) = draft.keyed.start(connection).await? {
            return Ok(Written::Earlier(reply));
        }
        let mut script = Script::default();
        let batch = Batch::insert(&mut script, std::slice::from_ref(&draft), Keys::AreTaken)?;
        let ran = script.run(connection).await.map_err(|error| match is_duplicate(&error) {
            true => OrderError::NumberTaken,
            false => OrderError::Database(error),
        })?;
        if let Some(broken) = ran.broken() {
            return Err(batch.refusal(broken, connection).await?);
        }
        let made = batch.made(&ran)?.into_iter().next().ok_or(OrderError::NotFound)?;
        Ok(Written::Made(made))
    })
}

/// Whether the script has to take the requests' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Take,
    AreTaken,
}

/// Orders in a script.
struct Batch<'a> {
    orders: Vec<(&'a Draft, RowId)>,
    spending: Spending,
    unburied: Said,
    /// That ids are given by the rule, with the step between two of them; one order alone needs neither.
    numbered: Vec<Said>,
    step: Option<Said>,
    stock: Guards,
}

impl Batch<'_> {
    /// The orders, what hangs on them by the ids that they are given there, and last their stock, whose rows others wait for.
    fn insert<'a>(
        script: &mut Script,
        drafts: &'a [Arc<Draft>],
        keys: Keys,
    ) -> Result<Batch<'a>, OrderError> {
        let rows = store::insert(script, drafts);
        let orders: Vec<(&Draft, RowId)> = drafts.iter().map(AsRef::as_ref).zip(rows).collect();
        let spends = orders.iter().filter_map(|(draft, id)| draft.spend(*id)).collect();
        let spending = coupons::service::spend(script, spends);
        let reply = |(draft, id): &(&Draft, RowId)| ReplyWithId::new(*id, |id| draft.created(OrderId(id)));
        let replies = orders.iter().map(reply).collect::<Result<Vec<_>, _>>()?;
        let keyed = drafts.iter().map(|draft| &draft.keyed).zip(&replies);
        match keys {
            Keys::Take => Keyed::add_all(script, keyed),
            Keys::AreTaken => keyed.for_each(|(keyed, reply)| keyed.finish_in(script, reply)),
        }
        let items = orders.iter().flat_map(|(draft, id)| {
            draft.offers.iter().zip(&draft.discounts).map(|(offer, discount)| (*id, offer, *discount))
        });
        store::insert_items(script, items);
        outbox::service::add(script, orders.iter().map(|(_, id)| (EventKind::OrderPlaced, *id)));
        // After the orders' rows, so that whichever of this and the sweeper comes second waits for the other, or one is
        // turned away by the deadlock check and tries anew.
        let unburied = store::require_unburied(script, drafts.iter().map(|draft| &draft.order_no));
        let numbered = require_ids(script, &orders);
        let step = (orders.len() > 1).then(|| script.ask_step());
        let lines: Vec<(RowId, &[Line])> =
            orders.iter().map(|(draft, id)| (*id, draft.lines.as_slice())).collect();
        let stock = stock::service::hold(script, &lines)?;
        Ok(Batch { orders, spending, unburied, numbered, step, stock })
    }

    /// The orders that a script made which ran to its end.
    fn made(&self, ran: &Ran) -> Result<Vec<CreatedOrder>, sqlx::Error> {
        let step = self.step.map(|step| ran.read::<(i64,)>(step)).transpose()?;
        let step = step.and_then(|rows| rows.first().map(|(step,)| *step)).unwrap_or(0);
        let made = |(draft, row): &(&Draft, RowId)| {
            let id =
                ran.id(*row, step).ok_or_else(|| sqlx::Error::Protocol("a row without its id".to_owned()))?;
            Ok(draft.created(OrderId(id)))
        };
        self.orders.iter().map(made).collect()
    }

    /// Tells an operator, once, of a condition that no order can be blamed for.
    fn note(&self, broken: Said) {
        if self.numbered.contains(&broken) {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                tracing::warn!("MySQL numbers the rows of an INSERT otherwise than it says: orders are written one by one");
            });
        }
    }

    /// Why the script of one order ended at a condition, within its transaction.
    async fn refusal(
        &self,
        broken: Said,
        connection: &mut MySqlConnection,
    ) -> Result<OrderError, sqlx::Error> {
        if broken == self.unburied {
            return Ok(OrderError::Buried);
        }
        if let Some(refusal) = self.stock.refusal(broken) {
            return Ok(refusal.into());
        }
        match self.spending.refusal(broken, connection).await? {
            Some(refusal) => Ok(refusal.into()),
            None => Err(sqlx::Error::Protocol("a condition that nobody set".to_owned())),
        }
    }
}

/// What hangs on several orders was written by the rule that MySQL gives the rows of an INSERT their ids by: it has to hold.
fn require_ids(script: &mut Script, orders: &[(&Draft, RowId)]) -> Vec<Said> {
    if orders.len() == 1 {
        return Vec::new();
    }
    let inserts = orders.chunk_by(|(_, one), (_, next)| one.is_beside(*next));
    let lasts = inserts.filter_map(|insert| insert.last());
    lasts.map(|(draft, id)| store::require_id(script, &draft.order_no, *id)).collect()
}
