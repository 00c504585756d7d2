//! Work that is cheaper together. Promises that a job which comes alone starts at once, that jobs which come while others
//! are being done, or close behind them, are done together, and that no job is left behind, nor waits for a batch that is
//! stuck. A batch never waits to be filled: it waits for a lane, and for a moment after the batch before it has begun.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_core::future::BoxFuture;
use tokio::sync::oneshot;

/// Jobs `J` and how a batch of them is done. Cloning shares the queue.
pub struct Batcher<J> {
    shared: Arc<Shared<J>>,
}

/// How jobs are put together.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Names the batches in the log.
    pub name: &'static str,
    /// Jobs of one batch.
    pub most: usize,
    /// Batches that may run at the same time.
    pub lanes: usize,
    /// Jobs that must be waiting before one more lane opens beside a busy one.
    pub crowd: usize,
    /// Least time from the beginning of a batch to the beginning of the next one where one of them is of several jobs, so
    /// that a rush does not go by in small batches while each of them is quick.
    pub pace: Duration,
}

/// A batch that takes longer is stuck: it leaves its lane to others, so long as there is but one batch more than there are lanes.
const STUCK_AFTER: Duration = Duration::from_millis(250);

struct Shared<J> {
    rules: Rules,
    work: Box<dyn Fn(Vec<J>) -> BoxFuture<'static, ()> + Send + Sync>,
    queue: Mutex<Queue<J>>,
}

struct Queue<J> {
    waiting: VecDeque<J>,
    busy_lanes: usize,
    stuck: usize,
    /// The last batch: when it began, and how many jobs it had.
    last: Option<(Instant, usize)>,
}

impl<J> Clone for Batcher<J> {
    fn clone(&self) -> Batcher<J> {
        Batcher { shared: self.shared.clone() }
    }
}

impl<J> fmt::Debug for Batcher<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batcher({})", self.shared.rules.name)
    }
}

impl<J: Send + 'static> Batcher<J> {
    /// `work` answers each job of a batch through what the job carries; a job that it drops unanswered must tell its
    /// sender so by being dropped, as a oneshot channel does.
    pub fn new(
        rules: Rules,
        work: impl Fn(Vec<J>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Batcher<J> {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), busy_lanes: 0, stuck: 0, last: None });
        Batcher { shared: Arc::new(Shared { rules, work: Box::new(work), queue }) }
    }

    /// Hands a job over. Must be called within the runtime.
    pub fn submit(&self, job: J) {
        let opens_lane = {
            let mut queue = self.shared.lock();
            queue.waiting.push_back(job);
            self.shared.rules.open_lane(&mut queue)
        };
        if opens_lane {
            tokio::spawn(run_lane(self.shared.clone()));
        }
    }
}

/// A question, and where its answer goes.
pub type Asked<Q, A> = (Q, oneshot::Sender<A>);

impl<Q: Send + 'static, A: Send + 'static> Batcher<Asked<Q, A>> {
    /// The answer to a question; `None` where its batch was given up, which it may have been when all was done. Must be called
    /// within the runtime.
    pub async fn ask(&self, question: Q) -> Option<A> {
        let (asker, answered) = oneshot::channel();
        self.submit((question, asker));
        answered.await.ok()
    }
}

impl<J> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the next batch has to wait for its turn. One job after the other is no rush: there is nobody to wait for.
    fn until_turn(&self) -> Duration {
        let queue = self.lock();
        match queue.last {
            Some((began, size)) if size > 1 || queue.waiting.len() > 1 => {
                self.rules.pace.saturating_sub(began.elapsed())
            }
            _ => Duration::ZERO,
        }
    }

    /// The next batch; `None` closes the lane, in the same breath in which it found too little waiting.
    fn next_batch(&self) -> Option<Vec<J>> {
        let mut queue = self.lock();
        let is_only_lane = queue.busy_lanes == 1;
        if queue.waiting.is_empty() || (!is_only_lane && queue.waiting.len() < self.rules.crowd) {
            queue.busy_lanes -= 1;
            return None;
        }
        let size = queue.waiting.len().min(self.rules.most);
        queue.last = Some((Instant::now(), size));
        Some(queue.waiting.drain(..size).collect())
    }

    /// A batch is stuck: its lane is another one's. Says whether that is to run at once.
    fn leave_lane(&self) -> bool {
        let mut queue = self.lock();
        queue.busy_lanes -= 1;
        queue.stuck += 1;
        !queue.waiting.is_empty() && self.rules.open_lane(&mut queue)
    }

    /// A batch that was stuck has ended. Says whether whoever ran it is to run a lane again.
    fn come_back(&self) -> bool {
        let mut queue = self.lock();
        queue.stuck -= 1;
        !queue.waiting.is_empty() && self.rules.open_lane(&mut queue)
    }
}

impl Rules {
    /// Whether one more lane is to run for what is waiting; it counts from now on.
    fn open_lane<J>(&self, queue: &mut Queue<J>) -> bool {
        let is_needed = match queue.busy_lanes {
            0 => true,
            busy => busy < self.lanes && queue.waiting.len() >= self.crowd,
        };
        let opens = is_needed && queue.stuck + queue.busy_lanes <= self.lanes;
        queue.busy_lanes += usize::from(opens);
        opens
    }
}

