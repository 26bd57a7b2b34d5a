//! `show route`.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Reply, RouteQuery};
use crate::config::{Policy, Source};
use crate::engine::{Channel, Engine, Instance, apply_policy};
use crate::filter::Filter;
use crate::rib::{Interner, Route, RouteSource, Table};
use crate::time::Time;

/// What a query means in this engine.
struct View<'a> {
    filter: Option<Policy>,
    protocol: Option<&'a Instance>,
    export: Option<(&'a Instance, bool)>,
}

impl Engine {
    pub(super) fn show_routes(&self, now: Time, query: &RouteQuery) -> Reply {
        let view = match self.view(query) {
            Ok(view) => view,
            Err(reply) => return reply,
        };
        for name in &query.tables {
            if self.table_index(name).is_none() {
                return Reply::end(9001, format!("syntax error, unexpected `{name}`, expecting a table"));
            }
        }
        let mut reply = Reply::end(0, "");
        let mut totals = (0, 0, 0, 0);
        for (index, table) in self.tables.iter().enumerate() {
            let asked = query.tables.is_empty() || query.tables.iter().any(|n| **n == *table.name);
            let family = [query.lookup, query.prefix, query.within]
                .into_iter()
                .flatten()
                .all(|net| bird_wire::Family::of(&net) == table.family);
            let channel = view.export.and_then(|(i, _)| i.channels.iter().find(|c| c.table == index));
            if !asked || !family || (view.export.is_some() && channel.is_none()) {
                continue;
            }
            self.show_table(now, query, &view, channel, table, &mut reply, &mut totals);
        }
        let (shown, all, nets, tables) = totals;
        if query.count {
            reply.end =
                (14, format!("Total: {shown} of {all} routes for {nets} networks in {tables} tables"));
        } else if shown == 0 && (query.lookup.is_some() || query.prefix.is_some()) {
            reply.end = (8001, "Network not found".into());
        }
        reply
    }

    fn view(&self, query: &RouteQuery) -> Result<View<'_>, Reply> {
        let find = |name: &String| {
            self.in_order().find(|i| *i.config.name == **name).ok_or_else(|| {
                Reply::end(9001, format!("syntax error, unexpected `{name}`, expecting a protocol"))
            })
        };
        let filter = match (&query.filter, &query.condition) {
            (Some(name), _) => {
                let known = self.config.filters.iter().find(|f| f.name.as_deref() == Some(name));
                Some(Policy::Filter(
                    known.cloned().ok_or_else(|| Reply::end(9001, format!("No such filter {name}")))?,
                ))
            }
            (None, Some(text)) => Some(Policy::Filter(condition(text)?)),
            (None, None) => None,
        };
        let export = match &query.export {
            Some(e) => Some((find(&e.protocol)?, e.negated)),
            None => None,
        };
        Ok(View { filter, protocol: query.protocol.as_ref().map(find).transpose()?, export })
    }

    #[allow(clippy::too_many_arguments)]
    fn show_table(
        &self,
        now: Time,
        query: &RouteQuery,
        view: &View<'_>,
        channel: Option<&Channel>,
        table: &Table,
        reply: &mut Reply,
        totals: &mut (usize, usize, usize, usize),
    ) {
        let mut printed = false;
        let (mut shown, mut nets) = (0, 0);
        let mut each = |prefix: IpNet, routes: &[Route]| {
            let count = if query.primary || view.export.is_some() { 1 } else { routes.len() };
            nets += 1;
            let mut first = true;
            for (i, route) in routes.iter().take(count).enumerate() {
                let Some(route) = self.seen(query, view, channel, prefix, route) else { continue };
                shown += 1;
                if query.count {
                    continue;
                }
                if !std::mem::replace(&mut printed, true) {
                    if !reply.lines.is_empty() {
                        reply.line(1007, "");
                    }
                    reply.line(1007, format!("Table {}:", table.name));
                }
                let label =
                    if std::mem::replace(&mut first, false) { prefix.to_string() } else { String::new() };
                self.show_one(now, query, &label, &route, i == 0, reply);
            }
        };
        if let Some(net) = query.lookup {
            if let Some((prefix, routes)) = table.lookup(&net) {
                each(prefix, routes);
            }
        } else if let Some(net) = query.prefix {
            each(net, table.get(&net));
        } else {
            for (prefix, routes) in table.iter().filter(|(p, _)| query.within.is_none_or(|w| w.contains(p))) {
                each(prefix, routes);
            }
        }
        if query.count {
            reply.line(
                1007,
                format!("{shown} of {} routes for {nets} networks in table {}", table.routes(), table.name),
            );
        }
        *totals = (totals.0 + shown, totals.1 + table.routes(), totals.2 + nets, totals.3 + 1);
    }

    /// The route as the query wants to see it; `None` when it does not.
    fn seen(
        &self,
        query: &RouteQuery,
        view: &View<'_>,
        channel: Option<&Channel>,
        prefix: IpNet,
        route: &Route,
    ) -> Option<Route> {
        if query.filtered || view.protocol.is_some_and(|p| p.id != route.origin.proto) {
            return None;
        }
        let mut scratch = Interner::default();
        let mut route = route.clone();
        if let (Some((instance, negated)), Some(channel)) = (view.export, channel) {
            let passed = if route.origin.proto == instance.id {
                None
            } else {
                apply_policy(&channel.config.export, prefix, route.clone(), &mut scratch, "show route")
            };
            route = match (passed, negated) {
                (Some(passed), false) => passed,
                (None, true) => route,
                _ => return None,
            };
        }
        match &view.filter {
            Some(filter) => apply_policy(filter, prefix, route, &mut scratch, "show route"),
            None => Some(route),
        }
    }

    fn show_one(
        &self,
        now: Time,
        query: &RouteQuery,
        label: &str,
        route: &Route,
        best: bool,
        reply: &mut Reply,
    ) {
        let since = self.format_time(&self.config.time.route, route.since, now);
        let gateway = route.dest.first_hop().and_then(|h| h.gateway);
        let from = route.origin.from.filter(|from| Some(*from) != gateway);
        let from = from.map_or_else(String::new, |f| format!(" from {f}"));
        let mark = if best { " *" } else { "" };
        let stale = if route.stale { "s" } else { "" };
        let info = match &route.origin.bgp {
            Some(_) => {
                let path = route.attrs.bgp.as_path.as_ref();
                let last =
                    path.and_then(bird_wire::AsPath::last).map_or_else(String::new, |a| format!("AS{a}"));
                let origin = match route.attrs.bgp.origin {
                    Some(bird_wire::Origin::Igp) => "i",
                    Some(bird_wire::Origin::Egp) => "e",
                    _ => "?",
                };
                format!(" ({}) [{last}{origin}{stale}]", cost(route))
            }
            None => format!(" ({})", route.preference),
        };
        reply.line(
            1007,
            format!("{label:<20} {} [{} {since}{from}]{mark}{info}", route.dest.label(), route.origin.name),
        );
        for hop in route.dest.hops() {
            let onlink = if hop.onlink { " onlink" } else { "" };
            let weight =
                if route.dest.hops().len() > 1 { format!(" weight {}", hop.weight) } else { String::new() };
            let text = match hop.gateway {
                Some(gateway) => format!("\tvia {gateway} on {}{onlink}{weight}", hop.iface.name),
                None => format!("\tdev {}{weight}", hop.iface.name),
            };
            reply.line(1007, text);
        }
        if query.all {
            attributes(route, reply);
        }
    }
}

