//! The edge's signature, as the benchmark puts it on what it sends the origin. Promises that every call is signed anew, with
//! a nonce that never came before, since the origin refuses any other.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use farmgate_shared::edge_auth::{
    EdgeKey, HEADER_CLIENT_IP, HEADER_KID, HEADER_NONCE, HEADER_REQUEST_ID, HEADER_SIG, HEADER_SUBJECT,
    HEADER_TS, Signed,
};

/// Where all calls seem to come from (a documentation address).
const CLIENT_IP: &str = "203.0.113.7";

/// Signs as the edge does.
#[derive(Debug)]
pub struct Signer(EdgeKey);

impl Signer {
    /// `keys` is the folder that `farmgate-origin keygen` wrote.
    ///
    /// # Errors
    /// When it holds no edge key.
    pub fn read(keys: &Path) -> Result<Signer> {
        let listed =
            EdgeKey::parse_list(&setting(&keys.join("edge.env"), "EDGE_KEY")?).context("EDGE_KEY")?;
        Ok(Signer(listed.into_iter().next().context("EDGE_KEY is empty")?))
    }

    /// The header lines of a call for this shopper, or for nobody.
    #[must_use]
    pub fn headers(&self, method: &str, path_and_query: &str, body: &[u8], subject: Option<i64>) -> String {
        let (nonce, timestamp) = (crate::unique(), unix_seconds().to_string());
        let subject = subject.map(|id| id.to_string());
        let signature = Signed {
            method,
            path_and_query,
            timestamp: &timestamp,
            nonce: &nonce,
            body,
            subject: subject.as_deref().unwrap_or_default(),
            client_ip: CLIENT_IP,
            request_id: &nonce,
        }
        .sign(&self.0.secret);
        let mut lines = format!(
            "{HEADER_KID}: {}\r\n{HEADER_TS}: {timestamp}\r\n{HEADER_NONCE}: {nonce}\r\n{HEADER_SIG}: {signature}\r\n\
             {HEADER_CLIENT_IP}: {CLIENT_IP}\r\n{HEADER_REQUEST_ID}: {nonce}\r\n",
            self.0.kid,
        );
        if let Some(subject) = subject {
            lines.push_str(&format!("{HEADER_SUBJECT}: {subject}\r\n"));
        }
        lines
    }
}

/// The value of `NAME=value` in a file of such lines.
///
/// # Errors
/// When the file or the line is missing.
pub fn setting(file: &Path, name: &str) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned).with_context(|| format!("{} has no {name}", file.display()))
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
