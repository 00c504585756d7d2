//! The mini-program's access token. Promises that however many calls and replicas need one, WeChat is asked once: the
//! token stands sealed in Redis, whoever finds none there takes a short lease and fetches it while the others wait for
//! what comes of it. Renewed some minutes before its end while the old one serves. While Redis is away each process
//! fetches for itself, which is correct too: `stable_token` gives the same token to all, and a process asks at a bounded
//! rate whatever happens.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farmgate_shared::edge_auth::hex;
use redis::Script;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::mini::{Line, MiniError};
use crate::clock::Clock;
use crate::config::WechatConfig;
use crate::db::seal::{Place, Seal};
use crate::redis::Redis;

/// Seconds before a token's end at which it is renewed. WeChat gives a new one in the last five minutes, in which the old
/// one stays good.
const RENEW_BEFORE: u64 = 240;
/// A token with less left, in seconds, is not begun with.
const TOO_SHORT: u64 = 30;
/// Between two attempts to renew a token that is still good.
const BETWEEN_RENEWALS: Duration = Duration::from_secs(20);
/// Between two fetches of one process, whatever asks for them.
const BETWEEN_FETCHES: Duration = Duration::from_secs(1);
/// Between two looks at what the holder of the lease has brought.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// A token, and the fetch that brought it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct AccessToken {
    value: String,
    /// Seconds since 1970.
    expires_at: u64,
    /// Differs from fetch to fetch, also where WeChat gave the same token again.
    fetch: String,
}

/// Shows no secret.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken(until {})", self.expires_at)
    }
}

impl AccessToken {
    /// `access_token=…`, encoded.
    pub(super) fn as_query(&self) -> Result<String, MiniError> {
        serde_urlencoded::to_string([("access_token", &self.value)])
            .map_err(|error| MiniError::Unwritable(error.to_string()))
    }

    /// WeChat would answer the same with either.
    pub(super) fn is_the_same_to_wechat(&self, other: &AccessToken) -> bool {
        self.value == other.value
    }

    fn seconds_left(&self, now: u64) -> u64 {
        self.expires_at.saturating_sub(now)
    }
}

/// Where tokens come from. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct AccessTokens(Arc<Source>);

