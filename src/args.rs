//! What a person can say on the command line, with help and examples beside each flag. Decides nothing.

use clap::{Args as Group, Parser, Subcommand};
use filters::select::Keep;
use harvest::CacheFormat;
use sae_core::autoencoder::Architecture;
use sae_core::autoencoder::formats::Format;
use sae_core::device::DeviceChoice;
use sae_core::store::StoreDtype;
use std::path::PathBuf;

/// What has this model learned across images and text, and which of my data is worth training on?
#[derive(Parser, Debug)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  sae demo                                  the whole way on the bundled model and data
  sae harvest --model llava-1.5-7b-hf --data train.jsonl --layers 16 --run run
  sae train   --run run --hook layers.16 --name base --preset sae-v
  sae index   --run run --sae base
  sae score   --run run --sae base
  sae filter  --run run --by cosine_paper --keep 50% --out kept --dropped dropped
  sae-gui run
  sae bench train                           this machine's speed beside its floor"
)]
pub struct Args {
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print what would be done, and do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// The whole way on the bundled model and data, with a report at the end
    Demo(Demo),
    /// Capture a model's activations on a data set
    Harvest(Harvest),
    /// Check the shards that several machines captured, and join them into one run
    Merge(Merge),
    /// Train an autoencoder on captured activations
    Train(Box<Train>),
    /// Measure an autoencoder, text and image apart; with a model and data, what it costs the model
    Eval(Box<Eval>),
    /// Index the features: counts, examples, neighbors, cross-modal weights
    Index(Index),
    /// Ask a model behind an OpenAI-compatible endpoint what features fire on, and try its answers
    Label(Label),
    /// Score every sample by the features it activates
    Score(Score),
    /// Try the scores on faults of known kinds: which tell good samples from bad ones?
    Validate(Validate),
    /// Write the samples worth keeping, and those that are not
    Filter(Filter),
    /// Blacken the patches of images that carry fewest features
    #[command(after_help = "\
Examples:
  sae patches --run run --sae base --model llava-1.5-7b-hf --data train.jsonl --out dark
  sae patches --run run --sae base --model m --data d --method l0,co_l0,cosine,random --keep 25% --limit 100 --out dark")]
    Patches(Patches),
    /// Say what a file or folder is: an autoencoder of any format, a run, activations
    Info(Info),
    /// Rewrite an autoencoder of any known format as another
    Convert(Convert),
    /// Write an autoencoder of a run for another tool, or its features for SAEDashboard, Neuronpedia or a browser
    Export(Export),
    /// Take another tool's autoencoder into a run, or make a run of another tool's activations
    Import(Import),
    /// Measure this machine: our speed beside its floor
    #[command(subcommand)]
    Bench(Bench),
}

/// `sae bench`
#[derive(Subcommand, Debug)]
pub enum Bench {
    /// A training step beside the encoder's product alone, in turns
    #[command(after_help = "\
Examples:
  sae bench train                                             topk, d_in 512, 8,192 features, k 32, batch 1,024
  sae bench train --arch relu --l0 200
  sae bench train --d-in 768 --features 32768 --k 64 --batch 2048 --json")]
    Train(BenchTrain),
    /// A model's forward pass, whole and half as deep, beside a product of matrices alone, in turns
    #[command(after_help = "\
Examples:
  sae bench harvest                                           a LLaVA of 160M random parameters in f32
  sae bench harvest --dtype bf16
  sae bench harvest --model llava-1.5-7b-hf --samples 1 --json
  sae bench harvest --shape llava-next-7b --dtype bf16 --device cuda")]
    Harvest(BenchHarvest),
    /// Scoring a store - pass, weights, rankings, pmi - beside the encoder's product alone over the same shards, in turns
    #[command(after_help = "\
Examples:
  sae bench score                                             topk, d_in 512, 8,192 features, k 32, 32,768 tokens
  sae bench score --d-in 64 --features 65536 --tokens 1200000 --rounds 1 --json")]
    Score(BenchScore),
}

/// `sae bench score`
#[derive(Group, Debug)]
pub struct BenchScore {
    /// Width of the residual stream
    #[arg(long, default_value_t = 512)]
    pub d_in: usize,
    /// Number of features
    #[arg(long, default_value_t = 8_192)]
    pub features: usize,
    /// Active features a token
    #[arg(long, default_value_t = 32)]
    pub k: usize,
    /// Tokens of the store, in samples of 512
    #[arg(long, default_value_t = 32_768)]
    pub tokens: usize,
    /// Rounds of product and scoring
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
}

