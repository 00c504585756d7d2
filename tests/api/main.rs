//! The origin's API, one file a domain, as the edge calls it. Each test is a whole shop of its own (see `support`).

// Helpers outside `#[test]` functions may fail a test in the shortest way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access_token;
mod account;
mod addresses;
mod bare_loop;
mod batches;
mod bills;
mod bills_daily;
mod bills_slow_refunds;
mod coupon_orders;
mod coupons;
mod crowded;
mod foreign_notifications;
mod foreign_requests;
mod foreign_sim;
mod messages;
mod money_without_redis;
mod notifications;
mod openapi;
mod orders;
mod pay_client;
mod payment_failures;
mod payments;
mod placing;
mod products;
mod receiving;
mod refunds;
mod refunds_by_hand;
mod reseal;
mod reviews;
mod shipping;
mod snapshot;
mod sold_out;
mod take_script;
mod unkeyed;
mod users;

use farmgate_tests::Value;

/// The keys of an object, sorted.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).keys().map(String::as_str).collect()
}

/// That an object has all of these keys.
#[track_caller]
fn has_keys(value: &Value, wanted: &[&str]) {
    let there = keys(value);
    let missing: Vec<&&str> = wanted.iter().filter(|key| !there.contains(*key)).collect();
    assert!(missing.is_empty(), "{missing:?} missing in {value}");
}

/// Yuan on the wire as whole fen; fails when there is a third decimal.
#[track_caller]
fn fen(value: &Value) -> i64 {
    let text = value.as_number().unwrap_or_else(|| panic!("{value} is no number")).to_string();
    let (yuan, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    assert!(fraction.len() <= 2, "{text} has more than two decimals");
    format!("{yuan}{fraction:0<2}").parse().unwrap()
}
