//! The credentials that WeChat's consoles hand to a merchant, and the cryptography of Pay v3, written with the
//! RustCrypto crates on purpose: the origin uses ring, so each side checks the other. Promises that what `init` wrote
//! is never overwritten, for an origin may already sign with it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use aes_gcm::aead::rand_core::RngCore;
use aes_gcm::aead::{Aead, KeyInit, OsRng, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rsa::pkcs1v15::{Signature, SigningKey, VerifyingKey};
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::sha2::Sha256;
use rsa::signature::{SignatureEncoding, Signer, Verifier};
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde::{Deserialize, Serialize};

/// Pay v3 uses RSA keys of this many bits.
const RSA_BITS: usize = 2048;

/// What both WeChat and the shop know by name. The keys themselves are the PEM files beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Merchant {
    /// The mini-program's id.
    pub appid: String,
    /// The mini-program's secret.
    pub secret: String,
    pub mchid: String,
    /// Serial of the merchant's API certificate.
    pub merchant_serial: String,
    /// 32 bytes that seal notifications.
    pub api_v3_key: String,
    /// `PUB_KEY_ID_…`: names the public key that the shop checks WeChat's signatures with.
    pub public_key_id: String,
}

/// A merchant with the keys that the simulator works with.
pub struct Keys {
    pub merchant: Merchant,
    merchant_public: VerifyingKey<Sha256>,
    platform_private: SigningKey<Sha256>,
    /// Signs what must not verify: a key that the shop was never given.
    stranger_private: SigningKey<Sha256>,
    seal: Aes256Gcm,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("mchid", &self.merchant.mchid).finish_non_exhaustive()
    }
}

/// Plays the merchant console: makes all credentials in `dir`, once. Returns whether they were made now.
pub fn init(dir: &Path) -> Result<bool> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let index = dir.join("sim.json");
    if index.exists() {
        return Ok(false);
    }
    let today = time::OffsetDateTime::now_utc().date();
    let merchant = Merchant {
        appid: format!("wx{}", random_text(b"0123456789abcdef", 16)),
        secret: random_text(b"0123456789abcdef", 32),
        mchid: format!("16{}", random_text(b"0123456789", 8)),
        merchant_serial: random_text(b"0123456789ABCDEF", 40),
        api_v3_key: random_text(b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789", 32),
        public_key_id: String::new(),
    };
    let merchant = Merchant {
        public_key_id: format!(
            "PUB_KEY_ID_01{}{:04}{:02}{:02}{}",
            merchant.mchid,
            today.year(),
            u8::from(today.month()),
            today.day(),
            random_text(b"0123456789", 8)
        ),
        ..merchant
    };
    let merchant_key = write_private(&dir.join("merchant_key.pem"))?;
    let platform_key = write_private(&dir.join("platform_key.pem"))?;
    write_private(&dir.join("stranger_key.pem"))?;
    ensure!(merchant_key.to_public_key() != platform_key.to_public_key(), "the random source repeats itself");
    let platform_public = dir.join("platform_public.pem");
    fs::write(&platform_public, platform_key.to_public_key().to_public_key_pem(LineEnding::LF)?)?;
    fs::write(dir.join("origin.env"), origin_env(dir, &merchant)?)?;
    // Last, because its presence says that all the rest is there.
    fs::write(index, serde_json::to_string_pretty(&merchant)?)?;
    Ok(true)
}

/// The settings a shop needs to work with this merchant, one `NAME=value` a line.
fn origin_env(dir: &Path, merchant: &Merchant) -> Result<String> {
    let dir: PathBuf = fs::canonicalize(dir)?;
    let mut text = String::new();
    let lines = [
        ("FARMGATE_WECHAT__APPID", merchant.appid.clone()),
        ("FARMGATE_WECHAT__SECRET", merchant.secret.clone()),
        ("FARMGATE_PAY__MCHID", merchant.mchid.clone()),
        ("FARMGATE_PAY__MERCHANT_SERIAL", merchant.merchant_serial.clone()),
        ("FARMGATE_PAY__MERCHANT_PRIVATE_KEY_FILE", dir.join("merchant_key.pem").display().to_string()),
        ("FARMGATE_PAY__API_V3_KEY", merchant.api_v3_key.clone()),
        (
            "FARMGATE_PAY__PLATFORM_KEYS",
            format!("{}={}", merchant.public_key_id, dir.join("platform_public.pem").display()),
        ),
    ];
    for (name, value) in lines {
        writeln!(text, "{name}={value}")?;
    }
    Ok(text)
}

