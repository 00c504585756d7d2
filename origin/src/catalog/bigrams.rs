//! Which of many short texts contain a word. Promises exactly what a scan of all texts would find, for words of any
//! length and script: two neighbouring characters lead to the texts that have them, and longer words are looked for in
//! the texts that are left.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::TooLarge;
use super::postings::{Counting, Postings};

/// Bits of a character; the second is this where a text ends, so that each character begins a pair.
const CHAR_BITS: u32 = 21;
const END: u64 = 0x1f_ffff;
/// Looking into a text costs as much as decoding so many entries of a list.
const LOOK: usize = 24;

/// Pairs of characters, and the texts that have them.
#[derive(Debug, Default)]
pub struct Bigrams {
    /// Ascending, each with the number of its list.
    keys: Box<[u64]>,
    lists: Box<[u32]>,
    postings: Postings,
    texts: u32,
}

impl Bigrams {
    /// `text_of` gives the texts `0..texts`, folded as the words will be.
    pub fn new<'a>(texts: u32, text_of: impl Fn(u32) -> &'a str) -> Result<Bigrams, TooLarge> {
        let mut numbers: HashMap<u64, u32, BuildHasherDefault<Multiply>> = HashMap::default();
        let mut counting = Counting::default();
        for text in 0..texts {
            for key in pairs(text_of(text)) {
                let next = u32::try_from(numbers.len()).map_err(|_| TooLarge)?;
                counting.add(*numbers.entry(key).or_insert(next), text);
            }
        }
        let mut writing = counting.into_writing()?;
        for text in 0..texts {
            for key in pairs(text_of(text)) {
                if let Some(list) = numbers.get(&key) {
                    writing.add(*list, text);
                }
            }
        }
        let mut sorted: Vec<(u64, u32)> = numbers.into_iter().collect();
        sorted.sort_unstable();
        let (keys, lists): (Vec<u64>, Vec<u32>) = sorted.into_iter().unzip();
        Ok(Bigrams { keys: keys.into(), lists: lists.into(), postings: writing.finish(), texts })
    }

    /// The texts that contain `word`, ascending; all of them for an empty word.
    pub fn find<'a>(&self, word: &str, text_of: impl Fn(u32) -> &'a str) -> Vec<u32> {
        let mut characters = word.chars();
        match (characters.next(), characters.next(), characters.next()) {
            (None, ..) => (0..self.texts).collect(),
            (Some(only), None, _) => self.with_character(only),
            (Some(first), Some(second), None) => self
                .list(pair(first, Some(second)))
                .map_or_else(Vec::new, |list| self.postings.rows(list).collect()),
            _ => self.with_word(word, text_of),
        }
    }

    fn list(&self, key: u64) -> Option<u32> {
        self.keys.binary_search(&key).ok().and_then(|at| self.lists.get(at)).copied()
    }

    fn with_character(&self, character: char) -> Vec<u32> {
        let from = self.keys.partition_point(|key| *key < u64::from(u32::from(character)) << CHAR_BITS);
        let to = self.keys.partition_point(|key| *key < (u64::from(u32::from(character)) + 1) << CHAR_BITS);
        let mut found = Marks::new(self.texts);
        for list in self.lists.get(from..to).unwrap_or_default() {
            found.set_all(self.postings.rows(*list));
        }
        found.rows()
    }

    fn with_word<'a>(&self, word: &str, text_of: impl Fn(u32) -> &'a str) -> Vec<u32> {
        let mut lists = Vec::new();
        for key in pairs(word) {
            // The last character's pair is with whatever follows it in the text.
            if key & END == END {
                break;
            }
            let Some(list) = self.list(key) else { return Vec::new() };
            lists.push(list);
        }
        lists.sort_unstable_by_key(|list| (self.postings.length(*list), *list));
        lists.dedup();
        let mut rest = lists.into_iter();
        let mut found: Vec<u32> =
            rest.next().map(|shortest| self.postings.rows(shortest).collect()).unwrap_or_default();
        for list in rest {
            if self.postings.length(list) > found.len() * LOOK {
                break;
            }
            keep_common(&mut found, self.postings.rows(list));
        }
        found.retain(|text| text_of(*text).contains(word));
        found
    }
}