/// `sae bench harvest`
#[derive(Group, Debug)]
pub struct BenchHarvest {
    /// Shape of the model, with random weights: llava-160m or llava-next-7b
    #[arg(long, default_value = "llava-160m", value_parser = ["llava-160m", "llava-next-7b"])]
    pub shape: String,
    /// A checkpoint in its place
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Samples of a batch, each with one image
    #[arg(long, default_value_t = 4)]
    pub samples: usize,
    /// Tokens of text in each
    #[arg(long, default_value_t = 128)]
    pub text: usize,
    /// What to compute in: f32 or bf16
    #[arg(long, default_value = "f32")]
    pub dtype: harvest::ComputeDtype,
    /// Rounds of product, whole depth and half depth
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
}

/// `sae bench train`
#[derive(Group, Debug)]
pub struct BenchTrain {
    /// Architecture: relu, topk, batch-topk, jumprelu, gated or matryoshka
    #[arg(long, default_value = "topk")]
    pub arch: Architecture,
    /// Width of the residual stream
    #[arg(long, default_value_t = 512)]
    pub d_in: usize,
    /// Number of features
    #[arg(long, default_value_t = 8_192)]
    pub features: usize,
    /// Active features a token, where they are chosen
    #[arg(long, default_value_t = 32)]
    pub k: usize,
    /// Active features a token, where they pass a threshold (relu, jumprelu, gated)
    #[arg(long, default_value_t = 32)]
    pub l0: usize,
    /// Tokens a step
    #[arg(long, default_value_t = 1_024)]
    pub batch: usize,
    /// Share of the features that are dead, for AuxK
    #[arg(long, default_value_t = 0.0)]
    pub dead: f64,
    /// relu, jumprelu, gated: make the step dense, or sparse, whatever L0 is
    #[arg(long)]
    pub dense: Option<bool>,
    /// Rounds of product and step
    #[arg(long, default_value_t = 15)]
    pub rounds: usize,
    /// Where to compute: cpu, or (topk, batch-topk, matryoshka) cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
}

/// `sae demo`
#[derive(Group, Debug)]
pub struct Demo {
    /// Folder for everything the demo makes
    #[arg(long, default_value = "demo-run")]
    pub run: PathBuf,
    /// Folder of the bundled model and data
    #[arg(long, default_value = "assets")]
    pub assets: PathBuf,
    /// Training steps of each autoencoder
    #[arg(long, default_value_t = 800)]
    pub steps: u64,
    /// Autoencoders to train, each with its own seed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: u64,
    #[command(flatten)]
    pub device: Device,
}

/// `sae harvest`
#[derive(Group, Debug)]
#[command(after_help = "\
Shards are consecutive rows of the data, counted from 1. Each is a run of its own, which an interrupted harvest goes on
with; a run has one writer. `sae merge` joins them to what one machine would have captured.

Examples:
  sae harvest --model llava-1.5-7b-hf --data train.jsonl --layers 16 --run run
  sae harvest ... --dry-run                  what it will read and hold in memory
  sae harvest ... --shard 3/8 --run run-3    on the third of eight machines
  # in a Slurm script with --array=1-8:
  sae harvest ... --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT --run run-$SLURM_ARRAY_TASK_ID
  sae merge run-1 run-2 run-3 run-4 run-5 run-6 run-7 run-8 --run run")]
pub struct Harvest {
    /// Checkpoint: a folder in Hugging Face layout, or org/name@revision on the hub, which is downloaded once
    #[arg(long)]
    pub model: PathBuf,
    /// Data set: a .jsonl, .json, .parquet, .tar or .tar.gz file, a folder of them or of captioned images, or shards such
    /// as name-{000..012}.tar
    #[arg(long)]
    pub data: PathBuf,
    /// Decoder blocks to capture behind, counted from 0
    #[arg(long, value_delimiter = ',', required = true)]
    pub layers: Vec<usize>,
    /// Run folder to write
    #[arg(long)]
    pub run: PathBuf,
    /// Read only the first rows of the data
    #[arg(long)]
    pub limit: Option<u64>,
    /// Capture one of several shards of the data, counted from 1: 1/8 to 8/8
    #[arg(long, value_name = "N/OF")]
    pub shard: Option<harvest::Shard>,
    /// How activations are stored: f32, f16 or bf16
    #[arg(long, default_value = "f32")]
    pub store_dtype: StoreDtype,
    /// Token positions of one shard; a sample is never cut in two
    #[arg(long, default_value_t = 65_536)]
    pub shard_tokens: usize,
    #[command(flatten)]
    pub reading: Reading,
    #[command(flatten)]
    pub device: Device,
    /// Capture the same samples once more with white images, into RUN/apart: `sae score` then has pmi_blank and
    /// pmi_token_min
    #[arg(long)]
    pub blank_images: bool,
    /// Go on with an interrupted run (which is what happens anyway)
    #[arg(long)]
    pub resume: bool,
}

