//! `bench edge`: what a request costs on bare workerd, our Wasm against JavaScript that does the same, each in a process
//! of its own and in turn. docs/BENCH.md says who takes part and why that is fair.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::http::Connection;
use crate::procs::Processes;
use crate::ratios::{Contests, Ratio, Sense};
use crate::reads::{Reads, Requests, plain, rounds};
use crate::reads_report::{Report, cpu, faster};
use crate::stub::{DETAIL_PATH, LIST_PATH, USER_PATH};
use crate::target::Target;

/// The header that the edges are told to find the client's address in.
pub const CLIENT_IP_HEADER: &str = "x-real-ip";
/// Shoppers whose tokens fit into what an edge remembers.
const KNOWN: i64 = 1024;
/// Four times what an edge remembers: whoever comes round again was forgotten.
const NEW: i64 = 16 * 1024;
const WARM_UP: Duration = Duration::from_secs(2);

const EDGE: &str = "edge";
const EDGE_TOKENS: &str = "edge-tokens";
const CONSTANT_LIST: &str = "constant-list";
const CONSTANT_DETAIL: &str = "constant-detail";
const NATIVE_KNOWN: &str = "native-known";
const NATIVE_NEW: &str = "native-new";

/// What `cargo xtask bench edge` has started.
#[derive(Debug, Deserialize)]
pub struct EdgePlan {
    /// What `farmgate-origin keygen` wrote.
    pub keys: PathBuf,
    /// By name.
    pub addresses: BTreeMap<String, SocketAddr>,
    /// Process ids by name.
    pub processes: BTreeMap<String, u32>,
    pub workerd: String,
    /// Of the Wasm file, in bytes.
    pub wasm_bytes: usize,
    pub wasm_compressed_bytes: usize,
}

impl EdgePlan {
    /// # Errors
    /// When the file cannot be read or is no plan.
    pub fn read(path: &Path) -> Result<EdgePlan> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no plan", path.display()))
    }

    fn address(&self, name: &str) -> Result<SocketAddr> {
        self.addresses.get(name).copied().with_context(|| format!("the plan has no {name}"))
    }
}

/// How long and how much.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Seconds of one contestant's turn in a round
    #[arg(long, default_value_t = 4)]
    pub seconds: u64,
    /// Rounds; the report shows the median
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Connections
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
}

/// Asks our own edge for both pages until it answers from memory, and puts what it said into `out`, for the constant
/// workers: `list/` and `detail/`, each with `body` and `head.json`.
///
/// # Errors
/// When the edge says anything but 200.
pub async fn capture(edge: SocketAddr, out: &Path) -> Result<()> {
    for (name, path) in [("list", LIST_PATH), ("detail", DETAIL_PATH)] {
        let mut connection = Connection::open(edge).await?;
        let request = plain(path, &[(CLIENT_IP_HEADER, "203.0.113.1")]);
        connection.send(&request).await?;
        let reply = connection.send(&request).await?;
        ensure!(reply.status == 200, "{path}: status {}", reply.status);
        let folder = out.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        std::fs::write(folder.join("body"), reply.body)?;
        std::fs::write(folder.join("head.json"), serde_json::to_vec(&own_headers(reply.head))?)?;
    }
    Ok(())
}

/// The headers that the worker set, without those that the host adds to every reply.
fn own_headers(head: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(head);
    let lines = text.lines().skip(1).filter_map(|line| line.split_once(": "));
    let lines = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    lines.filter(|(name, _)| !matches!(name.as_str(), "content-length" | "date" | "connection")).collect()
}

/// Another client each time, as far as an edge can tell.
fn client_ip(number: usize) -> String {
    format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255)
}

fn pages(path: &str) -> Requests {
    let request =
        |number| plain(path, &[(CLIENT_IP_HEADER, &client_ip(number)), ("accept", "application/json")]);
    Requests::Prepared((0..1024).map(request).collect())
}

fn shoppers(keys: &Path, count: i64) -> Result<Requests> {
    let users: Vec<i64> = (1..=count).collect();
    // Nobody is called: it makes the tokens alone.
    let target = Target::origin(SocketAddr::from(([127, 0, 0, 1], 9)), keys, &users)?;
    let request = |(number, shopper): (usize, &crate::target::Shopper)| {
        let token = format!("Bearer {}", shopper.token());
        plain(USER_PATH, &[(CLIENT_IP_HEADER, &client_ip(number)), ("authorization", &token)])
    };
    Ok(Requests::Prepared(target.shoppers.iter().enumerate().map(request).collect()))
}

