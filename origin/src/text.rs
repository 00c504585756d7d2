//! Texts of others in a place of limited size, and errors in one line.

use std::error::Error;

/// The first `most` characters of a text: what its column, or a line of the log, has room for.
pub fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// An error and what caused it, in one line.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_and_not_bytes() {
        assert_eq!(cut("苹果5斤", 3), "苹果5");
        assert_eq!(cut("苹果", 3), "苹果");
        assert_eq!(cut("苹果", 0), "");
    }

    #[test]
    fn an_error_says_what_caused_it() {
        let cause = std::io::Error::other("cut off");
        let error = sqlx::Error::Io(cause);
        assert!(with_causes(&error).ends_with(": cut off"), "{}", with_causes(&error));
    }
}
