//! Money. Inside the shop an amount is a whole number of fen; only the wire and the database's DECIMAL columns show
//! yuan. Every operation that can overflow says so instead of wrapping.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount in fen (1 yuan = 100 fen). May be negative where a difference is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = f64, example = 15.8))]
pub struct Fen(pub i64);

impl Fen {
    pub const ZERO: Fen = Fen(0);

    #[must_use]
    pub fn checked_add(self, other: Fen) -> Option<Fen> {
        self.0.checked_add(other.0).map(Fen)
    }

    #[must_use]
    pub fn checked_sub(self, other: Fen) -> Option<Fen> {
        self.0.checked_sub(other.0).map(Fen)
    }

    /// Price times quantity.
    #[must_use]
    pub fn checked_mul(self, quantity: u32) -> Option<Fen> {
        self.0.checked_mul(i64::from(quantity)).map(Fen)
    }

    /// The sum, or `None` when it does not fit.
    #[must_use]
    pub fn checked_sum(amounts: impl IntoIterator<Item = Fen>) -> Option<Fen> {
        amounts.into_iter().try_fold(Fen::ZERO, Fen::checked_add)
    }

    /// Reads yuan with at most two decimals, as in `"15.80"`. No sign but a leading minus, no exponent, no spaces.
    ///
    /// # Errors
    /// [`MoneyError`] for anything else, and for amounts beyond ±92 quadrillion yuan.
    pub fn parse_yuan(text: &str) -> Result<Fen, MoneyError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (yuan, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(yuan) || !all_digits(fraction) || fraction.len() > 2 {
            return Err(MoneyError);
        }
        let yuan: i64 = yuan.parse().map_err(|_| MoneyError)?;
        let fraction_fen: i64 = match fraction.len() {
            1 => fraction.parse::<i64>().map_err(|_| MoneyError)? * 10,
            _ => fraction.parse().map_err(|_| MoneyError)?,
        };
        let fen = yuan.checked_mul(100).and_then(|f| f.checked_add(fraction_fen)).ok_or(MoneyError)?;
        Ok(Fen(if negative { -fen } else { fen }))
    }
}

/// Yuan with two decimals: `15.80`.
impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let fen = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", fen / 100, fen % 100)
    }
}

/// Not an amount of yuan with at most two decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an amount in yuan with at most two decimals")]
pub struct MoneyError;

/// The wire shows a JSON number in yuan (15.8). Division by 100 yields the double nearest to the decimal, whose
/// shortest form has at most two decimals for every amount below 2^46 yuan (70 trillion): there two doubles are less
/// than a fen apart.
impl Serialize for Fen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[allow(clippy::cast_precision_loss)] // exact: no amount here comes near 2^53 fen
        serializer.serialize_f64(self.0 as f64 / 100.0)
    }
}