/// Leaves of `found` what is in `rows` too.
fn keep_common(found: &mut Vec<u32>, mut rows: impl Iterator<Item = u32>) {
    let mut row = rows.next();
    found.retain(|wanted| {
        while row.is_some_and(|row| row < *wanted) {
            row = rows.next();
        }
        row == Some(*wanted)
    });
}

fn pairs(text: &str) -> impl Iterator<Item = u64> {
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || rest.next().map(|first| pair(first, rest.peek().copied())))
}

fn pair(first: char, second: Option<char>) -> u64 {
    u64::from(u32::from(first)) << CHAR_BITS | second.map_or(END, |second| u64::from(u32::from(second)))
}

/// A set of rows in one bit each.
#[derive(Debug)]
pub struct Marks {
    words: Vec<u64>,
}

impl Marks {
    pub fn new(rows: u32) -> Marks {
        Marks { words: vec![0; rows as usize / 64 + 1] }
    }

    pub fn set_all(&mut self, rows: impl Iterator<Item = u32>) {
        for row in rows {
            if let Some(word) = self.words.get_mut(row as usize / 64) {
                *word |= 1 << (row % 64);
            }
        }
    }

    pub fn contains(&self, row: u32) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    /// Ascending.
    pub fn rows(&self) -> Vec<u32> {
        let count: u32 = self.words.iter().map(|word| word.count_ones()).sum();
        let mut rows = Vec::with_capacity(count as usize);
        for (word, base) in self.words.iter().zip((0_u32..).step_by(64)) {
            let mut left = *word;
            while left != 0 {
                rows.push(base + left.trailing_zeros());
                left &= left - 1;
            }
        }
        rows
    }
}

/// A hasher for pairs of characters: the shopkeeper's own texts need no defence against themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The table looks at the top and at the bottom bits.
        let spread = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(texts: &[String], word: &str) -> Vec<u32> {
        let count = u32::try_from(texts.len()).unwrap();
        let text_of = |text: u32| texts[text as usize].as_str();
        Bigrams::new(count, text_of).unwrap().find(word, text_of)
    }

    fn scanned(texts: &[String], word: &str) -> Vec<u32> {
        (0..).zip(texts).filter(|(_, text)| text.contains(word)).map(|(row, _)| row).collect()
    }

    /// Few characters of several scripts, so that words are found and nearly found often.
    fn any_text(most: usize) -> impl Strategy<Value = String> {
        let character = prop_oneof![
            Just('苹'),
            Just('果'),
            Just('红'),
            Just('a'),
            Just('b'),
            Just('5'),
            Just(' '),
            Just('𠮷'),
            Just('\u{10ffff}'),
            Just('ß'),
        ];
        proptest::collection::vec(character, 0..most).prop_map(|characters| characters.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(250))]

        #[test]
        fn exactly_what_a_scan_finds_is_found(
            texts in proptest::collection::vec(any_text(9), 0..60), word in any_text(6), row: usize, from: usize,
        ) {
            prop_assert_eq!(found(&texts, &word), scanned(&texts, &word));
            // And a word that is in there for certain.
            if let Some(text) = texts.get(row % texts.len().max(1)) {
                let piece: String = text.chars().skip(from % 9).take(4).collect();
                prop_assert_eq!(found(&texts, &piece), scanned(&texts, &piece));
            }
        }
    }

    #[test]
    fn a_word_whose_pairs_are_all_there_is_not_there_for_that() {
        let texts: Vec<String> = ["红苹果红", "果红苹", "苹果红苹果"].map(str::to_owned).into();
        assert_eq!(found(&texts, "红苹果"), [0, 2]);
        assert_eq!(found(&texts, "苹果红苹"), [2]);
    }
}
