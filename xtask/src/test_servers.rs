//! What a test needs to start a MySQL or a Redis of its own, which it may kill: the programs with their fixed arguments
//! and, for MySQL, a data folder to copy. Handed over as one JSON file; `tests/support/servers.rs` reads it. A part
//! that cannot be had is the reason why, which fails the tests that need it.

use crate::context::Context;
use crate::provision::Parts;
use crate::provision::mysql::{self, MysqlServer};
use crate::provision::redis::{self, RedisServer};
use crate::run_file;
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Serialize)]
struct TestServers {
    mysql: Part<mysql::Recipe>,
    redis: Part<redis::Recipe>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Part<T> {
    Recipe(T),
    Missing(String),
}

/// Writes the file; says in a line each what cannot be had, and which tests will fail for it.
pub fn describe(context: &Context, parts: &Parts) -> Result<PathBuf> {
    let mysql = match &parts.mysql {
        MysqlServer::Local(server) => server.recipe(),
        MysqlServer::Given(_) | MysqlServer::Docker => {
            mysql::provide_local(context).and_then(|server| server.recipe())
        }
    };
    let redis = match &parts.redis {
        RedisServer::Local(launcher) => redis::Recipe::of(launcher),
        RedisServer::Given(_) | RedisServer::Docker => {
            redis::provide_local(context).and_then(|launcher| redis::Recipe::of(&launcher))
        }
    };
    context.stop.check()?;
    let servers = TestServers { mysql: part(context, "MySQL", mysql), redis: part(context, "Redis", redis) };
    let file = context.state.join("test-servers.json");
    std::fs::create_dir_all(&context.state)?;
    run_file::write_whole(&file, &serde_json::to_vec_pretty(&servers)?).context("test-servers.json")?;
    Ok(file)
}

fn part<T>(context: &Context, name: &str, recipe: Result<T>) -> Part<T> {
    match recipe {
        Ok(recipe) => Part::Recipe(recipe),
        Err(error) => {
            let why = format!("no {name} that a test may kill: {error:#}");
            context.progress.say(format!("{why}; the tests of tests/crash that kill servers will fail"));
            Part::Missing(why)
        }
    }
}