/// Runs it all; progress goes to stderr.
///
/// # Errors
/// When a server is gone, or a contestant does not answer like the others.
pub async fn run(plan: &EdgePlan, options: &Options) -> Result<Report> {
    let mut lengths = BTreeMap::new();
    for (server, path) in [(EDGE, LIST_PATH), (EDGE, DETAIL_PATH)] {
        let mut connection = Connection::open(plan.address(server)?).await?;
        lengths.insert(path, connection.send(&plain(path, &[])).await?.body.len());
    }
    let length = |path: &str| lengths.get(path).copied();
    let page = |name, server, path| {
        Ok::<_, anyhow::Error>(Reads::new(
            name,
            plan.address(server)?,
            pages(path),
            length(path),
            options.connections,
        ))
    };
    let user = |name, server, count| {
        let requests = shoppers(&plan.keys, count)?;
        Ok::<_, anyhow::Error>(Reads::new(name, plan.address(server)?, requests, None, options.connections))
    };
    let contests = [
        page("list edge", EDGE, LIST_PATH)?,
        page("list constant", CONSTANT_LIST, LIST_PATH)?,
        page("detail edge", EDGE, DETAIL_PATH)?,
        page("detail constant", CONSTANT_DETAIL, DETAIL_PATH)?,
        user("token-known edge", EDGE_TOKENS, KNOWN)?,
        user("token-known native", NATIVE_KNOWN, KNOWN)?,
        user("token-new edge", EDGE_TOKENS, NEW)?,
        user("token-new native", NATIVE_NEW, NEW)?,
    ];
    let mut processes = plan.processes.clone();
    processes.insert("bench".to_owned(), std::process::id());
    let processes = Processes::new(processes)?;
    let time = (WARM_UP, Duration::from_secs(options.seconds), options.rounds);
    let slices = rounds(&contests, time, &processes).await?;
    let kib = |bytes: usize| format!("{:.1} KiB", bytes as f64 / 1024.0);
    let setup = BTreeMap::from([
        ("workerd", plan.workerd.clone()),
        ("Wasm", format!("{}, compressed {}", kib(plan.wasm_bytes), kib(plan.wasm_compressed_bytes))),
        ("connections", options.connections.to_string()),
        ("rounds", format!("{} of {} s each", options.rounds, options.seconds)),
        ("list body", format!("{} bytes", length(LIST_PATH).unwrap_or(0))),
        ("detail body", format!("{} bytes", length(DETAIL_PATH).unwrap_or(0))),
    ]);
    Ok(Report::new(setup, slices, processes.read()?, ratios))
}

fn ratios(contests: &Contests) -> Vec<Ratio> {
    let costs = |what, one: (&str, &str), other: (&str, &str), goal| Ratio {
        what,
        value: cpu(contests, one.0, one.1).and_then(|one| Some(one / cpu(contests, other.0, other.1)?)),
        sense: Sense::AtMost,
        goal,
    };
    let speed = |what, one, other| Ratio {
        what,
        value: faster(contests, one, other),
        sense: Sense::AtLeast,
        goal: None,
    };
    vec![
        costs(
            "CPU of a hit on a list, Wasm / constant JavaScript",
            ("list edge", EDGE),
            ("list constant", CONSTANT_LIST),
            Some(1.1),
        ),
        costs(
            "CPU of a hit on a product, Wasm / constant JavaScript",
            ("detail edge", EDGE),
            ("detail constant", CONSTANT_DETAIL),
            Some(1.1),
        ),
        costs(
            "CPU of a remembered token, Wasm / JavaScript that remembers too",
            ("token-known edge", EDGE_TOKENS),
            ("token-known native", NATIVE_KNOWN),
            Some(1.2),
        ),
        costs(
            "CPU of a remembered token, Wasm / JavaScript that checks each time",
            ("token-known edge", EDGE_TOKENS),
            ("token-new native", NATIVE_NEW),
            None,
        ),
        costs(
            "CPU of a token's first sight, Wasm / JavaScript with native cryptography",
            ("token-new edge", EDGE_TOKENS),
            ("token-new native", NATIVE_NEW),
            Some(1.5),
        ),
        speed("hits/s on a list, Wasm / constant JavaScript", "list edge", "list constant"),
        speed("hits/s on a product, Wasm / constant JavaScript", "detail edge", "detail constant"),
        speed(
            "requests/s with a remembered token, Wasm / JavaScript",
            "token-known edge",
            "token-known native",
        ),
        speed("requests/s with a new token, Wasm / JavaScript", "token-new edge", "token-new native"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::Slice;

    #[test]
    fn the_constant_worker_says_what_the_edge_said_and_not_what_the_host_adds() {
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: x\r\nETag: \"a: b\"\r\nx-request-id: r\r\n\r\n";
        let own = own_headers(head);
        assert_eq!(
            own,
            BTreeMap::from([("etag".into(), "\"a: b\"".into()), ("x-request-id".into(), "r".into())])
        );
    }

    #[test]
    fn every_client_has_an_address_of_its_own() {
        let all: std::collections::BTreeSet<String> = (0..16 * 1024).map(client_ip).collect();
        assert_eq!(all.len(), 16 * 1024);
        assert!(all.iter().all(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok()));
    }

    #[test]
    fn the_cost_is_that_of_the_contestants_own_process() {
        let slice = |process: &str, us| Slice {
            cpu_us: BTreeMap::from([(process.to_owned(), us), ("stub".to_owned(), 99.0)]),
            per_second: 1.0,
            ..Slice::default()
        };
        let contests = Contests::from([
            ("list edge".to_owned(), slice(EDGE, 44.0)),
            ("list constant".to_owned(), slice(CONSTANT_LIST, 40.0)),
        ]);
        let all = ratios(&contests);
        assert_eq!((all[0].value, all[0].met()), (Some(1.1), Some(true)));
        assert_eq!(all[1].met(), None);
    }
}
