//! The peers: their own schema, which is the seed's three tables as the seed writes them, with the two that its order path
//! cannot do without, and what was stocked at the start, for the audit; and how their server is started, for the benchmark
//! and the tests alike.

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use redis::AsyncCommands;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, QueryBuilder};

use crate::plan::Plan;

/// The seed's statements, and beside them: an order names an address; a repaired order says what was bought.
const TABLES: [&str; 6] = [
    "CREATE TABLE users (
        id BIGINT PRIMARY KEY AUTO_INCREMENT,
        openid VARCHAR(100) UNIQUE NOT NULL,
        unionid VARCHAR(100),
        nickname VARCHAR(100),
        avatar VARCHAR(500),
        phone VARCHAR(20),
        gender TINYINT DEFAULT 0,
        birthday DATE,
        points INT DEFAULT 0,
        level TINYINT DEFAULT 1,
        status TINYINT DEFAULT 1,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
    )",
    "CREATE TABLE products (
        id BIGINT PRIMARY KEY AUTO_INCREMENT,
        name VARCHAR(200) NOT NULL,
        description TEXT,
        price DECIMAL(10,2) NOT NULL,
        original_price DECIMAL(10,2),
        stock INT DEFAULT 0,
        category_id BIGINT,
        brand VARCHAR(100),
        origin VARCHAR(200),
        weight DECIMAL(8,2),
        unit VARCHAR(20),
        images JSON,
        tags JSON,
        status TINYINT DEFAULT 1,
        sort_order INT DEFAULT 0,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
    )",
    "CREATE TABLE orders (
        id BIGINT PRIMARY KEY AUTO_INCREMENT,
        order_no VARCHAR(50) UNIQUE NOT NULL,
        user_id BIGINT NOT NULL,
        total_amount DECIMAL(10,2) NOT NULL,
        discount_amount DECIMAL(10,2) DEFAULT 0,
        actual_amount DECIMAL(10,2) NOT NULL,
        status TINYINT DEFAULT 0,
        payment_method TINYINT,
        payment_time TIMESTAMP NULL,
        delivery_address JSON,
        delivery_fee DECIMAL(8,2) DEFAULT 0,
        remark TEXT,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
    )",
    "CREATE TABLE addresses (
        id BIGINT PRIMARY KEY AUTO_INCREMENT,
        user_id BIGINT NOT NULL,
        name VARCHAR(50) NOT NULL,
        phone VARCHAR(20) NOT NULL,
        province VARCHAR(30) NOT NULL,
        city VARCHAR(30) NOT NULL,
        district VARCHAR(30) NOT NULL,
        detail VARCHAR(200) NOT NULL
    )",
    "CREATE TABLE order_items (
        id BIGINT PRIMARY KEY AUTO_INCREMENT,
        order_id BIGINT NOT NULL,
        product_id BIGINT NOT NULL,
        name VARCHAR(200) NOT NULL,
        price DECIMAL(10,2) NOT NULL,
        quantity INT NOT NULL,
        KEY items_of_order (order_id)
    )",
    "CREATE TABLE stocked (product_id BIGINT PRIMARY KEY, quantity BIGINT NOT NULL)",
];

/// Makes the database `name` anew with these users (each with one address of the same id) and products, and shows the
/// products' stock in Redis, as the seed's code expects it.
///
/// # Errors
/// When MySQL or Redis refuses.
pub async fn prepare(
    mysql_url: &str,
    redis_url: &str,
    name: &str,
    prefix: &str,
    users: &[i64],
    stocked: &[(i64, i64)],
) -> Result<()> {
    let mut connection = MySqlConnection::connect(mysql_url).await.context("MySQL")?;
    for statement in [
        format!("DROP DATABASE IF EXISTS {name}"),
        format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"),
        format!("USE {name}"),
    ] {
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    for table in TABLES {
        connection.execute(table).await?;
    }
    let mut query = QueryBuilder::new("INSERT INTO users (id, openid, nickname) ");
    query.push_values(users, |mut row, id| {
        row.push_bind(*id).push_bind(format!("bench-{id}")).push_bind("小王");
    });
    query.build().execute(&mut connection).await?;
    let mut query = QueryBuilder::new(
        "INSERT INTO addresses (id, user_id, name, phone, province, city, district, detail) ",
    );
    query.push_values(users, |mut row, id| {
        row.push_bind(*id).push_bind(*id).push_bind("小王").push_bind("13800000000");
        row.push_bind("山东省").push_bind("烟台市").push_bind("栖霞市").push_bind("果园路 1 号");
    });
    query.build().execute(&mut connection).await?;
    stock(&mut connection, redis_url, prefix, stocked).await?;
    connection.close().await?;
    Ok(())
}

async fn stock(
    connection: &mut MySqlConnection,
    redis_url: &str,
    prefix: &str,
    stocked: &[(i64, i64)],
) -> Result<()> {
    let mut query = QueryBuilder::new("INSERT INTO products (id, name, price, stock) ");
    query.push_values(stocked, |mut row, (id, quantity)| {
        row.push_bind(*id).push_bind("红富士苹果").push("15.80").push_bind(*quantity);
    });
    query.build().execute(&mut *connection).await?;
    let mut query = QueryBuilder::new("INSERT INTO stocked (product_id, quantity) ");
    query.push_values(stocked, |mut row, (id, quantity)| {
        row.push_bind(*id).push_bind(*quantity);
    });
    query.build().execute(connection).await?;
    let client = redis::Client::open(redis_url).context("the Redis URL")?;
    let mut redis = client.get_multiplexed_async_connection().await.context("Redis")?;
    for (id, quantity) in stocked {
        let _: () = redis.set(format!("{prefix}stock:{id}"), *quantity).await?;
        let _: () = redis.del(format!("{prefix}stock_lock:{id}")).await?;
    }
    Ok(())
}

/// One peer, before it is started.
#[derive(Debug, Clone)]
pub struct Server<'a> {
    /// `seed` or `repaired`.
    pub mode: &'a str,
    /// 0 for any that is free.
    pub port: u16,
    pub processes: u32,
    /// With its database.
    pub mysql_url: String,
    /// Shared out among its processes.
    pub mysql_connections: u32,
    pub redis_url: &'a str,
    pub prefix: &'a str,
    pub secret: &'a str,
}

