//! Passes in parts: what several processes make is what one makes, byte for byte; parts that do not belong together, or are
//! missing, are named; a process that is interrupted or not alone says so with its status.

use crate::tool::{data_set, fails, files, json, repository, sae, said, tiny_model};
use filters::column::ScoreTable;
use sae_core::Run;
use sae_core::analysis::part::{Number, PartWriter, PassPart};
use sae_core::store::load_samples;
use sae_core::store::run::Lock;
use sae_core::tensors::{Dtype, Tensors};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// A run of several shards with an autoencoder; nothing was made of it.
fn trained(dir: &Path) -> PathBuf {
    let (data, run) = (data_set(dir, 30), dir.join("run"));
    harvested(&tiny_model(), &data, &run, &["--layers", "1", "--shard-tokens", "150"]);
    let train = ["train", "--run", run.to_str().unwrap(), "--hook", "layers.1", "--name", "base", "--device", "cpu"];
    json(&[&train[..], &["--batch", "128", "--steps", "20", "--expansion", "4"]].concat());
    run
}

fn harvested(model: &Path, data: &Path, run: &Path, more: &[&str]) {
    let [model, data, run] = [model, data, run].map(|path| path.to_str().unwrap());
    json(&[&["harvest", "--model", model, "--data", data, "--run", run, "--device", "cpu"], more].concat());
}

/// A run of the demo's model and data with blank images: every score has values.
fn demo(dir: &Path) -> PathBuf {
    let (model, data, run) =
        (repository("assets/demo-mllm"), repository("assets/demo-data/data.jsonl"), dir.join("run"));
    harvested(&model, &data, &run, &["--layers", "4", "--limit", "36", "--shard-tokens", "600", "--blank-images"]);
    let train = ["train", "--run", run.to_str().unwrap(), "--hook", "layers.4", "--name", "base", "--device", "cpu"];
    json(
        &[&train[..], &["--arch", "topk", "--k", "8", "--features", "256", "--batch", "128", "--steps", "30"]].concat(),
    );
    run
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
    assert!(copied.success());
}

fn pass<'a>(operation: &'a str, run: &'a Path, part: &'a str) -> Vec<&'a str> {
    vec!["pass", operation, "--run", run.to_str().unwrap(), "--device", "cpu", "--part", part]
}

