//! Paths in the clone.

use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests' crate is in the clone")
}

/// Returns the private folder. scripts/setup.sh makes it a link if the servers' user cannot enter the clone.
pub fn private() -> PathBuf {
    let folder = root().join(".dev");
    folder.canonicalize().unwrap_or(folder)
}

/// Returns the folder of the tests that run in another language's client.
pub fn client_suite(name: &str) -> PathBuf {
    root().join("tests/clients").join(name)
}
