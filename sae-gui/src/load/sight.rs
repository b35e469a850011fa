//! The worker that sees with the autoencoder: encodes samples of the store, so that heat maps need not be kept anywhere, and
//! finds the features that carry a sample's scores. Holds the encoder and the token columns of [`TABLES`] parts.

use super::desk::{Desk, Worker};
use super::guarded;
use crate::state::data::{Active, Part, Reason};
use filters::pmi::{self, Folds};
use filters::pool::Pool;
use filters::{Mode, scaled_threshold};
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::formats::{self, Saved};
use sae_core::index::FeatureRow;
use sae_core::pass::{Block, Observer};
use sae_core::sae::Encoder;
use sae_core::sample::Sample;
use sae_core::store::{STEP, Store, StoreRecord, TokenColumns, load_samples};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Token columns kept. A part of 65,536 positions takes about 0.7 MB.
const TABLES: usize = 4;
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
        let worker = Worker::start("sight", quit, false, move |desk| work(desk, &root, &sae, &rows, &sender, &wake))?;
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

fn work(
    desk: &Desk<Wanted>,
    root: &std::path::Path,
    sae: &str,
    rows: &[FeatureRow],
    sender: &Sender<Seen>,
    wake: &impl Fn(),
) {
    let next = || desk.next(Duration::from_secs(3600), first);
    // Nothing is loaded before something is wanted.
    let mut task = next();
    let opened = match task {
        Some(Task::Quit) => return,
        _ => guarded(|| open(root, sae)),
    };
    let device = DeviceChoice::Auto.open().map_err(|error| error.to_string());
    let ready =
        opened.as_ref().map_err(Clone::clone).and_then(|opened| Ok((opened, device.as_ref().map_err(Clone::clone)?)));
    let ready = ready.map(|(opened, device)| (opened, Encoder::new(&opened.saved.weights, device)));
    let mut tables = VecDeque::new();
    loop {
        let seen = match task {
            None => None,
            Some(Task::Quit) => return,
            Some(Task::Active(sample)) => Some(Seen::Active(
                sample,
                match &ready {
                    Ok((opened, encoder)) => guarded(|| Ok(Arc::new(opened.encode(encoder, &mut tables, sample)?.2))),
                    Err(reason) => Err(reason.clone()),
                },
            )),
            Some(Task::Reasons(sample)) => Some(Seen::Reasons(
                sample,
                match &ready {
                    Ok((opened, encoder)) => guarded(|| opened.reasons(encoder, &mut tables, rows, sample)),
                    Err(reason) => Err(reason.clone()),
                },
            )),
        };
        if let Some(seen) = seen {
            // The window may be gone; then `quit` comes next.
            let _ = sender.send(seen);
            wake();
        }
        task = next();
    }
}

struct Opened {
    run: Run,
    sae: String,
    saved: Saved,
    store: Store,
    /// Number of the sample behind the last one of each part.
    ends: Vec<u64>,
    threshold: f32,
    /// Read when the first reasons are asked for.
    samples: OnceCell<Result<Vec<Sample>, String>>,
}

fn open(root: &std::path::Path, sae: &str) -> Result<Opened, String> {
    let said = |error: sae_core::Error| error.to_string();
    let run = Run::open(root).map_err(said)?;
    let saved = formats::load(&run.sae(sae)).map_err(said)?;
    let store = Store::open(&run, &saved.origin.hook).map_err(said)?;
    if store.manifest().d_in != saved.weights.d_in {
        let (own, there) = (saved.weights.d_in, store.manifest().d_in);
        return Err(format!("the autoencoder reads width {own}, the activations have {there}"));
    }
    let harvest: Option<StoreRecord> = run.noted(STEP).map_err(said)?;
    let harvest = harvest.ok_or("run.json does not tell how the store is divided")?;
    let mut end = 0;
    let ends = harvest.parts.iter().map(|part| {
        end += part.samples;
        end
    });
    let ends: Vec<u64> = ends.collect();
    if ends.len() != store.shards() {
        return Err(format!("run.json lists {} parts, the store has {} shards", ends.len(), store.shards()));
    }
    let scored: Option<serde_json::Value> = run.noted(&format!("score/{sae}")).map_err(said)?;
    let threshold = scored.and_then(|step| step.get("threshold")?.as_f64()).map(|threshold| threshold as f32);
    let threshold = threshold.unwrap_or_else(|| scaled_threshold(saved.weights.d_in));
    Ok(Opened { run, sae: sae.into(), saved, store, ends, threshold, samples: OnceCell::new() })
}

/// Token columns by part, the last used first.
type Tables = VecDeque<(usize, TokenColumns)>;

