//! A day's bill held against our books. Pure: whoever has the lines and the rows gets the differences, the same ones each
//! time.

use std::collections::{HashMap, HashSet};

use farmgate_shared::money::Fen;
use time::{Duration, OffsetDateTime};

use super::day::BillDay;
use super::model::{BillLine, Difference, DifferenceKind, OurPayment, OurRefund, agrees};
use crate::refunds::Status;

/// A trade this near to midnight may stand in the neighbour's bill.
pub const NEAR_MIDNIGHT: Duration = Duration::minutes(10);

/// What there is to compare for one day.
#[derive(Debug)]
pub struct Books<'a> {
    pub day: BillDay,
    /// The day's bill.
    pub lines: &'a [BillLine],
    /// Those of the day before and of the day after, where they were had.
    pub before: Option<&'a [BillLine]>,
    pub after: Option<&'a [BillLine]>,
    /// Of our payments: those that the day's lines name, and those that were paid on the day.
    pub payments: &'a [OurPayment],
    /// Of our refunds: those that the day's lines name, and those that were paid back on the day.
    pub refunds: &'a [OurRefund],
    /// Numbers of refunds that stand in the bill of whatever day.
    pub refunds_in_bills: &'a HashSet<String>,
    /// The days whose bills were had.
    pub had: &'a HashSet<BillDay>,
}

/// Our books by the numbers that a bill's line names.
struct ByNumber<'a> {
    payments: HashMap<&'a str, &'a OurPayment>,
    transactions: HashMap<&'a str, &'a OurPayment>,
    refunds: HashMap<&'a str, &'a OurRefund>,
}

