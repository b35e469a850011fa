//! The program `sae`: reads its arguments, runs one command, prints what it found. All work is done in the crates.

mod args;
mod commands;
mod failure;
mod interrupt;
mod plots;
mod terminal;

use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

// Large outputs page-fault under the system's allocator: products take twice as long (see BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let ran = match interrupt::listen() {
        Ok(()) => commands::run(&args),
        Err(e) => Err(anyhow::Error::new(e).context("cannot listen for Ctrl-C")),
    };
    let printed = ran.and_then(|outcome| match print(&outcome, args.json) {
        // Whoever closes the pipe has read enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(anyhow::anyhow!("cannot write to stdout: {e}")),
        _ => Ok(()),
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", failure::message(&error));
            ExitCode::from(failure::status(&error))
        }
    }
}

fn print(outcome: &commands::Outcome, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{:#}", outcome.json),
        false => writeln!(out, "{}", outcome.text.trim_end()),
    }
}