fn reduce(run: &Path, more: &[&str]) -> Vec<String> {
    let words = ["reduce", "--run", run.to_str().unwrap(), "--device", "cpu"];
    words.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

/// A run with a part of a scoring, which is the whole, its file, and the bytes of that.
fn with_a_part(dir: &Path) -> (PathBuf, PathBuf, Vec<u8>) {
    let run = trained(dir);
    json(&pass("score", &run, "1/1"));
    let file = part_files(&run)[0].clone();
    let bytes = fs::read(&file).unwrap();
    (run, file, bytes)
}

fn part_files(run: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(run.join("parts")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What an index and a scoring wrote.
fn written(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(&run.join("features"));
    all.extend(files(&run.join("scores")));
    all.insert("everything.bin".into(), fs::read(run.join("summaries/base/everything.bin")).unwrap());
    let fits = all.keys().filter(|path| path.to_str().unwrap().contains(".pmi"));
    assert_eq!((all.len(), fits.count()), (15, 3), "{:?}", all.keys());
    all
}

#[test]
fn parts_become_the_files_that_one_process_writes_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let run = demo(dir.path());
    let alone = dir.path().join("alone");
    copy(&run, &alone);
    for operation in ["index", "score"] {
        json(&[operation, "--run", alone.to_str().unwrap(), "--device", "cpu"]);
    }
    // Writes the summaries that it reads.
    let out = dir.path().join("diverse");
    let (out, path) = (out.to_str().unwrap(), alone.to_str().unwrap());
    json(&[
        "filter",
        "--run",
        path,
        "--by",
        "cosine_paper",
        "--keep",
        "50%",
        "--diverse",
        "--out",
        out,
        "--device",
        "cpu",
    ]);
    let expected = written(&alone);
    for parts in [2, 3] {
        let shared = dir.path().join(format!("shared-{parts}"));
        copy(&run, &shared);
        for operation in ["index", "score", "summaries"] {
            // Another order than that of the shards.
            for number in (1..=parts).rev() {
                let part = format!("{number}/{parts}");
                // Those that the filter reads.
                let positions = ["--positions", "everything"].into_iter().filter(|_| operation == "summaries");
                let made = json(&pass(operation, &shared, &part).into_iter().chain(positions).collect::<Vec<_>>());
                assert_eq!(made["existed"], false);
                if number == parts {
                    let shards = made["shards"]["run"]["end"].as_u64().unwrap();
                    assert!(shards >= 4, "{shards} shards are too few to be divided");
                }
            }
            let named = part_files(&shared);
            let named = named.iter().map(|path| path.to_str().unwrap()).filter(|path| path.contains(operation));
            let reduced = reduce(&shared, &named.collect::<Vec<_>>());
            let reduced = json(&reduced.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!((&reduced["parts"], &reduced["operation"]), (&parts.into(), &operation.into()));
        }
        let found = written(&shared);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (path, bytes) in &found {
            assert!(*bytes == expected[path], "{} differs with {parts} parts", path.display());
        }
    }
}

/// A run of two layers with an autoencoder of each, `base` and `second`.
fn with_two_layers(dir: &Path) -> PathBuf {
    let (model, data, run) =
        (repository("assets/demo-mllm"), repository("assets/demo-data/data.jsonl"), dir.join("run"));
    harvested(&model, &data, &run, &["--layers", "2,4", "--limit", "36", "--shard-tokens", "600", "--blank-images"]);
    for (hook, name) in [("layers.4", "base"), ("layers.2", "second")] {
        let train = ["train", "--run", run.to_str().unwrap(), "--hook", hook, "--name", name, "--device", "cpu"];
        let size = ["--arch", "topk", "--k", "8", "--features", "256", "--batch", "128", "--steps", "30"];
        json(&[&train[..], &size].concat());
    }
    run
}

#[test]
fn several_autoencoders_are_scored_together_and_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let run = with_two_layers(dir.path());
    let (path, scores) = (run.to_str().unwrap(), run.join("scores/base.parquet"));
    let score = ["score", "--run", path, "--sae", "base", "--device", "cpu"];
    let columns = |scores: &Path| {
        let samples = load_samples(&Run::open(&run).unwrap()).unwrap();
        let table = ScoreTable::open(scores, &samples).unwrap();
        ["pmi", "pmi_blank", "pmi_relative", "pmi_token_min", "cosine_paper", "l0_corrected"]
            .map(|name| table.column(name).unwrap())
    };
    json(&score);
    let alone = columns(&scores);
    json(&[&score[..], &["--beside", "second"]].concat());
    let together = columns(&scores);
    for n in 0..6 {
        assert!(together[n].iter().flatten().count() > 30);
        // Scores of single features are of the first autoencoder, with or without others.
        assert_eq!(together[n] == alone[n], n >= 4, "{n}");
    }
    let fit = fs::read(run.join("scores/base.pmi_blank.safetensors")).unwrap();
    let why = fails(1, &["score", "--run", path, "--sae", "base", "--explain", "0"]);
    assert!(why.contains("several together"), "{why}");
    for (name, cause) in [("base", "more than once"), ("third", "third")] {
        let why = fails(1, &[&score[..], &["--beside", name]].concat());
        assert!(why.contains(cause), "{why}");
    }

    // In parts, with the commands that are printed for those that are missing.
    let bytes = fs::read(&scores).unwrap();
    fs::remove_dir_all(run.join("scores")).unwrap();
    let pass = |part| {
        ["pass", "score", "--run", path, "--sae", "base", "--beside", "second", "--device", "cpu", "--part", part]
    };
    json(&pass("2/2"));
    let reduced = reduce(&run, &[]);
    let reduced: Vec<&str> = reduced.iter().map(String::as_str).collect();
    let missing = fails(1, &reduced);
    assert!(missing.contains("--beside second"), "{missing}");
    json(&pass("1/2"));
    json(&reduced);
    assert_eq!(fs::read(&scores).unwrap(), bytes);
    assert_eq!(fs::read(run.join("scores/base.pmi_blank.safetensors")).unwrap(), fit);
    // An autoencoder that was trained again since then does not fit to the parts.
    let [weights, other] = ["second", "base"].map(|name| run.join("saes").join(name).join("sae_weights.safetensors"));
    fs::copy(other, weights).unwrap();
    fails(1, &reduced);
}

#[test]
fn missing_parts_are_made_by_the_commands_that_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path());
    let shown = reduce(&run, &[]);
    let words: Vec<&str> = shown.iter().map(String::as_str).collect();
    assert!(fails(1, &words).contains("cannot read the folder") || fails(1, &words).contains("no part was found"));
    json(&pass("index", &run, "2/4"));
    let first = part_files(&run);
    // Made again, the part is there already, and a copy of it elsewhere does no harm.
    assert_eq!(json(&pass("index", &run, "2/4"))["existed"], true);
    fs::copy(&first[0], run.join("parts/copy.safetensors")).unwrap();
    let missing = fails(1, &words);
    assert!(missing.contains("3 parts are missing: 1/4, 3/4, 4/4"), "{missing}");
    assert!(!run.join("features").exists(), "a reduction that is refused writes nothing");
    let commands: Vec<&str> = missing.lines().filter_map(|line| line.strip_prefix("  sae ")).collect();
    assert_eq!(commands.len(), 3, "{missing}");
    for command in commands {
        let made =
            Command::new("sh").arg("-c").arg(format!("{} {command}", env!("CARGO_BIN_EXE_sae"))).output().unwrap();
        assert!(made.status.success(), "{command}: {}", said(&made));
    }
    assert_eq!(json(&words)["parts"], 4);
    assert!(run.join("features/base/features.parquet").exists());
}

