//! The stock on a page, apart from the page. Promises that the bytes of a page are the origin's own but for its stock
//! numbers, and that these can be set anew without reading the page again.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use farmgate_shared::api::catalog::{MAX_STOCK_IDS, SkuStock, StockQuery};
use farmgate_shared::ids::{ProductId, SkuId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::Read;

/// A page of one version of the catalogue and where its stock numbers stand.
#[derive(Debug)]
pub struct Overlay {
    /// The page as it was last given.
    bytes: Vec<u8>,
    /// In the order of the page.
    numbers: Vec<Number>,
    version: i64,
    products: Vec<ProductId>,
}

#[derive(Clone, Debug)]
struct Number {
    of: Of,
    shown: i64,
    at: Range<usize>,
}

/// Whose stock a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// All its SKUs together.
    Product(ProductId),
    Sku(SkuId),
}

// The parts of the wire types that say whose stock stands where. The numbers are borrowed from the page's bytes, so
// that their places in it are known.

#[derive(Deserialize)]
struct Body<T> {
    data: T,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    list: Vec<Listed<'a>>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    id: ProductId,
    #[serde(borrow)]
    stock: &'a RawValue,
}

#[derive(Deserialize)]
struct Detail<'a> {
    id: ProductId,
    #[serde(borrow)]
    stock: &'a RawValue,
    #[serde(borrow)]
    skus: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    id: SkuId,
    #[serde(borrow)]
    stock: &'a RawValue,
}

/// The lists of products on the shop's first page, whatever they are called.
#[derive(Deserialize)]
struct Home<'a>(#[serde(borrow)] BTreeMap<&'a str, &'a RawValue>);

