//! Refunds. Promises a shopper that money which is owed to them goes back by itself, once, and to the fen, whatever crashes
//! in between; and a shop that all refunds of an order together never exceed what was paid. A refund is promised in one
//! transaction with its effect on the books; a job asks WeChat, with the same number and the same bytes until WeChat has
//! decided; and what WeChat says, in a reply or a notification, is recorded once.

mod model;
pub mod operator;
mod sending;
pub mod service;
mod settling;
mod store;
mod told;

use futures_core::future::BoxFuture;
use sqlx::MySqlConnection;

use crate::outbox::model::{ALWAYS, Consumer, Effect, Event, EventKind, Failure};

pub use model::Status;
pub use sending::send_due;

/// What a shopper reads of a refund that came by itself.
const TOO_LATE: &str = "订单已取消，款项原路退回";

/// Payments of cancelled orders: each has its refund promised, and the job sends it.
pub const CONSUMER: Consumer = Consumer {
    name: "late_refunds",
    wants: &[EventKind::PaidTooLate],
    is_on: ALWAYS,
    effect: Effect::Books(apply),
};

fn apply<'c>(connection: &'c mut MySqlConnection, events: &'c [Event]) -> BoxFuture<'c, Result<(), Failure>> {
    Box::pin(async move {
        for event in events {
            let wish = model::NewRefund {
                order: event.order,
                key: "late".to_owned(),
                share: model::Share::Rest,
                cause: model::Cause::PaidTooLate,
                reason: TOO_LATE.to_owned(),
                at: event.happened_at,
            };
            match service::promise(connection, &wish).await {
                // An operator may have been quicker.
                Ok(_) | Err(service::RefundError::NothingLeft) => {}
                Err(error) => {
                    return Err(match error.into_database() {
                        Ok(database) => Failure::Transient(database),
                        Err(error) => Failure::Permanent(error.to_string()),
                    });
                }
            }
        }
        Ok(())
    })
}
