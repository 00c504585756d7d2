//! `bench order`: every contestant in turn, round after round, each round beginning with another one, so that a slow
//! minute of the machine falls on all of them: first what goes one by one, then the rush; then the oversell trials and the
//! audits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::{Connection as _, MySqlConnection};

use crate::audit::{self, Ledger};
use crate::contest::{Contest, Slice, Work, in_turns, medians};
use crate::load::Tally;
use crate::plan::Plan;
use crate::procs::Processes;
use crate::report::{Oversold, Report, Setup};
use crate::target::{Goods, Target};
use crate::{oversell, ratios, reconcile, shop, verdict};

/// The bare loop's own copy of the origin's schema, and the commit probe's database.
pub const BARE_DATABASE: &str = "farmgate_bare";
pub const COMMIT_DATABASE: &str = "farmgate_commit";
/// Before anything is counted: prepared statements, connections, Node's compiler.
const WARM_UP: Duration = Duration::from_secs(3);
/// The processes that make this shop's orders.
const ORIGIN: &[&str] = &["origin", "worker"];
/// Connections of the bare loop. Of 1, 2, 4 and 8 this was the fastest on two processor cores, by a hair from 2 on.
pub const BARE_CONNECTIONS: u32 = 8;

/// How long and how much.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Seconds of one contestant's turn in a round
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Rounds; the report shows the median
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Connections to each server
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// Connections of the bare loop
    #[arg(long, default_value_t = BARE_CONNECTIONS)]
    pub bare_connections: u32,
    /// Only contests whose name contains one of these, with commas between them
    #[arg(long, value_delimiter = ',', default_value = "")]
    pub only: Vec<String>,
}

/// Runs it all; progress goes to stderr.
///
/// # Errors
/// When a server is gone or refuses what it must not.
pub async fn run(plan: &Plan, options: &Options) -> Result<Report> {
    let targets = Targets::of(plan).await?;
    let mut processes = plan.processes.clone();
    processes.insert("bench".to_owned(), std::process::id());
    let processes = Processes::new(processes)?;

    let contests = contests(plan, options, &targets);
    // What a rush leaves behind, the purge of old rows and the flushing of pages, goes on for seconds and is none of an order's
    // that comes alone; so those come first.
    let (alone, rush): (Vec<Contest>, Vec<Contest>) = contests.into_iter().partition(Contest::is_alone);
    let mut rounds = BTreeMap::new();
    for contests in [alone, rush] {
        warm_up(&contests, plan, &processes).await?;
        rounds.extend(measure(&contests, plan, options, &processes).await?);
    }
    // Before the trials, whose few orders are no load.
    let memory = processes.read()?;
    let oversold = vec![
        oversell(plan, Ledger::Seed, &targets.seed).await?,
        oversell(plan, Ledger::Repaired, &targets.repaired).await?,
        oversell(plan, Ledger::Origin, &targets.origin).await?,
    ];
    let reconcile = reconcile::run(&plan.origin).await?;
    let contests = rounds.iter().map(|(name, slices)| (name.clone(), medians(slices))).collect();
    Ok(Report {
        setup: setup(plan, options).await?,
        broken: verdict::of(&contests, &oversold, &reconcile),
        ratios: ratios::of(&contests),
        contests,
        rounds,
        oversold,
        reconcile,
        memory,
    })
}

/// Whom the load goes to.
struct Targets {
    origin: Arc<Target>,
    /// The origin, with those who bought of what is sold out.
    buyers: Arc<Target>,
    seed: Arc<Target>,
    repaired: Arc<Target>,
}

impl Targets {
    async fn of(plan: &Plan) -> Result<Targets> {
        let origin = async |users: &[i64]| {
            let mut target = Target::origin(plan.origin.address, &plan.origin.keys, users)?;
            target.make_addresses().await.context("the origin takes addresses")?;
            Ok::<_, anyhow::Error>(Arc::new(target))
        };
        let peer = |mode: &str| {
            let peer = plan.peer(mode)?;
            Ok::<_, anyhow::Error>(Arc::new(Target::peer(peer.address, &peer.secret, &shop::users())?))
        };
        Ok(Targets {
            origin: origin(&shop::users()).await?,
            buyers: origin(&shop::BUYERS.collect::<Vec<i64>>()).await?,
            seed: peer(Ledger::Seed.name())?,
            repaired: peer(Ledger::Repaired.name())?,
        })
    }
}

