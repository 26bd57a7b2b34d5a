//! Whether rules that went out say everything that the datastore's say: a match less lets more through.
//!
//! In come objects as the datastore has them, before anything of ours has read them, and a [`Mirror`]; out goes a text
//! for each rule that says less. It is read here once more, from the JSON's field names alone and with none of the
//! calculation's code, so that a field which is lost anywhere on the way is seen. Always holds: what was refused as a
//! whole has no rules.
//!
//! Left out: whether selectors choose the right members; the oracle judges that.

use std::collections::BTreeMap;

use felix_message::{Action, Icmp, Rule, Side};
use libcalico_model::Key;
use libcalico_selector::Selector;
use serde_json::Value as Json;

use crate::mirror::Mirror;

/// Policies' and profiles' JSON, as it came.
#[derive(Default)]
pub struct Stored(BTreeMap<Key, Json>);

impl Stored {
    /// Notes a line of a recording, whose key was read.
    pub fn line(&mut self, key: &Key, line: &str) {
        if has_rules(key) {
            let line: Json = serde_json::from_str(line).unwrap_or_default();
            self.insert(key.clone(), &line["value"], line["raw"].as_str());
        }
    }

    /// Notes an object at a path.
    pub fn set(&mut self, path: &str, value: &Json, raw: Option<&str>) {
        if let Ok(key) = path.parse::<Key>()
            && has_rules(&key)
        {
            self.insert(key, value, raw);
        }
    }

    fn insert(&mut self, key: Key, value: &Json, raw: Option<&str>) {
        // Text that is no JSON has no rules, and must be refused.
        let json = raw.map_or_else(|| value.clone(), |text| serde_json::from_str(text).unwrap_or_default());
        self.0.insert(key, json);
    }

    /// Rules of the mirror that say less than those noted last under their key.
    #[must_use]
    pub fn wider_in(&self, mirror: &Mirror) -> Vec<String> {
        let policies = mirror.policies.iter().map(|(key, p)| {
            (Key::Policy(key.clone()), [("inbound_rules", &p.inbound), ("outbound_rules", &p.outbound)])
        });
        let profiles = mirror.profiles.iter().map(|(name, p)| {
            (
                Key::ProfileRules(name.clone()),
                [("inbound_rules", &p.inbound), ("outbound_rules", &p.outbound)],
            )
        });
        let mut out = Vec::new();
        for (key, lists) in policies.chain(profiles) {
            for (field, found) in lists {
                // A refused profile stays, without rules, as long as endpoints name it.
                if found.is_empty() && matches!(key, Key::ProfileRules(_)) {
                    continue;
                }
                let stored = self.0.get(&key).map_or(&Json::Null, |json| &json[field]);
                if let Err(why) = all_said(stored, found) {
                    out.push(format!("{} {field}: {why}", key.path()));
                }
            }
        }
        out
    }
}

fn has_rules(key: &Key) -> bool {
    matches!(key, Key::Policy(_) | Key::ProfileRules(_))
}

/// True where the field is not there, or is as good as not there.
fn is_nothing(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn all_said(stored: &Json, found: &[Rule]) -> Result<(), String> {
    let none = Vec::new();
    let stored = stored.as_array().unwrap_or(&none);
    // What asks for HTTP and does not deny is left out as a whole.
    let asks_http = |r: &Json| ["methods", "paths"].iter().any(|f| !is_nothing(&r["http"][f]));
    let left_out = |r: &&Json| asks_http(r) && action(r) != Some(Action::Deny);
    let stored: Vec<&Json> = stored.iter().filter(|r| !left_out(r)).collect();
    // In place of a profile that is not there or not valid: nothing gets through.
    if let [one] = found
        && *one == (Rule { action: Action::Deny, rule_id: one.rule_id.clone(), ..Rule::default() })
    {
        return Ok(());
    }
    if stored.len() != found.len() {
        return Err(format!("{} rules for {}", found.len(), stored.len()));
    }
    for (stored, found) in stored.into_iter().zip(found) {
        said(stored, found).map_err(|what| format!("{what} of {stored} is not in {found:?}"))?;
    }
    Ok(())
}

fn action(rule: &Json) -> Option<Action> {
    let text = match &rule["action"] {
        Json::Null => "",
        Json::String(text) => text.as_str(),
        _ => return None,
    };
    Some(match text.to_ascii_lowercase().as_str() {
        "" | "allow" => Action::Allow,
        "deny" => Action::Deny,
        "log" => Action::Log,
        "pass" | "next-tier" => Action::Pass,
        _ => return None,
    })
}

/// What of the rule is not said, where something is not.
fn said(stored: &Json, found: &Rule) -> Result<(), &'static str> {
    let need = |what: &'static str, holds: bool| if holds { Ok(()) } else { Err(what) };
    need("the rule's form", stored.is_object())?;
    need("the action", action(stored) == Some(found.action))?;
    let version = &stored["ip_version"];
    need("ip_version", version.as_u64() == found.ip_version.map(u64::from))?;
    need("protocol", is_nothing(&stored["protocol"]) || found.protocol.is_some())?;
    need("!protocol", is_nothing(&stored["!protocol"]) || found.not_protocol.is_some())?;
    let icmp = |kind: &Json, code: &Json, found: Option<Icmp>| {
        kind.as_u64() == found.map(|i| u64::from(i.icmp_type))
            && code.as_u64() == found.and_then(|i| i.code).map(u64::from)
    };
    need("icmp", icmp(&stored["icmp_type"], &stored["icmp_code"], found.icmp))?;
    need("!icmp", icmp(&stored["!icmp_type"], &stored["!icmp_code"], found.not_icmp))?;
    side(stored, "src", &found.src)?;
    side(stored, "dst", &found.dst)
}

fn side(stored: &Json, end: &str, found: &Side) -> Result<(), &'static str> {
    let need = |what: &'static str, holds: bool| if holds { Ok(()) } else { Err(what) };
    let field = |not: &str, name: &str| &stored[format!("{not}{end}_{name}")];
    let count = |value: &Json| value.as_array().map_or(0, Vec::len);
    for (not, nets) in [("", &found.nets), ("!", &found.not_nets)] {
        let wanted = count(field(not, "nets")) + usize::from(!is_nothing(field(not, "net")));
        need("a network", nets.len() == wanted)?;
    }
    for (not, numbers, names) in
        [("", &found.ports, &found.named_port_sets), ("!", &found.not_ports, &found.not_named_port_sets)]
    {
        need("a port", numbers.len() + names.len() == count(field(not, "ports")))?;
    }
    let text = |not, name| field(not, name).as_str().unwrap_or_default();
    let service = !text("", "service").is_empty();
    let of_destination = end == "dst";
    need(
        "the service",
        !service || !if of_destination { &found.ip_port_sets } else { &found.ip_sets }.is_empty(),
    )?;
    let (yes, no) = (text("", "selector"), text("!", "selector"));
    for selector in [yes, no] {
        need("a selector that can be read", selector.is_empty() || Selector::parse(selector).is_ok())?;
    }
    // Both become one; a set of named ports has only what is selected.
    let by_names = !found.named_port_sets.is_empty() && found.ports.is_empty();
    let chosen = found.ip_sets.len() > usize::from(service && !of_destination);
    need("the selector", yes.is_empty() || by_names || chosen)?;
    need("the selector's negation", no.is_empty() || by_names || chosen || !found.not_ip_sets.is_empty())
}
