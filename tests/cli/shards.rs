//! A job of several shards: merged, it is what one machine would have captured; whatever is wrong with the shards is
//! named; a run has one writer.

use crate::tool::{data_set, fails, json, repository, sae, said, tiny_model};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use sae_core::Run;
use sae_core::store::sample::Sample;
use sae_core::store::{STEP, Store, StoreRecord, load_samples};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// All that a run's harvest holds, with no regard to where its parts end.
struct Whole {
    samples: Vec<Sample>,
    tokens: RecordBatch,
    values: Vec<f32>,
    record: StoreRecord,
}

fn whole(folder: &Path, hook: &str) -> Whole {
    let run = Run::open(folder).unwrap();
    let store = Store::open(&run, hook).unwrap();
    let (mut values, mut tables) = (Vec::new(), Vec::new());
    for n in 0..store.shards() {
        let shard = store.shard(n).unwrap();
        shard.read(0..shard.rows(), &mut values);
        tables.push(sae_core::table::read(&run.tokens(n), &[]).unwrap());
    }
    assert!(!run.tokens(store.shards()).exists(), "a token table too many");
    let tokens = concat_batches(&tables[0].schema(), &tables).unwrap();
    Whole { samples: load_samples(&run).unwrap(), tokens, values, record: run.read_step(STEP).unwrap().unwrap() }
}

fn assert_same(merged: &Whole, alone: &Whole) {
    assert_eq!(merged.samples, alone.samples);
    assert_eq!(merged.tokens, alone.tokens);
    assert_eq!(merged.record.skipped, alone.record.skipped);
    assert_eq!(merged.record.progress(), alone.record.progress());
    assert_eq!(merged.record.spec, alone.record.spec);
    assert_eq!(merged.values.len(), alone.values.len());
    // Batches end elsewhere, so that sums may be in another order; nothing else is allowed to differ.
    for (a, b) in merged.values.iter().zip(&alone.values) {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} {b}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn wait(child: &mut Child, file: &Path) {
    let begun = Instant::now();
    while !file.exists() && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing happens");
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn the_merged_shards_of_the_demo_model_are_the_unsharded_harvest() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (repository("assets/demo-mllm"), repository("assets/demo-data/data.jsonl"));
    let run = |name: &str| dir.path().join(name);
    let harvest = |name: &str, more: &[&str]| {
        let mut command = sae();
        command.args(["harvest", "--layers", "1,4", "--limit", "40", "--shard-tokens", "400", "--device", "cpu"]);
        command.arg("--model").arg(&model).arg("--data").arg(&data).arg("--run").arg(run(name)).args(more);
        command
    };
    let ran = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output
    };
    ran(harvest("alone", &[]));
    for shard in ["1/3", "3/3"] {
        let output = ran(harvest(&format!("run-{}", &shard[..1]), &["--shard", shard]));
        assert!(said(&output).contains("memory: about"), "{}", said(&output));
    }
    let mut child = harvest("run-2", &["--shard", "2/3"]).spawn().unwrap();
    wait(&mut child, &run("run-2/tokens/part-00000.parquet"));
    child.kill().unwrap();
    child.wait().unwrap();
    let shards: Vec<PathBuf> = [3, 1, 2].iter().map(|n| run(&format!("run-{n}"))).collect();
    let [third, first, second] = [text(&shards[0]), text(&shards[1]), text(&shards[2])];
    let out = run("merged");
    let merge = ["merge", third, first, second, "--run", text(&out)];
    if !matches!(Run::open(&shards[2]).and_then(|run| run.read_step::<StoreRecord>(STEP)), Ok(Some(r)) if r.complete) {
        let unfinished = fails(1, &merge);
        assert!(unfinished.contains("unfinished") || unfinished.contains("nothing was harvested"), "{unfinished}");
        assert!(!out.exists(), "a merge that is refused writes nothing");
    }
    ran(harvest("run-2", &["--shard", "2/3"]));

    let plan = json(&[&merge[..], &["--dry-run"]].concat());
    assert_eq!((plan["samples"].as_u64(), plan["source_rows"].as_u64()), (Some(40), Some(40)));
    assert!(!out.exists(), "--dry-run does nothing");
    let merged = json(&merge);
    assert_eq!((&merged["samples"], &merged["tokens"]), (&plan["samples"], &plan["tokens"]));
    let files = merged["linked"].as_u64().unwrap() + merged["copied"].as_u64().unwrap();
    assert!(files >= 12, "{merged}");
    for hook in ["layers.1", "layers.4"] {
        assert_same(&whole(&out, hook), &whole(&run("alone"), hook));
    }
    assert_eq!(json(&merge)["linked"], 0, "merging again does nothing");
    // A merged run is a harvested one: the same command finds nothing left to do, and the shards are needed no more.
    ran(harvest("merged", &[]));
    shards.iter().for_each(|shard| fs::remove_dir_all(shard).unwrap());
    assert_same(&whole(&out, "layers.4"), &whole(&run("alone"), "layers.4"));
    let out = text(&out);
    json(&[
        "train",
        "--run",
        out,
        "--hook",
        "layers.4",
        "--name",
        "a",
        "--features",
        "64",
        "--batch",
        "64",
        "--steps",
        "5",
    ]);
    assert_eq!(json(&["index", "--run", out])["features"], 64);
    assert_eq!(json(&["score", "--run", out])["samples"], 40);
}

