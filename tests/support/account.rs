//! The user that servers run as: PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

#[derive(Clone, Copy)]
pub struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// Returns the account that servers run as, or None if the suite does not run as root: servers then run as the
    /// current user.
    pub fn of_servers() -> Option<Account> {
        let me = fs::metadata("/proc/self").expect("a process has a folder in /proc").uid();
        if me != 0 {
            return None;
        }
        let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
        let found = ["postgres", "nobody"].iter().find_map(|name| Account::named(&accounts, name));
        Some(found.expect("root needs a user `postgres` or `nobody` to run servers as"))
    }

    fn named(accounts: &str, name: &str) -> Option<Account> {
        let fields: Vec<&str> = accounts.lines().map(|l| l.split(':').collect()).find(|f: &Vec<_>| f[0] == name)?;
        Some(Account { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
    }

    /// Makes this account the owner of a file or folder.
    pub fn own(self, path: &Path) {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .unwrap_or_else(|e| panic!("cannot give {} to the servers' user: {e}", path.display()));
    }
}

/// Returns a command that runs as the servers' user. If root starts it, `uid` also drops the supplementary groups.
pub fn server_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some(account) = Account::of_servers() {
        command.uid(account.uid).gid(account.gid);
    }
    // RUST_BACKTRACE would leak backtraces into the DETAIL of errors.
    command.env_remove("RUST_BACKTRACE").env_remove("PGPORT");
    command
}
