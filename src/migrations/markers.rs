//! Texts that hold both scripts of a migration, as goose and dbmate write them, split at their markers. A marker is a
//! comment at the start of a line; that it may stand inside a string or a comment is not looked at, but then the halves
//! do not parse.

use super::script;
use crate::error::{Error, Result};

/// Whose markers.
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
    /// `None`: nothing is said about it.
    pub transactional: Option<bool>,
}

impl Sections {
    /// `up` and `down` as they are, or as the markers in `up` tell. What is said beside the text goes first.
    pub fn of(up: &str, down: Option<&str>, transactional: Option<bool>) -> Result<Self> {
        if let Some(marked) = down.map(split).transpose()?.flatten() {
            return Err(Error::invalid(
                format!("down has markers of {}", marked.tool.name()),
                "Pass the whole text as up, without down: the markers tell what is which.",
            ));
        }
        let Some(marked) = split(up)? else {
            return Ok(Sections { up: up.into(), down: down.map(Into::into), transactional });
        };
        if down.is_some() {
            return Err(Error::invalid(
                format!("up has markers of {}, and down is given too", marked.tool.name()),
                "Leave out down, or take the markers and what they divide off.",
            ));
        }
        let mut sections = marked.sections()?;
        sections.transactional = transactional.or(sections.transactional);
        Ok(sections)
    }
}

/// A text with markers, cut where they are.
pub struct Marked<'a> {
    pub tool: Tool,
    /// What stands before the first section.
    preface: &'a str,
    up: &'a str,
    down: Option<&'a str>,
    transactional: Option<bool>,
}

impl Marked<'_> {
    /// A down section without a statement, as the tools' templates have it, is none.
    pub fn sections(&self) -> Result<Sections> {
        if script::has_statements(self.preface)? {
            return Err(Error::invalid(
                format!("statements before \"{}\"", self.tool.up()),
                "Move them below the marker, or delete them.",
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
    /// Says something about the migration as a whole, or nothing that matters here.
    Aside,
}

/// `None` for a text without markers.
pub fn split(text: &str) -> Result<Option<Marked<'_>>> {
    let mut tool = None;
    let mut transactional = None;
    // The sections' markers: where their lines begin and end.
    let mut marks: Vec<(Marker, usize, usize)> = Vec::new();
    let mut start = 0;
    // Carriage returns too: PostgreSQL ends a comment at either.
    for line in text.split_inclusive(['\n', '\r']) {
        let end = start + line.len();
        if let Some((whose, marker, says)) = marker(line)? {
            if *tool.get_or_insert(whose) != whose {
                return Err(Error::invalid(
                    "markers of goose and of dbmate in one migration",
                    "Use those of one tool.",
                ));
            }
            // A migration is one thing: where one of its scripts cannot run in a transaction, neither does.
            transactional = match (transactional, says) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (before, says) => says.or(before),
            };
            if marker != Marker::Aside {
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
        [(Marker::Up, start, end), (Marker::Down, down, behind)] => {
            (&text[..*start], &text[*end..*down], Some(&text[*behind..]))
        }
        _ => {
            return Err(Error::invalid(
                format!("the markers of {} are not one up and at most one down behind it", tool.name()),
                format!("Begin with \"{}\"; a migration has one of each.", tool.up()),
            ));
        }
    };
    Ok(Some(Marked { tool, preface, up, down, transactional }))
}

/// The marker on a line, and what it says about transactions.
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
    // Neither tool heeds it there, and what it was to divide would run as one.
    if line.starts_with(char::is_whitespace) {
        return Err(Error::invalid(
            format!("\"{}\" is not at the start of its line", line.trim()),
            "Take the white space before it away.",
        ));
    }
    Ok(Some(found))
}

fn goose(annotation: &str, rest: &[String], line: &str) -> Result<(Tool, Marker, Option<bool>)> {
    let words = std::iter::once(annotation).chain(rest.iter().map(String::as_str));
    let (marker, says) = match words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").as_str() {
        "up" => (Marker::Up, None),
        "down" => (Marker::Down, None),
        "no transaction" => (Marker::Aside, Some(false)),
        // Statements are divided by the server's own parser.
        "statementbegin" | "statementend" | "envsub off" => (Marker::Aside, None),
        "envsub on" => {
            return Err(Error::invalid(
                "\"-- +goose ENVSUB ON\" is not supported: the server has no environment of yours",
                "Write the values into the migration.",
            ));
        }
        _ => {
            return Err(Error::invalid(
                format!("unknown annotation of goose: \"{}\"", line.trim()),
                "Known are Up, Down, StatementBegin, StatementEnd and NO TRANSACTION.",
            ));
        }
    };
    Ok((Tool::Goose, marker, says))
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
                    "The option is transaction:false, without a space.",
                ));
            }
        };
    }
    Ok(transactional)
}
