//! What is fuzzed, and with which seeds: shared by the targets of cargo-fuzz and by the plain runner (harvest/examples/fuzz.rs).
//! A target takes any bytes; it may refuse them, and nothing else.
//!
//! The file of a probe is read by the operations, which depend on `harvest`, of which the plain runner is an example, so that it
//! cannot be a target here: `src/probe/file.rs` has a test with changed files.

use harvest::data::{Mapping, Source, read_archive};
use harvest::model::{ModelConfig, VisionConfig};
use harvest::pixels::ImageProcessor;
use harvest::template::Template;
use harvest::{Answers, CacheFormat, Checkpoint, Import, Templating};
use sae_core::analysis::between::Part;
use sae_core::analysis::feature_sets::{FeatureSetCollector, Measure};
use sae_core::analysis::index::{Example, Indexer, write_examples};
use sae_core::analysis::part::{Header, Mergeable, Number, Origin, PartWriter, PassPart, Section, StoreOrigin};
use sae_core::analysis::pass::Observer;
use sae_core::analysis::summary::{Lookup, PartialSummaries, StoredSummaries, SummaryKey, SummaryWriter};
use sae_core::autoencoder::formats::{Format, arrays, load_as, npz, pickle, torch};
use sae_core::store::Store;
use sae_core::store::sample::Modality;
use sae_core::tensors::{Dtype, Tensors};
use sae_core::{Run, file};
use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A target.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What it does with bytes.
    pub run: fn(&[u8]),
    /// Files or folders below the repository whose bytes are good ones; and texts that are.
    pub seeds: &'static [&'static str],
    pub texts: &'static [&'static str],
}

/// Rows as data sets in JSON have them.
const ROWS: [&str; 7] = [
    r#"{"id": 1, "image": "square.png", "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A ring."}]}"#,
    r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}, {"role": "assistant", "content": "A ring."}], "images": [{"bytes": "iVBORw0KGgo=", "path": null}]}"#,
    r#"{"prompt": "What?", "chosen": "A ring.", "rejected": "A hat.", "images": [], "meta": {"year": 2020, "score": NaN}}"#,
    r#"{"instruction": "Say it.", "input": "", "output": "It.", "history": [["One?", "Two."]]}"#,
    r#"{"video": ["square.png", {"bytes": "iVBORw0KGgo="}], "fps": 2, "question": "<video>\nWhat?", "answer": "A ring."}"#,
    r#"{"texts": ["One.", null], "images": [null, "data:image/png;base64,iVBORw0KGgo="]}"#,
    r#"[{"question": "What?", "response_0": "a", "response_1": "b", "overall_response": 1}, {"text": "words", "file_name": "square.png"}]"#,
];

const TABLES: [&str; 2] = [
    "file_name,text,split\nsquare.png,\"A ring, wet\",train\nsquare.png,\"a \"\"hat\"\"\",\n",
    "id\ttext\timage\n1\ta ring\tsquare.png\n",
];

