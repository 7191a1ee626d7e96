//! Commands of the extension's own, and the names in them. A name gets into a command as an `Ident` or a `QualifiedName`, never
//! as bare text.

use std::fmt::{self, Display, Formatter};

use pgrx::spi::{quote_identifier, quote_literal, quote_qualified_identifier};
use pgrx::{FromDatum, Uuid, pg_sys};

use super::Name;

/// An identifier, quoted where it has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ident(String);

impl Ident {
    /// Of a name as the server's catalogs hold it.
    pub fn new(name: impl AsRef<str>) -> Self {
        Ident(quote_identifier(name.as_ref()))
    }
}

/// Of a column of type `name`, not quoted yet.
impl FromDatum for Ident {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: as the caller promises.
        unsafe { Name::from_polymorphic_datum(datum, is_null, oid) }.map(|name| Ident::new(name.0))
    }
}

/// The name of an object with its schema's, both quoted where they have to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QualifiedName(String);

impl QualifiedName {
    /// Of names as the server's catalogs hold them.
    pub fn new(schema: &str, name: &str) -> Self {
        QualifiedName(quote_qualified_identifier(schema, name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Of a column of type `text` that a query of ours quoted, by format('%I.%I') or regclass.
impl FromDatum for QualifiedName {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: as the caller promises.
        unsafe { String::from_polymorphic_datum(datum, is_null, oid) }.map(QualifiedName)
    }
}

/// A string constant.
pub struct Literal(String);

impl Literal {
    pub fn new(text: &str) -> Self {
        Literal(quote_literal(text))
    }
}

/// A list with commas.
pub struct List<T>(pub Vec<T>);

/// What a command is put together from: names, constants, and text of the source.
pub trait Part: Display {}

impl Part for Ident {}
impl Part for QualifiedName {}
impl Part for Literal {}
impl Part for Uuid {}
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

/// A command, made by `command!`.
pub struct Command(String);

/// Of a column of type `text` that a query of ours put together, by format() with %I and %L.
impl FromDatum for Command {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: as the caller promises.
        unsafe { String::from_polymorphic_datum(datum, is_null, oid) }.map(Command)
    }
}

impl Command {
    #[doc(hidden)]
    pub fn put_together(text: fmt::Arguments) -> Self {
        Command(text.to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Only parts get into a command.
#[doc(hidden)]
pub fn part<T: Part>(part: T) -> T {
    part
}

/// As `format!`, of what is a `Part` alone.
macro_rules! command {
    ($text:literal $(, $part:expr)* $(,)?) => {
        $crate::pg::sql::Command::put_together(format_args!($text $(, $crate::pg::sql::part($part))*))
    };
}

pub(crate) use command;
