//! What a person asks of payments on the command line.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use farmgate_shared::ids::OrderNo;

use super::asking::{self, Question};
use crate::app::App;

/// `farmgate-origin payments …`.
#[derive(Debug, Subcommand)]
pub enum PaymentsCommand {
    /// Asks WeChat about one payment and records it if it was made.
    Ask(Which),
}

/// Which payment.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The number of the order.
    #[arg(long)]
    order: Option<String>,
    /// WeChat's number of the payment, as the shopper's bill and the merchant console show it.
    #[arg(long)]
    transaction: Option<String>,
}

impl Which {
    fn question(self) -> anyhow::Result<Question> {
        match (self.order, self.transaction) {
            (Some(order_no), _) => {
                Ok(Question::Order(order_no.parse::<OrderNo>().context("no order has this number")?))
            }
            (None, Some(id)) => {
                let is_one =
                    (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
                ensure!(is_one, "WeChat's numbers have 1 to 32 letters and digits");
                Ok(Question::Transaction(id))
            }
            (None, None) => anyhow::bail!("--order or --transaction is needed"),
        }
    }
}

/// Runs a command; what it has to say.
///
/// # Errors
/// When the payment cannot be asked about, or WeChat's word does not agree with the order.
pub async fn run(app: &Arc<App>, command: PaymentsCommand) -> anyhow::Result<String> {
    let PaymentsCommand::Ask(which) = command;
    let (order_no, state) = asking::ask_about(app, &which.question()?).await?;
    let mut text = String::new();
    writeln!(text, "order {order_no} is {state:?} at WeChat")?;
    if state.is_paid() {
        writeln!(text, "the payment is recorded")?;
    }
    Ok(text)
}
