//! SQL of `coupons` and `user_coupons`. Each statement about a shopper's coupon names the shopper beside it.

use farmgate_shared::api::Paging;
use farmgate_shared::api::coupons::{CouponQuery, CouponStatus};
use farmgate_shared::ids::{CouponId, CouponIssueId, OrderId, UserId};
use sqlx::{FromRow, MySql, MySqlConnection, MySqlPool, QueryBuilder};
use time::OffsetDateTime;

use crate::db::push_list;
use crate::db::script::{RowId, Script};
use crate::db::sql::Sql;

/// What a coupon is good for, in both tables.
#[derive(Clone, Debug, FromRow)]
pub struct TermsRow {
    pub name: String,
    pub kind: String,
    pub reduction: i64,
    pub cap_fen: Option<i64>,
    pub threshold_fen: i64,
    pub scope: String,
    pub scope_id: Option<i64>,
}

/// A row of `coupons`.
#[derive(Clone, Debug, FromRow)]
pub struct IssueRow {
    pub id: i64,
    #[sqlx(flatten)]
    pub terms: TermsRow,
    pub issued: u32,
    pub claimed: u32,
    pub per_user: u32,
    pub claim_from: OffsetDateTime,
    pub claim_until: OffsetDateTime,
    pub valid_from: Option<OffsetDateTime>,
    pub valid_until: Option<OffsetDateTime>,
    pub valid_days: Option<u32>,
}

/// A row of `user_coupons`.
#[derive(Clone, Debug, FromRow)]
pub struct HeldRow {
    pub id: i64,
    pub nth: u32,
    #[sqlx(flatten)]
    pub terms: TermsRow,
    pub claimed_at: OffsetDateTime,
    pub valid_from: OffsetDateTime,
    pub valid_until: OffsetDateTime,
    pub used_at: Option<OffsetDateTime>,
    pub order_id: Option<i64>,
}

macro_rules! issue_columns {
    () => {
        "id, name, kind, reduction, cap_fen, threshold_fen, scope, scope_id, issued, claimed, per_user, claim_from, \
         claim_until, valid_from, valid_until, valid_days"
    };
}

macro_rules! held_columns {
    () => {
        "id, nth, name, kind, reduction, cap_fen, threshold_fen, scope, scope_id, claimed_at, valid_from, valid_until, \
         used_at, order_id"
    };
}

/// What can be claimed at a moment: open, some left, and not over before it could be used. Three moments to bind.
macro_rules! claimable {
    () => {
        " FROM coupons WHERE status = 1 AND claim_until > ? AND claim_from <= ? AND claimed < issued \
         AND (valid_until IS NULL OR valid_until > ?)"
    };
}

/// A coupon that was not withdrawn.
pub async fn find_issue(pool: &MySqlPool, id: CouponIssueId) -> Result<Option<IssueRow>, sqlx::Error> {
    sqlx::query_as(concat!("SELECT ", issue_columns!(), " FROM coupons WHERE id = ? AND status = 1"))
        .bind(id.0)
        .fetch_optional(pool)
        .await
}

pub async fn count_claimable(pool: &MySqlPool, now: OffsetDateTime) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(concat!("SELECT COUNT(*)", claimable!()))
        .bind(now)
        .bind(now)
        .bind(now)
        .fetch_one(pool)
        .await
}

/// One page, the newest first.
pub async fn list_claimable(
    pool: &MySqlPool,
    now: OffsetDateTime,
    paging: Paging,
) -> Result<Vec<IssueRow>, sqlx::Error> {
    let query = concat!("SELECT ", issue_columns!(), claimable!(), " ORDER BY id DESC LIMIT ? OFFSET ?");
    sqlx::query_as(query)
        .bind(now)
        .bind(now)
        .bind(now)
        .bind(paging.size)
        .bind(paging.offset())
        .fetch_all(pool)
        .await
}

