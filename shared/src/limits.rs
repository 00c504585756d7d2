//! Rate limits: what a limit is and how a request is held against one. Both sides count in the same way, each with its
//! own limits and its own memory. The method is GCRA: for each client one moment is kept, up to which its requests are
//! already spoken for; a request pushes it on, and is refused when that would push it too far ahead of the clock.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::mem;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

const MICROS: u64 = 1_000_000;

/// So many requests in a time, and so many at once. Written `60/min burst 20`; the time is `s`, `min` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    /// Microseconds from one request to the next when they come evenly.
    pub interval_us: u64,
    /// How many may come at once after a rest; at least 1.
    pub burst: u32,
}

/// Not a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a limit is written `60/min burst 20`: requests in a second (s), minute (min) or hour (h), 2 or more at once"
)]
pub struct RateError;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Rate, RateError> {
        let mut words = text.split_whitespace();
        let (Some(rate), Some("burst"), Some(burst), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(RateError);
        };
        let (count, time) = rate.split_once('/').ok_or(RateError)?;
        let seconds = match time {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            _ => return Err(RateError),
        };
        let count: u64 = count.parse().map_err(|_| RateError)?;
        let burst: u32 = burst.parse().map_err(|_| RateError)?;
        match (seconds * MICROS).checked_div(count) {
            Some(interval_us) if interval_us > 0 && (2..=1_000_000).contains(&burst) => {
                Ok(Rate { interval_us, burst })
            }
            _ => Err(RateError),
        }
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Rate, RateError> {
        text.parse()
    }
}

impl Rate {
    /// The part of this limit that is `percent` of it (1 to 99), and the rest. Together they are the whole, except that
    /// neither is ever nothing.
    #[must_use]
    pub fn split(self, percent: u32) -> (Rate, Rate) {
        let percent = percent.clamp(1, 99);
        let part = |percent: u32, burst: u32| Rate {
            interval_us: self.interval_us.saturating_mul(100) / u64::from(percent),
            burst: burst.max(1),
        };
        let burst =
            u32::try_from((u64::from(self.burst) * u64::from(percent)).div_ceil(100)).unwrap_or(self.burst);
        (part(percent, burst), part(100 - percent, self.burst.saturating_sub(burst)))
    }

    /// How far ahead of the clock requests may be spoken for, in microseconds.
    #[must_use]
    pub fn tolerance_us(self) -> u64 {
        self.interval_us.saturating_mul(self.burst.into())
    }

    /// Holds one more request of a client whose requests are spoken for up to `due` against this limit: the new such
    /// moment, or in how many microseconds the request may come again. Moments are microseconds since 1970.
    ///
    /// # Errors
    /// The wait.
    pub fn next(self, due: u64, now: u64) -> Result<u64, u64> {
        let next = due.max(now).saturating_add(self.interval_us);
        let over = (next - now).saturating_sub(self.tolerance_us());
        if over == 0 { Ok(next) } else { Err(over) }
    }
}

/// Whole seconds for a `Retry-After` header; never 0, which would mean "at once".
#[must_use]
pub fn retry_after_seconds(wait_us: u64) -> u64 {
    wait_us.div_ceil(MICROS).max(1)
}

