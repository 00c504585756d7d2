//! What the benchmark of the edge runs on: a stub of the origin, and workers on bare workerd, each in a process of its own.
//! The constant ones are made from what our own edge has just answered.

use super::{ReadArgs, bench_command, build, finish};
use crate::context::Context;
use crate::edge_build::{self, WasmSize};
use crate::edge_host::{self, EdgeHost, Place};
use crate::fleet::Fleet;
use crate::ports::Ports;
use crate::process::{self, Process};
use crate::provision;
use crate::run_file::write_whole;
use crate::stack::{self, Programs};
use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const PEERS: &str = "bench/peers/workerd";
/// As the program `bench` sends it.
const CLIENT_IP_HEADER: &str = "x-real-ip";
const READY_LIMIT: Duration = Duration::from_secs(30);
const TOOL_LIMIT: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(5);

/// One bench's servers as they come up.
struct Workers<'a> {
    context: &'a Context,
    workerd: PathBuf,
    secrets: PathBuf,
    origin: String,
    addresses: BTreeMap<&'static str, String>,
}

pub fn measure(context: &Context, fleet: &mut Fleet, args: &ReadArgs) -> Result<ExitCode> {
    let tools = provision::edge_tools(context)?;
    edge_build::build(context, &tools)?;
    let size = WasmSize::read(&context.root)?;
    let release = build(context)?;
    let path = |name: &str| release.join(name);
    let programs =
        Programs { origin: path("farmgate-origin"), wechat_sim: path("wechat-sim"), demo: path("demo") };
    let keys = context.state.join("keys");
    stack::make_keys(context, &programs, &keys.join("keys"), &keys.join("wechat"))?;
    let bench = path("bench");

    let stub = free_port()?;
    let origin = format!("http://127.0.0.1:{stub}");
    let mut command = context.command(&bench);
    command.args(["stub", "--listen", &format!("127.0.0.1:{stub}")]);
    stack::serve(context, fleet, command, "stub", &format!("{origin}/healthz"), READY_LIMIT)?;
    let mut workers = Workers {
        context,
        workerd: tools.npm.workerd()?,
        secrets: keys.join("keys"),
        origin,
        addresses: BTreeMap::new(),
    };
    for name in ["edge", "edge-tokens"] {
        workers.edge(fleet, &tools.npm, name)?;
    }
    workers.constants(fleet, &bench)?;
    for (name, remembers) in [("native-known", true), ("native-new", false)] {
        workers.native(fleet, name, remembers)?;
    }

    let mut processes = BTreeMap::new();
    for name in workers.addresses.keys().copied().chain(["stub"]) {
        let process = fleet.get(name).and_then(|process| process.identity().cloned());
        processes.insert(name, process.ok_or_else(|| anyhow!("{name} has ended"))?.pid);
    }
    let mut version = context.command(&workers.workerd);
    version.arg("--version");
    let plan: Value = json!({
        "keys": keys.join("keys"),
        "addresses": workers.addresses,
        "processes": processes,
        "workerd": process::first_line(version).unwrap_or_default(),
        "wasm_bytes": size.bytes,
        "wasm_compressed_bytes": size.compressed,
    });
    let plan_file = keys.join("plan.json");
    write_whole(&plan_file, &serde_json::to_vec_pretty(&plan)?)?;
    let options = [("seconds", args.seconds), ("rounds", args.rounds)];
    let mut command = bench_command(context, &bench, &plan_file, "edge", &options);
    command.args(&args.rest);
    finish(context, fleet, command, "edge")
}

fn free_port() -> Result<u16> {
    Ports::default().choose(0)
}

impl Workers<'_> {
    /// Our own, by the configuration of production.
    fn edge(&mut self, fleet: &mut Fleet, npm: &provision::npm::NpmTools, name: &'static str) -> Result<()> {
        let port = free_port()?;
        let place = Place { origin: &self.origin, secrets: &self.secrets, port, inspector: 0 };
        let mut command = edge_host::command(self.context, npm, EdgeHost::Workerd, &place)?;
        command.env("CLIENT_IP_HEADER", CLIENT_IP_HEADER);
        // Requests are counted all the same, so that the cost of counting is measured.
        for name in edge_host::LOCAL_LIMITS {
            command.env(name, "1000000/s burst 1000000");
        }
        let health = format!("http://127.0.0.1:{port}/healthz");
        stack::serve(self.context, fleet, command, name, &health, READY_LIMIT)?;
        self.addresses.insert(name, format!("127.0.0.1:{port}"));
        Ok(())
    }

    fn constants(&mut self, fleet: &mut Fleet, bench: &Path) -> Result<()> {
        let folder = self.context.state.join("edge");
        let edge = self.addresses.get("edge").context("the edge is not up")?;
        let mut command = self.context.command(bench);
        command.args(["edge-capture", "--edge", edge, "--out"]).arg(&folder);
        let step = self.context.progress.step("what the edge answers");
        process::run(command, &self.context.log("capture")?, &step, &self.context.stop, TOOL_LIMIT)?;
        step.done("");
        for (name, page) in [("constant-list", "list"), ("constant-detail", "detail")] {
            let folder = folder.join(page);
            for file in ["constant.mjs", "constant.capnp"] {
                let from = self.context.root.join(PEERS).join(file);
                std::fs::copy(&from, folder.join(file))
                    .with_context(|| format!("cannot copy {}", from.display()))?;
            }
            let mut command = self.context.command(&self.workerd);
            command.arg("serve").arg(folder.join("constant.capnp"));
            self.serve(fleet, command, name)?;
        }
        Ok(())
    }

    fn native(&mut self, fleet: &mut Fleet, name: &'static str, remembers: bool) -> Result<()> {
        let mut command = self.context.command(&self.workerd);
        command.arg("serve").arg(self.context.root.join(PEERS).join("native.capnp"));
        command.envs(stack::read_env(&self.secrets.join("edge.env"))?);
        command.env("ORIGIN_URL", &self.origin).env("CLIENT_IP_HEADER", CLIENT_IP_HEADER);
        command.env("REMEMBER", if remembers { "1" } else { "0" });
        self.serve(fleet, command, name)
    }

    /// A peer has no health page: it is up when it takes connections.
    fn serve(&mut self, fleet: &mut Fleet, mut command: Command, name: &'static str) -> Result<()> {
        let port = free_port()?;
        let address = format!("127.0.0.1:{port}");
        command.arg(format!("--socket-addr=http={address}"));
        let step = self.context.progress.step(name);
        let process = Process::serve(command, name, &self.context.log(name)?, &fleet.mark(), GRACE)?;
        fleet.add(process)?.wait_ready(&self.context.stop, READY_LIMIT, || {
            if crate::net::accepts(&address) {
                return Ok(());
            }
            bail!("{address} takes no connections")
        })?;
        step.done("");
        self.addresses.insert(name, address);
        Ok(())
    }
}
