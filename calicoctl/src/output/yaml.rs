//! YAML as upstream's tools write it: keys in order, lists at their key's indentation, quotes where text would be
//! read as something else.
//!
//! In comes a JSON value, out goes text that any YAML reader turns back into the same value. A crate's writer would
//! do that too, but with another layout than the one administrators know.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The document.
#[must_use]
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => object(&mut out, map, 0, false),
        Value::Array(items) if !items.is_empty() => array(&mut out, items, 0),
        other => {
            scalar(&mut out, other, 0);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn object(out: &mut String, map: &Map<String, Value>, depth: usize, first_is_placed: bool) {
    let mut keys: Vec<(&String, &Value)> = map.iter().collect();
    keys.sort_by_key(|(k, _)| k.as_str());
    for (i, (key, value)) in keys.into_iter().enumerate() {
        if i > 0 || !first_is_placed {
            indent(out, depth);
        }
        text(out, key, depth, false);
        out.push(':');
        match value {
            Value::Object(m) if !m.is_empty() => {
                out.push('\n');
                object(out, m, depth + 1, false);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                array(out, items, depth);
            }
            other => {
                out.push(' ');
                scalar(out, other, depth + 1);
                out.push('\n');
            }
        }
    }
}

fn array(out: &mut String, items: &[Value], depth: usize) {
    for item in items {
        indent(out, depth);
        out.push_str("- ");
        match item {
            Value::Object(m) if !m.is_empty() => object(out, m, depth + 1, true),
            Value::Array(inner) if !inner.is_empty() => {
                // A list in a list begins on the dash's line; its first indentation is there already.
                let mut nested = String::new();
                array(&mut nested, inner, depth + 1);
                out.push_str(nested.trim_start_matches(' '));
            }
            other => {
                scalar(out, other, depth + 1);
                out.push('\n');
            }
        }
    }
}

fn scalar(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(s) => text(out, s, depth, true),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => out.push_str(&other.to_string()),
    }
}

fn text(out: &mut String, s: &str, depth: usize, block_allowed: bool) {
    let printable =
        s.chars().all(|c| !c.is_control() && c != '\u{feff}' && !('\u{2028}'..='\u{2029}').contains(&c));
    if printable {
        if s.is_empty() || looks_like_something_else(s) {
            double_quoted(out, s);
        } else if plain(s) {
            out.push_str(s);
        } else {
            let _ = write!(out, "'{}'", s.replace('\'', "''"));
        }
        return;
    }
    let lines_only = s.chars().all(|c| c == '\n' || !c.is_control());
    if block_allowed && lines_only && s.contains('\n') && !s.starts_with([' ', '\n']) && !s.ends_with("\n\n")
    {
        out.push_str(if s.ends_with('\n') { "|" } else { "|-" });
        for line in s.strip_suffix('\n').unwrap_or(s).split('\n') {
            out.push('\n');
            if !line.is_empty() {
                indent(out, depth);
                out.push_str(line);
            }
        }
        return;
    }
    double_quoted(out, s);
}

fn double_quoted(out: &mut String, s: &str) {
    // JSON's escapes are YAML's.
    out.push_str(&Value::from(s).to_string());
}

/// True for text that some YAML reader takes for a number, a truth value, nothing, or a time.
fn looks_like_something_else(s: &str) -> bool {
    let lower = s.to_ascii_lowercase();
    if matches!(
        lower.as_str(),
        "y" | "n"
            | "yes"
            | "no"
            | "on"
            | "off"
            | "true"
            | "false"
            | "null"
            | "~"
            | "<<"
            | "="
            | ".nan"
            | "nan"
            | "inf"
            | ".inf"
            | "-.inf"
            | "+.inf"
            | "-inf"
            | "+inf"
            | "infinity"
    ) {
        return true;
    }
    let first = s.trim_start_matches(['+', '-', '.', '_']).chars().next();
    let numeric =
        |c: char| c.is_ascii_hexdigit() || matches!(c, '_' | '.' | '+' | '-' | ':' | 'x' | 'o' | 'X' | 'O');
    // Readers of YAML 1.1 skip underscores wherever they stand in a number.
    let bare = lower.replace('_', "");
    let unsigned = bare.trim_start_matches(['+', '-']);
    let is_number = first.is_some_and(|c| c.is_ascii_digit())
        && (bare.parse::<f64>().is_ok()
            || unsigned.starts_with("0x")
            || unsigned.starts_with("0o")
            || unsigned.starts_with("0b")
            || (s.chars().all(numeric) && sexagesimal(s)));
    is_number || is_time(s)
}

/// `1:30`, base 60 in YAML 1.1.
fn sexagesimal(s: &str) -> bool {
    s.contains(':')
        && s.split(':').all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// `2026-11-21` and `2026-11-21T07:25:45Z`.
fn is_time(s: &str) -> bool {
    let b = s.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| b.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    digits(0..4) && b.get(4) == Some(&b'-') && digits(5..7) && b.get(7) == Some(&b'-') && digits(8..10)
}

/// True for text that needs no quotes.
fn plain(s: &str) -> bool {
    let starts_badly =
        s.starts_with([' ', '!', '&', '*', '{', '}', '[', ']', ',', '#', '|', '>', '@', '`', '"', '\'', '%']);
    let dash = s.starts_with(['-', '?', ':']) && s.chars().nth(1).is_none_or(|c| c == ' ');
    let document = s.starts_with("---") || s.starts_with("...");
    !starts_badly && !dash && !document && !s.ends_with([' ', ':']) && !s.contains(": ") && !s.contains(" #")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_document_is_laid_out_as_upstream_does() {
        let v = json!({
            "kind": "IPPool",
            "metadata": {"creationTimestamp": "2026-11-21T07:25:45Z", "resourceVersion": "36", "name": "p"},
            "spec": {
                "allowedUses": ["Workload", "Tunnel"], "blockSize": 26, "nodeSelector": "all()", "x": "!has(rr)",
                "rules": [{"b": "role == 'a'", "a": {}}, {"c": []}], "n": "no", "e": ""
            }
        });
        let expected = "kind: IPPool\nmetadata:\n  creationTimestamp: \"2026-11-21T07:25:45Z\"\n  name: p\n  \
                        resourceVersion: \"36\"\nspec:\n  allowedUses:\n  - Workload\n  - Tunnel\n  blockSize: 26\n  \
                        e: \"\"\n  \"n\": \"no\"\n  nodeSelector: all()\n  rules:\n  - a: {}\n    b: role == 'a'\n  - c: []\n  \
                        x: '!has(rr)'\n";
        assert_eq!(to_string(&v), expected);
    }

    fn value() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            "[ -~]{0,12}",
            "[a-z:#'\"\n\t -]{0,10}",
            prop::sample::select(
                &[
                    "yes",
                    "0x1f",
                    "1:30",
                    "1e3",
                    "2026-01-01",
                    "~",
                    "a: b",
                    "-",
                    "- a",
                    "é",
                    "0o7",
                    "1_0",
                    "_0",
                    "_0x1f",
                    "---"
                ][..]
            )
            .prop_map(str::to_owned),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            word.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z0-9./ :#-]{1,8}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(v in value()) {
            let text = to_string(&v);
            let read: Value = serde_saphyr::from_str(&text)
                .map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert_eq!(read, v, "{}", text);
        }
    }
}
