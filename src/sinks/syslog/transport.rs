//! The connection of a syslog sink: TLS, TCP or UDP, and how a batch is known to have been read.
//!
//! Invariant: a stream is either fresh or was idle and whole at its last use; after any fault it is dropped.
//!
//! Not here: time-outs (the sink has one for a whole batch).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use native_tls::{Certificate, Identity, Protocol, TlsConnector};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};

use super::{Config, Framing, Transport};
use crate::sinks::http::settings::pem;

/// How long an answer that says "nobody listens here" may take to come back after a datagram. On the same network it is
/// there at once; from further away there often is none.
const REFUSAL_WAIT: Duration = Duration::from_millis(20);
/// A receiver has nothing to say; what it says anyway is read and dropped up to here.
const MAX_CHATTER: usize = 64 << 10;

/// A stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// Where to, and the stream that is open.
pub(super) struct Connection {
    host: String,
    port: u16,
    /// `None` for UDP.
    framing: Option<Framing>,
    confirm: bool,
    tls: Option<tokio_native_tls::TlsConnector>,
    open: Option<Box<dyn Stream>>,
}

impl Connection {
    /// Connects to nothing yet. Blocks on the files that `config` names.
    pub(super) fn new(config: &Config, host: &str, port: u16) -> Result<Self, String> {
        Ok(Self {
            host: host.to_owned(),
            port,
            framing: (config.transport != Transport::Udp).then_some(config.framing),
            confirm: config.confirm,
            tls: if config.transport == Transport::Tls { Some(connector(config)?.into()) } else { None },
            open: None,
        })
    }

    /// Gives up the open stream.
    pub(super) fn forget(&mut self) {
        self.open = None;
    }

    /// Sends all of `messages` in order.
    pub(super) async fn send(&mut self, messages: &[Vec<u8>]) -> Result<(), String> {
        let Some(framing) = self.framing else { return self.send_datagrams(messages).await };
        let mut framed = Vec::with_capacity(messages.iter().map(|message| message.len() + 8).sum());
        for message in messages {
            frame(&mut framed, framing, message);
        }
        if let Some(stream) = self.open.as_deref_mut()
            && !is_idle(stream).await
        {
            self.open = None;
        }
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        let failed = |error: io::Error| format!("broken off while sending: {error}");
        stream.write_all(&framed).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        if self.confirm {
            // Says that nothing follows; the receiver then reads what there is and closes as well.
            stream.shutdown().await.map_err(failed)?;
            read_to_end(&mut *stream).await?;
        } else {
            self.open = Some(stream);
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        // A batch is written at once; its last packet need not wait for more.
        let _ = stream.set_nodelay(true);
        let Some(connector) = &self.tls else { return Ok(Box::new(stream)) };
        let stream = connector.connect(&self.host, stream).await;
        Ok(Box::new(stream.map_err(|error| format!("no TLS connection: {error}"))?))
    }

    async fn send_datagrams(&self, messages: &[Vec<u8>]) -> Result<(), String> {
        let failed = |error: io::Error| format!("cannot send: {error}");
        let target = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(failed)?.next();
        let target = target.ok_or_else(|| format!("{} has no address", self.host))?;
        let local = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).await.map_err(failed)?;
        socket.connect(target).await.map_err(failed)?;
        for message in messages {
            socket.send(message).await.map_err(failed)?;
        }
        match tokio::time::timeout(REFUSAL_WAIT, socket.recv(&mut [0])).await {
            Ok(Err(error)) => Err(format!("cannot send: {error}")),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

fn frame(framed: &mut Vec<u8>, framing: Framing, message: &[u8]) {
    match framing {
        Framing::OctetCounting => {
            framed.extend_from_slice(message.len().to_string().as_bytes());
            framed.push(b' ');
            framed.extend_from_slice(message);
        }
        Framing::Newline => {
            // No payload has one: CEF escapes them and JSON is one line.
            framed.extend(message.iter().filter(|byte| **byte != b'\n'));
            framed.push(b'\n');
        }
    }
}

/// Whether the receiver has neither closed nor broken the stream, as far as this machine has heard.
async fn is_idle(stream: &mut dyn Stream) -> bool {
    let mut buffer = [0; 512];
    poll_fn(|context| {
        let mut buffer = ReadBuf::new(&mut buffer);
        Poll::Ready(match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => !buffer.filled().is_empty(),
            Poll::Ready(Err(_)) => false,
        })
    })
    .await
}

/// Waits until the receiver closes: in order, so over TLS with its own word (a close that anybody on the way could have
/// forged confirms nothing).
async fn read_to_end(stream: &mut dyn Stream) -> Result<(), String> {
    let (mut buffer, mut heard) = ([0; 1024], 0);
    while heard < MAX_CHATTER {
        match stream.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(count) => heard += count,
            Err(error) => return Err(format!("not confirmed: {error}")),
        }
    }
    Err(format!("answered with more than {MAX_CHATTER} bytes, which no syslog receiver does"))
}

fn connector(config: &Config) -> Result<TlsConnector, String> {
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(Protocol::Tlsv12));
    if let Some(path) = &config.ca_file {
        let authorities = Certificate::stack_from_pem(&pem("ca_file", path)?).unwrap_or_default();
        if authorities.is_empty() {
            return Err(format!("ca_file: {} holds no certificate as PEM", path.display()));
        }
        // These alone, not these too.
        builder.disable_built_in_roots(true);
        for authority in authorities {
            builder.add_root_certificate(authority);
        }
    }
    if let (Some(certificate), Some(key)) = (&config.client_cert_file, &config.client_key_file) {
        let identity = Identity::from_pkcs8(&pem("client_cert_file", certificate)?, &pem("client_key_file", key)?);
        // The cause may quote the key.
        builder.identity(identity.map_err(|_| {
            "client_key_file: it and client_cert_file are no PEM certificate with its PKCS #8 key".to_owned()
        })?);
    }
    builder.build().map_err(|error| format!("TLS cannot be set up: {error}"))
}
