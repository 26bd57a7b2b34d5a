//! One long TCP stream between two places whose content is checked.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Worker;
use crate::error::Doing;
use crate::kernel::netns;
use crate::{Lab, Place, Result};

/// Sent at every beat: about 6 MB/s, enough to fill queues without starving the daemons of two cores.
const CHUNK: usize = 64 * 1024;
const BEAT: Duration = Duration::from_millis(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// How long one write may block before the flow counts as broken.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// How long the rest of a stream that was closed may take to arrive.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A running stream.
pub struct Flow {
    sender: Worker<io::Result<u64>>,
    receiver: Worker<FlowReport>,
}

/// What the receiver saw.
#[derive(Clone, Debug, Default)]
pub struct FlowReport {
    pub bytes: u64,
    /// The longest time without a byte.
    pub longest_silence: Duration,
    /// A reset, a wrong byte, or bytes missing at the end.
    pub error: Option<String>,
}

impl Flow {
    /// Connects from inside `from` to a listener made inside `to`, at `address`, which must be one of `to`'s.
    pub fn start(lab: &Lab, from: &Place, to: &Place, address: IpAddr) -> Result<Self> {
        let listener = netns::within(&lab.netns_of(to), || {
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).doing(|| format!("listening in {to}"))
        })?;
        let port = listener.local_addr().doing(|| "asking for a port".to_owned())?.port();
        let target = SocketAddr::new(address, port);
        let outgoing = netns::within(&lab.netns_of(from), || {
            TcpStream::connect_timeout(&target, CONNECT_LIMIT)
                .doing(|| format!("connecting from {from} to {target}"))
        })?;
        let (incoming, _) = listener.accept().doing(|| format!("accepting in {to}"))?;
        outgoing.set_write_timeout(Some(WRITE_LIMIT)).doing(|| "setting a timeout".to_owned())?;
        incoming
            .set_read_timeout(Some(Duration::from_millis(50)))
            .doing(|| "setting a timeout".to_owned())?;
        Ok(Self {
            sender: Worker::start(move |stop| send(outgoing, stop)),
            receiver: Worker::start(move |stop| receive(incoming, stop)),
        })
    }

    /// Closes the stream and reports.
    pub fn stop(self) -> FlowReport {
        let sent = self.sender.finish();
        // The receiver reads to the end of the stream by itself; `stop` only bounds that.
        thread::sleep(Duration::from_millis(200));
        let mut report = self.receiver.finish().unwrap_or_default();
        match sent {
            Some(Ok(sent)) if report.error.is_none() && sent != report.bytes => {
                report.error = Some(format!("{sent} bytes sent, {} received", report.bytes));
            }
            Some(Err(e)) if report.error.is_none() => report.error = Some(format!("sender: {e}")),
            _ => {}
        }
        report
    }
}

/// The byte at a position of the stream: a pattern whose period (251) divides no buffer size.
fn pattern(position: u64) -> u8 {
    u8::try_from(position % 251).unwrap_or(0)
}

fn send(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<u64> {
    let mut sent = 0u64;
    while !stop.load(Ordering::SeqCst) {
        let chunk: Vec<u8> = (0..CHUNK as u64).map(|n| pattern(sent + n)).collect();
        stream.write_all(&chunk)?;
        sent += CHUNK as u64;
        thread::sleep(BEAT);
    }
    Ok(sent)
}

fn receive(mut stream: TcpStream, stop: &AtomicBool) -> FlowReport {
    let mut report = FlowReport::default();
    let mut buffer = vec![0; CHUNK];
    let mut last = Instant::now();
    let mut stopping: Option<Instant> = None;
    loop {
        if stopping.is_none() && stop.load(Ordering::SeqCst) {
            stopping = Some(Instant::now());
        }
        match stream.read(&mut buffer) {
            Ok(0) => return report,
            Ok(length) => {
                report.longest_silence = report.longest_silence.max(last.elapsed());
                last = Instant::now();
                let wrong =
                    buffer.iter().take(length).zip(report.bytes..).find(|(b, at)| **b != pattern(*at));
                if let Some((_, at)) = wrong {
                    report.error = Some(format!("wrong byte at {at}"));
                    return report;
                }
                report.bytes += length as u64;
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                report.longest_silence = report.longest_silence.max(last.elapsed());
                if stopping.is_some_and(|since| since.elapsed() > END_LIMIT) {
                    report.error = Some("the end of the stream did not arrive".to_owned());
                    return report;
                }
            }
            Err(e) => {
                report.error = Some(format!("receiver: {e}"));
                return report;
            }
        }
    }
}
