//! Tests of the snapshot.

use proptest::prelude::*;
use sqlx::types::Json;

use super::super::assembly::Assembly;
use super::super::store::{CategoryRow, ProductRow, SkuRow};
use super::*;

fn product(id: i64, category_id: i64, name: &str) -> ProductRow {
    ProductRow {
        id,
        name: name.into(),
        description: format!("{name}，当季采摘"),
        category_id,
        brand: "笑姐家".into(),
        origin: "山东烟台".into(),
        unit: "箱".into(),
        images: Json(vec!["/static/1.webp".into(), "https://cdn.example/2.webp".into()]),
        tags: Json(vec!["当季".into()]),
        specifications: "常温".into(),
        sort_order: 0,
    }
}

fn sku(id: i64, product_id: i64, price_fen: i64) -> SkuRow {
    SkuRow {
        id,
        product_id,
        specifications: format!("{id}号"),
        price_fen,
        original_price_fen: (id % 2 == 0).then_some(price_fen + 500),
        weight_grams: Some(500),
        sort_order: 0,
    }
}

fn assembled(previous: &Snapshot, mut skus: Vec<SkuRow>, products: &[ProductRow]) -> Snapshot {
    // As MySQL gives them.
    skus.sort_by_key(|sku| sku.product_id);
    let mut assembly = Assembly::after(previous).unwrap();
    skus.iter().for_each(|row| assembly.add_sku(row).unwrap());
    products.iter().for_each(|row| assembly.add_product(row).unwrap());
    let category =
        |id: i64| CategoryRow { id, name: format!("{id}类"), icon: "/static/c.webp".into(), sort_order: 0 };
    assembly
        .finish(previous.version + 1, vec![category(2), category(1), category(9)], "https://shop.example/")
        .unwrap()
}

fn snapshot() -> Snapshot {
    let products = [
        product(3, 1, "红富士苹果"),
        product(1, 1, "Gala 苹果"),
        product(2, 2, "菠菜"),
        product(7, 2, "没有规格"),
    ];
    let skus = vec![sku(31, 3, 1980), sku(30, 3, 1580), sku(10, 1, 990), sku(20, 2, 1580)];
    assembled(&Snapshot::default(), skus, &products)
}

fn ids(snapshot: &Snapshot, query: &str) -> (Vec<i64>, usize) {
    let (rows, total) = snapshot.page(&ProductQuery::parse(query).unwrap());
    (rows.into_iter().map(|row| snapshot.summary(row).unwrap().id.0).collect(), total)
}

#[test]
fn lists_are_narrowed_sorted_and_paged() {
    let snapshot = snapshot();
    let ids = |query| ids(&snapshot, query);
    assert_eq!(ids(""), (vec![3, 1, 2], 3), "what has no SKU on sale is not shown");
    assert_eq!(ids("category_id=1"), (vec![3, 1], 2));
    assert_eq!(ids("category_id=1&sort=price_asc"), (vec![1, 3], 2));
    assert_eq!(ids("category_id=8"), (vec![], 0));
    assert_eq!(ids("keyword=苹果"), (vec![3, 1], 2));
    assert_eq!(ids("keyword=GALA"), (vec![1], 1));
    assert_eq!(ids("keyword=烟台&category_id=2"), (vec![2], 1));
    assert_eq!(ids("keyword=当"), (vec![3, 1, 2], 3));
    assert_eq!(ids("keyword=没有"), (vec![], 0));
    assert_eq!(ids("sort=price_asc"), (vec![1, 3, 2], 3));
    assert_eq!(ids("sort=price_desc"), (vec![3, 2, 1], 3));
    assert_eq!(ids("sort=newest"), (vec![3, 2, 1], 3));
    assert_eq!(ids("keyword=苹果&sort=newest"), (vec![3, 1], 2));
    assert_eq!(ids("page=2&size=2"), (vec![2], 3));
    assert_eq!(ids("page=1000000&size=100"), (vec![], 3));
}

