//! Session tokens, good and bad. Good ones need the shop's private key, which the tests hold; every bad one is made as
//! an attacker, or the passing of time, would make it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use farmgate_shared::ids::UserId;
use farmgate_shared::token::{Claims, PublicKeys};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::caller::unix_now;
use crate::env;

const TTL_SECONDS: u64 = 3600;

/// The shop's signing key.
#[derive(Clone, Debug)]
pub struct Tokens {
    private_der: Vec<u8>,
    kid: String,
    public: PublicKeys,
}

impl Tokens {
    pub fn load() -> Tokens {
        let folder = env::keys_folder().join("keys");
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("run `cargo xtask test`");
        let pem = read("jwt.pem");
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        Tokens {
            private_der: STANDARD.decode(base64).expect("jwt.pem is PEM"),
            kid: env::read_setting(&folder.join("origin.env"), "FARMGATE_JWT__KID"),
            public: serde_json::from_str(&read("jwks.json")).expect("jwks.json is a key set"),
        }
    }

    /// Claims that the shop itself would sign.
    pub fn claims(&self, user: i64) -> Claims {
        Claims::access(UserId(user), 1, u64::try_from(unix_now()).unwrap_or_default(), TTL_SECONDS)
    }

    /// Signed as the shop signs.
    pub fn sign(&self, claims: &Claims) -> String {
        self.sign_as(&self.kid, claims)
    }

    /// Signed with the shop's key, under this key id.
    pub fn sign_as(&self, kid: &str, claims: &Claims) -> String {
        encode(&header(Algorithm::EdDSA, kid), claims, &EncodingKey::from_ed_der(&self.private_der))
    }

    /// Signed with a key of the attacker's own, under the shop's key id.
    pub fn sign_as_stranger(&self, claims: &Claims) -> String {
        // RFC 8410's PKCS#8 wrapping of a 32-byte Ed25519 seed.
        let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        der.extend_from_slice(&[7; 32]);
        encode(&header(Algorithm::EdDSA, &self.kid), claims, &EncodingKey::from_ed_der(&der))
    }

    /// `alg: none` in three spellings, without a signature.
    pub fn unsigned(&self, claims: &Claims) -> Vec<String> {
        let payload = URL_SAFE_NO_PAD.encode(json!(claims).to_string());
        let token = |algorithm: &str| {
            let header = json!({"typ": "JWT", "alg": algorithm, "kid": self.kid});
            format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(header.to_string()))
        };
        ["none", "None", "NONE"].map(token).into()
    }

    /// HMACs whose secret is the public key, as bytes and as text: what a checker that trusts `alg` falls for.
    pub fn hmac_with_public_key(&self, claims: &Claims) -> Vec<String> {
        let text = &self.public.keys.first().expect("a key set has a key").x;
        let bytes = URL_SAFE_NO_PAD.decode(text).expect("x is base64url");
        let sign = |secret: &[u8]| {
            encode(&header(Algorithm::HS256, &self.kid), claims, &EncodingKey::from_secret(secret))
        };
        vec![sign(&bytes), sign(text.as_bytes())]
    }

    /// A good token whose claims were exchanged after signing.
    pub fn tampered(&self, signed: &Claims, shown: &Claims) -> String {
        let good = self.sign(signed);
        let parts: Vec<&str> = good.split('.').collect();
        format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(json!(shown).to_string()), parts[2])
    }
}

fn header(algorithm: Algorithm, kid: &str) -> Header {
    Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) }
}

fn encode(header: &Header, claims: &Claims, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).expect("claims are plain JSON")
}
