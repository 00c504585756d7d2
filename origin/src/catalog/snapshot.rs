//! The snapshot: what is on sale, immutable, at one version of the catalogue. Promises everyone who holds it answers that
//! agree with each other, without waiting for anybody; only the stock beside it moves. A product is held once, in its
//! parts; the pages that are asked for are held as bytes besides ([`super::pages`]).

use std::ops::Range;
use std::sync::Arc;

use farmgate_shared::api::catalog::{
    Category, HOME_PRODUCTS, Home, ProductDetail, ProductQuery, ProductSort, ProductSummary, Sku, SkuStock,
    StockQuery,
};
use farmgate_shared::ids::{CategoryId, ProductId, SkuId};
use farmgate_shared::money::Fen;

use super::arrangement::{Arrangement, Traits, Window};
use super::id_table::IdTable;
use super::levels::Levels;
use super::pages::Pages;
use super::search::Search;
use super::texts::{TextId, Texts};

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

/// A product without its SKUs.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProductRecord {
    pub id: i64,
    pub category: CategoryId,
    pub name: TextId,
    /// Lower case, to be searched.
    pub folded_name: TextId,
    pub description: TextId,
    pub specifications: TextId,
    pub brand: TextId,
    pub origin: TextId,
    pub unit: TextId,
    /// A JSON list, as stored.
    pub images: TextId,
    /// A JSON list.
    pub tags: TextId,
    /// Its SKUs go from here to the next product's.
    pub first_sku: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SkuRecord {
    pub id: i64,
    pub specifications: TextId,
    /// The row of its product.
    pub product: u32,
    pub price: i64,
    pub original_price: Maybe,
    pub weight_grams: Maybe,
}

/// A number that may be missing, in the bytes of one: none of these is ever negative.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maybe(i64);

impl From<Option<i64>> for Maybe {
    fn from(number: Option<i64>) -> Maybe {
        Maybe(number.unwrap_or(-1))
    }
}

impl Maybe {
    fn get(self) -> Option<i64> {
        (self.0 >= 0).then_some(self.0)
    }
}

/// The catalogue at one version. The wire values that it gives show stock 0; whoever needs the number asks
/// [`Snapshot::levels`].
#[derive(Debug, Default)]
pub struct Snapshot {
    /// 0 before the first load.
    pub version: i64,
    pub categories: Vec<Category>,
    pub levels: Levels,
    pub pages: Pages,
    pub(super) texts: Texts,
    /// In the shopkeeper's order, each with at least one SKU; a row is a place in here.
    pub(super) products: Box<[ProductRecord]>,
    /// By product, the default first.
    pub(super) skus: Box<[SkuRecord]>,
    pub(super) product_rows: IdTable,
    pub(super) sku_rows: IdTable,
    pub(super) arrangement: Arrangement,
    pub(super) search: Search,
    pub(super) public_url: Arc<str>,
}

impl Snapshot {
    /// The row of a product that is on sale.
    pub fn row_of(&self, product: ProductId) -> Option<u32> {
        self.product_rows.find(product.0, |row| self.product_id(row))
    }

    /// The place of a SKU that is on sale, in [`Snapshot::levels`] too.
    pub fn sku_row_of(&self, sku: SkuId) -> Option<u32> {
        self.sku_rows.find(sku.0, |row| self.sku_id(row))
    }

    /// Every SKU, by its place.
    pub fn sku_ids(&self) -> impl Iterator<Item = SkuId> {
        self.skus.iter().map(|sku| SkuId(sku.id))
    }

    fn product(&self, row: u32) -> Option<&ProductRecord> {
        self.products.get(row as usize)
    }

    fn sku(&self, row: u32) -> Option<&SkuRecord> {
        self.skus.get(row as usize)
    }

    /// The places of a product's SKUs.
    pub fn skus_of(&self, row: u32) -> Range<u32> {
        let first = |row: u32| self.product(row).map(|product| product.first_sku);
        // There are fewer than u32::MAX SKUs, or there were no snapshot.
        let end = || u32::try_from(self.skus.len()).unwrap_or(u32::MAX);
        let start = first(row).unwrap_or_else(end);
        start..row.checked_add(1).and_then(first).unwrap_or_else(end).max(start)
    }

