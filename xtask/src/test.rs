//! `cargo xtask test`: every check there is, with servers, keys and a shop of its own, which are
//! gone afterwards however it ends. The first step that fails ends it with a non-zero exit.

use crate::cache::remove_dir;
use crate::context::Context;
use crate::edge_host::EdgeHost;
use crate::fleet::Fleet;
use crate::ports::Ports;
use crate::process;
use crate::progress::seconds;
use crate::provision::mysql::Durability;
use crate::provision::{self, Parts};
use crate::stack::{self, Programs, SHOP_PACKAGES, ServerPorts};
use crate::{down, run_file, test_servers};
use crate::{edge_build, edge_deploy};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

const STEP_LIMIT: Duration = Duration::from_secs(45 * 60);
/// More than a trial takes on a slow machine.
const TRIAL_LIMIT: Duration = Duration::from_secs(60);
const LAST_WORDS: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Run the integration tests alone, with these arguments to `cargo test`
    #[arg(last = true)]
    filter: Vec<String>,
}

/// How many tests ran, as cargo test's own lines say.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    time: Duration,
    counts: Option<Counts>,
}

struct Checks<'a> {
    context: &'a Context,
    /// How long a run of `cargo test` may take.
    limit: Duration,
    rows: Vec<Row>,
}

#[derive(Debug, Args)]
pub struct TrialsArgs {
    /// How many trials, each with a fresh seed
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Replay the trial of this seed alone
    #[arg(long, conflicts_with = "count")]
    seed: Option<u64>,
}

/// `cargo xtask trials`: the randomised crash trials alone, as many as wanted.
pub fn run_trials(context: &Context, args: &TrialsArgs) -> Result<ExitCode> {
    let (name, value, trials) = match args.seed {
        Some(seed) => ("FARMGATE_TRIAL_SEED", seed, 1),
        None => ("FARMGATE_TRIALS", u64::from(args.count), args.count),
    };
    let filter = ["--test", "crash", "trials::", "--", "--nocapture"].map(str::to_owned);
    run_with(context, &filter, &[(name, value.to_string().into())], limit_of(trials))
}

/// How long so many trials may take, the build before them included.
fn limit_of(trials: u32) -> Duration {
    STEP_LIMIT + TRIAL_LIMIT * trials
}

pub fn run(context: &Context, args: &TestArgs) -> Result<ExitCode> {
    run_with(context, &args.filter, &[], STEP_LIMIT)
}

