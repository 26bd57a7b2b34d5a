//! Names that iptables and IP sets take: shorter than nftables', and safe in `iptables-restore`'s input.
//!
//! In: names as [`crate::render::names`] makes them. Out: names of at most 28 (chains) or 31 (sets) bytes, upstream's
//! where upstream has the chain. Always holds: a name is a function of what it names; nothing that came from the
//! datastore can end a word or a line of the input.

use felix_message::IpSetId;

use crate::kernel::ipset;
use crate::render::names::limited;
use crate::rule::{Family, SetName};

/// Longest name of a chain (`XT_EXTENSION_MAXNAMELEN` without its closing zero).
pub const MAX_CHAIN: usize = 28;
/// Longest name of an interface.
const MAX_INTERFACE: usize = 15;
/// Ours are chains that begin so.
pub const CHAIN_PREFIX: &str = "cali-";

/// Kinds of chains that carry another object's name; a long one keeps this much.
const PREFIXES: [&str; 14] = [
    "cali-pri-",
    "cali-pro-",
    "cali-gi-",
    "cali-go-",
    "cali-pi-",
    "cali-po-",
    "cali-tw-",
    "cali-fw-",
    "cali-te-",
    "cali-fe-",
    "cali-thfw-",
    "cali-fhfw-",
    "cali-th-",
    "cali-fh-",
];

fn safe(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:@".contains(&b))
}

/// Like [`limited`], and hashed too where a character might mean something to `iptables-restore`.
fn word(prefix: &str, rest: &str, max: usize) -> String {
    if safe(rest) {
        return limited(prefix, rest, max);
    }
    // The shortest limit that does not fit: the hash of the rest.
    let hashed = limited("", &format!("{rest:\0>64}"), 43);
    limited(prefix, &hashed, max)
}

/// A chain's name.
#[must_use]
pub fn chain(name: &str) -> String {
    if name.len() <= MAX_CHAIN && safe(name) {
        return name.to_owned();
    }
    for prefix in PREFIXES {
        if let Some(rest) = name.strip_prefix(prefix) {
            return word(prefix, rest, MAX_CHAIN);
        }
    }
    word(CHAIN_PREFIX, name.strip_prefix(CHAIN_PREFIX).unwrap_or(name), MAX_CHAIN)
}

/// Name of a part of a dispatch chain: `cali-from-wl-dispatch-k`.
#[must_use]
pub fn dispatch_part(root: &str, key: &str) -> String {
    word(&format!("{root}-"), key, MAX_CHAIN)
}

/// Names of our sets of a family begin so.
#[must_use]
pub fn set_prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "cali40",
        Family::V6 => "cali60",
    }
}

/// Names of sets that are filled before they take another's place begin so.
#[must_use]
pub fn temporary_prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "cali4t",
        Family::V6 => "cali6t",
    }
}

/// A set that is filled before it takes the place of another.
#[must_use]
pub fn temporary_set(family: Family, number: usize) -> String {
    format!("{}{number}", temporary_prefix(family))
}

/// A set's name: `cali40s:…`.
#[must_use]
pub fn set(family: Family, name: &SetName) -> String {
    let text: &str = match name {
        SetName::Calculated(id) => {
            let id: &IpSetId = id;
            id
        }
        SetName::Own(n) => n,
    };
    word(set_prefix(family), text, ipset::MAX_NAME)
}

/// True for names that an interface can have and that say nothing else to `iptables`.
#[must_use]
pub fn is_interface(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_INTERFACE
        && !name.starts_with(['-', '!'])
        && name.bytes().all(|b| b.is_ascii_graphic() && !b"/\"'\\!+".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_names_are_upstreams() {
        assert_eq!(chain("cali-pi-gnp/security.deny-bad"), "cali-pi-_wz_PMs_QGVcZVYdaM5f");
        assert_eq!(chain("cali-pi-gnp/host-untracked"), "cali-pi-gnp/host-untracked");
        let id = SetName::Calculated("s:Djx4jfRE_TwnMVpqaxS1NR3".into());
        assert_eq!(set(Family::V4, &id), "cali40s:Djx4jfRE_TwnMVpqaxS1NR3");
        assert_eq!(set(Family::V6, &SetName::Own("network-ip-pools")), "cali60network-ip-pools");
    }

    proptest! {
        #[test]
        fn any_name_is_one_short_safe_word(name in ".*") {
            for text in [chain(&format!("cali-pi-{name}")), chain(&name), dispatch_part("cali-to-wl-dispatch", &name)] {
                prop_assert!(text.len() <= MAX_CHAIN && safe(&text) && text.starts_with(CHAIN_PREFIX)
                    || text == name, "{}", text);
                prop_assert!(text.is_empty() == name.is_empty() || safe(&text));
            }
            let text = set(Family::V4, &SetName::Calculated(name.as_str().into()));
            prop_assert!(text.len() <= 31 && safe(&text), "{}", text);
        }
    }
}
