//! News from the kernel: that interfaces, addresses or routes of others changed, not what.
//!
//! What changed is read by a scan, so that what the engine knows depends on the state alone. News within a short
//! time make one scan.

use std::io;
use std::time::Duration;

use bird_core::KERNEL_PROTOCOL;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::sync::mpsc;

use crate::daemon::Input;

/// Groups of rtnetlink: links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes.
const GROUPS: [u32; 5] = [1, 5, 9, 7, 11];

/// How long news are gathered before they are passed on.
const GATHER: Duration = Duration::from_millis(20);

/// What changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub interfaces: bool,
    pub routes: bool,
}

/// Listens to the kernel until the daemon ends.
pub(crate) fn start(events: mpsc::Sender<Input>) -> io::Result<()> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.socket_mut().add_membership(group)?;
    }
    socket.socket_mut().set_rx_buf_sz(1 << 20)?;
    tokio::spawn(async move {
        loop {
            let mut news = News::default();
            receive(&mut socket, &mut news).await;
            if news == News::default() {
                continue;
            }
            tokio::time::sleep(GATHER).await;
            while tokio::time::timeout(Duration::ZERO, receive(&mut socket, &mut news)).await.is_ok() {}
            if events.send(Input::Kernel(news)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

async fn receive(socket: &mut TokioSocket, news: &mut News) {
    match socket.recv_from_full().await {
        Ok((data, _)) => read(&data, news),
        // The kernel dropped news for want of room: anything may have changed.
        Err(_) => *news = News { interfaces: true, routes: true },
    }
}

fn read(data: &[u8], news: &mut News) {
    let mut rest = data;
    while !rest.is_empty() {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else { return };
        let len = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(len.max(4)..).unwrap_or(&[]);
        match message.payload {
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewLink(_)
                | RouteNetlinkMessage::DelLink(_)
                | RouteNetlinkMessage::NewAddress(_)
                | RouteNetlinkMessage::DelAddress(_),
            ) => news.interfaces = true,
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            ) => news.routes |= !ours(&route),
            _ => {}
        }
    }
}

/// Our own writes are no news. A route of ours that somebody else removed is found by the next scan.
fn ours(route: &RouteMessage) -> bool {
    u8::from(route.header.protocol) == KERNEL_PROTOCOL
}
