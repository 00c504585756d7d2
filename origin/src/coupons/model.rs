//! What a coupon takes off, in whole fen. Promises that a discount is never more than the goods it is for, never leaves
//! less than WeChat's 1 fen to pay, is rounded in the shopper's favour, and is shared out to the lines to the last fen.

use farmgate_shared::api::coupons::CouponStatus;
use farmgate_shared::ids::{CategoryId, OrderId, ProductId};
use farmgate_shared::money::Fen;
use time::{Duration, OffsetDateTime};

/// How a coupon reduces the goods in its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    Amount(Fen),
    /// `off` is 1 to 99.
    Percent {
        off: u32,
        cap: Fen,
    },
}

/// Which goods count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Shop,
    Category(CategoryId),
    Product(ProductId),
}

/// What a coupon is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub reduction: Reduction,
    /// The goods in scope must come to this.
    pub threshold: Fen,
    pub scope: Scope,
}

/// A line of an order as a coupon sees it.
#[derive(Clone, Copy, Debug)]
pub struct Goods {
    pub product_id: ProductId,
    pub category_id: CategoryId,
    /// Price times quantity, not negative.
    pub amount: Fen,
}

/// What is taken off an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discount {
    pub total: Fen,
    /// Each line's share, in the lines' order; they add up to `total`.
    pub shares: Vec<Fen>,
}

impl Scope {
    fn covers(self, goods: &Goods) -> bool {
        match self {
            Scope::Shop => true,
            Scope::Category(category) => goods.category_id == category,
            Scope::Product(product) => goods.product_id == product,
        }
    }
}

impl Terms {
    /// What is taken off an order of these goods that costs `payable`, delivery included, without a coupon. `None` when
    /// the coupon is not for this order: nothing in its scope, less than its threshold, or not a fen to take off.
    pub fn discount(&self, goods: &[Goods], payable: Fen) -> Option<Discount> {
        let covered: Vec<Fen> = goods
            .iter()
            .map(|goods| if self.scope.covers(goods) { goods.amount } else { Fen::ZERO })
            .collect();
        let in_scope = Fen::checked_sum(covered.iter().copied())?;
        if in_scope < self.threshold {
            return None;
        }
        let wished = match self.reduction {
            Reduction::Amount(amount) => amount,
            Reduction::Percent { off, cap } => percent_of(in_scope, off)?.min(cap),
        };
        let total = wished.min(in_scope).min(payable.checked_sub(Fen(1))?);
        if total <= Fen::ZERO {
            return None;
        }
        Some(Discount { total, shares: allocate(total, &covered)? })
    }
}

/// Per cent of an amount, a started fen counted as a whole one: the shopper's favour.
fn percent_of(amount: Fen, off: u32) -> Option<Fen> {
    let hundredths = i128::from(amount.0) * i128::from(off);
    i64::try_from((hundredths + 99) / 100).ok().map(Fen)
}

/// Shares `discount` out in proportion to the amounts. Each share is rounded down first; the fen that are left go to the
/// largest remainders, the earlier line first among equals. The shares add up to `discount`, and none is above its
/// amount. `None` when the discount is negative or more than the amounts together.
fn allocate(discount: Fen, amounts: &[Fen]) -> Option<Vec<Fen>> {
    let whole: i128 = amounts.iter().map(|amount| i128::from(amount.0)).sum();
    let discount = i128::from(discount.0);
    if discount < 0 || discount > whole || amounts.iter().any(|amount| *amount < Fen::ZERO) {
        return None;
    }
    // With nothing to take off, every share is 0 whatever it is divided by.
    let divisor = whole.max(1);
    let mut shares: Vec<i128> =
        amounts.iter().map(|amount| discount * i128::from(amount.0) / divisor).collect();
    let mut by_remainder: Vec<usize> = (0..amounts.len()).collect();
    let remainder = |line: &usize| amounts.get(*line).map(|amount| discount * i128::from(amount.0) % divisor);
    by_remainder.sort_by_key(|line| std::cmp::Reverse(remainder(line)));
    let mut left = discount - shares.iter().sum::<i128>();
    for line in by_remainder {
        if left == 0 {
            break;
        }
        *shares.get_mut(line)? += 1;
        left -= 1;
    }
    shares.into_iter().map(|share| i64::try_from(share).ok().map(Fen)).collect()
}

/// When a claimed coupon can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Fixed {
        from: OffsetDateTime,
        until: OffsetDateTime,
    },
    /// From the claim on.
    Days(u32),
}

