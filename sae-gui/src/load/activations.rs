//! The worker that encodes: the active features of samples, computed from the store so that heat maps need not be kept anywhere,
//! and the explanations of scores. Holds the weights and the encoder. The formulas are those of the operations.

use super::mailbox::{Mailbox, Worker};
use super::{guarded, message};
use crate::state::activations::SampleActivations;
use crate::state::explanation::{PartFeature, ScoreExplanation, ScorePart};
use filters::pmi::{Component, Contribution};
use filters::score_names::{self, COSINE, PMI, PMI_BLANK};
use sae_core::Run;
use sae_core::analysis::index::FeatureRow;
use sae_core::analysis::layout::{DecoderLayout, decoder_layout};
use sae_core::autoencoder::Encoder;
use sae_core::autoencoder::formats::{self, Saved};
use sae_core::device::DeviceChoice;
use sae_workbench::Explainer;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Parts of a score that are shown.
const PARTS: usize = 8;
/// Features of each side that are shown in a part.
const FEATURES: usize = 3;

/// The decoder direction of a feature.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderDirection {
    /// The hook that the autoencoder reads: directions of different hooks are of different spaces.
    pub hook: String,
    /// The direction, `[d_in]`.
    pub values: Vec<f32>,
}

/// What the worker has computed.
pub enum ActivationReply {
    /// The active features of a sample.
    Active(u32, Result<Arc<SampleActivations>, String>),
    /// The explanations of a sample's scores.
    Explanations(u32, Result<Vec<ScoreExplanation>, String>),
    /// The decoder direction of a feature.
    Direction(u32, Result<DecoderDirection, String>),
    /// The features by the principal components of their directions.
    Layout(Result<Arc<DecoderLayout>, String>),
}

/// What the worker is asked for.
#[derive(Clone, Debug, Default)]
pub struct ActivationRequest {
    /// The samples whose active features are computed, the first one first.
    pub active: Vec<u32>,
    /// The sample whose scores are explained.
    pub explanations: Option<u32>,
    /// The feature whose direction is read.
    pub direction: Option<u32>,
    /// Whether the layout of all features is computed.
    pub layout: bool,
}

#[derive(Default)]
struct Requests {
    request: ActivationRequest,
    quit: bool,
}

enum Task {
    Active(u32),
    Explanations(u32),
    Direction(u32),
    Layout,
    Quit,
}

/// The window's end of the worker, for one autoencoder of one run.
pub struct ActivationWorker {
    worker: Worker<Requests>,
    replies: Receiver<ActivationReply>,
}

impl ActivationWorker {
    /// Starts the worker. `rows` are the features with their weights; `wake` is called after every reply.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        root: PathBuf,
        sae: String,
        rows: Vec<FeatureRow>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let (sender, replies) = channel();
        let quit = |requests: &mut Requests| requests.quit = true;
        let work = move |mailbox: &_| work(mailbox, &root, &sae, &rows, &sender, &wake);
        Ok(Self { worker: Worker::start("activations", quit, false, work)?, replies })
    }

    /// Asks for this, and no longer for anything else.
    pub fn request(&self, request: ActivationRequest) {
        self.worker.change(|requests| requests.request = request);
    }

    /// What has been computed since the last call.
    pub fn replies(&self) -> impl Iterator<Item = ActivationReply> {
        self.replies.try_iter()
    }
}

fn take_task(requests: &mut Requests) -> Option<Task> {
    if requests.quit {
        return Some(Task::Quit);
    }
    let request = &mut requests.request;
    if let Some(feature) = request.direction.take() {
        return Some(Task::Direction(feature));
    }
    if std::mem::take(&mut request.layout) {
        return Some(Task::Layout);
    }
    if !request.active.is_empty() {
        return Some(Task::Active(request.active.remove(0)));
    }
    request.explanations.take().map(Task::Explanations)
}

