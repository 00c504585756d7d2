//! One test's own corner of MySQL and of Redis: made at the start, gone at the end, whatever happened in between.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};

use crate::books;
use crate::caller::unique;
use crate::env;

/// A schema and a Redis prefix of the same name.
#[derive(Debug)]
pub struct Schema {
    pub name: String,
}

impl Schema {
    pub async fn create() -> Schema {
        let name = format!("farmgate_{}", unique("t"));
        let mut server = MySqlConnection::connect(&env::mysql_url()).await.expect("the tests' MySQL answers");
        let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4");
        server.execute(AssertSqlSafe(create)).await.expect("a schema can be made");
        Schema { name }
    }

    pub fn mysql_url(&self) -> String {
        // TLS would guard nothing on the loopback.
        format!("{}/{}?ssl-mode=disabled", env::mysql_url(), self.name)
    }

    /// What the books say is wrong; then the schema and the keys are dropped.
    async fn close(mysql_url: String, name: String) -> Vec<String> {
        let wrong = match MySqlConnection::connect(&mysql_url).await {
            Ok(mut books) => books::audit(&mut books).await,
            Err(error) => vec![format!("cannot audit {name}: {error}")],
        };
        if let Ok(mut server) = MySqlConnection::connect(&env::mysql_url()).await {
            // A schema that stays behind is a nuisance and no wrong result; so is one that a test, failing in the middle
            // of a transaction of its own, holds on to.
            let _ = server.execute("SET SESSION lock_wait_timeout = 10").await;
            let _ = server.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).await;
        }
        if let Ok(client) = redis::Client::open(env::redis_url())
            && let Ok(mut connection) = client.get_multiplexed_async_connection().await
        {
            let keys: redis::RedisResult<Vec<String>> =
                redis::cmd("KEYS").arg(format!("{name}:*")).query_async(&mut connection).await;
            if let Ok(keys) = keys
                && !keys.is_empty()
            {
                let _: redis::RedisResult<()> =
                    redis::cmd("DEL").arg(keys).query_async(&mut connection).await;
            }
        }
        wrong
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // Drop is not async, and this thread's runtime may be the one that is ending: a thread with its own.
        let (mysql_url, name) = (self.mysql_url(), self.name.clone());
        let closing = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(Schema::close(mysql_url, name))
        });
        let wrong = closing.join().unwrap_or_else(|_| vec!["the audit panicked".to_owned()]);
        if !std::thread::panicking() {
            assert!(wrong.is_empty(), "the books are wrong at the end of the test:\n{}", wrong.join("\n"));
        }
    }
}
