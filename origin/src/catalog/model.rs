//! The snapshot: all products on sale, immutable, swapped whole when the catalogue's version changed.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use farmgate_shared::api::catalog::{Category, ProductDetail, ProductQuery, ProductSort, Sku};
use farmgate_shared::ids::{CategoryId, ProductId, SkuId};
use farmgate_shared::money::Fen;

/// The current snapshot. Readers never wait.
#[derive(Debug, Default)]
pub struct Catalog {
    current: ArcSwap<Snapshot>,
}

impl Catalog {
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    pub fn replace(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
    }
}

/// What is for sale under a number, without a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForSale {
    pub sku_id: SkuId,
    pub product_id: ProductId,
    pub category_id: CategoryId,
    pub name: Arc<str>,
    /// As stored: a path of the shop's or a whole address; empty when there is no picture.
    pub image: Arc<str>,
    pub specifications: Arc<str>,
    pub price: Fen,
}

/// The catalogue at one version. Stock is not in it: the products' `stock` fields are 0 here.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// 0 before the first load.
    pub version: i64,
    pub categories: Vec<Category>,
    products: Vec<Entry>,
    by_id: HashMap<ProductId, usize>,
    by_sku: HashMap<SkuId, usize>,
}

#[derive(Debug)]
struct Entry {
    product: ProductDetail,
    /// The first picture, as stored.
    image: Arc<str>,
    /// Lower case: name, tags, place of origin.
    searched: String,
}

impl Snapshot {
    /// `products` come in the shopkeeper's order, each with at least one SKU and with its first picture as stored.
    pub fn new(
        version: i64,
        categories: Vec<Category>,
        products: Vec<(ProductDetail, Arc<str>)>,
    ) -> Snapshot {
        let entry = |(product, image): (ProductDetail, Arc<str>)| {
            let searched = format!("{}\n{}\n{}", product.name, product.tags.join("\n"), product.origin);
            Entry { searched: searched.to_lowercase(), product, image }
        };
        let products: Vec<Entry> = products.into_iter().map(entry).collect();
        let by_id = products.iter().enumerate().map(|(index, entry)| (entry.product.id, index)).collect();
        let skus = products
            .iter()
            .enumerate()
            .flat_map(|(index, entry)| entry.product.skus.iter().map(move |sku| (sku.id, index)));
        let by_sku = skus.collect();
        Snapshot { version, categories, products, by_id, by_sku }
    }

    pub fn product(&self, id: ProductId) -> Option<&ProductDetail> {
        self.by_id.get(&id).and_then(|index| self.products.get(*index)).map(|entry| &entry.product)
    }

    /// The product that a SKU is a choice of.
    pub fn product_of(&self, sku: SkuId) -> Option<&ProductDetail> {
        self.by_sku.get(&sku).and_then(|index| self.products.get(*index)).map(|entry| &entry.product)
    }

    /// The default choice of a product that is on sale.
    pub fn default_offer(&self, product: ProductId) -> Option<ForSale> {
        let entry = self.by_id.get(&product).and_then(|index| self.products.get(*index))?;
        Some(for_sale(entry, entry.product.skus.first()?))
    }

    /// A SKU that is on sale, of a product that is.
    pub fn offer(&self, sku: SkuId) -> Option<ForSale> {
        let entry = self.by_sku.get(&sku).and_then(|index| self.products.get(*index))?;
        Some(for_sale(entry, entry.product.skus.iter().find(|of_it| of_it.id == sku)?))
    }

    /// The products of one page, and how many there are on all pages.
    pub fn page(&self, query: &ProductQuery) -> (Vec<&ProductDetail>, usize) {
        let mut found: Vec<&ProductDetail> = self
            .products
            .iter()
            .filter(|entry| query.category_id.is_none_or(|id| entry.product.category_id == id))
            .filter(|entry| query.keyword.as_deref().is_none_or(|keyword| entry.searched.contains(keyword)))
            .map(|entry| &entry.product)
            .collect();
        // Sorting is stable: equals stay in the shopkeeper's order.
        match query.sort {
            ProductSort::Default => {}
            ProductSort::PriceAsc => found.sort_by_key(|product| product.price),
            ProductSort::PriceDesc => found.sort_by_key(|product| std::cmp::Reverse(product.price)),
            ProductSort::Newest => found.sort_by_key(|product| std::cmp::Reverse(product.id)),
        }
        let total = found.len();
        let skipped = usize::try_from(query.paging.offset()).unwrap_or(usize::MAX);
        let size = usize::try_from(query.paging.size).unwrap_or(usize::MAX);
        (found.into_iter().skip(skipped).take(size).collect(), total)
    }
}