fn write_private(path: &Path) -> Result<RsaPrivateKey> {
    let key = RsaPrivateKey::new(&mut OsRng, RSA_BITS)?;
    fs::write(path, key.to_pkcs8_pem(LineEnding::LF)?.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(key)
}

fn read_private(path: &Path) -> Result<RsaPrivateKey> {
    RsaPrivateKey::read_pkcs8_pem_file(path)
        .with_context(|| format!("cannot read the key {}", path.display()))
}

impl Keys {
    /// Reads what `init` wrote.
    pub fn load(dir: &Path) -> Result<Keys> {
        let index = dir.join("sim.json");
        let text = fs::read_to_string(&index).with_context(|| {
            format!("no {}: run `wechat-sim init --dir {}` first", index.display(), dir.display())
        })?;
        Keys::assemble(
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", index.display()))?,
            &read_private(&dir.join("merchant_key.pem"))?.to_public_key(),
            read_private(&dir.join("platform_key.pem"))?,
            read_private(&dir.join("stranger_key.pem"))?,
        )
    }

    fn assemble(
        merchant: Merchant,
        merchant_public: &RsaPublicKey,
        platform_private: RsaPrivateKey,
        stranger_private: RsaPrivateKey,
    ) -> Result<Keys> {
        let seal = Aes256Gcm::new_from_slice(merchant.api_v3_key.as_bytes())
            .map_err(|_| anyhow!("the API v3 key has {} bytes, not 32", merchant.api_v3_key.len()))?;
        Ok(Keys {
            merchant,
            merchant_public: VerifyingKey::new(merchant_public.clone()),
            platform_private: SigningKey::new(platform_private),
            stranger_private: SigningKey::new(stranger_private),
            seal,
        })
    }

    /// Whether the merchant made this base64 signature over `message` (RSA-SHA256, PKCS#1 v1.5).
    pub fn merchant_signed(&self, message: &[u8], signature: &str) -> bool {
        let Ok(bytes) = BASE64.decode(signature) else { return false };
        let Ok(signature) = Signature::try_from(bytes.as_slice()) else { return false };
        self.merchant_public.verify(message, &signature).is_ok()
    }

    /// WeChat's signature over `message`, in base64.
    pub fn platform_sign(&self, message: &[u8]) -> String {
        BASE64.encode(self.platform_private.sign(message).to_bytes())
    }

    /// A signature that looks right and was made with a key that is not WeChat's.
    pub fn forge(&self, message: &[u8]) -> String {
        BASE64.encode(self.stranger_private.sign(message).to_bytes())
    }

    /// Seals a notification's resource: AES-256-GCM under the API v3 key, tag last, in base64.
    pub fn seal(&self, nonce: &str, associated_data: &str, plain: &[u8]) -> Result<String> {
        let nonce: [u8; 12] = nonce.as_bytes().try_into().context("a GCM nonce has 12 bytes")?;
        let payload = Payload { msg: plain, aad: associated_data.as_bytes() };
        let sealed = self
            .seal
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| anyhow!("AES-GCM could not seal {} bytes", plain.len()))?;
        Ok(BASE64.encode(sealed))
    }
}

/// `length` characters of `alphabet`, unpredictable and each as likely as the others.
pub fn random_text(alphabet: &[u8], length: usize) -> String {
    let fair = 256 - 256 % alphabet.len();
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut byte = [0u8; 1];
        OsRng.fill_bytes(&mut byte);
        let value = usize::from(byte[0]);
        if value < fair {
            text.push(char::from(alphabet[value % alphabet.len()]));
        }
    }
    text
}

