//! The stock gate of a test's shop, read and spoiled straight in Redis.

use redis::AsyncCommands as _;

use crate::schema::Schema;
use crate::shop::Shop;

/// The generation that the gate shows, if any.
pub(crate) async fn epoch(schema: &Schema) -> Option<i64> {
    let key = format!("{}:gate-epoch", schema.name);
    schema.redis().await.get(key).await.expect("Redis answers")
}

impl Shop {
    /// What the gate in Redis shows for a SKU, if it shows anything.
    pub async fn gate(&self, sku: i64) -> Option<i64> {
        let key = format!("{}:stock:{sku}", self.schema.name);
        self.schema.redis().await.get(key).await.expect("Redis answers")
    }

    /// Sends Redis one command, with this shop's prefix in front of every argument that begins with `:`.
    pub async fn redis_command(&self, words: &[&str]) {
        self.redis_words(words).exec_async(&mut self.schema.redis().await).await.expect("Redis answers");
    }

    /// The number that Redis answers to a command, written as in [`Shop::redis_command`].
    pub async fn redis_number(&self, words: &[&str]) -> i64 {
        let mut redis = self.schema.redis().await;
        self.redis_words(words).query_async(&mut redis).await.expect("Redis answers with a number")
    }

    /// The text that Redis answers to a command, written as in [`Shop::redis_command`]; empty when it answers nothing.
    pub async fn redis_text(&self, words: &[&str]) -> String {
        let mut redis = self.schema.redis().await;
        let answer: Option<String> =
            self.redis_words(words).query_async(&mut redis).await.expect("Redis answers with a text");
        answer.unwrap_or_default()
    }

    fn redis_words(&self, words: &[&str]) -> redis::Cmd {
        let mut command = redis::Cmd::new();
        for word in words {
            match word.strip_prefix(':') {
                Some(key) => command.arg(format!("{}:{key}", self.schema.name)),
                None => command.arg(*word),
            };
        }
        command
    }

    /// A connection to the Redis that the shop uses.
    pub async fn redis(&self) -> redis::aio::MultiplexedConnection {
        self.schema.redis().await
    }

    /// Whether Redis has this key of the shop's, named as in [`Shop::redis_command`].
    pub async fn redis_has(&self, key: &str) -> bool {
        let key = format!("{}{key}", self.schema.name);
        redis::cmd("EXISTS")
            .arg(key)
            .query_async(&mut self.schema.redis().await)
            .await
            .expect("Redis answers")
    }

    /// Writes a hold of an order as the gate does: so many of a SKU, taken at a moment in milliseconds since 1970.
    pub async fn write_hold(&self, order_no: &str, sku: i64, quantity: u32, taken_ms: i64) {
        let hold = self.hold_of(sku, quantity, taken_ms);
        self.redis_command(&["HSET", ":held", order_no, &hold]).await;
    }

    /// The same, and takes the goods, as one does who dies between the gate and MySQL.
    pub async fn leave_hold(&self, order_no: &str, sku: i64, quantity: u32, taken_ms: i64) {
        let script = "redis.call('DECRBY', KEYS[1], ARGV[1]) redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])";
        let (level, quantity_text) = (format!(":stock:{sku}"), quantity.to_string());
        let hold = self.hold_of(sku, quantity, taken_ms);
        let call = ["EVAL", script, "2", &level, ":held", &quantity_text, order_no, &hold];
        self.redis_command(&call).await;
    }

    fn hold_of(&self, sku: i64, quantity: u32, taken_ms: i64) -> String {
        format!("{taken_ms} 1:of-a-test {}:stock:{sku} {quantity}", self.schema.name)
    }

    /// Every hold in the gate is now as old as one whose maker is gone for good.
    pub async fn age_holds(&self) {
        // At once: a hold that its maker drops meanwhile stays dropped.
        let script = "local all = redis.call('HGETALL', KEYS[1]) \
                      for i = 1, #all, 2 do \
                        redis.call('HSET', KEYS[1], all[i], (string.gsub(all[i + 1], '^%d+', '0'))) \
                      end";
        self.redis_command(&["EVAL", script, "1", ":held"]).await;
    }

    /// Redis loses everything that this shop had in it, as a restart without persistence does.
    pub async fn forget_redis(&self) {
        let mut redis = self.schema.redis().await;
        let pattern = format!("{}:*", self.schema.name);
        let keys: Vec<String> =
            redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.expect("Redis answers");
        let _: () = redis::cmd("DEL").arg(keys).query_async(&mut redis).await.expect("Redis answers");
    }

    /// Redis loses which requests came lately; says how many it knew.
    pub async fn forget_requests(&self) -> usize {
        let mut redis = self.schema.redis().await;
        let pattern = format!("{}:twins:*", self.schema.name);
        let periods: Vec<String> = redis.keys(pattern).await.expect("Redis answers");
        let mut known = 0;
        for period in periods {
            known += redis.hlen::<_, usize>(&period).await.expect("Redis answers");
            redis.del::<_, ()>(&period).await.expect("Redis answers");
        }
        known
    }

    /// Numbers of the orders that have a hold in the gate.
    pub async fn holds(&self) -> Vec<String> {
        let key = format!("{}:held", self.schema.name);
        self.schema.redis().await.hkeys(key).await.expect("Redis answers")
    }

    /// The generation that the gate shows, if any.
    pub async fn gate_epoch(&self) -> Option<i64> {
        epoch(&self.schema).await
    }

    /// Whether the gate is of MySQL's generation, nothing is held, and every SKU shows what MySQL has available.
    pub async fn gate_is_true(&self) -> bool {
        if self.gate_epoch().await != Some(self.count("SELECT epoch FROM gate_epoch").await)
            || !self.holds().await.is_empty()
        {
            return false;
        }
        let stock: Vec<(i64, i64)> =
            sqlx::query_as("SELECT sku_id, CAST(available AS SIGNED) FROM stock ORDER BY sku_id")
                .fetch_all(&self.db)
                .await
                .expect("MySQL answers");
        let keys: Vec<String> =
            stock.iter().map(|(sku, _)| format!("{}:stock:{sku}", self.schema.name)).collect();
        let shown: Vec<Option<i64>> = self.schema.redis().await.mget(keys).await.expect("Redis answers");
        stock.iter().map(|(_, available)| Some(*available)).eq(shown)
    }
}
