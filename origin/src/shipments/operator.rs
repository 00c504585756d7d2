//! What `farmgate-origin order …` shows and does.

use std::fmt::Write as _;

use anyhow::Context;
use clap::{ArgGroup, Args, Subcommand};
use farmgate_shared::ids::OrderNo;

use super::model::{self, Way};
use super::service::{self, Shipped};
use crate::app::App;
use crate::clock::shanghai_rfc3339;
use crate::db::reseal;
use crate::orders;

/// Orders listed at once.
const MOST_LISTED: u32 = 500;

#[derive(Debug, Subcommand)]
pub enum OrderCommand {
    /// Says that a paid order has gone out, which tells its shopper and WeChat. The same words again change nothing; other
    /// words are the one correction that WeChat takes.
    Ship {
        order_no: OrderNo,
        #[command(flatten)]
        by: By,
    },
    /// Lists orders.
    #[command(group = ArgGroup::new("which").required(true))]
    List {
        /// Those that are paid and have not gone out: what to pack, and for whom.
        #[arg(long, group = "which")]
        to_ship: bool,
        /// Those that have gone out and of which WeChat does not know yet: it keeps their money.
        #[arg(long, group = "which")]
        not_uploaded: bool,
        /// Those that went out under this parcel's number: a parcel came back, and whose is it?
        #[arg(long, group = "which", value_name = "NUMBER")]
        tracking: Option<String>,
    },
    /// Seals delivery addresses and couriers anew that an older data key has sealed: see `user reseal`.
    Reseal,
}

/// How an order goes out.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("way").required(true))]
pub struct By {
    /// With this express company: WeChat's code, as SF or ZTO.
    #[arg(long, group = "way", requires = "tracking", value_name = "COMPANY")]
    express: Option<String>,
    /// The parcel's number.
    #[arg(long, requires = "express", value_name = "NUMBER")]
    tracking: Option<String>,
    /// Within the city, by this courier.
    #[arg(long, group = "way", value_name = "NAME")]
    city: Option<String>,
    /// The courier's phone number.
    #[arg(long, requires = "city")]
    phone: Option<String>,
    /// The shopper comes for it.
    #[arg(long, group = "way")]
    pick_up: bool,
}

impl By {
    fn way(&self) -> anyhow::Result<Way> {
        // The parser asks for no companion of an argument that another one excludes.
        anyhow::ensure!(self.phone.is_none() || self.city.is_some(), "only a courier has a --phone");
        anyhow::ensure!(self.tracking.is_none() || self.express.is_some(), "only a parcel has a --tracking");
        Ok(match (&self.express, &self.city) {
            (Some(company), _) => Way::express(company, self.tracking.as_deref().unwrap_or_default())?,
            (None, Some(name)) => Way::city(name, self.phone.as_deref())?,
            (None, None) => Way::PickUp,
        })
    }
}

/// Does what was asked, and returns what to print.
///
/// # Errors
/// When MySQL is away, or an order cannot be shipped (so).
pub async fn run(app: &App, command: &OrderCommand) -> anyhow::Result<String> {
    match command {
        OrderCommand::Ship { order_no, by } => ship(app, order_no, by).await,
        OrderCommand::List { to_ship: true, .. } => to_ship(app).await,
        OrderCommand::List { tracking: Some(number), .. } => of_parcel(app, number).await,
        OrderCommand::List { .. } => not_uploaded(app).await,
        OrderCommand::Reseal => {
            let (pool, seal) = (app.db.pool(), &app.seal);
            reseal::told(&[
                ("delivery addresses", orders::service::reseal(pool, seal).await?),
                ("couriers", service::reseal(pool, seal).await?),
            ])
        }
    }
}

async fn ship(app: &App, order_no: &OrderNo, by: &By) -> anyhow::Result<String> {
    let way = by.way()?;
    let order = orders::of_shop::find(app.db.pool(), order_no).await?;
    let order = order.with_context(|| format!("there is no order {order_no}"))?;
    let done = service::ship(app, order, way).await.with_context(|| format!("order {order_no}"))?;
    Ok(match done {
        Shipped::Now => format!("{order_no} shipped\n"),
        Shipped::Before => format!("{order_no} had been shipped so\n"),
        Shipped::Anew => format!("{order_no} shipped anew; WeChat takes no further change\n"),
    })
}

async fn to_ship(app: &App) -> anyhow::Result<String> {
    let orders = orders::of_shop::to_ship(app, MOST_LISTED).await?;
    if orders.is_empty() {
        return Ok("nothing to ship\n".to_owned());
    }
    let mut text = String::new();
    for order in orders {
        let address = &order.delivery_address;
        writeln!(text, "{}  paid {}", order.order_no, order.payment_time.unwrap_or_default())?;
        for item in &order.items {
            writeln!(text, "    {} {} × {}", item.name, item.specifications, item.quantity)?;
        }
        let place =
            [&address.province, &address.city, &address.district, &address.detail].map(String::as_str);
        // What a shopper wrote must not write lines of its own into the list.
        let (name, phone, place) = (&address.name, &address.phone, place.concat());
        writeln!(text, "    {} {} {}", name.escape_debug(), phone.escape_debug(), place.escape_debug())?;
        if !order.remark.is_empty() {
            writeln!(text, "    “{}”", order.remark.escape_debug())?;
        }
    }
    Ok(text)
}

async fn of_parcel(app: &App, number: &str) -> anyhow::Result<String> {
    let number = model::parcel_number(number)?;
    let found = service::of_parcel(app, &number, MOST_LISTED).await?;
    if found.is_empty() {
        return Ok(format!("nothing went out under {number}\n"));
    }
    let mut text = String::new();
    for shipment in found {
        let (status, at) = (shipment.status.text(), shanghai_rfc3339(shipment.shipped_at));
        writeln!(text, "{}  {status}  shipped {at}", shipment.order_no)?;
    }
    Ok(text)
}

async fn not_uploaded(app: &App) -> anyhow::Result<String> {
    let waiting = service::to_upload(app, MOST_LISTED).await?;
    if waiting.is_empty() {
        return Ok("WeChat knows of all shipments\n".to_owned());
    }
    let mut text = String::new();
    for shipment in waiting {
        writeln!(text, "{}  shipped {}", shipment.order_no, shanghai_rfc3339(shipment.shipped_at))?;
    }
    text.push_str("those that WeChat refused stand in `outbox dead`, with its reason\n");
    Ok(text)
}
