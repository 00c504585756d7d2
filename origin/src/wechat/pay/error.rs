//! Why a call to WeChat Pay brought nothing, and what its caller may do about it. Promises one variant for every code that
//! WeChat documents, whichever of its two spellings arrives, and one place that says which may be repeated.

use std::fmt;

use serde::Deserialize;

use crate::text::cut;
use crate::wechat::platform::VerifyError;
use crate::wechat::sign::SignError;
use crate::wechat::skew::ClockSkew;

/// What a stranger wrote goes to the log at most this long.
const LONGEST_CODE: usize = 64;

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// No host answered in time. What was asked may have been done all the same.
    #[error("WeChat Pay could not be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("WeChat Pay refused: {status} {code}: {message}")]
    Refused { status: u16, code: Refusal, message: String },
    /// Nothing is concluded from it: what was asked may have been done.
    #[error("WeChat Pay's reply is not believed")]
    Unverified(#[source] VerifyError),
    /// WeChat refuses our signatures, or we refuse WeChat's, until the clock is set right.
    #[error("{0}: set this machine's clock, signatures are refused from 300 seconds on")]
    ClockOff(ClockSkew),
    #[error("WeChat Pay's reply has another form")]
    Malformed(#[source] serde_json::Error),
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<VerifyError> for PayError {
    fn from(error: VerifyError) -> PayError {
        match error {
            VerifyError::Skewed(skew) => PayError::ClockOff(skew),
            error => PayError::Unverified(error),
        }
    }
}

impl PayError {
    /// What the caller may do.
    pub fn advice(&self) -> Advice {
        match self {
            PayError::Unreachable(_) => Advice::RepeatSame,
            PayError::Refused { code, .. } => code.advice(),
            PayError::Unverified(_) | PayError::Malformed(_) => Advice::QueryFirst,
            PayError::ClockOff(_) | PayError::Sign(_) => Advice::FixSettings,
        }
    }

    /// Whether WeChat cannot be talked to now, whatever it is asked: a job does better to stop than to ask for the next order.
    pub fn is_outage(&self) -> bool {
        match self {
            PayError::Unreachable(_) | PayError::ClockOff(_) | PayError::Unverified(_) => true,
            PayError::Refused { code, .. } => {
                matches!(code.advice(), Advice::RepeatSame | Advice::BackOff) || *code == Refusal::SignError
            }
            PayError::Malformed(_) | PayError::Sign(_) => false,
        }
    }
}

/// What a caller may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Make the same call again, to the byte.
    RepeatSame,
    /// The same, but only after a pause that grows.
    BackOff,
    /// Ask WeChat what it knows before anything else is done.
    QueryFirst,
    /// The shop's settings, keys or clock are wrong, or its request is: repeating cannot help.
    FixSettings,
    /// When the merchant's account has money again, the same call with the same number.
    TopUpAndRepeat,
    /// Only a person can go on, outside this system.
    ByHand,
    /// It is so. Whether that is good or bad is the caller's to know.
    TakeAsAnswer,
}

/// WeChat's error codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    ParamError,
    InvalidRequest,
    AppidMchidNotMatch,
    MchNotExists,
    SignError,
    NoAuth,
    /// The number was asked for before, with other parameters.
    OutTradeNoUsed,
    FrequencyLimited,
    SystemError,
    BankError,
    OrderPaid,
    OrderClosed,
    /// No prepay of this number ever arrived.
    OrderUnknown,
    /// What the path names is not there: a refund, say.
    ResourceUnknown,
    /// The merchant's balance does not cover a refund.
    NotEnough,
    UserAccountAbnormal,
    /// The payer's account, the amount or the merchant's contract forbids the trade.
    TradeError,
    RuleLimit,
    /// There is no bill of that day, because nothing was sold or not yet.
    NoStatementExist,
    StatementCreating,
    /// A 5xx without a code of WeChat's: from a gateway in front of it.
    Gateway,
    /// A code that would settle something, in a reply that WeChat did not sign.
    Unsigned(String),
    Other(String),
}

