//! A sample that continues kept keys and values: the same bits as the whole sample, in every family, wherever it is cut.

use crate::checkpoint_copy::{CheckpointCopy, HOST};
use crate::golden::{Golden, relative_error, repository};
use crate::parity;
use burn::tensor::{DType, Device};
use harvest::model::{Compute, Hidden, Input, KvCache, Model, check_input};
use harvest::{Checkpoint, Error};
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use serde_json::json;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The golden folders of all families.
fn families() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(repository().join("tests/golden")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|folder| folder.join("samples.json").exists()).collect();
    folders.sort();
    folders
}

/// The samples of a folder that something follows: all but those that are a prefix as a whole.
fn inputs(golden: &Golden, checkpoint: &Checkpoint) -> Vec<Input> {
    let mut inputs = parity::inputs(golden, checkpoint);
    inputs.retain(|input| input.prefix < input.ids.len());
    inputs
}

/// The positions of each image of a sample.
fn image_positions(checkpoint: &Checkpoint, input: &Input) -> Vec<Range<usize>> {
    let lengths: Vec<usize> = input.images.iter().map(|image| image.sources.len()).collect();
    check_input(checkpoint.config(), &input.ids, &lengths, |id| id.to_string()).unwrap()
}

/// The first `length` positions of a sample.
fn prefix(checkpoint: &Checkpoint, input: &Input, length: usize) -> Input {
    let images = image_positions(checkpoint, input).into_iter().zip(&input.images);
    let images = images.filter(|(rows, _)| rows.end <= length).map(|(_, image)| image.clone()).collect();
    Input { ids: input.ids[..length].to_vec(), images, prefix: input.prefix.min(length) }
}

