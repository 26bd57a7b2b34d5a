//! What a file means for one address family.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::tree::{Item, parse};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Facts {
    pub router_id: String,
    /// False: the file says that the family is off; only the static part counts.
    pub enabled: bool,
    pub local_as: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listen_port: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub listens_on_node_address: bool,
    pub session_debug: String,
    pub direct_interfaces: String,
    pub normal_priority: String,
    pub peers: BTreeMap<String, PeerFacts>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub communities: BTreeMap<String, BTreeSet<String>>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub static_routes: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub aggregated: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub exported: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unexported: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub not_in_kernel: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tunnel_interfaces: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerFacts {
    /// Every statement of the session but filters, local AS and what all sessions have.
    pub options: BTreeSet<String>,
    pub import: Vec<String>,
    pub export: Vec<String>,
    /// LOCAL_PREF above which an imported route wins over a workload's.
    pub override_above: String,
}

/// Upstream's three files of one family.
pub fn of_bird1(main: &str, aggregation: &str, ipam: &str) -> Facts {
    let items: Vec<Item> = [main, aggregation, ipam]
        .iter()
        .flat_map(|text| parse(text))
        .filter(|i| !i.head.starts_with("include"))
        .collect();
    let mut facts = common(&items, "");
    facts.enabled = !main.contains("disabled on this node");
    for item in &items {
        if let Some(rest) = item.head.strip_prefix("listen bgp ") {
            facts.listens_on_node_address = rest.contains("address");
            facts.listen_port = rest.rsplit_once("port ").unwrap().1.to_owned();
        } else if item.head.starts_with("template static") {
            facts.static_routes = routes(item);
        } else if item.head.starts_with("template direct") {
            facts.direct_interfaces = option(item, "interface");
        } else if item.head.starts_with("template bgp") {
            facts.local_as = option(item, "local as");
            facts.session_debug = option(item, "debug");
        } else if let Some(name) = protocol_name(item) {
            let (peer, _, priority) = peer(&item.body, name);
            facts.normal_priority = priority;
            facts.peers.insert(name.to_owned(), peer);
        }
    }
    // BIRD 2 listens on one address by sessions that are bound to it, so all of them have it as source.
    if let Some(address) = items.iter().find_map(|i| i.head.strip_prefix("listen bgp address ")) {
        let source = format!("source address {}", address.split(' ').next().unwrap());
        for peer in facts.peers.values_mut() {
            peer.options.insert(source.clone());
        }
    }
    // Where upstream's BIRD would steer into the IPIP tunnel, ours leaves the pool to Felix.
    facts.tunnel_interfaces.insert("tunl0".to_owned());
    for item in items.iter().filter(|i| i.head.starts_with("filter calico_kernel_programming")) {
        for rule in
            item.body.iter().filter(|r| r.body.iter().any(|s| format!("{s:?}").contains("krt_tunnel")))
        {
            facts.not_in_kernel.insert(net_of(&rule.head));
        }
    }
    facts
}

/// One family of our file.
pub fn of_bird2(text: &str, v4: bool) -> Facts {
    let items = parse(text);
    let (suffix, channel) = if v4 { ("_v4", "ipv4") } else { ("_v6", "ipv6") };
    let mut facts = common(&items, suffix);
    for item in &items {
        if item.head == "protocol direct" {
            facts.direct_interfaces = option(item, "interface");
        } else if item.head == format!("protocol static static{suffix}") {
            facts.static_routes = routes(item);
        } else if item.head.starts_with("template bgp") {
            let local = option(item, "local");
            let (listen, local_as) = local.rsplit_once("as ").unwrap();
            facts.local_as = local_as.to_owned();
            facts.listen_port = listen.trim().strip_prefix("port ").unwrap_or_default().to_owned();
            facts.session_debug = option(item, "debug");
            facts.listens_on_node_address = has(item, "strict bind on");
        } else if item.head == format!("function calico_priority{suffix}()") {
            facts.normal_priority = assigned(&item.body, "krt_metric = ");
        } else if let Some(name) = protocol_name(item) {
            let Some(inner) = item.body.iter().find(|i| i.head == channel) else { continue };
            let rest = item.body.iter().filter(|i| i.head != channel);
            let all: Vec<Item> = rest.chain(&inner.body).cloned().collect();
            let (peer, own_local, _) = peer(&all, name);
            if !own_local.is_empty() {
                assert!(own_local.contains(&facts.listen_port), "{name} listens elsewhere");
            }
            facts.peers.insert(name.to_owned(), peer);
        } else if item.head == format!("function calico_export_to_bgp_peers{suffix}(bool internal_peer)") {
            facts.enabled = true;
        }
    }
    facts
}