const SPELLINGS: [(Refusal, &str); 20] = [
    (Refusal::ParamError, "PARAM_ERROR"),
    (Refusal::InvalidRequest, "INVALID_REQUEST"),
    (Refusal::AppidMchidNotMatch, "APPID_MCHID_NOT_MATCH"),
    (Refusal::MchNotExists, "MCH_NOT_EXISTS"),
    (Refusal::SignError, "SIGN_ERROR"),
    (Refusal::NoAuth, "NO_AUTH"),
    (Refusal::OutTradeNoUsed, "OUT_TRADE_NO_USED"),
    (Refusal::FrequencyLimited, "FREQUENCY_LIMITED"),
    (Refusal::SystemError, "SYSTEM_ERROR"),
    (Refusal::BankError, "BANK_ERROR"),
    (Refusal::OrderPaid, "ORDER_PAID"),
    (Refusal::OrderClosed, "ORDER_CLOSED"),
    (Refusal::OrderUnknown, "ORDER_NOT_EXIST"),
    (Refusal::ResourceUnknown, "RESOURCE_NOT_EXISTS"),
    (Refusal::NotEnough, "NOT_ENOUGH"),
    (Refusal::UserAccountAbnormal, "USER_ACCOUNT_ABNORMAL"),
    (Refusal::TradeError, "TRADE_ERROR"),
    (Refusal::RuleLimit, "RULE_LIMIT"),
    (Refusal::NoStatementExist, "NO_STATEMENT_EXIST"),
    (Refusal::StatementCreating, "STATEMENT_CREATING"),
];

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Gateway => f.write_str("without a code"),
            Refusal::Unsigned(code) => write!(f, "{code}, unsigned"),
            Refusal::Other(code) => f.write_str(code),
            known => {
                let spelling = SPELLINGS.iter().find(|(refusal, _)| refusal == known);
                f.write_str(spelling.map_or("", |(_, spelling)| spelling))
            }
        }
    }
}

impl Refusal {
    /// The code of a reply with this status; `believed` when WeChat signed it. An unsigned one settles nothing: what comes
    /// unsigned by rule (a signature that WeChat refuses) or asks for patience only is taken, the rest is not.
    pub(super) fn read(status: u16, code: &str, believed: bool) -> Refusal {
        let refusal = Refusal::known(status, code);
        let needs_no_signature = matches!(refusal, Refusal::SignError)
            || matches!(refusal.advice(), Advice::RepeatSame | Advice::BackOff);
        if believed || needs_no_signature { refusal } else { Refusal::Unsigned(cut(code, LONGEST_CODE)) }
    }

    fn known(status: u16, code: &str) -> Refusal {
        let plain = |code: &str| code.replace('_', "").to_ascii_uppercase();
        let wanted = plain(code);
        // Older interfaces write the plural too.
        let wanted = match wanted.as_str() {
            "ORDERNOTEXISTS" => "ORDERNOTEXIST",
            "RESOURCENOTEXIST" => "RESOURCENOTEXISTS",
            "FREQUENCYLIMITEXCEED" | "FREQUENCYLIMIT" => "FREQUENCYLIMITED",
            other => other,
        };
        match SPELLINGS.iter().find(|(_, spelling)| plain(spelling) == wanted) {
            Some((refusal, _)) => refusal.clone(),
            None if status == 429 => Refusal::FrequencyLimited,
            None if status >= 500 => Refusal::Gateway,
            None => Refusal::Other(cut(code, LONGEST_CODE)),
        }
    }

    /// What the caller may do.
    pub fn advice(&self) -> Advice {
        match self {
            Refusal::SystemError | Refusal::BankError | Refusal::Gateway => Advice::RepeatSame,
            Refusal::FrequencyLimited | Refusal::StatementCreating => Advice::BackOff,
            Refusal::OutTradeNoUsed | Refusal::OrderPaid | Refusal::Unsigned(_) => Advice::QueryFirst,
            Refusal::ParamError
            | Refusal::InvalidRequest
            | Refusal::AppidMchidNotMatch
            | Refusal::MchNotExists
            | Refusal::SignError
            | Refusal::NoAuth => Advice::FixSettings,
            Refusal::NotEnough => Advice::TopUpAndRepeat,
            Refusal::UserAccountAbnormal | Refusal::TradeError | Refusal::RuleLimit | Refusal::Other(_) => {
                Advice::ByHand
            }
            Refusal::OrderClosed
            | Refusal::OrderUnknown
            | Refusal::ResourceUnknown
            | Refusal::NoStatementExist => Advice::TakeAsAnswer,
        }
    }
}

