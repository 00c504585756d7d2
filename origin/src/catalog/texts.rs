//! The texts of a catalogue, each held once however many products share it. Promises a snapshot that a text costs its
//! bytes and four more, and a snapshot that follows another that what did not change is shared and not copied.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::TooLarge;

/// Bytes from which a chunk is closed.
const CHUNK_BYTES: usize = 1 << 20;
/// A number of a text is the number of its chunk and, in so many bits, its place there.
const PLACE_BITS: u32 = 18;
const PLACES: usize = 1 << PLACE_BITS;

/// A text of one [`Texts`]. Equal texts have equal numbers, but for those of two chunks that a worn store left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TextId(u32);

/// Texts, one after the other.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Box<str>,
    /// Where each text ends.
    ends: Box<[u32]>,
}

/// What [`TextId`]s stand for.
#[derive(Debug, Default)]
pub struct Texts {
    chunks: Vec<Arc<Chunk>>,
    /// Most of what is held is no longer used: the next store is made from nothing.
    is_worn: bool,
}

impl Texts {
    pub fn get(&self, id: TextId) -> &str {
        text(&self.chunks, id)
    }
}

fn text(chunks: &[Arc<Chunk>], TextId(id): TextId) -> &str {
    // Widening; a chunk and a place are far below u32::MAX.
    let (chunk, place) = ((id >> PLACE_BITS) as usize, id as usize & (PLACES - 1));
    let Some(chunk) = chunks.get(chunk) else { return "" };
    piece(&chunk.bytes, &chunk.ends, place)
}

fn piece<'a>(bytes: &'a str, ends: &[u32], place: usize) -> &'a str {
    let start = place.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied());
    let range = start.zip(ends.get(place)).map(|(start, end)| start as usize..*end as usize);
    range.and_then(|range| bytes.get(range)).unwrap_or_default()
}

/// A place in the table by which texts are found again.
#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    id: TextId,
    /// Asked for since the table was made.
    is_used: bool,
}

/// Takes texts in and says under which number each is held.
#[derive(Debug)]
pub struct TextsBuilder {
    chunks: Vec<Arc<Chunk>>,
    open_bytes: String,
    open_ends: Vec<u32>,
    /// Open addressing; a power of two, at most three quarters full.
    slots: Vec<Option<Slot>>,
    held: usize,
    hasher: RandomState,
    inherited_bytes: usize,
    used_bytes: usize,
}

impl TextsBuilder {
    /// Shares what `previous` holds, unless most of that went out of use.
    pub fn over(previous: &Texts) -> Result<TextsBuilder, TooLarge> {
        // Small chunks are what single edits left behind: what is still used of them is taken in again, into one.
        let is_large = |chunk: &&Arc<Chunk>| chunk.bytes.len() >= CHUNK_BYTES / 2;
        let inherited: Vec<Arc<Chunk>> = if previous.is_worn {
            Vec::new()
        } else {
            previous.chunks.iter().filter(is_large).cloned().collect()
        };
        let mut builder = TextsBuilder {
            chunks: Vec::with_capacity(inherited.len() + 1),
            open_bytes: String::new(),
            open_ends: Vec::new(),
            slots: vec![None; 1024],
            held: 0,
            hasher: RandomState::new(),
            inherited_bytes: inherited.iter().map(|chunk| chunk.bytes.len()).sum(),
            used_bytes: 0,
        };
        for chunk in inherited {
            let number = builder.chunks.len();
            builder.chunks.push(chunk.clone());
            for place in 0..chunk.ends.len() {
                let hash = builder.hash(piece(&chunk.bytes, &chunk.ends, place));
                builder.hold(Slot { hash, id: id_of(number, place)?, is_used: false });
            }
        }
        Ok(builder)
    }

    /// The number of this text.
    pub fn intern(&mut self, wanted: &str) -> Result<TextId, TooLarge> {
        let hash = self.hash(wanted);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while let Some(slot) = self.slots.get(at).copied().flatten() {
            if slot.hash == hash && self.held_text(slot.id) == wanted {
                if !slot.is_used
                    && let Some(Some(slot)) = self.slots.get_mut(at)
                {
                    slot.is_used = true;
                    self.used_bytes += wanted.len();
                }
                return Ok(slot.id);
            }
            at = (at + 1) & mask;
        }
        if self.open_bytes.len() >= CHUNK_BYTES || self.open_ends.len() >= PLACES {
            self.close_chunk();
        }
        let id = id_of(self.chunks.len(), self.open_ends.len())?;
        self.open_bytes.push_str(wanted);
        self.open_ends.push(u32::try_from(self.open_bytes.len()).map_err(|_| TooLarge)?);
        self.hold(Slot { hash, id, is_used: true });
        Ok(id)
    }