/// Changes the bytes of one tensor of a part, which keeps a right hash.
fn rewrite(path: &Path, changed: &str, change: impl Fn(&mut [u8])) {
    fn numbers<T: Number>(bytes: &[u8]) -> impl Iterator<Item = T> {
        bytes.chunks_exact(T::BYTES).map(T::get)
    }
    let (header, tensors) = (PassPart::open(path).unwrap().header().clone(), Tensors::open(path).unwrap());
    let mut writer = PartWriter::new();
    for name in tensors.names() {
        let ((dtype, bytes), width) = (tensors.bytes(&name).unwrap(), tensors.shape(&name).unwrap().get(1).copied());
        let (mut bytes, width, (section, own)) = (bytes.to_vec(), width.unwrap_or(1), name.split_once('/').unwrap());
        if name == changed {
            change(&mut bytes);
        }
        writer.begin(section);
        match dtype {
            Dtype::U8 => writer.put(own, width, numbers::<u8>(&bytes)),
            Dtype::U32 => writer.put(own, width, numbers::<u32>(&bytes)),
            Dtype::U64 => writer.put(own, width, numbers::<u64>(&bytes)),
            Dtype::F32 => writer.put(own, width, numbers::<f32>(&bytes)),
            Dtype::F64 => writer.put(own, width, numbers::<f64>(&bytes)),
            other => panic!("{own} holds {other:?}"),
        }
    }
    writer.write(path, &header).unwrap();
}

