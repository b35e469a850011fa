//! One answer that somebody follows while it is written, by a model that stays open. Writes no file.

use super::GenerateRequest;
use super::event::Event;
use super::opening::Judging;
use super::report::End;
use super::work::{Task, write_one};
use super::writer::Writer;
use super::writing::Means;
use crate::control::Control;
use crate::error::GenerateError;
use crate::sae::LoadedSae;
use crate::{Result, model};
use harvest::generation::{Generator, Prompts};

/// What became of an answer that was followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// The answer, with the beginning that was given.
    pub text: String,
    /// Why it ended.
    pub end: End,
    /// Tokens that were drawn, those of versions that did not stay included.
    pub drawn: u64,
    /// Positions that the model computed.
    pub computed: u64,
}

impl GenerateRequest {
    /// Writes the answer to the request's prompt with a model that is open, the one of the request, and with an autoencoder of its
    /// run, and tells `follow` what happens. What is written is what [`GenerateRequest::run`] writes; the folder of the request and
    /// its choice of an autoencoder are ignored.
    ///
    /// # Errors
    /// As [`GenerateRequest::run`], but for the folder; a request to stop, which is met after the next token.
    pub fn follow(
        &self,
        generator: &Generator,
        sae: &LoadedSae,
        control: &mut Control,
        follow: &mut dyn FnMut(Event),
    ) -> Result<Followed> {
        self.check()?;
        let needs = GenerateError::Needs { what: "an answer to follow", needs: "a prompt" };
        let prompt = self.prompt.as_ref().filter(|_| self.tree.is_none()).ok_or(needs)?;
        let checkpoint = generator.checkpoint();
        model::check_fits(checkpoint, sae)?;
        let judging = Judging::open(self, Some(sae), checkpoint)?;
        let corrector = self.corrector(Some(control))?;
        let means = Means::open(self, &self.model, Some(sae), &judging, corrector.as_deref(), control)?;
        let rules = self.rules(generator, &judging, &means);
        let prompt = Prompts::single(prompt, &self.model).next(checkpoint)?;
        let prompt = prompt.ok_or(GenerateError::Needs { what: "an answer", needs: "a prompt" })?;
        let draft = generator.draft_from(&prompt.prepared, rules.beginning)?;
        let mut writer = Writer::new(&rules, 0, prompt, &draft);
        writer.events = Some(Vec::new());
        follow(Event::Begun { threshold: rules.guard.map(|guard| guard.threshold) });
        let mut drawn = 0;
        let show = |writer: &mut Writer| {
            drawn = writer.drawn();
            writer.events.as_mut().map(std::mem::take).unwrap_or_default().into_iter().for_each(&mut *follow);
        };
        let written = write_one(&rules, writer, draft, show, control)?;
        Ok(Followed { text: written.text, end: written.end, drawn, computed: written.computed })
    }
}
