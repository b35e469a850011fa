//! `sae serve`: shows a run in the browser.

use super::arguments::SaeArgs;
use super::{Invocation, Outcome};
use anyhow::{Context, Result};
use clap::Args;
use sae_workbench::ServeRequest;
use serde_json::json;
use std::io::{self, Write};

/// `sae serve`
#[derive(Args, Debug)]
#[command(after_help = "\
One line on stdout says when the server is ready, and which address to open. The address has a
token, without which nothing is answered. Ctrl-C ends the server.

Examples:
  sae serve --run run                                     on any free port of 127.0.0.1
  sae serve --run run --sae base --port 8000
  ssh -L 8000:127.0.0.1:8000 cluster                      on a laptop; the server is on `cluster`

In a notebook:
  IPython.display.IFrame(address, 1200, 800)")]
pub struct ServeArgs {
    #[command(flatten)]
    pub sae: SaeArgs,
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
}

/// Runs the command.
pub fn run(args: &ServeArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let sae = args.sae.choice();
    let request = ServeRequest { run: sae.run, sae: sae.sae, port: args.port, device: sae.device };
    if invocation.dry_run {
        return Outcome::plan(request.plan()?);
    }
    let server = request.bind()?;
    let ready = if invocation.json { json!({ "url": server.url() }).to_string() } else { server.url() };
    let mut out = io::stdout().lock();
    writeln!(out, "{ready}").and_then(|()| out.flush()).context("cannot write to stdout")?;
    drop(out);
    server.run(invocation.control)?;
    Ok(Outcome::printed())
}
