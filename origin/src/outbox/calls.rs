//! A consumer that calls somebody outside MySQL, at work. Promises that nobody is called inside a transaction, that a
//! delivery is claimed before its call, so that two workers hardly ever both make it, and that it is made again until it is
//! over. A few calls run at a time; one that is slow holds up nothing but its own place. While the other side is away its
//! events wait, and none of them counts as failed.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::inflow::{Inflow, pause};
use super::model::{Call, CallFailure, Consumer, Done, Event, Retries, Write};
use super::store::{self, Claim};
use super::stream::{Entry, Inbox};
use crate::app::App;
use crate::crash::{self, Point};
use crate::db::{self, TransactionError, is_away};

/// For so long an event waits for somebody who is away; after that, each time that nobody answers is a failure of it.
const PATIENCE: time::Duration = time::Duration::days(7);

/// Calls until told to stop; what was begun is finished.
pub async fn run(app: Arc<App>, consumer: &'static Consumer, call: Call, mut stopped: watch::Receiver<bool>) {
    let (lease, most) = (app.config.outbox.call_lease(), app.config.outbox.calls());
    let Some(mut inflow) = Inflow::open(app.clone(), consumer.name, lease) else { return };
    let line = Arc::new(Line { app, consumer, call, inbox: inflow.inbox.clone() });
    let mut calls = JoinSet::new();
    let mut was_away = false;
    while !*stopped.borrow() {
        if answers(&mut calls, most).await {
            // Asking for all that waits, as fast as it is refused, would help nobody.
            pause(&mut stopped).await;
        }
        match inflow.read(most - calls.len()).await {
            Ok(entries) => {
                was_away = false;
                for entry in entries {
                    calls.spawn(line.clone().handle(entry, stopped.clone()));
                }
            }
            Err(error) => {
                if !was_away {
                    tracing::warn!(error = format!("{error:#}"), consumer = consumer.name, "events wait");
                }
                was_away = true;
                pause(&mut stopped).await;
            }
        }
    }
    while let Some(ended) = calls.join_next().await {
        handled(ended);
    }
}

/// Waits until fewer than `most` calls are under way; says whether the other side was away for one that ended.
async fn answers(calls: &mut JoinSet<Answer>, most: usize) -> bool {
    let mut is_away = false;
    while let Some(ended) = calls.try_join_next() {
        is_away |= handled(ended) == Answer::Away;
    }
    while calls.len() >= most {
        let Some(ended) = calls.join_next().await else { break };
        is_away |= handled(ended) == Answer::Away;
    }
    is_away
}

