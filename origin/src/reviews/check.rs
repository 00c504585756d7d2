//! WeChat's text check, as a call of the outbox. May be made twice: an opinion is written only where none stands yet.

use farmgate_shared::ids::UserId;
use farmgate_shared::problem::Problem;
use futures_core::future::BoxFuture;

use super::model::Status;
use super::store::{self, ReviewRow};
use crate::app::App;
use crate::error::ApiError;
use crate::outbox::model::{ALWAYS, Call, CallFailure, Consumer, Done, Effect, Event, EventKind};
use crate::users;
use crate::wechat::mini::Retry;

pub const CONSUMER: Consumer = Consumer {
    name: "review_check",
    wants: &[EventKind::ReviewWritten],
    is_on: ALWAYS,
    effect: Effect::Call(check as Call),
};

fn check<'a>(app: &'a App, event: &'a Event) -> BoxFuture<'a, Result<Done, CallFailure>> {
    Box::pin(async move {
        let reviews = store::in_check(app.db.pool(), event.order).await?;
        if reviews.is_empty() {
            // An earlier event of the same order has seen to all of them, or a person has.
            return Ok(Done::Nothing);
        }
        let mut opinions = Vec::with_capacity(reviews.len());
        for review in reviews {
            opinions.push((review.id, opinion(app, &review).await?));
        }
        Ok(Done::and(move |connection| {
            let opinions = opinions.clone();
            Box::pin(async move {
                for (id, status) in opinions {
                    store::settle(connection, id, status).await?;
                }
                Ok(())
            })
        }))
    })
}

async fn opinion(app: &App, review: &ReviewRow) -> Result<Status, CallFailure> {
    let openid = users::service::openid(app, UserId(review.user_id)).await.map_err(of_user)?;
    match app.mini.check_comment(&openid, &review.content).await {
        Ok(suggestion) => Ok(Status::of_suggestion(suggestion)),
        // The author left the mini-program hours ago (61010), or WeChat does not judge this shop's texts: a person does.
        Err(error) if error.retry() == Retry::Never => {
            tracing::info!(review = review.id, %error, "WeChat gives no opinion of a review");
            Ok(Status::ByHand)
        }
        Err(error) => Err(error.into()),
    }
}

fn of_user(error: ApiError) -> CallFailure {
    match error.problem {
        Problem::Unavailable => CallFailure::away("MySQL is away"),
        problem => CallFailure::transient(format!("its author cannot be read: {}", problem.slug())),
    }
}
