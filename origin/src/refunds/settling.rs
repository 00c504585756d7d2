//! What WeChat, or an operator, says of a refund, recorded once: whoever comes second, late or out of order changes nothing.
//! All that one refund's end does to the books is one transaction, which begins with the lock of the payment's row.

use farmgate_shared::ids::OrderId;
use farmgate_shared::money::Fen;
use sqlx::MySqlConnection;
use time::OffsetDateTime;

use super::model::Status;
use super::service::RefundError;
use super::store::{self, Change, RefundRow};
use crate::app::App;
use crate::crash::{self, Point};
use crate::db::{Db, TransactionError};
use crate::orders::model::Status as OrderStatus;
use crate::orders::service::OrderError;
use crate::outbox::model::{EventKind, NewEvent};
use crate::payments::money_back::{self, Received};
use crate::stock::Line;
use crate::{orders, outbox, stock};

/// What became of a refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// WeChat has taken it; ask about it then.
    AtWechat {
        refund_id: String,
        ask_at: OffsetDateTime,
    },
    PaidBack {
        refund_id: String,
        at: OffsetDateTime,
    },
    /// WeChat ended it without paying.
    Closed {
        refund_id: Option<String>,
    },
    /// WeChat cannot; where it may still end it, ask then.
    Stuck {
        refund_id: Option<String>,
        why: String,
        ask_at: Option<OffsetDateTime>,
    },
    /// It is to be asked for again, under the same number.
    ToAsk {
        why: String,
        at: OffsetDateTime,
    },
    /// An operator paid it in another way.
    PaidByHand {
        why: String,
        at: OffsetDateTime,
    },
}

impl Outcome {
    fn status(&self) -> Status {
        match self {
            Outcome::AtWechat { .. } => Status::AtWechat,
            Outcome::PaidBack { .. } => Status::PaidBack,
            Outcome::Closed { .. } => Status::Closed,
            Outcome::Stuck { .. } => Status::Stuck,
            Outcome::ToAsk { .. } => Status::ToAsk,
            Outcome::PaidByHand { .. } => Status::PaidByHand,
        }
    }

    /// By what WeChat knows the refund, where it says so.
    fn refund_id(&self) -> Option<&str> {
        match self {
            Outcome::AtWechat { refund_id, .. } | Outcome::PaidBack { refund_id, .. } => Some(refund_id),
            Outcome::Closed { refund_id } | Outcome::Stuck { refund_id, .. } => refund_id.as_deref(),
            Outcome::ToAsk { .. } | Outcome::PaidByHand { .. } => None,
        }
    }

    fn event(&self) -> Option<EventKind> {
        match self {
            Outcome::PaidBack { .. } | Outcome::PaidByHand { .. } => Some(EventKind::RefundPaid),
            Outcome::Closed { .. } => Some(EventKind::RefundClosed),
            Outcome::Stuck { .. } => Some(EventKind::RefundStuck),
            Outcome::AtWechat { .. } | Outcome::ToAsk { .. } => None,
        }
    }

    fn change(&self) -> Change<'_> {
        match self {
            Outcome::AtWechat { refund_id, ask_at } => {
                Change { wechat_refund_id: Some(refund_id), due_at: Some(*ask_at), ..Change::default() }
            }
            Outcome::PaidBack { refund_id, at } => {
                Change { wechat_refund_id: Some(refund_id), refunded_at: Some(*at), ..Change::default() }
            }
            Outcome::Closed { refund_id } => {
                Change { wechat_refund_id: refund_id.as_deref(), ..Change::default() }
            }
            Outcome::Stuck { refund_id, why, ask_at } => Change {
                wechat_refund_id: refund_id.as_deref(),
                error: Some(why),
                due_at: *ask_at,
                ..Change::default()
            },
            Outcome::ToAsk { why, at } => Change { error: Some(why), due_at: Some(*at), ..Change::default() },
            Outcome::PaidByHand { why, at } => {
                Change { error: Some(why), refunded_at: Some(*at), ..Change::default() }
            }
        }
    }
}

/// What recording did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// False where the refund was past this already.
    pub is_new: bool,
    /// What the refund was before.
    pub was: Status,
    /// Goods that are for sale again, which the gate is to learn.
    returned: Vec<Line>,
}

/// Records an outcome in a transaction of its own, and lets returned goods into the gate.
///
/// # Errors
/// When the books are wrong or MySQL is away: nothing is recorded then.
pub async fn settle(app: &App, out_refund_no: &str, outcome: Outcome) -> Result<Settled, RefundError> {
    let settled = record(&app.db, out_refund_no, outcome).await?;
    if !settled.returned.is_empty() {
        crash::point(Point::AfterRefundCommit);
        stock::service::give_back(app, &settled.returned).await;
    }
    Ok(settled)
}

