//! Session tokens, through [`farmgate_shared::token`]: made with one Ed25519 key, checked with it and with further public
//! keys. A key that is to be used next is accepted before anybody signs with it, and one that was used before until its
//! last token has expired, so that rotating keys ends no session.

use std::fmt;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use farmgate_shared::ids::UserId;
use farmgate_shared::problem::Problem;
use farmgate_shared::token::{ALGORITHM, AUDIENCE, Claims, ISSUER, LEEWAY_SECONDS, PublicKey, PublicKeys};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use super::remembered::{Remembered, Verified};
use crate::config::JwtConfig;

/// Makes and checks tokens.
pub struct Sessions {
    kid: String,
    signing_key: EncodingKey,
    /// The signing key's own half is the first.
    accepted: Vec<Accepted>,
    ttl_seconds: u64,
    remembered: Remembered,
}

/// A key whose tokens are good.
struct Accepted {
    public: PublicKey,
    key: DecodingKey,
}

impl Accepted {
    fn new(public: PublicKey) -> anyhow::Result<Accepted> {
        ensure!(public.kty == "OKP" && public.crv == "Ed25519", "{} is no Ed25519 key", public.kid);
        // A key of another length would make a check panic later.
        let point = URL_SAFE_NO_PAD.decode(&public.x).context("x is no base64url")?;
        ensure!(point.len() == 32, "an Ed25519 public key has 32 bytes, not {}", point.len());
        Ok(Accepted { key: DecodingKey::from_ed_components(&public.x).context("the public key")?, public })
    }
}

/// Shows the keys' ids only.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.accepted.iter().map(|accepted| &accepted.public.kid)).finish()
    }
}

impl Sessions {
    /// Loads the key pair from its PKCS#8 PEM file, and the further public keys if there are any.
    ///
    /// # Errors
    /// When a file cannot be read, or holds a key that is none of ours.
    pub fn load(config: &JwtConfig) -> anyhow::Result<Sessions> {
        let file = &config.private_key_file;
        let mut sessions = std::fs::read(file)
            .map_err(anyhow::Error::from)
            .and_then(|pem| Sessions::from_pem(&pem, &config.kid, config.ttl_seconds))
            .with_context(|| format!("private_key_file {}", file.display()))?;
        let file = &config.public_keys_file;
        if !file.as_os_str().is_empty() {
            std::fs::read(file)
                .map_err(anyhow::Error::from)
                .and_then(|json| Ok(serde_json::from_slice(&json)?))
                .and_then(|keys: PublicKeys| sessions.accept(keys))
                .with_context(|| format!("public_keys_file {}", file.display()))?;
        }
        Ok(sessions)
    }

    fn from_pem(pem: &[u8], kid: &str, ttl_seconds: u64) -> anyhow::Result<Sessions> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).context("no PKCS#8 key in PEM")?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|error| anyhow::anyhow!("no Ed25519 key: {error}"))?;
        Ok(Sessions {
            kid: kid.to_owned(),
            signing_key: EncodingKey::from_ed_der(der.secret_pkcs8_der()),
            accepted: vec![Accepted::new(public_key(kid, pair.public_key().as_ref())?)?],
            ttl_seconds,
            remembered: Remembered::default(),
        })
    }

    /// Accepts further keys. The set may hold the signing key's own half, which then must be the same.
    fn accept(&mut self, keys: PublicKeys) -> anyhow::Result<()> {
        for public in keys.keys {
            ensure!(!public.kid.is_empty(), "a key has no kid");
            let accepted = Accepted::new(public)?;
            match self.find(&accepted.public.kid) {
                None => self.accepted.push(accepted),
                Some(known) => ensure!(
                    known.public.x == accepted.public.x,
                    "there are two different keys {}",
                    accepted.public.kid
                ),
            }
        }
        Ok(())
    }

    fn find(&self, kid: &str) -> Option<&Accepted> {
        self.accepted.iter().find(|accepted| accepted.public.kid == kid)
    }

    /// A token for `user`; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When signing fails, which a loaded key never does.
    pub fn issue(&self, user: UserId, version: u32, now: u64) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(
            &header,
            &Claims::access(user, version, now, self.ttl_seconds),
            &self.signing_key,
        )
    }

    /// Whose token this is, and of which version.
    ///
    /// # Errors
    /// [`Problem::TokenExpired`] for one that was good; [`Problem::Unauthenticated`] for all else.
    pub fn check(&self, token: &str, now: u64) -> Result<(UserId, u32), Problem> {
        let token = self.remembered.verified(token, || self.verify(token))?;
        if token.issued_at > now + LEEWAY_SECONDS {
            return Err(Problem::Unauthenticated);
        }
        if token.expires_at + LEEWAY_SECONDS <= now {
            return Err(Problem::TokenExpired);
        }
        Ok((token.user, token.version))
    }

    /// What a token says that we signed.
    fn verify(&self, token: &str) -> Result<Verified, Problem> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Problem::Unauthenticated)?;
        if header.alg != Algorithm::EdDSA {
            return Err(Problem::Unauthenticated);
        }
        let accepted = header.kid.and_then(|kid| self.find(&kid)).ok_or(Problem::Unauthenticated)?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Time is told by our clock, at each use.
        rules.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &accepted.key, &rules)
            .map_err(|_| Problem::Unauthenticated)?
            .claims;
        let user = claims.user().ok_or(Problem::Unauthenticated)?;
        Ok(Verified { user, version: claims.ver, issued_at: claims.iat, expires_at: claims.exp })
    }

    /// What the edge needs to check tokens; the key that signs is the first.
    pub fn public_keys(&self) -> PublicKeys {
        PublicKeys { keys: self.accepted.iter().map(|accepted| accepted.public.clone()).collect() }
    }
}

