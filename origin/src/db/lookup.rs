//! Reads by key that many requests make at the same time, as one statement. Promises each caller a row that was read
//! after it asked: this is no cache.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use sqlx::MySqlConnection;
use tokio::sync::oneshot;

use super::Db;
use super::batch::{Batcher, Rules};

/// Keys of one statement.
const MOST: usize = 64;
/// Statements at the same time.
const LANES: usize = 2;
/// From one statement to the next: what a request of a rush waits at most for the others.
const PACE: Duration = Duration::from_millis(1);

/// A failure, shared by all who asked together.
pub type LookupError = Arc<sqlx::Error>;

type Answer<V> = Result<Option<V>, LookupError>;

/// Rows `V` by key `K`.
pub struct Lookup<K, V> {
    batcher: Batcher<(K, oneshot::Sender<Answer<V>>)>,
}

impl<K, V> fmt::Debug for Lookup<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.batcher.fmt(f)
    }
}

impl<K, V> Lookup<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// `read` is one statement: it is given different keys and answers with the rows that exist.
    pub fn new<R>(name: &'static str, db: &Db, read: R) -> Lookup<K, V>
    where
        R: for<'c> Fn(&'c mut MySqlConnection, Vec<K>) -> BoxFuture<'c, Result<HashMap<K, V>, sqlx::Error>>
            + Send
            + Sync
            + 'static,
    {
        let (db, read) = (db.clone(), Arc::new(read));
        Lookup::of(name, move |keys| {
            let (db, read) = (db.clone(), read.clone());
            Box::pin(async move { db.read(move |connection| read(connection, keys)).await })
        })
    }

    fn of(
        name: &'static str,
        read: impl Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, sqlx::Error>> + Send + Sync + 'static,
    ) -> Lookup<K, V> {
        let read = Arc::new(read);
        let rules = Rules { name, most: MOST, lanes: LANES, crowd: MOST / 2, pace: PACE };
        let batcher = Batcher::new(rules, move |asked: Vec<(K, oneshot::Sender<Answer<V>>)>| {
            let read = read.clone();
            Box::pin(async move {
                let mut keys: Vec<K> = Vec::with_capacity(asked.len());
                for (key, _) in &asked {
                    if !keys.contains(key) {
                        keys.push(key.clone());
                    }
                }
                let rows = read(keys).await.map_err(Arc::new);
                for (key, answer) in asked {
                    let row = rows.as_ref().map(|rows| rows.get(&key).cloned()).map_err(Arc::clone);
                    // Whoever asked may have gone away.
                    let _ = answer.send(row);
                }
            })
        });
        Lookup { batcher }
    }

    /// The row of `key`, if there is one.
    ///
    /// # Errors
    /// When MySQL is away.
    pub async fn get(&self, key: K) -> Answer<V> {
        received(self.ask(key).await)
    }

    /// The row of each key, if there is one, in the keys' order.
    ///
    /// # Errors
    /// When MySQL is away.
    pub async fn get_all(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<V>>, LookupError> {
        // All are asked for before the first is waited for.
        let waiting: Vec<_> = keys.into_iter().map(|key| self.ask(key)).collect();
        let mut rows = Vec::with_capacity(waiting.len());
        for answered in waiting {
            rows.push(received(answered.await)?);
        }
        Ok(rows)
    }

    fn ask(&self, key: K) -> oneshot::Receiver<Answer<V>> {
        let (answer, answered) = oneshot::channel();
        self.batcher.submit((key, answer));
        answered
    }
}

/// A batch that panicked drops its senders.
fn received<V>(answered: Result<Answer<V>, oneshot::error::RecvError>) -> Answer<V> {
    answered.unwrap_or_else(|_| Err(Arc::new(sqlx::Error::WorkerCrashed)))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn those_who_ask_together_are_answered_by_one_statement() {
        let statements = Arc::new(Mutex::new(Vec::new()));
        let log = statements.clone();
        let lookup: Lookup<u32, String> = Lookup::of("numbers", move |keys| {
            log.lock().unwrap().push(keys.clone());
            Box::pin(async move {
                if keys.contains(&99) {
                    return Err(sqlx::Error::PoolClosed);
                }
                Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key.to_string())).collect())
            })
        });
        let (two, three, again) = tokio::join!(lookup.get(2), lookup.get(3), lookup.get(2));
        assert_eq!(
            (two.unwrap(), three.unwrap(), again.unwrap()),
            (Some("2".into()), None, Some("2".into()))
        );
        assert_eq!(*statements.lock().unwrap(), [vec![2, 3]]);
        assert_eq!(lookup.get_all([6, 7]).await.unwrap(), [Some("6".into()), None]);
        let (bad, neighbour) = tokio::join!(lookup.get(99), lookup.get(2));
        assert!(matches!(*bad.unwrap_err(), sqlx::Error::PoolClosed));
        assert!(matches!(*neighbour.unwrap_err(), sqlx::Error::PoolClosed));
        assert_eq!(lookup.get(4).await.unwrap(), Some("4".into()));
    }
}
