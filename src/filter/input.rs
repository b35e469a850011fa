//! What a filter decides by: scores with the rules of a request, or decisions that were made elsewhere.

use super::budget::BudgetInput;
use super::candidates::Candidates;
use super::sample_numbers::numbers;
use super::{FilterBy, FilterRequest, SelectionRule, SelectionRules};
use crate::companion::Companion;
use crate::control::{Control, Stage};
use crate::error::FilterError;
use crate::roles::{Kind, Role};
use crate::sae::{LoadedSae, SaeChoice, choose};
use crate::score::step_name;
use crate::{Error, Result};
use filters::column::ScoreTable;
use filters::score_names::{PMI_TOKEN_MIN, RECOMMENDED};
use filters::select::budget::{BudgetReport, FrontierPoint, MovableInput};
use filters::select::objective::TargetDistribution;
use filters::select::shortlist::Shortlisted;
use filters::select::{Decision, Division, Groups, Keep, Plan, Quantiles, Rule, Rules, Ties};
use filters::{Threshold, column, decisions, keep, select};
use sae_core::analysis::feature_sets::{FeatureSetCollector, FeatureSets, Measure, Part};
use sae_core::error::Setting;
use sae_core::store::sample::Sample;
use sae_core::store::{Store, load_samples};
use sae_core::{Run, file};
use serde_json::Value;
use std::path::Path;

/// The file of an autoencoder's weights in its folder.
const WEIGHTS: &str = "sae_weights.safetensors";

/// What is chosen from, with scores and groups.
pub(super) struct Input {
    /// The samples that are chosen from, and all others.
    pub candidates: Candidates,
    /// Their ids and scores; without scores if none decides.
    pub scores: Vec<(String, Option<f64>)>,
    /// Their groups.
    pub groups: Groups,
    /// Their quantiles within groups.
    pub within: Option<Quantiles>,
    /// The autoencoder whose scores or features are used.
    pub sae: Option<String>,
    /// What limits the selection.
    pub budget: Option<BudgetInput>,
    basis: Basis,
}

/// What was chosen.
#[derive(Default)]
pub(super) struct Chosen {
    /// The decision about each sample.
    pub decisions: Vec<Decision>,
    /// What the selection is worth and costs, if it has budgets or units.
    pub budget: Option<BudgetReport>,
    /// What other limits would allow.
    pub frontier: Vec<FrontierPoint>,
    /// The shortlist that was chosen among, if there was one. Its decisions are those above.
    pub shortlist: Option<Shortlisted>,
}

enum Basis {
    /// With the amount that the scores suggest, if that was asked for.
    Rules { suggested: Option<Keep>, division: Division },
    /// The decision about each candidate, if there is one.
    Decisions(Vec<Option<bool>>),
}

/// The features of all samples, and those that they should have.
pub(super) struct Features {
    pub sets: FeatureSets,
    pub target: Option<TargetDistribution>,
}