fn common(items: &[Item], suffix: &str) -> Facts {
    let mut facts = Facts::default();
    for item in items {
        let name = item.head.split_whitespace().nth(1).unwrap_or_default().trim_end_matches("()");
        if let Some(id) = item.head.strip_prefix("router id ") {
            facts.router_id = id.to_owned();
        } else if item.head.starts_with("function") && name == format!("apply_communities{suffix}") {
            for rule in &item.body {
                let statements = rule.body.iter().map(|s| s.head.clone()).collect();
                facts.communities.insert(net_of(&rule.head), statements);
            }
        } else if item.head.starts_with("function") && name == format!("calico_aggr{suffix}") {
            for group in item.body.chunks(3) {
                facts.aggregated.insert(net_of(&group[0].head));
                let said: Vec<String> = group.iter().flat_map(flatten).collect();
                let net = net_of(&group[0].head);
                assert_eq!(said[0], format!("net = {net} -> accept"));
                assert!(said[1].starts_with(&format!("net ~ {net} && krt_metric < ")), "{said:?}");
                assert_eq!(said[2], format!("net ~ {net} -> reject"));
            }
        } else if item.head.starts_with(&format!("function calico_export_to_bgp_peers{suffix}(")) {
            export_function(item, &mut facts);
        } else if item.head == format!("filter calico_kernel_programming{suffix}") {
            for said in item.body.iter().flat_map(flatten) {
                if let Some(net) = said.strip_prefix("net ~ ").and_then(|s| s.strip_suffix(" -> reject")) {
                    facts.not_in_kernel.insert(net.to_owned());
                }
            }
        } else if item.head.starts_with("function 'bgp_") {
            let symbol = item.head.strip_prefix("function ").unwrap();
            let family = if suffix.is_empty() { "" } else { &suffix.to_uppercase()[1..] };
            if symbol.split('\'').nth(1).is_some_and(|s| s.ends_with(family)) {
                facts.filters.insert(symbol.replace(" ", ""), item.body.iter().flat_map(flatten).collect());
            }
        }
    }
    facts
}

fn export_function(item: &Item, facts: &mut Facts) {
    for said in item.body.iter().flat_map(flatten) {
        let Some((condition, action)) = said.split_once(" -> ") else { continue };
        if let Some(net) = condition.strip_prefix("net ~ ") {
            let set = if action == "accept" { &mut facts.exported } else { &mut facts.unexported };
            set.insert(net.to_owned());
        } else if condition.starts_with("internal_peer") {
            assert_eq!(action, "reject");
            facts.tunnel_interfaces = condition.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        }
    }
}

/// `condition && condition -> action; action`, one for each way through nested ifs.
fn flatten(item: &Item) -> Vec<String> {
    let Some(condition) = item.head.strip_prefix("if ").and_then(|h| h.strip_suffix(" then")) else {
        return vec![item.head.clone()];
    };
    let mut atoms = Vec::new();
    for part in condition.split("&&") {
        let atom = unwrap_parentheses(part);
        if atom != "defined(source)" {
            atoms.push(atom.replace("source ~ [ RTS_BGP ]", "source = RTS_BGP"));
        }
    }
    let atoms: Vec<String> = atoms.iter().map(|a| canonical_net(a)).collect();
    let prefix = atoms.join(" && ");
    if item.body.iter().all(|i| i.body.is_empty()) {
        let actions: Vec<&str> = item.body.iter().map(|i| i.head.as_str()).collect();
        return vec![format!("{prefix} -> {}", actions.join("; "))];
    }
    item.body
        .iter()
        .flat_map(flatten)
        .map(|inner| {
            if inner.contains(" -> ") {
                format!("{prefix} && {inner}")
            } else {
                format!("{prefix} -> {inner}")
            }
        })
        .collect()
}

