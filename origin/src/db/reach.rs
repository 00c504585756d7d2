//! Whether MySQL can be reached at all. Where nobody listens, a pool tries until its time is up, and so would all who stand in
//! a queue, one after the other. Promises that once somebody has found MySQL away, the others are told so at once, and that
//! each second one of them goes to see whether it is back.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::{sleep, timeout};

/// How long MySQL is taken to be away after it was found so.
const AWAY: Duration = Duration::from_secs(1);
/// Whoever waits so long for a connection wonders why, and again each time.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is known. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Reach {
    options: MySqlConnectOptions,
    /// How long MySQL may take to let somebody in who wonders.
    answers_within: Duration,
    away_until: Arc<Mutex<Option<Instant>>>,
    /// Held by the one who looks.
    looking: Arc<tokio::sync::Mutex<()>>,
}

impl Reach {
    pub fn new(options: MySqlConnectOptions, answers_within: Duration) -> Reach {
        Reach { options, answers_within, away_until: Arc::default(), looking: Arc::default() }
    }

    /// Waits for a connection no longer than MySQL is known to be there.
    ///
    /// # Errors
    /// What `acquire` returned, or that MySQL is away.
    pub async fn acquire<T>(
        &self,
        acquire: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        match self.may_try(Instant::now()) {
            Try::Not => return Err(away()),
            Try::ForAll if self.looks_away().await => return Err(away()),
            Try::ForAll | Try::AsUsual => {}
        }
        tokio::select! {
            biased;
            acquired = acquire => acquired,
            () = self.found_away() => Err(away()),
        }
    }

    fn may_try(&self, now: Instant) -> Try {
        let mut until = self.away_until();
        match *until {
            Some(away_until) if now < away_until => Try::Not,
            Some(_) => {
                *until = Some(now + AWAY);
                Try::ForAll
            }
            None => Try::AsUsual,
        }
    }

    /// Ends when MySQL is found to be away, by this caller or by another.
    async fn found_away(&self) {
        loop {
            sleep(PATIENCE).await;
            if self.away_until().is_some_and(|until| Instant::now() < until) {
                return;
            }
            let Ok(_looking) = self.looking.try_lock() else { continue };
            if self.looks_away().await {
                return;
            }
        }
    }

    /// Goes to see whether MySQL is away, for all. One that merely lets nobody in now says why to those who connect.
    async fn looks_away(&self) -> bool {
        let is_away = match timeout(self.answers_within, self.options.connect()).await {
            Ok(Ok(connection)) => {
                // Ended properly: MySQL shuts out those who connect and leave.
                let _ = connection.close().await;
                false
            }
            Ok(Err(error)) => matches!(error, sqlx::Error::Io(_)),
            Err(_) => true,
        };
        *self.away_until() = is_away.then(|| Instant::now() + AWAY);
        is_away
    }

    fn away_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.away_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who may try to get a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    /// Nobody, while MySQL is taken to be away.
    Not,
    /// After that, each second, one.
    ForAll,
    AsUsual,
}

fn away() -> sqlx::Error {
    std::io::Error::new(ErrorKind::NotConnected, "MySQL was away a moment ago").into()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn nobody_listens() -> Reach {
        Reach::new("mysql://a:b@127.0.0.1:1/c".parse().unwrap(), AWAY)
    }

    #[tokio::test]
    async fn who_waits_where_nobody_listens_is_told_and_the_others_at_once() {
        let reach = nobody_listens();
        let waits = pending::<Result<(), sqlx::Error>>();
        assert!(crate::db::is_away(&reach.acquire(waits).await.unwrap_err()));
        *reach.away_until() = Some(Instant::now() + 3600 * AWAY);
        assert!(reach.acquire(ready(Ok(()))).await.is_err(), "nobody tries");
    }

    #[tokio::test]
    async fn after_a_while_one_goes_to_see_and_tells_the_others() {
        let reach = nobody_listens();
        let now = Instant::now();
        *reach.away_until() = Some(now);
        assert_eq!(reach.may_try(now), Try::ForAll);
        assert_eq!(reach.may_try(now), Try::Not, "the others wait for that one");
        assert_eq!(reach.may_try(now + AWAY), Try::ForAll, "which may have been given up");
        // Still away, which takes no longer to see than somebody to say so, and is told for as long as ever.
        *reach.away_until() = Some(now);
        let at_hand = ready(Ok::<(), _>(()));
        assert!(crate::db::is_away(&reach.acquire(at_hand).await.unwrap_err()));
        assert!(reach.away_until().is_some_and(|until| until >= now + AWAY));
    }

    #[tokio::test]
    async fn a_connection_at_hand_waits_for_nothing() {
        let reach = nobody_listens();
        for _ in 0..3 {
            reach.acquire(ready(Ok(()))).await.unwrap();
        }
    }
}
