//! `sae completions`: the script with which a shell completes the commands and options of `sae`.

use super::{Args, Outcome};
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

/// `sae completions`
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  sae completions bash > ~/.local/share/bash-completion/completions/sae
  sae completions zsh > ~/.zfunc/_sae                           with ~/.zfunc in $fpath
  sae completions fish > ~/.config/fish/completions/sae.fish")]
pub struct CompletionsArgs {
    /// The shell that will read the script
    pub shell: Shell,
}

/// Prints the script. `--dry-run` changes nothing: no file is written.
pub fn run(args: &CompletionsArgs) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "sae", &mut script);
    let script = String::from_utf8(script)?;
    Outcome::new(json!({ "shell": args.shell.to_string(), "script": script }), script)
}
