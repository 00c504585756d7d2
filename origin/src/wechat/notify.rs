//! Notifications of WeChat Pay v3: who sent it, and what it says. The signature is checked over the raw bytes first;
//! only then is anything parsed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::Deserialize;

use super::pay::Transaction;
use super::platform::{PlatformKeys, VerifyError};

/// Opens what WeChat sealed with the merchant's API v3 key.
pub struct NotifyOpener {
    key: LessSafeKey,
}

/// Shows nothing.
impl fmt::Debug for NotifyOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotifyOpener")
    }
}

/// Why a notification is refused.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    #[error(transparent)]
    Unverified(#[from] VerifyError),
    #[error("the notification has another form")]
    Malformed(#[source] serde_json::Error),
    #[error("the algorithm {0} is not AEAD_AES_256_GCM")]
    Algorithm(String),
    #[error("the sealed part does not open with the API v3 key")]
    Sealed,
}

#[derive(Deserialize)]
struct Envelope {
    event_type: String,
    resource: Resource,
}

#[derive(Deserialize)]
struct Resource {
    algorithm: String,
    ciphertext: String,
    #[serde(default)]
    associated_data: String,
    nonce: String,
}

/// What a notification says.
#[derive(Debug)]
pub enum Notification {
    /// An order was paid.
    Paid(Transaction),
    /// Something that this shop does not act on; taken, so that WeChat stops sending it.
    Other(String),
}

impl NotifyOpener {
    /// # Errors
    /// When the key has not 32 bytes.
    pub fn new(api_v3_key: &str) -> anyhow::Result<NotifyOpener> {
        let key = UnboundKey::new(&AES_256_GCM, api_v3_key.as_bytes())
            .map_err(|_| anyhow::anyhow!("pay.api_v3_key must have 32 bytes"))?;
        Ok(NotifyOpener { key: LessSafeKey::new(key) })
    }

    /// Verifies and opens a notification. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`NotifyError`].
    pub fn open(
        &self,
        platform: &PlatformKeys,
        headers: &HeaderMap,
        body: &[u8],
        now: u64,
    ) -> Result<Notification, NotifyError> {
        platform.verify(headers, body, now)?;
        let envelope: Envelope = serde_json::from_slice(body).map_err(NotifyError::Malformed)?;
        if envelope.event_type != "TRANSACTION.SUCCESS" {
            return Ok(Notification::Other(envelope.event_type));
        }
        let text = self.unseal(envelope.resource)?;
        serde_json::from_slice(&text).map(Notification::Paid).map_err(NotifyError::Malformed)
    }

    fn unseal(&self, resource: Resource) -> Result<Vec<u8>, NotifyError> {
        if resource.algorithm != "AEAD_AES_256_GCM" {
            return Err(NotifyError::Algorithm(resource.algorithm));
        }
        let nonce =
            Nonce::try_assume_unique_for_key(resource.nonce.as_bytes()).map_err(|_| NotifyError::Sealed)?;
        let mut text = BASE64.decode(&resource.ciphertext).map_err(|_| NotifyError::Sealed)?;
        let length = self
            .key
            .open_in_place(nonce, Aad::from(resource.associated_data.as_bytes()), &mut text)
            .map_err(|_| NotifyError::Sealed)?
            .len();
        text.truncate(length);
        Ok(text)
    }
}
