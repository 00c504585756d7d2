//! The door to MySQL: one pool, and one way to run a transaction. Statements stand in each domain's `store.rs`.

pub mod batch;
pub mod index;
pub mod kept;
pub mod lookup;
pub mod reach;
pub mod reseal;
pub mod script;
pub mod seal;
pub mod sql;

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Context;
use futures_core::future::BoxFuture;
use secrecy::ExposeSecret;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, MySql, MySqlConnection, MySqlPool};
use tokio::time::timeout;

use self::kept::Kept;
use self::reach::Reach;
use self::script::{Ran, Script};
use crate::config::MysqlConfig;

/// The schema's migrations, compiled in.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// How often a transaction that lost a deadlock is tried, and one that waited too long for a lock.
const MAX_ATTEMPTS: u32 = 5;
const MAX_WAITS: u32 = 2;

/// What a transaction may take in all, and one that writes a whole bill. A server that is gone without a word never answers;
/// whoever waits for it holds a connection, and perhaps locks.
const LONGEST: Duration = Duration::from_secs(30);
const LONGEST_OF_ALL: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(5);

/// Statements that a connection keeps prepared: lists and multi-row inserts come in some lengths each.
const PREPARED_STATEMENTS: usize = 256;

/// Rows of one INSERT of half a kilobyte a row, so that it fits into one trip (see `script.rs`).
pub const MOST_WIDE_ROWS: usize = 16;

/// The connections. Cloning shares them.
///
/// They are of two kinds. Those for single statements commit each by itself. Those for transactions are always in one,
/// which spares every transaction its BEGIN, and are rolled back when they come back, whatever happened to their user. Of
/// both, a few stay at hand while they are used all the time.
#[derive(Clone, Debug)]
pub struct Db {
    statements: MySqlPool,
    for_lookups: Kept,
    transactions: MySqlPool,
    for_transactions: Kept,
    /// For a script's answer.
    answer_timeout: Duration,
}

/// What a connection is told first. Gap locks of REPEATABLE READ would let neighbours' inserts deadlock; nothing here
/// relies on them. Nobody waits for a lock until the time of the request is up.
fn told_first(config: &MysqlConfig) -> String {
    let seconds = config.lock_wait_seconds;
    format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; SET SESSION innodb_lock_wait_timeout = {seconds}"
    )
}

