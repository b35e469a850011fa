//! `sae train`: turns arguments into configurations, and reports what was trained.

use super::arguments::{DeviceArg, ModelArgs, ShareArg, pair};
use super::{Invocation, Outcome};
use crate::cli::terminal::count;
use anyhow::{Context, Error, Result, bail};
use clap::Args;
use sae_core::autoencoder::Architecture;
use sae_core::store::PositionRule;
use sae_core::train::TrainConfig;
use sae_core::train::ranks::Rendezvous;
use sae_workbench::import::SaeSource;
use sae_workbench::train::{Resume, config_of_base, read_config};
use sae_workbench::{Control, TrainReport, TrainRequest};
use std::path::PathBuf;
use std::time::Duration;

const MODEL_HELP: &str = "Checkpoint, as for `sae harvest`: activations straight from the model, without storing them";

/// What `--arch` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchArg {
    /// An autoencoder of one model.
    Single(Architecture),
    /// A BatchTopK autoencoder of the joined states of several models.
    Crosscoder,
}

impl std::str::FromStr for ArchArg {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "crosscoder" {
            return Ok(Self::Crosscoder);
        }
        name.parse().map(Self::Single).map_err(|cause: String| cause + ", crosscoder")
    }
}

impl ArchArg {
    /// What decides how activations are computed.
    fn architecture(self) -> Architecture {
        match self {
            Self::Single(arch) => arch,
            Self::Crosscoder => Architecture::BatchTopK,
        }
    }
}

/// `sae train`
#[derive(Args, Debug)]
#[command(mut_arg("model", |arg| arg.help(MODEL_HELP)), after_help = "\
Examples:
  sae train --run run --hook layers.16 --name base --preset sae-v
  sae train --run run --hook layers.16 --name topk --arch topk --k 64 --steps 10000
  sae train --run run --hook layers.16 --name sweep --arch batch-topk --sweep k=16,32,64
  sae train --run base --run chat --hook layers.16 --name cc --arch crosscoder --k 32
  sae train --run chat --hook layers.16 --name chat --from base/saes/base
  sae train --run run --hook layers.17 --name tuned --from hub:google/gemma-scope-2-4b-it/resid_post/layer_17_width_16k_l0_medium
  sae train --run run --hook layers.4.mlp_in --target layers.4.mlp_out --name mlp --arch topk --skip
  sae train --run run --hook layers.16 --name base --resume          after Ctrl-C, a kill or a full disk
  sae train --run new --model llava-1.5-7b-hf --data train.jsonl --hook layers.16 --name live
  mpirun -np 3 sae train --run run --hook layers.16 --name wide --features 262144 --ranks auto --rendezvous node-1:29400")]
