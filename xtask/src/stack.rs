//! The dev shop: which part starts when, with which port, keys and settings, and how each is known
//! to be healthy. The order is that of need: servers, wechat-sim, schema and demo data, origin,
//! worker, edge.

use crate::context::Context;
use crate::edge_host::{self, EdgeHost};
use crate::endpoints::{Demo, Endpoints};
use crate::fleet::Fleet;
use crate::net;
use crate::ports::Ports;
use crate::process::{self, Process};
use crate::provision::Parts;
use crate::provision::mysql::{Durability, MysqlServer};
use crate::provision::redis::RedisServer;
use anyhow::{Context as _, Result, bail};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const EDGE_PORT: u16 = 8787;
const INSPECTOR_PORT: u16 = 9229;
const ORIGIN_PORT: u16 = 8080;
const SIM_PORT: u16 = 8090;
const MYSQL_PORT: u16 = 13306;
const REDIS_PORT: u16 = 16379;

/// The demo looks at the stock gate under this name.
const REDIS_PREFIX: &str = "farmgate";

const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);
const TOOL_LIMIT: Duration = Duration::from_secs(5 * 60);
const READY_LIMIT: Duration = Duration::from_secs(60);
const EDGE_LIMIT: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(15);

/// Every build and test of the shop names the same packages: cargo picks the features of shared
/// dependencies by them, and compiles those again for each other choice. This program's own
/// dependencies are chosen by `cargo xtask` and stay apart.
pub const SHOP_PACKAGES: [&str; 3] = ["--workspace", "--exclude", "xtask"];

/// The programs that the checkout builds for this machine.
#[derive(Debug)]
pub struct Programs {
    pub origin: PathBuf,
    pub wechat_sim: PathBuf,
    pub demo: PathBuf,
}

impl Programs {
    pub fn locate(context: &Context) -> Result<Self> {
        let folder = context.target_dir()?.join("debug");
        let path = |name: &str| folder.join(name);
        Ok(Self { origin: path("farmgate-origin"), wechat_sim: path("wechat-sim"), demo: path("demo") })
    }

    pub fn build(context: &Context) -> Result<()> {
        let step = context.progress.step("origin, wechat-sim and demo");
        let mut command = context.command("cargo");
        command.arg("build").args(SHOP_PACKAGES).arg("--bins");
        process::run(command, &context.log("build")?, &step, &context.stop, BUILD_LIMIT)?;
        step.done("built");
        Ok(())
    }
}

/// Keys of a shop and its merchant account at the stand-in for WeChat; kept if they are there.
pub fn make_keys(context: &Context, programs: &Programs, keys: &Path, wechat: &Path) -> Result<()> {
    let step = context.progress.step("keys");
    for (program, verb, folder) in
        [(&programs.origin, "keygen", keys), (&programs.wechat_sim, "init", wechat)]
    {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        let mut command = context.command(program);
        command.arg(verb).arg("--dir").arg(folder);
        process::run(command, &context.log(verb)?, &step, &context.stop, TOOL_LIMIT)?;
    }
    step.done("");
    Ok(())
}

/// The private MySQL and Redis of a run, or the given ones.
#[derive(Debug, Clone, Copy)]
pub struct ServerPorts {
    pub mysql: u16,
    pub redis: u16,
}

/// Starts both at once and waits until both answer.
pub fn start_servers(
    context: &Context,
    fleet: &mut Fleet,
    (mysql_server, redis_server): (&MysqlServer, &RedisServer),
    ports: ServerPorts,
    durability: Durability,
) -> Result<()> {
    let step = context.progress.step("MySQL and Redis");
    let mark = fleet.mark();
    let mysql = mysql_server.start(context, &context.state.join("mysql"), ports.mysql, &mark, durability)?;
    if let Some(process) = mysql {
        fleet.add(process)?;
    }
    let keep = durability == Durability::Full;
    if let Some(process) =
        redis_server.start(context, &context.state.join("redis"), ports.redis, &mark, keep)?
    {
        fleet.add(process)?;
    }
    mysql_server.wait_ready(context, fleet.get("mysql"), ports.mysql)?;
    redis_server.wait_ready(context, fleet.get("redis"), ports.redis)?;
    step.done("");
    Ok(())
}

