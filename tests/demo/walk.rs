//! The way itself.

use std::fmt::Debug;

use anyhow::{Context as _, Result, bail};
use farmgate_tests::unique;
use serde_json::{Value, json};

use crate::shop::{Shop, Stock};

/// How many the shopper buys.
const QUANTITY: i32 = 2;
/// 苹果, as it stands in a URL.
const APPLE: &str = "%E8%8B%B9%E6%9E%9C";

/// Numbers the lines.
#[derive(Default)]
struct Steps(u32);

impl Steps {
    fn say(&mut self, what: &str, came: &str) {
        self.0 += 1;
        // A Chinese character takes two columns.
        let wide = what.chars().filter(|character| *character > '\u{2e80}').count();
        println!("{:>3}. {what:<width$} {came}", self.0, width = 22 - wide);
    }
}

/// That two values are equal.
fn same<T: PartialEq + Debug>(what: &str, expected: T, came: T) -> Result<()> {
    if expected != came {
        bail!("{what}: expected {expected:?}, got {came:?}");
    }
    Ok(())
}

fn that(what: &str, holds: bool, came: &Value) -> Result<()> {
    if !holds {
        bail!("expected {what}, got {came}");
    }
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("expected a text in {key}, got {}", value[key]))
}

fn number(value: &Value, key: &str) -> Result<i64> {
    value[key].as_i64().with_context(|| format!("expected a whole number in {key}, got {}", value[key]))
}

/// Yuan on the wire as whole fen.
fn fen(value: &Value, key: &str) -> Result<i64> {
    let shown = value[key].as_number().map(ToString::to_string).unwrap_or_default();
    let (yuan, fraction) = shown.split_once('.').unwrap_or((&shown, "0"));
    if yuan.is_empty() || fraction.len() > 2 {
        bail!("expected yuan with at most two decimals in {key}, got {}", value[key]);
    }
    format!("{yuan}{fraction:0<2}").parse().with_context(|| format!("{key} is {}", value[key]))
}

fn yuan(fen: i64) -> String {
    format!("¥{}.{:02}", fen / 100, fen % 100)
}

/// Walks it; the first wrong step ends it.
pub async fn walk(shop: &Shop) -> Result<()> {
    println!("A shopper's way through {}\n", shop.edge);
    let mut steps = Steps::default();
    let product = choose(shop, &mut steps).await?;
    let token = log_in(shop, &mut steps).await?;
    buy(shop, &mut steps, &product, &token).await?;
    println!("\n  all {} steps are as they should be", steps.0);
    Ok(())
}

/// Browses, searches and picks an apple that can be bought; its own page.
async fn choose(shop: &Shop, steps: &mut Steps) -> Result<Value> {
    let page = shop.get("/api/products?page=1&size=20", None).await?;
    let list = page["list"].as_array().context("expected a list of products")?;
    that("at least 40 products", number(&page, "total")? >= 40, &page["total"])?;
    same("products on the first page", 20, list.len())?;
    steps.say("browse", &format!("{} products; the first is {}", page["total"], text(&list[0], "name")?));

    let categories = shop.get("/api/categories", None).await?;
    let names: Vec<&str> = categories
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|category| category["name"].as_str())
        .collect();
    that("at least 6 categories", names.len() >= 6, &categories)?;
    steps.say("categories", &names.join(" "));

    let found = shop.get(&format!("/api/products?keyword={APPLE}"), None).await?;
    let apples = found["list"].as_array().context("expected a list of apples")?;
    let names: Vec<&str> = apples.iter().filter_map(|apple| apple["name"].as_str()).collect();
    that("something called 苹果", names.iter().any(|name| name.contains("苹果")), &found["list"])?;
    steps.say("search 苹果", &format!("{} found: {}", found["total"], names.join(" ")));

    for apple in apples {
        let product = shop.get(&format!("/api/products/{}", number(apple, "id")?), None).await?;
        same("the name on its page", text(apple, "name")?, text(&product, "name")?)?;
        if number(&product["skus"][0], "stock")? >= i64::from(QUANTITY) {
            let sku = &product["skus"][0];
            steps.say(
                "product",
                &format!(
                    "{} from {}, {} / {}, {} in stock",
                    text(&product, "name")?,
                    text(&product, "origin")?,
                    yuan(fen(sku, "price")?),
                    text(&product, "unit")?,
                    sku["stock"]
                ),
            );
            let url = product["images"][0].as_str().context("expected a picture")?;
            let (length, kind) = shop.picture(url).await?;
            same("the kind of the picture", "image/webp", &kind)?;
            steps.say("picture", &format!("{length} bytes of {kind}"));
            return Ok(product);
        }
    }
    bail!("no apple has {QUANTITY} left: `cargo xtask up --fresh` stocks the shop anew")
}