/// How many of each of some coupons a shopper has claimed; none is left out.
pub async fn count_held(
    pool: &MySqlPool,
    user: UserId,
    issues: impl IntoIterator<Item = i64>,
) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT coupon_id, COUNT(*) FROM user_coupons WHERE user_id = ");
    query.push_bind(user.0).push(" AND coupon_id IN ");
    push_list(&mut query, issues);
    query.push(" GROUP BY coupon_id");
    query.build_query_as().fetch_all(pool).await
}

/// What a shopper has claimed of one coupon, in the order of the claims.
pub async fn held_of_issue(
    pool: &MySqlPool,
    user: UserId,
    issue: CouponIssueId,
) -> Result<Vec<HeldRow>, sqlx::Error> {
    let query = concat!(
        "SELECT ",
        held_columns!(),
        " FROM user_coupons WHERE user_id = ? AND coupon_id = ? ORDER BY nth"
    );
    sqlx::query_as(query).bind(user.0).bind(issue.0).fetch_all(pool).await
}

/// The unique key of shopper, coupon and `nth` refuses the second of two equal claims.
pub async fn insert_held(
    connection: &mut MySqlConnection,
    user: UserId,
    issue: &IssueRow,
    held: &HeldRow,
) -> Result<CouponId, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO user_coupons (coupon_id, user_id, nth, name, kind, reduction, cap_fen, threshold_fen, scope, \
         scope_id, claimed_at, valid_from, valid_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(issue.id)
    .bind(user.0)
    .bind(held.nth)
    .bind(&held.terms.name)
    .bind(&held.terms.kind)
    .bind(held.terms.reduction)
    .bind(held.terms.cap_fen)
    .bind(held.terms.threshold_fen)
    .bind(&held.terms.scope)
    .bind(held.terms.scope_id)
    .bind(held.claimed_at)
    .bind(held.valid_from)
    .bind(held.valid_until)
    .execute(connection)
    .await?;
    Ok(CouponId(i64::try_from(done.last_insert_id()).map_err(|error| sqlx::Error::Decode(error.into()))?))
}

/// Counts one more as given out, if there is one left and it was not withdrawn.
pub async fn give_out(connection: &mut MySqlConnection, issue: CouponIssueId) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE coupons SET claimed = claimed + 1 WHERE id = ? AND status = 1 AND claimed < issued",
    )
    .bind(issue.0)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn push_mine(query: &mut QueryBuilder<MySql>, user: UserId, wanted: CouponQuery, now: OffsetDateTime) {
    query.push(" FROM user_coupons WHERE user_id = ").push_bind(user.0);
    match wanted.status {
        None => {}
        Some(CouponStatus::Used) => {
            query.push(" AND order_id IS NOT NULL");
        }
        Some(CouponStatus::Unused) => {
            query.push(" AND order_id IS NULL AND valid_until > ").push_bind(now);
        }
        Some(CouponStatus::Expired) => {
            query.push(" AND order_id IS NULL AND valid_until <= ").push_bind(now);
        }
    }
}

pub async fn count_mine(
    pool: &MySqlPool,
    user: UserId,
    wanted: CouponQuery,
    now: OffsetDateTime,
) -> Result<i64, sqlx::Error> {
    let mut query = QueryBuilder::new("SELECT COUNT(*)");
    push_mine(&mut query, user, wanted, now);
    query.build_query_scalar().fetch_one(pool).await
}

/// One page, the newest first.
pub async fn list_mine(
    pool: &MySqlPool,
    user: UserId,
    wanted: CouponQuery,
    now: OffsetDateTime,
) -> Result<Vec<HeldRow>, sqlx::Error> {
    let mut query = QueryBuilder::new(concat!("SELECT ", held_columns!()));
    push_mine(&mut query, user, wanted, now);
    query.push(" ORDER BY id DESC LIMIT ").push_bind(wanted.paging.size);
    query.push(" OFFSET ").push_bind(wanted.paging.offset());
    query.build_query_as().fetch_all(pool).await
}

