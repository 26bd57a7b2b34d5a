//! The licence of every package in the lock file, against `[licenses] allow` of deny.toml.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Packages whose licence expression has no allowed alternative.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let allowed = allowed(&std::fs::read_to_string(root.join("deny.toml")).context("deny.toml")?);
    if allowed.is_empty() {
        bail!("deny.toml allows no licence");
    }
    let out = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    if !out.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    Ok(packages
        .iter()
        .filter_map(|p| {
            let expression = p["license"].as_str().unwrap_or("none");
            (!permits(expression, &allowed)).then(|| format!("{} {}: {expression}", p["name"], p["version"]))
        })
        .collect())
}

/// The quoted words of the `allow = [...]` list.
fn allowed(deny: &str) -> Vec<String> {
    let list = deny.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(l, _)| l);
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// SPDX expressions: one alternative of OR suffices, all parts of AND are needed.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let flat = expression.replace('/', " OR ");
    match split_top(&flat, " OR ") {
        parts if parts.len() > 1 => parts.iter().any(|p| permits(p, allowed)),
        _ => match split_top(&flat, " AND ") {
            parts if parts.len() > 1 => parts.iter().all(|p| permits(p, allowed)),
            _ => {
                let one = flat.trim();
                match one.strip_prefix('(').and_then(|o| o.strip_suffix(')')) {
                    Some(inner) => permits(inner, allowed),
                    None => allowed.iter().any(|a| a == one),
                }
            }
        },
    }
}

/// Splits outside parentheses.
fn split_top<'a>(s: &'a str, by: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (i, c) in s.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && i >= start && s[i..].starts_with(by) => {
                parts.push(&s[start..i]);
                start = i + by.len();
            }
            _ => {}
        }
    }
    parts.push(&s[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alternative_suffices_and_all_parts_are_needed() {
        let allowed = vec!["MIT".to_owned(), "ISC".to_owned()];
        assert!(permits("MIT OR GPL-3.0", &allowed));
        assert!(permits("Apache-2.0/MIT", &allowed));
        assert!(permits("(GPL-2.0 OR MIT) AND ISC", &allowed));
        assert!(!permits("MIT AND GPL-3.0", &allowed));
        assert!(!permits("GPL-3.0", &allowed));
    }
}
