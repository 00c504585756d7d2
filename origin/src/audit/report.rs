//! What the audit found, for an operator to read and to act on.

use std::fmt;

/// One line a promise, in the order of their names.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

/// A promise and what became of it.
#[derive(Debug)]
pub struct Line {
    /// The invariant that it is a part of, `I1` to `I5`.
    pub name: &'static str,
    pub promise: &'static str,
    pub verdict: Verdict,
}

/// Whether a promise holds.
#[derive(Debug)]
pub enum Verdict {
    Seen {
        looked_at: i64,
        /// What was looked at, in the plural.
        rows: &'static str,
        breaches: i64,
        /// Some of the breaches, or all, each with what it is.
        named: Vec<String>,
        /// What was wrong until it was mended just now.
        mended: Vec<String>,
    },
    /// It cannot be looked at, and why.
    Unknown(String),
}

impl Report {
    /// Adds a line behind those of its name.
    pub fn add(&mut self, line: Line) {
        self.lines.push(line);
        self.lines.sort_by_key(|line| line.name);
    }

    /// What an operator must know beyond that all promises hold; nothing when they do.
    pub fn complaint(&self) -> Option<String> {
        let count = |is: fn(&Verdict) -> bool| self.lines.iter().filter(|line| is(&line.verdict)).count();
        let broken = count(|verdict| matches!(verdict, Verdict::Seen { breaches, .. } if *breaches > 0));
        let unknown = count(|verdict| matches!(verdict, Verdict::Unknown(_)));
        let of = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let parts = [of(broken, "broken"), of(unknown, "not looked at")];
        let said: Vec<String> = parts.into_iter().flatten().collect();
        (!said.is_empty()).then(|| format!("of {} promises: {}", self.lines.len(), said.join(", ")))
    }
}

/// One line a promise: the invariant's name, what was looked at, verdict, promise; below it the breaches.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| line.fmt(f))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { name, promise, verdict } = self;
        let (looked_at, rows, breaches, named, mended) = match verdict {
            Verdict::Unknown(why) => {
                writeln!(f, "{name}  {:>9} {:<15}  UNKNOWN  {promise}", "?", "")?;
                return writeln!(f, "      cannot be looked at: {why}");
            }
            Verdict::Seen { looked_at, rows, breaches, named, mended } => {
                (looked_at, rows, *breaches, named, mended)
            }
        };
        let word = if breaches == 0 { "holds" } else { "BROKEN" };
        writeln!(f, "{name}  {looked_at:>9} {rows:<15}  {word:<7}  {promise}")?;
        for what in mended {
            writeln!(f, "      mended: {what}")?;
        }
        if breaches > 0 {
            writeln!(f, "      {breaches} {}:", if breaches == 1 { "breach" } else { "breaches" })?;
        }
        for breach in named {
            writeln!(f, "      {breach}")?;
        }
        match breaches.saturating_sub(i64::try_from(named.len()).unwrap_or(i64::MAX)) {
            more @ 1.. => writeln!(f, "      and {more} more"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(breaches: i64, named: &[&str], mended: &[&str]) -> Verdict {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Verdict::Seen { looked_at: 86, rows: "SKUs", breaches, named: texts(named), mended: texts(mended) }
    }

    fn report(verdicts: impl IntoIterator<Item = (&'static str, Verdict)>) -> Report {
        let mut report = Report::default();
        for (name, verdict) in verdicts {
            report.add(Line { name, promise: "all is well", verdict });
        }
        report
    }

    #[test]
    fn each_promise_has_a_line_and_each_breach_a_name() {
        let report = report([
            ("I1", seen(0, &[], &[])),
            ("I5", seen(23, &["SKU 7", "SKU 9"], &[])),
            ("I2", seen(1, &["SKU 8"], &[])),
            ("I4", seen(0, &[], &["SKU 3: too much"])),
            ("I3", Verdict::Unknown("nobody is there".to_owned())),
        ]);
        let expected = "\
I1         86 SKUs             holds    all is well
I2         86 SKUs             BROKEN   all is well
      1 breach:
      SKU 8
I3          ?                  UNKNOWN  all is well
      cannot be looked at: nobody is there
I4         86 SKUs             holds    all is well
      mended: SKU 3: too much
I5         86 SKUs             BROKEN   all is well
      23 breaches:
      SKU 7
      SKU 9
      and 21 more
";
        assert_eq!(report.to_string(), expected);
        assert_eq!(report.complaint().as_deref(), Some("of 5 promises: 2 broken, 1 not looked at"));
    }

    #[test]
    fn only_what_is_seen_and_holds_is_no_complaint() {
        assert_eq!(report([("I1", seen(0, &[], &[]))]).complaint(), None);
        let unknown = report([("I1", seen(0, &[], &[])), ("I4", Verdict::Unknown(String::new()))]);
        assert_eq!(unknown.complaint().as_deref(), Some("of 2 promises: 1 not looked at"));
    }
}