pub struct TrainArgs {
    /// Run folder with activations; with --model it may be new. A crosscoder needs two to nine, one for each model: --run base --run chat
    #[arg(long, required = true)]
    pub run: Vec<PathBuf>,
    /// Activations to train on, such as layers.16 or layers.16.mlp_out
    #[arg(long)]
    pub hook: String,
    /// Train a transcoder: activations of the same run that it reconstructs from those of --hook, such as layers.4.mlp_out
    #[arg(long, value_name = "HOOK")]
    pub target: Option<String>,
    /// Transcoder: also train a linear skip connection from input to target
    #[arg(long, requires = "target")]
    pub skip: bool,
    /// Name of the new autoencoder
    #[arg(long)]
    pub name: String,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Fine-tune an autoencoder whose features keep their indices: one of the run by its name, a file or folder, or a published one (hub:OWNER/REPO/PATH)
    #[arg(long, value_name = "SAE", visible_alias = "init", conflicts_with_all = ["preset", "arch", "expansion", "features"])]
    pub from: Option<PathBuf>,
    /// A published recipe; every other flag overrides it
    #[arg(long, value_parser = ["sae-v"])]
    pub preset: Option<String>,
    /// A train.toml to start from; every other flag overrides it
    #[arg(long, conflicts_with = "preset")]
    pub config: Option<PathBuf>,
    /// Architecture: relu, topk, batch-topk, jumprelu, gated, matryoshka, or crosscoder (batch-topk on several models at once)
    #[arg(long)]
    pub arch: Option<ArchArg>,
    /// Features for every dimension of the residual stream
    #[arg(long, conflicts_with = "features")]
    pub expansion: Option<usize>,
    /// Number of features
    #[arg(long)]
    pub features: Option<usize>,
    /// Active features per token (topk, batch-topk, matryoshka)
    #[arg(long)]
    pub k: Option<usize>,
    /// Weight of the sparsity penalty (relu, gated)
    #[arg(long)]
    pub l1: Option<f64>,
    /// Weight of the sparsity penalty (jumprelu)
    #[arg(long)]
    pub l0: Option<f64>,
    /// Learning rate
    #[arg(long)]
    pub lr: Option<f64>,
    /// Tokens per step
    #[arg(long)]
    pub batch: Option<usize>,
    /// Steps; warm-up and decay keep their shares
    #[arg(long)]
    pub steps: Option<u64>,
    /// Rows of the mixing buffer
    #[arg(long)]
    pub buffer: Option<usize>,
    /// Decides initial weights and the order of the data
    #[arg(long)]
    pub seed: Option<u64>,
    /// Positions to leave out: special (template, begin, newline), first (of every sample)
    #[arg(long, value_delimiter = ',', value_parser = ["special", "first"])]
    pub exclude: Vec<String>,
    /// Leave out positions whose norm exceeds N times the median: attention sinks
    #[arg(long, value_name = "TIMES")]
    pub max_norm: Option<f64>,
    /// Any field of train.toml, such as decoder=unit or aux_loss_coefficient=0.03
    #[arg(long, value_name = "FIELD=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Several autoencoders in one pass over the data, one a value: k=16,32,64
    #[arg(long, value_name = "FIELD=V1,V2", value_parser = pair)]
    pub sweep: Vec<(String, String)>,
    /// Steps between two checkpoints
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_every: u64,
    /// Continue from the newest checkpoint; the result has the same bytes as an uninterrupted training
    #[arg(long)]
    pub resume: bool,
    /// Train with several processes, on CPUs or (topk, batch-topk, matryoshka) with a GPU each. Each has a share of the features. 2/3 is the second of three; auto asks torchrun, Open MPI's mpirun, or srun. An interrupted training continues, with any number of processes
    #[arg(long, value_name = "I/N", requires = "rendezvous", conflicts_with = "model")]
    pub ranks: Option<ShareArg>,
    /// Where the processes connect to each other: the host of the first one, and a free port there
    #[arg(long, value_name = "HOST:PORT", requires = "ranks")]
    pub rendezvous: Option<String>,
    #[command(flatten)]
    pub device: DeviceArg,
}

/// How long a process waits for the others.
const TIMEOUT: Duration = Duration::from_secs(600);

impl TrainArgs {
    /// Where the processes that train together connect.
    fn rendezvous(&self) -> Result<Option<Rendezvous>> {
        let (Some(ranks), Some(address)) = (self.ranks, &self.rendezvous) else { return Ok(None) };
        let rank = ranks.rank()?;
        let (rank, count) = (rank.number() as usize - 1, rank.count() as usize);
        Ok(Some(Rendezvous { rank, count, address: address.clone(), timeout: TIMEOUT }))
    }

    fn request(&self, invocation: &mut Invocation) -> Result<TrainRequest> {
        let from = self.from.clone().map(SaeSource::from_path).transpose().map_err(Error::msg)?;
        let control = if invocation.dry_run { None } else { Some(&mut *invocation.control) };
        let config = config(self, from.as_ref(), control)?;
        Ok(TrainRequest {
            run: self.run[0].clone(),
            others: self.run[1..].to_vec(),
            hook: self.hook.clone(),
            target: self.target.clone(),
            saes: sweep(&self.name, &config, &self.sweep)?,
            from,
            online: self.model.plan(self.device),
            checkpoint_every: self.checkpoint_every,
            resume: match (self.resume, self.ranks) {
                (true, _) => Resume::Required,
                // Whoever starts the processes starts them again with the same command.
                (false, Some(_)) => Resume::IfBegun,
                (false, None) => Resume::Never,
            },
            device: self.device.device,
            rendezvous: self.rendezvous()?,
        })
    }
}

