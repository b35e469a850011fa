//! A preview of a harvest: the checkpoint, the hooks, the rows of the data, and the memory that it will need. Runs no
//! model.

use crate::capture::{CHUNK_ROWS, CONCURRENT_BATCHES};
use crate::data::{MOST_BYTES, Source};
use crate::model::config::{BlockConfig, Tiling};
use crate::model::{Model, ModelConfig, Size, Weights, check_hooks};
use crate::{ComputeDtype, Pieces, Plan, Result, pieces};
use sae_core::store::{Hook, StoreDtype};
use serde::Serialize;
use std::path::PathBuf;

/// A plan, checked against the checkpoint and the data that it names.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// Checkpoint folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub model: PathBuf,
    /// The architecture, as stated in `config.json`.
    pub architecture: String,
    /// Number of decoder blocks.
    pub blocks: usize,
    /// What is captured.
    pub hooks: Vec<Hook>,
    /// Width of an activation.
    pub d_in: usize,
    /// Data set.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub data: PathBuf,
    /// Number of files that contain rows.
    pub files: usize,
    /// Number of rows that will be captured; if the plan names a shard, only the rows of the shard. A row of which several
    /// columns are samples counts as several rows.
    pub rows: u64,
    /// The first of these rows.
    pub first_row: u64,
    /// What people should know about the data although no row is skipped because of it.
    pub notes: Vec<String>,
    /// The memory that the harvest will need.
    pub memory: Memory,
}

/// The peak memory of a harvest in bytes, estimated from headers and the configuration alone. On a GPU, `weights` and
/// `batch` are on the device. FORMATS.md compares the estimates with measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights up to the block of the last hook, in the number format of the computation.
    pub weights: u64,
    /// The same weights in the checkpoint's files. They are memory-mapped, so the system can reclaim this memory.
    pub mapped: u64,
    /// The activations of two parts, one of which is being filled while the other one is written, and the copies of a hook that
    /// is being written.
    pub part: u64,
    /// Tokens of these parts; tokens and images of the samples that are being prepared or wait; all rows, if they form trees.
    pub samples: u64,
    /// Working memory of the batches in the model; the input of the next batch, and hidden states that wait.
    pub batch: u64,
    /// All of the above except `mapped`, plus the memory of the program itself.
    pub total: u64,
}

impl Plan {
    /// Checks the plan against its checkpoint and data, and estimates the memory.
    ///
    /// # Errors
    /// Anything that would prevent the harvest from starting: an unsupported checkpoint, a layer that does not exist,
    /// or missing data.
    pub fn preview(&self) -> Result<Preview> {
        self.check_pieces()?;
        let checkpoint = self.checkpoint()?;
        let config = checkpoint.config();
        check_hooks(config, &self.hooks)?;
        let source = self.source()?;
        let available = source.count()?.min(self.limit.unwrap_or(u64::MAX));
        let shard = self.shard.map_or(Ok(0..available), |shard| shard.rows(available))?;
        let samples = source.samples_per_row();
        Ok(Preview {
            model: self.model.clone(),
            architecture: config.architecture.clone(),
            blocks: config.text.layers.len(),
            hooks: self.hooks.clone(),
            d_in: self.hooks.first().map_or(config.text.hidden_size, |hook| config.width_at(*hook)),
            data: self.data.clone(),
            files: source.files.len(),
            rows: (shard.end - shard.start).saturating_mul(samples),
            first_row: shard.start.saturating_mul(samples),
            notes: self.notes.take(),
            memory: self.memory(config, self.held(&source))?,
        })
    }

    /// The most positions of a row.
    fn longest_row(&self, context: u64) -> u64 {
        match self.pieces {
            None | Some(Pieces::Sentences) => context,
            Some(Pieces::Answers | Pieces::Feedback) => context.saturating_mul(2),
            Some(Pieces::Tree) => pieces::most_positions(usize::try_from(context).unwrap_or(usize::MAX)) as u64,
        }
    }

    /// The bytes of rows that are held until all are read: those of trees.
    fn held(&self, source: &Source) -> u64 {
        if self.pieces != Some(Pieces::Tree) {
            return 0;
        }
        let size = |file: &PathBuf| file.metadata().map_or(0, |meta| meta.len());
        let files = source.files.iter().map(size).fold(0, u64::saturating_add);
        files.saturating_mul(EXPANSION).min(MOST_BYTES)
    }