pub async fn find_held(pool: &MySqlPool, user: UserId, id: CouponId) -> Result<Option<HeldRow>, sqlx::Error> {
    sqlx::query_as(concat!("SELECT ", held_columns!(), " FROM user_coupons WHERE id = ? AND user_id = ?"))
        .bind(id.0)
        .bind(user.0)
        .fetch_optional(pool)
        .await
}

/// A coupon that is to be spent on an order, at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Spend {
    pub coupon: CouponId,
    pub user: UserId,
    pub order: RowId,
    pub at: OffsetDateTime,
}

/// Spends coupons that are theirs, unspent and valid; the count of rows tells how many were. The others are left as they
/// were, and so is the second of two spends of one coupon: the first WHEN has it. Rows are taken in the order of their ids.
pub fn spend(script: &mut Script, spends: &[Spend], at: OffsetDateTime) {
    let case = |sql: &mut Sql<'_>, value: fn(&mut Sql<'_>, &Spend)| {
        sql.sql("CASE id");
        for spend in spends {
            sql.sql(" WHEN ").int(spend.coupon.0).sql(" THEN ");
            value(sql, spend);
        }
        sql.sql(" END");
    };
    script.statement(|sql| {
        sql.sql("UPDATE user_coupons SET used_at = ").moment(at).sql(", order_id = ");
        case(sql, |sql, spend| {
            sql.id(spend.order);
        });
        sql.sql(" WHERE id IN ").list(spends, |sql, spend| {
            sql.int(spend.coupon.0);
        });
        sql.sql(" AND user_id = ");
        case(sql, |sql, spend| {
            sql.int(spend.user.0);
        });
        sql.sql(" AND order_id IS NULL AND valid_from <= ").moment(at);
        sql.sql(" AND valid_until > ").moment(at).sql(" ORDER BY id");
    });
}

/// Whether a coupon is spent, within the transaction that could not spend it.
pub async fn is_spent(connection: &mut MySqlConnection, coupon: CouponId) -> Result<bool, sqlx::Error> {
    let order: Option<Option<i64>> = sqlx::query_scalar("SELECT order_id FROM user_coupons WHERE id = ?")
        .bind(coupon.0)
        .fetch_optional(connection)
        .await?;
    Ok(order.flatten().is_some())
}

/// The coupon that an order had spent, if any, is unspent again.
pub async fn unspend(connection: &mut MySqlConnection, order: OrderId) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE user_coupons SET order_id = NULL, used_at = NULL WHERE order_id = ?")
        .bind(order.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// How many were claimed stays as it is.
pub async fn upsert_issue(connection: &mut MySqlConnection, row: &IssueRow) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO coupons (id, name, kind, reduction, cap_fen, threshold_fen, scope, scope_id, issued, per_user, \
         claim_from, claim_until, valid_from, valid_until, valid_days) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE name = VALUES(name), kind = VALUES(kind), reduction = VALUES(reduction), \
         cap_fen = VALUES(cap_fen), threshold_fen = VALUES(threshold_fen), scope = VALUES(scope), \
         scope_id = VALUES(scope_id), issued = VALUES(issued), per_user = VALUES(per_user), \
         claim_from = VALUES(claim_from), claim_until = VALUES(claim_until), valid_from = VALUES(valid_from), \
         valid_until = VALUES(valid_until), valid_days = VALUES(valid_days)",
    )
    .bind(row.id)
    .bind(&row.terms.name)
    .bind(&row.terms.kind)
    .bind(row.terms.reduction)
    .bind(row.terms.cap_fen)
    .bind(row.terms.threshold_fen)
    .bind(&row.terms.scope)
    .bind(row.terms.scope_id)
    .bind(row.issued)
    .bind(row.per_user)
    .bind(row.claim_from)
    .bind(row.claim_until)
    .bind(row.valid_from)
    .bind(row.valid_until)
    .bind(row.valid_days)
    .execute(connection)
    .await?;
    Ok(())
}
