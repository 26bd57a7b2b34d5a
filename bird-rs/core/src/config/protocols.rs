//! `protocol` and `template` blocks: what all have in common, channels, and device, direct, kernel and static.

use std::sync::Arc;

use bird_wire::Family;

use super::error::ConfigError;
use super::lexer::Kind;
use super::parser::{Parser, Symbol};
use super::types::{
    ChannelConfig, DeviceConfig, DirectConfig, InterfacePattern, KernelConfig, Limit, LimitAction,
    ProtocolConfig, ProtocolKind, StaticConfig, StaticNextHop, StaticRoute, StaticTarget,
};

type Result<T> = std::result::Result<T, ConfigError>;

/// Most next hops of a merged route unless `limit` says otherwise; BIRD's value.
const DEFAULT_MERGE_LIMIT: usize = 16;

impl Parser {
    pub(super) fn protocol(&mut self, template: bool) -> Result<()> {
        let kinds = ["device", "direct", "kernel", "static", "bgp"];
        let Some(kind) = kinds.into_iter().find(|k| self.at_word(k)) else {
            return self.unexpected("a protocol type (device, direct, kernel, static or bgp)");
        };
        self.next();
        let place = self.place();
        let name = if self.at_punct("{") || self.at_word("from") { None } else { Some(self.name()?) };
        let mut proto = if self.word("from") { self.base(kind)? } else { new_protocol(kind) };
        let name = match name {
            Some(name) => name,
            None => self.numbered(kind),
        };
        proto.name = Arc::from(name.as_str());
        self.block(&mut proto)?;
        if template {
            return self.define(&place, name, Symbol::Template(Box::new(proto)));
        }
        self.complete(&place, &mut proto)?;
        self.define(&place, name, Symbol::Protocol)?;
        self.config.protocols.push(Arc::new(proto));
        Ok(())
    }

    /// The template or protocol named after `from`.
    fn base(&mut self, kind: &str) -> Result<ProtocolConfig> {
        let place = self.place();
        let name = self.name()?;
        let base = match self.symbols.get(&name) {
            Some(Symbol::Template(base)) => Some((**base).clone()),
            Some(Symbol::Protocol) => {
                self.config.protocols.iter().find(|p| *p.name == *name).map(|p| (**p).clone())
            }
            _ => None,
        };
        match base {
            Some(base) if base.kind.label().eq_ignore_ascii_case(kind) => Ok(base),
            Some(_) => Err(ConfigError::new(&place, format!("{name} is not a template of type {kind}"))),
            None => Err(ConfigError::new(&place, format!("No such template {name}"))),
        }
    }

    fn block(&mut self, proto: &mut ProtocolConfig) -> Result<()> {
        if !self.at_punct("{") {
            // A protocol that adds nothing to its template may end at once.
            return if self.punct(";") { Ok(()) } else { self.unexpected("`{`") };
        }
        self.expect("{")?;
        while !self.punct("}") {
            if self.punct(";") {
                continue;
            }
            if self.at_word("ipv4") || self.at_word("ipv6") {
                self.channel(proto)?;
                continue;
            }
            if !self.common_option(proto)? {
                let place = self.place();
                let mut kind =
                    std::mem::replace(&mut proto.kind, ProtocolKind::Static(StaticConfig::default()));
                let known = match &mut kind {
                    ProtocolKind::Device(device) => self.device_option(device),
                    ProtocolKind::Direct(direct) => self.direct_option(direct),
                    ProtocolKind::Kernel(kernel) => self.kernel_option(kernel),
                    ProtocolKind::Static(routes) => self.static_option(routes),
                    ProtocolKind::Bgp(bgp) => self.bgp_option(bgp),
                };
                proto.kind = kind;
                if !known? {
                    let label = proto.kind.label().to_lowercase();
                    return Err(ConfigError::new(
                        &place,
                        format!(
                            "syntax error, unexpected {}, expecting an option of protocol {label}",
                            self.peek()
                        ),
                    ));
                }
            }
            self.expect(";")?;
        }
        self.punct(";");
        Ok(())
    }

