//! Equality with `transformers` (token ids, pixel values, hidden states, likelihoods), and of batches with single samples.

use crate::bad_input;
use crate::golden::{Golden, relative_error, repository};
use burn::tensor::{DType, Device};
use harvest::model::config::{ImageTokens, Tiling};
use harvest::model::{Compute, Image, ImageLayout, Input};
use harvest::prompt::{Media, Text};
use harvest::resample::{Filter, Rgb, resize};
use harvest::{Answers, Checkpoint, Templating};
use sae_core::device::DeviceChoice;
use sae_core::store::sample::{Modality, Role, Token};
use sae_core::store::{Hook, Site};
use sae_core::tensors::Tensors;
use std::path::{Path, PathBuf};

const HIDDEN_TOLERANCE: f64 = 1e-4;
const BF16_TOLERANCE: f64 = 2e-2;
/// For checkpoints of any seed, because some random ones amplify rounding errors of weights; and for hooks within blocks.
const FRESH_BF16_TOLERANCE: f64 = 5e-2;
const PIXEL_TOLERANCE: f32 = 1e-3;

/// The samples of a golden folder as this crate prepares them: their tokens, and the input of the model.
pub fn prepared(golden: &Golden, checkpoint: &Checkpoint) -> Vec<(Vec<Token>, Input)> {
    let samples = golden.samples.iter().map(|sample| {
        let text = Text::Conversation { turns: &sample.turns, generate: sample.generate };
        let (tokens, images) = if let Some(video) = sample.video {
            let (frames, patches) = checkpoint.video(video, &sample.images).unwrap();
            let images = frames.iter().map(|frame| checkpoint.videos().unwrap().image(frame)).collect();
            (checkpoint.prompter().tokens(&text, Media::Video(&patches)).unwrap(), images)
        } else {
            let frames = checkpoint.images().map(|images| images.frames(&sample.images, usize::MAX).unwrap());
            let frames = frames.unwrap_or_default();
            let layouts: Vec<ImageLayout> = frames.iter().map(|frame| frame.layout()).collect();
            let images = frames.iter().map(|frame| checkpoint.images().unwrap().image(frame)).collect();
            (checkpoint.prompter().tokens(&text, Media::Images(&layouts)).unwrap(), images)
        };
        let ids = tokens.iter().map(|token| token.token_id as u32).collect();
        let prefix = checkpoint.prompter().prefix(&tokens);
        (tokens, Input { ids, images, prefix })
    });
    samples.collect()
}

/// The inputs of the model for the samples of a golden folder.
pub fn inputs(golden: &Golden, checkpoint: &Checkpoint) -> Vec<Input> {
    prepared(golden, checkpoint).into_iter().map(|(_, input)| input).collect()
}

/// The reference's pixel values, in the order of patches that the tower reads: squares of `merge` patches per side.
fn patches(shape: &[usize], values: &[f32], images: &[Image], side: usize, merge: usize) -> Vec<f32> {
    let [.., 3, height, width] = *shape else { return values.to_vec() };
    // LLaVA-NeXT pads the images of a batch so that they are equally long; Idefics3 and InternVL have one list of all tiles.
    let is_padded = shape.len() == 5 && shape[0] == images.len();
    let mut views = values.chunks_exact(3 * height * width);
    let mut out = Vec::new();
    for image in images {
        let stored = if is_padded { shape[1] } else { image.views.len() };
        let of_image: Vec<_> = views.by_ref().take(stored).collect();
        // Pixtral pads the images of a batch at the bottom and on the right.
        for (values, [rows, columns]) in of_image.iter().zip(&image.views) {
            let squares = (0..rows / merge).flat_map(|y| (0..columns / merge).map(move |x| [y, x]));
            let patches = squares
                .flat_map(|[y, x]| (0..merge * merge).map(move |n| [y * merge + n / merge, x * merge + n % merge]));
            for [y, x] in patches.map(|patch| patch.map(|n| n * side)) {
                for channel in values.chunks_exact(height * width) {
                    (y..y + side).for_each(|y| out.extend_from_slice(&channel[y * width + x..][..side]));
                }
            }
        }
    }
    assert!(views.next().is_none(), "the reference has more views");
    out
}

