//! What a person should hear of a configuration that is taken nevertheless.
//!
//! In: what the sources say. Out: [`Warning`]s, as data, so that whoever logs them says each one once. Always holds: a
//! parameter that is set and does nothing has a warning by its name, whatever source it comes from.

use super::sources::{Raw, Source};
use super::table::{LOCAL, PARAMS, Param, USED};
use super::value::{Kind, Value};

/// One thing to be said of one parameter in one source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    pub parameter: String,
    /// The field of `FelixConfiguration` that sets it; empty where that is not where it comes from.
    pub field: &'static str,
    pub source: Source,
    /// As written there; secrets are not shown.
    pub value: String,
    pub about: About,
}

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// What it configures is not here.
    NoFeature,
    /// What it configured was given up by the program that it was for.
    Obsolete { reason: &'static str },
    /// No parameter has this name.
    Unknown,
    /// It counts in the file and the environment alone.
    LocalOnly,
    /// It is not of its form; the default is used.
    BadValue { reason: String, default: &'static str },
}

impl Warning {
    pub(super) fn new(param: &Param, source: Source, raw: &str, about: About) -> Self {
        let from_datastore = source < Source::File;
        Self {
            parameter: param.name.to_owned(),
            field: if from_datastore { param.field } else { "" },
            source,
            value: shown(param.name, raw).to_owned(),
            about,
        }
    }

    /// Says it.
    pub fn log(&self) {
        let Self { parameter, field, source, value, about } = self;
        match about {
            About::NoFeature => {
                tracing::warn!(parameter, field, value, %source, "no feature here uses this parameter");
            }
            About::Obsolete { reason } => {
                tracing::warn!(parameter, field, value, %source, reason, "this parameter has no effect");
            }
            About::Unknown => tracing::warn!(parameter, %source, "unknown parameter"),
            About::LocalOnly => tracing::warn!(
                parameter, value, %source,
                "ignored: this parameter counts in the file and the environment alone"
            ),
            About::BadValue { reason, default } => {
                tracing::warn!(parameter, field, value, %source, reason, default, "bad value; the default is used");
            }
        }
    }
}

/// Secrets do not belong into logs.
pub(super) fn shown<'a>(name: &str, raw: &'a str) -> &'a str {
    if name.to_ascii_lowercase().contains("password") { "…" } else { raw }
}

/// What the datastore tells every Felix beside `FelixConfiguration`: facts of the cluster and of nodes, not settings.
const FACTS: [&str; 9] = [
    "CalicoVersion",
    "ClusterGUID",
    "ClusterType",
    "IPv4VXLANTunnelAddr",
    "IPv6VXLANTunnelAddr",
    "IpInIpTunnelAddr",
    "NodeIP",
    "VXLANTunnelMACAddr",
    "VXLANTunnelMACAddrV6",
];

/// Parameters that do nothing where they are set.
pub(super) fn of_names(raw: &Raw) -> impl Iterator<Item = Warning> {
    raw.iter().filter_map(|(source, name, text)| {
        let local = source >= Source::File;
        let Some(param) = PARAMS.iter().find(|p| p.name.eq_ignore_ascii_case(name)) else {
            let fact = !local && FACTS.iter().any(|f| f.eq_ignore_ascii_case(name));
            return (!fact).then(|| Warning {
                parameter: name.to_owned(),
                field: "",
                source,
                value: String::new(),
                about: About::Unknown,
            });
        };
        let about = match (param.is(LOCAL) && !local, param.is(USED) || says_no(param, text)) {
            (true, _) => About::LocalOnly,
            (false, false) => match obsolete(param) {
                Some(reason) => About::Obsolete { reason },
                None => About::NoFeature,
            },
            (false, true) => return None,
        };
        Some(Warning::new(param, source, text, about))
    })
}

/// Why a parameter has no effect though what it is about is here.
pub(super) fn obsolete(param: &Param) -> Option<&'static str> {
    // `iptables-restore --wait-interval` says "Ignoring deprecated --wait-interval option": it waits without probing.
    (param.name == "IptablesLockProbeIntervalMillis")
        .then_some("iptables waits for its lock without probing, and ignores an interval")
}

