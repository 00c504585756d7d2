//! Personal data in the database: AES-256-GCM, the key's id in front, and table, row and column as associated data, so
//! that a sealed value opens only where it was put. The first key seals, any opens: keys rotate while serving.

use std::fmt;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use farmgate_shared::edge_auth::unhex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where a sealed value stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub table: &'static str,
    /// What names the row: its id, or its unique number when the id is not known yet.
    pub row: &'a str,
    pub column: &'static str,
}

impl Place<'_> {
    fn associated_data(&self) -> Vec<u8> {
        format!("{}:{}:{}", self.table, self.row, self.column).into_bytes()
    }
}

/// Seals and opens personal data.
#[derive(Clone)]
pub struct Seal {
    keys: Vec<(String, LessSafeKey)>,
    random: SystemRandom,
}

/// Shows the keys' ids only.
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(kid, _)| kid)).finish()
    }
}

/// A sealed value could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the sealed value has another form")]
    Malformed,
    #[error("no key {0} is configured")]
    UnknownKey(String),
    #[error("the sealed value was changed, moved, or sealed with another key")]
    Broken,
    #[error("the value inside is not what was expected")]
    Content(#[source] serde_json::Error),
}

impl Seal {
    /// Reads `kid=hex` (32 bytes), several with commas.
    ///
    /// # Errors
    /// When there is none or one is malformed.
    pub fn new(keys: &str) -> anyhow::Result<Seal> {
        let keys = keys
            .split(',')
            .map(|pair| {
                let (kid, key) = pair.trim().split_once('=').context("a data key is written kid=hex")?;
                ensure!(
                    !kid.is_empty() && !kid.contains(':'),
                    "a data key's id has no colon and is not empty"
                );
                let key = unhex(key).context("a data key is written in hex")?;
                let key = UnboundKey::new(&AES_256_GCM, &key).ok().context("a data key has 32 bytes")?;
                Ok((kid.to_owned(), LessSafeKey::new(key)))
            })
            .collect::<anyhow::Result<Vec<_>>>()
            .context("crypto.data_keys")?;
        Ok(Seal { keys, random: SystemRandom::new() })
    }

    /// Seals `value` for `place`: `kid:base64(nonce ‖ ciphertext ‖ tag)`.
    ///
    /// # Errors
    /// When the value cannot be written as JSON or the system has no randomness to give.
    pub fn seal(&self, place: Place<'_>, value: &impl Serialize) -> Result<String, SealError> {
        let (kid, key) = self.keys.first().ok_or(SealError::Malformed)?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::Broken)?;
        let mut text = serde_json::to_vec(value).map_err(SealError::Content)?;
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place.associated_data()),
            &mut text,
        )
        .map_err(|_| SealError::Broken)?;
        Ok(format!("{kid}:{}", BASE64.encode([&nonce[..], &text].concat())))
    }

    /// The same value sealed by the first key; `None` where that has sealed it.
    ///
    /// # Errors
    /// Those of [`Seal::open`] and [`Seal::seal`].
    pub fn renew(&self, place: Place<'_>, sealed: &str) -> Result<Option<String>, SealError> {
        let (kid, _) = sealed.split_once(':').ok_or(SealError::Malformed)?;
        if self.keys.first().is_some_and(|(first, _)| first == kid) {
            return Ok(None);
        }
        let value: serde_json::Value = self.open(place, sealed)?;
        self.seal(place, &value).map(Some)
    }

    /// Opens what [`Seal::seal`] made for the same place.
    ///
    /// # Errors
    /// When it was made elsewhere, changed, or its key is not configured.
    pub fn open<T: DeserializeOwned>(&self, place: Place<'_>, sealed: &str) -> Result<T, SealError> {
        let (kid, data) = sealed.split_once(':').ok_or(SealError::Malformed)?;
        let (_, key) = self
            .keys
            .iter()
            .find(|(known, _)| known == kid)
            .ok_or_else(|| SealError::UnknownKey(kid.to_owned()))?;
        let data = BASE64.decode(data).map_err(|_| SealError::Malformed)?;
        let (nonce, text) = data.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Malformed)?;
        let mut text = text.to_vec();
        let opened = key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(place.associated_data()),
                &mut text,
            )
            .map_err(|_| SealError::Broken)?;
        serde_json::from_slice(opened).map_err(SealError::Content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { table: "addresses", row: "1", column: "contact" };

    fn key(kid: &str, byte: &str) -> String {
        format!("{kid}={}", byte.repeat(32))
    }

    #[test]
    fn a_value_opens_only_where_it_was_put() {
        let seal = Seal::new(&key("k1", "ab")).unwrap();
        let sealed = seal.seal(PLACE, &"张三").unwrap();
        assert!(sealed.starts_with("k1:") && !sealed.contains("张三"));
        assert_eq!(seal.open::<String>(PLACE, &sealed).unwrap(), "张三");
        for elsewhere in [
            Place { row: "2", ..PLACE },
            Place { table: "orders", ..PLACE },
            Place { column: "phone", ..PLACE },
        ] {
            assert!(matches!(seal.open::<String>(elsewhere, &sealed), Err(SealError::Broken)));
        }
        assert_ne!(seal.seal(PLACE, &"张三").unwrap(), sealed, "a nonce is used once");
    }

    #[test]
    fn keys_rotate() {
        let old = Seal::new(&key("k1", "ab")).unwrap();
        let both = Seal::new(&format!("{},{}", key("k2", "cd"), key("k1", "ab"))).unwrap();
        let new = Seal::new(&key("k2", "cd")).unwrap();
        let sealed = old.seal(PLACE, &1).unwrap();
        assert_eq!(both.open::<i32>(PLACE, &sealed).unwrap(), 1);
        assert!(both.seal(PLACE, &1).unwrap().starts_with("k2:"));
        assert!(matches!(new.open::<i32>(PLACE, &sealed), Err(SealError::UnknownKey(kid)) if kid == "k1"));
    }

    #[test]
    fn a_short_key_is_refused() {
        for keys in ["", "k1", "k1=abab", "=abab", "k1=zz"] {
            assert!(Seal::new(keys).is_err(), "{keys}");
        }
    }
}