/// An Ed25519 public key as a JWK.
///
/// # Errors
/// When it has not 32 bytes, which would make verification panic later.
pub fn public_key(kid: &str, point: &[u8]) -> anyhow::Result<PublicKey> {
    ensure!(point.len() == 32, "an Ed25519 public key has 32 bytes, not {}", point.len());
    Ok(PublicKey {
        kty: "OKP".into(),
        crv: "Ed25519".into(),
        kid: kid.to_owned(),
        x: URL_SAFE_NO_PAD.encode(point),
        alg: ALGORITHM.into(),
        usage: "sig".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keygen;

    fn sessions(kid: &str) -> Sessions {
        Sessions::from_pem(keygen::new_signing_key().unwrap().pem.as_bytes(), kid, 60).unwrap()
    }

    #[test]
    fn a_token_names_its_user_until_it_expires() {
        let sessions = sessions("k1");
        let token = sessions.issue(UserId(7), 3, 1000).unwrap();
        assert_eq!(sessions.check(&token, 1000), Ok((UserId(7), 3)));
        assert_eq!(sessions.check(&token, 1060 + LEEWAY_SECONDS - 1), Ok((UserId(7), 3)));
        assert_eq!(sessions.check(&token, 1060 + LEEWAY_SECONDS), Err(Problem::TokenExpired));
        assert_eq!(sessions.check(&token, 900), Err(Problem::Unauthenticated), "made in the future");
    }

    #[test]
    fn no_other_key_or_algorithm_passes() {
        let ours = sessions("k1");
        let token = ours.issue(UserId(7), 1, 1000).unwrap();
        assert_eq!(sessions("k1").check(&token, 1000), Err(Problem::Unauthenticated), "another key");
        assert_eq!(sessions("k2").check(&token, 1000), Err(Problem::Unauthenticated), "another kid");
        let claims = Claims::access(UserId(7), 1, 1000, 60);
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
        let secret = EncodingKey::from_secret(ours.accepted[0].public.x.as_bytes());
        let hs256 = jsonwebtoken::encode(&header, &claims, &secret).unwrap();
        assert_eq!(ours.check(&hs256, 1000), Err(Problem::Unauthenticated));
        let body = token.split('.').nth(1).unwrap();
        let none = format!("{}.{body}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"k1"}"#));
        assert_eq!(ours.check(&none, 1000), Err(Problem::Unauthenticated));
        assert_eq!(ours.check("", 1000), Err(Problem::Unauthenticated));
    }
    #[test]
    fn tokens_of_the_key_before_and_of_the_next_are_good_until_it_is_dropped() {
        let (old, mut new) = (sessions("k1"), sessions("k2"));
        let token = old.issue(UserId(7), 1, 1000).unwrap();
        assert_eq!(new.check(&token, 1000), Err(Problem::Unauthenticated));
        new.accept(old.public_keys()).unwrap();
        new.accept(new.public_keys()).unwrap();
        assert_eq!(new.check(&token, 1000), Ok((UserId(7), 1)));
        assert_eq!(new.check(&token, 1060 + LEEWAY_SECONDS), Err(Problem::TokenExpired), "remembered");
        let kids: Vec<String> = new.public_keys().keys.into_iter().map(|key| key.kid).collect();
        assert_eq!(kids, ["k2", "k1"], "the one that signs first");
        let header = jsonwebtoken::decode_header(new.issue(UserId(7), 1, 1000).unwrap()).unwrap();
        assert_eq!(header.kid.as_deref(), Some("k2"));
    }

    #[test]
    fn a_key_set_that_could_panic_later_or_hides_another_key_is_refused() {
        let mut ours = sessions("k1");
        let good = sessions("k2").accepted.remove(0).public;
        for wrong in [
            PublicKey { kid: String::new(), ..good.clone() },
            PublicKey { kid: "k1".into(), ..good.clone() },
            PublicKey { x: good.x[..20].into(), ..good.clone() },
            PublicKey { x: "!!".into(), ..good.clone() },
            PublicKey { kty: "RSA".into(), ..good.clone() },
            PublicKey { crv: "Ed448".into(), ..good.clone() },
        ] {
            assert!(ours.accept(PublicKeys { keys: vec![wrong.clone()] }).is_err(), "{wrong:?}");
        }
        assert_eq!(ours.accepted.len(), 1);
    }
}
