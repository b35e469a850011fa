//! Filtering: decides which samples of a run are kept, and writes the rows that are kept and those that are dropped, each with a
//! manifest.

mod budget;
mod candidates;
mod input;
mod manifest;
mod paths;
mod sample_numbers;
mod series;
mod shortlist;
mod write;

pub use budget::{BudgetRules, PromiseRule};
pub use candidates::candidates;
pub use manifest::{FilterReport, Group, LeftBehind, QuantileReport, ShortlistReport, ShownFeatures, SourceFile};
pub use series::FilterSeries;

use crate::control::Control;
use crate::dataset;
use crate::error::FilterError;
use crate::{Error, Result};
use filters::select::budget::MovableInput;
use filters::select::{Decision, Keep};
use filters::write::{Format, Images, check_folders};
use input::{Chosen, Features, Input};
use sae_core::Run;
use sae_core::device::DeviceChoice;
use serde::Serialize;
use std::path::{Path, PathBuf};
use write::Selection;

/// What to filter, by what, and where to.
///
/// ```
#[doc = include_str!("../example_run.md")]
/// use filters::select::Keep;
/// use sae_workbench::{Control, FilterBy, FilterRequest, SaeChoice, ScoreRequest, SelectionRules};
///
/// # let run = example_run()?;
/// ScoreRequest::new(SaeChoice::new(run.path())).run(&mut Control::default())?;
///
/// // The ten best samples, as rows of the data set with their images.
/// let out = run.path().join("best");
/// let rules = SelectionRules::new("pmi_blank", Keep::Count(10));
/// let report = FilterRequest::new(run.path(), FilterBy::Rules(rules), &out).run(&mut Control::default())?;
/// assert_eq!((report.kept.rows, report.dropped), (10, 38));
/// assert!(out.join("data").is_dir() && out.join("decisions.csv").is_file());
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct FilterRequest {
    /// The run folder.
    pub run: PathBuf,
    /// What decides.
    pub by: FilterBy,
    /// New folder for the rows that are kept.
    pub out: PathBuf,
    /// New folder for the rows that are dropped; `None` does not write them.
    pub dropped: Option<PathBuf>,
    /// How rows are written.
    pub format: Format,
    /// What is done with images.
    pub images: Images,
    /// Where to compute, if a pass over the activations is needed.
    pub device: DeviceChoice,
}

/// What decides which samples are kept.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub enum FilterBy {
    /// The score of a column, or the features that samples show together.
    Rules(SelectionRules),
    /// A CSV or Parquet file with decisions that were made elsewhere.
    Decisions(PathBuf),
}

/// How samples are chosen.
#[derive(Clone, Debug)]
pub struct SelectionRules {
    /// The autoencoder whose scores or features are used; `None` chooses the only score table or autoencoder of the run.
    pub sae: Option<String>,
    /// The column of the score that ranks samples. Without one, features alone decide; where the rule is
    /// [`SelectionRule::Score`], the recommended column does ([`filters::score_names::RECOMMENDED`]).
    pub column: Option<String>,
    /// How much to keep; `None` leaves that to the quotas.
    pub keep: Option<Keep>,
    /// Fields of the rows by which samples are grouped: `category` or `category,country`; `year:4` makes four groups of
    /// numbers.
    pub by_group: Option<String>,
    /// Whether groups give equally many samples, rather than in proportion to their sizes.
    pub equal_groups: bool,
    /// How many samples of a group to keep, by its name; `*` is every other group. Without fields to group by, the name is a
    /// field, and that many samples of each of its groups are kept.
    pub quotas: Vec<(String, usize)>,
    /// A number of each sample: a field, a column of the score table, or a token count such as `answer_tokens`. The share to keep
    /// is kept inside each of [`filters::select::QUANTILES`] quantiles of it.
    pub within: Option<String>,
    /// Samples whose features are at least this similar (Jaccard, 0 to 1) to those of a better sample of their group are dropped.
    pub dedup: Option<f64>,
    /// What makes a set of samples good.
    pub rule: SelectionRule,
    /// Holds the features of about this many times the samples that are kept, rather than of all
    /// ([`filters::select::shortlist`]). For [`SelectionRule::Diverse`] and near-duplicates.
    pub shortlist: Option<f64>,
    /// What limits the selection. Only scores can choose within budgets.
    pub budgets: BudgetRules,
    /// Seed of the draws of a stochastic selection.
    pub seed: u64,
}

/// What makes a set of samples good: [`filters::select::Rule`], with the run of a target.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SelectionRule {
    /// High scores.
    #[default]
    Score,
    /// Many features together.
    Diverse,
    /// New features, one sample after the other.
    GreedSelect,
    /// The features of the samples of this run, in the same proportions.
    Match(PathBuf),
}

impl SelectionRule {
    /// Its name in the manifest.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Diverse => "diverse",
            Self::GreedSelect => "greedselect",
            Self::Match(_) => "match",
        }
    }
}

impl SelectionRules {
    /// Keeps the best of all samples by a column.
    pub fn new(column: impl Into<String>, keep: Keep) -> Self {
        Self { column: Some(column.into()), ..Self::by_features(SelectionRule::Score, keep) }
    }

    /// Chooses among all samples by a rule, without a score.
    pub fn by_features(rule: SelectionRule, keep: Keep) -> Self {
        Self {
            sae: None,
            column: None,
            keep: Some(keep),
            by_group: None,
            equal_groups: false,
            quotas: Vec::new(),
            within: None,
            dedup: None,
            rule,
            shortlist: None,
            budgets: BudgetRules::default(),
            seed: 0,
        }
    }

    /// Whether the features of the samples are needed.
    pub fn need_features(&self) -> bool {
        self.dedup.is_some() || self.rule != SelectionRule::Score
    }
}

