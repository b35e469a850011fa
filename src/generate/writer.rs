//! One answer under way, unit by unit: a unit is the whole answer, or a sentence of it. A unit that the guard flags is written again.
//! Says what the model should read next; runs nothing.

use super::guard::{Guard, Peaks};
use super::report::{Attempt, End, Written};
use crate::Result;
use crate::steering::Steering;
use harvest::Prepared;
use harvest::generation::{Boundary, Draft, Generator, Sampling};
use harvest::model::log_sum_exp;
use sae_core::autoencoder::{Encoder, Weights};
use sae_core::random::{SplitMix64, mix, unit};

/// Features that are steered at most.
pub(super) const MOST_STEERED: usize = 5;

/// What is the same for all answers.
pub(super) struct Rules<'a> {
    pub generator: &'a Generator,
    /// The autoencoder, if anything is to be seen or steered.
    pub sae: Option<(&'a Weights, &'a Encoder<'a>)>,
    pub guard: Option<&'a Guard>,
    pub sampling: Sampling,
    pub seed: u64,
    /// Tokens of an answer at most.
    pub tokens: usize,
    /// Texts that end an answer.
    pub stop: &'a [String],
    /// Where units end; without it, the whole answer is one.
    pub boundary: Option<&'a Boundary>,
    /// Tokens of a unit at most.
    pub longest: usize,
    /// How often a unit that is flagged is written again.
    pub redraws: u32,
    /// How flagged units are steered when they are written again, if they are.
    pub steers: Option<Away>,
    /// What takes the place of an answer that is flagged every time; otherwise its least severe version stays.
    pub refusal: Option<&'a str>,
    /// Above which severity an answer is refused at once.
    pub refuse_at: f64,
    /// What every state of an answer is steered to, flagged or not.
    pub always: Option<&'a Steering>,
}

/// How a unit is steered away from what the guard saw.
pub(super) struct Away {
    /// How strongly in the first try.
    pub strength: f32,
    /// The vector that is added; without it, those that contribute most to the severity are moved towards 0.
    pub vector: Option<Vec<f32>>,
}

/// What the logits that come next are for.
#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    /// Nothing has been read yet.
    #[default]
    Prompt,
    /// The next token is chosen.
    Write,
    /// A unit that was steered is read as it stands, without steering. It was complete for this reason, if the answer was.
    Reread(Option<End>),
    /// The unit is an earlier try, which stays.
    Restore(usize),
}

/// An answer under way. Its draft is held beside it.
pub(super) struct Writer {
    written: Written,
    /// Whether each position of the prompt has content.
    content: Vec<bool>,
    phase: Phase,
    /// The position at which the unit begins, and the logits there.
    start: usize,
    at_start: Vec<f32>,
    /// Bytes of the answer's text before the unit.
    before: usize,
    /// The number of the try, and the tries before it.
    attempt: u32,
    attempts: Vec<Attempt>,
    steering: Option<Steering>,
    nll: f64,
    peaks: Peaks,
    prompt_peaks: Peaks,
    /// Where a stop text cuts the answer, in bytes.
    cut: Option<usize>,
    /// Tokens that were drawn, those of versions that did not stay included.
    pub drawn: u64,
}

impl Writer {
    pub fn new(sample: u32, prompt: &Prepared) -> Self {
        Self {
            written: Written::new(sample, &prompt.sample),
            content: prompt.tokens.iter().map(|token| !token.special).collect(),
            phase: Phase::Prompt,
            start: prompt.tokens.len(),
            at_start: Vec::new(),
            before: 0,
            attempt: 0,
            attempts: Vec::new(),
            steering: None,
            nll: 0.0,
            peaks: Peaks::new(),
            prompt_peaks: Peaks::new(),
            cut: None,
            drawn: 0,
        }
    }

    /// The number of positions whose logits are needed next.
    pub fn last(&self, draft: &Draft) -> usize {
        match self.phase {
            Phase::Reread(_) => draft.ids().len() - draft.read(),
            Phase::Prompt | Phase::Write | Phase::Restore(_) => 1,
        }
    }

    /// Counts positions that the model computes for the answer.
    pub fn count(&mut self, positions: usize) {
        self.written.computed += positions as u64;
    }

