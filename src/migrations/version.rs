//! Versions and their order.

use crate::error::{Error, Result};

const MAX_VERSION: usize = 100;

/// Prefix of the versions of repeatable migrations, as in Flyway.
const REPEATABLE: &str = "R__";

/// A version as written, and a key that sorts as text in the order of versions. Numbers are ordered by value, dotted
/// numbers part by part. They come before all versions that are not numbers: comparing a number with a text as text
/// would not be a consistent order (9 < 10, 10 < 1a, 1a < 9).
#[derive(Debug)]
pub struct Version {
    pub text: String,
    pub sort_key: String,
}

impl Version {
    /// Reports whether the migration is repeatable: its text can be replaced, and it is applied again after that.
    pub fn is_repeatable(&self) -> bool {
        self.text.starts_with(REPEATABLE)
    }

    pub fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() || text.len() > MAX_VERSION {
            return Err(Error::invalid(
                "invalid migration version",
                format!(
                    "Use a number such as 1, 0001, 20260131120000 or 1.2, or a text of at most {MAX_VERSION} bytes."
                ),
            ));
        }
        Ok(Version { text: text.into(), sort_key: sort_key(text) })
    }
}

/// Returns the sort key. Repeatable migrations come last. A number is written without leading zeros, after the count of
/// its digits as three digits.
fn sort_key(text: &str) -> String {
    if text.starts_with(REPEATABLE) {
        return format!("z{text}");
    }
    let parts: Vec<&str> = text.split('.').collect();
    if !parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())) {
        return format!("t{text}");
    }
    let key = |part: &&str| {
        let digits = part.trim_start_matches('0');
        format!("{:03}{digits}", digits.len())
    };
    format!("n{}", parts.iter().map(key).collect::<Vec<_>>().join("."))
}
