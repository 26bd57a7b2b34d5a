//! `show protocols [all]`.

use bird_wire::{Capability, Family, Open};

use super::Reply;
use crate::engine::{Channel, Engine, Instance, Kind, State};
use crate::filter::glob_matches;
use crate::protocol::Bgp;
use crate::time::Time;

impl Engine {
    /// Instances in the order of the configuration.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Instance> {
        self.order.iter().filter_map(|id| self.instances.get(id))
    }

    pub(super) fn show_protocols(&self, now: Time, all: bool, pattern: Option<&str>) -> Reply {
        let mut reply = Reply::end(0, "");
        let chosen: Vec<&Instance> =
            self.in_order().filter(|i| pattern.is_none_or(|p| glob_matches(p, &i.config.name))).collect();
        if chosen.is_empty()
            && let Some(pattern) = pattern
        {
            return Reply::end(8003, format!("No protocols match {pattern}"));
        }
        reply.line(2002, "Name       Proto      Table      State  Since         Info");
        for instance in chosen {
            reply.line(1002, self.protocol_line(now, instance));
            if all {
                self.protocol_details(now, instance, &mut reply);
                reply.line(1006, "");
            }
        }
        reply
    }

    fn protocol_line(&self, now: Time, instance: &Instance) -> String {
        let table = match (&instance.kind, instance.channels.as_slice()) {
            (Kind::Kernel(_) | Kind::Static(_), [channel]) => &*channel.config.table,
            _ => "---",
        };
        let since = self.format_time(&self.config.time.protocol, instance.since, now);
        let info = match &instance.kind {
            Kind::Bgp(bgp) => bgp_info(instance, bgp),
            _ => instance.message.clone(),
        };
        format!(
            "{:<10} {:<10} {table:<10} {:<6} {since:<12}  {info}",
            instance.config.name,
            instance.config.kind.label(),
            instance.state.label()
        )
    }

    fn protocol_details(&self, now: Time, instance: &Instance, reply: &mut Reply) {
        if let Some(description) = &instance.config.description {
            reply.line(1006, format!("  Description:    {description}"));
        }
        if !instance.message.is_empty() {
            reply.line(1006, format!("  Message:        {}", instance.message));
        }
        if let Some(id) = instance.config.router_id {
            reply.line(1006, format!("  Router ID:      {id}"));
        }
        if let Kind::Bgp(bgp) = &instance.kind {
            self.bgp_details(now, instance, bgp, reply);
        }
        for (i, channel) in instance.channels.iter().enumerate() {
            self.channel_details(instance, i, channel, reply);
        }
    }

    fn bgp_details(&self, now: Time, instance: &Instance, bgp: &Bgp, reply: &mut Reply) {
        let config = &bgp.session.config().bgp;
        let mut put = |text: String| reply.line(1006, text);
        put(format!("  BGP state:          {}", bgp.session.state_name()));
        let interface = config.interface.as_deref().map_or_else(String::new, |i| format!("%{i}"));
        put(format!("    Neighbor address: {}{interface}", config.neighbor));
        if config.neighbor_port != 179 {
            put(format!("    Neighbor port:    {}", config.neighbor_port));
        }
        match config.neighbor_as {
            crate::config::PeerAs::Number(asn) => put(format!("    Neighbor AS:      {asn}")),
            crate::config::PeerAs::Internal => put(format!("    Neighbor AS:      {}", config.local_as)),
            crate::config::PeerAs::External => {}
        }
        put(format!("    Local AS:         {}", config.local_as));
        if bgp.session.neighbor_restarting {
            put("    Neighbor graceful restart active".into());
        }
        if let Some(negotiated) = &bgp.session.negotiated {
            put(format!("    Neighbor ID:      {}", negotiated.peer_open.id));
            put("    Local capabilities".into());
            capabilities(&negotiated.local_open, &mut put);
            put("    Neighbor capabilities".into());
            capabilities(&negotiated.peer_open, &mut put);
            let internal = if negotiated.ctx.external { "external" } else { "internal" };
            let multihop = if config.hops().is_some() { " multihop" } else { "" };
            let reflector = if config.rr_client { " route-reflector" } else { "" };
            let as4 = if negotiated.ctx.as4 { " AS4" } else { "" };
            let extended = if negotiated.ctx.extended { " ext-messages" } else { "" };
            put(format!("    Session:          {internal}{multihop}{reflector}{as4}{extended}"));
            if let Some(address) = negotiated.local_address {
                put(format!("    Source address:   {address}"));
            }
            put(format!(
                "    Hold timer:       {}",
                remaining(bgp.session.hold_deadline, now, negotiated.hold_secs)
            ));
            let keepalive = remaining(bgp.session.keepalive_deadline, now, negotiated.keepalive_secs);
            put(format!("    Keepalive timer:  {keepalive}"));
        }
        if instance.state != State::Up
            && let Some(error) = &bgp.session.last_error
        {
            put(format!("    Last error:       {}: {}", error.class, error.text));
        }
    }

    fn channel_details(&self, instance: &Instance, index: usize, channel: &Channel, reply: &mut Reply) {
        let mut put = |text: String| reply.line(1006, text);
        put(format!("  Channel {}", channel.config.family));
        put(format!("    State:          {}", if channel.up { "UP" } else { "DOWN" }));
        put(format!("    Table:          {}", channel.config.table));
        put(format!("    Preference:     {}", instance.preference(index)));
        put(format!("    Input filter:   {}", channel.config.import.label()));
        put(format!("    Output filter:  {}", channel.config.export.label()));
        if let Some(limit) = channel.config.import_limit {
            put(format!("    Import limit:   {}", limit.routes));
            put(format!("      Action:       {}", format!("{:?}", limit.action).to_lowercase()));
        }
        if channel.up || channel.imported > 0 {
            let preferred = self.preferred(instance, channel);
            put(format!(
                "    Routes:         {} imported, {} exported, {preferred} preferred",
                channel.imported, channel.exported
            ));
            put("    Route change stats:     received   rejected   filtered    ignored   accepted".into());
            let s = &channel.stats;
            let c = &s.import_updates;
            put(format!(
                "      Import updates:     {:>10} {:>10} {:>10} {:>10} {:>10}",
                c.received, c.rejected, c.filtered, c.ignored, c.accepted
            ));
            let c = &s.import_withdraws;
            put(format!(
                "      Import withdraws:   {:>10} {:>10}        --- {:>10} {:>10}",
                c.received, c.rejected, c.ignored, c.accepted
            ));
            let c = &s.export_updates;
            put(format!(
                "      Export updates:     {:>10} {:>10} {:>10}        --- {:>10}",
                c.received, c.rejected, c.filtered, c.accepted
            ));
            put(format!(
                "      Export withdraws:   {:>10}        ---        ---        --- {:>10}",
                s.export_withdraws.accepted, s.export_withdraws.accepted
            ));
        }
        if let Kind::Bgp(bgp) = &instance.kind {
            if let Some(negotiated) = bgp.session.negotiated.as_ref().filter(|_| channel.up) {
                let ipv6 = channel.config.family == Family::Ipv6;
                let local = negotiated.local_address;
                let own = local.filter(|a| a.is_ipv6() == ipv6);
                let next_hop = own.or_else(|| self.interfaces.sibling(local?, ipv6));
                if let Some(next_hop) = next_hop {
                    put(format!("    BGP Next hop:   {next_hop}"));
                }
            }
            let family = if channel.config.family == Family::Ipv6 { "IPv6" } else { "IPv4" };
            put(format!("    IGP {family} table: {}", channel.config.table));
        }
    }

    fn preferred(&self, instance: &Instance, channel: &Channel) -> usize {
        let Some(table) = self.tables.get(channel.table) else { return 0 };
        if channel.imported == 0 {
            return 0;
        }
        table
            .iter()
            .filter(|(_, routes)| routes.first().is_some_and(|r| r.origin.proto == instance.id))
            .count()
    }
}

