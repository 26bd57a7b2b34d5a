//! `node status`: the BGP sessions of the machine that the command runs on.
//!
//! It asks the daemon's control socket. One daemon may serve both families, or a second one IPv6, as in upstream's
//! image; what both say is put together.

use std::fmt::Write as _;

use libcalico_net::cidr::Family;

use crate::bird::{self, BirdError, Session};
use crate::cli::NodeStatusArgs;
use crate::output::grid;
use crate::{Error, Result};

/// Runs the command.
pub fn run(args: &NodeStatusArgs) -> Result<()> {
    let mut sessions = match bird::sessions(&args.bird_socket) {
        Ok(sessions) => sessions,
        Err(BirdError::NoAnswer { .. }) => return Err(Error::NotRunning),
        Err(e) => return Err(e.into()),
    };
    if args.bird6_socket.exists() {
        let more = bird::sessions(&args.bird6_socket)?;
        sessions.extend(more.into_iter().filter(|s| s.address.is_ipv6()));
    }
    print!("{}", render(&sessions));
    Ok(())
}

/// The whole report.
#[must_use]
pub fn render(sessions: &[Session]) -> String {
    let mut text = "Calico process is running.\n".to_owned();
    for family in [Family::V4, Family::V6] {
        let _ = writeln!(text, "\n{family} BGP status");
        let rows: Vec<Vec<String>> = sessions
            .iter()
            .filter(|s| Family::of(s.address) == family)
            .map(|s| {
                let peer_type = s.peer_type.name().to_owned();
                vec![s.address.to_string(), peer_type, s.state.clone(), s.since.clone(), s.info.clone()]
            })
            .collect();
        if rows.is_empty() {
            let _ = writeln!(text, "No {family} peers found.");
        } else {
            text.push_str(&grid::render(
                &["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"],
                &rows,
                &[],
            ));
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bird::PeerType;

    #[test]
    fn sessions_are_shown_by_family() {
        let session = Session {
            address: "172.17.8.102".parse().unwrap(),
            peer_type: PeerType::Mesh,
            state: "up".to_owned(),
            since: "23:30:04".to_owned(),
            info: "Established".to_owned(),
        };
        let expected = "\
Calico process is running.

IPv4 BGP status
+--------------+-------------------+-------+----------+-------------+
| PEER ADDRESS | PEER TYPE         | STATE | SINCE    | INFO        |
+--------------+-------------------+-------+----------+-------------+
| 172.17.8.102 | node-to-node mesh | up    | 23:30:04 | Established |
+--------------+-------------------+-------+----------+-------------+

IPv6 BGP status
No IPv6 peers found.

";
        assert_eq!(render(&[session]), expected);
    }
}
