//! Filtering of patches: blackens the patches of images that have the fewest features, and writes the scores of all patches and a
//! contact sheet.

mod measure;

pub use measure::{MeasurePatchesRequest, PatchCurve, PatchPoint, PatchesMeasured};

use crate::control::{Control, Stage};
use crate::explain::weight;
use crate::sae::{LoadedSae, SaeChoice, SaePlan};
use crate::{Error, Result, model};
use filters::patches::{self, Method, Patch, Position, Rule};
use filters::{Definition, Threshold};
use harvest::pixels::{ImageError, Picture};
use harvest::{CapturedSample, Plan, Prepared, for_each_sample};
use sae_core::analysis::index::read_features;
use sae_core::autoencoder::Encoder;
use sae_core::autoencoder::sparse::Sparse;
use sae_core::store::Skipped;
use sae_core::vector::norm_sq;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Pixels along a side of a picture on the contact sheet.
const SHEET_SIDE: usize = 168;

/// Whose images to filter, and how.
#[derive(Clone, Debug)]
pub struct PatchesRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// The model and the data set whose images are filtered. Its layer is that of the autoencoder.
    pub model: Plan,
    /// How patches are scored; each method makes a folder of images.
    pub methods: Vec<Method>,
    /// Which definition of the score is used.
    pub definition: Definition,
    /// Share of an image's patches that is kept, 0 to 1.
    pub keep: f64,
    /// New folder for the images.
    pub out: PathBuf,
    /// Images on the contact sheet.
    pub sheet: usize,
    /// A feature counts as active on a token above this activation.
    pub threshold: Threshold,
    /// Seed of the method `random`.
    pub seed: u64,
}

/// What filtering patches would do.
pub type PatchesPlan = SaePlan<PatchesDetails>;

/// What is particular to filtering patches.
#[derive(Clone, Debug, Serialize)]
pub struct PatchesDetails {
    /// Rows of the data.
    pub rows: u64,
    /// How patches are scored.
    pub methods: Vec<&'static str>,
    /// Share of the patches that is kept.
    pub keep: f64,
}

/// What was filtered.
#[derive(Clone, Debug, Serialize)]
pub struct PatchesReport {
    /// Images.
    pub images: u64,
    /// Samples.
    pub samples: u64,
    /// Rows that became no sample.
    pub skipped: u64,
    /// The first of them.
    pub skipped_rows: Vec<Skipped>,
    /// Patches by method.
    pub methods: BTreeMap<&'static str, PatchCounts>,
    /// The scores of all patches, a line for each image and method.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub file: PathBuf,
    /// The contact sheet.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub sheet: PathBuf,
}

/// Patches of all images.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PatchCounts {
    /// All of them.
    pub patches: u64,
    /// Patches that were kept.
    pub kept: u64,
}

/// The results so far.
#[derive(Default)]
struct Made {
    lines: String,
    sheet: Vec<Vec<Picture>>,
    methods: BTreeMap<&'static str, PatchCounts>,
    samples: u64,
    images: u64,
}

impl PatchesRequest {
    /// Blackens half of every image's patches, those with the fewest cooccurring features.
    pub fn new(sae: SaeChoice, model: Plan, out: impl Into<PathBuf>) -> Self {
        Self {
            sae,
            model,
            methods: vec![Method::CoL0],
            definition: Definition::Paper,
            keep: 0.5,
            out: out.into(),
            sheet: 12,
            threshold: Threshold::Auto,
            seed: 0,
        }
    }

    /// What [`PatchesRequest::run`] would do.
    ///
    /// # Errors
    /// Whatever would prevent it; a model that has not been downloaded.
    pub fn plan(&self) -> Result<PatchesPlan> {
        let sae = self.sae.load()?;
        let (_, preview) = model::resolve_for(&self.model, &sae, None)?;
        self.check_folder()?;
        let methods = self.methods.iter().map(|method| method.name()).collect();
        Ok(sae.plan("patches", PatchesDetails { rows: preview.rows, methods, keep: self.keep }))
    }

