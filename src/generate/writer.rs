//! One answer under way, unit by unit: a unit is the whole answer, or a sentence of it. A unit that the guard flags is written again.
//! Says what the model should read next; runs nothing.

use super::correction::Flagged;
use super::event::{Event, Version};
use super::guard::Peaks;
use super::report::{Attempt, End, Written};
use super::rules::Rules;
use super::work::{Drafts, Task};
use crate::Result;
use crate::steering::Steering;
use harvest::generation::{Boundary, Draft, Prompt, Reading, nll};

/// Features that are steered at most.
const MOST_STEERED: usize = 5;

/// What the logits that come next are for.
#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    /// Nothing has been read yet.
    #[default]
    Prompt,
    /// The next token is chosen.
    Write,
    /// The next token of what replaces the unit is chosen.
    Replace,
    /// A unit that was steered, or written elsewhere, is read as it stands, without steering. It was complete for this reason, if the
    /// answer was.
    Reread(Option<End>),
    /// The unit is an earlier try, which stays.
    Restore(usize),
}

/// An answer under way.
pub(super) struct Writer {
    written: Written,
    /// The prompt, if somebody is asked about it again.
    prompt: Option<Prompt>,
    /// Whether each position of the prompt has content.
    content: Vec<bool>,
    /// Whether the prompt ends with an image, whose last position cannot be read without the others.
    ends_with_image: bool,
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
    drawn: u64,
    /// Tokens and bytes of the answer that were given.
    given: [usize; 2],
    /// What has happened, if somebody wants to know.
    pub events: Option<Vec<Event>>,
}

impl Writer {
    /// The writer of a draft, which has the given beginning of the answer.
    pub fn new(rules: &Rules, sample: u32, prompt: Prompt, draft: &Draft) -> Self {
        let tokens = &prompt.prepared.tokens;
        let given = [draft.answer().len(), rules.generator.text(draft.answer()).len()];
        Self {
            written: Written::new(sample, &prompt.prepared.sample),
            content: tokens.iter().map(|token| !token.special).collect(),
            ends_with_image: tokens.last().is_some_and(|token| token.image.is_some()),
            phase: Phase::Prompt,
            start: draft.ids().len(),
            at_start: Vec::new(),
            before: given[1],
            attempt: 0,
            attempts: Vec::new(),
            steering: None,
            nll: 0.0,
            peaks: Peaks::new(),
            prompt_peaks: Peaks::new(),
            cut: None,
            drawn: 0,
            given,
            events: None,
            prompt: rules.asks.is_some().then_some(prompt),
        }
    }

    /// Makes known what happens. The event is made only if somebody wants to know.
    fn tell(&mut self, event: impl FnOnce() -> Event) {
        if let Some(events) = &mut self.events {
            events.push(event());
        }
    }

    /// Makes known what is written of a version.
    fn tell_text(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.events.is_some() {
            let (unit, attempt, text) = (self.written.units, self.attempt, text(self));
            let strength = self.steering.as_ref().map(|steering| steering.strength);
            self.tell(|| Event::Written { unit, attempt, strength, text });
        }
    }

    /// The first position that is steered: the one before the unit, which decides its first token, unless it cannot be read alone.
    fn steered_from(&self) -> usize {
        let is_image = self.ends_with_image && self.start == self.content.len();
        self.start - usize::from(self.start > 0 && !is_image)
    }
}

impl Task for Writer {
    type Done = Written;

    fn last(&self, drafts: &Drafts) -> usize {
        match self.phase {
            Phase::Reread(_) => drafts.main.ids().len() - drafts.main.read(),
            Phase::Prompt | Phase::Write | Phase::Replace | Phase::Restore(_) => 1,
        }
    }

    fn count(&mut self, positions: usize) {
        self.written.computed += positions as u64;
    }

    fn drawn(&self) -> u64 {
        self.drawn
    }

    fn observe(&mut self, rules: &Rules, read: usize, first: usize, states: &mut [f32]) -> Result<()> {
        let Some((weights, encoder)) = rules.sae else { return Ok(()) };
        if matches!(self.phase, Phase::Replace) {
            return Ok(());
        }
        let d = weights.d_in;
        let end = first + states.len() / d;
        let corrected = self.steering.as_ref().filter(|_| matches!(self.phase, Phase::Write));
        let (answer, steered_from) = (self.content.len(), self.steered_from());
        // Whole answers are judged with the beginning that was given.
        let judged = match rules.guard {
            _ if rules.boundary.is_some() => self.start,
            Some(guard) if guard.reads_prompt() => 0,
            _ => answer,
        };
        let seen = read.max(judged);
        // Where nothing could be kept, all positions are computed again, and those that were steered have to be steered again.
        let moved = match corrected {
            Some(_) => steered_from.min(if rules.always.is_some() { answer } else { usize::MAX }),
            None if rules.always.is_some() => answer,
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
                _ if position >= judged && self.content.get(position) != Some(&false) => Some(&mut self.prompt_peaks),
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
            if let Some(corrected) = corrected.filter(|_| position >= steered_from) {
                corrected.apply(weights, features, values, x);
            }
        }
        Ok(())
    }

