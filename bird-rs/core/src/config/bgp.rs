//! Options of `protocol bgp` and of its channels.

use std::net::IpAddr;

use super::error::ConfigError;
use super::lexer::Kind;
use super::parser::Parser;
use super::types::{BgpConfig, ChannelConfig, Gateway, GracefulMode, NextHopScope, PeerAs, ProtocolConfig};

type Result<T> = std::result::Result<T, ConfigError>;

/// Distance that `multihop` without a number allows; BIRD's value.
pub(super) const DEFAULT_HOPS: u8 = 64;

/// What must hold at the end of a block.
pub(super) fn check(bgp: &BgpConfig, proto: &ProtocolConfig) -> std::result::Result<(), String> {
    if bgp.local_as == 0 {
        return Err("Local AS number must be set".into());
    }
    if bgp.neighbor.is_unspecified() {
        return Err("Neighbor must be configured".into());
    }
    if bgp.neighbor_as == PeerAs::Number(0) {
        return Err("Remote AS number must be set".into());
    }
    if bgp.local_address.is_some_and(|a| a.is_ipv4() != bgp.neighbor.is_ipv4()) {
        return Err("Local address and neighbor must be of the same family".into());
    }
    if bgp.rr_client && !bgp.is_internal() {
        return Err("Only internal neighbor can be RR client".into());
    }
    if bgp.ttl_security && bgp.hops() == Some(255) {
        return Err("TTL security needs the number of hops".into());
    }
    let link_local = matches!(bgp.neighbor, IpAddr::V6(a) if a.is_unicast_link_local());
    if link_local && bgp.interface.is_none() {
        return Err("Link-local neighbor address requires specified interface".into());
    }
    if proto.channels.is_empty() {
        return Err("No channel specified".into());
    }
    Ok(())
}

