//! `-o go-template=…`, `-o go-template-file=…`, `-o jsonpath=…`: text that the administrator lays out.
//!
//! A Go template sees what upstream's sees: a list with one element for each answer, an object or a list with `Items`,
//! whose fields have the names of upstream's Go types (`.ObjectMeta.Name`, `.Spec.CIDR`); the names of the API
//! (`.metadata.name`) work too. A JSONPath sees the document that `-o json` prints, in kubectl's notation
//! (`{.items[*].metadata.name}`, `{range …}{end}`) or that of RFC 9535.

use std::collections::HashMap;

use gtmpl::{Func, FuncError, Value as GoValue};
use serde_json::Value;
use serde_json_path::JsonPath;

use crate::{Error, Result};

/// First words of API names that Go writes otherwise than with one capital.
const INITIALISMS: &[(&str, &str)] = &[
    ("api", "API"),
    ("as", "AS"),
    ("bgp", "BGP"),
    ("bpf", "BPF"),
    ("cidr", "CIDR"),
    ("http", "HTTP"),
    ("icmp", "ICMP"),
    ("ip", "IP"),
    ("ipip", "IPIP"),
    ("ipv4", "IPv4"),
    ("ipv6", "IPv6"),
    ("mac", "MAC"),
    ("mtu", "MTU"),
    ("nat", "NAT"),
    ("ttl", "TTL"),
    ("uid", "UID"),
    ("vxlan", "VXLAN"),
    ("xdp", "XDP"),
];

/// Fields whose keys are the administrator's own.
const FREE_KEYS: &[&str] = &["labels", "annotations", "labelsToApply", "matchLabels"];

/// Runs a Go template over the answers.
pub fn go_template(text: &str, answers: &[Value]) -> Result<String> {
    let failed = |reason: String| Error::Usage(format!("template: {reason}"));
    let mut template = gtmpl::Template::default();
    template.add_func("join", join as Func);
    template.parse(text).map_err(|e| failed(e.to_string()))?;
    let data = GoValue::Array(answers.iter().map(|v| go_value(v, true)).collect());
    template.render(&gtmpl::Context::from(data)).map_err(|e| failed(e.to_string()))
}

/// `join LIST SEPARATOR`, a function that upstream adds to Go's own.
fn join(args: &[GoValue]) -> Result<GoValue, FuncError> {
    match args {
        [GoValue::Array(items), GoValue::String(separator)] => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(GoValue::String(items.join(separator)))
        }
        [GoValue::Nil | GoValue::NoValue, GoValue::String(_)] => Ok(GoValue::String(String::new())),
        _ => Err(FuncError::Generic("join needs a list and a text".to_owned())),
    }
}

fn go_value(value: &Value, rename: bool) -> GoValue {
    match value {
        Value::Null => GoValue::Nil,
        Value::Bool(b) => GoValue::Bool(*b),
        Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => n.into(),
            (None, Some(n)) => n.into(),
            (None, None) => n.as_f64().unwrap_or_default().into(),
        },
        Value::String(s) => GoValue::String(s.clone()),
        Value::Array(items) => GoValue::Array(items.iter().map(|v| go_value(v, rename)).collect()),
        Value::Object(map) => {
            let mut out = HashMap::new();
            for (key, value) in map {
                let inner = go_value(value, rename && !FREE_KEYS.contains(&key.as_str()));
                if rename {
                    out.insert(go_name(key), inner.clone());
                    if key == "metadata" {
                        // Go takes fields of an embedded struct for the object's own.
                        if let GoValue::Map(fields) = &inner {
                            let own =
                                fields.iter().filter(|(k, _)| k.starts_with(|c: char| c.is_uppercase()));
                            out.extend(own.map(|(k, v)| (k.clone(), v.clone())));
                        }
                        out.insert("ObjectMeta".to_owned(), inner.clone());
                    }
                }
                out.insert(key.clone(), inner);
            }
            GoValue::Map(out)
        }
    }
}

/// `natOutgoing` → `NATOutgoing`, `blockSize` → `BlockSize`.
fn go_name(field: &str) -> String {
    let end = field.find(|c: char| c.is_ascii_uppercase()).unwrap_or(field.len());
    let (first, rest) = field.split_at(end);
    if let Some((_, go)) = INITIALISMS.iter().find(|(word, _)| *word == first) {
        return format!("{go}{rest}");
    }
    let mut chars = field.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// Runs a JSONPath template over the document.
pub fn json_path(text: &str, document: &Value) -> Result<String> {
    // Without braces the whole is one expression.
    if !text.contains('{') {
        return evaluate(text, document);
    }
    let parts = parts(text)?;
    let mut out = String::new();
    write_parts(&parts, document, &mut out)?;
    Ok(out)
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Expression(String),
    Range(String),
    End,
}

fn parts(text: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        let end =
            closing_brace(after).ok_or_else(|| Error::Usage("jsonpath: a { is not closed".to_owned()))?;
        let inner = after.get(..end).unwrap_or_default().trim();
        parts.push(match inner.split_once(' ') {
            _ if inner == "end" => Part::End,
            Some(("range", expression)) => Part::Range(expression.trim().to_owned()),
            _ if inner.starts_with(['"', '\'']) => Part::Text(unquote(inner)),
            _ => Part::Expression(inner.to_owned()),
        });
        rest = after.get(end + 1..).unwrap_or_default();
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

/// The brace that ends an expression: those between quotes do not.
fn closing_brace(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            _ if c == '\\' => escaped = true,
            None if c == '}' => return Some(i),
            None if matches!(c, '"' | '\'') => quote = Some(c),
            Some(q) if q == c => quote = None,
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> String {
    let inner = text.trim_matches(['"', '\'']);
    inner.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"").replace("\\\\", "\\")
}

/// Writes parts up to the end or the `{end}` of their range; says how many were used.
fn write_parts(parts: &[Part], document: &Value, out: &mut String) -> Result<usize> {
    let mut at = 0;
    while let Some(part) = parts.get(at) {
        at += 1;
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Expression(expression) => out.push_str(&evaluate(expression, document)?),
            Part::End => return Ok(at),
            Part::Range(expression) => {
                let body = parts.get(at..).unwrap_or_default();
                let mut used = write_parts(body, &Value::Null, &mut String::new())?;
                for element in query(expression, document)? {
                    used = write_parts(body, element, out)?;
                }
                at += used;
            }
        }
    }
    Ok(at)
}

fn evaluate(expression: &str, document: &Value) -> Result<String> {
    let found = query(expression, document)?;
    let texts: Vec<String> =
        found.into_iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
    Ok(texts.join(" "))
}

fn query<'a>(expression: &str, document: &'a Value) -> Result<Vec<&'a Value>> {
    let standard = standard_path(expression);
    let path = JsonPath::parse(&standard)
        .map_err(|e| Error::Usage(format!("jsonpath: {expression:?} is not a path: {e}")))?;
    Ok(path.query(document).all())
}