    fn advance(&mut self, rules: &Rules, drafts: &mut Drafts, reading: Reading) -> Option<Written> {
        let Reading { nll: mut of_tokens, next } = reading;
        match std::mem::take(&mut self.phase) {
            Phase::Prompt => {
                self.at_start.clone_from(&next);
                self.extend(rules, drafts, next)
            }
            Phase::Write => self.extend(rules, drafts, next),
            Phase::Replace => self.replace(rules, drafts, &next),
            Phase::Reread(end) => {
                let ids = &drafts.main.ids()[self.start..];
                // The position before the unit may not have been read again.
                if of_tokens.len() < ids.len() {
                    of_tokens.insert(0, nll(&self.at_start, ids[0]));
                }
                self.nll = of_tokens.iter().sum();
                self.judge(rules, drafts, next, end)
            }
            Phase::Restore(kept) => self.close(rules, drafts, kept, next),
        }
    }
}

impl Writer {
    /// Chooses the next token, or finds that the unit is complete.
    fn extend(&mut self, rules: &Rules, drafts: &mut Drafts, logits: Vec<f32>) -> Option<Written> {
        let (generator, draft) = (rules.generator, &mut drafts.main);
        let (answer, length) = (draft.answer().len(), draft.ids().len());
        let unit = length - self.start;
        let next = rules.choose(&logits, draft.ids(), [self.written.sample, self.attempt], answer);
        let mut end = match next {
            _ if answer - self.given[0] >= rules.tokens => Some(End::Tokens),
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
                self.cut = rules.stopped_at(&text, self.given[1]);
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
                self.tell_text(|writer| writer.unit_text(rules, draft));
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
            return self.give_up(rules, drafts, end != Some(End::NotFinite));
        }
        if self.steering.is_some() {
            self.phase = Phase::Reread(end);
            draft.forget(self.steered_from());
            return None;
        }
        self.judge(rules, drafts, logits, end)
    }

    /// A try came to nothing: because the model had nothing to say, or else because its numbers are not finite.
    fn give_up(&mut self, rules: &Rules, drafts: &mut Drafts, is_finite: bool) -> Option<Written> {
        let (unit, attempt) = (self.written.units, self.attempt);
        self.tell(|| Event::Dropped { unit, attempt, is_finite });
        self.redraw(rules, drafts, None)
    }

    /// Chooses the next token of what replaces the unit, or finds that it is complete.
    fn replace(&mut self, rules: &Rules, drafts: &mut Drafts, logits: &[f32]) -> Option<Written> {
        let Some(aside) = &mut drafts.aside else { return self.give_up(rules, drafts, true) };
        let (generator, length) = (rules.corrector().unwrap_or(rules.generator), aside.answer().len());
        let token = drafts.main.answer().len() + length;
        let next = rules.choose(logits, aside.ids(), [self.written.sample, self.attempt], token);
        let is_full = length >= rules.longest || aside.ids().len() >= generator.context();
        let text = generator.text(aside.answer());
        let end = rules.boundary.and_then(|boundary| boundary.first_end(&text));
        match next.filter(|id| !is_full && end.is_none() && !generator.is_end(*id)) {
            Some(id) => {
                aside.push(id);
                self.drawn += 1;
                self.phase = Phase::Replace;
                self.tell_text(|_| generator.text(aside.answer()));
                None
            }
            None => {
                drafts.aside = None;
                let end = if next.is_none() { 0 } else { end.unwrap_or(text.len()) };
                self.put(rules, drafts, &text[..end])
            }
        }
    }

    /// Puts a text in the place of the unit, with the white space that is around the first version, to be read.
    fn put(&mut self, rules: &Rules, drafts: &mut Drafts, text: &str) -> Option<Written> {
        let draft = &mut drafts.main;
        let first = &self.attempts[0].text;
        let inner = first.trim();
        let begins = first.len() - first.trim_start().len();
        let around = if inner.is_empty() { ("", "") } else { (&first[..begins], &first[begins + inner.len()..]) };
        let said = text.trim();
        let whole = format!("{}{said}{}", around.0, around.1);
        let found = rules.generator.continuation(draft, &whole).filter(|ids| !said.is_empty() && !ids.is_empty());
        let Some(mut ids) = found else { return self.give_up(rules, drafts, true) };
        let left = rules.tokens + self.given[0] - draft.answer().len();
        let context = rules.generator.context() - draft.ids().len();
        let mut end = None;
        if ids.len() > left.min(context) {
            ids.truncate(left.min(context));
            end = Some(if left <= context { End::Tokens } else { End::Context });
        }
        ids.iter().for_each(|id| draft.push(*id));
        self.cut = rules.stopped_at(&rules.generator.text(draft.answer()), self.given[1]);
        self.phase = Phase::Reread(self.cut.map(|_| End::Stop).or(end));
        None
    }

