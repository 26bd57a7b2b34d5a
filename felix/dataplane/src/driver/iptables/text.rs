//! A rule as `iptables-restore` takes it, without chain and comment.
//!
//! In: a rule of [`crate::rule`]. Out: none, one or several lines: iptables has one network, one protocol and fifteen
//! ports in a rule, so that a list of networks, or "port in these ranges or in these sets", becomes several rules that
//! collect their answer in scratch bits of the mark, as upstream's do. Always holds: the lines together do what the rule
//! says; a condition that can never hold makes no line; what cannot be said in iptables' words (a wrong interface name,
//! ports of a protocol without ports) never holds.

use std::fmt::Write as _;
use std::sync::Arc;

use felix_message::PortRange;
use ipnet::IpNet;

use super::names;
use crate::config::Marks;
use crate::rule::{Action, End, Family, Match, RateLimit, Rule, SetName, Table, TimeUnit, ct_state};

/// Most ports in one `multiport` match; a range counts twice.
const MAX_PORTS: usize = 15;
/// Longest prefix of a log line.
const MAX_LOG_PREFIX: usize = 29;
/// Protocols that `multiport` knows.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
/// `iptables` reads this ICMP type as "any".
const ANY_ICMP: u8 = 255;

/// Where the text is for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub table: Table,
    pub family: Family,
    pub marks: &'a Marks,
}

/// The condition can never hold.
struct Never;

/// Conditions that all hold, as iptables can say them in one rule.
#[derive(Clone, Debug, Default)]
struct Conditions {
    protocol: Option<(bool, u8)>,
    /// Source, destination.
    nets: [Option<(bool, IpNet)>; 2],
    /// Incoming, outgoing.
    interfaces: [Option<Arc<str>>; 2],
    modules: String,
}

/// Conditions of which one has to hold (or, negated, none may).
struct Block {
    not: bool,
    alternatives: Vec<Conditions>,
    /// No packet meets two of them.
    disjoint: bool,
}

fn end_index(end: End) -> usize {
    match end {
        End::Src => 0,
        End::Dst => 1,
    }
}

fn bang(not: bool) -> &'static str {
    if not { "! " } else { "" }
}

impl Conditions {
    fn module(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = write!(self.modules, " -m {text}");
    }

    fn protocol(&mut self, not: bool, number: u8) -> Result<(), Never> {
        self.protocol = match (self.protocol, not) {
            (None, _) => Some((not, number)),
            (Some((false, have)), false) if have == number => self.protocol,
            // A protocol that is not another one: nothing to ask.
            (Some((false, have)), true) if have != number => self.protocol,
            (Some((true, have)), false) if have != number => Some((false, number)),
            (Some((true, have)), true) if have == number => self.protocol,
            _ => return Err(Never),
        };
        Ok(())
    }

    fn ports(&mut self, end: End, not: bool, chunk: &[PortRange]) {
        let word = match end {
            End::Src => "--sports",
            End::Dst => "--dports",
        };
        let list: Vec<String> = chunk
            .iter()
            .map(|r| if r.first == r.last { r.first.to_string() } else { format!("{}:{}", r.first, r.last) })
            .collect();
        self.module(format_args!("multiport {}{word} {}", bang(not), list.join(",")));
    }

    fn set(&mut self, family: Family, not: bool, set: &SetName, direction: &str) {
        self.module(format_args!("set {}--match-set {} {direction}", bang(not), names::set(family, set)));
    }

    fn has_ports(&self) -> bool {
        self.protocol.is_some_and(|(not, n)| !not && WITH_PORTS.contains(&n))
    }

    fn write(&self, out: &mut String) {
        for (word, slot) in ["-i", "-o"].iter().zip(&self.interfaces) {
            if let Some(name) = slot {
                let _ = write!(out, " {word} {name}");
            }
        }
        for (word, slot) in ["-s", "-d"].iter().zip(&self.nets) {
            if let Some((not, net)) = slot {
                let _ = write!(out, " {}{word} {net}", bang(*not));
            }
        }
        if let Some((not, number)) = self.protocol {
            let _ = write!(out, " {}-p {number}", bang(not));
        }
        out.push_str(&self.modules);
    }
}

