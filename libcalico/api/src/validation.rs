//! What a wrong object is told: a list of fields, each with its value and the reason.
//!
//! Every kind has its own `check` in its own file; here stand the collector of findings and the checks that
//! several kinds share. Paths are built only when something is wrong, so that checking a quarter of a million good
//! endpoints costs next to nothing. What is left out: rules between objects (overlapping pools), which need the
//! datastore and live with the writer.

use std::fmt;
use std::net::IpAddr;

use libcalico_net::IpNet;
use libcalico_net::cidr::{AddressInNetwork, Family, parse_address, parse_network, parse_network_or_address};
use libcalico_selector::Selector;
use libcalico_selector::ast::Node as SelectorNode;

use crate::duration::GoDuration;
use crate::meta::ObjectMeta;
use crate::names;

/// Longest selector, in characters.
pub const MAX_SELECTOR_LEN: usize = 1024;
/// Most findings that are listed for one object.
const MAX_FINDINGS: usize = 100;

/// One field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// `spec.ingress[2].source.nets[0]`
    pub path: String,
    /// The value as written, cut to a readable length.
    pub value: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            write!(f, "{}: {}", self.path, self.reason)
        } else {
            write!(f, "{}: {:?}: {}", self.path, self.value, self.reason)
        }
    }
}

/// A kind's own rules and defaults.
pub trait Checked {
    /// Lists what is wrong.
    fn check(&self, e: &mut Findings);

    /// Fills in what upstream's clients fill in on write, and brings values into the spelling that is stored.
    fn set_defaults(&mut self) {}
}