/// The 32 characters that WeChat uses for `nonce_str` and `Wechatpay-Nonce`.
pub fn random_nonce() -> String {
    random_text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 32)
}

#[cfg(test)]
pub mod fixture {
    //! One set of keys for all unit tests of this binary: making RSA keys is slow.

    use std::sync::LazyLock;

    use super::*;

    pub static MERCHANT_KEY: LazyLock<RsaPrivateKey> =
        LazyLock::new(|| RsaPrivateKey::new(&mut OsRng, RSA_BITS).unwrap());

    pub fn keys() -> Keys {
        static OTHERS: LazyLock<(RsaPrivateKey, RsaPrivateKey)> = LazyLock::new(|| {
            let make = || RsaPrivateKey::new(&mut OsRng, RSA_BITS).unwrap();
            (make(), make())
        });
        let merchant = Merchant {
            appid: "wx0123456789abcdef".into(),
            secret: "0123456789abcdef0123456789abcdef".into(),
            mchid: "1600000001".into(),
            merchant_serial: "5157F09EFDC096DE15EBE81A47057A7200000000".into(),
            api_v3_key: "abcdefghijklmnopqrstuvwxyzABCDEF".into(),
            public_key_id: "PUB_KEY_ID_0116000000012025010100000000".into(),
        };
        Keys::assemble(merchant, &MERCHANT_KEY.to_public_key(), OTHERS.0.clone(), OTHERS.1.clone()).unwrap()
    }

    /// Signs as the shop would.
    pub fn merchant_sign(message: &[u8]) -> String {
        BASE64.encode(SigningKey::<Sha256>::new(MERCHANT_KEY.clone()).sign(message).to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_writes_once_and_load_reads_it() {
        let dir = std::env::temp_dir().join(format!("wechat-sim-{}", random_text(b"0123456789", 12)));
        assert!(init(&dir).unwrap());
        let first = fs::read(dir.join("sim.json")).unwrap();
        assert!(!init(&dir).unwrap(), "credentials are never overwritten");
        assert_eq!(fs::read(dir.join("sim.json")).unwrap(), first);
        let keys = Keys::load(&dir).unwrap();
        assert_eq!(keys.merchant.public_key_id.len(), "PUB_KEY_ID_".len() + 28);
        let env = fs::read_to_string(dir.join("origin.env")).unwrap();
        assert_eq!(env.lines().count(), 7);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn only_the_merchants_signature_verifies() {
        let keys = fixture::keys();
        let good = fixture::merchant_sign(b"message\n");
        assert!(keys.merchant_signed(b"message\n", &good));
        assert!(!keys.merchant_signed(b"message", &good));
        assert!(!keys.merchant_signed(b"message\n", &keys.platform_sign(b"message\n")));
        for garbage in ["", "AAAA", "not base64!"] {
            assert!(!keys.merchant_signed(b"message\n", garbage));
        }
    }

    #[test]
    fn what_is_sealed_opens_with_the_api_v3_key_alone() {
        let keys = fixture::keys();
        let sealed = BASE64.decode(keys.seal("abcdefghijkl", "transaction", b"{}").unwrap()).unwrap();
        assert_eq!(sealed.len(), 2 + 16, "the tag stands last");
        let open = |key: &str, aad: &[u8]| {
            Aes256Gcm::new_from_slice(key.as_bytes())
                .unwrap()
                .decrypt(&Nonce::from(*b"abcdefghijkl"), Payload { msg: &sealed, aad })
        };
        assert_eq!(open(&keys.merchant.api_v3_key, b"transaction").unwrap(), b"{}");
        assert!(open(&keys.merchant.api_v3_key, b"refund").is_err());
        assert!(open("ABCDEFghijklmnopqrstuvwxyzABCDEF", b"transaction").is_err());
    }
}
