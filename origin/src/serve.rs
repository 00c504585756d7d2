//! The two roles that stay: `serve` and `worker`. Both start while MySQL or Redis is away, say so, and stop cleanly on
//! SIGTERM or Ctrl-C: no new requests, those at hand are finished.

use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::app::App;
use crate::config::Config;
use crate::{catalog, jobs, outbox, router, stock};

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
    let follower = tokio::spawn(follow_database(app.clone(), stopped));
    axum::serve(listener, router::router(app.clone())).with_graceful_shutdown(told_to_stop()).await?;
    tracing::info!("stopping");
    stop.send_replace(true);
    follower.await?;
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

/// Keeps what this process remembers of MySQL fresh: the catalogue's snapshot and the gate's generation.
async fn follow_database(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut pause = tokio::time::interval(app.config.catalog.refresh());
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_away = false;
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = pause.tick() => {}
        }
        let looked = async {
            if catalog::service::refresh(&app).await? {
                tracing::info!(version = app.catalog.snapshot().version, "catalogue loaded");
            }
            stock::service::learn_gate_epoch(&app).await
        };
        match looked.await {
            Ok(()) => was_away = false,
            // Once an outage, not twice a second.
            Err(error) if !was_away => {
                was_away = true;
                tracing::error!(%error, "MySQL is away; serving from the last snapshot");
            }
            Err(_) => {}
        }
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
