//! Where a row of a snapshot is, by its id: four bytes a row and one look.

/// Numbers of rows, by id.
#[derive(Debug, Default)]
pub struct IdTable {
    /// Open addressing: a row's number plus one, 0 for none; a power of two, at most half full.
    slots: Box<[u32]>,
}

impl IdTable {
    /// Rows `0..count`, each with an id of its own.
    pub fn new(count: u32, id_of: impl Fn(u32) -> i64) -> IdTable {
        let mut slots = vec![0_u32; (count as usize * 2).next_power_of_two().max(2)];
        let mask = slots.len() - 1;
        for row in 0..count {
            let mut at = spread(id_of(row)) & mask;
            while slots.get(at).is_some_and(|taken| *taken != 0) {
                at = (at + 1) & mask;
            }
            if let Some(free) = slots.get_mut(at) {
                *free = row + 1;
            }
        }
        IdTable { slots: slots.into_boxed_slice() }
    }

    /// The row of this id. `id_of` is the one that the table was made with.
    pub fn find(&self, id: i64, id_of: impl Fn(u32) -> i64) -> Option<u32> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = spread(id) & mask;
        loop {
            let row = self.slots.get(at)?.checked_sub(1)?;
            if id_of(row) == id {
                return Some(row);
            }
            at = (at + 1) & mask;
        }
    }
}

/// Ids are mostly consecutive; the multiplication spreads those that are not.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "any bits will do")]
fn spread(id: i64) -> usize {
    ((id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_id_leads_to_its_row(ids in proptest::collection::btree_set(1..5000_i64, 0..300), other in 1..5000_i64) {
            let rows: Vec<i64> = ids.into_iter().collect();
            let id_of = |row: u32| rows[row as usize];
            let table = IdTable::new(u32::try_from(rows.len()).unwrap(), id_of);
            let expected = rows.iter().position(|id| *id == other).map(|row| u32::try_from(row).unwrap());
            prop_assert_eq!(table.find(other, id_of), expected);
        }
    }

    #[test]
    fn an_empty_table_knows_nothing() {
        assert_eq!(IdTable::default().find(1, |_| 1), None);
        assert_eq!(IdTable::new(0, |_| 1).find(1, |_| 1), None);
    }
}