/// The transaction alone, for a process that has no gate: the sweeper lets the gate know.
///
/// # Errors
/// When the books are wrong or MySQL is away.
pub async fn record(db: &Db, out_refund_no: &str, outcome: Outcome) -> Result<Settled, RefundError> {
    let number = out_refund_no.to_owned();
    let settled = db
        .transaction("settle_refund", {
            let outcome = outcome.clone();
            move |connection| {
                let (number, outcome) = (number.clone(), outcome.clone());
                Box::pin(async move { apply(connection, &number, &outcome).await })
            }
        })
        .await
        .map_err(TransactionError::flatten)?;
    say(out_refund_no, &outcome, &settled);
    Ok(settled)
}

fn say(number: &str, outcome: &Outcome, settled: &Settled) {
    let said = outcome.status().text();
    match outcome {
        _ if !settled.is_new && settled.was == outcome.status() => {
            tracing::debug!(refund = number, said, "told again");
        }
        // WeChat does not change its mind, so one of the two was wrong: the daily bill will say which.
        _ if !settled.is_new && matches!(settled.was, Status::Closed | Status::PaidByHand) => {
            tracing::error!(refund = number, is = settled.was.text(), said, "a refund ended in two ways");
        }
        _ if !settled.is_new => {
            tracing::warn!(refund = number, is = settled.was.text(), said, "told too late");
        }
        Outcome::Stuck { why, .. } => tracing::error!(refund = number, why, "a refund needs a hand"),
        Outcome::Closed { .. } => tracing::error!(refund = number, "WeChat closed a refund without paying"),
        Outcome::ToAsk { why, .. } => tracing::warn!(refund = number, why, "a refund is asked for again"),
        _ => tracing::info!(refund = number, said, "refund"),
    }
}

async fn apply(
    connection: &mut MySqlConnection,
    number: &str,
    outcome: &Outcome,
) -> Result<Settled, RefundError> {
    let order = store::find(&mut *connection, number).await?.ok_or(RefundError::Unknown)?.order_id;
    let order = OrderId(order);
    let payment = money_back::lock_received(connection, order).await?.ok_or(RefundError::NotPaid)?;
    // Read again, since another may have changed it before the lock was ours.
    let row = store::find(&mut *connection, number).await?.ok_or(RefundError::Unknown)?;
    let was = Status::from_number(row.status).ok_or(RefundError::UnknownStatus(row.status))?;
    let next = outcome.status();
    let is_known_there = row.wechat_refund_id.is_some();
    // What is stuck at WeChat is ended by WeChat: paid by hand as well, the shopper would have it twice.
    if is_known_there && was == Status::Stuck && matches!(next, Status::ToAsk | Status::PaidByHand) {
        return Err(RefundError::AtWechat);
    }
    let is_new = if was.may_become(next) {
        store::change_status(connection, row.id, (was, next), &outcome.change()).await?
    } else {
        let is_news = was == Status::Stuck && !is_known_there && outcome.refund_id().is_some();
        is_news && store::learn_of_wechat(connection, row.id, &outcome.change()).await?
    };
    let mut settled = Settled { is_new, was, returned: Vec::new() };
    if !is_new {
        return Ok(settled);
    }
    if let Some(kind) = outcome.event().filter(|_| was != next) {
        outbox::service::record_about(connection, NewEvent { kind, order }, row.id).await?;
    }
    match next {
        Status::PaidBack | Status::PaidByHand => {
            settled.returned = finish_order(connection, order, &payment).await?;
        }
        Status::Closed => {
            if !money_back::keep_after_all(connection, order, Fen(row.amount_fen)).await? {
                return Err(RefundError::NotPromised(payment.order_no.to_string()));
            }
            if let Some(before) = order_before(connection, order).await? {
                orders::refunding::give_up(connection, order, before).await?;
            }
        }
        Status::ToAsk | Status::AtWechat | Status::Stuck => {}
    }
    Ok(settled)
}

/// The order is refunded when every fen of it is with the shopper; says which goods are for sale again.
async fn finish_order(
    connection: &mut MySqlConnection,
    order: OrderId,
    payment: &Received,
) -> Result<Vec<Line>, RefundError> {
    let is_paid = |row: &RefundRow| {
        matches!(Status::from_number(row.status), Some(Status::PaidBack | Status::PaidByHand))
    };
    let rows = store::of_order(&mut *connection, order).await?;
    let paid = Fen::checked_sum(rows.iter().filter(|row| is_paid(row)).map(|row| Fen(row.amount_fen)));
    if paid != Some(payment.amount) {
        return Ok(Vec::new());
    }
    let Some(before) = order_before(connection, order).await? else { return Ok(Vec::new()) };
    Ok(orders::refunding::finish(connection, order, before).await?.unwrap_or_default())
}

/// What the order was before it was refunding; `None` for one that never was.
async fn order_before(
    connection: &mut MySqlConnection,
    order: OrderId,
) -> Result<Option<OrderStatus>, RefundError> {
    let Some(number) = store::order_status_before(connection, order).await? else { return Ok(None) };
    let status = OrderStatus::from_number(number).ok_or(OrderError::UnknownStatus(number))?;
    Ok(Some(status))
}
