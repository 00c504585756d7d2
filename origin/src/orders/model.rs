//! The states of an order and the one table of how they follow each other; the number of an order; its sums.

use std::sync::atomic::{AtomicU64, Ordering};

use farmgate_shared::ids::OrderNo;
use farmgate_shared::money::Fen;
use time::OffsetDateTime;

use crate::catalog::offers::Offer;
use crate::clock::SHANGHAI;
use crate::stock::model::Shift;

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

    /// What an order that becomes `next` does to its goods' stock: the only place that says so. Of a refund, this is the state
    /// before it.
    pub const fn shift(self, next: Status) -> Option<Shift> {
        match (self, next) {
            (Status::AwaitingPayment, Status::Paid) => Some(Shift::Sell),
            (Status::AwaitingPayment, Status::Cancelled) => Some(Shift::Release),
            // What was shipped does not come back by itself.
            (Status::Paid, Status::Refunded) => Some(Shift::TakeBack),
            _ => None,
        }
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

/// Draws the numbers of orders: the day and the millisecond in Shanghai, then six digits. Promises that this process
/// draws each number once; another replica may draw the same in the same millisecond, which is told when it is written.
#[derive(Debug, Default)]
pub struct OrderNumbers {
    /// The last one: milliseconds since 1970 times a million, plus the six digits.
    last: AtomicU64,
}

const DIGITS: u64 = 1_000_000;

impl OrderNumbers {
    /// A number for an order made at `now`. `random` is any number; its last six digits are used where no number of that
    /// millisecond was drawn yet, and the next number in line elsewhere, also after the clock was put back.
    pub fn draw(&self, now: OffsetDateTime, random: u32) -> OrderNo {
        let milliseconds = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let wanted = milliseconds.saturating_mul(DIGITS) + u64::from(random) % DIGITS;
        let next = |last: u64| Some(wanted.max(last + 1));
        let last =
            self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|last| last);
        spell(wanted.max(last + 1))
    }
}

