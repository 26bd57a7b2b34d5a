//! Mutual TLS with Typha: all of it or none.
//!
//! In come the five parameters, out goes what the client needs. Always holds, as upstream has it: where one of them is
//! set, the three files are there and Typha has a name that its certificate must bear, or Felix does not start. So
//! plain text is never spoken where TLS was meant, and not every certificate of the authority passes for Typha's.

use std::path::PathBuf;

use super::sources::{ConfigError, Raw, Resolved};

const FILES: [&str; 3] = ["TyphaCAFile", "TyphaCertFile", "TyphaKeyFile"];
const NAMES: [&str; 2] = ["TyphaCN", "TyphaURISAN"];

/// Files and names for mutual TLS with Typha.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TyphaTls {
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Names that Typha's certificate must have, at least one of them.
    pub server_cn: Option<String>,
    pub server_uri_san: Option<String>,
}

/// Fails where some of the parameters are set, but not what they need. A file that is named and does not exist counts
/// as set.
pub(super) fn check(raw: &Raw, resolved: &Resolved) -> Result<(), ConfigError> {
    let set: Vec<&str> = FILES.into_iter().chain(NAMES).filter(|n| raw.written(n).is_some()).collect();
    if set.is_empty() {
        return Ok(());
    }
    let mut missing: Vec<String> = FILES
        .into_iter()
        .filter(|name| resolved.text(name).is_empty())
        .map(|name| match raw.written(name) {
            Some(path) => format!("{name} = {path:?} is no file"),
            None => format!("{name} is not set"),
        })
        .collect();
    if NAMES.into_iter().all(|name| resolved.text(name).is_empty()) {
        missing.push(format!("neither {} is set", NAMES.join(" nor ")));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(ConfigError::TyphaTls { set: set.join(", "), missing: missing.join(", ") })
}

/// What is configured, `None` where nothing is.
pub(super) fn tls(r: &Resolved) -> Option<TyphaTls> {
    let text = |name: &str| Some(r.text(name)).filter(|t| !t.is_empty()).map(str::to_owned);
    let file = |name: &str| text(name).map(PathBuf::from);
    Some(TyphaTls {
        ca_file: file("TyphaCAFile")?,
        cert_file: file("TyphaCertFile")?,
        key_file: file("TyphaKeyFile")?,
        server_cn: text("TyphaCN"),
        server_uri_san: text("TyphaURISAN"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    /// With these of the five set; a file that is named exists unless its name is `gone`.
    fn resolve(set: &[(&str, &str)]) -> Result<Option<TyphaTls>, String> {
        let dir = tempfile::tempdir().unwrap();
        let value = |name: &str, value: &str| {
            let path = dir.path().join(value);
            if !FILES.contains(&name) || value.eq_ignore_ascii_case("none") {
                return value.to_owned();
            }
            if value != "gone" {
                std::fs::write(&path, "").unwrap();
            }
            path.display().to_string()
        };
        let mut raw = Raw::default();
        raw.set(Source::File, set.iter().map(|(k, v)| ((*k).to_owned(), value(k, v))));
        raw.resolve().map(|r| tls(&r)).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_set_is_plain_text() {
        assert_eq!(resolve(&[]), Ok(None));
        assert_eq!(resolve(&[("TyphaCN", "none"), ("TyphaKeyFile", "None")]), Ok(None));
    }

    #[test]
    fn the_three_files_and_one_name_are_tls() {
        for names in [&NAMES[..1], &NAMES[1..], &NAMES] {
            let set: Vec<_> = FILES.iter().chain(names).map(|n| (*n, "x")).collect();
            let tls = resolve(&set).unwrap().unwrap();
            assert_eq!(tls.server_cn.is_some(), names.contains(&"TyphaCN"));
            assert_eq!(tls.server_uri_san.is_some(), names.contains(&"TyphaURISAN"));
        }
    }

    #[test]
    fn anything_between_ends_the_start_and_is_named() {
        let all: Vec<&str> = FILES.into_iter().chain(["TyphaCN"]).collect();
        // Every choice of the four but none and all.
        for choice in 1..15_u32 {
            let chosen = |i: usize| choice & (1 << i) != 0;
            let set: Vec<_> = (0..4).filter(|i| chosen(*i)).map(|i| (all[i], "x")).collect();
            let error = resolve(&set).unwrap_err();
            let missing = error.split(" but ").nth(1).unwrap();
            let missing = missing.split(';').next().unwrap();
            for (i, name) in all.iter().enumerate() {
                assert_eq!(missing.contains(name), !chosen(i), "{choice:b}: {error}");
            }
        }
    }

    #[test]
    fn a_file_that_does_not_exist_is_not_plain_text() {
        let error = resolve(&[("TyphaCAFile", "gone")]).unwrap_err();
        assert!(error.contains("is no file") && error.contains("gone"), "{error}");
    }
}
