//! Pages of listed sites may call the shop from a browser, and read what went wrong as well.

use farmgate_tests::{Call, EdgeShop, Line, Problem, Reply, ShopPlan, json};
use reqwest::Method;

const SITE: &str = "http://127.0.0.1:5173";

async fn shop(more: &[(&str, &str)]) -> EdgeShop {
    let variables = [&[("CORS_ORIGINS", "http://127.0.0.1:5173, https://preview.example")], more].concat();
    EdgeShop::plan_with(ShopPlan::new(), &variables).await
}

#[track_caller]
fn is_readable(reply: &Reply) {
    assert_eq!(reply.header("access-control-allow-origin"), SITE, "{}: {}", reply.asked, reply.text());
    assert!(reply.header("vary").contains("origin"), "{}", reply.asked);
    let exposed = reply.header("access-control-expose-headers");
    for name in ["x-request-id", "retry-after", "etag"] {
        assert!(exposed.contains(name), "{}: {exposed}", reply.asked);
    }
}

#[tokio::test]
async fn a_browser_may_ask_before_each_request_that_there_is() {
    let shop = shop(&[]).await;
    shop.line.forget();
    for (path, methods) in [
        ("/api/products", "GET, HEAD, OPTIONS"),
        ("/api/products/1", "GET, HEAD, OPTIONS"),
        ("/api/products/1/reviews", "GET, HEAD, OPTIONS"),
        ("/api/categories", "GET, HEAD, OPTIONS"),
        ("/api/home", "GET, HEAD, OPTIONS"),
        ("/api/stock?ids=1", "GET, HEAD, OPTIONS"),
        ("/api/trace/B1", "GET, HEAD, OPTIONS"),
        ("/api/user/login", "POST, OPTIONS"),
        ("/api/user/info", "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        ("/api/orders", "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        ("/api/orders/1/pay", "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        ("/api/coupons/1/claim", "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        ("/static/demo/1f34e.webp", "GET, HEAD, OPTIONS"),
        ("/.well-known/jwks.json", "GET, HEAD, OPTIONS"),
    ] {
        let call = Call::new(Method::OPTIONS, path)
            .header("origin", SITE)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,idempotency-key");
        let reply = shop.phone.send(call).await;
        assert_eq!((reply.status, reply.header("access-control-allow-methods")), (204, methods), "{path}");
        let headers = reply.header("access-control-allow-headers");
        for name in ["authorization", "content-type", "idempotency-key"] {
            assert!(headers.contains(name), "{path}: {headers}");
        }
        is_readable(&reply);
        let strange = Call::new(Method::OPTIONS, path).header("origin", "https://elsewhere.example");
        let reply = shop.phone.send(strange).await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, ""), "{path}");
        assert_eq!(reply.header("access-control-allow-methods"), "", "{path}");
    }
    assert_eq!(shop.line.seen("/").len(), 0, "the edge answers by itself");
}

#[tokio::test]
async fn whatever_the_answer_is_a_page_of_a_listed_site_can_read_it() {
    let shop = shop(&[("LOCAL_LIMIT_USER", "1/h burst 4")]).await;
    let shopper = shop.shopper("小王").await;
    let ask = async |call: Call| {
        let reply = shopper.api.send(call.header("origin", SITE)).await;
        is_readable(&reply);
        reply
    };
    ask(Call::get("/api/products")).await.data();
    ask(Call::get("/api/products")).await.data();
    ask(Call::get("/api/products/999999")).await.fails_with(Problem::ProductNotFound);
    ask(Call::get("/api/products?page=0")).await.refuses_fields(&["page"]);
    ask(Call::get("/nowhere")).await.fails_with(Problem::NotFound);
    ask(Call::new(Method::PUT, "/api/products")).await.fails_with(Problem::MethodNotAllowed);
    ask(Call::get("/healthz")).await.data();
    ask(Call::get("/api/user/info")).await.data();
    ask(Call::get("/api/orders/999999")).await.fails_with(Problem::OrderNotFound);
    ask(Call::post("/api/orders", &json!({}))).await;
    shop.line.set(Line::Down);
    ask(Call::get("/api/user/info")).await.fails_with(Problem::Unavailable);
    shop.line.set(Line::Up);
    ask(Call::get("/api/user/info")).await.is_limited();
    let big = vec![b' '; farmgate_tests::shared::MAX_BODY_BYTES + 1];
    let login = Call::new(Method::POST, "/api/user/login").raw("application/json", big);
    ask(login).await.fails_with(Problem::PayloadTooLarge);
    let forged = shop.phone.with_token("forged").send(Call::get("/api/orders").header("origin", SITE)).await;
    is_readable(&forged);
    forged.fails_with(Problem::Unauthenticated);
    let strange = Call::get("/api/products").header("origin", "https://preview.example.evil");
    assert_eq!(shop.phone.send(strange).await.header("access-control-allow-origin"), "");
}
