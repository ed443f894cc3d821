//! A real Apache Kafka for the tests: one broker that all tests share, and clusters of their own for those that
//! kill, pause or secure them.
//!
//! Nothing here imitates a broker, and nothing is skipped where one cannot be had: without Java 17, Maven or openssl
//! the tests fail and say what is missing.

mod access;
mod aliases;
mod brokers;
mod client;
mod cluster;
mod crashes;
mod edges;
mod equality;
mod erasure;
mod fleet;
mod jars;
mod leash;
mod mapped;
mod protocols;
mod scaling;
mod security;
mod settings;
mod skew;
mod smoke;

#[allow(unused_imports, reason = "the fixture's whole vocabulary, whichever of it the tests use today")]
pub use access::{Identity, Login};
#[allow(unused_imports, reason = "as above")]
pub use client::{Record, acknowledged, create_topic, read_topic};
#[allow(unused_imports, reason = "as above")]
pub use cluster::{Cluster, Security, Spec};
