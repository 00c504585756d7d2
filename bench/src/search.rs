//! `bench search`: Chinese words in a million names, the origin's index over HTTP against MySQL's `LIKE '%…%'` on the same
//! names, one question at a time and in turn; deep pages; how long an edit takes to show; and the memory of an origin
//! with a hundred thousand SKUs. What the two find must be the same in number, or the run fails.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, Row as _};

use crate::catalog::{Asker, escaped};
use crate::http::Connection;
use crate::names;
use crate::plan::Plan;
use crate::procs::{Processes, Usage};
use crate::ratios::{Ratio, Sense};
use crate::reads_report::memory_rows;
use crate::report::{number, ratio_rows, table};
use crate::sign::Signer;
use crate::stats::{median, percentile};
use crate::{peer, produce, shop};

/// Names that are searched.
pub const NAMES: u64 = 1_000_000;
/// SKUs of the origin whose memory is read.
pub const SMALL: u64 = 100_000;
/// The name of that origin in the plan, and of its process.
pub const SMALL_ORIGIN: &str = "origin-100k";
/// The seed's table with the same names.
const LIKE_DATABASE: &str = "search_seed";
/// Holds the million rows with their indexes twice.
const BUFFER_POOL: u64 = 2 << 30;
/// Page sizes of the deep pages: each is another query, so that no kept body answers.
const SIZES: std::ops::Range<u64> = 20..50;
const DEEP: u64 = 1000;
/// Reads of the small origin before its memory is read.
const READS: u64 = 2000;

/// How much.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Options {
    /// Words of each kind
    #[arg(long, default_value_t = 5)]
    pub turns: u64,
}

/// All that a run showed. Times in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub setup: BTreeMap<&'static str, String>,
    pub kinds: Vec<Kind>,
    pub page_1_ms: Option<f64>,
    pub page_1000_ms: Option<f64>,
    /// The same two pages by `LIMIT … OFFSET …`.
    pub like_page_1_ms: Option<f64>,
    pub like_page_1000_ms: Option<f64>,
    /// From the COMMIT of an edit until the origin shows it: its look for a new version, loading and indexing.
    pub edit_shown_ms: BTreeMap<String, f64>,
    pub memory: BTreeMap<String, Usage>,
    pub ratios: Vec<Ratio>,
}

/// One kind of word.
#[derive(Debug, Clone, Serialize)]
pub struct Kind {
    pub name: &'static str,
    /// How many names the median word is in.
    pub found: f64,
    pub origin_ms: f64,
    pub origin_worst_ms: f64,
    /// `SELECT COUNT(*) … LIKE`: one look at every name.
    pub like_count_ms: f64,
    /// The page itself, which may end early.
    pub like_page_ms: f64,
}

/// Fills the schemas, before any server but MySQL and Redis is started.
///
/// # Errors
/// When MySQL or the origin refuses.
pub async fn prepare(plan: &Plan) -> Result<()> {
    produce::enlarge_memory(&plan.mysql_url, BUFFER_POOL).await?;
    let small = plan.others.get(SMALL_ORIGIN).with_context(|| format!("the plan has no {SMALL_ORIGIN}"))?;
    for (database, count) in [(&plan.origin.database, NAMES), (&small.database, SMALL)] {
        let url = shop::make_empty(plan, database).await?;
        produce::fill(&url, count).await.with_context(|| format!("filling {database}"))?;
    }
    peer::prepare(&plan.mysql_url, &plan.redis_url, LIKE_DATABASE, "search:", &[1], &[(1, 1)]).await?;
    produce::copy_to_seed(&plan.database_url(LIKE_DATABASE), &plan.origin.database, NAMES).await
}

