//! Activations of other tools become runs: bit for bit what the tools wrote, for training, index and scores; files that
//! lie are named. The golden files and how they were made: `tests/golden/make_caches.py`.

use crate::tool::{fails, files, json, repository, sae, tiny_model};
use harvest::{CacheFormat, Import};
use sae_core::Run;
use sae_core::store::Hook;
use sae_core::store::{Store, load_samples};
use sae_core::table;
use sae_core::tensors::Tensors;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn golden(name: &str) -> PathBuf {
    repository("tests/golden/caches").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn values(run: &Path, hook: &str) -> Vec<f32> {
    let store = Store::open(&Run::open(run).unwrap(), hook).unwrap();
    let mut values = Vec::new();
    for n in 0..store.shards() {
        let shard = store.shard(n).unwrap();
        store.tokens(n).unwrap();
        shard.read(0..shard.rows(), &mut values);
    }
    values
}

fn column<A: arrow::array::Array + Clone + 'static>(run: &Path, name: &str) -> A {
    let path = run.join("tokens/part-00000.parquet");
    table::get::<A>(&path, &table::read(&path, &[]).unwrap(), name).unwrap().clone()
}

fn expected(name: &str) -> Vec<f32> {
    let tensors = Tensors::open(&golden("expected.safetensors")).unwrap();
    tensors.f32(name, tensors.shape(name).unwrap()).unwrap()
}

fn expected_ids(name: &str) -> Vec<i32> {
    let tensors = Tensors::open(&golden("expected.safetensors")).unwrap();
    let (_, bytes) = tensors.bytes(&format!("{name}.ids")).unwrap();
    bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
}

#[test]
fn what_other_tools_captured_is_read_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    for (n, (path, format, more, hooks, samples)) in [
        ("saelens", "saelens-cache", &[][..], &[("layers.1", "saelens")][..], 8),
        ("saelens-f16", "saelens-cache", &["--store-dtype", "f32"], &[("layers.2", "saelens-f16")], 3),
        (
            "saelens-f16",
            "saelens-cache",
            &["--layer", "9", "--hook", "blocks.3.hook_resid_pre"],
            &[("layers.9", "saelens-f16")],
            3,
        ),
        ("saev", "saev", &[], &[("layers.5", "saev-5"), ("layers.13", "saev-13")], 5),
        ("saev", "saev", &["--layer", "13"], &[("layers.13", "saev-13")], 5),
        ("plain/activations.safetensors", "safetensors", &[], &[("layers.7", "plain")], 1),
        ("plain/flat.npy", "npy", &["--layer", "3", "--sample-length", "4"], &[("layers.3", "flat")], 3),
        ("plain/cube.npy", "npy", &["--hook", "blocks.3.hook_resid_post"], &[("layers.3", "cube")], 3),
    ]
    .into_iter()
    .enumerate()
    {
        let (run, path) = (dir.path().join(n.to_string()), golden(path));
        let import = ["import", text(&path), "--run", text(&run)];
        // With its name and without, in small parts and in one.
        let named = if n % 2 == 0 { vec!["--from", format, "--shard-tokens", "12"] } else { vec![] };
        let import = [&import[..], more, &named].concat();
        assert_eq!(json(&[&import[..], &["--dry-run"]].concat())["plan"]["from"], format);
        assert!(!run.exists());
        let done = json(&import);
        assert_eq!((&done["samples"], &done["from"]), (&samples.into(), &format.into()), "{import:?}");
        for (hook, name) in hooks {
            assert_eq!(values(&run, hook), expected(name), "{import:?}");
        }
        assert_eq!(json(&import)["tokens"], done["tokens"], "importing again does nothing");
    }
}

