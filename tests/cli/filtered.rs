//! Filtered data sets: every format to the byte, back through the harvest; groups, near-duplicates, diversity, reasons; and
//! what is refused. `SAE_UPDATE=1` writes the golden files anew; `docs/check_filtered.py` reads them with
//! `datasets`, `pyarrow` and `tarfile`.

use crate::tool::{fails, files, json, repository, tiny_model};
use arrow::array::{ArrayRef, Float32Array, UInt32Array};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows with one image, two, and none; the fifth says the same as the first.
fn conversations() -> Vec<Value> {
    let row = |id: &str, category: &str, images: &[&str], turns: &[&str]| {
        let from = |n: usize| if n.is_multiple_of(2) { "human" } else { "gpt" };
        let turn = |(n, value): (usize, &&str)| json!({ "from": from(n), "value": value });
        let turns: Vec<_> = turns.iter().enumerate().map(turn).collect();
        let images = images.iter().map(|image| format!("images/{image}.png")).collect::<Vec<_>>();
        json!({ "id": id, "images": images, "conversations": turns, "category": category,
            "n": id.len(), "tags": [category, "é"], "info": { "score": 0.5, "by": null } })
    };
    vec![
        row("a", "common", &["wide"], &["<image>\nWhat is this?", "A square."]),
        row("b.2", "rare", &["grey"], &["Look: <image>", "I see \"grey\".", "And?", "Nothing\nmore."]),
        row("c", "common", &["square", "tall"], &["Compare <image> and <image>", "The second is taller."]),
        row("d", "common", &[], &["Hello.", "Hello!"]),
        row("e", "common", &["wide"], &["<image>\nWhat is this?", "A square."]),
        row("f", "common", &["rgba"], &["<image>\nAnd this?", "A circle, or so."]),
    ]
}

fn pairs() -> Vec<Value> {
    let row = |n: usize, image: &str| {
        json!({ "id": format!("pair-{n}"), "image": format!("images/{image}.png"), "question": "What is it?",
            "chosen": "A square.", "rejected": "A dog.", "category": "shapes" })
    };
    vec![row(0, "wide"), row(1, "palette")]
}

