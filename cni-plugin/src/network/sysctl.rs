//! Kernel settings below `/proc/sys/net`, of the namespace that the thread is in.

use std::io::ErrorKind;
use std::path::Path;

use super::NetworkError;

/// Sets one. A kernel without IPv6 has no settings for it, which is no error: there is nothing to set.
pub fn set(key: &str, value: &'static str) -> Result<(), NetworkError> {
    let path = Path::new("/proc/sys/net").join(key);
    match std::fs::write(&path, value) {
        Err(e)
            if e.kind() == ErrorKind::NotFound
                && key.starts_with("ipv6/")
                && !Path::new("/proc/sys/net/ipv6").exists() =>
        {
            Ok(())
        }
        done => done.map_err(|source| NetworkError::Sysctl { key: key.to_owned(), value, source }),
    }
}
