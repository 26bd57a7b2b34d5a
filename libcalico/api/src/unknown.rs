//! Fields of an object that a newer version wrote and this one does not know: kept when the object is read, changed
//! and written again.
//!
//! In comes an object's JSON, out goes the typed object with a note of what is in the JSON beside it; on writing, the
//! note is put back. Always holds: a field that this version knows is what the typed object says; an unknown field
//! comes back where its surroundings are still there. An entry of a list is found again by what is known of it, else
//! by its place in a list that kept its length; the unknown fields of an entry that is gone go with it, and are told
//! of. An object without unknown fields costs nothing. Left out: strict reading, which refuses unknown fields
//! ([`crate::strict`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_ignored::Path;
use serde_json::Value;

use crate::objects::ObjectsOnly;

/// An object's JSON, and where in it are fields that its type does not have.
#[derive(Clone, Debug)]
pub struct Unknown {
    raw: Value,
    at: Tree,
}

/// What an object carries along of it. Two objects that differ in this alone are equal: this version cannot tell them
/// apart, and would write one over the other for ever if it could.
#[derive(Clone, Debug, Default)]
pub struct Kept(pub Option<Arc<Unknown>>);

impl PartialEq for Kept {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Places of unknown fields.
#[derive(Clone, Debug, Default)]
struct Tree {
    /// This very field is unknown.
    unknown: bool,
    fields: BTreeMap<String, Tree>,
    items: BTreeMap<usize, Tree>,
}

impl Tree {
    /// The place at a path.
    fn at(&mut self, path: &Path<'_>) -> &mut Self {
        match path {
            Path::Root => self,
            Path::Map { parent, key } => self.at(parent).fields.entry(key.clone()).or_default(),
            Path::Seq { parent, index } => self.at(parent).items.entry(*index).or_default(),
            Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
                self.at(parent)
            }
        }
    }
}

/// Why JSON cannot be read: the place, and the reason.
#[derive(Debug)]
pub struct Unreadable {
    pub path: String,
    pub reason: String,
}

/// Reads an object, and notes the fields that its type does not have.
pub fn decode<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<(T, Kept), Unreadable> {
    let mut at = Tree::default();
    let mut track = serde_path_to_error::Track::new();
    let mut json_reader = serde_json::Deserializer::from_slice(json);
    let reader = serde_path_to_error::Deserializer::new(ObjectsOnly(&mut json_reader), &mut track);
    let read = serde_ignored::deserialize(reader, |path| at.at(&path).unknown = true);
    let object = read.map_err(|e: serde_json::Error| Unreadable {
        path: track.path().to_string(),
        reason: e.to_string(),
    })?;
    json_reader.end().map_err(|e| Unreadable { path: String::new(), reason: e.to_string() })?;
    if at.fields.is_empty() && at.items.is_empty() {
        return Ok((object, Kept::default()));
    }
    // It was read before.
    let raw = serde_json::from_slice(json).unwrap_or_default();
    Ok((object, Kept(Some(Arc::new(Unknown { raw, at })))))
}

impl Unknown {
    /// The object as it was read.
    pub(crate) fn raw(&self) -> &Value {
        &self.raw
    }

    /// Puts the unknown fields back into an object that is to be written. `known` is what the type made of the object
    /// as it was read. Gives the places of fields that have no place any more.
    pub(crate) fn put_back(&self, known: &Value, new: &mut Value) -> Vec<String> {
        let mut lost = Vec::new();
        carry(new, Some(known), &self.raw, &self.at, "", &mut lost);
        lost
    }
}

fn carry(new: &mut Value, known: Option<&Value>, raw: &Value, at: &Tree, path: &str, lost: &mut Vec<String>) {
    match (new, raw) {
        (Value::Object(new), Value::Object(raw)) => {
            for (name, below) in &at.fields {
                let Some(was) = raw.get(name) else { continue };
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let knew = known.and_then(|k| k.get(name));
                if below.unknown {
                    new.entry(name).or_insert_with(|| was.clone());
                } else if new.contains_key(name) || knew.is_none() {
                    // What is known of it may be nothing, so that it is not written: before as now.
                    let empty = || {
                        if was.is_array() {
                            Value::Array(Vec::new())
                        } else {
                            Value::Object(serde_json::Map::new())
                        }
                    };
                    carry(new.entry(name).or_insert_with(empty), knew, was, below, &path, lost);
                } else {
                    lost.push(path);
                }
            }
        }
        (Value::Array(new), Value::Array(raw)) => {
            let known = known.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let mut taken = vec![false; new.len()];
            for (i, below) in &at.items {
                let path = format!("{path}[{i}]");
                let place = known.get(*i).and_then(|knew| place(new, &taken, *i, knew, known));
                match (place, raw.get(*i)) {
                    (Some(place), Some(was)) => {
                        if let (Some(taken), Some(item)) = (taken.get_mut(place), new.get_mut(place)) {
                            *taken = true;
                            carry(item, known.get(*i), was, below, &path, lost);
                        }
                    }
                    _ => lost.push(path),
                }
            }
        }
        _ => lost.push(path.to_owned()),
    }
}

