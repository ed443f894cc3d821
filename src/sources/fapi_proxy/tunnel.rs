//! Connections that became something else (WebSocket): bytes to and fro, nothing of them looked at.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Each holds two sockets for as long as both sides like. Clerk's SDK opens none today.
const MAX_TUNNELS: usize = 1024;

/// Places for them.
#[derive(Clone, Debug)]
pub(super) struct Tunnels(Arc<Semaphore>);

impl Default for Tunnels {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_TUNNELS)))
    }
}

impl Tunnels {
    /// A place, if there is one.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// Joins the client's connection with the one that `answer` came on, if the server agreed.
pub(super) fn join<B>(client: OnUpgrade, answer: &mut Response<B>, place: OwnedSemaphorePermit) {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let server = hyper::upgrade::on(answer);
    tokio::spawn(async move {
        if let (Ok(client), Ok(server)) = tokio::join!(client, server) {
            // Which side ended it, and how, is their affair.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
        }
        drop(place);
    });
}
