//! A small run on disk, made with the core's own writers: painted pictures, captions, features that fire on both.

use filters::pmi::{BLANK_DIR, Chosen, Fit, Folds, Options};
use filters::scores::{Row, Scores};
use image::{Rgb, RgbImage};
use sae_core::analysis::contrast::{self, Estimate, FeatureNote, GroupExample, GroupSeries, TestedFeature, Trajectory};
use sae_core::analysis::index::{
    Example, FeatureRow, Indexer, Neighbor, Row as _, StrongestExample, TypicalWord, Word, read_features,
    write_examples, write_features, write_lists, write_neighbors,
};
use sae_core::analysis::labels::{Change, Entry, Labels};
use sae_core::analysis::latent_scaling::{Ratio, ScaledFeature, write_ownership};
use sae_core::analysis::rebound::{CheckpointMean, write_rebound};
use sae_core::autoencoder::formats::{self, Format, Origin, Saved};
use sae_core::autoencoder::{Architecture, Weights};
use sae_core::store::sample::{ImageRef, Modality, Role, Sample, Token};
use sae_core::store::{Hook, Part, StoreDtype, StoreSpec, StoreWriter};
use sae_core::train::{Log, StepLog};
use sae_core::{Run, file};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Samples of the run.
pub const SAMPLES: u32 = 24;
/// Patches along one side of a picture.
const SIDE: u32 = 6;
/// Where the caption begins: behind a begin token and the patches.
const WORDS: u32 = 1 + SIDE * SIDE;

const SHAPES: [&str; 3] = ["circle", "square", "ring"];
const COLORS: [(&str, [u8; 3]); 4] =
    [("red", [214, 62, 58]), ("green", [56, 158, 84]), ("blue", [52, 104, 206]), ("yellow", [240, 196, 52])];

/// Name of the autoencoder.
pub const SAE: &str = "base";

/// A run of that many features, and the folder that holds it and its data.
pub fn run(features: usize) -> (TempDir, Run) {
    // Examples of all features would only make a large fixture slow to write.
    run_of(features, features.min(512))
}

/// The same with examples of the first features alone.
pub fn run_of(features: usize, shown: usize) -> (TempDir, Run) {
    run_with(features, shown, Captions { tokens: short_caption, fires_at: |feature, n| (feature + n) % 6 })
}

/// The captions of a run.
#[derive(Clone, Copy)]
pub struct Captions {
    /// The tokens of a sample's caption.
    pub tokens: fn(u32) -> Vec<String>,
    /// The token of a sample's caption on which a feature fires.
    pub fires_at: fn(u32, u32) -> u32,
}

/// A run with captions of another kind.
pub fn run_with(features: usize, shown: usize, captions: Captions) -> (TempDir, Run) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("images")).unwrap();
    let run = Run::create(&dir.path().join("run")).unwrap();
    store(&run, &data, captions.tokens);
    index(&run, features, shown, captions.fires_at);
    autoencoder(&run, features);
    scores(&run);
    (dir, run)
}

fn color_and_shape(n: u32) -> [&'static str; 2] {
    [COLORS[n as usize % 4].0, SHAPES[n as usize % 3]]
}

fn short_caption(n: u32) -> Vec<String> {
    let [color, shape] = color_and_shape(n);
    let caption = format!("a {color} {shape} on a pale ground, picture {n} of the series");
    caption.split_inclusive(' ').map(str::to_owned).collect()
}

fn paint(n: u32) -> RgbImage {
    let (color, shape) = (COLORS[n as usize % 4].1, n % 3);
    let center = (60.0 + 9.0 * (n % 8) as f32, 70.0 + 7.0 * (n % 6) as f32);
    RgbImage::from_fn(192, 192, |x, y| {
        let (dx, dy) = (x as f32 - center.0, y as f32 - center.1);
        let inside = match shape {
            0 => dx.hypot(dy) < 40.0,
            1 => dx.abs().max(dy.abs()) < 36.0,
            _ => (26.0..44.0).contains(&dx.hypot(dy)),
        };
        let shade = 226 + (x / 12 + y / 16) as u8 % 24;
        Rgb(if inside { color } else { [shade, shade, shade.saturating_add(5)] })
    })
}

