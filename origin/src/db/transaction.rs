//! How a transaction is run: statement by statement, or as one script. Promises that what it says of a COMMIT is true: done, not
//! done, or not known; and that no server which is gone without a word is waited for for ever.

use std::time::Duration;

use futures_core::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{Executor, MySql, MySqlConnection};
use tokio::time::timeout;

use super::errors::{MAX_ATTEMPTS, attempts_worth, is_deadlock, is_shutdown};
use super::kept::Kept;
use super::script::{Ran, Script};
use super::{Db, in_time, unanswered};

/// What a transaction may take in all, and one that writes a whole bill. A server that is gone without a word never answers;
/// whoever waits for it holds a connection, and perhaps locks.
const LONGEST: Duration = Duration::from_secs(30);
const LONGEST_OF_ALL: Duration = Duration::from_secs(600);

impl Db {
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
        Ok(Err(error @ sqlx::Error::Database(_))) => {
            roll_back(connections, connection, Some(&error)).await;
            Err(failed(error))
        }
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
