//! Sends one message for one event. A shopper agrees to one message at a time, so most repetitions are refused by WeChat
//! itself; a refused one is over and done with.

use farmgate_shared::api::orders::{Order, OrderItem};
use farmgate_shared::money::Fen;
use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::model::{Facts, Occasion};
use super::service::Told;
use super::store;
use crate::app::App;
use crate::orders;
use crate::outbox::model::{Call, CallFailure, Consumer, Done, Effect, Event, EventKind};
use crate::payments::receipt;
use crate::refunds;
use crate::shipments;
use crate::shipments::model::{Way, company_name};

const PATH: &str = "/cgi-bin/message/subscribe/send";
/// "user refuse to accept the msg": not subscribed, or no longer.
const NOT_SUBSCRIBED: i64 = 43101;

pub const CONSUMER: Consumer = Consumer {
    name: "subscribe_messages",
    wants: &[EventKind::OrderPaid, EventKind::OrderShipped, EventKind::RefundPaid],
    is_on: |config| config.messages.is_on(),
    effect: Effect::Call(tell as Call),
};

/// What of an event a shopper is told, if anything.
fn occasion_of(kind: EventKind) -> Option<Occasion> {
    match kind {
        EventKind::OrderPaid => Some(Occasion::Paid),
        EventKind::OrderShipped => Some(Occasion::Shipped),
        EventKind::RefundPaid => Some(Occasion::Refunded),
        _ => None,
    }
}

#[derive(Debug, Serialize)]
struct Message {
    touser: String,
    template_id: String,
    page: String,
    miniprogram_state: String,
    lang: &'static str,
    data: serde_json::Value,
}

/// WeChat's answer says nothing beyond its errcode.
#[derive(Deserialize)]
struct Sent {}

fn tell<'a>(app: &'a App, event: &'a Event) -> BoxFuture<'a, Result<Done, CallFailure>> {
    Box::pin(async move {
        let Some(occasion) = occasion_of(event.kind) else { return Ok(Done::Nothing) };
        let Some(template) = app.messages.template(occasion) else { return Ok(Done::Nothing) };
        let (_, order) = orders::of_shop::get(app, event.order).await?;
        let Some(receipt) = receipt::of_order(app.db.pool(), &order.order_no).await? else {
            return Err(CallFailure::Permanent(format!("order {} has no payment", order.order_no)));
        };
        let message = Message {
            touser: receipt.openid,
            template_id: template.id.clone(),
            page: app.messages.page(event.order),
            miniprogram_state: app.messages.state.clone(),
            lang: "zh_CN",
            data: template.data(&facts(app, event, occasion, &order).await?),
        };
        let outcome = match app.mini.post::<Sent>(PATH, &message).await {
            Ok(Sent {}) => Told::Sent,
            Err(error) if error.errcode() == Some(NOT_SUBSCRIBED) => Told::NotAgreed,
            Err(error) => return Err(error.into()),
        };
        let (event, order, now) = (event.id, event.order, app.clock.now());
        Ok(Done::and(move |connection| {
            Box::pin(async move {
                store::insert(connection, event, order, occasion.name(), outcome.number(), now).await
            })
        }))
    })
}

async fn facts(app: &App, event: &Event, occasion: Occasion, order: &Order) -> Result<Facts, CallFailure> {
    let (company, tracking_no) = match occasion {
        Occasion::Shipped => sent_by(app, event).await?,
        Occasion::Paid | Occasion::Refunded => (String::new(), String::new()),
    };
    let amount = match occasion {
        Occasion::Refunded => went_back(app, event).await?,
        Occasion::Paid | Occasion::Shipped => order.actual_amount,
    };
    Ok(Facts {
        occasion,
        order_no: order.order_no.to_string(),
        product: product(&order.items),
        quantity: order.items.iter().map(|item| u64::from(item.quantity)).sum(),
        amount,
        time: event.happened_at,
        company,
        tracking_no,
    })
}

/// The goods in a few words.
fn product(items: &[OrderItem]) -> String {
    match items {
        [] => String::new(),
        [only] => only.name.clone(),
        // The number of lines would be lost behind a long name.
        [first, ..] => {
            let name: String = first.name.chars().take(12).collect();
            format!("{name}等{}种商品", items.len())
        }
    }
}

/// What went back, which may be a part: the refund that the event is about. An older binary's event names none, and means
/// the last one.
async fn went_back(app: &App, event: &Event) -> Result<Fen, CallFailure> {
    let paid_back = refunds::service::paid_back(app.db.pool(), event.order).await?;
    let refund = match event.subject {
        Some(id) => paid_back.iter().find(|refund| refund.id == id),
        None => paid_back.last(),
    };
    let refund = refund.ok_or_else(|| CallFailure::Permanent("no refund was paid".to_owned()))?;
    Ok(refund.amount)
}

/// Who brings it, and under which number.
async fn sent_by(app: &App, event: &Event) -> Result<(String, String), CallFailure> {
    let sent = shipments::service::sent(app, event.order).await?;
    Ok(match sent.map(|sent| sent.way) {
        Some(Way::Express { company, tracking_no }) => {
            (company_name(&company).map_or(company, str::to_owned), tracking_no)
        }
        Some(way @ (Way::City(_) | Way::PickUp)) => (way.kind().text().to_owned(), String::new()),
        None => (String::new(), String::new()),
    })
}
