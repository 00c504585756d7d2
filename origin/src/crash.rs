//! Named points at which a test may have this process die as a power cut would leave it. Promises the crash tests that
//! the process is gone at exactly the point they named, and everybody else that a release binary has none of this.
//!
//! `FARMGATE_CRASH_AT=after_gate:3` ends a debug build with SIGKILL when it passes `after_gate` for the third time;
//! without a number, at the first.

/// A place in the code whose crash leaves something of its own to mend. docs/STOCK.md says what mends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The gate has taken an order's goods; MySQL knows nothing yet.
    AfterGate,
    /// The order's rows are written and its stock is held; nothing is committed.
    InBatch,
    /// The order is made for good; its hold still stands and nobody was told.
    AfterCommit,
    /// A hold without a maker is buried and not given back yet.
    InSweeper,
    /// An order is cancelled for good; the gate does not have its goods back yet.
    AfterCancelCommit,
    /// Deliveries are written; no stream knows of them yet.
    OutboxBeforeSend,
    /// Events are in their stream; nobody was told that they are.
    OutboxAfterSend,
    /// A consumer's effect is committed; its entry in the stream is not ended.
    OutboxAfterEffect,
    /// A notification is kept; nothing was done about it.
    NotificationKept,
    /// What a notification says is recorded for good; WeChat was not told so.
    NotificationDone,
    /// A refund is claimed; WeChat was not asked yet.
    RefundBeforeCall,
    /// WeChat has answered about a refund; nothing of it is recorded.
    RefundAfterCall,
    /// An order is refunded for good; the gate does not have its goods back yet.
    AfterRefundCommit,
    /// A consumer's call was made; nothing of it is written.
    OutboxAfterCall,
}

/// Ends the process here if that was asked for.
#[cfg(debug_assertions)]
pub fn point(point: Point) {
    armed::pass(point);
}

/// Nothing: a release binary has no such points.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: Point) {}

/// Whether this process may die at a point: so that what is one step elsewhere is two where a test wants to come between.
#[cfg(debug_assertions)]
pub fn is_armed(point: Point) -> bool {
    armed::is_armed(point)
}

/// Never.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn is_armed(_: Point) -> bool {
    false
}

#[cfg(debug_assertions)]
pub use armed::arm;

/// Nothing: a release binary has no such points.
///
/// # Errors
/// Never; in debug builds when the variable names no point.
#[cfg(not(debug_assertions))]
pub fn arm() -> anyhow::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::{Context, anyhow, ensure};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::Point;

    const VARIABLE: &str = "FARMGATE_CRASH_AT";

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Where this process is to die.
    #[derive(Debug)]
    struct Armed {
        at: Point,
        /// How many times the point was passed so far.
        passed: AtomicU32,
        /// The one that is the last.
        last: u32,
    }

    impl Point {
        const ALL: [Point; 14] = [
            Point::AfterGate,
            Point::InBatch,
            Point::AfterCommit,
            Point::InSweeper,
            Point::AfterCancelCommit,
            Point::OutboxBeforeSend,
            Point::OutboxAfterSend,
            Point::OutboxAfterEffect,
            Point::NotificationKept,
            Point::NotificationDone,
            Point::RefundBeforeCall,
            Point::RefundAfterCall,
            Point::AfterRefundCommit,
            Point::OutboxAfterCall,
        ];

        /// What tests call it.
        fn name(self) -> &'static str {
            match self {
                Point::AfterGate => "after_gate",
                Point::InBatch => "in_batch",
                Point::AfterCommit => "after_commit",
                Point::InSweeper => "in_sweeper",
                Point::AfterCancelCommit => "after_cancel_commit",
                Point::OutboxBeforeSend => "outbox_before_send",
                Point::OutboxAfterSend => "outbox_after_send",
                Point::OutboxAfterEffect => "outbox_after_effect",
                Point::NotificationKept => "notification_kept",
                Point::NotificationDone => "notification_done",
                Point::RefundBeforeCall => "refund_before_call",
                Point::RefundAfterCall => "refund_after_call",
                Point::AfterRefundCommit => "after_refund_commit",
                Point::OutboxAfterCall => "outbox_after_call",
            }
        }
    }

    impl Armed {
        fn parse(text: &str) -> anyhow::Result<Armed> {
            let (name, last) = match text.split_once(':') {
                Some((name, count)) => (name, count.parse().with_context(|| format!("{count} is no count"))?),
                None => (text, 1),
            };
            ensure!(last >= 1, "a point is passed at least once");
            let names = || Point::ALL.map(Point::name).join(", ");
            let at = Point::ALL.into_iter().find(|point| point.name() == name);
            let at = at.ok_or_else(|| anyhow!("{name} is none of {}", names()))?;
            Ok(Armed { at, passed: AtomicU32::new(0), last })
        }

        /// Whether this is the passing that was asked for.
        fn is_due(&self, point: Point) -> bool {
            point == self.at && self.passed.fetch_add(1, Ordering::Relaxed) + 1 == self.last
        }
    }

    /// Reads where this process is to die, once, before it serves.
    ///
    /// # Errors
    /// When the variable names no point or no count: a test that waits for a death must not wait in vain.
    pub fn arm() -> anyhow::Result<()> {
        let Some(text) = std::env::var_os(VARIABLE) else { return Ok(()) };
        let text = text.into_string().map_err(|_| anyhow!("{VARIABLE} is no text"))?;
        let armed = Armed::parse(&text).context(VARIABLE)?;
        ARMED.set(armed).map_err(|_| anyhow!("{VARIABLE} is read once, by `main`"))
    }

    pub fn is_armed(point: Point) -> bool {
        ARMED.get().is_some_and(|armed| armed.at == point)
    }

    pub fn pass(point: Point) {
        if ARMED.get().is_some_and(|armed| armed.is_due(point)) {
            die();
        }
    }

    /// No destructor, no buffer, no goodbye to a server.
    fn die() -> ! {
        // The signal ends every thread, this one perhaps not first; what goes wrong instead is as final.
        if kill(Pid::this(), Signal::SIGKILL).is_err() {
            std::process::abort();
        }
        loop {
            std::thread::park();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_point_is_found_by_its_name() {
            for point in Point::ALL {
                let armed = Armed::parse(point.name()).unwrap();
                assert_eq!((armed.at, armed.last), (point, 1));
                let armed = Armed::parse(&format!("{}:12", point.name())).unwrap();
                assert_eq!((armed.at, armed.last), (point, 12));
            }
        }

        #[test]
        fn a_misspelt_point_is_refused_and_the_right_ones_are_named() {
            let error = format!("{:#}", Armed::parse("after_gates").unwrap_err());
            assert!(error.contains("after_gates") && error.contains("after_gate, in_batch"), "{error}");
            for wrong in
                ["", ":", "after_gate:", "after_gate:0", "after_gate:-1", "after_gate:x", "after_gate:1:2"]
            {
                assert!(Armed::parse(wrong).is_err(), "{wrong:?}");
            }
        }

        #[test]
        fn only_the_asked_for_passing_of_the_asked_for_point_is_due() {
            let armed = Armed::parse("after_commit:3").unwrap();
            let passings = [Point::AfterCommit, Point::AfterGate, Point::AfterCommit, Point::AfterCommit];
            assert_eq!(passings.map(|point| armed.is_due(point)), [false, false, false, true]);
            assert!(!armed.is_due(Point::AfterCommit), "it would have died already");
        }
    }
}