impl AccessTokens {
    pub(super) fn new(
        config: &WechatConfig,
        line: Line,
        redis: Redis,
        seal: Seal,
        clock: Arc<dyn Clock>,
    ) -> AccessTokens {
        AccessTokens(Arc::new(Source {
            line,
            appid: config.appid.clone(),
            secret: config.secret.clone(),
            key: redis.key(&format!("access-token:{}", config.appid)),
            lease_key: redis.key(&format!("access-token:{}:lease", config.appid)),
            // A fetch is at most two requests, and a second's wait before them.
            lease: Duration::from_millis(config.timeout_ms) * 2 + BETWEEN_FETCHES * 2,
            finish: Script::new(include_str!("access_token.lua")),
            redis,
            seal,
            clock,
            random: SystemRandom::new(),
            copy: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// A token that is good for some time yet, as far as anybody here knows.
    ///
    /// # Errors
    /// Why WeChat gave none.
    pub(super) async fn get(&self) -> Result<AccessToken, MiniError> {
        let now = self.0.clock.unix_seconds();
        let Some(token) = self.0.copy().token.clone() else { return self.renew(None).await };
        let left = token.seconds_left(now);
        if left <= TOO_SHORT {
            return self.renew(Some(token)).await;
        }
        if left <= RENEW_BEFORE {
            self.renew_meanwhile(&token);
        }
        Ok(token)
    }

    /// Another token than this one, which WeChat did not take; the same once more if WeChat gives no other.
    ///
    /// # Errors
    /// Why WeChat gave none.
    pub(super) async fn replace(&self, refused: &AccessToken) -> Result<AccessToken, MiniError> {
        self.renew(Some(refused.clone())).await
    }

    /// In a task of its own: the call that waits for it may be given up, the lease and the others who wait may not.
    async fn renew(&self, known: Option<AccessToken>) -> Result<AccessToken, MiniError> {
        let (source, asked_at) = (self.0.clone(), Instant::now());
        match tokio::spawn(async move { source.renew(known.as_ref(), asked_at).await }).await {
            Ok(renewed) => renewed,
            // The task is never aborted, so this is a panic: it belongs to the caller.
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    fn renew_meanwhile(&self, token: &AccessToken) {
        let asked_at = Instant::now();
        {
            let mut copy = self.0.copy();
            if copy.renewed_at.is_some_and(|before| asked_at < before + BETWEEN_RENEWALS) {
                return;
            }
            copy.renewed_at = Some(asked_at);
        }
        let (source, token) = (self.0.clone(), token.clone());
        tokio::spawn(async move {
            if let Err(error) = source.renew(Some(&token), asked_at).await {
                tracing::warn!(%error, "the access token could not be renewed yet; the old one serves");
            }
        });
    }
}

struct Source {
    line: Line,
    appid: String,
    secret: SecretString,
    redis: Redis,
    key: String,
    lease_key: String,
    lease: Duration,
    finish: Script,
    seal: Seal,
    clock: Arc<dyn Clock>,
    random: SystemRandom,
    copy: Mutex<Copy>,
    /// Held by whoever looks for a token, so that a process has one that looks.
    turn: tokio::sync::Mutex<Fetches>,
}

/// Shows no secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessTokens({})", self.appid)
    }
}

/// What this process uses.
#[derive(Default)]
struct Copy {
    token: Option<AccessToken>,
    /// When this process fetched it, or last tried to renew it before its end.
    renewed_at: Option<Instant>,
}

/// What this process has fetched.
#[derive(Default)]
struct Fetches {
    last_at: Option<Instant>,
    failure: Option<(Instant, MiniError)>,
}

/// What stands in Redis.
enum Found {
    Token(AccessToken),
    /// Nothing of use, and the lease is ours.
    Nothing,
    /// Nothing of use yet: another has the lease.
    Awaited,
}

impl Source {
    fn copy(&self) -> MutexGuard<'_, Copy> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token of another fetch than `known`.
    async fn renew(&self, known: Option<&AccessToken>, asked_at: Instant) -> Result<AccessToken, MiniError> {
        let mut fetches = self.turn.lock().await;
        if let Some(token) = self.copy().token.clone()
            && self.is_of_use(&token, known)
        {
            return Ok(token);
        }
        // Those who waited for an attempt that failed share its failure.
        if let Some((failed_at, error)) = &fetches.failure
            && asked_at < *failed_at
        {
            return Err(error.clone());
        }
        let fetched_before = fetches.last_at;
        let found = self.look_or_fetch(known, &mut fetches).await;
        let renewed_at = fetches.last_at.filter(|_| fetches.last_at != fetched_before);
        match &found {
            Ok(token) => {
                fetches.failure = None;
                *self.copy() = Copy { token: Some(token.clone()), renewed_at };
            }
            Err(error) => fetches.failure = Some((Instant::now(), error.clone())),
        }
        found
    }

    fn is_of_use(&self, token: &AccessToken, known: Option<&AccessToken>) -> bool {
        known.is_none_or(|known| known.fetch != token.fetch)
            && token.seconds_left(self.clock.unix_seconds()) > TOO_SHORT
    }

    /// Looks at what the others have, and fetches where it is this process's to do.
    async fn look_or_fetch(
        &self,
        known: Option<&AccessToken>,
        fetches: &mut Fetches,
    ) -> Result<AccessToken, MiniError> {
        let holder = self.new_id()?;
        let patience = Instant::now() + self.lease;
        let mut looks = interval(BETWEEN_LOOKS);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            match self.look(known, &holder).await {
                Ok(Found::Token(token)) => return Ok(token),
                Ok(Found::Nothing) => {
                    let fetched = self.fetch(&holder, fetches).await;
                    self.finish(&holder, fetched.as_ref().ok()).await;
                    return fetched;
                }
                Ok(Found::Awaited) if Instant::now() < patience => {}
                Ok(Found::Awaited) => {
                    tracing::warn!("another process holds the lease of the access token and brings none");
                    return self.fetch(&holder, fetches).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "Redis is away; fetching an access token for this process");
                    let fetched = self.fetch(&holder, fetches).await;
                    // Redis may have given the lease and only not said so: the others would wait for its end.
                    self.finish(&holder, fetched.as_ref().ok()).await;
                    return fetched;
                }
            }
        }
    }

    async fn look(&self, known: Option<&AccessToken>, holder: &str) -> redis::RedisResult<Found> {
        if let Some(token) = self.kept(known).await? {
            return Ok(Found::Token(token));
        }
        let mut set = redis::cmd("SET");
        set.arg(&self.lease_key).arg(holder).arg("NX").arg("PX").arg(millis(self.lease));
        let taken: Option<String> = set.query_async(&mut self.redis.connection()).await?;
        if taken.is_none() {
            return Ok(Found::Awaited);
        }
        // The one before may have ended between the two.
        match self.kept(known).await? {
            Some(token) => {
                self.finish(holder, None).await;
                Ok(Found::Token(token))
            }
            None => Ok(Found::Nothing),
        }
    }

    /// What stands in Redis, if it is of use.
    async fn kept(&self, known: Option<&AccessToken>) -> redis::RedisResult<Option<AccessToken>> {
        let sealed: Option<String> =
            redis::cmd("GET").arg(&self.key).query_async(&mut self.redis.connection()).await?;
        let Some(sealed) = sealed else { return Ok(None) };
        match self.seal.open::<AccessToken>(self.place(), &sealed) {
            Ok(token) => Ok(Some(token).filter(|token| self.is_of_use(token, known))),
            Err(error) => {
                // Of a key that is gone, or put there by somebody else: it is overwritten.
                tracing::warn!(%error, "the access token in Redis does not open");
                Ok(None)
            }
        }
    }

    /// Shows a token to the others, and ends the lease.
    async fn finish(&self, holder: &str, fetched: Option<&AccessToken>) {
        let mut call = self.finish.key(&self.key);
        call.key(&self.lease_key).arg(holder);
        if let Some(token) = fetched {
            match self.seal.seal(self.place(), token) {
                Ok(sealed) => {
                    let left = token.seconds_left(self.clock.unix_seconds()).max(1);
                    call.arg(sealed).arg(left.saturating_mul(1000));
                }
                Err(error) => tracing::error!(%error, "the access token could not be sealed"),
            }
        }
        let done: redis::RedisResult<i64> = call.invoke_async(&mut self.redis.connection()).await;
        if let Err(error) = done {
            tracing::debug!(%error, "the access token stays with this process");
        }
    }

    async fn fetch(&self, holder: &str, fetches: &mut Fetches) -> Result<AccessToken, MiniError> {
        if let Some(last_at) = fetches.last_at {
            sleep_until(last_at + BETWEEN_FETCHES).await;
        }
        let answer = match self.ask_wechat().await {
            // A lost reply: to ask for the token that is there anyway does no harm.
            Err(MiniError::Unreachable(why)) => {
                tracing::debug!(why, "asking for an access token once more");
                self.ask_wechat().await
            }
            answer => answer,
        };
        fetches.last_at = Some(Instant::now());
        let StableToken { access_token, expires_in } = answer?;
        if access_token.is_empty() {
            return Err(MiniError::Malformed("an empty access token".to_owned()));
        }
        tracing::info!(expires_in, "access token fetched");
        let expires_at = self.clock.unix_seconds().saturating_add(expires_in);
        Ok(AccessToken { value: access_token, expires_at, fetch: holder.to_owned() })
    }

    async fn ask_wechat(&self) -> Result<StableToken, MiniError> {
        let body = serde_json::to_vec(&StableTokenCall {
            grant_type: "client_credential",
            appid: &self.appid,
            secret: self.secret.expose_secret(),
            // True would end the token of all the others, and is rationed.
            force_refresh: false,
        });
        let body = body.map_err(|error| MiniError::Unwritable(error.to_string()))?;
        self.line.ask("/cgi-bin/stable_token", None, body).await
    }

    fn place(&self) -> Place<'_> {
        Place { table: "redis", row: &self.appid, column: "access_token" }
    }

    fn new_id(&self) -> Result<String, MiniError> {
        let mut bytes = [0; 12];
        self.random
            .fill(&mut bytes)
            .map_err(|_| MiniError::Unwritable("the system gave no randomness".to_owned()))?;
        Ok(hex(&bytes))
    }
}

#[derive(Serialize)]
struct StableTokenCall<'a> {
    grant_type: &'static str,
    appid: &'a str,
    secret: &'a str,
    force_refresh: bool,
}

#[derive(Deserialize)]
struct StableToken {
    access_token: String,
    /// Seconds.
    expires_in: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
