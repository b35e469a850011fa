//! Pairs of answers for people to compare: chosen in a run of trees by several topologies, each with what its comparisons would teach
//! about the reward of unrelated answers, and at which price.

mod draw;
mod earlier;
mod features;
mod report;
mod reveal;
mod rows;
mod trees;

pub use crate::error::PairsError;
pub use filters::pairs::Topology;
pub use report::{CurvePoint, PairsReport, Prices, TopologyReport};
pub use reveal::Revealed;

use crate::Result;
use crate::control::{Control, Stage};
use crate::probe::{self, SavedProbe, label_values, strengths};
use crate::sae::{LoadedSae, SaeChoice, SaePlan};
use draw::{Draw, random, sorted};
use features::Features;
use filters::pairs::{Posterior, Step, follow, informativeness, most_informative};
use filters::probe::{Kind, Rows};
use filters::write::{StagedFolder, check_folders};
use sae_core::analysis::between::{Part, PositionChoice};
use sae_core::file;
use sae_core::store::load_samples;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use trees::Trees;

/// Features that a reward reads at most.
pub const MOST_FEATURES: usize = 512;
/// Pairs of a topology that can be asked for at most.
pub const MOST_PAIRS: usize = 100_000;
/// Unrelated pairs over which the uncertainty is averaged, if there are so many.
const TARGETS: usize = 1_000;

/// Which pairs of answers people should compare next, on a run of trees.
///
/// ```no_run
/// use sae_workbench::{Control, PairsRequest, SaeChoice};
///
/// let request = PairsRequest::new(SaeChoice::new("trees"), "to-label");
/// let report = request.run(&mut Control::default())?;
/// println!("per comparison, {:?} teaches most", report.best.comparisons);
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PairsRequest {
    /// The autoencoder, of a run whose samples are pieces of trees.
    pub sae: SaeChoice,
    /// New folder for the pairs.
    pub out: PathBuf,
    /// Pairs of each topology, at most [`MOST_PAIRS`].
    pub n: usize,
    /// The topologies.
    pub topologies: Vec<Topology>,
    /// A probe of pairs of the run, which says what is known so far. Its features and its part are used.
    pub probe: Option<String>,
    /// Which positions of an answer are read, without a probe.
    pub part: Part,
    /// Features that the reward reads at most, up to [`MOST_FEATURES`].
    pub features: usize,
    /// The standard deviation of the weights of scaled features before any comparison.
    pub scale: f64,
    /// Files with pairs that were compared before, as this operation writes them: the uncertainty begins after them, and none is chosen
    /// again.
    pub compared: Vec<PathBuf>,
    /// A field of answers with rewards that are known, which simulated labels follow.
    pub reveal: Option<String>,
    /// Seed of all draws.
    pub seed: u64,
}

/// Among what pairs would be chosen.
pub type PairsPlan = SaePlan<PairsDetails>;

/// What is particular to a choice of pairs.
#[derive(Clone, Debug, Serialize)]
pub struct PairsDetails {
    /// Whole answers.
    pub answers: usize,
    /// Trees that have answers.
    pub trees: usize,
    /// Pairs of answers of one tree.
    pub tree_pairs: usize,
}

/// The pairs of a topology.
struct Compared {
    topology: Topology,
    /// Pairs of this kind that exist.
    exist: usize,
    /// Those that were chosen, by the numbers of their answers.
    pairs: Vec<[usize; 2]>,
    steps: Vec<Step>,
    revealed: Vec<Revealed>,
}

/// What is read before the pass.
struct Input {
    sae: LoadedSae,
    probe: Option<SavedProbe>,
    choice: PositionChoice,
    trees: Trees,
}

impl PairsRequest {
    /// 500 pairs of every topology, by what the model says.
    pub fn new(sae: SaeChoice, out: impl Into<PathBuf>) -> Self {
        Self {
            sae,
            out: out.into(),
            n: 500,
            topologies: Topology::NAMED.map(|(_, topology)| topology).to_vec(),
            probe: None,
            part: Part::Answer,
            features: MOST_FEATURES,
            scale: 1.0,
            compared: Vec::new(),
            reveal: None,
            seed: 0,
        }
    }

    /// What [`PairsRequest::run`] would do.
    ///
    /// # Errors
    /// No such run, autoencoder or probe; samples that are no pieces of trees; too few answers; a folder that is not empty.
    pub fn plan(&self) -> Result<PairsPlan> {
        let Input { sae, trees, .. } = self.input()?;
        let tree_pairs = trees.of_one_tree().len();
        Ok(sae.plan("pairs", PairsDetails { answers: trees.answers.len(), trees: trees.count(), tree_pairs }))
    }

