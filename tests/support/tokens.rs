//! Session tokens, good and bad. Good ones need the shop's private key, which the tests hold; every bad one is made as
//! an attacker, or the passing of time, would make it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use farmgate_shared::ids::UserId;
use farmgate_shared::problem::Problem;
use farmgate_shared::token::{Claims, PublicKeys};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::caller::unix_now;
use crate::env;

const TTL_SECONDS: u64 = 3600;

/// A token that must be refused.
#[derive(Clone, Debug)]
pub struct Forgery {
    pub what: &'static str,
    pub token: String,
    pub problem: Problem,
}

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

    /// Signed with the shop's own key, which a checker of that signature alone would accept, while the header says this.
    pub fn with_header(&self, header: &Value, claims: &Claims) -> String {
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", encoded(header), encoded(&json!(claims)));
        let key = EncodingKey::from_ed_der(&self.private_der);
        let signature = jsonwebtoken::crypto::sign(input.as_bytes(), &key, Algorithm::EdDSA)
            .expect("an Ed25519 key signs anything");
        format!("{input}.{signature}")
    }

    /// Every kind of token for this user that no part of the shop may accept.
    pub fn forgeries(&self, user: i64) -> Vec<Forgery> {
        let good = self.claims(user);
        let kid = json!(self.kid);
        let signed = |change: &dyn Fn(&mut Claims)| {
            let mut claims = good.clone();
            change(&mut claims);
            self.sign(&claims)
        };
        let expired = {
            let mut claims = good.clone();
            (claims.iat, claims.exp) = (good.iat - 7200, good.iat - 3600);
            claims
        };
        let token = self.sign(&good);
        let (input, signature) = token.rsplit_once('.').expect("a token has three parts");
        let cut = |bytes: usize| {
            let whole = URL_SAFE_NO_PAD.decode(signature).expect("a signature is base64url");
            format!("{input}.{}", URL_SAFE_NO_PAD.encode(&whole[..bytes]))
        };
        let long = URL_SAFE_NO_PAD.encode([&[0; 64][..], &[0; 64]].concat());
        let mut all = vec![
            ("nonsense", "nonsense".to_owned()),
            ("two parts", "a.b".to_owned()),
            ("four parts", format!("{token}.x")),
            ("huge", "x".repeat(8000)),
            ("another key", self.sign_as_stranger(&good)),
            ("an unknown key id", self.sign_as("unknown", &good)),
            ("an empty key id", self.sign_as("", &good)),
            ("no key id", self.with_header(&json!({"alg": "EdDSA", "typ": "JWT"}), &good)),
            ("claims exchanged after signing", self.tampered(&self.claims(user + 1), &good)),
            ("no signature", format!("{input}.")),
            ("a signature of 63 bytes", cut(63)),
            ("a signature of 32 bytes", cut(32)),
            ("a signature of 1 byte", cut(1)),
            ("a signature of 128 bytes", format!("{input}.{long}")),
            ("an RS256 header", self.with_header(&json!({"alg": "RS256", "kid": kid}), &good)),
            ("an ES256 header", self.with_header(&json!({"alg": "ES256", "kid": kid}), &good)),
            ("an HS256 header", self.with_header(&json!({"alg": "HS256", "kid": kid}), &good)),
            ("an unheard-of algorithm", self.with_header(&json!({"alg": "XX", "kid": kid}), &good)),
            ("no algorithm", self.with_header(&json!({"kid": kid}), &good)),
            ("another audience", signed(&|claims| claims.aud = "farmgate-admin".into())),
            ("another issuer", signed(&|claims| claims.iss = "somebody".into())),
            ("another kind of token", signed(&|claims| claims.typ = "refresh".into())),
            (
                "not yet valid",
                signed(&|claims| (claims.iat, claims.exp) = (good.iat + 3600, good.exp + 3600)),
            ),
            ("nobody's", signed(&|claims| claims.sub = "0".into())),
            ("a word's", signed(&|claims| claims.sub = "admin".into())),
            ("an expired forgery", self.sign_as_stranger(&expired)),
        ];
        all.extend(self.unsigned(&good).into_iter().map(|token| ("alg none", token)));
        all.extend(
            self.hmac_with_public_key(&good).into_iter().map(|token| ("HS256 with the public key", token)),
        );
        let mut all: Vec<Forgery> = all
            .into_iter()
            .map(|(what, token)| Forgery { what, token, problem: Problem::Unauthenticated })
            .collect();
        let (what, token) = ("expired", self.sign(&expired));
        all.push(Forgery { what, token, problem: Problem::TokenExpired });
        all
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
