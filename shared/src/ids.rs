//! Ids as types, so that a user's id cannot be passed where an order's is meant. All are the database's positive
//! BIGINT keys, but for [`OrderNo`], which people read aloud and WeChat uses as `out_trade_no`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                // Only plain digits: i64's own parser would take "+1" and "-1" too.
                if text.is_empty() || text.len() > 19 || !text.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(IdError);
                }
                match text.parse() {
                    Ok(id) if id > 0 => Ok($name(id)),
                    _ => Err(IdError),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match i64::deserialize(deserializer)? {
                    id if id > 0 => Ok($name(id)),
                    _ => Err(de::Error::custom(IdError)),
                }
            }
        }
    };
}

id!(/// A row of `users`.
    UserId);
id!(/// A row of `products`.
    ProductId);
id!(/// A row of `product_skus`: what is sold and counted.
    SkuId);
id!(/// A row of `categories`.
    CategoryId);
id!(/// A row of `addresses`.
    AddressId);
id!(/// A row of `orders`.
    OrderId);
id!(/// A row of `user_coupons`: a coupon that a shopper holds.
    CouponId);
id!(/// A row of `coupons`: what shoppers can claim.
    CouponIssueId);
id!(/// A row of `reviews`.
    ReviewId);

/// Not a positive whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a positive whole number")]
pub struct IdError;

/// The number of an order: 22 digits, the day in Shanghai first, as in `2023120100000012345678`. Also WeChat's
/// `out_trade_no` (6 to 32 characters).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = "2023120100000012345678"))]
pub struct OrderNo(String);

impl OrderNo {
    /// Builds one from its parts: the calendar day in Shanghai (`yyyymmdd`), the millisecond of that day, and six
    /// digits. The database's unique key has the last word; a clash is retried with another number.
    #[must_use]
    pub fn from_parts(day: u32, millisecond_of_day: u32, digits: u32) -> OrderNo {
        OrderNo(format!(
            "{:08}{:08}{:06}",
            day % 100_000_000,
            millisecond_of_day % 100_000_000,
            digits % 1_000_000
        ))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OrderNo {
    type Err = OrderNoError;

    fn from_str(text: &str) -> Result<Self, OrderNoError> {
        let fits = (6..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if fits { Ok(OrderNo(text.to_owned())) } else { Err(OrderNoError) }
    }
}

impl fmt::Display for OrderNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for OrderNo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for OrderNo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Not the number of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order number has 6 to 32 digits")]
pub struct OrderNoError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_plain_positive_digits() {
        assert_eq!("12".parse(), Ok(UserId(12)));
        for text in ["", "0", "-1", "+1", "1.0", " 1", "9223372036854775808", "1e3", "一"] {
            assert_eq!(text.parse::<UserId>(), Err(IdError), "{text}");
        }
        assert!(serde_json::from_str::<SkuId>("0").is_err());
        assert!(serde_json::from_str::<SkuId>("\"1\"").is_err());
    }

    #[test]
    fn an_order_number_fits_wechat_and_the_seed() {
        let number = OrderNo::from_parts(20_231_201, 86_399_999, 999_999);
        assert_eq!(number.as_str(), "2023120186399999999999");
        assert_eq!(number.as_str().parse(), Ok(number.clone()));
        assert!("20231201abc".parse::<OrderNo>().is_err());
    }
}
