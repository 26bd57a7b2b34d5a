//! Who a peer's certificate says it is: common name and URI names, as Typha and its clients check each other.
//!
//! In come a certificate (DER) and what is required, out goes whether it fits. Upstream's rule: where both a common name
//! and a URI are required, one that fits is enough. Left out: whether the certificate is genuine; TLS decides that.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a peer must be called. Nothing required: any certificate that our authority signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Required {
    pub common_name: Option<String>,
    pub uri_san: Option<String>,
}

impl Required {
    /// Fails with a sentence that names what was found and what was required.
    pub fn check(&self, der: &[u8]) -> Result<(), String> {
        if *self == Self::default() {
            return Ok(());
        }
        let (_, cert) = X509Certificate::from_der(der)
            .map_err(|e| format!("the peer's certificate cannot be read: {e}"))?;
        let names: Vec<&str> = cert.subject().iter_common_name().filter_map(|n| n.as_str().ok()).collect();
        let uris: Vec<&str> = cert
            .subject_alternative_name()
            .ok()
            .flatten()
            .map(|san| {
                let names = san.value.general_names.iter();
                names.filter_map(|n| if let GeneralName::URI(u) = n { Some(*u) } else { None }).collect()
            })
            .unwrap_or_default();
        let fits = |want: &Option<String>, have: &[&str]| want.as_deref().is_some_and(|w| have.contains(&w));
        if fits(&self.common_name, &names) || fits(&self.uri_san, &uris) {
            return Ok(());
        }
        Err(format!(
            "the peer's certificate is for {names:?} {uris:?}; required is common name {:?} or URI {:?}",
            self.common_name.as_deref().unwrap_or("-"),
            self.uri_san.as_deref().unwrap_or("-")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cert(cn: &str, uri: Option<&str>) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, cn);
        if let Some(u) = uri {
            params.subject_alt_names.push(rcgen::SanType::URI(u.try_into().unwrap()));
        }
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn required(cn: &str, uri: &str) -> Required {
        let some = |t: &str| (!t.is_empty()).then(|| t.to_owned());
        Required { common_name: some(cn), uri_san: some(uri) }
    }

    #[test]
    fn one_name_that_fits_is_enough() {
        assert!(required("", "").check(&cert("anyone", None)).is_ok());
        assert!(required("felix", "").check(&cert("felix", None)).is_ok());
        assert!(required("felix", "").check(&cert("other", None)).is_err());
        assert!(required("", "spiffe://x").check(&cert("other", Some("spiffe://x"))).is_ok());
        assert!(required("felix", "spiffe://x").check(&cert("felix", None)).is_ok());
        assert!(required("felix", "spiffe://x").check(&cert("y", Some("spiffe://z"))).is_err());
        assert!(required("felix", "").check(b"nonsense").is_err());
    }
}