    /// Judges a complete unit. `next` has the logits after it.
    fn judge(&mut self, rules: &Rules, drafts: &mut Drafts, next: Vec<f32>, end: Option<End>) -> Option<Written> {
        let draft = &drafts.main;
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
        let causes = rules.guard.map_or_else(Vec::new, |guard| guard.causes(&peaks, MOST_STEERED));
        let features = causes.iter().map(|(feature, _)| *feature).collect();
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
        let version = self.attempts.last().map(|attempt| Version::new(attempt, causes));
        version.into_iter().for_each(|version| self.tell(|| Event::Judged(version)));
        if accepted {
            return self.close(rules, drafts, self.attempts.len() - 1, next);
        }
        self.redraw(rules, drafts, Some(next))
    }

    /// Writes the unit again, or keeps the best of its tries. `next` has the logits after the last try, if that is what the draft
    /// has; otherwise that try came to nothing.
    fn redraw(&mut self, rules: &Rules, drafts: &mut Drafts, next: Option<Vec<f32>>) -> Option<Written> {
        self.written.dropped += u32::from(next.is_none());
        let is_refused = |attempt: &Attempt| attempt.severity.is_some_and(|severity| severity > rules.refuse_at);
        let refused = rules.refusal.is_some() && self.attempts.last().is_some_and(is_refused);
        if self.attempt < rules.redraws && !refused {
            self.attempt += 1;
            drafts.main.truncate(self.start);
            self.peaks.clear();
            self.nll = 0.0;
            self.cut = None;
            if rules.asks.is_some() {
                return self.ask(rules, drafts);
            }
            let causes = &self.attempts[0].features;
            self.steering = rules.steers.map(|away| away.steering(self.attempt, causes));
            let from = self.steered_from();
            if self.steering.is_some() && from < self.start {
                drafts.main.forget(from);
                self.phase = Phase::Write;
                return None;
            }
            let logits = self.at_start.clone();
            return self.extend(rules, drafts, logits);
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
            Some(next) if kept + 1 == self.attempts.len() => self.close(rules, drafts, kept, next),
            _ => {
                drafts.main.truncate(self.start);
                if self.steering.is_some() {
                    drafts.main.forget(self.steered_from());
                }
                self.attempts[kept].ids.iter().for_each(|id| drafts.main.push(*id));
                self.phase = Phase::Restore(kept);
                None
            }
        }
    }

    /// Has somebody write the unit again who knows its last version.
    fn ask(&mut self, rules: &Rules, drafts: &mut Drafts) -> Option<Written> {
        let before = rules.generator.text(drafts.main.answer());
        let Attempt { text, features, .. } = &self.attempts[self.attempts.len() - 1];
        let flagged = Flagged { before: &before, sentence: text, features };
        let asked = self.prompt.as_ref().zip(rules.asks);
        // A question that is longer than the context is no try.
        match asked.and_then(|(prompt, asking)| asking.draft(rules.generator, prompt, &flagged).ok()) {
            Some(aside) => {
                drafts.aside = Some(aside);
                self.phase = Phase::Replace;
                None
            }
            None => self.give_up(rules, drafts, true),
        }
    }

    /// Keeps a try of the unit, which the draft has and the model has read, and begins the next unit. `next` has the logits there.
    fn close(&mut self, rules: &Rules, drafts: &mut Drafts, kept: usize, next: Vec<f32>) -> Option<Written> {
        let draft = &drafts.main;
        let end = self.attempts[kept].end;
        self.cut = self.attempts[kept].cut;
        let (unit, attempt) = (self.written.units, self.attempts[kept].attempt);
        self.tell(|| Event::Kept { unit, attempt });
        self.written.keep(self.attempts.drain(..), kept);
        if end.is_some() || self.written.repeats() {
            let end = end.unwrap_or(End::Repeated);
            return Some(self.finish(rules, draft, end));
        }
        (self.start, self.attempt, self.steering, self.nll) = (draft.ids().len(), 0, None, 0.0);
        self.before = rules.generator.text(draft.answer()).len();
        self.peaks.clear();
        self.at_start.clone_from(&next);
        self.extend(rules, drafts, next)
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