/// Lists of at most [`MAX_PORTS`].
fn chunks(ranges: &[PortRange]) -> Vec<Vec<PortRange>> {
    let mut out: Vec<Vec<PortRange>> = Vec::new();
    let mut used = MAX_PORTS;
    for r in ranges {
        let cost = if r.first == r.last { 1 } else { 2 };
        if used + cost > MAX_PORTS {
            out.push(Vec::new());
            used = 0;
        }
        used += cost;
        if let Some(last) = out.last_mut() {
            last.push(*r);
        }
    }
    out
}

fn set_direction(end: End) -> &'static str {
    match end {
        End::Src => "src",
        End::Dst => "dst",
    }
}

fn port_set_direction(end: End) -> &'static str {
    match end {
        End::Src => "src,src",
        End::Dst => "dst,dst",
    }
}

/// Takes a rule's conditions apart.
struct Lowering<'a> {
    cx: Context<'a>,
    own: Conditions,
    blocks: Vec<Block>,
    /// What is asked last.
    limit: Option<RateLimit>,
}

impl Lowering<'_> {
    fn take(&mut self, m: &Match) -> Result<(), Never> {
        let family = self.cx.family;
        match m {
            Match::Mark { value, mask } => self.own.module(format_args!("mark --mark {value:#x}/{mask:#x}")),
            Match::CtState(bits) => self.own.module(format_args!("conntrack --ctstate {}", states(*bits))),
            Match::CtDnat { not } => {
                self.own.module(format_args!("conntrack {}--ctstate DNAT", bang(*not)));
            }
            Match::InInterface(name) => self.interface(0, name)?,
            Match::OutInterface(name) => self.interface(1, name)?,
            Match::Protocol { not, number } => self.own.protocol(*not, *number)?,
            Match::Net { end, not, nets } => self.nets(*end, *not, nets)?,
            Match::Set { end, not, set } => self.own.set(family, *not, set, set_direction(*end)),
            Match::PortSet { end, not, set } => self.own.set(family, *not, set, port_set_direction(*end)),
            Match::Ports { end, not, ranges } => self.ports(*end, *not, ranges)?,
            Match::AnyPort { end, not, protocol, ranges, sets } => {
                self.any_port(*end, *not, *protocol, ranges, sets)?;
            }
            Match::Icmp { not, icmp_type, code } => self.icmp(*not, *icmp_type, *code)?,
            Match::Local { end, not } => {
                let not = if *not { " !" } else { "" };
                self.own.module(format_args!("addrtype{not} --{}-type LOCAL", set_direction(*end)));
            }
            Match::Limit(limit) => self.limit = Some(*limit),
            Match::ReversePathFails => self.own.module(format_args!("rpfilter --validmark --invert")),
        }
        Ok(())
    }

    fn interface(&mut self, at: usize, name: &Arc<str>) -> Result<(), Never> {
        let plain = name.strip_suffix('+').unwrap_or(name);
        let wildcard = plain.len() < name.len();
        if !names::is_interface(plain) || (wildcard && plain.len() > 14) {
            return Err(Never);
        }
        match self.own.interfaces.get_mut(at) {
            Some(slot @ None) => *slot = Some(name.clone()),
            Some(Some(have)) if have == name => {}
            _ => return Err(Never),
        }
        Ok(())
    }

    fn nets(&mut self, end: End, not: bool, nets: &[IpNet]) -> Result<(), Never> {
        let slot = &mut self.own.nets[end_index(end)];
        // Without overlap: a packet is in one of them, and counted once.
        let nets = IpNet::aggregate(&nets.to_vec());
        match (&nets[..], not) {
            (_, false) if nets.iter().any(|n| n.prefix_len() == 0) => {}
            (_, true) if nets.iter().any(|n| n.prefix_len() == 0) => return Err(Never),
            ([], false) => return Err(Never),
            ([], true) => {}
            ([net], _) if slot.is_none() => *slot = Some((not, *net)),
            _ => {
                let alternative = |net: &IpNet| {
                    let mut c = Conditions::default();
                    c.nets[end_index(end)] = Some((false, *net));
                    c
                };
                let alternatives = nets.iter().map(alternative).collect();
                self.blocks.push(Block { not, alternatives, disjoint: true });
            }
        }
        Ok(())
    }

    fn ports(&mut self, end: End, not: bool, ranges: &[PortRange]) -> Result<(), Never> {
        if !self.own.has_ports() {
            return Err(Never);
        }
        let mut chunks = chunks(ranges);
        if not || chunks.len() == 1 {
            chunks.iter().for_each(|chunk| self.own.ports(end, not, chunk));
            return Ok(());
        }
        let protocol = self.own.protocol;
        let alternatives = chunks.drain(..).map(|chunk| {
            let mut c = Conditions { protocol, ..Conditions::default() };
            c.ports(end, false, &chunk);
            c
        });
        let alternatives: Vec<Conditions> = alternatives.collect();
        if alternatives.is_empty() {
            return Err(Never);
        }
        self.blocks.push(Block { not: false, alternatives, disjoint: true });
        Ok(())
    }

    fn any_port(
        &mut self,
        end: End,
        not: bool,
        protocol: u8,
        ranges: &[PortRange],
        sets: &[SetName],
    ) -> Result<(), Never> {
        let family = self.cx.family;
        if not {
            if !ranges.is_empty() {
                self.ports(end, true, ranges)?;
            }
            sets.iter().for_each(|s| self.own.set(family, true, s, port_set_direction(end)));
            return Ok(());
        }
        let mut alternatives = Vec::new();
        if WITH_PORTS.contains(&protocol) {
            for chunk in chunks(ranges) {
                let mut c = Conditions { protocol: Some((false, protocol)), ..Conditions::default() };
                c.ports(end, false, &chunk);
                alternatives.push(c);
            }
        }
        for set in sets {
            let mut c = Conditions::default();
            c.set(family, false, set, port_set_direction(end));
            alternatives.push(c);
        }
        self.blocks.push(Block { not: false, alternatives, disjoint: sets.is_empty() });
        Ok(())
    }

    fn icmp(&mut self, not: bool, icmp_type: u8, code: Option<u8>) -> Result<(), Never> {
        let (number, module, option) = match self.cx.family {
            Family::V4 => (1, "icmp", "--icmp-type"),
            Family::V6 => (58, "icmp6", "--icmpv6-type"),
        };
        self.own.protocol(false, number)?;
        if icmp_type == ANY_ICMP && self.cx.family == Family::V4 {
            // No such message exists; iptables would take any.
            return if not { Ok(()) } else { Err(Never) };
        }
        let code = code.map_or_else(String::new, |c| format!("/{c}"));
        self.own.module(format_args!("{module} {}{option} {icmp_type}{code}", bang(not)));
        Ok(())
    }
}

