//! `bench catalog`: what a read of the catalogue costs at the origin, against a constant of the same length behind the
//! same layers, and against the seed's design reading MySQL.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::{Connection as _, MySqlConnection};

use crate::http::Connection;
use crate::names;
use crate::plan::Plan;
use crate::procs::Processes;
use crate::ratios::{Contests, Ratio, Sense};
use crate::reads::{Reads, Requests, plain, rounds, signed};
use crate::reads_report::{Report, cpu, faster};
use crate::sign::Signer;
use crate::target::PICTURE;
use crate::{peer, produce, shop};

/// Products of the shop that is read.
const PRODUCTS: u64 = 2000;
/// A product that is on no page of the measured list, so that both can be made as long as the picture.
const DETAIL: u64 = PRODUCTS;
/// What one word can be padded by.
const PAD: usize = 200;
/// Pages over which `pages` goes.
const PAGES: u64 = 200;
const WARM_UP: Duration = Duration::from_secs(2);
/// An edit shows within a second; past this it does not.
const SHOWN_WITHIN: Duration = Duration::from_secs(20);

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
    #[arg(long, default_value_t = 32)]
    pub connections: usize,
}

/// Fills both schemas, before any server but MySQL and Redis is started.
///
/// # Errors
/// When MySQL or the origin refuses.
pub async fn prepare(plan: &Plan) -> Result<()> {
    let url = shop::make_empty(plan, &plan.origin.database).await?;
    produce::fill(&url, PRODUCTS).await.context("filling the origin's schema")?;
    for peer in plan.peers.values() {
        peer::prepare(&plan.mysql_url, &plan.redis_url, &peer.database, &peer.prefix, &[1], &[(1, 1)])
            .await?;
        let url = plan.database_url(&peer.database);
        produce::copy_to_seed(&url, &plan.origin.database, PRODUCTS).await.context("the peer's products")?;
    }
    Ok(())
}

/// Runs it; progress goes to stderr.
///
/// # Errors
/// When a server is gone, or answers with another length than the constant.
pub async fn run(plan: &Plan, options: &Options) -> Result<Report> {
    let signer = || Signer::read(&plan.origin.keys);
    let mut asker = Asker { connection: Connection::open(plan.origin.address).await?, signer: signer()? };
    let length = asker.get(PICTURE).await?.len();
    let (list, detail) = make_as_long(plan, &mut asker, length).await?;
    let peer = plan.peer("seed")?;
    let (address, all) = (plan.origin.address, options.connections);
    let origin = |name, paths: Vec<String>, length| {
        Ok::<_, anyhow::Error>(Reads::new(name, address, Requests::Signed(signer()?, paths), length, all))
    };
    let express = |name, paths: &[String]| {
        let requests = paths.iter().map(|path| plain(path, &[])).collect();
        Reads::new(name, peer.address, Requests::Prepared(requests), None, all)
    };
    let size = list.rsplit('=').next().unwrap_or_default();
    let pages: Vec<String> =
        (1..=PAGES).map(|page| format!("/api/products?page={page}&size={size}")).collect();
    let words: Vec<String> = (0..40)
        .map(|turn| {
            format!("/api/products?page=1&size={size}&keyword={}", escaped(&(names::KINDS[2].1)(turn)))
        })
        .collect();
    let contests = [
        origin("list origin", vec![list.clone()], Some(length))?,
        origin("static origin", vec![PICTURE.to_owned()], Some(length))?,
        origin("detail origin", vec![detail.clone()], Some(length))?,
        origin("pages origin", pages.clone(), None)?,
        origin("keyword origin", words.clone(), None)?,
        Reads::new("healthz origin", address, Requests::Prepared(vec![plain("/healthz", &[])]), None, all),
        express("list express", &[list]),
        express("detail express", &[detail]),
        express("pages express", &pages),
        express("keyword express", &words),
    ];
    let mut processes = plan.processes.clone();
    processes.insert("bench".to_owned(), std::process::id());
    let processes = Processes::new(processes)?;
    let time = (WARM_UP, Duration::from_secs(options.seconds), options.rounds);
    let slices = rounds(&contests, time, &processes).await?;
    let setup = BTreeMap::from([
        ("products", PRODUCTS.to_string()),
        ("body of list, detail and static", format!("{length} bytes")),
        ("connections", all.to_string()),
        ("rounds", format!("{} of {} s each", options.rounds, options.seconds)),
        ("processes of Express", peer.processes.to_string()),
    ]);
    Ok(Report::new(setup, slices, processes.read()?, ratios))
}

/// Asks the origin as the edge does.
pub(crate) struct Asker {
    pub connection: Connection,
    pub signer: Signer,
}