impl Parser {
    pub(super) fn bgp_option(&mut self, bgp: &mut BgpConfig) -> Result<bool> {
        if self.bgp_ends(bgp)? || self.bgp_timers(bgp)? || self.bgp_capabilities(bgp)? {
            return Ok(true);
        }
        if self.word("multihop") {
            bgp.multihop = Some(match self.peek() {
                Kind::Number(_) => u8::try_from(self.number_in(1, 255, "Multihop")?).unwrap_or(255),
                _ => DEFAULT_HOPS,
            });
        } else if self.word("direct") {
            bgp.multihop = Some(0);
        } else if self.words(&["ttl", "security"]) {
            bgp.ttl_security = self.switch()?;
        } else if self.words(&["strict", "bind"]) {
            bgp.strict_bind = self.switch()?;
        } else if self.word("password") {
            bgp.password = Some(self.text()?).filter(|p| !p.is_empty());
        } else if self.word("authentication") {
            if !(self.word("none") || self.word("md5")) {
                return self.fail("only authentication md5 is supported");
            }
        } else if self.word("setkey") {
            // The key is always set by this daemon itself.
            self.switch()?;
        } else if self.word("passive") {
            bgp.passive = self.switch()?;
        } else if self.words(&["rr", "client"]) {
            bgp.rr_client = self.switch()?;
        } else if self.words(&["rr", "cluster", "id"]) {
            bgp.rr_cluster_id = Some(self.router_id()?);
        } else if self.words(&["disable", "after", "error"]) {
            bgp.disable_after_error = self.switch()?;
        } else if self.words(&["allow", "local", "as"]) {
            bgp.allow_local_as = match self.peek() {
                Kind::Number(_) => u8::try_from(self.number_in(0, 255, "Allow local AS")?).unwrap_or(255),
                _ => 255,
            };
        } else if self.words(&["allow", "bgp_local_pref"]) {
            bgp.allow_local_pref = self.switch()?;
        } else if self.words(&["default", "bgp_med"]) {
            bgp.default_med = self.number()?;
        } else if self.words(&["default", "bgp_local_pref"]) {
            bgp.default_local_pref = self.number()?;
        } else if self.words(&["path", "metric"]) {
            bgp.path_metric = self.switch()?;
        } else if self.words(&["med", "metric"]) {
            bgp.med_metric = self.switch()?;
        } else if self.words(&["deterministic", "med"]) || self.words(&["igp", "metric"]) {
            // Selection here always groups by neighbouring AS and compares the interior cost.
            if !self.switch()? {
                return self.fail("this cannot be turned off");
            }
        } else if self.words(&["interpret", "communities"]) {
            bgp.interpret_communities = self.switch()?;
        } else if self.words(&["check", "link"]) || self.words(&["advertise", "hostname"]) {
            self.switch()?;
        } else if self.word("bfd") {
            if self.switch()? {
                return self.fail("bfd is not supported");
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn bgp_ends(&mut self, bgp: &mut BgpConfig) -> Result<bool> {
        if self.word("local") {
            if let Kind::Address(_) = self.peek() {
                bgp.local_address = Some(self.address()?);
            }
            loop {
                if self.word("port") {
                    bgp.local_port = self.port()?;
                } else if self.word("as") {
                    bgp.local_as = self.number_in(1, u32::MAX, "AS number")?;
                } else {
                    return Ok(true);
                }
            }
        }
        if self.word("neighbor") {
            if self.word("range") {
                return self.fail("dynamic neighbors (neighbor range) are not supported");
            }
            if let Kind::Address(_) = self.peek() {
                bgp.neighbor = self.address()?;
                if self.punct("%") {
                    bgp.interface = Some(self.interface_name()?);
                }
            }
            loop {
                if self.word("port") {
                    bgp.neighbor_port = self.port()?;
                } else if self.word("as") {
                    bgp.neighbor_as = PeerAs::Number(self.number_in(1, u32::MAX, "AS number")?);
                } else if self.word("internal") {
                    bgp.neighbor_as = PeerAs::Internal;
                } else if self.word("external") {
                    bgp.neighbor_as = PeerAs::External;
                } else {
                    return Ok(true);
                }
            }
        }
        if self.word("interface") {
            bgp.interface = Some(self.interface_name()?);
        } else if self.words(&["source", "address"]) {
            bgp.local_address = Some(self.address()?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn bgp_timers(&mut self, bgp: &mut BgpConfig) -> Result<bool> {
        if self.words(&["graceful", "restart", "time"]) {
            bgp.graceful_restart_time_secs = self.seconds16(0, "Graceful restart time")?.min(4095);
        } else if self.words(&["graceful", "restart"]) {
            bgp.graceful_restart = if self.word("aware") {
                GracefulMode::Aware
            } else if self.switch()? {
                GracefulMode::On
            } else {
                GracefulMode::Off
            };
        } else if self.words(&["hold", "time"]) {
            let place = self.place();
            bgp.hold_time_secs = self.seconds16(0, "Hold time")?;
            if bgp.hold_time_secs == 1 || bgp.hold_time_secs == 2 {
                return Err(ConfigError::new(&place, "Hold time must be either 0 or at least 3".into()));
            }
        } else if self.words(&["startup", "hold", "time"]) {
            bgp.startup_hold_time_secs = self.seconds16(0, "Startup hold time")?;
        } else if self.words(&["keepalive", "time"]) {
            bgp.keepalive_secs = Some(self.seconds16(1, "Keepalive time")?);
        } else if self.words(&["connect", "delay", "time"]) {
            bgp.connect_delay_secs = self.number()?;
        } else if self.words(&["connect", "retry", "time"]) {
            bgp.connect_retry_secs = self.number()?;
        } else if self.words(&["error", "wait", "time"]) {
            let low = self.number()?;
            self.expect(",")?;
            let high = self.number()?;
            bgp.error_wait_secs = (low, high.max(low));
        } else if self.words(&["error", "forget", "time"]) {
            bgp.error_forget_secs = self.number()?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn bgp_capabilities(&mut self, bgp: &mut BgpConfig) -> Result<bool> {
        if self.words(&["enable", "route", "refresh"]) {
            bgp.route_refresh = self.switch()?;
        } else if self.words(&["enable", "as4"]) {
            bgp.as4 = self.switch()?;
        } else if self.words(&["enable", "extended", "messages"]) {
            bgp.extended_messages = self.switch()?;
        } else if self.word("capabilities") {
            bgp.capabilities = self.switch()?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    pub(super) fn bgp_channel_option(&mut self, channel: &mut ChannelConfig) -> Result<()> {
        if self.words(&["next", "hop", "self"]) {
            channel.next_hop_self = self.next_hop_scope()?;
        } else if self.words(&["next", "hop", "keep"]) {
            channel.next_hop_keep = self.next_hop_scope()?;
        } else if self.words(&["next", "hop", "address"]) {
            channel.next_hop_address = Some(self.address()?);
        } else if self.words(&["gateway", "direct"]) {
            channel.gateway = Some(Gateway::Direct);
        } else if self.words(&["gateway", "recursive"]) {
            channel.gateway = Some(Gateway::Recursive);
        } else if self.words(&["add", "paths"]) {
            channel.add_paths = if self.word("rx") {
                (true, false)
            } else if self.word("tx") {
                (false, true)
            } else {
                let on = self.switch()?;
                (on, on)
            };
        } else if self.words(&["graceful", "restart"]) {
            channel.graceful_restart = Some(self.switch()?);
        } else if self.words(&["igp", "table"]) {
            let table = self.table(channel.family)?;
            if table != channel.table {
                return self.fail("next hops are looked up in the table of the channel itself");
            }
        } else if self.word("mandatory") || self.words(&["import", "keep"]) {
            self.switch()?;
        } else {
            return self.unexpected("an option of a BGP channel");
        }
        Ok(())
    }

    fn next_hop_scope(&mut self) -> Result<NextHopScope> {
        if self.word("ibgp") {
            return Ok(NextHopScope::Ibgp);
        }
        if self.word("ebgp") {
            return Ok(NextHopScope::Ebgp);
        }
        Ok(if self.switch()? { NextHopScope::Always } else { NextHopScope::Never })
    }
}