/// Runs it; progress goes to stderr.
///
/// # Errors
/// When a server is gone, or the two find different numbers of names.
pub async fn run(plan: &Plan, options: Options) -> Result<Report> {
    let small = plan.others.get(SMALL_ORIGIN).with_context(|| format!("the plan has no {SMALL_ORIGIN}"))?;
    let mut origin = asker(plan, plan.origin.address).await?;
    let mut small_origin = asker(plan, small.address).await?;
    let mut mysql = MySqlConnection::connect(&plan.database_url(LIKE_DATABASE)).await?;
    // Until it no longer gets faster: the table is then in memory.
    for word in ["暖机", "暖身", "暖手"] {
        like_count(&mut mysql, word).await?;
    }
    let mut kinds = Vec::new();
    let mut all = (Vec::new(), Vec::new());
    for (name, word) in names::KINDS {
        let words: Vec<String> = (1..=options.turns).map(word).collect();
        let (kind, times) = measure_kind(name, &words, &mut origin, &mut mysql).await?;
        eprintln!("{name}: {:.2} ms, LIKE {:.0} ms", kind.origin_ms, kind.like_count_ms);
        kinds.push(kind);
        all.0.extend(times.0);
        all.1.extend(times.1);
    }
    let deep = deep_pages(&mut origin, &mut mysql).await?;
    eprintln!("pages 1 and {DEEP}: {:?} ms, LIMIT … OFFSET: {:?} ms", deep.0, deep.1);
    for read in 0..READS {
        small_origin.get(&format!("/api/products?page={}&size=20", read % 200 + 1)).await?;
    }
    // Before the edits, which hold the old catalogue beside the new one for a moment: `peak` has what that took.
    let processes = Processes::new(plan.processes.clone())?;
    let at_rest = processes.read()?;
    let mut edit_shown_ms = BTreeMap::new();
    for (name, asker, database) in [
        ("origin".to_owned(), &mut origin, &plan.origin.database),
        (SMALL_ORIGIN.to_owned(), &mut small_origin, &small.database),
    ] {
        let took = show_edit(plan, asker, database).await.with_context(|| format!("an edit at {name}"))?;
        eprintln!("{name} shows an edit after {took:.0} ms");
        edit_shown_ms.insert(name, took);
    }
    let mut memory = processes.read()?;
    for (name, usage) in &mut memory {
        if let Some(before) = at_rest.get(name) {
            usage.rss_mib = before.rss_mib;
        }
    }
    let plan_of_like = like_plan(&mut mysql).await?;
    let (version,): (String,) = sqlx::query_as("SELECT VERSION()").fetch_one(&mut mysql).await?;
    mysql.close().await?;
    let setup = BTreeMap::from([
        ("names", NAMES.to_string()),
        ("words", format!("{} of each kind", options.turns)),
        ("LIKE, count reads", plan_of_like),
        ("MySQL", format!("{version}, {} MiB of buffer pool, every name in it", BUFFER_POOL >> 20)),
    ]);
    let ratios = ratios(&all, &kinds, deep.0, &memory);
    Ok(Report {
        setup,
        kinds,
        page_1_ms: deep.0.0,
        page_1000_ms: deep.0.1,
        like_page_1_ms: deep.1.0,
        like_page_1000_ms: deep.1.1,
        edit_shown_ms,
        memory,
        ratios,
    })
}

async fn asker(plan: &Plan, address: std::net::SocketAddr) -> Result<Asker> {
    let (connection, signer) = (Connection::open(address).await?, Signer::read(&plan.origin.keys)?);
    Ok(Asker { connection, signer })
}

type Times = (Vec<f64>, Vec<f64>);

/// Each word in turn: the origin's page with its total, then the same by `LIKE`.
async fn measure_kind(
    name: &'static str,
    words: &[String],
    origin: &mut Asker,
    mysql: &mut MySqlConnection,
) -> Result<(Kind, Times)> {
    let (mut ours, mut counts, mut pages, mut found) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (turn, word) in words.iter().enumerate() {
        let path = format!("/api/products?page=1&size={}&keyword={}", 20 + turn % 80, escaped(word));
        let began = Instant::now();
        let body = origin.get(&path).await?;
        ours.push(milliseconds(began.elapsed()));
        let began = Instant::now();
        let total = like_count(mysql, word).await?;
        counts.push(milliseconds(began.elapsed()));
        let began = Instant::now();
        like_page(mysql, word).await?;
        pages.push(milliseconds(began.elapsed()));
        let body: serde_json::Value = serde_json::from_slice(&body)?;
        let said = body["data"]["total"].as_i64();
        ensure!(said == Some(total), "{word}: the origin finds {said:?} names, LIKE {total}");
        found.push(total as f64);
    }
    let middle = |times: &[f64]| median(times).unwrap_or(f64::NAN);
    let kind = Kind {
        name,
        found: middle(&found),
        origin_ms: middle(&ours),
        origin_worst_ms: ours.iter().copied().fold(0.0, f64::max),
        like_count_ms: middle(&counts),
        like_page_ms: middle(&pages),
    };
    Ok((kind, (ours, counts)))
}