/// kubectl's notation in that of RFC 9535: names may hold escaped dots, and the leading `$` may be missing.
fn standard_path(expression: &str) -> String {
    let text = expression.strip_prefix(['$', '@']).unwrap_or(expression);
    let mut out = "$".to_owned();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '.' if chars.peek() == Some(&'.') => {
                chars.next();
                out.push_str("..");
                out.push_str(&name(&mut chars));
            }
            '.' => out.push_str(&name(&mut chars)),
            // Brackets are the same in both.
            '[' => {
                out.push(c);
                let mut quote = None;
                for c in chars.by_ref() {
                    out.push(c);
                    match quote {
                        None if c == ']' => break,
                        None if matches!(c, '"' | '\'') => quote = Some(c),
                        Some(q) if q == c => quote = None,
                        _ => {}
                    }
                }
            }
            other => out.push(other),
        }
    }
    out
}

fn name(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(&c) = chars.peek() {
        if matches!(c, '.' | '[') {
            break;
        }
        chars.next();
        name.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    match name.as_str() {
        "" => String::new(),
        "*" => "[*]".to_owned(),
        _ => format!("[{}]", Value::from(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn pools() -> Value {
        json!({"kind": "IPPoolList", "items": [
            {"metadata": {"name": "a", "labels": {"projectcalico.org/x": "1"}}, "spec": {"cidr": "10.0.0.0/8", "allowedUses": ["Workload", "Tunnel"]}},
            {"metadata": {"name": "b"}, "spec": {"cidr": "fd00::/8", "natOutgoing": true}}
        ]})
    }

    #[test]
    fn a_go_template_sees_the_names_of_upstreams_types() {
        let run = |t: &str| go_template(t, &[pools()]).unwrap();
        assert_eq!(run("{{range .}}{{range .Items}}{{.ObjectMeta.Name}} {{end}}{{end}}"), "a b ");
        assert_eq!(
            run("{{range .}}{{range .Items}}{{.Name}}={{.Spec.CIDR}}\n{{end}}{{end}}"),
            "a=10.0.0.0/8\nb=fd00::/8\n"
        );
        assert_eq!(
            run("{{range .}}{{range .items}}{{if .spec.natOutgoing}}{{.metadata.name}}{{end}}{{end}}{{end}}"),
            "b"
        );
        assert_eq!(
            run("{{range .}}{{range .Items}}{{join .Spec.AllowedUses \",\"}};{{end}}{{end}}"),
            "Workload,Tunnel;;"
        );
        let e = go_template("{{range .}}", &[pools()]).unwrap_err().to_string();
        assert!(e.starts_with("template: "), "{e}");
        assert_eq!(go_name("natOutgoing"), "NATOutgoing");
        assert_eq!(go_name("ipv4VXLANTunnelAddr"), "IPv4VXLANTunnelAddr");
        assert_eq!(go_name("nodeSelector"), "NodeSelector");
    }

    #[test]
    fn a_json_path_is_read_in_kubectls_notation_and_the_standards() {
        let run = |t: &str| json_path(t, &pools()).unwrap();
        assert_eq!(run("{.items[*].metadata.name}"), "a b");
        assert_eq!(run("$.items[0].spec.cidr"), "10.0.0.0/8");
        assert_eq!(
            run("{range .items[*]}{.metadata.name}{\"\\t\"}{.spec.cidr}{\"\\n\"}{end}."),
            "a\t10.0.0.0/8\nb\tfd00::/8\n."
        );
        assert_eq!(run("{.items[0].metadata.labels.projectcalico\\.org/x}"), "1");
        assert_eq!(run("{.items[?(@.spec.natOutgoing==true)].metadata.name}"), "b");
        assert_eq!(run("{..cidr}"), "10.0.0.0/8 fd00::/8");
        assert!(json_path("{.items", &pools()).is_err());
        assert!(json_path("{.items[}", &pools()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_paths_never_panic(text in "[{}a-z.\\[\\]*?@'\"\\\\ ]{0,40}") {
            let _ = json_path(&text, &pools());
        }
    }
}
