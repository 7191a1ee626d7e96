//! SQL commands that the extension assembles. A name enters a command only as an `Ident` or a `QualifiedName`, which
//! are quoted, never as bare text.

use std::fmt::{self, Display, Formatter};

use pgrx::spi::{quote_identifier, quote_literal, quote_qualified_identifier};
use pgrx::{FromDatum, Uuid, pg_sys};

use super::Name;

/// An identifier, quoted if necessary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ident(String);

impl Ident {
    /// Quotes a name as the system catalogs store it.
    pub fn new(name: impl AsRef<str>) -> Self {
        Ident(quote_identifier(name.as_ref()))
    }
}

/// Reads a column of type `name`, and quotes it.
impl FromDatum for Ident {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: guaranteed by the caller.
        unsafe { Name::from_polymorphic_datum(datum, is_null, oid) }.map(|name| Ident::new(name.0))
    }
}

/// The schema-qualified name of an object, with both parts quoted if necessary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QualifiedName(String);

impl QualifiedName {
    /// Quotes two names as the system catalogs store them.
    pub fn new(schema: &str, name: &str) -> Self {
        QualifiedName(quote_qualified_identifier(schema, name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads a column of type `text` that the extension's own query has quoted, with format('%I.%I') or regclass.
impl FromDatum for QualifiedName {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: guaranteed by the caller.
        unsafe { String::from_polymorphic_datum(datum, is_null, oid) }.map(QualifiedName)
    }
}

/// A quoted string constant.
pub struct Literal(String);

impl Literal {
    pub fn new(text: &str) -> Self {
        Literal(quote_literal(text))
    }
}

/// A list, separated by commas.
pub struct List<T>(pub Vec<T>);

/// What a command can be assembled from: quoted names and constants, uuids, numbers, booleans, and text from the source
/// code.
pub trait Part: Display {}

impl Part for Ident {}
impl Part for QualifiedName {}
impl Part for Literal {}
impl Part for Uuid {}
impl Part for i64 {}
impl Part for bool {}
impl Part for &'static str {}
impl<T: Part> Part for List<T> {}
impl<T: Part> Part for &T {}

impl Display for Ident {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Display for QualifiedName {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T: Display> Display for List<T> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// A command, assembled by `command!`.
pub struct Command(String);

/// Reads a column of type `text` that the extension's own query has assembled, using format() with %I and %L.
impl FromDatum for Command {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: guaranteed by the caller.
        unsafe { String::from_polymorphic_datum(datum, is_null, oid) }.map(Command)
    }
}

impl Command {
    #[doc(hidden)]
    pub fn from_arguments(text: fmt::Arguments) -> Self {
        Command(text.to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns its argument. Accepts only types that can be part of a command.
#[doc(hidden)]
pub fn part<T: Part>(part: T) -> T {
    part
}

/// Assembles a `Command` as `format!` does, but only from arguments that are a `Part`.
macro_rules! command {
    ($text:literal $(, $part:expr)* $(,)?) => {
        $crate::pg::sql::Command::from_arguments(format_args!($text $(, $crate::pg::sql::part($part))*))
    };
}

pub(crate) use command;
