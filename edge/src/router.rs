//! Which request goes where. One table, read top to bottom; what is not in it does not exist. The origin has its own
//! router behind it, so the edge lists only what it treats apart: what it answers itself, what needs no token, and
//! what is refused without asking.

use farmgate_shared::api::catalog::{ProductQuery, StockQuery};
use farmgate_shared::problem::{FieldProblem, Problem};

use crate::catalog::{Read, is_trace_code, parse_reviews};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/healthz`: the edge itself.
    Health,
    /// Answered from memory where possible.
    Catalogue(Read),
    /// To the origin, signed.
    Forward(Forward),
    /// `OPTIONS` of a path that has these methods.
    Options(&'static str),
}

/// How a request is passed on: each has its line in [`crate::forwarding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The way to a token.
    Login,
    /// Nobody's: the public keys, and which messages a phone may ask for.
    Public,
    /// Pictures: nobody's, and the client may hold its own copies.
    Static,
    /// WeChat's notifications: byte for byte, with WeChat's own headers.
    Callback,
    /// A shopper's: needs a good token.
    Member,
}

/// Why a request goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Problem(Problem),
    BadQuery(Vec<FieldProblem>),
    /// With the methods that there are.
    MethodNotAllowed(&'static str),
}

const READ: &str = "GET, HEAD, OPTIONS";
const WRITE: &str = "POST, OPTIONS";
const ANY: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

