//! The examples of the library: each runs, and prints what its documentation promises. `cargo test` builds them unless it is
//! told which targets to build.

use crate::tool::said;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs an example and returns what it printed.
fn example(name: &str, arguments: &[&Path]) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_sae")).parent().unwrap();
    let program = programs.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is missing: run cargo build --release --examples", program.display());
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The number before a word, as in `84 of 632 rows`.
fn number_before(text: &str, words: &str) -> f64 {
    let (before, _) = text.split_once(words).unwrap_or_else(|| panic!("{words:?} is not in:\n{text}"));
    before.trim_end().rsplit(|c: char| c.is_whitespace()).next().unwrap().parse().unwrap()
}

#[test]
fn the_examples_train_read_observe_filter_and_explain() {
    let folder = tempfile::tempdir().unwrap();
    let run: PathBuf = folder.path().join("run");

    let trained = example("train_sae", &[&run]);
    assert_eq!(number_before(&trained, " samples"), 400.0, "{trained}");
    for modality in ["text: ", "image: "] {
        let (_, measured) = trained.split_once(modality).unwrap();
        let fvu: f64 = measured.lines().next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(measured.contains("L0 16.0") && fvu > 0.0 && fvu < 0.5, "{trained}");
    }

    let read = example("read_features", &[&run]);
    for part in ["features of class text", "features of class image", "promotes ", "a patch of the image"] {
        assert!(read.contains(part), "{part:?} is not in:\n{read}");
    }

    let observed = example("custom_observer", &[&run]);
    assert_eq!(number_before(&observed, " image tokens"), 400.0 * 64.0, "{observed}");
    let rows = observed.lines().skip(2).map(|row| row.split_whitespace().map(|cell| cell.parse().unwrap()).collect());
    let rows: Vec<Vec<f64>> = rows.collect();
    assert_eq!(rows.len(), 10);
    assert!(rows[..5].iter().all(|row| row[1] > row[2]) && rows[5..].iter().all(|row| row[1] < row[2]), "{observed}");

    let filtered = example("filter_data", &[&run]);
    let share = |side: &str| {
        let (_, line) = filtered.split_once(side).unwrap();
        number_before(line, " of ") / number_before(line, " rows")
    };
    assert!(
        share("\ndropped: ") > 1.5 * share("\nkept: "),
        "the dropped rows hold no more swapped captions:\n{filtered}"
    );

    let explained = example("explain_score", &[&run]);
    let (_, lowered) = explained.split_once("lowered most by\n").unwrap();
    assert!(lowered.starts_with('-') && lowered.contains(" adds "), "{explained}");
}

#[test]
fn the_encoding_example_agrees_with_the_package_that_trained_the_autoencoder() {
    let encoded = example("encode_activations", &[]);
    let (_, difference) = encoded.rsplit_once(' ').unwrap();
    assert!(difference.trim().parse::<f64>().unwrap() < 1e-5, "{encoded}");
    assert_eq!(encoded.lines().filter(|line| line.starts_with("row ")).count(), 3);
}
