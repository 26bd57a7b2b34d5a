//! Typha's settings: environment (`TYPHA_…`) over file (`/etc/calico/typha.cfg`) over defaults, by upstream's names.
//!
//! In come variables and the file's text, out go settings and the warnings that came up. Always holds: names are read in
//! any case; an unknown name or one whose feature is missing is a warning; a bad value is a warning and the default,
//! except where the default would be less safe (TLS) or another cluster (datastore): there it is an error.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use libcalico_datastore::config::parse_endpoints;
use libcalico_datastore::{ClientConfig, DatastoreType, Pem};
use libcalico_telemetry::tls::UnknownClientAuth;
use libcalico_telemetry::{MetricsTls, Severity};

use crate::cache::Limits;
use crate::identity::Required;
use crate::server::{ServerConfig, ServerTls};
use crate::session::Patience;

/// Where upstream's Typha looks for its settings.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/calico/typha.cfg";

/// How the names of Typha's variables begin, in any case.
const PREFIX: &str = "typha_";

/// Bytes of changes that are kept for clients that are behind.
const LOG_BYTES: usize = 128 << 20;

/// Upstream's settings that this version has no feature for.
const WITHOUT_FEATURE: &[&str] = &[
    "logfilepath",
    "logseverityfile",
    "logseveritysys",
    "prometheusgometricsenabled",
    "prometheusprocessmetricsenabled",
    "snapshotcachemaxbatchsize",
    "serverminbatchingagethresholdsecs",
    "debugmemoryprofilepath",
    "debugdisablelogdropping",
    "debughost",
    "debugport",
    "connectionrebalancingmode",
    "maxconnectionslowerlimit",
    "k8sservicepollintervalsecs",
    "k8snamespace",
    "k8sservicename",
    "k8sportname",
];

/// Settings of a Typha process.
#[derive(Clone, Debug)]
pub struct Settings {
    pub datastore: ClientConfig,
    pub log_severity: Severity,
    pub server: ServerConfig,
    /// Host and port of the health endpoint, where it is on.
    pub health: Option<(String, u16)>,
    /// Host and port of the metrics endpoint, where it is on.
    pub metrics: Option<(String, u16)>,
    /// Metrics are served over TLS alone.
    pub metrics_tls: Option<MetricsTls>,
}

/// Settings that Typha does not start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("TYPHA_{name}={value:?}: {reason}")]
    Value { name: String, value: String, reason: String },
    #[error(
        "TLS needs ServerKeyFile, ServerCertFile, CAFile and one of ClientCN and ClientURISAN together; missing: {0}"
    )]
    IncompleteTls(String),
    #[error("{0} is not UTF-8 text; set it anew or unset it")]
    NotText(String),
    #[error("{} is read as \"name = value\" lines; line {line}: {text:?}", file.display())]
    Line { file: PathBuf, line: usize, text: String },
    #[error("{}: {source}", file.display())]
    File { file: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Datastore(#[from] libcalico_datastore::DatastoreError),
}

/// Values by name in lower case.
struct Raw {
    values: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Raw {
    fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(&name.to_ascii_lowercase()).filter(|v| !v.is_empty())
    }

    /// A value that falls back to its default, with a warning, where it is bad.
    fn or_default<T>(&mut self, name: &str, default: T, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let Some(text) = self.take(name) else { return default };
        parse(&text).unwrap_or_else(|reason| {
            self.warnings.push(format!("TYPHA_{name}={text:?}: {reason}; the default is used"));
            default
        })
    }

    fn secs(&mut self, name: &str, default: f64) -> Duration {
        self.or_default(name, Duration::from_secs_f64(default), |t| {
            let n: f64 = t.parse().map_err(|_| "is not a number of seconds".to_owned())?;
            Duration::try_from_secs_f64(n).map_err(|e| e.to_string())
        })
    }

    fn port(&mut self, name: &str, default: u16) -> u16 {
        self.or_default(name, default, |t| t.parse().map_err(|_| "is not a port in 0..65535".to_owned()))
    }

    fn count(&mut self, name: &str, default: usize, least: usize) -> usize {
        self.or_default(name, default, |t| match t.parse() {
            Ok(n) if n >= least => Ok(n),
            _ => Err(format!("is not a whole number from {least}")),
        })
    }

    fn flag(&mut self, name: &str) -> bool {
        self.or_default(name, false, |t| match t.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "y" | "t" => Ok(true),
            "false" | "0" | "no" | "n" | "f" => Ok(false),
            _ => Err("is neither true nor false".to_owned()),
        })
    }
}