/// Where in an object a check is. Cheap to make: the text is put together only for a finding.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The first step: `spec`, `metadata`.
    #[must_use]
    pub fn root(field: &'a str) -> Self {
        Self { parent: None, step: Step::Field(field) }
    }

    /// A field below this one.
    #[must_use]
    pub fn field(&'a self, name: &'a str) -> Self {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// An element of this list.
    #[must_use]
    pub fn index(&'a self, i: usize) -> Self {
        Path { parent: Some(self), step: Step::Index(i) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(p) = self.parent {
            p.fmt(f)?;
        }
        match self.step {
            Step::Field(name) if self.parent.is_some() => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Index(i) => write!(f, "[{i}]"),
        }
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub struct Findings(Vec<Invalid>);

impl Findings {
    /// Everything found, in the order of the checks.
    #[must_use]
    pub fn into_vec(self) -> Vec<Invalid> {
        self.0
    }

    /// Notes that a field is wrong.
    pub fn add(&mut self, path: &Path<'_>, value: impl fmt::Display, reason: impl Into<String>) {
        if self.0.len() < MAX_FINDINGS {
            let value = value.to_string().chars().take(100).collect();
            self.0.push(Invalid { path: path.to_string(), value, reason: reason.into() });
        }
    }

    /// Notes that a field breaks a rule unless `ok`.
    pub fn require(&mut self, ok: bool, path: &Path<'_>, value: impl fmt::Display, reason: &str) {
        if !ok {
            self.add(path, value, reason);
        }
    }

    /// A list may not be longer than `max`.
    pub fn max_items<T>(&mut self, path: &Path<'_>, items: &[T], max: usize) {
        if items.len() > max {
            self.add(path, items.len(), format!("at most {max} entries are allowed"));
        }
    }

    /// A number must lie within bounds.
    pub fn range(&mut self, path: &Path<'_>, n: impl Into<i64>, min: i64, max: i64) {
        let n = n.into();
        if !(min..=max).contains(&n) {
            self.add(path, n, format!("must be between {min} and {max}"));
        }
    }

    /// The same for a field that may be absent.
    pub fn range_opt(&mut self, path: &Path<'_>, n: Option<impl Into<i64>>, min: i64, max: i64) {
        if let Some(n) = n {
            self.range(path, n, min, max);
        }
    }

    /// A selector: its length, its grammar, and `global()` nowhere.
    pub fn selector(&mut self, path: &Path<'_>, text: &str) {
        if let Some(s) = self.parsed_selector(path, text) {
            let mut global = false;
            s.node().walk(&mut |n| global |= matches!(n, SelectorNode::Global));
            self.require(!global, path, text, "global() is allowed in the namespaceSelector of a rule only");
        }
    }

    /// The same for a field that may be absent.
    pub fn selector_opt(&mut self, path: &Path<'_>, text: Option<&str>) {
        if let Some(text) = text {
            self.selector(path, text);
        }
    }

    /// A rule's namespaceSelector: `global()` is allowed there, alone.
    pub fn namespace_selector(&mut self, path: &Path<'_>, text: &str) {
        if let Some(s) = self.parsed_selector(path, text) {
            let mut global = false;
            s.node().walk(&mut |n| global |= matches!(n, SelectorNode::Global));
            let alone = matches!(s.node(), SelectorNode::Global);
            self.require(!global || alone, path, text, "global() cannot be combined with other expressions");
        }
    }

    fn parsed_selector(&mut self, path: &Path<'_>, text: &str) -> Option<Selector> {
        if text.is_empty() {
            return None;
        }
        if text.chars().count() > MAX_SELECTOR_LEN {
            self.add(path, text, format!("a selector has at most {MAX_SELECTOR_LEN} characters"));
            return None;
        }
        Selector::parse(text).map_err(|err| self.add(path, text, err.to_string())).ok()
    }

    /// A network; host bits may be set and do not count.
    pub fn network(&mut self, path: &Path<'_>, text: &str) -> Option<IpNet> {
        parse_network(text).map_err(|err| self.add(path, text, err.to_string())).ok()
    }

    /// A network or an address.
    pub fn network_or_address(&mut self, path: &Path<'_>, text: &str) -> Option<IpNet> {
        parse_network_or_address(text).map_err(|err| self.add(path, text, err.to_string())).ok()
    }

    /// Networks or addresses of either family.
    pub fn nets(&mut self, path: &Path<'_>, nets: &[String]) {
        for (i, n) in nets.iter().enumerate() {
            self.network_or_address(&path.index(i), n);
        }
    }

    /// An address, of one family where that is asked for.
    pub fn address(&mut self, path: &Path<'_>, text: &str, family: Option<Family>) -> Option<IpAddr> {
        let addr = parse_address(text).map_err(|err| self.add(path, text, err.to_string())).ok()?;
        self.family(path, text, addr, family);
        Some(addr)
    }

    /// An address with or without the length of its network, of one family.
    pub fn address_in_network(&mut self, path: &Path<'_>, text: &str, family: Family) {
        match text.parse::<AddressInNetwork>() {
            Ok(a) => self.family(path, text, a.addr(), Some(family)),
            Err(err) => self.add(path, text, err.to_string()),
        }
    }

    fn family(&mut self, path: &Path<'_>, text: &str, addr: IpAddr, family: Option<Family>) {
        if let Some(want) = family
            && Family::of(addr) != want
        {
            self.add(path, text, format!("must be an {want} address"));
        }
    }

    /// A duration of Go's syntax, not negative.
    pub fn duration_opt(&mut self, path: &Path<'_>, text: Option<&str>) {
        let Some(text) = text else { return };
        match text.parse::<GoDuration>() {
            Ok(d) => self.require(d.as_nanos() >= 0, path, text, "must not be negative"),
            Err(err) => self.add(path, text, err.to_string()),
        }
    }

    /// One of a few words, whatever their case; empty counts as absent.
    pub fn word_opt(&mut self, path: &Path<'_>, text: Option<&str>, words: &[&str]) {
        let Some(text) = text.filter(|t| !t.is_empty()) else { return };
        if !words.iter().any(|w| w.eq_ignore_ascii_case(text)) {
            self.add(path, text, format!("must be one of {}", words.join(", ")));
        }
    }

    /// The name of another object.
    pub fn object_name(&mut self, path: &Path<'_>, name: &str) {
        self.require(names::is_object_name(name), path, name, NAME_RULE);
    }
}

const NAME_RULE: &str = "must be lower-case letters, digits, '-' and '.', begin and end with a letter or digit, and have at most 253 characters";

/// What every object's metadata must satisfy.
pub(crate) fn check_metadata(meta: &ObjectMeta, namespaced: bool, e: &mut Findings) {
    let root = Path::root("metadata");
    e.require(names::is_object_name(&meta.name), &root.field("name"), &meta.name, NAME_RULE);
    let namespace = root.field("namespace");
    if namespaced {
        e.require(
            names::is_dns_label(&meta.namespace),
            &namespace,
            &meta.namespace,
            "must be the name of a namespace: lower-case letters, digits and '-', at most 63",
        );
    } else {
        e.require(meta.namespace.is_empty(), &namespace, &meta.namespace, "this kind has no namespace");
    }
    let labels = root.field("labels");
    for (k, v) in &meta.labels {
        let path = labels.field(k);
        e.require(
            names::is_label_key(k),
            &path,
            k,
            "a label's name is [PREFIX/]NAME of letters, digits, '-', '_' and '.', the name at most 63",
        );
        e.require(names::is_label_value(v), &path, v, "a label's value has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit");
    }
    let annotations = root.field("annotations");
    for k in meta.annotations.keys() {
        e.require(
            names::is_label_key(&k.to_ascii_lowercase()),
            &annotations.field(k),
            k,
            "an annotation's name is [PREFIX/]NAME",
        );
    }
}
