//! TLS of the metrics' port: what is configured, and rustls' settings made of it.
//!
//! In come the four parameters that Felix and Typha name alike (`PrometheusMetricsCertFile` …), out go settings for one
//! handshake: TLS 1.2 and 1.3, cryptography by ring. Always holds: where one of the four asks for TLS, it is TLS or an
//! error that names the parameter, never plain text; where clients' certificates are to be verified, there is an
//! authority to verify them with. As upstream has it, files are read again for each connection, so that renewed
//! certificates are used, and no session is resumed past a change of them. Unlike upstream, no authority needs to be
//! named where none is asked. Left out: revocation lists, and upstream's variables `TLS_CIPHER_SUITES` and
//! `TLS_MIN_VERSION`.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
};

use crate::pem::{self, PemError};

const CERT: &str = "PrometheusMetricsCertFile";
const KEY: &str = "PrometheusMetricsKeyFile";
const CA: &str = "PrometheusMetricsCAFile";
const CLIENT_AUTH: &str = "PrometheusMetricsClientAuth";

/// What is asked of clients, by upstream's four words, which are those of Go's `crypto/tls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is asked for.
    #[default]
    NoClientCert,
    /// Any certificate will do, whoever signed it, also one that is out of date: the client must have its key.
    RequireAnyClientCert,
    /// None will do; one that is sent must be signed by an authority.
    VerifyClientCertIfGiven,
    /// One that an authority signed.
    RequireAndVerifyClientCert,
}

impl ClientAuth {
    const WORDS: [(&str, Self); 4] = [
        ("NoClientCert", Self::NoClientCert),
        ("RequireAnyClientCert", Self::RequireAnyClientCert),
        ("VerifyClientCertIfGiven", Self::VerifyClientCertIfGiven),
        ("RequireAndVerifyClientCert", Self::RequireAndVerifyClientCert),
    ];

    fn verifies(self) -> bool {
        matches!(self, Self::VerifyClientCertIfGiven | Self::RequireAndVerifyClientCert)
    }
}

/// A word that is none of the four.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is none of NoClientCert, RequireAnyClientCert, VerifyClientCertIfGiven and RequireAndVerifyClientCert"
)]
pub struct UnknownClientAuth;

impl FromStr for ClientAuth {
    type Err = UnknownClientAuth;

    /// Whatever the case, as configuration is read. Nothing is no certificate.
    fn from_str(text: &str) -> Result<Self, UnknownClientAuth> {
        match Self::WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            Some((_, auth)) => Ok(*auth),
            None if text.is_empty() => Ok(Self::default()),
            None => Err(UnknownClientAuth),
        }
    }
}

/// The four parameters, at least one of them set. What goes with what is judged when metrics are to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsTls {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    client_auth: ClientAuth,
}

/// TLS that is set, but not so that it can be spoken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricsTlsError {
    #[error("{set} asks for TLS, but {missing} is not set; set it, or clear {set} for plain HTTP")]
    Incomplete { set: String, missing: String },
    #[error("{parameter} = {source}")]
    File { parameter: &'static str, source: PemError },
    #[error("{CERT} = {} and {KEY} = {} cannot be used together: {reason}", cert.display(), key.display())]
    Unusable { cert: PathBuf, key: PathBuf, reason: String },
}

impl MetricsTls {
    /// Of the parameters' texts, where empty is not set. `None` where none of them asks for TLS.
    #[must_use]
    pub fn new(cert: &str, key: &str, ca: &str, client_auth: ClientAuth) -> Option<Self> {
        let file = |text: &str| Some(text).filter(|t| !t.is_empty()).map(PathBuf::from);
        let tls = Self { cert: file(cert), key: file(key), ca: file(ca), client_auth };
        (!tls.set().is_empty()).then_some(tls)
    }

