//! Filtering: decides which samples of a run are kept, and writes the rows that are kept and those that are dropped, each with a
//! manifest.

mod budget;
mod input;
mod manifest;
mod sample_numbers;
mod series;

pub use budget::{BudgetRules, PromiseRule};
pub use manifest::{FilterReport, Group, LeftBehind, QuantileReport, ShownFeatures, SourceFile};
pub use series::FilterSeries;

use crate::control::{Control, Notice, Stage};
use crate::dataset::{self, DIVISION, Dataset};
use crate::error::FilterError;
use crate::{Error, Result};
use filters::decisions::{Decisions, write_frontier};
use filters::select::budget::MovableInput;
use filters::select::{Decision, Keep};
use filters::write::card;
use filters::write::{Format, Images, Job, Report, Shape, StagedFolder, Writer, check_folders};
use input::{Chosen, Features, Input};
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::store::{STEP, StoreRecord};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Bytes of images after which a table or an archive ends and the next begins.
const SHARD: u64 = 512 << 20;

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
            of: input.samples.len(),
            pass: decided.is_none(),
        })
    }

    /// Selects samples and writes both folders.
    ///
    /// # Errors
    /// As [`FilterRequest::plan`]; no sample that is kept, rows that have changed since they were harvested, a full disk; a
    /// request to stop. Each folder appears complete or not at all.
    pub fn run(&self, control: &mut Control) -> Result<FilterReport> {
        self.with_score()?.filtered(&mut None, control)
    }

    /// Selects and writes. The features that are needed are computed unless they are given, and can be used again.
    fn filtered(&self, features: &mut Option<Features>, control: &mut Control) -> Result<FilterReport> {
        let input = self.input()?;
        let (singles, groups) = (input.groups.singles(), input.groups.names.len());
        if let Some(fields) = self.fields().filter(|_| groups > 2 && 2 * singles > groups) {
            control.notice(&Notice::SingleGroups { singles, groups, fields });
        }
        if let (Some(rules), Some(sae), None) = (self.rules(), &input.sae, &features)
            && rules.need_features()
        {
            *features = Some(self.features(sae, rules, control)?);
        }
        let chosen = input.choose(self, features.as_ref())?.unwrap_or_default();
        let decided = &chosen.decisions;
        if !decided.contains(&Decision::Kept) {
            return Err(Error::NothingKept {
                by: self.rules().and_then(|rules| rules.column.clone()),
                keep: self.rules().and_then(|rules| rules.keep),
                without_score: decided.iter().filter(|decision| **decision == Decision::NoScore).count(),
                samples: decided.len(),
            });
        }
        self.write(&input, &chosen, features.as_ref(), control)
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

    fn write(
        &self,
        input: &Input,
        chosen: &Chosen,
        features: Option<&Features>,
        control: &mut Control,
    ) -> Result<FilterReport> {
        let decided = &chosen.decisions;
        let run = Run::open(&self.run)?;
        let record: Option<StoreRecord> = run.read_step(STEP)?;
        let record = record.ok_or_else(|| Error::NoHarvest { run: run.root().into() })?;
        let data = Dataset::open(&record)?;
        let shape = Shape::new(&input.samples, self.rules().and_then(|rules| rules.column.as_deref()));
        let stages = [Some(StagedFolder::new(&self.out)?), self.dropped.as_deref().map(StagedFolder::new).transpose()?];
        let folders = stages.each_ref().map(Option::as_ref);
        let written = self.write_rows(input, decided, &data, &shape, folders, control)?;
        let facts = manifest::Facts { run: &run, input, chosen, features, record: &record, data: &data, shape: &shape };
        let report = FilterReport::new(self, &facts, written[0].clone())?;
        let [out, dropped] = stages;
        for (side, (stage, written)) in [&out, &dropped].into_iter().zip(&written).enumerate() {
            let Some(stage) = stage else { continue };
            report.write(stage.folder())?;
            card::write(stage.folder(), &written.contents, &report.about(side == 0))?;
        }
        if let Some(stage) = dropped {
            stage.commit()?;
        }
        if let Some(stage) = out {
            let Input { samples, scores, .. } = input;
            Decisions { samples, scores, groups: input.cells(), fates: decided }.write(stage.folder())?;
            if !chosen.frontier.is_empty() {
                write_frontier(stage.folder(), &chosen.frontier)?;
            }
            stage.commit()?;
        }
        Ok(report)
    }

    /// Writes the rows of each side that has a folder.
    fn write_rows(
        &self,
        input: &Input,
        decided: &[Decision],
        data: &Dataset,
        shape: &Shape,
        stages: [Option<&StagedFolder>; 2],
        control: &mut Control,
    ) -> Result<[Report; 2]> {
        let job = Job {
            format: self.format,
            root: &data.root,
            images: self.images,
            shard: SHARD,
            mapped: &data.mapped(),
            division: DIVISION,
        };
        let open = |stage: &StagedFolder| -> Result<Writer> {
            let folder = stage.folder().join(card::ROWS);
            std::fs::create_dir(&folder).map_err(sae_core::Error::io("create the folder", &folder))?;
            Ok(Writer::new(&job, &folder, shape)?)
        };
        let [out, dropped] = stages;
        let mut writers = [out.map(open).transpose()?, dropped.map(open).transpose()?];
        let side = |n: usize| (decided[n] != Decision::Kept) as usize;
        let mut staged = control.stage(Stage::Rows, input.samples.len() as u64)?;
        let mut rows = 0;
        let wanted = |n: usize| stages[side(n)].is_some();
        data.each::<Error>(&input.samples, wanted, |n, mut row| {
            rows += 1;
            staged.advance(rows)?;
            row.score = input.scores[n].1;
            match &mut writers[side(n)] {
                Some(writer) => Ok(writer.push(row)?),
                None => Ok(()),
            }
        })?;
        drop(staged);
        let finish = |writer: Option<Writer>| writer.map(Writer::finish).transpose();
        let [out, dropped] = writers;
        let dropped = finish(dropped)?.unwrap_or_default();
        Ok([finish(out)?.unwrap_or_default(), dropped])
    }
}
