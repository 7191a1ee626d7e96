//! Folders of migration files on the server, and the result of loading them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use postgres::Client;
use postgres::error::Error;
use tempfile::TempDir;

pub const LOAD: &str = "SELECT version, name, file, status FROM tenant_migrations_load($1)";

/// A folder that the servers' user can read. It is removed when dropped.
pub struct Folder(TempDir);

impl Folder {
    pub fn of(files: &[(&str, &str)]) -> Folder {
        let folder = tempfile::Builder::new().prefix("migrations-").tempdir_in("/tmp").expect("/tmp takes a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder is the suite's");
        let folder = Folder(folder);
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap_or_else(|e| panic!("cannot write {name}: {e}"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("the file is the suite's");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap_or_else(|e| panic!("cannot remove {name}: {e}"));
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn name(&self) -> String {
        self.path().display().to_string()
    }

    /// Loads the folder, which must succeed, and returns a line for each migration: `version, name, file, status`.
    #[track_caller]
    pub fn loaded(&self, client: &mut Client) -> Vec<String> {
        self.load(client).unwrap_or_else(|e| panic!("{e:?}"))
    }

    pub fn load(&self, client: &mut Client) -> Result<Vec<String>, Error> {
        let rows = client.query(LOAD, &[&self.name()])?;
        let line = |row: &postgres::Row| (0..4).map(|i| row.get::<_, &str>(i)).collect::<Vec<_>>().join(", ");
        Ok(rows.iter().map(line).collect())
    }
}
