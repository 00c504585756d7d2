//! The latency of a commit: one row, one connection, one durable transaction after the other. It is what no order can be
//! faster than on this disk.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};

/// Makes the table that is written to.
///
/// # Errors
/// When MySQL refuses.
pub async fn prepare(mysql_url: &str, database: &str) -> Result<()> {
    let mut connection = MySqlConnection::connect(mysql_url).await?;
    for statement in [
        format!("DROP DATABASE IF EXISTS {database}"),
        format!("CREATE DATABASE {database}"),
        format!(
            "CREATE TABLE {database}.probe (id BIGINT PRIMARY KEY AUTO_INCREMENT, value BIGINT NOT NULL)"
        ),
    ] {
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Microseconds of each commit, in order of size.
///
/// # Errors
/// When MySQL refuses.
pub async fn measure(url: &str, time: Duration) -> Result<Vec<u32>> {
    let mut connection = MySqlConnection::connect(url).await?;
    let mut took = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let started = Instant::now();
        sqlx::query("INSERT INTO probe (value) VALUES (?)").bind(1_i64).execute(&mut connection).await?;
        took.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    connection.close().await?;
    took.sort_unstable();
    Ok(took)
}