/// `sae merge`
#[derive(Group, Debug)]
#[command(after_help = "\
All shards have to be of one model, one data set and the same arguments, finished, each there once; every byte of their
activations is compared with its hash. What is wrong is listed, and then nothing is written. Activations are not copied
where the new run lies on the same file system: it shares the files (hard links), and shards may be removed afterwards.

Examples:
  sae merge run-* --run run
  sae merge run-* --run run --dry-run        only look at them")]
pub struct Merge {
    /// Run folders of the shards, in any order
    #[arg(required = true, value_name = "SHARD")]
    pub shards: Vec<PathBuf>,
    /// New run folder
    #[arg(long)]
    pub run: PathBuf,
}

/// How a model reads a data set.
#[derive(Group, Debug)]
pub struct Reading {
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
    /// Folder that paths of images are relative to (default: the folder of the file that names them)
    #[arg(long, value_name = "DIR")]
    pub images_root: Option<PathBuf>,
    /// Fetch images that the data set names by http or https links (otherwise such rows are skipped)
    #[arg(long)]
    pub fetch_images: bool,
    /// auto: the checkpoint's chat template; none: the field `text`, verbatim
    #[arg(long, default_value = "auto")]
    pub template: harvest::Templating,
}

/// `sae train`
#[derive(Group, Debug)]
#[command(after_help = "\
Examples:
  sae train --run run --hook layers.16 --name base --preset sae-v
  sae train --run run --hook layers.16 --name topk --arch topk --k 64 --steps 10000
  sae train --run run --hook layers.16 --name sweep --arch batch-topk --sweep k=16,32,64
  sae train --run run --hook layers.16 --name base --resume          after Ctrl-C, a kill or a full disk
  sae train --run new --model llava-1.5-7b-hf --data train.jsonl --hook layers.16 --name live")]
pub struct Train {
    /// Run folder with activations; with --model it may be new
    #[arg(long)]
    pub run: PathBuf,
    /// Activations to train on, such as layers.16
    #[arg(long)]
    pub hook: String,
    /// Name of the new autoencoder
    #[arg(long)]
    pub name: String,
    /// Checkpoint, as for `sae harvest`: activations straight from the model, without storing them
    #[arg(long, requires = "data")]
    pub model: Option<PathBuf>,
    /// Data set that the model reads
    #[arg(long, requires = "model")]
    pub data: Option<PathBuf>,
    /// Read only the first rows of the data
    #[arg(long, requires = "model")]
    pub limit: Option<u64>,
    /// A published recipe; every other flag overrules it
    #[arg(long, value_parser = ["sae-v"])]
    pub preset: Option<String>,
    /// A train.toml to start from; every other flag overrules it
    #[arg(long, conflicts_with = "preset")]
    pub config: Option<PathBuf>,
    /// Architecture: relu, topk, batch-topk, jumprelu, gated or matryoshka
    #[arg(long)]
    pub arch: Option<Architecture>,
    /// Features for every dimension of the residual stream
    #[arg(long, conflicts_with = "features")]
    pub expansion: Option<usize>,
    /// Number of features
    #[arg(long)]
    pub features: Option<usize>,
    /// Active features a token (topk, batch-topk, matryoshka)
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
    /// Tokens a step
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
    /// Leave out positions whose norm is over so many times the median: sinks
    #[arg(long, value_name = "TIMES")]
    pub max_norm: Option<f64>,
    /// Any field of train.toml, such as decoder=unit or aux=0.03
    #[arg(long, value_name = "FIELD=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Several autoencoders in one pass over the data, one a value: k=16,32,64
    #[arg(long, value_name = "FIELD=V1,V2", value_parser = pair)]
    pub sweep: Vec<(String, String)>,
    /// Steps between two checkpoints
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub checkpoint_every: u64,
    /// Go on from the newest checkpoint, to the bit
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub device: Device,
}