    /// What was taken in under this number.
    fn held_text(&self, TextId(id): TextId) -> &str {
        if (id >> PLACE_BITS) as usize == self.chunks.len() {
            piece(&self.open_bytes, &self.open_ends, id as usize & (PLACES - 1))
        } else {
            text(&self.chunks, TextId(id))
        }
    }

    pub fn finish(mut self) -> Texts {
        if !self.open_ends.is_empty() {
            self.close_chunk();
        }
        let is_worn = self.used_bytes < self.inherited_bytes / 2;
        Texts { chunks: self.chunks, is_worn }
    }

    fn close_chunk(&mut self) {
        let bytes = std::mem::take(&mut self.open_bytes).into_boxed_str();
        let ends = std::mem::take(&mut self.open_ends).into_boxed_slice();
        self.chunks.push(Arc::new(Chunk { bytes, ends }));
    }

    #[allow(clippy::cast_possible_truncation, reason = "any 32 bits of a good hash are a good hash")]
    fn hash(&self, text: &str) -> u32 {
        self.hasher.hash_one(text) as u32
    }

    fn hold(&mut self, slot: Slot) {
        self.held += 1;
        if self.held * 4 > self.slots.len() * 3 {
            let larger = vec![None; self.slots.len() * 2];
            let old = std::mem::replace(&mut self.slots, larger);
            for slot in old.into_iter().flatten() {
                place(&mut self.slots, slot);
            }
        }
        place(&mut self.slots, slot);
    }
}

fn place(slots: &mut [Option<Slot>], slot: Slot) {
    let mask = slots.len() - 1;
    let mut at = slot.hash as usize & mask;
    while let Some(Some(_)) = slots.get(at) {
        at = (at + 1) & mask;
    }
    if let Some(free) = slots.get_mut(at) {
        *free = Some(slot);
    }
}

fn id_of(chunk: usize, place: usize) -> Result<TextId, TooLarge> {
    let chunk = u32::try_from(chunk).ok().filter(|chunk| *chunk < 1 << (32 - PLACE_BITS));
    let place = u32::try_from(place).ok().filter(|place| *place < 1 << PLACE_BITS);
    chunk.zip(place).map(|(chunk, place)| TextId((chunk << PLACE_BITS) | place)).ok_or(TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(previous: &Texts, texts: &[String]) -> (Texts, Vec<TextId>) {
        let mut builder = TextsBuilder::over(previous).unwrap();
        let ids = texts.iter().map(|text| builder.intern(text).unwrap()).collect();
        (builder.finish(), ids)
    }

    fn many(name: &str) -> Vec<String> {
        (0..20_000).map(|number| format!("{name}{number}{}", "苹果".repeat(20))).collect()
    }

    #[test]
    fn a_text_is_found_under_its_number_and_held_once() {
        let mut texts = many("果");
        texts.extend(["".to_owned(), "果".to_owned(), texts[7].clone()]);
        let (store, ids) = built(&Texts::default(), &texts);
        for (text, id) in texts.iter().zip(&ids) {
            assert_eq!(store.get(*id), text);
        }
        assert_eq!(ids[7], ids[20_002]);
        let bytes: usize = store.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        assert_eq!(bytes, texts.iter().map(String::len).sum::<usize>() - texts[7].len());
        assert!(store.chunks.len() > 2);
    }

    #[test]
    fn what_did_not_change_is_shared_with_the_store_before() {
        let mut texts = many("果");
        let (first, _) = built(&Texts::default(), &texts);
        texts[5] = "新".to_owned();
        let (second, ids) = built(&first, &texts);
        let is_shared = |chunk: &&Arc<Chunk>| first.chunks.iter().any(|other| Arc::ptr_eq(chunk, other));
        assert_eq!(second.chunks.iter().filter(is_shared).count(), first.chunks.len() - 1);
        assert!(texts.iter().zip(&ids).all(|(text, id)| second.get(*id) == text));
    }

    #[test]
    fn many_small_edits_leave_no_trail_of_chunks() {
        let mut texts = many("果");
        let (mut store, _) = built(&Texts::default(), &texts);
        let at_first = store.chunks.len();
        for edit in 0..50 {
            texts[edit] = format!("新{edit}");
            store = built(&store, &texts).0;
        }
        assert!(store.chunks.len() <= at_first + 1, "{} chunks", store.chunks.len());
    }

    #[test]
    fn a_store_that_went_out_of_use_is_left_behind() {
        let (first, _) = built(&Texts::default(), &many("果"));
        let (second, _) = built(&first, &many("菜"));
        assert!(second.is_worn);
        let (third, _) = built(&second, &many("菜"));
        let bytes: usize = third.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        assert_eq!(bytes, many("菜").iter().map(String::len).sum::<usize>());
        assert!(!third.is_worn);
    }
}
