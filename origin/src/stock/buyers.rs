//! Who has bought of what is sold out. Promises the refusals of a rush that a shopper who is on no list has no order of the
//! SKU whose repetition this could be, without a look into MySQL for each of them. A list is read when the first such
//! refusal wants it, and thrown away when somebody buys of the SKU, here or at another replica: the follower of the
//! movements (`catalog/follow.rs`) tells, four times a second. Where nobody has followed lately, nothing is promised.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use farmgate_shared::ids::{SkuId, UserId};

/// How old the last look at the movements may be.
const FOLLOWED: Duration = Duration::from_secs(1);
/// From one reading of a list to the next: stock that trickles back must not have it read all the time.
const PACE: Duration = Duration::from_secs(1);
/// A list read so long ago makes room when another one is read.
const KEPT: Duration = Duration::from_secs(60);

/// What is known of a shopper and a SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bought {
    /// They have no order of it that a repetition could mean.
    No,
    /// They may have one.
    Perhaps,
    /// The same, and the list should be read, with this number; nobody else is told so.
    Read(u64),
}

/// The lists of this process.
#[derive(Debug, Default)]
pub struct Buyers {
    lists: RwLock<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    by_sku: HashMap<SkuId, List>,
    followed: Option<Instant>,
    readings: u64,
}

#[derive(Debug)]
struct List {
    state: State,
    /// When it was read last.
    read: Instant,
}

#[derive(Debug)]
enum State {
    Reading(u64),
    Known(HashSet<UserId>),
    /// Too long to keep, when it was read.
    Endless,
    /// Somebody bought since.
    Outdated,
}

impl Lists {
    fn is_followed(&self, now: Instant) -> bool {
        self.followed.is_some_and(|followed| now.duration_since(followed) < FOLLOWED)
    }

    /// The answer, if nothing has to be written for it.
    fn answer(&self, sku: SkuId, user: UserId, now: Instant) -> Option<Bought> {
        if !self.is_followed(now) {
            return Some(Bought::Perhaps);
        }
        let list = self.by_sku.get(&sku)?;
        match &list.state {
            State::Known(users) if !users.contains(&user) => Some(Bought::No),
            State::Outdated if now.duration_since(list.read) >= PACE => None,
            // The week goes on.
            State::Endless if now.duration_since(list.read) >= KEPT => None,
            _ => Some(Bought::Perhaps),
        }
    }
}

impl Buyers {
    /// Whether a shopper may have bought of a SKU.
    pub fn ask(&self, sku: SkuId, user: UserId, now: Instant) -> Bought {
        let known = self.lists.read().unwrap_or_else(PoisonError::into_inner).answer(sku, user, now);
        if let Some(answer) = known {
            return answer;
        }
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        // Another one may have been told meanwhile.
        if let Some(answer) = lists.answer(sku, user, now) {
            return answer;
        }
        lists.readings += 1;
        let reading = lists.readings;
        lists.by_sku.retain(|_, list| now.duration_since(list.read) < KEPT);
        lists.by_sku.insert(sku, List { state: State::Reading(reading), read: now });
        Bought::Read(reading)
    }

