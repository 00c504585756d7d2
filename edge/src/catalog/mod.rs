//! Catalogue reads, answered from memory. Promises a shopper that what they see is never old for long while the
//! origin answers, and that they see something while it does not; and promises the origin that it hears a question once
//! a life, mostly only for the stock on a page. Only replies that are the same for everybody come in here.

mod overlay;
mod page;
mod read;
mod turns;

use std::rc::Rc;

use farmgate_shared::api::catalog::{SkuStock, StockQuery};

pub use self::overlay::Overlay;
pub use self::page::{Page, names_etag};
pub use self::read::{Lives, Read, is_trace_code, parse_reviews};
pub use self::turns::Turn;

use self::read::{MISSING, WITHOUT_STOCK};
use self::turns::Turns;
use crate::cache::{Lru, Place};

/// Bytes of pages that one isolate keeps; its host allows it 128 MB for everything.
const MEMORY_BYTES: usize = 32 * 1024 * 1024;
/// Longest reply that is kept.
pub const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// What a page costs besides its body.
const PAGE_OVERHEAD_BYTES: usize = 512;

/// While the origin fails, a page this old is still better than none.
const STALE: u64 = 24 * 3600 * 1000;
/// An origin that takes longer than this is slow: old pages are given at once instead of each waiting for it.
pub const SLOW: u64 = 800;
/// After a failure or a slow answer old pages are given at once for so long.
const LATE: u64 = 5000;
/// Least time between two questions for the same page to an origin that fails, and the longest that one question can
/// keep another from being asked. Time, not a flag: a host may drop a refresh half-way.
const ASK_AGAIN: u64 = 1000;
/// The longest that anything waits for the origin.
pub const PATIENCE: u64 = 5000;

/// How far a clock may be set back without a word, in milliseconds.
const SET_BACK: u64 = 1000;

/// How long ago `at` was. What a clock that was set back says is yet to come is taken for long ago, so that nothing is
/// believed, or waited for, until the old time comes round again.
fn since(at: u64, now: u64) -> u64 {
    match now.checked_sub(at) {
        Some(age) => age,
        None if at - now <= SET_BACK => 0,
        None => u64::MAX,
    }
}

#[derive(Debug)]
struct Kept<B> {
    page: Rc<Page<B>>,
    overlay: Option<Overlay>,
    lives: Lives,
    /// When it, or only its stock, was asked for, not when it came: what the origin saw may be as old as that.
    asked: u64,
    /// Since when a refresh has been under way.
    refreshing: Option<u64>,
    /// When the last refresh started, or failed; no other starts for a while.
    tried: u64,
}

/// A page as the origin gave it.
#[derive(Debug)]
pub struct Answered<B> {
    pub page: Rc<Page<B>>,
    /// Its stock, when that can be asked for apart.
    pub overlay: Option<Overlay>,
    /// The version of the catalogue, when the origin named it.
    pub version: Option<i64>,
    pub asked: u64,
}

/// What the catalogue's memory says to a read.
#[derive(Debug)]
pub enum Look<B> {
    /// Give this.
    Hit(Rc<Page<B>>),
    /// Give this, which is older than it should be because the origin fails or is slow; its age in milliseconds.
    Stale(Rc<Page<B>>, u64),
    /// Ask the origin now; if it fails, this is what is left, and its age.
    Ask(Option<(Rc<Page<B>>, u64)>),
}

/// A [`Look`] and whether a refresh is due beside it.
#[derive(Debug)]
pub struct Found<B> {
    pub look: Look<B>,
    pub refresh_due: bool,
}

/// The pages of one isolate. Times are milliseconds since 1970.
#[derive(Debug)]
pub struct Catalog<B> {
    pages: Lru<Kept<B>>,
    turns: Turns,
    /// When the origin last failed, or was slow; zero when it has been in time since.
    late: u64,
    /// The version that the origin last named, and when it was asked.
    version: Option<(i64, u64)>,
}

impl<B> Default for Catalog<B> {
    fn default() -> Self {
        Catalog { pages: Lru::new(MEMORY_BYTES), turns: Turns::default(), late: 0, version: None }
    }
}

impl<B> Kept<B> {
    fn look(&self, now: u64, is_late: bool) -> Found<B> {
        let age = since(self.asked, now);
        let is_due = since(self.tried, now) >= ASK_AGAIN;
        let page = Rc::clone(&self.page);
        let is_slow = self.refreshing.is_some_and(|began| (SLOW..PATIENCE).contains(&since(began, now)));
        if age < self.lives.fresh {
            Found { look: Look::Hit(page), refresh_due: false }
        } else if age < self.lives.fresh + self.lives.grace {
            Found { look: Look::Hit(page), refresh_due: is_due }
        } else if age >= STALE {
            Found { look: Look::Ask(None), refresh_due: false }
        } else if is_late || is_slow {
            Found { look: Look::Stale(page, age), refresh_due: is_due }
        } else {
            Found { look: Look::Ask(Some((page, age))), refresh_due: false }
        }
    }
}