/// A run on rows in `dir`, scored by an autoencoder that was hardly trained.
fn scored(dir: &Path, rows: &[Value]) -> PathBuf {
    fs::create_dir_all(dir.join("images")).unwrap();
    for image in ["wide", "tall", "square", "grey", "rgba", "palette"].map(|name| format!("images/{name}.png")) {
        fs::copy(tiny_model().join(&image), dir.join(&image)).unwrap();
    }
    let (data, run) = (dir.join("data.jsonl"), dir.join("run"));
    fs::write(&data, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    harvest(&data, &run);
    let of = ["--run", run.to_str().unwrap()];
    let train = ["train", "--hook", "layers.1", "--name", "a", "--expansion", "4", "--batch", "64", "--steps", "5"];
    json(&[&train[..], &of].concat());
    json(&[&["score", "--threshold", "0.1"][..], &of].concat());
    run
}

fn harvest(data: &Path, run: &Path) {
    let model = tiny_model();
    let [model, data, run] = [&model, data, run].map(|path| path.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
}

/// Arguments of a filter of `run` into `out`.
fn filter<'a>(run: &'a Path, out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let common = ["filter", "--run", run.to_str().unwrap(), "--by", "random", "--out", out.to_str().unwrap()];
    [&common[..], more].concat()
}

/// Ids of a run's samples, sorted.
fn ids(run: &Path) -> Vec<String> {
    let run = sae_core::Run::open(run).unwrap();
    let mut ids: Vec<_> = sae_core::store::load_samples(&run).unwrap().into_iter().map(|sample| sample.id).collect();
    ids.sort();
    ids
}

/// Lines of `decisions.csv`: what stands in a column of every sample.
fn decisions(out: &Path, column: &str) -> Vec<String> {
    let text = fs::read_to_string(out.join("decisions.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(String::from).collect::<Vec<_>>());
    let at = lines.next().unwrap().iter().position(|name| name == column).unwrap();
    lines.map(|line| line[at].clone()).collect()
}

fn compare(name: &str, out: &Path) {
    let golden = repository("tests/golden/filtered").join(name);
    // The images are those of the model.
    let mut found: BTreeMap<PathBuf, Vec<u8>> = files(&out.join("data"));
    found.retain(|path, _| !path.starts_with("images"));
    if std::env::var_os("SAE_UPDATE").is_some() {
        let _ = fs::remove_dir_all(&golden);
        fs::create_dir_all(&golden).unwrap();
        found.iter().for_each(|(path, bytes)| fs::write(golden.join(path), bytes).unwrap());
    }
    let expected = files(&golden);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
    for (path, bytes) in &found {
        assert!(*bytes == expected[path], "{name}/{} is not its golden file", path.display());
    }
}

#[test]
fn kept_rows_inside_the_data_folder_are_not_read_twice() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    for format in ["same", "parquet"] {
        json(&filter(&run, &dir.path().join(format!("kept/{format}")), &["--keep", "50%", "--format", format]));
    }
    let again = dir.path().join("again");
    let model = tiny_model();
    let [model, data, at] = [&model, dir.path(), &again].map(|path| path.to_str().unwrap());
    let harvest = ["harvest", "--model", model, "--data", data, "--run", at, "--layers", "1"];
    let output = crate::tool::sae().args(harvest).output().unwrap();
    let said = crate::tool::said(&output);
    assert!(output.status.success() && said.contains("note: not read: kept/parquet and 1 more"), "{said}");
    assert_eq!(ids(&again), ids(&run));
}

#[test]
fn every_format_is_written_to_the_byte_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let all = ["--keep", "100%", "--format"];
    for format in ["jsonl", "llava", "parquet", "trl"] {
        let out = dir.path().join(format);
        let done = json(&filter(&run, &out, &[&all[..], &[format]].concat()));
        assert_eq!((done["kept"]["rows"].as_u64(), done["reasons"]["no score"].as_u64()), (Some(5), Some(1)));
        compare(format, &out);
        let again = dir.path().join(format!("{format}-run"));
        harvest(&out, &again);
        let mut expected = ids(&run);
        let text_alone = sae_core::store::load_samples(&sae_core::Run::open(&run).unwrap()).unwrap().swap_remove(3).id;
        expected.retain(|id| *id != text_alone);
        assert_eq!(ids(&again), expected, "{format} says the same");
    }
    for format in ["sharegpt", "webdataset"] {
        let out = dir.path().join(format);
        json(&filter(&run, &out, &[&all[..], &[format]].concat()));
        compare(format, &out);
    }
    assert_eq!(
        fs::read(dir.path().join("sharegpt/data/images/wide.png")).unwrap(),
        fs::read(tiny_model().join("images/wide.png")).unwrap()
    );

    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &pairs());
    for format in ["trl", "sharegpt"] {
        let out = dir.path().join(format);
        json(&filter(&run, &out, &[&all[..], &[format]].concat()));
        compare(&format!("{format}-pairs"), &out);
    }
}

