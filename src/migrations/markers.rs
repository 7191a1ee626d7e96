//! Splits texts with both scripts of a migration, in the formats of goose and dbmate, at their markers. A marker is a
//! comment at the start of a line. A marker inside a string literal or a comment is taken for one too, but then the
//! resulting scripts do not parse.

use super::script;
use crate::error::{Error, Result};

/// The migration tool that a marker belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Goose,
    Dbmate,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Tool::Goose => "goose",
            Tool::Dbmate => "dbmate",
        }
    }

    fn up(self) -> &'static str {
        match self {
            Tool::Goose => "-- +goose Up",
            Tool::Dbmate => "-- migrate:up",
        }
    }
}

/// The scripts of one migration.
pub struct Sections {
    pub up: String,
    pub down: Option<String>,
    /// `None` if neither the markers nor the caller specify it.
    pub transactional: Option<bool>,
}

impl Sections {
    /// Returns `up` and `down` unchanged, or splits `up` if it has markers. `transactional` overrides the markers.
    pub fn of(up: &str, down: Option<&str>, transactional: Option<bool>) -> Result<Self> {
        if let Some(marked) = down.map(split).transpose()?.flatten() {
            return Err(Error::invalid(
                format!("down has markers of {}", marked.tool.name()),
                "Pass the whole text as up, without down: the markers separate the two scripts.",
            ));
        }
        let Some(marked) = split(up)? else {
            return Ok(Sections { up: up.into(), down: down.map(Into::into), transactional });
        };
        if down.is_some() {
            return Err(Error::invalid(
                format!("up has markers of {}, but down is passed too", marked.tool.name()),
                "Omit down, or remove the markers and the down section from up.",
            ));
        }
        let mut sections = marked.sections()?;
        sections.transactional = transactional.or(sections.transactional);
        Ok(sections)
    }
}

/// A text that has been split at its markers.
pub struct Marked<'a> {
    pub tool: Tool,
    /// The text before the first section.
    preface: &'a str,
    up: &'a str,
    down: Option<&'a str>,
    transactional: Option<bool>,
}

impl Marked<'_> {
    /// Returns the scripts. A down section without a statement, as in the tools' templates, counts as absent.
    pub fn sections(&self) -> Result<Sections> {
        if script::has_statements(self.preface)? {
            return Err(Error::invalid(
                format!("statements before \"{}\"", self.tool.up()),
                "Move the statements below the marker, or delete them.",
            ));
        }
        let down = match self.down {
            Some(down) if script::has_statements(down)? => Some(down.trim().to_string()),
            _ => None,
        };
        Ok(Sections { up: self.up.trim().to_string(), down, transactional: self.transactional })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marker {
    Up,
    Down,
    /// A marker that begins no section: it describes the migration as a whole, or does not matter here.
    Other,
}

/// Splits a text at its markers. Returns `None` if it has none.
pub fn split(text: &str) -> Result<Option<Marked<'_>>> {
    let mut tool = None;
    let mut transactional = None;
    // The markers that begin sections, with the start and end of their lines.
    let mut marks: Vec<(Marker, usize, usize)> = Vec::new();
    let mut start = 0;
    // PostgreSQL ends a comment at a newline or at a carriage return.
    for line in text.split_inclusive(['\n', '\r']) {
        let end = start + line.len();
        if let Some((marker_tool, marker, option)) = marker(line)? {
            if *tool.get_or_insert(marker_tool) != marker_tool {
                return Err(Error::invalid(
                    "markers of goose and of dbmate in one migration",
                    "Use the markers of one tool.",
                ));
            }
            // The option applies to the whole migration: if one script cannot run in a transaction, neither does.
            transactional = match (transactional, option) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (before, option) => option.or(before),
            };
            if marker != Marker::Other {
                marks.push((marker, start, end));
            }
        }
        start = end;
    }
    let Some(tool) = tool else {
        return Ok(None);
    };
    let (preface, up, down) = match marks.as_slice() {
        [(Marker::Up, start, end)] => (&text[..*start], &text[*end..], None),
        [(Marker::Up, start, end), (Marker::Down, down, down_end)] => {
            (&text[..*start], &text[*end..*down], Some(&text[*down_end..]))
        }
        _ => {
            return Err(Error::invalid(
                format!("a migration must have one up marker of {} and at most one down marker after it", tool.name()),
                format!("Begin the migration with \"{}\".", tool.up()),
            ));
        }
    };
    Ok(Some(Marked { tool, preface, up, down, transactional }))
}

/// Parses the marker on a line: its tool, its kind, and whether it makes the migration transactional.
fn marker(line: &str) -> Result<Option<(Tool, Marker, Option<bool>)>> {
    let Some(comment) = line.trim_start().strip_prefix("--") else {
        return Ok(None);
    };
    let words: Vec<String> = comment.split_whitespace().map(str::to_ascii_lowercase).collect();
    let Some((first, rest)) = words.split_first() else {
        return Ok(None);
    };
    let found = if let Some(annotation) = first.strip_prefix("+goose") {
        goose(annotation, rest, line)?
    } else if let Some(marker) = section_of_dbmate(first) {
        (Tool::Dbmate, marker, options_of_dbmate(rest, line)?)
    } else {
        return Ok(None);
    };
    // Neither tool recognizes an indented marker. Without this check, both sections would run as one script.
    if line.starts_with(char::is_whitespace) {
        return Err(Error::invalid(
            format!("\"{}\" is not at the start of its line", line.trim()),
            "Remove the white space before it.",
        ));
    }
    Ok(Some(found))
}

fn goose(annotation: &str, rest: &[String], line: &str) -> Result<(Tool, Marker, Option<bool>)> {
    let words = std::iter::once(annotation).chain(rest.iter().map(String::as_str));
    let (marker, transactional) = match words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").as_str() {
        "up" => (Marker::Up, None),
        "down" => (Marker::Down, None),
        "no transaction" => (Marker::Other, Some(false)),
        // PostgreSQL's own parser splits the statements.
        "statementbegin" | "statementend" | "envsub off" => (Marker::Other, None),
        "envsub on" => {
            return Err(Error::invalid(
                "\"-- +goose ENVSUB ON\" is not supported: the server does not have the client's environment",
                "Write the values into the migration.",
            ));
        }
        _ => {
            return Err(Error::invalid(
                format!("unknown annotation of goose: \"{}\"", line.trim()),
                "Supported annotations are Up, Down, StatementBegin, StatementEnd and NO TRANSACTION.",
            ));
        }
    };
    Ok((Tool::Goose, marker, transactional))
}

fn section_of_dbmate(word: &str) -> Option<Marker> {
    match word {
        "migrate:up" => Some(Marker::Up),
        "migrate:down" => Some(Marker::Down),
        _ => None,
    }
}

fn options_of_dbmate(options: &[String], line: &str) -> Result<Option<bool>> {
    let mut transactional = None;
    for option in options {
        transactional = match option.as_str() {
            "transaction:true" => Some(true),
            "transaction:false" => Some(false),
            _ => {
                return Err(Error::invalid(
                    format!("unknown option in \"{}\"", line.trim()),
                    "The only options are transaction:true and transaction:false, without a space.",
                ));
            }
        };
    }
    Ok(transactional)
}
