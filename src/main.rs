//! The binary: hands its arguments to [`authspike::cli`] and ends with the code that comes back.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    authspike::cli::main(std::env::args_os())
}
