//! Several statements in one trip to MySQL. A trip costs an order more than most of its statements do, and a prepared
//! statement is a trip; so what a transaction has to say without hearing an answer in between is said at once. Promises
//! that a script which says what has to be true goes no further where it is not.

use farmgate_shared::ids::OrderId;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Either, Executor, FromRow, MySqlConnection};

use super::sql::Sql;

/// Bytes of one trip, so that it fits into one record of TLS: sqlx 0.9.0 leaves Nagle's algorithm on (its issue 4335), and
/// what goes out in two writes waits 40 ms for the server's delayed acknowledgement of the first.
const MOST_BYTES: usize = 15 * 1024;

/// Statements that are run in their order, in as few trips as they fit into. The first that fails, and the first condition
/// that does not hold, end the script; what ran before it is the transaction's to roll back.
#[derive(Debug, Default)]
pub struct Script {
    trips: Vec<String>,
    /// The next statement begins a trip of its own.
    is_cut: bool,
    /// Statements so far, cut ones counted as often as they were cut.
    said: usize,
    /// The INSERTs so far whose ids are kept.
    pieces: Vec<Said>,
    conditions: Vec<Said>,
}

/// The place of a statement in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said(usize);

#[cfg(test)]
impl Said {
    pub fn place(self) -> usize {
        self.0
    }
}

/// The id of a row, which may be one that the same script inserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowId {
    Known(i64),
    /// MySQL gives the rows of one INSERT ids one after the other, `@@auto_increment_increment` apart.
    New {
        piece: usize,
        nth: usize,
    },
}

impl RowId {
    /// Whether one INSERT inserts both.
    pub fn is_beside(self, other: RowId) -> bool {
        matches!((self, other), (RowId::New { piece, .. }, RowId::New { piece: its, .. }) if piece == its)
    }
}

impl From<OrderId> for RowId {
    fn from(order: OrderId) -> RowId {
        RowId::Known(order.0)
    }
}

/// What a script did.
#[derive(Debug, Default)]
pub struct Ran {
    /// Each with the place of its query.
    rows: Vec<(usize, MySqlRow)>,
    /// Statements that ended well.
    done: usize,
    /// Trips that were begun.
    trips: usize,
    /// The condition that ended it.
    broken: Option<Said>,
    /// Of each INSERT whose ids are kept, the id of its first row.
    first_ids: Vec<u64>,
}

impl Ran {
    /// The condition that did not hold and ended the script, if one did.
    pub fn broken(&self) -> Option<Said> {
        self.broken
    }

    /// The rows that a query gave.
    fn rows(&self, query: Said) -> impl Iterator<Item = &MySqlRow> {
        self.rows.iter().filter(move |(of, _)| *of == query.0).map(|(_, row)| row)
    }

    /// The same, understood.
    ///
    /// # Errors
    /// When a row is not of this shape.
    pub fn read<T>(&self, query: Said) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, MySqlRow>,
    {
        self.rows(query).map(T::from_row).collect()
    }

    /// The id that a row got, where MySQL numbers rows in steps of `step`.
    pub fn id(&self, row: RowId, step: i64) -> Option<i64> {
        match row {
            RowId::Known(id) => Some(id),
            RowId::New { piece, nth } => {
                let first = i64::try_from(*self.first_ids.get(piece)?).ok()?;
                first.checked_add(i64::try_from(nth).ok()?.checked_mul(step)?)
            }
        }
    }
}

impl Script {
    /// One statement: `write` gives its text.
    pub fn statement(&mut self, write: impl FnOnce(&mut Sql<'_>)) -> Said {
        let mut text = String::new();
        write(&mut Sql::into(&mut text));
        self.append(&text);
        self.said += 1;
        Said(self.said - 1)
    }

    /// `INSERT INTO … (…) VALUES` with a row for each item: `opening` ends with `VALUES`, `write` gives a row's values
    /// with commas between them.
    pub fn insert<T>(
        &mut self,
        opening: &'static str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Sql<'_>, T),
    ) {
        self.insert_pieces(opening, items, write, |_, _| {});
    }