#[test]
fn groups_duplicates_and_diversity_are_decided_with_reasons_and_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let (out, gone) = (dir.path().join("kept"), dir.path().join("gone"));
    let gone = gone.to_str().unwrap();
    let rules = ["--keep", "5", "--by-group", "category", "--dedup", "1", "--dropped", gone];
    let done = json(&filter(&run, &out, &rules));
    assert_eq!(
        done["groups"][1],
        json!({ "name": "rare", "samples": 1, "with_score": 1, "kept": 1,
        "threshold": done["groups"][1]["threshold"] })
    );
    assert_eq!((done["kept"]["rows"].as_u64(), done["dropped"].as_u64()), (Some(4), Some(2)));
    let reasons = decisions(&out, "reason");
    assert_eq!(reasons[3], "no score");
    // The two that say the same have the same random score; the first of them stays.
    assert_eq!((reasons[0].as_str(), reasons[4].as_str()), ("", "duplicate"));
    assert_eq!(decisions(&out, "duplicate_of")[4], "0");
    let lines = |folder: &Path| fs::read_to_string(folder.join("data/data.jsonl")).unwrap().lines().count();
    assert_eq!((lines(&out), lines(Path::new(gone))), (4, 2));
    let manifest: Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["sources"][0]["kept"], &manifest["score"]["seed"]), (&json!(4), &json!(0)));
    assert_eq!(manifest["sources"][0]["blake3"].as_str().map(str::len), Some(64));

    let again = dir.path().join("again");
    json(&filter(&run, &again, &rules[..6]));
    assert_eq!(files(&again), files(&out), "the same command gives the same set");

    let diverse = dir.path().join("diverse");
    let done = json(&filter(&run, &diverse, &["--keep", "50%", "--diverse", "--format", "webdataset"]));
    assert_eq!((done["kept"]["rows"].as_u64(), done["reasons"]["adds little"].as_u64()), (Some(3), Some(2)));

    let referred = dir.path().join("referred");
    json(&filter(&run, &referred, &["--keep", "100%", "--format", "jsonl", "--images", "reference"]));
    let text = fs::read_to_string(referred.join("data/data.jsonl")).unwrap();
    let row: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert!(Path::new(row["images"][0].as_str().unwrap()).is_absolute() && !referred.join("data/images").exists());
}

#[test]
fn budgets_are_kept_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let manifest =
        |out: &Path| -> Value { serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap() };
    // Only b.2 has more than one as n; five rows have a score.
    let out = dir.path().join("kept");
    let done = json(&filter(&run, &out, &["--keep", "4", "--budget", "n<=1"]));
    assert_eq!(done["kept"]["rows"], 4);
    assert_ne!(decisions(&out, "stays")[1], "true");
    let budget = &manifest(&out)["budget"];
    assert_eq!((&budget["budgets"][0]["mean"], &budget["budgets"][0]["mean_of_all"]), (&json!(1.0), &json!(1.4)));
    assert!(budget["score"].as_f64() <= budget["bound"].as_f64().map(|bound| bound + 1e-9));
    let frontier = sae_core::table::read(&out.join("frontier.parquet"), &["column", "price", "mean", "score"]).unwrap();
    assert!(frontier.num_rows() > 0);
    assert!(image::open(out.join("frontier.png")).unwrap().width() > 100);
    // The last line of a budget that a selection of this size cannot keep says what would be possible.
    let said = fails(1, &filter(&run, &dir.path().join("none"), &["--keep", "5", "--budget", "n<=1"]));
    assert!(said.contains("smallest mean of n is 1.4000; at most 4 can be kept") && said.contains("--keep"), "{said}");
    let said = fails(1, &filter(&run, &dir.path().join("none"), &["--keep", "2", "--budget", "category<=1"]));
    assert!(said.contains("category has to be a number") && said.contains("--budget"), "{said}");
    fails(2, &filter(&run, &dir.path().join("none"), &["--keep", "2", "--budget", "n"]));
    fails(2, &filter(&run, &dir.path().join("none"), &["--keep", "2", "--budget", "n<=1", "--diverse"]));
    // Units are kept whole, with the sample that has no score.
    let whole = dir.path().join("whole");
    let done = json(&filter(&run, &whole, &["--keep", "1", "--unit", "category", "--budget", "n<=1"]));
    assert_eq!((done["kept"]["rows"].as_u64(), done["budget"]["of"].as_u64()), (Some(5), Some(2)));
    assert!(whole.join("decisions.csv").exists());
    // Four judged samples are too few for a promise, which says so.
    let promise = ["--keep", "2", "--budget", "n<=1.5", "--promise", "95%", "--judged", "n"];
    let said = fails(1, &filter(&run, &dir.path().join("none"), &promise));
    assert!(said.contains("cannot be promised with 95%") && said.contains("judge more"), "{said}");
}