impl Opened {
    /// What fires in a sample, with its part and its rows there.
    fn encode(
        &self,
        encoder: &Encoder,
        tables: &mut Tables,
        sample: u32,
    ) -> Result<(usize, Range<usize>, Active), String> {
        let said = |error: sae_core::Error| error.to_string();
        let part = self.ends.partition_point(|end| *end <= u64::from(sample));
        if part == self.ends.len() {
            return Err(format!("no part of the store holds sample {sample}"));
        }
        match tables.iter().position(|(known, _)| *known == part) {
            Some(at) => tables.rotate_left(at),
            None => {
                let tokens = self.store.tokens(part).map_err(said)?;
                tables.truncate(TABLES - 1);
                tables.push_front((part, tokens));
            }
        }
        let samples = &tables[0].1.sample;
        let rows = samples.partition_point(|s| *s < sample)..samples.partition_point(|s| *s <= sample);
        let mut hidden = Vec::with_capacity(rows.len() * self.store.manifest().d_in);
        self.store.shard(part).map_err(said)?.read(rows.clone(), &mut hidden);
        let active = Active { rows: encoder.encode(&hidden).map_err(said)? };
        Ok((part, rows, active))
    }

    /// What carries the scores of a sample: weights of active features, and components of `pmi` where there is a fit.
    fn reasons(
        &self,
        encoder: &Encoder,
        tables: &mut Tables,
        rows: &[FeatureRow],
        sample: u32,
    ) -> Result<Vec<Reason>, String> {
        let said = |error: filters::Error| error.to_string();
        let core = |error: sae_core::Error| error.to_string();
        let (part, range, active) = self.encode(encoder, tables, sample)?;
        let d_sae = self.saved.weights.d_sae;
        let mut pool = Pool::new(sample as usize + 1, d_sae, self.threshold, &std::env::temp_dir()).map_err(core)?;
        let block = Block { tokens: &tables[0].1, rows: range, shard: part, hidden: &[], active: &active.rows };
        pool.see(&block).map_err(core)?;
        let own = self.sample(sample)?;
        let folds = self.folds()?;
        let mut reasons = Vec::new();
        pool.finish().map_err(core)?.each(|number, pooled| {
            if number == sample as usize {
                for (mode, weight) in [
                    (Mode::Paper, (|row: &FeatureRow| row.weight_paper) as fn(&FeatureRow) -> Option<f64>),
                    (Mode::Release, |row| row.weight_release),
                    (Mode::Corrected, |row| row.weight_corrected),
                ] {
                    let counted = pooled.active(mode).filter(|(_, sides)| mode != Mode::Release || sides.both());
                    let weighed = counted.filter_map(|(k, _)| Some((k, weight(rows.get(k as usize)?)?)));
                    let parts = weighed.map(|(k, adds)| Part { adds, features: vec![(k, true)] });
                    reasons.push(Reason {
                        score: format!("cosine_{}", mode.name()),
                        meaning: "Weights of the active features, which the score adds up",
                        parts: largest(parts.collect()),
                    });
                }
                if let Some(explanation) = folds.as_ref().and_then(|folds| pmi::explain(folds.of(own), pooled)) {
                    let components = explanation.carried.iter().chain(explanation.sank.iter().rev());
                    let parts = components.map(|component| Part {
                        adds: component.nats,
                        features: [&component.image_features, &component.text_features]
                            .into_iter()
                            .flat_map(|features| features.iter().take(3).map(|part| (part.feature, part.active)))
                            .collect(),
                    });
                    reasons.push(Reason {
                        score: "pmi".into(),
                        meaning: "Nats of the components that count most, with the image's and the text's features in each",
                        parts: largest(parts.collect()),
                    });
                }
            }
            Ok::<_, filters::Error>(())
        }).map_err(said)?;
        reasons.retain(|reason| !reason.parts.is_empty());
        Ok(reasons)
    }

    /// A sample: what it holds decides by which fit it is scored.
    fn sample(&self, number: u32) -> Result<&Sample, String> {
        let read = || load_samples(&self.run).map_err(|error| error.to_string());
        let samples = self.samples.get_or_init(read).as_ref().map_err(Clone::clone)?;
        samples.get(number as usize).ok_or_else(|| format!("the run has no sample {number}, only {}", samples.len()))
    }

    /// The fits behind `pmi`, if there are any and they are of this autoencoder.
    fn folds(&self) -> Result<Option<Folds>, String> {
        let path = self.run.scores(&self.sae).with_extension("pmi.safetensors");
        if !path.is_file() {
            return Ok(None);
        }
        let folds = pmi::read(&path).map_err(|error| error.to_string())?;
        let mut features = folds.whole.chosen.features.iter().flatten();
        match features.any(|k| *k as usize >= self.saved.weights.d_sae) {
            true => Err(format!("the fit is of another autoencoder: {}", path.display())),
            false => Ok(Some(folds)),
        }
    }
}

fn largest(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by(|a, b| b.adds.abs().total_cmp(&a.adds.abs()));
    parts.truncate(PARTS);
    parts
}