/// Logs in with a code of WeChat's; the token.
async fn log_in(shop: &Shop, steps: &mut Steps) -> Result<String> {
    let code = format!("as:小王:{}", unique("demo"));
    let body = json!({"code": code, "userInfo": {"nickName": "小王"}});
    let session = shop.post("/api/user/login", &body, None).await?;
    let token = text(&session, "token")?.to_owned();
    same("parts of the token", 3, token.split('.').count())?;
    let id = number(&session["userInfo"], "id")?;
    steps.say("log in with a code", &format!("shopper {id}, token {}…", token.get(..16).unwrap_or_default()));

    let info = shop.get("/api/user/info", Some(&token)).await?;
    same("the shopper of the token", id, number(&info, "id")?)?;
    same("the nickname", "小王", text(&info, "nickname")?)?;
    steps.say(
        "user info",
        &format!("{}, {} points, level {}", text(&info, "nickname")?, info["points"], info["level"]),
    );
    Ok(token)
}

/// Addresses, orders, pays, and looks at what that did.
async fn buy(shop: &Shop, steps: &mut Steps, product: &Value, token: &str) -> Result<()> {
    let address_id = address(shop, steps, token).await?;
    let sku = &product["skus"][0];
    let (sku_id, price) = (number(sku, "id")?, fen(sku, "price")?);
    let before = shop.stock_in_mysql(sku_id).await?;
    let gate_before = shop.stock_in_redis(sku_id).await?;

    let body = json!({
        "product_id": product["id"], "quantity": QUANTITY, "address_id": address_id, "coupon_id": null,
    });
    let order = shop.post("/api/orders", &body, Some(token)).await?;
    let goods = price * i64::from(QUANTITY);
    same("the goods' sum", goods, fen(&order, "total_amount")?)?;
    let (freight, due) = (fen(&order, "delivery_fee")?, fen(&order, "actual_amount")?);
    same("what is to be paid", goods + freight, due)?;
    let order_no = text(&order, "order_no")?.to_owned();
    let path = format!("/api/orders/{}", number(&order, "order_id")?);
    steps.say(
        "order",
        &format!("{order_no}: {QUANTITY} × {} + {} freight = {}", yuan(price), yuan(freight), yuan(due)),
    );
    let held = shop.stock_in_mysql(sku_id).await?;
    let expected =
        Stock { available: before.available - QUANTITY, held: before.held + QUANTITY, sold: before.sold };
    same("the stock while the order awaits payment", expected, held)?;

    let parameters = shop.post(&format!("{path}/pay"), &json!({}), Some(token)).await?;
    same("signType", "RSA", text(&parameters, "signType")?)?;
    let package = text(&parameters, "package")?;
    that("a prepay_id", package.starts_with("prepay_id="), &parameters["package"])?;
    steps.say("prepay", package);

    let paid = shop.pay(&order_no, &parameters).await?;
    steps.say(
        "simulated payment",
        &format!("transaction {}, paySign verified", text(&paid, "transaction_id")?),
    );
    let told = match paid["notify_status"].as_i64() {
        // Not in time, as happens on a busy machine: WeChat tells it again.
        None | Some(503) => {
            let taken = |told: &Value| told["notify_status"] == 200;
            let again = async || Ok(Some(shop.notify(&order_no).await?).filter(taken));
            shop.until(|| "the notification is taken".to_owned(), again).await?
        }
        Some(_) => paid,
    };
    same("the answer to the notification", Some(200), told["notify_status"].as_i64())?;
    same("its code", Some("SUCCESS"), told["notify_body"]["code"].as_str())?;
    steps.say(
        "notification",
        &format!("signed, sealed, answered {} {}", told["notify_status"], told["notify_body"]),
    );

    let shown = shop.get(&path, Some(token)).await?;
    same("the order's status", 1, number(&shown, "status")?)?;
    let paid_at = text(&shown, "payment_time")?;
    steps.say("order paid", &format!("{} since {paid_at}", text(&shown, "status_text")?));

    let orders = shop.get("/api/orders?status=1", Some(token)).await?;
    same("the newest paid order", Some(order_no.as_str()), orders["list"][0]["order_no"].as_str())?;
    steps.say("list of orders", &format!("{} paid, the newest is {order_no}", orders["total"]));

    books(shop, steps, product, before, gate_before).await
}