/// The body of a refusal.
#[derive(Default, Deserialize)]
pub(super) struct RefusalBody {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_code_are_known() {
        for (refusal, spelling) in &SPELLINGS {
            for code in [(*spelling).to_owned(), spelling.replace('_', "")] {
                assert_eq!(Refusal::read(400, &code, true), *refusal, "{code}");
            }
            assert_eq!(refusal.to_string(), *spelling);
        }
        assert_eq!(Refusal::read(404, "ORDER_NOT_EXISTS", true), Refusal::OrderUnknown);
        assert_eq!(Refusal::read(400, "EATEN", true), Refusal::Other("EATEN".into()));
    }

    #[test]
    fn what_passes_by_itself_needs_no_signature_and_what_settles_something_does() {
        for (status, code, refusal) in [
            (500, "SYSTEM_ERROR", Refusal::SystemError),
            (502, "", Refusal::Gateway),
            (503, "EATEN", Refusal::Gateway),
            (429, "FREQUENCY_LIMITED", Refusal::FrequencyLimited),
            (429, "RATELIMIT", Refusal::FrequencyLimited),
            (401, "SIGN_ERROR", Refusal::SignError),
        ] {
            assert_eq!(Refusal::read(status, code, false), refusal);
        }
        for code in ["ORDER_PAID", "ORDER_CLOSED", "ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS", "NOT_ENOUGH"] {
            assert_eq!(Refusal::read(400, code, false), Refusal::Unsigned(code.into()));
        }
        assert_eq!(Refusal::read(400, &"x".repeat(9000), false), Refusal::Unsigned("x".repeat(64)));
    }

    #[test]
    fn each_code_says_what_may_be_done() {
        for (code, advice) in [
            ("SYSTEM_ERROR", Advice::RepeatSame),
            ("FREQUENCY_LIMITED", Advice::BackOff),
            ("OUT_TRADE_NO_USED", Advice::QueryFirst),
            ("ORDERPAID", Advice::QueryFirst),
            ("PARAM_ERROR", Advice::FixSettings),
            ("INVALID_REQUEST", Advice::FixSettings),
            ("APPID_MCHID_NOT_MATCH", Advice::FixSettings),
            ("MCH_NOT_EXISTS", Advice::FixSettings),
            ("SIGN_ERROR", Advice::FixSettings),
            ("NO_AUTH", Advice::FixSettings),
            ("NOTENOUGH", Advice::TopUpAndRepeat),
            ("USER_ACCOUNT_ABNORMAL", Advice::ByHand),
            ("ORDER_CLOSED", Advice::TakeAsAnswer),
        ] {
            assert_eq!(Refusal::read(400, code, true).advice(), advice, "{code}");
        }
    }

    #[test]
    fn a_job_stops_where_the_next_order_would_fare_no_better() {
        let refused = |code: &str| PayError::Refused {
            status: 400,
            code: Refusal::read(400, code, true),
            message: String::new(),
        };
        for code in ["SYSTEM_ERROR", "FREQUENCY_LIMITED", "SIGN_ERROR"] {
            assert!(refused(code).is_outage(), "{code}");
        }
        for code in ["ORDERPAID", "PARAM_ERROR", "ORDER_NOT_EXIST"] {
            assert!(!refused(code).is_outage(), "{code}");
        }
        assert!(PayError::ClockOff(ClockSkew::Behind(600)).is_outage());
        assert!(PayError::ClockOff(ClockSkew::Behind(600)).to_string().contains("600 seconds behind"));
    }
}
