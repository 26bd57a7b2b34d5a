//! A TCP connection of a session: one task reads messages, one writes them.
//!
//! In: a stream, and commands through a bounded queue. Out: events into the daemon's queue. The reader waits when the
//! daemon does not keep up; the writer says when all it was given is out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bird_core::{ConnId, Connect, Event};
use bird_wire::{HEADER_LEN, frame_len};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::daemon::Input;
use crate::socket;
use crate::source::os_text;

/// Messages that may wait for a connection. Updates come in batches far below it; more means that the neighbour
/// has stopped reading for good.
const QUEUE: usize = 16_384;

/// How long a connection may take to send its last messages.
const LINGER: Duration = Duration::from_secs(3);

enum Order {
    Send(Bytes),
    NotifyWritable,
    Close,
}

/// The daemon's end of a connection.
pub(crate) struct Connection {
    orders: mpsc::Sender<Order>,
    tasks: Vec<AbortHandle>,
}

impl Connection {
    /// Opens a connection.
    pub fn open(conn: ConnId, connect: &Connect, events: mpsc::Sender<Input>) -> Self {
        let (orders, queue) = mpsc::channel(QUEUE);
        let connect = connect.clone();
        let task = tokio::spawn(async move {
            let event = match establish(&connect).await {
                Ok((stream, local)) => {
                    if events.send(Input::Event(Event::Connected { conn, local })).await.is_ok() {
                        let (read, write) = stream.into_split();
                        tokio::join!(reader(conn, read, events.clone()), writer(conn, write, queue, events));
                    }
                    return;
                }
                Err(error) => Event::Closed { conn, reason: os_text(&error) },
            };
            // The daemon ends before its connections: then nobody is left to tell.
            let _ = events.send(Input::Event(event)).await;
        });
        Self { orders, tasks: vec![task.abort_handle()] }
    }

    /// Takes over an accepted connection.
    pub fn accepted(conn: ConnId, stream: TcpStream, events: mpsc::Sender<Input>) -> Self {
        let (orders, queue) = mpsc::channel(QUEUE);
        let (read, write) = stream.into_split();
        let reading = tokio::spawn(reader(conn, read, events.clone()));
        let writing = tokio::spawn(writer(conn, write, queue, events));
        Self { orders, tasks: vec![reading.abort_handle(), writing.abort_handle()] }
    }

    /// Queues a message; false when the neighbour has stopped reading.
    pub fn send(&self, data: Bytes) -> bool {
        self.orders.try_send(Order::Send(data)).is_ok()
    }

    pub fn notify_writable(&self) -> bool {
        self.orders.try_send(Order::NotifyWritable).is_ok()
    }

    /// Closes once everything queued is out, or after a while in any case.
    pub fn close(self) {
        let _ = self.orders.try_send(Order::Close);
        let tasks = self.tasks;
        tokio::spawn(async move {
            tokio::time::sleep(LINGER).await;
            for task in tasks {
                task.abort();
            }
        });
    }
}

async fn establish(connect: &Connect) -> io::Result<(TcpStream, IpAddr)> {
    let (socket, address) = socket::outgoing(connect)?;
    let address = address.as_socket().ok_or_else(|| io::Error::other("not an internet address"))?;
    let stream = tokio::net::TcpSocket::from_std_stream(socket.into()).connect(address).await?;
    let local = stream.local_addr()?;
    Ok((stream, plain(local)))
}

/// The address, IPv4 in IPv6 clothes undressed.
pub(crate) fn plain(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

async fn reader(conn: ConnId, mut stream: OwnedReadHalf, events: mpsc::Sender<Input>) {
    let mut buffer = BytesMut::with_capacity(8192);
    let reason = loop {
        // The engine checks lengths against what the session agreed on; here only the frame matters.
        match frame_len(&buffer, true) {
            Ok(Some(len)) if buffer.len() >= len => {
                let message = buffer.split_to(len).to_vec();
                if events.send(Input::Event(Event::Received { conn, message })).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(_) => {}
            Err(_) => {
                let message = buffer.get(..HEADER_LEN).unwrap_or(&buffer).to_vec();
                let _ = events.send(Input::Event(Event::Received { conn, message })).await;
                return;
            }
        }
        buffer.reserve(4096);
        match stream.read_buf(&mut buffer).await {
            Ok(0) => break "Connection closed".to_owned(),
            Ok(_) => {}
            Err(error) => break os_text(&error),
        }
    };
    let _ = events.send(Input::Event(Event::Closed { conn, reason })).await;
}

async fn writer(
    conn: ConnId,
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Order>,
    events: mpsc::Sender<Input>,
) {
    let mut orders = Vec::with_capacity(64);
    let mut data = Vec::with_capacity(4096);
    while queue.recv_many(&mut orders, 64).await > 0 {
        let (mut notify, mut close) = (false, false);
        for order in orders.drain(..) {
            match order {
                Order::Send(bytes) => data.extend_from_slice(&bytes),
                Order::NotifyWritable => notify = true,
                Order::Close => close = true,
            }
        }
        if stream.write_all(&data).await.is_err() {
            // The reader sees the same error and reports it.
            return;
        }
        data.clear();
        if close {
            let _ = stream.shutdown().await;
            return;
        }
        if notify {
            let _ = events.send(Input::Event(Event::Writable { conn })).await;
        }
    }
}