fn work(
    mailbox: &Mailbox<Requests>,
    root: &Path,
    sae: &str,
    rows: &[FeatureRow],
    sender: &Sender<ActivationReply>,
    wake: &(impl Fn() + Sync),
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
    let device = DeviceChoice::Auto.open().map_err(|error| error.message());
    // The encoder borrows the weights; the explainer is changed by what it reads.
    let (saved, mut explainer) = match guarded(|| open(root, sae)) {
        Ok((saved, explainer)) => (Ok(saved), Ok(explainer)),
        Err(reason) => (Err(reason.clone()), Err(reason)),
    };
    let ready = saved.and_then(|saved: Saved| Ok((saved, device?)));
    let encoder = ready.as_ref().map(|(saved, device)| Encoder::new(&saved.weights, device));
    let saved = ready.as_ref().map(|(saved, _)| saved);
    let mut laid_out = false;
    std::thread::scope(|scope| {
        loop {
            let ready = explainer.as_mut().map_err(|reason| reason.clone());
            let ready =
                ready.and_then(|explainer| Ok((explainer, encoder.as_ref().map_err(|reason| (*reason).clone())?)));
            let reply = match task {
                Task::Quit => return,
                Task::Direction(feature) => {
                    let direction = saved.map_err(|reason| reason.clone()).and_then(|saved| direction(saved, feature));
                    Some(ActivationReply::Direction(feature, direction))
                }
                Task::Layout if std::mem::replace(&mut laid_out, true) => None,
                Task::Layout => {
                    // Seconds for a large autoencoder: the samples that are looked at do not wait for it.
                    scope.spawn(move || {
                        let layout = saved.map_err(|reason| reason.clone()).and_then(|saved| layout(saved, rows));
                        // The window may be gone.
                        let _ = sender.send(ActivationReply::Layout(layout));
                        wake();
                    });
                    None
                }
                Task::Active(sample) => {
                    let encode = |(explainer, encoder): (&mut Explainer, &Encoder)| {
                        guarded(|| explainer.samples().encode(encoder, sample).map_err(message))
                    };
                    let active = ready.and_then(encode).map(|rows| Arc::new(SampleActivations { rows }));
                    Some(ActivationReply::Active(sample, active))
                }
                Task::Explanations(sample) => {
                    let explain = |(explainer, encoder): (&mut Explainer, &Encoder)| {
                        guarded(|| explanations(explainer, encoder, rows, sample))
                    };
                    Some(ActivationReply::Explanations(sample, ready.and_then(explain)))
                }
            };
            if let Some(reply) = reply {
                // The window may be gone; then `quit` comes next.
                let _ = sender.send(reply);
                wake();
            }
            task = next();
        }
    });
}

/// The features that fire, by the principal components of their directions.
fn layout(saved: &Saved, rows: &[FeatureRow]) -> Result<Arc<DecoderLayout>, String> {
    let fire: Vec<u32> = rows.iter().filter(|row| row.fires > 0).map(|row| row.feature).collect();
    guarded(|| Ok(Arc::new(decoder_layout(&saved.weights, &fire))))
}

fn direction(saved: &Saved, feature: u32) -> Result<DecoderDirection, String> {
    let features = saved.weights.d_sae;
    if feature as usize >= features {
        return Err(format!("There is no feature {feature}; the autoencoder has {features}."));
    }
    let values = saved.weights.direction(feature as usize).to_vec();
    Ok(DecoderDirection { hook: saved.origin.hook.clone(), values })
}

fn open(root: &Path, sae: &str) -> Result<(Saved, Explainer), String> {
    let run = Run::open(root).map_err(|error| error.message())?;
    let saved = formats::load(&run.sae_dir(sae)).map_err(|error| error.message())?;
    let explainer = Explainer::open(&run, sae, &saved).map_err(message)?;
    Ok((saved, explainer))
}

/// The explanations of a sample's scores, those of the most telling scores first (docs/SCORES.md). A score that cannot be
/// explained has the reason in place of its parts.
fn explanations(
    explainer: &mut Explainer,
    encoder: &Encoder,
    rows: &[FeatureRow],
    sample: u32,
) -> Result<Vec<ScoreExplanation>, String> {
    let mut found = Vec::new();
    for score in [PMI_BLANK, PMI] {
        let parts = explainer.pmi(encoder, sample, score).map_err(message).transpose();
        found.extend(parts.map(|explanation| ScoreExplanation {
            score: score.into(),
            parts: explanation.map(|found| largest(found.carried.iter().chain(&found.sank).map(joint_part).collect())),
        }));
    }
    let weights = explainer.weights(encoder, sample, rows).map_err(message)?;
    found.extend(weights.into_iter().rev().map(|(definition, weighted)| {
        let part = |feature: u32, amount| ScorePart {
            amount,
            features: [vec![PartFeature { feature, active: true }], Vec::new()],
        };
        let parts = weighted.into_iter().map(|weighted| part(weighted.feature, weighted.weight));
        ScoreExplanation { score: score_names::column(COSINE, definition), parts: Ok(largest(parts.collect())) }
    }));
    found.retain(|explanation| explanation.parts.as_ref().map_or(true, |parts| !parts.is_empty()));
    Ok(found)
}

fn joint_part(component: &Component) -> ScorePart {
    let features = |side: &[Contribution]| {
        let feature = |part: &Contribution| PartFeature { feature: part.feature, active: part.active };
        side.iter().take(FEATURES).map(feature).collect()
    };
    ScorePart {
        amount: component.nats,
        features: [features(&component.image_features), features(&component.text_features)],
    }
}

fn largest(mut parts: Vec<ScorePart>) -> Vec<ScorePart> {
    parts.sort_by(|a, b| b.amount.abs().total_cmp(&a.amount.abs()));
    parts.truncate(PARTS);
    parts
}
