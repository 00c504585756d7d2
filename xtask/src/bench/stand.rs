//! What a benchmark runs on: one durable MySQL, one Redis, the origin and its worker as released, and the
//! peers; and the plan that tells the `bench` program where each of them is.

use super::MYSQL_CONNECTIONS;
use crate::context::Context;
use crate::fleet::Fleet;
use crate::net;
use crate::ports::Ports;
use crate::process::{self, Process};
use crate::provision::mysql::{self, Durability, MysqlServer};
use crate::provision::npm::Peer;
use crate::provision::redis::RedisServer;
use crate::run_file::write_whole;
use crate::stack::{self, Programs, ServerPorts};
use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Also for a million rows, written durably and loaded by the origin.
const TOOL_LIMIT: Duration = Duration::from_secs(10 * 60);
const READY_LIMIT: Duration = Duration::from_secs(3 * 60);
const GRACE: Duration = Duration::from_secs(15);

/// Everything that is started, with what the `bench` program must know of it.
pub struct Stand<'a> {
    context: &'a Context,
    programs: Programs,
    pub bench: PathBuf,
    mysql_url: String,
    redis_url: String,
    origin_port: u16,
    settings: BTreeMap<String, String>,
    /// More origins, by name, each with its port and database.
    others: BTreeMap<&'static str, (u16, String)>,
    peers: BTreeMap<&'static str, PeerPlan>,
}

const MYSQL_URL: &str = "FARMGATE_MYSQL__URL";

struct PeerPlan {
    port: u16,
    processes: u32,
    database: String,
    prefix: String,
    secret: String,
}

