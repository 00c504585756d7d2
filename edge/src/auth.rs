//! Who is asking. Checks access tokens with public keys alone, so that a forged, expired or foreign token never
//! reaches the origin, and remembers the good ones until they expire, so that a shopper's second request costs no
//! curve arithmetic. The origin checks again: only it knows whether a session was ended.

use std::fmt;

use farmgate_shared::ids::UserId;
use farmgate_shared::problem::Problem;
use farmgate_shared::token::{AUDIENCE, Claims, ISSUER, LEEWAY_SECONDS, PublicKeys};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use crate::cache::Lru;

/// Length of an Ed25519 public key.
const KEY_BYTES: usize = 32;
/// Longest token that is looked at; ours are under 400 bytes.
const MAX_TOKEN_BYTES: usize = 2048;
/// How many good tokens are remembered: about 2 MB at most.
const REMEMBERED: usize = 4096;

/// The public keys that tokens may be signed with, by their ids. Two while keys are being rotated.
pub struct Keys(Vec<(String, DecodingKey)>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(kid, _)| kid)).finish()
    }
}

impl Keys {
    /// Reads a JSON Web Key Set. A key of the wrong kind or length is refused here, because checking a token with
    /// it would panic.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn parse(jwks: &str) -> Result<Keys, String> {
        let set: PublicKeys = serde_json::from_str(jwks).map_err(|error| format!("no key set: {error}"))?;
        let mut keys: Vec<(String, DecodingKey)> = Vec::new();
        for jwk in set.keys {
            if jwk.kty != "OKP" || jwk.crv != "Ed25519" {
                return Err(format!("key {} is no Ed25519 key", jwk.kid));
            }
            let key = DecodingKey::from_ed_components(&jwk.x)
                .map_err(|_| format!("x of key {} is no base64url", jwk.kid))?;
            if !key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == KEY_BYTES) {
                return Err(format!("x of key {} is not {KEY_BYTES} bytes", jwk.kid));
            }
            if jwk.kid.is_empty() || keys.iter().any(|(kid, _)| *kid == jwk.kid) {
                return Err("key ids must be given and differ".to_owned());
            }
            keys.push((jwk.kid, key));
        }
        if keys.is_empty() { Err("the key set is empty".to_owned()) } else { Ok(Keys(keys)) }
    }

    fn find(&self, kid: &str) -> Option<&DecodingKey> {
        self.0.iter().find(|(known, _)| known == kid).map(|(_, key)| key)
    }
}

/// A token that was found good.
#[derive(Clone, Copy, Debug)]
struct Session {
    user: UserId,
    /// Seconds since 1970.
    expires: u64,
}

/// Checks tokens and remembers the good ones.
#[derive(Debug)]
pub struct Doorkeeper {
    keys: Keys,
    validation: Validation,
    known: Lru<Session>,
}

impl Doorkeeper {
    #[must_use]
    pub fn new(keys: Keys) -> Doorkeeper {
        let mut validation = Validation::new(Algorithm::EdDSA);
        // Its own clock is not ours to move in tests; `exp` and `iat` are compared below.
        validation.validate_exp = false;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Doorkeeper { keys, validation, known: Lru::new(REMEMBERED) }
    }

    /// Whose request it is, by its `Authorization` header. `now` is seconds since 1970.
    ///
    /// # Errors
    /// [`Problem::TokenExpired`] for a token that was good once, [`Problem::Unauthenticated`] for anything else.
    pub fn user(&mut self, authorization: Option<&str>, now: u64) -> Result<UserId, Problem> {
        let token = authorization.and_then(bearer).ok_or(Problem::Unauthenticated)?;
        if let Some(session) = self.known.get_mut(token) {
            let session = *session;
            if is_past(session.expires, now) {
                self.known.remove(token);
                return Err(Problem::TokenExpired);
            }
            return Ok(session.user);
        }
        let session = self.verify(token, now).ok_or(Problem::Unauthenticated)?;
        if is_past(session.expires, now) {
            return Err(Problem::TokenExpired);
        }
        self.known.insert(token, session, 1);
        Ok(session.user)
    }

    /// Everything but the expiry, which alone has an answer of its own.
    fn verify(&self, token: &str, now: u64) -> Option<Session> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let kid = jsonwebtoken::decode_header(token).ok()?.kid?;
        let key = self.keys.find(&kid)?;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok()?.claims;
        if claims.iat > now.saturating_add(LEEWAY_SECONDS) {
            return None;
        }
        Some(Session { user: claims.user()?, expires: claims.exp })
    }
}

fn is_past(expires: u64, now: u64) -> bool {
    expires.saturating_add(LEEWAY_SECONDS) <= now
}

/// The token of `Bearer <token>`; the scheme's case does not matter (RFC 9110).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { Some(token.trim()) } else { None }
}

#[cfg(test)]
mod tests {
    use farmgate_shared::token::{ALGORITHM, PublicKey};
    use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
    use jsonwebtoken::{EncodingKey, Header, encode};

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn private(seed: u8) -> EncodingKey {
        // PKCS#8 of an Ed25519 key: a fixed head and the 32 bytes.
        let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        der.extend([seed; 32]);
        EncodingKey::from_ed_der(&der)
    }

    fn public_x(seed: u8) -> String {
        match Jwk::from_encoding_key(&private(seed), Algorithm::EdDSA).unwrap().algorithm {
            AlgorithmParameters::OctetKeyPair(parameters) => parameters.x,
            other => panic!("{other:?}"),
        }
    }

