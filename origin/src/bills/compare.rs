//! A day's bill held against our books. Pure: whoever has the lines and the rows gets the differences, the same ones each
//! time.

use std::collections::{HashMap, HashSet};

use farmgate_shared::money::Fen;
use time::{Duration, OffsetDateTime};

use super::day::BillDay;
use super::model::{BillLine, Difference, DifferenceKind, OurPayment, OurRefund, RefundState};

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

/// Every difference, in the order of the bill, then of our books.
pub fn differences(books: &Books<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
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
            compare_refund(line, books.refunds, &mut found);
        } else {
            compare_payment(line, books.payments, &mut found);
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

fn compare_payment(line: &BillLine, payments: &[OurPayment], found: &mut Vec<Difference>) {
    let by_number = payments.iter().find(|ours| ours.out_trade_no == line.out_trade_no);
    let by_transaction =
        || payments.iter().find(|ours| ours.transaction_id.as_deref() == Some(&line.transaction_id));
    let Some(ours) = by_number.or_else(by_transaction) else {
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

fn compare_refund(line: &BillLine, refunds: &[OurRefund], found: &mut Vec<Difference>) {
    let Some(ours) = refunds.iter().find(|ours| ours.out_refund_no == line.out_refund_no) else {
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
    } else if !ours.state.agrees_with(&line.state) {
        Some(format!("here it is {}, the bill says {}", ours.state.name(), line.state))
    } else {
        None
    };
    if let Some(detail) = detail {
        found.push(difference(DifferenceKind::State, line, Some(ours.amount), detail));
    }
}

fn missing_payments(books: &Books<'_>, found: &mut Vec<Difference>) {
    fn names(lines: &[BillLine]) -> HashMap<&str, HashSet<&str>> {
        let mut names: HashMap<&str, HashSet<&str>> = HashMap::new();
        for line in lines.iter().filter(|line| !line.is_refund()) {
            names.entry(&line.out_trade_no).or_default().insert(&line.transaction_id);
        }
        names
    }
    let (here, before, after) = (names(books.lines), books.before.map(names), books.after.map(names));
    for ours in books.payments {
        let Some(paid_at) = ours.paid_at.filter(|at| BillDay::of(*at) == books.day) else { continue };
        let stands_in = |bill: &HashMap<&str, HashSet<&str>>| {
            let of_transaction = ours.transaction_id.as_deref();
            bill.contains_key(ours.out_trade_no.as_str())
                || bill.values().any(|ids| of_transaction.is_some_and(|id| ids.contains(id)))
        };
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
    for ours in books.refunds.iter().filter(|ours| ours.state == RefundState::PaidBack) {
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
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-11-22 12:00 +8);
    const LATE: OffsetDateTime = datetime!(2026-11-22 23:59:59 +8);
    const EARLY: OffsetDateTime = datetime!(2026-11-22 00:00:01 +8);

    fn day() -> BillDay {
        BillDay::of(NOON)
    }

    fn sale(number: &str) -> BillLine {
        BillLine {
            happened_at: NOON,
            appid: "wx1".into(),
            transaction_id: format!("42{number}"),
            out_trade_no: number.into(),
            out_refund_no: String::new(),
            amount: Fen(1000),
            state: "SUCCESS".into(),
        }
    }

    fn back(number: &str) -> BillLine {
        BillLine { out_refund_no: format!("R{number}"), amount: Fen(300), ..sale(number) }
    }

    fn paid(number: &str, at: OffsetDateTime) -> OurPayment {
        OurPayment {
            out_trade_no: number.into(),
            transaction_id: Some(format!("42{number}")),
            amount: Fen(1000),
            paid_at: Some(at),
        }
    }

    fn refunded(number: &str, at: OffsetDateTime) -> OurRefund {
        OurRefund {
            out_refund_no: format!("R{number}"),
            out_trade_no: number.into(),
            amount: Fen(300),
            state: RefundState::PaidBack,
            created_at: at,
            refunded_at: Some(at),
        }
    }

    /// One day, without neighbours unless they are given.
    #[derive(Default)]
    struct Case {
        lines: Vec<BillLine>,
        before: Option<Vec<BillLine>>,
        after: Option<Vec<BillLine>>,
        payments: Vec<OurPayment>,
        refunds: Vec<OurRefund>,
    }

    impl Case {
        fn kinds(&self) -> Vec<(DifferenceKind, String)> {
            let bills = [Some(&self.lines), self.before.as_ref(), self.after.as_ref()];
            let refunds_in_bills =
                bills.into_iter().flatten().flatten().map(|line| line.out_refund_no.clone()).collect();
            let mut had = HashSet::from([day()]);
            had.extend(self.before.as_ref().map(|_| day().plus(-1)));
            had.extend(self.after.as_ref().map(|_| day().plus(1)));
            let found = differences(&Books {
                day: day(),
                lines: &self.lines,
                before: self.before.as_deref(),
                after: self.after.as_deref(),
                payments: &self.payments,
                refunds: &self.refunds,
                refunds_in_bills: &refunds_in_bills,
                had: &had,
            });
            found.into_iter().map(|found| (found.kind, found.out_trade_no)).collect()
        }
    }

    fn one(kind: DifferenceKind) -> Vec<(DifferenceKind, String)> {
        vec![(kind, "T1".to_owned())]
    }

    #[test]
    fn a_day_that_agrees_has_no_differences() {
        let case = Case {
            lines: vec![sale("T1"), back("T1"), back("T0")],
            // T0 was paid on an earlier day.
            payments: vec![paid("T1", NOON), paid("T0", NOON - Duration::days(3))],
            refunds: vec![refunded("T1", NOON), refunded("T0", NOON)],
            ..Case::default()
        };
        assert_eq!(case.kinds(), []);
    }

    #[test]
    fn each_kind_of_difference_is_found() {
        let ours = || vec![paid("T1", NOON)];
        let lines = |change: fn(&mut BillLine)| {
            let mut line = sale("T1");
            change(&mut line);
            Case { lines: vec![line], payments: ours(), ..Case::default() }
        };
        assert_eq!(
            Case { lines: vec![sale("T1")], ..Case::default() }.kinds(),
            one(DifferenceKind::MissingHere)
        );
        assert_eq!(Case { payments: ours(), ..Case::default() }.kinds(), one(DifferenceKind::MissingThere));
        assert_eq!(lines(|line| line.amount = Fen(999)).kinds(), one(DifferenceKind::Amount));
        assert_eq!(lines(|line| line.state = "REVOKED".into()).kinds(), one(DifferenceKind::State));
        assert_eq!(lines(|line| line.transaction_id = "43".into()).kinds(), one(DifferenceKind::State));
        let unpaid = OurPayment { paid_at: None, transaction_id: None, ..paid("T1", NOON) };
        let case = Case { lines: vec![sale("T1")], payments: vec![unpaid], ..Case::default() };
        assert_eq!(case.kinds(), one(DifferenceKind::State));
        let case = Case { lines: vec![sale("T1"), sale("T1")], payments: ours(), ..Case::default() };
        assert_eq!(case.kinds(), one(DifferenceKind::Doubled));
        let case = Case {
            lines: vec![sale("T1")],
            before: Some(vec![sale("T1")]),
            payments: ours(),
            ..Case::default()
        };
        assert_eq!(case.kinds(), one(DifferenceKind::Doubled));
        // Known by its transaction alone.
        let case = lines(|line| line.out_trade_no = "T2".into());
        assert_eq!(case.kinds(), [(DifferenceKind::State, "T2".to_owned())]);
    }

    #[test]
    fn refunds_differ_in_the_same_ways() {
        let ours = || vec![refunded("T1", NOON)];
        let line = |change: fn(&mut BillLine)| {
            let mut line = back("T1");
            change(&mut line);
            Case { lines: vec![line], refunds: ours(), ..Case::default() }
        };
        assert_eq!(
            Case { lines: vec![back("T1")], ..Case::default() }.kinds(),
            one(DifferenceKind::MissingHere)
        );
        assert_eq!(Case { refunds: ours(), ..Case::default() }.kinds(), one(DifferenceKind::MissingThere));
        assert_eq!(line(|line| line.amount = Fen(301)).kinds(), one(DifferenceKind::Amount));
        assert_eq!(line(|line| line.state = "FAIL".into()).kinds(), one(DifferenceKind::State));
        let pending = OurRefund { state: RefundState::AtWechat, refunded_at: None, ..refunded("T1", NOON) };
        let case = Case { lines: vec![back("T1")], refunds: vec![pending.clone()], ..Case::default() };
        assert_eq!(case.kinds(), one(DifferenceKind::State), "WeChat paid it back and nobody told us");
        let case = Case { refunds: vec![pending], ..Case::default() };
        assert_eq!(case.kinds(), [], "what WeChat has not paid back may be in no bill");
        let case = Case { lines: vec![back("T1"), back("T1")], refunds: ours(), ..Case::default() };
        assert_eq!(case.kinds(), one(DifferenceKind::Doubled));
    }

    #[test]
    fn a_payment_near_midnight_may_stand_in_the_neighbours_bill() {
        let there = || Some(vec![sale("T1")]);
        let case =
            |at, before, after| Case { payments: vec![paid("T1", at)], before, after, ..Case::default() };
        assert_eq!(case(EARLY, there(), None).kinds(), []);
        assert_eq!(case(EARLY, Some(vec![]), None).kinds(), one(DifferenceKind::MissingThere));
        assert_eq!(case(LATE, None, None).kinds(), [], "tomorrow's bill decides");
        assert_eq!(case(LATE, None, there()).kinds(), []);
        assert_eq!(case(LATE, None, Some(vec![])).kinds(), one(DifferenceKind::MissingThere));
        assert_eq!(
            case(NOON, there(), there()).kinds(),
            one(DifferenceKind::MissingThere),
            "noon is not near"
        );
    }

    #[test]
    fn a_slow_refund_may_stand_in_an_earlier_bill() {
        let asked_yesterday = OurRefund { created_at: NOON - Duration::DAY, ..refunded("T1", NOON) };
        let case = |before| Case { refunds: vec![asked_yesterday.clone()], before, ..Case::default() };
        assert_eq!(case(Some(vec![back("T1")])).kinds(), []);
        assert_eq!(case(Some(vec![])).kinds(), one(DifferenceKind::MissingThere));
        assert_eq!(case(None).kinds(), [], "the bill of the day on which it was asked for was not had yet");
    }
}
