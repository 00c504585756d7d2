//! `farmgate-origin reconcile --bill DAY`: WeChat's bill against the books, each way in which they can differ, and each way
//! in which a bill cannot be believed.

use std::sync::LazyLock;

use farmgate_tests::{ForeignWechat, LONG, Shop, ShopPlan, Value, eventually, json};
use time::Date;
use time::macros::offset;

/// One for all, also where midnight passes in the middle of a test.
static TODAY: LazyLock<Date> =
    LazyLock::new(|| time::OffsetDateTime::now_utc().to_offset(offset!(+8)).date());

/// The day so many days ago in Shanghai. Two days ago's bill can be had at any hour.
pub fn day(back: i64) -> String {
    (*TODAY - time::Duration::days(back)).to_string()
}

/// The number of an order that was paid at this moment of the day so many days ago.
pub async fn sold(shop: &Shop, back: i64, moment: &str) -> String {
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let order = shopper.buy(&shop.wechat, product, 1).await;
    let number = order["order_no"].as_str().unwrap().to_owned();
    shop.wechat.backdate(&number, &format!("{}T{moment}+08:00", day(back))).await;
    paid_here_at(shop, &number, back, moment).await;
    number
}

/// Our books say that it was paid at this moment.
pub async fn paid_here_at(shop: &Shop, number: &str, back: i64, moment: &str) {
    sqlx::query("UPDATE payments SET paid_at = ? - INTERVAL 8 HOUR WHERE out_trade_no = ?")
        .bind(format!("{} {moment}", day(back)))
        .bind(number)
        .execute(&shop.db)
        .await
        .unwrap();
}

/// Whether the day was found in order, and what was said.
pub async fn reconcile(shop: &Shop, day: &str) -> (bool, String) {
    shop.reconcile(&["--bill", day]).await
}

/// The kinds and numbers of a day's differences that are open.
pub async fn open(shop: &Shop, day: &str) -> Vec<(String, String)> {
    sqlx::query_as(
        "SELECT kind, IF(out_refund_no = '', out_trade_no, out_refund_no) FROM bill_differences
         WHERE bill_date = ? AND settled_at IS NULL ORDER BY id",
    )
    .bind(day)
    .fetch_all(&shop.db)
    .await
    .unwrap()
}

async fn amount_of(shop: &Shop, number: &str) -> i64 {
    let query = "SELECT amount_fen FROM payments WHERE out_trade_no = ?";
    sqlx::query_scalar(query).bind(number).fetch_one(&shop.db).await.unwrap()
}

/// The number of a refund of five fen that WeChat paid back on the day so many days ago.
pub async fn refunded(shop: &Shop, number: &str, back: i64) -> String {
    let (is_done, said) =
        shop.command(&["refund", "start", number, "--amount", "0.05", "--reason", "少发一件"]).await;
    assert!(is_done, "{said}");
    let refund = eventually(LONG, "WeChat pays it back", async || {
        sqlx::query_scalar::<_, String>("SELECT out_refund_no FROM refunds WHERE status = 2")
            .fetch_optional(&shop.db)
            .await
            .unwrap()
    })
    .await;
    shop.wechat.backdate_refund(&refund, &format!("{}T15:00:00+08:00", day(back))).await;
    sqlx::query("UPDATE refunds SET created_at = ? - INTERVAL 8 HOUR, refunded_at = created_at")
        .bind(format!("{} 15:00:00", day(back)))
        .execute(&shop.db)
        .await
        .unwrap();
    refund
}

pub fn one(kind: &str, number: &str) -> Vec<(String, String)> {
    vec![(kind.to_owned(), number.to_owned())]
}

