//! What a bill and our books can say of a day, and which differences that makes.

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
        state: Status::PaidBack,
        created_at: at,
        refunded_at: Some(at),
    }
}

/// One day, without neighbours unless they are given.
#[derive(Clone, Default)]
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

/// The day's bill has this line, changed, and the books have these.
fn changed(line: BillLine, change: fn(&mut BillLine), books: &Case) -> Case {
    let mut line = line;
    change(&mut line);
    Case { lines: vec![line], ..books.clone() }
}

#[test]
fn each_kind_of_difference_is_found() {
    use DifferenceKind::{Amount, Doubled, MissingHere, MissingThere, State};
    let payment = Case { payments: vec![paid("T1", NOON)], ..Case::default() };
    let refund = Case { refunds: vec![refunded("T1", NOON)], ..Case::default() };
    let unpaid = OurPayment { paid_at: None, transaction_id: None, ..paid("T1", NOON) };
    let pending = OurRefund { state: Status::AtWechat, refunded_at: None, ..refunded("T1", NOON) };
    let pending = Case { refunds: vec![pending], ..Case::default() };
    for (what, case, kind) in [
        ("a payment only there", changed(sale("T1"), |_| {}, &Case::default()), Some(MissingHere)),
        ("a refund only there", changed(back("T1"), |_| {}, &Case::default()), Some(MissingHere)),
        ("a payment only here", payment.clone(), Some(MissingThere)),
        ("a refund only here", refund.clone(), Some(MissingThere)),
        ("a refund that WeChat has not paid back may be in no bill", pending.clone(), None),
        ("another price", changed(sale("T1"), |line| line.amount = Fen(999), &payment), Some(Amount)),
        ("another sum back", changed(back("T1"), |line| line.amount = Fen(301), &refund), Some(Amount)),
        ("revoked", changed(sale("T1"), |line| line.state = "REVOKED".into(), &payment), Some(State)),
        ("failed", changed(back("T1"), |line| line.state = "FAIL".into(), &refund), Some(State)),
        (
            "another transaction",
            changed(sale("T1"), |line| line.transaction_id = "43".into(), &payment),
            Some(State),
        ),
        (
            "paid, and nobody told us",
            Case { lines: vec![sale("T1")], payments: vec![unpaid], ..Case::default() },
            Some(State),
        ),
        ("paid back, and nobody told us", Case { lines: vec![back("T1")], ..pending }, Some(State)),
        ("a payment twice", Case { lines: vec![sale("T1"), sale("T1")], ..payment.clone() }, Some(Doubled)),
        ("a refund twice", Case { lines: vec![back("T1"), back("T1")], ..refund }, Some(Doubled)),
        (
            "a payment in two bills",
            Case { lines: vec![sale("T1")], before: Some(vec![sale("T1")]), ..payment.clone() },
            Some(Doubled),
        ),
    ] {
        assert_eq!(case.kinds(), kind.map(one).unwrap_or_default(), "{what}");
    }
    // Known by its transaction alone.
    let case = changed(sale("T1"), |line| line.out_trade_no = "T2".into(), &payment);
    assert_eq!(case.kinds(), [(State, "T2".to_owned())]);
}

#[test]
fn a_day_of_ten_times_the_trades_takes_ten_times_as_long() {
    // Each line held against each row would take a hundred times as long.
    let (few, many) = (comparing(2_000), comparing(20_000));
    assert!(many < 40 * few, "{few:?}, {many:?}");
}

/// How long it takes to compare a day of so many trades, each paid and paid back, of which one is missing: the best of some.
fn comparing(trades: usize) -> std::time::Duration {
    let numbers: Vec<String> = (0..trades).map(|trade| format!("T{trade}")).collect();
    let mut lines: Vec<BillLine> = numbers.iter().map(|number| sale(number)).collect();
    lines.extend(numbers.iter().map(|number| back(number)));
    lines.remove(trades / 2);
    let case = Case {
        lines,
        payments: numbers.iter().map(|number| paid(number, NOON)).collect(),
        refunds: numbers.iter().map(|number| refunded(number, NOON)).collect(),
        ..Case::default()
    };
    let times = [(); 5].map(|()| {
        let begun = std::time::Instant::now();
        assert_eq!(case.kinds(), [(DifferenceKind::MissingThere, format!("T{}", trades / 2))]);
        begun.elapsed()
    });
    times.into_iter().min().unwrap_or_default()
}

#[test]
fn a_payment_near_midnight_may_stand_in_the_neighbours_bill() {
    let there = || Some(vec![sale("T1")]);
    let case = |at, before, after| Case { payments: vec![paid("T1", at)], before, after, ..Case::default() };
    assert_eq!(case(EARLY, there(), None).kinds(), []);
    assert_eq!(case(EARLY, Some(vec![]), None).kinds(), one(DifferenceKind::MissingThere));
    assert_eq!(case(LATE, None, None).kinds(), [], "tomorrow's bill decides");
    assert_eq!(case(LATE, None, there()).kinds(), []);
    assert_eq!(case(LATE, None, Some(vec![])).kinds(), one(DifferenceKind::MissingThere));
    assert_eq!(case(NOON, there(), there()).kinds(), one(DifferenceKind::MissingThere), "noon is not near");
}

#[test]
fn a_slow_refund_may_stand_in_an_earlier_bill() {
    let asked_yesterday = OurRefund { created_at: NOON - Duration::DAY, ..refunded("T1", NOON) };
    let case = |before| Case { refunds: vec![asked_yesterday.clone()], before, ..Case::default() };
    assert_eq!(case(Some(vec![back("T1")])).kinds(), []);
    assert_eq!(case(Some(vec![])).kinds(), one(DifferenceKind::MissingThere));
    assert_eq!(case(None).kinds(), [], "the bill of the day on which it was asked for was not had yet");
}