#[test]
fn bad_filters_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let out = dir.path().join("out");
    let refused = |more: &[&str]| {
        let said = fails(1, &filter(&run, &out, more));
        assert!(!out.exists() && said.contains("hint") && !said.contains("panicked"), "{said}");
        said
    };
    let group = refused(&["--keep", "50%", "--by-group", "color"]);
    assert!(group.contains("no row has a field color") && group.contains("category"), "{group}");
    assert!(refused(&["--keep", ">=0.5", "--diverse"]).contains("nothing to choose"));
    assert!(refused(&["--keep", "50%", "--format", "webdataset", "--images", "reference"]).contains("--images copy"));
    for nonsense in ["0%", "150%", "0", "some"] {
        fails(2, &filter(&run, &out, &["--keep", nonsense]));
    }
    fails(2, &filter(&run, &out, &["--keep", "50%", "--dedup", "1.5"]));
    let nothing = fails(1, &filter(&run, &out, &["--keep", ">=2"]));
    assert!(nothing.contains("no sample would be kept") && nothing.contains("1 of 6 have no score"), "{nothing}");
    let inside = out.join("gone");
    let nested = fails(1, &filter(&run, &out, &["--keep", "50%", "--dropped", inside.to_str().unwrap()]));
    assert!(nested.contains("neither in the other"), "{nested}");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.txt"), "mine").unwrap();
    assert!(fails(1, &filter(&run, &out, &["--keep", "50%"])).contains("not empty"));
    fs::remove_dir_all(&out).unwrap();

    // The picture of the first row becomes another; then the rows themselves are gone.
    let wide = dir.path().join("images/wide.png");
    fs::copy(dir.path().join("images/grey.png"), &wide).unwrap();
    let changed = fails(1, &filter(&run, &out, &["--keep", "100%", "--format", "parquet"]));
    assert!(changed.contains("has changed since it was harvested") && changed.contains("wide.png"), "{changed}");
    fs::write(dir.path().join("data.jsonl"), "{}\n").unwrap();
    for format in ["same", "jsonl"] {
        let said = fails(1, &filter(&run, &out, &["--keep", "100%", "--format", format]));
        assert!(said.contains("changed") && !out.exists(), "{said}");
    }

    let other = tempfile::tempdir().unwrap();
    let foreign = scored(other.path(), &pairs());
    fs::copy(foreign.join("scores/a.parquet"), run.join("scores/a.parquet")).unwrap();
    assert!(refused(&["--keep", "50%"]).contains("other samples than those of the run"));
}

#[test]
fn equal_scores_are_said_and_never_choose_alone() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let table = run.join("scores/a.parquet");
    // As pandas and polars write a table that they read: other text, other numbers, another order.
    let own = |scores: [f32; 6]| {
        let all = sae_core::table::read(&table, &["sample", "id"]).unwrap();
        let order = arrow::array::UInt32Array::from(vec![5, 3, 0, 1, 4, 2]);
        let take = |array: &ArrayRef| arrow::compute::take(array, &order, None).unwrap();
        let ids = arrow::compute::cast(&take(all.column(1)), &DataType::LargeUtf8).unwrap();
        let numbers = arrow::compute::cast(&take(all.column(0)), &DataType::Int64).unwrap();
        let scores = take(&(Arc::new(Float32Array::from(scores.to_vec())) as ArrayRef));
        let columns = [("sample", numbers), ("id", ids), ("mine", scores)];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let path = dir.path().join("own.parquet");
        sae_core::table::write(&path, &batch).unwrap();
        path
    };
    let by = |out: &Path, keep: &str, more: &[&str]| {
        let arguments = ["filter", "--run", run.to_str().unwrap(), "--by", "mine", "--keep", keep, "--out"];
        [&arguments[..], &[out.to_str().unwrap()], more].concat().into_iter().map(String::from).collect::<Vec<_>>()
    };
    let path = own([1.0, 0.0, 0.0, -1.0, 0.0, 0.5]);
    fs::copy(&path, &table).unwrap();
    let out = dir.path().join("ties");
    let output = crate::tool::sae().args(by(&out, "3", &[])).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("3 of 6 samples score 0.0000, the threshold; 1 of them are kept, chosen by id"), "{text}");
    let stays = decisions(&out, "stays");
    assert_eq!((stays[0].as_str(), stays[5].as_str(), stays[3].as_str()), ("true", "true", "false"));
    assert_eq!(decisions(&out, "reason").iter().filter(|reason| *reason == "equal score").count(), 2);
    let manifest: Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["ties"], json!({ "samples": 3, "stay": 1, "score": 0.0 }));

    fs::copy(own([0.0; 6]), &table).unwrap();
    let arguments = by(&dir.path().join("equal"), "50%", &[]);
    let equal = fails(1, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(
        equal.contains("all 6 samples with a score in the column mine have the same value, 0.0000")
            && equal.contains("hint"),
        "{equal}"
    );
}

