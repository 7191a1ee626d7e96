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

/// In the order of names. What is not called .sql is not looked at, nor are directories.
pub fn read(directory: &str) -> Result<Vec<File>> {
    let unreadable = |error: io::Error| {
        Error::invalid(
            format!("cannot read directory \"{directory}\": {}", reason(&error)),
            "It lies on the server, where the server's own user has to be allowed to read it; a path that does not begin \
             with / begins at the data directory.",
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
            "Files in directories below it are not looked at: name the directory that they lie in.",
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
            return Err(refuse(&problem, "Divide it into several migrations."));
        }
        Err(error) => {
            let problem = format!("cannot be read: {}", reason(&error));
            return Err(refuse(&problem, "Let the server's own user read it."));
        }
    };
    let text = String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8", "Convert it to UTF-8."))?;
    if text.contains('\0') {
        return Err(refuse("holds a zero byte", "Convert it to UTF-8."));
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

/// Looks before it opens: to open a named pipe would wait for somebody who writes to it.
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

/// Without the number of the system's error that Rust adds.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}