fn spell(number: u64) -> OrderNo {
    let nanoseconds = i128::from(number / DIGITS) * 1_000_000;
    // No clock of ours reaches the years that do not fit.
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let local = moment.to_offset(SHANGHAI);
    let year = u32::try_from(local.year()).unwrap_or(0);
    let day = year * 10_000 + u32::from(u8::from(local.month())) * 100 + u32::from(local.day());
    let (hours, minutes, seconds, milliseconds) = local.to_hms_milli();
    let seconds = (u32::from(hours) * 60 + u32::from(minutes)) * 60 + u32::from(seconds);
    let digits = u32::try_from(number % DIGITS).unwrap_or(0);
    OrderNo::from_parts(day, seconds * 1000 + u32::from(milliseconds), digits)
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
    use farmgate_shared::ids::{CategoryId, ProductId, SkuId};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn offer(price: i64, quantity: u32) -> Offer {
        Offer {
            sku_id: SkuId(1),
            product_id: ProductId(1),
            category_id: CategoryId(1),
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
        let number = OrderNumbers::default().draw(datetime!(2023-11-30 16:00:00.001 UTC), 7);
        assert_eq!(number.as_str(), "2023120100000001000007");
    }

    #[test]
    fn no_order_number_is_drawn_twice() {
        let (numbers, noon) = (OrderNumbers::default(), datetime!(2023-12-01 04:00:00 UTC));
        let draw = |moment, random| numbers.draw(moment, random).to_string();
        assert_eq!(draw(noon, 5), "2023120143200000000005");
        assert_eq!(draw(noon, 5), "2023120143200000000006", "the same millisecond and digits");
        assert_eq!(draw(noon, 999_999), "2023120143200000999999");
        assert_eq!(draw(noon, 1), "2023120143200001000000", "the millisecond is used up");
        assert_eq!(
            draw(noon - time::Duration::hours(1), 1),
            "2023120143200001000001",
            "the clock was put back"
        );
        assert_eq!(draw(noon + time::Duration::SECOND, 7), "2023120143201000000007");
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

    /// Every state that a new order can come to.
    fn reachable() -> Vec<Status> {
        let mut found = vec![Status::AwaitingPayment];
        let mut next = 0;
        while let Some(status) = found.get(next).copied() {
            let new: Vec<Status> =
                status.followers().iter().copied().filter(|status| !found.contains(status)).collect();
            found.extend(new);
            next += 1;
        }
        found
    }

    #[test]
    fn every_state_can_be_reached_and_the_first_never_comes_back() {
        let reachable = reachable();
        for status in Status::ALL {
            assert!(reachable.contains(&status), "nothing leads to {status:?}");
            assert!(!status.may_become(Status::AwaitingPayment), "{status:?}");
        }
    }

    /// A row of `stock` with its CHECKs.
    #[derive(Clone, Copy, Debug)]
    struct Row {
        total: i64,
        available: i64,
        held: i64,
        sold: i64,
    }

    impl Row {
        fn apply(&mut self, shift: Shift, quantity: u32) -> Result<(), TestCaseError> {
            let change = shift.of(quantity);
            self.available += change.available;
            self.held += change.held;
            self.sold += change.sold;
            prop_assert!(self.available >= 0 && self.held >= 0 && self.sold >= 0, "{:?}", self);
            prop_assert_eq!(self.available + self.held + self.sold, self.total);
            Ok(())
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// I1 and I2 in miniature: however orders for one SKU go their ways, the row's columns are theirs.
        #[test]
        fn whatever_way_orders_go_the_stock_is_theirs(
            total in 0..2000_u32, quantities in vec(1..=999_u32, 1..8), steps in vec((0..8_usize, 0..8_usize), 0..60),
        ) {
            let total = i64::from(total);
            let mut row = Row { total, available: total, held: 0, sold: 0 };
            // State, quantity, and whether it left the farm.
            let mut orders: Vec<(Status, u32, bool)> = Vec::new();
            for quantity in quantities {
                // The guard of `stock::store::shift`.
                if row.available >= i64::from(quantity) {
                    row.apply(Shift::Hold, quantity)?;
                    orders.push((Status::AwaitingPayment, quantity, false));
                }
            }
            for (order, way) in steps {
                let count = orders.len().max(1);
                let Some((status, quantity, is_shipped)) = orders.get_mut(order % count) else { continue };
                let followers = status.followers();
                let Some(next) = followers.get(way % followers.len().max(1)).copied() else {
                    prop_assert!(matches!(status, Status::Cancelled | Status::Refunded));
                    continue;
                };
                // What is refunding goes back to what it was; the walk may not make it one that was never shipped.
                if *is_shipped && next == Status::Paid {
                    continue;
                }
                let before = match *status {
                    Status::Refunding if *is_shipped => Status::Shipped,
                    Status::Refunding => Status::Paid,
                    other => other,
                };
                if let Some(shift) = before.shift(next) {
                    row.apply(shift, *quantity)?;
                }
                *is_shipped |= matches!(next, Status::Shipped | Status::Completed);
                *status = next;
                let sum = |is_counted: fn(Status, bool) -> bool| -> i64 {
                    let counted = orders.iter().filter(|(status, _, is_shipped)| is_counted(*status, *is_shipped));
                    counted.map(|(_, quantity, _)| i64::from(*quantity)).sum()
                };
                prop_assert_eq!(row.held, sum(|status, _| status == Status::AwaitingPayment));
                let is_free = |status, is_shipped: bool| match status {
                    Status::AwaitingPayment | Status::Cancelled => true,
                    Status::Refunded => !is_shipped,
                    _ => false,
                };
                prop_assert_eq!(row.sold, sum(|_, _| true) - sum(is_free));
            }
        }

        #[test]
        fn a_walk_never_leaves_an_end_and_never_forgets_a_payment(ways in vec(0..8_usize, 0..40)) {
            let mut walk = vec![Status::AwaitingPayment];
            for way in ways {
                let status = walk[walk.len() - 1];
                let may: Vec<Status> = Status::ALL.into_iter().filter(|next| status.may_become(*next)).collect();
                prop_assert!(may.iter().all(|next| status.followers().contains(next)));
                let Some(next) = may.get(way % may.len().max(1)) else { break };
                walk.push(*next);
            }
            let ends = walk.iter().filter(|status| status.followers().is_empty()).count();
            prop_assert!(ends == 0 || (ends == 1 && walk[walk.len() - 1].followers().is_empty()), "{:?}", walk);
            if let Some(paid) = walk.iter().position(|status| *status == Status::Paid) {
                let after = &walk[paid..];
                prop_assert!(!after.contains(&Status::Cancelled) && !after.contains(&Status::AwaitingPayment), "{:?}", walk);
            }
        }

        #[test]
        fn sums_are_exact_or_refused(
            lines in vec((prop_oneof![0..=MOST.0, 0..100_000_i64, 0..=i64::MAX], 1..=999_u32), 1..50),
            discount in prop_oneof![Just(0), 0..10_000_i64, 0..=i64::MAX],
            delivery in prop_oneof![Just(0), Just(800), 0..=i64::MAX],
        ) {
            let offers: Vec<Offer> = lines.iter().map(|(price, quantity)| offer(*price, *quantity)).collect();
            let total: i128 = lines.iter().map(|(price, quantity)| i128::from(*price) * i128::from(*quantity)).sum();
            let actual = total - i128::from(discount) + i128::from(delivery);
            let most = i128::from(MOST.0);
            let fits = total <= most && actual <= most && actual >= 1;
            let sums = Sums::of(&offers, Fen(discount), |_| Fen(delivery));
            prop_assert_eq!(sums.is_some(), fits);
            if let Some(sums) = sums {
                prop_assert_eq!((i128::from(sums.total.0), i128::from(sums.actual.0)), (total, actual));
                prop_assert_eq!((sums.discount, sums.delivery), (Fen(discount), Fen(delivery)));
            }
        }
    }
}
