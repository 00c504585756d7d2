//! Who asks the origin when many want the same page that nobody has. A request cannot await another's promise, since
//! the runtime ties each to its own; so one has the turn, and the others look into the memory again by timers of their
//! own. A turn ends by itself after a while, because the request that has it may be cancelled without a word.

use std::collections::HashMap;

use super::{ASK_AGAIN, since};

/// Most pages that are waited for at once; beyond that everything is forgotten, which costs questions, not answers.
const MOST: usize = 1024;

/// What a read that found no page is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Ask the origin.
    Mine,
    /// Another asks: look again soon.
    Another,
    /// Another asked while this one waited, in vain.
    Failed,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Since(u64),
    FailedAt(u64),
}

#[derive(Debug, Default)]
pub struct Turns {
    asked: HashMap<String, Asked>,
}

impl Turns {
    /// Whose turn it is to ask for `key`, to a read that came at `came`.
    pub fn enter(&mut self, key: &str, came: u64, now: u64) -> Turn {
        match self.asked.get(key) {
            Some(Asked::Since(at)) if since(*at, now) < ASK_AGAIN => return Turn::Another,
            Some(Asked::FailedAt(at)) if *at > came && since(*at, now) < ASK_AGAIN => return Turn::Failed,
            _ => {}
        }
        self.set(key, Asked::Since(now), now);
        Turn::Mine
    }

    /// The origin answered.
    pub fn end(&mut self, key: &str) {
        self.asked.remove(key);
    }

    /// The origin failed: those who wait need not wait longer.
    pub fn fail(&mut self, key: &str, now: u64) {
        if self.asked.contains_key(key) {
            self.set(key, Asked::FailedAt(now), now);
        }
    }

    fn set(&mut self, key: &str, asked: Asked, now: u64) {
        if self.asked.len() >= MOST {
            self.asked.retain(|_, asked| {
                let (Asked::Since(at) | Asked::FailedAt(at)) = *asked;
                since(at, now) < ASK_AGAIN
            });
            if self.asked.len() >= MOST {
                self.asked.clear();
            }
        }
        self.asked.insert(key.to_owned(), asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_and_the_others_look_again() {
        let mut turns = Turns::default();
        assert_eq!(turns.enter("a", 0, 0), Turn::Mine);
        assert_eq!(turns.enter("a", 1, 1), Turn::Another);
        assert_eq!(turns.enter("b", 1, 1), Turn::Mine);
        turns.end("a");
        assert_eq!(turns.enter("a", 1, 2), Turn::Mine, "what came was not kept, or is old by now");
    }

    #[test]
    fn a_request_that_was_cancelled_keeps_its_turn_only_for_a_while() {
        let mut turns = Turns::default();
        assert_eq!(turns.enter("a", 0, 0), Turn::Mine);
        assert_eq!(turns.enter("a", 5, ASK_AGAIN - 1), Turn::Another);
        assert_eq!(turns.enter("a", 5, ASK_AGAIN), Turn::Mine);
        assert_eq!(turns.enter("a", 6, ASK_AGAIN + 1), Turn::Another);
    }

    #[test]
    fn a_failure_ends_the_waiting_of_those_who_came_before_it_and_of_nobody_else() {
        let mut turns = Turns::default();
        assert_eq!(turns.enter("a", 0, 0), Turn::Mine);
        turns.fail("a", 10);
        assert_eq!(turns.enter("a", 5, 12), Turn::Failed);
        assert_eq!(turns.enter("a", 10, 12), Turn::Mine, "errors are not cached");
        turns.fail("b", 10);
        assert_eq!(turns.enter("b", 5, 12), Turn::Mine, "nobody had asked");
    }

    #[test]
    fn memory_is_bounded() {
        let mut turns = Turns::default();
        for number in 0..5000_u64 {
            turns.enter(&number.to_string(), number / 3, number / 3);
            turns.fail(&number.to_string(), number / 3);
            assert!(turns.asked.len() <= MOST);
        }
    }
}
