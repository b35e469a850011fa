//! Arguments and values that several commands share. The other arguments are in the files of their commands.

use clap::Args;
use harvest::Plan;
use sae_core::autoencoder::formats::Format;
use sae_core::device::DeviceChoice;
use sae_workbench::{FeatureChoice, SaeChoice, job_array};
use std::path::{Path, PathBuf};

/// How a model reads a data set. Without a model, these flags are rejected: the flag that names one is in the group `reader`.
#[derive(Args, Debug)]
#[group(requires = "reader")]
pub struct ReadingArgs {
    /// What the model is held in: f32, or bf16 (half the memory; a CPU still adds up in f32)
    #[arg(long, default_value = "f32")]
    pub dtype: harvest::ComputeDtype,
    /// Token positions in one batch of the model
    #[arg(long, default_value_t = 4_096)]
    pub batch_tokens: usize,
    /// Which answers the model reads: all, none, chosen or rejected
    #[arg(long, default_value = "all")]
    pub answers: harvest::Answers,
    /// Which column holds a field, such as text=caption
    #[arg(long, value_name = "FIELD=COLUMN", value_parser = pair)]
    pub map: Vec<(String, String)>,
    /// Columns of a row that become samples of their own, each the answer to the row's question, and the field that names them, such as short,long:style
    #[arg(long, value_name = "COLUMN,..:FIELD")]
    pub melt: Option<harvest::data::Melt>,
    /// Folder that paths of images are relative to (default: the folder of the file that names them)
    #[arg(long, value_name = "DIR")]
    pub images_root: Option<PathBuf>,
    /// Fetch images that the data set names by http or https links (otherwise such rows are skipped)
    #[arg(long)]
    pub fetch_images: bool,
    /// auto: the checkpoint's chat template; none: the field `text`, verbatim
    #[arg(long, default_value = "auto")]
    pub template: harvest::Templating,
    /// Statistics that turn actions into tokens: OpenVLA's dataset_statistics.json or LeRobot's meta/stats.json (default: the checkpoint's, else the data set's)
    #[arg(long, value_name = "FILE")]
    pub action_stats: Option<PathBuf>,
    /// Which data set's statistics of actions are used, if there are several
    #[arg(long, value_name = "NAME")]
    pub action_stats_of: Option<String>,
}

impl ReadingArgs {
    /// A plan of how a model reads a data set.
    pub fn plan(&self, model: &Path, data: &Path, limit: Option<u64>, device: DeviceArg) -> Plan {
        Plan {
            limit,
            device: device.device,
            mapping: self.map.clone(),
            melt: self.melt.clone(),
            images_root: self.images_root.clone(),
            fetch_images: self.fetch_images,
            dtype: self.dtype,
            batch_tokens: self.batch_tokens,
            answers: self.answers,
            template: self.template,
            action_stats: self.action_stats.clone(),
            action_stats_of: self.action_stats_of.clone(),
            // The command sets the hooks: by its arguments or its autoencoder.
            ..Plan::new(model, data, Vec::new())
        }
    }
}

/// A model and the data that it reads, for commands that can work without them.
#[derive(Args, Debug)]
pub struct ModelArgs {
    /// Checkpoint, as for `sae harvest`
    #[arg(long, requires = "data", group = "reader")]
    pub model: Option<PathBuf>,
    /// Data set that the model reads
    #[arg(long, requires = "model")]
    pub data: Option<PathBuf>,
    /// Read only the first rows of the data
    #[arg(long, requires = "model")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

impl ModelArgs {
    /// How the model reads the data, if there is a model.
    pub fn plan(&self, device: DeviceArg) -> Option<Plan> {
        let (model, data) = self.model.as_ref().zip(self.data.as_ref())?;
        Some(self.reading.plan(model, data, self.limit, device))
    }
}

/// Arguments of commands that use an autoencoder of a run.
#[derive(Args, Debug)]
pub struct SaeArgs {
    /// Run folder
    #[arg(long)]
    pub run: PathBuf,
    /// Name of the autoencoder; may be left out if the run has one
    #[arg(long)]
    pub sae: Option<String>,
    #[command(flatten)]
    pub device: DeviceArg,
}

impl SaeArgs {
    /// The choice of the autoencoder, for a request.
    pub fn choice(&self) -> SaeChoice {
        SaeChoice { run: self.run.clone(), sae: self.sae.clone(), device: self.device.device }
    }
}

/// A share, 0 to 1: `50%` or `0.5`.
#[derive(Clone, Copy, Debug)]
pub struct Share(pub f64);

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
            None => text.parse(),
        };
        let known = share.ok().filter(|share| (0.0..=1.0).contains(share));
        known
            .map(Self)
            .ok_or_else(|| format!("invalid share {text:?}: expected a value between 0% and 100%, such as 50% or 0.5"))
    }
}

/// Which features of an index.
#[derive(Args, Debug)]
pub struct FeatureArgs {
    /// These features
    #[arg(long, value_delimiter = ',', value_name = "N,..")]
    pub features: Vec<u32>,
    /// Without --features: only those of this class
    #[arg(long, conflicts_with = "features")]
    pub class: Option<String>,
    /// Without --features: so many, those with the largest cross-modal weight first
    #[arg(long, default_value_t = 100, conflicts_with = "features")]
    pub limit: usize,
}

impl FeatureArgs {
    /// The choice of features, for a request.
    pub fn choice(&self) -> FeatureChoice {
        FeatureChoice { features: self.features.clone(), class: self.class.clone(), limit: self.limit }
    }
}

/// When a feature counts as active on a token.
#[derive(Args, Debug, Clone, Copy)]
pub struct ThresholdArg {
    /// A feature is active on a token above this activation; auto: 1, the paper's, times sqrt(d_in / 4096)
    #[arg(long = "threshold", value_name = "Z", default_value_t)]
    pub value: filters::Threshold,
}

/// Where to compute.
#[derive(Args, Debug, Clone, Copy)]
pub struct DeviceArg {
    /// auto, cpu, cuda, cuda:N, vulkan, vulkan:N, metal, rocm or rocm:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// Which share of a job a process has.
#[derive(Clone, Copy, Debug)]
pub enum ShareArg {
    /// The one that a scheduler's variables name.
    Auto,
    /// This one.
    Named(harvest::Shard),
}

impl ShareArg {
    /// The share.
    ///
    /// # Errors
    /// With auto: variables that do not name one.
    pub fn share(self) -> sae_workbench::Result<harvest::Shard> {
        match self {
            Self::Auto => job_array::share(|name| std::env::var(name).ok()),
            Self::Named(share) => Ok(share),
        }
    }

    /// The share as the rank of a process that was started together with others.
    ///
    /// # Errors
    /// With auto: variables that do not name one.
    pub fn rank(self) -> sae_workbench::Result<harvest::Shard> {
        match self {
            Self::Auto => job_array::rank(|name| std::env::var(name).ok()),
            Self::Named(share) => Ok(share),
        }
    }
}

impl std::str::FromStr for ShareArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Named) }
    }
}

/// Reads the name of a format in which autoencoders are written.
pub fn written(name: &str) -> Result<Format, String> {
    let format: Format = name.parse()?;
    if Format::WRITTEN.contains(&format) {
        return Ok(format);
    }
    Err(format!("{name} is only read; {} are written", Format::WRITTEN.map(Format::name).join(" and ")))
}

/// Reads a pair such as `text=caption`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected a name, an equals sign and a value")?;
    Ok((name.into(), value.into()))
}
