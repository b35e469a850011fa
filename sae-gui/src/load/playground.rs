//! The worker that runs the model of a run: on a prompt, or to write under a guard. Loads model and autoencoder when it is first asked,
//! and keeps them until the run is closed.

use super::mailbox::{Mailbox, Worker};
use super::playground_reply::{PlaygroundReply, ReplySender};
use super::{guarded, pictures, writing};
use crate::state::activations::SampleActivations;
use crate::state::playground::{Answer, Continuation, Prompt, PromptActivations, parse_multiples};
use crate::state::run_info::CapturedModel;
use crate::state::sample::TokenView;
use crate::state::writing::{Ending, WritingRequest};
use harvest::{Playground, Prepared};
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Saved};
use sae_core::autoencoder::sparse::Sparse;
use sae_core::autoencoder::{Encoder, Weights};
use sae_core::device::DeviceChoice;
use sae_core::store::sample::Token;
use sae_core::store::{Hook, InvalidHook};
use sae_workbench::steering::Steering;
use sae_workbench::{Cancel, LoadedSae, SaeChoice};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Tokens that are generated.
const GENERATED: usize = 16;
/// Next tokens that are listed.
const LISTED: usize = 8;

#[derive(Default)]
struct Requests {
    prompt: Option<Prompt>,
    test: Option<Prompt>,
    writing: Option<(WritingRequest, Cancel)>,
    quit: bool,
}

enum Task {
    Answer(Prompt),
    Test(Prompt),
    Write(WritingRequest, Cancel),
    Quit,
}

fn take_task(requests: &mut Requests) -> Option<Task> {
    if requests.quit {
        return Some(Task::Quit);
    }
    let answer = requests.prompt.take().map(Task::Answer);
    let test = || requests.test.take().map(Task::Test);
    let mut task = answer.or_else(test);
    if task.is_none() {
        task = requests.writing.take().map(|(request, cancel)| Task::Write(request, cancel));
    }
    task
}

/// The window's end of the worker, for one autoencoder of one run.
pub struct PlaygroundWorker {
    worker: Worker<Requests>,
    replies: Receiver<PlaygroundReply>,
    /// What stops the text that was asked for last.
    stop: RefCell<Cancel>,
}

impl PlaygroundWorker {
    /// Starts the worker; `wake` is called after every answer.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        root: PathBuf,
        sae: String,
        captured: CapturedModel,
        wake: impl Fn() + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, replies) = channel();
        let quit = |requests: &mut Requests| requests.quit = true;
        let reply = ReplySender { sender, wake };
        let work = move |mailbox: &_| work(mailbox, &root, &sae, &captured, &reply);
        Ok(Self { worker: Worker::start("playground", quit, false, work)?, replies, stop: RefCell::default() })
    }

    /// Asks for a text to be written under a guard.
    pub fn write(&self, request: WritingRequest) {
        let cancel = Cancel::new();
        self.stop.replace(cancel.clone());
        self.worker.change(|requests| requests.writing = Some((request, cancel)));
    }

    /// Asks the model to stop writing. It does after the next token.
    pub fn stop(&self) {
        self.stop.borrow().cancel();
    }

    /// Asks how the model continues a prompt.
    pub fn submit(&self, prompt: Prompt) {
        self.worker.change(|requests| requests.prompt = Some(prompt));
    }

    /// Asks only which features are active in a prompt.
    pub fn test(&self, prompt: Prompt) {
        self.worker.change(|requests| requests.test = Some(prompt));
    }

    /// What has been computed since the last call.
    pub fn replies(&self) -> impl Iterator<Item = PlaygroundReply> {
        self.replies.try_iter()
    }
}

