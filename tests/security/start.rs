//! Starting and stopping: weak secrets keep the origin from starting outside development, and SIGTERM ends it cleanly.

use std::process::{Command, Output};

use farmgate_tests::{Shop, ShopPlan};

/// `serve` with these settings over those of a shop that works.
fn serve_with(shop: &Shop, settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::var("FARMGATE_ORIGIN_BIN").expect("run `cargo xtask test`"));
    command.arg("serve").env_clear().envs(shop.settings()).envs(settings.iter().copied());
    command.output().unwrap()
}

#[tokio::test]
async fn a_missing_short_or_plain_setting_is_refused_at_the_start_by_name() {
    let shop = Shop::start().await;
    let production = ("FARMGATE_ENVIRONMENT", "production");
    for (settings, named) in [
        (vec![("FARMGATE_JWT__PRIVATE_KEY_FILE", "")], "jwt"),
        (vec![("FARMGATE_EDGE__KEYS", "")], "edge"),
        (vec![("FARMGATE_EDGE__KEYS", "k=abcd")], "edge"),
        (vec![("FARMGATE_CRYPTO__DATA_KEYS", "k=abcd")], "data"),
        (vec![("FARMGATE_CRYPTO__INDEX_KEY", "abcd")], "index_key"),
        (
            vec![
                production,
                ("FARMGATE_CRYPTO__INDEX_KEY", ""),
                ("FARMGATE_WECHAT__BASE_URL", "https://wechat.example"),
                ("FARMGATE_PAY__BASE_URL", "https://pay.example"),
                ("FARMGATE_PAY__NOTIFY_URL", "https://shop.example/api/payments/wechat/notify"),
                ("FARMGATE_PAY__REFUND_NOTIFY_URL", "https://shop.example/api/payments/wechat/refund-notify"),
                ("FARMGATE_HTTP__PUBLIC_URL", "https://shop.example"),
            ],
            "index_key",
        ),
        (vec![("FARMGATE_WECHAT__PHONE", "maybe")], "phone"),
        (vec![("FARMGATE_PAY__API_V3_KEY", "short")], "api_v3_key"),
        (vec![("FARMGATE_PAY__NOTIFY_URL", "https://shop.example/n?a=1")], "notify_url"),
        (vec![("FARMGATE_PAY__MCHID", "160000000116000000011600000001160")], "mchid"),
        (vec![("FARMGATE_PAY__PLATFORM_KEYS", "PUB_KEY_ID_01=/nowhere.pem")], "platform_keys"),
        (vec![("FARMGATE_PAY__TIMEOUT_MS", "20001")], "timeout_ms"),
        (vec![("FARMGATE_PAY__NOTIFICATION_WITHIN_MS", "99")], "notification_within_ms"),
        (vec![("FARMGATE_ORDERS__TWIN_WITHIN_MS", "30001")], "twin_within_ms"),
        (vec![("FARMGATE_HTTP__DOUBLE_TAP_SECONDS", "-1")], "double_tap_seconds"),
        (vec![("FARMGATE_ORDERS__DESCRIPTION", "苹果🍎")], "description"),
        (vec![production, ("FARMGATE_CLOCK__OFFSET_SECONDS", "1")], "offset_seconds"),
        (vec![("FARMGATE_MYSQL__URL", "")], "mysql"),
        (vec![("FARMGATE_NO__SUCH", "1")], "no"),
        // A plain-http WeChat is for development alone.
        (vec![production], "base_url"),
    ] {
        let output = serve_with(&shop, &settings);
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(!output.status.success(), "{settings:?} was accepted");
        assert!(said.contains(named), "{settings:?}: the message names no {named:?}: {said}");
        assert!(!said.contains("panicked"), "{settings:?}: {said}");
    }
}

#[tokio::test]
async fn sigterm_ends_origin_and_worker_cleanly() {
    let mut shop = ShopPlan::new().worker().start().await;
    shop.api.get("/api/products").await.data();
    assert!(shop.origin().stop().await.success());
    assert!(shop.worker().stop().await.success());
}