/// Nobody aborts these tasks, so a panic is a defect of this file and belongs to the worker.
fn handled(ended: Result<Answer, tokio::task::JoinError>) -> Answer {
    match ended {
        Ok(answer) => answer,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Whether the other side is there, as far as one call can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Away,
    There,
}

/// One consumer's line to the other side.
struct Line {
    app: Arc<App>,
    consumer: &'static Consumer,
    call: Call,
    inbox: Inbox,
}

impl Line {
    /// Handles an entry and ends it. While MySQL is away it waits here: the entry is this worker's.
    async fn handle(self: Arc<Line>, entry: Entry, mut stopped: watch::Receiver<bool>) -> Answer {
        let Some(answer) = self.attempt(entry.event, &mut stopped).await else { return Answer::There };
        crash::point(Point::OutboxAfterEffect);
        if let Err(error) = self.inbox.end(&[entry]).await {
            // It is read again, and finds its delivery ended or held.
            tracing::debug!(%error, consumer = self.consumer.name, "an entry stays in its stream");
        }
        answer
    }

    /// `None` when this worker is told to stop before MySQL has heard of the outcome.
    async fn attempt(&self, event: Option<i64>, stopped: &mut watch::Receiver<bool>) -> Option<Answer> {
        let Some(event) = event else { return Some(Answer::There) };
        let until = self.app.config.outbox.call_lease();
        let claim = loop {
            let now = self.app.clock.now();
            let claim = Claim { consumer: self.consumer.name, event, until: whole_milliseconds(now + until) };
            match db::look(store::claim(self.app.db.pool(), &claim, now)).await {
                Ok(true) => break claim,
                // Ended, dead, put off, or another worker is at it.
                Ok(false) => return Some(Answer::There),
                Err(error) => self.mysql_is_away(&error, stopped).await?,
            }
        };
        let outcome = self.perform(event).await;
        crash::point(Point::OutboxAfterCall);
        loop {
            match self.settle(&claim, &outcome).await {
                Ok(answer) => return Some(answer),
                Err(error) => self.mysql_is_away(&error, stopped).await?,
            }
        }
    }

    /// Waits a moment; `None` when told to stop.
    async fn mysql_is_away(&self, error: &sqlx::Error, stopped: &mut watch::Receiver<bool>) -> Option<()> {
        tracing::warn!(%error, consumer = self.consumer.name, "MySQL is away, an event waits");
        pause(stopped).await;
        (!*stopped.borrow()).then_some(())
    }

    /// Makes the call, which must be over well before the claim is.
    async fn perform(&self, id: i64) -> Result<Done, (CallFailure, Option<OffsetDateTime>)> {
        let event = self.event(id).await.map_err(|failure| (failure, None))?;
        let happened_at = event.happened_at;
        let (app, call) = (self.app.clone(), self.call);
        // A task of its own: a call that panics fails its event and no more.
        let mut task = tokio::spawn(async move { call(&app, &event).await });
        let longest = self.app.config.outbox.call_lease() / 2;
        let result = match tokio::time::timeout(longest, &mut task).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(CallFailure::transient(panic.to_string())),
            Err(_) => {
                task.abort();
                Err(CallFailure::away(format!("no answer within {} s", longest.as_secs())))
            }
        };
        result.map_err(|failure| (failure, Some(happened_at)))
    }

    async fn event(&self, id: i64) -> Result<Event, CallFailure> {
        let mut connection = self.app.db.pool().acquire().await?;
        let events = store::events(&mut connection, &[id]).await?;
        events.first().copied().ok_or_else(|| CallFailure::Permanent(format!("there is no event {id}")))
    }

    /// Ends the delivery or puts it off. An error means that MySQL has not heard of it.
    async fn settle(
        &self,
        claim: &Claim,
        outcome: &Result<Done, (CallFailure, Option<OffsetDateTime>)>,
    ) -> Result<Answer, sqlx::Error> {
        match outcome {
            Ok(done) => {
                let write = match done {
                    Done::Nothing => None,
                    Done::Write(write) => Some(write.clone()),
                };
                match self.end(claim.event, write).await {
                    Ok(()) => {}
                    Err(error) if is_away(&error) => return Err(error),
                    // Written down wrongly: the call is made again, and this is seen as a dead letter in the end.
                    Err(error) => self.put_off(claim, &CallFailure::Database(error), None).await?,
                }
                Ok(Answer::There)
            }
            Err((failure, happened_at)) => {
                self.put_off(claim, failure, *happened_at).await?;
                Ok(if matches!(failure, CallFailure::Away { .. }) { Answer::Away } else { Answer::There })
            }
        }
    }

    /// What the call leaves to write and the end of the delivery, in one transaction. Whoever ended it before has written.
    async fn end(&self, event: i64, write: Option<Write>) -> Result<(), sqlx::Error> {
        let name = self.consumer.name;
        self.app
            .db
            .transaction(name, move |connection| {
                let write = write.clone();
                Box::pin(async move {
                    if store::lock_open(connection, name, &[event]).await?.is_empty() {
                        return Ok(());
                    }
                    if let Some(write) = write {
                        write(connection).await?;
                    }
                    store::end(connection, name, &[event]).await
                })
            })
            .await
            .map_err(TransactionError::<sqlx::Error>::flatten)
    }

    async fn put_off(
        &self,
        claim: &Claim,
        failure: &CallFailure,
        happened_at: Option<OffsetDateTime>,
    ) -> Result<(), sqlx::Error> {
        let (app, event, consumer) = (&self.app, claim.event, claim.consumer);
        let now = app.clock.now();
        // Ended or buried meanwhile by another worker, whose claim came after this one's end.
        let Some(before) = db::look(store::attempts(app.db.pool(), consumer, event)).await? else {
            return Ok(());
        };
        let is_young = happened_at.is_none_or(|happened_at| now - happened_at < PATIENCE);
        let schedule =
            Schedule { retries: app.config.outbox.retries(), away: app.config.outbox.away_retry() };
        let next = schedule.next(failure, is_young, before, event);
        let put_off = store::PutOff {
            failed: next.is_counted,
            error: &failure.to_string(),
            until: next.wait.map(|wait| whole_milliseconds(now + wait)),
        };
        match (db::look(store::put_off(app.db.pool(), claim, &put_off, now)).await?, next.wait) {
            (false, _) => {}
            (true, Some(wait)) => {
                tracing::debug!(event, consumer, before, ?wait, error = %failure, "an event is put off");
            }
            (true, None) => {
                tracing::error!(event, consumer, failed = before + 1, error = %failure, "a dead letter");
            }
        }
        Ok(())
    }
}

