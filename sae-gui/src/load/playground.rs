//! The worker that runs the model of a run on a text of the person's own. Loads model and autoencoder when it is first asked,
//! and keeps them until the run is closed.

use super::mailbox::{Desk, Worker};
use super::{guarded, sample_image};
use crate::state::data::{Active, TokenView};
use crate::state::playground::{Answer, GoesOn, Question, Steer};
use harvest::{ComputeDtype, Continuation, Playground, Prepared, Templating};
use sae_core::Run;
use sae_core::autoencoder::formats::{self, Saved};
use sae_core::autoencoder::sparse::Sparse;
use sae_core::autoencoder::{Encoder, Weights};
use sae_core::device::DeviceChoice;
use sae_core::store::{STEP, StoreRecord};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Words that the model goes on for.
const WORDS: usize = 16;
/// Next words that are told.
const TOP: usize = 8;

#[derive(Default)]
struct Wanted {
    question: Option<Question>,
    quit: bool,
}

/// The window's end of the worker, for one run.
pub struct Tried {
    worker: Worker<Wanted>,
    answers: Receiver<Result<Answer, String>>,
}

impl Tried {
    /// Starts the worker for an autoencoder of a run; `wake` is called after every answer.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(root: PathBuf, sae: String, wake: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (sender, answers) = channel();
        let quit = |wanted: &mut Wanted| wanted.quit = true;
        let worker = Worker::start("trial", quit, false, move |desk| work(desk, &root, &sae, &sender, &wake))?;
        Ok(Self { worker, answers })
    }

    /// Asks.
    pub fn ask(&self, question: Question) {
        self.worker.change(|wanted| wanted.question = Some(question));
    }

    /// What was answered since the last call.
    pub fn answers(&self) -> impl Iterator<Item = Result<Answer, String>> {
        self.answers.try_iter()
    }
}

fn work(desk: &Desk<Wanted>, root: &Path, sae: &str, sender: &Sender<Result<Answer, String>>, wake: &impl Fn()) {
    let first = |wanted: &mut Wanted| match wanted.quit {
        true => Some(None),
        false => wanted.question.take().map(Some),
    };
    let next = || loop {
        if let Some(task) = desk.next(Duration::from_secs(3600), first) {
            return task;
        }
    };
    let Some(mut question) = next() else { return };
    let opened = guarded(|| open(root, sae));
    let device = DeviceChoice::Auto.open().map_err(|error| error.message());
    let ready = opened.as_ref().map_err(Clone::clone).and_then(|(saved, probe)| {
        Ok((saved, probe, Encoder::new(&saved.weights, device.as_ref().map_err(Clone::clone)?)))
    });
    loop {
        let answer = match &ready {
            Ok((saved, probe, encoder)) => guarded(|| answer(&saved.weights, probe, encoder, &question)),
            Err(reason) => Err(reason.clone()),
        };
        // The window may be gone; then `quit` comes next.
        let _ = sender.send(answer);
        wake();
        match next() {
            Some(other) => question = other,
            None => return,
        }
    }
}

fn open(root: &Path, sae: &str) -> Result<(Saved, Playground), String> {
    let said = |error: sae_core::Error| error.message();
    let run = Run::open(root).map_err(said)?;
    let harvest: Option<StoreRecord> = run.read_step(STEP).map_err(said)?;
    let arguments = harvest.map(|harvest| harvest.spec.arguments).unwrap_or_default();
    let text = |name: &str| arguments.get(name).and_then(|value| value.as_str());
    let folder = text("model_folder").ok_or("run.json does not say where the model is, so there is nothing to run")?;
    let folder = Path::new(folder);
    if !folder.is_dir() {
        let folder = folder.display();
        return Err(format!("the model is not where it was when the run was made\nhint: put it back: {folder}"));
    }
    let dtype = text("dtype").unwrap_or("f32").parse::<ComputeDtype>()?;
    let template = text("template").unwrap_or("auto").parse::<Templating>()?;
    let saved = formats::load(&run.sae_dir(sae)).map_err(said)?;
    let probe = Playground::open(folder, saved.origin.layer, DeviceChoice::Auto, dtype, template);
    Ok((saved, probe.map_err(|error| error.message())?))
}

