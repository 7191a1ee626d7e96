//! C libraries that a test compiles and loads into the server, in the place of other vendors' extensions.

use std::path::PathBuf;
use std::process::Command;

use super::Db;

impl Db {
    /// Compiles C source against this server's headers, and returns a path for LOAD and session_preload_libraries.
    #[track_caller]
    pub fn compile_library(&self, name: &str, source: &str) -> PathBuf {
        let folder = self.socket_dir();
        // The cases of a cluster share its folder, so the file's name contains the database's.
        let file = |kind: &str| folder.join(format!("{name}_{}.{kind}", self.name()));
        let (code, library) = (file("c"), file("so"));
        std::fs::write(&code, source).expect("the cluster's folder is writable");
        let output = Command::new(self.bin("pg_config")).arg("--includedir-server").output().expect("pg_config runs");
        let headers = String::from_utf8(output.stdout).expect("a path");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-I", headers.trim(), "-o"]).arg(&library).arg(&code);
        let compiled = compiler.output().unwrap_or_else(|e| panic!("cannot run cc: {e}"));
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        library
    }
}
