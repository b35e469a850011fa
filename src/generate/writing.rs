//! A generation as a whole: loads the model, has answers or trees written, and writes the tables and what can be said of them.

use super::branches::{self, Grown};
use super::correction::Asking;
use super::journal::{Finished, Journal};
use super::opening::{Judging, Opening};
use super::report::{self, End, Written};
use super::rules::{Away, Rules, To};
use super::shape::TreeShape;
use super::tree::Grower;
use super::work::write_all;
use super::writer::Writer;
use super::{Correction, GenerateReport, GenerateRequest, Guarding, RoundReport, TreeReport, guard};
use crate::Result;
use crate::contrast::FeatureNames;
use crate::control::Control;
use crate::error::GenerateError;
use crate::sae::LoadedSae;
use harvest::Plan;
use harvest::generation::{Draft, Generator, Prompt, Prompts};
use sae_core::autoencoder::{Encoder, Weights};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What rules refer to and somebody has to hold: whoever else writes, and what sees and moves states.
pub(super) struct Means<'a> {
    sae: Option<(&'a Weights, Encoder<'a>)>,
    corrector: Option<Generator>,
    names: Option<FeatureNames>,
    away: Option<Away>,
}

impl<'a> Means<'a> {
    /// Opens what the request needs besides the model, which computes as `plan` says.
    pub fn open(
        request: &GenerateRequest,
        plan: &Plan,
        sae: Option<&'a LoadedSae>,
        judging: &Judging,
        corrector: Option<&Path>,
        control: &mut Control,
    ) -> Result<Self> {
        let corrector = corrector.map(|folder| Generator::open(folder, None, plan.device, plan.dtype)).transpose()?;
        let correction = request.guarding.correction();
        let is_told = correction == Some(&Correction::Feedback);
        let names = sae.filter(|_| is_told).map(FeatureNames::read);
        let away = match (correction, sae, &request.guard) {
            (Some(Correction::Steer { strength, .. }), ..) => {
                Some(Away { strength: *strength, to: To::Targets(judging.targets.clone()) })
            }
            (Some(Correction::Difference(strength)), Some(sae), Some(name)) => {
                let vector = guard::away_from_harm(sae, name, control)?;
                Some(Away { strength: *strength, to: To::Vector(vector) })
            }
            _ => None,
        };
        let sees = judging.guard.is_some() || judging.steering.is_some();
        let sae = sae.filter(|_| sees);
        let sae = sae.map(|sae| (&sae.saved.weights, Encoder::new(&sae.saved.weights, &sae.device)));
        Ok(Self { sae, corrector, names, away })
    }
}