#[test]
fn a_shard_of_which_no_row_can_be_used_is_merged_and_its_rows_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 12);
    let rows = fs::read_to_string(&data).unwrap();
    // The first shard and half of the last one.
    let spoilt = rows.lines().enumerate().map(|(n, row)| match n {
        0..4 | 10.. => format!("{{\"id\": \"bad-{n}\"}}\n"),
        _ => format!("{row}\n"),
    });
    fs::write(&data, spoilt.collect::<String>()).unwrap();
    let harvest = |name: &str, more: &[&str]| {
        let (model, run) = (tiny_model(), dir.path().join(name));
        let plan = ["harvest", "--model", text(&model), "--data", text(&data), "--run", text(&run), "--layers", "1"];
        json(&[&plan[..], more].concat())
    };
    harvest("alone", &[]);
    let shards: Vec<_> = (1..=3).map(|n| harvest(&format!("run-{n}"), &["--shard", &format!("{n}/3")])).collect();
    assert_eq!(shards.iter().map(|s| s["samples"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 4, 2]);
    let runs: Vec<_> = ["run-1", "run-2", "run-3", "merged"].iter().map(|name| dir.path().join(name)).collect();
    json(&["merge", text(&runs[0]), text(&runs[1]), text(&runs[2]), "--run", text(&runs[3])]);
    assert_same(&whole(&runs[3], "layers.1"), &whole(&dir.path().join("alone"), "layers.1"));
}

#[test]
fn the_pass_with_blank_images_is_merged_too_and_a_shard_that_lacks_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 9);
    let path = |name: &str| dir.path().join(name);
    let harvest = |name: &str, more: &[&str]| {
        let (model, run) = (tiny_model(), path(name));
        let plan = ["harvest", "--model", text(&model), "--data", text(&data), "--run", text(&run), "--layers", "1"];
        json(&[&plan[..], more].concat());
        run
    };
    let alone = harvest("alone", &["--blank-images"]);
    let one = harvest("one", &["--shard", "1/2", "--blank-images"]);
    let two = harvest("two", &["--shard", "2/2"]);
    let out = path("merged");
    let merge = ["merge", text(&one), text(&two), "--run", text(&out)];
    let lacking = fails(1, &merge);
    assert!(lacking.contains("lack the pass with blank images") && lacking.contains("folder blank"), "{lacking}");
    assert!(lacking.contains(text(&two)) && !lacking.contains(text(&one)) && !out.exists(), "{lacking}");
    harvest("two", &["--shard", "2/2", "--blank-images"]);
    assert_eq!(json(&merge)["blank_images"], true);
    for part in ["", "blank"] {
        assert_same(&whole(&out.join(part), "layers.1"), &whole(&alone.join(part), "layers.1"));
    }
    assert_eq!(json(&merge)["linked"], 0, "merging again does nothing");
    // One of the passes is damaged: nothing is written.
    fs::remove_dir_all(&out).unwrap();
    fs::remove_file(two.join("blank/samples.parquet")).unwrap();
    assert!(fails(1, &merge).contains("samples.parquet") && !out.exists());
}