impl Settings {
    /// Reads this process's environment and the file, which may be missing.
    pub fn load(file: &std::path::Path) -> Result<(Self, Vec<String>), ConfigError> {
        let text = match std::fs::read_to_string(file) {
            Ok(t) => t,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::File { file: file.to_owned(), source }),
        };
        let values = parse_file(&text).map_err(|(line, text)| ConfigError::Line {
            file: file.to_owned(),
            line,
            text,
        })?;
        Self::from_sources(variables(std::env::vars_os())?, values, ClientConfig::from_env()?)
    }

    /// Settings from variables, over values of a file, over a datastore as the common variables name it.
    pub fn from_sources(
        environment: impl IntoIterator<Item = (String, String)>,
        mut values: BTreeMap<String, String>,
        datastore: ClientConfig,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        for (name, value) in environment {
            if let Some(name) = name.to_ascii_lowercase().strip_prefix(PREFIX) {
                values.insert(name.to_owned(), value);
            }
        }
        let mut raw = Raw { values, warnings: Vec::new() };
        let datastore = datastore_of(&mut raw, datastore)?;
        let tls = tls_of(&mut raw)?;
        let keep = raw.secs("ServerMaxFallBehindSecs", 300.0);
        let grace = raw.secs("ServerNewClientFallBehindGracePeriod", 300.0);
        let server = ServerConfig {
            host: raw.take("ServerHost").unwrap_or_default(),
            port: match raw.port("ServerPort", 0) {
                0 => crate::DEFAULT_PORT,
                p => p,
            },
            tls,
            limits: Limits {
                batch: raw.count("ServerMaxMessageSize", 100, 1),
                // A new client reads the snapshot first, and is still owed what came after it.
                keep: keep + grace,
                log_bytes: LOG_BYTES,
            },
            patience: Patience {
                max_fall_behind: keep,
                grace,
                ping_interval: raw.secs("ServerPingIntervalSecs", 10.0),
                pong_timeout: raw.secs("ServerPongTimeoutSecs", 60.0),
            },
            handshake_timeout: raw.secs("ServerHandshakeTimeoutSecs", 10.0),
            write_timeout: raw.secs("ServerWriteTimeoutSecs", 120.0),
            max_connections: raw.count("MaxConnectionsUpperLimit", 10_000, 1),
            max_connections_per_client: raw.count("MaxConnsPerClient", 0, 0),
            drop_interval: raw.secs("ConnectionDropIntervalSecs", 1.0),
            shutdown_timeout: raw.secs("ShutdownTimeoutSecs", 300.0),
            shutdown_drop_interval_max: raw.secs("ShutdownConnectionDropIntervalMaxSecs", 1.0),
        };
        let health_at =
            (raw.take("HealthHost").unwrap_or("localhost".to_owned()), raw.port("HealthPort", 9098));
        let metrics_at =
            (raw.take("PrometheusMetricsHost").unwrap_or_default(), raw.port("PrometheusMetricsPort", 9093));
        let metrics_tls = metrics_tls_of(&mut raw)?;
        let health = raw.flag("HealthEnabled").then_some(health_at);
        let metrics = raw.flag("PrometheusMetricsEnabled").then_some(metrics_at);
        let log_severity = raw.or_default("LogSeverityScreen", Severity::Info, |t| {
            t.parse().map_err(|e: libcalico_telemetry::logging::SeverityError| e.to_string())
        });
        for name in raw.values.keys() {
            raw.warnings.push(if WITHOUT_FEATURE.contains(&name.as_str()) {
                format!("TYPHA_{name} has no effect in this version")
            } else {
                format!("TYPHA_{name} is not a setting of Typha")
            });
        }
        Ok((Self { datastore, log_severity, server, health, metrics, metrics_tls }, raw.warnings))
    }
}

/// Typha's variables. Others may hold any bytes.
fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let ours = environment.into_iter().filter_map(|(name, value)| {
        let shown = name.to_string_lossy().into_owned();
        shown.to_ascii_lowercase().starts_with(PREFIX).then_some((name, value, shown))
    });
    ours.map(|(name, value, shown)| match (name.into_string(), value.into_string()) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(ConfigError::NotText(shown)),
    })
    .collect()
}