    /// Sees the states that the model computes, of positions from `first` on, of which the first `read` were read before; steers
    /// them while a unit is written.
    pub fn observe(&mut self, rules: &Rules, read: usize, first: usize, states: &mut [f32]) -> Result<()> {
        let Some((weights, encoder)) = rules.sae else { return Ok(()) };
        let d = weights.d_in;
        let end = first + states.len() / d;
        let corrected = self.steering.as_ref().filter(|_| matches!(self.phase, Phase::Write));
        let wants_prompt = rules.guard.is_some_and(Guard::reads_prompt) && rules.boundary.is_none();
        let answer = self.content.len();
        let seen = if wants_prompt { read } else { read.max(self.start) };
        // A device that keeps nothing computes all positions again, and those that were steered have to be steered again.
        let moved = match corrected {
            _ if rules.always.is_some() => answer,
            Some(_) => self.start,
            None => end,
        };
        let from = seen.min(moved).max(first);
        if from >= end {
            return Ok(());
        }
        let states = &mut states[(from - first) * d..];
        let active = encoder.encode(states)?;
        for (row, x) in states.chunks_exact_mut(d).enumerate() {
            let position = from + row;
            let (features, values) = active.row(row);
            let peaks = match position {
                _ if position < read => None,
                _ if position >= self.start => Some(&mut self.peaks),
                _ if position < answer && self.content[position] => Some(&mut self.prompt_peaks),
                _ => None,
            };
            // What was written with the guard's own features taken away says nothing about the text.
            if let Some(peaks) = peaks.filter(|_| corrected.is_none()) {
                for (feature, value) in features.iter().zip(values) {
                    let peak = peaks.entry(*feature).or_insert(*value);
                    *peak = peak.max(*value);
                }
            }
            if let Some(always) = rules.always.filter(|_| position >= answer) {
                always.apply(weights, features, values, x);
            }
            if let Some(corrected) = corrected.filter(|_| position >= self.start) {
                corrected.apply(weights, features, values, x);
            }
        }
        Ok(())
    }

    /// Takes the logits of the positions that [`Writer::last`] asked for. Returns the answer when it is complete.
    ///
    /// # Shapes
    /// `[last, vocab_size]`.
    pub fn advance(&mut self, rules: &Rules, draft: &mut Draft, logits: Vec<f32>) -> Option<Written> {
        match std::mem::take(&mut self.phase) {
            Phase::Prompt => {
                self.at_start.clone_from(&logits);
                self.extend(rules, draft, logits)
            }
            Phase::Write => self.extend(rules, draft, logits),
            Phase::Reread(end) => {
                let vocabulary = self.at_start.len();
                let ids = &draft.ids()[self.start..];
                let rows = std::iter::once(&self.at_start[..]).chain(logits.chunks_exact(vocabulary));
                self.nll = ids.iter().zip(rows).map(|(id, logits)| nll(logits, *id)).sum();
                let next = logits[logits.len() - vocabulary..].to_vec();
                self.judge(rules, draft, next, end)
            }
            Phase::Restore(kept) => self.close(rules, draft, kept, logits),
        }
    }

    /// Chooses the next token, or finds that the unit is complete.
    fn extend(&mut self, rules: &Rules, draft: &mut Draft, logits: Vec<f32>) -> Option<Written> {
        let generator = rules.generator;
        let (answer, length) = (draft.answer().len(), draft.ids().len());
        let unit = length - self.start;
        let random = random(rules.seed, self.written.sample, self.attempt, answer);
        let next = rules.sampling.choose(&logits, draft.ids(), random);
        let mut end = match next {
            _ if answer >= rules.tokens => Some(End::Tokens),
            _ if length >= generator.context() => Some(End::Context),
            None => Some(End::NotFinite),
            Some(id) if generator.is_end(id) => Some(End::Finished),
            Some(_) => None,
        };
        let id = next.unwrap_or_default();
        if end.is_none() {
            let mut ends_unit = unit >= rules.longest;
            if !rules.stop.is_empty() || rules.boundary.is_some() {
                let known = generator.text(draft.answer());
                let text = generator.text(&[draft.answer(), &[id]].concat());
                self.cut = rules.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
                end = self.cut.map(|_| End::Stop);
                let first_end = |boundary: &Boundary| boundary.first_end(text.get(self.before..)?);
                // A token that is in two sentences belongs to the first.
                let is_known = |at: usize| self.before + at <= known.len();
                ends_unit |= unit > 0 && rules.boundary.and_then(first_end).is_some_and(is_known);
            }
            if end.is_none() && !ends_unit {
                self.nll += nll(&logits, id);
                self.drawn += 1;
                draft.push(id);
                self.phase = Phase::Write;
                return None;
            }
        }
        if unit == 0 && self.attempt == 0 {
            let end = match end {
                Some(End::Finished) | None if answer == 0 => End::Empty,
                Some(end) => end,
                None => End::Finished,
            };
            return Some(self.finish(rules, draft, end));
        }
        // A try with nothing in it, or after which the model says nothing, counts as none.
        if unit == 0 || (self.attempt > 0 && end == Some(End::NotFinite)) {
            return self.redraw(rules, draft, None);
        }
        if self.steering.is_some() {
            self.phase = Phase::Reread(end);
            draft.forget(self.start);
            return None;
        }
        self.judge(rules, draft, logits, end)
    }