impl<B> Catalog<B> {
    /// What to do about a read. Starts nothing: whoever acts on `refresh_due` says so by [`Catalog::refreshing`].
    pub fn look(&mut self, key: &str, now: u64) -> Found<B> {
        let is_late = since(self.late, now) < LATE;
        match self.pages.get_mut(key) {
            Some(kept) => kept.look(now, is_late),
            None => Found { look: Look::Ask(None), refresh_due: false },
        }
    }

    /// The same of a page that was found before, or `None` when it is no longer there.
    pub fn look_at(&mut self, place: Place, now: u64) -> Option<Found<B>> {
        let is_late = since(self.late, now) < LATE;
        Some(self.pages.at_mut(place)?.look(now, is_late))
    }

    /// Where the page is, for [`Catalog::look_at`].
    #[must_use]
    pub fn place(&self, key: &str) -> Option<Place> {
        self.pages.place(key)
    }

    /// A refresh of this page has started: no other does for a while.
    pub fn refreshing(&mut self, key: &str, now: u64) {
        if let Some(kept) = self.pages.get_mut(key) {
            kept.refreshing = Some(now);
            kept.tried = now;
        }
    }

    /// Whether the read that came at `came` is the one to ask the origin for this page.
    pub fn enter(&mut self, key: &str, came: u64, now: u64) -> Turn {
        self.turns.enter(key, came, now)
    }

    /// The origin has answered with something that is not kept.
    pub fn leave(&mut self, key: &str) {
        self.turns.end(key);
    }

    /// What to ask so that the kept page need not be fetched again: its version, and whose stock.
    #[must_use]
    pub fn stock_question(&mut self, key: &str) -> Option<(i64, StockQuery)> {
        let overlay = self.pages.get_mut(key)?.overlay.as_ref()?;
        Some((overlay.version(), overlay.question()))
    }

    /// The origin has answered the stock question that was asked at `asked`. `None` when the page is of another version,
    /// or gone, and must be fetched as a whole; else the page with that stock, for which `body` makes a body of its
    /// bytes when a number changed.
    pub fn restock(
        &mut self,
        key: &str,
        version: i64,
        stocks: &[SkuStock],
        (asked, now): (u64, u64),
        body: impl FnOnce(&[u8]) -> B,
    ) -> Option<Rc<Page<B>>> {
        self.heard(Some(version), asked, now);
        let kept = self.pages.get_mut(key)?;
        let overlay = kept.overlay.as_mut().filter(|overlay| overlay.version() == version)?;
        // An answer that was overtaken by a later one changes nothing.
        if kept.asked <= asked || since(kept.asked, now) >= STALE {
            if overlay.set(stocks) {
                let bytes = overlay.bytes();
                kept.page = Rc::new(Page::found(body(bytes), bytes));
            }
            kept.asked = asked;
            kept.refreshing = None;
            kept.tried = 0;
        }
        self.turns.end(key);
        Some(Rc::clone(&kept.page))
    }

    /// The origin has answered with a page. One that was overtaken by a later one is not kept.
    pub fn keep(&mut self, read: &Read, answered: Answered<B>, now: u64) {
        self.heard(answered.version, answered.asked, now);
        self.turns.end(&read.path_and_query());
        self.put(read, answered, now);
    }

    /// Keeps a page that did not come from the origin just now.
    pub fn put(&mut self, read: &Read, answered: Answered<B>, now: u64) {
        let Answered { page, overlay, asked, .. } = answered;
        let key = read.path_and_query();
        let is_overtaken = |kept: &mut Kept<B>| kept.asked > asked && since(kept.asked, now) < STALE;
        if page.length() > MAX_PAGE_BYTES || self.pages.get_mut(&key).is_some_and(is_overtaken) {
            return;
        }
        let lives = match *page {
            Page::Found { .. } => read.lives(),
            Page::Missing(_) => MISSING,
        };
        let template = overlay.as_ref().map_or(0, |overlay| overlay.bytes().len());
        let weight = page.length() + template + key.len() + PAGE_OVERHEAD_BYTES;
        let kept = Kept { page, overlay, lives, asked, refreshing: None, tried: 0 };
        self.pages.insert(&key, kept, weight);
    }

    /// The version of the catalogue, if the origin named it so lately that a page of it is good without asking.
    #[must_use]
    pub fn current_version(&self, now: u64) -> Option<(i64, u64)> {
        self.version.filter(|(_, asked)| since(*asked, now) < WITHOUT_STOCK.fresh)
    }

    fn heard(&mut self, version: Option<i64>, asked: u64, now: u64) {
        self.late = if since(asked, now) < SLOW { 0 } else { now };
        if let Some(version) = version
            .filter(|_| self.version.is_none_or(|(_, before)| before <= asked || since(before, now) >= STALE))
        {
            self.version = Some((version, asked));
        }
    }

    /// The origin did not answer, or answered with a failure.
    pub fn failed(&mut self, key: &str, now: u64) {
        self.late = now;
        self.turns.fail(key, now);
        if let Some(kept) = self.pages.get_mut(key) {
            kept.refreshing = None;
            kept.tried = now;
        }
    }
}

#[cfg(test)]
mod tests;
