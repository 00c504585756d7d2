//! The table of what passes the edge, in both directions. What is not in it stays here: a header that somebody invents
//! tomorrow, at a client or at the origin, is not passed on until somebody writes it down.

use farmgate_shared::edge_auth::{
    HEADER_CLIENT_IP, HEADER_KID, HEADER_NONCE, HEADER_REQUEST_ID, HEADER_SIG, HEADER_SUBJECT, HEADER_TS,
};

use crate::limit::Kind;
use crate::router::Forward;

/// How one kind of request is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// A good token is needed; whose it is goes with the request, signed.
    pub needs_token: bool,
    /// What the request is counted by, in this order, each before the next costs anything.
    pub limits: &'static [Kind],
    /// The client's headers that are passed on, besides those of [`ALWAYS`].
    pub headers: &'static [&'static str],
    /// And all of its headers that begin so.
    pub header_prefix: Option<&'static str>,
    /// The reply may be kept by others, if the origin says so; any other is `no-store`.
    pub may_be_stored: bool,
}

/// Headers of the client that every request passes on.
pub const ALWAYS: [&str; 3] = ["accept", "content-type", "user-agent"];

/// Headers that the edge writes itself. Whatever a client sends under these names stays here.
pub const WRITTEN_HERE: [&str; 7] =
    [HEADER_KID, HEADER_TS, HEADER_NONCE, HEADER_SIG, HEADER_SUBJECT, HEADER_CLIENT_IP, HEADER_REQUEST_ID];

/// Headers of the origin's reply that are passed back. The request's id, what a browser may do, and all that describes
/// the connection or the encoding are written anew; cookies and the names of programs have no way out.
pub const PASSED_BACK: [&str; 10] = [
    "accept-ranges",
    "allow",
    "cache-control",
    "content-disposition",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "location",
    "retry-after",
];

const LOGIN: Passage = Passage {
    needs_token: false,
    limits: &[Kind::Address, Kind::Login],
    headers: &[],
    header_prefix: None,
    may_be_stored: false,
};
const PUBLIC: Passage = Passage { limits: &[Kind::Address], may_be_stored: true, ..LOGIN };
const STATIC: Passage = Passage { headers: &["if-none-match", "if-modified-since", "range"], ..PUBLIC };
const CALLBACK: Passage = Passage { limits: &[], header_prefix: Some("wechatpay-"), ..LOGIN };
const MEMBER: Passage = Passage {
    needs_token: true,
    limits: &[Kind::Address, Kind::User],
    headers: &["authorization", "idempotency-key"],
    ..LOGIN
};

impl Forward {
    /// This kind's line of the table.
    #[must_use]
    pub fn passage(self) -> &'static Passage {
        match self {
            Forward::Login => &LOGIN,
            Forward::Public => &PUBLIC,
            Forward::Static => &STATIC,
            Forward::Callback => &CALLBACK,
            Forward::Member => &MEMBER,
        }
    }
}

/// Whether a client's header is passed on. `name` is in lower case, as hosts give it.
#[must_use]
pub fn passes_on(name: &str, forward: Forward) -> bool {
    let passage = forward.passage();
    ALWAYS.contains(&name)
        || passage.headers.contains(&name)
        || passage.header_prefix.is_some_and(|prefix| name.starts_with(prefix))
}

/// Whether a header of the origin's reply is passed back.
#[must_use]
pub fn passes_back(name: &str) -> bool {
    PASSED_BACK.contains(&name)
}

#[cfg(test)]
mod tests {
    use farmgate_shared::edge_auth::HEADER_PREFIX;

    use super::*;

    const ALL: [Forward; 5] =
        [Forward::Login, Forward::Public, Forward::Static, Forward::Callback, Forward::Member];

    #[test]
    fn the_table_of_requests_line_by_line() {
        let line = |forward: Forward| {
            let passage = forward.passage();
            (
                passage.needs_token,
                passage.limits,
                passage.headers,
                passage.header_prefix,
                passage.may_be_stored,
            )
        };
        use Kind::{Address, Login, User};
        let nothing: &[&str] = &[];
        assert_eq!(line(Forward::Login), (false, &[Address, Login][..], nothing, None, false));
        assert_eq!(line(Forward::Public), (false, &[Address][..], nothing, None, true));
        let conditions = &["if-none-match", "if-modified-since", "range"][..];
        assert_eq!(line(Forward::Static), (false, &[Address][..], conditions, None, true));
        assert_eq!(line(Forward::Callback), (false, &[][..], nothing, Some("wechatpay-"), false));
        let shoppers = &["authorization", "idempotency-key"][..];
        assert_eq!(line(Forward::Member), (true, &[Address, User][..], shoppers, None, false));
    }

    #[test]
    fn each_header_passes_where_the_table_says_and_nowhere_else() {
        let passing = |name: &str| -> Vec<Forward> {
            ALL.into_iter().filter(|forward| passes_on(name, *forward)).collect()
        };
        for name in ALWAYS {
            assert_eq!(passing(name), ALL, "{name}");
        }
        for name in ["authorization", "idempotency-key"] {
            assert_eq!(passing(name), [Forward::Member], "{name}");
        }
        for name in ["if-none-match", "if-modified-since", "range"] {
            assert_eq!(passing(name), [Forward::Static], "{name}");
        }
        for name in ["wechatpay-signature", "wechatpay-signature-type", "wechatpay-serial", "wechatpay-nonce"]
        {
            assert_eq!(passing(name), [Forward::Callback], "{name}");
        }
    }

    #[test]
    fn what_a_client_could_forge_never_passes() {
        let more = [
            "x-edge-anything",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-real-ip",
            "forwarded",
            "cf-connecting-ip",
            "true-client-ip",
            "via",
            "cookie",
            "origin",
            "host",
            "connection",
            "upgrade",
            "te",
            "transfer-encoding",
            "content-length",
            "content-encoding",
            "accept-encoding",
            "expect",
            "x-http-method-override",
        ];
        for forward in ALL {
            for name in WRITTEN_HERE.iter().chain(&more) {
                assert!(!passes_on(name, forward), "{name} {forward:?}");
            }
        }
        assert!(
            WRITTEN_HERE.iter().all(|name| name.starts_with(HEADER_PREFIX) || *name == HEADER_REQUEST_ID)
        );
    }

    #[test]
    fn a_reply_says_what_a_client_needs_and_nothing_of_what_is_behind_the_edge() {
        for name in PASSED_BACK {
            assert!(passes_back(name), "{name}");
        }
        for name in WRITTEN_HERE.into_iter().chain([
            "connection",
            "content-encoding",
            "content-length",
            "keep-alive",
            "transfer-encoding",
            "trailer",
            "upgrade",
            "server",
            "x-powered-by",
            "set-cookie",
            "vary",
            "access-control-allow-origin",
            "x-content-type-options",
            "x-catalog-version",
            "strict-transport-security",
        ]) {
            assert!(!passes_back(name), "{name}");
        }
    }
}
