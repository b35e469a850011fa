//! The passes of a scoring: over the run that is scored, over those that scores are fitted to, with rejected answers and with blank
//! images. Computes no score.

use super::ScoreOptions;
use crate::Result;
use crate::companion::Companion;
use crate::control::{Control, Stage};
use crate::passes::Passes;
use crate::roles::Role;
use crate::sae::LoadedSae;
use filters::align::align_samples;
use filters::definition::Sides;
use filters::pmi::{BLANK_DIR, Set};
use filters::pooling::{PooledStore, SamplePooler};
use filters::score_names::PMI;
use filters::top_tokens::TopTokens;
use sae_core::Run;
use sae_core::analysis::part::Mergeable;
use sae_core::store::sample::Sample;
use sae_core::store::{Store, load_samples};
use std::path::{Path, PathBuf};

/// What the passes over one store, and over the same samples with blank images, found.
pub struct Collected {
    samples: Vec<Sample>,
    pooler: SamplePooler,
    tops: Option<TopTokens>,
    blank: Option<(Vec<Sample>, SamplePooler)>,
}

/// One store after its pass.
pub struct Passed {
    pub samples: Vec<Sample>,
    pub pooled: PooledStore,
    /// The same images, with the texts as the model reads them with blank images, if those were captured.
    pub blank: Option<PooledStore>,
    pub tops: Option<TopTokens>,
}

/// The runs that take part in a scoring.
pub struct Participants<'a> {
    sae: &'a LoadedSae,
    options: &'a ScoreOptions,
    pub calibration: Vec<Companion>,
    pub rejected: Option<Companion>,
    /// Whether the scored run is fitted to.
    pub fits_itself: bool,
}

/// What all passes of a scoring found.
pub struct AllCollected {
    pub scored: Collected,
    pub calibration: Vec<Collected>,
    pub rejected: Option<Collected>,
}

impl<'a> Participants<'a> {
    /// Opens the runs.
    pub fn open(sae: &'a LoadedSae, options: &'a ScoreOptions) -> Result<Self> {
        options.check(sae)?;
        let rejected =
            options.rejected.as_deref().map(|path| Companion::open(sae, path, Role::Rejected)).transpose()?;
        let is_scored = |path: &Path| path.canonicalize().ok() == sae.run.root().canonicalize().ok();
        let others = options.calibrate.iter().filter(|path| !is_scored(path));
        let others = others.map(|path| Companion::open(sae, path, Role::Calibration)).collect::<Result<Vec<_>>>()?;
        let fits_itself = options.calibrate.is_empty() || options.calibrate.iter().any(|path| is_scored(path));
        Ok(Self { sae, options, calibration: others, rejected, fits_itself })
    }

    /// The threshold for the width of the autoencoder.
    pub fn threshold(&self) -> f32 {
        self.options.threshold.for_width(self.sae.saved.weights.d_in)
    }

    /// Passes over all of them.
    pub fn collect(&self, passes: &mut Passes, control: &mut Control) -> Result<AllCollected> {
        let pass = Pass { sae: self.sae, threshold: self.threshold(), sides: &self.options.sides };
        let (run, store) = (&self.sae.run, &self.sae.store);
        let own = Source { name: "run".into(), run, store, weigh: self.fits_itself, stage: Stage::Score };
        let scored = pass.over(&own, passes, control)?;
        let mut calibration = Vec::new();
        for (n, Companion { run, store }) in self.calibration.iter().enumerate() {
            let name = format!("calibration-{n}");
            let source = Source { name, run, store, weigh: true, stage: Stage::Calibrate };
            calibration.push(pass.over(&source, passes, control)?);
        }
        let mut rejected = None;
        if let Some(Companion { run, store }) = &self.rejected {
            let source = Source { name: "rejected".into(), run, store, weigh: false, stage: Stage::Rejected };
            rejected = Some(pass.over(&source, passes, control)?);
        }
        Ok(AllCollected { scored, calibration, rejected })
    }
}

impl Passed {
    /// The pooled samples that a column is computed from.
    pub fn pooled_for(&self, column: &str) -> Option<&PooledStore> {
        if column == PMI { Some(&self.pooled) } else { self.blank.as_ref() }
    }

    pub fn set(&self, column: &str) -> Option<Set<'_>> {
        self.pooled_for(column).map(|pooled| Set { samples: &self.samples, pooled })
    }
}

/// Passes of one autoencoder over several runs.
struct Pass<'a> {
    sae: &'a LoadedSae,
    threshold: f32,
    sides: &'a Sides,
}

/// A store that is passed over.
struct Source<'a> {
    /// Its name in a part.
    name: String,
    run: &'a Run,
    store: &'a Store,
    /// Whether weights are computed from it.
    weigh: bool,
    stage: Stage,
}

impl Pass<'_> {
    /// Pools the activations of a run, and collects its strongest tokens if weights are computed from it.
    fn over(&self, source: &Source, passes: &mut Passes, control: &mut Control) -> Result<Collected> {
        let Source { name, run, store, weigh, stage } = source;
        let samples = load_samples(run)?;
        let d_sae = self.sae.saved.weights.d_sae;
        let folder = scratch(self.sae)?;
        let tops = || TopTokens::new(d_sae, self.threshold).along(store.paths().clone()).comparing(self.sides);
        let mut tops = weigh.then(tops);
        let pooler = |samples: usize| {
            SamplePooler::new(samples, d_sae, self.threshold, &folder).map(|pooler| pooler.comparing(self.sides))
        };
        let mut pooled = pooler(samples.len())?.along(store.paths().clone());
        let mut states: Vec<&mut dyn Mergeable> = vec![&mut pooled];
        states.extend(tops.as_mut().map(|tops| tops as &mut dyn Mergeable));
        passes.collect(self.sae, name, store, *stage, &mut states, control)?;
        let blank = run.root().join(BLANK_DIR);
        let blank = if blank.is_dir() && self.sides.compare_with_images() {
            let other = Companion::open(self.sae, &blank, Role::BlankImages)?;
            let texts = load_samples(&other.run)?;
            let mut pooled = pooler(texts.len())?.with_tokens();
            let name = format!("{name}-{BLANK_DIR}");
            passes.collect(self.sae, &name, &other.store, Stage::BlankImages, &mut [&mut pooled], control)?;
            Some((texts, pooled))
        } else {
            None
        };
        Ok(Collected { samples, pooler: pooled, tops, blank })
    }
}

impl Collected {
    /// Ends the pooling, and joins images with the texts as the model reads them with blank images.
    pub fn join(self, folder: &Path) -> Result<Passed> {
        let Self { samples, pooler, tops, blank } = self;
        let pooled = pooler.finish()?;
        let blank = match blank {
            Some((texts, pooler)) => {
                Some(pooled.with_text(&pooler.finish()?, &align_samples(&samples, &texts), folder)?)
            }
            None => None,
        };
        Ok(Passed { samples, pooled, blank, tops })
    }
}

/// The folder for temporary files, on the disk of the run.
pub fn scratch(sae: &LoadedSae) -> Result<PathBuf> {
    let folder = sae.run.root().join("scores");
    std::fs::create_dir_all(&folder).map_err(sae_core::Error::io("make the folder", &folder))?;
    Ok(folder)
}