    /// Chooses the pairs of every topology, and writes them and the report.
    ///
    /// # Errors
    /// As [`PairsRequest::plan`]; no feature that distinguishes the answers; a field without rewards; files that cannot be read or
    /// written; a request to stop. The folder appears complete or not at all.
    pub fn run(&self, control: &mut Control) -> Result<PairsReport> {
        let Input { sae, probe, choice, trees } = self.input()?;
        let samples = load_samples(&sae.run)?;
        let known = self.reveal.as_ref().map(|field| label_values(Kind::Linear, field, &samples)).transpose()?;
        let mut strengths = strengths(samples.len(), sae.saved.weights.d_sae);
        sae.summarize(&sae.store, Stage::Features, &choice, &mut [&mut strengths], control)?;
        let answers: Vec<usize> = trees.answers.iter().map(|answer| *answer as usize).collect();
        let whole = Rows::from_sets(&strengths.finish()).pick(&answers);
        let Features { rows, rewards } = Features::choose(&whole, self.features, probe.as_ref())?;
        let targets = trees.unrelated().draw(TARGETS, &mut random(self.seed, 0));
        let q = |pairs: &[[usize; 2]]| pairs.iter().map(|pair| informativeness(&rewards, *pair)).collect::<Vec<f64>>();
        let unknown = Posterior::new(&rows, &targets, self.scale);
        let uncertainty = unknown.uncertainty();
        let earlier = earlier::read(&self.compared, &trees, &samples)?;
        let prior = unknown.after(&rows, &earlier, &q(&earlier));
        let draw =
            Draw { trees: &trees, earlier: earlier.iter().copied().map(sorted).collect(), n: self.n, seed: self.seed };
        let candidates = draw.candidates();

        let topologies = self.distinct_topologies();
        let mut compared = Vec::with_capacity(topologies.len());
        let mut staged = control.stage(Stage::Pairs, topologies.len() as u64)?;
        for topology in topologies {
            let (exist, pairs, steps) = if topology == Topology::Active {
                let chosen = most_informative(&rows, &candidates, &q(&candidates), &prior, self.n);
                let pairs = chosen.iter().map(|(candidate, _)| candidates[*candidate]).collect();
                (trees.of_one_tree().len(), pairs, chosen.into_iter().map(|(_, step)| step).collect())
            } else {
                let (exist, pairs) = draw.pairs(topology);
                let steps = follow(&rows, &pairs, &q(&pairs), &prior);
                (exist, pairs, steps)
            };
            let revealed = known.as_ref().map_or_else(Vec::new, |values| {
                let known: Vec<Option<f64>> = answers.iter().map(|answer| values[*answer]).collect();
                let labeled = [&earlier[..], &pairs[..]].concat();
                reveal::reveal(&rows, &known, &labeled, &targets, self.scale, self.seed)
            });
            compared.push(Compared { topology, exist, pairs, steps, revealed });
            staged.advance(compared.len() as u64)?;
        }
        drop(staged);
        let (topologies, equal_price, best) = report::compare(&trees, &compared, prior.uncertainty());
        let report = PairsReport {
            schema_version: sae_core::store::run::SCHEMA_VERSION,
            run: sae.run.root().to_path_buf(),
            sae: sae.name.clone(),
            probe: self.probe.clone(),
            part: choice.part,
            scale: self.scale,
            seed: self.seed,
            asked: self.n,
            answers: answers.len(),
            trees: trees.count(),
            features: rows.width(),
            targets: targets.len(),
            candidates: candidates.len(),
            uncertainty,
            compared: earlier.len(),
            uncertainty_now: prior.uncertainty(),
            topologies,
            equal_price,
            best,
            reveal: self.reveal.clone(),
        };
        let folder = StagedFolder::new(&self.out)?;
        for compared in &compared {
            let path = folder.folder().join(format!("{}.jsonl", compared.topology.name()));
            rows::write(&path, &trees, &samples, compared, self.seed)?;
        }
        file::write_json(&folder.folder().join("pairs.json"), &report)?;
        folder.commit()?;
        Ok(report)
    }

    fn input(&self) -> Result<Input> {
        self.check()?;
        let sae = self.sae.load_with_pieces()?;
        let probe = self.probe.as_deref().map(|name| self.read_probe(&sae, name)).transpose()?;
        let part = probe.as_ref().map_or(self.part, |probe| probe.part);
        let choice = PositionChoice::new(&sae.store, part, part.markers().as_ref())?;
        let positions = choice.counts(&sae.store)?;
        let trees = Trees::read(&sae.store, |sample| positions[sample] > 0)?;
        Ok(Input { sae, probe, choice, trees })
    }

    fn check(&self) -> Result<()> {
        let error = |what, found, expected| PairsError::Number { what, found, expected };
        if !(1..=MOST_PAIRS).contains(&self.n) {
            return Err(error("number of pairs", self.n as f64, format!("1 to {MOST_PAIRS}")).into());
        }
        if !(1..=MOST_FEATURES).contains(&self.features) {
            return Err(error("number of features", self.features as f64, format!("1 to {MOST_FEATURES}")).into());
        }
        if !(1e-6..=1e6).contains(&self.scale) {
            return Err(error("scale", self.scale, "a number from 0.000001 to 1000000".into()).into());
        }
        Ok(check_folders(&[&self.out])?)
    }

    fn read_probe(&self, sae: &LoadedSae, name: &str) -> Result<SavedProbe> {
        let (probe, ..) = probe::open(&sae.run, &sae.name, name)?;
        if probe.kind != Kind::Pair {
            return Err(PairsError::ProbeKind { name: name.into(), kind: probe.kind }.into());
        }
        Ok(probe)
    }

    fn distinct_topologies(&self) -> Vec<Topology> {
        let mut seen = BTreeSet::new();
        self.topologies.iter().copied().filter(|topology| seen.insert(*topology)).collect()
    }
}
