//! Keys are exchanged while the shop is open: no session ends but those of a key that was dropped, and no edge is shut
//! out.

use base64::Engine as _;
use farmgate_tests::{EdgeShop, Keyring, Problem, ShopPlan, Shopper, Value, json};

/// A shop whose keys are its own.
async fn shop(keyring: &Keyring) -> EdgeShop {
    let mut plan = ShopPlan::new();
    for (name, value) in keyring.origin() {
        plan = plan.setting(&name, value);
    }
    let edge = keyring.edge();
    EdgeShop::plan_with(plan, &pairs(&edge)).await
}

fn pairs(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

async fn restart_origin(shop: &mut EdgeShop, keyring: &Keyring) {
    for (name, value) in keyring.origin() {
        shop.shop.change_setting(&name, &value);
    }
    shop.shop.restart_origin().await;
    shop.line.lead_to(&shop.shop.origin_url);
}

async fn restart_edge(shop: &mut EdgeShop, keyring: &Keyring) {
    let edge = keyring.edge();
    shop.restart_edge(&pairs(&edge)).await;
}

async fn step(keyring: &Keyring, step: &[&str]) {
    let (is_done, said) = keyring.rotate(step).await;
    assert!(is_done, "{said}");
}

fn kid(shopper: &Shopper) -> String {
    let header = shopper.api.token().split('.').next().unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: Value = serde_json::from_slice(&bytes).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// Key ids at the origin's well-known place, through the edge.
async fn published(shop: &EdgeShop) -> Vec<String> {
    let reply = shop.phone.get("/.well-known/jwks.json").await;
    assert_eq!((reply.status, reply.header("cache-control")), (200, "public, max-age=300"));
    let keys = reply.json()["keys"].as_array().unwrap().clone();
    for key in &keys {
        let names: Vec<&String> = key.as_object().unwrap().keys().collect();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x"], "public parts alone");
    }
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn is_in(shop: &EdgeShop, shopper: &Shopper) {
    let data = shopper.through(&shop.phone).api.get("/api/user/info").await.data();
    assert_eq!(data["id"], json!(shopper.id));
}

#[tokio::test]
async fn rotating_keys_ends_no_session_and_dropping_one_ends_its_own_alone() {
    let keyring = Keyring::make().await;
    let mut shop = shop(&keyring).await;
    let early = shop.shopper("小王").await;
    let old = kid(&early);
    assert_eq!(published(&shop).await, std::slice::from_ref(&old));
    let old_edge_key = keyring.edge_key();

    // The edge first, then the origin.
    step(&keyring, &["add"]).await;
    restart_edge(&mut shop, &keyring).await;
    is_in(&shop, &early).await;
    restart_origin(&mut shop, &keyring).await;
    is_in(&shop, &early).await;
    let kids = published(&shop).await;
    assert_eq!((kids.len(), &kids[0]), (2, &old), "the one that signs first");
    let new = kids[1].clone();
    let added = shop.shopper("小李").await;
    assert_eq!(kid(&added), old, "what is new is not used before it is known everywhere");

    // The origin first, then the edge.
    step(&keyring, &["switch"]).await;
    restart_origin(&mut shop, &keyring).await;
    let late = shop.shopper("小赵").await;
    assert_eq!(kid(&late), new);
    for shopper in [&early, &added, &late] {
        is_in(&shop, shopper).await;
    }
    restart_edge(&mut shop, &keyring).await;
    assert_ne!(keyring.edge_key().kid, old_edge_key.kid);
    for shopper in [&early, &added, &late] {
        is_in(&shop, shopper).await;
    }
    assert_eq!(published(&shop).await, [new.clone(), old]);

    let (is_done, said) = keyring.rotate(&["drop"]).await;
    assert!(!is_done && said.contains("may live until"), "{said}");
    step(&keyring, &["drop", "--now"]).await;
    restart_origin(&mut shop, &keyring).await;
    // The edge still lets the old token pass: the origin does not.
    early.through(&shop.phone).api.get("/api/user/info").await.fails_with(Problem::Unauthenticated);
    is_in(&shop, &late).await;
    let by_old_edge = shop.shop.call_origin(&shop.shop.origin_url).with_edge_key(old_edge_key);
    by_old_edge.get("/api/products").await.fails_with(Problem::EdgeSignatureRequired);
    by_old_edge.with_edge_key(keyring.edge_key()).get("/api/products").await.data();
    restart_edge(&mut shop, &keyring).await;
    shop.line.forget();
    for shopper in [&early, &added] {
        shopper.through(&shop.phone).api.get("/api/user/info").await.fails_with(Problem::Unauthenticated);
    }
    assert_eq!(shop.line.seen("/").len(), 0, "the edge knows the old key no more");
    is_in(&shop, &late).await;
    assert_eq!(published(&shop).await, [new]);
}

#[tokio::test]
async fn an_edge_that_was_told_of_two_keys_remembers_tokens_of_both() {
    let keyring = Keyring::make().await;
    let mut shop = shop(&keyring).await;
    let early = shop.shopper("小王").await;
    for name in ["add", "switch"] {
        step(&keyring, &[name]).await;
    }
    restart_origin(&mut shop, &keyring).await;
    // Two steps at once: an edge that was not told yet refuses what the origin signs now, and is told at its restart.
    let late = shop.shopper("小李").await;
    late.api.get("/api/user/info").await.fails_with(Problem::Unauthenticated);
    restart_edge(&mut shop, &keyring).await;
    for shopper in [&early, &late, &early, &late] {
        is_in(&shop, shopper).await;
    }
    assert_eq!(published(&shop).await.len(), 2);
}
