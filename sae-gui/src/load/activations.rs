//! The worker that sees with the autoencoder: encodes samples of the store, so that heat maps need not be kept anywhere, and
//! finds the features that carry a sample's scores. Holds the encoder.

use super::guarded;
use super::mailbox::{Desk, Worker};
use super::stored::Stored;
use crate::state::data::{Active, Contribution, Reason};
use filters::align::align_samples;
use filters::pmi::{self, BLANK_DIR};
use filters::pooling::{PooledSample, PooledStore};
use filters::score_names::{PMI, PMI_BLANK};
use filters::{Definition, scaled_threshold};
use sae_core::Run;
use sae_core::analysis::index::FeatureRow;
use sae_core::autoencoder::Encoder;
use sae_core::autoencoder::formats::{self, Saved};
use sae_core::device::DeviceChoice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Parts of a score that are told.
const PARTS: usize = 8;

/// What was seen in a sample.
pub enum Seen {
    /// What fires where.
    Active(u32, Result<Arc<Active>, String>),
    /// What carries its scores.
    Reasons(u32, Result<Vec<Reason>, String>),
}

#[derive(Default)]
struct Wanted {
    active: Vec<u32>,
    reasons: Option<u32>,
    quit: bool,
}

enum Task {
    Active(u32),
    Reasons(u32),
    Quit,
}

/// The window's end of the worker, for one run.
pub struct Sight {
    worker: Worker<Wanted>,
    seen: Receiver<Seen>,
}

impl Sight {
    /// Starts the worker for an autoencoder of a run. `rows` are its features with their weights, `threshold` is the one of the
    /// scores, `wake` is called after every reply.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        root: PathBuf,
        sae: String,
        rows: Vec<FeatureRow>,
        wake: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, seen) = channel();
        let quit = |wanted: &mut Wanted| wanted.quit = true;
        let worker =
            Worker::start("activations", quit, false, move |desk| work(desk, &root, &sae, &rows, &sender, &wake))?;
        Ok(Self { worker, seen })
    }

    /// Asks what fires in these samples, and no longer in others; and what carries the scores of one.
    pub fn want(&self, active: Vec<u32>, reasons: Option<u32>) {
        self.worker.change(|wanted| (wanted.active, wanted.reasons) = (active, reasons));
    }

    /// What has been seen since the last call.
    pub fn seen(&self) -> impl Iterator<Item = Seen> {
        self.seen.try_iter()
    }
}

fn first(wanted: &mut Wanted) -> Option<Task> {
    if wanted.quit {
        return Some(Task::Quit);
    }
    if !wanted.active.is_empty() {
        return Some(Task::Active(wanted.active.remove(0)));
    }
    wanted.reasons.take().map(Task::Reasons)
}

fn work(desk: &Desk<Wanted>, root: &Path, sae: &str, rows: &[FeatureRow], sender: &Sender<Seen>, wake: &impl Fn()) {
    let next = || desk.next(Duration::from_secs(3600), first);
    // Nothing is loaded before something is wanted.
    let mut task = next();
    let opened = match task {
        Some(Task::Quit) => return,
        _ => guarded(|| open(root, sae)),
    };
    let device = DeviceChoice::Auto.open().map_err(|error| error.message());
    // The encoder borrows the weights, the rest is changed by what it reads.
    let (saved, mut opened) = match opened {
        Ok((saved, opened)) => (Ok(saved), Ok(opened)),
        Err(reason) => (Err(reason.clone()), Err(reason)),
    };
    let encoder = saved.and_then(|saved: Saved| Ok((saved, device?)));
    let encoder = encoder.as_ref().map(|(saved, device)| Encoder::new(&saved.weights, device));
    loop {
        let ready = opened.as_mut().map_err(|reason| reason.clone());
        let ready = ready.and_then(|opened| Ok((opened, encoder.as_ref().map_err(|reason| (*reason).clone())?)));
        let seen = match task {
            None => None,
            Some(Task::Quit) => return,
            Some(Task::Active(sample)) => {
                let active = ready.and_then(|(opened, encoder)| guarded(|| opened.own.active(encoder, sample)));
                Some(Seen::Active(sample, active.map(Arc::new)))
            }
            Some(Task::Reasons(sample)) => {
                let reasons = ready.and_then(|(opened, encoder)| guarded(|| opened.reasons(encoder, rows, sample)));
                Some(Seen::Reasons(sample, reasons))
            }
        };
        if let Some(seen) = seen {
            // The window may be gone; then `quit` comes next.
            let _ = sender.send(seen);
            wake();
        }
        task = next();
    }
}

