//! The benchmark's peer on Express for one test: its processes, a database of its own and a prefix in Redis, all of which
//! end with the test. What it does wrong is its own affair, so nothing is audited when it goes.

use std::process::Command;
use std::sync::Arc;

use farmgate_bench::audit::{self, Ledger, Units};
use farmgate_bench::peer::{self, Server};
use farmgate_bench::target::Target;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection};

use crate::caller::unique;
use crate::env;
use crate::process::Process;
use crate::shop::Folder;

/// As many as showed the seed's fault when it was first measured.
const PROCESSES: u32 = 3;

/// A running peer. Fields are dropped in this order: the program first, the database it uses last.
#[derive(Debug)]
pub struct Express {
    pub target: Arc<Target>,
    ledger: Ledger,
    _process: Process,
    database: Database,
    _folder: Folder,
}

impl Express {
    /// The seed's design as written.
    pub async fn seed(stocked: &[(i64, i64)]) -> Express {
        Express::start("seed", Ledger::Seed, stocked).await
    }

    /// The same with a script in place of the lock, and a transaction.
    pub async fn repaired(stocked: &[(i64, i64)]) -> Express {
        Express::start("repaired", Ledger::Repaired, stocked).await
    }

    async fn start(mode: &str, ledger: Ledger, stocked: &[(i64, i64)]) -> Express {
        let database = Database { name: format!("peer_{}", unique(mode)) };
        let (prefix, secret) = (format!("{}:", database.name), unique("secret"));
        let users: Vec<i64> = (1..=64).collect();
        peer::prepare(&env::mysql_url(), &env::redis_url(), &database.name, &prefix, &users, stocked)
            .await
            .expect("the peer's schema can be made");
        let server = Server {
            mode,
            port: 0,
            processes: PROCESSES,
            mysql_url: database.url(),
            mysql_connections: 18,
            redis_url: &env::redis_url(),
            prefix: &prefix,
            secret: &secret,
        };
        let mut settings = server.settings();
        settings.push(("NODE_PATH".to_owned(), env::peer_modules()));
        let folder = Folder::create();
        let mut process =
            Process::start("express", Command::new("node").arg(env::peer_server()), &folder.path, &settings);
        let url = process.listening().await;
        let address = url.trim_start_matches("http://").parse().expect("an address");
        let target = Arc::new(Target::peer(address, &secret, &users).expect("tokens can be signed"));
        Express { target, ledger, _process: process, database, _folder: folder }
    }

    /// What was stocked and what was ordered, by the same audit that the benchmark makes.
    pub async fn units(&self) -> Vec<Units> {
        let mut connection =
            MySqlConnection::connect(&self.database.url()).await.expect("the tests' MySQL answers");
        audit::units(&mut connection, self.ledger).await.expect("the audit can be made")
    }
}

#[derive(Debug)]
struct Database {
    name: String,
}

impl Database {
    fn url(&self) -> String {
        format!("{}/{}", env::mysql_url(), self.name)
    }

    async fn drop(name: String) {
        // What stays behind is a nuisance and no wrong result.
        if let Ok(mut server) = MySqlConnection::connect(&env::mysql_url()).await {
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
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Drop is not async, and this thread's runtime may be the one that is ending: a thread with its own.
        let name = self.name.clone();
        let dropping = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(Database::drop(name));
        });
        let _ = dropping.join();
    }
}
