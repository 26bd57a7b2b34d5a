//! Graceful restart of this speaker (RFC 4724 section 4.1).
//!
//! After a restart the kernel still has our routes. Until every neighbour has sent all of its routes again, or the
//! wait is over, routes in the kernel are neither removed nor changed; what is missing is added at once.

use bird_wire::Family;

use super::{Engine, Kind};
use crate::config::GracefulMode;
use crate::event::{Action, Timer};

/// How long a neighbour that is restarting itself gets to send its routes. It sends End-of-RIB only when its own
/// recovery is over, and waiting for that could be mutual (RFC 4724 section 4.1 says not to wait at all; but when
/// every node of a mesh restarts at once, that would prune the kernel before any route has come).
const SETTLE_SECS: u64 = 5;

/// Where the recovery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recovery {
    active: bool,
    announced: bool,
    /// Routes of ours stood in the kernel when it was read first.
    found: bool,
}

impl Recovery {
    pub fn new(active: bool) -> Self {
        Self { active, announced: false, found: false }
    }

    pub fn is_active(self) -> bool {
        self.active
    }
}

impl Engine {
    /// Routes of ours stand in the kernel though we have only just begun: somebody stopped us.
    pub(crate) fn discover_restart(&mut self) {
        self.recovery.found = true;
        if !self.recovery.active {
            self.recovery.active = true;
            self.begin_recovery();
        }
    }

    pub(crate) fn begin_recovery(&mut self) {
        if self.recovery.announced {
            return;
        }
        self.recovery.announced = true;
        tracing::info!("graceful restart started");
        let secs = u64::from(self.config.graceful_restart_wait_secs);
        self.actions.push(Action::SetTimer(Timer::Recovery, self.now.plus_secs(secs)));
        for instance in self.instances.values_mut() {
            if let Kind::Bgp(bgp) = &mut instance.kind {
                bgp.session.restarting = true;
            }
        }
    }

    /// Ends the recovery when nobody is waited for.
    pub(crate) fn check_recovery(&mut self) {
        if !self.recovery.active || !self.recovery.announced {
            return;
        }
        let mut kernels = 0;
        let kernel_read = self.instances.values().all(|i| match &i.kind {
            Kind::Kernel(kernel) => {
                kernels += 1;
                kernel.scanned || i.disabled
            }
            _ => true,
        });
        if kernel_read && kernels > 0 && !self.recovery.found {
            // `-R` on a machine that never had routes of ours, or has booted: nobody has anything to wait for.
            self.end_recovery("the kernel has no routes of ours");
            return;
        }
        let now = self.now;
        let waiting = self.instances.values().any(|instance| match &instance.kind {
            Kind::Bgp(bgp) if !instance.disabled => {
                let config = &bgp.session.config().bgp;
                if config.graceful_restart != GracefulMode::On {
                    return false;
                }
                match &bgp.session.negotiated {
                    None => true,
                    Some(n) => match n.peer_open.graceful_restart() {
                        Some(gr) if !gr.restarting || now < bgp.since.plus_secs(SETTLE_SECS) => n
                            .families
                            .iter()
                            .any(|f: &Family| !bgp.channel(*f).is_some_and(|c| c.eor_received)),
                        _ => false,
                    },
                }
            }
            _ => false,
        });
        if kernel_read && !waiting {
            self.end_recovery("all neighbors have sent their routes");
        }
    }

    /// A session came up during the recovery: looks again when its neighbour has had its time.
    pub(crate) fn settle_later(&mut self) {
        if self.recovery.active {
            let at = self.now.plus_secs(SETTLE_SECS);
            self.actions.push(Action::SetTimer(Timer::RecoverySettle, at));
        }
    }

    pub(crate) fn end_recovery(&mut self, why: &str) {
        if !self.recovery.active {
            return;
        }
        self.recovery.active = false;
        tracing::info!("graceful restart done: {why}");
        self.actions.push(Action::ClearTimer(Timer::Recovery));
        self.actions.push(Action::ClearTimer(Timer::RecoverySettle));
        for instance in self.instances.values_mut() {
            match &mut instance.kind {
                Kind::Bgp(bgp) => bgp.session.restarting = false,
                Kind::Kernel(kernel) => kernel.mark_all(),
                _ => {}
            }
        }
    }
}
