//! Finding what is sealed: an HMAC of the value stands beside it, under a key that the database does not hold. Promises
//! that equal values of a column give equal indexes, and that who has the table alone can neither read nor guess them,
//! although there are few enough telephone numbers to try them all.

use std::fmt;

use anyhow::{Context, ensure};
use farmgate_shared::edge_auth::unhex;
use ring::hmac::{HMAC_SHA256, Key, sign};
use secrecy::ExposeSecret;

use crate::config::CryptoConfig;

/// Shortest key that is taken, in bytes.
const MIN_KEY_BYTES: usize = 32;
/// Serves where none is set, which outside development is refused.
const OF_DEVELOPMENT: &[u8] = b"development has nothing to hide";

/// Makes indexes.
pub struct BlindIndex(Key);

/// Shows nothing.
impl fmt::Debug for BlindIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlindIndex")
    }
}

impl BlindIndex {
    /// # Errors
    /// When the key is not hex or is too short.
    pub fn new(config: &CryptoConfig) -> anyhow::Result<BlindIndex> {
        let text = config.index_key.expose_secret();
        if text.is_empty() {
            return Ok(BlindIndex(Key::new(HMAC_SHA256, OF_DEVELOPMENT)));
        }
        let key = unhex(text).context("crypto.index_key is written in hex")?;
        ensure!(key.len() >= MIN_KEY_BYTES, "crypto.index_key has at least {MIN_KEY_BYTES} bytes");
        Ok(BlindIndex(Key::new(HMAC_SHA256, &key)))
    }

    /// The index of `value`, which has one spelling only, in `column` (`table.column`).
    pub fn of(&self, column: &'static str, value: &str) -> Vec<u8> {
        sign(&self.0, format!("{column}\n{value}").as_bytes()).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(key: &str) -> anyhow::Result<BlindIndex> {
        BlindIndex::new(&CryptoConfig { data_keys: String::new().into(), index_key: key.to_owned().into() })
    }

    #[test]
    fn an_index_is_of_its_key_its_column_and_its_value() {
        let (one, other) = (index(&"ab".repeat(32)).unwrap(), index(&"cd".repeat(32)).unwrap());
        let phone = one.of("users.phone", "+8613800000000");
        assert_eq!(phone.len(), 32);
        assert_eq!(phone, one.of("users.phone", "+8613800000000"));
        assert_ne!(phone, one.of("users.phone", "+8613800000001"));
        assert_ne!(phone, one.of("orders.phone", "+8613800000000"));
        assert_ne!(phone, other.of("users.phone", "+8613800000000"));
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(index("").is_ok());
        for key in ["ab", "xyz", &"ab".repeat(31)] {
            assert!(index(key).is_err(), "{key}");
        }
    }
}
