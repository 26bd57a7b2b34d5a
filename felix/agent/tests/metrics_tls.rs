//! Felix's metrics while its configuration changes: plain, over TLS, set by half, plain again. What asks for TLS is never
//! answered with plain text.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use libcalico_telemetry::pem;
use libcalico_testing::Pki;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use support::{WAIT, World, ready};

const PORT: u16 = 9091;

/// `/metrics` over TLS, empty where the server does not let us in. `shown` are our certificate and key.
fn over_tls(w: &World, authority: PathBuf, shown: Option<(PathBuf, PathBuf)>) -> String {
    w.inside_host(move || {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(pem::authorities(&authority).unwrap());
        let config = match shown {
            Some((cert, key)) => config
                .with_client_auth_cert(pem::certificates(&cert).unwrap(), pem::key(&key).unwrap())
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        let session = ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap();
        let Ok(socket) = TcpStream::connect(("127.0.0.1", PORT)) else { return String::new() };
        socket.set_read_timeout(Some(WAIT)).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        let mut text = String::new();
        let _ = stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n");
        let _ = stream.read_to_string(&mut text);
        text
    })
}

#[test]
fn metrics_follow_the_configuration_to_tls_and_back() {
    if !ready() {
        return;
    }
    let pki = Pki::of(&["felix", "prometheus"]);
    let mut w = World::new(&[], &[("FELIX_PROMETHEUSMETRICSENABLED", "true")]);
    w.start();
    let served = |text: &str| text.contains("felix_host");
    let plain = || w.http(PORT, "/metrics");
    w.eventually("plain text where nothing else is asked", || served(&plain()));

    let field = |name: &str, path: PathBuf| format!(r#""prometheusMetrics{name}":"{}""#, path.display());
    let verify = r#""prometheusMetricsClientAuth":"RequireAndVerifyClientCert""#;
    let (cert, ca) = (field("CertFile", pki.cert("felix")), field("CAFile", pki.cert("ca")));
    let key = field("KeyFile", pki.key("felix"));
    w.backend(&[cert.as_str(), &key, &ca, verify].join(","));
    let own = || Some((pki.cert("prometheus"), pki.key("prometheus")));
    let other = Some((pki.cert("other-prometheus"), pki.key("other-prometheus")));
    w.eventually("metrics over TLS", || served(&over_tls(&w, pki.cert("ca"), own())));
    assert_eq!(over_tls(&w, pki.cert("ca"), None), "");
    assert_eq!(over_tls(&w, pki.cert("ca"), other), "");
    assert!(!plain().contains("HTTP"));

    // A key is missing: nothing is served, and the log says what to do.
    w.backend(&[cert.as_str(), &ca, verify].join(","));
    let log = || std::fs::read_to_string(w.dir.path().join("log")).unwrap();
    w.eventually("half of it is an error", || log().contains("PrometheusMetricsKeyFile is not set"));
    w.eventually("nothing is served", || {
        let text = plain();
        assert!(!text.contains("HTTP"), "{text}");
        text.is_empty() && over_tls(&w, pki.cert("ca"), own()).is_empty()
    });
    let line = log();
    let line = line.lines().find(|l| l.contains("PrometheusMetricsKeyFile is not set")).unwrap();
    assert!(line.contains("metrics are not served"), "{line}");

    w.backend("");
    w.eventually("plain text again", || served(&plain()));
}