#[test]
fn a_product_is_shown_whole() {
    let snapshot = snapshot();
    let row = snapshot.row_of(ProductId(3)).unwrap();
    let detail = snapshot.detail(row).unwrap();
    assert_eq!(
        (detail.name.as_str(), detail.brand.as_str(), detail.unit.as_str()),
        ("红富士苹果", "笑姐家", "箱")
    );
    assert_eq!(detail.images, ["https://shop.example/static/1.webp", "https://cdn.example/2.webp"]);
    assert_eq!(
        (detail.price, detail.original_price),
        (Fen(1580), Some(Fen(2080))),
        "those of the cheapest SKU"
    );
    let skus: Vec<(i64, Fen)> = detail.skus.iter().map(|sku| (sku.id.0, sku.price)).collect();
    assert_eq!(skus, [(31, Fen(1980)), (30, Fen(1580))], "the default first");
    let summary = snapshot.summary(row).unwrap();
    assert_eq!((summary.id, &summary.images, &summary.tags), (detail.id, &detail.images, &detail.tags));
    assert!(snapshot.row_of(ProductId(7)).is_none() && snapshot.row_of(ProductId(9)).is_none());
}

#[test]
fn what_an_order_line_needs_is_found_by_product_and_by_sku() {
    let snapshot = snapshot();
    let offer = snapshot.default_offer(ProductId(3)).unwrap();
    assert_eq!((offer.sku_id, offer.product_id, offer.category_id), (SkuId(31), ProductId(3), CategoryId(1)));
    assert_eq!((&*offer.name, &*offer.image, offer.price), ("红富士苹果", "/static/1.webp", Fen(1980)));
    assert_eq!(snapshot.offer(SkuId(31)), Some(offer));
    assert_eq!(&*snapshot.offer(SkuId(30)).unwrap().specifications, "30号");
    assert_eq!((snapshot.default_offer(ProductId(7)), snapshot.offer(SkuId(9))), (None, None));
}

#[test]
fn categories_count_what_is_on_sale_in_them() {
    let counts: Vec<(i64, u64)> =
        snapshot().categories.iter().map(|shown| (shown.id.0, shown.product_count)).collect();
    assert_eq!(counts, [(2, 1), (1, 2), (9, 0)]);
}

#[test]
fn the_first_page_shows_what_is_recommended_new_and_on_offer() {
    let (home, rows) = snapshot().home();
    let ids = |list: &[ProductSummary]| list.iter().map(|product| product.id.0).collect::<Vec<_>>();
    assert_eq!(ids(&home.recommended), [3, 1, 2]);
    assert_eq!(ids(&home.newest), [3, 2, 1]);
    assert_eq!(ids(&home.on_offer), [3, 1, 2]);
    assert_eq!((home.categories.len(), rows), (3, vec![0, 1, 2, 0, 2, 1, 0, 1, 2]));
    assert_eq!(Snapshot::default().home().1, Vec::<u32>::new());
}

#[test]
fn stock_is_told_of_what_is_on_sale() {
    let snapshot = snapshot();
    let set = |id, available| snapshot.levels.set([(snapshot.sku_row_of(SkuId(id)).unwrap(), available)]);
    set(31, 4);
    set(30, 5);
    let told = |query| -> Vec<(i64, i64, i64)> {
        let query = StockQuery::parse(query).unwrap();
        snapshot.stock(&query).iter().map(|told| (told.sku_id.0, told.product_id.0, told.stock)).collect()
    };
    assert_eq!(told("products=3,7,9"), [(31, 3, 4), (30, 3, 5)]);
    assert_eq!(told("ids=30,20,99"), [(20, 2, 0), (30, 3, 5)]);
    assert_eq!(snapshot.levels.sum(&snapshot.skus_of(snapshot.row_of(ProductId(3)).unwrap())), 9);
}