#[test]
fn tokens_are_what_the_tools_say_and_documented_where_they_say_nothing() {
    use arrow::array::*;
    let dir = tempfile::tempdir().unwrap();
    let import = |path: &str, more: &[&str]| {
        let (run, path) = (dir.path().join(path.replace('/', "-")), golden(path));
        json(&[&["import", text(&path), "--run", text(&run)], more].concat());
        run
    };
    let run = import("saelens", &[]);
    assert_eq!(column::<Int32Array>(&run, "token_id").values().to_vec(), expected_ids("saelens"));
    let first = format!("<{}>", expected_ids("saelens")[0]);
    assert_eq!(column::<StringArray>(&run, "piece").value(0), first);
    let samples = load_samples(&Run::open(&run).unwrap()).unwrap();
    assert_eq!((samples[5].key.as_str(), samples[5].source.as_str()), ("5", "data-00001-of-00002.arrow:1"));

    let run = import("saev", &[]);
    assert!(column::<UInt8Array>(&run, "modality").values().iter().all(|m| *m == 1));
    let special = column::<BooleanArray>(&run, "special");
    assert!((0..special.len()).all(|row| special.value(row) == (row % 5 == 0)), "CLS is special");

    let table = golden("plain/tokens.parquet");
    let run = import("plain/activations.safetensors", &["--tokens", text(&table)]);
    assert_eq!(column::<UInt32Array>(&run, "sample").values(), &[0, 0, 0, 1, 1, 1, 1, 2, 2]);
    assert_eq!(column::<UInt32Array>(&run, "position").values(), &[0, 1, 2, 0, 1, 2, 3, 0, 1]);
    assert_eq!(column::<UInt8Array>(&run, "modality").values(), &[0, 1, 1, 0, 0, 0, 0, 1, 0]);
    assert_eq!(column::<Int32Array>(&run, "token_id").values().to_vec(), expected_ids("plain"));
    assert_eq!(column::<Int16Array>(&run, "image").iter().collect::<Vec<_>>()[..3], [None, Some(0), Some(0)]);
    assert_eq!(column::<Float32Array>(&run, "x1").iter().collect::<Vec<_>>()[..3], [None, Some(0.5), Some(1.0)]);
    assert!(column::<UInt8Array>(&run, "role").values().iter().all(|role| *role == 2));
    let samples = load_samples(&Run::open(&run).unwrap()).unwrap();
    let keys: Vec<_> = samples.iter().map(|s| s.key.as_str()).collect();
    assert_eq!((keys, samples[2].text.as_str()), (vec!["2", "3", "9"], " w7 w8"));
    assert_eq!(json(&["info", text(&run.join("activations/layers.7"))])["model"], "made-here");
}

#[test]
fn an_imported_run_is_trained_on_indexed_and_scored() {
    let dir = tempfile::tempdir().unwrap();
    let (run, cache, table) =
        (dir.path().join("run"), golden("plain/activations.safetensors"), golden("plain/tokens.parquet"));
    let run = text(&run);
    json(&["import", text(&cache), "--tokens", text(&table), "--run", run]);
    let small = ["--features", "16", "--batch", "4", "--steps", "5"];
    json(&[&["train", "--run", run, "--hook", "layers.7", "--name", "a"], &small[..]].concat());
    assert_eq!(json(&["index", "--run", run])["features"], 16);
    assert_eq!(json(&["score", "--run", run])["samples"], 3);
    assert_eq!(json(&["eval", "--run", run])["all"]["tokens"], 9);
    let other = fails(1, &["import", text(&golden("plain/flat.npy")), "--layer", "7", "--run", run]);
    assert!(other.contains("holds another harvest"), "{other}");
}

/// A `.npy` file of these rows.
fn npy(path: &Path, shape: &str, values: &[f32]) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_killed_import_goes_on_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("acts.npy");
    let values: Vec<f32> = (0..60_000 * 64).map(|n| (n % 9973) as f32 / 97.0).collect();
    npy(&path, "(60000, 64)", &values);
    let import = |name: &str| {
        let mut command = sae();
        command.args(["import", "--layer", "0", "--sample-length", "100", "--shard-tokens", "2000"]);
        command.arg(&path).arg("--run").arg(dir.path().join(name));
        command
    };
    assert!(import("whole").output().unwrap().status.success());
    let mut kills = 0;
    for after in [2, 9] {
        let mut child = import("killed").spawn().unwrap();
        let part = dir.path().join(format!("killed/tokens/part-{after:05}.parquet"));
        let begun = Instant::now();
        while !part.exists() && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the import hangs");
            std::thread::sleep(Duration::from_micros(200));
        }
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0, "every import ended before it could be killed");
    assert!(import("killed").output().unwrap().status.success());
    assert!(files(&dir.path().join("killed")) == files(&dir.path().join("whole")));
    assert_eq!(self::values(&dir.path().join("killed"), "layers.0"), values);
}