/// Arguments of commands that look at an autoencoder of a run.
#[derive(Group, Debug)]
pub struct OfSae {
    /// Run folder
    #[arg(long)]
    pub run: PathBuf,
    /// Name of the autoencoder; may be left out if the run has one
    #[arg(long)]
    pub sae: Option<String>,
    #[command(flatten)]
    pub device: Device,
}

/// `sae eval`
#[derive(Group, Debug)]
#[command(after_help = "\
Cross-entropies are over words behind words (template tokens and what follows an image are not counted), in nats.
Reconstructions stand in for the activations at every position that is not left out, zeros at every position.

Examples:
  sae eval --run run                                      the activations of the run, no model
  sae eval --run run --model llava-1.5-7b-hf --data test.jsonl --limit 1000
  sae eval --run run --exclude special,first --max-norm 10 --saebench core.json")]
pub struct Eval {
    #[command(flatten)]
    pub of: OfSae,
    /// Positions to leave out: special, first, or none; as in training if this is left out
    #[arg(long, value_delimiter = ',', value_name = "WHICH")]
    pub exclude: Option<Vec<Excluded>>,
    /// Leave out positions whose norm is over X times the median norm, 0 for none; as in training if this is left out
    #[arg(long, value_name = "X")]
    pub max_norm: Option<f64>,
    /// Checkpoint, as for `sae harvest`, whose predictions are compared, with the autoencoder's reconstructions in place and without
    #[arg(long, requires = "data")]
    pub model: Option<PathBuf>,
    /// Data set for it, as for `sae harvest`
    #[arg(long, requires = "model")]
    pub data: Option<PathBuf>,
    /// Read only the first rows of the data
    #[arg(long, requires = "model")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub reading: Reading,
    /// Write a result file of SAEBench's `core` evaluation
    #[arg(long, value_name = "FILE")]
    pub saebench: Option<PathBuf>,
}

/// What `--exclude` names.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excluded {
    /// Nothing
    None,
    /// Template, begin, end and newline positions
    Special,
    /// The first position of every sample
    First,
}

/// `sae index`
#[derive(Group, Debug)]
#[command(after_help = "\
Examples:
  sae index --run run                                     words by the model that the run was captured from, if it is there
  sae index --run run --model llava-1.5-7b-hf             by this one
  sae index --run run --no-words                          no model is looked for")]
pub struct Index {
    #[command(flatten)]
    pub of: OfSae,
    /// Checkpoint, as for `sae harvest`, through whose output head each feature's words are told; where the run says it lies if this is left out
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Leave the words out
    #[arg(long, conflicts_with = "model")]
    pub no_words: bool,
    #[command(flatten)]
    pub threshold: Threshold,
}

/// `sae label`
#[derive(Group, Debug)]
#[command(after_help = "\
Two questions a feature: what do these places have in common, then, of places that were not shown, which does the label fit;
the score is the share that is told right, 0.5 is chance. Texts and pictures of the run go to the endpoint.
Labels that are there stay, whoever wrote them; the same command goes on where it stopped.

Examples:
  sae label --run run --url http://localhost:8000/v1 --model qwen2.5-vl --class cross --dry-run
  sae label --run run --url https://api.openai.com/v1 --model gpt-4o --features 12,705 --price 2.5,10 --yes")]
pub struct Label {
    #[command(flatten)]
    pub of: OfSae,
    /// Base address of the endpoint; /chat/completions is added
    #[arg(long)]
    pub url: String,
    /// Model to ask; it becomes the author of the labels
    #[arg(long)]
    pub model: String,
    /// Environment variable with the key, if the endpoint wants one
    #[arg(long, default_value = "OPENAI_API_KEY", value_name = "NAME")]
    pub key_env: String,
    #[command(flatten)]
    pub chosen: Chosen,
    /// Questions a minute at most
    #[arg(long, default_value_t = 60.0, value_parser = above_zero, value_name = "N")]
    pub per_minute: f64,
    /// Price of a million tokens of questions and of answers, for the estimate: 2.5,10
    #[arg(long, value_name = "IN,OUT")]
    pub price: Option<Price>,
    /// Start; without it only the cost is told
    #[arg(long)]
    pub yes: bool,
}

/// Prices of a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Of questions.
    pub question: f64,
    /// Of answers.
    pub answer: f64,
}

impl std::str::FromStr for Price {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let price = |part: &str| part.trim().parse().ok().filter(|price: &f64| price.is_finite() && *price >= 0.0);
        let prices = text.split_once(',').and_then(|(question, answer)| Some((price(question)?, price(answer)?)));
        let (question, answer) = prices.ok_or_else(|| format!("{text:?} is no pair of prices, such as 2.5,10"))?;
        Ok(Self { question, answer })
    }
}