/// Compares a golden folder with the results of this crate.
fn check(folder: &Path, bf16: f64) {
    let name = folder.file_name().unwrap().to_string_lossy();
    let golden = Golden::at(folder);
    let checkpoint = Checkpoint::open(&golden.folder).unwrap();
    let prepared = prepared(&golden, &checkpoint);
    let side = checkpoint.config().vision.as_ref().map_or(1, |vision| match vision.tower() {
        Some((tower, _)) => tower.patches.side,
        None => match vision.tiling {
            Tiling::Square { side, .. } => side,
            _ => unreachable!("an image tokenizer takes squares"),
        },
    });
    let merge = checkpoint.config().vision.as_ref().map_or(1, |vision| match vision.tiling {
        Tiling::Split { merge, .. } => merge,
        // Qwen's processor arranges patches itself.
        Tiling::Native { merge, .. } if vision.image_tokens == ImageTokens::Rows => merge,
        _ => 1,
    });
    for (sample, (tokens, input)) in golden.samples.iter().zip(&prepared) {
        assert_eq!(input.ids, golden.ids(&sample.name), "{name} {}: token ids", sample.name);
        if let Some(modality) = golden.bytes(&sample.name, "modality") {
            let found: Vec<u8> = tokens.iter().map(|token| token.modality as u8).collect();
            assert_eq!(found, modality, "{name} {}: modality", sample.name);
        }
        let expected = golden.get(&sample.name, "pixel_values");
        let expected =
            expected.map_or(Vec::new(), |(shape, values)| patches(&shape, &values, &input.images, side, merge));
        let found: Vec<f32> = input.images.iter().flat_map(|image| &image.patches).copied().collect();
        assert_eq!(found.len(), expected.len(), "{name} {}: pixel values", sample.name);
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= PIXEL_TOLERANCE, "{name} {}: pixel values differ by {worst}", sample.name);
        if let Some((shape, values)) = golden.get(&sample.name, "fused_pixel_values") {
            let expected = patches(&shape, &values, &input.images, side, merge);
            let found = input.images.iter().flat_map(|image| &image.fused);
            let worst = found.zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= PIXEL_TOLERANCE, "{name} {}: pixel values of the second tower", sample.name);
            assert_eq!(input.images.iter().map(|image| image.fused.len()).sum::<usize>(), expected.len());
        }
    }
    let inputs: Vec<&Input> = prepared.iter().map(|(_, input)| input).collect();
    let flex = |dtype| Compute::Device(Device::flex(), dtype);
    let modes = [
        ("on the CPU", Compute::Host { bf16: false }, HIDDEN_TOLERANCE),
        ("on the CPU in bf16", Compute::Host { bf16: true }, bf16),
        ("with Burn", flex(DType::F32), HIDDEN_TOLERANCE),
    ];
    let on_gpu = DeviceChoice::found().flat_map(|device| {
        let types = [("on a GPU", DType::F32, HIDDEN_TOLERANCE), ("on a GPU in bf16", DType::BF16, bf16)];
        let supported = types.into_iter().filter(|(_, dtype, _)| device.supports_dtype(*dtype));
        supported
            .map(|(mode, dtype, tolerance)| (mode, Compute::Device(device.clone(), dtype), tolerance))
            .collect::<Vec<_>>()
    });
    for (mode, compute, tolerance) in modes.into_iter().chain(on_gpu) {
        hidden_states(&format!("{name} {mode}"), &golden, &checkpoint, &inputs, &compute, tolerance);
        images(&format!("{name} {mode}"), &golden, &checkpoint, &inputs, &compute, tolerance);
    }

    let whole = checkpoint.load(None, &Compute::Host { bf16: false }).unwrap();
    for (sample, input) in golden.samples.iter().zip(&inputs) {
        let (shape, logits) = golden.get(&sample.name, "logits").unwrap();
        // The row of logits before a position predicts the token at this position.
        let positions: Vec<usize> = (input.ids.len() + 1 - shape[0]..input.ids.len()).collect();
        let found = whole.nll(&[*input], std::slice::from_ref(&positions)).unwrap();
        for ((position, found), logits) in positions.iter().zip(&found[0]).zip(logits.chunks_exact(shape[1])) {
            let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            let expected = sum.ln() - f64::from(logits[input.ids[*position] as usize]);
            let is_close = (f64::from(*found) - expected).abs() < 1e-3 * expected.abs().max(1.0);
            assert!(is_close, "{name} {} {position}: {found}, expected {expected}", sample.name);
        }
    }
}

