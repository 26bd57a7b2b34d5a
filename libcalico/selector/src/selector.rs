//! A parsed selector with its canonical text and identifier, shared by reference count.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha224};

use crate::ast::Node;
use crate::labels::Labels;
use crate::parser::{ParseError, parse};

/// A selector. Cloning copies a pointer; equality, order and hash go by the canonical text.
#[derive(Clone)]
pub struct Selector(Arc<Inner>);

struct Inner {
    node: Node,
    canonical: Box<str>,
    unique_id: Box<str>,
}

impl Selector {
    /// Reads a selector. Empty text is `all()`.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse(text).map(Self::from_node)
    }

    /// `all()`: matches everything.
    #[must_use]
    pub fn all() -> Self {
        static ALL: LazyLock<Selector> = LazyLock::new(|| Selector::from_node(Node::All));
        ALL.clone()
    }

    /// A selector of a tree that code has built.
    #[must_use]
    pub fn from_node(node: Node) -> Self {
        let canonical = node.to_string();
        let mut hash = Sha224::new();
        hash.update(b"s:");
        hash.update(canonical.as_bytes());
        let unique_id = format!("s:{}", URL_SAFE_NO_PAD.encode(hash.finalize()));
        Self(Arc::new(Inner {
            node,
            canonical: canonical.into_boxed_str(),
            unique_id: unique_id.into_boxed_str(),
        }))
    }

    /// The one text that all selectors of the same tree share.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.0.canonical
    }

    /// `s:` and a hash of the canonical text (SHA-224, base64url): names address sets.
    #[must_use]
    pub fn unique_id(&self) -> &str {
        &self.0.unique_id
    }

    /// True where the labels satisfy the selector.
    #[must_use]
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        self.0.node.matches(labels)
    }

    /// The tree, for indexes.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.0.node
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self::all()
    }
}

impl FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.canonical())
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", self.canonical())
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.canonical() == other.canonical()
    }
}

impl Eq for Selector {}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Selector {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.canonical().cmp(other.canonical())
    }
}

impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}
