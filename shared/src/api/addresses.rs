//! Delivery addresses.

use garde::Validate;
use serde::{Deserialize, Serialize};

use super::text;
use crate::ids::AddressId;

/// Body of `POST /api/addresses` and `PUT /api/addresses/{id}`.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddressInput {
    /// Who receives the parcel.
    #[garde(custom(text(1, 30)))]
    pub name: String,
    /// A mainland mobile number: 11 digits.
    #[garde(custom(mobile))]
    pub phone: String,
    #[garde(custom(text(1, 30)))]
    pub province: String,
    #[garde(custom(text(1, 30)))]
    pub city: String,
    #[garde(custom(text(1, 30)))]
    pub district: String,
    /// Street, house, room.
    #[garde(custom(text(1, 200)))]
    pub detail: String,
    /// The six-digit code of the district (GB/T 2260), where the client knows it.
    #[serde(default)]
    #[garde(custom(six_digits))]
    pub region_code: Option<String>,
    /// The first address of a shopper is the default whatever this says.
    #[serde(default)]
    #[garde(skip)]
    pub is_default: bool,
}

/// An address as every reply shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Address {
    pub id: AddressId,
    pub name: String,
    pub phone: String,
    pub province: String,
    pub city: String,
    pub district: String,
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_code: Option<String>,
    pub is_default: bool,
}

fn mobile(value: &str, (): &()) -> garde::Result {
    if value.len() == 11 && value.starts_with('1') && value.bytes().all(|b| b.is_ascii_digit()) {
        Ok(())
    } else {
        Err(garde::Error::new("请填写 11 位手机号码"))
    }
}

fn six_digits(value: &Option<String>, (): &()) -> garde::Result {
    match value {
        Some(code) if code.len() != 6 || !code.bytes().all(|b| b.is_ascii_digit()) => {
            Err(garde::Error::new("行政区划代码须为 6 位数字"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_field_is_named_at_once() {
        let input = AddressInput {
            name: " ".into(),
            phone: "23800000000".into(),
            province: "山东省".into(),
            city: "烟台市".into(),
            district: "栖霞市".into(),
            detail: "字".repeat(201),
            region_code: Some("37068".into()),
            is_default: false,
        };
        let report = input.validate().unwrap_err();
        let fields: Vec<String> = report.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(fields, ["detail", "name", "phone", "region_code"]);
    }
}