impl<'a> ByNumber<'a> {
    fn of(books: &Books<'a>) -> ByNumber<'a> {
        let transaction = |ours: &'a OurPayment| Some((ours.transaction_id.as_deref()?, ours));
        ByNumber {
            payments: books.payments.iter().map(|ours| (ours.out_trade_no.as_str(), ours)).collect(),
            transactions: books.payments.iter().filter_map(transaction).collect(),
            refunds: books.refunds.iter().map(|ours| (ours.out_refund_no.as_str(), ours)).collect(),
        }
    }
}

/// Every difference, in the order of the bill, then of our books.
pub fn differences(books: &Books<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    let ours = ByNumber::of(books);
    let mut seen = HashSet::new();
    let before: HashSet<(&str, &str)> = books.before.unwrap_or_default().iter().map(identity).collect();
    for line in books.lines {
        if !seen.insert(identity(line)) || before.contains(&identity(line)) {
            found.push(difference(
                DifferenceKind::Doubled,
                line,
                None,
                "it stands in the bills twice".to_owned(),
            ));
            continue;
        }
        if line.is_refund() {
            compare_refund(line, &ours, &mut found);
        } else {
            compare_payment(line, &ours, &mut found);
        }
    }
    missing_payments(books, &mut found);
    missing_refunds(books, &mut found);
    found
}

/// What makes two lines the same trade.
fn identity(line: &BillLine) -> (&str, &str) {
    (&line.out_trade_no, &line.out_refund_no)
}

fn difference(kind: DifferenceKind, line: &BillLine, ours: Option<Fen>, detail: String) -> Difference {
    Difference {
        kind,
        out_trade_no: line.out_trade_no.clone(),
        out_refund_no: line.out_refund_no.clone(),
        transaction_id: line.transaction_id.clone(),
        ours,
        theirs: Some(line.amount),
        detail,
    }
}

fn compare_payment(line: &BillLine, ours: &ByNumber<'_>, found: &mut Vec<Difference>) {
    let by_transaction = || ours.transactions.get(line.transaction_id.as_str());
    let Some(ours) = ours.payments.get(line.out_trade_no.as_str()).or_else(by_transaction) else {
        let detail = format!("WeChat has it as {}, we know no such order", line.state);
        found.push(difference(DifferenceKind::MissingHere, line, None, detail));
        return;
    };
    if ours.amount != line.amount {
        let detail = format!("we asked for {}, the bill says {}", ours.amount, line.amount);
        found.push(difference(DifferenceKind::Amount, line, Some(ours.amount), detail));
    }
    let detail = if ours.out_trade_no != line.out_trade_no {
        Some(format!("the transaction belongs to our {}", ours.out_trade_no))
    } else if ours.transaction_id.as_ref().is_some_and(|id| *id != line.transaction_id) {
        Some(format!("we know it as transaction {}", ours.transaction_id.as_deref().unwrap_or_default()))
    } else if (line.state == "SUCCESS") != ours.paid_at.is_some() {
        let state = if ours.paid_at.is_some() { "paid" } else { "not paid" };
        Some(format!("here it is {state}, the bill says {}", line.state))
    } else {
        None
    };
    if let Some(detail) = detail {
        found.push(difference(DifferenceKind::State, line, Some(ours.amount), detail));
    }
}

fn compare_refund(line: &BillLine, ours: &ByNumber<'_>, found: &mut Vec<Difference>) {
    let Some(ours) = ours.refunds.get(line.out_refund_no.as_str()) else {
        let detail = format!("WeChat has the refund as {}, we know none of this number", line.state);
        found.push(difference(DifferenceKind::MissingHere, line, None, detail));
        return;
    };
    if ours.amount != line.amount {
        let detail = format!("we asked for {}, the bill says {}", ours.amount, line.amount);
        found.push(difference(DifferenceKind::Amount, line, Some(ours.amount), detail));
    }
    let detail = if ours.out_trade_no != line.out_trade_no {
        Some(format!("here it is a refund of {}", ours.out_trade_no))
    } else if !agrees(ours.state, &line.state) {
        Some(format!("here it is {}, the bill says {}", ours.state.text(), line.state))
    } else {
        None
    };
    if let Some(detail) = detail {
        found.push(difference(DifferenceKind::State, line, Some(ours.amount), detail));
    }
}

/// The payments that a bill names, by our numbers and by WeChat's.
struct Named<'a>(HashSet<&'a str>, HashSet<&'a str>);

impl<'a> Named<'a> {
    fn of(lines: &'a [BillLine]) -> Named<'a> {
        let sales = || lines.iter().filter(|line| !line.is_refund());
        Named(
            sales().map(|line| line.out_trade_no.as_str()).collect(),
            sales().map(|line| line.transaction_id.as_str()).collect(),
        )
    }

    fn has(&self, ours: &OurPayment) -> bool {
        self.0.contains(ours.out_trade_no.as_str())
            || ours.transaction_id.as_deref().is_some_and(|id| self.1.contains(id))
    }
}

fn missing_payments(books: &Books<'_>, found: &mut Vec<Difference>) {
    let (here, before, after) =
        (Named::of(books.lines), books.before.map(Named::of), books.after.map(Named::of));
    for ours in books.payments {
        let Some(paid_at) = ours.paid_at.filter(|at| BillDay::of(*at) == books.day) else { continue };
        let stands_in = |bill: &Named<'_>| bill.has(ours);
        let is_there = stands_in(&here)
            || (is_near(paid_at, books.day.start()) && before.as_ref().is_some_and(stands_in))
            // The bill that may have it is still to come: tomorrow this day is looked at again.
            || (is_near(paid_at, books.day.end()) && after.as_ref().is_none_or(stands_in));
        if !is_there {
            found.push(Difference {
                kind: DifferenceKind::MissingThere,
                out_trade_no: ours.out_trade_no.clone(),
                out_refund_no: String::new(),
                transaction_id: ours.transaction_id.clone().unwrap_or_default(),
                ours: Some(ours.amount),
                theirs: None,
                detail: "here it is paid, the bill does not have it".to_owned(),
            });
        }
    }
}

fn is_near(moment: OffsetDateTime, midnight: OffsetDateTime) -> bool {
    (moment - midnight).abs() < NEAR_MIDNIGHT
}

/// A refund may stand in the bill of any day from the one on which we asked for it to the one on which it was paid back.
fn missing_refunds(books: &Books<'_>, found: &mut Vec<Difference>) {
    for ours in books.refunds.iter().filter(|ours| ours.state == Status::PaidBack) {
        let is_of_the_day = ours.refunded_at.is_some_and(|at| BillDay::of(at) == books.day);
        if !is_of_the_day || books.refunds_in_bills.contains(&ours.out_refund_no) {
            continue;
        }
        let near_the_end = ours.refunded_at.is_some_and(|at| is_near(at, books.day.end()));
        let first = BillDay::of(ours.created_at).min(books.day);
        let mut days = std::iter::successors(Some(first), |day| Some(day.plus(1)))
            .take_while(|day| *day <= books.day.plus(i64::from(near_the_end)));
        // One of its bills was not had yet: nothing can be said.
        if !days.all(|day| books.had.contains(&day)) {
            continue;
        }
        found.push(Difference {
            kind: DifferenceKind::MissingThere,
            out_trade_no: ours.out_trade_no.clone(),
            out_refund_no: ours.out_refund_no.clone(),
            transaction_id: String::new(),
            ours: Some(ours.amount),
            theirs: None,
            detail: "here it is paid back, no bill has it".to_owned(),
        });
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
