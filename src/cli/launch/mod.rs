//! `sae launch`: runs a harvest or a pass in parts, here or by a script for a cluster.

mod job;
mod kubernetes;
mod ray;
mod slurm;

use super::{Args, Invocation, Outcome};
use anyhow::{Context, Result};
use job::Job;
use sae_workbench::{LaunchReport, LaunchRequest};
use serde::Serialize;
use std::fs;
use std::path::PathBuf;

/// `sae launch`
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The command after -- is a `sae harvest` or a `sae pass`, without --shard and --part. Each part of a harvest is captured into RUN.shards/N, \
and `sae merge` joins them into RUN; the parts of a pass are reduced into their run. `local` runs everything. The other engines print a \
script, which is a start: add what your site needs. What the script does may be done again, and continues where it stopped.

Examples:
  sae launch local --parts 4 -- harvest --model llava --data train.jsonl --layers 16 --run run
  sae launch local --parts 8 --gpus 1 -- harvest ...      one GPU for each of eight processes
  sae launch slurm --parts 64 --gpus 1 --out job.sh -- harvest ...
  sae launch k8s --parts 16 --image registry/sae:1 --out job.yaml -- pass index --run run
  sae launch ray --parts 16 --out job.py -- harvest ...")]
pub struct LaunchArgs {
    /// What runs the parts: local (processes of this machine), slurm (an array), k8s (an Indexed Job) or ray
    #[arg(hide_possible_values = true)]
    pub engine: Engine,
    /// How many parts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub parts: u32,
    /// Parts that run at once (default: all of them; local: one)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub at_once: Option<u32>,
    /// How often a part is tried before it is given up
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub tries: u32,
    /// GPUs of each part
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub gpus: u32,
    /// k8s: the container image, which has `sae`
    #[arg(long, value_name = "IMAGE", default_value = "sae-workbench")]
    pub image: String,
    /// Where the script goes (default: it is printed)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The command that is divided
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What runs the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// Processes of this machine.
    Local,
    /// A job array.
    Slurm,
    /// An Indexed Job.
    K8s,
    /// Tasks of Ray.
    Ray,
}

/// How much of a cluster a job takes.
struct Size {
    parts: u32,
    at_once: u32,
    tries: u32,
    gpus: u32,
}

/// What is planned, and for other engines than `local` what is done.
#[derive(Serialize)]
struct Planned {
    command: &'static str,
    parts: u32,
    /// The command of the first part.
    first: Vec<String>,
    /// The command that follows all parts.
    last: Vec<String>,
    /// The script for a cluster.
    script: Option<String>,
    /// Where it was written.
    out: Option<String>,
}

/// Runs the command.
pub fn run(args: &LaunchArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let job = Job::new(&args.command, args.parts)?;
    let size = Size {
        parts: args.parts,
        at_once: args.at_once.unwrap_or(if args.engine == Engine::Local { 1 } else { args.parts }),
        tries: args.tries,
        gpus: args.gpus,
    };
    let script = match args.engine {
        Engine::Local => None,
        Engine::Slurm => Some(slurm::script(&job, &size)),
        Engine::K8s => Some(kubernetes::manifest(&job, &size, &args.image)),
        Engine::Ray => Some(ray::driver(&job, &size)),
    };
    let planned = |script: &Option<String>| Planned {
        command: "launch",
        parts: args.parts,
        first: job.part("1"),
        last: job.last.clone(),
        script: script.clone(),
        out: args.out.as_ref().map(|path| path.display().to_string()),
    };
    match &script {
        _ if invocation.dry_run => Outcome::plan(planned(&script)),
        None => local(&job, &size, invocation),
        Some(text) => {
            let text = match &args.out {
                None => text.clone(),
                Some(path) => {
                    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
                    path.display().to_string()
                }
            };
            Outcome::new(planned(&script), text)
        }
    }
}

fn local(job: &Job, size: &Size, invocation: &mut Invocation) -> Result<Outcome> {
    let program = std::env::current_exe().context("the program does not know where it is")?;
    let program = program.to_str().context("the path of the program is not UTF-8")?.to_owned();
    let words = |words: Vec<String>| -> Vec<String> {
        std::iter::once(program.clone()).chain(words.into_iter().skip(1)).collect()
    };
    let mut last = words(job.last.clone());
    last.extend(invocation.json.then(|| "--json".to_owned()));
    let request = LaunchRequest {
        parts: (1..=size.parts).map(|number| words(job.part_of(number))).collect(),
        last,
        at_once: size.at_once as usize,
        tries: size.tries,
        gpus: size.gpus as usize,
        logs: job.logs.clone(),
    };
    let report = request.run(invocation.control)?;
    let mut json = serde_json::to_value(&report)?;
    if invocation.json {
        json["output"] = serde_json::from_str(&report.output).context("the last command printed no JSON")?;
    }
    Outcome::new(json, describe(&report))
}

fn describe(report: &LaunchReport) -> String {
    let again =
        if report.retries > 0 { format!("; {} failed and were run again", report.retries) } else { String::new() };
    format!("{} parts in {:.1} s{again}\n{}", report.parts, report.seconds, report.output.trim_end())
}
