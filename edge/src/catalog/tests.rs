use farmgate_shared::api::catalog::{ProductQuery, StockQuery};
use farmgate_shared::ids::{ProductId, SkuId};
use farmgate_shared::problem::Problem;

use super::*;

const START: u64 = 1_700_000_000_000;
const LIST: &str =
    r#"{"code":200,"message":"ok","data":{"list":[{"id":1,"stock":5}],"total":1,"page":1,"size":20}}"#;

fn answered(text: &str, asked: u64) -> Answered<String> {
    let page = Rc::new(Page::found(text.to_owned(), text.as_bytes()));
    Answered { page, overlay: None, version: None, asked }
}

fn versioned(read: &Read, text: &str, version: i64, asked: u64) -> Answered<String> {
    let overlay = Overlay::find(read, version, text.as_bytes().to_vec());
    Answered { overlay, version: Some(version), ..answered(text, asked) }
}

fn catalog() -> (Catalog<String>, String) {
    let mut catalog = Catalog::default();
    catalog.keep(&Read::Home, answered("one", START), START);
    (catalog, Read::Home.path_and_query())
}

fn listed() -> (Catalog<String>, String) {
    let read = Read::Products(ProductQuery::default());
    let mut catalog = Catalog::default();
    catalog.keep(&read, versioned(&read, LIST, 7, START), START);
    (catalog, read.path_and_query())
}

