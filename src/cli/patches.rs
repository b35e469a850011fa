//! `sae patches`: images with the patches blackened that carry fewest features, the scores of all patches, a contact sheet.

use super::arguments::{ReadingArgs, SaeArgs, Share, ThresholdArg};
use super::harvest::{first, reading};
use super::{Outcome, SaeReader, model};
use crate::cli::terminal::{self, count, table};
use anyhow::{Context, Result, bail};
use clap::Args;
use filters::Definition;
use filters::patches::{self, Method, Patch, Position, Rule};
use harvest::pixels::Picture;
use harvest::{Plan, Prepared, for_each_sample};
use sae_core::analysis::index::{FeatureRow, read_features};
use sae_core::autoencoder::Encoder;
use sae_core::autoencoder::sparse::Sparse;
use sae_core::vector::norm_sq;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// `sae patches`
#[derive(Args, Debug)]
pub struct PatchesArgs {
    #[command(flatten)]
    pub of: SaeArgs,
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
    pub threshold: ThresholdArg,
    /// Seed of the method `random`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// Pixels along a side of a picture on the contact sheet.
const SHEET_SIDE: usize = 168;

/// Runs the command.
pub fn run(args: &PatchesArgs, dry: bool) -> Result<Outcome> {
    let opened = SaeReader::new(&args.of)?;
    let folder = model::folder(&args.model, dry)?;
    let plan = reading(&args.reading, Plan::new(&folder, &args.data, vec![opened.store.manifest().layer]));
    let plan = Plan { limit: args.limit, device: args.of.device.device, ..plan };
    let outlook = plan.preview()?;
    let (width, d_in) = (outlook.d_in, opened.saved.weights.d_in);
    if width != d_in {
        bail!("the autoencoder reads width {d_in}, the model has {width}: {}", folder.display());
    }
    if args.out.exists() && args.out.read_dir().map_or(true, |mut entries| entries.next().is_some()) {
        bail!("the folder is not empty: {}\nhint: --out NEW_FOLDER", args.out.display());
    }
    let methods: Vec<&str> = args.method.iter().map(|method| method.name()).collect();
    if dry {
        return opened.plan("patches", json!({ "rows": outlook.rows, "methods": methods, "keep": args.keep.0 }));
    }
    let weights = weights(&opened, args)?;
    let rules: Vec<Rule> = args
        .method
        .iter()
        .map(|method| Rule {
            method: *method,
            mode: args.mode,
            threshold: args.threshold.value.for_width(d_in),
            weights: &weights,
            seed: args.seed,
        })
        .collect();
    for name in &methods {
        let folder = args.out.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder: {}", folder.display()))?;
    }
    let encoder = Encoder::new(&opened.saved.weights, &opened.device);
    let bar = terminal::bar("patches", outlook.rows);
    let (mut lines, mut sheet, mut totals) = (Vec::new(), Vec::new(), BTreeMap::<&str, [u64; 2]>::new());
    let (mut samples, mut images) = (0u64, 0u64);
    let skipped = for_each_sample::<anyhow::Error>(&plan, &mut |visited, done| {
        bar.set_position(done);
        let active = encoder.encode(visited.hidden)?;
        let positions = positions(visited.sample, &active, visited.hidden, d_in);
        for (image, file) in visited.files.iter().enumerate() {
            let picture = Picture::decode(file).map_err(anyhow::Error::msg)?;
            let mut row = vec![picture.clone()];
            for rule in &rules {
                // Every sample draws its own.
                let rule = &Rule { seed: args.seed ^ (samples << 20), ..*rule };
                let mut found = rule.patches(&positions, image);
                patches::keep(&mut found, args.keep.0)?;
                let name = format!("{}/{:06}-{image}.png", rule.method.name(), samples);
                let dark = blackened(&picture, &found);
                dark.write(&args.out.join(&name))?;
                row.push(dark);
                let total = totals.entry(rule.method.name()).or_default();
                total[0] += found.len() as u64;
                total[1] += found.iter().filter(|patch| patch.kept).count() as u64;
                writeln!(lines, "{}", line(visited.sample, image, rule, args, &name, &found))?;
            }
            if sheet.len() < args.sheet {
                sheet.push(row);
            }
            images += 1;
        }
        samples += 1;
        Ok(())
    })?;
    bar.finish_and_clear();
    let list = args.out.join("patches.jsonl");
    sae_core::file::write_bytes(&list, &lines)?;
    let picture = args.out.join("sheet.png");
    if !sheet.is_empty() {
        Picture::sheet(&sheet, SHEET_SIDE).write(&picture)?;
    }
    let mut rows = vec![["method", "patches", "kept", "share"].map(String::from).to_vec()];
    for (name, [all, kept]) in &totals {
        let share = format!("{:.1} %", 100.0 * *kept as f64 / (*all).max(1) as f64);
        rows.push(vec![(*name).into(), count(*all), count(*kept), share]);
    }
    let text = format!(
        "{} images of {} samples, {} rows skipped{}\n{}  {}\n  {} (the images, then {})",
        count(images),
        count(samples),
        count(skipped.rows()),
        first(skipped.first()),
        table(&rows),
        list.display(),
        picture.display(),
        methods.join(", "),
    );
    let found: BTreeMap<_, _> =
        totals.iter().map(|(name, [all, kept])| (*name, json!({ "patches": all, "kept": kept }))).collect();
    Outcome::new(
        json!({ "images": images, "samples": samples, "skipped": skipped.rows(), "skipped_rows": skipped.first(), "methods": found, "file": list, "sheet": picture }),
        text,
    )
}

/// The cross-modal weights of the mode, where a method counts them.
fn weights(opened: &SaeReader, args: &PatchesArgs) -> Result<Vec<Option<f64>>> {
    if !args.method.contains(&Method::Cosine) {
        return Ok(Vec::new());
    }
    let path = opened.run.features(&opened.name).join("features.parquet");
    if !path.exists() {
        bail!("the method cosine counts cross-modal weights: {}\nhint: sae index --run RUN --sae NAME", path.display());
    }
    Ok(read_features(&path)?.iter().map(|row| weight(row, args.mode)).collect())
}

fn weight(row: &FeatureRow, mode: Definition) -> Option<f64> {
    match mode {
        Definition::Paper => row.weight_paper,
        Definition::Release => row.weight_release,
        Definition::Corrected => row.weight_corrected,
    }
}

/// What the autoencoder finds at each position of a sample.
fn positions<'a>(sample: &Prepared, active: &'a Sparse, hidden: &[f32], d: usize) -> Vec<Position<'a>> {
    let mut places = sample.frames.iter().flat_map(|frame| &frame.places);
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

/// The picture without the patches that do not stay.
fn blackened(picture: &Picture, patches: &[Patch]) -> Picture {
    let mut dark = picture.clone();
    patches.iter().filter(|patch| !patch.kept).for_each(|patch| dark.blacken(patch.rect));
    dark
}

fn line(sample: &Prepared, image: usize, rule: &Rule, args: &PatchesArgs, name: &str, patches: &[Patch]) -> Value {
    let path = sample.sample.images.get(image).map(|image| &image.path);
    json!({
        "id": sample.sample.id, "key": sample.sample.key, "image": image, "path": path, "file": Path::new(name),
        "method": rule.method.name(), "mode": rule.mode.name(), "keep": args.keep.0, "patches": patches,
    })
}
