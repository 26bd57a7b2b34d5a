//! The tree of a selector: printing, matching, and what it demands of single labels.
//!
//! [`Node::restrictions`] is for indexes: it says which labels a match must have, and with which values, so that an
//! engine with many selectors and endpoints looks only at pairs that can match.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::labels::Labels;

/// A selector's tree. Values of sets are sorted and distinct (use [`Node::in_set`] and [`Node::not_in_set`]);
/// `And` and `Or` have two operands or more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// `all()`
    All,
    /// `global()`: matches everything; in a namespaceSelector it stands for what has no namespace.
    Global,
    /// `has(label)`
    Has(Box<str>),
    /// `label == "value"`
    Eq(Box<str>, Box<str>),
    /// `label != "value"`: true where the label is absent.
    Ne(Box<str>, Box<str>),
    /// `label in {"a", "b"}`
    In(Box<str>, Box<[Box<str>]>),
    /// `label not in {"a", "b"}`: true where the label is absent.
    NotIn(Box<str>, Box<[Box<str>]>),
    /// `label contains "part"`
    Contains(Box<str>, Box<str>),
    /// `label starts with "beginning"`
    StartsWith(Box<str>, Box<str>),
    /// `label ends with "end"`
    EndsWith(Box<str>, Box<str>),
    /// `!operand`
    Not(Box<Node>),
    /// `(a && b)`
    And(Vec<Node>),
    /// `(a || b)`
    Or(Vec<Node>),
}

/// What a selector demands of one label. Weaker than the selector, never stronger: labels that fail a restriction
/// cannot match, labels that pass may still not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restriction<'a> {
    /// The label must be present.
    pub must_be_present: bool,
    /// The label must be absent.
    pub must_be_absent: bool,
    /// The label's value must be one of these (sorted). Empty: nothing can match.
    pub one_of: Option<Vec<&'a str>>,
}

impl Restriction<'_> {
    /// True where a label of this value (or its absence) passes.
    #[must_use]
    pub fn allows(&self, value: Option<&str>) -> bool {
        match value {
            None => !self.must_be_present,
            Some(v) => {
                !self.must_be_absent && self.one_of.as_ref().is_none_or(|set| set.binary_search(&v).is_ok())
            }
        }
    }
}

fn sorted<I, V>(values: I) -> Box<[Box<str>]>
where
    I: IntoIterator<Item = V>,
    V: Into<Box<str>>,
{
    let mut values: Vec<Box<str>> = values.into_iter().map(Into::into).collect();
    values.sort_unstable();
    values.dedup();
    values.into_boxed_slice()
}

fn in_sorted(set: &[Box<str>], value: &str) -> bool {
    set.binary_search_by(|v| (**v).cmp(value)).is_ok()
}

impl Node {
    /// `label in {…}`, its values brought into order.
    pub fn in_set<I, V>(label: &str, values: I) -> Self
    where
        I: IntoIterator<Item = V>,
        V: Into<Box<str>>,
    {
        Self::In(label.into(), sorted(values))
    }

    /// `label not in {…}`, its values brought into order.
    pub fn not_in_set<I, V>(label: &str, values: I) -> Self
    where
        I: IntoIterator<Item = V>,
        V: Into<Box<str>>,
    {
        Self::NotIn(label.into(), sorted(values))
    }

    /// True where the labels satisfy the tree.
    #[must_use]
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        match self {
            Self::All | Self::Global => true,
            Self::Has(k) => labels.get(k).is_some(),
            Self::Eq(k, v) => labels.get(k) == Some(v),
            Self::Ne(k, v) => labels.get(k) != Some(v),
            Self::In(k, set) => labels.get(k).is_some_and(|v| in_sorted(set, v)),
            Self::NotIn(k, set) => labels.get(k).is_none_or(|v| !in_sorted(set, v)),
            Self::Contains(k, part) => labels.get(k).is_some_and(|v| v.contains(&**part)),
            Self::StartsWith(k, part) => labels.get(k).is_some_and(|v| v.starts_with(&**part)),
            Self::EndsWith(k, part) => labels.get(k).is_some_and(|v| v.ends_with(&**part)),
            Self::Not(n) => !n.matches(labels),
            Self::And(nodes) => nodes.iter().all(|n| n.matches(labels)),
            Self::Or(nodes) => nodes.iter().any(|n| n.matches(labels)),
        }
    }

    /// Calls `f` with every node of the tree, parents first.
    pub fn walk<'a>(&'a self, f: &mut impl FnMut(&'a Node)) {
        f(self);
        match self {
            Self::Not(n) => n.walk(f),
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().for_each(|n| n.walk(f)),
            _ => {}
        }
    }

    /// What a match demands of single labels, by label name. See [`Restriction`].
    #[must_use]
    pub fn restrictions(&self) -> BTreeMap<&str, Restriction<'_>> {
        match self {
            Self::Eq(k, v) => single(k, present(Some(vec![v]))),
            Self::In(k, set) => single(k, present(Some(set.iter().map(|v| &**v).collect()))),
            Self::Has(k) | Self::Contains(k, _) | Self::StartsWith(k, _) | Self::EndsWith(k, _) => {
                single(k, present(None))
            }
            Self::And(nodes) => {
                let mut all = BTreeMap::new();
                for (k, r) in nodes.iter().flat_map(Self::restrictions) {
                    let merged: &mut Restriction<'_> = all.entry(k).or_default();
                    merged.must_be_present |= r.must_be_present;
                    merged.must_be_absent |= r.must_be_absent;
                    merged.one_of = intersect(merged.one_of.take(), r.one_of);
                }
                all
            }
            Self::Or(nodes) => nodes.iter().map(Self::restrictions).reduce(either).unwrap_or_default(),
            Self::Not(inner) => match &**inner {
                Self::Has(k) => single(k, Restriction { must_be_absent: true, ..Restriction::default() }),
                Self::Ne(k, v) => single(k, present(Some(vec![v]))),
                Self::NotIn(k, set) => single(k, present(Some(set.iter().map(|v| &**v).collect()))),
                Self::Not(n) => n.restrictions(),
                _ => BTreeMap::new(),
            },
            Self::All | Self::Global | Self::Ne(..) | Self::NotIn(..) => BTreeMap::new(),
        }
    }
}