    /// Names of the parameters that ask for TLS.
    fn set(&self) -> Vec<&'static str> {
        let set = [
            (CERT, self.cert.is_some()),
            (KEY, self.key.is_some()),
            (CA, self.ca.is_some()),
            (CLIENT_AUTH, self.client_auth != ClientAuth::NoClientCert),
        ];
        set.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
    }

    fn incomplete(&self) -> MetricsTlsError {
        let needed = [
            (CERT, self.cert.is_none()),
            (KEY, self.key.is_none()),
            (CA, self.ca.is_none() && self.client_auth.verifies()),
        ];
        let missing: Vec<_> = needed.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
        MetricsTlsError::Incomplete { set: self.set().join(" and "), missing: missing.join(" and ") }
    }

    /// Reads the files and makes the settings of a handshake. Blocks on the disk.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, MetricsTlsError> {
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else { return Err(self.incomplete()) };
        if self.ca.is_none() && self.client_auth.verifies() {
            return Err(self.incomplete());
        }
        let of = |parameter| move |source| MetricsTlsError::File { parameter, source };
        let unusable = |e: Error| MetricsTlsError::Unusable {
            cert: cert.clone(),
            key: key.clone(),
            reason: e.to_string(),
        };
        let chain = pem::certificates(cert).map_err(of(CERT))?;
        let private = pem::key(key).map_err(of(KEY))?;
        // Read also where nobody asks it, as upstream does: a wrong path is told before the day it matters.
        let roots = self.ca.as_deref().map(pem::authorities).transpose().map_err(of(CA))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match self.verifier(roots.unwrap_or_else(RootCertStore::empty), provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, private).map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Settings live for one connection; a client that comes back shows its certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn verifier(
        &self,
        roots: RootCertStore,
        provider: Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, MetricsTlsError> {
        let verifier = match self.client_auth {
            ClientAuth::NoClientCert => return Ok(None),
            ClientAuth::RequireAnyClientCert => {
                let hints = roots.subjects();
                return Ok(Some(Arc::new(AnyCertificate { hints, provider })));
            }
            ClientAuth::VerifyClientCertIfGiven => {
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
            }
            ClientAuth::RequireAndVerifyClientCert => {
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()
            }
        };
        // Fails without authorities alone.
        verifier.map(Some).map_err(|_| self.incomplete())
    }
}

/// Takes any certificate whose key the client has.
#[derive(Debug)]
struct AnyCertificate {
    /// Authorities that clients are told of, so that they choose a certificate, as Go does.
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        ParsedCertificate::try_from(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of what is set by half.
    fn refused(cert: &str, key: &str, ca: &str, word: &str) -> String {
        MetricsTls::new(cert, key, ca, word.parse().unwrap()).unwrap().load().unwrap_err().to_string()
    }

    #[test]
    fn nothing_set_is_plain_text() {
        for word in ["", "NoClientCert", "noclientcert"] {
            assert_eq!(MetricsTls::new("", "", "", word.parse().unwrap()), None);
        }
    }

    #[test]
    fn what_is_set_by_half_is_an_error_that_names_both_halves() {
        const VERIFY: &str = "RequireAndVerifyClientCert";
        for (cert, key, ca, word, missing) in [
            ("c", "", "", "", "KeyFile"),
            ("", "k", "", "", "CertFile"),
            ("", "", "a", "", "CertFile and PrometheusMetricsKeyFile"),
            ("c", "", "a", VERIFY, "KeyFile"),
            ("c", "k", "", VERIFY, "CAFile"),
            ("c", "k", "", "VerifyClientCertIfGiven", "CAFile"),
            ("", "", "", VERIFY, "CertFile and PrometheusMetricsKeyFile and PrometheusMetricsCAFile"),
            ("", "", "", "RequireAnyClientCert", "CertFile and PrometheusMetricsKeyFile"),
        ] {
            let error = refused(cert, key, ca, word);
            let missing = format!("PrometheusMetrics{missing} is not set");
            assert!(error.contains(&missing), "{error}");
            for (name, value) in [(CERT, cert), (KEY, key), (CA, ca), (CLIENT_AUTH, word)] {
                let set = error.split(" asks").next().unwrap();
                assert_eq!(set.contains(name), !value.is_empty(), "{error}");
            }
        }
    }

    #[test]
    fn the_four_words_are_read_in_any_case_and_nothing_else() {
        for (word, auth) in ClientAuth::WORDS {
            assert_eq!(word.parse(), Ok(auth));
            assert_eq!(word.to_ascii_uppercase().parse(), Ok(auth));
        }
        assert_eq!("RequestClientCert".parse::<ClientAuth>(), Err(UnknownClientAuth));
    }
}