struct LoadedSae {
    run: Run,
    sae: String,
    d_sae: usize,
    own: Stored,
    /// The same samples under white images, if they were captured, or why they cannot be read: perhaps a harvest is at it.
    blank: Option<Result<Stored, String>>,
    threshold: f32,
}

fn open(root: &Path, sae: &str) -> Result<(Saved, LoadedSae), String> {
    let said = |error: sae_core::Error| error.message();
    let run = Run::open(root).map_err(said)?;
    let saved = formats::load(&run.sae_dir(sae)).map_err(said)?;
    let stored = |root: &Path| {
        let run = Run::open(root).map_err(said)?;
        Stored::open(run, &saved.origin.hook, saved.weights.d_in)
    };
    let own = stored(root)?;
    let blank = Some(root.join(BLANK_DIR)).filter(|root| root.is_dir());
    let blank = blank.map(|root| stored(&root).map_err(|error| format!("{}: {error}", root.display())));
    let scored: Option<serde_json::Value> = run.read_step(&format!("score/{sae}")).map_err(said)?;
    let threshold = scored.and_then(|step| step.get("threshold")?.as_f64()).map(|threshold| threshold as f32);
    let threshold = threshold.unwrap_or_else(|| scaled_threshold(saved.weights.d_in));
    let d_sae = saved.weights.d_sae;
    Ok((saved, LoadedSae { run, sae: sae.into(), d_sae, own, blank, threshold }))
}

/// A mode with where its weights stand.
type Weighed = (Definition, fn(&FeatureRow) -> Option<f64>);

/// Modes whose weights add up to a score.
const WEIGHED: [Weighed; 3] = [
    (Definition::Paper, |row| row.weight_paper),
    (Definition::Release, |row| row.weight_release),
    (Definition::Corrected, |row| row.weight_corrected),
];

impl LoadedSae {
    /// What carries the scores of a sample: weights of active features, and components of `pmi` and `pmi_blank` where there
    /// are fits.
    fn reasons(&mut self, encoder: &Encoder, rows: &[FeatureRow], sample: u32) -> Result<Vec<Reason>, String> {
        let d_sae = self.d_sae;
        let own = self.own.pooled(encoder, sample, d_sae, self.threshold)?;
        let mut reasons = Vec::new();
        let number = sample as usize;
        if let Some(pooled) = one(&own, number)? {
            reasons.extend(WEIGHED.map(|(mode, weight)| {
                let counted = pooled.active(mode).filter(|(_, sides)| mode != Definition::Release || sides.both());
                let weighed = counted.filter_map(|(k, _)| Some((k, weight(rows.get(k as usize)?)?)));
                let parts = weighed.map(|(k, adds)| Contribution { adds, features: vec![(k, true)] });
                Reason {
                    score: format!("cosine_{}", mode.name()),
                    meaning: "Weights of the active features, which the score adds up",
                    parts: largest(parts.collect()),
                    missing: None,
                }
            }));
            reasons.extend(told(PMI, self.components(PMI, sample, &pooled)));
        }
        reasons.extend(told(PMI_BLANK, self.blank(encoder, sample, &own)));
        reasons.retain(|reason| reason.missing.is_some() || !reason.parts.is_empty());
        // What tells most comes first (docs/SCORES.md).
        reasons.reverse();
        Ok(reasons)
    }

