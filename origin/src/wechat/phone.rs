//! The number of the shopper's phone, which WeChat vouches for. Paid per call.

use serde::{Deserialize, Serialize};

use super::mini::{MiniError, MiniProgram};

/// A telephone number: digits alone.
#[derive(Clone, PartialEq, Eq)]
pub struct PhoneNumber {
    country: String,
    number: String,
}

/// Shows the masked form.
impl std::fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.masked())
    }
}

const CHINA: &str = "86";

impl PhoneNumber {
    /// A number without its country's code (digits), and that code.
    pub fn new(country: &str, number: &str) -> Option<PhoneNumber> {
        let digits = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
            lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        // E.164: at most 15 digits in all. The shortest national numbers have 4 or 5.
        let fits = digits(country, 1..=3) && digits(number, 4..=15 - country.len());
        fits.then(|| PhoneNumber { country: country.to_owned(), number: number.to_owned() })
    }

    /// A mainland number, or `+<country>-<number>`: as an operator types it.
    pub fn parse(text: &str) -> Option<PhoneNumber> {
        match text.strip_prefix('+') {
            Some(foreign) => foreign.split_once('-').and_then(|(country, number)| Self::new(country, number)),
            None => Self::new(CHINA, text),
        }
    }

    /// The one spelling of it: `+8613800000000`.
    pub fn international(&self) -> String {
        format!("+{}{}", self.country, self.number)
    }

    /// Enough for its owner to know it by: `138****0000`, `+852 61****67`. Of a mainland mobile number the last four digits stay,
    /// which is how WeChat and express companies take it.
    pub fn masked(&self) -> String {
        let (head, tail) = match self.number.len() {
            11.. => (3, 4),
            8..=10 => (2, 2),
            _ => (0, 2),
        };
        let show = |range: std::ops::Range<usize>| self.number.get(range).unwrap_or_default();
        let end = self.number.len();
        let country = if self.country == CHINA { String::new() } else { format!("+{} ", self.country) };
        format!("{country}{}****{}", show(0..head), show(end - tail..end))
    }
}

#[derive(Serialize)]
struct Call<'a> {
    code: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    phone_info: PhoneInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PhoneInfo {
    pure_phone_number: String,
    country_code: CountryCode,
}

/// Comes in both forms.
#[derive(Deserialize)]
#[serde(untagged)]
enum CountryCode {
    Text(String),
    Number(u32),
}

impl Answer {
    fn number(&self) -> Option<PhoneNumber> {
        let country = match &self.phone_info.country_code {
            CountryCode::Text(text) => text.trim_start_matches('+').to_owned(),
            CountryCode::Number(number) => number.to_string(),
        };
        PhoneNumber::new(&country, &self.phone_info.pure_phone_number)
    }
}

impl MiniProgram {
    /// Exchanges a code of `getPhoneNumber`, which works once and for five minutes.
    ///
    /// # Errors
    /// [`MiniError`]; 40029 for a code that is wrong, used or too old.
    pub async fn phone_number(&self, code: &str) -> Result<PhoneNumber, MiniError> {
        let answer: Answer = self.post("/wxa/business/getuserphonenumber", &Call { code }).await?;
        answer.number().ok_or_else(|| MiniError::Malformed("no telephone number".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<PhoneNumber> {
        serde_json::from_str::<Answer>(json).unwrap().number()
    }

    #[test]
    fn the_country_comes_as_text_and_as_a_number() {
        for country in [r#""86""#, "86", r#""+86""#] {
            let json = format!(
                r#"{{"phone_info":{{"phoneNumber":"13800000000","purePhoneNumber":"13800000000","countryCode":{country}}}}}"#
            );
            assert_eq!(read(&json).unwrap().international(), "+8613800000000", "{country}");
        }
        for (number, country) in
            [("", "86"), ("138 0000", "86"), ("13800000000", ""), ("1380000000000000", "1")]
        {
            let json =
                format!(r#"{{"phone_info":{{"purePhoneNumber":"{number}","countryCode":"{country}"}}}}"#);
            assert_eq!(read(&json), None, "{number} {country}");
        }
    }

    #[test]
    fn a_masked_number_keeps_its_middle_to_itself() {
        let masked = |text: &str| PhoneNumber::parse(text).unwrap().masked();
        assert_eq!(masked("13812345678"), "138****5678");
        assert_eq!(masked("+852-61234567"), "+852 61****67");
        assert_eq!(masked("+354-41234"), "+354 ****34");
        assert_eq!(format!("{:?}", PhoneNumber::parse("13812345678").unwrap()), "138****5678");
        for odd in ["", "138", "+852", "+-1", "1381234567a", "+85261234567"] {
            assert_eq!(PhoneNumber::parse(odd), None, "{odd}");
        }
    }
}
