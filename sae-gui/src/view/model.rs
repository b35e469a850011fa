//! Between the window and the worker that runs the model of the run: what it is asked, and what it has computed or written.

use super::app::App;
use crate::load::{PlaygroundReply, PlaygroundWorker};
use crate::state::guard::GuardOption;
use crate::state::playground::Prompt;
use crate::state::writing::{Ending, WritingRequest};
use egui::Context;

impl App {
    /// Asks how the model of the run continues a prompt.
    pub(super) fn submit(&mut self, ctx: &Context, prompt: Prompt) {
        match self.model(ctx) {
            Ok(worker) => worker.submit(prompt),
            Err(reason) => self.take_answer(ctx, PlaygroundReply::Answer(Err(reason))),
        }
    }

    /// Has the model of the run write under a guard.
    pub(super) fn write(&mut self, ctx: &Context, request: WritingRequest) {
        self.pages.playground.show_writing();
        match self.model(ctx) {
            Ok(worker) => worker.write(request),
            Err(reason) => self.take_answer(ctx, PlaygroundReply::Ended(Ending::Failed(reason))),
        }
    }

    /// Asks the model to stop writing.
    pub(super) fn stop_writing(&mut self) {
        self.playground_worker.iter().for_each(PlaygroundWorker::stop);
        self.session.run_mut().into_iter().for_each(|run| run.writing.is_stopping = run.writing.busy);
    }

    /// Takes the probes that can be a guard. A link may have asked to write at once.
    pub(super) fn take_guards(&mut self, ctx: &Context, guards: Vec<GuardOption>) {
        let Some(run) = self.session.run_mut() else { return };
        run.writing.set_guards(guards);
        if !std::mem::take(&mut run.writing.submits_at_once) {
            return;
        }
        match run.writing_request() {
            Ok(request) => {
                let request = run.writing.begin(request);
                self.write(ctx, request);
            }
            Err(reason) => self.session.notice = Some(reason),
        }
    }

    /// Asks which features are active in a prompt on the page of a feature.
    pub(super) fn test(&mut self, ctx: &Context, prompt: Prompt) {
        match self.model(ctx) {
            Ok(worker) => worker.test(prompt),
            Err(reason) => self.take_answer(ctx, PlaygroundReply::Test(Err(reason))),
        }
    }

    /// The worker that runs the model; the first request loads it.
    fn model(&mut self, ctx: &Context) -> Result<&PlaygroundWorker, String> {
        if self.playground_worker.is_none() {
            let run = self.session.run().ok_or("No run is open.")?;
            let (root, sae) = (run.info.root.clone(), run.info.sae_name().to_owned());
            let waker = ctx.clone();
            let captured = run.info.captured.clone();
            let worker = PlaygroundWorker::start(root, sae, captured, move || waker.request_repaint());
            self.playground_worker = Some(worker.map_err(|error| format!("The system gives no thread ({error})."))?);
        }
        self.playground_worker.as_ref().ok_or_else(|| "No run is open.".into())
    }

    /// Takes what the model has computed or written.
    pub(super) fn take_answer(&mut self, ctx: &Context, reply: PlaygroundReply) {
        let Some(run) = self.session.run_mut() else { return };
        match reply {
            PlaygroundReply::Answer(answer) => {
                run.playground.busy = false;
                self.pages.playground.set_answer(ctx, answer);
            }
            PlaygroundReply::Test(test) => {
                run.test.busy = false;
                self.pages.feature.test.set_result(ctx, test);
            }
            PlaygroundReply::Doing(what) => run.writing.doing = Some(what),
            PlaygroundReply::Event(event) => run.writing.take(event),
            PlaygroundReply::Ended(ending) => run.writing.end(ending),
        }
    }
}