/// The lines that a rule becomes. None: it can never match.
///
/// Dispatch is not a rule here: see [`super::dispatch`].
#[must_use]
pub fn lines(rule: &Rule, cx: Context<'_>) -> Vec<String> {
    acting(rule, cx).0
}

/// [`lines`], and how many of them come before those that act: a packet that the rule matches passes one of the others.
#[must_use]
pub fn acting(rule: &Rule, cx: Context<'_>) -> (Vec<String>, usize) {
    let mut l = Lowering { cx, own: Conditions::default(), blocks: Vec::new(), limit: None };
    // Protocols first: ports depend on them.
    let is_protocol = |m: &&Match| matches!(m, Match::Protocol { .. });
    let ordered =
        rule.matches.iter().filter(is_protocol).chain(rule.matches.iter().filter(|m| !is_protocol(m)));
    for m in ordered {
        if l.take(m).is_err() {
            return (Vec::new(), 0);
        }
    }
    let Lowering { mut own, mut blocks, limit, .. } = l;
    let limited = |c: &mut Conditions| {
        if let Some(l) = limit {
            let (packets, unit, burst) = (l.packets, l.unit.name(), burst(&l));
            c.module(format_args!("limit --limit {packets}/{unit} --limit-burst {burst}"));
        }
    };
    let target = target(&rule.action, cx);
    let line = |c: &Conditions, target: &str| {
        let mut out = String::with_capacity(96);
        c.write(&mut out);
        out.push_str(target);
        out
    };
    match &blocks[..] {
        [] => {
            limited(&mut own);
            return (vec![line(&own, &target)], 0);
        }
        // The same action in each alternative.
        [Block { not: false, alternatives, disjoint: true }] if repeatable(&rule.action) => {
            if let Some(merged) = alternatives.iter().map(|a| merge(&own, a)).collect::<Option<Vec<_>>>() {
                return (merged.iter().map(|c| line(c, &target)).collect(), 0);
            }
        }
        _ => {}
    }
    // Positive ones first: the first of them starts from "no" and needs no second bit.
    blocks.sort_by_key(|b| b.not);
    let mut out = Vec::new();
    with_blocks(&blocks, cx.marks, &mut |c, action| out.push(line(c, &mark(action))));
    let mut last = own;
    last.module(format_args!("mark --mark {0:#x}/{0:#x}", cx.marks.scratch0));
    limited(&mut last);
    out.push(line(&last, &target));
    let before = out.len() - 1;
    (out, before)
}

