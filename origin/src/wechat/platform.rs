//! WeChat's signatures on what it answers and notifies. Promises that nothing is believed that WeChat did not sign, with a
//! key that the shop was configured with, within the last five minutes.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::public_key;
use super::skew::ClockSkew;

/// WeChat's public keys by serial: `PUB_KEY_ID_…`, or a platform certificate's number while a merchant migrates.
pub struct PlatformKeys {
    keys: HashMap<String, UnparsedPublicKey<Vec<u8>>>,
    /// The one that we ask WeChat to sign with.
    preferred: String,
}

/// Shows the serials only.
impl fmt::Debug for PlatformKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

/// Why something that claims to come from WeChat is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the header {0} is missing or unreadable")]
    MissingHeader(&'static str),
    /// WeChat did sign it, at another time than now.
    #[error("{}", told(*.0))]
    Skewed(ClockSkew),
    #[error("no public key {0:?} is configured")]
    UnknownSerial(String),
    #[error("the signature does not fit")]
    Forged,
}

/// What is signed in the future tells of our clock alone; what was signed in the past may also have been kept.
fn told(skew: ClockSkew) -> String {
    match skew {
        ClockSkew::Behind(_) => skew.to_string(),
        ClockSkew::Ahead(seconds) => {
            format!("{skew}, or this was signed {seconds} seconds ago and only now sent")
        }
    }
}

/// The headers that sign a message of WeChat's, which they were found to fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub serial: String,
    /// Seconds since 1970, as it was written.
    pub timestamp: String,
    pub nonce: String,
    /// Base64.
    pub signature: String,
}

