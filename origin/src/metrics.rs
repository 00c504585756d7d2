//! Numbers for the operator's monitoring, in Prometheus' text form, on a listener of their own that no shopper reaches.
//! Whoever has something to count does it where it happens, through the `metrics` crate's macros; names start with
//! `farmgate_`, and no label may take values from requests, days or orders.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::MetricsConfig;

/// Starts counting and serves `GET /metrics` until told to stop; does neither where the setting is empty.
///
/// # Errors
/// When the setting is no address, or the address is taken.
pub async fn serve(config: &MetricsConfig, mut stopped: watch::Receiver<bool>) -> anyhow::Result<()> {
    let Some(listen) = config.listen()? else { return Ok(()) };
    let handle = PrometheusBuilder::new().install_recorder().context("starting the metrics")?;
    crate::jobs::bills::describe();
    let listener = TcpListener::bind(listen).await.with_context(|| format!("metrics on {listen}"))?;
    let address: SocketAddr = listener.local_addr()?;
    tracing::info!(%address, "metrics are served");
    let router = Router::new().route("/metrics", get(page)).with_state(handle);
    tokio::spawn(async move {
        let stop = async move {
            // The sender is gone only when the process is ending: the same.
            let _ = stopped.changed().await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(())
}

async fn page(State(handle): State<PrometheusHandle>) -> impl IntoResponse {
    // Old samples of histograms are folded in here: nothing else does it where no one scrapes.
    handle.run_upkeep();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
}