/// Accepts a JSON number in yuan; a third decimal is refused, not rounded.
impl<'de> Deserialize<'de> for Fen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        Fen::parse_yuan(&number.to_string()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Amounts below this, in fen, are exact on the wire.
    const WIRE_MOST: i64 = (1 << 46) * 100;

    /// `Some` where an i64 can hold it.
    fn fen(exact: i128) -> Option<Fen> {
        i64::try_from(exact).ok().map(Fen)
    }

    fn any_fen() -> impl Strategy<Value = Fen> {
        prop_oneof![any::<i64>(), -100_000..100_000_i64, (i64::MAX - 1000)..=i64::MAX].prop_map(Fen)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_printed_is_read_back(amount in any_fen()) {
            // The one amount whose positive twin does not exist.
            prop_assume!(amount != Fen(i64::MIN));
            prop_assert_eq!(Fen::parse_yuan(&amount.to_string()), Ok(amount));
        }

        #[test]
        fn what_is_read_is_what_the_digits_say(
            negative: bool, yuan in 0..=u64::MAX, decimals in prop_oneof![Just(None), (1..=3_usize).prop_map(Some)],
            fraction in 0..1000_u32,
        ) {
            let digits = decimals.map(|count| format!("{fraction:03}")[..count].to_owned());
            let sign = if negative { "-" } else { "" };
            let text = digits.as_ref().map_or_else(|| format!("{sign}{yuan}"), |digits| format!("{sign}{yuan}.{digits}"));
            let cents = match digits.as_deref() {
                None => Some(0),
                Some(digits) if digits.len() <= 2 => format!("{digits:0<2}").parse::<i128>().ok(),
                Some(_) => None,
            };
            let exact = cents.map(|cents| i128::from(yuan) * 100 + cents).and_then(fen);
            let expected = exact.map(|amount| Fen(if negative { -amount.0 } else { amount.0 })).ok_or(MoneyError);
            prop_assert_eq!(Fen::parse_yuan(&text), expected, "{}", text);
        }

        #[test]
        fn arithmetic_is_exact_or_none(a in any_fen(), b in any_fen(), quantity: u32) {
            prop_assert_eq!(a.checked_add(b), fen(i128::from(a.0) + i128::from(b.0)));
            prop_assert_eq!(a.checked_sub(b), fen(i128::from(a.0) - i128::from(b.0)));
            prop_assert_eq!(a.checked_mul(quantity), fen(i128::from(a.0) * i128::from(quantity)));
        }

        #[test]
        fn a_sum_is_exact_or_none(amounts in proptest::collection::vec(prop_oneof![0..=i64::MAX, 0..1_000_000_i64], 0..20)) {
            let exact = amounts.iter().copied().map(i128::from).sum();
            prop_assert_eq!(Fen::checked_sum(amounts.into_iter().map(Fen)), fen(exact));
        }

        #[test]
        fn the_wire_shows_two_decimals_at_most_and_is_read_back(
            amount in prop_oneof![-WIRE_MOST..=WIRE_MOST, -1_000_000..1_000_000_i64, (WIRE_MOST - 1000)..=WIRE_MOST],
        ) {
            let json = serde_json::to_string(&Fen(amount)).unwrap();
            let decimals = json.split_once('.').map_or("", |(_, decimals)| decimals);
            prop_assert!(decimals.len() <= 2 && decimals.bytes().all(|b| b.is_ascii_digit()), "{}", json);
            prop_assert_eq!(serde_json::from_str::<Fen>(&json).unwrap(), Fen(amount), "{}", json);
        }

        #[test]
        fn a_third_decimal_is_refused_on_the_wire(yuan in 0..1_000_000_000_u32, thousandths in 0..1000_u32) {
            prop_assume!(thousandths % 10 != 0);
            let json = format!("{yuan}.{thousandths:03}");
            prop_assert!(serde_json::from_str::<Fen>(&json).is_err(), "{}", json);
        }
    }

    #[test]
    fn yuan_is_read_exactly_or_refused() {
        for (text, fen) in
            [("15.80", 1580), ("15.8", 1580), ("0", 0), ("0.01", 1), ("-3.05", -305), ("20", 2000)]
        {
            assert_eq!(Fen::parse_yuan(text), Ok(Fen(fen)), "{text}");
        }
        for text in ["", "-", "1.", ".5", "1.005", "1e3", " 1", "+1", "1,5", "99999999999999999999"] {
            assert_eq!(Fen::parse_yuan(text), Err(MoneyError), "{text}");
        }
    }

    #[test]
    fn every_small_amount_survives_the_wire() {
        for fen in (0..200_000).chain([9_999_999_999, 99_999_999_999]) {
            let json = serde_json::to_string(&Fen(fen)).unwrap();
            assert!(json.split('.').nth(1).is_none_or(|decimals| decimals.len() <= 2), "{json}");
            assert_eq!(serde_json::from_str::<Fen>(&json).unwrap(), Fen(fen));
        }
    }

    #[test]
    fn display_pads_the_fen() {
        assert_eq!(Fen(1580).to_string(), "15.80");
        assert_eq!(Fen(-5).to_string(), "-0.05");
    }

    #[test]
    fn arithmetic_that_does_not_fit_is_none() {
        assert_eq!(Fen(i64::MAX).checked_add(Fen(1)), None);
        assert_eq!(Fen(i64::MAX).checked_mul(2), None);
        assert_eq!(Fen::checked_sum([Fen(i64::MAX), Fen(1)]), None);
        assert_eq!(Fen(1580).checked_mul(2), Some(Fen(3160)));
    }
}
