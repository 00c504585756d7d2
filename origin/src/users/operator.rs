//! What `farmgate-origin user …` shows and does.

use std::fmt::Write as _;

use anyhow::Context;
use clap::Subcommand;
use farmgate_shared::ids::UserId;
use secrecy::ExposeSecret;
use sqlx::MySqlPool;

use super::phone;
use super::service::{self, UserRow};
use crate::addresses;
use crate::clock::shanghai_rfc3339;
use crate::config::CryptoConfig;
use crate::db::index::BlindIndex;
use crate::db::reseal;
use crate::db::seal::Seal;
use crate::wechat::phone::PhoneNumber;

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Shuts accounts out: their sessions end at once, and they cannot log in.
    Ban {
        /// Ids or openids.
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Lets accounts in again; each must log in anew.
    Unban {
        /// Ids or openids.
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Shows accounts.
    Show {
        /// Ids or openids.
        #[arg(required_unless_present = "phone")]
        users: Vec<String>,
        /// All accounts with this number: a mainland one, or +<country>-<number>.
        #[arg(long)]
        phone: Option<String>,
        /// With their whole telephone numbers.
        #[arg(long)]
        reveal: bool,
    },
    /// Seals telephone numbers and addresses anew that an older data key has sealed: once this and `order reseal` say that
    /// nothing is left, the older key can be dropped. May be cut off and given again.
    Reseal,
}

/// Does what was asked, and returns what to print. Nothing is done when one of the accounts is not there.
///
/// # Errors
/// When MySQL is away, or an account that is named is not there.
pub async fn run(pool: &MySqlPool, crypto: &CryptoConfig, command: &UserCommand) -> anyhow::Result<String> {
    let mut text = String::new();
    match command {
        UserCommand::Ban { users } => {
            for user in find(pool, users).await? {
                let changed = service::ban(pool, UserId(user.id)).await?;
                writeln!(text, "{}  {}", user.id, if changed { "banned" } else { "was banned already" })?;
            }
        }
        UserCommand::Unban { users } => {
            for user in find(pool, users).await? {
                let changed = service::unban(pool, UserId(user.id)).await?;
                writeln!(
                    text,
                    "{}  {}",
                    user.id,
                    if changed { "may log in again" } else { "was not banned" }
                )?;
            }
        }
        UserCommand::Show { users, phone, reveal } => {
            let mut rows = find(pool, users).await?;
            if let Some(phone) = phone {
                rows.extend(find_by_phone(pool, crypto, phone).await?);
            }
            let seal = reveal.then(|| Seal::new(crypto.data_keys.expose_secret())).transpose()?;
            for row in rows {
                show(&mut text, &row, seal.as_ref())?;
            }
        }
        UserCommand::Reseal => {
            let seal = Seal::new(crypto.data_keys.expose_secret())?;
            return reseal::told(&[
                ("telephone numbers", phone::reseal(pool, &seal).await?),
                ("addresses", addresses::service::reseal(pool, &seal).await?),
            ]);
        }
    }
    Ok(text)
}

async fn find(pool: &MySqlPool, users: &[String]) -> anyhow::Result<Vec<UserRow>> {
    let mut rows = Vec::with_capacity(users.len());
    for user in users {
        rows.push(service::find(pool, user).await?.with_context(|| format!("there is no account {user}"))?);
    }
    Ok(rows)
}

async fn find_by_phone(pool: &MySqlPool, crypto: &CryptoConfig, text: &str) -> anyhow::Result<Vec<UserRow>> {
    let number = PhoneNumber::parse(text).context("a number is written 13800000000 or +852-61234567")?;
    let rows = service::find_by_phone(pool, &BlindIndex::new(crypto)?, &number).await?;
    anyhow::ensure!(!rows.is_empty(), "no account has the number {}", number.masked());
    Ok(rows)
}

fn show(text: &mut String, row: &UserRow, seal: Option<&Seal>) -> anyhow::Result<()> {
    let standing = if row.is_active() { "active" } else { "banned" };
    let nickname = row.nickname.as_deref().filter(|name| !name.is_empty()).unwrap_or("-");
    let number = match (seal, &row.phone_sealed) {
        (Some(seal), Some(sealed)) => phone::open(seal, UserId(row.id), sealed)?,
        _ => row.phone.clone().unwrap_or_else(|| "-".to_owned()),
    };
    writeln!(
        text,
        "{}  {standing}  since {}\n    nickname {}  phone {number}  level {}  points {}\n    openid {}",
        row.id,
        shanghai_rfc3339(row.created_at),
        // What a shopper wrote must not write to the terminal.
        nickname.escape_debug(),
        row.level,
        row.points,
        row.openid.escape_debug(),
    )?;
    Ok(())
}