/// Where an entry of a list is now.
fn place(new: &[Value], taken: &[bool], index: usize, knew: &Value, known: &[Value]) -> Option<usize> {
    let free = |i: &usize| taken.get(*i) == Some(&false);
    let same = |i: &usize| new.get(*i) == Some(knew);
    if free(&index) && same(&index) {
        return Some(index);
    }
    let moved = (0..new.len()).filter(free).find(same);
    // One that was changed stays where it was, unless another entry came into its place.
    moved.or_else(|| {
        let changed = new.get(index).is_some_and(|n| !known.contains(n));
        (new.len() == known.len() && free(&index) && changed).then_some(index)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Value;
    use crate::{Kind, Resource};

    fn read(spec: &Value) -> Resource {
        let json = json!({ "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
            "metadata": { "name": "p", "namespace": "n" }, "spec": spec });
        Resource::from_json(Kind::NetworkPolicy, json.to_string().as_bytes()).unwrap()
    }

    fn change(mut r: Resource, change: impl FnOnce(&mut crate::network_policy::NetworkPolicy)) -> Value {
        let Resource::NetworkPolicy(p) = &mut r else { panic!() };
        change(p);
        let stored: Value = serde_json::from_slice(&r.to_stored_json()).unwrap();
        stored["spec"].clone()
    }

    fn newer() -> Value {
        json!({ "order": 1, "selector": "a == 'b'", "weight": { "x": [1] },
            "ingress": [
                { "action": "Allow", "protocol": "TCP", "shape": 1, "source": { "mood": "good" } },
                { "action": "Deny", "source": { "selector": "all()", "depth": 2 } },
            ], "types": ["Ingress"] })
    }

    #[test]
    fn what_is_not_known_comes_back_when_nothing_changed() {
        assert_eq!(change(read(&newer()), |_| ()), newer());
        assert!(read(&json!({ "order": 1 })).unknown().is_none());
    }

    #[test]
    fn what_is_not_known_stays_beside_what_was_changed() {
        let now = change(read(&newer()), |p| {
            p.spec.order = Some(2.0);
            p.spec.selector = None;
            p.spec.ingress[1].source.selector = "x == 'y'".to_owned();
        });
        let mut expected = newer();
        expected["order"] = json!(2);
        expected.as_object_mut().unwrap().remove("selector");
        expected["ingress"][1]["source"]["selector"] = json!("x == 'y'");
        assert_eq!(now, expected);
    }

    #[test]
    fn an_entry_of_a_list_keeps_its_own_wherever_it_goes_and_takes_it_along_when_it_goes() {
        let now = change(read(&newer()), |p| p.spec.ingress.reverse());
        assert_eq!(
            (&now["ingress"][0], &now["ingress"][1]),
            (&newer()["ingress"][1], &newer()["ingress"][0])
        );
        let now = change(read(&newer()), |p| drop(p.spec.ingress.remove(0)));
        assert_eq!(now["ingress"], json!([newer()["ingress"][1]]));
        let log = crate::rule::Rule { action: crate::rule::Action::Log, ..crate::rule::Rule::default() };
        let now = change(read(&newer()), |p| p.spec.ingress.insert(0, log));
        assert_eq!(now["ingress"][0], json!({ "action": "Log" }));
        assert_eq!(
            (&now["ingress"][1], &now["ingress"][2]),
            (&newer()["ingress"][0], &newer()["ingress"][1])
        );
    }

    #[test]
    fn what_is_taken_away_is_taken_with_all_of_it() {
        let now = change(read(&newer()), |p| p.spec.ingress.clear());
        assert_eq!(now.get("ingress"), None);
        assert_eq!(now["weight"], json!({ "x": [1] }));
    }

    #[test]
    fn what_was_read_from_a_file_takes_over_what_stands_in_the_store() {
        let mut file = read(&json!({ "order": 7, "types": ["Ingress"] }));
        file.keep_unknown(&read(&newer()));
        let stored: Value = serde_json::from_slice(&file.to_stored_json()).unwrap();
        assert_eq!(stored["spec"], json!({ "order": 7, "types": ["Ingress"], "weight": { "x": [1] } }));
    }

    #[test]
    fn unknown_fields_are_not_shown_and_strict_reading_refuses_them() {
        let shown = serde_json::to_value(read(&newer())).unwrap();
        assert_eq!(shown["spec"].get("weight"), None);
        let strict = json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": newer() });
        let refused = Resource::from_value_strict(Kind::NetworkPolicy, &strict).unwrap_err();
        let paths: Vec<&str> = refused.iter().map(|f| f.path.as_str()).collect();
        assert!(
            paths.contains(&"spec.weight") && paths.contains(&"spec.ingress[0].source.mood"),
            "{paths:?}"
        );
    }
}