const TEMPLATES: [&str; 3] = [
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% if message['content'] is string %}\
     {{ message['content'] | trim }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\
     {% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{{ eos_token }}{% endfor %}\
     {% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{%- set ns = namespace(system='') -%}{%- for m in messages -%}{%- if m.role == 'system' -%}{%- set ns.system = m.content -%}\
     {%- elif loop.index0 % 2 == 0 -%}[INST] {{ ns.system }} {{ m.content }} [/INST]{%- else -%} {{ m.content }}</s>{%- endif -%}{%- endfor -%}",
    "{% macro say(text) %}{{ text | replace('a', 'b') | upper }}{% endmacro %}{{ strftime_now('%d %b %Y') }}{% for m in messages[1:] %}\
     {{ say(m.content) }}{{ m | tojson(indent=2) }}{{ raise_exception('no') if loop.first and false }}{% endfor %}",
];

/// Decoders whose rotary positions are scaled.
const ROPES: [&str; 3] = [
    r#"{"model_type": "qwen2", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24, "beta_fast": 2, "beta_slow": 0.5, "truncate": false}}"#,
    r#"{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "original_max_position_embeddings": 24, "rope_parameters": {"rope_type": "longrope", "short_factor": [1, 1, 1.2, 2], "long_factor": [1, 2, 4, 8]}}"#,
    r#"{"model_type": "mistral", "num_hidden_layers": 2, "max_position_embeddings": 24, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "sliding_window": 8}"#,
];

/// Two peaks of sample 0, and none of sample 1.
const SUMMARIES: [&str; 2] = ["\0\0\0\0\x02\0\0\0\0\x03\x05\0\0\0\0@\x04\x01\x01\0\0\0@", "\x01\0\0\0\0\0\0\0\0"];
/// Edits of a part, eight bytes each: numbers overwritten, a tensor that ends early, one that is repeated, one of another width or
/// name, and other shards.
const EDITS: [&str; 6] = [
    "\x01\0\0\0\x7f\x7f\x7f\x7f",
    "\x04\x01\x05\0\0\0\0\0",
    "\x02\x02\0\0\x40\0\0\0",
    "\x08\x03\0\0\x02\0\0\0",
    "\x03\x04\0\0\0\0\0\0",
    "\0\x05\0\0\x01\x02\0\0",
];
/// Features of the autoencoder that summaries and parts are made with.
const FEATURES: usize = 300;

/// Autoencoders with a configuration: format, golden folder, weights, configuration.
const AUTOENCODERS: [(Format, &str, &str, &str); 7] = [
    (Format::SaeLens, "saelens_train_batchtopk", "sae_weights.safetensors", "cfg.json"),
    (Format::Sparsify, "sparsify_topk", "sae.safetensors", "cfg.json"),
    (Format::DictionaryLearning, "dl_topk", "ae.pt", "config.json"),
    (Format::Llamascopium, "llamascopium_topk", "sae_weights.safetensors", "config.json"),
    (Format::LlamaScope, "llama_scope", "checkpoints/final.safetensors", "hyperparams.json"),
    (Format::GemmaScope2, "gemma_scope_2", "params.safetensors", "config.json"),
    (Format::CrosscoderPt, "crosscoder_pt", "cc_weights.pt", "cfg.json"),
];

/// All of them.
pub const TARGETS: [Target; 19] = [
    Target { name: "jsonl", run: |bytes| rows(bytes, "jsonl"), seeds: &[], texts: &ROWS },
    Target { name: "json", run: |bytes| rows(bytes, "json"), seeds: &[], texts: &ROWS },
    Target { name: "csv", run: |bytes| rows(bytes, "csv"), seeds: &[], texts: &TABLES },
    Target {
        name: "parquet",
        run: |bytes| rows(bytes, "parquet"),
        seeds: &["tests/golden/caches/plain/tokens.parquet"],
        texts: &[],
    },
    Target {
        name: "arrow",
        run: |bytes| rows(bytes, "arrow"),
        seeds: &["tests/golden/caches/saelens", "tests/golden/caches/saelens-f16"],
        texts: &[],
    },
    Target { name: "archive", run: |bytes| _ = read_archive(bytes), seeds: &[], texts: &[] },
    Target { name: "tar", run: |bytes| rows(bytes, "tar"), seeds: &[], texts: &[] },
    Target { name: "template", run: template, seeds: &["tests/golden/gemma3-a/chat_template.json"], texts: &TEMPLATES },
    Target {
        name: "config",
        run: config,
        seeds: &[
            "tests/golden/gemma3-a/config.json",
            "tests/golden/llava-b/config.json",
            "tests/golden/qwen2_5_vl-a/config.json",
            "tests/golden/qwen3_vl-b/config.json",
            "tests/golden/smolvlm-a/config.json",
            "tests/golden/mistral3-a/config.json",
            "tests/golden/internvl-a/config.json",
            "tests/golden/paligemma-b/config.json",
            "tests/golden/gemma4-a/config.json",
            "tests/golden/gemma4-b/config.json",
            "tests/golden/llava-a/preprocessor_config.json",
            "tests/golden/smolvlm-a/preprocessor_config.json",
            "tests/golden/mistral3-a/preprocessor_config.json",
            "tests/golden/internvl-a/preprocessor_config.json",
            "tests/golden/paligemma-a/preprocessor_config.json",
            "tests/golden/gemma4-a/processor_config.json",
        ],
        texts: &ROPES,
    },
    Target { name: "image", run: image, seeds: &["tests/golden/llava-a/images"], texts: &[] },
    Target {
        name: "safetensors",
        run: |bytes| drop(arrays::safetensors(bytes)),
        seeds: &["tests/golden/caches/plain/activations.safetensors"],
        texts: &[],
    },
    Target { name: "torch", run: |bytes| drop(torch::entries(bytes)), seeds: &["tests/golden/saes/other"], texts: &[] },
    Target { name: "pickle", run: |bytes| drop(pickle::read(bytes)), seeds: &["tests/golden/saes/other"], texts: &[] },
    Target { name: "npz", run: |bytes| drop(npz::entries(bytes)), seeds: &["tests/golden/saes/other"], texts: &[] },
    Target { name: "autoencoder", run: autoencoder, seeds: &["tests/golden/saes/other"], texts: &[] },
    Target { name: "tokens", run: tokens, seeds: &["tests/golden/caches/plain/tokens.parquet"], texts: &[] },
    Target { name: "npy", run: npy, seeds: &["tests/golden/caches/plain/flat.npy"], texts: &[] },
    Target { name: "summaries", run: summaries, seeds: &[], texts: &SUMMARIES },
    Target { name: "part", run: part, seeds: &[], texts: &EDITS },
];

/// Runs a target. What panics inside the decoders of Parquet and Arrow files is caught there, and libFuzzer's own panic hook
/// does not see it.
pub fn run(name: &str, bytes: &[u8]) {
    for target in TARGETS.iter().filter(|target| target.name == name) {
        (target.run)(bytes);
    }
}

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let _ = fs::copy(repository().join("tests/golden/llava-a/images/square.png"), folder.path().join("square.png"));
        for (_, name, weights, _) in AUTOENCODERS {
            let to = folder.path().join(name).join(weights);
            fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            fs::copy(repository().join("tests/golden/saes/other").join(name).join(weights), to).expect("golden weights");
        }
        folder
    });
    static CHECKPOINT: LazyCell<Checkpoint> =
        LazyCell::new(|| Checkpoint::open(&repository().join("tests/golden/llava-a")).expect("a golden checkpoint"));
    static VISIONS: LazyCell<Vec<VisionConfig>> = LazyCell::new(|| {
        let config = |name| ModelConfig::open(&repository().join("tests/golden").join(name)).expect("a golden configuration");
        ["llava-a", "smolvlm-a", "mistral3-a", "internvl-a", "paligemma-a", "gemma4-a"].map(config).into_iter().filter_map(|c| c.vision).collect()
    });
    static STORE: LazyCell<(tempfile::TempDir, Store)> = LazyCell::new(|| {
        let (folder, caches) = (tempfile::tempdir().expect("a folder"), repository().join("tests/golden/caches/plain"));
        let run = Run::create(folder.path()).expect("a run");
        let tokens = caches.join("tokens.parquet");
        let import = cache(CacheFormat::Safetensors, &caches.join("activations.safetensors"), Some(&tokens));
        import.run(&run, &mut |_| Ok(())).expect("a golden cache");
        let store = Store::open(&run, "layers.0").expect("a store");
        (folder, store)
    });
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder of the repository").to_path_buf()
}

