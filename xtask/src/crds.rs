//! The CustomResourceDefinitions in charts/calico/crds: written from the API types, one file a kind.
//!
//! What always holds: the files are a function of the types alone, so that a stale one can be told. What is left out:
//! what stands in a definition (`libcalico-api`, its `crd` module).

#[cfg(test)]
mod reference;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

const FOLDER: &str = "charts/calico/crds";
const HEADER: &str = "# Written by `cargo xtask crds` from the types in libcalico/api. Change those.\n";

/// Writes every file that differs and removes those of kinds that are gone.
pub fn write(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let wanted = files()?;
    for (name, text) in &wanted {
        let path = folder.join(name);
        if fs::read_to_string(&path).ok().as_ref() != Some(text) {
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
    }
    for path in present(&folder)?.difference(&wanted.keys().cloned().collect()) {
        fs::remove_file(folder.join(path))?;
    }
    Ok(Vec::new())
}

/// Lists the files that are not as the types would have them.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = root.join(FOLDER);
    let wanted = files()?;
    let mut findings = Vec::new();
    for (name, text) in &wanted {
        if fs::read_to_string(folder.join(name)).ok().as_ref() != Some(text) {
            findings.push(format!("{FOLDER}/{name}: stale; run `cargo xtask crds`"));
        }
    }
    for name in present(&folder)?.difference(&wanted.keys().cloned().collect()) {
        findings.push(format!("{FOLDER}/{name}: no type has this kind; run `cargo xtask crds`"));
    }
    Ok(findings)
}

/// Every file's name and text.
fn files() -> anyhow::Result<BTreeMap<String, String>> {
    let all = libcalico_api::crd::all()?;
    let files = all.into_iter().map(|crd| {
        (format!("{}_{}.yaml", crd.group, crd.plural), format!("{HEADER}{}", yaml::document(&crd.manifest)))
    });
    Ok(files.collect())
}

fn present(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder)? {
            let path: PathBuf = entry?.path();
            if path.extension().is_some_and(|e| e == "yaml")
                && let Some(name) = path.file_name().and_then(|n| n.to_str())
            {
                names.insert(name.to_owned());
            }
        }
    }
    Ok(names)
}
