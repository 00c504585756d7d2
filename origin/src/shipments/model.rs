//! The ways in which an order can go out, and what each must say.

use farmgate_shared::api::shipments::ShipmentKind;
use serde::{Deserialize, Serialize};

/// How an order goes out, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    Express {
        /// WeChat's code of the company, in capitals.
        company: String,
        tracking_no: String,
    },
    City(Courier),
    PickUp,
}

/// Who brings an order within the city.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Courier {
    pub name: String,
    pub phone: Option<String>,
}

/// What is wrong with a shipment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WayError {
    #[error("an express company is WeChat's code of it, as SF or ZTO: 1 to 32 letters, digits, - or _")]
    Company,
    #[error("a parcel's number has 4 to 64 letters, digits or -")]
    TrackingNo,
    #[error("a courier's name has 1 to 30 characters")]
    Courier,
    #[error("a courier's phone number has 5 to 20 digits or -")]
    Phone,
}

const COMPANY_LENGTH: std::ops::RangeInclusive<usize> = 1..=32;
const NUMBER_LENGTH: std::ops::RangeInclusive<usize> = 4..=64;
const NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=30;
const PHONE_LENGTH: std::ops::RangeInclusive<usize> = 5..=20;

/// The company that asks for a phone number with each parcel.
const SHUNFENG: &str = "SF";

impl Way {
    /// With an express company.
    ///
    /// # Errors
    /// [`WayError`].
    pub fn express(company: &str, tracking_no: &str) -> Result<Way, WayError> {
        let company = company.trim().to_ascii_uppercase();
        let is_code = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !COMPANY_LENGTH.contains(&company.len()) || !company.bytes().all(is_code) {
            return Err(WayError::Company);
        }
        Ok(Way::Express { company, tracking_no: parcel_number(tracking_no)? })
    }

    /// By a courier within the city.
    ///
    /// # Errors
    /// [`WayError`].
    pub fn city(name: &str, phone: Option<&str>) -> Result<Way, WayError> {
        let name = name.trim();
        if !NAME_CHARS.contains(&name.chars().count()) || name.chars().any(char::is_control) {
            return Err(WayError::Courier);
        }
        let is_digit = |byte: u8| byte.is_ascii_digit() || byte == b'-';
        let phone = phone.map(str::trim);
        if phone.is_some_and(|phone| !PHONE_LENGTH.contains(&phone.len()) || !phone.bytes().all(is_digit)) {
            return Err(WayError::Phone);
        }
        Ok(Way::City(Courier { name: name.to_owned(), phone: phone.map(str::to_owned) }))
    }

    pub const fn kind(&self) -> ShipmentKind {
        match self {
            Way::Express { .. } => ShipmentKind::Express,
            Way::City(_) => ShipmentKind::City,
            Way::PickUp => ShipmentKind::PickUp,
        }
    }

    /// Whether WeChat wants a phone number beside the parcel's.
    pub fn needs_contact(&self) -> bool {
        matches!(self, Way::Express { company, .. } if company == SHUNFENG)
    }
}

/// A parcel's number as it is kept: without the spaces that come with a copied one.
///
/// # Errors
/// [`WayError::TrackingNo`].
pub fn parcel_number(text: &str) -> Result<String, WayError> {
    let number: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let is_number = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if NUMBER_LENGTH.contains(&number.len()) && number.bytes().all(is_number) {
        Ok(number)
    } else {
        Err(WayError::TrackingNo)
    }
}

/// WeChat's number of a kind, which is also the database's.
pub const fn number(kind: ShipmentKind) -> u8 {
    match kind {
        ShipmentKind::Express => 1,
        ShipmentKind::City => 2,
        ShipmentKind::PickUp => 4,
    }
}

/// The name of an express company, of those that carry nearly everything.
pub fn company_name(code: &str) -> Option<&'static str> {
    Some(match code {
        "SF" => "顺丰速运",
        "ZTO" => "中通快递",
        "YTO" => "圆通速递",
        "YD" => "韵达速递",
        "STO" => "申通快递",
        "JTSD" => "极兔速递",
        "JD" => "京东快递",
        "EMS" => "EMS",
        "YZPY" => "邮政快递包裹",
        "DBL" => "德邦快递",
        "HHTT" => "天天快递",
        "HTKY" => "百世快递",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_has_a_company_and_a_number() {
        let way = Way::express(" sf ", "SF 1234 5678 90").unwrap();
        assert_eq!(way, Way::Express { company: "SF".into(), tracking_no: "SF1234567890".into() });
        assert!(way.needs_contact());
        assert!(!Way::express("ZTO", "7800-1").unwrap().needs_contact());
        for company in ["", " ", "顺丰", "S F", "S'F", &"A".repeat(33)] {
            assert_eq!(Way::express(company, "SF1234"), Err(WayError::Company), "{company}");
        }
        for number in ["", "123", "单号1234", "12_34", "1234;", &"1".repeat(65)] {
            assert_eq!(Way::express("SF", number), Err(WayError::TrackingNo), "{number}");
        }
    }

    #[test]
    fn a_courier_has_a_name_and_perhaps_a_phone() {
        let courier = Courier { name: "张师傅".into(), phone: Some("0535-1234567".into()) };
        assert_eq!(Way::city(" 张师傅 ", Some("0535-1234567")), Ok(Way::City(courier)));
        assert!(Way::city("张师傅", None).is_ok());
        for name in ["", " ", "张\n师傅", &"张".repeat(31)] {
            assert_eq!(Way::city(name, None), Err(WayError::Courier), "{name}");
        }
        for phone in ["", "1234", "电话13800000000", "+86 138", &"1".repeat(21)] {
            assert_eq!(Way::city("张师傅", Some(phone)), Err(WayError::Phone), "{phone}");
        }
    }
}
