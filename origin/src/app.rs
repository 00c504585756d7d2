//! What every request and job shares, put together once from the settings.

use std::sync::Arc;

use anyhow::Context;
use secrecy::ExposeSecret;

use crate::catalog::Catalog;
use crate::clock::{Clock, SystemClock, WrongClock};
use crate::config::Config;
use crate::db::Db;
use crate::db::index::BlindIndex;
use crate::db::lookup::Reader;
use crate::db::seal::Seal;
use crate::http::edge_signature::EdgeGuard;
use crate::limits::Limits;
use crate::messages::model::Messages;
use crate::orders::model::OrderNumbers;
use crate::orders::turns::{Room, Turns};
use crate::orders::writer::Writer;
use crate::redis::Redis;
use crate::stock::buyers::Buyers;
use crate::stock::gate::Gate;
use crate::stock::sold_out::SoldOut;
use crate::users::session::Sessions;
use crate::wechat::mini::MiniProgram;
use crate::wechat::notify::NotifyOpener;
use crate::wechat::pay::PayClient;
use crate::{addresses, catalog, idempotency, users};

/// The process's parts.
#[derive(Debug)]
pub struct App {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub db: Db,
    pub redis: Redis,
    pub gate: Gate,
    pub catalog: Catalog,
    pub sessions: Sessions,
    pub seal: Seal,
    pub index: BlindIndex,
    pub edge: EdgeGuard,
    pub limits: Limits,
    pub mini: MiniProgram,
    pub pay: PayClient,
    pub notify: NotifyOpener,
    pub messages: Messages,
    pub reads: Reads,
    pub sold_out: SoldOut,
    pub buyers: Buyers,
    pub order_numbers: OrderNumbers,
    pub order_turns: Turns,
    pub order_room: Room,
    pub order_writer: Writer,
}

/// What every order reads from MySQL: one trip reads for all orders that ask at the same time.
#[derive(Debug)]
pub struct Reads {
    pub standings: users::service::Standings,
    pub keys: idempotency::Keys,
    pub addresses: addresses::service::Addresses,
    pub offers: catalog::offers::Offers,
}

impl Reads {
    fn new(db: &Db) -> Reads {
        let reader = Reader::new(db);
        Reads {
            standings: users::service::standings(&reader),
            keys: idempotency::keys(&reader),
            addresses: addresses::service::addresses(&reader),
            offers: catalog::offers::Offers::new(&reader),
        }
    }
}

impl App {
    /// Puts the parts together. Connects to nothing yet.
    ///
    /// # Errors
    /// One that names the setting at fault.
    pub fn new(config: Config) -> anyhow::Result<Arc<App>> {
        config.check_for_serving()?;
        // Both rustls users (sqlx, reqwest) take the process's provider; a second call finds it installed.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let installed = rustls::crypto::ring::default_provider().install_default();
            installed.map_err(|_| anyhow::anyhow!("another TLS provider came first"))?;
        }
        let redis = Redis::new(&config.redis)?;
        let db = Db::new(&config.mysql)?;
        let offset = config.clock.offset();
        let clock: Arc<dyn Clock> =
            if offset.is_zero() { Arc::new(SystemClock) } else { Arc::new(WrongClock { offset }) };
        let seal = Seal::new(config.crypto.data_keys.expose_secret())?;
        Ok(Arc::new(App {
            gate: Gate::new(redis.clone(), config.orders.twin_within_ms),
            catalog: Catalog::default(),
            sessions: Sessions::load(&config.jwt).context("jwt")?,
            mini: MiniProgram::new(&config.wechat, &redis, &seal, &clock)?,
            seal,
            index: BlindIndex::new(&config.crypto)?,
            edge: EdgeGuard::new(config.edge.keys()?, config.edge.max_skew_seconds, clock.unix_seconds()),
            clock,
            limits: Limits::new(config.limits, redis.clone()),
            redis,
            pay: PayClient::new(&config.pay, &config.wechat.appid, &config.orders.description)?,
            notify: NotifyOpener::new(config.pay.api_v3_key.expose_secret())?,
            messages: Messages::new(&config.messages)?,
            reads: Reads::new(&db),
            sold_out: SoldOut::default(),
            buyers: Buyers::default(),
            order_numbers: OrderNumbers::default(),
            order_turns: Turns::default(),
            order_room: Room::new(&config.orders),
            order_writer: Writer::new(&db, config.http.request_timeout()),
            db,
            config,
        }))
    }
}
