//! What MySQL's errors mean to callers.

/// How often a transaction that lost a deadlock is tried, and one that waited too long for a lock.
pub(super) const MAX_ATTEMPTS: u32 = 5;
const MAX_WAITS: u32 = 2;

/// How often what failed so is to be tried in all.
pub(super) fn attempts_worth(error: &sqlx::Error) -> u32 {
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

pub(super) fn mysql_number(error: &sqlx::Error) -> Option<u16> {
    let database = error.as_database_error()?;
    database
        .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        .map(sqlx::mysql::MySqlDatabaseError::number)
}
