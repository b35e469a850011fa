//! Has the open model write under a guard, as the program `sae` does, and tells the window what happens.

use super::playground_reply::{PlaygroundReply, ReplySender};
use super::{guarded, message};
use crate::state::guard::GuardOption;
use crate::state::run_info::CapturedModel;
use crate::state::writing::{Ending, WritingRequest};
use harvest::generation::TypedPrompt;
use harvest::{Plan, Playground};
use sae_core::Run;
use sae_workbench::control::{Detail, Notice, Progress, Stage};
use sae_workbench::generate::{self, Event};
use sae_workbench::{Cancel, Control, GenerateRequest, LoadedSae, SaeChoice};

/// The probes of an autoencoder, and which of them can be a guard.
pub fn guards(run: &Run, sae: Option<&str>) -> Vec<GuardOption> {
    let Some(sae) = sae else { return Vec::new() };
    let found = guarded(|| Ok(generate::guards(run, sae))).unwrap_or_default();
    found.into_iter().map(|(name, choice)| GuardOption { name, choice: choice.map_err(message) }).collect()
}

/// Tells the window about a pass over the run, which comes before the first token.
struct Told<W> {
    reply: ReplySender<W>,
    stage: Option<(Stage, Option<u64>)>,
    percent: u64,
}

impl<W: Fn()> Told<W> {
    fn tell(&self) {
        if let Some((stage, _)) = self.stage.filter(|(stage, _)| *stage != Stage::Generate) {
            let percent = self.percent;
            self.reply.send(PlaygroundReply::Doing(format!("reading the run ({}, {percent}%)", stage.name())));
        }
    }
}

impl<W: Fn()> Progress for Told<W> {
    fn start(&mut self, stage: Stage, total: Option<u64>) {
        (self.stage, self.percent) = (Some((stage, total)), 0);
        self.tell();
    }

    fn advance(&mut self, position: u64, total: Option<u64>, _: Detail) {
        let percent = total.filter(|total| *total > 0).map_or(0, |total| 100 * position / total);
        if percent != self.percent {
            self.percent = percent;
            self.tell();
        }
    }

    fn finish(&mut self) {
        self.stage = None;
    }

    fn notice(&mut self, _: &Notice) {}
}

/// Writes a text, and returns why it ended.
///
/// # Errors
/// Why nothing could be written, or no more.
pub(super) fn write(
    playground: &Playground,
    sae: &LoadedSae,
    captured: &CapturedModel,
    request: &WritingRequest,
    cancel: &Cancel,
    reply: &ReplySender<impl Fn() + Clone + 'static>,
) -> Result<Ending, String> {
    let folder = playground.generator().checkpoint().folder();
    let plan = Plan {
        dtype: captured.dtype.parse()?,
        template: captured.template.parse()?,
        ..Plan::new(folder, "", Vec::new())
    };
    let settings = &request.settings;
    let asked = GenerateRequest {
        prompt: Some(TypedPrompt { text: request.prompt.clone(), images: request.image.iter().cloned().collect() }),
        beginning: request.beginning.clone(),
        sae: Some(SaeChoice { sae: Some(sae.name.clone()), ..SaeChoice::new(sae.run.root()) }),
        guard: Some(settings.guard.clone()),
        at: settings.at(),
        guarding: settings.guarding()?,
        steer: request.steer.clone(),
        sampling: settings.sampling(),
        tokens: settings.tokens,
        seed: settings.seed,
        ..GenerateRequest::new(plan, "")
    };
    let told = Told { reply: reply.clone(), stage: None, percent: 0 };
    let mut control = Control::new(told, cancel.clone());
    let mut follow = |event: Event| reply.send(PlaygroundReply::Event(event));
    match asked.follow(playground.generator(), sae, &mut control, &mut follow) {
        Ok(followed) => Ok(Ending::Complete(followed.end)),
        Err(_) if cancel.is_cancelled() => Ok(Ending::Stopped),
        Err(error) => Err(message(error)),
    }
}