/// What a path is, before its parameters are looked at.
#[derive(Clone, Copy)]
enum Kind<'a> {
    Health,
    Products,
    Product(&'a str),
    Reviews(&'a str),
    Trace(&'a str),
    Categories,
    Home,
    Stock,
    Forward(Forward),
}

/// The table: a path's kind and its methods.
fn find(path: &str) -> Option<(Kind<'_>, &'static str)> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    Some(match *segments.as_slice() {
        ["healthz"] => (Kind::Health, READ),
        ["api", "products"] => (Kind::Products, READ),
        ["api", "products", id] => (Kind::Product(id), READ),
        ["api", "products", id, "reviews"] => (Kind::Reviews(id), READ),
        ["api", "categories"] => (Kind::Categories, READ),
        ["api", "home"] => (Kind::Home, READ),
        ["api", "stock"] => (Kind::Stock, READ),
        ["api", "trace", code] => (Kind::Trace(code), READ),
        ["api", "user", "login"] => (Kind::Forward(Forward::Login), WRITE),
        ["api", "payments", "wechat", "notify" | "refund-notify"] => {
            (Kind::Forward(Forward::Callback), WRITE)
        }
        ["api", "messages", "templates"] => (Kind::Forward(Forward::Public), READ),
        ["api", first, ..] if !first.is_empty() => (Kind::Forward(Forward::Member), ANY),
        ["static", _, ..] => (Kind::Forward(Forward::Static), READ),
        [".well-known", "jwks.json"] => (Kind::Forward(Forward::Public), READ),
        _ => return None,
    })
}

/// Where a request goes. `query` is without `?`.
///
/// # Errors
/// [`Refusal`] when it goes nowhere.
pub fn route(method: &str, path: &str, query: &str) -> Result<Route, Refusal> {
    let (kind, methods) = find(path).ok_or(Refusal::Problem(Problem::NotFound))?;
    if !methods.split(", ").any(|allowed| allowed == method) {
        return Err(Refusal::MethodNotAllowed(methods));
    }
    if method == "OPTIONS" {
        return Ok(Route::Options(methods));
    }
    let product = |id: &str| id.parse().map_err(|_| Refusal::Problem(Problem::ProductNotFound));
    let read = match kind {
        Kind::Health => return Ok(Route::Health),
        Kind::Forward(forward) => return Ok(Route::Forward(forward)),
        Kind::Products => Read::Products(ProductQuery::parse(query).map_err(Refusal::BadQuery)?),
        Kind::Product(id) => Read::Product(product(id)?),
        Kind::Reviews(id) => Read::Reviews(product(id)?, parse_reviews(query).map_err(Refusal::BadQuery)?),
        Kind::Trace(code) if is_trace_code(code) => Read::Trace(code.to_owned()),
        Kind::Trace(_) => return Err(Refusal::Problem(Problem::NotFound)),
        Kind::Categories => Read::Categories,
        Kind::Home => Read::Home,
        Kind::Stock => Read::Stock(StockQuery::parse(query).map_err(Refusal::BadQuery)?),
    };
    Ok(Route::Catalogue(read))
}

/// The path and the query (without `?`) of a request's URL, as the host gives it: absolute and normalised.
#[must_use]
pub fn split_url(url: &str) -> (&str, &str) {
    let after_scheme = url.find("://").and_then(|at| url.get(at + 3..)).unwrap_or(url);
    let whole = after_scheme.find('/').and_then(|at| after_scheme.get(at..)).unwrap_or("/");
    let whole = whole.split_once('#').map_or(whole, |(before, _)| before);
    whole.split_once('?').unwrap_or((whole, ""))
}

#[cfg(test)]
mod tests {
    use farmgate_shared::ids::ProductId;

    use super::*;

    fn forward(method: &str, path: &str) -> Option<Forward> {
        match route(method, path, "") {
            Ok(Route::Forward(forward)) => Some(forward),
            _ => None,
        }
    }

    #[test]
    fn every_spelling_of_a_read_is_one_read() {
        let keys: Vec<String> = ["", "page=1", "size=20&page=1", "sort=default"]
            .into_iter()
            .map(|query| match route("GET", "/api/products", query) {
                Ok(Route::Catalogue(read)) => read.path_and_query(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(keys.iter().all(|key| key == "/api/products?page=1&size=20"), "{keys:?}");
        let product = Ok(Route::Catalogue(Read::Product(ProductId(7))));
        assert_eq!(route("GET", "/api/products/7", "_=1700000000"), product);
        assert_eq!(route("HEAD", "/api/products/007", ""), product);
        assert_eq!(route("GET", "/api/home", "x"), Ok(Route::Catalogue(Read::Home)));
        assert_eq!(route("GET", "/api/trace/B-1", ""), Ok(Route::Catalogue(Read::Trace("B-1".into()))));
    }

    #[test]
    fn a_bad_read_is_refused_here() {
        for query in ["page=0", "cache_buster=1", "page=1&page=1"] {
            assert!(matches!(route("GET", "/api/products", query), Err(Refusal::BadQuery(_))), "{query}");
        }
        assert!(matches!(route("GET", "/api/stock", ""), Err(Refusal::BadQuery(_))));
        for id in ["0", "-1", "abc", "", "1e3", "%31"] {
            let refused = Err(Refusal::Problem(Problem::ProductNotFound));
            assert_eq!(route("GET", &format!("/api/products/{id}"), ""), refused, "{id}");
        }
    }

    #[test]
    fn what_needs_no_token_is_listed_and_the_rest_of_the_api_needs_one() {
        assert_eq!(forward("POST", "/api/user/login"), Some(Forward::Login));
        assert_eq!(forward("GET", "/.well-known/jwks.json"), Some(Forward::Public));
        assert_eq!(forward("GET", "/api/messages/templates"), Some(Forward::Public));
        assert_eq!(forward("GET", "/static/demo/1f34e.webp"), Some(Forward::Static));
        for path in ["/api/payments/wechat/notify", "/api/payments/wechat/refund-notify"] {
            assert_eq!(forward("POST", path), Some(Forward::Callback));
        }
        for path in [
            "/api/user/info",
            "/api/user/phone",
            "/api/user/logout",
            "/api/orders",
            "/api/orders/1/pay",
            "/api/cart",
            "/api/coupons/1/claim",
            "/api/nothing",
            "/api/products/1/x",
        ] {
            assert_eq!(forward("POST", path), Some(Forward::Member), "{path}");
        }
        assert_eq!(forward("HEAD", "/api/orders"), Some(Forward::Member));
        assert_eq!(forward("PUT", "/api/user/info"), Some(Forward::Member));
        // No catalogue reads: what a shopper may claim and holds is theirs.
        assert_eq!(forward("GET", "/api/coupons"), Some(Forward::Member));
        assert_eq!(forward("GET", "/api/coupons/mine"), Some(Forward::Member));
    }

    #[test]
    fn paths_that_are_not_the_shops_do_not_exist() {
        for path in [
            "/",
            "",
            "/admin",
            "/admin/api/orders",
            "/api",
            "/api/",
            "//api/products",
            "/static",
            "/readyz",
            "/API/products",
        ] {
            assert_eq!(route("GET", path, ""), Err(Refusal::Problem(Problem::NotFound)), "{path}");
        }
        assert_eq!(route("GET", "/healthz", ""), Ok(Route::Health));
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        assert_eq!(route("POST", "/api/products", ""), Err(Refusal::MethodNotAllowed(READ)));
        assert_eq!(route("DELETE", "/api/products/1", ""), Err(Refusal::MethodNotAllowed(READ)));
        assert_eq!(route("GET", "/api/user/login", ""), Err(Refusal::MethodNotAllowed(WRITE)));
        assert_eq!(route("PATCH", "/api/orders", ""), Err(Refusal::MethodNotAllowed(ANY)));
        for method in ["TRACE", "CONNECT", "PROPFIND", "get", ""] {
            assert!(
                matches!(route(method, "/api/orders", ""), Err(Refusal::MethodNotAllowed(_))),
                "{method}"
            );
        }
        assert_eq!(route("OPTIONS", "/api/products", "page=0"), Ok(Route::Options(READ)));
        assert_eq!(route("OPTIONS", "/nowhere", ""), Err(Refusal::Problem(Problem::NotFound)));
    }

    #[test]
    fn a_url_is_split_at_its_own_joints() {
        assert_eq!(split_url("http://a.b:1/c/d?e=/f?g"), ("/c/d", "e=/f?g"));
        assert_eq!(split_url("https://a"), ("/", ""));
        assert_eq!(split_url("https://a/b#c?d"), ("/b", ""));
        assert_eq!(split_url("https://a/b?"), ("/b", ""));
    }
}