/// Without the list's index. MySQL's own choice is to walk that and to look each row up, which takes six times as long as
/// reading the table from end to end; `LIKE` is given the better way.
const LIKE_COUNT: &str =
    "SELECT COUNT(*) FROM products IGNORE INDEX (products_shown) WHERE status = 1 AND name LIKE ?";

async fn like_count(mysql: &mut MySqlConnection, word: &str) -> Result<i64> {
    Ok(sqlx::query_scalar(LIKE_COUNT).bind(format!("%{word}%")).fetch_one(mysql).await?)
}

/// What the count reads, in MySQL's words: for whoever doubts that `LIKE` was given its best.
async fn like_plan(mysql: &mut MySqlConnection) -> Result<String> {
    let explain = format!("EXPLAIN FORMAT = TRADITIONAL {LIKE_COUNT}");
    let row = sqlx::query(AssertSqlSafe(explain)).bind("%苹果%").fetch_one(mysql).await?;
    let text = |name: &str| row.try_get::<Option<String>, _>(name).map(Option::unwrap_or_default);
    Ok(format!("type {}, key {}, {}", text("type")?, text("key")?, text("Extra")?))
}

async fn like_page(mysql: &mut MySqlConnection, word: &str) -> Result<()> {
    let query = sqlx::query(
        "SELECT id, name, price, original_price, images, stock FROM products WHERE status = 1 AND name LIKE ? \
         ORDER BY sort_order, id LIMIT 20",
    );
    query.bind(format!("%{word}%")).fetch_all(mysql).await?;
    Ok(())
}

type Pair = (Option<f64>, Option<f64>);

/// Medians of page 1 and page 1000, at the origin and at MySQL.
async fn deep_pages(origin: &mut Asker, mysql: &mut MySqlConnection) -> Result<(Pair, Pair)> {
    let mut times: [Vec<f64>; 4] = Default::default();
    let [first, deep, like_first, like_deep] = &mut times;
    for size in SIZES {
        for (page, ours, theirs) in [(1, &mut *first, &mut *like_first), (DEEP, &mut *deep, &mut *like_deep)]
        {
            let began = Instant::now();
            origin.get(&format!("/api/products?page={page}&size={size}")).await?;
            ours.push(milliseconds(began.elapsed()));
            let query = sqlx::query(
                "SELECT id, name, price, original_price, images, stock FROM products WHERE status = 1 \
                 ORDER BY sort_order, id LIMIT ? OFFSET ?",
            );
            let began = Instant::now();
            query.bind(size).bind((page - 1) * size).fetch_all(&mut *mysql).await?;
            theirs.push(milliseconds(began.elapsed()));
        }
    }
    Ok(((median(first), median(deep)), (median(like_first), median(like_deep))))
}

