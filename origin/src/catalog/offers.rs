//! What orders ask for, at today's prices. Promises that an order is priced as MySQL had it after the order came: from the
//! snapshot while MySQL names the snapshot's version, which one small read tells for many orders, and from MySQL's rows
//! while it names another.

use farmgate_shared::api::orders::{OrderLine, Quantity, Wanted};
use farmgate_shared::ids::{CategoryId, ProductId, SkuId};
use farmgate_shared::money::Fen;
use farmgate_shared::problem::Problem;

use super::Catalog;
use super::snapshot::{ForSale, Snapshot};
use super::store::{self, OfferRow};
use crate::db::lookup::{Lookup, Reader};
use crate::error::ApiError;

/// What an order line costs and shows, read from the database when the order is made.
#[derive(Clone, Debug)]
pub struct Offer {
    pub sku_id: SkuId,
    pub product_id: ProductId,
    pub category_id: CategoryId,
    pub name: String,
    /// As stored: a path of the shop's or a whole address.
    pub image: String,
    pub specifications: String,
    pub price: Fen,
    pub quantity: Quantity,
}

impl From<OfferRow> for ForSale {
    fn from(row: OfferRow) -> ForSale {
        ForSale {
            sku_id: SkuId(row.sku_id),
            product_id: ProductId(row.product_id),
            category_id: CategoryId(row.category_id),
            name: row.name.into(),
            image: row.images.0.into_iter().next().unwrap_or_default().into(),
            specifications: row.specifications.into(),
            price: Fen(row.price_fen),
        }
    }
}

impl ForSale {
    /// So many of it.
    pub fn offer(self, quantity: Quantity) -> Offer {
        Offer {
            sku_id: self.sku_id,
            product_id: self.product_id,
            category_id: self.category_id,
            name: String::from(&*self.name),
            image: String::from(&*self.image),
            specifications: String::from(&*self.specifications),
            price: self.price,
            quantity,
        }
    }
}

/// Reads what orders ask for, for many orders at once.
#[derive(Debug)]
pub struct Offers {
    version: Lookup<(), i64>,
    skus: Lookup<SkuId, ForSale>,
    /// The default SKU of a product.
    products: Lookup<ProductId, ForSale>,
}

impl Offers {
    pub fn new(reader: &Reader) -> Offers {
        let version = |(version,): (i64,)| ((), version);
        let of_sku = |row: OfferRow| (SkuId(row.sku_id), row.into());
        let of_product = |row: OfferRow| (ProductId(row.product_id), row.into());
        Offers {
            version: Lookup::new(
                reader,
                |script, _| store::say_version(script),
                move |ran, said| Ok(ran.read(said)?.into_iter().map(version).collect()),
            ),
            skus: Lookup::new(reader, store::offers, move |ran, said| {
                Ok(ran.read(said)?.into_iter().map(of_sku).collect())
            }),
            products: Lookup::new(reader, store::default_offers, move |ran, said| {
                Ok(ran.read(said)?.into_iter().map(of_product).collect())
            }),
        }
    }

    /// The goods that an order asks for, in SKU order, at today's prices.
    ///
    /// # Errors
    /// [`Problem::ProductNotFound`] when one of them is not on sale, or MySQL being away.
    pub async fn of(&self, catalog: &Catalog, wanted: &Wanted) -> Result<Vec<Offer>, ApiError> {
        let version = self.version.get(()).await?;
        let snapshot = catalog.snapshot();
        if version == Some(snapshot.version) {
            in_snapshot(&snapshot, wanted)
        } else {
            self.in_mysql(wanted).await
        }
    }

    async fn in_mysql(&self, wanted: &Wanted) -> Result<Vec<Offer>, ApiError> {
        match wanted {
            Wanted::Product(product, quantity) => {
                let sku = self.products.get(*product).await?.ok_or(Problem::ProductNotFound)?;
                Ok(vec![sku.offer(*quantity)])
            }
            Wanted::Skus(lines) => {
                let skus = self.skus.get_all(lines.iter().map(|line| line.sku_id)).await?;
                skus.into_iter().zip(lines).map(offered).collect()
            }
        }
    }
}

fn in_snapshot(snapshot: &Snapshot, wanted: &Wanted) -> Result<Vec<Offer>, ApiError> {
    match wanted {
        Wanted::Product(product, quantity) => {
            let sku = snapshot.default_offer(*product).ok_or(Problem::ProductNotFound)?;
            Ok(vec![sku.offer(*quantity)])
        }
        Wanted::Skus(lines) => {
            lines.iter().map(|line| offered((snapshot.offer(line.sku_id), line))).collect()
        }
    }
}

fn offered((sku, line): (Option<ForSale>, &OrderLine)) -> Result<Offer, ApiError> {
    Ok(sku.ok_or(Problem::ProductNotFound)?.offer(line.quantity))
}
