//! How often MySQL waited for the disk. Counted are InnoDB's own syncs (`Innodb_data_fsyncs`: redo log, doublewrite
//! buffer, data files) and the binary log's: of MySQL by the performance schema (operations on the binary log's files that
//! are neither reads nor writes: with `sync_binlog=1`, one sync a group commit), of MariaDB by `Binlog_group_commits`.
//! Redis syncs its append-only file once a second, whatever the load, and is left out.

use anyhow::{Context, Result};
use sqlx::{Connection as _, MySqlConnection};

/// Since the server started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fsyncs {
    pub innodb: i64,
    pub binlog: i64,
}

impl Fsyncs {
    /// Both kinds since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Fsyncs) -> i64 {
        self.innodb - earlier.innodb + self.binlog - earlier.binlog
    }
}

/// Reads the counters.
///
/// # Errors
/// When MySQL is away, or counts nothing of its binary log.
pub async fn read(url: &str) -> Result<Fsyncs> {
    let mut connection = MySqlConnection::connect(url).await?;
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_data_fsyncs', 'Binlog_group_commits')",
    )
    .fetch_all(&mut connection)
    .await?;
    let status = |name: &str| -> Result<Option<i64>> {
        let row = rows.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        row.map(|(_, value)| value.parse().with_context(|| format!("{name} is {value}"))).transpose()
    };
    let innodb = status("Innodb_data_fsyncs")?.context("MySQL counts no fsyncs")?;
    let binlog = match status("Binlog_group_commits")? {
        Some(groups) => groups,
        None => sqlx::query_scalar(
            "SELECT CAST(COUNT_MISC AS SIGNED) FROM performance_schema.file_summary_by_event_name \
             WHERE EVENT_NAME = 'wait/io/file/sql/binlog'",
        )
        .fetch_optional(&mut connection)
        .await?
        .context("the performance schema does not count the binary log's operations")?,
    };
    connection.close().await?;
    Ok(Fsyncs { innodb, binlog })
}

#[cfg(test)]
mod tests {
    use super::Fsyncs;

    #[test]
    fn both_kinds_are_added_up() {
        let (before, after) = (Fsyncs { innodb: 10, binlog: 100 }, Fsyncs { innodb: 13, binlog: 104 });
        assert_eq!(after.since(before), 7);
    }
}
