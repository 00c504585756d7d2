//! Work that is cheaper together. Promises that a job starts at once when a lane is free, that jobs which arrive while
//! all lanes are busy are done together by the next one, and that no job is left behind. Nobody waits for a timer: alone,
//! a job is a batch of one; under load, batches grow by themselves.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_core::future::BoxFuture;

/// Jobs `J` and how a batch of them is done. Cloning shares the queue.
pub struct Batcher<J> {
    shared: Arc<Shared<J>>,
}

struct Shared<J> {
    name: &'static str,
    /// Batches that may run at the same time.
    lanes: usize,
    /// Jobs of one batch.
    most: usize,
    work: Box<dyn Fn(Vec<J>) -> BoxFuture<'static, ()> + Send + Sync>,
    queue: Mutex<Queue<J>>,
}

struct Queue<J> {
    waiting: VecDeque<J>,
    busy_lanes: usize,
}

impl<J> Clone for Batcher<J> {
    fn clone(&self) -> Batcher<J> {
        Batcher { shared: self.shared.clone() }
    }
}

impl<J> fmt::Debug for Batcher<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batcher({})", self.shared.name)
    }
}

impl<J: Send + 'static> Batcher<J> {
    /// `work` answers each job of a batch through what the job carries; a job that it drops unanswered must tell its
    /// sender so by being dropped, as a oneshot channel does.
    pub fn new(
        name: &'static str,
        lanes: usize,
        most: usize,
        work: impl Fn(Vec<J>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Batcher<J> {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), busy_lanes: 0 });
        Batcher { shared: Arc::new(Shared { name, lanes, most, work: Box::new(work), queue }) }
    }

    /// Hands a job over. Must be called within the runtime.
    pub fn submit(&self, job: J) {
        let opens_lane = {
            let mut queue = self.shared.lock();
            queue.waiting.push_back(job);
            let opens_lane = queue.busy_lanes < self.shared.lanes;
            queue.busy_lanes += usize::from(opens_lane);
            opens_lane
        };
        if opens_lane {
            tokio::spawn(run_lane(self.shared.clone()));
        }
    }
}

impl<J> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch; `None` closes the lane, in the same breath in which it found nothing waiting.
    fn next_batch(&self) -> Option<Vec<J>> {
        let mut queue = self.lock();
        if queue.waiting.is_empty() {
            queue.busy_lanes -= 1;
            return None;
        }
        let size = queue.waiting.len().min(self.most);
        Some(queue.waiting.drain(..size).collect())
    }
}

async fn run_lane<J: Send + 'static>(shared: Arc<Shared<J>>) {
    // Requests that are ready to run now get to hand in their jobs for the first batch too.
    tokio::task::yield_now().await;
    while let Some(jobs) = shared.next_batch() {
        // In a task of its own, so that a panic ends this batch and not the lane.
        if let Err(panic) = tokio::spawn((shared.work)(jobs)).await {
            tracing::error!(batch = shared.name, %panic, "a batch was given up");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, mpsc, oneshot};

    use super::*;

    type Job = (u32, oneshot::Sender<u32>);

    /// Answers twice the number once `gate` lets a batch through, and reports each batch's size.
    fn doubling(lanes: usize, gate: Arc<Semaphore>) -> (Batcher<Job>, mpsc::UnboundedReceiver<usize>) {
        let (sizes, seen) = mpsc::unbounded_channel();
        let batcher = Batcher::new("doubling", lanes, 4, move |jobs: Vec<Job>| {
            let (gate, sizes) = (gate.clone(), sizes.clone());
            Box::pin(async move {
                sizes.send(jobs.len()).unwrap();
                gate.acquire().await.unwrap().forget();
                for (number, answer) in jobs {
                    assert_ne!(number, 13, "an unlucky job");
                    // A caller that went away wants no answer.
                    let _ = answer.send(number * 2);
                }
            })
        });
        (batcher, seen)
    }

    fn submit(batcher: &Batcher<Job>, number: u32) -> oneshot::Receiver<u32> {
        let (answer, answered) = oneshot::channel();
        batcher.submit((number, answer));
        answered
    }

    #[tokio::test]
    async fn jobs_that_come_while_the_lane_is_busy_are_done_together() {
        let gate = Arc::new(Semaphore::new(0));
        let (batcher, mut sizes) = doubling(1, gate.clone());
        let first = submit(&batcher, 1);
        assert_eq!(sizes.recv().await, Some(1));
        let rest: Vec<_> = (2..=7).map(|number| submit(&batcher, number)).collect();
        gate.add_permits(3);
        assert_eq!(first.await, Ok(2));
        for (number, answer) in (2..=7).zip(rest) {
            assert_eq!(answer.await, Ok(number * 2));
        }
        assert_eq!((sizes.recv().await, sizes.recv().await), (Some(4), Some(2)));
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_batch_only() {
        let gate = Arc::new(Semaphore::new(9));
        let (batcher, _sizes) = doubling(1, gate);
        assert!(submit(&batcher, 13).await.is_err());
        assert_eq!(submit(&batcher, 5).await, Ok(10));
    }

    #[tokio::test]
    async fn as_many_batches_run_at_once_as_there_are_lanes() {
        let gate = Arc::new(Semaphore::new(0));
        let (batcher, mut sizes) = doubling(2, gate.clone());
        let one = submit(&batcher, 1);
        assert_eq!(sizes.recv().await, Some(1));
        let two = submit(&batcher, 2);
        assert_eq!(sizes.recv().await, Some(1));
        let three = submit(&batcher, 3);
        gate.add_permits(3);
        assert_eq!((one.await, two.await, three.await), (Ok(2), Ok(4), Ok(6)));
    }
}