/// Whom an address stands for: one IPv4 address, or the whole IPv6 /64 that a provider hands to one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network that an address is in, or `None` when the text is no address.
    #[must_use]
    pub fn of(address: &str) -> Option<Network> {
        let network = match address.parse::<IpAddr>().ok()?.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 @ IpAddr::V4(_) => v4,
        };
        Some(Network(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a process remembers of its clients, in bounded memory: up to which moment the requests of each are spoken for.
/// New and active ones are in `young`; when that is full it becomes `old`, and what was in `old` is forgotten: such a
/// client begins anew.
#[derive(Debug)]
pub struct Buckets<K> {
    young: HashMap<K, u64>,
    old: HashMap<K, u64>,
    most: usize,
}

impl<K: Eq + Hash + Copy> Buckets<K> {
    /// Remembers at most `2 * most` clients.
    #[must_use]
    pub fn new(most: usize) -> Buckets<K> {
        Buckets { young: HashMap::new(), old: HashMap::new(), most: most.max(1) }
    }

    /// Up to when this client's requests are spoken for; 0 when nothing is known.
    fn due(&self, key: &K) -> u64 {
        self.young.get(key).or_else(|| self.old.get(key)).copied().unwrap_or(0)
    }

    fn set(&mut self, key: K, due: u64) {
        if self.young.len() >= self.most && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, due);
    }

    /// How long one more request of this client would have to wait, in microseconds; 0 when it may pass. Counts nothing.
    #[must_use]
    pub fn wait(&self, key: &K, rate: Rate, now: u64) -> u64 {
        rate.next(self.due(key), now).err().unwrap_or(0)
    }

    /// Counts a request, whether it was within the limit or was let through for another reason. What is spoken for
    /// never gets further ahead than the limit allows.
    pub fn count(&mut self, key: K, rate: Rate, now: u64) {
        let due = self.due(&key);
        self.set(key, rate.next(due, now).unwrap_or(due));
    }

    /// Counts a request that is within the limit.
    ///
    /// # Errors
    /// The wait in microseconds when it is not; it is then not counted.
    pub fn take(&mut self, key: K, rate: Rate, now: u64) -> Result<(), u64> {
        let next = rate.next(self.due(&key), now)?;
        self.set(key, next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000_000;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn a_limit_is_read_as_it_is_written() {
        assert_eq!(rate("60/min burst 20"), Rate { interval_us: 1_000_000, burst: 20 });
        assert_eq!(rate(" 100/s  burst 2 "), Rate { interval_us: 10_000, burst: 2 });
        assert_eq!(rate("2/h burst 3").interval_us, 1_800_000_000);
        for text in [
            "",
            "60",
            "60/min",
            "60/min burst",
            "60/min burst 1",
            "60/min burst 0",
            "0/min burst 5",
            "-1/min burst 5",
            "60/day burst 5",
            "60/min burst 5 and more",
            "2000000/s burst 5",
            "60/min bursts 5",
            "60/min burst 1000001",
        ] {
            assert_eq!(text.parse::<Rate>(), Err(RateError), "{text}");
        }
    }

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        let (rate, mut buckets) = (rate("60/min burst 3"), Buckets::new(8));
        for _ in 0..3 {
            assert_eq!(buckets.take(1, rate, NOW), Ok(()));
        }
        assert_eq!(buckets.take(1, rate, NOW), Err(1_000_000));
        assert_eq!(buckets.take(1, rate, NOW + 400_000), Err(600_000), "a refusal costs nothing");
        assert_eq!(buckets.wait(&1, rate, NOW + 1_000_000), 0);
        assert_eq!(buckets.take(1, rate, NOW + 1_000_000), Ok(()));
        assert_eq!(buckets.take(1, rate, NOW + 1_000_000), Err(1_000_000));
        assert_eq!(buckets.take(2, rate, NOW), Ok(()), "another client has limits of its own");
        for _ in 0..3 {
            assert_eq!(buckets.take(1, rate, NOW + 60_000_000), Ok(()), "rested");
        }
        assert!(buckets.take(1, rate, NOW + 60_000_000).is_err(), "rest is not saved up beyond the burst");
    }

    #[test]
    fn what_was_let_through_counts_and_never_more_than_the_limit() {
        let (rate, mut buckets) = (rate("60/min burst 2"), Buckets::new(8));
        for _ in 0..100 {
            buckets.count(1, rate, NOW);
        }
        assert_eq!(buckets.wait(&1, rate, NOW), 1_000_000);
    }

    #[test]
    fn the_parts_of_a_limit_are_the_whole() {
        for text in ["60/min burst 10", "20/min burst 3", "1000/s burst 999", "1/h burst 2"] {
            for percent in [1, 25, 50, 99] {
                let whole = rate(text);
                let (own, rest) = whole.split(percent);
                assert!(own.burst >= 1 && rest.burst >= 1, "{text} {percent}");
                assert!(own.burst + rest.burst <= whole.burst + 1, "{text} {percent}");
                let per_hour = |rate: Rate| 3_600_000_000.0 / rate.interval_us as f64;
                let sum = per_hour(own) + per_hour(rest);
                assert!((sum / per_hour(whole) - 1.0).abs() < 0.01, "{text} {percent}: {sum}");
            }
        }
        assert_eq!(rate("60/min burst 10").split(25).0.burst, 3);
    }

    #[test]
    fn memory_is_bounded_and_the_active_stay() {
        let (rate, mut buckets) = (rate("60/min burst 2"), Buckets::new(10));
        for key in 0..1000_u32 {
            buckets.count(u32::MAX, rate, NOW);
            buckets.count(key, rate, NOW);
            assert!(buckets.young.len() <= 10 && buckets.old.len() <= 10);
        }
        assert!(buckets.wait(&u32::MAX, rate, NOW) > 0, "the busiest client is remembered");
        assert_eq!(buckets.wait(&0, rate, NOW), 0, "long forgotten");
    }

    #[test]
    fn a_line_is_one_client_however_many_addresses_it_has() {
        let network = |text: &str| Network::of(text).unwrap().to_string();
        assert_eq!(network("203.0.113.9"), "203.0.113.9");
        assert_eq!(network("::ffff:203.0.113.9"), "203.0.113.9");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(Network::of("2001:db8:1:2::1"), Network::of("2001:db8:1:2:ffff::"));
        assert_ne!(Network::of("2001:db8:1:2::1"), Network::of("2001:db8:1:3::1"));
        for text in ["", "unknown", "203.0.113.9, 10.0.0.1", "203.0.113.9:80"] {
            assert_eq!(Network::of(text), None);
        }
    }

    #[test]
    fn a_client_is_never_told_to_come_back_at_once() {
        let told: Vec<u64> = [0, 1, 1_000_000, 1_000_001].map(retry_after_seconds).into();
        assert_eq!(told, [1, 1, 1, 2]);
    }
}