fn answer(weights: &Weights, probe: &Playground, encoder: &Encoder, question: &Question) -> Result<Answer, String> {
    let said = |error: harvest::Error| error.message();
    let images: Vec<PathBuf> = question.image.iter().cloned().collect();
    let prepared = probe.prepare(question.text.trim(), &images)?;
    let hidden = probe.hidden(&prepared).map_err(said)?;
    if hidden.len() != prepared.tokens.len() * weights.d_in {
        return Err(format!(
            "the autoencoder reads activations of width {}, but the model has a different width",
            weights.d_in
        ));
    }
    let rows = encoder.encode(&hidden).map_err(|error| error.message())?;
    if let Some(steer) = question.steers.iter().find(|steer| steer.feature as usize >= weights.d_sae) {
        return Err(format!("there is no feature {}; the autoencoder has {}", steer.feature, weights.d_sae));
    }
    let off = probe.generate(&prepared, &|_| Ok(()), WORDS, TOP).map_err(said)?;
    let steered = |hidden: &mut [f32]| {
        let active = encoder.encode(hidden)?;
        steer(weights, &active, &question.steers, &prepared, hidden);
        Ok(())
    };
    let on = match question.steers.is_empty() {
        true => None,
        false => Some(goes_on(probe.generate(&prepared, &steered, WORDS, TOP).map_err(said)?)),
    };
    Ok(Answer {
        tokens: prepared.tokens.iter().map(token).collect(),
        picture: images.first().map(|path| sample_image::open(path)).transpose()?,
        active: Arc::new(Active { rows }),
        off: goes_on(off),
        on,
    })
}

/// Sets features at every position with content, those of new words included: adds what the reconstruction changes by.
fn steer(weights: &Weights, active: &Sparse, steers: &[Steer], prepared: &Prepared, hidden: &mut [f32]) {
    let d = weights.d_in;
    let (mut own, mut set) = (vec![0.0; d], vec![0.0; d]);
    for (row, x) in hidden.chunks_exact_mut(d).enumerate() {
        if prepared.tokens.get(row).is_some_and(|token| token.special) {
            continue;
        }
        let (features, values) = active.row(row);
        weights.decode(x, features, values, &mut own);
        let kept = features.iter().zip(values).filter(|(k, _)| !steers.iter().any(|steer| steer.feature == **k));
        let (features, values): (Vec<u32>, Vec<f32>) =
            kept.map(|(k, z)| (*k, *z)).chain(steers.iter().map(|steer| (steer.feature, steer.strength))).unzip();
        weights.decode(x, &features, &values, &mut set);
        x.iter_mut().zip(set.iter().zip(&own)).for_each(|(x, (set, own))| *x += set - own);
    }
}

fn token(token: &sae_core::store::sample::Token) -> TokenView {
    TokenView {
        position: token.position,
        modality: token.modality,
        piece: token.piece.clone(),
        special: token.special,
        image: token.image.and_then(|image| usize::try_from(image).ok()),
        rect: token.rect,
    }
}

fn goes_on(continuation: Continuation) -> GoesOn {
    let next = continuation.next.into_iter().map(|next| (next.word, next.probability)).collect();
    GoesOn { next, words: continuation.words }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::autoencoder::Activation;

    #[test]
    fn setting_a_feature_changes_the_states_by_its_direction_alone() {
        let weights = Weights {
            d_in: 2,
            d_sae: 2,
            w_enc: vec![1.0, 0.0, 0.0, 1.0],
            b_enc: vec![0.0; 2],
            w_dec: vec![1.0, 0.0, 0.0, 1.0],
            b_dec: vec![5.0, 5.0],
            activation: Activation::Relu,
            ..Weights::default()
        };
        let active = Sparse::from_dense(&[3.0, 0.5, 0.0, 2.0], 2);
        let prepared = Prepared {
            sample: sae_core::store::sample::Sample {
                id: String::new(),
                key: String::new(),
                text: String::new(),
                images: vec![],
                source: String::new(),
                meta: serde_json::Value::Null,
            },
            tokens: vec![],
            frames: vec![],
        };
        // What the autoencoder does not explain stays as it is.
        let mut hidden = [3.5, 0.25, 0.0, 2.0];
        steer(&weights, &active, &[Steer { feature: 0, strength: 1.0 }], &prepared, &mut hidden);
        assert_eq!(hidden, [1.5, 0.25, 1.0, 2.0]);
        steer(
            &weights,
            &Sparse::from_dense(&[1.0, 0.25, 1.0, 2.0], 2),
            &[Steer { feature: 1, strength: 0.0 }],
            &prepared,
            &mut hidden,
        );
        assert_eq!(hidden, [1.5, 0.0, 1.0, 0.0]);
    }
}
