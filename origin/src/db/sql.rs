//! The text of a statement that carries its values. Promises that no value is ever read as SQL: numbers are numbers, and text
//! that is not plain ASCII without quotes and backslashes is sent as hexadecimal digits.

use std::fmt::Write as _;

use farmgate_shared::money::Fen;
use time::OffsetDateTime;

use super::script::RowId;

/// A statement that is being written.
#[derive(Debug)]
pub struct Sql<'a> {
    text: &'a mut String,
}

impl<'a> Sql<'a> {
    /// One that is written behind a text.
    pub(super) fn into(text: &'a mut String) -> Sql<'a> {
        Sql { text }
    }
}

impl Sql<'_> {
    /// Words of SQL, which are our own.
    pub fn sql(&mut self, words: &'static str) -> &mut Self {
        self.text.push_str(words);
        self
    }

    pub(super) fn write(&mut self, arguments: std::fmt::Arguments<'_>) -> &mut Self {
        // A String takes whatever it is given.
        let _ = self.text.write_fmt(arguments);
        self
    }

    pub fn int(&mut self, value: impl Into<i64>) -> &mut Self {
        let value: i64 = value.into();
        self.write(format_args!("{value}"))
    }

    pub fn id(&mut self, id: impl Into<RowId>) -> &mut Self {
        match id.into() {
            RowId::Known(id) => self.int(id),
            RowId::New { piece, nth } => {
                self.write(format_args!("@id{piece}+{nth}*@@auto_increment_increment"))
            }
        }
    }

    /// An amount for a DECIMAL column in yuan.
    pub fn yuan(&mut self, amount: Fen) -> &mut Self {
        let sign = if amount.0 < 0 { "-" } else { "" };
        let fen = amount.0.unsigned_abs();
        self.write(format_args!("{sign}{}.{:02}", fen / 100, fen % 100))
    }

    /// A moment in UTC, which is every session's time zone.
    pub fn moment(&mut self, moment: OffsetDateTime) -> &mut Self {
        let utc = moment.to_offset(time::UtcOffset::UTC);
        let (hour, minute, second, micro) = utc.to_hms_micro();
        self.write(format_args!(
            "'{:04}-{:02}-{:02} {hour:02}:{minute:02}:{second:02}.{micro:06}'",
            utc.year(),
            u8::from(utc.month()),
            utc.day()
        ))
    }

    pub fn text(&mut self, value: &str) -> &mut Self {
        // Within single quotes nothing else means anything, whatever the server's SQL mode is.
        let is_plain =
            value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\'' && byte != b'\\');
        if is_plain {
            self.text.push('\'');
            self.text.push_str(value);
            self.text.push('\'');
            return self;
        }
        self.text.push_str("_utf8mb4 ");
        self.bytes(value.as_bytes())
    }

    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.text.push_str("X'");
        self.text.push_str(&farmgate_shared::edge_auth::hex(value));
        self.text.push('\'');
        self
    }

    /// Values in brackets with commas between them, for `IN`.
    pub fn list<T>(
        &mut self,
        values: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Self, T),
    ) -> &mut Self {
        self.text.push('(');
        for (position, value) in values.into_iter().enumerate() {
            if position > 0 {
                self.text.push(',');
            }
            write(self, value);
        }
        self.text.push(')');
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use time::macros::datetime;

    use super::*;

    fn written(write: impl FnOnce(&mut Sql<'_>)) -> String {
        let mut text = String::new();
        write(&mut Sql::into(&mut text));
        text
    }

    #[test]
    fn values_are_written_as_mysql_reads_them() {
        assert_eq!(
            written(|sql| {
                sql.int(-7).sql(", ").int(9_u32);
            }),
            "-7, 9"
        );
        assert_eq!(
            written(|sql| {
                sql.yuan(Fen(1580));
            }),
            "15.80"
        );
        assert_eq!(
            written(|sql| {
                sql.yuan(Fen(-5));
            }),
            "-0.05"
        );
        assert_eq!(
            written(|sql| {
                sql.moment(datetime!(2026-11-23 09:02:03.004_005 +08:00));
            }),
            "'2026-11-23 01:02:03.004005'"
        );
        assert_eq!(
            written(|sql| {
                sql.text(r#"{"a": "b"}"#);
            }),
            r#"'{"a": "b"}'"#
        );
        assert_eq!(
            written(|sql| {
                sql.text("果");
            }),
            "_utf8mb4 X'e69e9c'"
        );
        assert_eq!(
            written(|sql| {
                sql.text("it's");
            }),
            "_utf8mb4 X'69742773'"
        );
        assert_eq!(
            written(|sql| {
                sql.bytes(&[0, 255]);
            }),
            "X'00ff'"
        );
        assert_eq!(
            written(|sql| {
                sql.list([1_i64, 2], |sql, id| {
                    sql.int(id);
                });
            }),
            "(1,2)"
        );
    }

    proptest! {
        /// Whatever a shopper writes, the statement ends where we end it.
        #[test]
        fn no_text_leaves_its_quotes(letters in vec(prop_oneof![any::<char>(), select(&['\'', '\\', '"', ';', '\0', 'a', ' '][..])], 0..30)) {
            let value: String = letters.into_iter().collect();
            let literal = written(|sql| { sql.text(&value); });
            let inner = literal.trim_start_matches("_utf8mb4 X").strip_prefix('\'').unwrap().strip_suffix('\'').unwrap();
            prop_assert!(!inner.contains('\'') && !inner.contains('\\') && inner.is_ascii());
            if literal.starts_with("_utf8mb4") {
                prop_assert!(inner.bytes().all(|byte| byte.is_ascii_hexdigit()));
            } else {
                prop_assert_eq!(inner, value);
            }
        }
    }
}
