//! Telling WeChat that an order was shipped, by `upload_shipping_info`: until it knows, the shop's money stays frozen. May be
//! told twice: what it has already counts as told.

use std::time::Duration;

use farmgate_shared::api::orders::{Order, OrderItem};
use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::model::{self, Way};
use super::service::{self, Sent};
use super::store;
use crate::app::App;
use crate::clock::SHANGHAI;
use crate::orders;
use crate::orders::model::Status;
use crate::outbox::model::{Call, CallFailure, Consumer, Done, Effect, Event, EventKind};
use crate::payments::receipt::{self, Receipt};
use crate::wechat::mini::MiniError;
use crate::wechat::phone::PhoneNumber;

const PATH: &str = "/wxa/sec/order/upload_shipping_info";

pub const CONSUMER: Consumer = Consumer {
    name: "shipping_upload",
    wants: &[EventKind::OrderShipped, EventKind::OrderReshipped],
    is_on: |config| config.shipping.upload,
    effect: Effect::Call(upload as Call),
};

/// Longest description of the goods, in characters.
const MOST_OF_GOODS: usize = 120;

fn upload<'a>(app: &'a App, event: &'a Event) -> BoxFuture<'a, Result<Done, CallFailure>> {
    Box::pin(async move {
        let order_id = event.order;
        let sent = service::sent(app, order_id).await?;
        // A later event of the same order has told of both.
        let Some(sent) = sent.filter(|sent| !sent.is_uploaded) else { return Ok(Done::Nothing) };
        let (_, order) = orders::of_shop::get(app, order_id).await?;
        if order.status == Status::Refunded.number() {
            // No money is left to unfreeze.
            return Ok(Done::Nothing);
        }
        let Some(receipt) = receipt::of_order(app.db.pool(), &order.order_no).await? else {
            return Err(CallFailure::Permanent(format!("order {} has no payment", order.order_no)));
        };
        tell(app, &order, &sent, &receipt).await?;
        let (round, now) = (sent.round, app.clock.now());
        Ok(Done::and(move |connection| {
            Box::pin(async move { store::set_uploaded(connection, order_id, round, now).await })
        }))
    })
}

/// WeChat's answer says nothing beyond its errcode.
#[derive(Deserialize)]
struct Told {}

async fn tell(app: &App, order: &Order, sent: &Sent, receipt: &Receipt) -> Result<(), CallFailure> {
    match app.mini.post::<Told>(PATH, &Upload::of(order, sent, receipt)?).await {
        Ok(Told {}) => Ok(()),
        Err(error) => {
            let told = read(error, app.config.shipping.unknown_retry())?;
            tracing::info!(order_no = %order.order_no, %told, "WeChat knew of the shipment");
            Ok(())
        }
    }
}

/// What a refusal means: that WeChat has the shipment, or why it has not. `unknown` is how long to wait until it may know the
/// payment.
fn read(error: MiniError, unknown: Duration) -> Result<MiniError, CallFailure> {
    let Some(code) = error.errcode() else { return Err(error.into()) };
    match code {
        // Shipped completely; its one change is used; nothing differs from before.
        10_060_002 | 10_060_003 | 10_060_023 => Ok(error),
        // The payment is not yet known there; or a refund is under way, which may end either way.
        10_060_001 | 10_060_004 => Err(CallFailure::Transient { reason: error.to_string(), wait: unknown }),
        10_060_012 => Err(CallFailure::away(error.to_string())),
        _ => Err(error.into()),
    }
}

#[derive(Debug, Serialize)]
struct Upload {
    order_key: OrderKey,
    logistics_type: u8,
    /// 1: all in one delivery.
    delivery_mode: u8,
    shipping_list: [Parcel; 1],
    upload_time: String,
    payer: Payer,
}

#[derive(Debug, Serialize)]
struct OrderKey {
    /// 2: by WeChat's own number.
    order_number_type: u8,
    transaction_id: String,
}

#[derive(Debug, Serialize)]
struct Parcel {
    item_desc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    express_company: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_no: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contact: Option<Contact>,
}

#[derive(Debug, Serialize)]
struct Contact {
    receiver_contact: String,
}

#[derive(Debug, Serialize)]
struct Payer {
    openid: String,
}

