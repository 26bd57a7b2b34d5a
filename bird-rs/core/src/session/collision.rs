//! Two connections at once: which one stays (RFC 4271 section 6.8).

use bird_wire::{Notification, Open, cease};

use super::state::Session;
use super::types::{ConnState, Side};

impl Session {
    /// Called when an OPEN arrived on `side`. Closes the loser; returns whether `side` goes on.
    pub(super) fn wins_collision(&mut self, side: Side, open: &Open) -> bool {
        let other = side.other();
        let Some(state) = self.conn(other).map(|c| c.state) else { return true };
        match state {
            // Nothing is known about the other connection yet; it will come here when its OPEN arrives.
            ConnState::Connect | ConnState::OpenSent => true,
            ConnState::Established => {
                self.lose(side);
                false
            }
            ConnState::OpenConfirm => {
                // The speaker with the higher identifier keeps the connection that it opened; equal identifiers
                // (external sessions, RFC 6286) are settled by the AS number.
                let ours = (u32::from(self.config.router_id), self.config.bgp.local_as);
                let theirs = (u32::from(open.id), open.real_asn());
                let keep = if ours > theirs { Side::Outgoing } else { Side::Incoming };
                self.lose(keep.other());
                keep == side
            }
        }
    }

    fn lose(&mut self, side: Side) {
        self.notify(side, &Notification::cease(cease::COLLISION));
        self.close(side);
    }
}
