//! The features that fire in samples, computed from the store by one thread, because an encoder is large and a page must not wait
//! for it: pages take what is there in time. Keeps the activations of the samples that were asked for last.

use super::problem::Problem;
use crate::sample_activations::SampleActivations;
use sae_core::Run;
use sae_core::autoencoder::Encoder;
use sae_core::autoencoder::formats;
use sae_core::autoencoder::sparse::Sparse;
use sae_core::device::DeviceChoice;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of activations that are kept at most.
const KEPT: usize = 64 << 20;
/// Samples that wait at most. What was asked for last comes first, and what nobody looks at any more is forgotten.
const WAITING: usize = 128;

/// The activations of an autoencoder, sample by sample.
pub struct Activations {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Samples to compute, the next one last.
    wanted: Vec<u32>,
    /// Those that were computed, the newest first; or why one cannot be.
    known: VecDeque<(u32, Result<Arc<Sparse>, String>)>,
    /// Why nothing can be computed.
    failure: Option<String>,
    quit: bool,
}

impl State {
    fn of(&self, sample: u32) -> Option<&Result<Arc<Sparse>, String>> {
        self.known.iter().find(|(known, _)| *known == sample).map(|(_, active)| active)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-done in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Activations {
    /// Starts the thread. It reads the weights when it is asked for the first sample.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(run: &Run, sae: &str, device: DeviceChoice) -> Result<Self, Problem> {
        let shared = Arc::new(Shared::default());
        let (run, sae, own) = (run.clone(), sae.to_owned(), shared.clone());
        let work = move || {
            let failed = match catch_unwind(AssertUnwindSafe(|| work(&run, &sae, device, &own))) {
                Ok(Ok(())) => return,
                Ok(Err(problem)) => problem.to_string(),
                Err(_) => "a file of the store or of the autoencoder is damaged".into(),
            };
            own.lock().failure = Some(failed);
            own.changed.notify_all();
        };
        let started = thread::Builder::new().name("activations".into()).spawn(work);
        started.map_err(|error| Problem::failed(format!("the system gives no thread: {error}")))?;
        Ok(Self { shared })
    }

    /// The activations of those of the samples that are known by then. The others are computed afterwards.
    ///
    /// # Errors
    /// Nothing can be computed, or not for one of the samples.
    pub fn of(&self, samples: &[u32], wait: Duration) -> Result<BTreeMap<u32, Arc<Sparse>>, Problem> {
        let until = Instant::now() + wait;
        let mut state = self.shared.lock();
        let missing: Vec<u32> = samples.iter().rev().copied().filter(|sample| state.of(*sample).is_none()).collect();
        state.wanted.retain(|sample| !missing.contains(sample));
        state.wanted.extend(missing);
        let surplus = state.wanted.len().saturating_sub(WAITING);
        state.wanted.drain(..surplus);
        self.shared.changed.notify_all();
        loop {
            if let Some(failure) = &state.failure {
                return Err(Problem::unavailable(failure.clone()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || samples.iter().all(|sample| state.of(*sample).is_some()) {
                break;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut found = BTreeMap::new();
        for sample in samples {
            match state.of(*sample) {
                Some(Ok(active)) => drop(found.insert(*sample, active.clone())),
                Some(Err(failure)) => return Err(Problem::unavailable(failure.clone())),
                None => {}
            }
        }
        Ok(found)
    }
}

impl Drop for Activations {
    fn drop(&mut self) {
        self.shared.lock().quit = true;
        self.shared.changed.notify_all();
    }
}

/// The next sample to compute; nothing once nobody will ask any more.
fn next(shared: &Shared) -> Option<u32> {
    let mut state = shared.lock();
    loop {
        if state.quit {
            return None;
        }
        if let Some(sample) = state.wanted.pop() {
            return Some(sample);
        }
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn work(run: &Run, sae: &str, device: DeviceChoice, shared: &Shared) -> Result<(), Problem> {
    let Some(mut sample) = next(shared) else { return Ok(()) };
    let saved = formats::load(&run.sae_dir(sae))?;
    let mut store = SampleActivations::open(run.clone(), &saved.origin.hook, saved.weights.d_in)?;
    let encoder = Encoder::new(&saved.weights, &device.open()?);
    loop {
        let active = store.encode(&encoder, sample).map(Arc::new).map_err(|error| Problem::from(error).to_string());
        let mut state = shared.lock();
        state.known.push_front((sample, active));
        let mut bytes = 0;
        state.known.retain(|(_, active)| {
            bytes += active.as_ref().map_or(0, |active| 8 * (active.len() + active.rows()));
            bytes <= KEPT
        });
        drop(state);
        shared.changed.notify_all();
        match next(shared) {
            Some(next) => sample = next,
            None => return Ok(()),
        }
    }
}
