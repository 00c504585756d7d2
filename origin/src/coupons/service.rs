//! Use cases of coupons. Those that belong to an order run in the order's transaction.

use std::collections::HashMap;

use farmgate_shared::api::coupons::{Coupon, CouponIssue, CouponQuery};
use farmgate_shared::api::{Page, Paging};
use farmgate_shared::ids::{CouponId, CouponIssueId, OrderId, UserId};
use farmgate_shared::problem::Problem;
use sqlx::MySqlConnection;
use time::OffsetDateTime;

use super::model::Terms;
use super::show::{show, show_issue, terms, validity};
use super::store::{self, HeldRow, IssueRow, Spend};
use crate::app::App;
use crate::db::script::{Said, Script};
use crate::db::{Retryable, TransactionError, is_duplicate};
use crate::error::ApiError;
use crate::idempotency::{Earlier, IdempotencyError, Keyed, Start};

/// Why a coupon was not claimed or not spent.
#[derive(Debug, thiserror::Error)]
pub enum CouponError {
    #[error("no such coupon of this user")]
    NotFound,
    #[error("the coupon is spent")]
    Used,
    #[error("the coupon is not valid at this time")]
    NotValidNow,
    #[error("the coupon is not given out at this time")]
    NotClaimable,
    #[error("all of the coupons have been claimed")]
    SoldOut,
    #[error("the user has as many of this coupon as one may")]
    Limit,
    /// An equal claim came first.
    #[error("the shopper's next coupon was claimed meanwhile")]
    Overtaken,
    /// The books are wrong: the CHECKs of the tables allow no such row.
    #[error("the terms of coupon {0} cannot be read")]
    Unreadable(i64),
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Retryable for CouponError {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            CouponError::Database(error) | CouponError::Idempotency(IdempotencyError::Database(error)) => {
                Some(error)
            }
            _ => None,
        }
    }
}

impl From<CouponError> for ApiError {
    fn from(error: CouponError) -> ApiError {
        match error {
            CouponError::NotFound => Problem::CouponNotFound.into(),
            CouponError::Used => Problem::CouponUsed.into(),
            CouponError::NotValidNow => Problem::CouponNotValidNow.into(),
            CouponError::NotClaimable => Problem::CouponNotClaimable.into(),
            CouponError::SoldOut => Problem::CouponSoldOut.into(),
            CouponError::Limit => Problem::CouponLimit.into(),
            CouponError::Idempotency(error) => error.into(),
            CouponError::Database(error) => error.into(),
            CouponError::Overtaken | CouponError::Unreadable(_) => ApiError::caused(Problem::Internal, error),
        }
    }
}

/// The coupons that can be claimed now, the newest first.
///
/// # Errors
/// When MySQL is away.
pub async fn list(app: &App, user: UserId, paging: Paging) -> Result<Page<CouponIssue>, CouponError> {
    let (pool, now) = (app.db.pool(), app.clock.now());
    let total = store::count_claimable(pool, now).await?;
    let rows = store::list_claimable(pool, now, paging).await?;
    let mut held: HashMap<i64, i64> = HashMap::new();
    if !rows.is_empty() {
        held.extend(store::count_held(pool, user, rows.iter().map(|row| row.id)).await?);
    }
    let list = rows
        .into_iter()
        .map(|row| {
            let claimed = held.get(&row.id).copied().unwrap_or(0);
            show_issue(row, u32::try_from(claimed).unwrap_or(u32::MAX))
        })
        .collect::<Result<_, _>>()?;
    Ok(Page { list, total: u64::try_from(total).unwrap_or(0), page: paging.page, size: paging.size })
}

/// The shopper's coupons, the newest first.
///
/// # Errors
/// When MySQL is away.
pub async fn list_mine(app: &App, user: UserId, query: CouponQuery) -> Result<Page<Coupon>, CouponError> {
    let (pool, now) = (app.db.pool(), app.clock.now());
    let total = store::count_mine(pool, user, query, now).await?;
    let rows = store::list_mine(pool, user, query, now).await?;
    let list = rows.into_iter().map(|row| show(row, now)).collect::<Result<_, _>>()?;
    Ok(Page {
        list,
        total: u64::try_from(total).unwrap_or(0),
        page: query.paging.page,
        size: query.paging.size,
    })
}