fn sample(n: u32, data: &Path, caption: &[String]) -> (Sample, Vec<Token>) {
    let name = format!("images/{n:02}.png");
    let path = data.join(&name);
    paint(n).save(&path).unwrap();
    let sha256 = Sha256::digest(fs::read(&path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    let token = |position: u32, piece: &str| Token {
        position,
        modality: Modality::Text,
        token_id: position as i32,
        piece: piece.into(),
        role: Role::Assistant,
        special: piece == "<s>",
        image: None,
        rect: None,
    };
    let patch = |at: u32| {
        let corner = |x: u32, y: u32| [x as f32 / SIDE as f32, y as f32 / SIDE as f32];
        let [x0, y0] = corner(at % SIDE, at / SIDE);
        let [x1, y1] = corner(at % SIDE + 1, at / SIDE + 1);
        let rect = Some([x0, y0, x1, y1]);
        Token { modality: Modality::Image, image: Some(0), rect, ..token(1 + at, "<image>") }
    };
    let mut tokens = vec![token(0, "<s>")];
    tokens.extend((0..SIDE * SIDE).map(patch));
    tokens.extend(caption.iter().zip(WORDS..).map(|(word, at)| token(at, word)));
    let sample = Sample {
        id: format!("{n:064x}"),
        key: format!("shape-{n:02}"),
        text: caption.concat(),
        images: vec![ImageRef { path: name, width: 192, height: 192, sha256 }],
        source: format!("data.jsonl:{n}"),
        meta: serde_json::json!({}),
        piece: None,
    };
    (sample, tokens)
}

fn store(run: &Run, data: &Path, caption: fn(u32) -> Vec<String>) {
    let spec = StoreSpec {
        model: "tiny-llava".into(),
        architecture: "LlavaForConditionalGeneration".into(),
        hooks: vec![Hook::block(2)],
        d_in: 4,
        dtype: StoreDtype::F32,
        fingerprint: "fixture".into(),
        slice: None,
        pieces: false,
        critiques: false,
        arguments: serde_json::json!({ "data_root": data }),
    };
    let row = |n: u32| serde_json::json!({ "id": format!("shape-{n:02}"), "image": format!("images/{n:02}.png"), "text": caption(n).concat() });
    let rows: String = (0..SAMPLES).map(|n| format!("{}\n", row(n))).collect();
    fs::write(data.join("data.jsonl"), rows).unwrap();
    let mut writer = StoreWriter::open(run, spec).unwrap();
    for part in [0..10, 10..SAMPLES] {
        let samples: Vec<_> = part.map(|n| sample(n, data, &caption(n))).collect();
        let rows: usize = samples.iter().map(|(_, tokens)| tokens.len()).sum();
        let source_rows = samples.len() as u64;
        writer
            .write_part(&Part { samples, activations: vec![vec![0.5; 4 * rows]], source_rows, skipped: vec![] })
            .unwrap();
    }
    writer.finish().unwrap();
}

/// Feature `k` fires on text if `k % 4` is 0, on pictures if it is 1, on both if it is 2, and never if it is 3.
fn index(run: &Run, features: usize, shown: usize, fires_at: fn(u32, u32) -> u32) {
    let mut index = Indexer::new(features);
    index.positions = [20_000, 8_000, 12_000];
    for feature in 0..shown {
        for n in 0..SAMPLES {
            let strength = 6.0 / (1.0 + n as f32 * 0.4) + feature as f32 * 1e-3;
            let on_text = Example {
                activation: strength,
                sample: n,
                position: WORDS + fires_at(feature as u32, n),
                modality: Modality::Text,
            };
            let patch = 7 + (feature as u32 + 5 * n) % 20;
            let on_image =
                Example { activation: 0.8 * strength, position: patch, modality: Modality::Image, ..on_text };
            let fires: &[Example] = match feature % 4 {
                0 => &[on_text],
                1 => &[on_image],
                2 if n % 2 == 0 => &[on_text],
                2 => &[on_image],
                _ => &[],
            };
            for example in fires {
                index.examples.offer(feature as u32, *example);
                index.strongest[feature].offer(*example);
            }
        }
    }
    let row = |feature: usize| {
        let spread = ((feature * 7919) % 1013) as u64;
        let (text, image) = match feature % 4 {
            0 => (10 + spread, 0),
            1 => (0, 20 + spread),
            2 => (15 + spread, 12 + spread / 2),
            _ => (0, 0),
        };
        let fires = text + image;
        FeatureRow {
            feature: feature as u32,
            fires,
            fires_text: text,
            fires_image: image,
            density: fires as f64 / 20_000.0,
            max: if fires == 0 { 0.0 } else { 6.0 + feature as f32 * 1e-3 },
            mean: if fires == 0 { 0.0 } else { 1.7 },
            class: ["text", "image", "cross", "dead"][feature % 4].into(),
            weight_paper: (feature % 4 == 2).then_some(0.15 + 0.6 * (spread as f64 / 1013.0)),
            ..FeatureRow::default()
        }
    };
    let near = |feature: usize| {
        let others = (1..=6).map(|by| (feature + 2 * by) % features).filter(|other| *other != feature);
        others.zip(1..).map(|(other, n)| Neighbor { feature: other as u32, cosine: 0.95 - 0.07 * n as f32 }).collect()
    };
    let folder = run.features(SAE);
    write_examples(&folder.join("examples.parquet"), &index).unwrap();
    write_neighbors(&folder.join("neighbours.parquet"), &(0..features).map(near).collect::<Vec<_>>()).unwrap();
    write_features(&folder.join("features.parquet"), &(0..features).map(row).collect::<Vec<_>>()).unwrap();
    write_lists(&folder.join(StrongestExample::FILE), features, |feature| index.strongest[feature].rows()).unwrap();
    write_lists(&folder.join(TypicalWord::FILE), features, typical_words).unwrap();
    let step = serde_json::json!({ "positions": index.positions });
    run.write_step(&format!("index/{SAE}"), &step).unwrap();
}

/// A color on text, a shape on images, by the number of the feature.
fn typical_words(feature: usize) -> Vec<TypicalWord> {
    let [color, shape] = color_and_shape(feature as u32 / 4);
    let word = |modality, word: &str| TypicalWord { modality, word: word.into(), share: 0.75 };
    let (text, image) = (word(Modality::Text, color), word(Modality::Image, shape));
    match feature % 4 {
        0 => vec![text],
        1 => vec![image],
        2 => vec![text, image],
        _ => vec![],
    }
}

/// An autoencoder that fits the store: feature `k` looks along one axis, from `k` on more of it.
fn autoencoder(run: &Run, features: usize) {
    // The window at its largest is measured on the table alone.
    let (d_in, d_sae) = (4, features.min(512));
    let axis = |k: usize| (0..d_in).map(move |d| if d == k % d_in { 1.0 + k as f32 / 64.0 } else { 0.0 });
    let w_enc: Vec<f32> = (0..d_sae).flat_map(axis).collect();
    let weights = Weights {
        d_in,
        d_sae,
        w_dec: w_enc.clone(),
        w_enc,
        b_enc: vec![0.0; d_sae],
        b_dec: vec![0.0; d_in],
        ..Weights::default()
    };
    let origin = Origin { hook: "layers.2".into(), layer: 2, ..Origin::default() };
    let saved = Saved { architecture: Architecture::Relu, weights, origin };
    formats::create(Format::SaeLens, &run.sae_dir(SAE), &saved).unwrap();
}

/// Makes the run one of a checkpoint: the autoencoder reads its width behind block 4.
pub fn of_the_demo_model(run: &Run, folder: &Path) {
    let mut entry: serde_json::Value = run.read_step("harvest").unwrap().unwrap();
    entry["arguments"]["model_folder"] = sae_core::path_text::encode(folder).into();
    run.write_step("harvest", &entry).unwrap();
    fs::remove_dir_all(run.sae_dir(SAE)).unwrap();
    let (d_in, d_sae) = (256, 16);
    let axis = |k: usize| (0..d_in).map(move |d| if d % d_sae == k { 1.0 } else { 0.0 });
    let w_enc: Vec<f32> = (0..d_sae).flat_map(axis).collect();
    let weights = Weights {
        d_in,
        d_sae,
        w_dec: w_enc.clone(),
        w_enc,
        b_enc: vec![0.0; d_sae],
        b_dec: vec![0.0; d_in],
        ..Weights::default()
    };
    let origin = Origin { hook: "layers.4".into(), layer: 4, ..Origin::default() };
    formats::create(Format::SaeLens, &run.sae_dir(SAE), &Saved { architecture: Architecture::Relu, weights, origin })
        .unwrap();
}

/// Two scores that agree but for a few samples.
fn scores(run: &Run) {
    let row = |n: u32| Row { id: format!("{n:064x}"), n_text: 12, n_image: SIDE * SIDE, reason: None };
    let column = |score: fn(u32) -> f64| (0..SAMPLES).map(|n| Some(score(n))).collect();
    let mut scores = Scores { rows: (0..SAMPLES).map(row).collect(), ..Scores::default() };
    scores.columns.insert("cosine_paper".into(), column(f64::from));
    scores.columns.insert("random".into(), column(|n| f64::from((n * 7) % 24)));
    scores.write(&run.scores(SAE), SAE).unwrap();
    run.write_step(&format!("score/{SAE}"), &serde_json::json!({ "threshold": 0.1 })).unwrap();
}

/// The same samples as they are read apart, and a fit of one component to either, so that `pmi` and `pmi_blank` can be explained.
pub fn blank(run: &Run) {
    let data = run.root().join("../data");
    store(&Run::create(&run.root().join(BLANK_DIR)).unwrap(), &data, short_caption);
    let fit = Fit {
        chosen: Chosen::balanced(&[[u64::from(SAMPLES / 2), 0], [0, u64::from(SAMPLES / 2)]], [SAMPLES as usize; 2], 1),
        means: [vec![0.1], vec![0.2]],
        directions: [vec![1.0], vec![1.0]],
        correlations: vec![0.5],
        options: Options::default(),
    };
    let folds = Folds { whole: fit, without: Vec::new(), samples: SAMPLES as usize };
    for column in ["pmi", "pmi_blank"] {
        let path = run.scores(SAE).with_extension(format!("{column}.safetensors"));
        filters::pmi::write(&path, &folds, 64).unwrap();
    }
}

/// A few labels, as people and a model would write them.
pub fn labels(run: &Run) {
    let entry = |feature, label: &str, author: &str, score| {
        let after =
            Entry { label: label.into(), author: author.into(), score, star: feature == 6, ..Entry::empty(feature) };
        Change::Entry { before: Entry::empty(feature), after }
    };
    let changes = [
        entry(6, "red rings", "ann", None),
        entry(10, "the color blue, in words and patches", "a model", Some(0.83)),
        Change::List { name: "colors".into(), before: vec![], after: vec![6, 10] },
    ];
    Labels::save(run, SAE, &changes, &Labels::default()).unwrap();
}

/// A contrast of two groups: features 6 and 9 differ, 10 does not. Feature 6 has the largest effect and the smallest p-value.
pub fn contrast(run: &Run, name: &str) {
    let folder = run.root().join("contrasts").join(name);
    fs::create_dir_all(&folder).unwrap();
    let estimate = |effect: f64| Estimate { effect, lo: effect - 0.05, hi: effect + 0.05 };
    let test = |feature, effect, z, p, is_found| TestedFeature {
        feature,
        samples: 20,
        clusters: 20,
        prevalence: 0.5,
        prevalence_rest: Some(0.25),
        estimate: estimate(effect),
        z,
        p: Some(p),
        q: Some(2.0 * p),
        is_found,
        ..TestedFeature::default()
    };
    let rows = [test(9, -0.2, -4.0, 1e-4, true), test(6, 0.4, 6.0, 1e-8, true), test(10, 0.05, 1.0, 0.3, false)];
    let shuffled = [test(6, 0.02, 0.4, 0.7, false), test(9, -0.01, -0.2, 0.9, false)];
    let columns = ["ring".to_owned()];
    let (mut notes, trajectory) = (vec![FeatureNote::default(); 3], |feature, shares: [f64; 2]| Trajectory {
        feature,
        prevalence: shares.to_vec(),
        adjusted: shares.map(estimate).to_vec(),
        turn: 0,
        turn_p: None,
    });
    notes[0].is_selected = true;
    let series = GroupSeries {
        names: ["circle", "ring"].map(String::from).to_vec(),
        sizes: vec![12, 12],
        trajectories: vec![trajectory(6, [0.25, 0.5]), trajectory(9, [0.75, 0.5])],
        forecast: None,
    };
    contrast::write_features(&folder.join("features.parquet"), &columns, &rows, &notes).unwrap();
    contrast::write_chance(&folder.join("shuffled.parquet"), &columns, &shuffled).unwrap();
    contrast::write_groups(&folder.join("groups.parquet"), &series).unwrap();
    // Feature 6 is active on words of rings (samples 2, 5, 8) and, once, of a circle; feature 9 in no ring.
    let example = |group: &str, feature, sample, activation| {
        let (position, modality) = (WORDS + 1, Modality::Text);
        GroupExample { group: group.into(), feature, example: Example { activation, sample, position, modality } }
    };
    let examples = [
        example("circle", 6, 0, 0.5),
        example("ring", 6, 5, 2.0),
        example("ring", 6, 2, 1.5),
        example("ring", 6, 8, 1.0),
        example("circle", 9, 3, 1.0),
    ];
    contrast::write_examples(&folder.join("examples.parquet"), &examples).unwrap();
    let summary = serde_json::json!({
        "sae": SAE, "samples": 24, "left_out": 0, "clusters": 24, "confirming_clusters": 0, "strata": 2,
        "columns": [{ "name": "ring", "samples": 12, "explained_by_length": 0.97 }],
        "tested": 3, "differing": 2, "shuffled": [0, 1],
        "predictions": [{
            "column": "ring", "measure": "auc", "features": 0.91, "words": 0.62, "length": 0.55, "hidden": null,
        }],
    });
    file::write_json(&folder.join("contrast.json"), &summary).unwrap();
}

/// A contrast of two models by a crosscoder: feature 6 is the second model's own, and one model with itself has none.
pub fn models(run: &Run, name: &str) {
    let folder = run.root().join("contrasts").join(name);
    fs::create_dir_all(&folder).unwrap();
    let ratio = |value: f64| Ratio { value, lo: value - 0.05, hi: value + 0.05 };
    let row = |feature: u32, model: usize, nu: f64, delta: f64| ScaledFeature {
        feature,
        model,
        reference: 1 - model,
        delta,
        firings: 40 + u64::from(feature),
        nu_error: ratio(nu),
        nu_reconstruction: ratio(nu + 0.1),
        template_share: 0.02 * f64::from(feature % 5),
        first_share: 0.0,
    };
    let spread = |feature: u32| 0.7 + 0.02 * f64::from(feature * 7 % 29);
    let others = || (0..48).filter(|feature| *feature != 6);
    let of_model = |model: usize| others().map(move |k| row(k, model, spread(k), 0.5 + 0.005 * f64::from(k % 9)));
    let rows: Vec<ScaledFeature> = [row(6, 1, 0.08, 0.95)].into_iter().chain(of_model(1)).chain(of_model(0)).collect();
    let null: Vec<ScaledFeature> =
        (0..48).map(|k| row(k, 1, spread(k) + 0.05, 0.5 + 0.004 * f64::from(k % 7))).collect();
    let names = ["base", "chat"].map(String::from);
    write_ownership(&folder.join("models.parquet"), &names, &rows).unwrap();
    write_ownership(&folder.join("null.parquet"), &names, &null).unwrap();
    let pair = |own: usize| {
        let [of_model, of_reference] =
            [own, 0].map(|own| serde_json::json!({ "own": own, "uncertain": 0, "strongest": [] }));
        serde_json::json!({ "reference": 0, "model": 1, "same_model": false, "of_model": of_model, "of_reference": of_reference })
    };
    let patch = |moved: &str, features: usize, kl: f64| {
        let removed = 1.0 - kl / 0.8;
        serde_json::json!({ "moved": moved, "features": features, "kl": [kl, kl - 0.02, kl + 0.02], "removed": [removed, removed - 0.03, removed + 0.03] })
    };
    let report = serde_json::json!({
        "schema_version": 2, "name": name, "runs": ["base", "chat"], "sae": SAE, "pairs": [pair(1)], "null": [pair(0)],
        "models": [{ "model": "models/base", "fvu": 0.21 }, { "model": "models/chat", "fvu": 0.24 }],
        "patch": {
            "data": "test.jsonl", "samples": 16, "tokens": 160, "skipped": 0, "draws": 5,
            "patches": [patch("none", 0, 0.8), patch("own", 1, 0.5), patch("random", 1, 0.79)],
        },
    });
    file::write_json(&folder.join("contrast.json"), &report).unwrap();
}

/// A contrast of a base, an aligned model and two checkpoints that were tuned back.
pub fn series(run: &Run, name: &str) {
    let folder = run.root().join("contrasts").join(name);
    fs::create_dir_all(&folder).unwrap();
    let back = [0.0, 0.0, 0.3, 0.8];
    let rows: Vec<CheckpointMean> = (0..4u32)
        .flat_map(|model| {
            (0..12u32).map(move |feature| {
                let (base, aligned) = (1.0, 1.0 + 0.1 * f64::from(feature));
                let share: f64 = back[model as usize];
                let mean = if model == 0 { base } else { aligned + share * (base - aligned) };
                let is_back = model >= 2 && feature > 0;
                let rebound = is_back.then_some(Ratio { value: share, lo: share - 0.1, hi: share + 0.1 });
                CheckpointMean { feature, model, mean, rebound }
            })
        })
        .collect();
    write_rebound(&folder.join("rebound.parquet"), &rows).unwrap();
    let at = |model: usize, tuned_on: u64, r: f64| {
        let measured = |value: f64| [value, value - 0.08, value + 0.08];
        serde_json::json!({
            "model": model, "tuned_on": tuned_on, "features": measured(r), "hidden_states": measured(r - 0.1),
            "state_distance": measured(r - 0.15), "weight_distance": r - 0.2, "kl": measured(r + 0.05),
        })
    };
    let distance = |model: usize, far: f64| serde_json::json!({ "model": model, "hidden_states": [far, far - 0.01, far + 0.01], "weights": far / 4.0, "kl": null });
    let names = ["base", "aligned", "back-100", "back-200"];
    let fits = names.map(|model| serde_json::json!({ "model": model, "fvu": 0.2 }));
    let report = serde_json::json!({
        "schema_version": 2, "name": name, "runs": names, "sae": SAE, "unseen": [],
        "same_model": [], "rebound": [at(2, 100, 0.3), at(3, 200, 0.8)],
        "half_way": { "features": 140.0, "hidden_states": 160.0, "state_distance": 170.0, "weight_distance": 180.0, "kl": 130.0 },
        "distances": [distance(1, 0.4), distance(2, 0.3), distance(3, 0.1)],
        "models": fits,
    });
    file::write_json(&folder.join("contrast.json"), &report).unwrap();
}

/// A probe of pairs: features 6, 9 and 10 carry it, and two labels are not plausible. The index gets promoted tokens.
pub fn probe(run: &Run, name: &str) {
    let index = run.features(SAE);
    let features = read_features(&index.join("features.parquet")).unwrap().len();
    let tokens = |feature: usize| {
        let token = |(n, word): (usize, &str), promoted| Word {
            promoted,
            token_id: (feature + n) as u32,
            piece: format!(" {word}"),
            logit: if promoted { 2.0 - 0.3 * n as f32 } else { 0.3 * n as f32 - 1.8 },
        };
        let [color, shape] = color_and_shape(feature as u32 / 4);
        let promoted = [color, shape, "round", "bright"].into_iter().enumerate().map(|word| token(word, true));
        promoted.chain(["empty", "no"].into_iter().enumerate().map(|word| token(word, false))).collect()
    };
    write_lists(&index.join(Word::FILE), features, tokens).unwrap();
    let weighted = |feature: u32, weight: f64, share: f64| {
        let promoted: Vec<String> =
            tokens(feature as usize).into_iter().take(4).map(|token: Word| token.piece).collect();
        serde_json::json!({ "feature": feature, "weight": weight, "share": share, "words": "ring red", "promoted": promoted })
    };
    let report = serde_json::json!({
        "schema_version": 1, "name": name, "kind": "pair", "label": "helpful", "levels": [], "part": "answer", "pair": "set",
        "run": run.root(), "sae": SAE, "sae_blake3": "", "seed": 0, "samples": 24, "examples": 36, "left_out": 2,
        "groups": 12, "features": 3,
        "quality": {
            "measure": "accuracy", "features": 0.861, "interval": [0.79, 0.92], "dense": 0.88, "words": 0.72, "length": 0.56,
            "random": 0.49,
        },
        "brier": null, "by_category": [{ "category": "circle", "samples": 8, "quality": 0.9 }], "penalty": 0.01,
        "audit": {
            "pairs": 36, "agree": 0.861, "flipped": 0.1, "interval": [0.04, 0.18], "threshold": -1.25, "expected_auc": 0.9,
        },
        "suspects": [
            { "preferred": "shape-05", "other": "shape-11", "samples": [5, 11], "margin": -2.5 },
            { "preferred": "shape-03", "other": "shape-03", "samples": [3, null], "margin": -1.75 },
        ],
        "margin_column": format!("margin_{name}"),
        "weighted": [weighted(6, 0.84, 0.61), weighted(9, -0.42, 0.27), weighted(10, 0.11, 0.12)],
        "path": [{ "penalty": 0.01, "loss": 0.4, "standard_error": 0.02, "features": 3 }],
        "column": format!("probe_{name}"),
        "fitted": {
            "kind": "pair", "part": "answer", "calibration": null,
            "probe": { "weights": [[6, 0.84], [9, -0.42], [10, 0.11]], "offsets": [] },
        },
    });
    let folder = run.root().join("probes").join(SAE);
    fs::create_dir_all(&folder).unwrap();
    file::write_json(&folder.join(format!("{name}.json")), &report).unwrap();
}

/// The log of a training.
pub fn log(run: &Run) {
    let mut log = Log::new(50);
    (1..=50u32).for_each(|step| {
        let (loss, l0) = (40.0 / f64::from(step), 32.0 - f64::from(step) / 5.0);
        log.push(&StepLog { step: step.into(), loss, l0, fvu: loss / 50.0, ..StepLog::default() });
    });
    log.write(&run.sae_dir(SAE).join("log.parquet")).unwrap();
}

/// Cuts a file in half, as a full disk or a broken copy would.
pub fn truncate(path: &Path) {
    let bytes = fs::read(path).unwrap();
    file::write_bytes(path, &bytes[..bytes.len() / 2]).unwrap();
}