impl<'a> Server<'a> {
    /// The one of this mode that takes part in a benchmark.
    ///
    /// # Errors
    /// When none does.
    pub fn of(plan: &'a Plan, mode: &'a str) -> Result<Server<'a>> {
        let peer = plan.peer(mode)?;
        Ok(Server {
            mode,
            port: peer.address.port(),
            processes: peer.processes,
            mysql_url: format!("{}/{}", plan.mysql_url.trim_end_matches('/'), peer.database),
            mysql_connections: plan.mysql_connections,
            redis_url: &plan.redis_url,
            prefix: &peer.prefix,
            secret: &peer.secret,
        })
    }

    /// Becomes this server: the process that calls is its first from then on. `script` is `server.js`.
    ///
    /// # Errors
    /// When there is no `node`. It does not return otherwise.
    pub fn become_it(&self, script: &Path) -> Result<Infallible> {
        Err(Command::new("node").arg(script).envs(self.settings()).exec()).context("cannot run node")
    }

    /// The environment of `server.js`, beside the `NODE_PATH` of its packages.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, String)> {
        let each = self.mysql_connections.div_ceil(self.processes.max(1)).max(1);
        [
            ("NODE_ENV", "production".to_owned()),
            ("MODE", self.mode.to_owned()),
            ("PORT", self.port.to_string()),
            ("PROCESSES", self.processes.to_string()),
            ("MYSQL_URL", self.mysql_url.clone()),
            ("MYSQL_CONNECTIONS", each.to_string()),
            ("REDIS_URL", self.redis_url.to_owned()),
            ("REDIS_PREFIX", self.prefix.to_owned()),
            ("JWT_SECRET", self.secret.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(mysql_connections: u32) -> Plan {
        let peer = |port: u16| {
            json!({"address": format!("127.0.0.1:{port}"), "database": "peer", "prefix": "p:", "secret": "s",
                   "processes": 3})
        };
        let plan = json!({
            "mysql_url": "mysql://root@127.0.0.1:3306", "redis_url": "redis://127.0.0.1",
            "mysql_connections": mysql_connections, "processes": {},
            "origin": {"address": "127.0.0.1:1", "database": "farmgate", "program": "o", "keys": "k", "settings": {}},
            "peers": {"seed": peer(7001), "repaired": peer(7002)},
        });
        serde_json::from_value(plan).unwrap()
    }

    fn setting(server: &Server<'_>, name: &str) -> String {
        server.settings().into_iter().find(|(known, _)| known == name).unwrap().1
    }

    #[test]
    fn the_processes_of_a_peer_have_together_as_many_connections_as_the_origin() {
        let each = |plan: &Plan| {
            let server = Server::of(plan, "seed").unwrap();
            setting(&server, "MYSQL_CONNECTIONS").parse::<u32>().unwrap()
        };
        assert_eq!(each(&plan(18)) * 3, 18);
        assert_eq!(each(&plan(1)), 1, "none can do with less");
    }

    #[test]
    fn a_peer_is_the_one_of_its_mode_in_the_plan() {
        let plan = plan(18);
        let repaired = Server::of(&plan, "repaired").unwrap();
        assert_eq!(setting(&repaired, "MODE"), "repaired");
        assert_eq!(setting(&repaired, "PORT"), "7002");
        assert_eq!(setting(&repaired, "MYSQL_URL"), "mysql://root@127.0.0.1:3306/peer");
        assert!(Server::of(&plan, "third").is_err());
    }
}
