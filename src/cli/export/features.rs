//! Features with their examples as files of SAEDashboard, of Neuronpedia, or as pages. The folder appears whole or not at
//! all. Images that cannot be had are left out of what is written, and said.

use super::super::{Outcome, SaeReader, chosen, sample_images};
use super::{ExportArgs, Target};
use crate::cli::terminal::{self, count};
use anyhow::{Context as _, Result};
use filters::write::{StagedFolder, check_folders};
use harvest::pixels::Picture;
use sae_core::analysis::context::{Context, contexts};
use sae_core::analysis::dashboard::{Page, Source, html, images, neuronpedia, saedashboard};
use sae_core::analysis::index::Index;
use sae_core::analysis::labels::Labels;
use sae_core::file;
use sae_core::store::run;
use sae_core::store::sample::Sample;
use sae_core::store::{STEP, StoreRecord, load_samples};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Longest side of an image in a file of its own.
const SIDE: usize = 512;
/// Longest side of an image in a page.
const PAGE_SIDE: usize = 320;

/// Runs the command.
pub fn run(args: &ExportArgs, dry: bool) -> Result<Outcome> {
    let opened = SaeReader::new(&args.of)?;
    let folder = opened.run.features(&opened.name);
    let index = Index::open(&folder).context("features are told by the index\nhint: `sae index` makes it")?;
    let features = chosen(&args.chosen, &index)?;
    check_folders(&[&args.out])?;
    if dry {
        return opened.plan("export", json!({ "to": args.to.name(), "out": args.out, "exported": features }));
    }
    let stage = StagedFolder::new(&args.out)?;
    let job = Job {
        opened: &opened,
        index: &index,
        labels: Labels::read(&opened.run)?,
        samples: load_samples(&opened.run)?,
        source: source(&opened)?,
        all: features.iter().copied().collect(),
        folder: stage.folder().to_path_buf(),
    };
    let bar = terminal::bar("export", features.len() as u64);
    let (mut without, mut list) = (BTreeSet::new(), Vec::new());
    for (n, together) in features.chunks(saedashboard::BATCH).enumerate() {
        list.extend(job.batch(args.to, n, together, &mut without)?);
        bar.inc(together.len() as u64);
    }
    job.heads(args.to, &list)?;
    bar.finish_and_clear();
    stage.commit()?;
    let shown = match args.to {
        Target::Html => args.out.join("index.html"),
        Target::Neuronpedia => args.out.join(neuronpedia::folder(&job.source)),
        _ => args.out.clone(),
    };
    let mut text = format!("{} features for {}  {}", count(features.len() as u64), args.to.name(), shown.display());
    without.iter().for_each(|why| text += &format!("\nwithout images: {why}"));
    let json = json!({
        "features": features.len(), "to": args.to.name(), "out": args.out, "at": shown, "without_images": without,
    });
    Outcome::new(json, text)
}

struct Job<'a> {
    opened: &'a SaeReader,
    index: &'a Index,
    labels: Labels,
    samples: Vec<Sample>,
    source: Source,
    /// All features that are exported.
    all: BTreeSet<u32>,
    folder: PathBuf,
}

/// What the run says about itself; of paths only the last name.
fn source(opened: &SaeReader) -> Result<Source> {
    let harvest: Option<StoreRecord> = opened.run.read_step(STEP)?;
    let root = harvest.as_ref().and_then(|harvest| harvest.spec.arguments["data_root"].as_str()).unwrap_or_default();
    let last = |path: &str| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    let manifest = opened.store.manifest();
    Ok(Source {
        model: manifest.model.clone(),
        layer: manifest.layer,
        sae: opened.name.clone(),
        dataset: last(root).unwrap_or_default(),
        samples: manifest.samples,
        tokens: manifest.rows,
        created: run::now(),
    })
}

