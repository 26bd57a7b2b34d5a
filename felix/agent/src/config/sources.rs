//! Where parameters come from, and which source wins.
//!
//! Precedence, highest first: environment, file, `FelixConfiguration` of the node, global `FelixConfiguration`, default.
//! Names are compared without case. A bad value is replaced by the default, not by a lower source's (upstream's way),
//! or ends the program where the parameter says so.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::table::{EXIT, LOCAL, NON_ZERO, PARAMS, Param, USED};
use super::typha;
use super::value::Value;

/// A source of raw parameters, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    GlobalDatastore,
    PerHostDatastore,
    File,
    Environment,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::GlobalDatastore => "FelixConfiguration default",
            Self::PerHostDatastore => "FelixConfiguration of this node",
            Self::File => "configuration file",
            Self::Environment => "environment",
        })
    }
}

/// Why configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    #[error("{name} = {value:?} ({source_name}): {reason}; Felix does not start with this value")]
    Fatal { name: &'static str, value: String, source_name: Source, reason: String },
    /// Neither plain text nor any certificate of the authority would be what was meant.
    #[error(
        "Typha: TLS is wanted by {set}, but {missing}; set TyphaCAFile, TyphaCertFile, TyphaKeyFile and one of TyphaCN \
         and TyphaURISAN, or none of the five"
    )]
    TyphaTls { set: String, missing: String },
}

/// Raw text by source and name in lower case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Raw {
    by_source: BTreeMap<u8, BTreeMap<String, String>>,
}

/// A parameter's effective value.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    pub value: Value,
    pub source: Source,
    /// As written there.
    pub raw: String,
}

/// Every parameter's effective value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    values: BTreeMap<&'static str, Effective>,
}