#[test]
fn parts_that_do_not_belong_together_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path());
    json(&pass("index", &run, "1/2"));
    json(&pass("index", &run, "2/2"));
    let [first, second] = [0, 1].map(|n| part_files(&run)[n].clone());
    let out = dir.path().join("other");
    let refused = |more: &[&str], expected: &str| {
        let words = reduce(&run, &[&[first.to_str().unwrap(), second.to_str().unwrap()], more].concat());
        let error = fails(1, &words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(error.contains(expected), "{error}");
    };
    let other = |operation: &str, part: &str, more: &[&str]| {
        let (folder, words) = (out.to_str().unwrap().to_owned(), pass(operation, &run, part));
        let made = json(&[&words[..], &["--out", &folder], more].concat());
        made["file"].as_str().unwrap().to_owned()
    };
    let threshold = other("index", "1/2", &["--threshold", "0.5"]);
    refused(&[&threshold], "the part has another request: ");
    refused(&[&other("index", "1/3", &[])], "the part has another number of parts: ");
    refused(&[&other("score", "1/2", &[])], "the part has another request: ");
    // A part with the same header and another state.
    let unequal = out.join("unequal.safetensors");
    PartWriter::new().write(&unequal, PassPart::open(&first).unwrap().header()).unwrap();
    refused(&[unequal.to_str().unwrap()], "part 1/2 exists twice, with different states: ");
    let old = out.join("old.safetensors");
    let mut header = PassPart::open(&first).unwrap().header().clone();
    header.origin.program = "sae 0.0.1".into();
    PartWriter::new().write(&old, &header).unwrap();
    refused(&[old.to_str().unwrap()], "the part has another version of the program: ");
    let words = reduce(&run, &[unequal.to_str().unwrap(), second.to_str().unwrap()]);
    let lacking = fails(1, &words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(lacking.contains("there is no tensor run/index.positions") && !run.join("features").exists(), "{lacking}");
    // A part whose longest record is that of every sample would become longer than it is.
    let score = PathBuf::from(other("score", "1/1", &[]));
    rewrite(&score, "run/pooled.start", |bytes| {
        let starts: Vec<u64> = bytes.as_chunks().0.iter().map(|start| u64::from_le_bytes(*start)).collect();
        let longest = starts.windows(2).max_by_key(|pair| pair[1] - pair[0]).unwrap()[0];
        bytes.as_chunks_mut().0.iter_mut().for_each(|start| *start = longest.to_le_bytes());
    });
    let words = reduce(&run, &[score.to_str().unwrap()]);
    let twice = fails(1, &words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(twice.contains("the pooled activations of sample") && twice.contains("are damaged"), "{twice}");
    // The autoencoder has changed since.
    let weights = run.join("saes/base/cfg.json");
    let text = fs::read_to_string(&weights).unwrap();
    fs::write(&weights, format!("{text}\n")).unwrap();
    refused(&[], "the part has another autoencoder: ");
}

#[test]
fn a_second_writer_of_a_part_is_told_to_try_again() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path());
    let parts = run.join("parts");
    fs::create_dir_all(&parts).unwrap();
    let lock = Lock::take(&parts.join("index-base-00001-of-00002.lock"), &parts).unwrap();
    let told = fails(75, &pass("index", &run, "1/2"));
    assert!(told.contains("another process is writing") && told.contains("index-base-00001-of-00002"), "{told}");
    // Another part has another file.
    json(&pass("index", &run, "2/2"));
    drop(lock);
    json(&pass("index", &run, "1/2"));
}

#[cfg(unix)]
#[test]
fn a_full_disk_on_one_node_and_clocks_that_are_apart_change_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (run, alone) = (trained(dir.path()), dir.path().join("alone"));
    copy(&run, &alone);
    json(&["index", "--run", alone.to_str().unwrap(), "--device", "cpu"]);
    // No file may grow over 1 KiB.
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_sae")]);
    let full = limited.args(pass("index", &run, "1/2")).output().unwrap();
    assert_eq!(full.status.code(), Some(1), "{}", said(&full));
    assert!(
        said(&full).contains("cannot write") && said(&full).contains("index-base-00001-of-00002"),
        "{}",
        said(&full)
    );
    let whole = part_files(&run).into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "safetensors"));
    assert_eq!(whole.count(), 0, "half a part was left under its name");
    // The other node has room; the first one has some again, and thinks that it is 1980.
    json(&pass("index", &run, "2/2"));
    let day = Duration::from_secs(24 * 3600);
    let set = |time: SystemTime| {
        for file in files(&run).keys() {
            fs::File::options().append(true).open(run.join(file)).unwrap().set_modified(time).unwrap();
        }
    };
    set(SystemTime::UNIX_EPOCH + 3650 * day);
    json(&pass("index", &run, "1/2"));
    set(SystemTime::now() + 3650 * day);
    assert_eq!(json(&pass("index", &run, "2/2"))["existed"], true);
    let words = reduce(&run, &[]);
    json(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(files(&run.join("features")) == files(&alone.join("features")));
}