/// Hidden states after every block and at the hooks within it, alone and in a batch of different lengths.
fn hidden_states(
    what: &str,
    golden: &Golden,
    checkpoint: &Checkpoint,
    inputs: &[&Input],
    compute: &Compute,
    tolerance: f64,
) {
    let blocks = checkpoint.config().text.layers.len();
    let hooks = every_hook(blocks);
    let model = checkpoint.load(Some(blocks - 1), compute).unwrap();
    let together = model.hidden(inputs, &hooks).unwrap();
    for (n, (sample, input)) in golden.samples.iter().zip(inputs).enumerate() {
        let alone = model.hidden(&[*input], &hooks).unwrap();
        for (at, hook) in hooks.iter().enumerate() {
            let found = [("alone", alone.rows(at, 0)), ("in a batch", together.rows(at, n))];
            if let Some((rows, expected)) = expected(golden, &sample.name, *hook, blocks) {
                // What a module adds has the rounding errors of weights without the residual stream, beside which they are small.
                let is_rounded = tolerance > HIDDEN_TOLERANCE && hook.site() != Site::Output;
                let tolerance = if is_rounded { tolerance.max(FRESH_BF16_TOLERANCE) } else { tolerance };
                for (how, found) in found {
                    let error = relative_error(&chosen(found, rows.as_deref(), alone.width()), &expected);
                    assert!(error <= tolerance, "{what} {} {hook} {how}: relative error {error}", sample.name);
                }
            }
            if matches!(compute, Compute::Host { .. }) {
                assert!(found[0].1 == found[1].1, "{what} {} {hook}: a batch changes a sample", sample.name);
            }
        }
    }
}

/// What the projector and the blocks of the vision tower make of images, alone and in a batch.
fn images(what: &str, golden: &Golden, checkpoint: &Checkpoint, inputs: &[&Input], compute: &Compute, tolerance: f64) {
    let Some((tower, _)) = checkpoint.config().vision.as_ref().and_then(|vision| vision.tower()) else { return };
    let hooks = (0..tower.layers).map(|layer| Hook::new(layer, Site::Vision)).chain([Hook::PROJECTOR]);
    for hook in hooks {
        let model = checkpoint.load_to(hook, compute).unwrap();
        let together = model.hidden(inputs, &[hook]).unwrap();
        assert_eq!(together.width(), checkpoint.config().width_at(hook));
        for (n, (sample, input)) in golden.samples.iter().zip(inputs).enumerate() {
            let alone = model.hidden(&[*input], &[hook]).unwrap();
            assert_eq!(alone.rows(0, 0).is_empty(), input.images.is_empty());
            let expected = if hook == Hook::PROJECTOR {
                golden.get(&sample.name, "image_features").map(|(_, expected)| (None, expected))
            } else {
                golden
                    .hooks
                    .as_ref()
                    .and_then(|hooks| some_rows(hooks, &sample.name, "vision.", &hook.layer().to_string()))
            };
            let Some((rows, expected)) = expected else { continue };
            for (how, found) in [("alone", alone.rows(0, 0)), ("in a batch", together.rows(0, n))] {
                let error = relative_error(&chosen(found, rows.as_deref(), alone.width()), &expected);
                let tolerance = if tolerance > HIDDEN_TOLERANCE { FRESH_BF16_TOLERANCE } else { tolerance };
                assert!(error <= tolerance, "{what} {} {hook} {how}: relative error {error}", sample.name);
            }
        }
    }
}

/// All hooks of a decoder, in order.
pub fn every_hook(blocks: usize) -> Vec<Hook> {
    (0..blocks).flat_map(|layer| Site::DECODER.map(|site| Hook::new(layer, site))).collect()
}

/// What transformers has at a hook: of the output of a block all rows, within a block a few rows of some samples.
fn expected(golden: &Golden, sample: &str, hook: Hook, blocks: usize) -> Option<(Option<Vec<usize>>, Vec<f32>)> {
    let layer = hook.layer();
    if hook == Hook::block(layer) {
        // The last hidden state of transformers is that after the final norm.
        let tensor = if layer + 1 == blocks { "blocks_out".into() } else { format!("hidden.{}", layer + 1) };
        return Some((None, golden.get(sample, &tensor).unwrap().1));
    }
    some_rows(golden.hooks.as_ref()?, sample, "", hook.to_string().strip_prefix("layers.").unwrap())
}

