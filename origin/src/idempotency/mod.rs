//! Writes that may arrive twice. Promises that of any number of requests with one key, one has an effect, and all get
//! its reply: the reply is stored with a hash of the body in the effect's own transaction. A client that sends no key
//! is guarded against its own double tap for a few seconds.

mod store;

use std::time::Instant;

use farmgate_shared::ids::UserId;
use farmgate_shared::problem::Problem;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{MySqlConnection, MySqlPool};
use time::{Duration, OffsetDateTime};

use crate::db::lookup::{Lookup, LookupError, Reader};
use crate::db::script::{RowId, Script};
use crate::error::ApiError;

/// Reads keys, those of many requests at once.
pub type Keys = Lookup<(UserId, String), store::KeyRow>;

/// How keys are read.
pub fn keys(reader: &Reader) -> Keys {
    let with_key = |found: store::FoundKey| ((UserId(found.user_id), found.idempotency_key), found.row);
    Lookup::new(reader, store::find_all, move |ran, said| {
        Ok(ran.read(said)?.into_iter().map(with_key).collect())
    })
}

/// A client repeats within seconds, or after a restart of the phone; a key this old is nobody's any more.
pub const KEY_LIFE: Duration = Duration::days(7);
/// Keys forgotten at once, so that no lock is held for long.
const MOST_FORGOTTEN: u32 = 1000;

/// Forgets keys that nobody will send again; says how many.
///
/// # Errors
/// When MySQL is away.
pub async fn forget_old(pool: &MySqlPool, now: OffsetDateTime) -> Result<u64, sqlx::Error> {
    store::delete_older(pool, now - KEY_LIFE, MOST_FORGOTTEN).await
}

/// One keyed write.
#[derive(Clone, Debug)]
pub struct Keyed {
    user: UserId,
    key: String,
    body_hash: Vec<u8>,
    /// Made up from the body, since the client sent none: then so long after the first an equal request is a second tap of it.
    double_tap: Option<Duration>,
    /// When the request came. What was stored before is as old as MySQL says, whose clock is everybody's.
    arrived: Instant,
}

/// A reply that names an id which MySQL is about to give, as JSON around the id.
#[derive(Clone, Debug)]
pub struct ReplyWithId {
    before: String,
    id: RowId,
    after: String,
}

impl ReplyWithId {
    /// `reply` gives the reply with any id, which must stand in it once.
    ///
    /// # Errors
    /// When it cannot be written as JSON with its id in it, which has no case.
    pub fn new<R: Serialize>(
        id: RowId,
        reply: impl FnOnce(i64) -> R,
    ) -> Result<ReplyWithId, IdempotencyError> {
        // No row has it, and no other number of a reply looks like it.
        let stand_in = i64::MIN;
        let text = serde_json::to_string(&reply(stand_in)).map_err(IdempotencyError::Reply)?;
        let (before, after) = text.split_once(&stand_in.to_string()).ok_or(IdempotencyError::NoId)?;
        Ok(ReplyWithId { before: before.to_owned(), id, after: after.to_owned() })
    }
}

/// Whether the effect is still to be had.
#[derive(Debug)]
pub enum Start<T> {
    /// Nobody was here before: do it, then [`finish`].
    First,
    /// It was done: this was the reply.
    Done(T),
}

/// What is known of a key before its write is tried.
#[derive(Debug)]
pub enum Earlier<T> {
    /// Nothing yet.
    Nothing,
    /// It was used so long ago that this is no repetition; its row stands in the way of a new one.
    Forgotten,
    /// It was done: this was the reply.
    Reply(T),
}

