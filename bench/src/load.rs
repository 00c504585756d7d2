//! The load: a fixed number of connections, each sending its next order as soon as the last one was answered. Every
//! connection has shoppers of its own, so that no shopper's orders wait for each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::http::{Connection, HttpError};
use crate::target::{Goods, Outcome, Target};

/// Numbers every request of this process, so that each order is another and no idempotency key comes twice.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// One run of load against one server.
#[derive(Debug, Clone)]
pub struct Load {
    pub target: Arc<Target>,
    pub goods: Goods,
    pub connections: usize,
    pub time: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Orders made, also those answered after the time was over.
    pub accepted: u64,
    pub out_of_stock: u64,
    pub busy: u64,
    /// By what was said.
    pub failed: BTreeMap<String, u64>,
    /// Answers of each kind within the time.
    pub accepted_in_time: u64,
    pub out_of_stock_in_time: u64,
    /// Of the accepted ones, microseconds.
    pub accepted_us: Vec<u32>,
    /// Of those refused as out of stock, microseconds.
    pub out_of_stock_us: Vec<u32>,
}

impl Tally {
    /// All that was answered, whatever the answer.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.accepted + self.out_of_stock + self.busy + self.failed()
    }

    /// What no correct server says.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    fn count(&mut self, outcome: Outcome, took: Duration, in_time: bool) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        match outcome {
            Outcome::Accepted => {
                self.accepted += 1;
                self.accepted_in_time += u64::from(in_time);
                self.accepted_us.push(took);
            }
            Outcome::OutOfStock => {
                self.out_of_stock += 1;
                self.out_of_stock_in_time += u64::from(in_time);
                self.out_of_stock_us.push(took);
            }
            Outcome::Busy => self.busy += 1,
            Outcome::Failed(said) => *self.failed.entry(said).or_default() += 1,
        }
    }

    /// Counts an answer whose time does not matter.
    pub fn count_untimed(&mut self, outcome: Outcome) {
        self.count(outcome, Duration::ZERO, true);
    }

    /// Adds another connection's part.
    pub fn add(&mut self, other: Tally) {
        self.accepted += other.accepted;
        self.out_of_stock += other.out_of_stock;
        self.busy += other.busy;
        for (said, times) in other.failed {
            *self.failed.entry(said).or_default() += times;
        }
        self.accepted_in_time += other.accepted_in_time;
        self.out_of_stock_in_time += other.out_of_stock_in_time;
        self.accepted_us.extend(other.accepted_us);
        self.out_of_stock_us.extend(other.out_of_stock_us);
    }
}

impl Load {
    /// Sends until the time is over, then waits for the answers that are still to come.
    ///
    /// # Errors
    /// When a connection cannot be made. What goes wrong later is counted as failed.
    pub async fn run(&self) -> Result<Tally> {
        let mut open = Vec::new();
        for _ in 0..self.connections {
            open.push(Connection::open(self.target.address).await?);
        }
        let end = Instant::now() + self.time;
        let mut senders = JoinSet::new();
        for (lane, connection) in open.into_iter().enumerate() {
            let load = self.clone();
            senders.spawn(async move { load.keep_sending(connection, lane, end).await });
        }
        let mut tally = Tally::default();
        while let Some(part) = senders.join_next().await {
            tally.add(part?);
        }
        // Percentiles want them in order.
        tally.accepted_us.sort_unstable();
        tally.out_of_stock_us.sort_unstable();
        Ok(tally)
    }

    async fn keep_sending(&self, mut connection: Connection, lane: usize, end: Instant) -> Tally {
        let mut tally = Tally::default();
        let mut request = Vec::with_capacity(1024);
        let mut shopper = lane;
        while Instant::now() < end {
            self.target.write_request(&mut request, shopper, &self.goods, next_number());
            // The connection's own next shopper; the last one's order is done.
            shopper += self.connections;
            if shopper >= self.target.shoppers.len() {
                shopper = lane;
            }
            let sent = Instant::now();
            let outcome = send(&mut connection, &request).await;
            let answered = Instant::now();
            let broke = outcome.is_err();
            tally.count(outcome.unwrap_or_else(failure), answered - sent, answered <= end);
            if broke {
                match Connection::open(self.target.address).await {
                    Ok(new) => connection = new,
                    Err(_) => break,
                }
            }
        }
        tally
    }
}

/// A number that no other request of this process has.
pub fn next_number() -> u64 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// One request and how it ended.
///
/// # Errors
/// When no reply came.
pub async fn send(connection: &mut Connection, request: &[u8]) -> Result<Outcome, HttpError> {
    let reply = connection.send(request).await?;
    Ok(Outcome::of(reply.status, reply.body))
}

pub(crate) fn failure(error: HttpError) -> Outcome {
    Outcome::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted_once_and_late_ones_apart() {
        let mut tally = Tally::default();
        tally.count(Outcome::Accepted, Duration::from_millis(2), true);
        tally.count(Outcome::Accepted, Duration::from_millis(3), false);
        tally.count(Outcome::Busy, Duration::ZERO, true);
        tally.count(Outcome::Failed("500 internal".to_owned()), Duration::ZERO, true);
        let mut other = Tally::default();
        other.count(Outcome::OutOfStock, Duration::from_millis(1), true);
        other.count(Outcome::Failed("500 internal".to_owned()), Duration::ZERO, false);
        tally.add(other);
        assert_eq!((tally.accepted, tally.accepted_in_time, tally.busy), (2, 1, 1));
        assert_eq!((tally.out_of_stock, tally.out_of_stock_in_time, tally.failed()), (1, 1, 2));
        assert_eq!(tally.answered(), 6);
        assert_eq!(tally.accepted_us, [2000, 3000]);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_an_error() {
        let target = Target::peer("127.0.0.1:1".parse().unwrap(), "s", &[1]).unwrap();
        let load = Load {
            target: Arc::new(target),
            goods: Goods::Hot(1),
            connections: 1,
            time: Duration::from_secs(1),
        };
        assert!(load.run().await.is_err());
    }
}
