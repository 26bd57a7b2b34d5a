//! Reading an object without forgiving: every unknown field is named with what is allowed in its place.
//!
//! In comes a JSON value, out goes a typed object or the list of all unknown fields and the first value of a wrong
//! type, each with its path (`spec.ingress[0].sauce`). It works for any serde type: the fields of a struct are known
//! at the moment serde asks for it. What is left out: whether values make sense (`validation`).

use std::cell::RefCell;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::Value;

/// A field that does not belong there, or whose value has the wrong type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownOrBadField {
    /// `spec.ingress[0].sauce`
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// Field names that are allowed in the place of an unknown one; empty for a bad value.
    pub allowed: Vec<String>,
}

impl fmt::Display for UnknownOrBadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed.join(", "))?;
        }
        Ok(())
    }
}

/// Fields of Kubernetes' ObjectMeta. The type keeps those it does not use in a map, so serde cannot tell.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Reads a value strictly.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, Vec<UnknownOrBadField>> {
    let unknown = RefCell::new(Vec::new());
    note_unknown(value.get("metadata"), "metadata", &METADATA, &unknown);
    let result = T::deserialize(At { value, path: String::new(), unknown: &unknown });
    let mut found = unknown.into_inner();
    match result {
        Ok(object) if found.is_empty() => Ok(object),
        Ok(_) => Err(found),
        Err(BadValue { path, reason }) => {
            let path = path.unwrap_or_default();
            found.push(UnknownOrBadField { path, reason, allowed: Vec::new() });
            Err(found)
        }
    }
}

fn note_unknown(
    value: Option<&Value>,
    path: &str,
    fields: &[&str],
    unknown: &RefCell<Vec<UnknownOrBadField>>,
) {
    let Some(Value::Object(map)) = value else { return };
    let allowed = || {
        let mut names: Vec<String> = fields.iter().map(|f| (*f).to_owned()).collect();
        names.sort_unstable();
        names
    };
    for key in map.keys().filter(|k| !fields.contains(&k.as_str())) {
        unknown.borrow_mut().push(UnknownOrBadField {
            path: join(path, key),
            reason: "unknown field".to_owned(),
            allowed: allowed(),
        });
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A value of the wrong type. The place is filled in by the innermost value that fails.
#[derive(Debug)]
struct BadValue {
    path: Option<String>,
    reason: String,
}

impl BadValue {
    fn at(mut self, path: &str) -> Self {
        self.path.get_or_insert_with(|| path.to_owned());
        self
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for BadValue {}

impl serde::de::Error for BadValue {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self { path: None, reason: message.to_string() }
    }
}

/// A value and where it stands.
#[derive(Clone)]
struct At<'a> {
    value: &'a Value,
    path: String,
    unknown: &'a RefCell<Vec<UnknownOrBadField>>,
}

impl<'a> At<'a> {
    fn child(&self, value: &'a Value, path: String) -> Self {
        At { value, path, unknown: self.unknown }
    }

    /// The value as serde_json has it, with children that know their place.
    fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, BadValue> {
        let result = match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => visitor.visit_u64(n),
                (None, Some(n)) => visitor.visit_i64(n),
                (None, None) => visitor.visit_f64(n.as_f64().unwrap_or_default()),
            },
            Value::String(s) => visitor.visit_str(s),
            Value::Array(items) => visitor.visit_seq(Items { list: self, rest: items.iter().enumerate() }),
            Value::Object(map) => visitor.visit_map(Fields { of: self, rest: map.iter(), value: None }),
        };
        result.map_err(|e| e.at(&self.path))
    }
}

/// Elements of a list. An error without a place gets the element's.
struct Items<'l, 'a> {
    list: &'l At<'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = BadValue;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, BadValue> {
        let Some((i, value)) = self.rest.next() else { return Ok(None) };
        let path = format!("{}[{i}]", self.list.path);
        seed.deserialize(self.list.child(value, path.clone())).map(Some).map_err(|e| e.at(&path))
    }
}

/// Fields of an object. An error without a place gets the field's.
struct Fields<'l, 'a> {
    of: &'l At<'a>,
    rest: serde_json::map::Iter<'a>,
    value: Option<(&'a str, &'a Value)>,
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = BadValue;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, BadValue> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((key, value));
        seed.deserialize(IntoDeserializer::<BadValue>::into_deserializer(key.as_str())).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, BadValue> {
        let (key, value) = self.value.take().unwrap_or(("", &Value::Null));
        let path = join(&self.of.path, key);
        seed.deserialize(self.of.child(value, path.clone())).map_err(|e| e.at(&path))
    }
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = BadValue;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BadValue> {
        self.visit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BadValue> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, BadValue> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, BadValue> {
        if self.value.is_array() {
            // Serde's readers would take its items for the fields in their order.
            return Err(BadValue {
                path: Some(self.path),
                reason: "must be an object, not a list".to_owned(),
            });
        }
        note_unknown(Some(self.value), &self.path, fields, self.unknown);
        self.visit(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, BadValue> {
        let path = self.path.clone();
        let Value::String(name) = self.value else {
            let reason = format!("must be one of {}", variants.join(", "));
            return Err(BadValue { path: Some(path), reason });
        };
        if !variants.contains(&name.as_str()) {
            let reason = format!("{name:?} must be one of {}", variants.join(", "));
            return Err(BadValue { path: Some(path), reason });
        }
        visitor.visit_enum(Variant(name)).map_err(|e| e.at(&path))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The name of a variant without contents: the API has no others.
struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = BadValue;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), BadValue> {
        let name = IntoDeserializer::<BadValue>::into_deserializer(self.0);
        seed.deserialize(name).map(|v| (v, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = BadValue;

    fn unit_variant(self) -> Result<(), BadValue> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, BadValue> {
        Err(no_contents())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, BadValue> {
        Err(no_contents())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, BadValue> {
        Err(no_contents())
    }
}

fn no_contents() -> BadValue {
    serde::de::Error::custom("expected a word without contents")
}
