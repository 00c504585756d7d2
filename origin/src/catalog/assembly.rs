//! Putting a snapshot together from the rows of MySQL, as they come. Promises that no more than the snapshot itself is
//! held meanwhile, and that whatever did not change since the last one is shared with it.

use farmgate_shared::api::catalog::Category;
use farmgate_shared::ids::CategoryId;

use super::TooLarge;
use super::arrangement::Arrangement;
use super::id_table::IdTable;
use super::levels::Levels;
use super::pages::Pages;
use super::search::{Attributes, Search};
use super::snapshot::{ProductRecord, SkuRecord, Snapshot, absolute};
use super::store::{CategoryRow, ProductRow, SkuRow};
use super::texts::TextsBuilder;

/// What has come so far.
#[derive(Debug)]
pub struct Assembly {
    texts: TextsBuilder,
    /// With the ids of their products, which are yet to come.
    waiting: Vec<(i64, SkuRecord)>,
    products: Vec<ProductRecord>,
    skus: Vec<SkuRecord>,
    attributes: Attributes,
}

impl Assembly {
    pub fn after(previous: &Snapshot) -> Result<Assembly, TooLarge> {
        Ok(Assembly {
            texts: TextsBuilder::over(&previous.texts)?,
            waiting: Vec::new(),
            products: Vec::with_capacity(previous.products.len()),
            skus: Vec::with_capacity(previous.skus.len()),
            attributes: Attributes::default(),
        })
    }

    /// All SKUs come before the products: by product, the default first.
    pub fn add_sku(&mut self, row: &SkuRow) -> Result<(), TooLarge> {
        let sku = SkuRecord {
            id: row.id,
            specifications: self.texts.intern(&row.specifications)?,
            product: 0,
            price: row.price_fen,
            original_price: row.original_price_fen.into(),
            weight_grams: row.weight_grams.into(),
        };
        self.waiting.push((row.product_id, sku));
        Ok(())
    }

    /// In the shopkeeper's order.
    pub fn add_product(&mut self, row: &ProductRow) -> Result<(), TooLarge> {
        let from = self.waiting.partition_point(|(product, _)| *product < row.id);
        let waiting = self.waiting.get(from..).unwrap_or_default();
        let mut of_it = waiting.iter().take_while(|(product, _)| *product == row.id).peekable();
        // A product whose SKUs are all off sale cannot be bought, so it is not shown.
        if of_it.peek().is_none() {
            return Ok(());
        }
        let product = u32::try_from(self.products.len()).map_err(|_| TooLarge)?;
        let first_sku = u32::try_from(self.skus.len()).map_err(|_| TooLarge)?;
        self.skus.extend(of_it.map(|(_, sku)| SkuRecord { product, ..*sku }));
        let texts = &mut self.texts;
        self.products.push(ProductRecord {
            id: row.id,
            category: CategoryId(row.category_id),
            name: texts.intern(&row.name)?,
            folded_name: texts.intern(&row.name.to_lowercase())?,
            description: texts.intern(&row.description)?,
            specifications: texts.intern(&row.specifications)?,
            brand: texts.intern(&row.brand)?,
            origin: texts.intern(&row.origin)?,
            unit: texts.intern(&row.unit)?,
            images: texts.intern(&json_list(&row.images.0))?,
            tags: texts.intern(&json_list(&row.tags.0))?,
            first_sku,
        });
        for attribute in row.tags.0.iter().chain([&row.origin]) {
            self.attributes.note(texts.intern(&attribute.to_lowercase())?)?;
        }
        self.attributes.end_product()
    }

    /// Arranges and indexes. Takes long in a large shop: not for a thread that answers requests.
    pub fn finish(
        self,
        version: i64,
        categories: Vec<CategoryRow>,
        public_url: &str,
    ) -> Result<Snapshot, TooLarge> {
        drop(self.waiting);
        let mut snapshot = Snapshot {
            version,
            categories: Vec::new(),
            levels: Levels::new(self.skus.len()),
            pages: Pages::default(),
            texts: self.texts.finish(),
            products: self.products.into_boxed_slice(),
            skus: self.skus.into_boxed_slice(),
            product_rows: IdTable::default(),
            sku_rows: IdTable::default(),
            arrangement: Arrangement::default(),
            search: Search::default(),
            public_url: public_url.into(),
        };
        let products = u32::try_from(snapshot.products.len()).map_err(|_| TooLarge)?;
        let skus = u32::try_from(snapshot.skus.len()).map_err(|_| TooLarge)?;
        snapshot.product_rows = IdTable::new(products, |row| snapshot.product_id(row));
        snapshot.sku_rows = IdTable::new(skus, |row| snapshot.sku_id(row));
        snapshot.arrangement = Arrangement::new(products, |row| snapshot.traits(row));
        snapshot.search =
            Search::new(products, |row| snapshot.folded_name(row), self.attributes, &snapshot.texts)?;
        let shown = |row: CategoryRow| Category {
            id: CategoryId(row.id),
            name: row.name,
            icon: absolute(&row.icon, public_url),
            product_count: snapshot.arrangement.count_of(CategoryId(row.id)),
        };
        snapshot.categories = categories.into_iter().map(shown).collect();
        Ok(snapshot)
    }
}

fn json_list(texts: &[String]) -> String {
    serde_json::Value::from(texts.to_vec()).to_string()
}
