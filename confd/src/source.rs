//! Where updates come from: Typha where one is configured, else the datastore itself.
//!
//! Typha's settings are upstream's: `CONFD_TYPHAADDR`, `CONFD_TYPHACAFILE`, `CONFD_TYPHACERTFILE`, `CONFD_TYPHAKEYFILE`,
//! `CONFD_TYPHACN`, `CONFD_TYPHAURISAN`; each one that is not set is Felix' of the same name (`FELIX_TYPHA…`), so that a
//! node is told of its Typha once.

use calico_typha::SyncerKind;
use calico_typha::client::{ClientError, ClientTls, TyphaClient, TyphaClientConfig};
use calico_typha::identity::Required;
use libcalico_model::SyncerEvent;
use tokio::sync::mpsc;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(
        "TLS with Typha is all or nothing: set CONFD_TYPHACAFILE, CONFD_TYPHACERTFILE, CONFD_TYPHAKEYFILE and one of CONFD_TYPHACN and CONFD_TYPHAURISAN (or FELIX_…), or none of them"
    )]
    HalfTls,
    #[error("Typha: {0}")]
    Client(#[from] ClientError),
}

/// How to reach Typha, `None` where none is configured.
pub fn typha_config(
    lookup: impl Fn(&str) -> Option<String>,
    node_name: &str,
) -> Result<Option<TyphaClientConfig>, SourceError> {
    let get = |name: &str| {
        ["CONFD", "FELIX"]
            .iter()
            .find_map(|prefix| lookup(&format!("{prefix}_{name}")).filter(|v| !v.is_empty()))
    };
    let Some(addresses) = get("TYPHAADDR") else { return Ok(None) };
    let addresses = addresses.split(',').map(|a| a.trim().to_owned()).filter(|a| !a.is_empty()).collect();
    let mut config = TyphaClientConfig::new(addresses, SyncerKind::Bgp, node_name);
    config.info = format!("confd {}", env!("CARGO_PKG_VERSION"));
    let server = Required { common_name: get("TYPHACN"), uri_san: get("TYPHAURISAN") };
    let named = server.common_name.is_some() || server.uri_san.is_some();
    config.tls = match (get("TYPHACAFILE"), get("TYPHACERTFILE"), get("TYPHAKEYFILE")) {
        (None, None, None) if !named => None,
        (Some(ca), Some(cert), Some(key)) if named => {
            Some(ClientTls { cert_file: cert.into(), key_file: key.into(), ca_file: ca.into(), server })
        }
        _ => return Err(SourceError::HalfTls),
    };
    Ok(Some(config))
}

/// Follows Typha. A Typha that is away is no error: the source waits for it.
pub fn follow_typha(config: TyphaClientConfig) -> Result<mpsc::Receiver<SyncerEvent>, SourceError> {
    Ok(TyphaClient::new(config).start()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &'static [(&str, &str)]) -> Result<Option<TyphaClientConfig>, SourceError> {
        typha_config(|name| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()), "n1")
    }

    #[test]
    fn without_an_address_there_is_no_typha() {
        assert!(read(&[("FELIX_TYPHACAFILE", "/ca")]).unwrap().is_none());
    }

    #[test]
    fn felixs_settings_hold_where_confd_has_none_of_its_own() {
        let config = read(&[
            ("FELIX_TYPHAADDR", "10.0.0.1:5473, 10.0.0.2:5473"),
            ("FELIX_TYPHACAFILE", "/ca"),
            ("FELIX_TYPHACERTFILE", "/felix"),
            ("CONFD_TYPHACERTFILE", "/confd"),
            ("FELIX_TYPHAKEYFILE", "/key"),
            ("FELIX_TYPHACN", "typha"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(config.addresses, ["10.0.0.1:5473", "10.0.0.2:5473"]);
        let tls = config.tls.unwrap();
        assert_eq!(tls.cert_file.to_str(), Some("/confd"));
        assert_eq!(tls.server.common_name.as_deref(), Some("typha"));
    }

    #[test]
    fn half_of_tls_is_an_error() {
        let files =
            [("FELIX_TYPHACAFILE", "/ca"), ("FELIX_TYPHACERTFILE", "/c"), ("FELIX_TYPHAKEYFILE", "/k")];
        let name = ("FELIX_TYPHAURISAN", "spiffe://typha");
        for some in [vec![files[0]], files.to_vec(), vec![name], vec![files[0], files[1], name]] {
            let config = typha_config(
                |name| match name {
                    "FELIX_TYPHAADDR" => Some("t:1".to_owned()),
                    _ => some.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()),
                },
                "n1",
            );
            assert!(matches!(config, Err(SourceError::HalfTls)), "{some:?}");
        }
    }
}