impl Input {
    /// Reads the input of a filter.
    ///
    /// # Errors
    /// The table of scores or the decisions are missing, or of other samples; groups, quotas or numbers that do not exist.
    pub fn read(run: &Run, request: &FilterRequest) -> Result<Self> {
        let candidates = Candidates::read(run)?;
        let samples = candidates.samples();
        let ids = samples.iter().map(|sample| sample.id.clone());
        let rules = match &request.by {
            FilterBy::Rules(rules) => rules,
            FilterBy::Decisions(path) => {
                let basis = Basis::Decisions(candidates.pick_decided(decisions::read(path, candidates.all())?)?);
                let (scores, groups) = (ids.map(|id| (id, None)).collect(), Groups::one(samples.len()));
                drop(samples);
                return Ok(Self { candidates, scores, groups, within: None, sae: None, budget: None, basis });
            }
        };
        let (groups, division) = groups(&samples, rules)?;
        let keep = rules.keep.unwrap_or(Keep::Quotas);
        let (sae, scores, suggested): (String, Vec<_>, Option<Keep>) = match &rules.column {
            Some(column) => {
                let sae = scored_sae(run, rules)?;
                let table = run.scores(&sae);
                let scores: Vec<_> =
                    ids.zip(candidates.pick(column::read_column(&table, column, candidates.all())?)).collect();
                let suggest = (keep == Keep::Auto).then(|| suggested(column, &table, &scores));
                (sae, scores, suggest.transpose()?)
            }
            None if matches!(rules.rule, SelectionRule::Score) => return Err(FilterError::NoScore.into()),
            None if keep == Keep::Auto => return Err(FilterError::NoScoreForEstimate.into()),
            None => {
                let sae = SaeChoice { run: run.root().into(), sae: rules.sae.clone(), device: request.device };
                (sae.name(run)?, ids.map(|id| (id, None)).collect(), None)
            }
        };
        let quantiles = |name: &String| -> Result<Quantiles> {
            Ok(Quantiles::new(&groups, name, &numbers(name, Setting::Within, &candidates, run, &sae)?)?)
        };
        let within = rules.within.as_ref().map(quantiles).transpose()?;
        let budget = BudgetInput::read(rules, &candidates, run, &sae)?;
        drop(samples);
        Ok(Self {
            candidates,
            scores,
            groups,
            within,
            sae: Some(sae),
            budget,
            basis: Basis::Rules { suggested, division },
        })
    }

    /// The groups that each have a quota: quantiles within groups, or the groups themselves.
    pub fn cells(&self) -> &Groups {
        self.within.as_ref().map_or(&self.groups, |within| &within.cells)
    }

    /// What the only budget of the request chooses from, to try other limits and amounts. `None` if there is no budget, or there
    /// are several.
    pub fn movable(self) -> Option<MovableInput> {
        let (Basis::Rules { division, .. }, Some(budget)) = (self.basis, self.budget) else { return None };
        let (budget, units, promise) = budget.single()?;
        let Self { scores, groups, within, .. } = self;
        Some(MovableInput { scores, groups, division, within, budget, units, promise })
    }

    /// The decision about every sample, by a request that may differ in the amount from the one that was read; `None` if that needs a pass over the activations and `features` are not given.
    ///
    /// # Errors
    /// Rules that contradict each other; scores that cannot choose.
    pub fn choose(&self, request: &FilterRequest, features: Option<&Features>) -> Result<Option<Chosen>> {
        let (rules, selection) = match (&self.basis, &request.by) {
            (Basis::Rules { suggested, division }, FilterBy::Rules(rules)) => {
                if features.is_none() && rules.need_features() {
                    return Ok(None);
                }
                let Some(selection) = self.selection(rules, *suggested, division, features) else { return Ok(None) };
                (rules, selection)
            }
            (Basis::Decisions(kept), _) => {
                let decided = kept.iter().map(|stays| match stays {
                    Some(true) => Decision::Kept,
                    Some(false) => Decision::Decided,
                    None => Decision::Undecided,
                });
                return Ok(Some(Chosen { decisions: decided.collect(), ..Chosen::default() }));
            }
            (Basis::Rules { .. }, FilterBy::Decisions(_)) => return Ok(None),
        };
        if let Some(budget) = &self.budget {
            if rules.need_features() || rules.column.is_none() {
                return Err(FilterError::BudgetsNeedScores.into());
            }
            let found = select::budget::choose(&self.scores, &selection, &budget.budgets())?;
            let report = BudgetReport { unit: rules.budgets.unit.clone(), ..found.report };
            let (budget, frontier) = (Some(report), found.frontier);
            return Ok(Some(Chosen { decisions: found.decisions, budget, frontier, shortlist: None }));
        }
        let decided = select::choose(&self.scores, &selection)?;
        self.check_ties(rules, &decided)?;
        Ok(Some(Chosen { decisions: decided, ..Chosen::default() }))
    }