    /// The same into a table that numbers its rows, for what comes later in the script to name them: the ids, in the rows'
    /// order.
    pub fn insert_new<T>(
        &mut self,
        opening: &'static str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Sql<'_>, T),
    ) -> Vec<RowId> {
        let first = self.pieces.len();
        let sizes = self.insert_pieces(opening, items, write, |script, insert| {
            let piece = script.pieces.len();
            script.statement(|sql| {
                sql.write(format_args!("SET @id{piece} = LAST_INSERT_ID()"));
            });
            script.pieces.push(insert);
        });
        let of_piece = |(piece, size)| (0..size).map(move |nth| RowId::New { piece: first + piece, nth });
        sizes.into_iter().enumerate().flat_map(of_piece).collect()
    }

    /// Cuts an INSERT where a trip is full; says how many rows each piece has, and does `after` each.
    fn insert_pieces<T>(
        &mut self,
        opening: &'static str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Sql<'_>, T),
        after: impl Fn(&mut Script, Said),
    ) -> Vec<usize> {
        let mut row = String::new();
        let mut sizes: Vec<usize> = Vec::new();
        let mut last = None;
        for item in items {
            row.clear();
            row.push('(');
            write(&mut Sql::into(&mut row), item);
            row.push(')');
            match (self.trips.last_mut(), sizes.last_mut()) {
                (Some(trip), Some(size)) if trip.len() + row.len() < MOST_BYTES => {
                    trip.push(',');
                    trip.push_str(&row);
                    *size += 1;
                }
                _ => {
                    if let Some(insert) = last {
                        after(self, insert);
                    }
                    last = Some(self.statement(|sql| {
                        sql.sql(opening).write(format_args!(" {row}"));
                    }));
                    sizes.push(1);
                }
            }
        }
        if let Some(insert) = last {
            after(self, insert);
        }
        sizes
    }

    /// What has to be true here for the script to go on.
    pub fn require(&mut self, condition: impl FnOnce(&mut Sql<'_>)) -> Said {
        let condition = self.statement(|sql| {
            // Out of any number's range: an error of its own kind ([`is_broken_condition`]), where SQL has no other way to
            // raise one outside of a stored program. DO would keep it to itself.
            sql.sql("SET @ok = IF(");
            condition(sql);
            sql.sql(", 1, EXP(999))");
        });
        self.conditions.push(condition);
        condition
    }

    /// How far apart MySQL numbers rows, as a row of one number.
    pub fn ask_step(&mut self) -> Said {
        self.statement(|sql| {
            sql.sql("SELECT CAST(@@auto_increment_increment AS SIGNED)");
        })
    }

    /// The last statement before this one has changed so many rows.
    pub fn require_changed(&mut self, rows: usize) -> Said {
        self.require(|sql| {
            sql.write(format_args!("ROW_COUNT() = {rows}"));
        })
    }

    /// What comes now waits until what came so far is answered.
    pub fn cut(&mut self) {
        self.is_cut = true;
    }

    fn append(&mut self, statement: &str) {
        match self.trips.last_mut() {
            Some(trip) if !self.is_cut && trip.len() + statement.len() < MOST_BYTES => {
                trip.push(';');
                trip.push_str(statement);
            }
            _ => {
                self.is_cut = false;
                self.trips.push(statement.to_owned());
            }
        }
    }

    /// Runs it. Whether all of it ran, [`Ran::broken`] says.
    ///
    /// # Errors
    /// Of the first statement that failed.
    pub async fn run(&self, connection: &mut MySqlConnection) -> Result<Ran, sqlx::Error> {
        let mut ran = Ran::default();
        self.run_into(connection, &mut ran, || {}).await?;
        Ok(ran)
    }

    /// Whether its last trip was begun.
    pub(super) fn has_begun_last_trip(&self, ran: &Ran) -> bool {
        ran.trips == self.trips.len()
    }

    /// The same as [`Script::run`], where what ran before a failure is told too. `before_last` is done before the last trip.
    pub(super) async fn run_into(
        &self,
        connection: &mut MySqlConnection,
        ran: &mut Ran,
        before_last: impl Fn(),
    ) -> Result<(), sqlx::Error> {
        let mut kept = self.pieces.iter().peekable();
        for trip in &self.trips {
            ran.trips += 1;
            if self.has_begun_last_trip(ran) {
                before_last();
            }
            // Made of our own words and of values that [`Sql`] wrote.
            let mut results = connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(trip.as_str())));
            while let Some(result) = std::future::poll_fn(|context| results.as_mut().poll_next(context)).await
            {
                match result {
                    Ok(Either::Left(done)) => {
                        if kept.next_if(|insert| insert.0 == ran.done).is_some() {
                            ran.first_ids.push(done.last_insert_id());
                        }
                        ran.done += 1;
                    }
                    Ok(Either::Right(row)) => ran.rows.push((ran.done, row)),
                    Err(error) => {
                        let broken = self.conditions.iter().find(|condition| condition.0 == ran.done);
                        ran.broken = broken.copied().filter(|_| is_broken_condition(&error));
                        return if ran.broken.is_some() { Ok(()) } else { Err(error) };
                    }
                }
            }
        }
        // Answers are told apart by their place alone, so that each must have come.
        if ran.done != self.said {
            return Err(sqlx::Error::Protocol(format!("{} answers to {} statements", ran.done, self.said)));
        }
        Ok(())
    }
}

