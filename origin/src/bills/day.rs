//! Days as WeChat's bills have them: from midnight to midnight in Shanghai, to be had from ten the next morning and for
//! three months.

use std::fmt;
use std::str::FromStr;

use time::format_description::BorrowedFormatItem;
use time::macros::{format_description, time};
use time::{Date, Duration, OffsetDateTime, UtcOffset};

use crate::clock::{SHANGHAI, shanghai_rfc3339};

const FORMAT: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
/// When a day's bill can be had, on the next day.
const READY: time::Time = time!(10:00);
/// For how many months.
const MONTHS_KEPT: u8 = 3;

/// A day in Shanghai.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BillDay(pub Date);

/// Why a day's bill cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DayError {
    #[error("the bill of {0} can be had from {at}", at = shanghai_rfc3339(*.1))]
    TooEarly(BillDay, OffsetDateTime),
    #[error("WeChat keeps bills for three months: the oldest is that of {1}, not that of {0}")]
    TooOld(BillDay, BillDay),
}

impl BillDay {
    /// The day that it is in Shanghai.
    pub fn of(moment: OffsetDateTime) -> BillDay {
        BillDay(moment.to_offset(SHANGHAI).date())
    }

    /// Its first moment, in UTC.
    pub fn start(self) -> OffsetDateTime {
        self.0.midnight().assume_offset(SHANGHAI).to_offset(UtcOffset::UTC)
    }

    /// The first moment after it, in UTC.
    pub fn end(self) -> OffsetDateTime {
        self.start() + Duration::DAY
    }

    /// So many days later, or earlier.
    #[must_use]
    pub fn plus(self, days: i64) -> BillDay {
        BillDay(self.0.saturating_add(Duration::days(days)))
    }

    /// The newest day whose bill can be had at `now`.
    pub fn newest(now: OffsetDateTime) -> BillDay {
        let today = BillDay::of(now);
        if now >= today.plus(-1).ready() { today.plus(-1) } else { today.plus(-2) }
    }

    fn ready(self) -> OffsetDateTime {
        self.plus(1).0.with_time(READY).assume_offset(SHANGHAI).to_offset(UtcOffset::UTC)
    }

    /// Whether WeChat has the bill at `now`.
    ///
    /// # Errors
    /// [`DayError`].
    pub fn check(self, now: OffsetDateTime) -> Result<(), DayError> {
        if now < self.ready() {
            return Err(DayError::TooEarly(self, self.ready()));
        }
        let oldest = BillDay(months_before(BillDay::of(now).0, MONTHS_KEPT));
        if self < oldest {
            return Err(DayError::TooOld(self, oldest));
        }
        Ok(())
    }
}

/// The same day that many months earlier, or the month's last.
fn months_before(date: Date, months: u8) -> Date {
    let (mut year, mut month) = (date.year(), date.month());
    for _ in 0..months {
        month = month.previous();
        if month == time::Month::December {
            year -= 1;
        }
    }
    let day = date.day().min(month.length(year));
    Date::from_calendar_date(year, month, day).unwrap_or(date)
}

/// `2026-11-22`.
impl fmt::Display for BillDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl FromStr for BillDay {
    type Err = time::error::Parse;

    fn from_str(text: &str) -> Result<BillDay, time::error::Parse> {
        Date::parse(text, FORMAT).map(BillDay)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn day(text: &str) -> BillDay {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_is_shanghais() {
        assert_eq!(BillDay::of(datetime!(2026-11-22 15:59:59.999 UTC)), day("2026-11-22"));
        assert_eq!(BillDay::of(datetime!(2026-11-22 16:00 UTC)), day("2026-11-23"));
        assert_eq!(day("2026-11-22").start(), datetime!(2026-11-21 16:00 UTC));
        assert_eq!(day("2026-11-22").end(), day("2026-11-23").start());
        assert_eq!(day("2026-03-01").plus(-1).to_string(), "2026-02-28");
    }

    #[test]
    fn a_bill_can_be_had_from_ten_in_the_morning() {
        let wanted = day("2026-11-22");
        assert_eq!(wanted.check(datetime!(2026-11-23 10:00 +8)), Ok(()));
        let early = datetime!(2026-11-23 09:59:59 +8);
        let refused = wanted.check(early).unwrap_err();
        assert_eq!(refused.to_string(), "the bill of 2026-11-22 can be had from 2026-11-23T10:00:00+08:00");
        assert_eq!(BillDay::newest(early), day("2026-11-21"));
        assert_eq!(BillDay::newest(datetime!(2026-11-23 10:00 +8)), wanted);
        assert_eq!(BillDay::newest(datetime!(2026-11-23 23:59 +8)), wanted);
    }

    #[test]
    fn and_for_three_months() {
        let now = datetime!(2026-05-31 12:00 +8);
        assert_eq!(day("2026-02-28").check(now), Ok(()));
        let refused = day("2026-02-27").check(now).unwrap_err();
        assert!(refused.to_string().contains("the oldest is that of 2026-02-28"), "{refused}");
        assert_eq!(day("2025-11-28").check(datetime!(2026-02-28 12:00 +8)), Ok(()));
        assert_eq!(months_before(day("2026-01-31").0, 3), day("2025-10-31").0);
    }

    #[test]
    fn only_a_calendar_day_is_one() {
        for text in ["", "2026-02-30", "2026-2-3", "20260203", "2026-02-03 ", "yesterday"] {
            assert!(text.parse::<BillDay>().is_err(), "{text}");
        }
    }
}
