//! Promising refunds, and reading what was paid back. Whoever owes a shopper money calls [`promise`] in the transaction in
//! which it comes to owe it, or [`start`].

use farmgate_shared::ids::OrderId;
use farmgate_shared::money::Fen;
use sqlx::MySqlConnection;
use time::OffsetDateTime;

use super::model::{MOST_PARTS, Status, WishError};
pub use super::model::{NewRefund, Share};
pub use super::settling::Settled;
use super::store::{self, NewRow, RefundRow};
pub use super::told::{NoticeError, take_notification};
use crate::db::{Db, Retryable, TransactionError};
use crate::orders::service::OrderError;
use crate::outbox::model::{EventKind, NewEvent};
use crate::payments::money_back;
use crate::{orders, outbox};

/// Why a refund was not promised or not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    /// Nothing was paid for it, or there is no such order.
    #[error("nothing was paid for this order")]
    NotPaid,
    #[error(transparent)]
    Wish(#[from] WishError),
    #[error("all of the order's money has gone back or is on its way")]
    NothingLeft,
    #[error("only {left} yuan of what was paid are left")]
    TooMuch { left: Fen },
    #[error("the order has had 50 refunds, more WeChat does not make")]
    TooManyParts,
    /// The same number stands for another amount.
    #[error("{0} was a refund of another amount: give another key")]
    KeyTaken(String),
    #[error("no such refund")]
    Unknown,
    #[error("the refund in the database has the state {0}")]
    UnknownStatus(i8),
    /// The books are wrong.
    #[error("the payment of {0} never promised so much")]
    NotPromised(String),
    /// WeChat alone can end it.
    #[error("WeChat has this refund: end it in WeChat's merchant console")]
    AtWechat,
    #[error("the refund is {0}: this cannot be done with it")]
    State(&'static str),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error("a request could not be written")]
    Request(#[from] serde_json::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Retryable for RefundError {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            RefundError::Database(error) => Some(error),
            RefundError::Order(error) => error.database(),
            _ => None,
        }
    }
}

impl RefundError {
    /// The database's error where it is one that may pass.
    ///
    /// # Errors
    /// The error itself where it is another.
    pub fn into_database(self) -> Result<sqlx::Error, RefundError> {
        match self {
            RefundError::Database(error) | RefundError::Order(OrderError::Database(error)) => Ok(error),
            error => Err(error),
        }
    }
}

/// A refund that was promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promised {
    pub out_refund_no: String,
    pub amount: Fen,
    /// Whether this call promised it; an earlier one did otherwise.
    pub is_new: bool,
}

/// Promises a refund in the caller's transaction: the payment knows of it, an order whose last money this is becomes
/// refunding, and the job sends it once the caller has committed. Asked again with the same key it finds the first one; where
/// WeChat has closed that, it is promised anew under the key with a number after it.
///
/// # Errors
/// [`RefundError`].
pub async fn promise(connection: &mut MySqlConnection, wish: &NewRefund) -> Result<Promised, RefundError> {
    let payment = money_back::lock_received(connection, wish.order).await?.ok_or(RefundError::NotPaid)?;
    wish.check(payment.paid_at)?;
    let earlier = store::of_order(&mut *connection, wish.order).await?;
    let out_refund_no = match find_asked(&earlier, &wish.number(&payment.order_no)) {
        Asked::Before(row) => return same(row, wish),
        Asked::Never(number) => number,
    };
    let left = payment.amount.checked_sub(payment.refunded).unwrap_or(Fen::ZERO);
    if left <= Fen::ZERO {
        return Err(RefundError::NothingLeft);
    }
    if earlier.len() >= MOST_PARTS {
        return Err(RefundError::TooManyParts);
    }
    let amount = match wish.share {
        Share::Rest => left,
        Share::Part(amount) => amount,
    };
    if amount > left || !money_back::promise_back(connection, wish.order, amount).await? {
        return Err(RefundError::TooMuch { left });
    }
    let order_status =
        if amount == left { orders::refunding::begin(connection, wish.order).await? } else { None };
    let new = NewRow {
        order: wish.order,
        out_refund_no: &out_refund_no,
        amount_fen: amount.0,
        cause: wish.cause.name(),
        reason: &wish.reason,
        order_status,
        due_at: wish.at,
    };
    store::insert(connection, &new).await?;
    let started = NewEvent { kind: EventKind::RefundStarted, order: wish.order };
    outbox::service::record(connection, &[started]).await?;
    Ok(Promised { out_refund_no, amount, is_new: true })
}

/// Whether a number was asked for.
enum Asked<'a> {
    Before(&'a RefundRow),
    /// With the number to use.
    Never(String),
}

fn find_asked<'a>(earlier: &'a [RefundRow], number: &str) -> Asked<'a> {
    let mut candidate = number.to_owned();
    let mut round = 1;
    loop {
        match earlier.iter().find(|row| row.out_refund_no == candidate) {
            None => return Asked::Never(candidate),
            Some(row) if Status::from_number(row.status) == Some(Status::Closed) => {
                round += 1;
                candidate = format!("{number}-{round}");
            }
            Some(row) => return Asked::Before(row),
        }
    }
}

fn same(row: &RefundRow, wish: &NewRefund) -> Result<Promised, RefundError> {
    let amount = Fen(row.amount_fen);
    match wish.share {
        Share::Part(wanted) if wanted != amount => Err(RefundError::KeyTaken(row.out_refund_no.clone())),
        _ => Ok(Promised { out_refund_no: row.out_refund_no.clone(), amount, is_new: false }),
    }
}

/// [`promise`] in a transaction of its own.
///
/// # Errors
/// [`RefundError`].
pub async fn start(db: &Db, wish: NewRefund) -> Result<Promised, RefundError> {
    db.transaction("promise_refund", move |connection| {
        let wish = wish.clone();
        Box::pin(async move { promise(connection, &wish).await })
    })
    .await
    .map_err(TransactionError::flatten)
}

/// A refund, perhaps of a part, that the shopper has.
#[derive(Clone, Debug)]
pub struct PaidBack {
    /// The row's, which the event of its payment is about.
    pub id: i64,
    #[allow(dead_code, reason = "tells a shopper's two refunds apart")]
    pub out_refund_no: String,
    pub amount: Fen,
    #[allow(dead_code, reason = "for what tells shoppers of their refunds")]
    pub reason: String,
    pub at: OffsetDateTime,
}

/// What of an order's money was paid back, the earliest first.
///
/// # Errors
/// When MySQL is away.
pub async fn paid_back<'c>(
    executor: impl sqlx::MySqlExecutor<'c>,
    order: OrderId,
) -> Result<Vec<PaidBack>, sqlx::Error> {
    let mut paid: Vec<PaidBack> = store::of_order(executor, order)
        .await?
        .into_iter()
        .filter_map(|row| {
            Some(PaidBack {
                id: row.id,
                at: row.refunded_at?,
                out_refund_no: row.out_refund_no,
                amount: Fen(row.amount_fen),
                reason: row.reason,
            })
        })
        .collect();
    paid.sort_by_key(|refund| refund.at);
    Ok(paid)
}
