//! Farmgate's origin: the service that owns MySQL and Redis. One binary, a subcommand a role.

mod addresses;
mod app;
mod audit;
mod bills;
mod catalog;
mod clock;
mod config;
mod coupons;
mod crash;
mod db;
mod error;
mod freight;
mod http;
mod idempotency;
mod jobs;
mod keygen;
mod limits;
mod messages;
mod metrics;
mod notifications;
mod orders;
mod outbox;
mod payments;
mod pictures;
mod redis;
mod refunds;
mod reviews;
mod rotate;
mod router;
mod sales;
mod seed;
mod serve;
mod shipments;
mod stock;
mod text;
mod timeline;
mod users;
mod wechat;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, ensure};
use clap::{Parser, Subcommand};
use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;

use crate::app::App;
use crate::bills::day::BillDay;
use crate::bills::operator::BillsCommand;
use crate::clock::SystemClock;
use crate::config::{Config, LogConfig, LogFormat};
use crate::db::Db;
use crate::messages::operator::MessagesCommand;
use crate::outbox::operator::OutboxCommand;
use crate::payments::operator::PaymentsCommand;
use crate::refunds::operator::RefundCommand;
use crate::reviews::operator::ReviewCommand;
use crate::rotate::RotateStep;
use crate::shipments::operator::OrderCommand;
use crate::users::operator::UserCommand;

/// An order makes some hundred small allocations, which the C library's allocator serves at twice the price.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    /// Settings that differ from the defaults (TOML, the shape of config.default.toml).
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers the edge.
    Serve,
    /// Runs the jobs: delivers events, sends refunds, closes unpaid orders, completes shipped ones, keeps the stock gate.
    Worker,
    /// Brings the database's schema up to date.
    Migrate,
    /// Loads the demo shop; leaves stock and orders of an earlier load alone.
    Seed,
    /// Audits the stock and order books (I1 to I5), or one day's payments and refunds against WeChat's bill; ends with an
    /// error when something is off.
    Reconcile {
        /// Moves the stock gate's levels to MySQL's where they differ; builds the gate anew where it is lost.
        #[arg(long, conflicts_with = "bill")]
        repair: bool,
        /// Compares this day's bill, YYYY-MM-DD, instead.
        #[arg(long)]
        bill: Option<BillDay>,
    },
    /// Shows what reconciling with WeChat's bills found, and puts on record what was dealt with.
    Bills {
        #[command(subcommand)]
        command: BillsCommand,
    },
    /// Shows what shoppers were told by subscribe message.
    Messages {
        #[command(subcommand)]
        command: MessagesCommand,
    },
    /// Ships an order, or lists those that are to be shipped.
    Order {
        #[command(subcommand)]
        command: OrderCommand,
    },
    /// Shows what waits in the outbox and what failed there, and puts dead letters back.
    Outbox {
        #[command(subcommand)]
        command: OutboxCommand,
    },
    /// Asks WeChat about a payment.
    Payments {
        #[command(subcommand)]
        command: PaymentsCommand,
    },
    /// Promises refunds, shows what became of them, and ends those that WeChat cannot pay.
    Refund {
        #[command(subcommand)]
        command: RefundCommand,
    },
    /// Shows shoppers' accounts, shuts them out and lets them in again.
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Shows reviews, and decides about those that WeChat's text check leaves to a person.
    Review {
        #[command(subcommand)]
        command: ReviewCommand,
    },
    /// Makes the shop's own keys, once.
    Keygen {
        /// Where jwt.pem, jwks.json, origin.env and edge.env go.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Exchanges the keys that sign tokens and the edge's requests, in three steps, without ending a session.
    Rotate {
        /// Where keygen wrote.
        #[arg(long)]
        dir: PathBuf,
        #[command(subcommand)]
        step: RotateStep,
    },
    /// Prints the OpenAPI document.
    Openapi,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line with its causes: an operator reads this, not a debugger.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Keygen { dir } => return keygen::run(&dir),
        Command::Openapi => {
            println!("{}", router::openapi().to_pretty_json().context("writing the document")?);
            return Ok(());
        }
        _ => {}
    }
    let config = Config::load(cli.config.as_deref())?;
    if let Command::Rotate { dir, step } = cli.command {
        return rotate::run(&dir, step, config.jwt.ttl_seconds, &SystemClock);
    }
    crash::arm()?;
    start_logging(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.runtime.threads())
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve => serve::serve(config).await,
            Command::Worker => serve::work(config).await,
            Command::Migrate => migrate(&config).await,
            Command::Seed => load_demo_shop(&config).await,
            Command::Reconcile { bill: Some(day), .. } => reconcile_bill(config, day).await,
            Command::Reconcile { repair, bill: None } => reconcile(config, repair).await,
            Command::Bills { command } => show_bills(&config, &command).await,
            Command::Messages { command } => show_messages(&config, &command).await,
            Command::Order { command } => see_to_orders(config, &command).await,
            Command::Outbox { command } => show_outbox(&config, &command).await,
            Command::Payments { command } => ask_about_payments(config, command).await,
            Command::Refund { command } => refund(&config, &command).await,
            Command::User { command } => show_users(&config, &command).await,
            Command::Review { command } => show_reviews(&config, &command).await,
            Command::Keygen { .. } | Command::Rotate { .. } | Command::Openapi => Ok(()),
        }
    })
}

