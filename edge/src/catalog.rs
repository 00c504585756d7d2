//! Catalogue reads, answered from memory. Promises a shopper that what they see is never old for long while the
//! origin answers, and that they see something while it does not; and promises the origin that however the question
//! is spelt, it hears it once a life. Only replies that are the same for everybody come in here.

use std::rc::Rc;

use farmgate_shared::api::Paging;
use farmgate_shared::api::catalog::{ProductQuery, ProductSort, StockQuery};
use farmgate_shared::edge_auth::hex;
use farmgate_shared::ids::ProductId;
use farmgate_shared::problem::{FieldProblem, ProblemBody};
use sha2::{Digest, Sha256};

use crate::cache::Lru;

/// Bytes of pages that one isolate keeps; its host allows it 128 MB for everything.
const MEMORY_BYTES: usize = 32 * 1024 * 1024;
/// Longest reply that is kept.
pub const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// What a page costs besides its body.
const PAGE_OVERHEAD_BYTES: usize = 256;
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

// The table of lives. The origin answers from a snapshot that is itself up to 0.5 s old (its `catalog.refresh_ms`),
// so a life is fresh + grace + 0.5 s, and that sum is what DESIGN 7 bounds.

/// Stock stands in these pages until it is fetched apart: sold-out shows within 2 s.
const WITH_STOCK: Lives = Lives { fresh: 500, grace: 1000 };
/// Edits show within 5 s.
const WITHOUT_STOCK: Lives = Lives { fresh: 2000, grace: 2000 };
/// A 404. A product put on sale may take that long to appear under an address that was tried before.
const MISSING: Lives = Lives { fresh: 10_000, grace: 0 };
/// While the origin fails, a page this old is still better than none.
const STALE: u64 = 24 * 3600 * 1000;

