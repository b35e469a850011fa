//! Features with their examples as files of SAEDashboard, of Neuronpedia, or as HTML pages. The folder appears complete or
//! not at all. Images that cannot be read are left out, and reported.

use crate::causes::with_causes;
use crate::control::{Control, Stage};
use crate::dataset::each_image;
use crate::provenance;
use crate::sae::{FeatureChoice, LoadedSae, SaeChoice, SaePlan};
use crate::{Error, Result};
use filters::write::{StagedFolder, check_folders};
use harvest::pixels::Picture;
use sae_core::analysis::context::{Context, contexts};
use sae_core::analysis::dashboard::html::{self, Document, Markup};
use sae_core::analysis::dashboard::{FeatureView, Page, Source, images, neuronpedia, saedashboard};
use sae_core::analysis::index::Index;
use sae_core::analysis::labels::Labels;
use sae_core::file;
use sae_core::store::load_samples;
use sae_core::store::sample::Sample;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Longest side, in pixels, of an image in a separate file.
const SIDE: usize = 512;
/// Longest side, in pixels, of an image in a page.
const PAGE_SIDE: usize = 320;

/// How features are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureFormat {
    /// SAEDashboard's batches of features.
    SaeDashboard,
    /// Files of Neuronpedia's bulk import.
    Neuronpedia,
    /// A page for each feature.
    Html,
}

impl FeatureFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SaeDashboard, Self::Neuronpedia, Self::Html];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SaeDashboard => "saedashboard",
            Self::Neuronpedia => "neuronpedia",
            Self::Html => "html",
        }
    }
}

/// Which features, how, and where to.
#[derive(Clone, Debug)]
pub struct ExportFeaturesRequest {
    /// The autoencoder.
    pub sae: SaeChoice,
    /// The features.
    pub features: FeatureChoice,
    /// How they are written.
    pub format: FeatureFormat,
    /// New folder.
    pub out: PathBuf,
}

/// What an export would write.
pub type ExportPlan = SaePlan<PlannedExport>;

/// What is particular to an export of features.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedExport {
    /// The format.
    pub to: &'static str,
    /// The new folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub out: PathBuf,
    /// The features.
    pub exported: Vec<u32>,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct ExportFeaturesReport {
    /// Features.
    pub features: usize,
    /// The format.
    pub to: &'static str,
    /// The new folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub out: PathBuf,
    /// The file to open first.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub at: PathBuf,
    /// Why images are missing.
    pub without_images: BTreeSet<String>,
}

impl ExportFeaturesRequest {
    /// What [`ExportFeaturesRequest::run`] would write.
    ///
    /// # Errors
    /// No such autoencoder, index or feature; a folder that is not empty.
    pub fn plan(&self) -> Result<ExportPlan> {
        let sae = self.sae.load_with_pieces()?;
        let exported = self.features.choose(&self.index(&sae)?)?;
        check_folders(&[&self.out])?;
        Ok(sae.plan("export", PlannedExport { to: self.format.name(), out: self.out.clone(), exported }))
    }

    /// Writes the features.
    ///
    /// # Errors
    /// As [`ExportFeaturesRequest::plan`]; activations that cannot be read, a full disk; a request to stop.
    pub fn run(&self, control: &mut Control) -> Result<ExportFeaturesReport> {
        let sae = self.sae.load_with_pieces()?;
        let index = self.index(&sae)?;
        let features = self.features.choose(&index)?;
        check_folders(&[&self.out])?;
        let stage = StagedFolder::new(&self.out)?;
        let job = Job {
            sae: &sae,
            index: &index,
            format: self.format,
            labels: Labels::read(&sae.run)?,
            samples: load_samples(&sae.run)?,
            source: provenance::source(&sae.run, sae.store.manifest(), &sae.name)?,
            all: features.iter().copied().collect(),
            folder: stage.folder().to_path_buf(),
        };
        let mut staged = control.stage(Stage::Export, features.len() as u64)?;
        let (mut without_images, mut list) = (BTreeSet::new(), Vec::new());
        for (n, together) in features.chunks(saedashboard::BATCH).enumerate() {
            list.extend(job.batch(n, together, &mut without_images)?);
            staged.advance(list.len() as u64)?;
        }
        job.heads(&list)?;
        drop(staged);
        stage.commit()?;
        let at = match self.format {
            FeatureFormat::Html => self.out.join("index.html"),
            FeatureFormat::Neuronpedia => self.out.join(neuronpedia::folder(&job.source)),
            FeatureFormat::SaeDashboard => self.out.clone(),
        };
        let (features, to) = (features.len(), self.format.name());
        Ok(ExportFeaturesReport { features, to, out: self.out.clone(), at, without_images })
    }

    fn index(&self, sae: &LoadedSae) -> Result<Index> {
        Index::open(&sae.run.features(&sae.name)).map_err(|source| Error::NoIndex { source })
    }
}

struct Job<'a> {
    sae: &'a LoadedSae,
    index: &'a Index,
    format: FeatureFormat,
    labels: Labels,
    samples: Vec<Sample>,
    source: Source,
    /// All features that are exported.
    all: BTreeSet<u32>,
    folder: PathBuf,
}