/// Gives the shopper one of a coupon. Who has as many as one may gets, where that is one, the one they have.
///
/// # Errors
/// [`CouponError::NotFound`], [`CouponError::NotClaimable`], [`CouponError::SoldOut`] or [`CouponError::Limit`].
pub async fn claim(
    app: &App,
    user: UserId,
    key: Option<String>,
    id: CouponIssueId,
) -> Result<Coupon, CouponError> {
    let now = whole_milliseconds(app.clock.now());
    let operation = format!("POST /api/coupons/{id}/claim");
    let keyed = Keyed::new(user, key, &operation, &(), app.config.http.double_tap())?;
    if let Earlier::Reply(coupon) = keyed.earlier(&app.reads.keys).await? {
        return Ok(coupon);
    }
    loop {
        let issue = store::find_issue(app.db.pool(), id).await?.ok_or(CouponError::NotFound)?;
        let held = store::held_of_issue(app.db.pool(), user, id).await?;
        let nth = held.last().map_or(0, |last| last.nth) + 1;
        if u32::try_from(held.len()).unwrap_or(u32::MAX) >= issue.per_user {
            return match <[HeldRow; 1]>::try_from(held) {
                Ok([only]) => show(only, now),
                Err(_) => Err(CouponError::Limit),
            };
        }
        let (valid_from, valid_until) = validity(&issue)?.once_claimed(now);
        if now < issue.claim_from || now >= issue.claim_until || now >= valid_until {
            return Err(CouponError::NotClaimable);
        }
        if issue.claimed >= issue.issued {
            return Err(CouponError::SoldOut);
        }
        let held = HeldRow {
            id: 0,
            nth,
            terms: issue.terms.clone(),
            claimed_at: now,
            valid_from,
            valid_until,
            used_at: None,
            order_id: None,
        };
        match give(app, user, keyed.clone(), issue, held).await {
            // The claim that came first is committed, so each turn of this loop finds one more held.
            Err(CouponError::Overtaken) => {}
            given => return given,
        }
    }
}

async fn give(
    app: &App,
    user: UserId,
    keyed: Keyed,
    issue: IssueRow,
    held: HeldRow,
) -> Result<Coupon, CouponError> {
    app.db
        .transaction("claim_coupon", move |connection| {
            let (keyed, issue, mut held) = (keyed.clone(), issue.clone(), held.clone());
            Box::pin(async move {
                let now = held.claimed_at;
                if let Start::Done(coupon) = keyed.start(connection).await? {
                    return Ok(coupon);
                }
                let inserted = store::insert_held(connection, user, &issue, &held).await;
                held.id = inserted
                    .map_err(
                        |error| {
                            if is_duplicate(&error) { CouponError::Overtaken } else { error.into() }
                        },
                    )?
                    .0;
                let coupon = show(held, now)?;
                keyed.finish(connection, &coupon).await?;
                // Last, since everybody who claims this coupon waits for its row.
                if !store::give_out(connection, CouponIssueId(issue.id)).await? {
                    return Err(CouponError::SoldOut);
                }
                Ok(coupon)
            })
        })
        .await
        .map_err(TransactionError::flatten)
}

/// As the database keeps it, so that what was just written and what is read later are the same.
fn whole_milliseconds(moment: OffsetDateTime) -> OffsetDateTime {
    moment.replace_millisecond(moment.millisecond()).unwrap_or(moment)
}

/// The terms of a coupon that the shopper could spend now. Whether it is still unspent is decided by [`spend`]; that it
/// looks so is asked here, so that a spent one does not cost others their batch.
///
/// # Errors
/// [`CouponError::NotFound`], also for another user's, [`CouponError::Used`] or [`CouponError::NotValidNow`].
pub async fn usable(
    app: &App,
    user: UserId,
    id: CouponId,
    now: OffsetDateTime,
) -> Result<Terms, CouponError> {
    let row = store::find_held(app.db.pool(), user, id).await?.ok_or(CouponError::NotFound)?;
    if row.order_id.is_some() {
        return Err(CouponError::Used);
    }
    if now < row.valid_from || now >= row.valid_until {
        return Err(CouponError::NotValidNow);
    }
    terms(&row.terms, row.id)
}

/// In a script that makes some orders: spends their coupons, all of them.
pub fn spend(script: &mut Script, spends: Vec<Spend>) -> Spending {
    let latest = spends.iter().map(|spend| spend.at).max();
    let all_spent = latest.map(|latest| {
        store::spend(script, &spends, latest);
        script.require_changed(spends.len())
    });
    Spending { spends, all_spent }
}

/// What a script is to spend.
#[derive(Debug)]
pub struct Spending {
    spends: Vec<Spend>,
    all_spent: Option<Said>,
}

impl Spending {
    /// Why the script of one order ended at a condition, if it is this one's; in its transaction.
    ///
    /// # Errors
    /// When MySQL is away.
    pub async fn refusal(
        &self,
        broken: Said,
        connection: &mut MySqlConnection,
    ) -> Result<Option<CouponError>, sqlx::Error> {
        let [only] = self.spends.as_slice() else { return Ok(None) };
        if self.all_spent != Some(broken) {
            return Ok(None);
        }
        let is_spent = store::is_spent(connection, only.coupon).await?;
        Ok(Some(if is_spent { CouponError::Used } else { CouponError::NotValidNow }))
    }
}

/// In the transaction that cancels an order: its coupon, if it had one, is the shopper's to spend again. Whether it is
/// still valid is judged when it is.
///
/// # Errors
/// When MySQL is away.
pub async fn give_back(connection: &mut MySqlConnection, order: OrderId) -> Result<(), sqlx::Error> {
    store::unspend(connection, order).await
}
