//! Rows with several texts: each named column becomes a sample, in every format of rows and in shards; what is missing is counted,
//! and filters write samples as rows of their own.

use crate::tool::{fails, json, tiny_model};
use arrow::array::{AsArray, StringArray};
use arrow::datatypes::Float64Type;
use sae_core::Run;
use sae_core::store::load_samples;
use sae_core::store::sample::Sample;
use sae_core::table::{self, column, nullable};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const STYLES: [&str; 3] = ["plain", "short", "long"];
const MELT: &str = "plain,short,long:style";
/// The row that has no text in the column `long`.
const INCOMPLETE: usize = 4;

/// The texts of a row: its question, and its answer in each style.
fn texts(row: usize) -> [Option<String>; 4] {
    let answer = |style: usize| format!("{} answer {}", "the thing ".repeat(1 + (row + style) % 3), STYLES[style]);
    let long = (row != INCOMPLETE).then(|| answer(2));
    [Some(format!("Question {row}?")), Some(answer(0)), Some(answer(1)), long]
}

fn jsonl(dir: &Path, rows: usize) -> PathBuf {
    let line = |row: usize| {
        let [question, plain, short, long] = texts(row);
        json!({"question": question, "plain": plain, "short": short, "long": long, "answer": "final"})
    };
    let path = dir.join("data.jsonl");
    fs::write(&path, (0..rows).map(|row| format!("{}\n", line(row))).collect::<String>()).unwrap();
    path
}

fn parquet(dir: &Path, rows: usize) -> PathBuf {
    let texts_of = |n: usize| StringArray::from_iter((0..rows).map(|row| texts(row)[n].clone()));
    let batch = table::batch(vec![
        column("question", texts_of(0)),
        column("plain", texts_of(1)),
        column("short", texts_of(2)),
        nullable("long", texts_of(3)),
        column("answer", StringArray::from_iter_values((0..rows).map(|_| "final"))),
    ]);
    let path = dir.join("data.parquet");
    table::write(&path, &batch).unwrap();
    path
}

fn harvest(dir: &Path, data: &Path, name: &str, more: &[&str]) -> (Value, PathBuf) {
    let run = dir.join(name);
    let paths = [&tiny_model(), data, &run].map(|path| path.to_str().unwrap().to_owned());
    let arguments =
        ["harvest", "--layers", "1", "--model", &paths[0], "--data", &paths[1], "--run", &paths[2], "--melt", MELT];
    (json(&[&arguments[..], more].concat()), run)
}

fn samples(run: &Path) -> Vec<Sample> {
    load_samples(&Run::open(run).unwrap()).unwrap()
}

#[test]
fn each_column_is_a_sample_in_every_format_and_in_shards() {
    let dir = tempfile::tempdir().unwrap();
    let (report, run) = harvest(dir.path(), &jsonl(dir.path(), 10), "run", &[]);
    assert_eq!((&report["samples"], &report["skipped_rows"]), (&json!(29), &json!(1)));
    let skipped = report["skipped"][0].as_object().unwrap();
    assert_eq!(skipped["key"], "4/long");
    assert!(skipped["reason"].as_str().unwrap().contains("no text in the column long"), "{skipped:?}");
    let found = samples(&run);
    for (sample, n) in found.iter().zip((0..).filter(|n| *n != 3 * INCOMPLETE + 2)) {
        let (row, style) = (n / 3, n % 3);
        let [question, answers @ ..] = texts(row);
        assert_eq!(sample.text, format!("{}\n{}", question.unwrap(), answers[style].as_ref().unwrap()));
        let set = format!("data.jsonl:{row}");
        assert_eq!(sample.meta, json!({"style": STYLES[style], "set": set, "answer": "final"}));
        assert_eq!(sample.source, format!("{set}#{}", STYLES[style]));
        assert_eq!(sample.place(), Some(("data.jsonl", row as u64)));
        assert_eq!(sample.key, format!("{row}/{}", STYLES[style]));
    }

    // A table has the same samples, and so have two shards after they are merged. A row is in one shard.
    let ids = |samples: &[Sample]| samples.iter().map(|sample| sample.id.clone()).collect::<Vec<_>>();
    let (_, other) = harvest(dir.path(), &parquet(dir.path(), 10), "parquet", &[]);
    assert_eq!(ids(&samples(&other)), ids(&found));
    let data = jsonl(dir.path(), 10);
    let shards: Vec<PathBuf> =
        (1..=3).map(|n| harvest(dir.path(), &data, &format!("shard-{n}"), &["--shard", &format!("{n}/3")]).1).collect();
    assert_eq!(shards.iter().map(|run| samples(run).len()).collect::<Vec<_>>(), [9, 8, 12]);
    let merged = dir.path().join("merged");
    let mut merge = vec!["merge"];
    merge.extend(shards.iter().chain([&merged]).map(|run| run.to_str().unwrap()));
    merge.insert(4, "--run");
    json(&merge);
    assert_eq!(samples(&merged), found);
    let (limited, run) = harvest(dir.path(), &data, "limited", &["--limit", "2"]);
    assert_eq!((&limited["samples"], samples(&run).len()), (&json!(6), 6));
}