    /// What carries `pmi_blank`, of the sample's image with its text as it is read apart.
    fn blank(&mut self, encoder: &Encoder, sample: u32, own: &PooledStore) -> Result<Option<Reason>, String> {
        if !self.fits(PMI_BLANK).is_file() {
            return Ok(None);
        }
        let Some(blank) = &mut self.blank else { return Ok(None) };
        let blank = blank.as_mut().map_err(|reason| reason.clone())?;
        let (number, own_sample, others) = (sample as usize, self.own.sample(sample)?, blank.samples()?);
        // Mostly they stand at the same number; to look for one costs as much as to look for all.
        let same = others.get(number).filter(|o| (&o.source, &o.key) == (&own_sample.source, &own_sample.key));
        let found = same.map(|_| number).or_else(|| align_samples(std::slice::from_ref(own_sample), others)[0]);
        let Some(other) = found else { return Ok(None) };
        let texts = blank.pooled(encoder, other as u32, self.d_sae, self.threshold)?;
        let mut pair = vec![None; number + 1];
        pair[number] = Some(other);
        let joined = own.with_text(&texts, &pair, &std::env::temp_dir()).map_err(|error| error.message())?;
        match one(&joined, number)? {
            Some(pooled) => self.components(PMI_BLANK, sample, &pooled),
            None => Ok(None),
        }
    }

    /// Where the fits behind a column lie.
    fn fits(&self, column: &str) -> PathBuf {
        self.run.scores(&self.sae).with_extension(format!("{column}.safetensors"))
    }

    /// The components that carry a sample's score in a column of fits, if there are fits.
    fn components(&self, column: &str, sample: u32, pooled: &PooledSample) -> Result<Option<Reason>, String> {
        let path = self.fits(column);
        if !path.is_file() {
            return Ok(None);
        }
        let folds = pmi::read(&path).map_err(|error| error.message())?;
        let mut features = folds.whole.chosen.features.iter().flatten();
        if features.any(|k| *k as usize >= self.d_sae) {
            return Err(format!("the fit is of another autoencoder: {}", path.display()));
        }
        let Some(explanation) = pmi::explain(folds.of(self.own.sample(sample)?), pooled) else { return Ok(None) };
        let components = explanation.carried.iter().chain(explanation.sank.iter().rev());
        let parts = components.map(|component| Contribution {
            adds: component.nats,
            features: [&component.image_features, &component.text_features]
                .into_iter()
                .flat_map(|features| features.iter().take(3).map(|part| (part.feature, part.active)))
                .collect(),
        });
        Ok(Some(Reason {
            score: column.into(),
            meaning: "Nats of the components that count most, with the image's and the text's features in each",
            parts: largest(parts.collect()),
            missing: None,
        }))
    }
}

/// What carries a score, or a word on why that cannot be told; other scores are told all the same.
fn told(score: &str, found: Result<Option<Reason>, String>) -> Option<Reason> {
    found.unwrap_or_else(|why| Some(Reason { score: score.into(), missing: Some(why), ..Reason::default() }))
}

/// A sample of a pool, if it has positions.
fn one(pooled: &PooledStore, number: usize) -> Result<Option<PooledSample>, String> {
    let mut found = None;
    let see = |n: usize, sample: &PooledSample| {
        if n == number && sample.positions != [0; 2] {
            found = Some(sample.clone());
        }
        Ok::<_, sae_core::Error>(())
    };
    pooled.each(see).map_err(|error| error.message())?;
    Ok(found)
}

fn largest(mut parts: Vec<Contribution>) -> Vec<Contribution> {
    parts.sort_by(|a, b| b.adds.abs().total_cmp(&a.adds.abs()));
    parts.truncate(PARTS);
    parts
}
