//! One test's own corner of MySQL and of Redis: made at the start, gone at the end, whatever happened in between.

use redis::aio::MultiplexedConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};

use crate::books;
use crate::caller::unique;
use crate::servers::redis_connection;

/// The servers that a test's shop uses, without a database in MySQL's URL.
#[derive(Clone, Debug)]
pub struct Servers {
    pub mysql: String,
    pub redis: String,
}

/// A schema and a Redis prefix of the same name.
#[derive(Debug)]
pub struct Schema {
    pub name: String,
    servers: Servers,
}

impl Schema {
    pub async fn create(servers: Servers) -> Schema {
        let name = format!("farmgate_{}", unique("t"));
        let mut server = MySqlConnection::connect(&servers.mysql).await.expect("the tests' MySQL answers");
        let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4");
        server.execute(AssertSqlSafe(create)).await.expect("a schema can be made");
        Schema { name, servers }
    }

    pub fn mysql_url(&self) -> String {
        // TLS would guard nothing on the loopback.
        format!("{}/{}?ssl-mode=disabled", self.servers.mysql, self.name)
    }

    pub fn redis_url(&self) -> &str {
        &self.servers.redis
    }

    /// A connection to Redis.
    pub async fn redis(&self) -> MultiplexedConnection {
        redis_connection(self.redis_url()).await.expect("the tests' Redis answers")
    }

    /// What the books say is wrong; then the schema and the keys are dropped.
    async fn close(servers: Servers, name: String) -> Vec<String> {
        let wrong = match MySqlConnection::connect(&format!("{}/{name}", servers.mysql)).await {
            Ok(mut books) => books::audit(&mut books).await,
            Err(error) => vec![format!("cannot audit {name}: {error}")],
        };
        if let Ok(mut server) = MySqlConnection::connect(&servers.mysql).await {
            // A schema that stays behind is a nuisance and no wrong result; so is one that a test, failing in the middle
            // of a transaction of its own, holds on to.
            let _ = server.execute("SET SESSION lock_wait_timeout = 10").await;
            let _ = server.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).await;
        }
        if let Ok(mut connection) = redis_connection(&servers.redis).await {
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
        let (servers, name) = (self.servers.clone(), self.name.clone());
        let closing = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(Schema::close(servers, name))
        });
        let wrong = closing.join().unwrap_or_else(|_| vec!["the audit panicked".to_owned()]);
        if !std::thread::panicking() {
            assert!(wrong.is_empty(), "the books are wrong at the end of the test:\n{}", wrong.join("\n"));
        }
    }
}
