//! The ceiling that the origin is held against: that the benchmark's bare loop sends MySQL what the origin's writer sends.

use std::ops::Range;
use std::sync::Arc;

use farmgate_bench::batch::{self, MOST_ORDERS, Order, SEALED, Sku};
use farmgate_bench::http::Connection;
use farmgate_bench::load::{next_number, send};
use farmgate_bench::shop::{IMAGE, NAME, PRICE_FEN, SPECIFICATIONS};
use farmgate_bench::target::{Goods, Outcome, Target};
use farmgate_tests::{LONG, Shop, ShopPlan, eventually};
use tokio::task::JoinSet;

const STOCK: i32 = 1000;
/// So many that a whole batch is left, however many three batches took.
const QUEUE: usize = 256;
/// The writer's, and the one that stands in for those that are stuck.
const LANES: usize = 3;

#[tokio::test]
async fn the_bare_loop_sends_what_the_writer_sends() {
    let shop = ShopPlan::new().mysql_cable().worker().stock(STOCK).start().await;
    let (product, sku, _) = shop.first_product().await;
    sell_what_the_benchmark_sells(&shop, product, sku).await;
    let target = Arc::new(shop.bench_target(QUEUE).await);

    let others = shop.lock_stock(sku).await;
    shop.mysql_cable().listen();
    let mut rush = JoinSet::new();
    order(&target, &mut rush, 0..QUEUE, product);
    eventually(LONG, "all have passed the gate, and the lanes wait for the row", async || {
        let sold = i64::try_from(QUEUE).unwrap();
        let is_taken = shop.gate(sku).await == Some(i64::from(STOCK) - sold);
        (is_taken && begun(&shop) == LANES).then_some(())
    })
    .await;
    others.rollback().await.unwrap();
    for outcome in rush.join_all().await {
        assert_eq!(outcome, Outcome::Accepted);
    }

    let together: Vec<(Vec<Order>, Vec<String>)> = scripts(&shop)
        .into_iter()
        .map(|trips| (orders(&trips), trips))
        .filter(|(orders, _)| orders.len() > 1)
        .collect();
    let largest = together.iter().map(|(orders, _)| orders.len()).max();
    assert_eq!(largest, Some(MOST_ORDERS), "orders of the writer's largest batch");
    for (orders, trips) in together {
        let bare = batch::trips(Sku { id: sku, product }, &orders);
        for (ours, origins) in bare.iter().zip(&trips) {
            assert!(ours == origins, "the bare loop's\n{ours}\nis at the origin\n{origins}");
        }
        assert_eq!(bare.len(), trips.len(), "trips of {} orders", orders.len());
        for order in orders {
            // A digit more of the address's id is up to four letters more.
            assert!(order.address_sealed.len().abs_diff(SEALED.len()) <= 4, "{order:?}");
        }
    }
}

/// Makes the product like each of the benchmark's shop.
async fn sell_what_the_benchmark_sells(shop: &Shop, product: i64, sku: i64) {
    sqlx::query("UPDATE products SET name = ?, images = JSON_ARRAY(?) WHERE id = ?")
        .bind(NAME)
        .bind(IMAGE)
        .bind(product)
        .execute(&shop.db)
        .await
        .unwrap();
    sqlx::query("UPDATE product_skus SET specifications = ?, price_fen = ? WHERE id = ?")
        .bind(SPECIFICATIONS)
        .bind(PRICE_FEN)
        .bind(sku)
        .execute(&shop.db)
        .await
        .unwrap();
    shop.script("UPDATE catalog_version SET version = version + 1").await;
}

/// Each of these shoppers orders one, all at once.
fn order(target: &Arc<Target>, rush: &mut JoinSet<Outcome>, shoppers: Range<usize>, product: i64) {
    for shopper in shoppers {
        let target = target.clone();
        rush.spawn(async move {
            let mut request = Vec::new();
            target.write_request(&mut request, shopper, &Goods::Hot(product), next_number());
            let mut connection = Connection::open(target.address).await.unwrap();
            send(&mut connection, &request).await.unwrap()
        });
    }
}

/// On how many connections orders were inserted, or begun to be.
fn begun(shop: &Shop) -> usize {
    let is_order = |query: &String| query.starts_with("INSERT INTO orders ");
    shop.mysql_cable().heard().iter().filter(|line| queries(line).iter().any(is_order)).count()
}

/// The trips of each transaction that inserted orders and was committed.
fn scripts(shop: &Shop) -> Vec<Vec<String>> {
    let mut scripts = Vec::new();
    for line in shop.mysql_cable().heard() {
        let mut trips: Vec<String> = Vec::new();
        for query in queries(&line) {
            if query == "ROLLBACK" {
                trips.clear();
            } else if !trips.is_empty() || query.starts_with("INSERT INTO orders ") {
                let is_last = query.ends_with("COMMIT");
                trips.push(query);
                if is_last {
                    scripts.push(std::mem::take(&mut trips));
                }
            }
        }
    }
    scripts
}

/// What MySQL was asked in its text protocol, by the packets of one connection.
fn queries(mut bytes: &[u8]) -> Vec<String> {
    const COM_QUERY: u8 = 3;
    let mut queries = Vec::new();
    // A packet is its length in three bytes, its number in one, and what it says.
    while let Some(([a, b, c, _number], rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        let Some((said, rest)) = rest.split_at_checked(length) else { break };
        if let Some((&COM_QUERY, text)) = said.split_first() {
            queries.push(String::from_utf8(text.to_vec()).expect("statements are text"));
        }
        bytes = rest;
    }
    queries
}

/// The orders of a batch, by the values that its text has.
fn orders(trips: &[String]) -> Vec<Order> {
    let keys = rows(trips, "INSERT INTO idempotency_keys ");
    let rows = rows(trips, "INSERT INTO orders ");
    assert_eq!(rows.len(), keys.len());
    rows.iter().zip(&keys).map(|(order, key)| read(order, key)).collect()
}

/// The rows of all INSERTs that begin so, without their outer brackets.
fn rows(trips: &[String], opening: &str) -> Vec<String> {
    let statements = trips.iter().flat_map(|trip| trip.split(';'));
    let inserts = statements.filter(|statement| statement.starts_with(opening));
    let values = inserts.filter_map(|insert| insert.split_once(" VALUES (")?.1.strip_suffix(')'));
    values.flat_map(|rows| rows.split("),(").map(str::to_owned)).collect()
}

fn read(order: &str, key: &str) -> Order {
    let columns: Vec<&str> = order.split(',').map(|column| column.trim_matches('\'')).collect();
    let [number, user, _, _, _, _, address, _, _, created_at, pay_deadline] = columns[..] else {
        panic!("{order}")
    };
    let sealed = address.strip_prefix(r#"{"sealed":""#).and_then(|address| address.strip_suffix(r#""}"#));
    let mut of_key = key.split(',').map(|column| column.trim_start_matches('X').trim_matches('\''));
    let (its_user, its_key, body_hash) = (of_key.next(), of_key.next(), of_key.next());
    assert_eq!(its_user, Some(user), "keys come in the orders' order");
    let deadline_shown = key.split_once(r#""pay_deadline":""#).and_then(|(_, rest)| rest.split_once('"'));
    Order {
        number: number.to_owned(),
        user: user.parse().unwrap(),
        key: its_key.unwrap().to_owned(),
        body_hash: body_hash.unwrap().to_owned(),
        address_sealed: sealed.unwrap().to_owned(),
        created_at: created_at.to_owned(),
        pay_deadline: pay_deadline.to_owned(),
        deadline_shown: deadline_shown.unwrap().0.to_owned(),
    }
}