/// The bytes in a file of their own.
fn with_file(bytes: &[u8], name: &str, run: impl FnOnce(&Path)) {
    FOLDER.with(|folder| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("room for a file");
        run(&path);
        let _ = fs::remove_file(&path);
    });
}

/// A data set, all the way to token ids and pixels.
fn rows(bytes: &[u8], extension: &str) {
    with_file(bytes, &format!("data.{extension}"), |path| {
        let Ok(rows) = Source::open(path).and_then(|source| source.rows(&Mapping::new())) else { return };
        CHECKPOINT.with(|checkpoint| {
            for row in rows.take(64).map_while(Result::ok) {
                if let Err(skipped) = checkpoint.prepare(row, Answers::All, Templating::Auto) {
                    assert!(!skipped.reason.is_empty());
                }
            }
        });
    });
}

fn image(bytes: &[u8]) {
    let _ = harvest::pixels::Picture::decode(bytes);
}

/// What a checkpoint says of its model, and of its image processor.
fn config(bytes: &[u8]) {
    with_file(bytes, "config.json", |path| {
        let Ok(config) = ModelConfig::open(path.parent().expect("a folder")) else { return };
        for rope in config.text.ropes.iter().filter(|rope| rope.head_dim <= 1 << 12) {
            assert_eq!(rope.frequencies(100).len(), rope.head_dim / 2);
        }
    });
    with_file(bytes, "preprocessor_config.json", |path| {
        VISIONS.with(|visions| {
            for vision in visions.iter() {
                let _ = ImageProcessor::open(path.parent().expect("a folder"), vision);
            }
        });
    });
}