impl Raw {
    /// Replaces what a source says.
    pub fn set(&mut self, source: Source, values: impl IntoIterator<Item = (String, String)>) {
        let lower = values.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v)).collect();
        self.by_source.insert(source as u8, lower);
    }

    /// Takes `FELIX_…` from pairs of environment variables.
    pub fn set_environment(&mut self, vars: impl IntoIterator<Item = (String, String)>) {
        self.set(
            Source::Environment,
            vars.into_iter().filter_map(|(k, v)| {
                let upper = k.to_ascii_uppercase();
                upper.strip_prefix("FELIX_").map(|name| (name.to_owned(), v))
            }),
        );
    }

    /// Reads a file in the form of `felix.cfg`: sections in brackets, `name = value`, comments after `#` or `;`. A file
    /// that is absent says nothing.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => {
                return Err(ConfigError::File { path: path.display().to_string(), reason: e.to_string() });
            }
        };
        let pairs = parse_ini(&text).map_err(|(line, reason)| ConfigError::File {
            path: format!("{}:{line}", path.display()),
            reason,
        })?;
        self.set(Source::File, pairs);
        Ok(())
    }

    /// What file or environment say of a parameter; `none` says nothing.
    pub(super) fn written(&self, name: &str) -> Option<&str> {
        let text = self.first(&name.to_ascii_lowercase(), true)?.1;
        Some(text.trim()).filter(|t| !t.eq_ignore_ascii_case("none"))
    }

    /// What the highest source that says something of a parameter says. `name` is in lower case.
    fn first(&self, name: &str, local: bool) -> Option<(Source, &String)> {
        SOURCES.iter().filter(|s| !local || **s >= Source::File).find_map(|&s| {
            self.by_source.get(&(s as u8))?.get(name).filter(|v| !v.trim().is_empty()).map(|v| (s, v))
        })
    }

    /// Works out every parameter. Values that are replaced warn.
    pub fn resolve(&self) -> Result<Resolved, ConfigError> {
        let mut values = BTreeMap::new();
        for param in PARAMS {
            values.insert(param.name, self.effective(param)?);
        }
        let resolved = Resolved { values };
        typha::check(self, &resolved)?;
        Ok(resolved)
    }

    fn effective(&self, param: &'static Param) -> Result<Effective, ConfigError> {
        let name = param.name.to_ascii_lowercase();
        let Some((source, raw)) = self.first(&name, param.is(LOCAL)) else { return Ok(default_of(param)) };
        if raw.trim() == "none" && !param.is(NON_ZERO) {
            let value = param.kind.parse("none").ok().filter(|v| matches!(v, Value::Ports(_)));
            return Ok(Effective { value: value.unwrap_or(Value::Unset), source, raw: raw.clone() });
        }
        match param.kind.parse(raw) {
            Ok(value) => Ok(Effective { value, source, raw: raw.clone() }),
            Err(reason) if param.is(EXIT) => {
                Err(ConfigError::Fatal { name: param.name, value: raw.clone(), source_name: source, reason })
            }
            Err(reason) => {
                tracing::warn!(
                    parameter = param.name, value = %shown(param, raw), %source, reason, default = param.default,
                    "bad value; the default is used"
                );
                Ok(default_of(param))
            }
        }
    }

    /// Warns of unknown names, and of parameters of features that are absent here, in the file and the environment.
    pub fn warn_of_names(&self) {
        for source in SOURCES {
            for name in self.by_source.get(&(source as u8)).into_iter().flat_map(BTreeMap::keys) {
                match PARAMS.iter().find(|p| p.name.eq_ignore_ascii_case(name)) {
                    Some(p) if !p.is(USED) && source >= Source::File => {
                        tracing::warn!(parameter = p.name, %source, "no feature here uses this parameter");
                    }
                    None if source >= Source::File => {
                        tracing::warn!(parameter = name, %source, "unknown parameter");
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Highest first.
const SOURCES: [Source; 4] =
    [Source::Environment, Source::File, Source::PerHostDatastore, Source::GlobalDatastore];

fn default_of(param: &'static Param) -> Effective {
    let value = param.kind.parse(param.default).unwrap_or(Value::Unset);
    Effective { value, source: Source::Default, raw: param.default.to_owned() }
}

/// Secrets do not belong into logs.
fn shown<'a>(param: &Param, raw: &'a str) -> &'a str {
    if param.name.to_ascii_lowercase().contains("password") { "…" } else { raw }
}

fn parse_ini(text: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let mut pairs = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';', '[']) {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or((i + 1, "expected NAME = VALUE".to_owned()))?;
        let value = value.split(" #").next().unwrap_or(value).trim();
        pairs.push((name.trim().to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

impl Resolved {
    /// Logs what is configured and from where, as far as it differs from what was before.
    pub fn log_changes(&self, before: Option<&Self>) {
        for (name, new) in &self.values {
            let old = before.and_then(|b| b.values.get(name));
            let changed = match old {
                Some(old) => old != new,
                None => new.source != Source::Default,
            };
            if changed {
                let shown = if name.to_ascii_lowercase().contains("password") { "…" } else { &new.raw };
                tracing::info!(parameter = name, value = shown, source = %new.source, "configured");
            }
        }
    }

    /// A parameter with where it came from.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Effective> {
        self.values.get(name)
    }

    /// Every parameter by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Effective)> {
        self.values.iter().map(|(k, v)| (*k, v))
    }

    fn value(&self, name: &str) -> &Value {
        self.values.get(name).map_or(&Value::Unset, |e| &e.value)
    }

    /// A truth value; unset is `None`.
    #[must_use]
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.value(name) {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// A number, if it fits.
    #[must_use]
    pub fn int<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        match self.value(name) {
            Value::Int(n) => T::try_from(*n).ok(),
            _ => None,
        }
    }

    /// Text; unset is empty.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(t) => t,
            _ => "",
        }
    }

    /// A duration; unset is zero.
    #[must_use]
    pub fn duration(&self, name: &str) -> std::time::Duration {
        match self.value(name) {
            Value::Duration(d) => *d,
            _ => std::time::Duration::ZERO,
        }
    }

    /// The parsed value itself.
    #[must_use]
    pub fn raw_value(&self, name: &str) -> &Value {
        self.value(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(pairs: &[(Source, &str, &str)]) -> Raw {
        let mut raw = Raw::default();
        for source in SOURCES {
            let of = pairs.iter().filter(|(s, ..)| *s == source);
            raw.set(source, of.map(|(_, k, v)| ((*k).to_owned(), (*v).to_owned())));
        }
        raw
    }

    #[test]
    fn the_environment_wins_over_file_node_and_global() {
        let mut pairs = vec![(Source::GlobalDatastore, "HealthPort", "1")];
        for (source, value) in
            [(Source::PerHostDatastore, "2"), (Source::File, "3"), (Source::Environment, "4")]
        {
            pairs.push((source, "healthport", value));
            let resolved = raw(&pairs).resolve().unwrap();
            assert_eq!(resolved.int::<u16>("HealthPort"), value.parse().ok());
            assert_eq!(resolved.get("HealthPort").unwrap().source, source);
        }
    }

    #[test]
    fn a_bad_value_gives_the_default_and_not_the_lower_source() {
        let resolved = raw(&[
            (Source::GlobalDatastore, "RouteRefreshInterval", "5"),
            (Source::Environment, "RouteRefreshInterval", "soon"),
        ])
        .resolve()
        .unwrap();
        assert_eq!(resolved.duration("RouteRefreshInterval").as_secs(), 90);
    }

    #[test]
    fn a_mask_with_too_few_bits_ends_the_start_whatever_source_it_comes_from() {
        for name in ["IptablesMarkMask", "NftablesMarkMask"] {
            for source in SOURCES {
                for mask in ["0x1", "0x70000"] {
                    let error = raw(&[(source, name, mask)]).resolve().unwrap_err().to_string();
                    let says =
                        [name, mask, "needs 5 bits", &source.to_string()].iter().all(|w| error.contains(*w));
                    assert!(says, "{error}");
                }
            }
        }
    }

    #[test]
    fn local_parameters_are_not_read_from_the_datastore() {
        let resolved = raw(&[(Source::GlobalDatastore, "FelixHostname", "evil")]).resolve().unwrap();
        assert_ne!(resolved.text("FelixHostname"), "evil");
    }

    #[test]
    fn none_is_the_zero_value() {
        let resolved = raw(&[
            (Source::File, "FailsafeInboundHostPorts", "none"),
            (Source::File, "HealthHost", "0.0.0.0"),
        ])
        .resolve()
        .unwrap();
        assert_eq!(*resolved.raw_value("FailsafeInboundHostPorts"), Value::Ports(Vec::new()));
        assert_eq!(resolved.text("HealthHost"), "0.0.0.0");
    }

    #[test]
    fn every_default_is_of_its_form() {
        for param in PARAMS {
            if !param.default.is_empty() {
                assert!(param.kind.parse(param.default).is_ok(), "{}", param.name);
            }
        }
    }

    #[test]
    fn a_broken_file_names_its_line() {
        assert_eq!(parse_ini("[global]\n# x\nHealthPort = 1\nbroken\n").unwrap_err().0, 4);
    }
}
