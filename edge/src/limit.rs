//! How much one client may ask the edge. Promises that a flood from one address, one shopper or one guesser of logins
//! costs no curve arithmetic and never reaches the origin, which limits again. The host counts where it can; where it
//! cannot, or fails to, this isolate does: coarsely, since it knows of no other isolate, and in bounded memory.
//! Answers from memory are not counted, WeChat's notifications never.

mod host;

use std::fmt;

use farmgate_shared::ids::UserId;
use farmgate_shared::limits::{Buckets, Network, Rate};

pub use host::Limits;

/// Clients that an isolate remembers at least, of those that were active last: 2 MB at most.
const REMEMBERED: usize = 16_384;

/// What a request can be counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Everything that comes from one address.
    Address,
    /// Everything that one shopper asks.
    User,
    /// Logins from one address.
    Login,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Network(Network),
    /// Everybody whose address the host does not tell.
    Unknown,
    User(UserId),
}

/// One count: this kind of requests of this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Count {
    kind: Kind,
    who: Who,
}

/// The key under which a host counts. Each kind has a counter of its own there.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            Who::Network(network) => network.fmt(f),
            Who::Unknown => f.write_str("unknown"),
            Who::User(user) => user.fmt(f),
        }
    }
}

impl Kind {
    /// The count of a request from this address, or of this shopper; none where it cannot be told. Without an address
    /// logins alone are counted, all together: to hold everything else against one limit would shut the shop.
    #[must_use]
    pub fn count(self, client_ip: &str, user: Option<UserId>) -> Option<Count> {
        let network = Network::of(client_ip).map(Who::Network);
        let who = match self {
            Kind::Address => network,
            Kind::User => user.map(Who::User),
            Kind::Login => network.or(Some(Who::Unknown)),
        };
        who.map(|who| Count { kind: self, who })
    }
}

/// What an isolate lets pass by its own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// `LOCAL_LIMIT_ADDRESS`
    pub address: Rate,
    /// `LOCAL_LIMIT_USER`
    pub user: Rate,
    /// `LOCAL_LIMIT_LOGIN`
    pub login: Rate,
}

impl Rates {
    fn of(&self, kind: Kind) -> Rate {
        match kind {
            Kind::Address => self.address,
            Kind::User => self.user,
            Kind::Login => self.login,
        }
    }
}

/// The isolate's own count.
#[derive(Debug)]
pub struct Local {
    rates: Rates,
    buckets: Buckets<Count>,
}

impl Local {
    #[must_use]
    pub fn new(rates: Rates) -> Local {
        Local { rates, buckets: Buckets::new(REMEMBERED) }
    }

    /// Counts a request. `now` is in milliseconds since 1970.
    ///
    /// # Errors
    /// In how many microseconds it may come again.
    pub fn take(&mut self, count: Count, now: u64) -> Result<(), u64> {
        self.buckets.take(count, self.rates.of(count.kind), now.saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn local() -> Local {
        let rate = |text: &str| text.parse().unwrap();
        Local::new(Rates {
            address: rate("60/min burst 4"),
            user: rate("60/min burst 3"),
            login: rate("60/min burst 2"),
        })
    }

    #[test]
    fn a_request_is_counted_by_what_can_be_told() {
        let key = |kind: Kind, ip: &str, user: Option<UserId>| kind.count(ip, user).map(|c| c.to_string());
        let (seven, ip) = (Some(UserId(7)), "203.0.113.9");
        assert_eq!(key(Kind::Address, ip, None).as_deref(), Some(ip));
        assert_eq!(key(Kind::Address, "2001:db8::1", None).as_deref(), Some("2001:db8::"));
        assert_eq!(key(Kind::Address, "", seven), None);
        assert_eq!(key(Kind::User, ip, seven).as_deref(), Some("7"));
        assert_eq!(key(Kind::User, ip, None), None);
        assert_eq!(key(Kind::Login, ip, None).as_deref(), Some(ip));
        assert_eq!(key(Kind::Login, "", None).as_deref(), Some("unknown"));
    }

    #[test]
    fn each_kind_and_each_client_has_a_limit_of_its_own() {
        let mut local = local();
        for (kind, burst) in [(Kind::Address, 4), (Kind::User, 3), (Kind::Login, 2)] {
            let (count, other) = match kind {
                Kind::User => (kind.count("", Some(UserId(1))), kind.count("", Some(UserId(2)))),
                _ => (kind.count("203.0.113.1", None), kind.count("203.0.113.2", None)),
            };
            let (count, other) = (count.unwrap(), other.unwrap());
            for _ in 0..burst {
                assert_eq!(local.take(count, NOW), Ok(()), "{kind:?}");
            }
            assert_eq!(local.take(count, NOW), Err(1_000_000), "{kind:?}");
            assert_eq!(local.take(other, NOW), Ok(()), "{kind:?}");
            assert_eq!(local.take(count, NOW + 1000), Ok(()), "{kind:?}");
        }
    }
}