impl std::fmt::Display for Price {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} and {} a million", self.question, self.answer)
    }
}

/// `sae score`
#[derive(Group, Debug)]
#[command(after_help = "\
Examples:
  sae score --run run --sae base                          every mode, pmi fitted to the run itself
  sae score --run new --sae base --calibrate run          weights and pmi fitted to another run
  sae score --run chosen --rejected rejected              answers of preference data apart, and their margin
  sae score --run run --explain row-17                    why a sample scores what it scores")]
pub struct Score {
    #[command(flatten)]
    pub of: OfSae,
    /// Whose definitions of the scores: paper, release, corrected or all
    #[arg(long, default_value = "all", value_parser = ["paper", "release", "corrected", "all"])]
    pub mode: String,
    /// Run whose samples weights (of the first) and pmi are fitted to, without labels; the scored run itself if this is left
    /// out. Several are fitted together, and the scored run may be named among them
    #[arg(long, value_name = "RUN")]
    pub calibrate: Vec<PathBuf>,
    /// Run of the same data harvested with --answers rejected: adds the columns SCORE_rejected and SCORE_margin
    #[arg(long, value_name = "RUN")]
    pub rejected: Option<PathBuf>,
    /// Score nothing; say which components and features make up the pmi of the sample of this key, id or number
    #[arg(long, value_name = "KEY", conflicts_with_all = ["calibrate", "rejected"])]
    pub explain: Option<String>,
    #[command(flatten)]
    pub threshold: Threshold,
    /// Seed of the column `random`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `sae validate`
#[derive(Group, Debug)]
#[command(after_help = "\
A part of the rows is given a fault, the model reads them, and every score and baseline has to tell them from the others: AUC
with 95 % bootstrap intervals, how alike the rankings are, and how well `--keep auto` guesses the share. No labels are used
but to judge. Runs are kept in RUN/validate, so that a second call only scores again.

Examples:
  sae validate --run run --sae base --model llava-1.5 --data data.jsonl
  sae validate --run run --sae base --model llava-1.5 --data data.jsonl --fault swapped-answers --share 0%,10%,25%,50%")]
pub struct Validate {
    #[command(flatten)]
    pub of: OfSae,
    /// Checkpoint that the run was captured from
    #[arg(long)]
    pub model: PathBuf,
    /// Data set that is good, as far as is known
    #[arg(long)]
    pub data: PathBuf,
    /// Rows of the data to use
    #[arg(long, default_value_t = 1000)]
    pub limit: u64,
    /// Faults: swapped-images, swapped-answers, near-answers, wrong-word, shuffled-words, truncated-answers, blurred-images,
    /// noisy-images; all of them if none is named
    #[arg(long, value_delimiter = ',')]
    pub fault: Vec<harvest::data::CorruptionKind>,
    /// Shares of the rows that get one
    #[arg(long, value_delimiter = ',', default_value = "25%")]
    pub share: Vec<Share>,
    /// Runs that weights and pmi are fitted to, together with the rows with faults
    #[arg(long, value_name = "RUN")]
    pub calibrate: Vec<PathBuf>,
    #[command(flatten)]
    pub threshold: Threshold,
    /// Decides which rows get a fault
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub reading: Reading,
}

/// `sae patches`
#[derive(Group, Debug)]
pub struct Patches {
    #[command(flatten)]
    pub of: OfSae,
    /// Folder of the checkpoint that the run was captured from, or org/name on the Hugging Face hub
    #[arg(long)]
    pub model: PathBuf,
    /// Data set whose images are filtered
    #[arg(long)]
    pub data: PathBuf,
    /// What counts: l0, l1, co_l0, cosine, random or norm; several with commas between
    #[arg(long, value_delimiter = ',', default_value = "co_l0")]
    pub method: Vec<filters::patches::Method>,
    /// Whose definition: paper, release or corrected
    #[arg(long, default_value = "paper")]
    pub mode: filters::Definition,
    /// Share of an image's patches that stays
    #[arg(long, default_value = "50%")]
    pub keep: Share,
    /// New folder for the images
    #[arg(long)]
    pub out: PathBuf,
    /// Read only the first rows of the data
    #[arg(long)]
    pub limit: Option<u64>,
    /// Images on the contact sheet
    #[arg(long, default_value_t = 12)]
    pub sheet: usize,
    #[command(flatten)]
    pub threshold: Threshold,
    /// Seed of the method `random`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub reading: Reading,
}

/// A share between nothing and all.
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
        known.map(Self).ok_or_else(|| format!("{text} is no share: 50% or 0.5"))
    }
}

