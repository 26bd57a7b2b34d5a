//! The reference page of Felix's parameters is what the table of parameters and the descriptions of `FelixConfiguration`
//! say. `UPDATE_GOLDEN=1` writes it.

use std::collections::BTreeMap;
use std::path::Path;

const PAGE: &str = "../../docs/reference/felix-configuration.md";
const CRD: &str = "../../charts/calico/crds/projectcalico.org_felixconfigurations.yaml";

/// Descriptions by field, read from the definition line by line: `name:` at one depth, `description:` below it.
fn descriptions(crd: &str) -> BTreeMap<String, String> {
    let depth = |l: &str| l.len() - l.trim_start().len();
    let mut out: BTreeMap<String, String> = BTreeMap::new();
    let (mut field, mut open) = (String::new(), false);
    for line in crd.lines() {
        let text = line.trim();
        if depth(line) == 14 && text.ends_with(':') {
            text.trim_end_matches(':').clone_into(&mut field);
            open = false;
        } else if depth(line) == 16 && text.starts_with("description:") {
            let rest = text.trim_start_matches("description:").trim();
            open = rest.starts_with('>');
            let rest = if open { "" } else { rest.trim_matches('"') };
            out.insert(field.clone(), rest.to_owned());
        } else if open && depth(line) == 18 {
            let description = out.get_mut(&field).unwrap();
            if !description.is_empty() {
                description.push(' ');
            }
            description.push_str(text);
        } else if depth(line) <= 16 {
            open = false;
        }
    }
    out
}

#[test]
fn the_reference_page_is_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crd = std::fs::read_to_string(root.join(CRD)).unwrap();
    let descriptions = descriptions(&crd);
    assert!(descriptions.len() > 150, "the definition was not read");
    let page = calico_felix::config::reference::page(|field| descriptions.get(field).map(String::as_str));
    let path = root.join(PAGE);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let stands = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stands == page, "{PAGE} is not what the table says; UPDATE_GOLDEN=1 writes it");
}
