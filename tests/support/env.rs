//! What `cargo xtask test` hands the suites through the environment. A missing part is a failure that says so, never a
//! skipped test.

use std::path::PathBuf;

/// The value, or the one sentence that tells what to run.
pub fn required(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => {
            panic!("{name} is not set: run `cargo xtask test`, which sets up everything that the suites need")
        }
    }
}

pub fn origin_binary() -> PathBuf {
    required("FARMGATE_ORIGIN_BIN").into()
}

pub fn workerd_binary() -> PathBuf {
    required("FARMGATE_WORKERD_BIN").into()
}

/// The folder `edge/` with its built Wasm.
pub fn edge_folder() -> PathBuf {
    required("FARMGATE_EDGE_DIR").into()
}

/// `server.js` of the benchmark's peer on Express.
pub fn peer_server() -> PathBuf {
    required("FARMGATE_TEST_PEER").into()
}

/// The packages that it needs, for `NODE_PATH`.
pub fn peer_modules() -> String {
    required("FARMGATE_TEST_PEER_MODULES")
}

/// `server.js` of the WeChat Pay that is not ours.
pub fn wechatpay_server() -> PathBuf {
    required("FARMGATE_TEST_WECHATPAY").into()
}

/// The packages that it needs, for `NODE_PATH`.
pub fn wechatpay_modules() -> String {
    required("FARMGATE_TEST_WECHATPAY_MODULES")
}

/// A server without a database in its path.
pub fn mysql_url() -> String {
    required("FARMGATE_TEST_MYSQL_URL").trim_end_matches('/').to_owned()
}

pub fn redis_url() -> String {
    required("FARMGATE_TEST_REDIS_URL")
}

/// The file that says how to start a MySQL or a Redis of a test's own ([`crate::Mysql`], [`crate::Redis`]).
pub fn servers_file() -> PathBuf {
    required("FARMGATE_TEST_SERVERS").into()
}

/// `keys/` as the origin's `keygen` wrote it, `wechat/` as `wechat-sim init` did.
pub fn keys_folder() -> PathBuf {
    required("FARMGATE_TEST_KEYS").into()
}

/// The credentials of the tests' merchant, and a stranger's key.
pub fn wechat_keys() -> PathBuf {
    keys_folder().join("wechat")
}

/// Stands beside the test binary's own folder: cargo builds the package's binaries before its tests.
pub fn wechat_sim_binary() -> PathBuf {
    let this = std::env::current_exe().expect("a process knows its own program");
    let folder = this.parent().and_then(|deps| deps.parent()).expect("tests run from target/<profile>/deps");
    folder.join("wechat-sim")
}

/// The settings in a file of `NAME=value` lines.
pub fn read_settings(file: &std::path::Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", file.display()));
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// One of those settings.
pub fn read_setting(file: &std::path::Path, name: &str) -> String {
    let found = read_settings(file).into_iter().find(|(key, _)| key == name);
    found.unwrap_or_else(|| panic!("{} has no {name}", file.display())).1
}