impl<'a> Stand<'a> {
    pub fn start_servers(
        context: &'a Context,
        fleet: &mut Fleet,
        (mysql, redis): (MysqlServer, RedisServer),
        release: PathBuf,
    ) -> Result<Self> {
        let path = |name: &str| release.join(name);
        let programs =
            Programs { origin: path("farmgate-origin"), wechat_sim: path("wechat-sim"), demo: path("demo") };
        let mut ports = Ports::default();
        let servers = ServerPorts { mysql: ports.choose(0)?, redis: ports.choose(0)? };
        let origin_port = ports.choose(0)?;
        drop(ports);
        let keys = context.state.join("keys");
        stack::make_keys(context, &programs, &keys.join("keys"), &keys.join("wechat"))?;
        stack::start_servers(context, fleet, (&mysql, &redis), servers, Durability::Full)?;

        let (mysql_url, redis_url) = (mysql.server_url(servers.mysql), redis.url(servers.redis));
        // Nobody pays here, and no unpaid order is to be closed while orders are counted.
        let nowhere = "http://127.0.0.1:9".to_owned();
        let mut settings: BTreeMap<String, String> =
            stack::read_env(&keys.join("keys/origin.env"))?.into_iter().collect();
        settings.extend(stack::read_env(&keys.join("wechat/origin.env"))?);
        let own = [
            ("HTTP__LISTEN", format!("127.0.0.1:{origin_port}")),
            ("HTTP__PUBLIC_URL", nowhere.clone()),
            ("MYSQL__URL", mysql.origin_url(servers.mysql)),
            ("MYSQL__MAX_CONNECTIONS", MYSQL_CONNECTIONS.to_string()),
            ("REDIS__URL", redis_url.clone()),
            ("REDIS__PREFIX", "farmgate".to_owned()),
            ("WECHAT__BASE_URL", nowhere.clone()),
            ("PAY__BASE_URL", nowhere.clone()),
            ("PAY__BACKUP_BASE_URL", String::new()),
            ("PAY__NOTIFY_URL", format!("{nowhere}/api/payments/wechat/notify")),
            ("PAY__REFUND_NOTIFY_URL", format!("{nowhere}/api/payments/wechat/refund-notify")),
            ("ORDERS__PAY_WINDOW_SECONDS", "86400".to_owned()),
            ("BILLS__LOOK_BACK_DAYS", "0".to_owned()),
        ];
        settings.extend(own.map(|(name, value)| (format!("FARMGATE_{name}"), value)));
        // All of the load comes from one address. The limits are counted all the same, so that their cost is measured.
        for who in ["ADDRESS", "USER"] {
            for class in ["READS", "WRITES", "ORDERS", "LOGINS"] {
                settings
                    .insert(format!("FARMGATE_LIMITS__{who}_{class}"), "1000000/s burst 1000000".to_owned());
            }
        }
        let bench = path("bench");
        let (others, peers) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { context, programs, bench, mysql_url, redis_url, origin_port, settings, others, peers })
    }

    /// Has one more origin take part, on a database of its own.
    pub fn other(&mut self, name: &'static str, database: &str) -> Result<()> {
        self.others.insert(name, (Ports::default().choose(0)?, database.to_owned()));
        Ok(())
    }

    /// Has these peers take part.
    pub fn peers(&mut self, modes: &[&'static str], processes: u32) -> Result<()> {
        let mut ports = Ports::default();
        for &mode in modes {
            let (port, database) = (ports.choose(0)?, format!("peer_{mode}"));
            let (prefix, secret) =
                (format!("peer-{mode}:"), format!("bench-only-{mode}-{}", std::process::id()));
            self.peers.insert(mode, PeerPlan { port, processes, database, prefix, secret });
        }
        Ok(())
    }

    /// The schemas first, by this command of the `bench` program: the worker builds the stock gate from them, and the
    /// origin finds it ready.
    pub fn start(&self, fleet: &mut Fleet, peer: &Peer, prepare: &str) -> Result<()> {
        let plan = self.write_plan(fleet)?;
        let mut command = self.context.command(&self.bench);
        command.arg("--plan").arg(&plan).arg(prepare);
        self.tool(command, "shops to measure")?;
        // It has nothing to do where nobody orders.
        if prepare == "prepare" {
            stack::start_worker(self.context, fleet, self.origin("worker"))?;
        }
        let ready = format!("http://127.0.0.1:{}/readyz", self.origin_port);
        stack::serve(self.context, fleet, self.origin("serve"), "origin", &ready, READY_LIMIT)?;
        for (name, (port, database)) in &self.others {
            let url = self.settings.get(MYSQL_URL).map(String::as_str).unwrap_or_default();
            let mut command = self.origin("serve");
            command.env(MYSQL_URL, on_database(url, database)?);
            command.env("FARMGATE_HTTP__LISTEN", format!("127.0.0.1:{port}"));
            command.env("FARMGATE_REDIS__PREFIX", name);
            let ready = format!("http://127.0.0.1:{port}/readyz");
            stack::serve(self.context, fleet, command, name, &ready, READY_LIMIT)?;
        }
        for mode in self.peers.keys() {
            self.start_peer(fleet, peer, mode, &plan)?;
        }
        Ok(())
    }

    fn origin(&self, verb: &str) -> Command {
        let mut command = self.context.command(&self.programs.origin);
        command.arg(verb).envs(&self.settings);
        command
    }

    fn tool(&self, command: Command, name: &str) -> Result<()> {
        let step = self.context.progress.step(name);
        let log = self.context.log(&name.replace(' ', "-"))?;
        process::run(command, &log, &step, &self.context.stop, TOOL_LIMIT)?;
        step.done("");
        Ok(())
    }

    /// By the `bench` program, which knows a peer's environment from the plan and becomes the peer.
    fn start_peer(&self, fleet: &mut Fleet, peer: &Peer, mode: &str, plan: &Path) -> Result<()> {
        let name = format!("express-{mode}");
        let step = self.context.progress.step(&name);
        let mut command = self.context.command(&self.bench);
        command.arg("--plan").arg(plan).args(["peer", mode, "--server"]).arg(&peer.server);
        command.env("NODE_PATH", &peer.modules);
        let process = Process::serve(command, &name, &self.context.log(&name)?, &fleet.mark(), GRACE)?;
        // Without a token it says 500, which is an answer.
        let port = self.peers.get(mode).map_or(0, |peer| peer.port);
        let url = format!("http://127.0.0.1:{port}/healthz");
        let log = self.context.log(&name)?;
        fleet.add(process)?.wait_ready(&self.context.stop, READY_LIMIT, || {
            net::http_status(&url)?;
            if std::fs::read_to_string(&log)?.contains("listening on") {
                return Ok(());
            }
            bail!("not all of its processes listen")
        })?;
        step.done("");
        Ok(())
    }

    pub fn write_plan(&self, fleet: &mut Fleet) -> Result<PathBuf> {
        let local = |port: u16| format!("127.0.0.1:{port}");
        let mut processes = BTreeMap::new();
        let known = ["mysql", "redis", "origin", "worker", "express-seed", "express-repaired"];
        for name in known.into_iter().chain(self.others.keys().copied()) {
            if let Some(process) = fleet.get(name) {
                let identity = process.identity().ok_or_else(|| anyhow!("{name} has ended"))?;
                processes.insert(name, identity.pid);
            }
        }
        let peer = |plan: &PeerPlan| {
            json!({"address": local(plan.port), "database": plan.database, "prefix": plan.prefix,
                   "secret": plan.secret, "processes": plan.processes})
        };
        let peers: BTreeMap<&str, Value> =
            self.peers.iter().map(|(mode, plan)| (*mode, peer(plan))).collect();
        let others: BTreeMap<&str, Value> = self
            .others
            .iter()
            .map(|(name, (port, database))| (*name, json!({"address": local(*port), "database": database})))
            .collect();
        let plan = json!({
            "others": others,
            "mysql_url": self.mysql_url,
            "redis_url": self.redis_url,
            "mysql_connections": MYSQL_CONNECTIONS,
            "origin": {
                "address": local(self.origin_port),
                "database": mysql::DATABASE,
                "program": self.programs.origin,
                "keys": self.context.state.join("keys/keys"),
                "settings": self.settings,
            },
            "peers": peers,
            "processes": processes,
        });
        let path = self.context.state.join("keys/plan.json");
        write_whole(&path, &serde_json::to_vec_pretty(&plan)?)?;
        Ok(path)
    }
}

/// The same server and options, another database.
fn on_database(url: &str, database: &str) -> Result<String> {
    let (whole, options) =
        url.split_once('?').map_or((url, String::new()), |(url, o)| (url, format!("?{o}")));
    let (server, _) = whole.rsplit_once('/').ok_or_else(|| anyhow!("{MYSQL_URL} names no database"))?;
    Ok(format!("{server}/{database}{options}"))
}

#[cfg(test)]
mod tests {
    use super::on_database;

    #[test]
    fn another_database_keeps_server_and_options() {
        let url = |text| on_database(text, "other").unwrap();
        assert_eq!(
            url("mysql://root@h:1/farmgate?ssl-mode=disabled"),
            "mysql://root@h:1/other?ssl-mode=disabled"
        );
        assert_eq!(url("mysql://root@h:1/farmgate"), "mysql://root@h:1/other");
    }
}