/// `sae filter`
#[derive(Group, Debug)]
#[command(after_help = "\
Examples:
  sae filter --run run --by cosine_paper --keep 50% --out kept --dropped dropped
  sae filter --run run --by cosine_paper --keep 50% --by-group category --out kept
  sae filter --run run --by l0_paper --keep 10000 --dedup 0.9 --diverse --out kept --format parquet
  sae filter --run run --by pmi --keep '>=0.3' --out kept --format sharegpt --images reference")]
pub struct Filter {
    /// Run folder with scores
    #[arg(long)]
    pub run: PathBuf,
    /// Autoencoder whose scores decide; may be left out if the run has one score table
    #[arg(long)]
    pub sae: Option<String>,
    /// Column of the score table, such as cosine_paper
    #[arg(long, required_unless_present = "decisions")]
    pub by: Option<String>,
    /// How much to keep: 50% (best share), 1000 (best so many), '>=0.3' (threshold) or auto
    #[arg(long, required_unless_present_any = ["decisions", "quota"])]
    pub keep: Option<Keep>,
    /// Keep what a CSV or Parquet file says: a column sample, id or key, and keep or stays (true or false) unless it lists
    /// only what stays
    #[arg(long, value_name = "FILE", conflicts_with_all = ["by", "keep", "by_group", "quota", "equal_groups", "dedup", "diverse"])]
    pub decisions: Option<PathBuf>,
    /// Keep as large a share of every group: columns of the rows, such as category or category,country; year:4 makes four
    /// groups of numbers
    #[arg(long, value_name = "FIELDS")]
    pub by_group: Option<String>,
    /// Keep equally many of every group, rather than in proportion to its size
    #[arg(long, requires = "by_group", conflicts_with = "quota")]
    pub equal_groups: bool,
    /// The best so many of every group (category=20), or with --by-group of one group (people=20); '*=5' of each other one
    #[arg(long, value_name = "NAME=N", value_parser = quota)]
    pub quota: Vec<(String, usize)>,
    /// Drop samples whose features are this similar (Jaccard, 0 to 1) to those of a better one of their group
    #[arg(long, value_name = "SIMILARITY", value_parser = similarity)]
    pub dedup: Option<f64>,
    /// Of a budget, choose the samples that together show most features, rather than those of the highest scores
    #[arg(long)]
    pub diverse: bool,
    /// New folder for the rows that stay
    #[arg(long)]
    pub out: PathBuf,
    /// New folder for the rows that go
    #[arg(long)]
    pub dropped: Option<PathBuf>,
    /// same (the rows as they stood), parquet, jsonl, llava, sharegpt, trl or webdataset
    #[arg(long, default_value = "same")]
    pub format: filters::write::Format,
    /// copy (images come along) or reference (they stay, and rows say where they lie)
    #[arg(long, default_value = "copy")]
    pub images: filters::write::Images,
    #[command(flatten)]
    pub device: Device,
}

/// `sae info`
#[derive(Group, Debug)]
#[command(after_help = "\
Examples:
  sae info gemma-scope-9b-pt-res/layer_20/width_16k/average_l0_68
  sae info trainer_0/ae.pt
  sae info run                              what a run holds
  sae info run/activations/layers.16        what a store holds
  sae info run/saes/base --json")]
pub struct Info {
    /// Folder, or a file in it
    pub path: PathBuf,
    /// Active features a token, of an autoencoder whose files do not say (qwen-scope)
    #[arg(long)]
    pub k: Option<usize>,
}

/// `sae convert`
#[derive(Group, Debug)]
#[command(after_help = "\
Examples:
  sae convert trainer_0 base --to sae-lens            dictionary_learning's for SAELens
  sae convert llava-sae/layers.24 new --to sae-lens --from sparsify
  sae convert run/saes/topk for-delphi --to sparsify --dry-run

Activations stay the same, and so do reconstructions. What a format cannot express is named and nothing is written:
sparsify has TopK only, SAELens no skip connections.")]
pub struct Convert {
    /// Folder of the autoencoder, or a file in it
    pub from_path: PathBuf,
    /// New folder
    pub to_path: PathBuf,
    /// Format to write: sae-lens or sparsify
    #[arg(long, value_parser = written)]
    pub to: Format,
    /// Format to read; told by the files if left out
    #[arg(long)]
    pub from: Option<Format>,
    /// Active features a token, of an autoencoder whose files do not say (qwen-scope)
    #[arg(long)]
    pub k: Option<usize>,
}

