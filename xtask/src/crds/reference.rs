//! The definitions against the facts of upstream's: no field is missing, no type differs, no name and no column.

use std::collections::BTreeMap;

use serde_json::Value;

const FIELDS: &str = include_str!("../../../libcalico/api/tests/data/spec-fields.json");
const KINDS: &str = include_str!("../../../libcalico/api/tests/data/kinds.tsv");

fn manifests() -> BTreeMap<&'static str, Value> {
    // The operator's kinds are in a table of their own upstream.
    let all = libcalico_api::crd::all().unwrap().into_iter();
    all.filter(|c| c.group.ends_with("projectcalico.org") || c.group.ends_with("k8s.io"))
        .map(|c| (c.kind, c.manifest))
        .collect()
}

fn schema(manifest: &Value) -> &Value {
    &manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// Calls `visit` with every reference field's path, its text, and our schema at that path.
fn walk<'a>(path: &str, fields: &'a Value, ours: &'a Value, visit: &mut dyn FnMut(&str, &'a str, &'a Value)) {
    match fields {
        Value::Object(map) => {
            for (name, inner) in map {
                let at =
                    if name == "<key>" { &ours["additionalProperties"] } else { &ours["properties"][name] };
                walk(&format!("{path}.{name}"), inner, at, visit);
            }
        }
        Value::Array(items) => {
            assert!(ours.is_null() || ours["type"] == "array", "{path} is no list");
            items.iter().for_each(|inner| walk(&format!("{path}[]"), inner, &ours["items"], visit));
        }
        text => visit(path, text.as_str().unwrap(), ours),
    }
}

fn for_every_field(visit: &mut dyn FnMut(&str, &str, &Value)) {
    let reference: BTreeMap<String, Value> = serde_json::from_str(FIELDS).unwrap();
    let manifests = manifests();
    assert_eq!(reference.keys().collect::<Vec<_>>(), manifests.keys().collect::<Vec<_>>());
    for (kind, fields) in &reference {
        walk(kind, fields, schema(&manifests[kind.as_str()]), visit);
    }
}

/// `minimum=1 maximum=5` in a reference field's text.
fn told(text: &str, key: &str) -> Option<Value> {
    let (_, rest) = text.split_once(&format!(" {key}="))?;
    serde_json::Deserializer::from_str(rest).into_iter().next()?.ok()
}

#[test]
fn no_field_is_missing_and_no_type_differs() {
    let mut wrong = Vec::new();
    for_every_field(&mut |path, text, ours| {
        let kind = text.split(' ').next().unwrap();
        let found = match &ours["type"] {
            Value::String(t) => t.as_str(),
            _ if ours["x-kubernetes-int-or-string"] == true => "int-or-string",
            _ => "nothing",
        };
        // The reference is cut short where it says no more than "object".
        if found != kind && !(kind == "object" && found == "array") {
            wrong.push(format!("{path}: upstream {text}, ours {found}"));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn words_bounds_and_defaults_are_upstreams() {
    let mut wrong = Vec::new();
    for_every_field(&mut |path, text, ours| {
        for key in ["enum", "minimum", "maximum", "maxLength", "default"] {
            let (Some(theirs), found) = (told(text, key), ours.get(key)) else { continue };
            let same = match (key, &theirs, found) {
                ("enum", Value::Array(theirs), Some(Value::Array(ours))) => {
                    theirs.len() == ours.len() && theirs.iter().all(|w| ours.contains(w))
                }
                (_, theirs, found) => found == Some(theirs),
            };
            if !same {
                wrong.push(format!("{path}: upstream {key}={theirs}, ours {found:?}"));
            }
        }
        // A text that upstream takes from a list is taken from one here.
        if let Some(format) = told(text, "format")
            && text.starts_with("string")
            && ours.get("format") != Some(&format)
        {
            wrong.push(format!("{path}: upstream format={format}, ours {:?}", ours.get("format")));
        }
        if text.contains(" pattern=")
            && text.starts_with("string")
            && ours.get("pattern").or(ours.get("enum")).is_none()
        {
            wrong.push(format!("{path}: upstream has a pattern"));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_field_has_a_description() {
    fn check(path: &str, schema: &Value, wrong: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().is_none_or(str::is_empty) && name != "metadata" {
                wrong.push(path.clone());
            }
            check(&path, field, wrong);
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                check(path, &schema[inner], wrong);
            }
        }
    }
    let mut wrong = Vec::new();
    for (kind, manifest) in manifests() {
        check(kind, schema(&manifest), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_scope_columns_and_subresources_are_upstreams() {
    let manifests = manifests();
    let mut seen = 0;
    for line in KINDS.lines().skip(1) {
        let c: Vec<&str> = line.split('\t').collect();
        let [kind, group, version, scope, plural, short, _, subresource, columns] = c[..] else {
            panic!("{line}")
        };
        let spec = &manifests[kind]["spec"];
        let served = &spec["versions"][0];
        assert_eq!(manifests[kind]["metadata"]["name"], format!("{plural}.{group}"));
        assert_eq!([&spec["group"], &served["name"], &spec["scope"]], [group, version, scope], "{kind}");
        assert_eq!(spec["names"]["plural"], plural, "{kind}");
        let list = |v: &Value, field: Option<&str>| -> Vec<String> {
            let texts = v.as_array().into_iter().flatten();
            texts.map(|t| field.map_or(t, |f| &t[f]).as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(list(&spec["names"]["shortNames"], None).join(","), short, "{kind}");
        assert_eq!(served["subresources"]["status"].is_object(), !subresource.is_empty(), "{kind}");
        let printed: Vec<String> = list(&served["additionalPrinterColumns"], Some("name"))
            .iter()
            .zip(list(&served["additionalPrinterColumns"], Some("jsonPath")))
            .map(|(name, path)| format!("{name}:{path}"))
            .collect();
        assert_eq!(printed.join("; "), columns, "{kind}");
        seen += 1;
    }
    assert_eq!(seen, manifests.len());
}

#[test]
fn no_schema_has_what_the_api_server_refuses() {
    fn check(path: &str, v: &Value) {
        match v {
            Value::Object(map) => {
                for (key, inner) in map {
                    let bad = ["$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "additionalItems"];
                    assert!(!bad.contains(&key.as_str()), "{path}.{key}");
                    check(&format!("{path}.{key}"), inner);
                }
            }
            Value::Array(items) => items.iter().for_each(|i| check(path, i)),
            _ => {}
        }
    }
    for (kind, manifest) in manifests() {
        check(kind, schema(&manifest));
    }
}

#[test]
fn the_committed_files_are_fresh() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    assert_eq!(super::check(&root).unwrap(), Vec::<String>::new());
}
