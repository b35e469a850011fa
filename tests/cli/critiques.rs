//! Critiques as pieces: they follow the answer that they criticize, take nothing from its scores, and are compared with what was
//! changed.

use crate::pieces::{Position, harvest, piece, positions, samples, write};
use crate::tool::{data_set, json};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, UInt32Type};
use sae_core::table;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const WORDS: [&str; 6] = ["red alarm", "green field", "yellow card", "blue lake", "white snow", "black cat"];

/// Rows with an answer, its refinement and a critique, of which the first is empty. The critique of every second row names other
/// words than those that were changed.
fn rows(count: usize) -> impl Iterator<Item = Value> {
    (0..count).map(|n| {
        let [wrong, right, other, another] = [0, 1, 3, 4].map(|next| WORDS[(n / 2 + next) % 6]);
        let named = if n.is_multiple_of(2) { [wrong, right] } else { [other, another] };
        let critique = format!("you must not say {} but {}", named[0], named[1]);
        let image = ["wide", "tall", "square"][n % 3];
        json!({
            "id": format!("row-{n}"), "image": format!("images/{image}.png"), "prompt": format!("Question {n}?"),
            "response": format!("it is a {wrong}"), "refinement": format!("it is a {right}"),
            "feedback": if n == 0 { String::from("  ") } else { critique },
        })
    })
}

/// All columns of a score table but the number of the sample, as text, by row.
fn scores(run: &Path) -> Vec<BTreeMap<String, String>> {
    let table = table::read(&run.join("scores/base.parquet"), &[]).unwrap();
    let schema = table.schema();
    let value = |name: &str, row: usize| {
        let column = table.column_by_name(name).unwrap();
        match column.data_type() {
            _ if column.is_null(row) => "null".to_owned(),
            DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_bits().to_string(),
            DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).to_string(),
            _ => column.as_string::<i32>().value(row).to_owned(),
        }
    };
    let names: Vec<&String> =
        schema.fields().iter().map(|field| field.name()).filter(|name| *name != "sample").collect();
    (0..table.num_rows()).map(|row| names.iter().map(|name| ((*name).clone(), value(name, row))).collect()).collect()
}