/// What lists promise, put as plainly as can be.
fn scanned(products: &[ProductRow], skus: &[SkuRow], query: &ProductQuery) -> (Vec<i64>, usize) {
    let price = |id: i64| skus.iter().filter(|sku| sku.product_id == id).map(|sku| sku.price_fen).min();
    let has_keyword = |product: &&ProductRow| {
        let Some(keyword) = &query.keyword else { return true };
        product
            .tags
            .0
            .iter()
            .chain([&product.name, &product.origin])
            .any(|text| text.to_lowercase().contains(keyword))
    };
    let mut found: Vec<&ProductRow> = products
        .iter()
        .filter(|product| price(product.id).is_some())
        .filter(|product| query.category_id.is_none_or(|id| id.0 == product.category_id))
        .filter(has_keyword)
        .collect();
    match query.sort {
        ProductSort::Default => {}
        ProductSort::PriceAsc => found.sort_by_key(|product| price(product.id)),
        ProductSort::PriceDesc => found.sort_by_key(|product| std::cmp::Reverse(price(product.id))),
        ProductSort::Newest => found.sort_by_key(|product| std::cmp::Reverse(product.id)),
    }
    let total = found.len();
    let skipped = usize::try_from(query.paging.offset()).unwrap();
    let page = found.into_iter().skip(skipped).take(query.paging.size as usize);
    (page.map(|product| product.id).collect(), total)
}

fn any_shop() -> impl Strategy<Value = (Vec<ProductRow>, Vec<SkuRow>)> {
    let text = |most| {
        let part = proptest::sample::select(vec!["苹果", "果", "红", "Gala", "g", "5斤", " ", "İ"]);
        proptest::collection::vec(part, 0..most).prop_map(|parts| parts.concat())
    };
    let any_product = (
        1..4_i64,
        text(4),
        text(3),
        proptest::collection::vec(text(3), 0..3),
        proptest::collection::vec(1..6_i64, 0..3),
    );
    proptest::collection::vec(any_product, 0..40).prop_map(|drawn| {
        let (mut products, mut skus) = (Vec::new(), Vec::new());
        let count = i64::try_from(drawn.len()).unwrap();
        for (number, (category, name, origin, tags, prices)) in (0..).zip(drawn) {
            // Not in the order of their ids.
            let id = 1 + (number * 7) % count.max(1);
            if products.iter().any(|known: &ProductRow| known.id == id) {
                continue;
            }
            products.push(ProductRow { origin, tags: Json(tags), ..product(id, category, &name) });
            skus.extend((0..).zip(prices).map(|(place, price)| sku(id * 10 + place, id, price * 100)));
        }
        (products, skus)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn a_list_is_what_a_scan_of_the_shop_gives(
        (products, skus) in any_shop(), category in proptest::option::of(1..5_i64),
        keyword in proptest::option::of(proptest::sample::select(vec!["苹", "苹果", "果红", "gala", "GA", "斤", "苹果5斤", "i", " ", "la"])),
        sort in proptest::sample::select(vec![ProductSort::Default, ProductSort::PriceAsc, ProductSort::PriceDesc, ProductSort::Newest]),
        page in 1..4_u32, size in 1..15_u32,
    ) {
        let keyword = keyword.map(|keyword| keyword.trim().to_lowercase()).filter(|keyword| !keyword.is_empty());
        let query = ProductQuery {
            paging: farmgate_shared::api::Paging { page, size }, category_id: category.map(CategoryId), keyword, sort,
        };
        let first = assembled(&Snapshot::default(), skus.clone(), &products);
        // One that shares texts with another is not different from one that does not.
        for snapshot in [assembled(&first, skus.clone(), &products), first] {
            let (rows, total) = snapshot.page(&query);
            let shown = rows.into_iter().map(|row| snapshot.summary(row).unwrap().id.0).collect();
            prop_assert_eq!((shown, total), scanned(&products, &skus, &query));
        }
    }
}