/// A copy of a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap()) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn everything_that_is_wrong_with_the_shards_is_listed_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_set(dir.path(), 12);
    let path = |name: &str| dir.path().join(name);
    let harvest = |name: &str, model: &Path, more: &[&str]| {
        let run = path(name);
        json(&[&["harvest", "--model", text(model), "--data", text(&data), "--run", text(&run)], more].concat());
        run
    };
    let model = tiny_model();
    let shard = |name: &str, shard: &str| harvest(name, &model, &["--layers", "1", "--shard", shard]);
    let (one, two, four) = (shard("one", "1/4"), shard("two", "2/4"), shard("four", "4/4"));
    let again = path("again");
    copy(&two, &again);
    let layers = harvest("layers", &model, &["--layers", "2", "--shard", "3/4"]);
    let other = harvest("other", &repository("tests/golden/llava-b"), &["--layers", "1", "--shard", "3/4"]);
    let unsharded = harvest("unsharded", &model, &["--layers", "1"]);
    let damaged = four.join("activations/layers.1/shard-00000.safetensors");
    let mut bytes = fs::read(&damaged).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();

    let out = path("out");
    let merge = |shards: &[&Path]| {
        let shards: Vec<_> = shards.iter().map(|shard| text(shard)).collect();
        let said = fails(1, &[&["merge", "--run", text(&out)], &shards[..]].concat());
        assert!(!out.exists() && !said.contains("panicked"), "{said}");
        said
    };
    let missing = merge(&[&one, &two]);
    assert!(missing.contains("shards 3/4 to 4/4 are missing"), "{missing}");
    let all = merge(&[&one, &two, &again, &four, &unsharded, &path("nowhere")]);
    for expected in
        ["shard 2/4 is there twice", "shard 3/4 is missing", "BLAKE3 differs", "no shard of a job", "not a run folder"]
    {
        assert!(all.contains(expected), "{expected}: {all}");
    }
    let foreign = merge(&[&one, &two, &layers, &four]);
    assert!(foreign.contains("layers [2], not [1]"), "{foreign}");
    let foreign = merge(&[&one, &two, &other, &four]);
    assert!(foreign.contains("model llava-b, not llava-a"), "{foreign}");
    let job = merge(&[&one, &two, &shard("of-five", "3/5"), &four]);
    assert!(job.contains("shards 5, not 4"), "{job}");

    let three = shard("three", "3/4");
    let tokens = three.join("tokens/part-00000.parquet");
    fs::copy(one.join("tokens/part-00000.parquet"), &tokens).unwrap();
    fs::remove_file(two.join("samples.parquet")).unwrap();
    let tables = merge(&[&one, &two, &three, &again]);
    assert!(tables.contains("samples.parquet") && tables.contains("for a shard of"), "{tables}");
}

#[test]
fn a_wrong_shard_is_refused_with_how_they_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (data, model) = (data_set(dir.path(), 3), tiny_model());
    let run = dir.path().join("run");
    let plan = ["harvest", "--model", text(&model), "--data", text(&data), "--run", text(&run), "--layers", "0"];
    let zero = fails(2, &[&plan[..], &["--shard", "0/3"]].concat());
    assert!(zero.contains("counted from 1") && zero.contains("--array=1-3"), "{zero}");
    assert!(fails(2, &[&plan[..], &["--shard", "4/3"]].concat()).contains("3/3"));
    let many = fails(1, &[&plan[..], &["--shard", "1/8"]].concat());
    assert!(many.contains("the data has 3 rows, too few for 8 shards"), "{many}");
    assert!(!run.exists());
    json(&[&plan[..], &["--shard", "2/3"]].concat());
    let other = fails(1, &[&plan[..], &["--shard", "3/3"]].concat());
    assert!(other.contains("shard 2/3") && other.contains("hint: choose another --run"), "{other}");
    let plan = json(&[&plan[..], &["--shard", "2/3", "--dry-run"]].concat());
    assert_eq!((&plan["plan"]["rows"], &plan["plan"]["first_row"]), (&1.into(), &1.into()));
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone_even_by_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (data, model, run) = (data_set(dir.path(), 400), tiny_model(), dir.path().join("run"));
    let plan = ["harvest", "--model", text(&model), "--data", text(&data), "--run", text(&run), "--layers", "0,1,2"];
    let plan = [&plan[..], &["--shard", "1/2", "--shard-tokens", "300"]].concat();
    let mut first = sae().args(&plan).spawn().unwrap();
    wait(&mut first, &run.join("tokens/part-00000.parquet"));
    assert!(first.try_wait().unwrap().is_none(), "the first was done before a second could begin");
    let second = fails(75, &plan);
    let holder = format!("process {}", first.id());
    assert!(second.contains("another process is writing to this run") && second.contains(&holder), "{second}");
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(json(&plan)["samples"], 200);
}

#[cfg(target_os = "linux")]
#[test]
fn a_harvest_holds_no_more_memory_than_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (repository("assets/demo-mllm"), repository("assets/demo-data/data.jsonl"));
    let run = dir.path().join("run");
    let plan = ["harvest", "--model", text(&model), "--data", text(&data), "--run", text(&run), "--layers", "1,4"];
    let plan = [&plan[..], &["--limit", "250", "--shard-tokens", "4096", "--device", "cpu"]].concat();
    let said = json(&[&plan[..], &["--dry-run"]].concat())["plan"]["memory"].clone();
    let stated = said["total"].as_u64().unwrap() + said["mapped"].as_u64().unwrap();
    let mut child = sae().args(&plan).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(1024 * kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    assert!(peak > 0 && peak <= stated, "{peak} bytes at the peak, {stated} stated: {said}");
}