impl GenerateRequest {
    /// What is the same for all texts.
    pub(super) fn rules<'a>(
        &'a self,
        generator: &'a Generator,
        judging: &'a Judging,
        means: &'a Means<'a>,
    ) -> Rules<'a> {
        let mut rules = Rules {
            generator,
            sae: means.sae.as_ref().map(|(weights, encoder)| (*weights, encoder)),
            guard: judging.guard.as_ref(),
            sampling: self.sampling,
            seed: self.seed,
            beginning: &self.beginning,
            tokens: self.tokens,
            stop: &self.stop,
            boundary: None,
            longest: usize::MAX,
            redraws: 0,
            steers: means.away.as_ref(),
            asks: None,
            refusal: None,
            refuse_at: judging.refuse_at.unwrap_or(f64::INFINITY),
            always: judging.steering.as_ref(),
        };
        match &self.guarding {
            Guarding::Off => {}
            Guarding::Rounds { rounds, refusal, .. } => {
                (rules.redraws, rules.refusal) = (rounds - 1, Some(refusal.as_str()));
            }
            Guarding::Stream { boundary, longest, correction, tries } => {
                (rules.boundary, rules.longest, rules.redraws) = (Some(boundary), *longest, *tries);
                rules.asks = match correction {
                    Correction::Feedback => means.names.as_ref().map(Asking::Feedback),
                    Correction::Model(_) => means.corrector.as_ref().map(Asking::Corrector),
                    Correction::Sample | Correction::Steer { .. } | Correction::Difference(_) => None,
                };
            }
        }
        rules
    }

    pub(super) fn write(&self, opening: &mut Opening, control: &mut Control) -> Result<GenerateReport> {
        let Opening { plan, rows, sae, judging, corrector, settings, prompts } = opening;
        let hook = sae.as_ref().map(|sae| sae.store.hook());
        let generator = Generator::open(&plan.model, hook, plan.device, plan.dtype)?;
        let means = Means::open(self, plan, sae.as_ref(), judging, corrector.as_deref(), control)?;
        let rules = self.rules(&generator, judging, &means);
        let settings = settings.clone();
        let mut report = match self.tree {
            Some(shape) => self.write_trees(shape, &rules, prompts, *rows, settings, control),
            None => self.write_answers(&rules, prompts, *rows, settings, control),
        }?;
        report.refuse_at = judging.refuse_at;
        Ok(report)
    }

    fn write_answers(
        &self,
        rules: &Rules,
        prompts: &mut Prompts,
        rows: u64,
        settings: Value,
        control: &mut Control,
    ) -> Result<GenerateReport> {
        let mut journal = Journal::open(&self.out, settings)?;
        let begin = |sample, prompt, draft: &Draft| Ok(Writer::new(rules, sample, prompt, draft));
        let tokens_per_s = write_all(rules, prompts, rows, self.batch, &mut journal, begin, control)?;
        self.check_any(journal.answers.len(), prompts)?;
        let answers = self.out.join("answers.parquet");
        report::write_answers(&answers, &journal.answers)?;
        let attempts = rules.guard.map(|_| if rules.boundary.is_some() { "sentence" } else { "answer" });
        let attempts = attempts.map(|unit| {
            let name = if unit == "sentence" { "sentences.parquet" } else { "rounds.parquet" };
            report::write_attempts(&self.out.join(name), unit, &journal.answers).map(|()| name.to_owned())
        });
        let mut report = summarize(&journal.answers, rules);
        report.attempts = attempts.transpose()?;
        self.complete(report, prompts, tokens_per_s, journal)
    }

    fn write_trees(
        &self,
        shape: TreeShape,
        rules: &Rules,
        prompts: &mut Prompts,
        rows: u64,
        settings: Value,
        control: &mut Control,
    ) -> Result<GenerateReport> {
        let mut journal = Journal::<Grown>::open(&self.out, settings)?;
        let begin = |sample, prompt: Prompt, _: &Draft| {
            let grown = Grown::new(sample, &prompt, &self.out)?;
            Ok(Grower::new(shape, grown, prompt.prepared.tokens.len()))
        };
        let tokens_per_s = write_all(rules, prompts, rows, self.batch, &mut journal, begin, control)?;
        let trees = &journal.answers;
        self.check_any(trees.len(), prompts)?;
        let path = self.out.join("tree.jsonl");
        branches::write_rows(&path, trees)?;
        branches::write_answers(&self.out.join("answers.parquet"), trees)?;
        let (mut ends, mut answers, mut tokens) = (BTreeMap::new(), 0, 0);
        for answer in trees.iter().flat_map(Grown::answers) {
            *ends.entry(answer.end.map_or("", End::name).to_owned()).or_insert(0) += 1;
            (answers, tokens) = (answers + 1, tokens + answer.tokens as u64);
        }
        let counts = trees.iter().map(Grown::count);
        let (nodes, silent) = counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        let generated = trees.iter().map(Grown::generated).sum::<u64>();
        let tokens_per_generated = tokens as f64 / generated.max(1) as f64;
        let tree = TreeReport { shape, nodes, answers, silent, tokens_per_generated, rows: path };
        let computed = trees.iter().map(|tree| tree.computed).sum();
        let report = GenerateReport {
            samples: trees.len(),
            tokens: generated,
            computed,
            ends,
            tree: Some(tree),
            ..GenerateReport::default()
        };
        self.complete(report, prompts, tokens_per_s, journal)
    }

    /// Checks that some row became a prompt.
    fn check_any(&self, answers: usize, prompts: &Prompts) -> Result<()> {
        if answers > 0 {
            return Ok(());
        }
        let first = prompts.skipped().first().first().map(|row| row.reason.clone());
        Err(GenerateError::NoPrompts { data: self.model.data.clone(), first }.into())
    }

    /// Adds what every report has, and ends the generation.
    fn complete<T: Finished>(
        &self,
        report: GenerateReport,
        prompts: &Prompts,
        tokens_per_s: f64,
        journal: Journal<T>,
    ) -> Result<GenerateReport> {
        let report = GenerateReport {
            skipped_rows: prompts.skipped().rows(),
            skipped: prompts.skipped().first().to_vec(),
            tokens_per_s,
            answers: self.out.join("answers.parquet"),
            ..report
        };
        journal.finish(&report)?;
        Ok(report)
    }
}

