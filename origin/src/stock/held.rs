//! What the gate holds: for each order that is being made, when its goods were taken and which. Promises to read what
//! `take.lua` writes: milliseconds since 1970, the request, then a stock key and a quantity for each line, with blanks between.

use std::collections::{HashMap, HashSet};

use farmgate_shared::ids::{OrderNo, SkuId};

/// The gate at one moment.
#[derive(Debug)]
pub struct Levels {
    shown: HashMap<SkuId, i64>,
    /// By SKU: order number and quantity.
    held: HashMap<SkuId, Vec<(String, i64)>>,
    orders: Vec<String>,
    mends: i64,
}

impl Levels {
    /// `shown` is what stands under each SKU's key, if anything does; `holds` are the texts by order number; `mends` is how
    /// often levels were moved to MySQL's.
    pub fn new(
        shown: &[(SkuId, String, Option<String>)],
        holds: HashMap<String, String>,
        mends: i64,
    ) -> Levels {
        let sku_of: HashMap<&str, SkuId> = shown.iter().map(|(sku, key, _)| (key.as_str(), *sku)).collect();
        let mut held: HashMap<SkuId, Vec<(String, i64)>> = HashMap::new();
        for (order, hold) in &holds {
            for (key, quantity) in lines(hold) {
                if let Some(sku) = sku_of.get(key) {
                    held.entry(*sku).or_default().push((order.clone(), quantity));
                }
            }
        }
        let level = |(sku, _, level): &(SkuId, String, Option<String>)| Some((*sku, whole(level.as_ref()?)?));
        let orders = holds.into_keys().collect();
        Levels { shown: shown.iter().filter_map(level).collect(), held, orders, mends }
    }

    /// What the gate shows of a SKU; `None` when it does not know it.
    pub fn shown(&self, sku: SkuId) -> Option<i64> {
        self.shown.get(&sku).copied()
    }

    /// The numbers of all orders that have a hold.
    pub fn orders(&self) -> &[String] {
        &self.orders
    }

    /// How often levels were moved to MySQL's in the life of this Redis.
    pub fn mends(&self) -> i64 {
        self.mends
    }

    /// What is held of a SKU for orders that are not among `made`.
    pub fn held_for_orders_other_than(&self, sku: SkuId, made: &HashSet<String>) -> i64 {
        let holds = self.held.get(&sku).map_or(&[][..], Vec::as_slice);
        holds.iter().filter(|(order, _)| !made.contains(order)).map(|(_, quantity)| quantity).sum()
    }
}

/// The orders whose goods were taken before a moment (milliseconds since 1970), the oldest first and at most so many.
pub fn taken_before(moment_ms: i64, most: usize, holds: HashMap<String, String>) -> Vec<OrderNo> {
    let mut old: Vec<(i64, OrderNo)> = holds
        .into_iter()
        .filter_map(|(order, hold)| Some((taken_ms(&hold)?, order.parse().ok()?)))
        .filter(|(taken_ms, _)| *taken_ms < moment_ms)
        .collect();
    old.sort_unstable_by_key(|(taken_ms, _)| *taken_ms);
    old.into_iter().take(most).map(|(_, order)| order).collect()
}

/// What the scripts take for a level; they let orders go by MySQL alone where anything else stands.
fn whole(level: &str) -> Option<i64> {
    let number: i64 = level.parse().ok()?;
    (level.len() < 16 && level == number.to_string()).then_some(number)
}

fn taken_ms(hold: &str) -> Option<i64> {
    hold.split(' ').next()?.parse().ok()
}

/// Stock key and quantity of each line.
fn lines(hold: &str) -> impl Iterator<Item = (&str, i64)> {
    let mut words = hold.split(' ').skip(2);
    std::iter::from_fn(move || Some((words.next()?, words.next()?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds() -> HashMap<String, String> {
        let hold = |number: u32, text: &str| (format!("20261123000000000000{number:02}"), text.to_owned());
        HashMap::from([
            hold(1, "1763880000000 5:key-1 shop:stock:7 2 shop:stock:8 1"),
            hold(2, "1763880000500 6:key-1 shop:stock:7 5"),
            hold(3, "1763879999000 5:key-2 shop:stock:9 1"),
        ])
    }

    #[test]
    fn what_is_held_for_an_order_is_counted_by_sku() {
        let shown =
            |sku, level: Option<&str>| (SkuId(sku), format!("shop:stock:{sku}"), level.map(str::to_owned));
        let levels = Levels::new(&[shown(7, Some("40")), shown(8, None)], holds(), 0);
        assert_eq!(
            (levels.shown(SkuId(7)), levels.shown(SkuId(8)), levels.orders().len()),
            (Some(40), None, 3)
        );
        let made = HashSet::from(["2026112300000000000002".to_owned()]);
        assert_eq!(levels.held_for_orders_other_than(SkuId(7), &HashSet::new()), 7);
        assert_eq!(levels.held_for_orders_other_than(SkuId(7), &made), 2);
        assert_eq!(levels.held_for_orders_other_than(SkuId(8), &made), 1);
    }

    #[test]
    fn only_what_the_scripts_take_for_a_level_is_one() {
        for (text, level) in [("0", Some(0)), ("-3", Some(-3)), ("120", Some(120))] {
            assert_eq!(whole(text), level);
        }
        for text in ["", "abc", "1.5", "1e3", "+5", "007", "-0", "1234567890123456"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn the_oldest_holds_come_first() {
        let numbers = |moment_ms, most| -> Vec<String> {
            taken_before(moment_ms, most, holds()).iter().map(ToString::to_string).collect()
        };
        assert_eq!(numbers(1_763_880_000_500, 9), ["2026112300000000000003", "2026112300000000000001"]);
        assert_eq!(numbers(1_763_880_000_500, 1), ["2026112300000000000003"]);
        assert!(numbers(1_763_879_999_000, 9).is_empty());
    }
}