fn bad(name: &str, value: &str, reason: &str) -> ConfigError {
    ConfigError::Value { name: name.to_owned(), value: value.to_owned(), reason: reason.to_owned() }
}

/// The common variables (`ETCD_ENDPOINTS` …), overridden by Typha's own.
fn datastore_of(raw: &mut Raw, mut config: ClientConfig) -> Result<ClientConfig, ConfigError> {
    match raw.take("DatastoreType").as_deref() {
        None => {}
        Some("etcdv3") => config.datastore_type = DatastoreType::EtcdV3,
        Some("kubernetes") => config.datastore_type = DatastoreType::Kubernetes,
        Some(other) => return Err(bad("DatastoreType", other, "is not etcdv3 or kubernetes")),
    }
    let scheme = raw.take("EtcdScheme").unwrap_or_else(|| "http".to_owned());
    if let Some(address) = raw.take("EtcdAddr") {
        config.etcd.endpoints = parse_endpoints(&format!("{scheme}://{address}"))?;
    }
    if let Some(endpoints) = raw.take("EtcdEndpoints") {
        config.etcd.endpoints = parse_endpoints(&endpoints)?;
    }
    for (name, place) in [
        ("EtcdKeyFile", &mut config.etcd.key),
        ("EtcdCertFile", &mut config.etcd.cert),
        ("EtcdCaFile", &mut config.etcd.ca),
    ] {
        if let Some(file) = raw.take(name) {
            *place = Some(Pem::File(file.into()));
        }
    }
    Ok(config)
}

fn tls_of(raw: &mut Raw) -> Result<Option<ServerTls>, ConfigError> {
    let mut files = ["ServerKeyFile", "ServerCertFile", "CAFile"].map(|n| (n, raw.take(n)));
    let client = Required { common_name: raw.take("ClientCN"), uri_san: raw.take("ClientURISAN") };
    let named = client != Required::default();
    if !named && files.iter().all(|(_, v)| v.is_none()) {
        return Ok(None);
    }
    let mut missing: Vec<&str> = files.iter().filter(|(_, v)| v.is_none()).map(|(n, _)| *n).collect();
    if !named {
        missing.push("ClientCN or ClientURISAN");
    }
    let [key, cert, ca] = files.each_mut().map(|(_, v)| v.take());
    match (key, cert, ca) {
        (Some(key), Some(cert), Some(ca)) if named => {
            Ok(Some(ServerTls { cert_file: cert.into(), key_file: key.into(), ca_file: ca.into(), client }))
        }
        _ => Err(ConfigError::IncompleteTls(missing.join(", "))),
    }
}

/// A word that is not known is an error: its default lets in clients without certificates.
fn metrics_tls_of(raw: &mut Raw) -> Result<Option<MetricsTls>, ConfigError> {
    const CLIENT_AUTH: &str = "PrometheusMetricsClientAuth";
    let mut text = |name: &str| raw.take(name).unwrap_or_default();
    let word = text(CLIENT_AUTH);
    let client_auth = word.parse().map_err(|e: UnknownClientAuth| bad(CLIENT_AUTH, &word, &e.to_string()))?;
    Ok(MetricsTls::new(
        &text("PrometheusMetricsCertFile"),
        &text("PrometheusMetricsKeyFile"),
        &text("PrometheusMetricsCAFile"),
        client_auth,
    ))
}