fn for_sale(entry: &Entry, sku: &Sku) -> ForSale {
    ForSale {
        sku_id: sku.id,
        product_id: entry.product.id,
        category_id: entry.product.category_id,
        name: entry.product.name.as_str().into(),
        image: entry.image.clone(),
        specifications: sku.specifications.as_str().into(),
        price: sku.price,
    }
}

/// The SKUs of some products.
pub fn sku_ids<'a>(products: impl IntoIterator<Item = &'a ProductDetail>) -> Vec<SkuId> {
    products.into_iter().flat_map(|product| product.skus.iter().map(|sku| sku.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(id: i64, category: i64, name: &str, price: i64) -> ProductDetail {
        let sku = Sku {
            id: SkuId(id),
            specifications: String::new(),
            price: Fen(price),
            original_price: None,
            weight_grams: None,
            stock: 0,
        };
        ProductDetail {
            id: ProductId(id),
            name: name.into(),
            description: String::new(),
            price: Fen(price),
            original_price: None,
            images: vec![],
            specifications: String::new(),
            stock: 0,
            category_id: CategoryId(category),
            brand: String::new(),
            origin: "山东烟台".into(),
            unit: "箱".into(),
            weight_grams: None,
            tags: vec!["当季".into()],
            skus: vec![sku],
        }
    }

    fn snapshot() -> Snapshot {
        let products = vec![
            product(3, 1, "红富士苹果", 1580),
            product(1, 1, "Gala 苹果", 990),
            product(2, 2, "菠菜", 1580),
        ];
        let pictured = products.into_iter().map(|product| (product, "/static/1.webp".into()));
        Snapshot::new(1, vec![], pictured.collect())
    }

    fn ids(query: &str) -> (Vec<i64>, usize) {
        let snapshot = snapshot();
        let (page, total) = snapshot.page(&ProductQuery::parse(query).unwrap());
        (page.iter().map(|product| product.id.0).collect(), total)
    }

    #[test]
    fn lists_are_narrowed_sorted_and_paged() {
        assert_eq!(ids(""), (vec![3, 1, 2], 3));
        assert_eq!(ids("category_id=1"), (vec![3, 1], 2));
        assert_eq!(ids("keyword=苹果"), (vec![3, 1], 2));
        assert_eq!(ids("keyword=GALA"), (vec![1], 1));
        assert_eq!(ids("keyword=烟台&category_id=2"), (vec![2], 1));
        assert_eq!(ids("keyword=没有"), (vec![], 0));
        assert_eq!(ids("sort=price_asc"), (vec![1, 3, 2], 3));
        assert_eq!(ids("sort=price_desc"), (vec![3, 2, 1], 3));
        assert_eq!(ids("sort=newest"), (vec![3, 2, 1], 3));
        assert_eq!(ids("page=2&size=2"), (vec![2], 3));
        assert_eq!(ids("page=1000000&size=100"), (vec![], 3));
    }

    #[test]
    fn what_an_order_line_needs_is_found_by_product_and_by_sku() {
        let snapshot = snapshot();
        let offer = snapshot.default_offer(ProductId(3)).unwrap();
        assert_eq!(
            (offer.sku_id, offer.product_id, offer.category_id),
            (SkuId(3), ProductId(3), CategoryId(1))
        );
        assert_eq!((&*offer.name, &*offer.image, offer.price), ("红富士苹果", "/static/1.webp", Fen(1580)));
        assert_eq!(snapshot.offer(SkuId(3)), Some(offer));
        assert_eq!((snapshot.default_offer(ProductId(9)), snapshot.offer(SkuId(9))), (None, None));
    }

    #[test]
    fn a_product_is_found_by_its_id() {
        assert_eq!(snapshot().product(ProductId(2)).unwrap().name, "菠菜");
        assert!(snapshot().product(ProductId(9)).is_none());
    }
}