    /// The rules of a selection; `None` if they need features that are not there.
    fn selection<'a>(
        &'a self,
        rules: &SelectionRules,
        suggested: Option<Keep>,
        division: &'a Division,
        features: Option<&'a Features>,
    ) -> Option<Rules<'a>> {
        let keep = rules.keep.unwrap_or(Keep::Quotas);
        let rule = match (&rules.rule, features.and_then(|features| features.target.as_ref())) {
            (SelectionRule::Score, _) => Rule::Score,
            (SelectionRule::Diverse, _) => Rule::Diverse,
            (SelectionRule::GreedSelect, _) => Rule::GreedSelect,
            (SelectionRule::Match(_), target) => Rule::Match(target?),
        };
        Some(Rules {
            within: self.within.as_ref(),
            division,
            ranked: rules.column.is_some(),
            rule,
            feature_sets: features.map(|features| &features.sets),
            dedup: rules.dedup,
            seed: rules.seed,
            ..Rules::new(suggested.filter(|_| keep == Keep::Auto).unwrap_or(keep), &self.groups)
        })
    }

    /// The selection of rules that need features, before it looks at them.
    ///
    /// # Errors
    /// Rules that contradict each other, that need no features, or those of a target.
    pub fn plan(&self, rules: &SelectionRules) -> Result<Plan<'_>> {
        let Basis::Rules { suggested, division } = &self.basis else { return Err(FilterError::NoShortlist.into()) };
        let selection = self.selection(rules, *suggested, division, None).filter(|_| rules.need_features());
        Ok(Plan::new(&self.scores, &selection.ok_or(FilterError::NoShortlist)?)?)
    }

    /// Rejects decisions by scores of which all are equal.
    ///
    /// # Errors
    /// Ids alone chose.
    pub fn check_ties(&self, rules: &SelectionRules, decided: &[Decision]) -> Result<()> {
        let mut scores = self.scores.iter().filter_map(|(_, score)| *score);
        let first = scores.next();
        if let (Some(score), Some(column), Some(_)) =
            (first, &rules.column, Ties::new(&self.scores, self.cells(), decided))
            && scores.all(|other| other == score)
        {
            let samples = self.scores.iter().filter(|(_, score)| score.is_some()).count();
            return Err(Error::EqualScores { column: column.clone(), samples, score });
        }
        Ok(())
    }
}

/// The autoencoder whose score table is used.
fn scored_sae(run: &Run, rules: &SelectionRules) -> Result<String> {
    let tables = run.list("scores").into_iter().filter_map(|f| f.strip_suffix(".parquet").map(String::from));
    choose(&rules.sae, tables.collect(), Kind::ScoreTable)
}

/// The first of the recommended columns in which a sample has a score.
///
/// # Errors
/// There is no score table, or it has none of them.
pub(super) fn recommended(run: &Run, rules: &SelectionRules) -> Result<String> {
    let table = ScoreTable::open(&run.scores(&scored_sae(run, rules)?), &load_samples(run)?)?;
    let names = table.names();
    for name in RECOMMENDED.into_iter().filter(|name| names.iter().any(|known| known == name)) {
        if table.column(name)?.iter().any(Option::is_some) {
            return Ok(name.into());
        }
    }
    Err(FilterError::NoScore.into())
}

fn groups(samples: &[Sample], rules: &SelectionRules) -> Result<(Groups, Division)> {
    let quotas = || rules.quotas.iter().cloned().collect();
    Ok(match (&rules.by_group, &rules.quotas[..]) {
        (None, []) => (Groups::one(samples.len()), Division::Proportional),
        (None, [(field, quota)]) => {
            (Groups::by_fields(samples, field)?, Division::Quotas([("*".to_owned(), *quota)].into()))
        }
        (None, _) => return Err(Error::QuotasWithoutGroups),
        (Some(fields), []) => {
            let division = if rules.equal_groups { Division::Equal } else { Division::Proportional };
            (Groups::by_fields(samples, fields)?, division)
        }
        (Some(fields), _) => (Groups::by_fields(samples, fields)?, Division::Quotas(quotas())),
    })
}