fn contests(plan: &Plan, options: &Options, targets: &Targets) -> Vec<Contest> {
    let Targets { origin, buyers, seed, repaired } = targets;
    let orders = |name, target: &Arc<Target>, goods, connections| Contest {
        name,
        runs: match name {
            ratios::SEED => &["express-seed"],
            ratios::REPAIRED => &["express-repaired"],
            _ => ORIGIN,
        },
        work: Work::Orders { target: target.clone(), goods, connections },
    };
    let refusals = |name, target: &Arc<Target>| Contest {
        name,
        runs: ORIGIN,
        work: Work::Refusals {
            target: target.clone(),
            goods: Goods::Hot(shop::SOLD_OUT),
            connections: options.connections,
        },
    };
    let hot = || Goods::Hot(shop::HOT);
    let all = options.connections;
    let bare = plan.database_url(BARE_DATABASE);
    let all_contests = vec![
        orders(ratios::SEED, seed, hot(), all),
        orders(ratios::HOT, origin, hot(), all),
        orders(ratios::REPAIRED, repaired, hot(), all),
        orders(ratios::SPREAD, origin, Goods::Spread(shop::SPREAD.collect()), all),
        Contest {
            name: ratios::BARE,
            runs: &[],
            work: Work::Bare { url: bare, sku: shop::sku(shop::HOT), connections: options.bare_connections },
        },
        orders(ratios::THREE, origin, Goods::Three(shop::SPREAD.collect()), all),
        orders(ratios::SINGLE, origin, hot(), 1),
        Contest {
            name: ratios::COMMIT,
            runs: &[],
            work: Work::Commit { url: plan.database_url(COMMIT_DATABASE) },
        },
        refusals(ratios::SOLD_OUT, origin),
        refusals(ratios::SOLD_OUT_AGAIN, buyers),
        orders(ratios::STATIC, origin, Goods::Static, all),
        orders(ratios::HEALTH, origin, Goods::Health, all),
    ];
    let is_wanted = |contest: &Contest| options.only.iter().any(|part| contest.name.contains(part));
    all_contests.into_iter().filter(is_wanted).collect()
}

async fn warm_up(contests: &[Contest], plan: &Plan, processes: &Processes) -> Result<()> {
    for contest in contests {
        eprintln!("warming up: {}", contest.name);
        contest.slice(WARM_UP, &plan.mysql_url, processes).await?;
    }
    Ok(())
}

async fn measure(
    contests: &[Contest],
    plan: &Plan,
    options: &Options,
    processes: &Processes,
) -> Result<BTreeMap<String, Vec<Slice>>> {
    let time = Duration::from_secs(options.seconds);
    let slice = async |contest: &Contest| contest.slice(time, &plan.mysql_url, processes).await;
    in_turns(contests, options.rounds, |contest| contest.name, slice).await
}

async fn oversell(plan: &Plan, contestant: Ledger, target: &Arc<Target>) -> Result<Oversold> {
    let mut tally = Tally::default();
    for product in shop::TRIALS {
        tally.add(oversell::trial(target, product).await?);
    }
    let database = match contestant {
        Ledger::Origin => &plan.origin.database,
        Ledger::Seed | Ledger::Repaired => &plan.peer(contestant.name())?.database,
    };
    let mut connection = MySqlConnection::connect(&plan.database_url(database)).await?;
    let units = audit::units(&mut connection, contestant).await?;
    connection.close().await?;
    let in_trials: Vec<audit::Units> =
        units.iter().filter(|units| shop::TRIALS.contains(&units.sku)).copied().collect();
    let sold: i64 = in_trials.iter().map(|units| units.ordered.min(units.stocked)).sum();
    Ok(Oversold {
        contestant,
        trials: shop::TRIALS.count(),
        trials_oversold: in_trials.iter().filter(|units| units.oversold() > 0).count(),
        units_in_trials: audit::oversold(&in_trials),
        units_in_all: audit::oversold(&units),
        units_left: shop::TRIALS.map(|_| oversell::STOCK).sum::<i64>() - sold,
        busy: tally.busy,
        failed: tally.failed,
    })
}

async fn setup(plan: &Plan, options: &Options) -> Result<Setup> {
    let mut connection = MySqlConnection::connect(&plan.mysql_url).await?;
    let (mysql_version, sync_binlog, flush_log_at_trx_commit) = sqlx::query_as(
        "SELECT VERSION(), CAST(@@GLOBAL.sync_binlog AS CHAR), \
         CAST(@@GLOBAL.innodb_flush_log_at_trx_commit AS CHAR)",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(Setup {
        seconds: options.seconds,
        rounds: options.rounds,
        connections: options.connections,
        bare_connections: options.bare_connections,
        mysql_connections: plan.mysql_connections,
        peer_processes: plan.peer(Ledger::Seed.name())?.processes,
        mysql_version,
        sync_binlog,
        flush_log_at_trx_commit,
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
    })
}
