//! The running shop as the demo sees it: the edge as a phone calls it, the simulator's controls, and a look into MySQL
//! and Redis to see that the books follow.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use farmgate_tests::{LONG, redis_connection, unique};
use redis::aio::MultiplexedConnection;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use sqlx::MySqlPool;

/// Where everything is, as `cargo xtask up` wrote it.
#[derive(Deserialize)]
struct Endpoints {
    edge: String,
    wechat_sim: String,
    mysql_url: String,
    redis_url: String,
}

/// Connections to all of it.
pub struct Shop {
    http: reqwest::Client,
    pub edge: String,
    wechat_sim: String,
    mysql: MySqlPool,
    redis: MultiplexedConnection,
    redis_prefix: String,
}

/// The row of `stock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Stock {
    pub available: i32,
    pub held: i32,
    pub sold: i32,
}

impl Shop {
    pub async fn connect(endpoints: &Path, redis_prefix: &str) -> Result<Shop> {
        let text =
            std::fs::read_to_string(endpoints).with_context(|| format!("no {}", endpoints.display()))?;
        let endpoints: Endpoints =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", endpoints.display()))?;
        // The client wants a TLS provider even for plain HTTP; a second installation is refused and means nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?;
        Ok(Shop {
            http,
            edge: endpoints.edge.trim_end_matches('/').to_owned(),
            wechat_sim: endpoints.wechat_sim.trim_end_matches('/').to_owned(),
            mysql: MySqlPool::connect(&endpoints.mysql_url).await.context("MySQL does not answer")?,
            redis: redis_connection(&endpoints.redis_url).await.context("Redis does not answer")?,
            redis_prefix: redis_prefix.to_owned(),
        })
    }

    /// A GET through the edge; the `data` of its reply.
    pub async fn get(&self, path: &str, token: Option<&str>) -> Result<Value> {
        self.ask(self.http.get(format!("{}{path}", self.edge)), "GET", path, token).await
    }

    /// A POST through the edge; the `data` of its reply. Each has a key of its own: run twice within seconds, the
    /// second order would otherwise pass for a double tap on the first.
    pub async fn post(&self, path: &str, body: &Value, token: Option<&str>) -> Result<Value> {
        let request = self.http.post(format!("{}{path}", self.edge)).json(body);
        self.ask(request.header("idempotency-key", unique("demo")), "POST", path, token).await
    }

    async fn ask(
        &self,
        mut request: reqwest::RequestBuilder,
        method: &str,
        path: &str,
        token: Option<&str>,
    ) -> Result<Value> {
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let begun = Instant::now();
        let reply = loop {
            let attempt = request.try_clone().context("a body in memory can be sent again")?;
            let reply = attempt.send().await.with_context(|| format!("{method} {path} got no reply"))?;
            // As the mini-program does: what a busy shop cannot do now is asked for again, with the same key.
            if reply.status() != StatusCode::SERVICE_UNAVAILABLE || begun.elapsed() >= LONG {
                break reply;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let status = reply.status().as_u16();
        let text = reply.text().await.with_context(|| format!("{method} {path}: the reply broke off"))?;
        let mut body: Value = serde_json::from_str(&text)
            .map_err(|_| anyhow!("{method} {path}: expected JSON, got status {status} and {text:?}"))?;
        if status != 200 || body["code"] != 200 {
            bail!("{method} {path}: expected status and code 200, got status {status} and {body}");
        }
        Ok(body["data"].take())
    }

    /// The length and kind of a picture, fetched from its own address.
    pub async fn picture(&self, url: &str) -> Result<(usize, String)> {
        let reply = self.http.get(url).send().await.with_context(|| format!("{url} got no reply"))?;
        let status = reply.status().as_u16();
        let kind =
            reply.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
        let length = reply.bytes().await?.len();
        if status != 200 {
            bail!("{url}: expected status 200, got {status}");
        }
        Ok((length, kind))
    }

    /// The simulated shopper pays, with the parameters that the shop handed the phone.
    pub async fn pay(&self, out_trade_no: &str, request_payment: &Value) -> Result<Value> {
        let body = serde_json::json!({"out_trade_no": out_trade_no, "request_payment": request_payment});
        self.control("pay", body).await
    }

    /// The shop is told of the payment once more; its answer.
    pub async fn notify(&self, out_trade_no: &str) -> Result<Value> {
        self.control("notify", serde_json::json!({"out_trade_no": out_trade_no})).await
    }

    async fn control(&self, name: &str, body: Value) -> Result<Value> {
        let url = format!("{}/sim/{name}", self.wechat_sim);
        let reply = self.http.post(&url).json(&body).send().await.context("wechat-sim got no reply out")?;
        let status = reply.status().as_u16();
        let text = reply.text().await?;
        if status != 200 {
            bail!("{url} was refused with {status}: {text}");
        }
        serde_json::from_str(&text).context("wechat-sim's reply")
    }

    pub async fn stock_in_mysql(&self, sku: i64) -> Result<Stock> {
        sqlx::query_as("SELECT available, held, sold FROM stock WHERE sku_id = ?")
            .bind(sku)
            .fetch_optional(&self.mysql)
            .await?
            .with_context(|| format!("MySQL has no stock of SKU {sku}"))
    }

    /// What the gate shows, once it shows something.
    pub async fn stock_in_redis(&self, sku: i64) -> Result<i64> {
        let key = self.stock_key(sku);
        self.until(
            || format!("Redis has a {key}"),
            async || {
                let level: Option<i64> =
                    redis::cmd("GET").arg(&key).query_async(&mut self.redis.clone()).await?;
                Ok(level)
            },
        )
        .await
    }

    pub fn stock_key(&self, sku: i64) -> String {
        format!("{}:stock:{sku}", self.redis_prefix)
    }

    /// Looks until there is something to see, for ten seconds at most.
    pub async fn until<T>(
        &self,
        what: impl Fn() -> String,
        look: impl AsyncFn() -> Result<Option<T>>,
    ) -> Result<T> {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..600 {
            tick.tick().await;
            if let Some(found) = look().await? {
                return Ok(found);
            }
        }
        bail!("not within a minute: {}", what())
    }
}