impl Db {
    /// Prepares the pools; the first connection is made when it is needed, so that a process can start while MySQL
    /// is away.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn new(config: &MysqlConfig) -> anyhow::Result<Db> {
        let options: MySqlConnectOptions =
            config.url.expose_secret().parse().context("mysql.url is not a MySQL URL")?;
        // The log of a slow statement would hold its values, where they stand in its text (`sql.rs`).
        let options = options.statement_cache_capacity(PREPARED_STATEMENTS).disable_statement_logging();
        let for_transactions = config.max_connections.div_ceil(2);
        let for_statements = config.max_connections.saturating_sub(for_transactions).max(1);
        let first = told_first(config);
        let transactions =
            pool_options(config, for_transactions, first.clone() + "; SET SESSION autocommit = 0")
                .after_release(|connection, _| {
                    Box::pin(async move { in_time(connection.execute("ROLLBACK")).await.map(|_| true) })
                })
                .connect_lazy_with(options.clone());
        // The pool's own ping would wait for ever where a request was given up that was never answered.
        let statements = pool_options(config, for_statements, first)
            .after_release(|connection, _| {
                Box::pin(async move { in_time(connection.ping()).await.map(|()| true) })
            })
            .connect_lazy_with(options.clone());
        let reach = Reach::new(options);
        Ok(Db {
            for_lookups: Kept::new(statements.clone(), reach.clone(), for_statements.div_ceil(2)),
            statements,
            for_transactions: Kept::new(transactions.clone(), reach, for_transactions.div_ceil(2)),
            transactions,
            answer_timeout: Duration::from_millis(config.answer_timeout_ms),
        })
    }

    /// For single statements that need no transaction.
    pub fn pool(&self) -> &MySqlPool {
        &self.statements
    }

    /// Runs `work` in a transaction and commits. A deadlock or lock time-out rolls back and runs `work` again, so it
    /// must bear being run twice and must call nothing but MySQL. It runs in a task of its own: a client that hangs
    /// up cannot stop it half-way.
    ///
    /// # Errors
    /// What `work` returned; [`TransactionError::CommitUnknown`] when the connection broke during COMMIT, so that
    /// nobody can say yet whether it happened. A server that does not answer in [`LONGEST`] is a broken connection.
    pub async fn transaction<T, E, F>(&self, name: &'static str, work: F) -> Result<T, TransactionError<E>>
    where
        T: Send + 'static,
        E: Retryable,
        F: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
    {
        self.transaction_within(LONGEST, name, work).await
    }

    /// The same for one that has thousands of rows to write.
    ///
    /// # Errors
    /// As [`Db::transaction`].
    pub async fn long_transaction<T, E, F>(
        &self,
        name: &'static str,
        work: F,
    ) -> Result<T, TransactionError<E>>
    where
        T: Send + 'static,
        E: Retryable,
        F: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
    {
        self.transaction_within(LONGEST_OF_ALL, name, work).await
    }

    async fn transaction_within<T, E, F>(
        &self,
        longest: Duration,
        name: &'static str,
        work: F,
    ) -> Result<T, TransactionError<E>>
    where
        T: Send + 'static,
        E: Retryable,
        F: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
    {
        let connections = self.for_transactions.clone();
        let task = tokio::spawn(async move {
            let mut attempt = 1;
            loop {
                match attempt_once(&connections, longest, &work).await {
                    Err(TransactionError::Failed(error))
                        if attempt < error.database().map_or(0, attempts_worth) =>
                    {
                        tracing::debug!(name, attempt, "transaction lost a lock, trying again");
                        attempt += 1;
                    }
                    result => return result,
                }
            }
        });
        match task.await {
            Ok(result) => result,
            // The task is never aborted, so this is a panic: it belongs to the caller.
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Runs a script as a transaction, COMMIT among its trips; a deadlock runs it again. Where a condition
    /// did not hold ([`Ran::broken`]), nothing was committed. To be awaited to its end, whatever becomes of the client.
    /// `before_commit` is done before the trip that commits.
    ///
    /// # Errors
    /// As [`Db::transaction`]; a connection that broke during the last trip may have done so during COMMIT.
    pub async fn commit(
        &self,
        name: &'static str,
        mut script: Script,
        before_commit: impl Fn(),
    ) -> Result<Ran, TransactionError<sqlx::Error>> {
        script.statement(|sql| {
            sql.sql("COMMIT");
        });
        let mut attempt = 1;
        loop {
            match commit_once(&self.for_transactions, self.answer_timeout, &script, &before_commit).await {
                Err(TransactionError::Failed(error)) if attempt < MAX_ATTEMPTS && is_deadlock(&error) => {
                    tracing::debug!(name, attempt, "transaction lost a deadlock, trying again");
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Reads on a connection that is kept at hand, for reads that go on all the time.
    ///
    /// # Errors
    /// What `read` returned, or MySQL being away.
    pub async fn read<T, F>(&self, read: F) -> Result<T, sqlx::Error>
    where
        F: for<'c> FnOnce(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    {
        let mut connection = self.for_lookups.take().await?;
        let Ok(value) = timeout(self.answer_timeout, read(&mut connection)).await else {
            connection.close_on_drop();
            return Err(unanswered());
        };
        let value = value?;
        self.for_lookups.keep(connection);
        Ok(value)
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.for_transactions.close();
        self.for_lookups.close();
        self.transactions.close().await;
        self.statements.close().await;
    }
}

fn pool_options(config: &MysqlConfig, connections: u32, told_first: String) -> MySqlPoolOptions {
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_millis(config.acquire_timeout_ms))
        // A ping before each use would double the trips of a one-statement read; a dead connection shows itself.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            // Words and a number of our own.
            let told_first = AssertSqlSafe(told_first.clone());
            Box::pin(async move {
                connection.execute(told_first).await?;
                Ok(())
            })
        })
}

async fn attempt_once<T, E, F>(
    connections: &Kept,
    longest: Duration,
    work: &F,
) -> Result<T, TransactionError<E>>
where
    E: Retryable,
    F: for<'c> Fn(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, E>>,
{
    let failed = |error: sqlx::Error| TransactionError::Failed(E::from(error));
    let mut connection = connections.take().await.map_err(failed)?;
    let Ok(worked) = timeout(longest, work(&mut connection)).await else {
        connection.close_on_drop();
        return Err(failed(unanswered()));
    };
    let value = match worked {
        Ok(value) => value,
        Err(error) => {
            roll_back(connections, connection, error.database()).await;
            return Err(TransactionError::Failed(error));
        }
    };
    match timeout(longest, connection.execute("COMMIT")).await {
        Ok(Ok(_)) => {
            connections.keep(connection);
            Ok(value)
        }
        // The server answered: it did not commit.
        Ok(Err(error @ sqlx::Error::Database(_))) => Err(failed(error)),
        Ok(Err(error)) => Err(TransactionError::CommitUnknown(error)),
        Err(_) => {
            connection.close_on_drop();
            Err(TransactionError::CommitUnknown(unanswered()))
        }
    }
}

async fn commit_once(
    connections: &Kept,
    answer_timeout: Duration,
    script: &Script,
    before_commit: impl Fn(),
) -> Result<Ran, TransactionError<sqlx::Error>> {
    let mut connection = connections.take().await.map_err(TransactionError::Failed)?;
    let mut ran = Ran::default();
    let Ok(end) = timeout(answer_timeout, script.run_into(&mut connection, &mut ran, before_commit)).await
    else {
        connection.close_on_drop();
        return Err(match script.has_begun_last_trip(&ran) {
            true => TransactionError::CommitUnknown(unanswered()),
            false => TransactionError::Failed(unanswered()),
        });
    };
    match end {
        Ok(()) if ran.broken().is_none() => {
            connections.keep(connection);
            Ok(ran)
        }
        Ok(()) => {
            roll_back(connections, connection, None).await;
            Ok(ran)
        }
        Err(error) if matches!(error, sqlx::Error::Database(_)) || !script.has_begun_last_trip(&ran) => {
            roll_back(connections, connection, Some(&error)).await;
            Err(TransactionError::Failed(error))
        }
        Err(error) => Err(TransactionError::CommitUnknown(error)),
    }
}

/// Before the next attempt, or whoever hears of the failure, may meet this one's locks.
async fn roll_back(connections: &Kept, mut connection: PoolConnection<MySql>, after: Option<&sqlx::Error>) {
    // The server rolls back by itself when the connection ends. One that serves no more may be another one's replica by
    // now: who connects anew finds its successor.
    if after.is_some_and(is_shutdown) {
        connection.close_on_drop();
        return;
    }
    match in_time(connection.execute("ROLLBACK")).await {
        Ok(_) => connections.keep(connection),
        Err(rollback) => {
            tracing::debug!(%rollback, "rollback on a broken connection");
            connection.close_on_drop();
        }
    }
}

/// What waits for nobody else is answered soon, or never.
async fn in_time<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(SOON, answer).await.unwrap_or_else(|_| Err(unanswered()))
}

fn unanswered() -> sqlx::Error {
    std::io::Error::new(ErrorKind::TimedOut, "MySQL did not answer in time").into()
}

/// An error that may stem from the database.
pub trait Retryable: From<sqlx::Error> + Send + 'static {
    /// The database's error, if it is one.
    fn database(&self) -> Option<&sqlx::Error>;
}