/// Runs the command.
pub fn run(args: &TrainArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = args.request(invocation)?;
    if invocation.dry_run {
        let plan = request.plan()?;
        return match plan.finished {
            Some(report) => outcome(report, args),
            None => Outcome::plan(plan),
        };
    }
    outcome(request.run(invocation.control)?, args)
}

fn outcome(report: TrainReport, args: &TrainArgs) -> Result<Outcome> {
    let text = describe(&report, args);
    Outcome::new(report, text)
}

fn describe(report: &TrainReport, args: &TrainArgs) -> String {
    if report.finished_before {
        let names: Vec<_> = report.saes.iter().map(|sae| sae.name.as_str()).collect();
        return format!("finished already, with the same settings: {}\n  {}", names.join(", "), args.run[0].display());
    }
    if let Some(rank) = report.rank {
        return format!("rank {rank}: its features are trained; the first rank saves them all\n");
    }
    let line = |sae: &sae_workbench::train::TrainedSae| {
        let last = &sae.last;
        format!(
            "{}: {} features on {}{}, {} tokens\n  loss {:.4}  L0 {:.1}  FVU {:.4}  dead {:.1} %\n  {}\n",
            sae.name,
            count(sae.d_sae as u64),
            args.hook,
            args.target.as_ref().map(|target| format!(" for {target}")).unwrap_or_default(),
            count(last.tokens),
            last.loss,
            last.l0,
            last.fvu,
            100.0 * last.dead,
            sae.folder.display(),
        )
    };
    report.saes.iter().map(line).chain(unread_k(args)).collect()
}

/// What to know if `--k` was given to an architecture that does not read it.
fn unread_k(args: &TrainArgs) -> Option<String> {
    let arch = match args.arch {
        None if args.from.is_some() || args.config.is_some() => return None,
        None => Architecture::Relu,
        Some(ArchArg::Single(arch)) => arch,
        Some(ArchArg::Crosscoder) => return None,
    };
    let penalty = match arch {
        Architecture::Relu | Architecture::Gated => "--l1",
        Architecture::JumpRelu => "--l0",
        Architecture::TopK | Architecture::BatchTopK | Architecture::Matryoshka => return None,
    };
    let name = arch.name();
    args.k.map(|k| format!("note: {name} does not read --k {k}; {penalty} decides how many features are active\n"))
}

/// The configuration that the arguments ask for.
fn config(args: &TrainArgs, from: Option<&SaeSource>, control: Option<&mut Control>) -> Result<TrainConfig> {
    for (flag, value) in [("--features", args.features), ("--expansion", args.expansion), ("--k", args.k)] {
        if value == Some(0) {
            bail!("{flag} 0: an autoencoder has at least one feature, and at least one that is active");
        }
    }
    if args.arch == Some(ArchArg::Crosscoder) && !(2..=9).contains(&args.run.len()) {
        let runs = args.run.len();
        bail!(
            "--arch crosscoder needs two to nine runs of the same samples, one for each model, and --run is given {runs} times"
        );
    }
    let mut config = match (&args.config, from) {
        (Some(path), _) => read_config(path)?,
        (None, Some(from)) => config_of_base(&args.run[0], from, args.k, control)?,
        (None, None) if args.preset.is_some() => TrainConfig::default(),
        (None, None) => match args.arch {
            Some(ArchArg::Crosscoder) => TrainConfig::crosscoder(args.run.len()),
            Some(ArchArg::Single(arch)) => TrainConfig::for_architecture(arch),
            None => TrainConfig::default(),
        },
    };
    if args.target.is_some() && args.config.is_none() && !config.is_transcoder() {
        config = config.transcoder();
    }
    config.skip |= args.skip;
    config.arch = args.arch.map_or(config.arch, ArchArg::architecture);
    if args.arch == Some(ArchArg::Crosscoder) {
        config.models = args.run.len();
    }
    if let Some(steps) = args.steps {
        config = config.with_steps(steps);
    }
    if let Some(expansion) = args.expansion {
        (config.expansion, config.features) = (expansion, 0);
    }
    let set = |field: &mut f64, value: Option<f64>| *field = value.unwrap_or(*field);
    set(&mut config.l1_coefficient, args.l1);
    set(&mut config.l0_coefficient, args.l0);
    set(&mut config.lr, args.lr);
    set(&mut config.exclude.norm, args.max_norm);
    config.features = args.features.unwrap_or(config.features);
    config.k = args.k.unwrap_or(config.k);
    config.batch = args.batch.unwrap_or(config.batch);
    config.buffer = args.buffer.unwrap_or(config.buffer);
    config.seed = args.seed.unwrap_or(config.seed);
    if !args.exclude.is_empty() {
        let asked = |what: &str| args.exclude.iter().any(|e| e == what);
        config.exclude = PositionRule { special: asked("special"), first: asked("first"), ..config.exclude };
    }
    args.set.iter().try_fold(config, |config, (field, value)| with(&config, field, value))
}

