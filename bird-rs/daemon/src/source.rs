//! Configuration files: the main one and those it includes.

use std::path::{Path, PathBuf};

use bird_core::config::{Config, Source, parse};

/// Reads a configuration's text with all includes; relative names are looked up next to the main file.
///
/// # Errors
/// A message as BIRD prints it, with the place.
pub fn load(path: &Path) -> Result<Source, String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("Unable to open configuration file {name}: {}", os_text(&e)))?;
    let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut read = |argument: &str| included(&dir, argument);
    Source::gather(&name, text, &mut read).map_err(|e| e.to_string())
}

/// Reads and parses a configuration.
///
/// # Errors
/// A message as BIRD prints it, with the place.
pub fn check(path: &Path) -> Result<(Source, Config), String> {
    let source = load(path)?;
    let config = parse(&source).map_err(|e| e.to_string())?;
    Ok((source, config))
}

fn included(dir: &Path, argument: &str) -> Result<Vec<(String, String)>, String> {
    let path = dir.join(argument);
    let files = if argument.contains(['*', '?']) { matching(&path) } else { vec![path] };
    files
        .into_iter()
        .map(|file| {
            let name = file.display().to_string();
            std::fs::read_to_string(&file)
                .map(|text| (name.clone(), text))
                .map_err(|e| format!("unable to open included file {name}: {}", os_text(&e)))
        })
        .collect()
}

/// Files of a directory whose names match the last part of a pattern, in order.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut out: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| {
            let file = p.file_name().and_then(|n| n.to_str());
            p.is_file() && file.is_some_and(|f| bird_core::filter::glob_matches(name, f))
        })
        .collect();
    out.sort();
    out
}

/// The system's words without the number Rust puts behind them.
pub(crate) fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