#[test]
fn critiques_take_nothing_from_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), 3);
    let data = dir.path().join("rows.jsonl");
    write(&data, rows(12));
    let (_, answers) = harvest(dir.path(), &data, "answers", &["--pieces", "answers"]);
    let (report, run) = harvest(dir.path(), &data, "feedback", &["--pieces", "feedback"]);
    assert_eq!((&report["samples"], &report["skipped_rows"]), (&json!(3 + 11 * 4), &json!(0)));
    let all = samples(&run);
    let branches: Vec<&str> = all.iter().take(7).map(|sample| piece(sample).branch.as_str()).collect();
    assert_eq!(branches, ["prompt", "chosen", "rejected", "prompt", "chosen", "rejected", "feedback"]);
    assert_eq!((piece(&all[6]).parent, piece(&all[6]).is_critique), (Some(5), true));
    assert!(all[6].text.starts_with("you must not say"));
    // All other pieces are those of a run without critiques.
    let others: Vec<usize> = (0..all.len()).filter(|n| !piece(&all[*n]).is_critique).collect();
    let own = positions(&run, "layers.1");
    let without = positions(&answers, "layers.1");
    assert!(others.iter().map(|n| &own[*n]).eq(&without));
    // A critique is the next turn of the person.
    let turns = dir.path().join("turns.jsonl");
    write(
        &turns,
        rows(12).skip(1).map(|row| {
            let said = ["prompt", "response", "feedback"].map(|name| row[name].as_str().unwrap().to_owned());
            let turn = |n: usize| {
                let (from, mark) = (["human", "gpt", "human"][n], if n == 0 { "<image>\n" } else { "" });
                json!({"from": from, "value": format!("{mark}{}", said[n])})
            };
            json!({"id": row["id"], "image": row["image"], "conversations": [turn(0), turn(1), turn(2)]})
        }),
    );
    let (_, whole) = harvest(dir.path(), &turns, "turns", &[]);
    // The place in the sequence differs by the space with which this template ends an answer.
    let content = |positions: &[Position]| -> Vec<String> {
        let tokens = positions.iter().map(|(_, token, _)| token).filter(|token| token.contains("special: false"));
        tokens.map(|token| token.split_once(", modality").unwrap().1.to_owned()).collect()
    };
    for (sample, expected) in samples(&whole).iter().zip(positions(&whole, "layers.1")) {
        let critique = (0..all.len()).find(|n| piece(&all[*n]).is_critique && all[*n].key == sample.key).unwrap();
        let mut path = vec![critique];
        while let Some(parent) = piece(&all[path[path.len() - 1]]).parent {
            path.push(parent as usize);
        }
        let found: Vec<Position> = path.iter().rev().flat_map(|n| own[*n].clone()).collect();
        assert!((0..).zip(&found).all(|(position, (at, ..))| position == *at), "{}", sample.key);
        assert_eq!(content(&found), content(&expected), "{}", sample.key);
        assert!(own[critique].iter().all(|(_, token, _)| !token.contains("Assistant")), "{}", sample.key);
    }

    let [a, b] = [&answers, &run].map(|run| run.to_str().unwrap());
    let train = ["train", "--run", a, "--hook", "layers.1", "--name", "base", "--l1", "0.05", "--batch", "64"];
    json(&[&train[..], &["--expansion", "4", "--steps", "40"]].concat());
    fs::create_dir_all(run.join("saes/base")).unwrap();
    for file in ["cfg.json", "sae_weights.safetensors"] {
        fs::copy(answers.join("saes/base").join(file), run.join("saes/base").join(file)).unwrap();
    }
    json(&["score", "--run", a, "--threshold", "0.1"]);
    let report = json(&["score", "--run", b, "--threshold", "0.1"]);
    assert!(report["columns"].as_array().unwrap().contains(&json!("feedback_fit")), "{report}");
    let (expected, mut found) = (scores(&answers), scores(&run));
    let fits: Vec<String> = found.iter_mut().map(|row| row.remove("feedback_fit").unwrap()).collect();
    let kept: Vec<_> = others.iter().map(|n| found[*n].clone()).collect();
    assert_eq!(kept, expected);
    assert!(expected.iter().any(|row| row["l0_corrected"] != "null"));
    for n in (0..all.len()).filter(|n| piece(&all[*n]).is_critique) {
        assert_eq!((&*found[n]["reason"], &*found[n]["l0_paper"]), ("critique of an answer", "null"));
    }
    // The fit is that of the row, and null where the critique is empty.
    for (sample, fit) in all.iter().zip(&fits) {
        assert_eq!(fit == "null", sample.key == "row-0", "{}", sample.key);
    }
    // Rows are filtered by it.
    let out = dir.path().join("kept");
    let report = json(&["filter", "--run", b, "--by", "feedback_fit", "--keep", "4", "--out", out.to_str().unwrap()]);
    assert_eq!(
        (&report["kept"]["rows"], &report["dropped"], &report["without_score"]),
        (&json!(4), &json!(8), &json!(1))
    );
}

#[test]
fn critiques_of_the_change_fit_better_than_critiques_of_something_else() {
    let dir = tempfile::tempdir().unwrap();
    data_set(dir.path(), 3);
    let data = dir.path().join("rows.jsonl");
    write(&data, rows(60));
    let (_, run) = harvest(dir.path(), &data, "run", &["--pieces", "feedback"]);
    let of = run.to_str().unwrap();
    let train = ["train", "--run", of, "--hook", "layers.0", "--name", "base", "--features", "256", "--k", "8"];
    json(&[&train[..], &["--batch", "256", "--steps", "400", "--lr", "3e-3"]].concat());
    json(&["score", "--run", of]);
    let (all, found) = (samples(&run), scores(&run));
    let of_kind = |even: bool| -> Vec<f64> {
        let is_kind = |n: &usize| {
            let row: usize = all[*n].key.trim_start_matches("row-").parse().unwrap();
            piece(&all[*n]).is_critique && row.is_multiple_of(2) == even
        };
        let fit = |n: usize| f64::from_bits(found[n]["feedback_fit"].parse().unwrap());
        (0..all.len()).filter(is_kind).map(fit).collect()
    };
    let (right, wrong) = (of_kind(true), of_kind(false));
    let auc = filters::auc::auc(&right, &wrong).unwrap();
    assert!(auc > 0.8, "{auc}: {right:?} {wrong:?}");
}
