//! Several texts that a model writes at the same time: each step reads one batch, and what is finished goes to the journal. Knows
//! neither what the texts are nor which tokens are good.

use super::journal::{Finished, Journal};
use super::rules::Rules;
use crate::Result;
use crate::control::{Control, Detail, Stage};
use harvest::generation::{Draft, Generator, Prompt, Prompts, Reading};
use std::collections::BTreeSet;
use std::time::Instant;

/// What is written for a prompt: a text of the model, and sometimes one beside it that is not part of the answer.
pub(super) struct Drafts {
    pub main: Draft,
    /// Written before the main one goes on.
    pub aside: Option<Draft>,
}

impl Drafts {
    fn next(&mut self) -> &mut Draft {
        self.aside.as_mut().unwrap_or(&mut self.main)
    }
}

/// A text under way. Its drafts are held beside it.
pub(super) trait Task {
    /// What it becomes.
    type Done: Finished;

    /// The number of positions of the draft to be read next whose predictions are needed.
    fn last(&self, drafts: &Drafts) -> usize;

    /// Counts positions that a model computes for it.
    fn count(&mut self, positions: usize);

    /// Sees the states that the model computes, of positions from `first` on, of which the first `read` were read before, and may
    /// change them.
    fn observe(&mut self, rules: &Rules, read: usize, first: usize, states: &mut [f32]) -> Result<()>;

    /// Takes what [`Task::last`] asked for. Returns the text when it is complete.
    fn advance(&mut self, rules: &Rules, drafts: &mut Drafts, reading: Reading) -> Option<Self::Done>;

    /// Tokens that were drawn so far.
    fn drawn(&self) -> u64;
}

/// A task with its drafts.
struct Desk<T> {
    task: T,
    drafts: Drafts,
}

/// Writes a text for every prompt that the journal lacks, `batch` at a time. Returns how many tokens were drawn per second.
pub(super) fn write_all<T: Task>(
    rules: &Rules,
    prompts: &mut Prompts,
    rows: u64,
    batch: usize,
    journal: &mut Journal<T::Done>,
    mut begin: impl FnMut(u32, Prompt, &Draft) -> Result<T>,
    control: &mut Control,
) -> Result<f64> {
    let finished: BTreeSet<u32> = journal.answers.iter().map(Finished::sample).collect();
    let (mut next, mut desks) = (0u32, Vec::<Desk<T>>::new());
    let mut staged = control.stage(Stage::Generate, rows)?;
    let _attended = staged.cancel().attend();
    let (begun, mut tokens, mut is_last) = (Instant::now(), 0u64, false);
    loop {
        while desks.len() < batch && !is_last {
            match prompts.next(rules.generator.checkpoint())? {
                None => is_last = true,
                Some(prompt) => {
                    if !finished.contains(&next) {
                        let main = rules.generator.draft_from(&prompt.prepared, rules.beginning)?;
                        let task = begin(next, prompt, &main)?;
                        desks.push(Desk { task, drafts: Drafts { main, aside: None } });
                    }
                    next += 1;
                }
            }
        }
        if desks.is_empty() {
            break;
        }
        let readings = read(rules, &mut desks)?;
        let mut ended = Vec::new();
        for (n, (desk, reading)) in desks.iter_mut().zip(readings).enumerate() {
            let before = desk.task.drawn();
            let done = desk.task.advance(rules, &mut desk.drafts, reading);
            tokens += desk.task.drawn() - before;
            if let Some(done) = done {
                journal.add(done)?;
                ended.push(n);
            }
        }
        ended.into_iter().rev().for_each(|n| drop(desks.remove(n)));
        let seconds = begun.elapsed().as_secs_f64();
        let detail = Detail::Generate { tokens, tokens_per_s: tokens as f64 / seconds.max(1e-9) };
        staged.advance_with(journal.answers.len() as u64 + prompts.skipped().rows(), detail)?;
    }
    journal.answers.sort_by_key(Finished::sample);
    Ok(tokens as f64 / begun.elapsed().as_secs_f64().max(1e-9))
}

/// Writes a single text, and shows it after every token.
///
/// # Errors
/// A device that failed; a request to stop, which is met after the next token.
pub(super) fn write_one<T: Task>(
    rules: &Rules,
    task: T,
    main: Draft,
    mut show: impl FnMut(&mut T),
    control: &mut Control,
) -> Result<T::Done> {
    let mut desks = [Desk { task, drafts: Drafts { main, aside: None } }];
    let mut staged = control.stage(Stage::Generate, 1)?;
    loop {
        let readings = read(rules, &mut desks)?;
        for (desk, reading) in desks.iter_mut().zip(readings) {
            let done = desk.task.advance(rules, &mut desk.drafts, reading);
            show(&mut desk.task);
            if let Some(done) = done {
                return Ok(done);
            }
        }
        staged.advance(0)?;
    }
}

/// Has the drafts that come next read, those of a corrector by the corrector.
fn read<T: Task>(rules: &Rules, desks: &mut [Desk<T>]) -> Result<Vec<Reading>> {
    let mut readings = vec![Reading::default(); desks.len()];
    let readers: [Option<&Generator>; 2] = [Some(rules.generator), rules.corrector()];
    for (reader, generator) in readers.into_iter().enumerate().filter_map(|(n, reader)| Some((n, reader?))) {
        let is_read = |desk: &Desk<T>| (desk.drafts.aside.is_some() && rules.corrector().is_some()) == (reader == 1);
        let (mut places, mut tasks, mut drafts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut last, mut read) = (Vec::new(), Vec::new());
        for (n, desk) in desks.iter_mut().enumerate().filter(|(_, desk)| is_read(desk)) {
            last.push(desk.task.last(&desk.drafts));
            let draft = desk.drafts.next();
            desk.task.count(draft.ids().len() - draft.read());
            read.push(draft.read());
            places.push(n);
            tasks.push(&mut desk.task);
            drafts.push(draft);
        }
        if drafts.is_empty() {
            continue;
        }
        let mut failed = None;
        let mut see = |n: usize, first: usize, states: &mut [f32]| {
            let seen = tasks[n].observe(rules, read[n], first, states);
            failed = failed.take().or(seen.err());
            Ok(())
        };
        let found = generator.read(&mut drafts, &last, &mut see)?;
        if let Some(error) = failed {
            return Err(error);
        }
        places.into_iter().zip(found).for_each(|(n, reading)| readings[n] = reading);
    }
    Ok(readings)
}
