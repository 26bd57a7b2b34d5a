//! JSON values as YAML that people read: block style, long texts folded.
//!
//! Only what manifests need: keys are plain words, and any text that YAML could take for something else is quoted
//! as in JSON, which is YAML too.

use serde_json::Value;

/// Longest line that a folded text makes, without its indentation.
const WIDTH: usize = 100;

/// A whole document.
pub(super) fn document(value: &Value) -> String {
    let mut out = String::from("---\n");
    block(value, 0, &mut out);
    out
}

/// Writes the lines of a list or map; a scalar becomes one line.
fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            // Sorted here: whether the map itself is depends on features that other crates turn on.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, inner) in entries {
                out.push_str(&pad);
                out.push_str(&scalar_text(key));
                out.push(':');
                after(inner, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        let mut inner = String::new();
                        block(item, indent + 2, &mut inner);
                        out.push_str(&pad);
                        out.push_str("- ");
                        out.push_str(inner.get(indent + 2..).unwrap_or_default());
                    }
                    Value::Array(items) if !items.is_empty() => {
                        out.push_str(&format!("{pad}-\n"));
                        block(item, indent + 2, out);
                    }
                    _ => {
                        out.push_str(&pad);
                        out.push('-');
                        after(item, indent, out);
                    }
                }
            }
        }
        other => {
            out.push_str(&pad);
            out.push_str(&inline(other));
            out.push('\n');
        }
    }
}

/// What follows a key or a dash.
fn after(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(value, indent + 2, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(value, indent, out);
        }
        Value::String(text) if foldable(text) => {
            out.push_str(" >-\n");
            let pad = " ".repeat(indent + 2);
            let mut line = String::new();
            for word in text.split(' ') {
                if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
                    out.push_str(&format!("{pad}{line}\n"));
                    line.clear();
                }
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            out.push_str(&format!("{pad}{line}\n"));
        }
        other => {
            out.push(' ');
            out.push_str(&inline(other));
            out.push('\n');
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar_text(text),
        // Numbers, words of JSON, `[]` and `{}` are YAML as they stand.
        other => other.to_string(),
    }
}

/// Folding keeps single spaces and nothing else.
fn foldable(text: &str) -> bool {
    text.len() > WIDTH
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && !text.contains("  ")
        && !text.contains(['\n', '\t'])
}

fn scalar_text(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./ ".contains(c))
        && !text.ends_with(' ')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n"
        );
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_value_is_read_back_as_it_was() {
        let value = json!({
            "a": {"b": [1, 2.5, true, null, "yes", "1", "", "x: y", "- z", "a # b", "\"q\""], "empty": {}, "none": []},
            "list": [[1], {"k": [{"deep": "v", "w": {"x": 1}}]}, {}],
            "long": "word ".repeat(60).trim_end(),
            "regexp": r"^(\d+)\.x$",
            "*": "'",
        });
        let read: Value = serde_saphyr::from_str(&document(&value)).unwrap();
        assert_eq!(read, value);
    }
}