/// Starts the whole shop and writes `endpoints.json` once all of it is healthy.
pub fn start(
    context: &Context,
    fleet: &mut Fleet,
    parts: &Parts,
    programs: &Programs,
    edge_host: EdgeHost,
) -> Result<Endpoints> {
    let mut ports = Ports::default();
    let servers = ServerPorts { mysql: ports.choose(MYSQL_PORT)?, redis: ports.choose(REDIS_PORT)? };
    let (sim, origin) = (ports.choose(SIM_PORT)?, ports.choose(ORIGIN_PORT)?);
    let (edge, inspector) = (ports.choose(EDGE_PORT)?, ports.choose(INSPECTOR_PORT)?);
    drop(ports);
    let local = |port: u16| format!("http://127.0.0.1:{port}");
    let endpoints = Endpoints {
        edge: Some(local(edge)),
        origin: Some(local(origin)),
        admin: None,
        preview: None,
        wechat_sim: Some(local(sim)),
        mysql_url: Some(parts.mysql.url(servers.mysql)),
        redis_url: Some(parts.redis.url(servers.redis)),
        demo: Demo::default(),
    };

    let (secrets, wechat) = (context.state.join("secrets"), context.state.join("wechat"));
    make_keys(context, programs, &secrets, &wechat)?;
    start_servers(context, fleet, (&parts.mysql, &parts.redis), servers, Durability::Full)?;

    let mut command = context.command(&programs.wechat_sim);
    command.arg("serve").arg("--dir").arg(&wechat).args(["--listen", &format!("127.0.0.1:{sim}")]);
    serve(context, fleet, command, "wechat-sim", &format!("{}/sim/healthz", local(sim)), READY_LIMIT)?;

    let mysql_url = parts.mysql.origin_url(servers.mysql);
    let settings = origin_settings(&endpoints, mysql_url, origin, &secrets, &wechat)?;
    let origin_command = |verb: &str| {
        let mut command = context.command(&programs.origin);
        command.arg(verb).envs(settings.iter().map(|(name, value)| (name, value)));
        command
    };
    for (verb, name) in [("migrate", "schema"), ("seed", "demo shop")] {
        let step = context.progress.step(name);
        process::run(origin_command(verb), &context.log(verb)?, &step, &context.stop, TOOL_LIMIT)?;
        step.done("");
    }
    serve(
        context,
        fleet,
        origin_command("serve"),
        "origin",
        &format!("{}/readyz", local(origin)),
        READY_LIMIT,
    )?;
    start_worker(context, fleet, origin_command("worker"))?;

    let place = edge_host::Place { origin: &local(origin), secrets: &secrets, port: edge, inspector };
    let command = edge_host::command(context, &parts.edge.npm, edge_host, &place)?;
    serve(context, fleet, command, "edge", &format!("{}/healthz", local(edge)), EDGE_LIMIT)?;
    check_whole_way(context, fleet, &local(edge))?;

    fleet.check()?;
    endpoints.write(&context.state)?;
    fleet.ready()?;
    Ok(endpoints)
}

/// Starts one server and waits until its health page says 200.
pub fn serve(
    context: &Context,
    fleet: &mut Fleet,
    command: Command,
    name: &str,
    health: &str,
    limit: Duration,
) -> Result<()> {
    let step = context.progress.step(name);
    let process = Process::serve(command, name, &context.log(name)?, &fleet.mark(), GRACE)?;
    fleet.add(process)?.wait_ready(&context.stop, limit, || match net::http_status(health)? {
        200 => Ok(()),
        status => bail!("{health} says {status}"),
    })?;
    step.done("");
    Ok(())
}

/// The worker has no listener; it says in its log that it took up its work.
pub fn start_worker(context: &Context, fleet: &mut Fleet, command: Command) -> Result<()> {
    let step = context.progress.step("worker");
    let log = context.log("worker")?;
    let process = Process::serve(command, "worker", &log, &fleet.mark(), GRACE)?;
    fleet.add(process)?.wait_ready(&context.stop, READY_LIMIT, || {
        if std::fs::read_to_string(&log)?.contains("worker ready") {
            return Ok(());
        }
        bail!("its log does not say `worker ready`")
    })?;
    step.done("");
    Ok(())
}

/// Each part may be healthy and the edge's key still be unknown to the origin.
fn check_whole_way(context: &Context, fleet: &mut Fleet, edge: &str) -> Result<()> {
    let url = format!("{edge}/api/products?page=1&size=1");
    let mut last = String::new();
    let answered = context.stop.wait_until(READY_LIMIT, || {
        fleet.check()?;
        let status = net::http_status(&url);
        last = status.as_ref().map_or_else(|e| format!("{e:#}"), |s| format!("it says {s}"));
        Ok(matches!(status, Ok(200)))
    })?;
    if answered {
        return Ok(());
    }
    let tails = [context.log("edge")?, context.log("origin")?].map(|log| process::tail(&log));
    bail!("{url} does not reach the origin: {last}\n{}\n{}", tails[0], tails[1])
}

fn origin_settings(
    endpoints: &Endpoints,
    mysql_url: String,
    port: u16,
    secrets: &Path,
    wechat: &Path,
) -> Result<Vec<(String, String)>> {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let edge = text(&endpoints.edge);
    let mut settings = read_env(&secrets.join("origin.env"))?;
    settings.extend(read_env(&wechat.join("origin.env"))?);
    let more = [
        ("HTTP__LISTEN", format!("127.0.0.1:{port}")),
        ("HTTP__PUBLIC_URL", edge.clone()),
        ("MYSQL__URL", mysql_url),
        ("REDIS__URL", text(&endpoints.redis_url)),
        ("REDIS__PREFIX", REDIS_PREFIX.to_owned()),
        ("WECHAT__BASE_URL", text(&endpoints.wechat_sim)),
        // The simulator gives telephone numbers away.
        ("WECHAT__PHONE", "on".to_owned()),
        ("PAY__BASE_URL", text(&endpoints.wechat_sim)),
        ("PAY__BACKUP_BASE_URL", String::new()),
        ("PAY__NOTIFY_URL", format!("{edge}/api/payments/wechat/notify")),
        ("PAY__REFUND_NOTIFY_URL", format!("{edge}/api/payments/wechat/refund-notify")),
        // wechat-sim forgets its trades when it ends, and the database does not: every bill would differ.
        ("BILLS__LOOK_BACK_DAYS", "0".to_owned()),
    ];
    settings.extend(more.map(|(name, value)| (format!("FARMGATE_{name}"), value)));
    Ok(settings)
}

/// `NAME=value` lines; blank ones and comments aside.
pub fn read_env(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(parse_env(&text))
}

fn parse_env(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::parse_env;

    #[test]
    fn a_value_may_hold_what_separates_names_from_values() {
        let text = "# keys\n\nEDGE_KEY=k1=ab\nJWT_JWKS={\"keys\":[]}\n";
        let expected = [("EDGE_KEY", "k1=ab"), ("JWT_JWKS", "{\"keys\":[]}")];
        assert_eq!(parse_env(text), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
}
