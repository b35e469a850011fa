//! The devices of a harvest, each with a copy of the model. Batches are dealt to them in turn, so that one run has the batches of
//! all of them, in the order of the data. A device that fails is left out, and the others do its batches.

use crate::checkpoint::Checkpoint;
use crate::data::Notes;
use crate::model::{Compute, Hidden, Model};
use crate::{Error, Plan, Result};
use burn::tensor::Device;
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use std::sync::atomic::{AtomicBool, Ordering};

/// Models on the devices of a plan.
pub(crate) struct Devices {
    models: Vec<Model>,
    names: Vec<String>,
    failed: Vec<AtomicBool>,
    notes: Notes,
}

impl Devices {
    /// Loads the model up to the hook `last` on every device of the plan.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load(checkpoint: &Checkpoint, plan: &Plan, devices: &[Device], last: Hook) -> Result<Self> {
        let names: Vec<String> = plan.devices()?.iter().map(DeviceChoice::to_string).collect();
        let models = devices.iter().map(|device| checkpoint.load_to(last, &Compute::on(device, plan.dtype.into())));
        let failed = names.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self { models: models.collect::<Result<_>>()?, names, failed, notes: plan.notes.clone() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.models.len()
    }

    /// Runs a model on a device: the `turn`-th one in turn, or the next one that works. Every failure is noted.
    ///
    /// # Errors
    /// Those of `run`. An error of a device is returned only if no device works any more.
    pub fn run(&self, turn: usize, run: impl Fn(&Model) -> Result<Hidden>) -> Result<Hidden> {
        let note = |device: usize, error: &Error| {
            self.notes
                .add(format!("{} failed, and the other devices continue without it: {error}", self.names[device]));
        };
        on_any(&self.failed, turn, |device| run(&self.models[device]), note)
    }
}

/// Calls `run` with the number of a device that has not failed, and with the next one if its result is that the device failed,
/// which `note` gets.
fn on_any<T>(
    failed: &[AtomicBool],
    turn: usize,
    run: impl Fn(usize) -> Result<T>,
    note: impl Fn(usize, &Error),
) -> Result<T> {
    let mut last = Error::from(sae_core::Error::device("no device is left that works"));
    for device in (0..failed.len()).map(|n| (turn + n) % failed.len()) {
        if failed[device].load(Ordering::SeqCst) {
            continue;
        }
        match run(device) {
            Err(error) if matches!(error, Error::Core(sae_core::Error::Device(_))) => {
                // Several batches may find the same failure; it is noted once.
                if !failed[device].swap(true, Ordering::SeqCst) && failed.len() > 1 {
                    note(device, &error);
                }
                last = error;
            }
            result => return result,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn the_batches_of_a_device_that_fails_are_done_by_the_others() {
        let failed = [(); 3].map(|()| AtomicBool::new(false));
        let notes = Mutex::new(Vec::new());
        let broken = Mutex::new(vec![1]);
        let run = |device: usize| -> Result<usize> {
            if broken.lock().unwrap().contains(&device) {
                return Err(sae_core::Error::device("it fell off the bus").into());
            }
            Ok(device)
        };
        let note = |device: usize, error: &Error| notes.lock().unwrap().push((device, error.to_string()));
        let batches = |turns: std::ops::Range<usize>| -> Vec<_> {
            turns.map(|turn| on_any(&failed, turn, run, note).map_err(|error| error.to_string())).collect()
        };
        assert_eq!(batches(0..6), [Ok(0), Ok(2), Ok(2), Ok(0), Ok(2), Ok(2)]);
        assert_eq!(notes.lock().unwrap().iter().map(|(device, _)| *device).collect::<Vec<_>>(), [1]);
        assert!(notes.lock().unwrap()[0].1.contains("it fell off the bus"));
        broken.lock().unwrap().extend([0, 2]);
        let [last, none] = &batches(0..2)[..] else { panic!("two batches") };
        assert!(last.as_ref().unwrap_err().contains("it fell off the bus"));
        assert!(none.as_ref().unwrap_err().contains("no device is left"));
        assert_eq!(notes.lock().unwrap().len(), 3);
    }

    #[test]
    fn other_errors_are_not_taken_for_those_of_a_device() {
        let failed = [(); 2].map(|()| AtomicBool::new(false));
        let result: Result<()> = on_any(&failed, 0, |_| Err(Error::NoHook), |_, _| panic!("no device failed"));
        assert!(matches!(result, Err(Error::NoHook)));
        assert!(failed.iter().all(|failed| !failed.load(Ordering::SeqCst)));
    }
}