/// The rows of a sample at a hook that were kept, with their numbers.
fn some_rows(hooks: &Tensors, sample: &str, kind: &str, hook: &str) -> Option<(Option<Vec<usize>>, Vec<f32>)> {
    let name = format!("{sample}.{kind}{hook}");
    let expected = hooks.f32(&name, hooks.shape(&name)?).unwrap();
    let (_, rows) = hooks.bytes(&format!("{sample}.{kind}rows")).unwrap();
    let rows = rows.as_chunks().0.iter().map(|row| i64::from_le_bytes(*row) as usize);
    Some((Some(rows.collect()), expected))
}

/// The chosen rows of a matrix, or all of them.
fn chosen(values: &[f32], rows: Option<&[usize]>, width: usize) -> Vec<f32> {
    match rows {
        Some(rows) => rows.iter().flat_map(|row| &values[row * width..(row + 1) * width]).copied().collect(),
        None => values.to_vec(),
    }
}

/// Every golden folder under `root`.
fn folders(root: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders.filter(|folder| folder.join("samples.json").exists()).collect();
    folders.sort();
    folders
}

/// Checks the golden folders of a family. `SAE_GOLDENS` may name a folder with other ones (tests/golden/README.md).
fn family(prefix: &str, least: usize) {
    let fresh = std::env::var_os("SAE_GOLDENS").map(PathBuf::from);
    let folders = folders(fresh.as_deref().unwrap_or(&repository().join("tests/golden")));
    let of_family = folders.iter().filter(|folder| {
        let name = folder.file_name().unwrap().to_string_lossy();
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('-') && !rest.contains("next"))
    });
    let bf16 = if fresh.is_some() { FRESH_BF16_TOLERANCE } else { BF16_TOLERANCE };
    let checked = of_family.map(|folder| check(folder, bf16)).count();
    assert!(checked >= least || fresh.is_some(), "{checked} golden folders of {prefix}");
}

#[test]
fn llava_equals_transformers() {
    family("llava", 3);
}

#[test]
fn llava_next_equals_transformers() {
    family("llava-next", 2);
}

#[test]
fn llava_onevision_equals_transformers() {
    family("llava_onevision", 2);
}

#[test]
fn idefics3_and_smolvlm_equal_transformers() {
    family("idefics3", 1);
    family("smolvlm", 2);
}

#[test]
fn internvl_equals_transformers() {
    family("internvl", 2);
}

#[test]
fn mistral3_equals_transformers() {
    family("mistral3", 2);
}

#[test]
fn qwen2_5_vl_equals_transformers_on_images_and_videos() {
    family("qwen2_5_vl", 3);
}

#[test]
fn qwen3_vl_equals_transformers_on_images_and_videos() {
    family("qwen3_vl", 3);
}

#[test]
fn gemma3_equals_transformers() {
    family("gemma3", 2);
}

#[test]
fn gemma4_equals_transformers() {
    family("gemma4", 2);
}

#[test]
fn paligemma_equals_transformers() {
    family("paligemma", 2);
}

#[test]
fn chameleon_equals_transformers() {
    family("chameleon", 2);
}

#[test]
fn openvla_equals_a_plain_construction_of_it_in_pytorch() {
    family("openvla", 1);
}

#[test]
fn text_only_models_equal_transformers() {
    family("text", 8);
}

#[test]
fn a_decoder_without_a_vision_tower_is_a_text_only_model() {
    let golden = Golden::open("llava-a");
    let (_dir, folder) = bad_input::checkpoint();
    bad_input::edit(&folder.join("config.json"), |config| {
        *config = config["text_config"].take();
        config["rope_theta"] = 10_000.into();
    });
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let model = checkpoint.load(Some(2), &Compute::Host { bf16: false }).unwrap();
    let words = golden.samples.iter().find(|sample| sample.images.is_empty()).unwrap();
    let input = Input { ids: golden.ids(&words.name), ..Input::default() };
    let hidden = model.hidden(&[&input], &[Hook::block(2)]).unwrap();
    let (_, expected) = golden.get(&words.name, "blocks_out").unwrap();
    assert!(relative_error(hidden.rows(0, 0), &expected) <= HIDDEN_TOLERANCE);
    assert!(checkpoint.images().is_none());
}