    /// Filters.
    ///
    /// # Errors
    /// As [`PatchesRequest::plan`]; a full disk; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<PatchesReport> {
        let sae = self.sae.load()?;
        let (plan, preview) = model::resolve_for(&self.model, &sae, Some(control))?;
        self.check_folder()?;
        let d_in = sae.saved.weights.d_in;
        let weights = self.weights(&sae)?;
        let rules = self.rules(&weights, d_in);
        for method in &self.methods {
            let folder = self.out.join(method.name());
            std::fs::create_dir_all(&folder).map_err(sae_core::Error::io("make the folder", &folder))?;
        }
        let encoder = Encoder::new(&sae.saved.weights, &sae.device);
        let mut made = Made::default();
        let mut staged = control.stage(Stage::Patches, preview.rows)?;
        let skipped = for_each_sample::<Error>(&plan, &mut |captured, done| {
            staged.advance(done)?;
            let active = encoder.encode(captured.hidden[0])?;
            let positions = positions(captured.sample, &active, captured.hidden[0], d_in);
            self.sample(captured, &positions, &rules, &mut made)
        })?;
        drop(staged);
        let (file, sheet) = (self.out.join("patches.jsonl"), self.out.join("sheet.png"));
        sae_core::file::write_bytes(&file, made.lines.as_bytes())?;
        if !made.sheet.is_empty() {
            Picture::sheet(&made.sheet, SHEET_SIDE).write(&sheet)?;
        }
        Ok(PatchesReport {
            images: made.images,
            samples: made.samples,
            skipped: skipped.rows(),
            skipped_rows: skipped.first().to_vec(),
            methods: made.methods,
            file,
            sheet,
        })
    }

    /// The rule of each method.
    fn rules<'w>(&self, weights: &'w [Option<f64>], d_in: usize) -> Vec<Rule<'w>> {
        let threshold = self.threshold.for_width(d_in);
        let rule =
            |method: &Method| Rule { method: *method, mode: self.definition, threshold, weights, seed: self.seed };
        self.methods.iter().map(rule).collect()
    }

    fn check_folder(&self) -> Result<()> {
        let empty = self.out.read_dir().is_ok_and(|mut entries| entries.next().is_none());
        if self.out.exists() && !empty {
            return Err(Error::FolderNotEmpty { path: self.out.clone() });
        }
        Ok(())
    }

    /// The cross-modal weights of the definition, if a method uses them.
    fn weights(&self, sae: &LoadedSae) -> Result<Vec<Option<f64>>> {
        if !self.methods.contains(&Method::Cosine) {
            return Ok(Vec::new());
        }
        let path = sae.run.features(&sae.name).join("features.parquet");
        if !path.exists() {
            return Err(Error::NoWeights { path });
        }
        Ok(read_features(&path)?.iter().map(|row| weight(row, self.definition)).collect())
    }

    /// Makes the images of a sample.
    fn sample(&self, captured: &CapturedSample, positions: &[Position], rules: &[Rule], made: &mut Made) -> Result<()> {
        for (image, file) in captured.files.iter().enumerate() {
            let path = || captured.sample.sample.source.clone().into();
            let bad = |error: ImageError| Error::Image { cause: error.to_string(), path: path() };
            let picture = Picture::decode(file).map_err(bad)?;
            let mut row = vec![picture.clone()];
            for rule in rules {
                let mut found = patches_of(rule, positions, image, made.samples);
                patches::keep(&mut found, self.keep)?;
                let name = format!("{}/{:06}-{image}.png", rule.method.name(), made.samples);
                let dark = blackened(&picture, &found);
                dark.write(&self.out.join(&name))?;
                row.push(dark);
                let counts = made.methods.entry(rule.method.name()).or_default();
                counts.patches += found.len() as u64;
                counts.kept += found.iter().filter(|patch| patch.kept).count() as u64;
                made.lines += &format!("{}\n", self.line(captured.sample, image, rule, &name, &found));
            }
            if made.sheet.len() < self.sheet {
                made.sheet.push(row);
            }
            made.images += 1;
        }
        made.samples += 1;
        Ok(())
    }

    fn line(&self, sample: &Prepared, image: usize, rule: &Rule, name: &str, patches: &[Patch]) -> Value {
        let path = sample.sample.images.get(image).map(|image| &image.path);
        json!({
            "id": sample.sample.id, "key": sample.sample.key, "image": image, "path": path, "file": Path::new(name),
            "method": rule.method.name(), "mode": rule.mode.name(), "keep": self.keep, "patches": patches,
        })
    }
}

/// The active features at each position of a sample.
fn positions<'a>(sample: &Prepared, active: &'a Sparse, hidden: &[f32], d: usize) -> Vec<Position<'a>> {
    let mut places = sample.frames.iter().flat_map(|frame| &frame.positions);
    let rows = sample.tokens.iter().zip(hidden.chunks_exact(d)).enumerate();
    rows.map(|(n, (token, hidden))| {
        let image = token.image.and_then(|image| usize::try_from(image).ok());
        let view = image.and_then(|_| places.next()).map_or(0, |place| usize::from(place.view));
        let (features, values) = active.row(n);
        let rect = token.rect.unwrap_or_default();
        Position { image, view, rect, special: token.special, features, values, norm: norm_sq(hidden).sqrt() }
    })
    .collect()
}

/// The patches of an image of the sample of this number.
fn patches_of(rule: &Rule, positions: &[Position], image: usize, sample: u64) -> Vec<Patch> {
    // Consecutive frames of a video share their positions, which have the number of the first of them.
    let shown = positions.iter().filter_map(|position| position.image).filter(|shown| *shown <= image).max();
    // Each sample has its own random numbers.
    Rule { seed: rule.seed ^ (sample << 20), ..*rule }.patches(positions, shown.unwrap_or(image))
}

/// The image with the patches that are dropped in black.
fn blackened(picture: &Picture, patches: &[Patch]) -> Picture {
    let mut dark = picture.clone();
    patches.iter().filter(|patch| !patch.kept).for_each(|patch| dark.blacken(patch.rect));
    dark
}
