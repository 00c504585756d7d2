//! The making of an order: what was it before, what is it for, the gate, one transaction, and only then "ok".

use std::sync::Arc;
use std::time::Duration;

use farmgate_shared::api::orders::{CreateOrder, CreatedOrder, Wanted};
use farmgate_shared::ids::{OrderId, UserId};
use farmgate_shared::problem::Problem;
use tokio::sync::SemaphorePermit;
use tracing::Instrument;

use super::draft::Draft;
use super::fate;
use super::service::OrderError;
use super::writer::{WriteError, Written};
use crate::app::App;
use crate::crash::{self, Point};
use crate::db::{Retryable, is_away, is_closed};
use crate::error::ApiError;
use crate::idempotency::{Earlier, Keyed};
use crate::stock::service::StockError;
use crate::stock::sold_out::Outlook;
use crate::stock::taking::{Taken, Taking};
use crate::users::service::Claim;
use crate::{catalog, stock, users};

/// How often an equal request looks whether the one that came first is decided.
const LOOK_FOR_TWIN: Duration = Duration::from_millis(10);

/// How long an order whose connection broke is asked after, and how often while MySQL is away.
const SETTLE_WITHIN: Duration = Duration::from_secs(3);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Numbers tried for one order. Each replica draws a number once, so a clash takes two replicas and one millisecond.
const MOST_NUMBERS: usize = 5;

/// Makes an order. The reply is given only after its COMMIT. A repetition gets the first reply.
///
/// It runs in a task of its own: a client that hangs up, or a request that times out, must not leave a hold in the
/// gate that nobody settles.
///
/// # Errors
/// As docs/API.md lists for `POST /api/orders`.
pub async fn place(
    app: &Arc<App>,
    claim: Claim,
    key: Option<String>,
    body: CreateOrder,
) -> Result<CreatedOrder, ApiError> {
    let wanted = body.wanted().map_err(ApiError::fields)?;
    let outlook = stock::service::outlook(app, &catalog::service::likely_lines(app, &wanted));
    // Most requests of a rush end here, at the price of reading them: nothing of theirs can be repeated or undone.
    if catalog::service::is_lasting(app, &wanted) && is_hopeless(app, claim.user, outlook) {
        return Err(Problem::OutOfStock.into());
    }
    let Some(place) = app.order_room.enter() else { return Err(ApiError::crowded()) };
    let app = app.clone();
    let task = tokio::spawn(
        async move {
            let _place = place;
            place_uninterrupted(&app, claim, key, body, wanted, outlook).await
        }
        .in_current_span(),
    );
    // The task is never aborted, so a failure to join is a panic: the outermost layer answers for it.
    task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Whether the shopper is refused whatever else is asked: it has been sold out for a while, they have no order of it, and
/// none of theirs is in the making here.
fn is_hopeless(app: &Arc<App>, user: UserId, outlook: Outlook) -> bool {
    stock::service::is_sold_out_to(app, user, outlook) && !app.order_turns.is_taken(user)
}

async fn place_uninterrupted(
    app: &App,
    claim: Claim,
    key: Option<String>,
    body: CreateOrder,
    wanted: Wanted,
    outlook: Outlook,
) -> Result<CreatedOrder, ApiError> {
    let user = claim.user;
    let double_tap = app.config.http.double_tap();
    let keyed = Keyed::new(user, key, "POST /api/orders", &body, double_tap).map_err(OrderError::from)?;
    // One shopper's orders go one after the other here, so that the second of two equal taps finds the first one's
    // reply instead of a gate that the first one has just emptied.
    let _turn = app.order_turns.take(user).await;
    keep_up(app, &keyed)?;
    let now = app.clock.now();
    // Before anything else is read: while a rush begins, most requests end here.
    if outlook != Outlook::Open {
        let (standing, earlier) =
            tokio::join!(users::service::confirm(app, claim), earlier_reply(app, &keyed));
        standing?;
        return earlier?.ok_or_else(|| Problem::OutOfStock.into());
    }
    // All are reads, so they are made side by side. A client's own key is looked up only where something says that it
    // may be a repetition: the gate, a refusal, or in the end the writer, whose transaction takes each key once.
    let (standing, forgotten, draft) = tokio::join!(
        users::service::confirm(app, claim),
        implicit_earlier(app, &keyed),
        Draft::make(app, keyed.clone(), body, &wanted, now)
    );
    standing?;
    let renews_key = match forgotten? {
        Earlier::Reply(reply) => return Ok(reply),
        Earlier::Forgotten => true,
        Earlier::Nothing => false,
    };
    let mut draft = match draft {
        Ok(draft) => Arc::new(Draft { renews_key, ..draft }),
        // What the first of two equal requests found may be gone: its address, or its coupon, which that one spent.
        Err(error) => return earlier_reply(app, &keyed).await?.ok_or(error),
    };
    for _ in 1..MOST_NUMBERS {
        match hold_and_write(app, &draft).await {
            Err(PlaceError::NumberTaken) => draft = Arc::new(draft.renumbered(app)?),
            Err(PlaceError::Other(error)) => return Err(error),
            Ok(reply) => return Ok(reply),
        }
    }
    hold_and_write(app, &draft).await.map_err(|error| match error {
        PlaceError::NumberTaken => OrderError::NumberTaken.into(),
        PlaceError::Other(error) => error,
    })
}

/// Gives up for somebody who was told so already: a request that waited for its time to be up may be made no more.
fn keep_up(app: &App, keyed: &Keyed) -> Result<(), ApiError> {
    let longest = app.config.http.request_timeout();
    if keyed.waited() < longest { Ok(()) } else { Err(OrderError::TooLate.into()) }
}

/// Why a draft did not become an order.
enum PlaceError {
    /// Another replica drew the same number in the same millisecond.
    NumberTaken,
    Other(ApiError),
}

impl From<ApiError> for PlaceError {
    fn from(error: ApiError) -> PlaceError {
        PlaceError::Other(error)
    }
}

/// The gate, then MySQL.
async fn hold_and_write(app: &App, draft: &Arc<Draft>) -> Result<CreatedOrder, PlaceError> {
    keep_up(app, &draft.keyed)?;
    let _place = match pass_gate(app, draft).await? {
        Passed::Open(place) => place,
        Passed::Earlier(reply) => return Ok(reply),
    };
    crash::point(Point::AfterGate);
    match app.order_writer.write(draft.clone()).await {
        Ok(Written::Made(reply)) => {
            crash::point(Point::AfterCommit);
            app.gate.settle(draft.order_no.clone());
            Ok(reply)
        }
        Ok(Written::Earlier(reply)) => {
            app.gate.release(&draft.hold()).await;
            Ok(reply)
        }
        Err(WriteError::Failed(error)) => {
            app.gate.release(&draft.hold()).await;
            match error {
                OrderError::NumberTaken => return Err(PlaceError::NumberTaken),
                OrderError::Stock(StockError::NotEnough(sku)) => stock::service::lower_gate(app, sku).await,
                _ => {}
            }
            Err(ApiError::from(error).into())
        }
        Err(WriteError::Unknown(error)) => Ok(settle_unknown(app, draft, error).await?),
    }
}

/// What an order finds at the gate.
enum Passed<'a> {
    /// It may be written, with a place among those that the gate knows nothing of, if it is one.
    Open(Option<SemaphorePermit<'a>>),
    /// An equal request came first, and this is its reply.
    Earlier(CreatedOrder),
}

/// Takes the order's lines from the gate. Where an equal request came first, its reply is this one's; one that is being
/// made, at another replica, is waited for.
async fn pass_gate<'a>(app: &'a App, draft: &Draft) -> Result<Passed<'a>, ApiError> {
    let hold = draft.hold();
    // That a made-up key has no reply is known already.
    let mut has_looked = draft.keyed.is_implicit();
    loop {
        let taking = Taking { hold: hold.clone(), lines: draft.lines.clone(), has_looked };
        let taken = app.gate.take(taking).await;
        if let Taken::Yes = taken {
            stock::service::note_taken(app, &draft.lines);
            return Ok(Passed::Open(None));
        }
        if let Taken::SoldOut(sku, left) = taken {
            stock::service::note_sold_out(app, sku, left);
        }
        // The gate may have refused what went to the equal request, and one that is silent remembers nothing.
        if let Some(reply) = earlier_reply(app, &draft.keyed).await? {
            return Ok(Passed::Earlier(reply));
        }
        match taken {
            Taken::Yes => return Ok(Passed::Open(None)),
            Taken::Unknown => {
                if let Some(place) = app.order_room.enter_without_gate() {
                    return Ok(Passed::Open(Some(place)));
                }
                // The gate may have taken it and not been heard.
                app.gate.release(&hold).await;
                return Err(ApiError::crowded());
            }
            Taken::SoldOut(..) => return Err(Problem::OutOfStock.into()),
            // Ends when the equal request is too old to be in the making (taking.rs).
            Taken::Twin if has_looked => tokio::time::sleep(LOOK_FOR_TWIN).await,
            Taken::Twin => has_looked = true,
        }
    }
}

