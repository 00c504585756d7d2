//! Which limits a request is held against. The edge has asked as somebody (a shopper's id), for somebody (an address),
//! or for itself; it is believed, because it signed.

use std::fmt;

use farmgate_shared::ids::UserId;
use farmgate_shared::limits::Network;
use ring::digest::{SHA256, digest};

/// Kinds of requests that have limits of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    Reads,
    Writes,
    Orders,
    Logins,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Network(Network),
    /// Everybody whose address the edge's host did not tell.
    Unknown,
    User(UserId),
    /// A WeChat account, by a digest of its openid.
    Account([u8; 16]),
}

impl Who {
    /// The account of an openid, which itself is written nowhere.
    pub fn account(openid: &str) -> Who {
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(digest(&SHA256, openid.as_bytes()).as_ref()) {
            *to = *from;
        }
        Who::Account(short)
    }
}

/// One count: this client's requests of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    pub class: Class,
    pub who: Who,
}

/// The bucket's name in Redis, behind the shop's prefix.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            Class::Reads => "reads",
            Class::Writes => "writes",
            Class::Orders => "orders",
            Class::Logins => "logins",
        };
        match self.who {
            Who::Network(network) => write!(f, "limit:{class}:ip:{network}"),
            Who::Unknown => write!(f, "limit:{class}:ip:unknown"),
            Who::User(user) => write!(f, "limit:{class}:user:{user}"),
            Who::Account(short) => {
                write!(f, "limit:{class}:account:{}", farmgate_shared::edge_auth::hex(&short))
            }
        }
    }
}

/// What decides how a request is counted.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// The shopper's id as the edge saw it; empty for nobody.
    pub subject: &'a str,
    /// Empty when the edge's host does not tell.
    pub client_ip: &'a str,
}

/// The limits of a request; none for what has none.
pub type Buckets = [Option<Bucket>; 2];

impl Asked<'_> {
    /// The buckets that this request is counted in:
    ///
    /// | request | by |
    /// |---|---|
    /// | WeChat's notifications | nothing: WeChat must get through |
    /// | catalogue reads of nobody | nothing: the edge asks for its caches, and for everybody |
    /// | `POST /api/user/login` | address; and once WeChat has said whose it is, account |
    /// | `POST /api/orders` | shopper and address, as an order |
    /// | a shopper's other requests | shopper and address, as a read or a write |
    /// | what else needs no token (pictures, public keys) | address |
    ///
    /// Without an address only logins are counted by it, all together.
    pub fn buckets(self) -> Buckets {
        let is_read = matches!(self.method, "GET" | "HEAD" | "OPTIONS");
        let network = Network::of(self.client_ip).map(Who::Network);
        let class = match self.path {
            path if path.starts_with("/api/payments/wechat/") => return [None, None],
            "/api/user/login" => {
                let who = network.unwrap_or(Who::Unknown);
                return [Some(Bucket { class: Class::Logins, who }), None];
            }
            path if is_read && self.subject.is_empty() && is_catalogue(path) => return [None, None],
            "/api/orders" if self.method == "POST" => Class::Orders,
            _ if is_read => Class::Reads,
            _ => Class::Writes,
        };
        let user = self.subject.parse().ok().map(Who::User);
        [user, network].map(|who| who.map(|who| Bucket { class, who }))
    }
}

fn is_catalogue(path: &str) -> bool {
    let first = path.strip_prefix("/api/").and_then(|rest| rest.split('/').next());
    matches!(first, Some("products" | "categories" | "home" | "stock" | "trace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(method: &str, path: &str, subject: &str, client_ip: &str) -> Vec<String> {
        let buckets = Asked { method, path, subject, client_ip }.buckets();
        buckets.iter().flatten().map(ToString::to_string).collect()
    }

    #[test]
    fn the_table_of_who_is_counted_how() {
        const IP: &str = "203.0.113.9";
        let none: [&str; 0] = [];
        for path in ["/api/payments/wechat/notify", "/api/payments/wechat/refund-notify"] {
            assert_eq!(names("POST", path, "", IP), none, "{path}");
        }
        for path in [
            "/api/products",
            "/api/products/7",
            "/api/categories",
            "/api/home",
            "/api/stock",
            "/api/trace/B1",
        ] {
            assert_eq!(names("GET", path, "", IP), none, "the edge asks for {path}");
            assert_eq!(names("HEAD", path, "", ""), none, "the edge asks for {path}");
        }
        assert_eq!(names("POST", "/api/user/login", "", IP), ["limit:logins:ip:203.0.113.9"]);
        assert_eq!(names("POST", "/api/user/login", "", ""), ["limit:logins:ip:unknown"]);
        for (method, path, class) in [
            ("POST", "/api/orders", "orders"),
            ("GET", "/api/orders", "reads"),
            ("POST", "/api/orders/7/pay", "writes"),
            ("DELETE", "/api/addresses/7", "writes"),
            ("POST", "/api/products/7/reviews", "writes"),
            ("GET", "/api/products/7", "reads"),
            ("GET", "/api/nothing", "reads"),
        ] {
            let expected = [format!("limit:{class}:user:7"), format!("limit:{class}:ip:203.0.113.9")];
            assert_eq!(names(method, path, "7", IP), expected, "{method} {path}");
            assert_eq!(names(method, path, "7", "")[..], expected[..1], "{method} {path}");
        }
        for path in ["/static/demo/1.webp", "/.well-known/jwks.json", "/api/nothing"] {
            assert_eq!(names("GET", path, "", IP), ["limit:reads:ip:203.0.113.9"], "{path}");
        }
        assert_eq!(names("POST", "/api/products", "", IP), ["limit:writes:ip:203.0.113.9"]);
        assert_eq!(names("GET", "/api/orders", "nobody", IP), ["limit:reads:ip:203.0.113.9"]);
    }

    #[test]
    fn an_account_is_counted_without_being_named() {
        let bucket = Bucket { class: Class::Logins, who: Who::account("oABC") };
        let name = bucket.to_string();
        assert!(name.starts_with("limit:logins:account:") && !name.contains("oABC"), "{name}");
        assert_ne!(Who::account("oABC"), Who::account("oABD"));
    }
}
