//! Reads by key that many requests make at the same time, as one statement for all rows of a kind and as one trip for all
//! kinds. Promises each caller a row that was read after it asked: this is no cache.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_core::future::BoxFuture;
use tokio::sync::oneshot;

use super::Db;
use super::batch::{Batcher, Rules};
use super::script::{Ran, Said, Script};

/// Keys of one statement.
const MOST: usize = 64;
/// A trip at a time, or two in a rush; one that comes alone starts at once, and what a request of a rush waits at most for the
/// others is a millisecond. An order asks for three rows.
const RULES: Rules =
    Rules { name: "lookups", most: 3 * MOST, lanes: 2, crowd: 2 * MOST, pace: Duration::from_millis(1) };

/// A failure, shared by all who asked together.
pub type LookupError = Arc<sqlx::Error>;

type Answer<V> = Result<Option<V>, LookupError>;

/// Those that ask, of whatever kind. Cloning shares the trips.
#[derive(Clone)]
pub struct Reader {
    batcher: Batcher<Arc<dyn Kind>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.batcher.fmt(f)
    }
}

impl Reader {
    pub fn new(db: &Db) -> Reader {
        let db = db.clone();
        Reader::over(move |script| {
            let db = db.clone();
            Box::pin(async move {
                db.read(|connection| Box::pin(async move { script.run(connection).await })).await
            })
        })
    }

    fn over(
        run: impl Fn(Script) -> BoxFuture<'static, Result<Ran, sqlx::Error>> + Send + Sync + 'static,
    ) -> Reader {
        let run = Arc::new(run);
        let batcher = Batcher::new(RULES, move |asked: Vec<Arc<dyn Kind>>| {
            let run = run.clone();
            Box::pin(async move {
                let mut script = Script::default();
                let endings: Vec<Ending> = asked.iter().filter_map(|kind| kind.say(&mut script)).collect();
                if endings.is_empty() {
                    return;
                }
                let ran = run(script).await.map_err(Arc::new);
                for end in endings {
                    end(ran.as_ref());
                }
            })
        });
        Reader { batcher }
    }
}

/// A kind of row, for whose rows somebody waits.
trait Kind: Send + Sync {
    /// Says what is asked for; `None` when an earlier trip did.
    fn say(&self, script: &mut Script) -> Option<Ending>;
}

/// Answers those who asked.
type Ending = Box<dyn FnOnce(Result<&Ran, &LookupError>) + Send>;

/// Rows `V` by key `K`.
pub struct Lookup<K, V> {
    reader: Reader,
    rows: Arc<Rows<K, V>>,
}

struct Rows<K, V> {
    write: Box<WriteQuery<K>>,
    read: Arc<ReadRows<K, V>>,
    waiting: Mutex<Vec<(K, oneshot::Sender<Answer<V>>)>>,
}

type WriteQuery<K> = dyn Fn(&mut Script, &[K]) -> Said + Send + Sync;
type ReadRows<K, V> = dyn Fn(&Ran, Said) -> Result<HashMap<K, V>, sqlx::Error> + Send + Sync;

impl<K, V> fmt::Debug for Lookup<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reader.fmt(f)
    }
}

impl<K, V> Kind for Rows<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn say(&self, script: &mut Script) -> Option<Ending> {
        let asked: Vec<(K, oneshot::Sender<Answer<V>>)> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let most = waiting.len().min(MOST);
            waiting.drain(..most).collect()
        };
        if asked.is_empty() {
            return None;
        }
        let mut keys: Vec<K> = Vec::with_capacity(asked.len());
        for (key, _) in &asked {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        let said = (self.write)(script, &keys);
        let read = self.read.clone();
        Some(Box::new(move |ran: Result<&Ran, &LookupError>| {
            let rows = ran.map_err(Arc::clone).and_then(|ran| read(ran, said).map_err(Arc::new));
            for (key, asker) in asked {
                let row = rows.as_ref().map(|rows| rows.get(&key).cloned()).map_err(Arc::clone);
                // Whoever asked may have gone away.
                let _ = asker.send(row);
            }
        }))
    }
}

