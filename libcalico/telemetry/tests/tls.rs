//! Metrics over real TLS, with real files: who is let in, with which certificate, by which version; what is not TLS, and
//! what files do while the server runs.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libcalico_telemetry::{ClientAuth, HttpServer, MetricsTls, new_registry, pem, serve_metrics};
use libcalico_testing::Pki;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const LONG: Duration = Duration::from_mins(2);
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// Settings of a server; verified is what `ca` signed.
fn settings(pki: &Pki, client_auth: ClientAuth) -> MetricsTls {
    let (cert, key, ca) = (text(pki.cert("server")), text(pki.key("server")), text(pki.cert("ca")));
    MetricsTls::new(&cert, &key, &ca, client_auth).unwrap()
}

async fn serve(pki: &Pki, client_auth: ClientAuth) -> HttpServer {
    let tls = settings(pki, client_auth);
    serve_metrics("127.0.0.1", 0, new_registry(), Some(&tls)).await.unwrap()
}

/// A client; it shows the certificate of a name, with a key that need not be the certificate's.
struct Client<'a> {
    pki: &'a Pki,
    version: &'static SupportedProtocolVersion,
    shows: Option<(&'a str, &'a str)>,
}

impl Client<'_> {
    /// The answer and the server's certificate, or why there is none.
    async fn get(&self, address: SocketAddr) -> io::Result<(String, CertificateDer<'static>)> {
        let exchange = self.exchange(address);
        tokio::time::timeout(LONG, exchange).await.expect("the server neither answers nor closes")
    }

    async fn exchange(&self, address: SocketAddr) -> io::Result<(String, CertificateDer<'static>)> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(pem::authorities(&self.pki.cert("ca")).unwrap());
        let config = match self.shows {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = pem::certificates(&self.pki.cert(cert)).unwrap();
                let key = pem::key(&self.pki.key(key)).unwrap();
                let key = provider.key_provider.load_private_key(key).unwrap();
                let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
                builder.with_client_cert_resolver(Arc::new(shown))
            }
        };
        let tcp = TcpStream::connect(address).await?;
        let name = "127.0.0.1".try_into().unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let server = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("process_cpu_seconds_total"),
            "{answer}"
        );
        Ok((answer, server))
    }
}

#[tokio::test]
async fn each_word_lets_in_whom_it_says_by_both_versions() {
    const OWN: Option<(&str, &str)> = Some(("client", "client"));
    const OTHER: Option<(&str, &str)> = Some(("other-client", "other-client"));
    /// The certificate of one client with the key of another.
    const STOLEN: Option<(&str, &str)> = Some(("client", "other-client"));
    let pki = Pki::new();
    for (auth, none, own, other, stolen) in [
        // Nobody asks, nobody sends.
        (ClientAuth::NoClientCert, true, true, true, true),
        (ClientAuth::RequireAnyClientCert, false, true, true, false),
        (ClientAuth::VerifyClientCertIfGiven, true, true, false, false),
        (ClientAuth::RequireAndVerifyClientCert, false, true, false, false),
    ] {
        let server = serve(&pki, auth).await;
        for version in VERSIONS {
            for (shows, let_in) in [(None, none), (OWN, own), (OTHER, other), (STOLEN, stolen)] {
                let got = Client { pki: &pki, version, shows }.get(server.local_addr()).await;
                assert_eq!(got.is_ok(), let_in, "{auth:?} {version:?} {shows:?}: {:?}", got.err());
            }
        }
    }
}

#[tokio::test]
async fn without_an_authority_any_certificate_is_still_one() {
    let pki = Pki::new();
    let (cert, key) = (text(pki.cert("server")), text(pki.key("server")));
    let tls = MetricsTls::new(&cert, &key, "", ClientAuth::RequireAnyClientCert).unwrap();
    let server = serve_metrics("127.0.0.1", 0, new_registry(), Some(&tls)).await.unwrap();
    for (shows, let_in) in [(None, false), (Some(("other-client", "other-client")), true)] {
        let got = Client { pki: &pki, version: &TLS13, shows }.get(server.local_addr()).await;
        assert_eq!(got.is_ok(), let_in, "{shows:?}: {:?}", got.err());
    }
}

#[tokio::test]
async fn plain_http_gets_no_answer() {
    let pki = Pki::new();
    let server = serve(&pki, ClientAuth::NoClientCert).await;
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection stays open");
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.contains("HTTP") && !answer.contains("process_"), "{answer}");
}

#[tokio::test]
async fn clients_that_say_nothing_hold_up_nobody() {
    let pki = Pki::new();
    let server = serve(&pki, ClientAuth::RequireAndVerifyClientCert).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(server.local_addr()).await.unwrap());
    }
    let client = Client { pki: &pki, version: &TLS13, shows: Some(("client", "client")) };
    client.get(server.local_addr()).await.unwrap();
}

#[tokio::test]
async fn renewed_files_are_used_and_broken_ones_let_nobody_in() {
    let pki = Pki::new();
    let server = serve(&pki, ClientAuth::NoClientCert).await;
    let client = Client { pki: &pki, version: &TLS13, shows: None };
    let shown = async || client.get(server.local_addr()).await.map(|(_, certificate)| certificate);
    let on_disk = || pem::certificates(&pki.cert("server")).unwrap().remove(0);
    let first = shown().await.unwrap();
    assert_eq!(first, on_disk());
    pki.sign("server");
    let second = shown().await.unwrap();
    assert!(second == on_disk() && second != first);
    std::fs::remove_file(pki.key("server")).unwrap();
    assert!(shown().await.is_err());
    pki.sign("server");
    assert_eq!(shown().await.unwrap(), on_disk());
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_nothing_is_served() {
    let pki = Pki::new();
    let empty = pki.directory().join("empty");
    std::fs::write(&empty, "").unwrap();
    let gone = pki.directory().join("gone");
    let good = [text(pki.cert("server")), text(pki.key("server")), text(pki.cert("ca"))];
    for (place, parameter) in ["CertFile", "KeyFile", "CAFile"].into_iter().enumerate() {
        for bad in [&gone, &empty] {
            let mut files = good.clone();
            files[place] = text(bad);
            let tls = MetricsTls::new(&files[0], &files[1], &files[2], ClientAuth::NoClientCert).unwrap();
            let error =
                serve_metrics("127.0.0.1", 0, new_registry(), Some(&tls)).await.unwrap_err().to_string();
            assert!(error.contains(&format!("PrometheusMetrics{parameter} = {}", bad.display())), "{error}");
        }
    }
    let other_key = text(pki.key("client"));
    let tls = MetricsTls::new(&good[0], &other_key, "", ClientAuth::NoClientCert).unwrap();
    let error = serve_metrics("127.0.0.1", 0, new_registry(), Some(&tls)).await.unwrap_err().to_string();
    assert!(error.contains("PrometheusMetricsKeyFile") && error.contains(&other_key), "{error}");
}
