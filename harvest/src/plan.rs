//! The plan of a harvest: which model reads which rows of which data set, and how what it computes is stored. Opens the
//! data set; runs nothing.

use crate::checkpoint::{Answers, Checkpoint, Templating};
use crate::data::{Corruption, ImageMasks, ImageSizes, Mapping, Melt, Notes, PerImage, Rows, Source, corrupted, trees};
use crate::model::check_decoder;
use crate::objects::Mirror;
use crate::{ActionStatistics, Error, Pieces, Result, Shard};
use burn::tensor::DType;
use sae_core::device::DeviceChoice;
use sae_core::error::Setting;
use sae_core::store::sample::Sample;
use sae_core::store::{Hook, StoreDtype, hooks};
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// The number format in which the model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 4 bytes per weight.
    #[default]
    F32,
    /// 2 bytes per weight. A GPU computes in `bf16`. A CPU widens the weights and accumulates in `f32`.
    Bf16,
}

impl FromStr for ComputeDtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err(format!("invalid dtype {name:?}: expected f32 or bf16")),
        }
    }
}

impl From<ComputeDtype> for DType {
    fn from(dtype: ComputeDtype) -> Self {
        match dtype {
            ComputeDtype::F32 => Self::F32,
            ComputeDtype::Bf16 => Self::BF16,
        }
    }
}

/// What is to be harvested, and how.
///
/// ```
/// use harvest::{Plan, Shard};
/// use sae_core::store::Hook;
///
/// let mut plan = Plan::new("checkpoints/llava", "photos.jsonl", vec![Hook::block(12), "layers.20.mlp_out".parse()?]);
/// plan.limit = Some(10_000);
/// plan.shard = Some("1/8".parse::<Shard>()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    /// Checkpoint folder.
    pub model: PathBuf,
    /// Data set: a file or a folder.
    pub data: PathBuf,
    /// Fields and the columns that hold them, where the data set has other names for its columns.
    pub mapping: Mapping,
    /// Columns that become samples of their own, if rows hold several texts.
    pub melt: Option<Melt>,
    /// The folder to which the paths of images are relative, if it is not the folder of the file that names them.
    pub images_root: Option<PathBuf>,
    /// The copies of objects, if the data or its images are in a bucket: `data` and `images_root` are then paths of copies.
    pub mirror: Option<Mirror>,
    /// Whether images behind links are fetched.
    pub fetch_images: bool,
    /// Corruptions that are applied to rows before the model reads them; usually none.
    pub corruptions: Vec<Corruption>,
    /// Sizes of the images, if an earlier pass found them. White images are then made without reading a file, and the rows
    /// that the earlier pass skipped are skipped again ([`Plan::blank`]).
    pub image_sizes: Option<Arc<ImageSizes>>,
    /// Rectangles of images that become black ([`Plan::blackened`]).
    pub image_masks: Option<Arc<ImageMasks>>,
    /// Collects what people should know about the data although no row is skipped because of it.
    pub notes: Notes,
    /// What is captured.
    pub hooks: Vec<Hook>,
    /// How many rows of the data to read; all of them if there is no limit.
    pub limit: Option<u64>,
    /// Which share of those rows to read; all of them if there is no shard. (Training without a store reads all.)
    pub shard: Option<Shard>,
    /// The device that computes.
    pub device: DeviceChoice,
    /// Further devices of the same kind. A harvest deals its batches to all of them; everything else uses `device` alone.
    pub more_devices: Vec<DeviceChoice>,
    /// The number format in which the model computes.
    pub dtype: ComputeDtype,
    /// The number format in which activations are stored.
    pub store_dtype: StoreDtype,
    /// Maximum number of positions in a batch. A longer sample is a batch of its own.
    pub batch_tokens: usize,
    /// A part is closed when it holds this many positions.
    pub part_rows: usize,
    /// Which answers of a conversation are captured.
    pub answers: Answers,
    /// Whether the chat template is used.
    pub template: Templating,
    /// The pieces into which a harvest divides rows; otherwise each row is a sample. Everything else than a harvest reads whole
    /// samples.
    pub pieces: Option<Pieces>,
    /// The file with the statistics that bring actions into bins. Without it, those of the checkpoint count, else those of
    /// the data set.
    pub action_stats: Option<PathBuf>,
    /// Which of several data sets' statistics are used.
    pub action_stats_of: Option<String>,
}