impl Validity {
    /// From when until when a coupon that is claimed `now` can be used.
    pub fn once_claimed(self, now: OffsetDateTime) -> (OffsetDateTime, OffsetDateTime) {
        match self {
            Validity::Fixed { from, until } => (from, until),
            Validity::Days(days) => (now, now.saturating_add(Duration::days(i64::from(days)))),
        }
    }
}

/// Whether a coupon can still be spent.
pub fn status(order: Option<OrderId>, valid_until: OffsetDateTime, now: OffsetDateTime) -> CouponStatus {
    match order {
        Some(_) => CouponStatus::Used,
        None if valid_until > now => CouponStatus::Unused,
        None => CouponStatus::Expired,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn goods(lines: &[(i64, i64, i64)]) -> Vec<Goods> {
        lines
            .iter()
            .map(|(product, category, amount)| Goods {
                product_id: ProductId(*product),
                category_id: CategoryId(*category),
                amount: Fen(*amount),
            })
            .collect()
    }

    fn terms(reduction: Reduction, threshold: i64, scope: Scope) -> Terms {
        Terms { reduction, threshold: Fen(threshold), scope }
    }

    /// What is taken off, and off which line.
    fn taken(terms: Terms, lines: &[(i64, i64, i64)], delivery: i64) -> Option<(i64, Vec<i64>)> {
        let goods = goods(lines);
        let payable = goods.iter().map(|goods| goods.amount.0).sum::<i64>() + delivery;
        let discount = terms.discount(&goods, Fen(payable))?;
        Some((discount.total.0, discount.shares.iter().map(|share| share.0).collect()))
    }

    #[test]
    fn an_amount_is_taken_off_from_its_threshold_on() {
        let five = terms(Reduction::Amount(Fen(500)), 3000, Scope::Shop);
        assert_eq!(taken(five, &[(1, 1, 3000)], 800), Some((500, vec![500])));
        assert_eq!(taken(five, &[(1, 1, 2999)], 800), None, "delivery does not count");
        assert_eq!(taken(five, &[(1, 1, 1000), (2, 1, 2000)], 0), Some((500, vec![167, 333])));
    }

    #[test]
    fn only_goods_in_scope_count_and_are_reduced() {
        let fruit = terms(Reduction::Amount(Fen(500)), 1000, Scope::Category(CategoryId(1)));
        assert_eq!(taken(fruit, &[(1, 1, 1000), (2, 2, 9000)], 0), Some((500, vec![500, 0])));
        assert_eq!(taken(fruit, &[(1, 1, 999), (2, 2, 9000)], 0), None);
        let apple = terms(Reduction::Amount(Fen(500)), 0, Scope::Product(ProductId(2)));
        assert_eq!(taken(apple, &[(1, 1, 1000), (2, 2, 300)], 0), Some((300, vec![0, 300])));
        assert_eq!(taken(apple, &[(1, 1, 1000)], 0), None, "nothing in scope");
    }

    #[test]
    fn a_started_fen_is_the_shoppers_and_the_cap_holds() {
        let tenth = |cap| terms(Reduction::Percent { off: 10, cap: Fen(cap) }, 0, Scope::Shop);
        assert_eq!(taken(tenth(5000), &[(1, 1, 1581)], 0), Some((159, vec![159])));
        assert_eq!(taken(tenth(5000), &[(1, 1, 1580)], 0), Some((158, vec![158])));
        assert_eq!(taken(tenth(100), &[(1, 1, 1581)], 0), Some((100, vec![100])));
    }

    #[test]
    fn one_fen_is_left_to_pay() {
        let all = terms(Reduction::Amount(Fen(10_000)), 0, Scope::Shop);
        assert_eq!(taken(all, &[(1, 1, 1580)], 0), Some((1579, vec![1579])));
        assert_eq!(taken(all, &[(1, 1, 1580)], 800), Some((1580, vec![1580])), "delivery is paid");
        assert_eq!(taken(all, &[(1, 1, 1)], 0), None, "nothing can be taken off one fen");
    }

    #[test]
    fn validity_runs_from_the_claim_or_is_fixed() {
        let now = datetime!(2026-11-22 08:00 UTC);
        let (from, until) = (datetime!(2026-12-01 0:00 UTC), datetime!(2026-12-08 0:00 UTC));
        assert_eq!(Validity::Fixed { from, until }.once_claimed(now), (from, until));
        assert_eq!(Validity::Days(7).once_claimed(now), (now, datetime!(2026-11-29 08:00 UTC)));
        assert_eq!(status(None, until, now), CouponStatus::Unused);
        assert_eq!(status(None, now, now), CouponStatus::Expired);
        assert_eq!(status(Some(OrderId(1)), now, now), CouponStatus::Used);
    }

    /// Lines as orders have them, some free, and some that only a forger would send.
    fn any_amounts() -> impl Strategy<Value = Vec<i64>> {
        vec(prop_oneof![Just(0), 1..10_i64, 0..100_000_i64, 0..=9_999_999_999_i64], 1..50)
    }

    fn any_reduction() -> impl Strategy<Value = Reduction> {
        prop_oneof![
            (1..20_000_i64).prop_map(|amount| Reduction::Amount(Fen(amount))),
            (1..=i64::MAX).prop_map(|amount| Reduction::Amount(Fen(amount))),
            (1..=99_u32, 1..20_000_i64).prop_map(|(off, cap)| Reduction::Percent { off, cap: Fen(cap) }),
            (1..=99_u32, 1..=i64::MAX).prop_map(|(off, cap)| Reduction::Percent { off, cap: Fen(cap) }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn shares_add_up_and_stay_within_their_lines(amounts in any_amounts(), part in 0.0..=1.0_f64) {
            let whole: i64 = amounts.iter().sum();
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // any part will do
            let discount = ((whole as f64 * part) as i64).min(whole);
            let lines: Vec<Fen> = amounts.iter().copied().map(Fen).collect();
            let shares = allocate(Fen(discount), &lines).unwrap();
            prop_assert_eq!(shares.len(), lines.len());
            prop_assert_eq!(shares.iter().map(|share| share.0).sum::<i64>(), discount);
            for (share, amount) in shares.iter().zip(&lines) {
                prop_assert!(Fen::ZERO <= *share && share <= amount);
                // Within a fen of the exact proportion.
                let exact = i128::from(discount) * i128::from(amount.0);
                let off = (i128::from(share.0) * i128::from(whole) - exact).abs();
                prop_assert!(off < i128::from(whole.max(1)), "{:?} of {:?}", share, amount);
            }
            prop_assert_eq!(allocate(Fen(whole + 1), &lines), None);
            prop_assert_eq!(allocate(Fen(-1), &lines), None);
        }

        #[test]
        fn a_discount_keeps_its_terms(
            amounts in any_amounts(), reduction in any_reduction(), scope in 0..4_i64,
            threshold in prop_oneof![Just(0), 0..50_000_i64], delivery in prop_oneof![Just(0), Just(800)],
        ) {
            // Products 1, 2, 3, 1, … in categories of the same numbers; 0 is the whole shop.
            let lines: Vec<(i64, i64, i64)> =
                amounts.iter().zip((1..=3).cycle()).map(|(amount, id)| (id, id, *amount)).collect();
            let goods = goods(&lines);
            let in_scope = |goods: &Goods| scope == 0 || goods.product_id.0 == scope;
            let total: i64 = amounts.iter().sum();
            let covered: i64 = goods.iter().filter(|goods| in_scope(goods)).map(|goods| goods.amount.0).sum();
            let scopes = if scope == 0 {
                vec![Scope::Shop]
            } else {
                vec![Scope::Category(CategoryId(scope)), Scope::Product(ProductId(scope))]
            };
            let payable = total + delivery;
            let wished = match reduction {
                Reduction::Amount(amount) => i128::from(amount.0),
                Reduction::Percent { off, cap } => {
                    let exact = i128::from(covered) * i128::from(off);
                    (exact / 100 + i128::from(exact % 100 != 0)).min(i128::from(cap.0))
                }
            };
            let expected = wished.min(i128::from(covered)).min(i128::from(payable) - 1);
            for scope in scopes {
                let discount = terms(reduction, threshold, scope).discount(&goods, Fen(payable));
                if covered < threshold || expected < 1 {
                    prop_assert_eq!(discount, None);
                    continue;
                }
                let discount = discount.unwrap();
                prop_assert_eq!(i128::from(discount.total.0), expected);
                prop_assert_eq!(discount.shares.iter().map(|share| share.0).sum::<i64>(), discount.total.0);
                for (share, goods) in discount.shares.iter().zip(&goods) {
                    prop_assert!(in_scope(goods) || *share == Fen::ZERO);
                    prop_assert!(Fen::ZERO <= *share && *share <= goods.amount);
                }
            }
        }
    }
}