fn template(bytes: &[u8]) {
    with_file(bytes, "chat_template.jinja", |path| {
        let Some(folder) = path.parent() else { return };
        let Ok(Some(template)) = Template::open(folder, &Default::default(), true) else { return };
        for row in ROWS.iter().take(2) {
            with_file(row.as_bytes(), "turns.jsonl", |path| {
                let rows = Source::open(path).and_then(|source| source.rows(&Mapping::new()));
                for record in rows.into_iter().flatten().filter_map(|row| row.ok()?.record.ok()) {
                    let _ = template.render(&record.turns, false);
                    let _ = template.render(&record.turns, true);
                }
            });
        }
    });
}

fn autoencoder(bytes: &[u8]) {
    for (format, name, _, config) in AUTOENCODERS {
        with_file(bytes, &format!("{name}/{config}"), |path| {
            let folder = path.ancestors().find(|folder| folder.ends_with(name));
            let _ = folder.map(|folder| load_as(format, folder));
        });
    }
}

fn npy(bytes: &[u8]) {
    with_file(bytes, "acts.npy", |path| import(CacheFormat::Npy, path, None));
}

fn tokens(bytes: &[u8]) {
    let activations = repository().join("tests/golden/caches/plain/activations.safetensors");
    with_file(bytes, "tokens.parquet", |path| import(CacheFormat::Safetensors, &activations, Some(path)));
}

/// Summaries that a run has stored: any bytes, and bytes behind the right beginning and before the right hash, which the reader
/// compares first.
fn summaries(bytes: &[u8]) {
    STORE.with(|store| {
        let store = &store.1;
        let key = SummaryKey::new(store, &Part::All.into(), "a", FEATURES, "cpu").expect("the tokens of the store");
        with_file(bytes, "all.bin", |path| drop(StoredSummaries::open(path, &key)));
        let (mut contents, mut hash) = (Vec::new(), String::new());
        drop(SummaryWriter::new(&mut contents, Path::new("all.bin"), &key));
        contents.extend(bytes);
        contents.extend(u32::MAX.to_le_bytes());
        with_file(&contents, "contents.bin", |path| hash = file::hash(path).expect("a hash"));
        contents.extend((0..hash.len()).step_by(2).filter_map(|n| u8::from_str_radix(&hash[n..n + 2], 16).ok()));
        with_file(&contents, "all.bin", |path| {
            let Lookup::Found(found) = StoredSummaries::open(path, &key) else { panic!("the hash is right") };
            let samples = store.manifest().samples as usize;
            let mut sets = FeatureSetCollector::new(samples, FEATURES, 0.0, Measure::Strength);
            let _ = found.replay(&mut [&mut sets]);
            let sets = sets.finish();
            assert!((0..samples).flat_map(|n| sets.features(n)).all(|feature| (feature as usize) < FEATURES));
        });
    });
}