#[cfg(unix)]
#[test]
fn a_process_that_was_thought_lost_keeps_its_part_and_ends_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (run, file, expected) = with_a_part(dir.path());
    for _ in 0..50 {
        fs::remove_dir_all(run.join("parts")).unwrap();
        let mut lost = sae()
            .args(pass("score", &run, "1/1"))
            .arg("--json")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (begun, lock) = (Instant::now(), file.with_extension("lock"));
        // Whoever holds the lock has written so into the file, which is created before.
        let is_locked = || fs::metadata(&lock).is_ok_and(|note| note.len() > 0);
        while !is_locked() && lost.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the pass hangs");
            std::thread::sleep(Duration::from_micros(100));
        }
        let signal = |name: &str| Command::new("kill").args([name, &lost.id().to_string()]).output().unwrap();
        signal("-STOP");
        let is_held = is_locked() && !file.exists();
        if is_held {
            fails(75, &pass("score", &run, "1/1"));
        }
        signal("-CONT");
        assert!(lost.wait().unwrap().success());
        assert!(fs::read(&file).unwrap() == expected);
        if is_held {
            assert_eq!(json(&pass("score", &run, "1/1"))["existed"], true);
            return;
        }
    }
    panic!("every pass ended before it could be stopped");
}

#[cfg(unix)]
#[test]
fn an_interrupted_part_leaves_no_file_and_is_made_by_the_same_command() {
    let dir = tempfile::tempdir().unwrap();
    let (run, file, expected) = with_a_part(dir.path());
    for signal in ["-TERM", "-USR1"] {
        let mut interrupted = false;
        for _ in 0..50 {
            fs::remove_dir_all(run.join("parts")).unwrap();
            let mut child = sae().args(pass("score", &run, "1/1")).arg("--json").stdout(Stdio::null()).spawn().unwrap();
            let (begun, lock) = (Instant::now(), file.with_extension("lock"));
            while !lock.exists() && child.try_wait().unwrap().is_none() {
                assert!(begun.elapsed() < Duration::from_secs(60), "the pass hangs");
                std::thread::sleep(Duration::from_micros(100));
            }
            Command::new("kill").args([signal, &child.id().to_string()]).output().unwrap();
            let status = child.wait().unwrap();
            interrupted = status.code() == Some(85);
            assert!(interrupted || status.success(), "{signal}: {status}");
            if interrupted {
                break;
            }
        }
        assert!(interrupted, "{signal}: every pass ended before it could be interrupted");
        json(&pass("score", &run, "1/1"));
        assert!(fs::read(&file).unwrap() == expected, "{signal}");
    }
}

#[test]
fn the_share_of_a_job_is_that_of_the_scheduler() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path());
    let auto = |variables: &[(&str, &str)]| {
        let mut command = sae();
        command.args(pass("index", &run, "auto")).args(["--dry-run", "--json"]);
        for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "RANK", "WORLD_SIZE"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let output = auto(&[("JOB_COMPLETION_INDEX", "2"), ("JOB_COMPLETIONS", "4")]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["part"], "3/4");
    let output = auto(&[("RANK", "2")]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("WORLD_SIZE is not set") && text.contains("RANK=2") && text.contains("hint: "), "{text}");
}
