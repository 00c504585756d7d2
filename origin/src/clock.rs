//! The one clock. Whatever asks for the time asks a [`Clock`], so that a test can move it.

use std::fmt::Debug;

use time::format_description::well_known::Rfc3339;
use time::macros::offset;
use time::{Duration, OffsetDateTime, UtcOffset};

/// Where the shop is: all times that people read are in this offset. China has one zone and no summer time.
pub const SHANGHAI: UtcOffset = offset!(+8);

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> OffsetDateTime;

    /// Now, in seconds since 1970.
    fn unix_seconds(&self) -> u64 {
        u64::try_from(self.now().unix_timestamp()).unwrap_or(0)
    }

    /// Now, in microseconds since 1970.
    fn unix_micros(&self) -> u64 {
        u64::try_from(self.now().unix_timestamp_nanos() / 1000).unwrap_or(0)
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

/// The machine's clock as if it were wrong, for development.
#[derive(Debug)]
pub struct WrongClock {
    /// What is added to the machine's time.
    pub offset: Duration,
}

impl Clock for WrongClock {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + self.offset
    }
}

/// RFC 3339 in Shanghai's offset and whole seconds, as the wire and WeChat show times: `2026-11-22T08:00:00+08:00`.
pub fn shanghai_rfc3339(moment: OffsetDateTime) -> String {
    let whole_seconds = moment.replace_nanosecond(0).unwrap_or(moment).to_offset(SHANGHAI);
    // RFC 3339 cannot spell a year beyond 9999; no deadline of ours reaches it.
    whole_seconds.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_wrong_clock_is_wrong_by_its_offset() {
        let before = SystemClock.unix_seconds();
        let wrong = WrongClock { offset: Duration::minutes(-10) }.unix_seconds();
        let after = SystemClock.unix_seconds();
        assert!((before..=after).contains(&(wrong + 600)));
    }

    #[test]
    fn times_are_shown_in_shanghai() {
        assert_eq!(shanghai_rfc3339(datetime!(2023-11-30 16:00:00.5 UTC)), "2023-12-01T00:00:00+08:00");
    }
}
