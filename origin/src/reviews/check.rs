//! WeChat's text check, as a call of the outbox. Each opinion is written as it comes, where none stands yet: a check that
//! is cut off or made twice asks for nothing that it has heard already.

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
        let pool = app.db.pool();
        let mut postponed = None;
        // None where an earlier event of the same order, or a person, has seen to all of them.
        for review in store::in_check(pool, event.order).await? {
            match opinion(app, &review).await {
                Ok(status) => store::settle(pool, review.id, status).await?,
                Err(failure) => postponed = Some(failure),
            }
        }
        postponed.map_or(Ok(Done::Nothing), Err)
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