impl Retryable for sqlx::Error {
    fn database(&self) -> Option<&sqlx::Error> {
        Some(self)
    }
}

/// Why a transaction did not end well.
#[derive(Debug)]
pub enum TransactionError<E> {
    /// It was rolled back.
    Failed(E),
    /// The connection broke during COMMIT, or during the trip that has it: it may or may not have happened.
    CommitUnknown(sqlx::Error),
}

impl<E: From<sqlx::Error>> TransactionError<E> {
    /// For callers to whom an unknown outcome is one more database error, since their work may be repeated.
    pub fn flatten(self) -> E {
        match self {
            TransactionError::Failed(error) => error,
            TransactionError::CommitUnknown(error) => E::from(error),
        }
    }
}

/// How often what failed so is to be tried in all.
fn attempts_worth(error: &sqlx::Error) -> u32 {
    match mysql_number(error) {
        Some(1213) => MAX_ATTEMPTS,
        Some(1205) => MAX_WAITS,
        _ => 0,
    }
}

/// A deadlock, or a lock that was not to be had in time.
pub fn is_contention(error: &sqlx::Error) -> bool {
    attempts_worth(error) > 0
}

/// One of those who waited for each other was turned away (1213).
pub fn is_deadlock(error: &sqlx::Error) -> bool {
    mysql_number(error) == Some(1213)
}

/// MySQL cannot be reached, or does not serve now: whatever was asked of it may be asked again later.
pub fn is_away(error: &sqlx::Error) -> bool {
    let unreachable = matches!(
        error,
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed
    );
    unreachable || is_shutdown(error)
}

/// This process is stopping, and asks MySQL nothing more.
pub fn is_closed(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::PoolClosed)
}

/// The server is going down (1053), refuses connections (1040) or is read-only after a failover (1290, 1836).
pub fn is_shutdown(error: &sqlx::Error) -> bool {
    matches!(mysql_number(error), Some(1053 | 1040 | 1290 | 1836))
}

/// A unique key already holds this value (1062).
pub fn is_duplicate(error: &sqlx::Error) -> bool {
    mysql_number(error) == Some(1062)
}

fn mysql_number(error: &sqlx::Error) -> Option<u16> {
    let database = error.as_database_error()?;
    database
        .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        .map(sqlx::mysql::MySqlDatabaseError::number)
}

/// `(?, ?, …)` lists of bound values, for `IN (…)`. Their length is a power of two, the last value repeated, so that few
/// different statements are prepared.
pub fn push_list<'a, T>(query: &mut sqlx::QueryBuilder<MySql>, values: impl IntoIterator<Item = T>)
where
    T: 'a + Clone + sqlx::Encode<'a, MySql> + sqlx::Type<MySql> + Send,
{
    query.push("(");
    let mut list = query.separated(", ");
    for value in padded(values.into_iter().collect()) {
        list.push_bind(value);
    }
    query.push(")");
}

/// As many values as the next power of two, the last one repeated.
pub fn padded<T: Clone>(mut values: Vec<T>) -> Vec<T> {
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_padded_to_powers_of_two() {
        assert_eq!(padded(vec![1, 2, 3]), [1, 2, 3, 3]);
        assert_eq!(padded(vec![1]), [1]);
        assert_eq!(padded(Vec::<i32>::new()), Vec::<i32>::new());
        assert_eq!(padded(vec![7; 33]).len(), 64);
    }
}
