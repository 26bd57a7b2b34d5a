//! A directory that fills with evidence and becomes an archive.
//!
//! Always holds: what could not be collected is named in the archive's `not-collected.txt`, and never stops the rest.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result};

/// Evidence being collected.
pub struct Bundle {
    /// Where the archive comes to stand.
    parent: PathBuf,
    name: String,
    missing: Vec<String>,
}

impl Bundle {
    /// An empty directory `parent/name`, readable by its owner alone: diagnostics tell much of a cluster.
    pub fn new(parent: &Path, name: &str) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let bundle = Self { parent: parent.to_owned(), name: name.to_owned(), missing: Vec::new() };
        let dir = bundle.dir();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|e| failed(&dir, &e))?;
        Ok(bundle)
    }

    fn dir(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Adds a file; `name` may have directories in it.
    pub fn text(&mut self, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let path = self.dir().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| failed(parent, &e))?;
        }
        std::fs::write(&path, text).map_err(|e| failed(&path, &e))
    }

    /// Adds a copy of a file of the system.
    pub fn copy(&mut self, name: &str, from: &Path) -> Result<()> {
        match std::fs::read(from) {
            Ok(text) => self.text(name, text),
            Err(e) => {
                self.missed(format!("{}: {e}", from.display()));
                Ok(())
            }
        }
    }

    /// Adds what a command prints.
    pub fn command(&mut self, name: &str, program: &str, args: &[&str]) -> Result<()> {
        match Command::new(program).args(args).output() {
            Ok(out) => {
                if !out.status.success() {
                    let reason = String::from_utf8_lossy(&out.stderr);
                    self.missed(format!("{program} {}: {}", args.join(" "), reason.trim()));
                }
                self.text(name, out.stdout)
            }
            Err(e) => {
                self.missed(format!("{program} {}: {e}", args.join(" ")));
                Ok(())
            }
        }
    }

    /// Notes what could not be had, and why.
    pub fn missed(&mut self, what: String) {
        self.missing.push(what);
    }

    /// Packs everything and says where it is. Without `keep` the directory goes.
    pub fn finish(mut self, keep: bool) -> Result<PathBuf> {
        for what in &self.missing {
            println!("Not collected: {what}");
        }
        if !self.missing.is_empty() {
            let text = self.missing.join("\n") + "\n";
            self.text("not-collected.txt", text)?;
        }
        let archive = self.parent.join(format!("{}.tar.gz", self.name));
        let out = Command::new("tar")
            .arg("-czf")
            .arg(&archive)
            .arg("-C")
            .arg(&self.parent)
            .arg(&self.name)
            .output()
            .map_err(|e| Error::Action(format!("tar: {e}; the files are in {}", self.dir().display())))?;
        if !out.status.success() {
            let reason = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            return Err(Error::Action(format!("tar: {reason}; the files are in {}", self.dir().display())));
        }
        if !keep {
            let dir = self.dir();
            std::fs::remove_dir_all(&dir).map_err(|e| failed(&dir, &e))?;
        }
        Ok(archive)
    }
}

fn failed(path: &Path, e: &std::io::Error) -> Error {
    Error::Action(format!("{}: {e}", path.display()))
}

/// `20261118_111825`: part of the archive's name.
#[must_use]
pub fn timestamp() -> String {
    let moment = libcalico_ipam::Moment::now().rfc3339();
    moment.chars().filter(char::is_ascii_alphanumeric).collect::<String>().replace('T', "_").replace('Z', "")
}
