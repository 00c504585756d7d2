//! Everyone who wants to know. A new consumer is a file with its `CONSUMER`, and a line here. It gets what happens from then
//! on; an event of a kind that nobody wanted is recorded as handed out.

use super::model::Consumer;

pub static CONSUMERS: [Consumer; 6] = [
    crate::timeline::CONSUMER,
    crate::sales::CONSUMER,
    crate::refunds::CONSUMER,
    crate::shipments::upload::CONSUMER,
    crate::messages::CONSUMER,
    crate::reviews::CONSUMER,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_their_column_and_are_unique() {
        let mut names: Vec<&str> = CONSUMERS.iter().map(|consumer| consumer.name).collect();
        for name in &names {
            assert!((1..=32).contains(&name.len()), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CONSUMERS.len());
        assert!(CONSUMERS.iter().all(|consumer| !consumer.wants.is_empty()));
    }
}