/// `sae export`
#[derive(Group, Debug)]
#[command(after_help = "\
Autoencoders:
  sae export --run run --sae base --to sae-lens --out base
  sae export --run run --sae topk --to sparsify --out sparse/layers.16

Features, with their examples, from the index; pictures come along:
  sae export --run run --to html --features 12,705 --out pages
  sae export --run run --to saedashboard --class cross --limit 1000 --out dashboards
  sae export --run run --to neuronpedia --limit 65536 --out exports

Which features fire in which sample, for SQL and data frames:
  sae export --run run --to samples-features --out fires.parquet")]
pub struct Export {
    #[command(flatten)]
    pub of: OfSae,
    /// What to write: an autoencoder as sae-lens or sparsify, features as saedashboard, neuronpedia or html, or
    /// samples-features, a Parquet table
    #[arg(long, value_parser = target)]
    pub to: Target,
    /// New folder; of samples-features a new file
    #[arg(long)]
    pub out: PathBuf,
    #[command(flatten)]
    pub chosen: Chosen,
}

/// What `sae export --to` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An autoencoder.
    Autoencoder(Format),
    /// SAEDashboard's batches of features.
    SaeDashboard,
    /// Files of Neuronpedia's bulk import.
    Neuronpedia,
    /// A page a feature.
    Html,
    /// A table with a row for each feature that fires in a sample.
    SamplesFeatures,
}

impl Target {
    /// Targets that are made of features.
    const FEATURES: [(&str, Self); 4] = [
        ("saedashboard", Self::SaeDashboard),
        ("neuronpedia", Self::Neuronpedia),
        ("html", Self::Html),
        ("samples-features", Self::SamplesFeatures),
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Autoencoder(format) => format.name(),
            other => Self::FEATURES.iter().find(|(_, target)| *target == other).map_or("", |(name, _)| name),
        }
    }
}

/// Which features of an index.
#[derive(Group, Debug)]
pub struct Chosen {
    /// These features
    #[arg(long, value_delimiter = ',', value_name = "N,..")]
    pub features: Vec<u32>,
    /// Without --features: only those of this class
    #[arg(long, value_parser = ["text", "image", "cross"], conflicts_with = "features")]
    pub class: Option<String>,
    /// Without --features: so many, those with the largest cross-modal weight first
    #[arg(long, default_value_t = 100, conflicts_with = "features")]
    pub limit: usize,
}

/// `sae import`
#[derive(Group, Debug)]
#[command(after_help = "\
Autoencoders go into a run that has the activations they are of:
  sae import layer_20/width_16k/average_l0_68 --run run --name gemma --hook layers.20
  sae import --from dictionary-learning trainer_0 --run run --name dl --hook layers.16
  sae eval --run run --sae dl

Activations become a new run, which train, index and score work on:
  sae import --from saelens-cache cache --run run
  sae import --from saev shards/0a1b2c --run run --layer 13
  sae import --from safetensors acts.safetensors --tokens tokens.parquet --run run
  sae import --from npy acts.npy --layer 16 --sample-length 128 --run run
docs/dump_activations.py writes the third kind from any model of transformers.")]
pub struct Import {
    /// Folder of the autoencoder or of the activations, or a file
    pub path: PathBuf,
    /// Format to read; told by the files if left out
    #[arg(long)]
    pub from: Option<ImportFrom>,
    /// Run folder: of an autoencoder one that is there, of activations a new one
    #[arg(long)]
    pub run: PathBuf,
    /// Autoencoder: name that it gets in the run
    #[arg(long)]
    pub name: Option<String>,
    /// Autoencoder: active features a token, if its files do not say (qwen-scope)
    #[arg(long)]
    pub k: Option<usize>,
    /// Autoencoder: activations that it is of, such as layers.16; activations: their column, or the hook's name
    #[arg(long)]
    pub hook: Option<String>,
    /// Activations: decoder block that they left, from 0; told by the files if left out
    #[arg(long, conflicts_with = "name")]
    pub layer: Option<usize>,
    /// Activations in a plain array: Parquet, a row a position; only its column `sample` is needed
    #[arg(long, value_name = "TABLE", conflicts_with = "name")]
    pub tokens: Option<PathBuf>,
    /// Activations in a plain array without --tokens: positions of a sample; all are one sample if left out
    #[arg(long, value_name = "N", conflicts_with_all = ["name", "tokens"])]
    pub sample_length: Option<usize>,
    /// Activations: the model they are of, where the files do not say
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    pub model_name: Option<String>,
    /// Activations: how they are stored, f32, f16 or bf16; as they come if left out
    #[arg(long, conflicts_with = "name")]
    pub store_dtype: Option<StoreDtype>,
    /// Activations: token positions of one shard; no sample may be longer
    #[arg(long, default_value_t = 65_536)]
    pub shard_tokens: usize,
}