/// With `environment` for the integration tests, beside what they get in any case.
fn run_with(
    context: &Context,
    filter: &[String],
    environment: &[(&'static str, OsString)],
    limit: Duration,
) -> Result<ExitCode> {
    // Apart from the developer's own shop, which may be running.
    let context = &Context {
        root: context.root.clone(),
        state: context.state.join("test"),
        cache: crate::cache::Cache::open()?,
        progress: crate::progress::Progress::new(),
        stop: context.stop.clone(),
    };
    let Some(mut fleet) = Fleet::claim(context)? else {
        bail!("another cargo xtask test is running in {}", context.state.display());
    };
    let mut checks = Checks { context, limit, rows: Vec::new() };
    let result = match filter {
        [] => checks.all(&mut fleet),
        filter => checks.integration_alone(&mut fleet, filter, environment),
    };
    fleet.stop_all();
    for folder in ["mysql", "redis", "keys"] {
        remove_dir(&context.state.join(folder))?;
    }
    checks.print_table();
    result?;
    Ok(ExitCode::SUCCESS)
}

impl Checks<'_> {
    fn all(&mut self, fleet: &mut Fleet) -> Result<()> {
        self.cargo("format", &["fmt", "--all", "--check"])?;
        let parts = self.timed("set-up", |context| provision::all(context, || Ok(())))?;
        self.cargo(
            "clippy",
            &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
        )?;
        let wasm = ["--target", "wasm32-unknown-unknown", "--", "-D", "warnings"];
        self.cargo(
            "clippy of the edge as Wasm",
            &[&["clippy", "--locked", "-p", "farmgate-edge"], &wasm[..]].concat(),
        )?;
        self.tests("xtask's own tests", &["test", "--locked", "-p", "xtask"], &[])?;
        let unit = [&["test", "--locked"], &SHOP_PACKAGES[..], &["--lib", "--bins"]].concat();
        self.tests("unit tests", &unit, &[])?;
        self.build(&parts)?;
        self.timed("edge deploy, rehearsed", |context| edge_deploy::rehearse(context, &parts.edge.npm))?;
        self.integration(fleet, &parts, &[], &[])?;
        fleet.stop_all();
        self.demo_flow("demo flow", EdgeHost::Wrangler)?;
        self.demo_flow("demo flow on workerd", EdgeHost::Workerd)
    }

    fn integration_alone(
        &mut self,
        fleet: &mut Fleet,
        filter: &[String],
        environment: &[(&'static str, OsString)],
    ) -> Result<()> {
        self.context.progress.say("only the integration tests, as a filter was given");
        let parts = self.timed("set-up", |context| provision::all(context, || Ok(())))?;
        self.build(&parts)?;
        self.integration(fleet, &parts, filter, environment)
    }

    fn build(&mut self, parts: &Parts) -> Result<()> {
        self.timed("build", Programs::build)?;
        self.timed("edge build", |context| edge_build::build(context, &parts.edge))?;
        self.timed("edge build to provoke", |context| edge_build::build_to_provoke(context, &parts.edge))
    }

    fn integration(
        &mut self,
        fleet: &mut Fleet,
        parts: &Parts,
        filter: &[String],
        more: &[(&'static str, OsString)],
    ) -> Result<()> {
        let mut environment =
            self.timed("servers and keys", |context| servers_and_keys(context, fleet, parts))?;
        environment.extend_from_slice(more);
        let mut arguments = [&["test", "--locked"], &SHOP_PACKAGES[..]].concat();
        if !filter.iter().any(|argument| argument.starts_with("--test")) {
            arguments.extend(["--test", "*"]);
        }
        arguments.extend(filter.iter().map(String::as_str));
        let result = self.tests("integration tests", &arguments, &environment);
        // A server that died is the better explanation of what failed.
        fleet.check()?;
        result
    }

    /// `up --detach`, `demo`, `down`, as a developer types them, on free ports and with data of its own.
    fn demo_flow(&mut self, name: &'static str, edge: EdgeHost) -> Result<()> {
        let shop = self.context.state.join("shop");
        down::stop_shop(&shop)?;
        remove_dir(&shop)?;
        let result = self.timed(name, |context| {
            for arguments in [&["up", "--detach", "--edge", edge.name()][..], &["demo"], &["down"]] {
                let mut command = context.command("cargo");
                command.arg("xtask").args(arguments);
                Context::pass_settings(&mut command);
                command.env("FARMGATE_STATE", &shop);
                let status = process::run_visibly(command, &context.stop, STEP_LIMIT)?;
                if !status.success() {
                    bail!("cargo xtask {} failed ({status})", arguments.join(" "));
                }
            }
            Ok(())
        });
        down::stop_shop(&shop)?;
        if result.is_ok() {
            remove_dir(&shop)?;
        }
        result
    }

    fn cargo(&mut self, name: &'static str, arguments: &[&str]) -> Result<()> {
        self.timed(name, |context| {
            let step = context.progress.step(name);
            let log = context.log(&name.replace(' ', "-"))?;
            let mut command = context.command("cargo");
            command.args(arguments);
            let result = process::run(command, &log, &step, &context.stop, STEP_LIMIT);
            if result.is_err() && !context.stop.requested() {
                context.progress.say(std::fs::read_to_string(&log).unwrap_or_default());
                bail!("{name} failed: its output is above");
            }
            result?;
            step.done("");
            Ok(())
        })
    }

    /// cargo test's lines go to our own output, as they come.
    fn tests(
        &mut self,
        name: &'static str,
        arguments: &[&str],
        environment: &[(&str, OsString)],
    ) -> Result<()> {
        let context = self.context;
        context.progress.say(format!("\n{name}: cargo {}", arguments.join(" ")));
        let mut command = context.command("cargo");
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        let started = Instant::now();
        let log = context.log(&name.replace(' ', "-"))?;
        let (status, counts) = run_tests(command, &log, self.limit, context)?;
        self.rows.push(Row { name, time: started.elapsed(), counts: Some(counts) });
        if !status.success() {
            bail!("{name} failed ({status})");
        }
        if counts.passed == 0 {
            bail!("{name}: not one test ran");
        }
        Ok(())
    }

    fn timed<T>(&mut self, name: &'static str, work: impl FnOnce(&Context) -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let result = work(self.context);
        self.rows.push(Row { name, time: started.elapsed(), counts: None });
        result
    }

    fn print_table(&self) {
        let mut sum = Counts::default();
        let mut text = String::from("\n");
        for row in &self.rows {
            let counts = row.counts.map_or(String::new(), |c| {
                sum.passed += c.passed;
                sum.failed += c.failed;
                sum.ignored += c.ignored;
                format!("  {} passed, {} failed, {} ignored", c.passed, c.failed, c.ignored)
            });
            text.push_str(&format!("{:<30}{:>10}{counts}\n", row.name, seconds(row.time)));
        }
        let whole: Duration = self.rows.iter().map(|row| row.time).sum();
        text.push_str(&format!("{:<30}{:>10}\n\n", "all", seconds(whole)));
        text.push_str(&format!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.ignored));
        self.context.progress.say(text);
    }
}

/// What the integration tests are told, by their contract with this crate.
fn servers_and_keys(
    context: &Context,
    fleet: &mut Fleet,
    parts: &Parts,
) -> Result<Vec<(&'static str, OsString)>> {
    for folder in ["mysql", "redis", "keys"] {
        remove_dir(&context.state.join(folder))?;
    }
    let programs = Programs::locate(context)?;
    let keys = context.state.join("keys");
    stack::make_keys(context, &programs, &keys.join("keys"), &keys.join("wechat"))?;
    let mut ports = Ports::default();
    let servers = ServerPorts { mysql: ports.choose(0)?, redis: ports.choose(0)? };
    drop(ports);
    stack::start_servers(context, fleet, (&parts.mysql, &parts.redis), servers, Durability::Relaxed)?;
    Ok(vec![
        ("FARMGATE_ORIGIN_BIN", programs.origin.into()),
        ("FARMGATE_WECHAT_SIM_BIN", programs.wechat_sim.into()),
        ("FARMGATE_WORKERD_BIN", parts.edge.npm.workerd()?.into()),
        ("FARMGATE_EDGE_DIR", context.root.join("edge").into()),
        ("FARMGATE_TEST_MYSQL_URL", parts.mysql.server_url(servers.mysql).into()),
        ("FARMGATE_TEST_REDIS_URL", parts.redis.url(servers.redis).into()),
        ("FARMGATE_TEST_SERVERS", test_servers::describe(context, parts)?.into()),
        ("FARMGATE_TEST_KEYS", keys.into()),
        ("FARMGATE_TEST_PEER", parts.peer.server.clone().into()),
        ("FARMGATE_TEST_PEER_MODULES", parts.peer.modules.clone().into()),
        ("FARMGATE_TEST_WECHATPAY", parts.wechatpay.server.clone().into()),
        ("FARMGATE_TEST_WECHATPAY_MODULES", parts.wechatpay.modules.clone().into()),
    ])
}

fn run_tests(
    mut command: Command,
    log: &Path,
    limit: Duration,
    context: &Context,
) -> Result<(std::process::ExitStatus, Counts)> {
    run_file::remove_file(log);
    let (mut reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let (done, copied) = std::sync::mpsc::channel();
    std::thread::spawn({
        let log = log.to_owned();
        move || done.send(tee(&mut reader, &log))
    });
    let status = process::run_visibly(command, &context.stop, limit)?;
    // The reader ends when nobody holds the pipe any more: at once, unless a test left a process behind.
    match copied.recv_timeout(LAST_WORDS) {
        Ok(result) => result?,
        Err(_) => bail!("cargo test ended but something that it started still runs (see {})", log.display()),
    }
    Ok((status, counts_in(&std::fs::read_to_string(log)?)))
}

fn tee(from: &mut impl std::io::Read, log: &Path) -> Result<()> {
    let mut log = std::fs::File::create(log)?;
    let mut part = [0; 8192];
    loop {
        let length = from.read(&mut part)?;
        if length == 0 {
            return Ok(());
        }
        // Nobody listening is no reason to stop the tests.
        let _ = std::io::stdout().write_all(&part[..length]);
        log.write_all(&part[..length])?;
    }
}

/// The sum over lines such as `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
fn counts_in(output: &str) -> Counts {
    let mut counts = Counts::default();
    for line in output.lines().filter_map(|line| line.trim().strip_prefix("test result: ")) {
        for part in line.split(['.', ';']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) {
                match what {
                    "passed" => counts.passed += number,
                    "failed" => counts.failed += number,
                    "ignored" => counts.ignored += number,
                    _ => {}
                }
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::{Counts, STEP_LIMIT, counts_in, limit_of};

    #[test]
    fn the_more_trials_the_longer_they_may_take() {
        assert!(limit_of(1) > STEP_LIMIT);
        assert!(limit_of(2000) - limit_of(1000) >= std::time::Duration::from_secs(1000 * 30));
        // As many as can be asked for: the end of the time must be a moment that there is.
        assert!(std::time::Instant::now().checked_add(limit_of(u32::MAX)).is_some());
    }

    #[test]
    fn the_tests_of_all_binaries_are_counted() {
        let output = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s\nx\ntest result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s\n";
        assert_eq!(counts_in(output), Counts { passed: 6, failed: 1, ignored: 1 });
        assert_eq!(counts_in("no tests"), Counts::default());
    }
}
