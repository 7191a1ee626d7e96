//! Cleanup that survives the suite. Each server has a guardian, a shell that reads from a pipe. When the suite ends or
//! dies in any way, the pipe closes, and the guardian stops the server and removes its folder.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};

use super::account::server_command;
use super::install::Install;

const SCRIPT: &str = r#"
"$1" start --silent --wait --pgdata=data --log=server.log >/dev/null || exit 1
echo ready
if read -r mode; then
    "$1" stop --silent --pgdata=data --mode="$mode"
else
    "$1" stop --silent --pgdata=data --mode=immediate
    cd / && rm -rf "$2"
fi
"#;

pub struct Guardian(Child);

impl Guardian {
    /// Starts the server in `folder`, and returns when it accepts connections.
    pub fn start(install: &Install, folder: &Path) -> Result<Guardian, String> {
        let mut child = server_command("sh")
            .args(["-c", SCRIPT, "guardian"])
            .args([&install.bin("pg_ctl"), folder])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A process group of its own: Ctrl-C ends only the suite, and the guardian can clean up.
            .process_group(0)
            .spawn()
            .map_err(|e| format!("cannot run sh: {e}"))?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        match BufReader::new(stdout).read_line(&mut line) {
            Ok(n) if n > 0 => Ok(Guardian(child)),
            _ => {
                let log = std::fs::read_to_string(folder.join("server.log")).unwrap_or_default();
                let _ = child.wait();
                Err(format!("the server in {} did not start:\n{log}", folder.display()))
            }
        }
    }

    /// Stops the server and keeps its folder. `mode` is pg_ctl's: `fast`, or `immediate` for a crash.
    pub fn stop(mut self, mode: &str) {
        let mut stdin = self.0.stdin.take().expect("stdin is piped");
        writeln!(stdin, "{mode}").expect("the guardian reads its input");
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