    fn sku_records(&self, row: u32) -> &[SkuRecord] {
        let range = self.skus_of(row);
        self.skus.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    fn cheapest(&self, row: u32) -> Option<&SkuRecord> {
        self.sku_records(row).iter().min_by_key(|sku| sku.price)
    }

    fn texts_of(&self, list: TextId) -> Vec<String> {
        // Written by us when the row was read.
        serde_json::from_str(self.texts.get(list)).unwrap_or_default()
    }

    fn images_of(&self, product: &ProductRecord) -> Vec<String> {
        self.texts_of(product.images).iter().map(|image| absolute(image, &self.public_url)).collect()
    }

    /// The default choice of a product that is on sale.
    pub fn default_offer(&self, product: ProductId) -> Option<ForSale> {
        self.for_sale(self.skus_of(self.row_of(product)?).start)
    }

    /// Whether a product that is on sale comes in one way only.
    pub fn has_one_sku(&self, product: ProductId) -> bool {
        self.row_of(product).is_some_and(|row| self.skus_of(row).len() == 1)
    }

    /// A SKU that is on sale, of a product that is.
    pub fn offer(&self, sku: SkuId) -> Option<ForSale> {
        self.for_sale(self.sku_row_of(sku)?)
    }

    fn for_sale(&self, sku_row: u32) -> Option<ForSale> {
        let sku = self.sku(sku_row)?;
        let product = self.product(sku.product)?;
        Some(ForSale {
            sku_id: SkuId(sku.id),
            product_id: ProductId(product.id),
            category_id: product.category,
            name: self.texts.get(product.name).into(),
            image: self.texts_of(product.images).first().map_or("", String::as_str).into(),
            specifications: self.texts.get(sku.specifications).into(),
            price: Fen(sku.price),
        })
    }

    /// The rows of one page of a list, and how many products there are on all pages.
    pub fn page(&self, query: &ProductQuery) -> (Vec<u32>, usize) {
        let window = Window {
            offset: usize::try_from(query.paging.offset()).unwrap_or(usize::MAX),
            size: usize::try_from(query.paging.size).unwrap_or(usize::MAX),
        };
        let Some(keyword) = &query.keyword else {
            return self.arrangement.page(query.category_id, query.sort, window);
        };
        let products = u32::try_from(self.products.len()).unwrap_or(u32::MAX);
        let mut found = self.search.find(keyword, products, |row| self.folded_name(row), &self.texts);
        if let Some(category) = query.category_id {
            found.retain(|row| self.product(*row).is_some_and(|product| product.category == category));
        }
        let total = found.len();
        (self.arrangement.page_of(found, query.sort, window, |row| self.traits(row)), total)
    }

    // Rows come from the tables and indexes of this same snapshot, so that none is missing.

    pub(super) fn product_id(&self, row: u32) -> i64 {
        self.product(row).map_or(0, |product| product.id)
    }

    pub(super) fn sku_id(&self, row: u32) -> i64 {
        self.sku(row).map_or(0, |sku| sku.id)
    }

    pub(super) fn folded_name(&self, row: u32) -> TextId {
        self.product(row).map_or_else(TextId::default, |product| product.folded_name)
    }

    pub(super) fn traits(&self, row: u32) -> Traits {
        let (id, category) =
            self.product(row).map_or((0, CategoryId(0)), |product| (product.id, product.category));
        Traits { id, category, price: self.cheapest(row).map_or(0, |sku| sku.price) }
    }

    /// A product as lists show it.
    pub fn summary(&self, row: u32) -> Option<ProductSummary> {
        let (product, cheapest) = self.product(row).zip(self.cheapest(row))?;
        Some(ProductSummary {
            id: ProductId(product.id),
            name: self.texts.get(product.name).to_owned(),
            price: Fen(cheapest.price),
            original_price: cheapest.original_price.get().map(Fen),
            images: self.images_of(product),
            stock: 0,
            category_id: product.category,
            unit: self.texts.get(product.unit).to_owned(),
            origin: self.texts.get(product.origin).to_owned(),
            tags: self.texts_of(product.tags),
        })
    }

    /// A product as its own page shows it.
    pub fn detail(&self, row: u32) -> Option<ProductDetail> {
        let (product, cheapest) = self.product(row).zip(self.cheapest(row))?;
        let text = |id| self.texts.get(id).to_owned();
        let skus = self.sku_records(row).iter().map(|sku| Sku {
            id: SkuId(sku.id),
            specifications: text(sku.specifications),
            price: Fen(sku.price),
            original_price: sku.original_price.get().map(Fen),
            weight_grams: sku.weight_grams.get(),
            stock: 0,
        });
        Some(ProductDetail {
            id: ProductId(product.id),
            name: text(product.name),
            description: text(product.description),
            price: Fen(cheapest.price),
            original_price: cheapest.original_price.get().map(Fen),
            images: self.images_of(product),
            specifications: text(product.specifications),
            stock: 0,
            category_id: product.category,
            brand: text(product.brand),
            origin: text(product.origin),
            unit: text(product.unit),
            weight_grams: cheapest.weight_grams.get(),
            tags: self.texts_of(product.tags),
            skus: skus.collect(),
        })
    }

    /// The shop's first page, and the rows of its products in the order in which it shows them.
    pub fn home(&self) -> (Home, Vec<u32>) {
        let first = Window { offset: 0, size: HOME_PRODUCTS };
        let (recommended, _) = self.arrangement.page(None, ProductSort::Default, first);
        let (newest, _) = self.arrangement.page(None, ProductSort::Newest, first);
        let is_on_offer = |row: &u32| {
            self.cheapest(*row).is_some_and(|sku| sku.original_price.get().is_some_and(|was| was > sku.price))
        };
        let on_offer: Vec<u32> =
            (0..).zip(&*self.products).map(|(row, _)| row).filter(is_on_offer).take(HOME_PRODUCTS).collect();
        let summaries = |rows: &[u32]| rows.iter().filter_map(|row| self.summary(*row)).collect();
        let home = Home {
            categories: self.categories.clone(),
            recommended: summaries(&recommended),
            newest: summaries(&newest),
            on_offer: summaries(&on_offer),
        };
        (home, [recommended, newest, on_offer].concat())
    }

    /// What can be ordered now of what is asked for; what is not on sale is left out.
    pub fn stock(&self, query: &StockQuery) -> Vec<SkuStock> {
        let entry = |row: u32| {
            let sku = self.sku(row)?;
            let product_id = ProductId(self.product(sku.product)?.id);
            Some(SkuStock { sku_id: SkuId(sku.id), product_id, stock: self.levels.of(row).into() })
        };
        match query {
            StockQuery::Skus(ids) => {
                ids.iter().filter_map(|id| self.sku_row_of(*id)).filter_map(entry).collect()
            }
            StockQuery::Products(ids) => ids
                .iter()
                .filter_map(|id| self.row_of(*id))
                .flat_map(|row| self.skus_of(row))
                .filter_map(entry)
                .collect(),
        }
    }
}

/// A picture's address as a phone can load it: the shop's own pictures are stored as paths.
pub fn absolute(image: &str, public_url: &str) -> String {
    if image.starts_with('/') {
        format!("{}{image}", public_url.trim_end_matches('/'))
    } else {
        image.to_owned()
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
