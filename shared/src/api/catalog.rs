//! The catalogue: lists, a product, categories, stock; and the reading of a list's query, which the edge needs for
//! its cache keys and the origin for its answer.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Paging, read_query};
use crate::ids::{CategoryId, ProductId, SkuId};
use crate::money::Fen;
use crate::problem::FieldProblem;

/// On every reply of the origin to a catalogue read, failures included: the version of the snapshot that it was made
/// from, a decimal `i64`. For the edge alone; it passes the header on to nobody.
pub const HEADER_CATALOG_VERSION: &str = "x-catalog-version";

/// Longest keyword, in characters.
pub const MAX_KEYWORD_CHARS: usize = 50;
/// Most ids in one `GET /api/stock`.
pub const MAX_STOCK_IDS: usize = 100;
/// Most products in each list of the shop's first page.
pub const HOME_PRODUCTS: usize = 10;

/// A product in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProductSummary {
    pub id: ProductId,
    pub name: String,
    /// Yuan; the lowest of its SKUs.
    pub price: Fen,
    /// Yuan; null when it was never dearer.
    pub original_price: Option<Fen>,
    /// Addresses of pictures, the first being the cover.
    pub images: Vec<String>,
    /// What can be ordered now, over all SKUs.
    pub stock: i64,
    pub category_id: CategoryId,
    /// What one of it is: 箱, 斤, 盒 …
    pub unit: String,
    /// Where it grew.
    pub origin: String,
    pub tags: Vec<String>,
}

/// A product on its own page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProductDetail {
    pub id: ProductId,
    pub name: String,
    pub description: String,
    /// Yuan; the lowest of its SKUs.
    pub price: Fen,
    /// Yuan; null when it was never dearer.
    pub original_price: Option<Fen>,
    pub images: Vec<String>,
    /// As a person reads it: size, grade, storage.
    pub specifications: String,
    /// What can be ordered now, over all SKUs.
    pub stock: i64,
    pub category_id: CategoryId,
    pub brand: String,
    pub origin: String,
    pub unit: String,
    /// Grams of one, packed; null when it is not sold by weight.
    pub weight_grams: Option<i64>,
    pub tags: Vec<String>,
    /// At least one; a product without options has one.
    pub skus: Vec<Sku>,
}

/// One choice of a product: what is ordered and counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sku {
    pub id: SkuId,
    /// What tells it from its siblings, for example `5斤装`.
    pub specifications: String,
    /// Yuan.
    pub price: Fen,
    pub original_price: Option<Fen>,
    pub weight_grams: Option<i64>,
    /// What can be ordered now.
    pub stock: i64,
}

/// A category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Category {
    pub id: CategoryId,
    pub name: String,
    /// Address of a picture.
    pub icon: String,
    /// Products on sale in it.
    pub product_count: u64,
}

/// What the shop's first page shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Home {
    pub categories: Vec<Category>,
    /// The first products in the shopkeeper's order.
    pub recommended: Vec<ProductSummary>,
    /// Those listed last, the latest first.
    pub newest: Vec<ProductSummary>,
    /// Those that were dearer, in the shopkeeper's order.
    pub on_offer: Vec<ProductSummary>,
}

/// What can be ordered of one SKU now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SkuStock {
    pub sku_id: SkuId,
    pub product_id: ProductId,
    pub stock: i64,
}

/// The order of a list of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProductSort {
    /// As the shopkeeper arranged them.
    #[default]
    Default,
    PriceAsc,
    PriceDesc,
    Newest,
}

impl ProductSort {
    const NAMES: [(&'static str, ProductSort); 4] = [
        ("default", ProductSort::Default),
        ("price_asc", ProductSort::PriceAsc),
        ("price_desc", ProductSort::PriceDesc),
        ("newest", ProductSort::Newest),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, sort)| *sort == self).map_or("default", |(name, _)| name)
    }
}

/// The query of `GET /api/products`, in range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProductQuery {
    pub paging: Paging,
    pub category_id: Option<CategoryId>,
    /// Trimmed, lower case; `None` when empty.
    pub keyword: Option<String>,
    pub sort: ProductSort,
}

impl ProductQuery {
    /// Reads a query string (without `?`). An empty `category_id` or `keyword` counts as absent, since forms send
    /// them so.
    ///
    /// # Errors
    /// One [`FieldProblem`] a bad, unknown or repeated parameter.
    pub fn parse(query: &str) -> Result<ProductQuery, Vec<FieldProblem>> {
        let mut parsed = ProductQuery::default();
        read_query(query, |name, value, problems| {
            match name {
                "category_id" if value.is_empty() => {}
                "category_id" => match value.parse() {
                    Ok(id) => parsed.category_id = Some(id),
                    Err(_) => problems.push(FieldProblem::new(name, "须为正整数")),
                },
                "keyword" => {
                    let keyword = value.trim().to_lowercase();
                    if keyword.chars().count() > MAX_KEYWORD_CHARS {
                        problems.push(FieldProblem::new(name, format!("最多 {MAX_KEYWORD_CHARS} 个字")));
                    } else if !keyword.is_empty() {
                        parsed.keyword = Some(keyword);
                    }
                }
                "sort" => match ProductSort::NAMES.iter().find(|(known, _)| *known == value) {
                    Some((_, sort)) => parsed.sort = *sort,
                    None => problems
                        .push(FieldProblem::new(name, "须为 default、price_asc、price_desc 或 newest 之一")),
                },
                _ => return parsed.paging.take(name, value, problems),
            }
            true
        })?;
        Ok(parsed)
    }

