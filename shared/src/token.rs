//! The session token: a JWT signed by the origin with Ed25519, checked by the edge with public keys alone and by the
//! origin again. No other algorithm is ever accepted.

use serde::{Deserialize, Serialize};

use crate::ids::UserId;

/// `iss` of every token.
pub const ISSUER: &str = "farmgate";
/// `aud` of a shopper's token.
pub const AUDIENCE: &str = "farmgate-shop";
/// `alg` of every token, as the JWT header spells it.
pub const ALGORITHM: &str = "EdDSA";
/// `typ` claim of an access token; other kinds of token must not pass for one.
pub const TYPE_ACCESS: &str = "access";
/// Seconds by which `exp` and `iat` may differ from the checker's clock.
pub const LEEWAY_SECONDS: u64 = 30;

/// The claims of an access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub aud: String,
    /// The user's id in decimal.
    pub sub: String,
    /// Seconds since 1970.
    pub iat: u64,
    /// Seconds since 1970.
    pub exp: u64,
    pub typ: String,
    /// The user's token version: raising it in the database ends every older session.
    pub ver: u32,
}

impl Claims {
    /// An access token for `user`, living `ttl_seconds` from `now` (seconds since 1970).
    #[must_use]
    pub fn access(user: UserId, version: u32, now: u64, ttl_seconds: u64) -> Claims {
        Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_string(),
            iat: now,
            exp: now.saturating_add(ttl_seconds),
            typ: TYPE_ACCESS.to_owned(),
            ver: version,
        }
    }

    /// Whose token this is, or `None` when it is no access token or names no user.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        if self.typ == TYPE_ACCESS { self.sub.parse().ok() } else { None }
    }
}

/// A public Ed25519 key as a JSON Web Key (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublicKey {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// The key's id, which a token's header names.
    pub kid: String,
    /// The 32-byte point, base64url without padding.
    pub x: String,
    /// Always `EdDSA`.
    pub alg: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub usage: String,
}

/// A set of public keys, as `/.well-known/jwks.json` and the edge's `JWT_JWKS` hold it. Two at a time while rotating.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublicKeys {
    pub keys: Vec<PublicKey>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_access_token_names_a_user() {
        let mut claims = Claims::access(UserId(7), 1, 1000, 60);
        assert_eq!((claims.user(), claims.exp), (Some(UserId(7)), 1060));
        claims.typ = "refresh".into();
        assert_eq!(claims.user(), None);
        let nobody = Claims { sub: "-1".into(), ..Claims::access(UserId(7), 1, 0, 1) };
        assert_eq!(nobody.user(), None);
    }
}