/// When an event that was not handled is tried again.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    retries: Retries,
    /// Between two calls of somebody who is away.
    away: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next {
    /// Whether this was a failure of the event.
    is_counted: bool,
    /// `None` when it is dead.
    wait: Option<Duration>,
}

impl Schedule {
    /// `before` is how often event `id` failed before; one that is not young has waited long enough for others.
    fn next(&self, failure: &CallFailure, is_young: bool, before: u32, id: i64) -> Next {
        let failed = before.saturating_add(1);
        let wait = match failure {
            CallFailure::Permanent(_) => None,
            CallFailure::Away { wait, .. } if is_young => {
                let wait = self.away.max(*wait);
                let waits = Retries { attempts: u32::MAX, first: wait, longest: wait };
                return Next { is_counted: false, wait: waits.wait(1, id) };
            }
            CallFailure::Database(error) if is_away(error) => {
                return Next { is_counted: false, wait: Some(self.retries.first) };
            }
            CallFailure::Transient { wait, .. } => self.retries.waiting_at_least(*wait).wait(failed, id),
            CallFailure::Away { wait, .. } => {
                self.retries.waiting_at_least(self.away.max(*wait)).wait(failed, id)
            }
            CallFailure::Database(_) => self.retries.wait(failed, id),
        };
        Next { is_counted: true, wait }
    }
}

/// As the database keeps it, so that a claim is known again.
fn whole_milliseconds(moment: OffsetDateTime) -> OffsetDateTime {
    moment.replace_millisecond(moment.millisecond()).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const SCHEDULE: Schedule = Schedule {
        retries: Retries { attempts: 3, first: Duration::from_secs(1), longest: Duration::from_secs(600) },
        away: Duration::from_secs(30),
    };

    #[test]
    fn whoever_is_away_is_waited_for_and_nothing_is_counted() {
        let away = CallFailure::away("closed for the night");
        for before in [0, 2, 1000] {
            let next = SCHEDULE.next(&away, true, before, 7);
            let wait = next.wait.unwrap();
            assert!(!next.is_counted && wait <= Duration::from_secs(30) && wait >= Duration::from_secs(15));
        }
        let database = CallFailure::Database(sqlx::Error::PoolTimedOut);
        assert_eq!(
            SCHEDULE.next(&database, false, 2, 7),
            Next { is_counted: false, wait: Some(Duration::from_secs(1)) }
        );
    }

    #[test]
    fn after_a_week_nobody_answering_is_a_failure_like_another() {
        let away = CallFailure::away("gone for good");
        let first = SCHEDULE.next(&away, false, 0, 7);
        assert!(first.is_counted && first.wait.unwrap() >= Duration::from_secs(15), "{first:?}");
        assert_eq!(SCHEDULE.next(&away, false, 2, 7), Next { is_counted: true, wait: None });
    }

    #[test]
    fn an_event_that_fails_is_tried_as_often_as_any_other() {
        let failure = CallFailure::Transient { reason: "not yet".into(), wait: Duration::from_secs(60) };
        let waits: Vec<Option<Duration>> =
            (0..3).map(|before| SCHEDULE.next(&failure, true, before, 7).wait).collect();
        assert!(waits[0].unwrap() >= Duration::from_secs(30) && waits[1].unwrap() >= Duration::from_secs(60));
        assert_eq!(waits[2], None);
        let permanent = CallFailure::Permanent("no such template".into());
        assert_eq!(SCHEDULE.next(&permanent, true, 0, 7), Next { is_counted: true, wait: None });
        let broken = CallFailure::Database(sqlx::Error::RowNotFound);
        assert!(SCHEDULE.next(&broken, true, 0, 7).is_counted);
    }

    #[test]
    fn a_claim_is_written_as_it_is_read() {
        let claimed = whole_milliseconds(datetime!(2026-11-22 08:00:00.123456789 UTC));
        assert_eq!(claimed, datetime!(2026-11-22 08:00:00.123 UTC));
    }
}
