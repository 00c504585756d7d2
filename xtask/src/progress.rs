//! Progress lines: a spinner a step on a terminal, plain lines elsewhere. A step that is dropped
//! without `done` failed, and says so.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Progress {
    bars: Option<MultiProgress>,
}

#[derive(Debug)]
pub struct Step {
    name: String,
    bars: Option<(MultiProgress, ProgressBar)>,
    started: Instant,
    /// When to say that the step still runs, in seconds since its start; plain lines only.
    next_word: AtomicU64,
    finished: bool,
}

/// A step that takes longer than this is announced in plain output too, so that it looks alive.
const FIRST_WORD: u64 = 10;
const WORD_EVERY: u64 = 60;

impl Progress {
    pub fn new() -> Self {
        Self { bars: std::io::stdout().is_terminal().then(MultiProgress::new) }
    }

    pub fn step(&self, name: impl Into<String>) -> Step {
        let name = name.into();
        let bars = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner().with_message(name.clone()));
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            (bars.clone(), bar)
        });
        Step { name, bars, started: Instant::now(), next_word: AtomicU64::new(FIRST_WORD), finished: false }
    }

    /// One line to the user that does not tear a spinner apart.
    pub fn say(&self, line: impl AsRef<str>) {
        say(self.bars.as_ref(), line.as_ref());
    }
}

impl Step {
    /// What the step is doing right now: the last line of its log, as a rule.
    pub fn detail(&self, detail: &str) {
        if let Some((_, bar)) = &self.bars {
            let short: String = detail.chars().take(60).collect();
            bar.set_message(format!("{} · {short}", self.name));
            return;
        }
        let seconds = self.started.elapsed().as_secs();
        if seconds >= self.next_word.load(Ordering::Relaxed) {
            let later = if seconds < WORD_EVERY { WORD_EVERY } else { seconds + WORD_EVERY };
            self.next_word.store(later, Ordering::Relaxed);
            say(None, &format!("… {} ({seconds} s) {detail}", self.name));
        }
    }

    pub fn done(mut self, what: impl AsRef<str>) -> Duration {
        self.finish('✓', what.as_ref());
        self.started.elapsed()
    }

    fn finish(&mut self, mark: char, what: &str) {
        self.finished = true;
        let dash = if what.is_empty() { "" } else { ": " };
        let line = format!("{mark} {}{dash}{what}  {}", self.name, seconds(self.started.elapsed()));
        match self.bars.take() {
            Some((bars, bar)) => {
                bar.finish_and_clear();
                bars.remove(&bar);
                say(Some(&bars), &line);
            }
            None => say(None, &line),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished {
            self.finish('✗', "");
        }
    }
}

pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// A reader that went away (a closed pipe) must not stop the work, let alone panic.
fn say(bars: Option<&MultiProgress>, line: &str) {
    let shown = bars.is_some_and(|bars| bars.println(line).is_ok());
    if !shown {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}
