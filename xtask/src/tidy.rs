//! What conventions forbid and no other tool sees.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use syn::spanned::Spanned;
use syn::visit::Visit;

const MAX_FILE_LINES: usize = 1000;
const MAX_FUNCTION_LINES: usize = 100;

/// Findings as `path:line: what`.
pub fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let files = tracked(root)?;
    let open_rows = std::fs::read_to_string(root.join("docs/open.md")).unwrap_or_default();
    let mut findings = Vec::new();
    let mut reachable = BTreeSet::new();
    for manifest in files.iter().filter(|f| f.file_name().is_some_and(|n| n == "Cargo.toml")) {
        let dir = root.join(manifest.parent().unwrap_or(Path::new("")));
        for start in crate_roots(&dir) {
            follow(&start, &mut reachable)?;
        }
    }
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "rs")) {
        let path = root.join(file);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let shown = file.display();
        if !reachable.contains(&path) {
            findings.push(format!("{shown}:1: no module includes this file"));
        }
        let lines = text.lines().count();
        if lines > MAX_FILE_LINES {
            findings.push(format!("{shown}:1: {lines} lines; look for the second room in it"));
        }
        let parsed = syn::parse_file(&text).with_context(|| shown.to_string())?;
        let mut long = LongFunctions::default();
        long.visit_file(&parsed);
        findings.extend(
            long.found.iter().map(|(line, name, n)| format!("{shown}:{line}: function {name} has {n} lines")),
        );
        if !text.starts_with("//!") {
            findings.push(format!("{shown}:1: no //! header says what the module is for"));
        }
        for (i, line) in text.lines().enumerate() {
            if line.contains(concat!("TO", "DO")) && !open_rows.contains(&shown.to_string()) {
                findings.push(format!("{shown}:{}: a task without a row in docs/open.md", i + 1));
            }
        }
    }
    Ok(findings)
}

/// Files that git tracks or would track.
fn tracked(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let out = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    let text = String::from_utf8(out.stdout).context("file names are not UTF-8")?;
    Ok(text.split('\0').filter(|s| !s.is_empty()).map(PathBuf::from).collect())
}

/// Where Cargo starts: lib, main, build script, and each file (or folder's main.rs) of bin, tests, benches, examples.
fn crate_roots(dir: &Path) -> Vec<PathBuf> {
    let mut roots = vec![dir.join("src/lib.rs"), dir.join("src/main.rs"), dir.join("build.rs")];
    for folder in ["src/bin", "tests", "benches", "examples", "fuzz_targets"] {
        let Ok(entries) = std::fs::read_dir(dir.join(folder)) else { continue };
        for path in entries.flatten().map(|e| e.path()) {
            if path.is_dir() {
                roots.push(path.join("main.rs"));
            } else if path.extension().is_some_and(|e| e == "rs") {
                roots.push(path);
            }
        }
    }
    roots.retain(|p| p.is_file());
    roots
}

/// Marks a file and every file its `mod` items name.
fn follow(path: &Path, reachable: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    if !reachable.insert(path.to_path_buf()) {
        return Ok(());
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let parsed = syn::parse_file(&text).with_context(|| path.display().to_string())?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let is_root = matches!(stem, "lib" | "main" | "mod")
        || dir.file_name().is_some_and(|d| d == "tests" || d == "benches" || d == "bin");
    let base = if is_root { dir.to_path_buf() } else { dir.join(stem) };
    follow_items(&parsed.items, dir, &base, reachable)
}

fn follow_items(
    items: &[syn::Item],
    dir: &Path,
    base: &Path,
    reachable: &mut BTreeSet<PathBuf>,
) -> anyhow::Result<()> {
    for item in items {
        let syn::Item::Mod(module) = item else { continue };
        let name = module.ident.to_string();
        if let Some((_, inner)) = &module.content {
            follow_items(inner, dir, &base.join(&name), reachable)?;
            continue;
        }
        let explicit = module.attrs.iter().find_map(|a| match &a.meta {
            syn::Meta::NameValue(nv) if nv.path.is_ident("path") => match &nv.value {
                syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(s), .. }) => Some(s.value()),
                _ => None,
            },
            _ => None,
        });
        let candidates = match explicit {
            Some(p) => vec![dir.join(p)],
            None => vec![base.join(format!("{name}.rs")), base.join(&name).join("mod.rs")],
        };
        if let Some(found) = candidates.iter().find(|c| c.is_file()) {
            let found = found.canonicalize().unwrap_or_else(|_| found.clone());
            follow(&found, reachable)?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct LongFunctions {
    found: Vec<(usize, String, usize)>,
}

impl LongFunctions {
    fn measure(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let n = span.end().line - span.start().line + 1;
        if n > MAX_FUNCTION_LINES {
            self.found.push((span.start().line, name.to_string(), n));
        }
    }
}

impl<'ast> Visit<'ast> for LongFunctions {
    fn visit_item_fn(&mut self, f: &'ast syn::ItemFn) {
        self.measure(&f.sig.ident, f.span());
        syn::visit::visit_item_fn(self, f);
    }

    fn visit_impl_item_fn(&mut self, f: &'ast syn::ImplItemFn) {
        self.measure(&f.sig.ident, f.span());
        syn::visit::visit_impl_item_fn(self, f);
    }
}