#[tokio::test]
async fn a_day_that_agrees_is_clean() {
    let shop = Shop::start().await;
    let (first, second) = (sold(&shop, 2, "00:00:00").await, sold(&shop, 2, "23:30:00").await);
    sold(&shop, 3, "12:00:00").await;
    let (is_clean, said) = reconcile(&shop, &day(2)).await;
    assert!(is_clean, "{said}");
    let sum = amount_of(&shop, &first).await + amount_of(&shop, &second).await;
    assert!(said.contains("payments       2") && said.contains("0 differences open"), "{said}");
    let (count, fen): (i32, i64) =
        sqlx::query_as("SELECT payments, payments_fen FROM bill_days").fetch_one(&shop.db).await.unwrap();
    assert_eq!((count, fen), (2, sum));
    let (_, status) = shop.command(&["bills", "status"]).await;
    assert!(status.contains(&day(2)) && status.contains("0 open"), "{status}");
    // The address is asked for, and the file is fetched with a signature of its own.
    assert_eq!(shop.wechat.calls("/v3/bill").await.len(), 2);
}

#[tokio::test]
async fn each_difference_is_found_and_ends_with_an_error() {
    let shop = Shop::start().await;
    let number = sold(&shop, 2, "12:00:00").await;
    let cases = [
        (
            json!({"fault": "added_line", "number": "20200101000000000001", "fen": 990}),
            "missing_here",
            "20200101000000000001",
        ),
        (json!({"fault": "dropped_line", "number": number}), "missing_there", &number),
        (json!({"fault": "wrong_amount", "number": number, "fen": 1}), "amount", &number),
        (json!({"fault": "wrong_state", "number": number, "state": "REVOKED"}), "state", &number),
        (json!({"fault": "doubled_line", "number": number}), "doubled", &number),
    ];
    for (mut fault, kind, named) in cases {
        fault["times"] = json!(1);
        shop.wechat.misbehave(json!({"bill": [fault]})).await;
        let (is_clean, said) = reconcile(&shop, &day(2)).await;
        assert!(!is_clean && said.contains(kind), "{kind}: {said}");
        assert_eq!(open(&shop, &day(2)).await, one(kind, named), "the findings of before are replaced");
    }
    let (is_clean, said) = reconcile(&shop, &day(2)).await;
    assert!(is_clean, "{said}");
    assert_eq!(open(&shop, &day(2)).await, []);
}

#[tokio::test]
async fn a_payment_that_nobody_told_us_of_is_found() {
    let shop = Shop::start().await;
    let shopper = shop.shopper("小王").await;
    let (product, _, _) = shop.first_product().await;
    let order = shopper.order(product, 1).await;
    shopper.prepay(&order).await;
    shop.wechat.misbehave(json!({"notify": [{"fault": "silent"}]})).await;
    let number = order["order_no"].as_str().unwrap();
    shop.wechat.pay(number).await;
    shop.wechat.backdate(number, &format!("{}T09:00:00+08:00", day(2))).await;
    let (is_clean, said) = reconcile(&shop, &day(2)).await;
    assert!(!is_clean && said.contains("here it is not paid"), "{said}");
    assert_eq!(open(&shop, &day(2)).await, one("state", number));
}

#[tokio::test]
async fn a_day_without_trades_is_clean_unless_our_books_have_some() {
    let shop = Shop::start().await;
    let (is_clean, said) = reconcile(&shop, &day(2)).await;
    assert!(is_clean && said.contains("a day without trades"), "{said}");
    // Our books have a payment on a day of which WeChat has no bill.
    let number = sold(&shop, 4, "12:00:00").await;
    paid_here_at(&shop, &number, 2, "12:00:00").await;
    let (is_clean, said) = reconcile(&shop, &day(2)).await;
    assert!(!is_clean, "{said}");
    assert_eq!(open(&shop, &day(2)).await, one("missing_there", &number));
}

