//! Each pure stage by itself, and the path of a replay through all of them. Quote a figure with machine and commit.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark may stop at the first surprise")]

use criterion::{criterion_group, criterion_main};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[path = "parts/alias.rs"]
mod alias;
#[path = "parts/detect.rs"]
mod detect;
#[path = "parts/normalize.rs"]
mod normalize;
#[path = "parts/pipeline.rs"]
mod pipeline;
#[path = "parts/signature.rs"]
mod signature;

criterion_group!(benches, signature::bench, normalize::bench, alias::bench, detect::bench, pipeline::bench);
criterion_main!(benches);