/// A tensor of a part.
#[derive(Clone)]
struct Edited {
    name: String,
    dtype: Dtype,
    width: usize,
    bytes: Vec<u8>,
}

/// Parts of shared passes: any bytes; and a good part with the edits that the bytes ask for, behind the right hash, which the reader
/// compares first.
fn part(bytes: &[u8]) {
    with_file(bytes, "part.safetensors", |path| drop(PassPart::open(path)));
    STORE.with(|store| {
        let store = &store.1;
        let (mut tensors, mut shards) = (good_part(store), 0..store.shards());
        for edit in bytes.as_chunks::<8>().0 {
            let [which, how, low, high, value @ ..] = *edit;
            let (place, count) = (usize::from(u16::from_le_bytes([low, high])), tensors.len());
            let tensor = &mut tensors[usize::from(which) % count];
            let length = tensor.bytes.len();
            match how % 6 {
                0 => tensor.bytes.iter_mut().skip(place % length.max(1)).zip(value).for_each(|(byte, new)| *byte = new),
                1 => tensor.bytes.truncate(place),
                2 => tensor.bytes.extend_from_within(..usize::from(value[0]).min(length)),
                3 => tensor.width = usize::from(value[0]),
                4 => tensor.name.push('x'),
                _ => shards = usize::from(value[0])..usize::from(value[1]),
            }
        }
        with_file(&[], "part.safetensors", |path| {
            write_part(path, store, &tensors, shards);
            let Ok(part) = PassPart::open(path) else { return };
            let merged = part.section("run", store).is_ok_and(|section| merge(&section, store));
            assert!(merged || bytes.len() >= 8, "a part without edits is a good one");
        });
    });
}

/// Takes in the states of a part, and uses what was taken in. Whether they fit to the store.
fn merge(section: &Section, store: &Store) -> bool {
    let mut index = Indexer::new(FEATURES);
    let fits = index.merge(section).is_ok();
    if fits {
        let bins: usize = (0..FEATURES).map(|k| index.histograms[k].bins().count()).sum();
        assert!(bins <= FEATURES * 4 * 280, "{bins} bins");
        assert!((0..FEATURES).all(|k| index.density(k) >= 0.0 && !index.class(k).name(&index.sides).is_empty()));
        let most = index.together.most();
        assert!(most.iter().flatten().all(|other| (other.feature as usize) < FEATURES));
        with_file(&[], "examples.parquet", |path| write_examples(path, &index).expect("examples that were taken in"));
    }
    let choice = || Part::All.into();
    let (file, folder) = (tempfile::tempfile().expect("a file"), std::env::temp_dir());
    let mut summaries = PartialSummaries::new(store, FEATURES, choice(), file, &folder);
    if summaries.merge(section).is_ok() {
        let key = SummaryKey::new(store, &choice(), "a", FEATURES, "cpu").expect("the tokens of the store");
        with_file(&[], "all.bin", |path| {
            summaries.write(path, &key).expect("room for a file");
            let Lookup::Found(found) = StoredSummaries::open(path, &key) else { panic!("the hash is right") };
            let samples = store.manifest().samples as usize;
            let mut sets = FeatureSetCollector::new(samples, FEATURES, 0.0, Measure::Active);
            let _ = found.replay(&mut [&mut sets]);
        });
    }
    fits
}

