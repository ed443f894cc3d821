//! The integration tests: one binary, so that it links once; one module a capability.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the in-tests exemptions do not reach helper functions"
)]

mod generated;
mod ocsf;
mod sinks;
