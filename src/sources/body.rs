//! Takes a body in: bounded in size, in time, and in the memory of all bodies together.
//!
//! Invariant: what bodies hold in memory at one time never exceeds the budget. It is charged as bytes arrive, so a
//! stranger who announces much and sends nothing takes nothing from others.
//!
//! Not here: who may send at all; callers look at the headers before they read a body.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refused;

/// A body of the largest size in this time is under a megabyte a second; below Svix's 15 s.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Reserved at first, whatever length is announced: most bodies are smaller.
const FIRST_CAPACITY: usize = 16 * 1024;

/// Bytes that the bodies of one endpoint may hold together.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    fn charge(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
        let bytes = u32::try_from(bytes).map_err(|_| Refused::overloaded())?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).map_err(|_| Refused::overloaded())
    }
}

/// A body that has arrived whole, and its share of the budget.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    /// Given back when the body is no longer needed.
    _charged: Option<OwnedSemaphorePermit>,
}

/// The whole body, if it has at most `max` bytes: refused by its announced length, or as soon as more has come.
pub(super) async fn read(headers: &HeaderMap, body: Body, max: usize, budget: &Budget) -> Result<Whole, Refused> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max as u64) {
        return Err(too_large(max));
    }
    let late = |_| Refused::new(StatusCode::REQUEST_TIMEOUT, "slow_body", "the body took too long to arrive");
    tokio::time::timeout(READ_TIMEOUT, collect(body, max, budget)).await.map_err(late)?
}

async fn collect(mut body: Body, max: usize, budget: &Budget) -> Result<Whole, Refused> {
    let mut whole = BytesMut::new();
    let mut charged: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let broken = |_| Refused::new(StatusCode::BAD_REQUEST, "broken_body", "the body did not arrive whole");
        // Trailers carry nothing that is read.
        let Ok(chunk) = frame.map_err(broken)?.into_data() else { continue };
        if whole.len() + chunk.len() > max {
            return Err(too_large(max));
        }
        let permit = budget.charge(chunk.len())?;
        match &mut charged {
            Some(charged) => charged.merge(permit),
            None => charged = Some(permit),
        }
        if whole.is_empty() {
            whole.reserve(FIRST_CAPACITY.max(chunk.len()));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(Whole { bytes: whole.freeze(), _charged: charged })
}

fn too_large(max: usize) -> Refused {
    let message = format!("the body has more than {max} bytes");
    Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sized(bytes: usize, max: usize, budget: &Budget) -> Result<Whole, Refused> {
        read(&HeaderMap::new(), Body::from(vec![b'x'; bytes]), max, budget).await
    }

    #[tokio::test]
    async fn the_limit_is_exact_and_an_announced_length_is_enough_to_refuse() {
        let budget = Budget::new(1000);
        assert_eq!(sized(100, 100, &budget).await.unwrap().bytes.len(), 100);
        assert_eq!(sized(101, 100, &budget).await.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, "101".parse().unwrap())]);
        let refused = read(&headers, Body::empty(), 100, &budget).await.unwrap_err();
        assert_eq!((refused.status, refused.reason), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
    }

    #[tokio::test]
    async fn bodies_share_one_budget_and_give_it_back() {
        let budget = Budget::new(150);
        let first = sized(100, 100, &budget).await.unwrap();
        let refused = sized(51, 100, &budget).await.unwrap_err();
        assert_eq!((refused.status, refused.reason), (StatusCode::SERVICE_UNAVAILABLE, "overloaded"));
        assert_eq!(sized(50, 100, &budget).await.unwrap().bytes.len(), 50);
        drop(first);
        assert_eq!(sized(100, 100, &budget).await.unwrap().bytes.len(), 100);
        assert_eq!(budget.0.available_permits(), 150, "all of it came back");
    }
}
