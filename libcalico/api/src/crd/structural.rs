//! From a JSON schema to a structural one, and additions to it by path.

use serde_json::{Map, Value, json};

use super::Set;

/// A table that does not fit its type.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    #[error("{kind}: the table of limits names {path:?}, which the type does not have")]
    NoSuchField { kind: &'static str, path: String },
}

/// Keywords that the API server's schemas have, as far as the types' schemas use them.
const KEPT: &[&str] = &[
    "type",
    "format",
    "description",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "required",
    "x-kubernetes-int-or-string",
];

/// Brings the schema of a Rust type into the API server's form: one type, no references, no null, no alternatives.
pub(super) fn structural(schema: Value) -> Value {
    let Value::Object(mut from) = schema else {
        return json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    };
    // An optional structure is "this or null".
    if let Some(Value::Array(choices)) = from.remove("anyOf") {
        let some = choices.into_iter().find(|c| c.get("type") != Some(&json!("null")));
        let mut inner = structural(some.unwrap_or_default());
        if let Some(text) = from.get("description").and_then(Value::as_str) {
            inner["description"] = json!(one_line(text));
        }
        return inner;
    }
    // Words of which some have a description of their own.
    if let Some(Value::Array(words)) = from.remove("oneOf") {
        let words: Vec<Value> = words.iter().flat_map(words_of).collect();
        from.insert("type".to_owned(), json!("string"));
        from.insert("enum".to_owned(), Value::Array(words));
    }
    if let Some(word) = from.remove("const") {
        from.insert("enum".to_owned(), json!([word]));
    }
    let mut to = Map::new();
    for (key, value) in from {
        match key.as_str() {
            "properties" => {
                let fields = value.as_object().cloned().unwrap_or_default();
                let fields: Map<_, _> = fields.into_iter().map(|(k, v)| (k, structural(v))).collect();
                to.insert(key, Value::Object(fields));
            }
            "items" | "additionalProperties" if value.is_object() => {
                to.insert(key, structural(value));
            }
            "type" => {
                let one = value.as_array().and_then(|t| t.iter().find(|t| *t != "null")).cloned();
                to.insert(key, one.unwrap_or(value));
            }
            "enum" => {
                let words = value.as_array().cloned().unwrap_or_default();
                to.insert(key, words.into_iter().filter(|w| !w.is_null()).collect());
            }
            // Others are Rust's own names for sizes; the bounds beside them say the same.
            "format" if !matches!(value.as_str(), Some("int32" | "int64")) => {}
            "description" => {
                to.insert(key, json!(one_line(value.as_str().unwrap_or_default())));
            }
            _ if KEPT.contains(&key.as_str()) => {
                to.insert(key, value);
            }
            _ => {}
        }
    }
    Value::Object(to)
}

fn words_of(choice: &Value) -> Vec<Value> {
    match (choice.get("const"), choice.get("enum")) {
        (Some(word), _) => vec![word.clone()],
        (None, Some(Value::Array(words))) => words.clone(),
        _ => Vec::new(),
    }
}

/// Documentation comments are broken into lines for the source alone.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Puts additions at a path. The error is the path that the schema does not have.
pub(crate) fn apply(schema: &mut Value, path: &str, sets: &[Set]) -> Result<(), String> {
    for path in expand(path) {
        let at = find(schema, &path).ok_or_else(|| path.clone())?;
        for set in sets {
            put(at, set);
        }
    }
    Ok(())
}

/// `a.{b,c}[]` is `a.b[]` and `a.c[]`.
fn expand(path: &str) -> Vec<String> {
    let Some((head, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((words, tail)) = rest.split_once('}') else { return vec![path.to_owned()] };
    words.split(',').flat_map(|w| expand(&format!("{head}{w}{tail}"))).collect()
}

/// Steps are fields, `[]` for the entries of a list and `*` for the values of a map.
pub(crate) fn find<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut at = schema;
    for step in path.split('.').filter(|s| !s.is_empty()) {
        let field = step.trim_end_matches("[]");
        at = match field {
            "*" => at.get_mut("additionalProperties")?,
            _ => at.get_mut("properties")?.get_mut(field)?,
        };
        for _ in 0..(step.len() - field.len()) / 2 {
            at = at.get_mut("items")?;
        }
    }
    Some(at)
}

fn put(at: &mut Value, set: &Set) {
    match set {
        Set::Min(n) => at["minimum"] = json!(n),
        Set::Max(n) => at["maximum"] = json!(n),
        Set::MinLength(n) => at["minLength"] = json!(n),
        Set::MaxLength(n) => at["maxLength"] = json!(n),
        Set::MinItems(n) => at["minItems"] = json!(n),
        Set::MaxItems(n) => at["maxItems"] = json!(n),
        Set::MinProperties(n) => at["minProperties"] = json!(n),
        Set::MaxProperties(n) => at["maxProperties"] = json!(n),
        Set::Nullable => at["nullable"] = json!(true),
        Set::Open => at["x-kubernetes-preserve-unknown-fields"] = json!(true),
        Set::Pattern(p) => at["pattern"] = json!(p),
        Set::Format(f) => at["format"] = json!(f),
        Set::Default(text) => at["default"] = serde_json::from_str(text).unwrap_or_default(),
        Set::Words(words) => at["enum"] = json!(words),
        Set::Numbers(numbers) => at["enum"] = json!(numbers),
        Set::Required(fields) => at["required"] = json!(fields),
        Set::MapKey(field) => {
            at["x-kubernetes-list-type"] = json!("map");
            at["x-kubernetes-list-map-keys"] = json!([field]);
        }
        Set::Rule(rule, message) => {
            let entry = json!({ "rule": rule, "message": message });
            match at.get_mut("x-kubernetes-validations").and_then(Value::as_array_mut) {
                Some(rules) => rules.push(entry),
                None => at["x-kubernetes-validations"] = json!([entry]),
            }
        }
    }
}
