//! Kubernetes' label selectors in Calico's words.
//!
//! Always holds: what comes out parses as a selector and says what went in; names and values that are none of
//! Kubernetes' are refused, so that nothing in them becomes part of an expression.

use libcalico_api::common::LabelSelector;
use libcalico_api::workload_endpoint::ORCHESTRATOR_LABEL;

/// Pods with these labels, and nothing but pods.
pub fn pods(selector: &LabelSelector) -> Result<String, String> {
    let mut all = vec![format!("{ORCHESTRATOR_LABEL} == 'k8s'")];
    all.extend(terms(selector)?);
    Ok(all.join(" && "))
}

/// Namespaces with these labels; no requirement means every namespace.
pub fn namespaces(selector: &LabelSelector) -> Result<String, String> {
    match terms(selector)? {
        none if none.is_empty() => Ok("all()".to_owned()),
        some => Ok(some.join(" && ")),
    }
}

/// Each requirement in Calico's words.
fn terms(selector: &LabelSelector) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for (key, value) in &selector.match_labels {
        check(key, &[value])?;
        out.push(format!("{key} == '{value}'"));
    }
    for e in &selector.match_expressions {
        let key = &e.key;
        let values: Vec<&String> = e.values.iter().collect();
        check(key, &values)?;
        let list = || e.values.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", ");
        out.push(match e.operator.as_str() {
            "In" => format!("{key} in {{ {} }}", list()),
            "NotIn" => format!("{key} not in {{ {} }}", list()),
            "Exists" => format!("has({key})"),
            "DoesNotExist" => format!("! has({key})"),
            other => {
                return Err(format!("operator {other:?} is not In, NotIn, Exists or DoesNotExist"));
            }
        });
    }
    Ok(out)
}

/// The API server lets no other labels through; what is no label must not become part of an expression.
fn check(key: &str, values: &[&String]) -> Result<(), String> {
    use libcalico_api::names::{is_label_key, is_label_value};
    if !is_label_key(key) {
        return Err(format!("{key:?} is not a label's name"));
    }
    match values.iter().find(|v| !is_label_value(v)) {
        Some(v) => Err(format!("{v:?} is not a label's value")),
        None => Ok(()),
    }
}
