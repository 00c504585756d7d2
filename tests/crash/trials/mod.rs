//! Randomised trials: shoppers order, pay, cancel and repeat themselves at up to three origins while processes and
//! servers die at moments that a seed decides; then everything runs again, and the audit must find nothing oversold,
//! nothing lost and nothing paid twice.
//!
//! `cargo xtask trials` runs 200; `cargo xtask trials --seed N` plays one again. A seed fixes what is done and, counted
//! in replies, when; what the processes make of it at the same time stays theirs, so a rare failure may take a few
//! replays. The usual test run plays a few with fresh seeds: a fixed list would look at the same few plans for ever,
//! and what a trial finds becomes a test of its own.

mod plan;
mod shoppers;
mod stage;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use farmgate_tests::{LONG, Shop, Shopper, Value, eventually};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinSet, LocalSet};

use self::plan::{Plan, Random, SKUS};
use self::shoppers::{Errand, World};
use self::stage::{Servers, Stage};
use crate::rush::converges;

/// Trials of the usual test run.
const FEW: u64 = 12;
/// Failures after which no more are looked for.
const ENOUGH: usize = 5;

#[tokio::test]
async fn nothing_is_oversold_lost_or_paid_twice() {
    LocalSet::new().run_until(play_all()).await;
}

async fn play_all() {
    let mut servers = Arc::new(Mutex::new(Servers::start().await));
    let seeds = seeds();
    let mut failed: Vec<u64> = Vec::new();
    let (mut whole, mut longest) = (Duration::ZERO, Duration::ZERO);
    for (number, seed) in seeds.iter().copied().enumerate() {
        let plan = Plan::draw(seed);
        let started = Instant::now();
        let played = {
            let (servers, plan) = (servers.clone(), plan.clone());
            tokio::task::spawn_local(async move { play(&mut *servers.lock().await, &plan).await })
        };
        let outcome = played.await;
        let took = started.elapsed();
        whole += took;
        longest = longest.max(took);
        match outcome {
            Ok(end) => println!("trial {} of {}, seed {seed}: {took:.1?}, {end}", number + 1, seeds.len()),
            Err(_) => {
                println!(
                    "trial {} FAILED; play it again: cargo xtask trials --seed {seed}\n{plan:#?}",
                    number + 1
                );
                failed.push(seed);
                servers = Arc::new(Mutex::new(Servers::start().await));
            }
        }
        if failed.len() == ENOUGH {
            break;
        }
    }
    println!("{} trials in {whole:.0?}, the longest {longest:.1?}", seeds.len());
    assert!(failed.is_empty(), "failed: {failed:?}; play one again: cargo xtask trials --seed {}", failed[0]);
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
    };
    if let Some(seed) = number("FARMGATE_TRIAL_SEED") {
        return vec![seed];
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let mut random = Random::new(u64::try_from(now % u128::from(u64::MAX)).unwrap());
    (0..number("FARMGATE_TRIALS").unwrap_or(FEW)).map(|_| random.next()).collect()
}

/// One trial; in a few words, how it ended.
async fn play(servers: &mut Servers, plan: &Plan) -> String {
    let mut stage = Stage::set(plan, servers).await;
    let skus = skus(&stage.shop).await;
    let (events, mut heard) = mpsc::unbounded_channel();
    let world = Arc::new(World {
        doors: stage.doors.clone(),
        wechat: stage.shop.wechat.clone(),
        db: stage.shop.db.clone(),
        events,
    });
    let errands = errands(&stage.shop, plan, &skus).await;

    // The shoppers and the faults.
    let mut waiting = errands.into_iter();
    let mut under_way = JoinSet::new();
    for errand in waiting.by_ref().take(plan.at_once) {
        under_way.spawn_local(errand.attempt(world.clone()));
    }
    let mut faults = plan.faults.iter().copied().peekable();
    let (mut seen, mut back) = (0, Vec::new());
    loop {
        while let Some((_, fault)) = faults.next_if(|(moment, _)| *moment <= seen) {
            stage.strike(fault, servers).await;
        }
        if under_way.is_empty() && heard.is_empty() {
            break;
        }
        tokio::select! {
            Some(()) = heard.recv() => seen += 1,
            Some(errand) = under_way.join_next() => {
                back.push(errand.unwrap());
                if let Some(next) = waiting.next() {
                    under_way.spawn_local(next.attempt(world.clone()));
                }
            }
        }
    }
    assert!(faults.peek().is_none(), "a fault whose moment never came");

    // Everything runs again, and the shoppers want to know.
    stage.restart().await;
    let mut under_way = JoinSet::new();
    for errand in back {
        under_way.spawn_local(errand.finish(world.clone()));
    }
    let mut errands = Vec::new();
    while let Some(errand) = under_way.join_next().await {
        errands.push(errand.unwrap());
    }
    orders_end_as_their_shoppers_wanted(&stage.shop, &errands).await;
    converges(&stage.shop).await;
    nothing_is_oversold_or_lost(&stage, plan, &errands).await;
    let made = errands.iter().filter(|errand| errand.order.is_some()).count();
    let paid = errands.iter().filter(|errand| errand.paid == Some(true)).count();
    let faults: Vec<_> = plan.faults.iter().map(|(_, fault)| fault).collect();
    format!("{made} of {} orders made, {paid} paid, died at {:?}, {faults:?}", errands.len(), stage.died_at)
}