/// Renames a product as a shopkeeper would and waits until the origin says the new name; milliseconds.
async fn show_edit(plan: &Plan, origin: &mut Asker, database: &str) -> Result<f64> {
    let mut mysql = MySqlConnection::connect(&plan.database_url(database)).await?;
    let name = format!("新到 {}", crate::unique());
    let mut edit = mysql.begin().await?;
    sqlx::query("UPDATE products SET name = ? WHERE id = 1").bind(&name).execute(&mut *edit).await?;
    sqlx::query("UPDATE catalog_version SET version = version + 1").execute(&mut *edit).await?;
    edit.commit().await?;
    let took = origin
        .until("/api/products/1", |body| body.windows(name.len()).any(|part| part == name.as_bytes()))
        .await?;
    mysql.close().await?;
    Ok(milliseconds(took))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn ratios(all: &Times, kinds: &[Kind], deep: Pair, memory: &BTreeMap<String, Usage>) -> Vec<Ratio> {
    let at_least = |what, value, goal| Ratio { what, value, sense: Sense::AtLeast, goal };
    let at_most = |what, value, goal| Ratio { what, value, sense: Sense::AtMost, goal };
    let against = |one: Option<f64>, other: Option<f64>| Some(one? / other?);
    let worst = kinds.iter().map(|kind| kind.like_count_ms / kind.origin_ms).min_by(f64::total_cmp);
    let micros = |times: &[f64]| {
        let mut sorted: Vec<u32> = times.iter().map(|ms| to_micros(*ms)).collect();
        sorted.sort_unstable();
        percentile(&sorted, 99).map(crate::stats::milliseconds)
    };
    vec![
        at_least(
            "search in a million names, LIKE / origin, medians",
            against(median(&all.1), median(&all.0)),
            Some(100.0),
        ),
        at_least("the same, the kind of word where it is least", worst, None),
        at_least("the same, p99", against(micros(&all.1), micros(&all.0)), None),
        at_most("page 1000 / page 1 at the origin", against(deep.1, deep.0), Some(1.2)),
        at_most(
            "memory of the origin with 100,000 SKUs, MB",
            memory.get(SMALL_ORIGIN).map(|usage| usage.rss_mib * 1.048_576),
            Some(80.0),
        ),
        at_most(
            "the same at its peak, an edit included, MB",
            memory.get(SMALL_ORIGIN).map(|usage| usage.peak_mib * 1.048_576),
            None,
        ),
    ]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time of minutes at most, never negative"
)]
fn to_micros(ms: f64) -> u32 {
    (ms * 1000.0).clamp(0.0, f64::from(u32::MAX)) as u32
}

impl Report {
    /// What is printed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from("\n");
        for (name, value) in &self.setup {
            text.push_str(&format!("{name}: {value}\n"));
        }
        let head = ["milliseconds →", "found", "origin", "worst", "LIKE, count", "LIKE, page"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for kind in &self.kinds {
            rows.push(vec![
                kind.name.to_owned(),
                format!("{:.0}", kind.found),
                format!("{:.3}", kind.origin_ms),
                format!("{:.3}", kind.origin_worst_ms),
                format!("{:.1}", kind.like_count_ms),
                format!("{:.1}", kind.like_page_ms),
            ]);
        }
        for (name, ours, theirs) in [
            ("page 1, no word", self.page_1_ms, self.like_page_1_ms),
            ("page 1000, no word", self.page_1000_ms, self.like_page_1000_ms),
        ] {
            let dash = || "-".to_owned();
            rows.push(vec![name.to_owned(), dash(), number(ours, 3), dash(), dash(), number(theirs, 1)]);
        }
        let mut edits = vec![["an edit is shown after", "ms"].map(str::to_owned).to_vec()];
        edits.extend(self.edit_shown_ms.iter().map(|(name, ms)| vec![name.clone(), format!("{ms:.0}")]));
        for rows in [rows, edits, memory_rows(&self.memory), ratio_rows(&self.ratios)] {
            text.push('\n');
            text.push_str(&table(&rows));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_held_against_its_goal_in_megabytes() {
        let usage = |rss_mib| Usage { rss_mib, peak_mib: rss_mib, cpu_seconds: 0.0 };
        let of = |rss| {
            let memory = BTreeMap::from([(SMALL_ORIGIN.to_owned(), usage(rss))]);
            ratios(&(vec![1.0], vec![200.0]), &[], (Some(1.0), Some(1.3)), &memory)
        };
        let find =
            |all: &[Ratio], what: &str| all.iter().find(|ratio| ratio.what.starts_with(what)).unwrap().met();
        assert_eq!(find(&of(76.0), "memory"), Some(true));
        assert_eq!(find(&of(77.0), "memory"), Some(false));
        assert_eq!(find(&of(1.0), "search"), Some(true));
        assert_eq!(find(&of(1.0), "page 1000"), Some(false));
    }
}