#[tokio::test]
async fn a_bill_that_is_not_whole_or_not_wechats_changes_nothing() {
    let shop = Shop::start().await;
    let number = sold(&shop, 2, "12:00:00").await;
    let dropped = json!({"bill": [{"fault": "dropped_line", "number": number, "times": 1},
                                  {"fault": "added_line", "number": "20200101000000000001", "fen": 1, "times": 1}]});
    shop.wechat.misbehave(dropped).await;
    assert!(!reconcile(&shop, &day(2)).await.0);
    let findings = open(&shop, &day(2)).await;
    assert_eq!(findings.len(), 2);

    let file = "/v3/billdownload";
    for (faults, reason) in [
        (json!({"bill": [{"fault": "wrong_hash"}]}), "hash"),
        (json!({"bill": [{"fault": "truncated"}]}), "unpack"),
        (json!({"bill": [{"fault": "wrong_totals"}]}), "total"),
        (json!({"bill": [{"fault": "being_written"}]}), "still writing"),
        (json!({"api": [{"fault": "forged_signature", "path": "/v3/bill/tradebill"}]}), "not believed"),
        (
            json!({"api": [{"fault": "status", "status": 400, "code": "NO_STATEMENT_EXIST", "path": "/v3/bill/"}]}),
            "unsigned",
        ),
        (json!({"api": [{"fault": "status", "status": 500, "code": "SYSTEM_ERROR", "path": file}]}), "500"),
        (json!({"api": [{"fault": "drop", "path": file}]}), "could not be fetched"),
    ] {
        shop.wechat.misbehave(faults.clone()).await;
        let (is_clean, said) = reconcile(&shop, &day(2)).await;
        assert!(!is_clean && said.contains(reason), "{faults}: {said}");
        assert_eq!(open(&shop, &day(2)).await, findings, "{faults}");
        shop.wechat.behave().await;
    }
    assert!(reconcile(&shop, &day(2)).await.0);
}