async fn skus(shop: &Shop) -> Vec<i64> {
    let skus: Vec<i64> = sqlx::query_scalar("SELECT id FROM product_skus ORDER BY id LIMIT ?")
        .bind(i64::try_from(SKUS).unwrap())
        .fetch_all(&shop.db)
        .await
        .unwrap();
    assert_eq!(skus.len(), SKUS);
    skus
}

async fn errands(shop: &Shop, plan: &Plan, skus: &[i64]) -> Vec<Errand> {
    let mut shoppers: Vec<(Shopper, i64)> = Vec::new();
    for index in 0..plan.shoppers {
        let shopper = shop.shopper(&format!("顾客{index}")).await;
        let address = shopper.address().await;
        shoppers.push((shopper, address));
    }
    let wishes = plan.wishes.iter().cloned().enumerate();
    wishes
        .map(|(index, wish)| {
            let (shopper, address) = shoppers[wish.shopper].clone();
            Errand::new(wish, shopper, address, skus, &format!("wish-{index}"))
        })
        .collect()
}

/// Each order's status and recorded payment agree with what its shopper did and what WeChat says, once the worker and
/// the repeated notifications had their time.
async fn orders_end_as_their_shoppers_wanted(shop: &Shop, errands: &[Errand]) {
    for errand in errands.iter().filter(|errand| errand.order.is_some()) {
        let number = errand.number();
        let mut last = None;
        let what = format!("order {number} ends as {:?} demands", errand.wish.then);
        let verdict = eventually(LONG, &what, async || {
            let row: Option<(i64, bool)> = sqlx::query_as(
                "SELECT CAST(o.status AS SIGNED), COALESCE(p.status, 0) = 1 FROM orders o
                 LEFT JOIN payments p ON p.order_id = o.id WHERE o.order_no = ?",
            )
            .bind(&number)
            .fetch_optional(&shop.db)
            .await
            .unwrap();
            let (status, is_paid) = row.expect("an order that a shopper was told of is there");
            last = Some((status, is_paid));
            errand.accepts(status, is_paid)
        })
        .await;
        assert!(
            verdict,
            "order {number} has status and payment {last:?} after {:?}: paid {:?}, cancelled {:?}",
            errand.wish.then, errand.paid, errand.cancelled
        );
    }
}

/// By what the shoppers were told, not by the shop's own books, which the auditor reads.
async fn nothing_is_oversold_or_lost(stage: &Stage, plan: &Plan, errands: &[Errand]) {
    let made: Vec<&Errand> = errands.iter().filter(|errand| errand.order.is_some()).collect();
    let numbers: Vec<String> =
        sqlx::query_scalar("SELECT order_no FROM orders").fetch_all(&stage.shop.db).await.unwrap();
    let mut told: Vec<String> = made.iter().map(|errand| errand.number()).collect();
    told.sort_unstable();
    let mut there = numbers;
    there.sort_unstable();
    assert_eq!(told, there, "the orders that shoppers were told of, and those that are there");

    let mut taken: HashMap<usize, i32> = HashMap::new();
    for errand in made {
        let order: Value =
            errand.shopper.through(&stage.doors.at(0)).see(errand.order.as_ref().unwrap()).await;
        let lines: u32 = errand.wish.lines.iter().map(|(_, quantity)| quantity).sum();
        let items = order["items"].as_array().unwrap();
        let shown: u64 = items.iter().filter_map(|item| item["quantity"].as_u64()).sum();
        assert_eq!((items.len(), shown), (errand.wish.lines.len(), u64::from(lines)), "{order}");
        if order["status"] != 4 {
            for (sku, quantity) in &errand.wish.lines {
                *taken.entry(*sku).or_default() += i32::try_from(*quantity).unwrap();
            }
        }
    }
    for (sku, quantity) in taken {
        assert!(quantity <= plan.stock[sku], "SKU {sku}: {quantity} sold of {}", plan.stock[sku]);
    }
}