fn body(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn stock(stock: i64) -> [SkuStock; 1] {
    [SkuStock { sku_id: SkuId(1), product_id: ProductId(1), stock }]
}

/// The look as a word and whether a refresh is due.
fn look(catalog: &mut Catalog<String>, key: &str, now: u64) -> (&'static str, bool) {
    let found = catalog.look(key, now);
    let word = match found.look {
        Look::Hit(_) => "hit",
        Look::Stale(..) => "stale",
        Look::Ask(Some(_)) => "ask, with an old page",
        Look::Ask(None) => "ask",
    };
    (word, found.refresh_due)
}

fn shown(catalog: &mut Catalog<String>, key: &str, now: u64) -> String {
    match catalog.look(key, now).look {
        Look::Hit(page) | Look::Stale(page, _) | Look::Ask(Some((page, _))) => match &*page {
            Page::Found { body, .. } => body.clone(),
            Page::Missing(_) => "missing".into(),
        },
        Look::Ask(None) => "nothing".into(),
    }
}

#[test]
fn a_page_is_given_then_refreshed_then_asked_for() {
    let (mut catalog, key) = catalog();
    assert_eq!(look(&mut catalog, "/api/categories", START), ("ask", false));
    assert_eq!(look(&mut catalog, &key, START + 499), ("hit", false));
    assert_eq!(look(&mut catalog, &key, START + 500), ("hit", true));
    catalog.refreshing(&key, START + 1000);
    assert_eq!(look(&mut catalog, &key, START + 1001), ("hit", false), "one refresh at a time");
    assert_eq!(look(&mut catalog, &key, START + 1500), ("ask, with an old page", false));
    assert_eq!(look(&mut catalog, &key, START - 5), ("hit", false), "a clock that was set right");
}

#[test]
fn a_place_gives_what_its_key_gives() {
    let (mut catalog, key) = catalog();
    let place = catalog.place(&key).unwrap();
    assert!(matches!(catalog.look_at(place, START).unwrap().look, Look::Hit(_)));
    catalog.keep(&Read::Home, answered("two", START + 1), START + 1);
    assert!(catalog.look_at(place, START).is_none(), "that page is gone");
    assert!(catalog.place("/api/categories").is_none());
}

#[test]
fn while_the_origin_fails_old_pages_are_given_at_once() {
    let (mut catalog, key) = catalog();
    let hour = START + 3_600_000;
    assert_eq!(look(&mut catalog, &key, hour), ("ask, with an old page", false));
    catalog.failed(&key, hour);
    assert_eq!(look(&mut catalog, &key, hour + 1), ("stale", false));
    assert_eq!(look(&mut catalog, &key, hour + ASK_AGAIN), ("stale", true));
    catalog.failed("/api/categories", hour + LATE);
    assert_eq!(look(&mut catalog, &key, hour + LATE + 1).0, "stale", "another page's failure counts");
    catalog.keep(&Read::Categories, answered("two", hour + LATE + 2), hour + LATE + 2);
    assert_eq!(look(&mut catalog, &key, hour + LATE + 3).0, "ask, with an old page");
    catalog.failed(&key, START + STALE);
    assert_eq!(look(&mut catalog, &key, START + STALE - 1).0, "stale", "a whole day");
    assert_eq!(look(&mut catalog, &key, START + STALE), ("ask", false), "and no longer");
}

#[test]
fn while_the_origin_is_slow_nobody_who_could_see_an_old_page_waits() {
    let (mut catalog, key) = catalog();
    catalog.refreshing(&key, START + 500);
    assert_eq!(look(&mut catalog, &key, START + 1499).0, "hit");
    assert_eq!(
        look(&mut catalog, &key, START + 1500),
        ("stale", true),
        "the refresh should have come by now"
    );
    assert_eq!(
        look(&mut catalog, &key, START + 500 + PATIENCE).0,
        "ask, with an old page",
        "a refresh that was dropped half-way"
    );
    catalog.keep(&Read::Home, answered("two", START + 500), START + 3500);
    assert_eq!(look(&mut catalog, &key, START + 3501), ("stale", true), "it came, too old to be believed");
    assert_eq!(shown(&mut catalog, &key, START + 3501), "two");
    catalog.keep(&Read::Home, answered("three", START + 3600), START + 3700);
    assert_eq!(look(&mut catalog, &key, START + 3701), ("hit", false), "quick again");
    assert_eq!(look(&mut catalog, &key, START + 6000).0, "ask, with an old page");
}

#[test]
fn a_clock_that_is_set_back_for_long_leaves_nothing_behind() {
    let (mut catalog, key) = catalog();
    catalog.failed(&key, START);
    assert_eq!(catalog.enter(&key, START, START), Turn::Mine);
    let before = START - 3_600_000;
    assert_eq!(look(&mut catalog, &key, before), ("ask", false), "nobody knows how old it is");
    assert_eq!(catalog.enter(&key, before, before), Turn::Mine);
    catalog.keep(&Read::Home, answered("two", before), before);
    assert_eq!(look(&mut catalog, &key, before), ("hit", false));
    assert_eq!(shown(&mut catalog, &key, before), "two");
    assert_eq!(look(&mut catalog, &key, before + 600), ("hit", true));
}

#[test]
fn an_overtaken_answer_is_not_kept() {
    let (mut catalog, key) = catalog();
    catalog.keep(&Read::Home, answered("older", START - 1), START);
    assert_eq!(shown(&mut catalog, &key, START), "one");
    let (mut catalog, key) = listed();
    let page = catalog.restock(&key, 7, &stock(1), (START - 1, START), body).unwrap();
    assert!(matches!(&*page, Page::Found { body, .. } if body == LIST));
}

#[test]
fn stock_is_asked_for_apart_and_renews_the_page() {
    let (mut catalog, key) = listed();
    let question = StockQuery::Products(vec![ProductId(1)]);
    assert_eq!(catalog.stock_question(&key), Some((7, question)));
    let before = catalog.look(&key, START).look;
    let Look::Hit(before) = before else { panic!("a hit") };
    let same = catalog.restock(&key, 7, &stock(5), (START + 600, START + 610), |_| panic!("nothing changed"));
    assert!(Rc::ptr_eq(&same.unwrap(), &before));
    assert_eq!(look(&mut catalog, &key, START + 1000), ("hit", false), "the stock is fresh again");
    let changed = catalog.restock(&key, 7, &stock(0), (START + 1100, START + 1110), body).unwrap();
    let sold_out = LIST.replace("\"stock\":5", "\"stock\":0");
    assert!(matches!(&*changed, Page::Found { body, .. } if *body == sold_out));
    let etag = |page: &Page<String>| match page {
        Page::Found { etag, .. } => etag.clone(),
        Page::Missing(_) => String::new(),
    };
    assert_ne!(etag(&changed), etag(&before), "a client's copy is no longer good");
    assert_eq!(shown(&mut catalog, &key, START + 1200), sold_out);
}

#[test]
fn stock_of_another_version_is_not_put_on_the_page() {
    let (mut catalog, key) = listed();
    assert!(catalog.restock(&key, 8, &stock(0), (START + 600, START + 610), body).is_none());
    assert_eq!(shown(&mut catalog, &key, START + 610), LIST);
    assert_eq!(catalog.current_version(START + 610), Some((8, START + 600)));
    assert!(catalog.restock("/api/home", 8, &stock(0), (START, START), body).is_none(), "no such page");
}

#[test]
fn without_a_version_a_page_is_good_only_as_a_whole() {
    let (mut catalog, key) = catalog();
    assert_eq!(catalog.stock_question(&key), None);
    assert_eq!(catalog.current_version(START), None);
}

#[test]
fn a_version_is_known_while_it_is_new() {
    let (catalog, _) = listed();
    assert_eq!(catalog.current_version(START + 1999), Some((7, START)));
    assert_eq!(catalog.current_version(START + 2000), None);
}

#[test]
fn a_missing_product_is_remembered_for_ten_seconds() {
    let reply = serde_json::to_vec(&Problem::ProductNotFound.body("r1", vec![])).unwrap();
    let (mut catalog, _) = catalog();
    let read = Read::Product(ProductId(9));
    let page = Rc::new(Page::missing(&reply).unwrap());
    catalog.keep(&read, Answered { page, overlay: None, version: Some(1), asked: START }, START);
    assert_eq!(look(&mut catalog, &read.path_and_query(), START + 9_999), ("hit", false));
    assert_eq!(look(&mut catalog, &read.path_and_query(), START + 10_000).0, "ask, with an old page");
}

#[test]
fn memory_is_bounded() {
    let mut catalog = Catalog::default();
    let big = "x".repeat(MAX_PAGE_BYTES);
    for id in 1..=100 {
        catalog.keep(&Read::Product(ProductId(id)), answered(&big, START), START);
    }
    let mut is_kept =
        |id| look(&mut catalog, &Read::Product(ProductId(id)).path_and_query(), START).0 == "hit";
    assert_eq!((1..=100).filter(|id| is_kept(*id)).count(), 31);
    catalog.keep(&Read::Home, answered(&format!("{big}x"), START), START);
    assert_eq!(look(&mut catalog, "/api/home", START).0, "ask", "too long to keep");
}
