//! Sealing anew, with the key that seals now, what another key sealed. Promises an operator that a key is needed no more
//! once all of it is done; that it may be cut off and begun again, several at once; and that a value which somebody
//! changes meanwhile stays as they wrote it.

use sqlx::FromRow;

use super::seal::{Place, Seal, SealError};

/// Rows read at once, whatever sealed them.
pub const BATCH: u32 = 500;

/// A sealed value where it stands.
#[derive(Clone, Debug, FromRow)]
pub struct SealedRow {
    pub id: i64,
    /// What names the row in its [`Place`].
    pub name: String,
    pub sealed: String,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Resealed {
    pub seen: u64,
    pub resealed: u64,
    /// Somebody wrote another value meanwhile, perhaps with the old key.
    pub changed: u64,
    /// Rows whose value does not open.
    pub broken: Vec<(i64, SealError)>,
}

/// Seals a column's values anew where the first key did not seal them. `rows` gives at most so many of those with a higher
/// id, by their ids; `replace` writes a value where the old one still stands, and says whether it did.
///
/// # Errors
/// When MySQL is away; what was done until then stays.
pub async fn run(
    seal: &Seal,
    (table, column): (&'static str, &'static str),
    rows: impl AsyncFn(i64, u32) -> Result<Vec<SealedRow>, sqlx::Error>,
    replace: impl AsyncFn(&SealedRow, &str) -> Result<bool, sqlx::Error>,
) -> Result<Resealed, sqlx::Error> {
    let mut done = Resealed::default();
    let mut after = 0;
    loop {
        let batch = rows(after, BATCH).await?;
        let Some(last) = batch.last() else { return Ok(done) };
        after = last.id;
        for row in batch {
            done.seen += 1;
            match seal.renew(Place { table, row: &row.name, column }, &row.sealed) {
                Ok(None) => {}
                Ok(Some(renewed)) if replace(&row, &renewed).await? => done.resealed += 1,
                Ok(Some(_)) => done.changed += 1,
                Err(error) => done.broken.push((row.id, error)),
            }
        }
    }
}

impl Resealed {
    /// As an operator reads it.
    pub fn told(&self, what: &str) -> String {
        let mut text = format!("{what}: {} of {} sealed anew\n", self.resealed, self.seen);
        if self.changed > 0 {
            text.push_str(&format!("    {} were changed meanwhile: run this again\n", self.changed));
        }
        for (id, error) in &self.broken {
            text.push_str(&format!("    {id} DOES NOT OPEN: {error}\n"));
        }
        text
    }

    /// Whether the other keys are needed no more, as far as these values go.
    pub fn is_whole(&self) -> bool {
        self.changed == 0 && self.broken.is_empty()
    }
}

/// What several columns' resealing says; an error where something is left.
///
/// # Errors
/// The same words, where a value was left as it was.
pub fn told(parts: &[(&str, Resealed)]) -> anyhow::Result<String> {
    let text: String = parts.iter().map(|(what, done)| done.told(what)).collect();
    anyhow::ensure!(parts.iter().all(|(_, done)| done.is_whole()), "older keys are still needed\n{text}");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn key(kid: &str, byte: &str) -> String {
        format!("{kid}={}", byte.repeat(32))
    }

    fn place(row: &str) -> Place<'_> {
        Place { table: "t", row, column: "c" }
    }

    #[tokio::test]
    async fn only_what_another_key_sealed_is_sealed_anew_and_each_batch_begins_where_the_last_ended() {
        let old = Seal::new(&key("k1", "ab")).unwrap();
        let new = Seal::new(&format!("{},{}", key("k2", "cd"), key("k1", "ab"))).unwrap();
        let sealed_by = |seal: &Seal, id: i64| SealedRow {
            id,
            name: id.to_string(),
            sealed: seal.seal(place(&id.to_string()), &format!("value {id}")).unwrap(),
        };
        let mut rows: Vec<SealedRow> = (1..=1200).map(|id| sealed_by(&old, id)).collect();
        rows[6] = sealed_by(&new, 7);
        rows[8].sealed = "k1:bm9uc2Vuc2U=".to_owned();
        let table = RefCell::new(rows);
        let run_once = async || {
            run(
                &new,
                ("t", "c"),
                async |after, most| {
                    let rows = table.borrow();
                    let batch = rows.iter().filter(|row| row.id > after);
                    Ok(batch.take(usize::try_from(most).unwrap()).cloned().collect())
                },
                async |row, renewed| {
                    if row.id == 3 && table.borrow()[2].sealed.starts_with("k1:") {
                        // Somebody writes it at this moment.
                        table.borrow_mut()[2] = sealed_by(&new, 3);
                        return Ok(false);
                    }
                    table.borrow_mut()[usize::try_from(row.id).unwrap() - 1].sealed = renewed.to_owned();
                    Ok(true)
                },
            )
            .await
            .unwrap()
        };
        let done = run_once().await;
        assert_eq!((done.seen, done.resealed, done.changed, done.broken.len()), (1200, 1197, 1, 1));
        assert!(!done.is_whole() && told(&[("values", done)]).is_err());
        let only_new = Seal::new(&key("k2", "cd")).unwrap();
        for row in table.borrow().iter().filter(|row| row.id != 9) {
            let value: String = only_new.open(place(&row.name), &row.sealed).unwrap();
            assert_eq!(value, format!("value {}", row.id));
        }
        table.borrow_mut()[8] = sealed_by(&new, 9);
        let again = run_once().await;
        assert_eq!((again.seen, again.resealed), (1200, 0));
        assert!(again.is_whole());
    }
}