    fn memory(&self, config: &ModelConfig, held: u64) -> Result<Memory> {
        let last = self.hooks.iter().copied().max().unwrap_or(Hook::block(0));
        let Size { numbers, stored: mapped } = Model::size(config, &Weights::open(&self.model)?, last);
        let width = match self.dtype {
            ComputeDtype::F32 => 4,
            ComputeDtype::Bf16 => 2,
        };
        let stored = match self.store_dtype {
            StoreDtype::F32 => 4,
            StoreDtype::F16 | StoreDtype::Bf16 => 2,
        };
        let [d, hooks, context] = [config.text.hidden_size, self.hooks.len(), config.text.context].map(|n| n as u64);
        let (part_rows, batch) = (self.part_rows as u64, self.batch_tokens as u64);
        // A part is closed by the row that fills it. One is filled while another one is written. While a shard is
        // written, its encoded copy and its file are in memory.
        let longest = self.longest_row(context);
        let rows = part_rows.saturating_add(longest);
        let part = rows.saturating_mul(d * (PARTS * 4 * hooks + 2 * stored));
        // Pixels that one position shows (of a video those of several frames), and rows of the tower's output that are
        // merged into one position.
        let (pixels, patches) = config.vision.as_ref().map_or((0, 0), |vision| {
            let side = vision.tower().map_or(1, |(tower, _)| tower.patches.side);
            let (cell, frames) = match vision.tiling {
                Tiling::Square { side, grid, .. }
                | Tiling::AnyResolution { side, grid, .. }
                | Tiling::Split { side, grid, .. } => (side / grid.max(1), 1),
                Tiling::Native { patch, merge, frames } => (patch * merge, frames),
            };
            ((frames * cell * cell) as u64, (cell / side).max(1).pow(2) as u64)
        });
        // Samples have their images until they are in a batch. No more than a part's positions are assumed to be prepared at
        // once.
        let chunk = rows.min((CHUNK_ROWS as u64).saturating_mul(context));
        let images = CHUNKS * chunk.saturating_mul(TOKEN + 3 * pixels);
        let samples = (PARTS * rows.saturating_mul(TOKEN)).saturating_add(images).saturating_add(held);
        // Numbers per row that a block holds at once. The tower is finished before the decoder begins, so the larger
        // one counts.
        let block = |block: &BlockConfig| {
            (4 * block.width + (block.heads + 2 * block.kv_heads) * block.head_dim + 2 * block.d_ff) as u64
        };
        // Keys and values of all blocks are kept where pieces share them.
        let blocks = || (0..=last.layer()).filter(|n| *n < config.text.layers.len()).map(|n| config.text.block(n));
        let kept = || blocks().map(|block| (2 * block.kv_heads * block.head_dim) as u64).sum::<u64>();
        let kept = self.pieces.map_or(0, |_| kept());
        let decoder = blocks().map(|config| block(&config)).max().unwrap_or(0) + 2 * hooks * d + kept;
        let tower = config.vision.as_ref().and_then(|vision| vision.tower());
        let tower = tower.map_or(0, |(tower, _)| patches * (block(&tower.block) + 2 * tower.patches.width() as u64));
        // Every device has its weights and its batches. Besides those in the model, the hidden states of as many wait, and
        // the input of one batch is ready.
        let devices = self.devices()?.len() as u64;
        let in_model = devices * CONCURRENT_BATCHES as u64 * (decoder.max(tower) + hooks * d);
        // The pieces of a row stay together, also if they have more positions than a batch.
        let beyond = self.pieces.map_or(0, |_| longest.saturating_sub(batch));
        let beyond = beyond.saturating_mul(4 * devices * CONCURRENT_BATCHES as u64 * (3 * hooks * d + kept));
        let batch = batch.saturating_mul(4 * (in_model + 3 * pixels)).saturating_add(beyond);
        let weights = numbers.saturating_mul(devices * width);
        let total = [part, samples, batch, PROGRAM].into_iter().fold(weights, u64::saturating_add);
        Ok(Memory { weights, mapped, part, samples, batch, total })
    }
}

/// Parts that are in memory: one is being filled, one is being written.
const PARTS: u64 = 2;
/// Chunks of samples that are in memory: one is being prepared, one waits, one is being put into batches.
const CHUNKS: u64 = 3;
/// Bytes of the program itself, with its threads, tokenizer and tables.
const PROGRAM: u64 = 128 << 20;
/// How much larger rows are in memory than in their files, at most.
const EXPANSION: u64 = 4;
/// Bytes of a token with its text.
const TOKEN: u64 = 128;
