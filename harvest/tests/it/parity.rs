//! Equality with `transformers`: token ids, pixel values, hidden states, likelihoods; and of batches with single samples.

use crate::bad;
use crate::golden::{Golden, relative_error, repository};
use burn::tensor::{DType, Device};
use harvest::model::Input;
use harvest::prompt::Text;
use harvest::resample::{Filter, Rgb, resize};
use harvest::{Answers, Checkpoint, Templating};
use sae_core::sample::{Modality, Role};
use sae_core::tensors::Tensors;

const HIDDEN_TOLERANCE: f64 = 1e-4;
const PIXEL_TOLERANCE: f32 = 1e-3;

/// What this crate makes of a golden folder's samples.
pub fn inputs(golden: &Golden, checkpoint: &Checkpoint) -> Vec<Input> {
    let samples = golden.samples.iter().map(|sample| {
        let text = Text::Conversation { turns: &sample.turns, generate: sample.generate };
        let tokens = checkpoint.prompter().tokens(&text, sample.images.len()).unwrap();
        let mut pixel_values = Vec::new();
        let images = checkpoint.images().unwrap();
        for file in &sample.images {
            images.pixel_values(&images.frame(file).unwrap(), &mut pixel_values);
        }
        Input { ids: tokens.iter().map(|token| token.token_id as u32).collect(), pixel_values }
    });
    samples.collect()
}

fn check(name: &str) {
    let golden = Golden::open(name);
    let checkpoint = Checkpoint::open(&golden.folder).unwrap();
    let inputs = inputs(&golden, &checkpoint);
    for (sample, input) in golden.samples.iter().zip(&inputs) {
        assert_eq!(input.ids, golden.ids(&sample.name), "{name} {}: token ids", sample.name);
        let pixel_values = golden.get(&sample.name, "pixel_values").map_or(Vec::new(), |(_, values)| values);
        assert_eq!(input.pixel_values.len(), pixel_values.len());
        let worst = input.pixel_values.iter().zip(&pixel_values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= PIXEL_TOLERANCE, "{name} {}: pixel values differ by {worst}", sample.name);
    }

    let blocks = checkpoint.config().text.layers;
    let layers: Vec<usize> = (0..blocks).collect();
    let model = checkpoint.load(Some(blocks - 1), &Device::flex(), DType::F32).unwrap();
    let together = model.hidden(&inputs.iter().collect::<Vec<_>>(), &layers).unwrap();
    for (n, (sample, input)) in golden.samples.iter().zip(&inputs).enumerate() {
        let alone = model.hidden(&[input], &layers).unwrap();
        for layer in &layers {
            // The last of transformers' hidden states is behind the final norm.
            let name = if layer + 1 == blocks { "blocks_out".into() } else { format!("hidden.{}", layer + 1) };
            let (_, expected) = golden.get(&sample.name, &name).unwrap();
            for (how, found) in [("alone", alone.rows(*layer, 0)), ("in a batch", together.rows(*layer, n))] {
                let error = relative_error(found, &expected);
                assert!(error <= HIDDEN_TOLERANCE, "{} layer {layer} {how}: relative error {error}", sample.name);
            }
        }
    }

    let whole = checkpoint.load(None, &Device::flex(), DType::F32).unwrap();
    for (sample, input) in golden.samples.iter().zip(&inputs) {
        let (shape, logits) = golden.get(&sample.name, "logits").unwrap();
        // The row of logits in front of a position is of the token there.
        let positions: Vec<usize> = (input.ids.len() + 1 - shape[0]..input.ids.len()).collect();
        let found = whole.nll(&[input], std::slice::from_ref(&positions)).unwrap();
        for ((position, found), logits) in positions.iter().zip(&found[0]).zip(logits.chunks_exact(shape[1])) {
            let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            let expected = sum.ln() - f64::from(logits[input.ids[*position] as usize]);
            assert!((f64::from(*found) - expected).abs() < 1e-3, "{} {position}: {found} {expected}", sample.name);
        }
    }
}

#[test]
fn the_older_layout_with_grouped_queries_equals_transformers() {
    check("llava-a");
}

#[test]
fn the_newer_layout_with_another_projector_and_strategy_equals_transformers() {
    check("llava-b");
}

#[test]
fn a_decoder_without_a_vision_tower_is_a_text_only_model() {
    let golden = Golden::open("llava-a");
    let (_dir, folder) = bad::checkpoint();
    bad::edit(&folder.join("config.json"), |config| {
        *config = config["text_config"].take();
        config["rope_theta"] = 10_000.into();
    });
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let model = checkpoint.load(Some(2), &Device::flex(), DType::F32).unwrap();
    let words = golden.samples.iter().find(|sample| sample.images.is_empty()).unwrap();
    let input = Input { ids: golden.ids(&words.name), pixel_values: Vec::new() };
    let hidden = model.hidden(&[&input], &[2]).unwrap();
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
    let blocks = checkpoint.config().text.layers;
    let layers: Vec<usize> = (0..blocks).collect();
    let model = checkpoint.load(Some(blocks - 1), &Device::flex(), DType::F32).unwrap();

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
        let pixel_values = expected("pixel_values");
        let worst = input.pixel_values.iter().zip(&pixel_values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= PIXEL_TOLERANCE, "{key}: pixel values differ by {worst}");
        let hidden = model.hidden(&[&input], &layers).unwrap();
        for layer in &layers {
            let tensor = if layer + 1 == blocks { "blocks_out".into() } else { format!("hidden.{}", layer + 1) };
            let error = relative_error(hidden.rows(*layer, 0), &expected(&tensor));
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
fn every_position_knows_what_it_is() {
    let golden = Golden::open("llava-b");
    let checkpoint = Checkpoint::open(&golden.folder).unwrap();
    let sample = &golden.samples[2];
    let text = Text::Conversation { turns: &sample.turns, generate: sample.generate };
    let tokens = checkpoint.prompter().tokens(&text, sample.images.len()).unwrap();
    let said = |role: Role| {
        let pieces = tokens.iter().filter(|t| t.role == role && t.modality == Modality::Text).map(|t| t.piece.as_str());
        pieces.collect::<String>()
    };
    assert_eq!(said(Role::User), "Compare the two.");
    assert_eq!(said(Role::Assistant), "The first is wider.");
    assert_eq!(said(Role::Template), "<s>[USER]\n\n\n[ASSISTANT]\n</s>\n");
    assert!(tokens.iter().all(|t| t.special == (t.role == Role::Template) && t.position as usize <= tokens.len()));
    // "full": a class position and 16 patches for each of two images, shown by the person.
    let images: Vec<_> = tokens.iter().filter(|t| t.modality == Modality::Image).collect();
    assert_eq!(images.len(), 34);
    assert!(images.iter().enumerate().all(|(n, t)| t.image == Some((n / 17) as i16) && t.role == Role::User));
}