/// A run that is closed needs no text.
impl Drop for PlaygroundWorker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn work(
    mailbox: &Mailbox<Requests>,
    root: &Path,
    sae: &str,
    captured: &CapturedModel,
    reply: &ReplySender<impl Fn() + Clone + 'static>,
) {
    let next = || loop {
        if let Some(task) = mailbox.next(Duration::from_secs(3600), take_task) {
            return task;
        }
    };
    // Nothing is loaded before something is asked for.
    let mut task = next();
    if matches!(task, Task::Quit) {
        return;
    }
    let opened = guarded(|| open(root, sae, captured));
    let device = DeviceChoice::Auto.open().map_err(|error| error.message());
    let ready = opened.as_ref().map_err(Clone::clone).and_then(|(autoencoder, playground)| {
        let weights = &autoencoder.saved().weights;
        let encoder = Encoder::new(weights, device.as_ref().map_err(Clone::clone)?);
        Ok(LoadedModel { weights, playground, encoder })
    });
    loop {
        let model = ready.as_ref().map_err(Clone::clone);
        let answer = match &task {
            Task::Quit => return,
            Task::Write(request, cancel) => {
                let ending = opened.as_ref().map_err(Clone::clone).and_then(|(autoencoder, playground)| {
                    guarded(|| writing::write(playground, autoencoder.in_run()?, captured, request, cancel, reply))
                });
                PlaygroundReply::Ended(ending.unwrap_or_else(Ending::Failed))
            }
            Task::Answer(prompt) => PlaygroundReply::Answer(model.and_then(|model| guarded(|| model.answer(prompt)))),
            Task::Test(prompt) => {
                let test = |model: &LoadedModel| guarded(|| Ok(model.activations(prompt)?.1));
                PlaygroundReply::Test(model.and_then(test))
            }
        };
        reply.send(answer);
        task = next();
    }
}

/// The autoencoder that is shown.
enum Autoencoder {
    /// With the run's activations, which guards need.
    InRun(Box<LoadedSae>),
    /// By itself, and why.
    Alone(Box<Saved>, String),
}

impl Autoencoder {
    fn open(run: &Run, sae: &str) -> Result<Self, String> {
        let choice = SaeChoice { sae: Some(sae.into()), ..SaeChoice::new(run.root()) };
        match guarded(|| choice.load_with_pieces().map_err(super::message)) {
            Ok(loaded) => Ok(Self::InRun(Box::new(loaded))),
            Err(reason) => {
                let saved = formats::load(&run.sae_dir(sae)).map_err(|error| error.message())?;
                Ok(Self::Alone(Box::new(saved), reason))
            }
        }
    }

    fn saved(&self) -> &Saved {
        match self {
            Self::InRun(loaded) => &loaded.saved,
            Self::Alone(saved, _) => saved,
        }
    }

    fn in_run(&self) -> Result<&LoadedSae, String> {
        match self {
            Self::InRun(loaded) => Ok(loaded),
            Self::Alone(_, reason) => Err(reason.clone()),
        }
    }
}

fn open(root: &Path, sae: &str, captured: &CapturedModel) -> Result<(Autoencoder, Playground), String> {
    let run = Run::open(root).map_err(|error| error.message())?;
    let folder = captured.open()?;
    let (dtype, template) = (captured.dtype.parse()?, captured.template.parse()?);
    let autoencoder = Autoencoder::open(&run, sae)?;
    if autoencoder.saved().is_transcoder() {
        return Err(format!(
            "{sae} is a transcoder: states are steered by autoencoders, which reconstruct what they read"
        ));
    }
    let hook: Hook = autoencoder.saved().origin.hook.parse().map_err(|error: InvalidHook| error.to_string())?;
    let playground = Playground::open(folder, hook, DeviceChoice::Auto, dtype, template);
    Ok((autoencoder, playground.map_err(message)?))
}

/// The model and the autoencoder.
struct LoadedModel<'a> {
    weights: &'a Weights,
    playground: &'a Playground,
    encoder: Encoder<'a>,
}