#[test]
fn filters_write_melted_samples_as_rows() {
    let dir = tempfile::tempdir().unwrap();
    for data in [jsonl(dir.path(), 6), parquet(dir.path(), 6)] {
        let name = data.extension().unwrap().to_str().unwrap();
        let (_, run) = harvest(dir.path(), &data, name, &[]);
        let found = samples(&run);
        // Keep two of the three answers to the second question.
        let decisions = dir.path().join("decisions.csv");
        let line = |(n, sample): (usize, &Sample)| format!("{},{}\n", sample.id, n == 3 || n == 5);
        let lines: String = found.iter().enumerate().map(line).collect();
        fs::write(&decisions, format!("id,stays\n{lines}")).unwrap();
        let out = dir.path().join(format!("kept-{name}"));
        let [run, decisions, out] = [&run, &decisions, &out].map(|path| path.to_str().unwrap());
        let filter = ["filter", "--run", run, "--decisions", decisions, "--out", out];
        let refused = fails(1, &filter);
        assert!(refused.contains("samples are columns of rows") && refused.contains("--format jsonl"), "{refused}");
        assert!(!Path::new(out).exists());
        assert_eq!(json(&[&filter[..], &["--format", "jsonl"]].concat())["kept"]["rows"], 2);
        let rows = fs::read_to_string(Path::new(out).join("data/data.jsonl")).unwrap();
        let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |row: &Value| [row["style"].clone(), row["set"].clone()];
        let set = format!("data.{name}:1");
        assert_eq!(
            rows.iter().map(of).collect::<Vec<_>>(),
            [[json!("plain"), json!(set)], [json!("long"), json!(set)]]
        );
        assert!(rows[1].to_string().contains("answer long") && !rows[1].to_string().contains("answer plain"));
        let table = format!("{out}-table");
        let filter = ["filter", "--run", run, "--decisions", decisions, "--out", &table, "--format", "parquet"];
        assert_eq!(json(&filter)["kept"]["rows"], 2);
    }
}

#[test]
fn the_difference_between_two_melted_columns_is_asked_of_the_question() {
    let dir = tempfile::tempdir().unwrap();
    // The short answer is better for every other question, whose words say so.
    let line = |row: usize| {
        let (kind, reward) = (["red circle", "blue square"][row % 2], row % 2);
        let question = format!("{kind} {}", " x".repeat(row * 7 % 11));
        let [_, plain, short, long] = texts(row + 5);
        json!({"question": question, "plain": plain, "short": short, "long": long, "reward": {"short": reward, "plain": 0}})
    };
    let data = dir.path().join("data.jsonl");
    fs::write(&data, (0..120).map(|row| format!("{}\n", line(row))).collect::<String>()).unwrap();
    let (_, run) = harvest(dir.path(), &data, "run", &[]);
    let of = run.to_str().unwrap();
    let train = ["train", "--run", of, "--hook", "layers.1", "--name", "a", "--features", "256", "--k", "8"];
    json(&[&train[..], &["--batch", "256", "--steps", "150", "--lr", "3e-3"]].concat());
    let asked =
        ["contrast", "--run", of, "--target", "reward.{style}", "--between-groups", "short,plain", "--threshold", "0"];
    let more = ["--placebo", "2", "--name", "gain", "--measure", "strength"];
    let found = json(&[&asked[..], &more].concat());
    let question = &found["question"];
    assert_eq!(
        (&question["group_field"], &question["set"], &found["part"]),
        (&json!("style"), &json!("set"), &json!("user"))
    );
    assert_eq!(
        (&found["samples"], &found["left_out"], &found["measure"]),
        (&json!(120), &json!(0), &json!("strength"))
    );
    assert!(found["differing"].as_u64().unwrap() > 0, "{found}");
    // All samples of a set have one prediction.
    let scores = table::read(&run.join("scores/a.parquet"), &[]).unwrap();
    let predicted = scores.column_by_name("predicted_gain").unwrap().as_primitive::<Float64Type>().values();
    assert!(predicted.chunks(3).all(|set| set.iter().all(|value| *value == set[0])));
    let [of_short, of_plain] = [1, 0].map(|row: usize| predicted[3 * row]);
    assert!(of_short > of_plain + 0.5, "{of_short} {of_plain}");
    let said = fails(1, &[&asked[..], &["--part", "answer"]].concat());
    assert!(said.contains("the part answer has words of the answer"), "{said}");
}

#[test]
fn columns_that_no_row_has_are_rejected_with_those_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let data = jsonl(dir.path(), 6);
    let run = dir.path().join("run");
    let [model, data, run] = [&tiny_model(), &data, &run].map(|path| path.to_str().unwrap().to_owned());
    let said = |status: i32, melt: &str, map: &[&str]| {
        let arguments = ["harvest", "--layers", "1", "--model", &model, "--data", &data, "--run", &run, "--melt", melt];
        fails(status, &[&arguments[..], map].concat())
    };
    let absent = said(1, "plain,brief:style", &[]);
    assert!(absent.contains("column brief (rows have answer, long, plain, question, short)"), "{absent}");
    assert!(said(1, "plain,short:answer", &[]).contains("have a column answer of their own"));
    assert!(said(1, "plain,short:style", &["--map", "set=answer"]).contains("have a column set of their own"));
    assert!(said(2, "plain:style", &[]).contains("two or more columns"));
    assert!(!Path::new(&run).exists());
}