    /// What a reading brought: all who bought, or `None` where they are too many. What was bought since it began makes it
    /// worthless.
    pub fn learn(&self, sku: SkuId, reading: u64, users: Option<HashSet<UserId>>) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.by_sku.get_mut(&sku)
            && matches!(list.state, State::Reading(current) if current == reading)
        {
            list.state = users.map_or(State::Endless, State::Known);
        }
    }

    /// A reading that failed: the next refusal tries again.
    pub fn give_up(&self, sku: SkuId, reading: u64) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.by_sku.get_mut(&sku)
            && matches!(list.state, State::Reading(current) if current == reading)
        {
            list.state = State::Outdated;
        }
    }

    /// A look at the movements began at `looked`, and these SKUs had moved since the look before.
    pub fn moved<'a>(&self, skus: impl IntoIterator<Item = &'a SkuId>, looked: Instant) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        lists.followed = Some(looked);
        if lists.by_sku.is_empty() {
            return;
        }
        for sku in skus {
            // One that is endless does not become short by a sale.
            if let Some(list) = lists.by_sku.get_mut(sku).filter(|list| !matches!(list.state, State::Endless))
            {
                list.state = State::Outdated;
            }
        }
    }

    /// The movements cannot be followed: nothing that was read holds any more.
    pub fn forget(&self) {
        *self.lists.write().unwrap_or_else(PoisonError::into_inner) = Lists::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKU: SkuId = SkuId(7);

    fn users(ids: &[i64]) -> Option<HashSet<UserId>> {
        Some(ids.iter().copied().map(UserId).collect())
    }

    fn followed() -> (Buyers, Instant) {
        let (buyers, now) = (Buyers::default(), Instant::now());
        buyers.moved([], now);
        (buyers, now)
    }

    fn reading(answer: Bought) -> u64 {
        let Bought::Read(reading) = answer else { panic!("{answer:?}") };
        reading
    }

    #[test]
    fn one_who_is_on_no_list_has_bought_nothing() {
        let (buyers, now) = followed();
        let first = reading(buyers.ask(SKU, UserId(1), now));
        assert_eq!(buyers.ask(SKU, UserId(1), now), Bought::Perhaps, "one reads, the others are looked up");
        buyers.learn(SKU, first, users(&[1, 2]));
        assert_eq!(buyers.ask(SKU, UserId(1), now), Bought::Perhaps);
        assert_eq!(buyers.ask(SKU, UserId(3), now), Bought::No);
    }

    #[test]
    fn a_sale_ends_a_list_also_while_it_is_read() {
        let (buyers, now) = followed();
        let first = reading(buyers.ask(SKU, UserId(1), now));
        buyers.moved([&SKU], now);
        buyers.learn(SKU, first, users(&[]));
        assert_eq!(buyers.ask(SKU, UserId(1), now), Bought::Perhaps, "read before the sale, perhaps");
        let later = now + PACE;
        buyers.moved([], later);
        let second = reading(buyers.ask(SKU, UserId(1), later));
        buyers.learn(SKU, second, users(&[]));
        assert_eq!(buyers.ask(SKU, UserId(1), later), Bought::No);
        buyers.moved([&SKU, &SkuId(8)], later);
        assert_eq!(buyers.ask(SKU, UserId(1), later), Bought::Perhaps);
    }

    #[test]
    fn nothing_is_promised_while_nobody_follows() {
        let (buyers, now) = (Buyers::default(), Instant::now());
        assert_eq!(buyers.ask(SKU, UserId(1), now), Bought::Perhaps, "never followed");
        buyers.moved([], now);
        let first = reading(buyers.ask(SKU, UserId(1), now));
        buyers.learn(SKU, first, users(&[]));
        assert_eq!(buyers.ask(SKU, UserId(1), now), Bought::No);
        assert_eq!(buyers.ask(SKU, UserId(1), now + FOLLOWED), Bought::Perhaps, "not lately");
        buyers.moved([], now);
        buyers.forget();
        assert_eq!(buyers.ask(SKU, UserId(1), now), Bought::Perhaps, "the movements were rewritten");
    }

    #[test]
    fn a_reading_that_failed_is_tried_again_and_one_too_long_a_while_later() {
        let (buyers, now) = followed();
        let first = reading(buyers.ask(SKU, UserId(1), now));
        buyers.give_up(SKU, first);
        let later = now + PACE;
        buyers.moved([], later);
        let second = reading(buyers.ask(SKU, UserId(1), later));
        buyers.learn(SKU, first, users(&[]));
        assert_eq!(buyers.ask(SKU, UserId(1), later), Bought::Perhaps, "the answer of the first reading");
        buyers.learn(SKU, second, None);
        buyers.moved([&SKU], later);
        assert_eq!(buyers.ask(SKU, UserId(1), later), Bought::Perhaps);
        buyers.moved([], later + KEPT);
        reading(buyers.ask(SKU, UserId(1), later + KEPT));
    }
}
