//! Serving a router under limits: how many connections, how long a request may take, and an orderly end.
//!
//! Invariant: there is a bounded number of connections, and a client that is silent, slow, or does not read its answer
//! holds one no longer than the limits say. When asked to stop, nothing new is accepted and what runs is finished.
//!
//! Not here: what the routes do, and how large a body may be.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// After a failed accept (out of file descriptors): long enough for some to close, short enough to go unnoticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may do nothing of use.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Until its first request has begun, and from one head's first byte to its last: who has not sent them by then is
    /// not going to.
    headers: Duration,
    /// Between two requests. hyper ends HTTP/1 connections after `headers` already; this is for HTTP/2, and for a client
    /// that does not take the answer it asked for.
    idle: Duration,
    /// Past the last request's time-out, when stopping: for writing its answer.
    drain: Duration,
}

const PATIENCE: Patience =
    Patience { headers: Duration::from_secs(10), idle: Duration::from_mins(1), drain: Duration::from_secs(1) };

/// The limits of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// From the end of the headers to the start of the answer.
    pub request_timeout: Duration,
}

/// The address of the machine at the other end of the connection (a proxy's, if there is one).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Of the connection that a request came on; in the request's extensions. Whoever moves a body for longer than a request
/// may take says so as it goes, and the connection is not one of no use.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Activity>);

impl Progress {
    /// Bytes have moved.
    pub fn mark(&self) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves `router` on `listener` until `stop`, then finishes what runs. `connections` shows how many are open.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    connections: IntGauge,
    stop: CancellationToken,
) {
    serve_with(PATIENCE, listener, router, limits, connections, stop).await;
}

async fn serve_with(
    patience: Patience,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    connections: IntGauge,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience.headers);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(patience.headers).max_concurrent_streams(64);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = stop.cancelled() => break,
        };
        let Some((stream, peer, slot)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let activity = Arc::new(Activity::default());
        let service = {
            let (router, activity) = (router.clone(), Arc::clone(&activity));
            hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
                let running = Running::begin(&activity);
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(Progress(Arc::clone(&activity)));
                let answer = answer(router.clone(), request, peer, limits.request_timeout);
                async move {
                    let answered = answer.await;
                    drop(running);
                    answered
                }
            })
        };
        let connection =
            graceful.watch(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned());
        let open = Open::new(&connections, slot);
        tokio::spawn(async move {
            tokio::select! {
                // A client that breaks off is its own affair.
                _ = connection => {}
                () = activity.ceases(patience) => {}
            }
            drop(open);
        });
    }
    drop(listener);
    // Every request ends by its time-out; a client that does not read its answer is not waited for.
    if tokio::time::timeout(limits.request_timeout + patience.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(open = connections.get(), "connections were cut off while stopping");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Answers are small and waited for.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, slot))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            None
        }
    }
}

async fn answer(
    router: Router,
    mut request: Request,
    peer: SocketAddr,
    limit: Duration,
) -> Result<Response, std::convert::Infallible> {
    request.extensions_mut().insert(Peer(peer.ip().to_canonical()));
    if let Ok(answered) = tokio::time::timeout(limit, router.oneshot(request)).await {
        return answered;
    }
    Ok((StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, HeaderValue::from_static("1"))]).into_response())
}

/// What a connection is doing. The version of HTTP is told by the first bytes, and while those are waited for no time-out
/// of hyper's runs: a client that connects and says nothing would keep its place for ever.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicUsize,
    running: AtomicUsize,
}

impl Activity {
    /// Returns once the connection has been of no use for too long.
    async fn ceases(&self, patience: Patience) {
        tokio::time::sleep(patience.headers).await;
        let mut before = self.begun.load(Ordering::Relaxed);
        while before > 0 {
            tokio::time::sleep(patience.idle).await;
            let begun = self.begun.load(Ordering::Relaxed);
            if begun == before && self.running.load(Ordering::Relaxed) == 0 {
                return;
            }
            before = begun;
        }
    }
}

/// One request, from its headers to its answer or its end.
struct Running(Arc<Activity>);

impl Running {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        activity.running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a connection for as long as it is open.
struct Open {
    gauge: IntGauge,
    _slot: OwnedSemaphorePermit,
}

impl Open {
    fn new(gauge: &IntGauge, slot: OwnedSemaphorePermit) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone(), _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests;