/// What a filter would do.
#[derive(Clone, Debug, Serialize)]
pub struct FilterPlan {
    /// `filter`.
    pub command: &'static str,
    /// The column that decides.
    pub by: Option<String>,
    /// The file of decisions.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub decisions: Option<PathBuf>,
    /// Samples that would be kept; `None` if that needs a pass over the activations.
    pub keep: Option<usize>,
    /// Samples in all.
    pub of: usize,
    /// Whether a pass over the activations is needed.
    pub pass: bool,
}

impl FilterRequest {
    /// A filter that writes rows in the format of the data set, copies images, and does not write dropped rows.
    pub fn new(run: impl Into<PathBuf>, by: FilterBy, out: impl Into<PathBuf>) -> Self {
        Self {
            run: run.into(),
            by,
            out: out.into(),
            dropped: None,
            format: Format::Same,
            images: Images::Copy,
            device: DeviceChoice::Auto,
        }
    }

    /// What [`FilterRequest::run`] would do.
    ///
    /// # Errors
    /// No scores, groups or quotas that do not exist, folders that are not empty.
    pub fn plan(&self) -> Result<FilterPlan> {
        self.with_score()?.planned()
    }

    fn planned(&self) -> Result<FilterPlan> {
        let input = self.input()?;
        let decided = input.choose(self, None)?.map(|chosen| chosen.decisions);
        let stays = |decision: &&Decision| **decision == Decision::Kept;
        Ok(FilterPlan {
            command: "filter",
            by: self.rules().and_then(|rules| rules.column.clone()),
            decisions: self.decisions().map(Path::to_path_buf),
            keep: decided.as_ref().map(|decided| decided.iter().filter(stays).count()),
            of: input.scores.len(),
            pass: decided.is_none(),
        })
    }

    /// Selects samples and writes both folders.
    ///
    /// # Errors
    /// As [`FilterRequest::plan`]; no sample that is kept, rows that have changed since they were harvested, a full disk; a
    /// request to stop. Each folder appears complete or not at all.
    pub fn run(&self, control: &mut Control) -> Result<FilterReport> {
        let request = self.with_score()?;
        let (input, mut features) = (request.input()?, None);
        let chosen = request.chosen(&input, &mut features, control)?;
        let selections = [Selection { request: &request, chosen }];
        let mut reports = write::selections(&input, &selections, features.as_ref(), control)?;
        // There is one for each selection.
        Ok(reports.swap_remove(0))
    }

    /// The decisions about all samples. The features that are needed are computed unless they are there already.
    fn chosen(&self, input: &Input, features: &mut Option<Features>, control: &mut Control) -> Result<Chosen> {
        let chosen = match (self.rules(), &input.sae, &features) {
            (Some(rules), Some(sae), _) if rules.shortlist.is_some() => self.shortlisted(input, sae, rules, control)?,
            (Some(rules), Some(sae), None) if rules.need_features() => {
                let features = features.insert(self.features(input, sae, rules, control)?);
                input.choose(self, Some(features))?.unwrap_or_default()
            }
            _ => input.choose(self, features.as_ref())?.unwrap_or_default(),
        };
        let decided = &chosen.decisions;
        if !decided.contains(&Decision::Kept) {
            return Err(Error::NothingKept {
                by: self.rules().and_then(|rules| rules.column.clone()),
                keep: self.rules().and_then(|rules| rules.keep),
                without_score: decided.iter().filter(|decision| **decision == Decision::NoScore).count(),
                samples: decided.len(),
            });
        }
        Ok(chosen)
    }

    /// What the only budget of the rules chooses from, with the scores and costs of the run in memory, to try one limit and one
    /// amount after the other. Folders, formats and the amount of the rules do not matter.
    ///
    /// # Errors
    /// Rules that choose by features, or have no budget or several; scores, costs or groups that do not exist.
    pub fn movable_input(&self) -> Result<MovableInput> {
        if self.rules().is_none_or(|rules| rules.need_features() || rules.column.is_none()) {
            return Err(FilterError::BudgetsNeedScores.into());
        }
        let input = Input::read(&Run::open(&self.run)?, self)?;
        input.movable().ok_or_else(|| FilterError::NotOneBudget.into())
    }

    /// The same request; if scores decide and none is named, with the first column of [`filters::score_names::RECOMMENDED`] in which a sample has a score.
    fn with_score(&self) -> Result<Self> {
        let mut request = self.clone();
        if let FilterBy::Rules(rules) = &mut request.by
            && rules.column.is_none()
            && rules.rule == SelectionRule::Score
        {
            rules.column = Some(input::recommended(&Run::open(&self.run)?, rules)?);
        }
        Ok(request)
    }

    fn input(&self) -> Result<Input> {
        check_folders(&self.folders())?;
        let run = Run::open(&self.run)?;
        if self.format == Format::Same && dataset::melt(&run)?.is_some() {
            return Err(Error::MeltedRows);
        }
        Input::read(&run, self)
    }

    fn folders(&self) -> Vec<&Path> {
        std::iter::once(&self.out).chain(&self.dropped).map(PathBuf::as_path).collect()
    }

    fn rules(&self) -> Option<&SelectionRules> {
        match &self.by {
            FilterBy::Rules(rules) => Some(rules),
            FilterBy::Decisions(_) => None,
        }
    }

    fn decisions(&self) -> Option<&Path> {
        match &self.by {
            FilterBy::Rules(_) => None,
            FilterBy::Decisions(path) => Some(path),
        }
    }

    /// The fields that samples are grouped by.
    fn fields(&self) -> Option<&str> {
        let rules = self.rules()?;
        rules.by_group.as_deref().or_else(|| rules.quotas.first().map(|(field, _)| field.as_str()))
    }
}
