//! Programs that a test makes and runs.
//!
//! Always holds: this process never has a program's file open for writing. A child that another thread starts at that
//! moment would have it open too until its own program begins, and for so long the kernel refuses to run the file (`Text
//! file busy`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A shell script that stands for a program: `name` in a directory, over what was there.
///
/// # Panics
/// Where it cannot be written.
#[must_use]
pub fn script(directory: &Path, name: &str, body: &str) -> PathBuf {
    let path = directory.join(name);
    // A file beside it takes its place: the old one may just run.
    let write =
        "printf '%s\\n' '#!/bin/sh' \"$2\" > \"$1.new\" && chmod 755 \"$1.new\" && mv \"$1.new\" \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", write, "sh"]).arg(&path).arg(body);
    done(&mut command, &path);
    path
}

/// A copy of a program.
///
/// # Panics
/// Where it cannot be written.
pub fn copy_program(from: &Path, to: &Path) {
    done(Command::new("cp").arg(from).arg(to), to);
}

fn done(command: &mut Command, path: &Path) {
    let status = command.stdin(Stdio::null()).status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "{}: {status:?}", path.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_can_be_run_at_once_while_others_start_programs() {
        let directory = tempfile::tempdir().unwrap();
        std::thread::scope(|s| {
            for n in 0..4 {
                let directory = directory.path();
                s.spawn(move || {
                    for round in 0..20 {
                        let path = script(directory, &format!("p{n}"), &format!("echo \"'it' is {round}\""));
                        let copy = directory.join(format!("c{n}-{round}"));
                        copy_program(&path, &copy);
                        for program in [path, copy] {
                            let out = Command::new(program).output().unwrap();
                            assert_eq!(out.stdout, format!("'it' is {round}\n").as_bytes());
                        }
                    }
                });
            }
        });
    }
}