/// What `sae import --from` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFrom {
    /// An autoencoder.
    Autoencoder(Format),
    /// Activations.
    Activations(CacheFormat),
}

impl std::str::FromStr for ImportFrom {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Ok(format) = name.parse() {
            return Ok(Self::Activations(format));
        }
        let caches = CacheFormat::ALL.map(CacheFormat::name).join(", ");
        name.parse().map(Self::Autoencoder).map_err(|e| format!("{e}; of activations there are {caches}"))
    }
}

/// When a feature counts as active on a token.
#[derive(Group, Debug, Clone, Copy)]
pub struct Threshold {
    /// A feature is active on a token above this activation; auto: 1, the paper's, times sqrt(d_in / 4096)
    #[arg(long = "threshold", value_name = "Z", default_value_t)]
    pub value: filters::Threshold,
}

/// Where to compute.
#[derive(Group, Debug, Clone, Copy)]
pub struct Device {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

fn target(name: &str) -> Result<Target, String> {
    if let Some((_, target)) = Target::FEATURES.iter().find(|(known, _)| *known == name) {
        return Ok(*target);
    }
    let features = Target::FEATURES.map(|(name, _)| name).join(", ");
    written(name).map(Target::Autoencoder).map_err(|e| format!("{e}; features go to {features}"))
}

fn written(name: &str) -> Result<Format, String> {
    let format: Format = name.parse()?;
    match Format::WRITTEN.contains(&format) {
        true => Ok(format),
        false => Err(format!("{name} is only read; {} are written", Format::WRITTEN.map(Format::name).join(" and "))),
    }
}

fn quota(text: &str) -> Result<(String, usize), String> {
    let parsed = text.rsplit_once('=').and_then(|(name, count)| Some((name, count.trim().parse().ok()?)));
    match parsed {
        Some((name, count)) if !name.is_empty() => Ok((name.to_owned(), count)),
        _ => Err(format!("invalid quota {text:?}: expected NAME=N, such as category=20")),
    }
}

fn similarity(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    match value > 0.0 && value <= 1.0 {
        true => Ok(value),
        false => Err(format!("a similarity of {text}: above 0, up to 1 (the same features)")),
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    match value > 0.0 && value.is_finite() {
        true => Ok(value),
        false => Err(format!("{text} is not above 0")),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (field, column) = text.split_once('=').ok_or_else(|| format!("{text:?} is not FIELD=COLUMN"))?;
    Ok((field.into(), column.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn filters_and_devices_are_understood() {
        let args = ["sae", "filter", "--run", "r", "--by", "co_l0_paper", "--keep", "25%", "--out", "o"];
        let Command::Filter(filter) = Args::parse_from(args).command else { panic!("a filter") };
        assert_eq!(filter.keep, Some(Keep::Share(0.25)));
        let bad = [
            ["--dedup", "0"],
            ["--dedup", "1.5"],
            ["--format", "csv"],
            ["--images", "burn"],
            ["--quota", "category"],
            ["--quota", "category=many"],
            ["--decisions", "d.csv"],
        ];
        for bad in bad {
            assert!(Args::try_parse_from(args.iter().chain(&bad)).is_err(), "{bad:?}");
        }
        let decided = ["sae", "filter", "--run", "r", "--out", "o"];
        assert!(Args::try_parse_from(decided).is_err());
        assert!(Args::try_parse_from(decided.iter().chain(&["--decisions", "d.csv"])).is_ok());
        assert!(Args::try_parse_from(decided.iter().chain(&["--by", "pmi", "--quota", "category=20"])).is_ok());
        assert!(Args::try_parse_from(["sae", "eval", "--run", "r", "--device", "tpu"]).is_err());
        assert!(Args::try_parse_from(["sae", "eval", "--run", "r", "--model", "m"]).is_err(), "a model without data");
    }
}