impl Plan {
    /// A plan with the default settings.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>, hooks: Vec<Hook>) -> Self {
        Self {
            model: model.into(),
            data: data.into(),
            mapping: Mapping::new(),
            melt: None,
            images_root: None,
            mirror: None,
            fetch_images: false,
            corruptions: Vec::new(),
            image_sizes: None,
            image_masks: None,
            notes: Notes::default(),
            hooks,
            limit: None,
            shard: None,
            device: DeviceChoice::Auto,
            more_devices: Vec::new(),
            dtype: ComputeDtype::F32,
            store_dtype: StoreDtype::F32,
            batch_tokens: 4096,
            part_rows: 65_536,
            answers: Answers::All,
            template: Templating::Auto,
            pieces: None,
            action_stats: None,
            action_stats_of: None,
        }
    }

    /// The plan of a second pass over `samples`, which this plan captured: the same samples, with white images in place of
    /// their own.
    #[must_use]
    pub fn blank(&self, samples: &[Sample]) -> Self {
        let mut plan = self.clone();
        plan.corruptions.push(Corruption::BLANK);
        plan.image_sizes = Some(Arc::new(ImageSizes::new(samples)));
        plan
    }

    /// The plan of another pass over the same data, with rectangles of images in black.
    #[must_use]
    pub fn blackened(&self, masks: ImageMasks) -> Self {
        let mut plan = self.clone();
        plan.corruptions.push(Corruption::BLACKENED);
        plan.image_masks = Some(Arc::new(masks));
        plan
    }

    /// The devices of a harvest.
    ///
    /// # Errors
    /// They are of different kinds. Their results would differ, so that bytes would depend on which device was faster.
    pub(crate) fn devices(&self) -> Result<Vec<DeviceChoice>> {
        let kind = |device: &DeviceChoice| device.to_string().split(':').next().map(str::to_owned);
        match self.more_devices.iter().find(|device| kind(device) != kind(&self.device)) {
            Some(other) => Err(Error::MixedDevices { first: self.device, other: *other }),
            None => Ok(std::iter::once(self.device).chain(self.more_devices.iter().copied()).collect()),
        }
    }

    /// Rejects settings that pieces exclude.
    ///
    /// # Errors
    /// The plan divides rows into pieces and names answers, melted columns, texts without a template, or blank images; or it
    /// names a shard or corruptions, and the pieces are those of trees.
    pub(crate) fn check_pieces(&self) -> Result<()> {
        if self.pieces.is_none() {
            return Ok(());
        }
        if let Some(hook) = self.hooks.iter().find(|hook| hook.site().is_before_decoder()) {
            return Err(Error::PiecesOfImages { hook: *hook });
        }
        if self.pieces == Some(Pieces::Tree) {
            if self.shard.is_some() {
                return Err(Error::ShardedTree);
            }
            if let Some(corruption) = self.corruptions.first() {
                return Err(Error::CorruptedTree { kind: corruption.kind.name() });
            }
        }
        let excluded = [
            (self.melt.is_some(), Setting::Melt, "every melted column is a sample of its own"),
            (self.answers != Answers::All, Setting::Answers, "pieces have all answers of a row"),
            (self.template != Templating::Auto, Setting::Template, "a text that is used unchanged has no answers"),
            (self.image_sizes.is_some(), Setting::BlankImages, "blank images are captured of whole samples"),
        ];
        match excluded.into_iter().find(|(is_set, ..)| *is_set) {
            Some((_, setting, reason)) => Err(Error::PiecesExclude { setting, reason }),
            None => Ok(()),
        }
    }

    /// Rejects pieces where whole samples are read.
    ///
    /// # Errors
    /// The plan divides rows into pieces.
    pub(crate) fn check_whole(&self, what: &'static str) -> Result<()> {
        if self.pieces.is_some() { Err(Error::PiecesUnread { what }) } else { Ok(()) }
    }

    /// The only hook of the plan.
    ///
    /// # Errors
    /// The plan names several hooks or none.
    pub(crate) fn hook(&self) -> Result<Hook> {
        match self.hooks[..] {
            [hook] => Ok(hook),
            _ => Err(Error::OneHook { found: self.hooks.clone() }),
        }
    }

    /// The hooks of the plan, in the order in which they are computed: states at all of them are read, and those at the last one are
    /// replaced or reconstructed.
    ///
    /// # Errors
    /// The plan names none, hooks before the decoder, or one that is computed after the last.
    pub(crate) fn ascending_hooks(&self) -> Result<&[Hook]> {
        let last = *self.hooks.last().ok_or(Error::NoHook)?;
        check_decoder(&self.hooks)?;
        match self.hooks.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(Error::ReadAfterReplaced { read: pair[0], replaced: last }),
            None => Ok(&self.hooks),
        }
    }

    /// Opens the checkpoint, with the statistics of actions that the plan names.
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
        let checkpoint = Checkpoint::open(&self.model)?;
        let name = self.action_stats_of.as_deref();
        if let Some(path) = &self.action_stats {
            return Ok(checkpoint.with_actions(ActionStatistics::open(path, name)?));
        }
        checkpoint.with_actions_of(&self.data, name)
    }

    /// Opens the data set, and looks for the columns that are melted.
    pub(crate) fn source(&self) -> Result<Source> {
        let source = Source::open(&self.data)?.mirrored(self.mirror.clone()).images_in(self.images_root.clone())?;
        let source = source.noting(&self.notes).fetching(self.fetch_images).melting(self.melt.clone());
        source.check_melt(&self.mapping, self.limit.unwrap_or(u64::MAX))?;
        Ok(source)
    }

    /// The rows as the model reads them, with all corruptions applied. Passing over rows (`nth`, `skip`) costs little,
    /// because images are read and corrupted only when rows are prepared.
    pub(crate) fn stream(&self, source: &Source) -> Result<Rows> {
        let rows = source.rows(&self.mapping)?;
        let rows = if self.pieces == Some(Pieces::Tree) { trees(rows)? } else { rows };
        let images = PerImage { sizes: self.image_sizes.clone(), masks: self.image_masks.clone() };
        let corruptions = self.corruptions.iter();
        Ok(corruptions.fold(rows, |rows, corruption| corrupted(rows, *corruption, images.clone())))
    }

    /// The first row of the stream that is read, and the one before which reading ends. The last shard reads to the end of the
    /// data. A shard has all samples of its rows.
    pub(crate) fn row_range(&self, source: &Source) -> Result<(u64, u64)> {
        let limit = self.limit.unwrap_or(u64::MAX);
        let range = match self.shard {
            None => 0..limit,
            Some(shard) => {
                let rows = shard.rows(source.count()?.min(limit))?;
                rows.start..if shard.is_last() { limit } else { rows.end }
            }
        };
        let samples = source.samples_per_row();
        Ok((range.start.saturating_mul(samples), range.end.saturating_mul(samples)))
    }

    /// An error if an image is in a bucket that did not answer: a row that names it is not a bad row.
    pub(crate) fn check_images(&self) -> Result<()> {
        self.mirror.as_ref().map_or(Ok(()), Mirror::check)
    }

    /// How many rows of the stream are read at most, for readers that ignore the shard.
    pub(crate) fn row_limit(&self) -> usize {
        let samples = self.melt.as_ref().map_or(1, Melt::samples_per_row);
        self.limit.map_or(usize::MAX, |limit| usize::try_from(limit.saturating_mul(samples)).unwrap_or(usize::MAX))
    }

    /// The arguments that decide what is written, for people and for the fingerprint. They are the same for all shards of
    /// a job, which may run on several GPUs of a machine.
    pub(crate) fn arguments(&self, checkpoint: &Checkpoint) -> serde_json::Value {
        let device = self.device.to_string();
        let mut arguments = serde_json::json!({
            "map": self.mapping,
            "fetch_images": self.fetch_images,
            "layers": hooks::listed::json(&self.hooks),
            "limit": self.limit,
            "device": device.split(':').next(),
            "dtype": self.dtype,
            "store_dtype": self.store_dtype,
            "batch_tokens": self.batch_tokens,
            "part_rows": self.part_rows,
            "answers": self.answers,
            "template": self.template,
        });
        // Those of the checkpoint are part of its own hash.
        if let Some(actions) = checkpoint.given_actions() {
            arguments["action_stats"] = serde_json::json!(actions);
        }
        if !self.corruptions.is_empty() {
            arguments["corruptions"] = serde_json::json!(self.corruptions);
        }
        if let Some(pieces) = self.pieces {
            arguments["pieces"] = serde_json::json!(pieces);
        }
        if let Some(melt) = &self.melt {
            arguments["melt"] = serde_json::json!(melt);
        }
        arguments
    }
}
