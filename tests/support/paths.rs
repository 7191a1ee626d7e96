//! Where things lie in the clone.

use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests' crate lies in the clone")
}

/// The private folder; scripts/setup.sh may have made it a link to a place that the servers' user can enter.
pub fn private() -> PathBuf {
    let folder = root().join(".dev");
    folder.canonicalize().unwrap_or(folder)
}

/// The sources of a suite for another language's client.
pub fn client_suite(name: &str) -> PathBuf {
    root().join("tests/clients").join(name)
}
