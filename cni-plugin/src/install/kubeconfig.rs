//! The kubeconfig that the plugin reads.
//!
//! In come the server, its certificate authority and a token, out goes the file, with upstream's names of cluster, user
//! and context.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::token::{Access, Token};
use super::{Result, Settings, files, rejection};

/// Writes the file.
pub fn install(settings: &Settings, access: &Access, token: &Token) -> Result<()> {
    let server = settings.server.clone().unwrap_or_else(|| access.server());
    let ca = if settings.skip_tls_verify { None } else { Some(access.ca_pem()?) };
    let path = settings.kubeconfig_path();
    files::write(&path, text(&server, ca.as_deref(), &token.text).as_bytes(), 0o600)?;
    rejection::clear(&path);
    tracing::info!(file = %path.display(), "wrote the plugin's kubeconfig");
    Ok(())
}

/// Removes the file.
pub fn uninstall(settings: &Settings) -> Result<()> {
    let path = settings.kubeconfig_path();
    rejection::clear(&path);
    files::remove(&path).map(|_| ())
}

/// Without a certificate authority the server's certificate is not checked. An empty one leaves the system's roots.
fn text(server: &str, ca_pem: Option<&str>, token: &str) -> String {
    let tls = match ca_pem {
        None => "    insecure-skip-tls-verify: true\n".to_owned(),
        Some("") => String::new(),
        Some(pem) => format!("    certificate-authority-data: {}\n", STANDARD.encode(pem)),
    };
    format!(
        "# Kubeconfig file for Calico CNI plugin.\n\
         apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: local\n\
         \x20 cluster:\n\
         \x20   server: {server}\n\
         {tls}\
         users:\n\
         - name: calico\n\
         \x20 user:\n\
         \x20   token: {token}\n\
         contexts:\n\
         - name: calico-context\n\
         \x20 context:\n\
         \x20   cluster: local\n\
         \x20   user: calico\n\
         current-context: calico-context\n"
    )
}

/// A certificate as PEM.
pub(super) fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn a_client_reads_server_authority_and_token_from_it() {
        let ca = pem(&[1; 100]);
        let k = Kubeconfig::from_yaml(&text("https://[fd00::1]:443", Some(&ca), "a.b.c")).unwrap();
        let cluster = k.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://[fd00::1]:443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some(STANDARD.encode(&ca).as_str()));
        assert_eq!(k.current_context.as_deref(), Some("calico-context"));
        let k = Kubeconfig::from_yaml(&text("https://x:443", None, "t")).unwrap();
        assert_eq!(k.clusters[0].cluster.as_ref().unwrap().insecure_skip_tls_verify, Some(true));
    }
}
