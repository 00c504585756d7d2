//! The Wasm instance traps: who was being answered gets an answer all the same, and the next request finds a fresh
//! instance that fills itself again.

use std::time::{Duration, Instant};

use farmgate_tests::{EdgePlan, EdgeShop, LONG, Line, Problem, Reply, ShopPlan, eventually};

async fn fragile() -> EdgeShop {
    EdgeShop::built(ShopPlan::new(), &EdgePlan { to_provoke: true, ..EdgePlan::default() }).await
}

fn source(reply: &Reply) -> &str {
    reply.header("x-edge-cache")
}

/// The prefix of the ids that one instance gives.
fn instance(reply: &Reply) -> String {
    reply.header("x-request-id").chars().take(12).collect()
}

/// That the edge serves, with an empty memory that it fills again.
async fn serves_anew(shop: &EdgeShop, before: &Reply) {
    let begun = Instant::now();
    let first = shop.phone.get("/api/categories").await;
    let second = shop.phone.get("/api/categories").await;
    // A page is shown for four seconds.
    let is_over = begun.elapsed() >= Duration::from_secs(4);
    assert_eq!((first.data(), second.data()), (before.data(), before.data()));
    assert_eq!(source(&first), "miss");
    assert!(source(&second) == "hit" || is_over, "the catalogue fills again: {}", source(&second));
    assert_ne!(instance(&first), instance(before), "a fresh instance");
    assert_eq!(instance(&first), instance(&second));
}

#[tokio::test]
async fn after_a_trap_on_a_hit_the_next_request_is_served() {
    let shop = fragile().await;
    let before = shop.phone.get("/api/categories").await;
    for _ in 0..3 {
        let trapped = shop.phone.get("/provoke/trap/hit").await;
        trapped.fails_with(Problem::Internal);
        assert_eq!(trapped.header("cache-control"), "no-store");
        serves_anew(&shop, &before).await;
    }
    shop.shopper("小王").await.api.get("/api/user/info").await.data();
}

#[tokio::test]
async fn after_a_trap_in_a_future_the_next_request_is_served() {
    let shop = fragile().await;
    let before = shop.phone.get("/api/categories").await;
    for _ in 0..3 {
        shop.phone.get("/provoke/trap/later").await.fails_with(Problem::Internal);
        serves_anew(&shop, &before).await;
    }
}

#[tokio::test]
async fn requests_in_flight_when_the_instance_traps_are_answered() {
    for trap in ["/provoke/trap/hit", "/provoke/trap/later"] {
        let shop = fragile().await;
        let before = shop.phone.get("/api/categories").await;
        let shopper = shop.shopper("小王").await;
        shop.line.forget();
        shop.line.set(Line::Held);
        let in_flight = async {
            let unread = shop.phone.get("/api/products?size=50");
            let beside = shop.phone.get("/api/products?size=50");
            let own = shopper.api.get("/api/orders");
            let (unread, beside, own) = tokio::join!(unread, beside, own);
            [unread, beside, own]
        };
        let misfortune = async {
            // The second of the first two asks when it has waited for a second.
            eventually(LONG, "three questions wait at the origin", async || {
                (shop.line.seen("/api/").len() >= 3).then_some(())
            })
            .await;
            shop.phone.get(trap).await.fails_with(Problem::Internal);
        };
        let (replies, ()) = tokio::join!(in_flight, misfortune);
        // The origin still holds its tongue: they were answered because of the trap.
        for reply in &replies {
            reply.fails_with(Problem::Internal);
        }
        shop.line.set(Line::Up);
        serves_anew(&shop, &before).await;
        shop.phone.get("/api/products?size=50").await.data();
    }
}

#[tokio::test]
async fn what_is_deployed_cannot_be_provoked() {
    let shop = EdgeShop::start().await;
    let before = shop.phone.get("/api/categories").await;
    for path in ["/provoke/trap/hit", "/provoke/trap/later", "/provoke/clock/3600000"] {
        shop.phone.get(path).await.fails_with(Problem::NotFound);
    }
    let after = shop.phone.get("/api/categories").await;
    assert_eq!(instance(&after), instance(&before), "the same instance");
}
