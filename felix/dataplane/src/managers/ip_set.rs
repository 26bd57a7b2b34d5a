//! IP sets of the calculation: a set of both families becomes one in each.

use felix_message::{IpSetMember, Message};

use super::{Manager, Outputs};
use crate::rule::{Family, SetName};

pub struct IpSetManager;

fn family_of(m: &IpSetMember) -> Family {
    match m {
        IpSetMember::Net(n) => Family::of_net(n),
        IpSetMember::IpPort(a, ..) => Family::of(a),
    }
}

impl Manager for IpSetManager {
    fn on_message(&mut self, message: &Message, out: &mut Outputs) {
        for family in Family::BOTH {
            let own = |members: &[IpSetMember]| -> Vec<IpSetMember> {
                members.iter().filter(|m| family_of(m) == family).copied().collect()
            };
            let tables = out.tables.family(family);
            match message {
                Message::IpSetUpdate(set) => {
                    tables.set_set(&SetName::Calculated(set.id.clone()), set.kind, own(&set.members));
                }
                Message::IpSetDelta(d) => {
                    let name = SetName::Calculated(d.id.clone());
                    tables.change_set(&name, &own(&d.added), &own(&d.removed));
                }
                Message::IpSetRemove(id) => tables.remove_set(&SetName::Calculated(id.clone())),
                _ => {}
            }
        }
    }
}
