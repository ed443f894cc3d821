//! The connection of a syslog sink: TLS, TCP or UDP, and how a batch is known to have been read.
//!
//! Invariant: a stream is either fresh or was idle and whole at its last use; after any fault it is dropped.
//!
//! Not here: time-outs (the sink has one for a whole batch).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openssl::ssl::ErrorCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio_openssl::SslStream;

use super::tls::{self, SslConnector};
use super::{Config, Framing, Transport};

/// How long an answer that says "nobody listens here" may take to come back after a datagram. On the same network it is
/// there at once; from further away there often is none.
const REFUSAL_WAIT: Duration = Duration::from_millis(20);
/// A receiver has nothing to say; what it says anyway is read and dropped up to here.
const MAX_CHATTER: usize = 64 << 10;

/// A stream of either kind.
enum Stream {
    Tcp(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

impl Stream {
    /// After the end was read: whether the receiver said so itself. Over TLS a close without its word can be forged by
    /// anybody on the way.
    async fn closed_in_order(&mut self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Tls(stream) => {
                let again = Pin::new(&mut **stream).peek(&mut [0]).await;
                again.is_err_and(|error| error.code() == ErrorCode::ZERO_RETURN)
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}

/// Where to, and the stream that is open.
pub(super) struct Connection {
    host: String,
    port: u16,
    /// `None` for UDP.
    framing: Option<Framing>,
    confirm: bool,
    tls: Option<SslConnector>,
    open: Option<Stream>,
}

impl Connection {
    /// Connects to nothing yet. Blocks on the files that `config` names.
    pub(super) fn new(config: &Config, host: &str, port: u16) -> Result<Self, String> {
        Ok(Self {
            host: host.to_owned(),
            port,
            framing: (config.transport != Transport::Udp).then_some(config.framing),
            confirm: config.confirm,
            tls: if config.transport == Transport::Tls { Some(tls::connector(config)?) } else { None },
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
        if let Some(stream) = self.open.as_mut()
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
            read_to_end(&mut stream).await?;
        } else {
            self.open = Some(stream);
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Stream, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        // A batch is written at once; its last packet need not wait for more.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            Some(connector) => Ok(Stream::Tls(Box::new(tls::connect(connector, &self.host, stream).await?))),
            None => Ok(Stream::Tcp(stream)),
        }
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
async fn is_idle(stream: &mut Stream) -> bool {
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

/// Waits until the receiver has read everything, which it shows by closing in turn.
async fn read_to_end(stream: &mut Stream) -> Result<(), String> {
    let (mut buffer, mut heard) = ([0; 1024], 0);
    while heard < MAX_CHATTER {
        match stream.read(&mut buffer).await {
            Ok(0) if stream.closed_in_order().await => return Ok(()),
            Ok(0) => return Err("not confirmed: the connection was cut off".to_owned()),
            Ok(count) => heard += count,
            Err(error) => return Err(format!("not confirmed: {error}")),
        }
    }
    Err(format!("answered with more than {MAX_CHATTER} bytes, which no syslog receiver does"))
}