/// True where the value asks that something absent be absent: `false`, `0`, `none`, `Disabled`.
fn says_no(param: &Param, text: &str) -> bool {
    if param.name == "UseInternalDataplaneDriver" {
        // `false` asks for an external one.
        return false;
    }
    match (param.kind, param.kind.parse(text)) {
        _ if text.trim().eq_ignore_ascii_case("none") => true,
        (Kind::OneOf(_), Ok(Value::Text(word))) => ["Disabled", "off", "DoNothing"].contains(&word.as_str()),
        (_, Ok(value)) => value == param.kind.zero(),
        (_, Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(source: Source, set: &[(&str, &str)]) -> Vec<(String, About)> {
        let mut raw = Raw::default();
        raw.set(source, set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let resolved = raw.resolve().unwrap();
        resolved.warnings().map(|w| (w.parameter.clone(), w.about.clone())).collect()
    }

    /// A value that asks for something.
    fn wanted(param: &Param) -> &'static str {
        match param.kind {
            Kind::Bool if param.name == "UseInternalDataplaneDriver" => "false",
            Kind::Bool => "true",
            Kind::OneOf(words) => words.iter().find(|w| !says_no(param, w)).unwrap(),
            Kind::Cidrs => "10.0.0.0/8",
            Kind::PortRange => "1:2",
            _ => "1",
        }
    }

    #[test]
    fn whatever_has_no_effect_warns_by_name_from_every_source() {
        use Source::{Environment, File, GlobalDatastore, PerHostDatastore, PerSelectorDatastore};
        for source in [GlobalDatastore, PerSelectorDatastore, PerHostDatastore, File, Environment] {
            let without: Vec<&Param> = PARAMS.iter().filter(|p| !p.is(USED)).collect();
            let set: Vec<_> = without.iter().map(|p| (p.name, wanted(p))).collect();
            let expected = without.iter().map(|p| {
                let local = p.is(LOCAL) && source < File;
                let about = obsolete(p).map_or(About::NoFeature, |reason| About::Obsolete { reason });
                (p.name.to_owned(), if local { About::LocalOnly } else { about })
            });
            let mut expected: Vec<_> = expected.collect();
            expected.sort();
            assert_eq!(warnings(source, &set), expected, "{source}");
        }
    }

    #[test]
    fn local_parameters_in_the_datastore_warn_and_are_ignored() {
        let mut names: Vec<&str> = PARAMS.iter().filter(|p| p.is(LOCAL)).map(|p| p.name).collect();
        names.sort_unstable();
        let set: Vec<_> = names.iter().map(|n| (*n, "evil")).collect();
        let expected: Vec<_> = names.iter().map(|n| ((*n).to_owned(), About::LocalOnly)).collect();
        for source in [Source::GlobalDatastore, Source::PerSelectorDatastore, Source::PerHostDatastore] {
            assert_eq!(warnings(source, &set), expected);
        }
    }

    #[test]
    fn what_says_no_to_something_absent_is_heard() {
        let set = [
            ("bpfEnabled", "false"),
            ("ipInIpMtu", "0"),
            ("LogFilePath", "None"),
            ("BPFLogLevel", "Off"),
            ("ProgramClusterRoutes", "disabled"),
            ("WireguardEnabled", ""),
        ];
        assert_eq!(warnings(Source::PerHostDatastore, &set), []);
        assert_eq!(warnings(Source::Environment, &set), []);
    }

    #[test]
    fn unknown_names_warn_but_facts_of_the_cluster_do_not() {
        let facts = FACTS.map(|f| (f, "x"));
        assert_eq!(warnings(Source::GlobalDatastore, &facts), []);
        let unknown = [("helthPort".to_owned(), About::Unknown)];
        let lower = |w: Vec<(String, About)>| -> Vec<_> {
            w.into_iter().map(|(n, a)| (n.replace('p', "P"), a)).collect()
        };
        assert_eq!(lower(warnings(Source::File, &[("HelthPort", "1")])), unknown);
        assert_eq!(lower(warnings(Source::GlobalDatastore, &[("HelthPort", "1")])), unknown);
    }

    #[test]
    fn a_bad_value_warns_with_what_is_used_instead() {
        let got = warnings(Source::GlobalDatastore, &[("RouteRefreshInterval", "soon")]);
        let [(name, About::BadValue { default, .. })] = &got[..] else { panic!("{got:?}") };
        assert_eq!((name.as_str(), *default), ("RouteRefreshInterval", "90"));
    }

    #[test]
    fn a_warning_is_said_again_only_when_its_value_changes() {
        let resolve = |mtu: &str, health: &str| {
            let mut raw = Raw::default();
            let pairs = [("IpInIpMtu", mtu), ("HealthPort", health), ("BPFEnabled", "true")];
            raw.set(Source::GlobalDatastore, pairs.map(|(k, v)| (k.to_owned(), v.to_owned())));
            raw.resolve().unwrap()
        };
        let said = |before, now: &crate::config::Resolved| -> Vec<String> {
            now.new_warnings(before).map(|w| format!("{} {}", w.parameter, w.value)).collect()
        };
        let first = resolve("1400", "1");
        assert_eq!(said(None, &first), ["BPFEnabled true", "IpInIpMtu 1400"]);
        let other = resolve("1400", "2");
        assert_eq!(said(Some(&first), &other), [""; 0]);
        let changed = resolve("1380", "2");
        assert_eq!(said(Some(&other), &changed), ["IpInIpMtu 1380"]);
    }
}
