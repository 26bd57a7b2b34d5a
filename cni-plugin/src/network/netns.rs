//! A pod's network namespace.
//!
//! In comes a path, out goes the ability to run code inside. A thread that has entered a namespace is used for
//! nothing else and ends: no other code of the process ever finds itself in a pod.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use super::NetworkError;

/// An open network namespace. It lives as long as this does.
#[derive(Debug)]
pub struct NetNs {
    path: PathBuf,
    file: File,
}

impl NetNs {
    /// Opens the namespace. The host's own is refused: an ADD there would move the node's traffic.
    pub fn open(path: &Path) -> Result<Self, NetworkError> {
        let wrong = |source| NetworkError::Namespace { path: path.display().to_string(), source };
        let file = File::open(path).map_err(wrong)?;
        let id = |m: std::fs::Metadata| (m.dev(), m.ino());
        let theirs = id(file.metadata().map_err(wrong)?);
        if std::fs::metadata("/proc/self/ns/net").map(id).is_ok_and(|own| own == theirs) {
            return Err(wrong(Error::new(ErrorKind::InvalidInput, "is the host's own namespace")));
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// True where the path does not lead to a namespace (any more).
    #[must_use]
    pub fn gone(e: &NetworkError) -> bool {
        match e {
            NetworkError::Namespace { source, .. } => {
                source.kind() == ErrorKind::NotFound || source.raw_os_error() == Some(nix::libc::EINVAL)
            }
            _ => false,
        }
    }

    /// As the runtime gave it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For netlink messages that name the namespace.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs code inside, on a thread of its own, and waits for it.
    pub fn run<T: Send>(
        &self,
        f: impl FnOnce() -> Result<T, NetworkError> + Send,
    ) -> Result<T, NetworkError> {
        let wrong = |source| NetworkError::Namespace { path: self.path.display().to_string(), source };
        std::thread::scope(|s| {
            let inside = || {
                setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|e| wrong(e.into()))?;
                f()
            };
            match std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(s, inside) {
                Ok(t) => {
                    t.join().unwrap_or_else(|_| Err(wrong(Error::other("the thread inside it panicked"))))
                }
                Err(e) => Err(wrong(e)),
            }
        })
    }
}
