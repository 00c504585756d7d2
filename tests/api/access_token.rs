//! The access token of WeChat's server API: one fetch for all, whatever happens to Redis, to the token or to a reply.
//! The telephone number is the call that needs it here.

use std::time::Instant;

use farmgate_tests::{
    Call, Caller, LONG, Problem, Redis, Reply, Shop, ShopPlan, Shopper, Wechat, eventually, json, unique,
};

use crate::placing::at_once;

const FETCH: &str = "/cgi-bin/stable_token";

fn plan() -> ShopPlan {
    ShopPlan::new().setting("FARMGATE_WECHAT__PHONE", "on")
}

fn bind() -> Call {
    Call::post("/api/user/phone", &json!({"code": format!("phone:13800000000:{}", unique("p"))}))
}

async fn fetches(wechat: &Wechat) -> usize {
    wechat.calls(FETCH).await.len()
}

/// So many calls at the same time, spread over these origins.
async fn rush(shopper: &Shopper, origins: &[Caller], calls: usize) -> Vec<Reply> {
    let shoppers: Vec<Shopper> = origins.iter().map(|origin| shopper.through(origin)).collect();
    at_once((0..calls).map(|call| (shoppers[call % shoppers.len()].clone(), bind()))).await
}

#[track_caller]
fn all_succeeded(replies: &[Reply]) {
    for reply in replies {
        assert_eq!(reply.data()["phone"], "138****0000");
    }
}

/// Three origins, and a shopper who is logged in.
async fn three_origins(plan: ShopPlan) -> (Shop, Vec<Caller>, Shopper) {
    let mut shop = plan.start().await;
    let shopper = shop.shopper("小王").await;
    let origins = vec![shop.api.clone(), shop.replica().await, shop.replica().await];
    (shop, origins, shopper)
}

/// The whole name of what `shop` keeps in Redis.
fn kept_key(shop: &Shop) -> String {
    let appid = shop.settings().into_iter().find(|(name, _)| name == "FARMGATE_WECHAT__APPID").unwrap().1;
    format!(":access-token:{appid}")
}

#[tokio::test]
async fn thirty_calls_through_three_origins_fetch_one_token() {
    let (shop, origins, shopper) = three_origins(plan()).await;
    // Slow, so that all ask while the first is fetching.
    shop.wechat.misbehave(json!({"api": [{"fault": "slow", "ms": 300, "path": FETCH}]})).await;
    all_succeeded(&rush(&shopper, &origins, 30).await);
    assert_eq!(fetches(&shop.wechat).await, 1);
    let asked = &shop.wechat.calls(FETCH).await[0]["body"];
    assert_eq!((&asked["grant_type"], &asked["force_refresh"]), (&json!("client_credential"), &json!(false)));
    // An origin that starts later asks nobody either.
    let mut shop = shop;
    let late = shop.replica().await;
    all_succeeded(&rush(&shopper, &[late], 3).await);
    assert_eq!(fetches(&shop.wechat).await, 1);
}

#[tokio::test]
async fn the_token_in_redis_is_sealed_and_ends_with_the_token() {
    let shop = plan().start().await;
    let shopper = shop.shopper("小王").await;
    shopper.api.send(bind()).await.data();
    let call = &shop.wechat.calls("/wxa/business/").await[0]["path"];
    let token = call.as_str().unwrap().split_once("access_token=").unwrap().1.to_owned();
    let kept = shop.redis_text(&["GET", &kept_key(&shop)]).await;
    assert!(!kept.is_empty() && !kept.contains(&token), "{kept}");
    let left = shop.redis_number(&["PTTL", &kept_key(&shop)]).await;
    assert!((7_000_000..=7_200_000).contains(&left), "{left} ms");
    // What somebody else put there is not believed, and overwritten.
    shop.redis_command(&["SET", &kept_key(&shop), "data-1:bm9uc2Vuc2U="]).await;
    let (_other, url) = shop.one_more_origin(None).await;
    shopper.through(&shop.call_origin(&url)).api.send(bind()).await.data();
    assert_eq!(fetches(&shop.wechat).await, 2);
    assert!(shop.redis_text(&["GET", &kept_key(&shop)]).await.len() > 100);
}

#[tokio::test]
async fn without_redis_each_origin_fetches_for_itself_and_gets_the_same_token() {
    let (shop, origins, shopper) = three_origins(plan().redis_cable()).await;
    shop.redis_cable().pull();
    all_succeeded(&rush(&shopper, &origins, 30).await);
    assert_eq!(fetches(&shop.wechat).await, 3, "one each");
    shop.redis_cable().plug();
    all_succeeded(&rush(&shopper, &origins, 6).await);
    assert_eq!(fetches(&shop.wechat).await, 3, "each has its copy");
}

