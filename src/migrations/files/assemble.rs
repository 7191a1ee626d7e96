//! Assembles migrations from files. All files of a directory must have the same format, and each version has one
//! migration.

use std::collections::BTreeMap;

use super::directory::File;
use super::in_file;
use super::names::{self, FileName, Layout, Part};
use crate::error::{Error, Result};
use crate::migrations::markers::{self, Sections, Tool};
use crate::migrations::script;
use crate::migrations::version::Version;

pub struct Migration {
    pub version: Version,
    pub name: String,
    pub file: String,
    pub sections: Sections,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    GolangMigrate,
    Flyway,
    Marked(Tool),
    Plain,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::GolangMigrate => "golang-migrate",
            Format::Flyway => "Flyway",
            Format::Marked(tool) => tool.name(),
            Format::Plain => "plain SQL",
        }
    }
}

/// The scripts of one version.
#[derive(Default)]
struct Pair {
    up: Option<Script>,
    down: Option<Script>,
}

struct Script {
    version: Version,
    name: String,
    file: String,
    text: String,
}

/// Returns the migrations in the order of versions.
pub fn migrations(files: Vec<File>) -> Result<Vec<Migration>> {
    let files = files.into_iter().map(|file| Ok((parse(&file.name)?, file))).collect::<Result<Vec<_>>>()?;
    let format = common_format(&files)?;
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    for (name, file) in files {
        let version = in_file(&file.name, || Version::parse(&name.version))?;
        let pair = pairs.entry(version.sort_key.clone()).or_default();
        let slot = if name.part == Part::Up { &mut pair.up } else { &mut pair.down };
        if let Some(other) = slot {
            return Err(Error::invalid(
                format!("files \"{}\" and \"{}\" have the same version", other.file, file.name),
                "Give one of them another version.",
            ));
        }
        *slot = Some(Script { version, name: name.name, file: file.name, text: file.text });
    }
    pairs.into_values().filter_map(|pair| migration(pair, format).transpose()).collect()
}

fn parse(file: &str) -> Result<FileName> {
    names::parse(file).map_err(|hint| Error::invalid(format!("file \"{file}\" is not named like a migration"), hint))
}

/// Returns the format of all files. Raises an error if they differ, because that is more likely a forgotten marker or a
/// misspelled name than intended.
fn common_format(files: &[(FileName, File)]) -> Result<Format> {
    let mut first: Option<(Format, &str)> = None;
    for (name, file) in files {
        let format = in_file(&file.name, || format(name, &file.text))?;
        match first {
            None => first = Some((format, &file.name)),
            Some((before, _)) if before == format => {}
            Some((before, other)) => {
                return Err(Error::invalid(
                    format!(
                        "files of {} (\"{other}\") and of {} (\"{}\") in one directory",
                        before.name(),
                        format.name(),
                        file.name
                    ),
                    "Use the names and markers of one tool.",
                ));
            }
        }
    }
    first.map(|(format, _)| format).ok_or_else(|| Error::internal("no files"))
}

fn format(name: &FileName, text: &str) -> Result<Format> {
    let tool = markers::split(text)?.map(|marked| marked.tool);
    match (name.layout, tool) {
        (Layout::Numbered, Some(tool)) => Ok(Format::Marked(tool)),
        (Layout::Numbered, None) => Ok(Format::Plain),
        (Layout::GolangMigrate, None) => Ok(Format::GolangMigrate),
        (Layout::Flyway, None) => Ok(Format::Flyway),
        (Layout::GolangMigrate | Layout::Flyway, Some(tool)) => Err(Error::invalid(
            format!("has markers of {}, but is not named like its files", tool.name()),
            "Name it VERSION_name.sql, or remove the markers.",
        )),
    }
}

fn migration(pair: Pair, format: Format) -> Result<Option<Migration>> {
    let Some(up) = pair.up else {
        return match pair.down {
            None => Ok(None),
            Some(down) => Err(Error::invalid(
                format!("file \"{}\" reverts version \"{}\", which has no up script", down.file, down.version.text),
                if format == Format::Flyway {
                    "Add the file of that version whose name begins with V."
                } else {
                    "Add the .up.sql file of that version."
                },
            )),
        };
    };
    let sections = match format {
        Format::Marked(_) => in_file(&up.file, || Sections::of(&up.text, None, None))?,
        _ => Sections { up: up.text, down: pair.down.map(down).transpose()?.flatten(), transactional: None },
    };
    Ok(Some(Migration { version: up.version, name: up.name, file: up.file, sections }))
}

/// Returns the down script. As with markers, one without a statement counts as absent.
fn down(script: Script) -> Result<Option<String>> {
    let has_statements = in_file(&script.file, || script::has_statements(&script.text))?;
    Ok(has_statements.then_some(script.text))
}