#[tokio::test]
async fn days_that_wechat_has_no_bill_of_are_refused_without_asking() {
    let shop = Shop::start().await;
    for (day, reason) in [
        (day(0), "can be had from"),
        (day(-1), "can be had from"),
        (day(100), "three months"),
        ("2026-02-30".to_owned(), "invalid value"),
        ("yesterday".to_owned(), "invalid value"),
    ] {
        let (is_clean, said) = reconcile(&shop, &day).await;
        assert!(!is_clean && said.contains(reason), "{day}: {said}");
    }
    assert_eq!(shop.wechat.calls("/v3/").await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_an_operator_settled_stays_settled_until_it_changes() {
    let shop = Shop::start().await;
    let number = sold(&shop, 2, "12:00:00").await;
    shop.wechat.misbehave(json!({"bill": [{"fault": "wrong_amount", "number": number, "fen": 1}]})).await;
    assert!(!reconcile(&shop, &day(2)).await.0);
    let id = shop.count("SELECT id FROM bill_differences").await.to_string();
    let (listed, said) = shop.command(&["bills", "differences"]).await;
    assert!(listed && said.contains(&number), "{said}");

    for (arguments, reason) in [
        (vec!["bills", "settle", &id], "--note"),
        (vec!["bills", "settle", &id, "--note", " "], "note"),
        (vec!["bills", "settle", "999999", "--note", "x"], "no open difference"),
    ] {
        let (done, said) = shop.command(&arguments).await;
        assert!(!done && said.contains(reason), "{arguments:?}: {said}");
    }
    let (done, said) = shop.command(&["bills", "settle", &id, "--note", "问过微信，是测试单"]).await;
    assert!(done, "{said}");
    assert!(!shop.command(&["bills", "settle", &id, "--note", "again"]).await.0);

    for _ in 0..2 {
        let (is_clean, said) = reconcile(&shop, &day(2)).await;
        assert!(is_clean && said.contains("1 settled") && said.contains("是测试单"), "{said}");
    }
    shop.wechat.behave().await;
    shop.wechat.misbehave(json!({"bill": [{"fault": "wrong_amount", "number": number, "fen": 2}]})).await;
    assert!(!reconcile(&shop, &day(2)).await.0, "another amount is another matter");
    assert_eq!(open(&shop, &day(2)).await, one("amount", &number));
}

#[tokio::test]
async fn a_trade_near_midnight_may_stand_in_the_next_bill() {
    let shop = Shop::start().await;
    let (kept, lost) = (sold(&shop, 2, "00:00:01").await, sold(&shop, 3, "23:59:58").await);
    // Our books have the first one on the evening before.
    paid_here_at(&shop, &kept, 3, "23:59:59").await;
    shop.wechat.misbehave(json!({"bill": [{"fault": "dropped_line", "number": lost}]})).await;
    let (is_clean, said) = reconcile(&shop, &day(3)).await;
    assert!(is_clean, "the next bill decides: {said}");
    let (is_clean, said) = reconcile(&shop, &day(2)).await;
    assert!(is_clean, "nothing is wrong with this day: {said}");
    assert_eq!(open(&shop, &day(3)).await, one("missing_there", &lost), "neither bill has it");
    shop.wechat.behave().await;
    assert!(reconcile(&shop, &day(3)).await.0);
}

#[tokio::test]
async fn refunds_are_compared_by_their_own_numbers() {
    let shop = ShopPlan::new().worker().hasty_refunds().start().await;
    // Paid long ago, refunded now: the bill of the refund's day has the refund alone.
    let number = sold(&shop, 40, "12:00:00").await;
    let refund = refunded(&shop, &number, 2).await;
    let (is_clean, said) = reconcile(&shop, &day(2)).await;
    assert!(is_clean && said.contains("refunds        1            0.05 yuan"), "{said}");
    let stranger = json!({"fault": "added_line", "number": number, "fen": 1, "refund": "R9"});
    let cases = [
        (json!({"fault": "wrong_amount", "number": refund, "fen": 6}), one("amount", &refund)),
        (json!({"fault": "wrong_state", "number": refund, "state": "CHANGE"}), one("state", &refund)),
        (json!({"fault": "doubled_line", "number": refund}), one("doubled", &refund)),
        (json!({"fault": "dropped_line", "number": refund}), one("missing_there", &refund)),
        (stranger, one("missing_here", "R9")),
    ];
    for (fault, expected) in cases {
        shop.wechat.misbehave(json!({"bill": [fault]})).await;
        let (is_clean, said) = reconcile(&shop, &day(2)).await;
        assert!(!is_clean, "{fault}: {said}");
        assert_eq!(open(&shop, &day(2)).await, expected, "{fault}");
        shop.wechat.behave().await;
    }
}

#[tokio::test]
async fn a_refund_that_nobody_told_us_of_is_found() {
    let shop = ShopPlan::new().worker().hasty_refunds().start().await;
    let number = sold(&shop, 40, "12:00:00").await;
    // Nor is one under way that comes after all.
    shop.wechat.misbehave(json!({"notify": [{"fault": "silent"}]})).await;
    let refund = refunded(&shop, &number, 2).await;
    // As if neither the notification nor the question had come through.
    shop.script("UPDATE refunds SET status = 1, refunded_at = NULL").await;
    assert!(!reconcile(&shop, &day(2)).await.0);
    assert_eq!(open(&shop, &day(2)).await, one("state", &refund));
    shop.script("UPDATE refunds SET status = 2, refunded_at = created_at").await;
    assert!(reconcile(&shop, &day(2)).await.0);
}

#[tokio::test]
async fn another_app_of_the_merchant_and_a_new_column_do_no_harm() {
    let shop = Shop::start().await;
    sold(&shop, 2, "12:00:00").await;
    shop.wechat
        .misbehave(json!({"bill": [{"fault": "other_app", "fen": 100}, {"fault": "new_column"}]}))
        .await;
    let (is_clean, said) = reconcile(&shop, &day(2)).await;
    assert!(is_clean && said.contains("payments       1"), "{said}");
    assert!(said.contains("lines of other apps"), "{said}");
}

#[tokio::test]
async fn the_simulators_bill_is_read_by_others_too() {
    let wechat = ForeignWechat::start().await;
    let shop = Shop::start().await;
    let number = sold(&shop, 2, "12:00:00").await;
    let bill = wechat.control("bill", &json!({"base_url": shop.wechat.url(), "bill_date": day(2)})).await;
    assert_eq!(bill["hash_is_right"], true, "{bill}");
    let rows = bill["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{bill}");
    assert_eq!(rows[0]["商户订单号"], json!(number));
    assert_eq!(rows[0]["交易时间"], json!(format!("{} 12:00:00", day(2))));
    assert_eq!(bill["summary"]["总交易单数"], "1");
    let fen = amount_of(&shop, &number).await;
    assert_eq!(bill["summary"]["订单总金额"], json!(format!("{}.{:02}", fen / 100, fen % 100)));
}