fn unwrap_parentheses(part: &str) -> String {
    let mut text = part.trim();
    loop {
        let (open, close) = (text.matches('(').count(), text.matches(')').count());
        if open > close {
            text = text.strip_prefix('(').expect("an opening parenthesis in front").trim();
        } else if close > open {
            text = text.strip_suffix(')').expect("a closing parenthesis at the end").trim();
        } else if wraps(text) {
            text = text[1..text.len() - 1].trim();
        } else {
            return text.to_owned();
        }
    }
}

fn wraps(text: &str) -> bool {
    if !text.starts_with('(') {
        return false;
    }
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 {
            return i == text.len() - 1;
        }
    }
    false
}

fn canonical_net(atom: &str) -> String {
    atom.split(' ')
        .map(|word| word.parse::<IpNet>().map_or_else(|_| word.to_owned(), |n| n.trunc().to_string()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn net_of(head: &str) -> String {
    let word = head.split([' ', '(', ')']).find(|w| w.parse::<IpNet>().is_ok()).expect("a prefix");
    word.parse::<IpNet>().unwrap().to_string()
}

fn routes(item: &Item) -> BTreeSet<String> {
    item.body.iter().filter(|i| i.head.starts_with("route ")).map(|i| canonical_net(&i.head)).collect()
}

fn option(item: &Item, name: &str) -> String {
    let found = item.body.iter().find_map(|i| i.head.strip_prefix(name));
    found.unwrap_or_default().trim().to_owned()
}

fn has(item: &Item, head: &str) -> bool {
    item.body.iter().any(|i| i.head == head)
}

fn protocol_name(item: &Item) -> Option<&str> {
    item.head.strip_prefix("protocol bgp ")?.strip_suffix(" from bgp_template")
}

/// The peer, its own `local` line, and the normal priority that an inline export filter names.
fn peer(body: &[Item], name: &str) -> (PeerFacts, String, String) {
    let mut facts = PeerFacts::default();
    let (mut local, mut priority) = (String::new(), String::new());
    for item in body {
        match item.head.as_str() {
            "import filter" => {
                facts.import = calls(&item.body);
                facts.override_above = format!("{:?}", item.body)
                    .split("bgp_local_pref > ")
                    .nth(1)
                    .and_then(|s| s.split([')', ' ']).next())
                    .unwrap_or_default()
                    .to_owned();
                assert_eq!(item.body.last().unwrap().head, "accept", "{name}");
            }
            "export filter" => {
                facts.export = calls(&item.body);
                priority = assigned(&item.body, "krt_metric = ");
                assert_eq!(item.body.last().unwrap().head, "reject", "{name}");
            }
            "gateway recursive" | "add paths on" | "strict bind on" => {}
            head if head.starts_with("local ") => {
                let as_number = head.rsplit_once("as ").unwrap().1;
                facts.options.insert(format!("local as {as_number}"));
                local = head.to_owned();
            }
            head => {
                facts.options.insert(head.to_owned());
            }
        }
    }
    (facts, local, priority)
}

fn calls(body: &[Item]) -> Vec<String> {
    body.iter()
        .filter(|i| i.head.contains('(') && i.body.is_empty() && !i.head.starts_with("calico_priority"))
        .map(|i| i.head.replace("_v4(", "(").replace("_v6(", "("))
        .collect()
}

/// The smallest number that a statement anywhere below assigns.
fn assigned(body: &[Item], what: &str) -> String {
    let text = format!("{body:?}");
    text.split(what)
        .skip(1)
        .filter_map(|s| s.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok())
        .min()
        .map(|n| n.to_string())
        .unwrap_or_default()
}