async fn address(shop: &Shop, steps: &mut Steps, token: &str) -> Result<i64> {
    let wanted = json!({
        "name": "小王", "phone": "13800000000", "province": "山东省", "city": "烟台市", "district": "栖霞市",
        "detail": "果园路 1 号", "is_default": true,
    });
    // Run again, the shopper of the last time still has it.
    let known = shop.get("/api/addresses", Some(token)).await?;
    let known =
        known.as_array().into_iter().flatten().find(|known| known["detail"] == wanted["detail"]).cloned();
    let address = match known {
        Some(known) => known,
        None => shop.post("/api/addresses", &wanted, Some(token)).await?,
    };
    for key in ["name", "phone", "city", "detail"] {
        same("the address", text(&wanted, key)?, text(&address, key)?)?;
    }
    steps.say(
        "address",
        &format!(
            "{} {}{}{}",
            text(&address, "name")?,
            text(&address, "city")?,
            text(&address, "district")?,
            text(&address, "detail")?
        ),
    );
    number(&address, "id")
}

/// What the sale did to MySQL, to Redis, and to what the next shopper sees.
async fn books(
    shop: &Shop,
    steps: &mut Steps,
    product: &Value,
    before: Stock,
    gate_before: i64,
) -> Result<()> {
    let sku_id = number(&product["skus"][0], "id")?;
    let after = shop.stock_in_mysql(sku_id).await?;
    let expected =
        Stock { available: before.available - QUANTITY, held: before.held, sold: before.sold + QUANTITY };
    same("the stock in MySQL", expected, after)?;
    steps.say(
        "stock in MySQL",
        &format!(
            "available {} → {}, sold {} → {}",
            before.available, after.available, before.sold, after.sold
        ),
    );

    let expected = gate_before - i64::from(QUANTITY);
    let gate_after = shop
        .until(
            || format!("the stock in Redis is {expected}"),
            async || Ok(Some(shop.stock_in_redis(sku_id).await?).filter(|level| *level == expected)),
        )
        .await?;
    steps.say("stock in Redis", &format!("{} {gate_before} → {gate_after}", shop.stock_key(sku_id)));

    let path = format!("/api/products/{}", number(product, "id")?);
    let expected = i64::from(after.available);
    let shown = shop
        .until(
            || format!("the product's page shows {expected} in stock"),
            async || {
                let page = shop.get(&path, None).await?;
                let stock = number(&page["skus"][0], "stock")?;
                Ok((stock == expected).then_some(stock))
            },
        )
        .await?;
    steps.say("the next shopper sees", &format!("{shown} in stock"));
    Ok(())
}
