//! Where parameters come from, and which source wins.
//!
//! Precedence, highest first: environment, file, `FelixConfiguration` of the node, the one that selects the node, global
//! `FelixConfiguration`, default.
//! Names are compared without case. A bad value is replaced by the default, not by a lower source's (upstream's way),
//! or ends the program where the parameter says so. `none` is the zero value, whatever the case.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::table::{EXIT, LOCAL, NON_ZERO, PARAMS, Param};
use super::typha;
use super::value::{Kind, Value};
use super::warnings::{self, About, Warning, shown};

/// A source of raw parameters, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    GlobalDatastore,
    PerSelectorDatastore,
    PerHostDatastore,
    File,
    Environment,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::GlobalDatastore => "FelixConfiguration default",
            Self::PerSelectorDatastore => "FelixConfiguration that selects this node",
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
    warnings: BTreeSet<Warning>,
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

    /// Everything that is set to something: source, name in lower case, text.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Source, &str, &str)> {
        let of = |&source: &Source| self.by_source.get(&(source as u8)).map(move |m| (source, m));
        let set = SOURCES.iter().filter_map(of).flat_map(|(source, m)| m.iter().map(move |p| (source, p)));
        set.filter(|(_, (_, text))| !text.trim().is_empty())
            .map(|(source, (name, text))| (source, &**name, &**text))
    }

    /// Works out every parameter, and what is to be said of them. Logs nothing.
    ///
    /// # Errors
    /// A value that must be right is not.
    pub fn resolve(&self) -> Result<Resolved, ConfigError> {
        let mut resolved = Resolved { warnings: warnings::of_names(self).collect(), ..Resolved::default() };
        for param in PARAMS {
            let (effective, warning) = self.effective(param)?;
            resolved.values.insert(param.name, effective);
            resolved.warnings.extend(warning);
        }
        typha::check(self, &resolved)?;
        Ok(resolved)
    }

    fn effective(&self, param: &'static Param) -> Result<(Effective, Option<Warning>), ConfigError> {
        let name = param.name.to_ascii_lowercase();
        let Some((source, raw)) = self.first(&name, param.is(LOCAL)) else {
            return Ok((default_of(param), None));
        };
        let fatal =
            |reason| ConfigError::Fatal { name: param.name, value: raw.clone(), source_name: source, reason };
        if raw.trim().eq_ignore_ascii_case("none") {
            if param.is(NON_ZERO) {
                return Err(fatal("it has no zero value that `none` could stand for".to_owned()));
            }
            // A truth value without a default is upstream's pointer, whose zero value says neither.
            let neither = matches!(param.kind, Kind::Bool) && param.default.is_empty();
            let value = if neither { Value::Unset } else { param.kind.zero() };
            return Ok((Effective { value, source, raw: raw.clone() }, None));
        }
        match param.kind.parse(raw) {
            Ok(value) => Ok((Effective { value, source, raw: raw.clone() }, None)),
            Err(reason) if param.is(EXIT) => Err(fatal(reason)),
            Err(reason) => {
                let about = About::BadValue { reason, default: param.default };
                Ok((default_of(param), Some(Warning::new(param, source, raw, about))))
            }
        }
    }
}

/// Highest first.
const SOURCES: [Source; 5] = [
    Source::Environment,
    Source::File,
    Source::PerHostDatastore,
    Source::PerSelectorDatastore,
    Source::GlobalDatastore,
];

fn default_of(param: &'static Param) -> Effective {
    let value = param.kind.parse(param.default).unwrap_or(Value::Unset);
    Effective { value, source: Source::Default, raw: param.default.to_owned() }
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
    /// Logs what is configured and from where, and what is to be said of it, as far as it differs from what was before.
    pub fn log_changes(&self, before: Option<&Self>) {
        for (name, new) in &self.values {
            let old = before.and_then(|b| b.values.get(name));
            let changed = match old {
                Some(old) => old != new,
                None => new.source != Source::Default,
            };
            if changed {
                tracing::info!(parameter = name, value = shown(name, &new.raw), source = %new.source, "configured");
            }
        }
        self.new_warnings(before).for_each(Warning::log);
    }

    /// What is to be said, by name.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.iter()
    }

    /// What was not to be said before.
    pub fn new_warnings(&self, before: Option<&Self>) -> impl Iterator<Item = &Warning> {
        self.warnings.iter().filter(move |w| before.is_none_or(|b| !b.warnings.contains(w)))
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
    fn the_environment_wins_over_file_node_selector_and_global() {
        let mut pairs = vec![(Source::GlobalDatastore, "HealthPort", "1")];
        for (source, value) in [
            (Source::PerSelectorDatastore, "2"),
            (Source::PerHostDatastore, "3"),
            (Source::File, "4"),
            (Source::Environment, "5"),
        ] {
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
    fn none_is_the_zero_value_and_not_the_default() {
        for none in ["none", "None", "NONE"] {
            let params = || PARAMS.iter().filter(|p| !p.is(NON_ZERO));
            let set: Vec<_> = params().map(|p| (Source::File, p.name, none)).collect();
            let resolved = raw(&set).resolve().unwrap();
            for param in params() {
                let neither = ["VXLANEnabled", "IpInIpEnabled", "BPFConnectTimeLoadBalancingEnabled"];
                let zero = if neither.contains(&param.name) { Value::Unset } else { param.kind.zero() };
                assert_eq!(*resolved.raw_value(param.name), zero, "{}", param.name);
            }
        }
    }

    #[test]
    fn none_ends_the_start_where_it_stands_for_nothing() {
        for param in PARAMS.iter().filter(|p| p.is(NON_ZERO)) {
            let error = raw(&[(Source::Environment, param.name, "None")]).resolve().unwrap_err();
            assert!(error.to_string().contains(param.name), "{error}");
        }
    }

    #[test]
    fn a_bad_list_of_interfaces_gives_the_default_one() {
        let resolved = raw(&[(Source::File, "InterfaceExclude", "dummy0,/(/")]).resolve().unwrap();
        assert_eq!(resolved.get("InterfaceExclude").unwrap().raw, "kube-ipvs0");
    }

    #[test]
    fn a_region_is_a_label_that_fits_into_a_namespaces_name() {
        let longest = "r".repeat(46);
        for good in ["europe", "a-1", &longest] {
            let resolved = raw(&[(Source::File, "OpenstackRegion", good)]).resolve().unwrap();
            assert_eq!(resolved.text("OpenstackRegion"), good);
        }
        let long = "r".repeat(47);
        for bad in ["Europe", "-a", "a-", "a.b", &long] {
            let error = raw(&[(Source::File, "OpenstackRegion", bad)]).resolve().unwrap_err();
            assert!(error.to_string().contains("OpenstackRegion"), "{error}");
        }
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