impl PlatformKeys {
    /// Reads `serial=file`, several with commas; each file a public key or a certificate in PEM. The first is preferred.
    ///
    /// # Errors
    /// When there is none, a file cannot be read or holds no RSA key, or a certificate has another serial.
    pub fn load(list: &str) -> anyhow::Result<PlatformKeys> {
        let mut keys = HashMap::new();
        let mut preferred = None;
        for pair in list.split(',') {
            let (serial, file) =
                pair.trim().split_once('=').context("pay.platform_keys is written serial=file")?;
            ensure!(!serial.is_empty(), "pay.platform_keys is written serial=file");
            let key = public_key::read(Path::new(file), serial)
                .with_context(|| format!("pay.platform_keys: {file}"))?;
            preferred.get_or_insert_with(|| serial.to_owned());
            let twice =
                keys.insert(serial.to_owned(), UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key));
            ensure!(twice.is_none(), "pay.platform_keys names {serial} twice");
        }
        Ok(PlatformKeys { keys, preferred: preferred.context("pay.platform_keys is empty")? })
    }

    /// The serial that requests name in `Wechatpay-Serial`.
    pub fn preferred(&self) -> &str {
        &self.preferred
    }

    /// Whether WeChat signed `body` just now. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`VerifyError`]; [`VerifyError::Skewed`] only for what WeChat did sign, so that it can be taken for WeChat's time.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Result<Signed, VerifyError> {
        let header = |name: &'static str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .filter(|value| !value.is_empty())
                .ok_or(VerifyError::MissingHeader(name))
        };
        let timestamp = header("wechatpay-timestamp")?;
        let nonce = header("wechatpay-nonce")?;
        let serial = header("wechatpay-serial")?;
        let signature = header("wechatpay-signature")?;
        let seconds: u64 =
            timestamp.parse().map_err(|_| VerifyError::MissingHeader("wechatpay-timestamp"))?;
        let key = self.keys.get(serial).ok_or_else(|| {
            // It goes to the log, and a stranger may have written it.
            VerifyError::UnknownSerial(serial.chars().take(64).collect())
        })?;
        let bytes = BASE64.decode(signature).map_err(|_| VerifyError::Forged)?;
        let message = [timestamp.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body, b"\n"].concat();
        key.verify(&message, &bytes).map_err(|_| VerifyError::Forged)?;
        let skew = ClockSkew::between(now, seconds);
        if skew.is_too_far() {
            return Err(VerifyError::Skewed(skew));
        }
        Ok(Signed {
            serial: serial.to_owned(),
            timestamp: timestamp.to_owned(),
            nonce: nonce.to_owned(),
            signature: signature.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"{\"a\":1}";
    const SIGNED_AT: u64 = 1_700_000_000;
    const CERTIFICATE: &str = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1";

    fn keys() -> PlatformKeys {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wechat/fixtures");
        let list = format!(
            "PUB_KEY_ID_01={folder}/platform_public.pem, {CERTIFICATE}={folder}/platform_certificate.pem"
        );
        PlatformKeys::load(&list).unwrap()
    }

    /// What WeChat sends with [`BODY`]; made with OpenSSL.
    fn headers(serial: &str) -> HeaderMap {
        let signature = include_str!("fixtures/signature.txt").trim();
        let parts = [
            ("wechatpay-timestamp", SIGNED_AT.to_string()),
            ("wechatpay-nonce", "nonce".to_owned()),
            ("wechatpay-serial", serial.to_owned()),
            ("wechatpay-signature", signature.to_owned()),
        ];
        parts.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = headers("PUB_KEY_ID_01");
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn the_key_is_chosen_by_the_serial() {
        let keys = keys();
        assert_eq!(keys.preferred(), "PUB_KEY_ID_01", "the first");
        for serial in ["PUB_KEY_ID_01", CERTIFICATE] {
            assert_eq!(keys.verify(&headers(serial), BODY, SIGNED_AT + 299).unwrap().serial, serial);
        }
        let unknown = keys.verify(&headers("PUB_KEY_ID_02"), BODY, SIGNED_AT);
        assert_eq!(unknown, Err(VerifyError::UnknownSerial("PUB_KEY_ID_02".into())));
    }

    #[test]
    fn what_was_signed_at_another_time_says_how_far_the_clocks_are_apart() {
        let keys = keys();
        let told = |now| keys.verify(&headers(CERTIFICATE), BODY, now).unwrap_err().to_string();
        assert_eq!(told(SIGNED_AT - 600), "our clock is 600 seconds behind WeChat's");
        assert!(told(SIGNED_AT + 300).starts_with("our clock is 300 seconds ahead of WeChat's, or"));
        let forged = with("wechatpay-timestamp", "1600000000");
        assert_eq!(
            keys.verify(&forged, BODY, SIGNED_AT),
            Err(VerifyError::Forged),
            "no word of a stranger's"
        );
    }

    #[test]
    fn nothing_that_was_changed_is_believed() {
        let keys = keys();
        let refused = |headers: &HeaderMap, body: &[u8]| keys.verify(headers, body, SIGNED_AT).unwrap_err();
        assert_eq!(refused(&headers("PUB_KEY_ID_01"), b"{\"a\":2}"), VerifyError::Forged);
        assert_eq!(refused(&headers("PUB_KEY_ID_01"), b""), VerifyError::Forged);
        for (name, value) in [
            ("wechatpay-nonce", "other"),
            ("wechatpay-signature", "AAAA"),
            ("wechatpay-signature", "no base64"),
            ("wechatpay-signature", "WECHATPAY/SIGNTEST/AAAA"),
        ] {
            assert_eq!(refused(&with(name, value), BODY), VerifyError::Forged, "{name}: {value}");
        }
        for name in ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-serial", "wechatpay-signature"] {
            assert_eq!(refused(&with(name, ""), BODY), VerifyError::MissingHeader(name));
            let mut without = headers("PUB_KEY_ID_01");
            without.remove(name);
            assert_eq!(refused(&without, BODY), VerifyError::MissingHeader(name));
        }
        let soon = with("wechatpay-timestamp", "soon");
        assert_eq!(refused(&soon, BODY), VerifyError::MissingHeader("wechatpay-timestamp"));
    }

    #[test]
    fn a_list_of_keys_is_read_strictly() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/wechat/fixtures");
        let one = format!("A={folder}/platform_public.pem");
        assert!(PlatformKeys::load(&one).is_ok());
        for bad in ["", "A", "=x", &format!("{one},{one}"), &format!("{one},B={folder}/nowhere.pem")] {
            assert!(PlatformKeys::load(bad).is_err(), "{bad}");
        }
    }
}
