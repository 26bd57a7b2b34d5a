//! Certificate authorities with what they signed, as PEM files in a directory of their own.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// Two authorities that do not know each other, `ca` and `other-ca`. Both sign for the same names; what the second one
/// signed is called `other-NAME`.
pub struct Pki {
    directory: tempfile::TempDir,
    issuers: Vec<(&'static str, Issuer<'static, KeyPair>)>,
}

impl Pki {
    /// Certificates for a `server` and a `client`.
    #[must_use]
    pub fn new() -> Self {
        Self::of(&["server", "client"])
    }

    /// Certificates for names. Each has its name as common name, and serves `localhost`, `127.0.0.1`, `NAME.example`
    /// and `spiffe://calico/NAME`.
    #[must_use]
    pub fn of(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory for certificates");
        let mut pki = Self { directory, issuers: Vec::new() };
        for (prefix, ca) in [("", "ca"), ("other-", "other-ca")] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, ca);
            let cert = params.self_signed(&key).expect("an authority");
            pki.write(ca, &cert.pem(), &key.serialize_pem());
            pki.issuers.push((prefix, Issuer::new(params, key)));
        }
        for name in names {
            pki.sign(name);
        }
        pki
    }

    /// Makes a new key and certificate for a name, over the files of the last one where there was one.
    pub fn sign(&self, name: &str) {
        for (prefix, issuer) in &self.issuers {
            let key = KeyPair::generate().expect("a key");
            let names = ["localhost", "127.0.0.1", &format!("{name}.example")].map(str::to_owned);
            let mut params = CertificateParams::new(names).expect("good names");
            params.distinguished_name.push(DnType::CommonName, name);
            let uri = format!("spiffe://calico/{name}");
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().expect("ASCII")));
            let cert = params.signed_by(&key, issuer).expect("a certificate");
            self.write(&format!("{prefix}{name}"), &cert.pem(), &key.serialize_pem());
        }
    }

    fn write(&self, name: &str, cert: &str, key: &str) {
        std::fs::write(self.cert(name), cert).expect("a certificate's file");
        std::fs::write(self.key(name), key).expect("a key's file");
    }

    /// Where all of them are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `server`, `other-server`, `ca`, `other-ca`, …
    #[must_use]
    pub fn cert(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.pem"))
    }

    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}-key.pem"))
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}