/// The threshold for `auto`: the estimate of scoring for the column, or otherwise an estimate from the scores alone.
fn suggested(column: &str, table: &Path, scores: &[(String, Option<f64>)]) -> Result<Keep> {
    if column == PMI_TOKEN_MIN {
        return Err(Error::NoEstimate { column: column.into() });
    }
    let estimate = match keep::saved(table, column)? {
        Some(saved) => Some(saved),
        None => keep::keep_auto(&scores.iter().map(|(_, score)| *score).collect::<Vec<_>>()),
    };
    let estimate = estimate.ok_or_else(|| Error::TooFewScores { column: column.into() })?;
    Ok(Keep::AtLeast(estimate.threshold))
}

impl FilterRequest {
    /// The autoencoder whose features decide, and the threshold above which they are active: that of the scores, or of a run that was
    /// not scored, the one that scoring would have.
    ///
    /// # Errors
    /// It cannot be read; the threshold of the scores is not known.
    pub(super) fn load(&self, sae: &str) -> Result<(LoadedSae, f32)> {
        let sae = SaeChoice { run: self.run.clone(), sae: Some(sae.into()), device: self.device }.load_with_pieces()?;
        let scored: Option<Value> = sae.run.read_step(&step_name(&sae.name))?;
        let threshold = match scored {
            Some(step) => step["threshold"].as_f64().ok_or(Error::NoThreshold)? as f32,
            // Nothing was scored, but there may be columns of a contrast or a probe.
            None => Threshold::Auto.for_width(sae.saved.weights.d_in),
        };
        Ok((sae, threshold))
    }

    /// The features of every candidate, from one pass over the activations, and those of the target run.
    ///
    /// # Errors
    /// A store or the autoencoder cannot be read; the threshold of the scores is not known; a target run with another
    /// autoencoder, model or hook.
    pub(super) fn features(
        &self,
        input: &Input,
        sae: &str,
        rules: &SelectionRules,
        control: &mut Control,
    ) -> Result<Features> {
        let (sae, threshold) = self.load(sae)?;
        let target = match &rules.rule {
            SelectionRule::Match(path) => Some(target(&sae, path)?),
            _ => None,
        };
        let mut sets_of = |store: &Store| -> Result<FeatureSets> {
            let samples = store.manifest().samples as usize;
            let mut collect = FeatureSetCollector::new(samples, sae.saved.weights.d_sae, threshold, Measure::Active);
            sae.summarize(store, Stage::Features, &Part::Everything.into(), &mut [&mut collect], control)?;
            Ok(collect.finish())
        };
        let target = target.map(|target| sets_of(&target.store)).transpose()?;
        let sets = sets_of(&sae.store)?.of_samples(&input.candidates.numbers());
        Ok(Features { sets, target: target.map(|sets| TargetDistribution::new(&sets)).transpose()? })
    }
}

/// Opens the target run, whose activations the autoencoder of the filtered run has to read. An autoencoder of that name in the
/// target run has to be the same one.
fn target(sae: &LoadedSae, path: &Path) -> Result<Companion> {
    let target = Companion::open(sae, path, Role::Target)?;
    let weights = |run: &Run| run.sae_dir(&sae.name).join(WEIGHTS);
    let (ours, theirs) = (weights(&sae.run), weights(&target.run));
    if ours.exists() && theirs.exists() {
        let (ours, theirs) = (file::hash(&ours)?, file::hash(&theirs)?);
        if ours != theirs {
            return Err(
                FilterError::OtherAutoencoder { name: sae.name.clone(), theirs, ours, path: path.into() }.into()
            );
        }
    }
    Ok(target)
}