/// Where a sample may be cut, which is not within an image or a prefix: about one in `parts`.
fn cuts(checkpoint: &Checkpoint, input: &Input, parts: usize) -> Vec<usize> {
    let images = image_positions(checkpoint, input);
    let whole = |at: &usize| !images.iter().any(|rows| rows.start < *at && *at < rows.end);
    let step = (input.ids.len() / parts).max(1);
    let ends = images.iter().flat_map(|rows| [rows.start, rows.end]);
    let mut cuts: Vec<usize> = (1..input.ids.len()).step_by(step).chain(ends).filter(whole).collect();
    cuts.push(input.ids.len() - 1);
    cuts.retain(|at| *at > 0 && *at < input.ids.len() && *at >= input.prefix);
    cuts.extend(Some(input.prefix).filter(|prefix| *prefix > 0));
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// The bits of the last `rows` rows of a sample behind every layer.
fn last_bits(hidden: &Hidden, layers: usize, sample: usize, rows: usize) -> Vec<Vec<u32>> {
    let bits = |layer| {
        let values = hidden.rows(layer, sample);
        values[values.len() - rows * hidden.width()..].iter().map(|x| x.to_bits()).collect()
    };
    (0..layers).map(bits).collect()
}

#[test]
fn a_continued_sample_has_the_bits_of_the_whole_one_in_every_family() {
    let mut compared = 0;
    for folder in families() {
        let golden = Golden::at(&folder);
        let checkpoint = Checkpoint::open(&golden.folder).unwrap();
        let blocks = checkpoint.config().text.layers.len();
        let layers: Vec<Hook> = (0..blocks).map(Hook::block).collect();
        let inputs = inputs(&golden, &checkpoint);
        for bf16 in [false, true] {
            let model = checkpoint.load(Some(blocks - 1), &Compute::Host { bf16 }).unwrap();
            let whole = model.hidden(&inputs.iter().collect::<Vec<_>>(), &layers).unwrap();
            let cuts: Vec<Vec<usize>> = inputs.iter().map(|input| cuts(&checkpoint, input, 4)).collect();
            let mut caches = vec![KvCache::default(); inputs.len()];
            // Cut later and later, then earlier and earlier, all samples in one batch.
            let rounds = cuts.iter().map(Vec::len).max().unwrap();
            for round in (0..rounds).chain((0..rounds).rev()) {
                let ends: Vec<usize> = cuts.iter().map(|cuts| cuts[round.min(cuts.len() - 1)]).collect();
                for (n, end) in ends.iter().enumerate() {
                    caches[n].truncate(*end);
                    if caches[n].ids().len() < *end {
                        let begun = prefix(&checkpoint, &inputs[n], *end);
                        model.hidden_after(&mut [&mut caches[n]], &[&begun], &layers).unwrap();
                    }
                }
                let mut after: Vec<&mut KvCache> = caches.iter_mut().collect();
                let hidden = model.hidden_after(&mut after, &inputs.iter().collect::<Vec<_>>(), &layers).unwrap();
                for (n, (input, end)) in inputs.iter().zip(&ends).enumerate() {
                    let rows = input.ids.len() - end;
                    assert_eq!(hidden.rows(0, n).len(), rows * hidden.width(), "only what is new is computed");
                    let [found, expected] = [&hidden, &whole].map(|hidden| last_bits(hidden, blocks, n, rows));
                    assert!(found == expected, "{} sample {n} after {end} of {}", folder.display(), input.ids.len());
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 500, "{compared} continuations");
}

/// The bits of the log-probabilities of each of `length` tokens that a model generates greedily, with or without kept keys and
/// values. Hidden states behind block `layer` are changed on the way. Images are not generated.
fn generated(model: &Model, input: &Input, layer: usize, length: usize, keeps: bool) -> Vec<Vec<u32>> {
    let (mut input, mut cache) = (input.clone(), KvCache::default());
    let is_text = |id: &u32| model.config().vision.as_ref().is_none_or(|vision| !vision.is_placeholder(*id));
    let step = |_| {
        let mut hidden = if keeps {
            model.hidden_after(&mut [&mut cache], &[&input], &[Hook::block(layer)]).unwrap()
        } else {
            model.hidden(&[&input], &[Hook::block(layer)]).unwrap()
        };
        hidden.rows_mut(0, 0).iter_mut().for_each(|x| *x *= 1.125);
        let log_p = if keeps {
            model.next_after(&mut cache, Hook::block(layer), &input, &hidden).unwrap()
        } else {
            model.next(Hook::block(layer), &input, &hidden).unwrap()
        };
        let ids = (0..log_p.len() as u32).filter(is_text);
        input.ids.extend(ids.max_by(|a, b| log_p[*a as usize].total_cmp(&log_p[*b as usize])));
        log_p.iter().map(|p| p.to_bits()).collect()
    };
    (0..length).map(step).collect()
}

#[test]
fn generation_with_kept_keys_has_the_bits_of_generation_without_in_every_family() {
    for folder in families() {
        let golden = Golden::at(&folder);
        let checkpoint = Checkpoint::open(&golden.folder).unwrap();
        let model = checkpoint.load(None, &HOST).unwrap();
        let input = inputs(&golden, &checkpoint).remove(0);
        let [kept, anew] = [true, false].map(|keeps| generated(&model, &input, 1, 12, keeps));
        assert!(kept == anew, "{}", folder.display());
    }
}

#[test]
fn a_prefix_is_read_as_a_whole() {
    let golden = Golden::open("paligemma-b");
    let checkpoint = Checkpoint::open(&golden.folder).unwrap();
    let model = checkpoint.load(Some(3), &HOST).unwrap();
    let input = inputs(&golden, &checkpoint).remove(0);
    let layers: Vec<Hook> = (0..4).map(Hook::block).collect();
    let whole = model.hidden(&[&input], &layers).unwrap();
    let mut cache = KvCache::default();
    let read = |cache: &mut KvCache, input: &Input| {
        let hidden = model.hidden_after(&mut [cache], &[input], &layers).unwrap();
        (hidden.rows(0, 0).len() / hidden.width(), hidden)
    };
    // A shorter question, then the whole one: what was kept is of no use.
    let shorter = prefix(&checkpoint, &input, input.prefix - 2);
    assert_eq!(read(&mut cache, &shorter).0, input.prefix - 2);
    let (rows, hidden) = read(&mut cache, &input);
    assert_eq!(rows, input.ids.len());
    assert!(last_bits(&hidden, 4, 0, rows) == last_bits(&whole, 4, 0, rows));
    // Cut back within the prefix, and behind it.
    for (at, computed) in [(input.prefix - 1, input.ids.len()), (input.prefix, input.ids.len() - input.prefix)] {
        cache.truncate(at);
        let (rows, hidden) = read(&mut cache, &input);
        assert_eq!(rows, computed, "cut at {at}");
        assert!(last_bits(&hidden, 4, 0, rows) == last_bits(&whole, 4, 0, rows));
    }
    // The later tokens of a prefix change the states of the earlier ones; those of an answer do not.
    let changed = |at: usize| {
        let mut other = input.clone();
        other.ids[at] += 1;
        let other = model.hidden(&[&other], &layers).unwrap();
        other.rows(3, 0)[..other.width()] != whole.rows(3, 0)[..whole.width()]
    };
    assert!(changed(input.prefix - 1) && !changed(input.prefix));
    let long = Input { prefix: input.ids.len() + 1, ..input.clone() };
    let error = model.hidden(&[&long], &layers).unwrap_err().to_string();
    assert!(error.contains("the prefix has"), "{error}");
}

#[test]
fn keys_are_computed_anew_where_their_rotation_depends_on_the_length() {
    let copy = CheckpointCopy::new("text-qwen2");
    copy.edit(|config| {
        config["max_position_embeddings"] = 24.into();
        config["rope_scaling"] = json!({"type": "dynamic", "factor": 4.0});
    });
    let checkpoint = copy.open();
    let model = checkpoint.load(Some(1), &HOST).unwrap();
    let input = |length: u32| Input { ids: (1..=length).collect(), ..Input::default() };
    let mut cache = KvCache::default();
    for (length, computed) in [(20, 20), (24, 4), (30, 30), (31, 31)] {
        let input = input(length);
        let hidden = model.hidden_after(&mut [&mut cache], &[&input], &[Hook::block(1)]).unwrap();
        assert_eq!(hidden.rows(0, 0).len(), computed * hidden.width(), "{length} tokens");
        let whole = model.hidden(&[&input], &[Hook::block(1)]).unwrap();
        assert_eq!(last_bits(&hidden, 1, 0, computed), last_bits(&whole, 1, 0, computed));
    }
}

/// How far a continued sample may be from the whole one, relative to it, where the order of sums is not the same.
const TOLERANCE: f64 = 1e-5;

/// Reads the samples of a folder in parts, on a device with other kernels than those of the CPU, and compares hidden states and
/// what follows them with those of the whole samples.
fn is_continued(folder: &Path, device: &Device) {
    let golden = Golden::at(folder);
    let checkpoint = Checkpoint::open(&golden.folder).unwrap();
    let model = checkpoint.load(None, &Compute::Device(device.clone(), DType::F32)).unwrap();
    let layer = checkpoint.config().text.layers.len() / 2;
    let inputs = inputs(&golden, &checkpoint);
    let read = |caches: &mut [KvCache], inputs: &[Input]| {
        let (mut caches, inputs): (Vec<_>, Vec<_>) = (caches.iter_mut().collect(), inputs.iter().collect());
        let states = model.hidden_after(&mut caches, &inputs, &[Hook::block(layer)]).unwrap();
        let (last, mut logits) = (vec![1; inputs.len()], Vec::new());
        let mut each = |_: usize, _: usize, row: &[f32]| logits.push(row.to_vec());
        model.logits_after(&mut caches, Hook::block(layer), &inputs, &states, &last, &mut each).unwrap();
        // Tokens that are never predicted would hide every other difference.
        logits.iter_mut().flatten().filter(|logit| **logit == f32::MIN).for_each(|logit| *logit = 0.0);
        (states, logits)
    };
    let none = || vec![KvCache::default(); inputs.len()];
    let (whole, expected) = read(&mut none(), &inputs);
    let cuts: Vec<Vec<usize>> = inputs.iter().map(|input| cuts(&checkpoint, input, 2)).collect();
    let places = |place: fn(&[usize]) -> usize| -> Vec<usize> { cuts.iter().map(|cuts| place(cuts)).collect() };
    let (middle, last) = (places(|cuts| cuts[cuts.len() / 2]), places(|cuts| cuts[cuts.len() - 1]));
    let begun: Vec<_> = inputs.iter().zip(&middle).map(|(input, end)| prefix(&checkpoint, input, *end)).collect();
    let mut caches = none();
    read(&mut caches, &begun);
    // After the last cut, what follows is one token, and the rest of what was added before stays.
    for ends in [middle, last] {
        caches.iter_mut().zip(&ends).for_each(|(cache, end)| cache.truncate(*end));
        let (states, logits) = read(&mut caches, &inputs);
        for (n, (input, end)) in inputs.iter().zip(&ends).enumerate() {
            let rows = input.ids.len() - end;
            assert_eq!(states.rows(0, n).len(), rows * states.width(), "only what is new is computed");
            let behind = &whole.rows(0, n)[end * whole.width()..];
            for (what, found, expected) in [("states", states.rows(0, n), behind), ("logits", &logits[n], &expected[n])]
            {
                let error = relative_error(found, expected);
                assert!(error <= TOLERANCE, "{} sample {n} after {end}: {what} differ by {error}", folder.display());
            }
        }
    }
}

#[test]
fn other_kernels_continue_a_sample_up_to_rounding() {
    families().iter().for_each(|folder| is_continued(folder, &Device::flex()));
}

#[test]
fn a_gpu_continues_a_sample_up_to_rounding_in_every_family() {
    // One folder of each family: a software device needs minutes for all.
    let is_second =
        |folder: &&PathBuf| ["-b", "-c", "-e", "-video"].iter().any(|end| folder.to_string_lossy().ends_with(end));
    for device in DeviceChoice::found() {
        families().iter().filter(|folder| !is_second(folder)).for_each(|folder| is_continued(folder, &device));
    }
}

#[test]
fn samples_that_do_not_continue_what_is_kept_are_rejected() {
    let golden = Golden::open("gemma3-a");
    let checkpoint = Checkpoint::open(&golden.folder).unwrap();
    let model = checkpoint.load(None, &HOST).unwrap();
    let inputs = inputs(&golden, &checkpoint);
    let input = inputs.iter().find(|input| !input.images.is_empty()).unwrap();
    let mut cache = KvCache::default();
    model.hidden_after(&mut [&mut cache], &[input], &[Hook::block(1)]).unwrap();
    let same = model.hidden_after(&mut [&mut cache], &[input], &[Hook::block(1)]).unwrap_err();
    assert!(matches!(same, Error::NotContinued { kept, length } if kept == length), "{same}");
    let mut other = input.clone();
    other.ids[0] += 1;
    other.ids.push(3);
    let other = model.hidden_after(&mut [&mut cache], &[&other], &[Hook::block(1)]).unwrap_err();
    assert!(matches!(other, Error::NotContinued { .. }), "{other}");
    let image = image_positions(&checkpoint, input).remove(0);
    // The blocks behind block 1 have kept nothing, so that the model cannot go on from the last position alone.
    cache.truncate(image.end);
    let state = model.hidden_after(&mut [&mut cache], &[input], &[Hook::block(1)]).unwrap();
    let behind = model.next_after(&mut cache, Hook::block(1), input, &state).unwrap_err();
    assert!(matches!(behind, Error::NotContinued { .. }), "{behind}");
    cache.truncate(image.start + 1);
    let cut = model.hidden_after(&mut [&mut cache], &[input], &[Hook::block(1)]).unwrap_err();
    assert!(cut.to_string().contains("within an image"), "{cut}");
}