/// Every number of a page and its text in it, or `None` when the page is not in the shape of its read.
fn numbers_of<'a>(read: &Read, bytes: &'a [u8]) -> Option<Vec<(Of, &'a RawValue)>> {
    let of_product = |listed: Listed<'a>| (Of::Product(listed.id), listed.stock);
    Some(match read {
        Read::Products(_) => {
            let Body::<List<'a>> { data } = serde_json::from_slice(bytes).ok()?;
            data.list.into_iter().map(of_product).collect()
        }
        Read::Product(_) => {
            let Body::<Detail<'a>> { data } = serde_json::from_slice(bytes).ok()?;
            let own = (Of::Product(data.id), data.stock);
            std::iter::once(own)
                .chain(data.skus.into_iter().map(|sku| (Of::Sku(sku.id), sku.stock)))
                .collect()
        }
        Read::Home => {
            let Body::<Home<'a>> { data } = serde_json::from_slice(bytes).ok()?;
            let lists = data
                .0
                .into_values()
                .filter_map(|part| serde_json::from_str::<Vec<Listed<'a>>>(part.get()).ok());
            lists.flatten().map(of_product).collect()
        }
        Read::Categories | Read::Reviews(..) | Read::Trace(_) | Read::Stock(_) => return None,
    })
}

impl Overlay {
    /// Finds the stock on a page. `None` when there is none, when it is of more products than one question can ask
    /// for, or when the page is not as expected: then the page is good only as a whole.
    #[must_use]
    pub fn find(read: &Read, version: i64, bytes: Vec<u8>) -> Option<Overlay> {
        let start = bytes.as_ptr() as usize;
        let mut numbers = Vec::new();
        let mut products = Vec::new();
        for (of, text) in numbers_of(read, &bytes)? {
            let text = text.get();
            let at = (text.as_ptr() as usize).checked_sub(start)?;
            numbers.push(Number { of, shown: text.parse().ok()?, at: at..at + text.len() });
            if let Of::Product(id) = of {
                products.push(id);
            }
        }
        numbers.sort_unstable_by_key(|number| number.at.start);
        products.sort_unstable();
        products.dedup();
        let is_askable = !products.is_empty() && products.len() <= MAX_STOCK_IDS;
        is_askable.then_some(Overlay { bytes, numbers, version, products })
    }

    /// The version of the catalogue that the page is of.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The question whose answer [`Overlay::set`] takes.
    #[must_use]
    pub fn question(&self) -> StockQuery {
        StockQuery::Products(self.products.clone())
    }

    /// The page as it was last given.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets the numbers to what the origin said of all SKUs of the page's products; says whether any changed. What it
    /// said nothing of stays as it is.
    pub fn set(&mut self, stocks: &[SkuStock]) -> bool {
        let mut skus = HashMap::with_capacity(stocks.len());
        let mut products: HashMap<ProductId, i64> = HashMap::new();
        for stock in stocks {
            skus.insert(stock.sku_id, stock.stock);
            let sum = products.entry(stock.product_id).or_default();
            *sum = sum.saturating_add(stock.stock);
        }
        let mut is_changed = false;
        for number in &mut self.numbers {
            let now = match number.of {
                Of::Product(id) => products.get(&id),
                Of::Sku(id) => skus.get(&id),
            };
            if let Some(now) = now.filter(|now| **now != number.shown) {
                number.shown = *now;
                is_changed = true;
            }
        }
        if is_changed {
            self.splice();
        }
        is_changed
    }

    /// Writes the numbers into the bytes.
    fn splice(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 8);
        let mut copied = 0;
        for number in &mut self.numbers {
            bytes.extend_from_slice(self.bytes.get(copied..number.at.start).unwrap_or_default());
            copied = number.at.end;
            let start = bytes.len();
            bytes.extend_from_slice(number.shown.to_string().as_bytes());
            number.at = start..bytes.len();
        }
        bytes.extend_from_slice(self.bytes.get(copied..).unwrap_or_default());
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use farmgate_shared::api::catalog::{Home, ProductDetail, ProductQuery, ProductSummary, Sku};
    use farmgate_shared::api::{Page, Reply};
    use farmgate_shared::ids::CategoryId;
    use farmgate_shared::money::Fen;

    use super::*;

    const DETAIL: Read = Read::Product(ProductId(1));

    fn list() -> Read {
        Read::Products(ProductQuery::default())
    }

    fn summary(id: i64, stock: i64) -> ProductSummary {
        ProductSummary {
            id: ProductId(id),
            name: "红富士 \"stock\":9".into(),
            price: Fen(1580),
            original_price: None,
            images: vec![],
            stock,
            category_id: CategoryId(1),
            unit: "箱".into(),
            origin: "烟台".into(),
            tags: vec!["stock".into()],
        }
    }

    fn detail(stocks: &[i64]) -> ProductDetail {
        let sku = |(index, stock): (i64, &i64)| Sku {
            id: SkuId(10 + index),
            specifications: "5斤装".into(),
            price: Fen(1),
            original_price: None,
            weight_grams: None,
            stock: *stock,
        };
        ProductDetail {
            id: ProductId(1),
            name: "苹果".into(),
            description: "\"stock\": 1".into(),
            price: Fen(1),
            original_price: None,
            images: vec![],
            specifications: String::new(),
            stock: stocks.iter().sum(),
            category_id: CategoryId(1),
            brand: String::new(),
            origin: String::new(),
            unit: String::new(),
            weight_grams: None,
            tags: vec![],
            skus: (0..).zip(stocks).map(sku).collect(),
        }
    }

    fn bytes<T: serde::Serialize>(data: T) -> Vec<u8> {
        serde_json::to_vec(&Reply::new("ok", data)).unwrap()
    }

    fn products(list: Vec<ProductSummary>) -> Vec<u8> {
        bytes(Page { total: 2, page: 1, size: 20, list })
    }

    fn stock(sku: i64, product: i64, stock: i64) -> SkuStock {
        SkuStock { sku_id: SkuId(sku), product_id: ProductId(product), stock }
    }

    #[test]
    fn a_list_with_other_stock_is_what_the_origin_would_have_said() {
        let mut overlay =
            Overlay::find(&list(), 7, products(vec![summary(2, 100), summary(1, 0), summary(3, 5)])).unwrap();
        assert_eq!((overlay.version(), overlay.question().canonical()), (7, "products=1%2C2%2C3".into()));
        assert!(overlay.set(&[stock(20, 2, 4), stock(21, 2, 5), stock(10, 1, 12_345)]));
        let expected = products(vec![summary(2, 9), summary(1, 12_345), summary(3, 5)]);
        assert_eq!(overlay.bytes(), expected);
        assert!(!overlay.set(&[stock(10, 1, 12_345), stock(99, 99, 1)]), "nothing on the page changed");
        assert!(overlay.set(&[stock(10, 1, 0)]), "longer and shorter numbers move those behind them");
        assert_eq!(overlay.bytes(), products(vec![summary(2, 9), summary(1, 0), summary(3, 5)]));
    }

    #[test]
    fn a_product_shows_each_sku_and_their_sum() {
        let mut overlay = Overlay::find(&DETAIL, 1, bytes(detail(&[3, 40]))).unwrap();
        assert_eq!(overlay.question().canonical(), "products=1");
        assert!(overlay.set(&[stock(10, 1, 0), stock(11, 1, 2)]));
        assert_eq!(overlay.bytes(), bytes(detail(&[0, 2])));
    }

    #[test]
    fn the_first_page_has_lists_of_products() {
        let home = |one: i64, two: i64| {
            bytes(Home {
                categories: vec![],
                recommended: vec![summary(1, one), summary(2, two)],
                newest: vec![summary(2, two)],
                on_offer: vec![],
            })
        };
        let mut overlay = Overlay::find(&Read::Home, 1, home(1, 2)).unwrap();
        assert_eq!(overlay.question().canonical(), "products=1%2C2");
        assert!(overlay.set(&[stock(1, 1, 100), stock(2, 2, 0)]));
        assert_eq!(overlay.bytes(), home(100, 0));
    }

    #[test]
    fn a_page_in_another_spelling_keeps_it() {
        let spaced =
            br#"{ "code" : 200, "data": { "stock" :  7 , "skus": [], "id": 1, "new": {"stock": 3} } }"#;
        let mut overlay = Overlay::find(&DETAIL, 1, spaced.to_vec()).unwrap();
        assert!(overlay.set(&[stock(1, 1, 10)]));
        let expected = String::from_utf8_lossy(spaced).replace(":  7 ,", ":  10 ,");
        assert_eq!(String::from_utf8_lossy(overlay.bytes()), expected);
    }

    #[test]
    fn a_page_that_is_not_as_expected_is_good_only_as_a_whole() {
        assert!(Overlay::find(&list(), 1, products(vec![])).is_none(), "no stock");
        assert!(Overlay::find(&Read::Categories, 1, bytes(Vec::<()>::new())).is_none());
        let many = (1..=101).map(|id| summary(id, 1)).collect();
        assert!(Overlay::find(&list(), 1, products(many)).is_none(), "more than one question can ask for");
        for text in [
            "",
            "{}",
            "[1]",
            r#"{"data":{"list":[{"id":1}]}}"#,
            r#"{"data":{"list":[{"id":1,"stock":"5"}]}}"#,
            r#"{"data":{"list":[{"id":1,"stock":1.5}]}}"#,
            r#"{"data":{"list":[{"id":1,"stock":null}]}}"#,
        ] {
            assert!(Overlay::find(&list(), 1, text.as_bytes().to_vec()).is_none(), "{text}");
        }
    }
}
