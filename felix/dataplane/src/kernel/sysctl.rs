//! Reads and writes `/proc/sys`, of the calling thread's network namespace.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Where the kernel's settings stand.
#[derive(Clone, Debug)]
pub struct Sysctl {
    root: PathBuf,
}

impl Default for Sysctl {
    fn default() -> Self {
        Self { root: PathBuf::from("/proc/sys") }
    }
}

/// What became of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It had the value.
    Unchanged,
    Written,
    /// This kernel or interface has no such setting.
    Absent,
}

impl Sysctl {
    /// Settings below another folder: for tests.
    #[must_use]
    pub fn at(root: impl AsRef<Path>) -> Self {
        Self { root: root.as_ref().to_owned() }
    }

    /// What a setting holds; `None`: there is no such setting.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn get(&self, path: &str) -> io::Result<Option<String>> {
        match std::fs::read_to_string(self.root.join(path)) {
            Ok(now) => Ok(Some(now.trim().to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes a setting hold a value. `path` is like `net/ipv4/conf/cali0/proxy_arp`.
    ///
    /// # Errors
    /// The setting is there and cannot be read or written.
    pub fn ensure(&self, path: &str, value: &str) -> io::Result<Outcome> {
        let file = self.root.join(path);
        match std::fs::read_to_string(&file) {
            Ok(now) if now.trim() == value => Ok(Outcome::Unchanged),
            Ok(_) => write(&file, value),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Outcome::Absent),
            Err(e) => Err(e),
        }
    }
}

/// Writes to what is there, and never creates: an interface may go between the reading and the writing, and the wish to
/// create may be answered by another error than that nothing is there.
fn write(file: &Path, value: &str) -> io::Result<Outcome> {
    let opened = std::fs::OpenOptions::new().write(true).truncate(true).open(file);
    match opened.and_then(|mut f| f.write_all(value.as_bytes())) {
        Ok(()) => Ok(Outcome::Written),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Outcome::Absent),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_went_after_it_was_read_is_absent() {
        let gone = Path::new("/proc/sys/net/ipv4/conf/no-interface-has-this-name/forwarding");
        assert_eq!(write(gone, "1").unwrap(), Outcome::Absent);
        let nothing = std::env::temp_dir().join(format!("no-setting-{}", std::process::id()));
        assert_eq!(write(&nothing, "1").unwrap(), Outcome::Absent);
        assert!(!nothing.exists(), "nothing is created");
    }
}
