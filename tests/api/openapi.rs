//! The published description of the API is the one that the handlers themselves give.

use std::path::Path;
use std::process::Command;

use farmgate_tests::{Shop, Value};

fn described() -> String {
    let binary = std::env::var("FARMGATE_ORIGIN_BIN").expect("run `cargo xtask test`");
    let output = Command::new(binary).arg("openapi").env_clear().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn docs_openapi_json_is_what_the_origin_prints() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let published = std::fs::read_to_string(&file).unwrap();
    assert!(
        published == described(),
        "docs/openapi.json is not what `farmgate-origin openapi` prints: write it anew and commit it"
    );
    let document: Value = serde_json::from_str(&published).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
}

#[tokio::test]
async fn every_described_path_exists_and_answers_its_method() {
    let shop = Shop::start().await;
    let document: Value = serde_json::from_str(&described()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/api/orders"), "{:?}", paths.keys());
    for (path, operations) in paths {
        for method in operations
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| ["get", "post", "put", "delete"].contains(&key.as_str()))
        {
            let asked = path.replace("{id}", "999999999").replace("{code}", "none");
            let call = farmgate_tests::Call::new(method.to_uppercase().parse().unwrap(), &asked);
            let reply = shop.api.send(call).await;
            assert!(
                reply.status < 500 && reply.status != 405,
                "{method} {path}: {} {}",
                reply.status,
                reply.text()
            );
            // Nothing there is `not_found`; a described path may say that the thing is missing, in its own words.
            assert!(
                !reply.text().contains("\"not_found\""),
                "{method} {path} is described and does not exist"
            );
        }
    }
}
