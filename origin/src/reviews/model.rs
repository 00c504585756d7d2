//! Where a review stands, and how its author is named.

use crate::wechat::text_check::Suggestion;

/// Where a review stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// WeChat has not been heard yet.
    InCheck = 0,
    Shown = 1,
    Refused = 2,
    /// A person is to decide.
    ByHand = 3,
}

impl Status {
    pub const ALL: [Status; 4] = [Status::InCheck, Status::Shown, Status::Refused, Status::ByHand];

    pub const fn number(self) -> u8 {
        match self {
            Status::InCheck => 0,
            Status::Shown => 1,
            Status::Refused => 2,
            Status::ByHand => 3,
        }
    }

    pub fn from_number(number: u8) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.number() == number)
    }

    /// As its author reads it.
    pub const fn text(self) -> &'static str {
        match self {
            Status::InCheck | Status::ByHand => "审核中",
            Status::Shown => "已展示",
            Status::Refused => "未通过审核",
        }
    }

    /// As an operator reads it.
    pub const fn name(self) -> &'static str {
        match self {
            Status::InCheck => "in check",
            Status::Shown => "shown",
            Status::Refused => "refused",
            Status::ByHand => "by hand",
        }
    }

    /// Where a new review stands. WeChat's text check sees no pictures, and stars alone say nothing to be checked.
    pub fn at_first(content: &str, images: usize) -> Status {
        match (content.is_empty(), images) {
            (_, 1..) => Status::ByHand,
            (true, 0) => Status::Shown,
            (false, 0) => Status::InCheck,
        }
    }

    pub const fn of_suggestion(suggestion: Suggestion) -> Status {
        match suggestion {
            Suggestion::Pass => Status::Shown,
            Suggestion::Review => Status::ByHand,
            Suggestion::Risky => Status::Refused,
        }
    }
}

/// The name that stands over a review. Of a nickname, which nobody has checked and which may change, it is the beginning.
pub fn author(nickname: &str, is_anonymous: bool) -> String {
    match (nickname.chars().next(), is_anonymous) {
        (_, true) => "匿名用户".to_owned(),
        (None, false) => "微信用户".to_owned(),
        (Some(first), false) => format!("{first}***"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_shown_that_nobody_looked_at() {
        assert_eq!(Status::at_first("好吃", 0), Status::InCheck);
        assert_eq!(Status::at_first("好吃", 1), Status::ByHand);
        assert_eq!(Status::at_first("", 1), Status::ByHand);
        assert_eq!(Status::at_first("", 0), Status::Shown);
        for status in Status::ALL {
            assert_eq!(Status::from_number(status.number()), Some(status));
        }
        assert_eq!(Status::from_number(4), None);
    }

    #[test]
    fn of_a_nickname_its_beginning_is_shown_and_of_an_anonymous_author_nothing() {
        assert_eq!(author("果园小王", false), "果***");
        assert_eq!(author("果园小王", true), "匿名用户");
        assert_eq!((author("", true).as_str(), author("", false).as_str()), ("匿名用户", "微信用户"));
    }
}