fn single<'a>(k: &'a str, r: Restriction<'a>) -> BTreeMap<&'a str, Restriction<'a>> {
    BTreeMap::from([(k, r)])
}

fn present(one_of: Option<Vec<&str>>) -> Restriction<'_> {
    Restriction { must_be_present: true, must_be_absent: false, one_of }
}

fn intersect<'a>(a: Option<Vec<&'a str>>, b: Option<Vec<&'a str>>) -> Option<Vec<&'a str>> {
    match (a, b) {
        (Some(mut a), Some(b)) => {
            a.retain(|v| b.binary_search(v).is_ok());
            Some(a)
        }
        (a, b) => a.or(b),
    }
}

/// What holds whichever of the two restrictions holds.
fn either<'a>(
    a: BTreeMap<&'a str, Restriction<'a>>,
    mut b: BTreeMap<&'a str, Restriction<'a>>,
) -> BTreeMap<&'a str, Restriction<'a>> {
    let mut out = BTreeMap::new();
    for (k, ra) in a {
        let Some(rb) = b.remove(k) else { continue };
        let one_of = match (ra.one_of, rb.one_of) {
            (Some(mut x), Some(y)) => {
                x.extend(y);
                x.sort_unstable();
                x.dedup();
                Some(x)
            }
            _ => None,
        };
        let merged = Restriction {
            must_be_present: ra.must_be_present && rb.must_be_present,
            must_be_absent: ra.must_be_absent && rb.must_be_absent,
            one_of,
        };
        if merged != Restriction::default() {
            out.insert(k, merged);
        }
    }
    out
}

/// Canonical text.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Has(k) => write!(f, "has({k})"),
            Self::Eq(k, v) => binary(f, k, "==", v),
            Self::Ne(k, v) => binary(f, k, "!=", v),
            Self::In(k, set) => set_of(f, k, "in", set),
            Self::NotIn(k, set) => set_of(f, k, "not in", set),
            Self::Contains(k, v) => binary(f, k, "contains", v),
            Self::StartsWith(k, v) => binary(f, k, "starts with", v),
            Self::EndsWith(k, v) => binary(f, k, "ends with", v),
            Self::Not(n) => write!(f, "!{n}"),
            Self::And(nodes) => group(f, nodes, " && "),
            Self::Or(nodes) => group(f, nodes, " || "),
        }
    }
}

/// A literal has no escapes, so one that holds a double quote is written between single ones.
fn quoted(f: &mut fmt::Formatter<'_>, v: &str) -> fmt::Result {
    let quote = if v.contains('"') { '\'' } else { '"' };
    f.write_char(quote)?;
    f.write_str(v)?;
    f.write_char(quote)
}

fn binary(f: &mut fmt::Formatter<'_>, k: &str, op: &str, v: &str) -> fmt::Result {
    write!(f, "{k} {op} ")?;
    quoted(f, v)
}

fn set_of(f: &mut fmt::Formatter<'_>, k: &str, op: &str, set: &[Box<str>]) -> fmt::Result {
    write!(f, "{k} {op} {{")?;
    for (i, v) in set.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        quoted(f, v)?;
    }
    f.write_char('}')
}

fn group(f: &mut fmt::Formatter<'_>, nodes: &[Node], op: &str) -> fmt::Result {
    f.write_char('(')?;
    for (i, n) in nodes.iter().enumerate() {
        if i > 0 {
            f.write_str(op)?;
        }
        write!(f, "{n}")?;
    }
    f.write_char(')')
}