/// Preference, and the interior cost when it is known.
fn cost(route: &Route) -> String {
    match route.igp_metric {
        0 | crate::rib::IGP_METRIC_UNKNOWN => route.preference.to_string(),
        metric => format!("{}/{metric}", route.preference),
    }
}

fn attributes(route: &Route, reply: &mut Reply) {
    reply.line(1008, format!("\tType: {} univ", route.origin.source.label()));
    let mut put = |text: String| reply.line(1012, format!("\t{text}"));
    let attrs = &route.attrs;
    if route.origin.source == RouteSource::Inherit
        && let Some(source) = attrs.krt_source
    {
        put(format!("Kernel.source: {source}"));
    }
    if let Some(metric) = attrs.krt_metric {
        put(format!("Kernel.metric: {metric}"));
    }
    let bgp = &attrs.bgp;
    if let Some(origin) = bgp.origin {
        put(format!("BGP.origin: {origin}"));
    }
    if let Some(path) = &bgp.as_path {
        put(format!("BGP.as_path: {path}"));
    }
    if let Some(next_hop) = bgp.next_hop {
        let link = next_hop.link_local.map_or_else(String::new, |l| format!(" {l}"));
        put(format!("BGP.next_hop: {}{link}", next_hop.global));
    }
    if let Some(med) = bgp.med {
        put(format!("BGP.med: {med}"));
    }
    if let Some(pref) = bgp.local_pref {
        put(format!("BGP.local_pref: {pref}"));
    }
    if bgp.atomic_aggregate {
        put("BGP.atomic_aggr: ".into());
    }
    if let Some(a) = bgp.aggregator {
        put(format!("BGP.aggregator: {} AS{}", a.id, a.asn));
    }
    let join = |items: Vec<String>| items.join(" ");
    if !bgp.communities.is_empty() {
        put(format!(
            "BGP.community: {}",
            join(bgp.communities.iter().map(|c| format!("({},{})", c >> 16, c & 0xffff)).collect())
        ));
    }
    if let Some(id) = bgp.originator_id {
        put(format!("BGP.originator_id: {id}"));
    }
    if !bgp.cluster_list.is_empty() {
        let ids = bgp.cluster_list.iter().map(|c| std::net::Ipv4Addr::from(*c).to_string());
        put(format!("BGP.cluster_list: {}", join(ids.collect())));
    }
    if !bgp.ext_communities.is_empty() {
        let list = bgp
            .ext_communities
            .iter()
            .map(|c| format!("(generic, 0x{:x}, 0x{:x})", c >> 32, c & 0xffff_ffff));
        put(format!("BGP.ext_community: {}", join(list.collect())));
    }
    if !bgp.large_communities.is_empty() {
        let list = bgp.large_communities.iter().map(|c| format!("({}, {}, {})", c.0, c.1, c.2));
        put(format!("BGP.large_community: {}", join(list.collect())));
    }
    for unknown in &bgp.unknown {
        let hex: String = unknown.data.iter().map(|b| format!("{b:02x} ")).collect();
        put(format!("BGP.{:02x} [t]: {}", unknown.code, hex.trim_end()));
    }
}

/// A filter made of the text after `where`.
fn condition(text: &str) -> Result<Arc<Filter>, Reply> {
    let source = Source::from_text("<where>", &format!("filter shown {{ if {text} then accept; reject; }}"));
    let config = crate::config::parse(&source).map_err(|e| Reply::end(9001, e.message))?;
    config.filters.first().cloned().ok_or_else(|| Reply::end(9001, "syntax error"))
}
