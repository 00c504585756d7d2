//! What the host tells the edge: its variables and its one secret, read once an isolate. A setting that is missing or
//! wrong is said to the operator by name; the edge then serves nothing rather than something unsafe.

use farmgate_shared::edge_auth::EdgeKey;
use farmgate_shared::limits::Rate;

use crate::auth::Keys;
use crate::limit::Rates;

/// Milliseconds that the origin has for one request. Above the origin's own limit (10 s), so that its answer, which
/// knows more, comes first.
const DEFAULT_TIMEOUT_MS: u32 = 12_000;
/// The header in which Cloudflare, and `workerd` behind a proxy that sets it, gives the client's address.
const DEFAULT_CLIENT_IP_HEADER: &str = "cf-connecting-ip";
/// The same as the origin's own, so that no shopper meets the one before the other.
const DEFAULT_ADDRESS_RATE: &str = "3000/min burst 600";
const DEFAULT_USER_RATE: &str = "600/min burst 120";
const DEFAULT_LOGIN_RATE: &str = "120/min burst 60";

/// The settings of one edge.
#[derive(Debug)]
pub struct Settings {
    /// `ORIGIN_URL`: scheme, host and port, without a slash at the end.
    pub origin_url: String,
    /// `EDGE_KEY`, the secret: the first of its keys signs.
    pub edge_key: EdgeKey,
    /// `CLIENT_IP_HEADER`: only the host may be able to set it.
    pub client_ip_header: String,
    /// `CORS_ORIGINS`: sites whose pages may call the shop from a browser, with commas; none by default.
    pub cors_origins: Vec<String>,
    /// `ORIGIN_TIMEOUT_MS`.
    pub timeout_ms: u32,
    /// `LOCAL_LIMIT_ADDRESS`, `LOCAL_LIMIT_USER` and `LOCAL_LIMIT_LOGIN`: what one isolate lets pass where the host has
    /// no limiter (bindings `LIMIT_ADDRESS`, `LIMIT_USER`, `LIMIT_LOGIN`) or its limiter fails.
    pub rates: Rates,
}

impl Settings {
    /// Reads the host's variables, of which `var` gives one by its name, and the keys that tokens are checked with.
    ///
    /// # Errors
    /// The name of the setting and what is wrong with it; never a secret's value.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<(Settings, Keys), String> {
        let given =
            |name: &str| var(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let required = |name: &str| given(name).ok_or_else(|| format!("{name} is missing"));

        let edge_key = EdgeKey::parse_list(&required("EDGE_KEY")?)
            .map_err(|error| format!("EDGE_KEY: {error}"))?
            .into_iter()
            .next()
            .ok_or("EDGE_KEY is missing")?;
        let keys = Keys::parse(&required("JWT_JWKS")?).map_err(|error| format!("JWT_JWKS: {error}"))?;
        let timeout_ms = match given("ORIGIN_TIMEOUT_MS") {
            None => DEFAULT_TIMEOUT_MS,
            Some(text) => text
                .parse()
                .ok()
                .filter(|ms| (100..=120_000).contains(ms))
                .ok_or("ORIGIN_TIMEOUT_MS: 100 to 120000 milliseconds")?,
        };
        let rate = |name: &str, default: &str| {
            let text = given(name).unwrap_or_else(|| default.to_owned());
            text.parse::<Rate>().map_err(|error| format!("{name}: {error}"))
        };
        let settings = Settings {
            origin_url: origin_url(&required("ORIGIN_URL")?)?,
            edge_key,
            client_ip_header: given("CLIENT_IP_HEADER")
                .unwrap_or_else(|| DEFAULT_CLIENT_IP_HEADER.to_owned())
                .to_ascii_lowercase(),
            cors_origins: given("CORS_ORIGINS")
                .unwrap_or_default()
                .split(',')
                .map(|origin| origin.trim().trim_end_matches('/').to_owned())
                .filter(|origin| !origin.is_empty())
                .collect(),
            timeout_ms,
            rates: Rates {
                address: rate("LOCAL_LIMIT_ADDRESS", DEFAULT_ADDRESS_RATE)?,
                user: rate("LOCAL_LIMIT_USER", DEFAULT_USER_RATE)?,
                login: rate("LOCAL_LIMIT_LOGIN", DEFAULT_LOGIN_RATE)?,
            },
        };
        Ok((settings, keys))
    }

    /// The site that a browser says a request comes from, if its pages may read our replies.
    #[must_use]
    pub fn browser<'a>(&self, origin: Option<&'a str>) -> Option<&'a str> {
        origin.filter(|origin| self.cors_origins.iter().any(|allowed| allowed == origin))
    }
}

/// Paths are signed as the origin sees them, so its address can have none of its own.
fn origin_url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let authority =
        text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
    let is_plain = !authority.is_empty() && !authority.contains(['/', '?', '#', '@', ' ']);
    if is_plain {
        Ok(text.to_owned())
    } else {
        Err("ORIGIN_URL: http(s)://host[:port] and nothing more".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","alg":"EdDSA","use":"sig","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn read(changed: &str, value: &str) -> Result<Settings, String> {
        let key = format!("k1={},k0={}", "ab".repeat(32), "cd".repeat(32));
        let vars = [("ORIGIN_URL", "http://127.0.0.1:8080/"), ("EDGE_KEY", key.as_str()), ("JWT_JWKS", JWKS)];
        Settings::read(|name| {
            if name == changed {
                return Some(value.to_owned());
            }
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
        .map(|(settings, _)| settings)
    }

    #[test]
    fn three_settings_are_enough() {
        let settings = read("", "").unwrap();
        assert_eq!(settings.origin_url, "http://127.0.0.1:8080");
        assert_eq!(settings.edge_key.kid, "k1");
        assert_eq!(settings.client_ip_header, "cf-connecting-ip");
        assert_eq!(settings.browser(Some("http://127.0.0.1:5173")), None);
        assert_eq!(settings.rates.address, "3000/min burst 600".parse().unwrap());
        assert_eq!(
            read("LOCAL_LIMIT_USER", "9/s burst 3").unwrap().rates.user,
            "9/s burst 3".parse().unwrap()
        );
    }

    #[test]
    fn a_wrong_setting_is_named_and_no_secret_printed() {
        let cases = [
            ("ORIGIN_URL", ""),
            ("ORIGIN_URL", "127.0.0.1:8080"),
            ("ORIGIN_URL", "http://host/base"),
            ("ORIGIN_URL", "http://user:secret@host"),
            ("EDGE_KEY", "k1=secret"),
            ("JWT_JWKS", "{}"),
            ("ORIGIN_TIMEOUT_MS", "soon"),
            ("ORIGIN_TIMEOUT_MS", "0"),
            ("LOCAL_LIMIT_ADDRESS", "lots"),
            ("LOCAL_LIMIT_USER", "600"),
            ("LOCAL_LIMIT_LOGIN", "0/min burst 5"),
        ];
        for (name, value) in cases {
            let error = read(name, value).unwrap_err();
            assert!(error.starts_with(name) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn only_listed_sites_may_read_replies() {
        let settings = read("CORS_ORIGINS", "http://127.0.0.1:5173/, https://preview.example").unwrap();
        for origin in ["http://127.0.0.1:5173", "https://preview.example"] {
            assert_eq!(settings.browser(Some(origin)), Some(origin));
        }
        for origin in [None, Some("null"), Some("https://preview.example.evil"), Some("")] {
            assert_eq!(settings.browser(origin), None);
        }
    }
}