    /// The one spelling of this query: two requests for the same list have equal ones, whatever order or defaults
    /// they were sent with.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut pairs = vec![("page", self.paging.page.to_string()), ("size", self.paging.size.to_string())];
        if let Some(id) = self.category_id {
            pairs.push(("category_id", id.to_string()));
        }
        if let Some(keyword) = &self.keyword {
            pairs.push(("keyword", keyword.clone()));
        }
        if self.sort != ProductSort::Default {
            pairs.push(("sort", self.sort.name().to_owned()));
        }
        form_encode(&pairs)
    }
}

/// The query of `GET /api/stock`: of some SKUs, or of all SKUs of some products; 1 to [`MAX_STOCK_IDS`] ids with
/// commas, sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StockQuery {
    /// `?ids=`
    Skus(Vec<SkuId>),
    /// `?products=`
    Products(Vec<ProductId>),
}

impl StockQuery {
    /// Reads a query string (without `?`).
    ///
    /// # Errors
    /// One [`FieldProblem`] a bad, unknown or repeated parameter; one when neither or both of `ids` and `products` are
    /// given.
    pub fn parse(query: &str) -> Result<StockQuery, Vec<FieldProblem>> {
        let (mut skus, mut products) = (None, None);
        read_query(query, |name, value, problems| {
            match name {
                "ids" => skus = id_list(name, value, "规格", problems),
                "products" => products = id_list(name, value, "商品", problems),
                _ => return false,
            }
            true
        })?;
        match (skus, products) {
            (Some(skus), None) => Ok(StockQuery::Skus(skus)),
            (None, Some(products)) => Ok(StockQuery::Products(products)),
            (None, None) => Err(vec![FieldProblem::new("ids", "缺少参数")]),
            (Some(_), Some(_)) => Err(vec![FieldProblem::new("products", "不能与 ids 同时使用")]),
        }
    }

    /// The one spelling of this query.
    #[must_use]
    pub fn canonical(&self) -> String {
        match self {
            StockQuery::Skus(ids) => form_encode(&[("ids", joined(ids))]),
            StockQuery::Products(ids) => form_encode(&[("products", joined(ids))]),
        }
    }
}

/// 1 to [`MAX_STOCK_IDS`] ids with commas, sorted, each once.
fn id_list<T: FromStr + Ord>(
    name: &str,
    value: &str,
    what: &str,
    problems: &mut Vec<FieldProblem>,
) -> Option<Vec<T>> {
    match value.split(',').map(str::parse).collect::<Result<Vec<T>, _>>() {
        Ok(mut ids) if ids.len() <= MAX_STOCK_IDS => {
            ids.sort_unstable();
            ids.dedup();
            Some(ids)
        }
        _ => {
            let message = format!("须为 1 到 {MAX_STOCK_IDS} 个{what}编号，以逗号分隔");
            problems.push(FieldProblem::new(name, message));
            None
        }
    }
}

fn joined<T: ToString>(ids: &[T]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn form_encode(pairs: &[(&str, String)]) -> String {
    // Encoding plain strings has no failing case; an empty query would only miss the cache.
    serde_urlencoded::to_string(pairs).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_fields(query: &str) -> Vec<String> {
        ProductQuery::parse(query).unwrap_err().into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn equal_lists_have_one_spelling() {
        let spellings = [
            "page=1&size=20&category_id=1&keyword=%E8%8B%B9%E6%9E%9C",
            "keyword=%E8%8B%B9%E6%9E%9C&category_id=1",
            "keyword=+%E8%8B%B9%E6%9E%9C+&category_id=1&sort=default&page=1",
        ];
        let canonical: Vec<String> =
            spellings.iter().map(|query| ProductQuery::parse(query).unwrap().canonical()).collect();
        assert_eq!(canonical[0], "page=1&size=20&category_id=1&keyword=%E8%8B%B9%E6%9E%9C");
        assert!(canonical.iter().all(|spelling| *spelling == canonical[0]), "{canonical:?}");
        assert_eq!(ProductQuery::parse(&canonical[0]).unwrap().canonical(), canonical[0]);
        assert_eq!(ProductQuery::parse("").unwrap(), ProductQuery::default());
        assert_eq!(ProductQuery::parse("category_id=&keyword=").unwrap(), ProductQuery::default());
    }

    #[test]
    fn a_bad_parameter_is_named() {
        for page in ["0", "-1", "abc", "1.5", "", "+1", "99999999999", "1000001"] {
            assert_eq!(problem_fields(&format!("page={page}")), ["page"], "{page}");
        }
        assert_eq!(problem_fields("size=101"), ["size"]);
        assert_eq!(problem_fields("size=0&page=0"), ["size", "page"]);
        assert_eq!(problem_fields("category_id=x&sort=best"), ["category_id", "sort"]);
        assert_eq!(problem_fields("cache_buster=1"), ["cache_buster"]);
        assert_eq!(problem_fields("page=1&page=2"), ["page"]);
        assert_eq!(problem_fields(&format!("keyword={}", "a".repeat(51))), ["keyword"]);
    }

    #[test]
    fn stock_ids_are_sorted_and_unique() {
        assert_eq!(StockQuery::parse("ids=3,1,3").unwrap().canonical(), "ids=1%2C3");
        assert_eq!(StockQuery::parse("products=7,5,7").unwrap().canonical(), "products=5%2C7");
        for query in
            ["", "ids=", "ids=1,,2", "ids=-1", "ids=1&x=2", "products=", "products=0", "ids=1&products=1"]
        {
            assert!(StockQuery::parse(query).is_err(), "{query}");
        }
        let many = (1..=101).map(|id: i64| id.to_string()).collect::<Vec<_>>().join(",");
        assert!(StockQuery::parse(&format!("ids={many}")).is_err());
        assert!(StockQuery::parse(&format!("products={many}")).is_err());
    }
}
