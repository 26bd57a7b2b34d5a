//! Certificates for mutual TLS between Typha and its clients, made anew for every lab.
//!
//! In: Typha's address. Out: an authority and one certificate each for the server and for all nodes, as PEM.
//! What always holds: the names are those upstream's manual uses, so that `TYPHA_CLIENTCN` and `FELIX_TYPHACN` say
//! who may speak. Left out: rotation; a lab lives for hours.

use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::error::Doing;
use crate::{LabError, Result};

/// The common name of Typha's certificate.
pub const SERVER_NAME: &str = "typha-server";
/// The common name of every node's certificate.
pub const CLIENT_NAME: &str = "typha-client";

/// A certificate and its key as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// The authority's certificate and both sides' identities.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub authority: String,
    pub server: Identity,
    pub client: Identity,
}

impl Certificates {
    /// Makes all of them.
    pub fn make(server: IpAddr) -> Result<Self> {
        Self::try_make(server)
            .map_err(|e| LabError::io("making certificates", std::io::Error::other(e.to_string())))
    }

    fn try_make(server: IpAddr) -> std::result::Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "lab authority");
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let server_names = vec![SanType::DnsName(SERVER_NAME.try_into()?), SanType::IpAddress(server)];
        let client_names = vec![SanType::DnsName(CLIENT_NAME.try_into()?)];
        Ok(Self {
            authority,
            server: identity(&issuer, SERVER_NAME, server_names, ExtendedKeyUsagePurpose::ServerAuth)?,
            client: identity(&issuer, CLIENT_NAME, client_names, ExtendedKeyUsagePurpose::ClientAuth)?,
        })
    }
}

fn identity(
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    alternative_names: Vec<SanType>,
    usage: ExtendedKeyUsagePurpose,
) -> std::result::Result<Identity, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = alternative_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    Ok(Identity { certificate: params.signed_by(&key, issuer)?.pem(), key: key.serialize_pem() })
}

/// Where a machine finds its certificates, as seen on the machine.
pub const AUTHORITY_FILE: &str = "/etc/calico/certs/ca.crt";
/// A machine's own certificate.
pub const CERTIFICATE_FILE: &str = "/etc/calico/certs/tls.crt";
/// The key of it.
pub const KEY_FILE: &str = "/etc/calico/certs/tls.key";

/// Writes an identity to a machine; `outside` gives a file's path from outside the machine.
pub fn install(
    authority: &str,
    identity: &Identity,
    outside: impl Fn(&str) -> std::path::PathBuf,
) -> Result<()> {
    for (file, text) in [
        (AUTHORITY_FILE, authority),
        (CERTIFICATE_FILE, identity.certificate.as_str()),
        (KEY_FILE, &identity.key),
    ] {
        let path = outside(file);
        let dir = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(dir).doing(|| format!("making {}", dir.display()))?;
        std::fs::write(&path, text).doing(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_its_own_key_and_all_are_pem() {
        let made = Certificates::make([172, 31, 0, 250].into()).unwrap();
        for text in [&made.authority, &made.server.certificate, &made.client.certificate] {
            assert!(text.starts_with("-----BEGIN CERTIFICATE-----"), "{text}");
        }
        assert_ne!(made.server.key, made.client.key);
        assert!(made.server.key.contains("PRIVATE KEY"));
    }
}