/// Logs go to stderr; stdout is for what a command was asked to print.
fn start_logging(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.filter).context("log.filter")?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => subscriber.with_ansi(false).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    let db = database(config)?;
    db::MIGRATIONS.run(db.pool()).await.context("migrating")?;
    println!("schema is up to date: {} migrations", db::MIGRATIONS.iter().count());
    db.close().await;
    Ok(())
}

async fn load_demo_shop(config: &Config) -> anyhow::Result<()> {
    let db = database(config)?;
    let loaded = seed::run(&db).await?;
    println!(
        "demo shop: {} categories, {} products, {} SKUs, {} coupons",
        loaded.categories, loaded.products, loaded.skus, loaded.coupons
    );
    db.close().await;
    Ok(())
}

async fn reconcile(config: Config, repair: bool) -> anyhow::Result<()> {
    let app = App::new(config)?;
    let report = audit::reconcile(&app, repair).await?;
    print!("{report}");
    app.db.close().await;
    report.complaint().map_or(Ok(()), |complaint| Err(anyhow!(complaint)))
}

async fn reconcile_bill(config: Config, day: BillDay) -> anyhow::Result<()> {
    let app = App::new(config)?;
    bills::operator::reconcile(&app, day).await?;
    app.db.close().await;
    Ok(())
}

async fn see_to_orders(config: Config, command: &OrderCommand) -> anyhow::Result<()> {
    let app = App::new(config)?;
    let text = shipments::operator::run(&app, command).await?;
    print!("{text}");
    app.db.close().await;
    Ok(())
}

async fn show_bills(config: &Config, command: &BillsCommand) -> anyhow::Result<()> {
    let db = database(config)?;
    let text = bills::operator::run(db.pool(), command).await?;
    print!("{text}");
    db.close().await;
    Ok(())
}

async fn show_messages(config: &Config, command: &MessagesCommand) -> anyhow::Result<()> {
    let db = database(config)?;
    let text = messages::operator::run(db.pool(), command).await?;
    print!("{text}");
    db.close().await;
    Ok(())
}

async fn show_outbox(config: &Config, command: &OutboxCommand) -> anyhow::Result<()> {
    let db = database(config)?;
    let text = outbox::operator::run(db.pool(), command).await?;
    print!("{text}");
    db.close().await;
    Ok(())
}

async fn ask_about_payments(config: Config, command: PaymentsCommand) -> anyhow::Result<()> {
    let app = App::new(config)?;
    let text = payments::operator::run(&app, command).await?;
    print!("{text}");
    app.db.close().await;
    Ok(())
}

async fn refund(config: &Config, command: &RefundCommand) -> anyhow::Result<()> {
    let db = database(config)?;
    let text = refunds::operator::run(&db, command).await?;
    print!("{text}");
    db.close().await;
    Ok(())
}

async fn show_users(config: &Config, command: &UserCommand) -> anyhow::Result<()> {
    let db = database(config)?;
    let text = users::operator::run(db.pool(), &config.crypto, command).await?;
    print!("{text}");
    db.close().await;
    Ok(())
}

async fn show_reviews(config: &Config, command: &ReviewCommand) -> anyhow::Result<()> {
    let db = database(config)?;
    let text = reviews::operator::run(db.pool(), command).await?;
    print!("{text}");
    db.close().await;
    Ok(())
}

fn database(config: &Config) -> anyhow::Result<Db> {
    ensure!(
        !config.mysql.url.expose_secret().is_empty(),
        "the setting mysql.url is missing (FARMGATE_MYSQL__URL)"
    );
    Db::new(&config.mysql)
}
