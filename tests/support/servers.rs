//! A MySQL and a Redis of a test's own, which it may kill: each with its own data and port, killed as by SIGKILL and
//! started again on the same ones. The MySQL is as durable as production's. Where none can be started the test fails
//! and says why.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::{Connection as _, MySqlConnection};

use crate::env;
use crate::process::Process;
use crate::shop::Folder;
use crate::until::{LONG, eventually};

/// As `cargo xtask test` describes them.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part<T> {
    Recipe(T),
    Missing(String),
}

fn recipe<T: DeserializeOwned>(name: &str) -> T {
    let file = env::servers_file();
    let text = fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", file.display()));
    let mut parts: Value = serde_json::from_str(&text).expect("the description is JSON");
    match serde_json::from_value(parts[name].take()).expect("each part is a recipe or missing") {
        Part::Recipe(recipe) => recipe,
        Part::Missing(why) => panic!("{why}"),
    }
}

/// A durable MySQL.
#[derive(Debug)]
pub struct Mysql {
    process: Process,
    recipe: MysqlRecipe,
    port: u16,
    folder: Folder,
}

#[derive(Debug, Deserialize)]
struct MysqlRecipe {
    /// The program and its fixed arguments.
    words: Vec<String>,
    template: PathBuf,
    init_sql: String,
}

impl Mysql {
    /// One with fresh data.
    pub async fn start() -> Mysql {
        let recipe: MysqlRecipe = recipe("mysql");
        let folder = Folder::create();
        copy(&recipe.template, &folder.path.join("data"));
        fs::write(folder.path.join("init.sql"), &recipe.init_sql).expect("the test's folder can be written");
        let port = free_port();
        let process = start_mysql(&recipe, &folder.path, port).await;
        Mysql { process, recipe, port, folder }
    }

    /// Without a database in its path.
    pub fn url(&self) -> String {
        mysql_url(self.port)
    }

    /// SIGKILL: what it had not written is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// On the same data and port; returns when it has recovered and answers.
    pub async fn restart(&mut self) {
        self.process = start_mysql(&self.recipe, &self.folder.path, self.port).await;
    }
}

impl Drop for Mysql {
    fn drop(&mut self) {
        self.process.kill();
        // Its log stays when the test failed; a data folder of 100 MB a failure would fill the disk.
        let _ = fs::remove_dir_all(self.folder.path.join("data"));
    }
}

async fn start_mysql(recipe: &MysqlRecipe, folder: &Path, port: u16) -> Process {
    let data = folder.join("data");
    let mut command = command(&recipe.words);
    command.arg(format!("--datadir={}", data.display())).arg(format!("--port={port}"));
    command.arg(format!("--init-file={}", folder.join("init.sql").display()));
    // Only memory and start-up time: what a commit promises is untouched.
    command.arg("--performance-schema=OFF").current_dir(&data);
    let mut process = Process::start("mysql", &mut command, folder, &[]);
    eventually(LONG, "the private MySQL answers", async || {
        assert!(!process.has_ended(), "the private MySQL ended at once");
        MySqlConnection::connect(&mysql_url(port)).await.ok()?.ping().await.ok()
    })
    .await;
    process
}

fn mysql_url(port: u16) -> String {
    format!("mysql://root@127.0.0.1:{port}")
}

/// A Redis that writes nothing by itself: what it had when it was killed is lost.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    recipe: RedisRecipe,
    port: u16,
    folder: Folder,
}

#[derive(Debug, Deserialize)]
struct RedisRecipe {
    words: Vec<String>,
}

impl Redis {
    pub async fn start() -> Redis {
        let recipe: RedisRecipe = recipe("redis");
        let folder = Folder::create();
        let port = free_port();
        let process = start_redis(&recipe, &folder.path, port).await;
        Redis { process, recipe, port, folder }
    }

    pub fn url(&self) -> String {
        redis_url(self.port)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty.
    pub async fn restart_empty(&mut self) {
        match fs::remove_file(self.dump()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("the dump stays: {error}"),
            _ => {}
        }
        self.process = start_redis(&self.recipe, &self.folder.path, self.port).await;
    }

    /// Forgets everything while it runs.
    pub async fn flush(&self) {
        self.command("FLUSHALL").await;
    }

    /// Keeps what it has now, for [`Redis::roll_back`].
    pub async fn save(&self) {
        self.command("SAVE").await;
        fs::copy(self.dump(), self.kept()).expect("SAVE leaves a dump");
    }

    /// Kills it and starts it with what [`Redis::save`] kept.
    pub async fn roll_back(&mut self) {
        self.kill();
        fs::copy(self.kept(), self.dump()).expect("a dump was kept");
        self.process = start_redis(&self.recipe, &self.folder.path, self.port).await;
    }

    fn dump(&self) -> PathBuf {
        self.folder.path.join("dump.rdb")
    }

    fn kept(&self) -> PathBuf {
        self.folder.path.join("kept.rdb")
    }

    async fn command(&self, word: &str) {
        let mut connection = redis_connection(&self.url()).await.expect("the private Redis answers");
        redis::cmd(word).exec_async(&mut connection).await.expect("the private Redis obeys");
    }
}

/// A connection of a test's own, which waits as long as a test waits for anything; the library's own limits are a second
/// and half of one.
pub async fn redis_connection(url: &str) -> RedisResult<MultiplexedConnection> {
    let patient =
        AsyncConnectionConfig::new().set_connection_timeout(Some(LONG)).set_response_timeout(Some(LONG));
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&patient).await
}

async fn start_redis(recipe: &RedisRecipe, folder: &Path, port: u16) -> Process {
    let mut command = command(&recipe.words);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no", "--dir", "."]);
    command.args(["--appendonly", "no", "--save", ""]).current_dir(folder);
    let mut process = Process::start("redis", &mut command, folder, &[]);
    let client = redis::Client::open(redis_url(port)).expect("a redis:// URL");
    eventually(LONG, "the private Redis answers", async || {
        assert!(!process.has_ended(), "the private Redis ended at once");
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        redis::cmd("PING").exec_async(&mut connection).await.ok()
    })
    .await;
    process
}

fn redis_url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

fn command(words: &[String]) -> Command {
    let (program, arguments) = words.split_first().expect("a recipe names a program");
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// A port that stays free while its server is down: below those that the system gives to outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 16_000).expect("a remainder below 16,000");
    (0..16_000)
        .map(|_| 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 16_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of 16,000 ports is free")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the test's folder can be written");
    for entry in fs::read_dir(from).expect("the template can be read") {
        let entry = entry.expect("the template can be read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file has a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the test's folder has room");
        }
    }
}