#[tokio::test]
async fn a_lease_that_redis_gave_in_silence_holds_nobody_up() {
    let redis = Redis::start().await;
    let plan = plan().on_redis(&redis).setting("FARMGATE_REDIS__RESPONSE_TIMEOUT_MS", 3000);
    let shop = plan.start().await;
    let shopper = shop.shopper("小王").await;
    shop.wechat.hold(&[FETCH]).await;
    let mut busy = shop.db.acquire().await.unwrap();
    sqlx::raw_sql("LOCK TABLES users WRITE").execute(&mut *busy).await.unwrap();
    let bound = async {
        eventually(LONG, "the origin reads whose call it is", async || {
            let reading = shop.count_connections(
                "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() \
                 AND state = 'Waiting for table metadata lock'",
            );
            reading.await.filter(|reading| *reading > 0)
        })
        .await;
        // From now on Redis is read as before; what is to be written it hears, and does when nobody listens any more.
        shop.redis_command(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
        sqlx::raw_sql("UNLOCK TABLES").execute(&mut *busy).await.unwrap();
        shop.wechat.holds(1).await;
        shop.redis_command(&["CLIENT", "UNPAUSE"]).await;
        let lease = format!("{}:lease", kept_key(&shop));
        eventually(LONG, "the lease is taken", async || shop.redis_has(&lease).await.then_some(())).await;
        shop.wechat.behave().await;
        lease
    };
    let (reply, lease) = tokio::join!(shopper.api.send(bind()), bound);
    reply.data();
    let (lease, kept) = (shop.redis_text(&["GET", &lease]).await, shop.redis_has(&kept_key(&shop)).await);
    assert_eq!((lease.as_str(), kept), ("", true), "it is given back, and the token is there for all");
}

#[tokio::test]
async fn a_token_that_wechat_ends_early_is_renewed_once() {
    let (shop, origins, shopper) = three_origins(plan()).await;
    all_succeeded(&rush(&shopper, &origins, 6).await);
    for round in 1..=2 {
        if round == 1 {
            shop.wechat.token_lives_for(0).await; // 42001
        } else {
            shop.wechat.replace_token().await; // 40001
        }
        let before = fetches(&shop.wechat).await;
        all_succeeded(&rush(&shopper, &origins, 30).await);
        assert_eq!(fetches(&shop.wechat).await, before + 1, "round {round}");
    }
}

#[tokio::test]
async fn a_token_that_wechat_never_takes_is_not_asked_for_without_end() {
    let shop = plan().start().await;
    let shopper = shop.shopper("小王").await;
    shop.wechat.misbehave(json!({"api": [{"fault": "errcode", "errcode": 40001, "path": "/wxa/"}]})).await;
    shopper.api.send(bind()).await.fails_with(Problem::WechatUnavailable);
    assert!(fetches(&shop.wechat).await <= 2, "once, and once more because it was refused");
    assert!(shop.wechat.calls("/wxa/").await.len() <= 2);
    shop.wechat.behave().await;
    shopper.api.send(bind()).await.data();
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_while_the_old_one_serves() {
    let shop = plan().start().await;
    let shopper = shop.shopper("小王").await;
    shop.wechat.tokens_live_for(200).await;
    shopper.api.send(bind()).await.data();
    shop.wechat.tokens_live_for(7200).await;
    let (_other, url) = shop.one_more_origin(None).await;
    let other = shopper.through(&shop.call_origin(&url));
    other.api.send(bind()).await.data();
    assert_eq!(fetches(&shop.wechat).await, 1, "found in Redis, and good for some minutes yet");
    // The fetch takes its time, and nobody waits for it.
    shop.wechat.hold(&[FETCH]).await;
    other.api.send(bind()).await.data();
    shop.wechat.holds(1).await;
    other.api.send(bind()).await.data();
    let used = async || -> Vec<String> {
        let calls = shop.wechat.calls("/wxa/").await;
        calls.iter().map(|call| call["path"].as_str().unwrap().to_owned()).collect()
    };
    let so_far = used().await;
    assert!(so_far.iter().all(|path| *path == so_far[0]), "the old one serves");
    shop.wechat.behave().await;
    eventually(LONG, "the new token is there", async || (fetches(&shop.wechat).await == 2).then_some(()))
        .await;
    eventually(LONG, "and is used", async || {
        other.api.send(bind()).await.data();
        let used = used().await;
        (used.last() != used.first()).then_some(())
    })
    .await;
    assert_eq!(fetches(&shop.wechat).await, 2);
}

#[tokio::test]
async fn a_lost_token_is_asked_for_once_more_and_wechats_absence_is_not_asked_about_by_all() {
    let shop = plan().start().await;
    let shopper = shop.shopper("小王").await;
    shop.wechat.misbehave(json!({"api": [{"fault": "lost_reply", "path": FETCH, "times": 1}]})).await;
    shopper.api.send(bind()).await.data();
    assert_eq!(fetches(&shop.wechat).await, 2);
    assert_eq!(shop.wechat.token_lives_for(0).await, 1, "both got the same token");

    shop.wechat
        .misbehave(json!({"api": [{"fault": "status", "status": 502, "code": "x", "path": FETCH}]}))
        .await;
    let began = Instant::now();
    for reply in rush(&shopper, std::slice::from_ref(&shop.api), 20).await {
        reply.fails_with(Problem::WechatUnavailable);
    }
    let paced = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(fetches(&shop.wechat).await - 2 <= paced, "at most one a second");
    shop.wechat.behave().await;
    all_succeeded(&rush(&shopper, std::slice::from_ref(&shop.api), 5).await);
}

#[tokio::test]
async fn an_origin_that_dies_while_it_fetches_holds_the_others_up_for_a_moment_only() {
    let shop = plan().setting("FARMGATE_WECHAT__TIMEOUT_MS", 2500).start().await;
    let shopper = shop.shopper("小王").await;
    let (mut doomed, url) = shop.one_more_origin(None).await;
    shop.wechat.hold(&[FETCH]).await;
    let through = shopper.through(&shop.call_origin(&url));
    let lost = tokio::spawn(async move { through.api.try_send(bind()).await });
    let lease = format!("{}:lease", kept_key(&shop));
    shop.wechat.holds(1).await;
    assert!(shop.redis_has(&lease).await, "it has the lease");
    doomed.kill();
    shop.wechat.behave().await;
    assert!(lost.await.unwrap().is_err(), "its caller hears nothing");
    // The lease ends by itself, well within the time that a request may take.
    shopper.api.send(bind()).await.data();
    assert!(!shop.redis_has(&lease).await, "and is given back");
}

#[tokio::test]
async fn neither_token_nor_secret_reaches_a_log() {
    let mut shop = plan().start().await;
    let shopper = shop.shopper("小王").await;
    shopper.api.send(bind()).await.data();
    for fault in ["drop", "lost_reply"] {
        shop.wechat.misbehave(json!({"api": [{"fault": fault, "path": "/wxa/", "times": 1}]})).await;
        shopper.api.send(bind()).await.fails_with(Problem::WechatUnavailable);
    }
    shop.wechat.misbehave(json!({"login": [{"errcode": -1, "times": 1}], "api": [{"fault": "drop", "path": "/sns/", "times": 1}]})).await;
    for _ in 0..2 {
        let code = json!({"code": Shopper::code("小王")});
        shop.api.post("/api/user/login", &code).await.fails_with(Problem::WechatUnavailable);
    }
    let calls = shop.wechat.calls("/wxa/").await;
    let token = calls[0]["path"].as_str().unwrap().split_once("access_token=").unwrap().1.to_owned();
    let secret = shop.settings().into_iter().find(|(name, _)| name == "FARMGATE_WECHAT__SECRET").unwrap().1;
    let log = shop.origin().log();
    assert!(log.contains("WeChat could not be reached"), "the failures are logged:\n{log}");
    assert!(!log.contains(&token) && !log.contains(&secret) && !log.contains("13800000000"));
}

#[tokio::test]
async fn a_wrong_secret_is_the_operators_to_see_and_not_the_shoppers() {
    let mut shop = plan().start().await;
    let shopper = shop.shopper("小王").await;
    shop.change_setting("FARMGATE_WECHAT__SECRET", "0123456789abcdef0123456789abcdef");
    let (origin, url) = shop.one_more_origin(None).await;
    let api = shop.call_origin(&url);
    shopper.through(&api).api.send(bind()).await.fails_with(Problem::WechatUnavailable);
    api.post("/api/user/login", &json!({"code": Shopper::code("小王")})).await.fails_with(Problem::Internal);
    let log = origin.log();
    assert_eq!(log.matches("40125").count(), 2, "both failures name the code:\n{log}");
}
