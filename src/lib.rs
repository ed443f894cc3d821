//! authspike: a streaming detector of credential attacks on apps that sign in with Clerk.
//!
//! The whole program in one line:
//! `source → AuthEvent → log (durable) → detector task per partition → Finding → outbox → sink → SIEM`.
//!
//! Everything to the left of the log answers "did this really happen, and is it safe on disk"; everything to its right
//! is a deterministic function of the log. That one cut gives restart without loss, replay of the past, and tests that
//! feed events in and compare findings out.
//!
//! # Invariants
//! - An acknowledged event is durable, and is counted once however often it is delivered.
//! - `detect` is pure: no IO, clock, threads, locks, randomness or logging; its output depends on the log alone.
//! - A finding has the same ids after a crash as without one, and leaves the outbox only when its sink has taken it.
//! - Every queue, map and body has a bound, with the reason beside it.
//! - No password, one-time code, e-mail address or message body is stored, logged or exported.
//!
//! `tests/it/architecture.rs` checks which module may name which.

#![cfg_attr(
    test,
    allow(
        clippy::float_cmp,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "tests compare exact results and make numbers from small ones"
    )
)]

pub mod event;
pub mod finding;

pub mod clock;
pub mod metrics;
pub mod secret;

pub mod http;
pub mod normalize;

pub mod alias;
pub mod sources;

pub mod log;
pub mod store;

pub mod detect;
pub mod pipeline;

pub mod sinks;

pub mod erasure;

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod logging;
pub mod shutdown;
pub mod simulate;
