//! Reads the .sql files of a directory on the server.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use pgrx::check_for_interrupts;

use crate::error::{Error, Result};

const MAX_MEGABYTES: u64 = 100;
const BYTE_ORDER_MARK: char = '\u{feff}';

pub struct File {
    pub name: String,
    pub text: String,
}

/// Returns the directory's .sql files in the order of their names. Skips other files and subdirectories.
pub fn read(directory: &str) -> Result<Vec<File>> {
    let unreadable = |error: io::Error| {
        Error::invalid(
            format!("cannot read directory \"{directory}\": {}", reason(&error)),
            "The directory must be on the server, and readable for the operating system user that runs PostgreSQL. A \
             relative path begins at the data directory.",
        )
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sql")) && !path.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    let files = paths.iter().map(|path| file(path)).collect::<Result<Vec<_>>>()?;
    if files.is_empty() {
        return Err(Error::invalid(
            format!("no .sql file in directory \"{directory}\""),
            "Subdirectories are not searched: name the directory that contains the files.",
        ));
    }
    Ok(files)
}

fn file(path: &Path) -> Result<File> {
    check_for_interrupts!();
    let shown = path.file_name().unwrap_or(OsStr::new("")).to_string_lossy().into_owned();
    let refuse = |problem: &str, hint: &str| Error::invalid(format!("file \"{shown}\" {problem}"), hint);
    let name =
        path.file_name().and_then(OsStr::to_str).ok_or_else(|| refuse("has a name that is not UTF-8", RENAME))?;
    let bytes = match contents(path) {
        Ok(Contents::Read(bytes)) => bytes,
        Ok(Contents::NoFile) => return Err(refuse("is not a regular file", "Put a file in its place.")),
        Ok(Contents::TooLarge) => {
            let problem = format!("is larger than {MAX_MEGABYTES} MB");
            return Err(refuse(&problem, "Split it into several migrations."));
        }
        Err(error) => {
            let problem = format!("cannot be read: {}", reason(&error));
            return Err(refuse(&problem, "Make it readable for the operating system user that runs PostgreSQL."));
        }
    };
    let text = String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8", "Convert it to UTF-8."))?;
    if text.contains('\0') {
        return Err(refuse("contains a zero byte", "Convert it to UTF-8."));
    }
    let text = text.strip_prefix(BYTE_ORDER_MARK).map(str::to_string).unwrap_or(text);
    Ok(File { name: name.to_string(), text })
}

const RENAME: &str = "Rename it.";

enum Contents {
    Read(Vec<u8>),
    NoFile,
    TooLarge,
}

/// Reads a file. Checks its type first, because opening a named pipe would wait for a process that writes to it.
fn contents(path: &Path) -> io::Result<Contents> {
    let metadata = fs::metadata(path)?;
    Ok(if !metadata.is_file() {
        Contents::NoFile
    } else if metadata.len() > MAX_MEGABYTES * 1024 * 1024 {
        Contents::TooLarge
    } else {
        Contents::Read(fs::read(path)?)
    })
}

/// Returns the error's text without the operating system's error number, which Rust appends.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}