    fn jwk(kid: &str, x: &str) -> PublicKey {
        PublicKey {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            kid: kid.into(),
            x: x.into(),
            alg: ALGORITHM.into(),
            usage: "sig".into(),
        }
    }

    fn jwks(keys: Vec<PublicKey>) -> String {
        serde_json::to_string(&PublicKeys { keys }).unwrap()
    }

    fn doorkeeper() -> Doorkeeper {
        let set = jwks(vec![jwk("old", &public_x(1)), jwk("new", &public_x(2))]);
        Doorkeeper::new(Keys::parse(&set).unwrap())
    }

    fn header(algorithm: Algorithm, kid: Option<&str>) -> Header {
        Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) }
    }

    fn claims() -> Claims {
        Claims::access(UserId(7), 1, NOW, 3600)
    }

    fn signed(seed: u8, kid: &str, claims: &Claims) -> String {
        encode(&header(Algorithm::EdDSA, Some(kid)), claims, &private(seed)).unwrap()
    }

    fn ask(token: &str, now: u64) -> Result<UserId, Problem> {
        doorkeeper().user(Some(&format!("Bearer {token}")), now)
    }

    #[test]
    fn a_token_of_either_live_key_names_its_user() {
        for (seed, kid) in [(1, "old"), (2, "new")] {
            assert_eq!(ask(&signed(seed, kid, &claims()), NOW), Ok(UserId(7)));
        }
        let token = signed(1, "old", &claims());
        assert_eq!(doorkeeper().user(Some(&format!("bearer  {token} ")), NOW), Ok(UserId(7)));
    }

    #[test]
    fn a_remembered_token_expires_all_the_same() {
        let mut door = doorkeeper();
        let authorization = format!("Bearer {}", signed(1, "old", &claims()));
        assert_eq!(door.user(Some(&authorization), NOW), Ok(UserId(7)));
        assert_eq!(door.user(Some(&authorization), NOW + 3600), Ok(UserId(7)), "within the leeway");
        let late = NOW + 3600 + LEEWAY_SECONDS;
        assert_eq!(door.user(Some(&authorization), late), Err(Problem::TokenExpired));
        assert_eq!(door.user(Some(&authorization), late), Err(Problem::TokenExpired), "first sight");
    }

    #[test]
    fn whatever_is_not_our_access_token_is_refused() {
        let good = signed(1, "old", &claims());
        let (signing_input, signature) = good.rsplit_once('.').unwrap();
        let (_, payload) = signing_input.split_once('.').unwrap();
        let none = "eyJhbGciOiJub25lIiwia2lkIjoib2xkIn0"; // {"alg":"none","kid":"old"}
        let public_bytes = DecodingKey::from_ed_components(&public_x(1)).unwrap();
        let with_public_key_as_secret = encode(
            &header(Algorithm::HS256, Some("old")),
            &claims(),
            &EncodingKey::from_secret(public_bytes.try_get_as_bytes().unwrap()),
        )
        .unwrap();
        let without_kid = encode(&header(Algorithm::EdDSA, None), &claims(), &private(1)).unwrap();
        let tokens = [
            String::new(),
            "a.b".into(),
            "a.b.c".into(),
            format!("{signing_input}."),
            format!("{none}.{payload}."),
            format!("{none}.{payload}.{signature}"),
            with_public_key_as_secret,
            without_kid,
            signed(2, "old", &claims()),
            signed(1, "unknown", &claims()),
            signed(1, "old", &Claims { iss: "other".into(), ..claims() }),
            signed(1, "old", &Claims { aud: "farmgate-admin".into(), ..claims() }),
            signed(1, "old", &Claims { typ: "refresh".into(), ..claims() }),
            signed(1, "old", &Claims { sub: "-7".into(), ..claims() }),
            signed(1, "old", &Claims { iat: NOW + 3600, ..claims() }),
            format!("{good}.x"),
            "x".repeat(MAX_TOKEN_BYTES + 1),
        ];
        for token in tokens {
            assert_eq!(ask(&token, NOW), Err(Problem::Unauthenticated), "{token}");
        }
        for authorization in [None, Some(""), Some("Bearer"), Some(&*format!("Basic {good}")), Some(&*good)] {
            assert_eq!(doorkeeper().user(authorization, NOW), Err(Problem::Unauthenticated));
        }
    }

    #[test]
    fn an_expired_forgery_is_a_forgery() {
        let old = Claims { iat: NOW - 7200, exp: NOW - 3600, ..claims() };
        assert_eq!(ask(&signed(1, "old", &old), NOW), Err(Problem::TokenExpired));
        assert_eq!(ask(&signed(2, "old", &old), NOW), Err(Problem::Unauthenticated));
    }

    #[test]
    fn a_key_set_that_could_panic_later_is_refused_when_loading() {
        let x = public_x(1);
        let sets = [
            String::new(),
            "{}".into(),
            jwks(vec![]),
            jwks(vec![jwk("a", &x[..20])]),
            jwks(vec![jwk("a", "")]),
            jwks(vec![jwk("a", "!!")]),
            jwks(vec![jwk("", &x)]),
            jwks(vec![jwk("a", &x), jwk("a", &x)]),
            jwks(vec![PublicKey { kty: "RSA".into(), ..jwk("a", &x) }]),
            jwks(vec![PublicKey { crv: "Ed448".into(), ..jwk("a", &x) }]),
        ];
        for set in sets {
            assert!(Keys::parse(&set).is_err(), "{set}");
        }
    }
}
