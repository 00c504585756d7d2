//! Lists of rows, each ascending, held as the differences of neighbours in as few bytes as they need.

use super::TooLarge;

/// Lists, by number.
#[derive(Debug, Default)]
pub struct Postings {
    /// Where each list begins; one more than there are lists.
    starts: Box<[u32]>,
    bytes: Box<[u8]>,
}

impl Postings {
    /// Bytes of a list: about as many as it has rows.
    pub fn length(&self, list: u32) -> usize {
        self.encoded(list).len()
    }

    /// The rows of a list, ascending.
    pub fn rows(&self, list: u32) -> Rows<'_> {
        Rows { encoded: self.encoded(list).iter(), last: 0 }
    }

    fn encoded(&self, list: u32) -> &[u8] {
        let list = list as usize;
        let range = self.starts.get(list).zip(self.starts.get(list + 1));
        range.and_then(|(from, to)| self.bytes.get(*from as usize..*to as usize)).unwrap_or_default()
    }
}

/// Decodes one list.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    encoded: std::slice::Iter<'a, u8>,
    /// The row before, plus one.
    last: u32,
}

impl Iterator for Rows<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let mut byte = *self.encoded.next()?;
        let mut difference = u32::from(byte & 0x7f);
        let mut shift = 7;
        while byte & 0x80 != 0 {
            byte = *self.encoded.next()?;
            difference |= u32::from(byte & 0x7f) << shift;
            shift += 7;
        }
        self.last += difference;
        Some(self.last - 1)
    }
}

/// First pass: how much room each list needs. Rows come ascending; one that a list was just given is given once.
#[derive(Debug, Default)]
pub struct Counting {
    /// The last row of each list, plus one.
    last: Vec<u32>,
    sizes: Vec<u32>,
}

impl Counting {
    pub fn add(&mut self, list: u32, row: u32) {
        let list = list as usize;
        if list >= self.last.len() {
            self.last.resize(list + 1, 0);
            self.sizes.resize(list + 1, 0);
        }
        if let (Some(last), Some(size)) = (self.last.get_mut(list), self.sizes.get_mut(list))
            && *last != row + 1
        {
            let difference = row + 1 - *last;
            *size += 1 + difference.checked_ilog2().unwrap_or(0) / 7;
            *last = row + 1;
        }
    }

    /// Makes the room; the same is to be added once more.
    pub fn into_writing(self) -> Result<Writing, TooLarge> {
        let mut starts = Vec::with_capacity(self.sizes.len() + 1);
        let mut end = 0_u32;
        for size in &self.sizes {
            starts.push(end);
            end = end.checked_add(*size).ok_or(TooLarge)?;
        }
        let at = starts.clone();
        starts.push(end);
        let mut last = self.last;
        last.fill(0);
        Ok(Writing { last, at, starts, bytes: vec![0; end as usize] })
    }
}

/// Second pass: the rows themselves.
#[derive(Debug)]
pub struct Writing {
    last: Vec<u32>,
    at: Vec<u32>,
    starts: Vec<u32>,
    bytes: Vec<u8>,
}

impl Writing {
    pub fn add(&mut self, list: u32, row: u32) {
        let list = list as usize;
        let (Some(last), Some(at)) = (self.last.get_mut(list), self.at.get_mut(list)) else { return };
        if *last == row + 1 {
            return;
        }
        let mut difference = row + 1 - *last;
        *last = row + 1;
        loop {
            let more = difference > 0x7f;
            let Some(byte) = self.bytes.get_mut(*at as usize) else { return };
            *byte = low_bits(difference) | if more { 0x80 } else { 0 };
            *at += 1;
            difference >>= 7;
            if !more {
                return;
            }
        }
    }

    pub fn finish(self) -> Postings {
        Postings { starts: self.starts.into_boxed_slice(), bytes: self.bytes.into_boxed_slice() }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "seven bits")]
const fn low_bits(number: u32) -> u8 {
    (number & 0x7f) as u8
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_come_back_as_they_went_in(
            lists in proptest::collection::vec(
                proptest::collection::btree_set(prop_oneof![0..300_u32, any::<u32>().prop_map(|row| row >> 1)], 0..40), 0..8),
        ) {
            let mut entries: Vec<(u32, u32)> = Vec::new();
            for (list, rows) in (0..).zip(&lists) {
                entries.extend(rows.iter().map(|row| (list, *row)));
            }
            entries.sort_by_key(|(_, row)| *row);
            let mut counting = Counting::default();
            entries.iter().for_each(|(list, row)| { counting.add(*list, *row); counting.add(*list, *row) });
            let mut writing = counting.into_writing().unwrap();
            entries.iter().for_each(|(list, row)| { writing.add(*list, *row); writing.add(*list, *row) });
            let postings = writing.finish();
            for (list, rows) in (0..).zip(&lists) {
                prop_assert_eq!(&postings.rows(list).collect::<BTreeSet<u32>>(), rows);
            }
            prop_assert_eq!(postings.rows(99).next(), None);
        }
    }
}