#[test]
fn the_bundled_model_equals_transformers() {
    let golden = repository().join("tests/golden/demo-mllm/golden.safetensors");
    let golden = Tensors::open(&golden).expect("the golden file of the bundled model");
    let facts = repository().join("tests/golden/demo-mllm/golden.json");
    let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(facts).unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&repository().join("assets/demo-mllm")).unwrap();
    let blocks = checkpoint.config().text.layers.len();
    let hooks: Vec<Hook> = (0..blocks).map(Hook::block).collect();
    let model = checkpoint.load(Some(blocks - 1), &Compute::Host { bf16: false }).unwrap();

    let source = harvest::data::Source::open(&repository().join("assets/demo-data/data.jsonl")).unwrap();
    let mut rows: Vec<_> = source.rows(&Vec::new()).unwrap().map(Result::unwrap).collect();
    for sample in facts["samples"].as_array().unwrap() {
        let (name, key) = (sample["name"].as_str().unwrap(), sample["key"].as_str().unwrap());
        let row = rows.swap_remove(rows.iter().position(|row| row.key == key).expect("the pair"));
        let prepared = checkpoint.prepare(row, Answers::All, Templating::Auto).unwrap();
        let input = checkpoint.input(&prepared);
        let (_, ids) = golden.bytes(&format!("{name}.ids")).unwrap();
        let ids: Vec<u32> = ids.as_chunks().0.iter().map(|id| i64::from_le_bytes(*id) as u32).collect();
        assert_eq!(input.ids, ids, "{key}: token ids");
        let expected = |tensor: &str| {
            let tensor = format!("{name}.{tensor}");
            golden.f32(&tensor, golden.shape(&tensor).unwrap()).unwrap()
        };
        let shape = golden.shape(&format!("{name}.pixel_values")).unwrap();
        let side = checkpoint.config().vision.as_ref().unwrap().tower().unwrap().0.patches.side;
        let pixel_values = patches(shape, &expected("pixel_values"), &input.images, side, 1);
        let found: Vec<f32> = input.images.iter().flat_map(|image| &image.patches).copied().collect();
        let worst = found.iter().zip(&pixel_values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= PIXEL_TOLERANCE, "{key}: pixel values differ by {worst}");
        let hidden = model.hidden(&[&input], &hooks).unwrap();
        for layer in 0..blocks {
            let tensor = if layer + 1 == blocks { "blocks_out".into() } else { format!("hidden.{}", layer + 1) };
            let error = relative_error(hidden.rows(layer, 0), &expected(&tensor));
            assert!(error <= HIDDEN_TOLERANCE, "{key} layer {layer}: relative error {error}");
        }
    }
}

#[test]
fn resizing_equals_pillow_bit_for_bit() {
    let golden = Tensors::open(&repository().join("tests/golden/resize.safetensors")).unwrap();
    let image = |name: &str| {
        let shape = golden.shape(name).unwrap();
        Rgb { width: shape[1], height: shape[0], data: golden.bytes(name).unwrap().1.to_vec() }
    };
    let mut compared = 0;
    for name in golden.names() {
        let parts: Vec<_> = name.split('.').collect();
        let [source, filter, _] = parts.as_slice() else { continue };
        let filter = match *filter {
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            _ => Filter::Lanczos,
        };
        let expected = image(&name);
        assert_eq!(resize(image(source), expected.width, expected.height, filter), expected, "{name}");
        compared += 1;
    }
    assert!(compared >= 36);
}

#[test]
fn every_position_has_its_modality_role_and_text() {
    let golden = Golden::open("llava-b");
    let checkpoint = Checkpoint::open(&golden.folder).unwrap();
    let sample = &golden.samples[2];
    let text = Text::Conversation { turns: &sample.turns, generate: sample.generate };
    let tokens = checkpoint.prompter().tokens(&text, Media::Images(&[17.into(); 2])).unwrap();
    let text_of = |role: Role| {
        let pieces = tokens.iter().filter(|t| t.role == role && t.modality == Modality::Text).map(|t| t.piece.as_str());
        pieces.collect::<String>()
    };
    assert_eq!(text_of(Role::User), "Compare the two.");
    assert_eq!(text_of(Role::Assistant), "The first is wider.");
    assert_eq!(text_of(Role::Template), "<s>[USER]\n\n\n[ASSISTANT]\n</s>\n");
    assert!(tokens.iter().all(|t| t.special == (t.role == Role::Template) && t.position as usize <= tokens.len()));
    // The strategy is "full": a class token and 16 patches for each of two images, which the user shows.
    let images: Vec<_> = tokens.iter().filter(|t| t.modality == Modality::Image).collect();
    assert_eq!(images.len(), 34);
    assert!(images.iter().enumerate().all(|(n, t)| t.image == Some((n / 17) as i16) && t.role == Role::User));
}
