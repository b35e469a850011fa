//! The command that is divided: its part with a number, and the command that follows all parts.

use super::Args;
use crate::cli::{Command, pass::Pass};
use anyhow::{Result, bail};
use clap::Parser;
use std::path::{Path, PathBuf};

/// A command in parts.
pub struct Job {
    /// `harvest` or `pass`.
    pub name: &'static str,
    /// The words of a part, but for what names the part.
    words: Vec<String>,
    /// The flag that names the part.
    flag: &'static str,
    /// The folder of the run of each part, if each has one.
    shards: Option<PathBuf>,
    parts: u32,
    /// The command that follows all parts.
    pub last: Vec<String>,
    /// The folder for what the parts say.
    pub logs: PathBuf,
}

impl Job {
    /// Divides a command, without its program, into parts.
    pub fn new(command: &[String], parts: u32) -> Result<Self> {
        let flag = match command.first().map(String::as_str) {
            Some("harvest") => "--shard",
            Some("pass") => "--part",
            first => {
                let found = first.unwrap_or_default();
                bail!("sae {found} is not divided into parts: expected harvest or pass")
            }
        };
        if command.iter().any(|word| word == flag || word.starts_with(&format!("{flag}="))) {
            bail!("the command says which part it is\nhint: leave {flag} out, which is added for each part");
        }
        // A pass needs a part, so that it is read with one.
        let with_part = ["sae"].into_iter().chain(command.iter().map(String::as_str)).chain([flag, "1/1"]);
        let read = match Args::try_parse_from(with_part) {
            Ok(args) => args.command,
            Err(error) => bail!("the command cannot be divided: {}", error.render()),
        };
        match read {
            Command::Harvest(args) => Ok(Self::harvest(command, parts, &args.run)),
            Command::Pass(pass) => Ok(Self::pass(command, parts, &pass)),
            _ => bail!("the command cannot be divided: expected harvest or pass"),
        }
    }

    fn harvest(command: &[String], parts: u32, run: &Path) -> Self {
        let mut shards = run.as_os_str().to_owned();
        shards.push(".shards");
        let shards = PathBuf::from(shards);
        let words = with_program(without("--run", command));
        let folders = (1..=parts).map(|number| shards.join(number.to_string()).display().to_string());
        let last = ["sae".to_owned(), "merge".to_owned()].into_iter().chain(folders);
        let last = last.chain(["--run".to_owned(), run.display().to_string()]).collect();
        let logs = shards.join("logs");
        Self { name: "harvest", words, flag: "--shard", shards: Some(shards), parts, last, logs }
    }

    fn pass(command: &[String], parts: u32, pass: &Pass) -> Self {
        let (operation, sae) = pass.what();
        let name = sae.sae.as_ref().map_or_else(|| operation.to_owned(), |name| format!("{operation}-{name}"));
        // Parts of other numbers of parts, which cannot be put together with these, are in other folders.
        let own = || sae.run.join("parts").join(format!("{name}-of-{parts}"));
        let folder = pass.part().out.clone().unwrap_or_else(own);
        let mut words = with_program(without("--out", command));
        words.extend(["--out".to_owned(), folder.display().to_string()]);
        let last = ["sae", "reduce", &folder.display().to_string(), "--run", &sae.run.display().to_string()];
        let last = last.map(String::from).to_vec();
        Self { name: "pass", words, flag: "--part", shards: None, parts, last, logs: folder.join("logs") }
    }

    /// The words of a part that learns its number from the scheduler; `number` is its number for the shell, which names its run.
    pub fn part(&self, number: &str) -> Vec<String> {
        self.with_share("auto", number)
    }

    /// The words of the part of a number.
    pub fn part_of(&self, number: u32) -> Vec<String> {
        self.with_share(&format!("{number}/{}", self.parts), &number.to_string())
    }

    fn with_share(&self, share: &str, number: &str) -> Vec<String> {
        let mut words = self.words.clone();
        words.extend([self.flag.to_owned(), share.to_owned()]);
        if let Some(shards) = &self.shards {
            words.extend(["--run".to_owned(), format!("{}/{number}", shards.display())]);
        }
        words
    }
}

fn with_program(words: Vec<String>) -> Vec<String> {
    std::iter::once("sae".to_owned()).chain(words).collect()
}

/// The words but for a flag and its value.
fn without(flag: &str, words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == flag {
            words.next();
        } else if !word.starts_with(&format!("{flag}=")) {
            kept.push(word.clone());
        }
    }
    kept
}
