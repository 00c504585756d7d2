//! How far this machine's clock is from WeChat's. Promises whoever reads the log the one sentence that explains why every
//! signature is refused at once: WeChat takes ours, and we take WeChat's, for five minutes only.

use std::fmt;

use http::HeaderMap;
use http::header::DATE;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Seconds by which a time stamp may differ from the clock of who reads it.
pub const MAX_SKEW_SECONDS: u64 = 300;

/// Our clock beside WeChat's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockSkew {
    /// Ours shows these seconds less.
    Behind(u64),
    /// Ours shows these seconds more.
    Ahead(u64),
}

impl ClockSkew {
    /// `ours` beside `theirs`, both in seconds since 1970.
    pub fn between(ours: u64, theirs: u64) -> ClockSkew {
        if ours < theirs { ClockSkew::Behind(theirs - ours) } else { ClockSkew::Ahead(ours - theirs) }
    }

    /// Against the `Date` of a reply, where it has one that can be read.
    pub fn from_date(headers: &HeaderMap, ours: u64) -> Option<ClockSkew> {
        let date = OffsetDateTime::parse(headers.get(DATE)?.to_str().ok()?, &Rfc2822).ok()?;
        Some(ClockSkew::between(ours, u64::try_from(date.unix_timestamp()).ok()?))
    }

    /// Whether signatures are refused for it.
    pub fn is_too_far(self) -> bool {
        let (ClockSkew::Behind(seconds) | ClockSkew::Ahead(seconds)) = self;
        seconds >= MAX_SKEW_SECONDS
    }
}

impl fmt::Display for ClockSkew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClockSkew::Behind(seconds) => write!(f, "our clock is {seconds} seconds behind WeChat's"),
            ClockSkew::Ahead(seconds) => write!(f, "our clock is {seconds} seconds ahead of WeChat's"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_which_clock_is_behind() {
        let behind = ClockSkew::between(1000, 1600);
        assert_eq!(behind.to_string(), "our clock is 600 seconds behind WeChat's");
        assert_eq!(ClockSkew::between(1600, 1000).to_string(), "our clock is 600 seconds ahead of WeChat's");
        assert!(behind.is_too_far() && ClockSkew::between(1300, 1000).is_too_far());
        assert!(!ClockSkew::between(1299, 1000).is_too_far());
        assert!(!ClockSkew::between(1000, 1299).is_too_far());
    }

    #[test]
    fn a_replys_date_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(ClockSkew::from_date(&headers, 0), None);
        headers.insert(DATE, "Tue, 14 Nov 2023 22:13:20 GMT".parse().unwrap());
        assert_eq!(ClockSkew::from_date(&headers, 1_700_000_600), Some(ClockSkew::Ahead(600)));
        headers.insert(DATE, "yesterday".parse().unwrap());
        assert_eq!(ClockSkew::from_date(&headers, 0), None);
    }
}
