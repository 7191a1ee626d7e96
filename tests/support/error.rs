//! Assertions on errors: SQLSTATE, message, DETAIL, HINT and CONTEXT.

use std::fmt;

use postgres::error::DbError;
use serde_json::Value;

/// The parts of an error that a caller sees. If two errors are equal, a caller cannot tell the cases apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

pub struct Refusal {
    error: DbError,
}

/// An error, formatted as psql prints it.
struct Shown<'a>(&'a DbError);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:  {}: {}", self.0.severity(), self.0.code().code(), self.0.message())?;
        for (name, value) in [("DETAIL", self.0.detail()), ("HINT", self.0.hint()), ("CONTEXT", self.0.where_())] {
            if let Some(value) = value {
                write!(f, "\n{name}:  {value}")?;
            }
        }
        Ok(())
    }
}

/// Asserts that the statement failed with this SQLSTATE.
#[track_caller]
pub fn expect_error<T>(result: Result<T, postgres::Error>, sqlstate: &str) -> Refusal {
    let Err(error) = result else { panic!("expected SQLSTATE {sqlstate}, and it succeeded") };
    let Some(error) = error.as_db_error().cloned() else { panic!("expected SQLSTATE {sqlstate}, got {error}") };
    assert_eq!(error.code().code(), sqlstate, "{}", Shown(&error));
    Refusal { error }
}

/// Asserts that the statement was refused with this `code`: its SQLSTATE, its JSON in DETAIL, and a HINT.
#[track_caller]
pub fn expect_refusal<T>(result: Result<T, postgres::Error>, code: &str) -> Refusal {
    let sqlstates: &[&str] = match code {
        "unauthenticated" => &["28000"],
        "forbidden" => &["42501"],
        "not_found" => &["P0002"],
        "invalid_argument" => &["22023"],
        "conflict" => &["23505", "55000"],
        other => panic!("there is no code {other:?}"),
    };
    let Err(error) = result else { panic!("expected {code}, and it succeeded") };
    let Some(error) = error.as_db_error().cloned() else { panic!("expected {code}, got {error}") };
    assert!(sqlstates.contains(&error.code().code()), "expected {code}, {sqlstates:?}: {}", Shown(&error));
    let refusal = Refusal { error };
    assert!(refusal.error.hint().is_some_and(|hint| !hint.is_empty()), "no HINT: {}", Shown(&refusal.error));
    refusal.detail_json(code)
}

impl Refusal {
    #[track_caller]
    pub fn message(self, expected: &str) -> Refusal {
        assert_eq!(self.error.message(), expected);
        self
    }

    #[track_caller]
    pub fn message_has(self, part: &str) -> Refusal {
        assert!(self.error.message().contains(part), "no {part:?} in the message: {}", Shown(&self.error));
        self
    }

    #[track_caller]
    pub fn hint_has(self, part: &str) -> Refusal {
        assert!(self.error.hint().unwrap_or_default().contains(part), "no {part:?} in HINT: {}", Shown(&self.error));
        self
    }

    #[track_caller]
    pub fn detail_has(self, part: &str) -> Refusal {
        assert!(
            self.error.detail().unwrap_or_default().contains(part),
            "no {part:?} in DETAIL: {}",
            Shown(&self.error)
        );
        self
    }

    #[track_caller]
    pub fn context_has(self, part: &str) -> Refusal {
        assert!(
            self.error.where_().unwrap_or_default().contains(part),
            "no {part:?} in CONTEXT: {}",
            Shown(&self.error)
        );
        self
    }

    /// Asserts that DETAIL is JSON with this `code` and the corresponding HTTP `status`.
    #[track_caller]
    pub fn detail_json(self, code: &str) -> Refusal {
        let status = match code {
            "unauthenticated" => 401,
            "forbidden" => 403,
            "not_found" => 404,
            "invalid_argument" => 400,
            "conflict" => 409,
            other => panic!("there is no code {other:?}"),
        };
        let detail = self.error.detail().unwrap_or_default();
        let Ok(json) = serde_json::from_str::<Value>(detail) else {
            panic!("DETAIL is not JSON: {}", Shown(&self.error))
        };
        assert_eq!(json["code"], code, "{}", Shown(&self.error));
        assert_eq!(json["status"], status, "{}", Shown(&self.error));
        self
    }

    /// Returns the error, for checks that the methods above do not cover: constraint, table, position.
    pub fn error(&self) -> &DbError {
        &self.error
    }

    pub fn words(&self) -> Words {
        Words {
            sqlstate: self.error.code().code().to_owned(),
            message: self.error.message().to_owned(),
            detail: self.error.detail().map(str::to_owned),
            hint: self.error.hint().map(str::to_owned),
        }
    }
}
