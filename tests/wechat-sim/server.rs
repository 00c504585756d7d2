//! The routes, and what stands in front of each call from the shop: the log, the faults in force, the check of who
//! calls, and the signature on the way back.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use farmgate_tests::dropped_connection;
use serde_json::{Value, json};

use crate::faults::ApiFault;
use crate::holding::HeldPlace;
use crate::notify::pause;
use crate::reply::{PayError, Signer, Unsigned, json_reply, signed};
use crate::state::{Call, Shared, Sim, beijing_time, now};
use crate::{
    auth, bills, controls, holding, login, messages, pay, phone, refunds, shipping, text_check, token,
};

/// Far above any honest call.
const MAX_BODY: usize = 1024 * 1024;

pub fn router(sim: Shared) -> Router {
    let shop = Router::new()
        .route("/sns/jscode2session", get(login::login))
        .route("/cgi-bin/stable_token", post(token::stable_token))
        .route("/wxa/msg_sec_check", post(text_check::msg_sec_check))
        .route("/wxa/business/getuserphonenumber", post(phone::get_user_phone_number))
        .route("/wxa/sec/order/upload_shipping_info", post(shipping::upload_shipping_info))
        .route("/cgi-bin/message/subscribe/send", post(messages::send))
        .route("/v3/pay/transactions/jsapi", post(pay::prepay))
        .route("/v3/pay/transactions/id/{transaction_id}", get(pay::query_by_transaction))
        .route("/v3/pay/transactions/out-trade-no/{out_trade_no}", get(pay::query_by_number))
        .route("/v3/pay/transactions/out-trade-no/{out_trade_no}/close", post(pay::close))
        .route("/v3/refund/domestic/refunds", post(refunds::refund))
        .route("/v3/refund/domestic/refunds/{out_refund_no}", get(refunds::query))
        .route("/v3/bill/tradebill", get(bills::tradebill))
        .route("/v3/billdownload/file", get(bills::download))
        .fallback(nothing_there)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(sim.clone(), gate));
    let controls = Router::new()
        .route("/healthz", get(controls::healthz))
        .route("/pay", post(controls::pay))
        .route("/notify", post(controls::notify))
        .route("/refund", post(refunds::decide_refund))
        .route("/refund-notify", post(refunds::notify_refund))
        .route(
            "/faults",
            get(controls::show_faults).post(controls::add_faults).delete(controls::clear_faults),
        )
        .route("/held", get(holding::show_held))
        .route("/bills/backdate", post(bills::backdate))
        .route("/access-token", post(controls::change_access_token))
        .route("/shipments", get(shipping::show_shipment))
        .route("/templates", post(messages::add_template))
        .route("/subscriptions", post(messages::set_consent))
        .route("/messages", get(messages::show_sent))
        .route("/log", get(controls::show_log).delete(controls::clear_log));
    Router::new().nest("/sim", controls).merge(shop).with_state(sim)
}

async fn nothing_there() -> PayError {
    PayError::new(StatusCode::NOT_FOUND, "RESOURCE_NOT_EXISTS", "请求的资源不存在")
}

async fn wrong_method() -> PayError {
    PayError::new(StatusCode::METHOD_NOT_ALLOWED, "INVALID_REQUEST", "请求方法不支持")
}

/// Stands in front of every call from the shop.
async fn gate(State(sim): State<Shared>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let mut call = Call {
        at: beijing_time(now()),
        method: parts.method.to_string(),
        path: path.clone(),
        body: logged_body(&body),
        status: None,
        took_ms: 0,
    };
    let (faults, place) = {
        let mut books = sim.books();
        (books.faults.take_api(&path), books.holding.place())
    };
    let reply =
        answer(&sim, (&faults, place), Request::from_parts(parts, Body::from(body.clone())), body, next)
            .await;
    call.status = reply.as_ref().map(|reply| reply.status().as_u16());
    call.took_ms = started.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    sim.books().log.push(call);
    reply.unwrap_or_else(dropped_connection)
}

/// The reply, or nothing where the connection is to be dropped.
async fn answer(
    sim: &Sim,
    (faults, mut place): (&[ApiFault], HeldPlace),
    request: Request,
    body: Bytes,
    next: Next,
) -> Option<Response> {
    for fault in faults {
        match fault {
            ApiFault::Slow { ms } => pause(Duration::from_millis(*ms)).await,
            ApiFault::Hold => place.wait().await,
            ApiFault::Drop => return None,
            ApiFault::Status { status, code } => return Some(refusal(*status, code)),
            ApiFault::Refuse { status, code } => {
                return Some(signed(&sim.keys, Signer::Platform, now(), refusal(*status, code)).await);
            }
            ApiFault::Errcode { errcode } => return Some(token::refused(*errcode)),
            ApiFault::LostReply | ApiFault::ForgedSignature => {}
        }
    }
    let reply = if request.uri().path().starts_with("/v3/") {
        let signer =
            if faults.contains(&ApiFault::ForgedSignature) { Signer::Stranger } else { Signer::Platform };
        let caller = (request.method(), request.uri(), request.headers());
        let verdict = auth::check(&sim.keys, &mut sim.books().nonces, now(), caller, &body);
        match verdict {
            Ok(()) => {
                let reply = next.run(request).await;
                match reply.extensions().get::<Unsigned>() {
                    Some(Unsigned) => reply,
                    None => signed(&sim.keys, signer, now(), reply).await,
                }
            }
            Err(error) if error.is_signed() => signed(&sim.keys, signer, now(), error.into_response()).await,
            Err(error) => error.into_response(),
        }
    } else {
        next.run(request).await
    };
    Some(reply).filter(|_| !faults.contains(&ApiFault::LostReply))
}

fn refusal(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_reply(status, &json!({"code": code, "message": "系统繁忙，请稍后重试"}))
}

/// A body as the log shows it.
fn logged_body(body: &Bytes) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| json!(String::from_utf8_lossy(body)))
}
