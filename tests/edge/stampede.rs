//! Many who want the same page at the same moment: the origin is asked once, and nobody's leaving spoils it for the
//! others.

use std::time::Instant;

use farmgate_tests::{Caller, EdgePlan, EdgeShop, LONG, Line, Problem, Reply, eventually};
use tokio::task::JoinSet;

const PATH: &str = "/api/products?size=50";

/// How often one edge may have asked since then: whoever has waited a second for another's answer asks in its place.
fn turns_since(begun: Instant) -> usize {
    1 + usize::try_from(begun.elapsed().as_secs()).unwrap()
}

async fn crowd(phone: &Caller, size: usize) -> Vec<Reply> {
    let mut requests = JoinSet::new();
    for _ in 0..size {
        let phone = phone.clone();
        requests.spawn(async move { phone.get(PATH).await });
    }
    requests.join_all().await
}

/// A crowd that misses while the line to the origin is held; once the page is asked for, the line is as `then` says.
async fn held_until_asked(shop: &EdgeShop, size: usize, then: Line) -> Vec<Reply> {
    shop.line.set(Line::Held);
    let release = async {
        eventually(LONG, "the page is asked for", async || {
            (!shop.line.seen("/api/products").is_empty()).then_some(())
        })
        .await;
        shop.line.set(then);
    };
    tokio::join!(crowd(&shop.phone, size), release).0
}

#[tokio::test]
async fn two_hundred_misses_of_one_page_are_one_question() {
    let shop = EdgeShop::start().await;
    let begun = Instant::now();
    let replies = held_until_asked(&shop, 200, Line::Up).await;
    let turns = turns_since(begun);
    for reply in &replies {
        reply.data();
        assert_eq!(reply.body, replies[0].body);
    }
    let asked = shop.line.seen("/api/products").len();
    assert!((1..=turns).contains(&asked), "{asked} questions in {turns} turns");
    let made_of_it = replies.iter().filter(|reply| reply.header("x-edge-cache") == "miss").count();
    let answers = asked + shop.line.seen("/api/stock").len();
    assert!((1..=answers).contains(&made_of_it), "{made_of_it} asked, the others found the answer in memory");
}

#[tokio::test]
async fn two_edges_ask_once_each() {
    let shop = EdgeShop::start().await;
    let other = shop.another_edge(&EdgePlan::default()).await;
    let begun = Instant::now();
    let (one, two) = tokio::join!(crowd(&shop.phone, 100), crowd(&other.phone, 100));
    let turns = turns_since(begun);
    for reply in one.iter().chain(&two) {
        assert_eq!(reply.body, one[0].body);
    }
    for line in [&shop.line, &other.line] {
        let asked = line.seen("/api/products").len();
        assert!((1..=turns).contains(&asked), "{asked} questions in {turns} turns");
    }
}

#[tokio::test]
async fn a_crowd_in_front_of_a_failing_origin_hears_of_one_failure() {
    let shop = EdgeShop::start().await;
    let replies = held_until_asked(&shop, 50, Line::Down).await;
    for reply in &replies {
        reply.fails_with(Problem::Unavailable);
    }
    // Those who were still on their way when it failed ask for themselves.
    let asked = shop.line.seen("/api/products").len();
    assert!(asked < 50, "{asked} questions for 50 requests");
    shop.line.set(Line::Up);
    shop.phone.get(PATH).await.data();
}

#[tokio::test]
async fn one_who_asks_and_leaves_does_not_spoil_it_for_the_others() {
    let shop = EdgeShop::start().await;
    shop.line.set(Line::Held);
    let phone = shop.phone.clone();
    let leaver = tokio::spawn(async move { phone.get(PATH).await });
    eventually(LONG, "the page is asked for", async || {
        (!shop.line.seen("/api/products").is_empty()).then_some(())
    })
    .await;
    leaver.abort();
    assert!(leaver.await.unwrap_err().is_cancelled());
    let release = async {
        eventually(LONG, "another asks in the leaver's place", async || {
            (shop.line.seen("/api/products").len() >= 2).then_some(())
        })
        .await;
        shop.line.set(Line::Up);
    };
    let (replies, ()) = tokio::join!(crowd(&shop.phone, 20), release);
    for reply in &replies {
        reply.data();
    }
}

#[tokio::test]
async fn whatever_is_put_behind_the_question_mark_of_a_page_it_is_one_page() {
    let shop = EdgeShop::start().await;
    let (product, _, _) = shop.shop.first_product().await;
    let begun = Instant::now();
    for number in 0..50 {
        for path in [format!("/api/products/{product}"), "/api/categories".to_owned(), "/api/home".to_owned()]
        {
            let status = shop.phone.get(&format!("{path}?_={number}&utm={number}")).await.status;
            assert_eq!(status, 200, "{path}");
        }
    }
    // A page is asked for again when its life is over, and each second while it is not answered, if the fifty reads took so long.
    let lives = 1 + usize::try_from(begun.elapsed().as_secs()).unwrap();
    for path in [format!("/api/products/{product}"), "/api/categories".to_owned(), "/api/home".to_owned()] {
        let asked = shop.line.seen(&path);
        assert!(asked.iter().all(|seen| seen.path == path), "{asked:?}");
        assert!(asked.len() <= lives, "{path}: {} questions in {lives} lives", asked.len());
    }
}
