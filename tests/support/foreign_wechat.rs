//! WeChat Pay as somebody else wrote it: a Node program (`tests/peers/wechatpay/server.js`) in which the npm package
//! wechatpay-axios-plugin makes and checks every signature. It stands in for WeChat's server, for a shop that WeChat
//! notifies, and for a merchant who asks, so that neither our origin nor our wechat-sim is judge in its own cause.

use std::process::Command;

use serde_json::{Value, json};

use crate::caller::{Call, Caller};
use crate::env;
use crate::process::Process;
use crate::shop::Folder;

/// A running one. It ends with the test.
#[derive(Debug)]
pub struct ForeignWechat {
    caller: Caller,
    _process: Process,
    _folder: Folder,
}

impl ForeignWechat {
    /// With the keys of the tests' merchant.
    pub async fn start() -> ForeignWechat {
        let folder = Folder::create();
        let settings = [
            ("PEER_KEYS".to_owned(), env::keys_folder().join("wechat").display().to_string()),
            ("NODE_PATH".to_owned(), env::wechatpay_modules()),
        ];
        let mut command = Command::new("node");
        let mut process =
            Process::start("wechatpay", command.arg(env::wechatpay_server()), &folder.path, &settings);
        let caller = Caller::phone(&process.listening().await);
        ForeignWechat { caller, _process: process, _folder: folder }
    }

    pub fn url(&self) -> &str {
        self.caller.base()
    }

    /// Every call so far whose path starts so, oldest first, with the package's verdict.
    pub async fn calls(&self, prefix: &str) -> Vec<Value> {
        let calls = self.caller.get("/peer/calls").await.json();
        let calls = calls.as_array().cloned().unwrap_or_default();
        calls
            .into_iter()
            .filter(|call| call["path"].as_str().is_some_and(|path| path.starts_with(prefix)))
            .collect()
    }

    /// One of the controls that `server.js` lists.
    pub async fn control(&self, name: &str, body: &Value) -> Value {
        let reply = self.caller.post(&format!("/peer/{name}"), body).await;
        assert_eq!(reply.status, 200, "{name} {body}: {}", reply.text());
        reply.json()
    }

    /// A notification that the package sealed and signed, ready to be sent to the shop.
    pub async fn notification(&self, event_type: &str, original_type: &str, resource: &Value) -> Call {
        let asked = json!({"event_type": event_type, "original_type": original_type, "resource": resource});
        let made = self.control("notification", &asked).await;
        notify_call(made["body"].as_str().unwrap_or_default(), &made["headers"])
    }

    /// The same bytes, or others, with a signature of WeChat's over them.
    pub async fn signed(&self, body: &str) -> Call {
        let headers = self.control("sign", &json!({"body": body})).await;
        notify_call(body, &headers)
    }

    /// Whether the merchant signed these lines.
    pub async fn verifies(&self, lines: &[&str], signature: &str) -> bool {
        self.control("verify", &json!({"lines": lines, "signature": signature})).await["verified"]
            == json!(true)
    }
}

fn notify_call(body: &str, headers: &Value) -> Call {
    let call = Call::new(reqwest::Method::POST, "/api/payments/wechat/notify").raw("application/json", body);
    let headers = headers.as_object().expect("the signature's headers");
    headers.iter().fold(call, |call, (name, value)| call.header(name, value.as_str().unwrap_or_default()))
}
