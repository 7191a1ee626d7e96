//! Parses the names of migration files.

/// The naming scheme of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `1_name.up.sql`, `1_name.down.sql`
    GolangMigrate,
    /// `V1__name.sql`, `U1__name.sql`, `R__name.sql`
    Flyway,
    /// `1_name.sql`: of goose, dbmate or no tool, depending on the markers in the text.
    Numbered,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Up,
    Down,
}

pub struct FileName {
    pub layout: Layout,
    pub part: Part,
    pub version: String,
    pub name: String,
}

const REPEATABLE: &str = "R__";

/// Parses a file's name. The error is a hint how to name the file.
pub fn parse(file: &str) -> Result<FileName, &'static str> {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    if let Some(description) = stem.strip_prefix(REPEATABLE) {
        let name = words(description, &['_']);
        return if name.is_empty() {
            Err("Name it R__name.sql: the name distinguishes repeatable migrations.")
        } else {
            Ok(FileName { layout: Layout::Flyway, part: Part::Up, version: stem.into(), name })
        };
    }
    for (prefix, part) in [("V", Part::Up), ("U", Part::Down)] {
        if let Some(rest) = stem.strip_prefix(prefix) {
            let (version, description) = rest.split_once("__").ok_or(OTHER)?;
            let version = version.replace('_', ".");
            return if is_number(&version) {
                Ok(named(Layout::Flyway, part, version, words(description, &['_'])))
            } else {
                Err(OTHER)
            };
        }
    }
    let (base, layout, part) = match stem.rsplit_once('.') {
        Some((base, suffix)) if suffix.eq_ignore_ascii_case("up") => (base, Layout::GolangMigrate, Part::Up),
        Some((base, suffix)) if suffix.eq_ignore_ascii_case("down") => (base, Layout::GolangMigrate, Part::Down),
        _ => (stem, Layout::Numbered, Part::Up),
    };
    let (version, name) = numbered(base)?;
    Ok(named(layout, part, version, name))
}

const OTHER: &str = "Name it VERSION_name.sql, VERSION_name.up.sql or V1__name.sql, with a number as version, or move it \
                     out of the directory.";

/// Splits `VERSION_name`, `VERSION-name` or `VERSION` into version and name.
fn numbered(base: &str) -> Result<(String, String), &'static str> {
    let end = base.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(base.len());
    let (version, rest) = base.split_at(end);
    if !is_number(version) {
        return Err(OTHER);
    }
    let separators: &[char] = match rest.chars().next() {
        None => return Ok((version.into(), String::new())),
        Some('_') => &['_'],
        Some('-') => &['-', '_'],
        Some(_) => return Err(OTHER),
    };
    // In a date such as 2026-01-31, month and day would be taken for the name.
    let next = rest[1..].split(['_', '-']).next().unwrap_or_default();
    if version.len() == 4 && next.len() == 2 && is_number(next) {
        return Err("Write a date as one number: 20260131_name.sql.");
    }
    Ok((version.into(), words(rest, separators)))
}

fn is_number(version: &str) -> bool {
    version.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

fn words(text: &str, separators: &[char]) -> String {
    text.split(separators).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Makes the version the name if there is none.
fn named(layout: Layout, part: Part, version: String, name: String) -> FileName {
    let name = if name.is_empty() { version.clone() } else { name };
    FileName { layout, part, version, name }
}
