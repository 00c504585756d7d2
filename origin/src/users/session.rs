//! Session tokens: made and checked with one Ed25519 key pair, through [`farmgate_shared::token`].

use std::fmt;
use std::path::Path;

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

/// Makes and checks tokens.
pub struct Sessions {
    signing_key: EncodingKey,
    checking_key: DecodingKey,
    public_key: PublicKey,
    ttl_seconds: u64,
    remembered: Remembered,
}

/// Shows the key's id only.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", self.public_key.kid)
    }
}

impl Sessions {
    /// Loads the key pair from a PKCS#8 PEM file.
    ///
    /// # Errors
    /// When the file cannot be read or holds no Ed25519 key.
    pub fn load(private_key_file: &Path, kid: &str, ttl_seconds: u64) -> anyhow::Result<Sessions> {
        std::fs::read(private_key_file)
            .map_err(anyhow::Error::from)
            .and_then(|pem| Sessions::from_pem(&pem, kid, ttl_seconds))
            .with_context(|| format!("jwt.private_key_file {}", private_key_file.display()))
    }

    fn from_pem(pem: &[u8], kid: &str, ttl_seconds: u64) -> anyhow::Result<Sessions> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).context("no PKCS#8 key in PEM")?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|error| anyhow::anyhow!("no Ed25519 key: {error}"))?;
        let public_key = public_key(kid, pair.public_key().as_ref())?;
        Ok(Sessions {
            signing_key: EncodingKey::from_ed_der(der.secret_pkcs8_der()),
            checking_key: DecodingKey::from_ed_components(&public_key.x).context("the public key")?,
            public_key,
            ttl_seconds,
            remembered: Remembered::default(),
        })
    }

    /// A token for `user`; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When signing fails, which a loaded key never does.
    pub fn issue(&self, user: UserId, version: u32, now: u64) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { kid: Some(self.public_key.kid.clone()), ..Header::new(Algorithm::EdDSA) };
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
        if header.alg != Algorithm::EdDSA || header.kid.as_deref() != Some(&self.public_key.kid) {
            return Err(Problem::Unauthenticated);
        }
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Time is told by our clock, at each use.
        rules.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.checking_key, &rules)
            .map_err(|_| Problem::Unauthenticated)?
            .claims;
        let user = claims.user().ok_or(Problem::Unauthenticated)?;
        Ok(Verified { user, version: claims.ver, issued_at: claims.iat, expires_at: claims.exp })
    }

    /// What the edge needs to check tokens.
    pub fn public_keys(&self) -> PublicKeys {
        PublicKeys { keys: vec![self.public_key.clone()] }
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
        let secret = EncodingKey::from_secret(ours.public_key.x.as_bytes());
        let hs256 = jsonwebtoken::encode(&header, &claims, &secret).unwrap();
        assert_eq!(ours.check(&hs256, 1000), Err(Problem::Unauthenticated));
        let body = token.split('.').nth(1).unwrap();
        let none = format!("{}.{body}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"k1"}"#));
        assert_eq!(ours.check(&none, 1000), Err(Problem::Unauthenticated));
        assert_eq!(ours.check("", 1000), Err(Problem::Unauthenticated));
    }
}