/// After a failure, old pages are given at once for so long, instead of each waiting for the origin to fail again.
const FAILING: u64 = 5000;
/// Least time between two requests for the same page to an origin that fails, and the longest that one refresh can
/// keep another from starting. Time, not a flag: a host may drop a refresh half-way.
const ASK_AGAIN: u64 = 1000;

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

    const fn lives(&self) -> Lives {
        match self {
            Read::Products(_) | Read::Product(_) | Read::Home | Read::Stock(_) => WITH_STOCK,
            Read::Categories | Read::Reviews(..) | Read::Trace(_) => WITHOUT_STOCK,
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

/// A reply as it is kept; `B` is the body in whatever form the host sends best. Neither holds a request's id.
#[derive(Debug)]
pub enum Page<B> {
    Found { body: B, length: usize, etag: String },
    Missing(ProblemBody),
}

impl<B> Page<B> {
    /// A 200 with this body.
    pub fn found(body: B, bytes: &[u8]) -> Page<B> {
        Page::Found { body, length: bytes.len(), etag: etag(bytes) }
    }

    /// A 404 with this body, or `None` when the body is not in the form that every failure has.
    #[must_use]
    pub fn missing(bytes: &[u8]) -> Option<Page<B>> {
        let mut body: ProblemBody = serde_json::from_slice(bytes).ok()?;
        body.request_id.clear();
        Some(Page::Missing(body))
    }

    fn weight(&self) -> usize {
        PAGE_OVERHEAD_BYTES
            + match self {
                Page::Found { length, .. } => *length,
                Page::Missing(body) => body.message.len() + body.error.len(),
            }
    }
}

/// A strong validator: equal bytes have equal ones, whichever isolate made them.
fn etag(bytes: &[u8]) -> String {
    let mut tag = hex(&Sha256::digest(bytes));
    tag.truncate(32);
    format!("\"{tag}\"")
}

/// Whether `If-None-Match` names `etag`, so that the client's copy is good (RFC 9110, 13.1.2: weak comparison).
#[must_use]
pub fn names_etag(if_none_match: &str, etag: &str) -> bool {
    if_none_match
        .split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[derive(Debug)]
struct Kept<B> {
    page: Rc<Page<B>>,
    lives: Lives,
    /// When it was asked for, not when it came: what the origin saw may be as old as that.
    asked: u64,
    /// No refresh starts before.
    ask_again: u64,
}

/// What the catalogue's memory says to a read.
#[derive(Debug)]
pub enum Look<B> {
    /// Give this.
    Hit(Rc<Page<B>>),
    /// Give this, which is older than it should be because the origin fails; its age in milliseconds.
    Stale(Rc<Page<B>>, u64),
    /// Ask the origin now; if it fails, this is what is left, and its age.
    Ask(Option<(Rc<Page<B>>, u64)>),
}

/// A [`Look`] and whether a refresh is due beside it.
#[derive(Debug)]
pub struct Found<B> {
    pub look: Look<B>,
    pub refresh_due: bool,
}

/// The pages of one isolate. Times are milliseconds since 1970.
#[derive(Debug)]
pub struct Catalog<B> {
    pages: Lru<Kept<B>>,
    failing_until: u64,
}

impl<B> Default for Catalog<B> {
    fn default() -> Self {
        Catalog { pages: Lru::new(MEMORY_BYTES), failing_until: 0 }
    }
}

impl<B> Catalog<B> {
    /// What to do about a read. Starts nothing: whoever acts on `refresh_due` says so by [`Catalog::refreshing`].
    pub fn look(&mut self, key: &str, now: u64) -> Found<B> {
        let is_failing = now < self.failing_until;
        let Some(kept) = self.pages.get_mut(key) else {
            return Found { look: Look::Ask(None), refresh_due: false };
        };
        let age = now.saturating_sub(kept.asked);
        let is_due = now >= kept.ask_again;
        if age < kept.lives.fresh {
            Found { look: Look::Hit(Rc::clone(&kept.page)), refresh_due: false }
        } else if age < kept.lives.fresh + kept.lives.grace {
            Found { look: Look::Hit(Rc::clone(&kept.page)), refresh_due: is_due }
        } else if age >= STALE {
            self.pages.remove(key);
            Found { look: Look::Ask(None), refresh_due: false }
        } else if is_failing {
            Found { look: Look::Stale(Rc::clone(&kept.page), age), refresh_due: is_due }
        } else {
            Found { look: Look::Ask(Some((Rc::clone(&kept.page), age))), refresh_due: false }
        }
    }

    /// A refresh of this page has started: no other does for a while.
    pub fn refreshing(&mut self, key: &str, now: u64) {
        if let Some(kept) = self.pages.get_mut(key) {
            kept.ask_again = now + ASK_AGAIN;
        }
    }

    /// The origin has answered what it was asked at `asked`. An answer that was overtaken by a later one is not kept.
    pub fn keep(&mut self, read: &Read, page: Rc<Page<B>>, asked: u64) {
        self.failing_until = 0;
        let key = read.path_and_query();
        if self.pages.get_mut(&key).is_some_and(|kept| kept.asked > asked) {
            return;
        }
        let lives = match *page {
            Page::Found { .. } => read.lives(),
            Page::Missing(_) => MISSING,
        };
        let weight = page.weight() + key.len();
        self.pages.insert(&key, Kept { page, lives, asked, ask_again: 0 }, weight);
    }

    /// The origin did not answer, or answered with a failure.
    pub fn failed(&mut self, key: &str, now: u64) {
        self.failing_until = now + FAILING;
        self.refreshing(key, now);
    }
}

#[cfg(test)]
mod tests {
    use farmgate_shared::problem::Problem;

    use super::*;

    const START: u64 = 1_700_000_000_000;

    fn page(text: &'static str) -> Rc<Page<&'static str>> {
        Rc::new(Page::found(text, text.as_bytes()))
    }

    fn catalog() -> (Catalog<&'static str>, String) {
        let mut catalog = Catalog::default();
        catalog.keep(&Read::Home, page("one"), START);
        (catalog, Read::Home.path_and_query())
    }

    /// The look as a word and whether a refresh is due.
    fn look(catalog: &mut Catalog<&'static str>, key: &str, now: u64) -> (&'static str, bool) {
        let found = catalog.look(key, now);
        let word = match found.look {
            Look::Hit(_) => "hit",
            Look::Stale(..) => "stale",
            Look::Ask(Some(_)) => "ask, with an old page",
            Look::Ask(None) => "ask",
        };
        (word, found.refresh_due)
    }

    #[test]
    fn lives_keep_what_the_design_promises() {
        let origin_snapshot = 500;
        assert!(WITH_STOCK.fresh + WITH_STOCK.grace + origin_snapshot <= 2000);
        assert!(WITHOUT_STOCK.fresh + WITHOUT_STOCK.grace + origin_snapshot <= 5000);
    }

    #[test]
    fn a_page_is_given_then_refreshed_then_asked_for() {
        let (mut catalog, key) = catalog();
        assert_eq!(look(&mut catalog, "/api/categories", START), ("ask", false));
        assert_eq!(look(&mut catalog, &key, START + 499), ("hit", false));
        assert_eq!(look(&mut catalog, &key, START + 500), ("hit", true));
        catalog.refreshing(&key, START + 500);
        assert_eq!(look(&mut catalog, &key, START + 501), ("hit", false), "one refresh at a time");
        assert_eq!(look(&mut catalog, &key, START + 1500), ("ask, with an old page", false));
        assert_eq!(look(&mut catalog, &key, START - 5), ("hit", false), "a clock that goes back");
    }

    #[test]
    fn while_the_origin_fails_old_pages_are_given_at_once() {
        let (mut catalog, key) = catalog();
        let hour = START + 3_600_000;
        assert_eq!(look(&mut catalog, &key, hour), ("ask, with an old page", false));
        catalog.failed(&key, hour);
        assert_eq!(look(&mut catalog, &key, hour + 1), ("stale", false));
        assert_eq!(look(&mut catalog, &key, hour + ASK_AGAIN), ("stale", true));
        catalog.failed("/api/categories", hour + FAILING);
        assert_eq!(look(&mut catalog, &key, hour + FAILING + 1).0, "stale", "another page's failure counts");
        catalog.keep(&Read::Categories, page("two"), hour + FAILING + 2);
        assert_eq!(look(&mut catalog, &key, hour + FAILING + 3).0, "ask, with an old page");
        assert_eq!(look(&mut catalog, &key, START + STALE), ("ask", false));
        assert_eq!(look(&mut catalog, &key, START), ("ask", false), "too old is gone");
    }

    #[test]
    fn an_overtaken_answer_is_not_kept() {
        let (mut catalog, key) = catalog();
        catalog.keep(&Read::Home, page("older"), START - 1);
        let Look::Hit(kept) = catalog.look(&key, START).look else { panic!("a hit") };
        assert!(matches!(&*kept, Page::Found { body: "one", .. }));
    }

    #[test]
    fn a_missing_product_is_remembered_without_the_request_it_was_missing_for() {
        let reply = serde_json::to_vec(&Problem::ProductNotFound.body("r1", vec![])).unwrap();
        let missing = Page::missing(&reply).unwrap();
        assert!(matches!(&missing, Page::Missing(body) if body.request_id.is_empty()));
        let (mut catalog, _) = catalog();
        let read = Read::Product(ProductId(9));
        catalog.keep(&read, Rc::new(missing), START);
        assert_eq!(look(&mut catalog, &read.path_and_query(), START + 9_999), ("hit", false));
        assert_eq!(look(&mut catalog, &read.path_and_query(), START + 10_000).0, "ask, with an old page");
        assert!(Page::<()>::missing(b"<html>404</html>").is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let mut catalog = Catalog::default();
        let big = vec![b'x'; MAX_PAGE_BYTES];
        for id in 1..=100 {
            catalog.keep(&Read::Product(ProductId(id)), Rc::new(Page::found("", &big)), START);
        }
        let kept = (1..=100)
            .filter(|id| {
                look(&mut catalog, &Read::Product(ProductId(*id)).path_and_query(), START).0 == "hit"
            })
            .count();
        assert_eq!(kept, 31);
    }

    #[test]
    fn an_etag_is_the_bytes_alone() {
        let Page::Found { etag: one, .. } = &*page("one") else { panic!() };
        assert_eq!(*one, etag(b"one"));
        assert_ne!(*one, etag(b"two"));
        assert!(one.len() == 34 && one.starts_with('"') && one.ends_with('"'));
        for named in [one.clone(), format!("W/{one}"), format!("\"a\", {one}"), "*".into()] {
            assert!(names_etag(&named, one), "{named}");
        }
        for other in ["", "\"\"", one.trim_matches('"'), "\"a\",\"b\""] {
            assert!(!names_etag(other, one), "{other}");
        }
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
