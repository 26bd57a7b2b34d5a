//! One client's connection: certificate, hello, then its session until one side has enough.

use std::sync::Arc;
use std::time::Instant;

use calico_proto::typha as proto;
use calico_proto::typha::client_message::Message as FromClient;
use calico_proto::typha::server_message::Message as ToClient;
use calico_proto::typha::sync_service_server::SyncService;
use libcalico_model::SyncStatus;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::ServerConfig;
use super::registry::{Entry, Registry};
use super::stream::Stream;
use crate::cache::Message;
use crate::kind::SyncerKind;
use crate::metrics::Metrics;
use crate::session::{DropReason, Session, Step};

/// Messages between a session and the network. Small: what is in here cannot be taken back.
const BUFFER: usize = 4;

type Out = mpsc::Sender<Result<proto::ServerMessage, Status>>;

/// The gRPC service.
pub struct Service {
    config: ServerConfig,
    streams: Vec<Arc<Stream>>,
    registry: Arc<Registry>,
    metrics: Metrics,
}

impl Service {
    pub fn new(
        config: ServerConfig,
        streams: Vec<Arc<Stream>>,
        registry: Arc<Registry>,
        metrics: Metrics,
    ) -> Self {
        Self { config, streams, registry, metrics }
    }

    /// TLS has checked who signed the certificate; here is checked whom it names.
    #[allow(clippy::result_large_err)] // tonic's type
    fn check_identity<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(tls) = &self.config.tls else { return Ok(()) };
        let certs = request.peer_certs().unwrap_or_default();
        let cert =
            certs.first().ok_or_else(|| Status::unauthenticated("a client certificate is required"))?;
        tls.client.check(cert).map_err(|e| {
            tracing::warn!(peer = ?request.remote_addr(), error = e, "refused a client");
            Status::permission_denied(e)
        })
    }
}

#[tonic::async_trait]
impl SyncService for Service {
    type SyncStream = ReceiverStream<Result<proto::ServerMessage, Status>>;

    async fn sync(
        &self,
        request: Request<Streaming<proto::ClientMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        self.check_identity(&request)?;
        let peer = request.remote_addr();
        let mut inbound = request.into_inner();
        let first = tokio::time::timeout(self.config.handshake_timeout, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let Some(FromClient::Hello(hello)) = first.and_then(|m| m.message) else {
            return Err(Status::invalid_argument("the first message must be a hello"));
        };
        let kind: SyncerKind = hello.syncer.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
        let stream = self
            .streams
            .iter()
            .find(|s| s.kind == kind)
            .ok_or_else(|| Status::unimplemented(format!("this server has no stream for {kind}")))?
            .clone();
        let entry = self
            .registry
            .admit(&hello.hostname, kind)
            .ok_or_else(|| Status::unavailable("the server is shutting down; connect to another"))?;
        tracing::info!(client = hello.hostname, ?peer, syncer = %kind, version = hello.version, info = hello.info, "client connected");
        let (out, outbound) = mpsc::channel(BUFFER);
        let (pongs, pong) = watch::channel(0);
        let listener = tokio::spawn(listen(inbound, pongs));
        let connection = Connection {
            host: hello.hostname,
            stream,
            entry,
            out,
            pong,
            config: self.config.clone(),
            metrics: self.metrics.clone(),
        };
        tokio::spawn(async move {
            connection.run().await;
            listener.abort();
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// Hears the client's answers to pings until it leaves.
async fn listen(mut inbound: Streaming<proto::ClientMessage>, pongs: watch::Sender<u64>) {
    while let Ok(Some(message)) = inbound.message().await {
        if let Some(FromClient::Pong(p)) = message.message {
            pongs.send_replace(p.number);
        }
    }
}

struct Connection {
    host: String,
    stream: Arc<Stream>,
    entry: Entry,
    out: Out,
    /// The last ping that was answered. Closed when the client left.
    pong: watch::Receiver<u64>,
    config: ServerConfig,
    metrics: Metrics,
}

impl Connection {
    async fn run(mut self) {
        let end = self.serve().await;
        match &end {
            Some(status) => {
                tracing::info!(client = self.host, syncer = %self.stream.kind, reason = status.message(), "client dropped");
                // Its buffer may be full: it is dropped all the same.
                let _ = self.out.try_send(Err(status.clone()));
            }
            None => tracing::info!(client = self.host, syncer = %self.stream.kind, "client left"),
        }
    }

    /// Why the client was dropped; none where it left by itself.
    async fn serve(&mut self) -> Option<Status> {
        let mut changed = self.stream.subscribe();
        let hello = proto::ServerHello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            syncer: self.stream.kind.name().to_owned(),
        };
        if let Err(end) = self.send(ToClient::Hello(hello)).await {
            return end;
        }
        let patience = self.config.patience.clone();
        let mut session = Session::new(&mut self.stream.lock(), patience, Instant::now());
        let mut grace_counted = false;
        loop {
            changed.mark_unchanged();
            session.pong(*self.pong.borrow_and_update());
            let step = session.step(&self.stream.lock(), Instant::now());
            if session.grace_used() && !grace_counted {
                grace_counted = true;
                self.metrics.grace_used(self.stream.kind);
            }
            let sent = match step {
                Step::Send(Message::Updates(bytes, _)) => self.send(ToClient::Updates(bytes)).await,
                Step::Send(Message::Status(status)) => self.send(ToClient::Status(wire(status).into())).await,
                Step::Ping(number) => self.send(ToClient::Ping(proto::Ping { number })).await,
                Step::Drop(reason) => {
                    self.metrics.connections_dropped.inc();
                    return Some(Status::aborted(match reason {
                        DropReason::FellBehind => "you read too slowly; connect again for a new snapshot",
                        DropReason::Silent => "you did not answer pings",
                    }));
                }
                Step::WaitUntil(time) => tokio::select! {
                    _ = changed.changed() => Ok(()),
                    () = tokio::time::sleep_until(time.into()) => Ok(()),
                    r = self.pong.changed() => r.map_err(|_| None),
                    r = self.entry.verdict.changed() => Err(self.verdict().filter(|_| r.is_ok())),
                    () = self.out.closed() => Err(None),
                },
            };
            if let Err(end) = sent {
                return end;
            }
        }
    }

    fn verdict(&self) -> Option<Status> {
        (*self.entry.verdict.borrow()).map(Status::unavailable)
    }

    /// Hands a message to the network. The error says why the connection ends; none where the client left.
    async fn send(&mut self, message: ToClient) -> Result<(), Option<Status>> {
        let message = proto::ServerMessage { message: Some(message) };
        let timeout = tokio::time::sleep(self.config.write_timeout);
        tokio::select! {
            sent = self.out.send(Ok(message)) => sent.map_err(|_| None),
            () = timeout => {
                self.metrics.connections_dropped.inc();
                Err(Some(Status::aborted("you took no message for too long")))
            }
            _ = self.entry.verdict.changed() => Err(self.verdict()),
        }
    }
}

fn wire(status: SyncStatus) -> proto::Status {
    match status {
        SyncStatus::WaitForDatastore => proto::Status::WaitForDatastore,
        SyncStatus::ResyncInProgress => proto::Status::ResyncInProgress,
        SyncStatus::InSync => proto::Status::InSync,
    }
}