fn bgp_info(instance: &Instance, bgp: &Bgp) -> String {
    if instance.state == State::Down {
        return instance.message.clone();
    }
    let error = bgp.session.last_error.as_ref().filter(|_| instance.state != State::Up);
    let error = error.map_or_else(String::new, |e| format!("{}: {}", e.class, e.text));
    format!("{:<14}{error}", bgp.session.state_name())
}

fn remaining(deadline: Option<Time>, now: Time, total_secs: u16) -> String {
    let left = deadline.map_or(0, |at| at.since(now));
    format!("{}.{:03}/{total_secs}", left / 1_000_000, left / 1000 % 1000)
}

fn capabilities(open: &Open, put: &mut impl FnMut(String)) {
    let families = |list: &[Family]| list.iter().map(|f| format!(" {f}")).collect::<String>();
    if open.capabilities.iter().any(|c| matches!(c, Capability::Multiprotocol(_))) {
        put("      Multiprotocol".into());
        put(format!("        AF announced:{}", families(&open.families())));
    }
    if open.has(&Capability::RouteRefresh) {
        put("      Route refresh".into());
    }
    if open.has(&Capability::ExtendedMessage) {
        put("      Extended message".into());
    }
    if let Some(gr) = open.graceful_restart() {
        put("      Graceful restart".into());
        if !gr.families.is_empty() {
            let all: Vec<Family> = gr.families.iter().map(|(f, _)| *f).collect();
            let kept: Vec<Family> = gr.families.iter().filter(|(_, p)| *p).map(|(f, _)| *f).collect();
            put(format!("        Restart time: {}", gr.restart_time_secs));
            if gr.restarting {
                put("        Restart recovery".into());
            }
            put(format!("        AF supported:{}", families(&all)));
            put(format!("        AF preserved:{}", families(&kept)));
        }
    }
    if open.as4().is_some() {
        put("      4-octet AS numbers".into());
    }
    let several = |pick: fn((bool, bool)) -> bool| -> Vec<Family> {
        Family::ALL.into_iter().filter(|f| pick(open.add_path(*f))).collect()
    };
    let (receive, send) = (several(|(rx, _)| rx), several(|(_, tx)| tx));
    if !receive.is_empty() || !send.is_empty() {
        put("      ADD-PATH".into());
        if !receive.is_empty() {
            put(format!("        RX:{}", families(&receive)));
        }
        if !send.is_empty() {
            put(format!("        TX:{}", families(&send)));
        }
    }
    if open.has(&Capability::EnhancedRefresh) {
        put("      Enhanced refresh".into());
    }
}