/// The burst, as far as xtables can count it: its counter holds a day's worth of packets, and it refuses a rule whose
/// burst is more.
fn burst(l: &RateLimit) -> u64 {
    let of_a_day = TimeUnit::Day.secs() * u64::from(l.packets) / l.unit.secs();
    u64::from(l.burst).min(of_a_day).max(1)
}

/// True where it does no harm to do it twice to a packet, as two alternatives may hold.
fn repeatable(action: &Action) -> bool {
    matches!(
        action,
        Action::Mark { .. }
            | Action::Accept
            | Action::Drop
            | Action::Reject
            | Action::Return
            | Action::Goto(_)
    )
}

/// Both at once, where one rule can say it.
fn merge(own: &Conditions, alternative: &Conditions) -> Option<Conditions> {
    let mut out = own.clone();
    for (slot, new) in out.nets.iter_mut().zip(alternative.nets) {
        if new.is_some() {
            if slot.is_some() {
                return None;
            }
            *slot = new;
        }
    }
    if let Some((not, number)) = alternative.protocol {
        out.protocol(not, number).ok()?;
    }
    out.modules.push_str(&alternative.modules);
    Some(out)
}

/// Rules that leave the first scratch bit set where every block holds.
fn with_blocks(blocks: &[Block], marks: &Marks, push: &mut impl FnMut(&Conditions, (u32, u32))) {
    let (all, this) = (marks.scratch0, marks.scratch1);
    let nothing = Conditions::default();
    let starts_positive = blocks.first().is_some_and(|b| !b.not);
    push(&nothing, (all | this, if starts_positive { 0 } else { all }));
    for (n, block) in blocks.iter().enumerate() {
        if block.not {
            block.alternatives.iter().for_each(|a| push(a, (all, 0)));
            continue;
        }
        if n > 0 {
            push(&nothing, (this, 0));
        }
        let bit = if n == 0 { all } else { this };
        block.alternatives.iter().for_each(|a| push(a, (bit, bit)));
        if n > 0 {
            let mut none = Conditions::default();
            none.module(format_args!("mark --mark 0x0/{this:#x}"));
            push(&none, (all, 0));
        }
    }
}

/// `(mask, value)`.
fn mark((mask, value): (u32, u32)) -> String {
    format!(" -j MARK --set-xmark {value:#x}/{mask:#x}")
}

fn target(action: &Action, cx: Context<'_>) -> String {
    let to_ports = |ports: &Option<PortRange>, word: &str| {
        ports.map_or_else(String::new, |p| format!("{word}{}-{}", p.first, p.last))
    };
    match action {
        Action::Accept => " -j ACCEPT".to_owned(),
        Action::Drop => " -j DROP".to_owned(),
        // Elsewhere the kernel has no rejection.
        Action::Reject if cx.table == Table::Filter => " -j REJECT".to_owned(),
        Action::Reject => " -j DROP".to_owned(),
        Action::Return => " -j RETURN".to_owned(),
        Action::Jump(chain) => format!(" -j {}", names::chain(chain)),
        Action::Goto(chain) => format!(" -g {}", names::chain(chain)),
        Action::Mark { clear, set } => mark((clear | set, *set)),
        Action::Log { prefix } => {
            format!(" -j LOG --log-prefix \"{}\" --log-level 5", log_prefix(prefix))
        }
        Action::NoTrack => " -j NOTRACK".to_owned(),
        Action::Masquerade { ports } => {
            format!(" -j MASQUERADE{} --random-fully", to_ports(ports, " --to-ports "))
        }
        Action::Snat { to, ports } => {
            let to = match to {
                std::net::IpAddr::V6(a) if ports.is_some() => format!("[{a}]"),
                a => a.to_string(),
            };
            format!(" -j SNAT --to-source {to}{} --random-fully", to_ports(ports, ":"))
        }
        Action::Dnat { to } => format!(" -j DNAT --to-destination {to}"),
        // Taken apart before: a rule that is reached here goes nowhere.
        Action::DispatchIn(_) | Action::DispatchOut(_) => String::new(),
    }
}

