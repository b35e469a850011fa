//! The program `sae`: reads its arguments, runs one command, prints what it found. All work is done in the crates.

mod args;
mod commands;
mod interrupt;
mod picture;
mod terminal;

use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

// Large outputs page-fault under the system's allocator: products take twice as long (see BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match commands::run(&args) {
        Ok(outcome) => match print(&outcome, args.json) {
            // Whoever closes the pipe has read enough.
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => fail(&format!("cannot write to stdout: {e}")),
            _ => ExitCode::SUCCESS,
        },
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn print(outcome: &commands::Outcome, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{:#}", outcome.json),
        false => writeln!(out, "{}", outcome.text.trim_end()),
    }
}

fn fail(message: &str) -> ExitCode {
    // A hint stands on a line of its own, behind the cause.
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