/// The tensors of a part that covers the whole store, with a few positions.
fn good_part(store: &Store) -> Vec<Edited> {
    let mut index = Indexer::new(FEATURES);
    index.begin_part();
    index.positions = [5, 3, 2];
    for n in 0..5 {
        let modality = if n < 3 { Modality::Text } else { Modality::Image };
        let (feature, example) = (7 * n, Example { activation: 1.5 + n as f32, sample: n % 2, position: n, modality });
        index.counts[feature as usize].fires += 1;
        index.histograms[feature as usize].add(example.activation, None);
        index.examples.offer(feature, example);
        index.strongest[feature as usize].offer(example);
        index.together.offer((n % 2, n), &[feature, feature + 1, 40]);
    }
    (0..store.shards()).for_each(|shard| index.end_shard(shard).expect("an end of a shard"));
    let mut writer = PartWriter::new();
    writer.begin("run");
    index.save(&mut writer).expect("a state");
    writer.put("summaries.records", 1, SUMMARIES.concat().into_bytes());
    let mut tensors = Vec::new();
    with_file(&[], "good.safetensors", |path| {
        writer.write(path, &header(store, 0..store.shards())).expect("room for a file");
        let file = Tensors::open(path).expect("a part");
        for name in file.names() {
            let (Some((dtype, bytes)), Some(shape)) = (file.bytes(&name), file.shape(&name)) else { continue };
            let (width, bytes) = (shape.get(1).copied().unwrap_or(1), bytes.to_vec());
            tensors.push(Edited { name: name.trim_start_matches("run/").into(), dtype, width, bytes });
        }
    });
    tensors
}

fn header(store: &Store, shards: std::ops::Range<usize>) -> Header {
    let origin = Origin {
        program: "sae".into(),
        request: Default::default(),
        sae: "a".into(),
        sae_blake3: "0".into(),
        stores: BTreeMap::from([("run".into(), StoreOrigin::new(store))]),
    };
    Header { origin, number: 1, of: 1, shards: BTreeMap::from([("run".into(), shards)]), command: Vec::new() }
}

/// Writes tensors as a part.
fn write_part(path: &Path, store: &Store, tensors: &[Edited], shards: std::ops::Range<usize>) {
    fn numbers<T: Number>(bytes: &[u8]) -> impl Iterator<Item = T> {
        bytes.chunks_exact(T::BYTES).map(T::get)
    }
    let mut writer = PartWriter::new();
    writer.begin("run");
    for Edited { name, dtype, width, bytes } in tensors {
        match dtype {
            Dtype::U8 => writer.put(name, *width, numbers::<u8>(bytes)),
            Dtype::I16 => writer.put(name, *width, numbers::<i16>(bytes)),
            Dtype::U32 => writer.put(name, *width, numbers::<u32>(bytes)),
            Dtype::U64 => writer.put(name, *width, numbers::<u64>(bytes)),
            Dtype::F32 => writer.put(name, *width, numbers::<f32>(bytes)),
            _ => writer.put(name, *width, numbers::<f64>(bytes)),
        }
    }
    // Shapes that do not fit to the bytes are not written.
    let _ = writer.write(path, &header(store, shards));
}

fn import(format: CacheFormat, path: &Path, tokens: Option<&Path>) {
    FOLDER.with(|folder| {
        let folder = folder.path().join("run");
        if let Ok(run) = Run::create(&folder) {
            let _ = cache(format, path, tokens).run(&run, &mut |_| Ok(()));
        }
        let _ = fs::remove_dir_all(&folder);
    });
}

fn cache(format: CacheFormat, path: &Path, tokens: Option<&Path>) -> Import {
    Import {
        format,
        path: path.to_path_buf(),
        hook: Some(sae_core::store::Hook::block(0)),
        column: None,
        tokens: tokens.map(Path::to_path_buf),
        sample_length: None,
        state_layers: Vec::new(),
        checkpoint: None,
        model: None,
        store_dtype: None,
        part_rows: 1 << 20,
    }
}