#[test]
fn quotas_and_equal_groups() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let kept = |name: &str, more: &[&str]| -> Vec<u64> {
        let out = dir.path().join(name);
        let done = json(&filter(&run, &out, more));
        done["groups"].as_array().unwrap().iter().map(|group| group["kept"].as_u64().unwrap()).collect()
    };
    assert_eq!(kept("each", &["--quota", "category=1"]), [1, 1]);
    assert_eq!(kept("equal", &["--keep", "2", "--by-group", "category", "--equal-groups"]), [1, 1]);
    assert_eq!(kept("some", &["--by-group", "category", "--quota", "common=2", "--quota", "*=1"]), [2, 1]);
    assert_eq!(kept("rest", &["--by-group", "category", "--quota", "common=2", "--keep", "3"]), [2, 1]);
    assert_eq!(kept("both", &["--keep", "100%", "--by-group", "category,n"]).len(), 2);
    assert_eq!(kept("bins", &["--keep", "100%", "--by-group", "n:2"]).iter().sum::<u64>(), 5);
    let out = dir.path().join("bad");
    let unknown = fails(1, &filter(&run, &out, &["--by-group", "category", "--quota", "cats=2", "--quota", "*=1"]));
    assert!(unknown.contains("there is no group cats") && unknown.contains("common, rare"), "{unknown}");
    let own = dir.path().join("own");
    let output = crate::tool::sae().args(filter(&run, &own, &["--keep", "100%", "--by-group", "id"])).output().unwrap();
    assert!(crate::tool::said(&output).contains("6 of the 6 groups by id have a single sample"));
}

#[test]
fn samples_and_features_in_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let (run, out) = (run.to_str().unwrap(), dir.path().join("fires.parquet"));
    json(&["index", "--run", run]);
    let export = ["export", "--run", run, "--to", "samples-features", "--out", out.to_str().unwrap()];
    let done = json(&export);
    let all = sae_core::table::read(&out, &[]).unwrap();
    assert_eq!(done["rows"], all.num_rows());
    let numbers = |name| sae_core::table::get::<UInt32Array>(&out, &all, name).unwrap().values().to_vec();
    let max = sae_core::table::get::<Float32Array>(&out, &all, "max").unwrap().values().to_vec();
    let (sample, feature, count) = (numbers("sample"), numbers("feature"), numbers("count"));
    assert!(sample.iter().zip(&feature).is_sorted());
    // What the index says of each feature is the sum, and the largest, of its samples.
    let features =
        sae_core::analysis::index::read_features(&Path::new(run).join("features/a/features.parquet")).unwrap();
    for row in features {
        let own: Vec<usize> = (0..feature.len()).filter(|n| feature[*n] == row.feature).collect();
        assert_eq!(own.iter().map(|n| u64::from(count[*n])).sum::<u64>(), row.fires, "feature {}", row.feature);
        assert_eq!(own.iter().map(|n| max[*n]).fold(0.0, f32::max), row.max, "feature {}", row.feature);
    }
    assert!(fails(1, &export).contains("the file already exists"));
}

