//! The door to MySQL: the connections, and how they are used. Statements stand in each domain's `store.rs`.

pub mod batch;
mod errors;
pub mod index;
pub mod kept;
pub mod lookup;
pub mod reach;
pub mod reseal;
pub mod script;
pub mod seal;
pub mod sql;
mod transaction;

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Context;
use futures_core::future::BoxFuture;
use secrecy::ExposeSecret;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, MySql, MySqlConnection, MySqlPool};
use tokio::time::timeout;

pub use self::errors::{is_away, is_closed, is_contention, is_deadlock, is_duplicate, is_shutdown};
use self::kept::Kept;
use self::reach::Reach;
pub use self::transaction::{Retryable, TransactionError};
use crate::config::MysqlConfig;

/// The schema's migrations, compiled in.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// What waits for nobody else is answered so soon, or never.
const SOON: Duration = Duration::from_secs(5);
/// What a look of a loop takes at most.
const A_LOOK: Duration = Duration::from_secs(20);

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
        // The pool's own ping would wait for ever where a request was given up that was never answered. Nothing but a ping: what
        // was cut off in the middle of an answer leaves a connection whose next words are no answer to a question.
        let statements = pool_options(config, for_statements, first)
            .after_release(|connection, _| {
                Box::pin(async move { in_time(connection.ping()).await.map(|()| true) })
            })
            .connect_lazy_with(options.clone());
        let reach = Reach::new(options, Duration::from_millis(config.away_after_ms));
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

    /// Reads on a connection that is kept at hand, for reads that go on all the time.
    ///
    /// # Errors
    /// What `read` returned, or MySQL being away.
    pub async fn read<T, F>(&self, read: F) -> Result<T, sqlx::Error>
    where
        F: for<'c> FnOnce(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    {
        let mut connection = self.borrow().await?;
        let Ok(value) = timeout(self.answer_timeout, read(&mut connection)).await else {
            connection.close_on_drop();
            return Err(unanswered());
        };
        let value = value?;
        self.give_back(connection);
        Ok(value)
    }

    /// A connection that is kept at hand, for the statements of one look; for [`Db::give_back`] when the last of them was answered.
    ///
    /// # Errors
    /// When MySQL is away.
    pub async fn borrow(&self) -> Result<PoolConnection<MySql>, sqlx::Error> {
        self.for_lookups.take().await
    }

    /// Keeps a borrowed connection at hand. One that is dropped instead goes the long way, by a ping.
    pub fn give_back(&self, connection: PoolConnection<MySql>) {
        self.for_lookups.keep(connection);
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

async fn in_time<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(SOON, answer).await.unwrap_or_else(|_| Err(unanswered()))
}

/// A look that a loop takes, which one answer that never comes must not stop for ever. It has to bear being cut off.
///
/// # Errors
/// What `work` returned, or that MySQL did not answer.
pub async fn look<T, E: From<sqlx::Error>>(look: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    within(A_LOOK, look).await
}

/// The same for what takes longer.
///
/// # Errors
/// As [`look`].
pub async fn within<T, E: From<sqlx::Error>>(
    longest: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(longest, work).await.unwrap_or_else(|_| Err(unanswered().into()))
}

fn unanswered() -> sqlx::Error {
    std::io::Error::new(ErrorKind::TimedOut, "MySQL did not answer in time").into()
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