async fn run_lane<J: Send + 'static>(shared: Arc<Shared<J>>) {
    loop {
        match shared.until_turn() {
            // Requests that are ready to run now get to hand in their jobs too.
            Duration::ZERO => tokio::task::yield_now().await,
            wait => tokio::time::sleep(wait).await,
        }
        let Some(jobs) = shared.next_batch() else { return };
        // In a task of its own, so that a panic ends this batch and not the lane.
        let mut batch = tokio::spawn((shared.work)(jobs));
        let in_time = tokio::time::timeout(STUCK_AFTER, &mut batch).await;
        let is_stuck = in_time.is_err();
        if is_stuck && shared.leave_lane() {
            tokio::spawn(lane(shared.clone()));
        }
        let ended = match in_time {
            Ok(ended) => ended,
            Err(_) => batch.await,
        };
        if let Err(panic) = ended {
            tracing::error!(batch = shared.rules.name, %panic, "a batch was given up");
        }
        if is_stuck && !shared.come_back() {
            return;
        }
    }
}

/// The same, boxed for a lane that opens another.
fn lane<J: Send + 'static>(shared: Arc<Shared<J>>) -> BoxFuture<'static, ()> {
    Box::pin(run_lane(shared))
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    type Job = (u32, oneshot::Sender<u32>);

    const RULES: Rules = Rules { name: "doubling", most: 4, lanes: 1, crowd: 1, pace: Duration::ZERO };

    /// Answers twice the number once `gate` lets a batch through, and reports each batch's size.
    fn doubling(rules: Rules, gate: Arc<Semaphore>) -> (Batcher<Job>, mpsc::UnboundedReceiver<usize>) {
        let (sizes, seen) = mpsc::unbounded_channel();
        let batcher = Batcher::new(rules, move |jobs: Vec<Job>| {
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
        let (batcher, mut sizes) = doubling(RULES, gate.clone());
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
        let (batcher, _sizes) = doubling(RULES, gate);
        assert!(submit(&batcher, 13).await.is_err());
        assert_eq!(submit(&batcher, 5).await, Ok(10));
    }

    #[tokio::test]
    async fn a_batch_that_is_stuck_holds_nobody_up() {
        let gate = Arc::new(Semaphore::new(0));
        let (batcher, mut sizes) = doubling(Rules { lanes: 2, crowd: 99, ..RULES }, gate.clone());
        let stuck = [submit(&batcher, 1)];
        assert_eq!(sizes.recv().await, Some(1));
        let behind = submit(&batcher, 2);
        assert_eq!(sizes.recv().await, Some(1), "which came before the first one was known to be stuck");
        // One more may be stuck than there are lanes, and then jobs wait.
        let more = [submit(&batcher, 3), submit(&batcher, 4)];
        assert_eq!(sizes.recv().await, Some(2));
        let last = submit(&batcher, 5);
        gate.add_permits(1);
        let [stuck] = stuck;
        assert_eq!(stuck.await, Ok(2));
        gate.add_permits(3);
        assert_eq!(behind.await, Ok(4));
        for (number, answer) in (3..).zip(more) {
            assert_eq!(answer.await, Ok(number * 2));
        }
        assert_eq!(last.await, Ok(10), "nobody is left behind");
    }

    #[tokio::test]
    async fn a_second_lane_opens_for_a_crowd_and_the_last_lane_serves_all() {
        let gate = Arc::new(Semaphore::new(0));
        let (batcher, mut sizes) = doubling(Rules { lanes: 2, crowd: 2, ..RULES }, gate.clone());
        let mut answers = vec![submit(&batcher, 1)];
        assert_eq!(sizes.recv().await, Some(1));
        answers.push(submit(&batcher, 2));
        answers.push(submit(&batcher, 3));
        assert_eq!(sizes.recv().await, Some(2), "two are a crowd");
        answers.push(submit(&batcher, 4));
        gate.add_permits(3);
        for (number, answer) in (1..=4).zip(answers) {
            assert_eq!(answer.await, Ok(number * 2));
        }
        assert_eq!(sizes.recv().await, Some(1), "one alone waits for a lane that is open");
    }

    #[tokio::test]
    async fn a_job_alone_starts_at_once_and_those_close_behind_it_wait_for_each_other() {
        let gate = Arc::new(Semaphore::new(99));
        let (batcher, mut sizes) = doubling(Rules { pace: Duration::from_millis(50), ..RULES }, gate);
        assert_eq!(submit(&batcher, 1).await, Ok(2));
        let rest = [submit(&batcher, 2), submit(&batcher, 3)];
        for (number, answer) in (2..=3).zip(rest) {
            assert_eq!(answer.await, Ok(number * 2));
        }
        assert_eq!((sizes.recv().await, sizes.recv().await), (Some(1), Some(2)));
    }

    #[tokio::test]
    async fn one_job_after_the_other_waits_for_nobody() {
        let gate = Arc::new(Semaphore::new(99));
        let (batcher, mut sizes) = doubling(Rules { pace: Duration::from_secs(3600), ..RULES }, gate);
        for number in 1..=3 {
            assert_eq!(submit(&batcher, number).await, Ok(number * 2));
            assert_eq!(sizes.recv().await, Some(1));
        }
    }
}