#[test]
fn a_share_is_kept_inside_each_quantile_of_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let out = dir.path().join("within");
    let done = json(&filter(&run, &out, &["--keep", "50%", "--within", "n"]));
    assert_eq!(done["within"], json!({ "field": "n", "quantiles": 2, "without_number": 0 }));
    let groups: Vec<_> = done["groups"].as_array().unwrap().iter().map(|g| (&g["name"], &g["kept"])).collect();
    assert_eq!(groups, [(&json!("1"), &json!(2)), (&json!("3"), &json!(1))]);
    assert_eq!(decisions(&out, "group")[..2], ["1", "3"]);
    // Token counts and scores are numbers, too, and groups are divided by them.
    for field in ["answer_tokens", "l0_paper"] {
        let by = ["--keep", "50%", "--by-group", "category", "--within", field];
        let done = json(&filter(&run, &dir.path().join(field), &by));
        // The row without a score may leave the place of its quantile empty.
        assert!(matches!(done["kept"]["rows"].as_u64(), Some(2 | 3)), "{field}");
        assert!(done["groups"][0]["name"].as_str().unwrap().starts_with("common / "), "{done}");
    }
    let refused = |more: &[&str]| fails(1, &filter(&run, &dir.path().join("none"), more));
    let unknown = refused(&["--keep", "50%", "--within", "words"]);
    assert!(unknown.contains("no number words") && unknown.contains("answer_tokens"), "{unknown}");
    assert!(unknown.contains("hint: choose another --within"), "{unknown}");
    assert!(refused(&["--keep", "50%", "--within", "category"]).contains("a row has \"common\""));
    assert!(refused(&["--keep", "50%", "--within", "info.score"]).contains("have the same, 0.5"));
    assert!(refused(&["--keep", ">=0.5", "--within", "n"]).contains("no share to keep"));
}

#[test]
fn features_choose_without_a_score() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (run_path, own) = (run.to_str().unwrap(), path("run"));
    let by_features = |out: &str, more: &[&str]| {
        let out = path(out);
        let common = ["filter", "--run", run_path, "--keep", "3", "--out"];
        let done = json(&[&common[..], &[out.as_str()], more].concat());
        assert_eq!((&done["kept"]["rows"], &done["by"], &done["without_score"]), (&json!(3), &Value::Null, &json!(0)));
        done
    };
    let all = by_features("greedselect", &["--rule", "greedselect"]);
    assert_eq!((&all["rule"], &all["scores_blake3"]), (&json!("greedselect"), &Value::Null));
    let diverse = by_features("diverse", &["--diverse"]);
    let shown = |done: &Value| done["shown"]["kept"].as_u64().unwrap();
    assert!(shown(&all) >= shown(&diverse) && shown(&all) <= all["shown"]["all"].as_u64().unwrap());
    let matched = by_features("match", &["--match", &own]);
    assert_eq!((&matched["rule"], &matched["match_run"]), (&json!("match"), &json!(own)));
    assert!(matched["shown"]["divergence_all"].as_f64().unwrap().abs() < 1e-9, "a run matches itself");
    let decided = files(Path::new(&path("match")));
    fs::remove_dir_all(path("match")).unwrap();
    by_features("match", &["--match", &own]);
    assert!(files(Path::new(&path("match"))) == decided, "the same command gives the same set");

    let refused = |more: &[&str]| {
        let out = path("none");
        let said = fails(1, &[&["filter", "--run", run_path, "--out", &out][..], more].concat());
        assert!(said.contains("hint") && !Path::new(&out).exists(), "{said}");
        said
    };
    assert!(refused(&["--rule", "score", "--keep", "3"]).contains("needs a score"));
    assert!(refused(&["--diverse", "--keep", "auto"]).contains("none decides"));
    assert!(refused(&["--diverse", "--keep", ">=1"]).contains("nothing to choose"));
    let other = tempfile::tempdir().unwrap();
    let foreign = scored(other.path(), &pairs());
    let said = refused(&["--match", foreign.to_str().unwrap(), "--keep", "3"]);
    assert!(said.contains("a different autoencoder a (BLAKE3 ") && said.contains("--sae"), "{said}");
    fs::rename(foreign.join("activations/layers.1"), foreign.join("activations/layers.0")).unwrap();
    let said = refused(&["--match", foreign.to_str().unwrap(), "--keep", "3"]);
    assert!(said.contains("the target run must have activations of layers.1"), "{said}");
}

/// Arguments of a filter by decisions that were made elsewhere.
fn by_file<'a>(file: &'a str, out: &'a str, run: &'a str) -> [&'a str; 7] {
    ["filter", "--run", run, "--decisions", file, "--out", out]
}