impl<K, V> Lookup<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// `write` says one query for different keys; `read` finds the rows that exist among what came of it.
    pub fn new(
        reader: &Reader,
        write: impl Fn(&mut Script, &[K]) -> Said + Send + Sync + 'static,
        read: impl Fn(&Ran, Said) -> Result<HashMap<K, V>, sqlx::Error> + Send + Sync + 'static,
    ) -> Lookup<K, V> {
        let rows = Rows { write: Box::new(write), read: Arc::new(read), waiting: Mutex::default() };
        Lookup { reader: reader.clone(), rows: Arc::new(rows) }
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
        let (asker, answered) = oneshot::channel();
        self.rows.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((key, asker));
        self.reader.batcher.submit(self.rows.clone());
        answered
    }
}

/// A batch that panicked drops its askers.
fn received<V>(answered: Result<Answer<V>, oneshot::error::RecvError>) -> Answer<V> {
    answered.unwrap_or_else(|_| Err(Arc::new(sqlx::Error::WorkerCrashed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds the even ones of the numbers that a script asks for.
    fn numbers(reader: &Reader) -> Lookup<u32, String> {
        let asked: Arc<Mutex<HashMap<usize, Vec<u32>>>> = Arc::default();
        let log = asked.clone();
        Lookup::new(
            reader,
            move |script, keys| {
                let said = script.statement(|sql| {
                    sql.list(keys, |sql, key| {
                        sql.int(*key);
                    });
                });
                log.lock().unwrap().insert(said.place(), keys.to_vec());
                said
            },
            move |_, said| {
                let keys = asked.lock().unwrap().remove(&said.place()).unwrap();
                Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key.to_string())).collect())
            },
        )
    }

    #[tokio::test]
    async fn those_who_ask_together_are_answered_by_one_trip() {
        let scripts = Arc::new(Mutex::new(Vec::new()));
        let log = scripts.clone();
        let reader = Reader::over(move |script| {
            let text = format!("{script:?}");
            log.lock().unwrap().push(text.clone());
            Box::pin(async move {
                if text.contains("99") { Err(sqlx::Error::PoolClosed) } else { Ok(Ran::default()) }
            })
        });
        let (here, there) = (numbers(&reader), numbers(&reader));
        let (two, three, again, six) = tokio::join!(here.get(2), here.get(3), here.get(2), there.get(6));
        let row = |answer: Answer<String>| answer.unwrap();
        assert_eq!(
            [row(two), row(three), row(again), row(six)],
            [Some("2".into()), None, Some("2".into()), Some("6".into())]
        );
        let said = std::mem::take(&mut *scripts.lock().unwrap());
        assert!(said.len() == 1 && said[0].contains("(2,3);(6)"), "{said:?}");
        assert_eq!(here.get_all([6, 7]).await.unwrap(), [Some("6".into()), None]);
        let (bad, neighbour) = tokio::join!(here.get(99), there.get(2));
        assert!(matches!(*bad.unwrap_err(), sqlx::Error::PoolClosed));
        assert!(matches!(*neighbour.unwrap_err(), sqlx::Error::PoolClosed));
        assert_eq!(here.get(4).await.unwrap(), Some("4".into()));
    }

    #[tokio::test]
    async fn more_than_a_statement_takes_are_several_statements() {
        let reader = Reader::over(|_| Box::pin(async { Ok(Ran::default()) }));
        let keys = 0..u32::try_from(MOST).unwrap() * 5;
        let rows = numbers(&reader).get_all(keys.clone()).await.unwrap();
        assert!(keys.zip(rows).all(|(key, row)| row == (key % 2 == 0).then(|| key.to_string())));
    }
}
