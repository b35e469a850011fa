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
    /// The same with the other autoencoders.
    beside: Vec<Self>,
}

/// One store after its pass.
pub struct Passed {
    pub samples: Vec<Sample>,
    pub pooled: PooledStore,
    /// The same images, with the texts as the model reads them with blank images, if those were captured.
    pub blank: Option<PooledStore>,
    pub tops: Option<TopTokens>,
    /// [`Passed::pooled`] with the features of the other autoencoders, if there are any. [`Passed::blank`] has them as well.
    together: Option<PooledStore>,
}

/// The autoencoders and runs that take part in a scoring.
pub struct Participants<'a> {
    sae: &'a LoadedSae,
    options: &'a ScoreOptions,
    pub companions: Companions,
    /// The other autoencoders.
    beside: Vec<(LoadedSae, Companions)>,
    /// Whether the scored run is fitted to.
    pub fits_itself: bool,
}

/// What an autoencoder reads of other runs than its own.
pub struct Companions {
    pub calibration: Vec<Companion>,
    pub rejected: Option<Companion>,
}

/// What all passes of a scoring found.
pub struct AllCollected {
    pub scored: Collected,
    pub calibration: Vec<Collected>,
    pub rejected: Option<Collected>,
}

impl Companions {
    fn open(sae: &LoadedSae, options: &ScoreOptions) -> Result<Self> {
        let rejected =
            options.rejected.as_deref().map(|path| Companion::open(sae, path, Role::Rejected)).transpose()?;
        let others = options.calibrate.iter().filter(|path| !is_scored(sae, path));
        let calibration = others.map(|path| Companion::open(sae, path, Role::Calibration)).collect::<Result<_>>()?;
        Ok(Self { calibration, rejected })
    }
}

/// Whether a path is that of the run that is scored.
fn is_scored(sae: &LoadedSae, path: &Path) -> bool {
    path.canonicalize().ok() == sae.run.root().canonicalize().ok()
}

impl<'a> Participants<'a> {
    /// Opens the autoencoders and the runs.
    pub fn open(sae: &'a LoadedSae, options: &'a ScoreOptions) -> Result<Self> {
        options.check(sae)?;
        let companions = Companions::open(sae, options)?;
        let open = |other: LoadedSae| Companions::open(&other, options).map(|companions| (other, companions));
        let beside = sae.beside(&options.beside)?.into_iter().map(open).collect::<Result<_>>()?;
        let fits_itself = options.calibrate.is_empty() || options.calibrate.iter().any(|path| is_scored(sae, path));
        Ok(Self { sae, options, companions, beside, fits_itself })
    }

    /// The threshold for the width of the autoencoder.
    pub fn threshold(&self) -> f32 {
        self.options.threshold.for_width(self.sae.saved.weights.d_in)
    }

    /// Passes over all of them.
    pub fn collect(&self, passes: &mut Passes, control: &mut Control) -> Result<AllCollected> {
        let mut all = self.collect_with(self.sae, &self.companions, passes, control)?;
        for (sae, companions) in &self.beside {
            all.put_beside(self.collect_with(sae, companions, passes, control)?);
        }
        Ok(all)
    }

    /// Passes of one autoencoder.
    fn collect_with(
        &self,
        sae: &LoadedSae,
        companions: &Companions,
        passes: &mut Passes,
        control: &mut Control,
    ) -> Result<AllCollected> {
        let threshold = self.options.threshold.for_width(sae.saved.weights.d_in);
        let pass = Pass { sae, threshold, sides: &self.options.sides };
        // Weights are of the first autoencoder alone. The names of autoencoders contain no colon.
        let first = std::ptr::eq(sae, self.sae);
        let name = |name: String| if first { name } else { format!("{}:{name}", sae.name) };
        let (run, store, weigh) = (&sae.run, &sae.store, first && self.fits_itself);
        let own = Source { name: name("run".into()), run, store, weigh, stage: Stage::Score };
        let scored = pass.over(&own, passes, control)?;
        let mut calibration = Vec::new();
        for (n, Companion { run, store }) in companions.calibration.iter().enumerate() {
            let name = name(format!("calibration-{n}"));
            let source = Source { name, run, store, weigh: first, stage: Stage::Calibrate };
            calibration.push(pass.over(&source, passes, control)?);
        }
        let mut rejected = None;
        if let Some(Companion { run, store }) = &companions.rejected {
            let source = Source { name: name("rejected".into()), run, store, weigh: false, stage: Stage::Rejected };
            rejected = Some(pass.over(&source, passes, control)?);
        }
        Ok(AllCollected { scored, calibration, rejected })
    }
}

impl AllCollected {
    /// Adds what another autoencoder found in the same runs.
    fn put_beside(&mut self, other: Self) {
        let others = std::iter::once(other.scored).chain(other.calibration).chain(other.rejected);
        let all = std::iter::once(&mut self.scored).chain(&mut self.calibration).chain(&mut self.rejected);
        all.zip(others).for_each(|(collected, other)| collected.beside.push(other));
    }
}

impl Passed {
    /// The pooled samples that a column is computed from.
    pub fn pooled_for(&self, column: &str) -> Option<&PooledStore> {
        if column == PMI { Some(self.together()) } else { self.blank.as_ref() }
    }

    /// The samples with the features of all autoencoders.
    pub fn together(&self) -> &PooledStore {
        self.together.as_ref().unwrap_or(&self.pooled)
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
        Ok(Collected { samples, pooler: pooled, tops, blank, beside: Vec::new() })
    }
}

impl Collected {
    /// Ends the pooling, joins images with the texts as the model reads them with blank images, and puts the features of the other
    /// autoencoders beside those of the first.
    pub fn join(self, folder: &Path) -> Result<Passed> {
        let Self { samples, pooler, tops, blank, beside } = self;
        let pooled = pooler.finish()?;
        let blank = match blank {
            Some((texts, pooler)) => {
                Some(pooled.with_text(&pooler.finish()?, &align_samples(&samples, &texts), folder)?)
            }
            None => None,
        };
        let mut passed = Passed { samples, pooled, blank, tops, together: None };
        for other in beside {
            let other = other.join(folder)?;
            passed.together = Some(passed.together().beside(&other.pooled, folder)?);
            passed.blank = match passed.blank.zip(other.blank) {
                Some((first, other)) => Some(first.beside(&other, folder)?),
                None => None,
            };
        }
        Ok(passed)
    }
}

/// The folder for temporary files, on the disk of the run.
pub fn scratch(sae: &LoadedSae) -> Result<PathBuf> {
    let folder = sae.run.root().join("scores");
    std::fs::create_dir_all(&folder).map_err(sae_core::Error::io("make the folder", &folder))?;
    Ok(folder)
}