/// A golden cache in a folder of its own, with one file changed.
fn damaged(dir: &Path, cache: &str, file: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> PathBuf {
    let copy = dir.join(cache);
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(golden(cache)).unwrap().map(|e| e.unwrap()) {
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let path = copy.join(file);
    fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
    copy
}

fn replaced(from: &'static str, to: &'static str) -> impl FnOnce(Vec<u8>) -> Vec<u8> {
    move |bytes| {
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains(from), "{text}");
        text.replace(from, to).into_bytes()
    }
}

fn cut(by: usize) -> impl FnOnce(Vec<u8>) -> Vec<u8> {
    move |bytes| bytes[..bytes.len() - by].to_vec()
}

#[test]
fn files_that_lie_are_named_and_leave_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let refused = |path: &Path, more: &[&str], expected: &[&str]| {
        let _ = fs::remove_dir_all(&run);
        let said = fails(1, &[&["import", text(path), "--run", text(&run)], more].concat());
        assert!(!said.contains("panicked"), "{said}");
        for expected in expected {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        assert!(!run.join("activations").join("manifest.json").exists());
    };
    let change =
        |cache: &str, file: &str, how: Box<dyn FnOnce(Vec<u8>) -> Vec<u8>>| damaged(dir.path(), cache, file, how);

    let arrow = "data-00001-of-00002.arrow";
    refused(&change("saelens", arrow, Box::new(cut(8))), &[], &[arrow, "has no end"]);
    refused(&change("saelens", arrow, Box::new(cut(2000))), &[], &[arrow]);
    refused(&change("saelens", arrow, Box::new(|b| [&b[..3000], &b[b.len() - 8..]].concat())), &[], &[arrow]);
    let info = "dataset_info.json";
    refused(&change("saelens", info, Box::new(replaced("16\n", "17\n"))), &[], &["[12, 17]", "row 0"]);
    refused(&change("saelens", info, Box::new(replaced("16\n", "18446744073709551615\n"))), &[], &["[12, 184"]);
    refused(&change("saelens", info, Box::new(replaced("float32", "bfloat16"))), &[], &["bfloat16", info]);
    refused(
        &change("saelens", info, Box::new(replaced("resid_post", "q_input"))),
        &[],
        &["is not a hook of this workbench", "--layer", "--hook"],
    );
    refused(&change("saelens", "state.json", Box::new(replaced("data-00000", "../data-0"))), &[], &["outside"]);
    refused(
        &golden("saelens"),
        &["--hook", "blocks.0.hook_z"],
        &["a column of activations blocks.0.hook_z", "resid_post"],
    );
    refused(&golden("saelens"), &["--shard-tokens", "5"], &["12 positions", "--shard-tokens"]);
    refused(&golden("saelens"), &["--sample-length", "3"], &["take no sample length"]);

    let metadata = "metadata.json";
    refused(&change("saev", metadata, Box::new(replaced("\"2.1\"", "\"3.0\""))), &[], &["found 3.0", metadata]);
    refused(&change("saev", metadata, Box::new(replaced("\"protocol\"", "\"p\""))), &[], &["no protocol"]);
    refused(
        &change("saev", metadata, Box::new(replaced("\"n_examples\": 5", "\"n_examples\": 6"))),
        &[],
        &["5 examples"],
    );
    refused(
        &change("saev", metadata, Box::new(replaced("_model\": 8", "_model\": 18446744073709551615"))),
        &[],
        &["acts000000"],
    );
    refused(&change("saev", metadata, Box::new(replaced("float32", "float16"))), &[], &["float16"]);
    refused(&change("saev", "acts000001.bin", Box::new(cut(4))), &[], &["acts000001.bin", "found 636"]);
    refused(&change("saev", "shards.json", Box::new(replaced("acts000001", "../acts0"))), &[], &["outside"]);
    refused(&change("saev", "shards.json", Box::new(replaced("acts000001", "acts000000"))), &[], &["listed twice"]);
    let nan = |mut bytes: Vec<u8>| {
        bytes[4 * 8 * 7 + 4..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes
    };
    refused(&change("saev", "acts000000.bin", Box::new(nan)), &[], &["acts000000.bin", "NaN in row 7, dimension 1"]);
    refused(&golden("saev"), &["--layer", "6"], &["expected layers.6"]);

    let tensor = "activations.safetensors";
    let table = golden("plain/tokens.parquet");
    let tokens = ["--tokens", text(&table)];
    refused(&change("plain", tensor, Box::new(cut(2))).join(tensor), &["--from", "safetensors"], &[tensor]);
    refused(
        &golden("plain/flat.npy"),
        &[&tokens[..], &["--layer", "1"]].concat(),
        &["9 rows", "has 10", "tokens.parquet"],
    );
    refused(&golden("plain/flat.npy"), &[], &["choose --layer"]);
    refused(
        &change("plain", "flat.npy", Box::new(cut(4))).join("flat.npy"),
        &["--layer", "1"],
        &["284 bytes", "[10, 4]"],
    );
    let path = dir.path().join("bad.npy");
    npy(&path, "(2, 2)", &[0.0, 1.0, f32::INFINITY, 0.0]);
    refused(&path, &["--layer", "1"], &["inf in row 1, dimension 0", "bad.npy"]);
    npy(&path, "(4294967296, 4294967296)", &[0.0]);
    refused(&path, &["--layer", "1"], &["does not fit"]);
    npy(&path, "(0, 4)", &[]);
    refused(&path, &["--layer", "1"], &["[0, 4]"]);
    npy(&path, "(4,)", &[0.0; 4]);
    refused(&path, &["--layer", "1"], &["[rows, d_in]"]);
    refused(&golden("plain/flat.npy"), &["--layer", "1", "--shard-tokens", "9"], &["--sample-length"]);
    refused(
        &change("plain", "tokens.parquet", Box::new(cut(9))).join(tensor),
        &["--tokens", text(&dir.path().join("plain/tokens.parquet"))],
        &["tokens.parquet"],
    );
    let autoencoder = fails(1, &["import", text(&golden("saev/acts000000.bin")), "--run", text(&run)]);
    assert!(autoencoder.contains("--name") && autoencoder.contains("saelens-cache"), "{autoencoder}");
    assert!(fails(2, &["import", "x", "--from", "onnx", "--run", "r"]).contains("saelens-cache"));
}

/// What vLLM's connectors write of a request: states `[positions, layers, 4]` that say where they are, and ids.
fn vllm_file(path: &Path, layers: usize, ids: &[i64]) {
    let value = |at: usize| (100 * (at / (4 * layers)) + 10 * (at / 4 % layers) + at % 4) as f32;
    let states: Vec<u8> = (0..ids.len() * layers * 4).flat_map(|at| value(at).to_le_bytes()).collect();
    let id_bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let view = |dtype, shape, bytes| safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap();
    let tensors = [
        ("hidden_states", view(safetensors::Dtype::F32, vec![ids.len(), layers, 4], &states)),
        ("token_ids", view(safetensors::Dtype::I64, vec![ids.len()], &id_bytes)),
    ];
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

#[test]
fn hidden_states_of_vllm_are_at_the_hooks_that_its_layers_mean() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, run, model) = (dir.path().join("states"), dir.path().join("run"), tiny_model());
    let config: serde_json::Value = serde_json::from_slice(&fs::read(model.join("config.json")).unwrap()).unwrap();
    let image = config["image_token_index"].as_i64().or(config["image_token_id"].as_i64()).unwrap();
    vllm_file(&folder.join("cmpl-b-0.safetensors"), 3, &[5, image, image, 6]);
    vllm_file(&folder.join("cmpl-a-0.safetensors"), 3, &[7, 8]);
    fs::write(folder.join("cmpl-b-0.safetensors.lock"), "").unwrap();
    let import = ["import", text(&folder), "--run", text(&run), "--checkpoint", text(&model)];
    let report = json(&[&import[..], &["--state-layers", "3,0,1"]].concat());
    assert_eq!((&report["from"], &report["samples"], &report["tokens"]), (&"vllm".into(), &2.into(), &6.into()));
    assert_eq!(report["hooks"], serde_json::json!(["layers.0", "layers.2"]));
    // The request `a` comes first; of each position, the third and the first state in the file.
    let row = |position: usize, layer: usize| (0..4).map(move |at| (100 * position + 10 * layer + at) as f32);
    for (hook, layer) in [("layers.0", 2), ("layers.2", 0)] {
        let expected: Vec<f32> = [0, 1, 0, 1, 2, 3].into_iter().flat_map(|position| row(position, layer)).collect();
        assert_eq!(values(&run, hook), expected, "{hook}");
    }
    let pieces = column::<arrow::array::StringArray>(&run, "piece");
    assert!(pieces.iter().flatten().all(|piece| !piece.starts_with('<') || piece == "<image>"), "{pieces:?}");
    let samples = load_samples(&Run::open(&run).unwrap()).unwrap();
    assert_eq!(samples.iter().map(|sample| sample.key.as_str()).collect::<Vec<_>>(), ["cmpl-a-0", "cmpl-b-0"]);
    json(&["train", "--run", text(&run), "--hook", "layers.2", "--name", "base", "--steps", "2", "--batch", "4"]);
    let index = json(&["index", "--run", text(&run), "--sae", "base", "--no-promoted-tokens"]);
    assert!(index.is_object(), "{index}");

    let refused = |more: &[&str], said: &[&str]| {
        let other = dir.path().join("other");
        let error = fails(1, &[&["import", text(&folder), "--run", text(&other)], more].concat());
        assert!(said.iter().all(|part| error.contains(part)), "{error}");
        assert!(!other.exists());
    };
    refused(&[], &["the states of 3 layers, but 0 layers are named", "--state-layers"]);
    refused(&["--state-layers", "1,2,2"], &["a layer is named twice"]);
    refused(&["--state-layers", "1,2,4", "--layer", "2"], &["layers.2 is not among layers [1, 2, 4]"]);
    vllm_file(&folder.join("cmpl-c-0.safetensors"), 2, &[1]);
    refused(&["--state-layers", "1,2,3"], &["cmpl-c-0.safetensors", "2 layers", "unlike the files before it"]);
    fs::remove_file(folder.join("cmpl-c-0.safetensors")).unwrap();
    vllm_file(&folder.join("cmpl-c-0.safetensors"), 3, &[i64::MAX]);
    let late = dir.path().join("late");
    let late = fails(1, &["import", text(&folder), "--run", text(&late), "--state-layers", "1,2,3", "--from", "vllm"]);
    assert!(late.contains("token_ids has an id outside the range of 32 bits") && late.contains("cmpl-c-0"), "{late}");
}

/// Imports into a fresh run. Numbers may be other ones, and there may be an error: nothing may break.
fn import_anyhow(dir: &Path, format: CacheFormat, path: PathBuf, tokens: Option<PathBuf>) {
    let import = Import {
        format,
        path,
        hook: Some(Hook::block(1)),
        column: None,
        tokens,
        sample_length: None,
        state_layers: Vec::new(),
        checkpoint: None,
        model: None,
        store_dtype: None,
        part_rows: 1000,
    };
    let folder = dir.join("run");
    let _ = fs::remove_dir_all(&folder);
    let _ = import.run(&Run::create(&folder).unwrap(), &mut |_| Ok(()));
}

#[test]
fn short_and_damaged_files_of_any_format_end_in_an_error_at_worst() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = "activations.safetensors";
    for (cache, file, format, named, tokens) in [
        ("saev", "acts000001.bin", CacheFormat::Saev, "", false),
        ("saev", "metadata.json", CacheFormat::Saev, "", false),
        ("saev", "shards.json", CacheFormat::Saev, "", false),
        ("saelens", "state.json", CacheFormat::SaeLens, "", false),
        ("saelens", "dataset_info.json", CacheFormat::SaeLens, "", false),
        ("plain", tensor, CacheFormat::Safetensors, tensor, false),
        ("plain", "flat.npy", CacheFormat::Npy, "flat.npy", false),
        ("plain", "tokens.parquet", CacheFormat::Safetensors, tensor, true),
    ] {
        let size = fs::metadata(golden(cache).join(file)).unwrap().len() as usize;
        for at in (0..size).step_by(size.div_ceil(40)) {
            for flip in [false, true] {
                let path = damaged(dir.path(), cache, file, |mut bytes| {
                    bytes[at] ^= 0xff;
                    bytes[..if flip { bytes.len() } else { at }].to_vec()
                });
                import_anyhow(dir.path(), format, path.join(named), tokens.then(|| path.join(file)));
            }
        }
    }
    let folder = dir.path().join("vllm");
    let file = folder.join("request.safetensors");
    vllm_file(&file, 1, &[1, 2, 3]);
    let whole = fs::read(&file).unwrap();
    for at in (0..whole.len()).step_by(whole.len().div_ceil(40)) {
        for flip in [false, true] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            bytes.truncate(if flip { whole.len() } else { at });
            fs::write(&file, bytes).unwrap();
            import_anyhow(dir.path(), CacheFormat::Vllm, folder.clone(), None);
        }
    }
}

#[test]
fn streams_with_flipped_bytes_end_in_an_error_at_worst() {
    let dir = tempfile::tempdir().unwrap();
    let file = "data-00000-of-00001.arrow";
    let size = fs::metadata(golden("saelens-f16").join(file)).unwrap().len() as usize;
    for at in (0..size).step_by(13) {
        let path = damaged(dir.path(), "saelens-f16", file, |mut bytes| {
            bytes[at] ^= 0xff;
            bytes
        });
        import_anyhow(dir.path(), CacheFormat::SaeLens, path, None);
    }
}
