//! The demo program: it walks a whole shop, may do so again, and fails when something is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use farmgate_tests::{EdgeShop, Line, ShopPlan, json};

/// Where everything is, in the form that `cargo xtask up` writes.
fn write_endpoints(shop: &EdgeShop) -> PathBuf {
    let settings = shop.shop.settings();
    let setting = |name: &str| settings.iter().find(|(known, _)| known == name).unwrap().1.clone();
    let endpoints = json!({
        "edge": shop.phone.base(), "origin": shop.shop.origin_url, "admin": null, "preview": null,
        "wechat_sim": shop.shop.wechat.url(), "mysql_url": setting("FARMGATE_MYSQL__URL"),
        "redis_url": setting("FARMGATE_REDIS__URL"), "demo": {"admin_user": null, "admin_password": null},
    });
    let file = std::env::temp_dir().join(format!("{}.json", shop.shop.redis_prefix()));
    std::fs::write(&file, endpoints.to_string()).unwrap();
    file
}

async fn demo(shop: &EdgeShop, endpoints: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.arg("--endpoints").arg(endpoints).args(["--redis-prefix", shop.shop.redis_prefix()]);
    tokio::process::Command::from(command).output().await.unwrap()
}

#[tokio::test]
async fn the_demo_walks_the_shop_twice_and_fails_on_a_broken_one() {
    let shop = EdgeShop::plan(ShopPlan::new().worker()).await;
    let endpoints = write_endpoints(&shop);
    for _ in 0..2 {
        let output = demo(&shop, &endpoints).await;
        let printed = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{printed}{said}");
        for step in [
            "browse",
            "search 苹果",
            "prepay",
            "notification",
            "order paid",
            "stock in MySQL",
            "stock in Redis",
        ] {
            assert!(printed.contains(step), "no step {step:?} in\n{printed}");
        }
    }
    shop.line.set(Line::Down);
    let output = demo(&shop, &endpoints).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("wrong:") && said.contains("expected"), "{said}");
    std::fs::remove_file(endpoints).unwrap();
}