/// What fits and cannot end the quoted word.
fn log_prefix(prefix: &str) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') { c } else { '_' };
    prefix.chars().map(plain).take(MAX_LOG_PREFIX).collect()
}

fn states(bits: u32) -> String {
    let all = [
        (ct_state::INVALID, "INVALID"),
        (ct_state::RELATED, "RELATED"),
        (ct_state::ESTABLISHED, "ESTABLISHED"),
        (ct_state::UNTRACKED, "UNTRACKED"),
    ];
    let words: Vec<&str> = all.iter().filter(|(b, _)| bits & b != 0).map(|(_, w)| *w).collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(matches: Vec<Match>, action: Action) -> Vec<String> {
        let cx = Context { table: Table::Filter, family: Family::V4, marks: &Marks::default() };
        lines(&Rule::when(matches, action), cx)
    }

    fn nets(end: End, not: bool, list: &[&str]) -> Match {
        Match::Net { end, not, nets: list.iter().map(|n| n.parse().unwrap()).collect() }
    }

    fn ranges(list: &[(u16, u16)]) -> Vec<PortRange> {
        list.iter().map(|(first, last)| PortRange { first: *first, last: *last }).collect()
    }

    fn tcp() -> Match {
        Match::Protocol { not: false, number: 6 }
    }

    const ACCEPT: Action = Action::Mark { clear: 0, set: 0x1_0000 };

    #[test]
    fn one_list_of_networks_is_one_rule_each() {
        assert_eq!(
            text(vec![tcp(), nets(End::Src, false, &["10.0.0.0/8", "192.0.2.0/24"])], ACCEPT),
            [
                " -s 10.0.0.0/8 -p 6 -j MARK --set-xmark 0x10000/0x10000",
                " -s 192.0.2.0/24 -p 6 -j MARK --set-xmark 0x10000/0x10000",
            ]
        );
    }

    #[test]
    fn a_network_and_another_excluded_are_upstreams_three_rules() {
        let drop = Action::Mark { clear: 0, set: 0x4_0000 };
        let matches = vec![
            Match::Protocol { not: false, number: 17 },
            nets(End::Src, false, &["10.65.0.0/16"]),
            nets(End::Src, true, &["10.0.0.0/8"]),
        ];
        assert_eq!(
            text(matches, drop),
            [
                " -j MARK --set-xmark 0x80000/0x180000",
                " -s 10.0.0.0/8 -j MARK --set-xmark 0x0/0x80000",
                " -s 10.65.0.0/16 -p 17 -m mark --mark 0x80000/0x80000 -j MARK --set-xmark 0x40000/0x40000",
            ]
        );
    }

    /// Port 80, or an address and port of a set.
    fn port_or_set() -> Match {
        let sets = vec![SetName::Calculated("n:a".into())];
        Match::AnyPort { end: End::Dst, not: false, protocol: 6, ranges: ranges(&[(80, 80)]), sets }
    }

    #[test]
    fn two_unions_use_both_scratch_bits() {
        let matches = vec![tcp(), nets(End::Src, false, &["10.0.0.0/8", "192.0.2.0/24"]), port_or_set()];
        assert_eq!(
            text(matches, ACCEPT),
            [
                " -j MARK --set-xmark 0x0/0x180000",
                " -s 10.0.0.0/8 -j MARK --set-xmark 0x80000/0x80000",
                " -s 192.0.2.0/24 -j MARK --set-xmark 0x80000/0x80000",
                " -j MARK --set-xmark 0x0/0x100000",
                " -p 6 -m multiport --dports 80 -j MARK --set-xmark 0x100000/0x100000",
                " -m set --match-set cali40n:a dst,dst -j MARK --set-xmark 0x100000/0x100000",
                " -m mark --mark 0x0/0x100000 -j MARK --set-xmark 0x0/0x80000",
                " -p 6 -m mark --mark 0x80000/0x80000 -j MARK --set-xmark 0x10000/0x10000",
            ]
        );
    }

    #[test]
    fn more_than_fifteen_ports_are_split() {
        let many: Vec<(u16, u16)> = (0..9).map(|n| (n * 10 + 1, n * 10 + 5)).collect();
        let ports = |not| Match::Ports { end: End::Dst, not, ranges: ranges(&many) };
        let positive = text(vec![tcp(), ports(false)], ACCEPT);
        assert_eq!(positive.len(), 2);
        assert!(positive[1].contains("--dports 71:75,81:85"), "{positive:?}");
        let negative = text(vec![tcp(), ports(true)], ACCEPT);
        assert_eq!(negative.len(), 1);
        assert_eq!(negative[0].matches("! --dports").count(), 2);
    }

    #[test]
    fn a_log_of_a_list_is_written_once_for_a_packet() {
        let log = Action::Log { prefix: "calico-packet: ".to_owned() };
        let out = text(vec![nets(End::Src, false, &["10.0.0.0/8", "10.1.0.0/16"])], log);
        assert_eq!(out.iter().filter(|l| l.contains("LOG")).count(), 1);
    }

    #[test]
    fn both_protocol_and_not_protocol_make_one_match_or_none() {
        let not = |number| Match::Protocol { not: true, number };
        assert_eq!(text(vec![tcp(), not(17)], Action::Drop), [" -p 6 -j DROP"]);
        assert!(text(vec![tcp(), not(6)], Action::Drop).is_empty());
    }

    #[test]
    fn what_iptables_cannot_say_never_matches() {
        let ports = Match::Ports { end: End::Dst, not: false, ranges: ranges(&[(1, 1)]) };
        assert!(text(vec![Match::Protocol { not: false, number: 1 }, ports], Action::Accept).is_empty());
        let any_icmp = |not| Match::Icmp { not, icmp_type: 255, code: None };
        assert!(text(vec![any_icmp(false)], Action::Accept).is_empty());
        assert_eq!(text(vec![any_icmp(true)], Action::Drop), [" -p 1 -j DROP"]);
        for name in ["much-too-long-a-name", "a b", "x\n-A INPUT -j ACCEPT", "", "a\"", "mid+dle"] {
            assert!(text(vec![Match::InInterface(name.into())], Action::Accept).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_limit_is_asked_last_and_once_for_all_alternatives() {
        let limit = RateLimit { packets: 5, unit: TimeUnit::Minute, burst: 7 };
        let log = || Action::Log { prefix: "x".to_owned() };
        let one = text(vec![Match::Limit(limit), tcp()], log());
        assert_eq!(
            one,
            [" -p 6 -m limit --limit 5/minute --limit-burst 7 -j LOG --log-prefix \"x\" --log-level 5"]
        );
        let list = vec![nets(End::Src, false, &["10.0.0.0/8", "192.0.2.0/24"]), Match::Limit(limit)];
        let many = text(list, log());
        assert_eq!(many.iter().filter(|l| l.contains("--limit")).count(), 1);
        assert!(many.last().unwrap().contains("0x80000/0x80000 -m limit"), "{many:?}");
        let bursts = [(1, TimeUnit::Day, 1), (1, TimeUnit::Hour, 5), (2, TimeUnit::Day, 2)];
        for (packets, unit, want) in bursts {
            assert_eq!(burst(&RateLimit { packets, unit, burst: 5 }), want, "{packets} a {}", unit.name());
        }
    }

    #[test]
    fn a_rule_is_counted_where_it_acts() {
        let cx = Context { table: Table::Filter, family: Family::V4, marks: &Marks::default() };
        let at = |matches| {
            let (lines, before) = acting(&Rule::when(matches, ACCEPT), cx);
            (lines.len(), before)
        };
        let overlapping = nets(End::Src, false, &["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24"]);
        assert_eq!(at(vec![overlapping]), (2, 0));
        let both = [End::Src, End::Dst].map(|e| nets(e, false, &["10.0.0.0/8", "192.0.2.0/24"]));
        let (all, before) = at(both.to_vec());
        assert_eq!(before, all - 1);
        let (all, before) = at(vec![tcp(), port_or_set()]);
        assert_eq!(before, all - 1, "port and set may both hold");
    }

    #[test]
    fn a_log_prefix_cannot_leave_its_quotes() {
        let log = Action::Log { prefix: "a\"\n-A b\\ and a long rest of it all".to_owned() };
        assert_eq!(
            text(vec![], log),
            [" -j LOG --log-prefix \"a__-A b_ and a long rest of i\" --log-level 5"]
        );
    }
}