impl Asker {
    pub(crate) async fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        let reply = self.connection.send(&signed(&self.signer, path)).await?;
        ensure!(reply.status == 200, "GET {path}: status {}", reply.status);
        Ok(reply.body.to_vec())
    }

    /// Asks until `holds` does.
    pub(crate) async fn until(&mut self, path: &str, holds: impl Fn(&[u8]) -> bool) -> Result<Duration> {
        let began = Instant::now();
        loop {
            if holds(&self.get(path).await?) {
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < SHOWN_WITHIN, "{path} does not show what was edited");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Pads a page of the list and one product's page to exactly `length` bytes; the two paths.
async fn make_as_long(plan: &Plan, asker: &mut Asker, length: usize) -> Result<(String, String)> {
    let mut chosen = None;
    for size in 1..=20 {
        let path = format!("/api/products?page=1&size={size}");
        let body = asker.get(&path).await?;
        if body.len() > length {
            break;
        }
        chosen = Some((path, body));
    }
    let (list, body) = chosen.context("one product is longer than the picture")?;
    let detail = format!("/api/products/{DETAIL}");
    let page = asker.get(&detail).await?;
    let mut missing = length - body.len();
    let mut connection = MySqlConnection::connect(&plan.database_url(&plan.origin.database)).await?;
    let body: serde_json::Value = serde_json::from_slice(&body)?;
    for product in body["data"]["list"].as_array().into_iter().flatten() {
        let part = missing.min(PAD);
        sqlx::query("UPDATE products SET origin = ? WHERE id = ?")
            .bind("x".repeat(part))
            .bind(product["id"].as_i64())
            .execute(&mut connection)
            .await?;
        missing -= part;
    }
    ensure!(missing == 0, "the list cannot be made as long as the picture");
    let missing = length.checked_sub(page.len()).context("a product's page is longer than the picture")?;
    sqlx::query("UPDATE products SET description = ? WHERE id = ?")
        .bind("x".repeat(missing))
        .bind(DETAIL)
        .execute(&mut connection)
        .await?;
    sqlx::query("UPDATE catalog_version SET version = version + 1").execute(&mut connection).await?;
    connection.close().await?;
    for path in [&list, &detail] {
        asker.until(path, |body| body.len() == length).await?;
    }
    Ok((list, detail))
}

/// Percent-encoded whole, which every server reads alike.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn ratios(contests: &Contests) -> Vec<Ratio> {
    let speed = |what, one, other, goal| Ratio {
        what,
        value: faster(contests, one, other),
        sense: Sense::AtLeast,
        goal,
    };
    let origin = |contest: &str| cpu(contests, contest, "origin");
    let whole = |contest: &str, server: &str| {
        ["mysql", "redis"].iter().try_fold(cpu(contests, contest, server)?, |sum, part| {
            Some(sum + contests.get(contest)?.cpu_us.get(*part)?)
        })
    };
    let cost = |what, value| Ratio { what, value, sense: Sense::AtMost, goal: None };
    let against = |one: Option<f64>, other: Option<f64>| Some(one? / other?);
    vec![
        speed(
            "lists/s, origin / constant behind the same layers",
            "list origin",
            "static origin",
            Some(0.85),
        ),
        speed(
            "products/s, origin / constant behind the same layers",
            "detail origin",
            "static origin",
            Some(0.85),
        ),
        speed(
            "any of 200 pages/s, origin / constant behind the same layers",
            "pages origin",
            "static origin",
            None,
        ),
        cost("CPU of a list, origin / the constant", against(origin("list origin"), origin("static origin"))),
        cost(
            "CPU of a product, origin / the constant",
            against(origin("detail origin"), origin("static origin")),
        ),
        speed("lists/s, origin / Express", "list origin", "list express", None),
        speed("products/s, origin / Express", "detail origin", "detail express", None),
        speed("any of 200 pages/s, origin / Express", "pages origin", "pages express", None),
        speed(
            "keyword searches/s in 2,000 names, origin / Express",
            "keyword origin",
            "keyword express",
            None,
        ),
        cost(
            "CPU of a list with MySQL and Redis, origin / Express",
            against(whole("list origin", "origin"), whole("list express", "express-seed")),
        ),
        cost(
            "CPU of a product with MySQL and Redis, origin / Express",
            against(whole("detail origin", "origin"), whole("detail express", "express-seed")),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::Slice;

    #[test]
    fn the_peers_cost_counts_its_servers_too() {
        let slice = |parts: &[(&str, f64)]| Slice {
            per_second: 10.0,
            cpu_us: parts.iter().map(|(name, us)| ((*name).to_owned(), *us)).collect(),
            ..Slice::default()
        };
        let contests = Contests::from([
            ("list origin".to_owned(), slice(&[("origin", 40.0), ("mysql", 0.0), ("redis", 10.0)])),
            ("list express".to_owned(), slice(&[("express-seed", 150.0), ("mysql", 50.0), ("redis", 0.0)])),
        ]);
        let all = ratios(&contests);
        let value = |what: &str| all.iter().find(|ratio| ratio.what.starts_with(what)).unwrap().value;
        assert_eq!(value("CPU of a list with"), Some(0.25));
        assert_eq!(value("CPU of a list, origin"), None);
    }

    #[test]
    fn words_are_escaped_whole() {
        assert_eq!(escaped("苹果"), "%E8%8B%B9%E6%9E%9C");
    }
}
