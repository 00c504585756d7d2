//! The products in each order that a list can have, arranged once a version, whole and by category: a page is a slice,
//! and the last page costs what the first does.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

use farmgate_shared::api::catalog::ProductSort;
use farmgate_shared::ids::CategoryId;

use super::bigrams::Marks;

/// What products are arranged by.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    pub id: i64,
    pub category: CategoryId,
    /// Fen.
    pub price: i64,
}

#[derive(Debug, Default)]
pub struct Arrangement {
    products: u32,
    /// The shopkeeper's order needs none: it is how the products are numbered.
    by_price: Box<[u32]>,
    by_price_down: Box<[u32]>,
    newest: Box<[u32]>,
    categories: HashMap<CategoryId, Range<u32>>,
    /// The products of each category, in each of the four orders.
    grouped: Box<[u32]>,
    grouped_by_price: Box<[u32]>,
    grouped_by_price_down: Box<[u32]>,
    grouped_newest: Box<[u32]>,
}

/// Where a page begins and how long it may be.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub offset: usize,
    pub size: usize,
}

impl Arrangement {
    /// The products `0..products` in the shopkeeper's order.
    pub fn new(products: u32, traits: impl Fn(u32) -> Traits) -> Arrangement {
        // Sorting is stable: equals stay in the shopkeeper's order.
        let sorted = |sort: &dyn Fn(&mut Vec<u32>)| {
            let mut rows: Vec<u32> = (0..products).collect();
            sort(&mut rows);
            rows.into_boxed_slice()
        };
        let by_price = sorted(&|rows| rows.sort_by_key(|row| traits(*row).price));
        let by_price_down = sorted(&|rows| rows.sort_by_key(|row| Reverse(traits(*row).price)));
        let newest = sorted(&|rows| rows.sort_by_key(|row| Reverse(traits(*row).id)));
        let grouped = sorted(&|rows| rows.sort_by_key(|row| traits(*row).category));
        let mut categories: HashMap<CategoryId, Range<u32>> = HashMap::new();
        for (at, row) in (0..).zip(&grouped) {
            categories.entry(traits(*row).category).or_insert(at..at).end = at + 1;
        }
        let group = |rows: &[u32]| {
            let mut rows = rows.to_vec();
            rows.sort_by_key(|row| traits(*row).category);
            rows.into_boxed_slice()
        };
        Arrangement {
            products,
            grouped_by_price: group(&by_price),
            grouped_by_price_down: group(&by_price_down),
            grouped_newest: group(&newest),
            by_price,
            by_price_down,
            newest,
            categories,
            grouped,
        }
    }

    /// How many products a category has.
    pub fn count_of(&self, category: CategoryId) -> u64 {
        self.categories.get(&category).map_or(0, |range| u64::from(range.end - range.start))
    }

    /// One page of all products or of a category's, and how many there are on all pages.
    pub fn page(&self, category: Option<CategoryId>, sort: ProductSort, window: Window) -> (Vec<u32>, usize) {
        let Some(category) = category else {
            let total = self.products as usize;
            return match self.whole(sort) {
                Some(rows) => (rows.iter().copied().skip(window.offset).take(window.size).collect(), total),
                None => ((0..self.products).skip(window.offset).take(window.size).collect(), total),
            };
        };
        let Some(range) = self.categories.get(&category) else { return (Vec::new(), 0) };
        let rows = match sort {
            ProductSort::Default => &self.grouped,
            ProductSort::PriceAsc => &self.grouped_by_price,
            ProductSort::PriceDesc => &self.grouped_by_price_down,
            ProductSort::Newest => &self.grouped_newest,
        };
        let rows = rows.get(range.start as usize..range.end as usize).unwrap_or_default();
        (rows.iter().copied().skip(window.offset).take(window.size).collect(), rows.len())
    }

    /// One page of `found`, which is ascending.
    pub fn page_of(
        &self,
        found: Vec<u32>,
        sort: ProductSort,
        window: Window,
        traits: impl Fn(u32) -> Traits,
    ) -> Vec<u32> {
        let Some(whole) = self.whole(sort) else {
            return found.into_iter().skip(window.offset).take(window.size).collect();
        };
        // Sorting n of N costs about n·log n; walking all N in order costs N.
        let steps = found.len().saturating_mul(found.len().checked_ilog2().unwrap_or(0) as usize);
        if steps < whole.len() {
            let mut found = found;
            match sort {
                ProductSort::Default => {}
                ProductSort::PriceAsc => found.sort_by_key(|row| traits(*row).price),
                ProductSort::PriceDesc => found.sort_by_key(|row| Reverse(traits(*row).price)),
                ProductSort::Newest => found.sort_by_key(|row| Reverse(traits(*row).id)),
            }
            return found.into_iter().skip(window.offset).take(window.size).collect();
        }
        let mut marks = Marks::new(self.products);
        marks.set_all(found.into_iter());
        whole
            .iter()
            .copied()
            .filter(|row| marks.contains(*row))
            .skip(window.offset)
            .take(window.size)
            .collect()
    }

    fn whole(&self, sort: ProductSort) -> Option<&[u32]> {
        match sort {
            ProductSort::Default => None,
            ProductSort::PriceAsc => Some(&self.by_price),
            ProductSort::PriceDesc => Some(&self.by_price_down),
            ProductSort::Newest => Some(&self.newest),
        }
    }
}