/// A key made up from the body has a row after each earlier order for the same, and an old one has to be renewed.
async fn implicit_earlier(app: &App, keyed: &Keyed) -> Result<Earlier<CreatedOrder>, ApiError> {
    if !keyed.is_implicit() {
        return Ok(Earlier::Nothing);
    }
    Ok(keyed.earlier(&app.reads.keys).await.map_err(OrderError::from)?)
}

async fn earlier_reply(app: &App, keyed: &Keyed) -> Result<Option<CreatedOrder>, ApiError> {
    match keyed.earlier(&app.reads.keys).await.map_err(OrderError::from)? {
        Earlier::Reply(reply) => Ok(Some(reply)),
        Earlier::Nothing | Earlier::Forgotten => Ok(None),
    }
}

/// The connection broke, perhaps during COMMIT. The hold is never given back blindly: the order's number tells, once it is
/// buried or found. While MySQL cannot say, the hold stays for the sweeper, and a repetition with the same key finds the
/// truth.
async fn settle_unknown(app: &App, draft: &Draft, cause: Arc<sqlx::Error>) -> Result<CreatedOrder, ApiError> {
    let unavailable = || ApiError::caused(Problem::Unavailable, cause.clone());
    // The transaction runs in a task of its own: whoever stops waiting does not stop it.
    match tokio::time::timeout(SETTLE_WITHIN, made_or_buried(app, draft)).await {
        Ok(Ok(Some((order_id, user)))) if user == draft.keyed.user() => {
            app.gate.settle(draft.order_no.clone());
            Ok(draft.created(order_id))
        }
        // None, or another replica's with the same number, whose hold this one's is not.
        Ok(Ok(_)) => {
            app.gate.release(&draft.hold()).await;
            Err(unavailable())
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, order_no = %draft.order_no, "MySQL does not say whether an order was made");
            Err(unavailable())
        }
        Err(_) => Err(unavailable()),
    }
}

/// Asks again while connections break: those at hand may all be as old as the one that broke.
async fn made_or_buried(app: &App, draft: &Draft) -> Result<Option<(OrderId, UserId)>, OrderError> {
    loop {
        match fate::made_for_good(app, &draft.order_no).await {
            Err(error) if error.database().is_some_and(|error| is_away(error) && !is_closed(error)) => {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            decided => return decided,
        }
    }
}