/// A number is out of range (1690).
fn is_broken_condition(error: &sqlx::Error) -> bool {
    super::errors::mysql_number(error) == Some(1690)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_goes_in_one_trip_and_what_does_not_in_several() {
        let mut script = Script::default();
        script.insert("INSERT INTO a (id) VALUES", [1_i64, 2], |row, id| {
            row.int(id);
        });
        script.statement(|sql| {
            sql.sql("UPDATE a SET id = ").int(3);
        });
        assert_eq!(script.trips, ["INSERT INTO a (id) VALUES (1),(2);UPDATE a SET id = 3"]);
        let long = "x".repeat(MOST_BYTES / 3);
        script.insert("INSERT INTO b (t) VALUES", [&long; 5], |row, text| {
            row.text(text);
        });
        assert_eq!(script.trips.len(), 3);
        assert!(
            script.trips.iter().all(|trip| trip.len() <= MOST_BYTES),
            "{:?}",
            script.trips.iter().map(String::len)
        );
        assert!(script.trips[1..].iter().all(|trip| trip.starts_with("INSERT INTO b (t) VALUES (")));
        assert_eq!(script.trips.concat().matches(&long).count(), 5);
    }

    #[test]
    fn new_rows_are_named_by_their_piece_and_place() {
        let mut script = Script::default();
        let long = "x".repeat(MOST_BYTES / 3);
        let ids = script.insert_new("INSERT INTO a (t) VALUES", [&long; 3], |row, text| {
            row.text(text);
        });
        let more = script.insert_new("INSERT INTO b (n) VALUES", [1_i64, 2], |row, n| {
            row.int(n);
        });
        let new = |piece, nth| RowId::New { piece, nth };
        assert_eq!((ids, more), (vec![new(0, 0), new(0, 1), new(1, 0)], vec![new(2, 0), new(2, 1)]));
        let all = script.trips.join(" | ").replace(&long, "x");
        assert_eq!(
            all,
            "INSERT INTO a (t) VALUES ('x'),('x');SET @id0 = LAST_INSERT_ID() | \
             INSERT INTO a (t) VALUES ('x');SET @id1 = LAST_INSERT_ID();\
             INSERT INTO b (n) VALUES (1),(2);SET @id2 = LAST_INSERT_ID()"
        );
        let said = script.statement(|sql| {
            sql.sql("UPDATE a SET b_id = ").id(new(2, 1)).sql(" WHERE id = ").id(RowId::Known(7));
        });
        assert_eq!(said.0, 6, "three pieces and their SETs came before");
        assert!(
            script.trips.last().unwrap().ends_with("b_id = @id2+1*@@auto_increment_increment WHERE id = 7")
        );
    }

    #[test]
    fn what_comes_after_a_cut_is_a_trip_of_its_own() {
        let mut script = Script::default();
        for words in ["SELECT 1", "SELECT 2", "COMMIT"] {
            if words == "COMMIT" {
                script.cut();
            }
            script.statement(|sql| {
                sql.sql(words);
            });
        }
        assert_eq!(script.trips, ["SELECT 1;SELECT 2", "COMMIT"]);
    }

    #[test]
    fn no_items_are_no_statement() {
        let mut script = Script::default();
        script.insert("INSERT INTO a (id) VALUES", [0_i64; 0], |row, id| {
            row.int(id);
        });
        assert!(script.trips.is_empty());
    }
}
