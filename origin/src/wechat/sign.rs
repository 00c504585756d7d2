//! Signatures of WeChat Pay v3: ours on what we send, WeChat's on what it answers and notifies. RSA with SHA-256,
//! PKCS#1 v1.5, over lines that each end in a line break.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use farmgate_shared::edge_auth::hex;
use http::HeaderMap;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use spki::SubjectPublicKeyInfoRef;
use spki::der::Decode;

/// How far WeChat's time stamp may differ from our clock, in seconds.
pub const MAX_SKEW_SECONDS: u64 = 300;

/// The merchant's key: signs requests and payment parameters.
pub struct MerchantKey {
    mchid: String,
    serial: String,
    key: RsaKeyPair,
    random: SystemRandom,
}

/// Shows the serial only.
impl fmt::Debug for MerchantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MerchantKey({})", self.serial)
    }
}

/// Signing failed, or the system had no randomness: neither happens with a loaded key.
#[derive(Debug, thiserror::Error)]
#[error("signing with the merchant's key failed")]
pub struct SignError;

impl MerchantKey {
    /// Loads the key from a PKCS#8 PEM file.
    ///
    /// # Errors
    /// When the file cannot be read or holds no RSA key.
    pub fn load(mchid: &str, serial: &str, file: &Path) -> anyhow::Result<MerchantKey> {
        let context = || format!("pay.merchant_private_key_file {}", file.display());
        let der = PrivatePkcs8KeyDer::from_pem_file(file).with_context(context)?;
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|error| anyhow::anyhow!("no RSA key: {error}"))
            .with_context(context)?;
        Ok(MerchantKey {
            mchid: mchid.to_owned(),
            serial: serial.to_owned(),
            key,
            random: SystemRandom::new(),
        })
    }

    /// The `Authorization` header of a request. `path_and_query` is as sent.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn authorization(
        &self,
        method: &str,
        path_and_query: &str,
        body: &str,
        now: u64,
    ) -> Result<String, SignError> {
        let nonce = self.nonce()?;
        let signature = self.sign(&lines(&[method, path_and_query, &now.to_string(), &nonce, body]))?;
        Ok(format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"{}\",nonce_str=\"{nonce}\",signature=\"{signature}\",\
             timestamp=\"{now}\",serial_no=\"{}\"",
            self.mchid, self.serial
        ))
    }

    /// Base64 of the signature over `message`.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(&self, message: &str) -> Result<String, SignError> {
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &self.random, message.as_bytes(), &mut signature)
            .map_err(|_| SignError)?;
        Ok(BASE64.encode(signature))
    }

    /// 32 hex digits, never twice.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn nonce(&self) -> Result<String, SignError> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).map_err(|_| SignError)?;
        Ok(hex(&bytes))
    }
}

/// Each part and a line break after it.
pub fn lines(parts: &[&str]) -> String {
    parts.iter().flat_map(|part| [*part, "\n"]).collect()
}

/// WeChat's public keys by serial (`PUB_KEY_ID_…`, or a platform certificate's number while a merchant migrates).
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
    #[error("the time stamp is {0} seconds from our clock: is this machine's clock right?")]
    Skewed(u64),
    #[error("no public key {0} is configured")]
    UnknownSerial(String),
    #[error("the signature does not fit")]
    Forged,
}

impl PlatformKeys {
    /// Reads `serial=file`, several with commas; each file a public key in PEM. The first is preferred.
    ///
    /// # Errors
    /// When there is none, or a file cannot be read or holds no RSA key.
    pub fn load(list: &str) -> anyhow::Result<PlatformKeys> {
        let mut keys = HashMap::new();
        let mut preferred = None;
        for pair in list.split(',') {
            let (serial, file) =
                pair.trim().split_once('=').context("pay.platform_keys is written serial=file")?;
            let key =
                read_public_key(Path::new(file)).with_context(|| format!("pay.platform_keys: {file}"))?;
            ensure!(!serial.is_empty(), "pay.platform_keys is written serial=file");
            preferred.get_or_insert_with(|| serial.to_owned());
            keys.insert(serial.to_owned(), UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key));
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
    /// [`VerifyError`].
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Result<(), VerifyError> {
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
        if seconds.abs_diff(now) >= MAX_SKEW_SECONDS {
            return Err(VerifyError::Skewed(seconds.abs_diff(now)));
        }
        let key = self.keys.get(serial).ok_or_else(|| VerifyError::UnknownSerial(serial.to_owned()))?;
        let signature = BASE64.decode(signature).map_err(|_| VerifyError::Forged)?;
        let message = [timestamp.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body, b"\n"].concat();
        key.verify(&message, &signature).map_err(|_| VerifyError::Forged)
    }
}

/// The PKCS#1 form that ring takes, out of a PEM file's SubjectPublicKeyInfo.
fn read_public_key(file: &Path) -> anyhow::Result<Vec<u8>> {
    let der = SubjectPublicKeyInfoDer::from_pem_file(file).context("no public key in PEM")?;
    let info = SubjectPublicKeyInfoRef::from_der(&der).map_err(|error| anyhow::anyhow!("{error}"))?;
    ensure!(info.algorithm.oid.to_string() == "1.2.840.113549.1.1.1", "not an RSA key");
    Ok(info.subject_public_key.raw_bytes().to_vec())
}