impl Job<'_> {
    /// Writes features whose samples are read together; returns their entries for the list of all pages.
    fn batch(&self, number: usize, features: &[u32], without: &mut BTreeSet<String>) -> Result<Vec<html::Line>> {
        let LoadedSae { store, saved, device, name, .. } = self.sae;
        let examples = features.iter().map(|feature| Ok(self.index.examples(*feature)?)).collect::<Result<Vec<_>>>()?;
        let numbers: BTreeSet<u32> = examples.iter().flatten().map(|(_, example)| example.sample).collect();
        let contexts: BTreeMap<u32, Context> =
            contexts(store, &saved.weights, device, &numbers, &features.iter().copied().collect())?;
        let written = self.labels.written(name);
        let page = |feature: &u32| {
            let direction = saved.weights.direction(*feature as usize);
            let sample = |number: u32| self.samples.get(number as usize);
            Page::new(*feature, self.index, written, direction, sample, &contexts)
        };
        let pages: Vec<Page> = features.iter().map(page).collect::<Result<_, _>>()?;
        let views: Vec<FeatureView> = pages.iter().map(|page| FeatureView::new(&self.source, page)).collect();
        match self.format {
            FeatureFormat::Html => self.pages(&views, &numbers, without)?,
            FeatureFormat::Neuronpedia => {
                let folder = self.folder.join(neuronpedia::folder(&self.source));
                self.neuronpedia(&folder, number, &pages)?;
                self.images(&folder, number, &pages, &numbers, without)?;
            }
            FeatureFormat::SaeDashboard => {
                let batch = saedashboard::batch(&self.source, &pages);
                write_json(&self.folder.join(format!("batch-{number}.json")), &batch)?;
                self.images(&self.folder, number, &pages, &numbers, without)?;
            }
        }
        Ok(views.iter().map(html::Line::new).collect())
    }

    /// Writes the files next to the batches.
    fn heads(&self, list: &[html::Line]) -> Result<()> {
        match self.format {
            FeatureFormat::Html => {
                let list = html::list(&self.source, list);
                file::write_bytes(&self.folder.join("index.html"), list.as_bytes())?;
            }
            FeatureFormat::Neuronpedia => {
                let folder = self.folder.join(neuronpedia::folder(&self.source));
                for (name, line) in neuronpedia::heads(&self.source) {
                    file::write_bytes(&folder.join(name), lines(&[line]).as_bytes())?;
                }
            }
            FeatureFormat::SaeDashboard => {
                let count = self.index.features().len() as u32;
                let skipped: Vec<u32> = (0..count).filter(|feature| !self.all.contains(feature)).collect();
                write_json(&self.folder.join("run_settings.json"), &saedashboard::run_settings(&self.source))?;
                let skipped = saedashboard::skipped_indexes(&self.source, &skipped);
                write_json(&self.folder.join("skipped_indexes.json"), &skipped)?;
            }
        }
        Ok(())
    }

    fn pages(&self, views: &[FeatureView], numbers: &BTreeSet<u32>, without: &mut BTreeSet<String>) -> Result<()> {
        let mut seen: BTreeMap<(u32, usize), String> = BTreeMap::new();
        self.see(numbers, without, |sample, image, picture| {
            let jpeg =
                picture.fitted(PAGE_SIDE, false).jpeg().map_err(|error| Error::Encode { cause: error.to_string() })?;
            seen.insert((sample, image), html::data_url("image/jpeg", &jpeg));
            Ok(())
        })?;
        let links = html::Links {
            feature: &|feature| self.all.contains(&feature).then(|| format!("{feature}.html")),
            sample: &|_| None,
            image: &|sample, image| {
                seen.get(&(sample, image)).cloned().ok_or_else(|| "the image is not at hand".into())
            },
        };
        let back = html::tag("a").attr("href", "index.html").text("All features");
        let navigation = html::tag("nav").of(html::tag("p").class("muted").of(back));
        for view in views {
            let document = Document {
                title: &format!("Feature {}", view.feature),
                policy: Some(html::FILE_POLICY),
                head: Markup::new(),
                navigation: navigation.clone(),
                main: html::feature(view, &links).and(html::examples(view, &links)),
            };
            let path = self.folder.join(format!("{}.html", view.feature));
            file::write_bytes(&path, document.render().as_bytes())?;
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

    /// Writes images to separate files, and the lines that describe them.
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

    /// Shows the images that can be read; the reasons for the others go to `without`.
    fn see(
        &self,
        numbers: &BTreeSet<u32>,
        without: &mut BTreeSet<String>,
        see: impl FnMut(u32, usize, &Picture) -> Result<()>,
    ) -> Result<()> {
        let mut see = see;
        let shown = each_image(&self.sae.run, &self.samples, numbers, |sample, image, picture| {
            see(sample, image, picture).map_err(|error| Failure::Writing(Box::new(error)))
        });
        match shown {
            Ok(()) => Ok(()),
            // A full disk is an error, not a missing image.
            Err(Failure::Writing(error)) => Err(*error),
            Err(Failure::Reading(error)) => {
                without.insert(with_causes(&error));
                Ok(())
            }
        }
    }
}

/// On which side of an image something failed.
enum Failure {
    Reading(Box<Error>),
    Writing(Box<Error>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Reading(Box::new(error))
    }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    Ok(file::write_bytes(path, value.to_string().as_bytes())?)
}

/// JSON lines.
fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}
