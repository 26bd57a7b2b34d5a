//! Selectors as a tree of our own: written as text for the objects, evaluated naively here.

use std::collections::BTreeMap;
use std::fmt;

/// Labels of an endpoint, a set, a namespace or a service account.
pub type Labels = BTreeMap<String, String>;

/// A selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    All,
    Is(String, String),
    IsNot(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
    StartsWith(String, String),
    EndsWith(String, String),
    Contains(String, String),
    And(Box<Selector>, Box<Selector>),
    Or(Box<Selector>, Box<Selector>),
    Not(Box<Selector>),
}

impl Selector {
    /// A label that is missing differs from every value and is in no list.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_member(labels, true)
    }

    /// What a selector of namespaces or accounts says about something that may be in none. It is evaluated on the labels
    /// that members inherit, so what is in none has no label: `a != 'x'` holds for it. `all()` means every member.
    #[must_use]
    pub fn matches_member(&self, labels: &Labels, member: bool) -> bool {
        let value = |key: &String| labels.get(key);
        match self {
            Self::All => member,
            Self::Is(k, v) => value(k) == Some(v),
            Self::IsNot(k, v) => value(k) != Some(v),
            Self::In(k, list) => value(k).is_some_and(|v| list.contains(v)),
            Self::NotIn(k, list) => !value(k).is_some_and(|v| list.contains(v)),
            Self::Has(k) => value(k).is_some(),
            Self::HasNot(k) => value(k).is_none(),
            Self::StartsWith(k, part) => value(k).is_some_and(|v| v.starts_with(part)),
            Self::EndsWith(k, part) => value(k).is_some_and(|v| v.ends_with(part)),
            Self::Contains(k, part) => value(k).is_some_and(|v| v.contains(part)),
            Self::And(a, b) => a.matches_member(labels, member) && b.matches_member(labels, member),
            Self::Or(a, b) => a.matches_member(labels, member) || b.matches_member(labels, member),
            Self::Not(a) => !a.matches_member(labels, member),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &[String]| values.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", ");
        match self {
            Self::All => f.write_str("all()"),
            Self::Is(k, v) => write!(f, "{k} == '{v}'"),
            Self::IsNot(k, v) => write!(f, "{k} != '{v}'"),
            Self::In(k, values) => write!(f, "{k} in {{{}}}", list(values)),
            Self::NotIn(k, values) => write!(f, "{k} not in {{{}}}", list(values)),
            Self::Has(k) => write!(f, "has({k})"),
            Self::HasNot(k) => write!(f, "!has({k})"),
            Self::StartsWith(k, v) => write!(f, "{k} starts with '{v}'"),
            Self::EndsWith(k, v) => write!(f, "{k} ends with '{v}'"),
            Self::Contains(k, v) => write!(f, "{k} contains '{v}'"),
            Self::And(a, b) => write!(f, "({a}) && ({b})"),
            Self::Or(a, b) => write!(f, "({a}) || ({b})"),
            Self::Not(a) => write!(f, "!({a})"),
        }
    }
}
