//! The signature on what the edge forwards, so that the origin answers nobody else. HMAC-SHA256 over everything the
//! origin relies on: method, path and query, time, nonce, body, the user the edge saw, the client's address and the
//! request's id. Replay is the origin's to refuse: it remembers nonces for as long as their time is in the window.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Which key signed.
pub const HEADER_KID: &str = "x-edge-kid";
/// Seconds since 1970 at the edge.
pub const HEADER_TS: &str = "x-edge-ts";
/// 16 to 64 characters, used once.
pub const HEADER_NONCE: &str = "x-edge-nonce";
/// Lower-case hex of the HMAC.
pub const HEADER_SIG: &str = "x-edge-sig";
/// The user's id from the token, or absent.
pub const HEADER_SUBJECT: &str = "x-edge-subject";
/// The client's address as the edge's host saw it.
pub const HEADER_CLIENT_IP: &str = "x-edge-client-ip";
/// Made at the edge, carried to the origin's logs and back in every reply.
pub const HEADER_REQUEST_ID: &str = "x-request-id";
/// Every header above begins so; the edge drops such headers from what a client sends.
pub const HEADER_PREFIX: &str = "x-edge-";
/// Shortest key that either side accepts, in bytes.
pub const MIN_KEY_BYTES: usize = 32;

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub method: &'a str,
    /// As sent to the origin, for example `/api/orders?page=1`.
    pub path_and_query: &'a str,
    pub timestamp: &'a str,
    pub nonce: &'a str,
    pub body: &'a [u8],
    /// Empty when the request is nobody's.
    pub subject: &'a str,
    /// Empty when the host does not tell.
    pub client_ip: &'a str,
    pub request_id: &'a str,
}

impl Signed<'_> {
    /// The string that is signed. One field a line; no field can hold a line break, because each comes from an HTTP
    /// request line or header, and the body stands as its hash.
    #[must_use]
    pub fn canonical(&self) -> String {
        format!(
            "farmgate-edge-1\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}",
            self.method,
            self.path_and_query,
            self.timestamp,
            self.nonce,
            hex(&Sha256::digest(self.body)),
            self.subject,
            self.client_ip,
            self.request_id,
        )
    }

    /// The value of [`HEADER_SIG`].
    #[must_use]
    pub fn sign(&self, key: &[u8]) -> String {
        hex(&self.mac(key).finalize().into_bytes())
    }

    /// Whether `signature` (hex) was made with `key`. Compares in constant time.
    #[must_use]
    pub fn verify(&self, key: &[u8], signature: &str) -> bool {
        match unhex(signature) {
            Some(bytes) => self.mac(key).verify_slice(&bytes).is_ok(),
            None => false,
        }
    }

    fn mac(&self, key: &[u8]) -> Hmac<Sha256> {
        // HMAC hashes keys longer than a block and pads shorter ones (RFC 2104), so no length is an error;
        // `MIN_KEY_BYTES` is checked where keys are loaded.
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(self.canonical().as_bytes());
        mac
    }
}

/// A key by its id, as both sides are configured with: `kid=hex`.
#[derive(Clone, PartialEq, Eq)]
pub struct EdgeKey {
    pub kid: String,
    pub secret: Vec<u8>,
}

/// Shows the id only: a secret never prints.
impl std::fmt::Debug for EdgeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EdgeKey({})", self.kid)
    }
}

impl EdgeKey {
    /// Reads `kid=hex`.
    ///
    /// # Errors
    /// [`KeyError`] when it has another form or the secret is under [`MIN_KEY_BYTES`].
    pub fn parse(text: &str) -> Result<EdgeKey, KeyError> {
        let (kid, secret) = text.trim().split_once('=').ok_or(KeyError)?;
        let secret = unhex(secret).ok_or(KeyError)?;
        let kid_fits =
            !kid.is_empty() && kid.len() <= 32 && kid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !kid_fits || secret.len() < MIN_KEY_BYTES {
            return Err(KeyError);
        }
        Ok(EdgeKey { kid: kid.to_owned(), secret })
    }

    /// Reads several with commas between them, the first being the one to sign with.
    ///
    /// # Errors
    /// [`KeyError`] when one is malformed or there is none.
    pub fn parse_list(text: &str) -> Result<Vec<EdgeKey>, KeyError> {
        text.split(',').map(EdgeKey::parse).collect()
    }
}

/// Not `kid=hex` with at least 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is written kid=hex, with at least 32 bytes of hex and a kid of letters, digits and hyphens")]
pub struct KeyError;

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).collect()
}

/// The bytes of a hex string of either case, or `None` when it is none.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[7; 32];

    fn request() -> Signed<'static> {
        Signed {
            method: "POST",
            path_and_query: "/api/orders",
            timestamp: "1700000000",
            nonce: "0123456789abcdef",
            body: b"{}",
            subject: "7",
            client_ip: "203.0.113.9",
            request_id: "r1",
        }
    }

    #[test]
    fn a_signature_holds_for_its_request_and_no_other() {
        let signature = request().sign(KEY);
        assert!(request().verify(KEY, &signature));
        assert!(!request().verify(&[8; 32], &signature));
        let others = [
            Signed { method: "GET", ..request() },
            Signed { path_and_query: "/api/orders?x=1", ..request() },
            Signed { timestamp: "1700000001", ..request() },
            Signed { nonce: "0123456789abcdeg", ..request() },
            Signed { body: b"{ }", ..request() },
            Signed { subject: "8", ..request() },
            Signed { client_ip: "203.0.113.8", ..request() },
            Signed { request_id: "r2", ..request() },
        ];
        for other in others {
            assert!(!other.verify(KEY, &signature), "{other:?}");
        }
        for garbage in ["", "00", "zz", &signature[..62], &format!("{signature}00")] {
            assert!(!request().verify(KEY, garbage));
        }
    }

    #[test]
    fn a_short_or_misshapen_key_is_refused() {
        assert!(EdgeKey::parse(&format!("k1={}", "ab".repeat(32))).is_ok());
        for text in [
            "",
            "k1",
            "k1=",
            "k1=zz",
            "k1=abab",
            &format!("={}", "ab".repeat(32)),
            &format!("a b={}", "ab".repeat(32)),
        ] {
            assert_eq!(EdgeKey::parse(text), Err(KeyError), "{text}");
        }
        assert_eq!(
            format!("{:?}", EdgeKey::parse(&format!("k1={}", "ab".repeat(32))).unwrap()),
            "EdgeKey(k1)"
        );
    }

    #[test]
    fn hex_round_trips() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("+f"), None);
    }
}
