//! What `cargo xtask bench` tells this program: where everything answers, and which process is which.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Written by `cargo xtask bench`, once all of it is up.
#[derive(Debug, Clone, Deserialize)]
pub struct Plan {
    /// Without a database.
    pub mysql_url: String,
    pub redis_url: String,
    pub origin: Origin,
    /// More origins beside it, each on a database of its own.
    #[serde(default)]
    pub others: BTreeMap<String, Other>,
    /// By mode, `seed` and `repaired`; none for the storm.
    pub peers: BTreeMap<String, Peer>,
    /// Process ids by name; what is a tree is named by its root.
    pub processes: BTreeMap<String, u32>,
    /// MySQL connections that the origin may have, and that all processes of a peer have together. The bare loop has a
    /// number of its own (`order::Options`).
    pub mysql_connections: u32,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Origin {
    pub address: SocketAddr,
    pub database: String,
    pub program: PathBuf,
    /// What `farmgate-origin keygen` wrote.
    pub keys: PathBuf,
    /// Its environment, for `farmgate-origin reconcile`.
    pub settings: BTreeMap<String, String>,
}

/// An origin with the same keys and settings as the first, on another database.
#[derive(Debug, Clone, Deserialize)]
pub struct Other {
    pub address: SocketAddr,
    pub database: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Peer {
    pub address: SocketAddr,
    pub database: String,
    /// In front of its keys in Redis.
    pub prefix: String,
    pub secret: String,
    pub processes: u32,
}

impl Plan {
    /// # Errors
    /// When the file cannot be read or is no plan.
    pub fn read(path: &Path) -> Result<Plan> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no plan", path.display()))
    }

    /// The peer of this mode.
    ///
    /// # Errors
    /// When none takes part.
    pub fn peer(&self, mode: &str) -> Result<&Peer> {
        self.peers.get(mode).with_context(|| format!("the plan has no peer {mode}"))
    }

    /// The URL of one database, without TLS, as the origin and its peers connect.
    #[must_use]
    pub fn database_url(&self, database: &str) -> String {
        format!("{}/{database}?ssl-mode=disabled", self.mysql_url.trim_end_matches('/'))
    }
}
