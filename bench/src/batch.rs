//! The text of one batch of orders, each of one unit of the same SKU, as the origin's writer sends it (`orders/writer.rs`).
//! Promises the bare loop that it asks of MySQL what the origin asks, to the letter and in the same trips;
//! `tests/api/bare_loop.rs` holds the two equal.

use farmgate_shared::edge_auth::hex;
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::shop::{IMAGE, NAME, PRICE_FEN, SPECIFICATIONS};

/// Orders in one transaction, as the origin's writer has at most.
pub const MOST_ORDERS: usize = 64;
/// Bytes of one trip. sqlx 0.9.0 leaves Nagle's algorithm on (its issue 4335), and what goes out in two writes waits 40 ms
/// for the server's delayed acknowledgement of the first: that is no physical limit.
const MOST_BYTES: usize = 15 * 1024;
/// As long as a sealed address of the benchmark's shoppers is.
pub const SEALED: &str = "data-00000000:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Of a body, in hexadecimal digits.
const HASH: &str = "0707070707070707070707070707070707070707070707070707070707070707";
/// How long an order may wait for its payment at the origin that is measured.
const PAY_WINDOW: Duration = Duration::DAY;

/// What differs from order to order, each as the text has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// 22 digits.
    pub number: String,
    pub user: i64,
    /// Of its request.
    pub key: String,
    pub body_hash: String,
    pub address_sealed: String,
    /// In UTC, as MySQL reads it.
    pub created_at: String,
    pub pay_deadline: String,
    /// As the reply shows it.
    pub deadline_shown: String,
}

impl Order {
    /// One that no other is equal to whose number is another.
    #[must_use]
    pub fn new(number: u64, user: i64, now: OffsetDateTime) -> Order {
        Order {
            number: format!("{number:022}"),
            user,
            key: format!("bench-{}-{number}", std::process::id()),
            body_hash: HASH.to_owned(),
            address_sealed: SEALED.to_owned(),
            created_at: moment(now),
            pay_deadline: moment(now + PAY_WINDOW),
            deadline_shown: "2026-01-01T00:00:00+08:00".to_owned(),
        }
    }
}

fn moment(at: OffsetDateTime) -> String {
    let utc = at.to_offset(UtcOffset::UTC);
    let (hour, minute, second, micro) = utc.to_hms_micro();
    format!("{} {hour:02}:{minute:02}:{second:02}.{micro:06}", utc.date())
}

/// What is bought: a SKU of the benchmark's shop ([`crate::shop`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sku {
    pub id: i64,
    pub product: i64,
}

/// An order, and how the statements after its own name its id.
type Numbered<'a> = (&'a Order, String);

/// The trips of one transaction that makes several orders, COMMIT in the last of them. The guarded update of the SKU comes
/// last but for COMMIT, since it locks what all batches want.
#[must_use]
pub fn trips(sku: Sku, orders: &[Order]) -> Vec<String> {
    let mut script = Script::default();
    let (numbered, lasts) = add_orders(&mut script, orders);
    add_keys(&mut script, &numbered);
    add_items(&mut script, &numbered, sku);
    add_events(&mut script, &numbered);
    require_unburied(&mut script, orders);
    require_ids(&mut script, lasts.into_iter().filter_map(|last| numbered.get(last)));
    script.say("SELECT CAST(@@auto_increment_increment AS SIGNED)");
    hold(&mut script, &numbered, sku);
    script.say("COMMIT");
    script.trips
}

/// The orders with their ids, and which of them are the last of an INSERT each.
fn add_orders<'a>(script: &mut Script, orders: &'a [Order]) -> (Vec<Numbered<'a>>, Vec<usize>) {
    let sizes = script.insert_new(
        "INSERT INTO orders (order_no, user_id, total_amount, discount_amount, actual_amount, status, \
         delivery_address, delivery_fee, remark, created_at, pay_deadline) VALUES",
        orders.iter().map(|order| {
            let Order { number, user, address_sealed, created_at, pay_deadline, .. } = order;
            format!(
                r#"('{number}',{user},15.80,0.00,23.80,0,'{{"sealed":"{address_sealed}"}}',8.00,'','{created_at}','{pay_deadline}')"#
            )
        }),
    );
    let mut numbered: Vec<Numbered<'a>> = Vec::with_capacity(orders.len());
    let mut lasts = Vec::with_capacity(sizes.len());
    let mut rest = orders.iter();
    for (piece, size) in sizes.into_iter().enumerate() {
        let id = |nth| format!("@id{piece}+{nth}*@@auto_increment_increment");
        numbered.extend((0..size).map(id).zip(&mut rest).map(|(id, order)| (order, id)));
        lasts.push(numbered.len() - 1);
    }
    (numbered, lasts)
}

