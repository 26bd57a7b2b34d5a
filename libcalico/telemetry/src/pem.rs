//! Certificates and keys from PEM files, for whoever speaks TLS: the metrics' server here, Typha's clients.
//!
//! In comes a path, out goes what rustls takes, or an error that names the file and says what it should hold. Always
//! holds: a file without what it is read for is an error, never an empty list. Left out: whether certificates are in
//! date and belong together, which the handshake tells.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}; it must be a readable PEM file with {holds}", path.display())]
pub struct PemError {
    path: PathBuf,
    /// What the file is read for.
    holds: &'static str,
    reason: String,
}

impl PemError {
    fn of<'a, E: std::fmt::Display>(path: &'a Path, holds: &'static str) -> impl Fn(E) -> Self + 'a {
        move |e| Self { path: path.to_owned(), holds, reason: e.to_string() }
    }
}

/// A certificate, and those that lead from it to an authority, in the file's order.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    read(path, "a certificate")
}

/// The certificates of authorities.
pub fn authorities(path: &Path) -> Result<RootCertStore, PemError> {
    const HOLDS: &str = "certificates of authorities";
    let mut roots = RootCertStore::empty();
    for certificate in read(path, HOLDS)? {
        roots.add(certificate).map_err(PemError::of(path, HOLDS))?;
    }
    Ok(roots)
}

/// The first private key, in any of the three forms (PKCS #8, PKCS #1, SEC 1).
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(path).map_err(PemError::of(path, "a private key"))
}

fn read(path: &Path, holds: &'static str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(PemError::of(path, holds))?;
    if found.is_empty() {
        return Err(PemError::of(path, holds)("no certificate in it"));
    }
    Ok(found)
}