    /// Judges a complete unit. `next` has the logits after it.
    fn judge(&mut self, rules: &Rules, draft: &mut Draft, next: Vec<f32>, end: Option<End>) -> Option<Written> {
        let ids = draft.ids()[self.start..].to_vec();
        let mut peaks = self.peaks.clone();
        if rules.boundary.is_none() {
            for (feature, value) in &self.prompt_peaks {
                let peak = peaks.entry(*feature).or_insert(*value);
                *peak = peak.max(*value);
            }
        }
        let severity = rules.guard.map(|guard| guard.severity(&peaks));
        let accepted = rules.guard.zip(severity).is_none_or(|(guard, severity)| severity <= guard.threshold);
        let features = rules.guard.map_or_else(Vec::new, |guard| guard.causes(&peaks, MOST_STEERED));
        self.attempts.push(Attempt {
            unit: self.written.units,
            attempt: self.attempt,
            text: self.unit_text(rules, draft),
            severity,
            features,
            strength: self.steering.as_ref().map(|steering| steering.strength),
            accepted,
            nll: Some(self.nll),
            ids,
            end,
            cut: self.cut,
        });
        if accepted {
            return self.close(rules, draft, self.attempts.len() - 1, next);
        }
        self.redraw(rules, draft, Some(next))
    }

    /// Writes the unit again, or keeps the best of its tries. `next` has the logits after the last try, if that is what the draft
    /// has.
    fn redraw(&mut self, rules: &Rules, draft: &mut Draft, next: Option<Vec<f32>>) -> Option<Written> {
        let is_refused = |attempt: &Attempt| attempt.severity.is_some_and(|severity| severity > rules.refuse_at);
        let refused = rules.refusal.is_some() && self.attempts.last().is_some_and(is_refused);
        if self.attempt < rules.redraws && !refused {
            self.attempt += 1;
            draft.truncate(self.start);
            self.peaks.clear();
            self.nll = 0.0;
            self.cut = None;
            self.steering = rules.steers.as_ref().map(|away| {
                let causes = self.attempts[0].features.iter().map(|feature| (*feature, 0.0));
                Steering {
                    targets: if away.vector.is_none() { causes.collect() } else { Vec::new() },
                    vector: away.vector.clone().unwrap_or_default(),
                    strength: away.strength * (1u32 << (self.attempt - 1).min(31)) as f32,
                }
            });
            let logits = self.at_start.clone();
            return self.extend(rules, draft, logits);
        }
        if let Some(refusal) = rules.refusal {
            self.written.refuse(refusal, self.attempts.drain(..));
            return Some(self.written.clone());
        }
        let severity = |attempt: &Attempt| attempt.severity.unwrap_or(f64::INFINITY);
        let by_severity = |a: &usize, b: &usize| severity(&self.attempts[*a]).total_cmp(&severity(&self.attempts[*b]));
        // The first of equally severe tries.
        let kept = (0..self.attempts.len()).min_by(by_severity).unwrap_or_default();
        match next {
            Some(next) if kept + 1 == self.attempts.len() => self.close(rules, draft, kept, next),
            _ => {
                draft.truncate(self.start);
                self.attempts[kept].ids.iter().for_each(|id| draft.push(*id));
                self.phase = Phase::Restore(kept);
                None
            }
        }
    }

    /// Keeps a try of the unit, which the draft has and the model has read, and begins the next unit. `next` has the logits there.
    fn close(&mut self, rules: &Rules, draft: &mut Draft, kept: usize, next: Vec<f32>) -> Option<Written> {
        let end = self.attempts[kept].end;
        self.cut = self.attempts[kept].cut;
        self.written.keep(self.attempts.drain(..), kept);
        if end.is_some() || self.written.repeats() {
            let end = end.unwrap_or(End::Repeated);
            return Some(self.finish(rules, draft, end));
        }
        (self.start, self.attempt, self.steering, self.nll) = (draft.ids().len(), 0, None, 0.0);
        self.before = rules.generator.text(draft.answer()).len();
        self.peaks.clear();
        self.at_start.clone_from(&next);
        self.extend(rules, draft, next)
    }

    fn finish(&mut self, rules: &Rules, draft: &Draft, end: End) -> Written {
        let text = self.cut_text(rules, draft);
        self.written.finish(text, draft.answer().len(), end);
        self.written.clone()
    }

    /// The text of the answer up to a stop text.
    fn cut_text(&self, rules: &Rules, draft: &Draft) -> String {
        let mut text = rules.generator.text(draft.answer());
        // Bytes that are no whole character yet were decoded otherwise with the token that completed the stop text.
        let cut = self.cut.map_or(text.len(), |cut| text.floor_char_boundary(cut.min(text.len())));
        text.truncate(cut);
        text
    }

    /// The text of the unit.
    fn unit_text(&self, rules: &Rules, draft: &Draft) -> String {
        let text = self.cut_text(rules, draft);
        text.get(self.before..).unwrap_or_default().to_owned()
    }
}

/// The negative log-likelihood of a token.
fn nll(logits: &[f32], id: u32) -> f64 {
    log_sum_exp(logits) - f64::from(logits[id as usize])
}

/// The random number for a token. It depends on nothing but the seed, the sample, the try, and the number of the token in the
/// answer, so that neither batches nor what was written again elsewhere change it.
fn random(seed: u64, sample: u32, attempt: u32, token: usize) -> f64 {
    let stream = mix(mix(seed) ^ (u64::from(sample) << 32 | u64::from(attempt)));
    unit(SplitMix64::nth(stream, token as u64 + 1))
}