/// Why a keyed write cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum IdempotencyError {
    #[error("the key was used with another body")]
    Reused,
    #[error("the stored reply cannot be read")]
    Reply(#[source] serde_json::Error),
    #[error("the key was taken without a reply")]
    NoReply,
    #[error("the reply does not name the id that it is to name")]
    NoId,
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<IdempotencyError> for ApiError {
    fn from(error: IdempotencyError) -> ApiError {
        match error {
            IdempotencyError::Reused => Problem::IdempotencyKeyReused.into(),
            IdempotencyError::Lookup(error) => error.into(),
            IdempotencyError::Database(error) => error.into(),
            IdempotencyError::Reply(_) | IdempotencyError::NoReply | IdempotencyError::NoId => {
                ApiError::caused(Problem::Internal, error)
            }
        }
    }
}

impl Keyed {
    /// `operation` is method and path; `body` is what was understood of the request, so that white space and the
    /// order of fields make no difference. Without a key of the client's, an equal request within `double_tap` is the same one.
    ///
    /// # Errors
    /// When the body cannot be written as JSON, which has no case.
    pub fn new(
        user: UserId,
        key: Option<String>,
        operation: &str,
        body: &impl Serialize,
        double_tap: Duration,
    ) -> Result<Keyed, IdempotencyError> {
        let body = serde_json::to_string(body).map_err(IdempotencyError::Reply)?;
        let hash = digest(&SHA256, format!("{operation}\n{body}").as_bytes()).as_ref().to_vec();
        let double_tap = key.is_none().then_some(double_tap);
        // A client's key has at most 64 characters of [A-Za-z0-9_-], so the colon keeps the two kinds apart.
        let key = key.unwrap_or_else(|| format!("auto:{}", farmgate_shared::edge_auth::hex(&hash)));
        Ok(Keyed { user, key, body_hash: hash, double_tap, arrived: Instant::now() })
    }

    /// How long ago the request came.
    pub fn waited(&self) -> std::time::Duration {
        self.arrived.elapsed()
    }

    /// Whose write this is.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Whether the client sent no key: then this one is made up from the body and holds for a few seconds only.
    pub fn is_implicit(&self) -> bool {
        self.double_tap.is_some()
    }

    /// A name of this request that an equal one has too, and no other.
    pub fn name(&self) -> String {
        format!("{}:{}", self.user, self.key)
    }

    /// The earlier reply, if there is one: asked before anything that could refuse a repetition.
    ///
    /// # Errors
    /// [`IdempotencyError::Reused`].
    pub async fn earlier<T: DeserializeOwned>(&self, keys: &Keys) -> Result<Earlier<T>, IdempotencyError> {
        match keys.get((self.user, self.key.clone())).await? {
            None => Ok(Earlier::Nothing),
            Some(row) if self.is_stale(&row) => Ok(Earlier::Forgotten),
            Some(row) => self.reply_of(row).map(Earlier::Reply),
        }
    }

    /// Takes the key in the effect's transaction. A request with the same key that came first makes this one wait
    /// for its COMMIT and then see its reply.
    ///
    /// # Errors
    /// [`IdempotencyError::Reused`].
    pub async fn start<T: DeserializeOwned>(
        &self,
        connection: &mut MySqlConnection,
    ) -> Result<Start<T>, IdempotencyError> {
        let row = store::take(connection, self.user, &self.key, &self.body_hash).await?;
        // Replies are committed with their keys, so one without is this transaction's own.
        if row.reply.is_none() {
            return Ok(Start::First);
        }
        if self.is_stale(&row) {
            store::renew(connection, self.user, &self.key).await?;
            return Ok(Start::First);
        }
        self.reply_of(row).map(Start::Done)
    }

    /// Stores the reply in the effect's transaction.
    ///
    /// # Errors
    /// When MySQL is away.
    pub async fn finish(
        &self,
        connection: &mut MySqlConnection,
        reply: &impl Serialize,
    ) -> Result<(), IdempotencyError> {
        let reply = serde_json::to_string(reply).map_err(IdempotencyError::Reply)?;
        Ok(store::set_reply(connection, self.user, &self.key, &reply).await?)
    }

    /// The same in a script, for a reply that names a row which it inserts.
    pub fn finish_in(&self, script: &mut Script, reply: &ReplyWithId) {
        store::set_reply_with_id(script, self.user, &self.key, reply);
    }

    /// Takes the keys of several writes that are done in one transaction, with their replies. The script fails when one
    /// of the keys is taken: the caller rolls back and does them one by one.
    pub fn add_all<'a>(script: &mut Script, done: impl IntoIterator<Item = (&'a Keyed, &'a ReplyWithId)>) {
        let row = |(keyed, reply): (&'a Keyed, &'a ReplyWithId)| store::NewKey {
            user: keyed.user,
            key: &keyed.key,
            body_hash: &keyed.body_hash,
            reply,
        };
        store::insert_all(script, done.into_iter().map(row));
    }

    /// Whether the earlier request was done so long before this one came that the shopper means another.
    fn is_stale(&self, row: &store::KeyRow) -> bool {
        let age_then = Duration::microseconds(row.age_us) - self.arrived.elapsed();
        self.double_tap.is_some_and(|double_tap| age_then > double_tap)
    }

    fn reply_of<T: DeserializeOwned>(&self, row: store::KeyRow) -> Result<T, IdempotencyError> {
        if row.body_hash != self.body_hash {
            return Err(IdempotencyError::Reused);
        }
        let reply = row.reply.ok_or(IdempotencyError::NoReply)?;
        serde_json::from_str(&reply).map_err(IdempotencyError::Reply)
    }
}

#[cfg(test)]
mod tests {
    use farmgate_shared::api::orders::CreatedOrder;
    use farmgate_shared::ids::{OrderId, OrderNo};
    use farmgate_shared::money::Fen;

    use super::*;

    const DOUBLE_TAP: Duration = Duration::MINUTE;

    #[test]
    fn a_second_tap_is_as_late_as_it_came_and_not_as_long_as_it_waited() {
        let tap = |key| Keyed::new(UserId(1), key, "POST /api/orders", &"an apple", DOUBLE_TAP).unwrap();
        let row = |age: Duration| store::KeyRow {
            body_hash: Vec::new(),
            reply: None,
            age_us: i64::try_from(age.whole_microseconds()).unwrap(),
        };
        let mut second = tap(None);
        assert!(!second.is_stale(&row(DOUBLE_TAP)) && second.is_stale(&row(Duration::HOUR)));
        second.arrived = second.arrived.checked_sub(std::time::Duration::from_secs(60)).unwrap();
        assert!(!second.is_stale(&row(Duration::MINUTE + DOUBLE_TAP)), "it stood in a queue for a minute");
        assert!(tap(None).is_stale(&row(Duration::HOUR)));
        assert!(!tap(Some("a-key".to_owned())).is_stale(&row(Duration::WEEK)), "a key is good for longer");
    }

    #[test]
    fn a_reply_around_an_id_is_the_reply() {
        let reply = |id| CreatedOrder {
            order_id: OrderId(id),
            order_no: "2026112300000000000001".parse::<OrderNo>().unwrap(),
            total_amount: Fen(1580),
            discount_amount: Fen::ZERO,
            actual_amount: Fen(1580),
            delivery_fee: Fen::ZERO,
            pay_deadline: "2026-11-23T09:00:00+08:00".to_owned(),
        };
        let ReplyWithId { before, after, .. } = ReplyWithId::new(RowId::Known(77), reply).unwrap();
        assert_eq!(format!("{before}77{after}"), serde_json::to_string(&reply(77)).unwrap());
        let without = ReplyWithId::new(RowId::Known(1), |_| "no id");
        assert!(matches!(without, Err(IdempotencyError::NoId)), "{without:?}");
    }
}
