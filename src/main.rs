//! The program `sae`. Its commands are in `cli`, its plots in `plots`; the work is done by the library and the crates below it.

mod cli;
mod plots;

use std::process::ExitCode;

// Large outputs page-fault under the system's allocator: products take twice as long (see BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
