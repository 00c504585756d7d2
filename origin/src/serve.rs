//! The two roles that stay: `serve` and `worker`. Both start while MySQL or Redis is away, say so, and stop cleanly on
//! SIGTERM or Ctrl-C: no new requests, those at hand are finished.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::app::App;
use crate::config::Config;
use crate::{catalog, db, jobs, metrics, outbox, router, stock};

/// Answers the edge until told to stop.
///
/// # Errors
/// When a setting is wrong or the address is taken.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let app = App::new(config)?;
    let listen = app.config.http.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    // Read by whoever started us with port 0.
    println!("listening on {}", listener.local_addr()?);
    let (stop, stopped) = watch::channel(false);
    metrics::serve(&app.config.metrics, stopped.clone()).await?;
    // Apart: while a large catalogue is loaded, the stock of the old one is kept up to date.
    let stock_follower = tokio::spawn(follow_stock(app.clone(), stopped.clone()));
    let follower = tokio::spawn(follow_database(app.clone(), stopped));
    axum::serve(listener, router::router(app.clone())).with_graceful_shutdown(told_to_stop()).await?;
    tracing::info!("stopping");
    stop.send_replace(true);
    follower.await?;
    stock_follower.await?;
    app.db.close().await;
    Ok(())
}

/// Runs the jobs and delivers the outbox until told to stop.
///
/// # Errors
/// When a setting is wrong, or the delivery ended by itself: then this process is to be started anew.
pub async fn work(config: Config) -> anyhow::Result<()> {
    let app = App::new(config)?;
    let (stop, stopped) = watch::channel(false);
    metrics::serve(&app.config.metrics, stopped.clone()).await?;
    // A task of its own: a job that takes long does not hold events up, nor they it.
    let mut delivery = tokio::spawn(outbox::run(app.clone(), stopped));
    tokio::select! {
        () = jobs::run(app.clone(), told_to_stop()) => {}
        ended = &mut delivery => {
            ended.context("delivering the outbox")??;
            anyhow::bail!("the delivery of the outbox ended by itself");
        }
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    delivery.await.context("delivering the outbox")??;
    app.db.close().await;
    Ok(())
}

/// Time after a catalogue that could not be loaded until the next attempt: reading all of it twice a second would not
/// mend it.
const LOAD_AGAIN: Duration = Duration::from_secs(5);

/// What loading the catalogue may take.
const LONGEST_LOAD: Duration = Duration::from_secs(600);

/// Keeps what this process remembers of MySQL fresh: the gate's generation and the catalogue's snapshot.
async fn follow_database(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut pause = ticks(app.config.catalog.refresh());
    let mut outage = Outage::default();
    let mut next_load = Instant::now();
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = pause.tick() => {}
        }
        let looked = db::look(async {
            stock::service::learn_gate_epoch(&app).await?;
            catalog::follow::is_outdated(&app).await
        });
        match looked.await {
            Ok(is_outdated) => {
                outage.ends();
                if !is_outdated || Instant::now() < next_load {
                    continue;
                }
            }
            Err(error) => {
                outage.goes_on("MySQL is away; serving from the last snapshot", &error);
                continue;
            }
        }
        match db::within(LONGEST_LOAD, catalog::follow::load(&app)).await {
            Ok(()) => tracing::info!(version = app.catalog.snapshot().version, "catalogue loaded"),
            Err(error) => {
                next_load = Instant::now() + LOAD_AGAIN;
                tracing::error!(
                    error = format!("{:#}", anyhow::Error::from(error)),
                    "serving from the last snapshot"
                );
            }
        }
    }
}

/// Keeps the stock that pages show fresh.
async fn follow_stock(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut pause = ticks(app.config.catalog.stock_refresh());
    let mut outage = Outage::default();
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = pause.tick() => {}
        }
        match db::look(catalog::follow::refresh_stock(&app)).await {
            Ok(()) => outage.ends(),
            Err(error) => outage.goes_on("MySQL is away; showing the stock of before", &error),
        }
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// Logs an outage once, not with every look.
#[derive(Debug, Default)]
struct Outage {
    is_known: bool,
}

impl Outage {
    fn goes_on(&mut self, message: &str, error: &sqlx::Error) {
        if !self.is_known {
            self.is_known = true;
            tracing::error!(%error, "{message}");
        }
    }

    fn ends(&mut self) {
        self.is_known = false;
    }
}

/// Resolves on SIGTERM or Ctrl-C.
async fn told_to_stop() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "Ctrl-C cannot be heard");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                tracing::error!(%error, "SIGTERM cannot be heard");
                std::future::pending::<()>().await;
            }
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
