//! Bodies on their way through: what is noticed of them without holding them up.
//!
//! Invariant: every frame is passed on as it came and when it came. Of a request's body nothing is copied but two fields of
//! a sign-in's form ([`Form`]); of an answer's at most [`MAX_ANSWER_BYTES`], and only if it is about a sign-in. The
//! identifier is hashed before it leaves this file.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use hyper::body::{Frame, Incoming, SizeHint};

use super::record::{Queue, Sighted};
use crate::clock::Clock;
use crate::event::Tenant;
use crate::http::Progress;
use crate::normalize::fapi::Route;
use crate::normalize::fapi::form::Form;
use crate::normalize::identifier::IdentifierKey;

/// An answer to a sign-in has 2 to 50 kB, with a client of many sessions.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Frames of a request's body that went to Clerk, so that a slow upload is told from a server that is silent.
pub(super) type Sent = Arc<AtomicU64>;

/// Makes [`Sighting`]s.
pub(super) struct Watcher {
    queue: Queue,
    key: IdentifierKey,
    tenant: Tenant,
    clock: Clock,
}

impl Watcher {
    pub(super) fn new(queue: Queue, key: IdentifierKey, tenant: Tenant, clock: Clock) -> Self {
        Self { queue, key, tenant, clock }
    }

    /// A request about a sign-in begins.
    pub(super) fn sight(self: &Arc<Self>, route: Route, ip: Option<IpAddr>, headers: &HeaderMap) -> Sighting {
        let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let form = is_form(headers).then(Form::default).filter(|_| route.has_form());
        Sighting { watcher: Arc::clone(self), route, ip, agent: agent.map(Box::from), form: Arc::new(Mutex::new(form)) }
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let media_type = super::super::media_type(headers);
    media_type.as_deref() == Some("application/x-www-form-urlencoded")
        && !headers.contains_key(header::CONTENT_ENCODING)
}

type SharedForm = Arc<Mutex<Option<Form>>>;

/// A request about a sign-in, before its answer.
pub(super) struct Sighting {
    watcher: Arc<Watcher>,
    route: Route,
    ip: Option<IpAddr>,
    agent: Option<Box<str>>,
    form: SharedForm,
}

impl Sighting {
    /// For the request's body.
    pub(super) fn form(&self) -> SharedForm {
        Arc::clone(&self.form)
    }

    /// The answer begins.
    pub(super) fn answered(self, status: u16, headers: &HeaderMap) -> Answer {
        let gzip = headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding == "gzip" || coding == "x-gzip");
        Answer { sighting: Some(self), status, gzip, body: Vec::new(), is_cut: false }
    }
}

/// An answer to such a request; once it ends, or nobody wants the rest, it is handed over.
pub(super) struct Answer {
    sighting: Option<Sighting>,
    status: u16,
    gzip: bool,
    body: Vec<u8>,
    is_cut: bool,
}

impl Answer {
    fn read(&mut self, bytes: &[u8]) {
        if self.body.len() + bytes.len() > MAX_ANSWER_BYTES {
            (self.is_cut, self.body) = (true, Vec::new());
        } else if !self.is_cut {
            self.body.extend_from_slice(bytes);
        }
    }

    fn hand_over(&mut self) {
        let Some(Sighting { watcher, route, ip, agent, form }) = self.sighting.take() else { return };
        let form = form.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (identifier, strategy) = form.map(Form::finish).unwrap_or_default();
        let identifier = identifier.filter(|it| !it.trim().is_empty());
        watcher.queue.put(Sighted {
            at: watcher.clock.now(),
            route,
            status: self.status,
            gzip: self.gzip,
            body: std::mem::take(&mut self.body),
            is_cut: self.is_cut,
            identifier: identifier.map(|identifier| watcher.key.hash(&watcher.tenant, &identifier)),
            strategy: strategy.map(String::into_boxed_str),
            ip,
            agent,
        });
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // With a known length nobody asks for a frame after the last one.
        self.hand_over();
    }
}

/// A request's body.
pub(super) struct Upload {
    body: Body,
    form: Option<SharedForm>,
    sent: Sent,
    progress: Option<Progress>,
}

impl Upload {
    pub(super) fn new(body: Body, form: Option<SharedForm>, sent: Sent, progress: Option<Progress>) -> Self {
        Self { body, form, sent, progress }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.sent.fetch_add(1, Ordering::Relaxed);
            self.progress.iter().for_each(Progress::mark);
            if let (Some(bytes), Some(form)) = (frame.data_ref(), &self.form)
                && let Some(form) = &mut *form.lock().unwrap_or_else(PoisonError::into_inner)
            {
                form.read(bytes);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body.
pub(super) struct Download {
    body: Incoming,
    answer: Option<Answer>,
    progress: Option<Progress>,
}

impl Download {
    pub(super) fn new(body: Incoming, answer: Option<Answer>, progress: Option<Progress>) -> Self {
        Self { body, answer, progress }
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.progress.iter().for_each(Progress::mark);
                if let (Some(bytes), Some(answer)) = (frame.data_ref(), &mut self.answer) {
                    answer.read(bytes);
                }
            }
            Poll::Ready(None | Some(Err(_))) => drop(self.answer.take()),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