/// What can be said of the answers themselves.
fn summarize(answers: &[Written], rules: &Rules) -> GenerateReport {
    let mut ends = BTreeMap::new();
    answers.iter().for_each(|answer| *ends.entry(answer.end.name().to_owned()).or_insert(0) += 1);
    let firsts = || answers.iter().flat_map(|answer| &answer.attempts).filter(|(attempt, _)| attempt.attempt == 0);
    let later = answers.iter().flat_map(Written::kept).filter(|attempt| attempt.attempt > 0 && attempt.accepted);
    let flagged = firsts().filter(|(attempt, _)| !attempt.accepted).count();
    let rates = rules.guard.and_then(|guard| guard.rates);
    let judged: Vec<&Written> = answers.iter().filter(|answer| !answer.attempts.is_empty()).collect();
    let accepts = |answer: &Written, round: u32| {
        answer.attempts.iter().any(|(attempt, _)| attempt.accepted && attempt.attempt < round)
    };
    let share = |round: u32| {
        let without = judged.iter().filter(|answer| !accepts(answer, round)).count();
        without as f64 / judged.len().max(1) as f64
    };
    let accepted = 1.0 - share(1);
    let harmful = rates.filter(|rates| rates.true_positives > rates.false_positives && !judged.is_empty());
    let harmful = harmful.map(|rates| {
        let flagged = 1.0 - accepted;
        ((flagged - rates.false_positives) / (rates.true_positives - rates.false_positives)).clamp(0.0, 1.0)
    });
    let in_rounds = rules.refusal.is_some() && !judged.is_empty();
    let rounds = (1..=rules.redraws + 1).filter(|_| in_rounds).map(|round| {
        let refused_predicted = (1.0 - accepted).powi(round as i32);
        let shown = harmful.zip(rates).filter(|_| accepted > 0.0);
        let harmful_predicted =
            shown.map(|(harmful, rates)| harmful * (1.0 - rates.true_positives) * (1.0 - refused_predicted) / accepted);
        RoundReport { round, refused: share(round), refused_predicted, harmful_predicted }
    });
    let refused_at_once = |answer: &&Written| {
        let severity = answer.attempts.last().and_then(|(attempt, _)| attempt.severity);
        answer.end == End::Refused && severity.is_some_and(|severity| severity > rules.refuse_at)
    };
    GenerateReport {
        samples: answers.len(),
        tokens: answers.iter().map(|answer| answer.tokens as u64).sum(),
        computed: answers.iter().map(|answer| answer.computed).sum(),
        threshold: rules.guard.map(|guard| guard.threshold),
        rates,
        units: if rules.guard.is_some() { firsts().count() as u64 } else { 0 },
        flagged: flagged as u64,
        corrected: later.count() as u64,
        refused: answers.iter().filter(|answer| answer.end == End::Refused).count() as u64,
        refused_at_once: answers.iter().filter(refused_at_once).count() as u64,
        dropped: answers.iter().map(|answer| u64::from(answer.dropped)).sum(),
        harmful: harmful.filter(|_| in_rounds),
        rounds: rounds.collect(),
        ends,
        ..GenerateReport::default()
    }
}