/// The configuration with one field replaced by a value in the syntax of `train.toml`; text needs no quotes.
fn with(config: &TrainConfig, field: &str, value: &str) -> Result<TrainConfig> {
    let mut table = toml::Table::try_from(config).context("the configuration cannot be written")?;
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let mut parsed = parsed.unwrap_or_else(|| toml::Value::String(value.into()));
    if field == "features" && parsed.as_integer() == Some(0) {
        bail!("features=0: an autoencoder has at least one feature");
    }
    if let (Some(toml::Value::Float(_)), Some(whole)) = (table.get(field), parsed.as_integer()) {
        parsed = toml::Value::Float(whole as f64);
    }
    table.insert(field.into(), parsed);
    table
        .try_into()
        .with_context(|| format!("{field}={value}: train.toml has no such field, or the value does not fit it"))
}

/// The configurations of a sweep, with their names: all combinations of the values.
fn sweep(name: &str, config: &TrainConfig, sweeps: &[(String, String)]) -> Result<Vec<(String, TrainConfig)>> {
    let mut all = vec![(name.to_string(), config.clone())];
    for (field, values) in sweeps {
        let mut next = Vec::new();
        for (name, config) in &all {
            for value in values.split(',').map(str::trim) {
                next.push((format!("{name}-{field}{value}"), with(config, field, value)?));
            }
        }
        all = next;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::autoencoder::Architecture;

    #[test]
    fn fields_and_sweeps_are_read_as_train_toml_has_them() {
        let config = TrainConfig::for_architecture(Architecture::TopK);
        assert_eq!(with(&config, "clip", "0").unwrap().clip, 0.0);
        assert_eq!(with(&config, "decoder", "unit").unwrap().decoder, sae_core::train::Decoder::Unit);
        assert_eq!(with(&config, "prefixes", "[4, 8]").unwrap().prefixes, [4, 8]);
        for wrong in [("clipp", "1"), ("k", "many")] {
            let error = format!("{:#}", with(&config, wrong.0, wrong.1).unwrap_err());
            assert!(error.contains("train.toml has no such field"), "{error}");
        }
        let all = sweep("a", &config, &[("k".into(), "8,16".into()), ("arch".into(), "topk,relu".into())]).unwrap();
        let names: Vec<_> = all.iter().map(|(name, config)| (name.as_str(), config.k, config.arch)).collect();
        let expected = [("a-k8-archtopk", 8), ("a-k8-archrelu", 8), ("a-k16-archtopk", 16), ("a-k16-archrelu", 16)];
        assert!(names.iter().zip(expected).all(|(found, (name, k))| (found.0, found.1) == (name, k)), "{names:?}");
        assert_eq!(names[3].2, Architecture::Relu);
    }
}
