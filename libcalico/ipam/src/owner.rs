//! Who a block belongs to.

use libcalico_model::Key;
use libcalico_net::cidr::IpNet;

/// A host, or a virtual owner such as the load balancers' `virtual:load-balancer`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// `host` or `virtual`: the first word of the affinity and of its key.
    kind: &'static str,
    name: String,
}

impl Owner {
    /// A machine, by the name of its Node.
    pub fn host(name: impl Into<String>) -> Self {
        Self { kind: "host", name: name.into() }
    }

    /// A named owner that is no machine.
    pub fn virtual_owner(name: impl Into<String>) -> Self {
        Self { kind: "virtual", name: name.into() }
    }

    /// Owner of the blocks from which Services of type LoadBalancer get their addresses.
    #[must_use]
    pub fn load_balancer() -> Self {
        Self::virtual_owner("load-balancer")
    }

    /// The owner's name: of a host, its Node's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True for a machine.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.kind == "host"
    }

    /// `host:NODE`, as blocks have it.
    #[must_use]
    pub fn affinity(&self) -> String {
        format!("{}:{}", self.kind, self.name)
    }

    /// Key of the owner's claim on a block.
    #[must_use]
    pub fn affinity_key(&self, block: IpNet) -> Key {
        Key::BlockAffinity { affinity_type: self.kind.to_owned(), host: self.name.clone(), cidr: block }
    }

    /// True where the key is a claim of this owner.
    #[must_use]
    pub fn owns_key(&self, affinity_type: &str, host: &str) -> bool {
        affinity_type == self.kind && host == self.name
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}
