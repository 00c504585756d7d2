//! Our signatures towards WeChat Pay v3, on requests and on the parameters that a phone pays with. RSA with SHA-256,
//! PKCS#1 v1.5, over lines that each end in a line break. WeChat's own are checked in [`super::platform`].

use std::fmt;
use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use farmgate_shared::edge_auth::hex;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

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
