//! One integration binary: it links once.
#![allow(missing_docs, unreachable_pub, reason = "tests: nobody outside reads or names them")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    reason = "the allow-…-in-tests settings do not reach functions that tests share"
)]

mod alertmanager;
mod aliases;
mod architecture;
mod attempts;
mod cli;
mod config;
mod delivery;
mod deployment;
mod determinism;
mod erasure;
mod evaluation;
mod explain;
mod fapi_proxy;
mod faulty;
mod formats;
mod generated;
mod health;
mod judges;
mod kafka;
mod mapped;
mod normalize;
mod ocsf;
mod outbox;
mod outgoing;
mod readme;
mod receivers;
mod reload;
mod run;
mod sentinel;
mod signature;
mod simulate;
mod sinks;
mod stub;
mod support;
mod syslog;
mod webhook;
