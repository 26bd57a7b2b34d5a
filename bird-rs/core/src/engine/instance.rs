//! One configured protocol while it runs, with its channels and their counters.

use std::sync::Arc;

use crate::config::{ChannelConfig, DeviceConfig, DirectConfig, ProtocolConfig, StaticConfig};
use crate::protocol::{Bgp, Kernel};
use crate::rib::ProtoId;
use crate::time::Time;

/// States of a protocol, as `show protocols` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Down,
    Start,
    Up,
}

impl State {
    pub fn label(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Start => "start",
            Self::Up => "up",
        }
    }
}

/// Counters of one kind of change; columns of `show protocols all`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counter {
    pub received: u64,
    pub rejected: u64,
    pub filtered: u64,
    pub ignored: u64,
    pub accepted: u64,
}

/// Counters of a channel.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stats {
    pub import_updates: Counter,
    pub import_withdraws: Counter,
    pub export_updates: Counter,
    pub export_withdraws: Counter,
}

/// A channel while its protocol runs.
#[derive(Debug)]
pub(crate) struct Channel {
    pub config: ChannelConfig,
    /// Index of its table.
    pub table: usize,
    pub up: bool,
    pub imported: usize,
    pub exported: usize,
    pub stats: Stats,
    /// A limit was passed and said so once.
    pub limit_hit: bool,
}

impl Channel {
    pub fn new(config: ChannelConfig, table: usize) -> Self {
        Self { config, table, up: false, imported: 0, exported: 0, stats: Stats::default(), limit_hit: false }
    }
}

/// What is particular to a kind of protocol.
pub(crate) enum Kind {
    Device(DeviceConfig),
    Direct(DirectConfig),
    Static(StaticConfig),
    Kernel(Box<Kernel>),
    Bgp(Box<Bgp>),
}

/// A protocol instance.
pub(crate) struct Instance {
    pub id: ProtoId,
    pub config: Arc<ProtocolConfig>,
    pub state: State,
    pub since: Time,
    /// Disabled by command or configuration.
    pub disabled: bool,
    /// What the last command said.
    pub message: String,
    pub channels: Vec<Channel>,
    pub kind: Kind,
}

impl Instance {
    pub fn set_state(&mut self, state: State, now: Time) {
        if self.state == state {
            return;
        }
        let (name, label) = (&self.config.name, state.label());
        if self.config.debug {
            tracing::info!(protocol = %name, "state changed to {label}");
        } else {
            tracing::debug!(protocol = %name, "state changed to {label}");
        }
        self.state = state;
        self.since = now;
    }

    pub fn channel_of(&self, family: bird_wire::Family) -> Option<usize> {
        self.channels.iter().position(|c| c.config.family == family)
    }

    /// Preference of routes of a channel.
    pub fn preference(&self, channel: usize) -> u32 {
        let own = self.channels.get(channel).and_then(|c| c.config.preference);
        own.unwrap_or_else(|| self.config.kind.preference())
    }
}