    fn common_option(&mut self, proto: &mut ProtocolConfig) -> Result<bool> {
        if self.word("disabled") {
            proto.disabled = self.switch()?;
        } else if self.word("debug") {
            proto.debug = self.debug_flags()?;
        } else if self.word("mrtdump") {
            self.debug_flags()?;
        } else if self.word("description") {
            proto.description = Some(self.text()?);
        } else if self.words(&["router", "id"]) {
            proto.router_id = Some(self.router_id()?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    // --- channels ---

    fn channel(&mut self, proto: &mut ProtocolConfig) -> Result<()> {
        let family = if self.word("ipv4") {
            Family::Ipv4
        } else {
            self.next();
            Family::Ipv6
        };
        let mut channel = match proto.channels.iter().position(|c| c.family == family) {
            Some(i) => proto.channels.remove(i),
            None => ChannelConfig::new(family),
        };
        if self.punct("{") {
            while !self.punct("}") {
                if self.punct(";") {
                    continue;
                }
                self.channel_option(&mut channel, matches!(proto.kind, ProtocolKind::Bgp(_)))?;
                self.expect(";")?;
            }
        }
        proto.channels.push(channel);
        proto.channels.sort_by_key(|c| c.family);
        self.punct(";");
        Ok(())
    }

    fn channel_option(&mut self, channel: &mut ChannelConfig, bgp: bool) -> Result<()> {
        if self.words(&["import", "limit"]) || self.words(&["receive", "limit"]) {
            channel.import_limit = self.limit()?;
        } else if self.words(&["export", "limit"]) {
            channel.export_limit = self.limit()?;
        } else if self.words(&["import", "keep", "filtered"]) || self.words(&["import", "table"]) {
            // Rejected routes are asked for again by route refresh; keeping them changes memory, not meaning.
            self.switch()?;
        } else if self.words(&["export", "table"]) {
            self.switch()?;
        } else if self.word("import") {
            channel.import = self.policy()?;
        } else if self.word("export") {
            channel.export = self.policy()?;
        } else if self.word("table") {
            channel.table = self.table(channel.family)?;
        } else if self.word("preference") {
            channel.preference = Some(self.number_in(0, 65535, "Preference")?);
        } else if self.word("debug") {
            self.debug_flags()?;
        } else if bgp {
            return self.bgp_channel_option(channel);
        } else {
            return self.unexpected("an option of a channel");
        }
        Ok(())
    }

    fn limit(&mut self) -> Result<Option<Limit>> {
        if self.word("off") {
            return Ok(None);
        }
        let routes = self.number()?;
        let mut action = LimitAction::Disable;
        if self.word("action") {
            action = if self.word("warn") {
                LimitAction::Warn
            } else if self.word("block") {
                LimitAction::Block
            } else if self.word("restart") {
                LimitAction::Restart
            } else if self.word("disable") {
                LimitAction::Disable
            } else {
                return self.unexpected("warn, block, restart or disable");
            };
        }
        Ok(Some(Limit { routes, action }))
    }

    // --- kinds ---

    fn device_option(&mut self, device: &mut DeviceConfig) -> Result<bool> {
        if self.words(&["scan", "time"]) {
            device.scan_secs = self.number_in(1, 3600, "Scan time")?;
            return Ok(true);
        }
        Ok(false)
    }

    fn direct_option(&mut self, direct: &mut DirectConfig) -> Result<bool> {
        if self.word("interface") {
            direct.interfaces.extend(self.interface_patterns()?);
        } else if self.words(&["check", "link"]) {
            self.switch()?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn interface_patterns(&mut self) -> Result<Vec<InterfacePattern>> {
        let mut out = Vec::new();
        loop {
            let negated = self.punct("-");
            let name = match self.peek() {
                Kind::Text(_) => Some(self.text()?),
                _ => None,
            };
            let prefix = match self.peek() {
                Kind::Address(_) => Some(self.prefix()?),
                _ => None,
            };
            if name.is_none() && prefix.is_none() {
                return self.unexpected("an interface pattern");
            }
            out.push(InterfacePattern { negated, name, prefix });
            if !self.punct(",") {
                return Ok(out);
            }
        }
    }

    fn kernel_option(&mut self, kernel: &mut KernelConfig) -> Result<bool> {
        if self.words(&["scan", "time"]) {
            kernel.scan_secs = self.number_in(1, 3600, "Scan time")?;
        } else if self.words(&["kernel", "table"]) {
            kernel.table = self.number()?;
        } else if self.word("learn") {
            kernel.learn = self.word("all") || self.switch()?;
        } else if self.word("persist") {
            kernel.persist = self.switch()?;
        } else if self.words(&["graceful", "restart"]) {
            kernel.graceful_restart = self.switch()?;
        } else if self.word("metric") {
            kernel.metric = self.number()?;
        } else if self.words(&["merge", "paths"]) {
            let on = if self.at_word("limit") { true } else { self.switch_or_limit()? };
            let limit = if self.word("limit") {
                self.number_in(1, 255, "Merge paths limit")? as usize
            } else {
                DEFAULT_MERGE_LIMIT
            };
            kernel.merge_paths = on.then_some(limit);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn switch_or_limit(&mut self) -> Result<bool> {
        self.switch()
    }

    fn static_option(&mut self, config: &mut StaticConfig) -> Result<bool> {
        if self.words(&["check", "link"]) {
            self.switch()?;
            return Ok(true);
        }
        if !self.word("route") {
            return Ok(false);
        }
        let prefix = self.prefix()?;
        let target = if self.word("blackhole") || self.word("drop") {
            StaticTarget::Blackhole
        } else if self.word("unreachable") {
            StaticTarget::Unreachable
        } else if self.word("prohibit") {
            StaticTarget::Prohibit
        } else if self.word("recursive") {
            StaticTarget::Recursive(self.address()?)
        } else if self.at_word("via") {
            let mut hops = Vec::new();
            while self.word("via") {
                hops.push(self.static_next_hop()?);
            }
            StaticTarget::Via(hops)
        } else {
            return self.unexpected("via, recursive, blackhole, unreachable or prohibit");
        };
        let attributes = if self.at_punct("{") { self.static_attributes()? } else { Vec::new() };
        config.routes.push(StaticRoute { prefix, target, attributes });
        Ok(true)
    }

    fn static_next_hop(&mut self) -> Result<StaticNextHop> {
        let mut hop = StaticNextHop { gateway: None, interface: None, onlink: false, weight: 1 };
        if let Kind::Text(_) = self.peek() {
            hop.interface = Some(self.text()?);
        } else {
            hop.gateway = Some(self.address()?);
            if self.punct("%") || self.word("dev") {
                hop.interface = Some(self.interface_name()?);
            }
        }
        loop {
            if self.word("onlink") {
                hop.onlink = if self.at_word("via") || self.at_word("weight") || self.at_punct("{") {
                    true
                } else {
                    self.switch()?
                };
            } else if self.word("weight") {
                hop.weight = u16::try_from(self.number_in(1, 256, "Weight")?).unwrap_or(1);
            } else if self.word("bfd") {
                return self.fail("bfd is not supported");
            } else {
                return Ok(hop);
            }
        }
    }

    /// Checks what can only be known at the end of the block, and adds what BIRD adds by itself.
    fn complete(&mut self, place: &super::Place, proto: &mut ProtocolConfig) -> Result<()> {
        let fail = |message: String| Err(ConfigError::new(place, message));
        match &proto.kind {
            ProtocolKind::Device(_) => proto.channels.clear(),
            ProtocolKind::Kernel(_) => {
                if proto.channels.is_empty() {
                    proto.channels.push(ChannelConfig::new(Family::Ipv4));
                }
                if proto.channels.len() > 1 {
                    return fail("Kernel protocol has one channel: make one protocol for each family".into());
                }
            }
            ProtocolKind::Static(config) => {
                let [channel] = proto.channels.as_slice() else {
                    return fail("Channel not specified".into());
                };
                if let Some(route) = config.routes.iter().find(|r| Family::of(&r.prefix) != channel.family) {
                    return fail(format!(
                        "Incompatible type of route {} in a {} channel",
                        route.prefix, channel.family
                    ));
                }
            }
            ProtocolKind::Bgp(bgp) => super::bgp::check(bgp, proto).or_else(fail)?,
            ProtocolKind::Direct(_) => {}
        }
        Ok(())
    }
}

fn new_protocol(kind: &str) -> ProtocolConfig {
    let kind = match kind {
        "device" => ProtocolKind::Device(DeviceConfig { scan_secs: 60 }),
        "direct" => ProtocolKind::Direct(DirectConfig { interfaces: Vec::new() }),
        "kernel" => ProtocolKind::Kernel(KernelConfig {
            table: 254,
            metric: 32,
            learn: false,
            persist: false,
            graceful_restart: false,
            scan_secs: 60,
            merge_paths: None,
        }),
        "bgp" => ProtocolKind::Bgp(Box::default()),
        _ => ProtocolKind::Static(StaticConfig::default()),
    };
    ProtocolConfig {
        name: Arc::from(""),
        disabled: false,
        description: None,
        router_id: None,
        debug: false,
        channels: Vec::new(),
        kind,
    }
}