/// Lines `name = value`; sections are passed over, as upstream does. The error is the line's number and text.
pub fn parse_file(text: &str) -> Result<BTreeMap<String, String>, (usize, String)> {
    let mut values = BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';', '[']) {
            continue;
        }
        let (name, value) = line.split_once(['=', ':']).ok_or_else(|| (i + 1, line.to_owned()))?;
        values.insert(name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned());
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use libcalico_telemetry::ClientAuth;

    use super::*;

    fn read(env: &[(&str, &str)], file: &str) -> Result<(Settings, Vec<String>), ConfigError> {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Settings::from_sources(env, parse_file(file).unwrap(), ClientConfig::default())
    }

    #[test]
    fn without_settings_upstreams_defaults_hold() {
        let (s, warnings) = read(&[("PATH", "/bin")], "").unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!((s.server.port, s.server.limits.batch), (5473, 100));
        assert_eq!(s.server.patience.max_fall_behind, Duration::from_secs(300));
        assert!(s.server.tls.is_none() && s.health.is_none() && s.metrics.is_none());
    }

    #[test]
    fn the_environment_wins_over_the_file_in_any_case() {
        let file = "[global]\n# a comment\nServerPort = 1000\nServerHost = 10.0.0.1\nHealthEnabled=true\n";
        let (s, _) = read(&[("TYPHA_SERVERPORT", "2000")], file).unwrap();
        assert_eq!((s.server.port, s.server.host.as_str()), (2000, "10.0.0.1"));
        assert_eq!(s.health, Some(("localhost".to_owned(), 9098)));
    }

    #[test]
    fn bad_and_unknown_settings_warn() {
        let env = [("TYPHA_SERVERPORT", "many"), ("TYPHA_NOSUCH", "1"), ("TYPHA_DEBUGPORT", "1")];
        let (s, warnings) = read(&env, "").unwrap();
        assert_eq!(s.server.port, 5473);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings.iter().any(|w| w.contains("no effect")), "{warnings:?}");
    }

    #[test]
    fn half_of_tls_is_an_error_and_never_plain_text() {
        let error =
            read(&[("TYPHA_SERVERKEYFILE", "/k"), ("TYPHA_CAFILE", "/ca")], "").unwrap_err().to_string();
        assert!(error.contains("missing: ServerCertFile, ClientCN or ClientURISAN"), "{error}");
        let all = [
            ("TYPHA_SERVERKEYFILE", "/k"),
            ("TYPHA_SERVERCERTFILE", "/c"),
            ("TYPHA_CAFILE", "/ca"),
            ("TYPHA_CLIENTCN", "felix"),
        ];
        assert!(read(&all, "").unwrap().0.server.tls.is_some());
    }

    #[test]
    fn tls_of_metrics_is_read_whole_or_by_half_but_never_dropped() {
        let tls = |env: &[(&str, &str)]| read(env, "").map(|(s, warnings)| (s.metrics_tls, warnings));
        assert_eq!(tls(&[("TYPHA_PROMETHEUSMETRICSENABLED", "true")]).unwrap(), (None, vec![]));
        let all = [
            ("TYPHA_PROMETHEUSMETRICSCERTFILE", "/c"),
            ("TYPHA_PROMETHEUSMETRICSKEYFILE", "/k"),
            ("TYPHA_PROMETHEUSMETRICSCAFILE", "/ca"),
            ("TYPHA_PROMETHEUSMETRICSCLIENTAUTH", "RequireAndVerifyClientCert"),
        ];
        let whole = MetricsTls::new("/c", "/k", "/ca", ClientAuth::RequireAndVerifyClientCert);
        assert_eq!(tls(&all).unwrap(), (whole, vec![]));
        for one in all {
            let (half, warnings) = tls(&[one]).unwrap();
            assert!(half.is_some() && warnings.is_empty(), "{one:?}");
        }
        let error = tls(&[("TYPHA_PROMETHEUSMETRICSCLIENTAUTH", "Verify")]).unwrap_err().to_string();
        assert!(error.contains("PrometheusMetricsClientAuth=\"Verify\""), "{error}");
    }

    #[test]
    fn variables_that_are_not_text_are_passed_over_unless_they_are_typhas() {
        use std::os::unix::ffi::OsStringExt;
        let odd = || OsString::from_vec(vec![b'x', 0xff]);
        let read =
            variables([("PATH".into(), odd()), (odd(), "1".into()), ("Typha_ServerHost".into(), "h".into())]);
        assert_eq!(read.unwrap(), [("Typha_ServerHost".to_owned(), "h".to_owned())]);
        let error = variables([("TYPHA_CAFILE".into(), odd())]).unwrap_err().to_string();
        assert!(error.contains("TYPHA_CAFILE is not UTF-8"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_file_or_an_error(text in "[ -~\n]{0,200}") {
            if let Ok(values) = parse_file(&text) {
                let _ = Settings::from_sources([], values, ClientConfig::default());
            }
        }
    }

    #[test]
    fn typhas_own_datastore_settings_override_the_common_ones() {
        let (s, _) = read(&[("TYPHA_ETCDENDPOINTS", "http://e:1,http://e:2")], "").unwrap();
        assert_eq!(s.datastore.etcd.endpoints.len(), 2);
        assert!(read(&[("TYPHA_DATASTORETYPE", "paper")], "").is_err());
    }
}