impl Job<'_> {
    /// Writes features whose samples are read together; what a list of all pages says of them.
    fn batch(
        &self,
        to: Target,
        number: usize,
        features: &[u32],
        without: &mut BTreeSet<String>,
    ) -> Result<Vec<html::Line>> {
        let SaeReader { store, saved, device, name, .. } = self.opened;
        let examples = features.iter().map(|feature| Ok(self.index.examples(*feature)?)).collect::<Result<Vec<_>>>()?;
        let numbers: BTreeSet<u32> = examples.iter().flatten().map(|(_, example)| example.sample).collect();
        let contexts: BTreeMap<u32, Context> =
            contexts(store, &saved.weights, device, &numbers, &features.iter().copied().collect())?;
        let written = self.labels.of(name);
        let page = |feature: &u32| {
            let direction = saved.weights.direction(*feature as usize);
            Page::new(*feature, self.index, written, direction, &self.samples, &contexts)
        };
        let pages: Vec<Page> = features.iter().map(page).collect::<Result<_, _>>()?;
        match to {
            Target::Html => self.pages(&pages, &numbers, without)?,
            Target::Neuronpedia => {
                let folder = self.folder.join(neuronpedia::folder(&self.source));
                self.neuronpedia(&folder, number, &pages)?;
                self.images(&folder, number, &pages, &numbers, without)?;
            }
            Target::SaeDashboard | Target::SamplesFeatures | Target::Autoencoder(_) => {
                let batch = saedashboard::batch(&self.source, &pages);
                write_json(&self.folder.join(format!("batch-{number}.json")), &batch)?;
                self.images(&self.folder, number, &pages, &numbers, without)?;
            }
        }
        Ok(pages.iter().map(html::Line::new).collect())
    }

    /// What stands beside the batches.
    fn heads(&self, to: Target, list: &[html::Line]) -> Result<()> {
        match to {
            Target::Html => {
                let list = html::list(&self.source, list);
                file::write_bytes(&self.folder.join("index.html"), list.as_bytes())?;
            }
            Target::Neuronpedia => {
                let folder = self.folder.join(neuronpedia::folder(&self.source));
                for (name, line) in neuronpedia::heads(&self.source) {
                    file::write_bytes(&folder.join(name), lines(&[line]).as_bytes())?;
                }
            }
            Target::SaeDashboard | Target::SamplesFeatures | Target::Autoencoder(_) => {
                let count = self.index.features().len() as u32;
                let skipped: Vec<u32> = (0..count).filter(|feature| !self.all.contains(feature)).collect();
                write_json(&self.folder.join("run_settings.json"), &saedashboard::run_settings(&self.source))?;
                let skipped = saedashboard::skipped_indexes(&self.source, &skipped);
                write_json(&self.folder.join("skipped_indexes.json"), &skipped)?;
            }
        }
        Ok(())
    }

    fn pages(&self, pages: &[Page], numbers: &BTreeSet<u32>, without: &mut BTreeSet<String>) -> Result<()> {
        let mut seen = html::Images::new();
        self.see(numbers, without, |sample, image, picture| {
            let jpeg = picture.fitted(PAGE_SIDE, false).jpeg().map_err(anyhow::Error::msg)?;
            seen.insert((sample, image), Ok(("image/jpeg", html::base64(&jpeg))));
            Ok(())
        })?;
        for number in numbers {
            for image in 0..self.samples.get(*number as usize).map_or(0, |sample| sample.images.len()) {
                let why = || Err("the image is not at hand".into());
                seen.entry((*number, image)).or_insert_with(why);
            }
        }
        for page in pages {
            let text = html::page(&self.source, page, &seen, &self.all);
            file::write_bytes(&self.folder.join(format!("{}.html", page.row.feature)), text.as_bytes())?;
        }
        Ok(())
    }

    fn neuronpedia(&self, folder: &Path, number: usize, pages: &[Page]) -> Result<()> {
        let dashboard = saedashboard::batch(&self.source, pages);
        let features = pages.iter().enumerate();
        let features = features.map(|(n, page)| neuronpedia::feature(&self.source, page, &dashboard["features"][n]));
        let activations = pages.iter().flat_map(|page| neuronpedia::activations(&self.source, page));
        let name = format!("batch-{number}.jsonl.gz");
        file::write_gzip(&folder.join("features").join(&name), lines(&features.collect::<Vec<_>>()).as_bytes())?;
        file::write_gzip(&folder.join("activations").join(&name), lines(&activations.collect::<Vec<_>>()).as_bytes())?;
        Ok(())
    }

    /// Images in files of their own, and the lines that say what they show.
    fn images(
        &self,
        folder: &Path,
        number: usize,
        pages: &[Page],
        numbers: &BTreeSet<u32>,
        without: &mut BTreeSet<String>,
    ) -> Result<()> {
        let rows: Vec<Value> = pages.iter().flat_map(|page| images::lines(&self.source, page)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        file::write_bytes(&folder.join(format!("images-{number}.jsonl")), lines(&rows).as_bytes())?;
        self.see(numbers, without, |sample, image, picture| {
            let path = folder.join("images").join(images::file_name(sample, image));
            if !path.exists() {
                picture.fitted(SIDE, false).write(&path)?;
            }
            Ok(())
        })
    }

    /// Shows images as far as they can be had; why not goes to `without`.
    fn see(
        &self,
        numbers: &BTreeSet<u32>,
        without: &mut BTreeSet<String>,
        see: impl FnMut(u32, usize, &Picture) -> Result<()>,
    ) -> Result<()> {
        let mut see = see;
        let mut failed = None;
        let seen = sample_images::each(&self.opened.run, &self.samples, numbers, |sample, image, picture| {
            see(sample, image, picture).inspect_err(|error| failed = Some(format!("{error:#}")))
        });
        match (failed, seen) {
            // A disk that is full is no missing image.
            (Some(cause), _) => anyhow::bail!(cause),
            (None, Err(error)) => drop(without.insert(format!("{error:#}"))),
            (None, Ok(())) => {}
        }
        Ok(())
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    Ok(file::write_bytes(path, value.to_string().as_bytes())?)
}

/// JSON lines.
fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}
