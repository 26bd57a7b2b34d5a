//! The client's side of mutual TLS: our authority must have signed the server's certificate, and it must name the server
//! by common name or URI. Host names and addresses are not looked at: Typhas come and go.

use std::path::PathBuf;
use std::sync::Arc;

use libcalico_telemetry::pem::{self, PemError};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::identity::Required;

/// Certificates of a client.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// What signed the servers' certificates.
    pub ca_file: PathBuf,
    pub server: Required,
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    File(#[from] PemError),
    #[error("certificate and key cannot be used: {0}")]
    Unusable(String),
}

impl ClientTls {
    /// Reads the files. Done for each connection, so that renewed certificates are used.
    pub fn load(&self) -> Result<ClientConfig, TlsError> {
        let unusable = |e: &dyn std::fmt::Display| TlsError::Unusable(e.to_string());
        let roots = pem::authorities(&self.ca_file)?;
        let chain = pem::certificates(&self.cert_file)?;
        let key = pem::key(&self.key_file)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain_check = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| unusable(&e))?;
        let verifier = Verifier { chain: chain_check, server: self.server.clone() };
        let mut config = ClientConfig::builder_with_provider(provider as Arc<CryptoProvider>)
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain, key)
            .map_err(|e| unusable(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

#[derive(Debug)]
struct Verifier {
    chain: Arc<WebPkiServerVerifier>,
    server: Required,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, after signature, dates and uses: it is ours to judge.
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(e) => return Err(e),
        }
        self.server.check(end_entity).map_err(Error::General)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
