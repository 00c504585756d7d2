//! The reads of the catalogue, each in one spelling, and how long each may stand in for the origin. Promises the origin
//! that however a question is spelt, it is one question; and shoppers the table of lives below.

use farmgate_shared::api::Paging;
use farmgate_shared::api::catalog::{ProductQuery, ProductSort, StockQuery};
use farmgate_shared::ids::ProductId;
use farmgate_shared::problem::FieldProblem;

/// Longest code on a label, `/api/trace/{code}`.
const MAX_TRACE_CODE: usize = 64;

/// How long a page stands in for the origin, in milliseconds since it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// Until then it is simply given.
    pub fresh: u64,
    /// For so long after that it is given once more while one request fetches its successor. Older pages wait for
    /// the origin.
    pub grace: u64,
}

// The table of lives. The origin answers from a view that is itself up to 0.5 s old, so a life is
// fresh + grace + 0.5 s, and that sum is what DESIGN 7 bounds.

/// Pages with stock on them, counted from when that stock was asked for: sold-out shows within 2 s. The same question
/// tells whether the page itself is of an old version, so edits show sooner than on the pages below.
pub const WITH_STOCK: Lives = Lives { fresh: 500, grace: 1000 };
/// Edits show within 5 s.
pub const WITHOUT_STOCK: Lives = Lives { fresh: 2000, grace: 2000 };
/// A 404. A product put on sale may take that long to appear under an address that was tried before.
pub const MISSING: Lives = Lives { fresh: 10_000, grace: 0 };

/// A read of the catalogue, in the one spelling that the cache and the origin see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Products(ProductQuery),
    Product(ProductId),
    Categories,
    Home,
    Reviews(ProductId, Paging),
    Trace(String),
    Stock(StockQuery),
}

impl Read {
    /// What is asked of the origin, and the key it is kept under. Parameters that the page does not depend on are
    /// gone, so that a cache-buster finds the same page.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        match self {
            Read::Products(query) => format!("/api/products?{}", query.canonical()),
            Read::Product(id) => format!("/api/products/{id}"),
            Read::Categories => "/api/categories".to_owned(),
            Read::Home => "/api/home".to_owned(),
            Read::Reviews(id, Paging { page, size }) => {
                format!("/api/products/{id}/reviews?page={page}&size={size}")
            }
            Read::Trace(code) => format!("/api/trace/{code}"),
            Read::Stock(query) => format!("/api/stock?{}", query.canonical()),
        }
    }

    /// How long a reply to it lives.
    #[must_use]
    pub const fn lives(&self) -> Lives {
        match self {
            Read::Products(_) | Read::Product(_) | Read::Home | Read::Stock(_) => WITH_STOCK,
            Read::Categories | Read::Reviews(..) | Read::Trace(_) => WITHOUT_STOCK,
        }
    }

    /// Whether a reply is, but for its stock, the same as long as the catalogue's version is.
    #[must_use]
    pub const fn is_versioned(&self) -> bool {
        match self {
            Read::Products(_) | Read::Product(_) | Read::Home | Read::Categories => true,
            Read::Reviews(..) | Read::Trace(_) | Read::Stock(_) => false,
        }
    }
}

/// Reads the query of a product's reviews: `page` and `size`.
///
/// # Errors
/// One [`FieldProblem`] a bad or unknown parameter.
pub fn parse_reviews(query: &str) -> Result<Paging, Vec<FieldProblem>> {
    let parsed = ProductQuery::parse(query)?;
    // A list of products takes more parameters than a list of reviews.
    let foreign = [
        ("category_id", parsed.category_id.is_some()),
        ("keyword", parsed.keyword.is_some()),
        ("sort", parsed.sort != ProductSort::Default),
    ];
    let problems: Vec<FieldProblem> = foreign
        .into_iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(name, _)| FieldProblem::new(name, "未知参数"))
        .collect();
    if problems.is_empty() { Ok(parsed.paging) } else { Err(problems) }
}

/// Whether `code` can stand on a label at all.
#[must_use]
pub fn is_trace_code(code: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !code.is_empty() && code.len() <= MAX_TRACE_CODE && code.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_keep_what_the_design_promises() {
        let origin_view = 500;
        assert!(WITH_STOCK.fresh + WITH_STOCK.grace + origin_view <= 2000);
        assert!(WITHOUT_STOCK.fresh + WITHOUT_STOCK.grace + origin_view <= 5000);
    }

    #[test]
    fn only_paging_pages_the_reviews() {
        assert_eq!(parse_reviews("page=2&size=5"), Ok(Paging { page: 2, size: 5 }));
        assert_eq!(parse_reviews(""), Ok(Paging::default()));
        for (query, field) in
            [("page=0", "page"), ("keyword=a", "keyword"), ("category_id=1", "category_id"), ("x=1", "x")]
        {
            assert_eq!(parse_reviews(query).unwrap_err()[0].field, field);
        }
    }

    #[test]
    fn a_trace_code_cannot_carry_a_path_or_a_query() {
        assert!(is_trace_code("B20231201-007"));
        for code in ["", "a/b", "a?b", "a%2fb", "苹果", &"a".repeat(65)] {
            assert!(!is_trace_code(code), "{code}");
        }
    }
}