impl Upload {
    fn of(order: &Order, sent: &Sent, receipt: &Receipt) -> Result<Upload, CallFailure> {
        let (express_company, tracking_no) = match &sent.way {
            Way::Express { company, tracking_no } => (Some(company.clone()), Some(tracking_no.clone())),
            Way::City(_) | Way::PickUp => (None, None),
        };
        let contact = match sent.way.needs_contact() {
            true => Some(Contact::of(&order.delivery_address.phone)?),
            false => None,
        };
        Ok(Upload {
            order_key: OrderKey { order_number_type: 2, transaction_id: receipt.transaction_id.clone() },
            logistics_type: model::number(sent.way.kind()),
            delivery_mode: 1,
            shipping_list: [Parcel { item_desc: goods(&order.items), express_company, tracking_no, contact }],
            upload_time: upload_time(sent.shipped_at),
            payer: Payer { openid: receipt.openid.clone() },
        })
    }
}

impl Contact {
    /// Masked, as WeChat takes it: nobody between can read it.
    fn of(phone: &str) -> Result<Contact, CallFailure> {
        let number = PhoneNumber::parse(phone);
        let number =
            number.ok_or_else(|| CallFailure::Permanent("the address has no telephone number".to_owned()))?;
        Ok(Contact { receiver_contact: number.masked() })
    }
}

/// When the shop shipped, the same in every attempt: WeChat takes the later of two for the truer.
fn upload_time(shipped_at: OffsetDateTime) -> String {
    // RFC 3339 cannot spell a year beyond 9999, and no clock of ours gets there.
    shipped_at.to_offset(SHANGHAI).format(&Rfc3339).unwrap_or_default()
}

/// What is in the parcel, as the shopper reads it in WeChat.
fn goods(items: &[OrderItem]) -> String {
    let lines: Vec<String> = items
        .iter()
        .map(|item| match item.specifications.as_str() {
            "" => format!("{}×{}", item.name, item.quantity),
            options => format!("{}（{options}）×{}", item.name, item.quantity),
        })
        .collect();
    let all = lines.join("，");
    if all.chars().count() <= MOST_OF_GOODS {
        return all;
    }
    let cut: String = all.chars().take(MOST_OF_GOODS - 1).collect();
    format!("{cut}…")
}

#[cfg(test)]
mod tests {
    use farmgate_shared::ids::{ProductId, SkuId};
    use farmgate_shared::money::Fen;
    use time::macros::datetime;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn line(name: &str, specifications: &str) -> OrderItem {
        OrderItem {
            sku_id: SkuId(1),
            product_id: ProductId(1),
            name: name.into(),
            image: String::new(),
            specifications: specifications.into(),
            price: Fen(1),
            quantity: 2,
            amount: Fen(2),
        }
    }

    #[test]
    fn the_goods_are_named_as_far_as_wechat_takes_it() {
        assert_eq!(
            goods(&[line("红富士苹果", "5斤装"), line("土鸡蛋", "")]),
            "红富士苹果（5斤装）×2，土鸡蛋×2"
        );
        let many = goods(&vec![line("红富士苹果", "5斤装"); 50]);
        assert!(many.chars().count() == MOST_OF_GOODS && many.ends_with('…'), "{many}");
    }

    #[test]
    fn the_time_of_an_upload_is_beijings_and_keeps_its_milliseconds() {
        assert_eq!(upload_time(datetime!(2026-11-22 00:00:00.12 UTC)), "2026-11-22T08:00:00.12+08:00");
        assert_eq!(upload_time(datetime!(2026-11-22 16:30:00 UTC)), "2026-11-23T00:30:00+08:00");
    }

    #[test]
    fn a_refusal_means_told_or_later_or_never() {
        let refused = |errcode| read(MiniError::Refused { errcode, errmsg: "x".into() }, MINUTE);
        for code in [10_060_002, 10_060_003, 10_060_023] {
            assert!(refused(code).is_ok(), "{code}");
        }
        assert!(matches!(
            refused(10_060_001),
            Err(CallFailure::Transient { wait, .. }) if wait == MINUTE
        ));
        assert!(matches!(refused(-1), Err(CallFailure::Away { .. })));
        assert!(matches!(refused(10_060_012), Err(CallFailure::Away { .. })));
        assert!(matches!(refused(10_060_031), Err(CallFailure::Permanent(_))));
        assert!(matches!(read(MiniError::Status(502), MINUTE), Err(CallFailure::Away { .. })));
    }
}