/// The requests' keys with their replies.
fn add_keys(script: &mut Script, orders: &[Numbered<'_>]) {
    script.insert(
        "INSERT INTO idempotency_keys (user_id, idempotency_key, body_hash, reply, created_at) VALUES",
        orders.iter().map(|(order, id)| {
            let Order { number, user, key, body_hash, deadline_shown, .. } = order;
            let after = format!(
                r#","order_no":"{number}","total_amount":15.8,"discount_amount":0.0,"actual_amount":23.8,"delivery_fee":8.0,"pay_deadline":"{deadline_shown}"}}"#
            );
            format!(r#"({user},'{key}',X'{body_hash}',CONCAT('{{"order_id":',{id},'{after}'),UTC_TIMESTAMP(3))"#)
        }),
    );
}

fn add_items(script: &mut Script, orders: &[Numbered<'_>], sku: Sku) {
    let Sku { id: sku, product } = sku;
    let (name, specifications) = (hex(NAME.as_bytes()), hex(SPECIFICATIONS.as_bytes()));
    script.insert(
        "INSERT INTO order_items (order_id, sku_id, product_id, name, image, specifications, price_fen, \
         quantity, amount_fen, discount_fen) VALUES",
        orders.iter().map(|(_, id)| {
            format!(
                "({id},{sku},{product},_utf8mb4 X'{name}','{IMAGE}',_utf8mb4 X'{specifications}',\
                 {PRICE_FEN},1,{PRICE_FEN},0)"
            )
        }),
    );
}

fn add_events(script: &mut Script, orders: &[Numbered<'_>]) {
    script.insert(
        "INSERT INTO outbox (kind, order_id, published_at) VALUES",
        orders.iter().map(|(_, id)| format!("('order_placed',{id},UTC_TIMESTAMP(3))")),
    );
}

fn require_unburied(script: &mut Script, orders: &[Order]) {
    let numbers: Vec<String> = orders.iter().map(|order| format!("'{}'", order.number)).collect();
    let numbers = numbers.join(",");
    script.require(&format!(
        "(SELECT COUNT(*) FROM order_tombstones WHERE order_no IN ({numbers}) FOR UPDATE) = 0"
    ));
}

/// Each INSERT gave its rows the ids that the statements after it name.
fn require_ids<'a>(script: &mut Script, lasts: impl Iterator<Item = &'a Numbered<'a>>) {
    for (order, id) in lasts {
        script.require(&format!("(SELECT id FROM orders WHERE order_no = '{}') = {id}", order.number));
    }
}

fn hold(script: &mut Script, orders: &[Numbered<'_>], sku: Sku) {
    let sku = sku.id;
    script.insert(
        "INSERT INTO stock_movements (sku_id, order_id, reason, available_change, held_change, sold_change) VALUES",
        orders.iter().map(|(_, id)| format!("({sku},{id},'held',-1,1,0)")),
    );
    let quantity = format!("CASE sku_id WHEN {sku} THEN {} END", orders.len());
    script.say(&format!(
        "UPDATE stock SET available = available - {quantity}, held = held + {quantity} \
         WHERE sku_id IN ({sku}) AND available >= {quantity} ORDER BY sku_id"
    ));
    script.require("ROW_COUNT() = 1");
}

/// Statements in as few trips as the origin's scripts take (`db/script.rs`).
#[derive(Debug, Default)]
struct Script {
    trips: Vec<String>,
    /// INSERTs whose first ids are kept.
    pieces: usize,
}

impl Script {
    fn say(&mut self, statement: &str) {
        match self.trips.last_mut() {
            Some(trip) if trip.len() + statement.len() < MOST_BYTES => {
                trip.push(';');
                trip.push_str(statement);
            }
            _ => self.trips.push(statement.to_owned()),
        }
    }

    /// What has to be true here for the script to go on.
    fn require(&mut self, condition: &str) {
        self.say(&format!("SET @ok = IF({condition}, 1, EXP(999))"));
    }

    fn insert(&mut self, opening: &str, rows: impl Iterator<Item = String>) {
        self.insert_pieces(opening, rows, |_| {});
    }

    /// The same into a table that numbers its rows: each INSERT's first id is kept. Says how many rows each has.
    fn insert_new(&mut self, opening: &str, rows: impl Iterator<Item = String>) -> Vec<usize> {
        self.insert_pieces(opening, rows, |script| {
            script.say(&format!("SET @id{} = LAST_INSERT_ID()", script.pieces));
            script.pieces += 1;
        })
    }

    /// As many rows as fit go into one INSERT; `after` is done after each.
    fn insert_pieces(
        &mut self,
        opening: &str,
        rows: impl Iterator<Item = String>,
        after: impl Fn(&mut Script),
    ) -> Vec<usize> {
        let mut sizes: Vec<usize> = Vec::new();
        for row in rows {
            match (self.trips.last_mut(), sizes.last_mut()) {
                (Some(trip), Some(size)) if trip.len() + row.len() < MOST_BYTES => {
                    trip.push(',');
                    trip.push_str(&row);
                    *size += 1;
                }
                _ => {
                    if !sizes.is_empty() {
                        after(self);
                    }
                    self.say(&format!("{opening} {row}"));
                    sizes.push(1);
                }
            }
        }
        if !sizes.is_empty() {
            after(self);
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_a_batch_is_named_by_its_insert_and_place_and_no_trip_is_too_long() {
        let orders: Vec<Order> =
            (0..64).map(|number| Order::new(number, 1, OffsetDateTime::UNIX_EPOCH)).collect();
        let trips = trips(Sku { id: 7, product: 8 }, &orders);
        assert!(trips.len() > 1 && trips.iter().all(|trip| trip.len() <= MOST_BYTES), "{trips:#?}");
        assert!(trips.last().is_some_and(|trip| trip.ends_with(";COMMIT")), "{trips:#?}");
        let all = trips.join(";");
        let inserts = all.matches("INSERT INTO orders ").count();
        assert!(inserts > 1 && all.matches("= LAST_INSERT_ID()").count() == inserts, "{inserts}");
        let last = all.split("SET @ok = IF((SELECT id FROM orders WHERE order_no = '").last().unwrap();
        let number = &orders[63].number;
        assert!(last.starts_with(&format!("{number}') = @id{}+", inserts - 1)), "{last}");
    }
}