#[test]
fn decisions_go_out_as_parquet_and_come_back_and_those_of_another_run_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let own = dir.path().join("own");
    json(&filter(&run, &own, &["--keep", "50%"]));
    let [run_path, back_path, several_path, none] =
        ["run", "back", "several", "none"].map(|name| dir.path().join(name).to_str().unwrap().to_owned());
    let given = own.join("decisions.parquet");
    let back = json(&by_file(given.to_str().unwrap(), &back_path, &run_path));
    assert!(files(&dir.path().join("back/data")) == files(&own.join("data")));
    assert_eq!(back["decisions_blake3"], sae_core::file::hash(&given).unwrap());
    // The same in two files of a folder; of the last sample nothing is said.
    let parts = dir.path().join("parts");
    fs::create_dir(&parts).unwrap();
    let all = sae_core::table::read(&given, &["sample", "id", "stays"]).unwrap();
    let write = |name: &str, rows: RecordBatch| sae_core::table::write(&parts.join(name), &rows).unwrap();
    write("b.parquet", all.slice(0, 2));
    write("a.parquet", all.slice(2, 3));
    let several = json(&by_file(parts.to_str().unwrap(), &several_path, &run_path));
    assert_eq!(several["reasons"]["no decision"], 1);
    assert_eq!(several["decisions_blake3"].as_str().map(str::len), Some(64));
    assert_eq!(decisions(&dir.path().join("several"), "reason")[5], "no decision");

    let other = tempfile::tempdir().unwrap();
    let mut rows = conversations();
    rows[1]["conversations"][1]["value"] = json!("I see something else.");
    let foreign = scored(other.path(), &rows);
    json(&filter(&foreign, &other.path().join("kept"), &["--keep", "50%"]));
    let theirs = other.path().join("kept/decisions.parquet");
    let said = fails(1, &by_file(theirs.to_str().unwrap(), &none, &run_path));
    assert!(said.contains("row 2 has") && said.contains("as the id of sample 1: expected"), "{said}");
    assert!(said.contains("hint: use decisions that were made from the tables of this run"), "{said}");
    assert!(!Path::new(&none).exists());
}

#[test]
fn a_shortlist_of_one_block_gives_the_decisions_of_all_samples() {
    let dir = tempfile::tempdir().unwrap();
    let run = scored(dir.path(), &conversations());
    let both = |name: &str, rules: &[&str]| {
        let [all, listed] = ["all", "listed"].map(|how| dir.path().join(format!("{name}-{how}")));
        let plain = json(&filter(&run, &all, rules));
        let done = json(&filter(&run, &listed, &[rules, &["--shortlist", "2"]].concat()));
        assert!(files(&listed.join("data")) == files(&all.join("data")), "{name}");
        assert_eq!((&plain["shown"], &plain["shortlist"]), (&done["shown"], &Value::Null), "{name}");
        done
    };
    let diverse = both("diverse", &["--keep", "2", "--diverse"]);
    assert_eq!(diverse["shortlist"], json!({ "factor": 2.0, "samples": 4, "blocks": 1, "short": 0 }));
    let dedup = both("dedup", &["--keep", "3", "--dedup", "1"]);
    assert_eq!(dedup["shortlist"], json!({ "factor": 2.0, "samples": 5, "blocks": 0, "short": 0 }));
    // One of the three best may be a duplicate; then the shortlist of three is too short, and that is said.
    let out = dir.path().join("short");
    let few = json(&filter(&run, &out, &["--keep", "3", "--dedup", "0.01", "--shortlist", "1"]));
    assert_eq!(few["kept"]["rows"].as_u64().unwrap() + few["shortlist"]["short"].as_u64().unwrap(), 3);
    for rules in [&["--keep", "2"][..], &["--keep", "2", "--rule", "greedselect"]] {
        let said = fails(1, &filter(&run, &dir.path().join("none"), &[rules, &["--shortlist", "2"]].concat()));
        assert!(said.contains("a shortlist is for") && said.contains("--shortlist"), "{said}");
    }
    fails(2, &filter(&run, &dir.path().join("none"), &["--keep", "2", "--diverse", "--shortlist", "0.5"]));
}