impl LoadedModel<'_> {
    /// The prompt as the model reads it, and which features are active in it.
    fn activations(&self, prompt: &Prompt) -> Result<(Prepared, PromptActivations), String> {
        let images: Vec<PathBuf> = prompt.image.iter().cloned().collect();
        let prepared = self.playground.prepare(prompt.text.trim(), &images).map_err(message)?;
        let hidden = self.playground.hidden(&prepared).map_err(message)?;
        let width = self.weights.d_in;
        if hidden.len() != prepared.tokens.len() * width {
            return Err(format!(
                "The autoencoder reads vectors of width {width}, but the model has a different width."
            ));
        }
        let rows = self.encoder.encode(&hidden).map_err(|error| error.message())?;
        let active = PromptActivations {
            tokens: prepared.tokens.iter().map(view).collect(),
            picture: images.first().map(|path| pictures::open(path)).transpose()?,
            activations: Arc::new(SampleActivations { rows }),
        };
        Ok((prepared, active))
    }

    /// How the model continues the prompt, originally and steered.
    fn answer(&self, prompt: &Prompt) -> Result<Answer, String> {
        let (prepared, active) = self.activations(prompt)?;
        let features = self.weights.d_sae;
        if let Some(steer) = prompt.steers.iter().find(|steer| steer.feature as usize >= features) {
            return Err(format!("There is no feature {}; the autoencoder has {features}.", steer.feature));
        }
        let multiples = if prompt.steers.is_empty() { Vec::new() } else { parse_multiples(&prompt.multiples)? };
        let original = self.playground.generate(&prepared, &|_, _| Ok(()), GENERATED, LISTED).map_err(message)?;
        let steered = multiples.into_iter().map(|multiple| Ok((multiple, self.steered(&prepared, prompt, multiple)?)));
        let steered = steered.collect::<Result<_, String>>()?;
        Ok(Answer { prompt: active, original: continuation(original), steered })
    }

    /// How the model continues the prompt with the features set to this multiple of their strengths.
    fn steered(&self, prepared: &Prepared, prompt: &Prompt, multiple: f32) -> Result<Continuation, String> {
        let targets = prompt.steers.iter().map(|steer| (steer.feature, multiple * steer.strength)).collect();
        let steering = Steering { targets, strength: 1.0, ..Steering::default() };
        let edit = |first: usize, hidden: &mut [f32]| {
            let active = self.encoder.encode(hidden)?;
            steer(self.weights, &active, &steering, &prepared.tokens, first, hidden);
            Ok(())
        };
        self.playground.generate(prepared, &edit, GENERATED, LISTED).map(continuation).map_err(message)
    }
}

fn message(error: harvest::Error) -> String {
    error.message()
}

/// Steers the states at every position with content, generated ones included: those of the positions from `first` on, `[positions, d_in]`. `prompt` has the tokens before the generated ones.
fn steer(weights: &Weights, active: &Sparse, steering: &Steering, prompt: &[Token], first: usize, hidden: &mut [f32]) {
    for (row, x) in hidden.chunks_exact_mut(weights.d_in).enumerate() {
        if prompt.get(first + row).is_none_or(|token| !token.special) {
            let (features, values) = active.row(row);
            steering.apply(weights, features, values, x);
        }
    }
}

fn view(token: &Token) -> TokenView {
    TokenView {
        position: token.position,
        modality: token.modality,
        text: token.piece.clone(),
        special: token.special,
        image: token.image.and_then(|image| usize::try_from(image).ok()),
        rect: token.rect,
    }
}

fn continuation(found: harvest::Continuation) -> Continuation {
    let next = found.next.into_iter().map(|next| (next.text, next.probability)).collect();
    Continuation { next, text: found.text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::autoencoder::Activation;
    use sae_core::store::sample::{Modality, Role};

    /// An autoencoder whose two features are the two dimensions.
    fn two_features() -> Weights {
        Weights {
            d_in: 2,
            d_sae: 2,
            w_enc: vec![1.0, 0.0, 0.0, 1.0],
            b_enc: vec![0.0; 2],
            w_dec: vec![1.0, 0.0, 0.0, 1.0],
            b_dec: vec![5.0, 5.0],
            activation: Activation::Relu,
            ..Weights::default()
        }
    }

    #[test]
    fn generated_tokens_are_steered_although_the_prompt_begins_with_a_special_token() {
        let weights = two_features();
        let token = |special| Token {
            position: 0,
            modality: Modality::Text,
            token_id: 0,
            piece: String::new(),
            role: Role::User,
            special,
            image: None,
            rect: None,
        };
        let prompt = [token(true), token(false)];
        let steering = Steering { targets: vec![(0, 1.0)], strength: 1.0, ..Steering::default() };
        let steered = |first: usize, states: &[f32]| {
            let mut hidden = states.to_vec();
            steer(&weights, &Sparse::from_dense(states, 2), &steering, &prompt, first, &mut hidden);
            hidden
        };
        let states = [3.0, 0.0, 0.0, 2.0, 4.0, 0.5];
        let all = steered(0, &states);
        assert_eq!(all, [3.0, 0.0, 1.0, 2.0, 1.0, 0.5]);
        // A model that keeps keys and values passes the state of the generated token alone.
        assert_eq!([steered(0, &states[..4]), steered(2, &states[4..])].concat(), all);
    }
}
