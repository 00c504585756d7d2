//! The peers' own schema: the seed's three tables as the seed writes them, with the two that its order path cannot do
//! without, and what was stocked at the start, for the audit.

use anyhow::{Context, Result};
use redis::AsyncCommands;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, QueryBuilder};

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
    pub mysql_url: &'a str,
    /// Shared out among its processes.
    pub mysql_connections: u32,
    pub redis_url: &'a str,
    pub prefix: &'a str,
    pub secret: &'a str,
}

impl Server<'_> {
    /// The environment of `server.js`, beside the `NODE_PATH` of its packages.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, String)> {
        let each = self.mysql_connections.div_ceil(self.processes.max(1)).max(1);
        [
            ("NODE_ENV", "production".to_owned()),
            ("MODE", self.mode.to_owned()),
            ("PORT", self.port.to_string()),
            ("PROCESSES", self.processes.to_string()),
            ("MYSQL_URL", self.mysql_url.to_owned()),
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
    use super::*;

    #[test]
    fn the_processes_together_have_as_many_connections_as_the_origin() {
        let server = Server {
            mode: "seed",
            port: 0,
            processes: 3,
            mysql_url: "mysql://root@127.0.0.1/x",
            mysql_connections: 18,
            redis_url: "redis://127.0.0.1",
            prefix: "p:",
            secret: "s",
        };
        let each = |server: &Server<'_>| {
            let found = server.settings().into_iter().find(|(name, _)| name == "MYSQL_CONNECTIONS");
            found.unwrap().1.parse::<u32>().unwrap()
        };
        assert_eq!(each(&server) * server.processes, 18);
        assert_eq!(each(&Server { mysql_connections: 1, ..server }), 1);
    }
}
