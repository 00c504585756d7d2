//! What a run must show to count at all. Promises whoever starts one, a pipeline above all, that a run in which something is
//! broken does not end well; a missed goal of speed is no such thing, since machines differ and have bad minutes.

use crate::audit::Ledger;
use crate::ratios::{self, Contests};
use crate::reconcile::Reconciled;
use crate::report::Oversold;

/// What is broken in a run of `bench order`, a line each; empty when all of it holds.
#[must_use]
pub fn of(contests: &Contests, oversold: &[Oversold], reconcile: &Reconciled) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, slice) in contests {
        broken
            .extend(slice.failed.iter().map(|(said, times)| format!("{name}: {times} replies said {said}")));
        if slice.busy > 0 && name != ratios::SEED {
            broken.push(format!("{name}: {} replies said 503 busy", slice.busy));
        }
    }
    broken.extend(oversold.iter().flat_map(of_trials));
    broken.extend(of_audit(reconcile));
    broken
}

fn of_trials(line: &Oversold) -> Vec<String> {
    let name = line.contestant.name();
    let mut broken: Vec<String> = line
        .failed
        .iter()
        .map(|(said, times)| format!("trials of {name}: {times} replies said {said}"))
        .collect();
    if line.contestant == Ledger::Seed {
        if line.trials > 0 && line.units_in_trials == 0 {
            broken.push(format!(
                "the seed's design oversold nothing in {} trials: who cannot see it there cannot see it anywhere",
                line.trials
            ));
        }
        return broken;
    }
    if line.units_in_all > 0 {
        broken.push(format!("{name} sold {} units that were never there", line.units_in_all));
    }
    if line.units_left > 0 {
        broken.push(format!(
            "{name} left {} units of the trials to nobody, though all were wanted",
            line.units_left
        ));
    }
    if line.busy > 0 {
        broken.push(format!("trials of {name}: {} replies said 503 busy", line.busy));
    }
    broken
}

/// The same of the origin's audit.
#[must_use]
pub fn of_audit(reconcile: &Reconciled) -> Option<String> {
    (!reconcile.is_clean).then(|| format!("the audit is not clean:\n{}", reconcile.report))
}

/// What is printed of it.
#[must_use]
pub fn text(broken: &[String]) -> String {
    if broken.is_empty() {
        return "all of it holds\n".to_owned();
    }
    broken.iter().map(|line| format!("BROKEN: {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contest::Slice;

    fn clean() -> Reconciled {
        Reconciled { is_clean: true, report: String::new() }
    }

    fn trials(contestant: Ledger, units: i64) -> Oversold {
        Oversold {
            contestant,
            trials: 60,
            trials_oversold: usize::from(units > 0),
            units_in_trials: units,
            units_in_all: units,
            units_left: 0,
            busy: 0,
            failed: [].into(),
        }
    }

    fn good() -> [Oversold; 3] {
        [trials(Ledger::Seed, 50), trials(Ledger::Repaired, 0), trials(Ledger::Origin, 0)]
    }

    fn contest(name: &str, slice: Slice) -> Contests {
        [(name.to_owned(), slice)].into()
    }

    #[test]
    fn a_run_holds_while_the_seed_alone_oversells() {
        assert_eq!(of(&Contests::new(), &good(), &clean()), [""; 0]);
        assert!(text(&[]).contains("holds"));
    }

    #[test]
    fn a_seed_that_never_oversells_proves_that_the_harness_sees_nothing() {
        let [_, repaired, origin] = good();
        let broken = of(&Contests::new(), &[trials(Ledger::Seed, 0), repaired, origin], &clean());
        assert!(broken.len() == 1 && broken[0].contains("oversold nothing in 60 trials"), "{broken:?}");
        let none = Oversold { trials: 0, ..trials(Ledger::Seed, 0) };
        assert!(of(&Contests::new(), &[none], &clean()).is_empty(), "no trial was made");
    }

    #[test]
    fn nobody_else_may_sell_what_is_not_there_or_leave_what_is() {
        for contestant in [Ledger::Repaired, Ledger::Origin] {
            let broken = of_trials(&trials(contestant, 2));
            assert_eq!(broken, [format!("{} sold 2 units that were never there", contestant.name())]);
            let outside = Oversold { units_in_all: 1, ..trials(contestant, 0) };
            assert_eq!(of_trials(&outside).len(), 1, "in the rush and not in the trials");
            assert_eq!(of_trials(&Oversold { units_left: 1, ..trials(contestant, 0) }).len(), 1);
            assert_eq!(of_trials(&Oversold { busy: 1, ..trials(contestant, 0) }).len(), 1);
        }
        let seed = Oversold { units_left: 1, busy: 9, ..trials(Ledger::Seed, 50) };
        assert!(of_trials(&seed).is_empty(), "it promises none of that");
    }

    #[test]
    fn a_reply_that_no_correct_server_gives_is_broken_whoever_gave_it() {
        let failed = || [("500 internal".to_owned(), 3)].into();
        let contests = contest(ratios::SEED, Slice { failed: failed(), busy: 7, ..Slice::default() });
        assert_eq!(of(&contests, &good(), &clean()), ["hot seed: 3 replies said 500 internal"]);
        let contests = contest(ratios::HOT, Slice { busy: 7, ..Slice::default() });
        assert_eq!(of(&contests, &good(), &clean()), ["hot origin: 7 replies said 503 busy"]);
        for contestant in [Ledger::Seed, Ledger::Repaired, Ledger::Origin] {
            assert_eq!(of_trials(&Oversold { failed: failed(), ..trials(contestant, 50) })[0], {
                format!("trials of {}: 3 replies said 500 internal", contestant.name())
            });
        }
    }

    #[test]
    fn an_audit_that_is_not_clean_is_broken() {
        let dirty = Reconciled { is_clean: false, report: "I1 BROKEN".to_owned() };
        let broken = of(&Contests::new(), &good(), &dirty);
        assert_eq!(broken, ["the audit is not clean:\nI1 BROKEN"]);
        assert_eq!(text(&broken), "BROKEN: the audit is not clean:\nI1 BROKEN\n");
    }
}
