//! The states of an order and the one table of how they follow each other; the number of an order; its sums.

use farmgate_shared::ids::OrderNo;
use farmgate_shared::money::Fen;
use time::OffsetDateTime;

use crate::catalog::service::Offer;
use crate::clock::SHANGHAI;

/// The state of an order, with the number that the database and the wire use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    AwaitingPayment = 0,
    Paid = 1,
    Shipped = 2,
    Completed = 3,
    Cancelled = 4,
    Refunding = 5,
    Refunded = 6,
}

impl Status {
    pub const ALL: [Status; 7] = [
        Status::AwaitingPayment,
        Status::Paid,
        Status::Shipped,
        Status::Completed,
        Status::Cancelled,
        Status::Refunding,
        Status::Refunded,
    ];

    /// The states that may follow this one: the only place that says so.
    pub const fn followers(self) -> &'static [Status] {
        match self {
            Status::AwaitingPayment => &[Status::Paid, Status::Cancelled],
            Status::Paid => &[Status::Shipped, Status::Refunding],
            Status::Shipped => &[Status::Completed, Status::Refunding],
            Status::Completed => &[Status::Refunding],
            // A refund that WeChat closed leaves the order as it was; one that failed is tried again.
            Status::Refunding => &[Status::Refunded, Status::Paid, Status::Shipped, Status::Completed],
            Status::Cancelled | Status::Refunded => &[],
        }
    }

    pub fn may_become(self, next: Status) -> bool {
        self.followers().contains(&next)
    }

    /// The state behind a database value; `None` when it is none.
    pub fn from_number(number: i8) -> Option<Status> {
        Status::ALL.into_iter().find(|status| i8::try_from(status.number()) == Ok(number))
    }

    pub const fn number(self) -> u8 {
        self as u8
    }

    /// As a shopper reads it.
    pub const fn text(self) -> &'static str {
        match self {
            Status::AwaitingPayment => "待付款",
            Status::Paid => "待发货",
            Status::Shipped => "待收货",
            Status::Completed => "已完成",
            Status::Cancelled => "已取消",
            Status::Refunding => "退款中",
            Status::Refunded => "已退款",
        }
    }
}

/// A fresh number for an order made at `now`. `random` is any number; its last six digits are used.
pub fn order_no(now: OffsetDateTime, random: u32) -> OrderNo {
    let local = now.to_offset(SHANGHAI);
    let year = u32::try_from(local.year()).unwrap_or(0);
    let day = year * 10_000 + u32::from(u8::from(local.month())) * 100 + u32::from(local.day());
    let (hours, minutes, seconds, milliseconds) = local.to_hms_milli();
    let seconds = (u32::from(hours) * 60 + u32::from(minutes)) * 60 + u32::from(seconds);
    OrderNo::from_parts(day, seconds * 1000 + u32::from(milliseconds), random)
}

/// What an order comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// The goods.
    pub total: Fen,
    pub discount: Fen,
    pub delivery: Fen,
    /// What is to be paid: `total - discount + delivery`.
    pub actual: Fen,
}

/// The largest order that the DECIMAL(10,2) columns and WeChat take, in fen.
const MOST: Fen = Fen(9_999_999_999);

impl Sums {
    /// Adds up an order; `None` when it is more than the books can hold.
    pub fn of(offers: &[Offer], discount: Fen, delivery: impl FnOnce(Fen) -> Fen) -> Option<Sums> {
        let amounts: Option<Vec<Fen>> = offers.iter().map(line_amount).collect();
        let total = Fen::checked_sum(amounts?)?;
        let delivery = delivery(total);
        let actual = total.checked_sub(discount)?.checked_add(delivery)?;
        (total <= MOST && actual <= MOST && actual > Fen::ZERO).then_some(Sums {
            total,
            discount,
            delivery,
            actual,
        })
    }
}

/// Price times quantity.
pub fn line_amount(offer: &Offer) -> Option<Fen> {
    offer.price.checked_mul(offer.quantity.get())
}

#[cfg(test)]
mod tests {
    use farmgate_shared::api::orders::Quantity;
    use farmgate_shared::ids::{ProductId, SkuId};
    use time::macros::datetime;

    use super::*;

    fn offer(price: i64, quantity: u32) -> Offer {
        Offer {
            sku_id: SkuId(1),
            product_id: ProductId(1),
            name: "红富士苹果".into(),
            image: String::new(),
            specifications: String::new(),
            price: Fen(price),
            quantity: Quantity::new(quantity).unwrap(),
        }
    }

    #[test]
    fn the_end_states_are_ends_and_all_others_go_on() {
        for status in Status::ALL {
            let is_end = matches!(status, Status::Cancelled | Status::Refunded);
            assert_eq!(status.followers().is_empty(), is_end, "{status:?}");
            assert!(!status.may_become(status), "{status:?} must change something");
            assert_eq!(Status::from_number(i8::try_from(status.number()).unwrap()), Some(status));
        }
        assert_eq!(Status::from_number(7), None);
        assert_eq!(Status::from_number(-1), None);
    }

    #[test]
    fn only_an_unpaid_order_can_be_cancelled_and_only_it_can_be_paid() {
        for status in Status::ALL {
            assert_eq!(status.may_become(Status::Cancelled), status == Status::AwaitingPayment);
            let may_be_paid = matches!(status, Status::AwaitingPayment | Status::Refunding);
            assert_eq!(status.may_become(Status::Paid), may_be_paid);
        }
    }

    #[test]
    fn an_order_number_starts_with_the_day_in_shanghai() {
        let number = order_no(datetime!(2023-11-30 16:00:00.001 UTC), 7);
        assert_eq!(number.as_str(), "2023120100000001000007");
    }

    #[test]
    fn sums_add_up_or_are_refused() {
        let sums = Sums::of(&[offer(1580, 2)], Fen::ZERO, |_| Fen(800)).unwrap();
        assert_eq!(
            sums,
            Sums { total: Fen(3160), discount: Fen::ZERO, delivery: Fen(800), actual: Fen(3960) }
        );
        assert_eq!(Sums::of(&[offer(i64::MAX, 2)], Fen::ZERO, |_| Fen::ZERO), None);
        assert_eq!(Sums::of(&[offer(9_999_999_999, 2)], Fen::ZERO, |_| Fen::ZERO), None);
        assert_eq!(Sums::of(&[offer(100, 1)], Fen(100), |_| Fen::ZERO), None, "WeChat takes 1 fen at least");
    }
}
