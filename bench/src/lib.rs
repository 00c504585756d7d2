//! The benchmark of orders, and the harness that must be able to see an oversell. Promises that everybody is measured by
//! the same load, over the same number of connections, on the same durable servers, and that what is counted is what
//! the operating system and the databases say. `cargo xtask bench` starts the servers; docs/BENCH.md says how to read
//! the result.

pub mod audit;
pub mod bare;
pub mod batch;
pub mod catalog;
pub mod commit;
pub mod contest;
pub mod edge;
pub mod fsyncs;
pub mod http;
pub mod load;
pub mod names;
pub mod order;
pub mod oversell;
pub mod peer;
pub mod plan;
pub mod procs;
pub mod produce;
pub mod ratios;
pub mod reads;
pub mod reads_report;
pub mod reconcile;
pub mod report;
pub mod search;
pub mod shop;
pub mod sign;
pub mod stats;
pub mod storm;
pub mod stub;
pub mod target;
pub mod verdict;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// At least 16 letters and digits that nothing else on this machine makes.
#[must_use]
pub fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static PREFIX: LazyLock<String> = LazyLock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{:x}x{:x}x", std::process::id(), since.as_nanos())
    });
    format!("{}{:x}", *PREFIX, COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::unique;

    #[test]
    fn a_nonce_is_new_and_of_the_form_that_the_origin_takes() {
        let (first, second) = (unique(), unique());
        assert_ne!(first, second);
        assert!((16..=64).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_alphanumeric()));
    }
}
