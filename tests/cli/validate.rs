//! `sae harvest --blank-images`, `pmi_blank`, and `sae validate`: rows are corrupted at the rates asked for, and scores are judged, on the bundled
//! model, whose likelihoods mean something.

use crate::tool::{fails, json, repository};
use std::path::Path;

fn captured(dir: &Path) -> [String; 3] {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let [model, data] = ["assets/demo-mllm", "assets/demo-data/data.jsonl"].map(|p| path(&repository(p)));
    let run = path(&dir.join("run"));
    let harvest = ["harvest", "--model", &model, "--data", &data, "--run", &run, "--layers", "4", "--limit", "96"];
    json(&[&harvest[..], &["--blank-images"]].concat());
    let train = ["train", "--run", &run, "--hook", "layers.4", "--name", "base", "--arch", "topk", "--k", "16"];
    json(&[&train[..], &["--features", "256", "--steps", "60", "--batch", "512", "--lr", "0.003"]].concat());
    [model, data, run]
}

#[test]
fn texts_read_apart_have_a_score_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let [model, _, run] = captured(dir.path());
    let scored = json(&["score", "--run", &run, "--mode", "paper"]);
    let columns: Vec<_> = scored["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    assert_eq!(columns, ["cosine_paper", "l0_paper", "co_l0_paper", "pmi", "pmi_blank", "pmi_token_min", "random"]);
    assert_eq!(scored["without"], serde_json::json!({}));
    let why = json(&["score", "--run", &run, "--explain", "5"]);
    assert_eq!(why["column"], "pmi_blank", "the better of the two is explained");

    // Of wrong tokens there is no estimate, and none is guessed.
    assert!(scored["keep"].get("pmi_blank").is_some() && scored["keep"].get("pmi_token_min").is_none());
    let out = dir.path().join("kept").to_str().unwrap().to_owned();
    let said = fails(1, &["filter", "--run", &run, "--by", "pmi_token_min", "--keep", "auto", "--out", &out]);
    assert!(said.contains("--by pmi_blank"), "{said}");

    // Fitted to two runs, of which one has no texts read apart.
    let other = dir.path().join("other").to_str().unwrap().to_owned();
    let data = repository("assets/demo-data/constructed-swapped.jsonl").to_str().unwrap().to_owned();
    let harvest = ["harvest", "--model", &model, "--data", &data, "--run", &other, "--layers", "4", "--limit", "40"];
    json(&harvest);
    let scored = json(&["score", "--run", &run, "--calibrate", &other, "--calibrate", &run]);
    assert!(scored["without"]["pmi_blank"].as_str().unwrap().contains("blank"), "{scored}");
    assert!(scored["keep"].get("pmi").is_some() && scored["keep"].get("pmi_blank").is_none());
}

#[test]
fn rows_are_corrupted_and_the_scores_judged() {
    let dir = tempfile::tempdir().unwrap();
    let [model, data, run] = captured(dir.path());
    let validate = ["validate", "--run", &run, "--model", &model, "--data", &data, "--limit", "64", "--share", "50%"];
    let validate = [&validate[..], &["--corruption", "shuffled-words,blurred-images"]].concat();
    let plan = json(&[&validate[..], &["--dry-run"]].concat());
    assert_eq!(plan["trials"].as_array().unwrap().len(), 2);
    let found = json(&validate);
    let trials = found["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 2);
    for trial in trials {
        assert_eq!(trial["samples"], 64);
        let altered = trial["altered"].as_u64().unwrap();
        assert!((16..=48).contains(&altered), "{altered}");
        for name in [
            "cosine_paper",
            "pmi",
            "pmi_blank",
            "pmi_token_min",
            "tokens",
            "hidden_cosine",
            "likelihood",
            "likelihood_drop",
        ] {
            let [low, auc, high] = ["low", "auc", "high"].map(|key| trial["scores"][name][key].as_f64().unwrap());
            assert!(0.0 <= low && low <= auc && auc <= high && high <= 1.0, "{name}: {}", trial["scores"][name]);
        }
        let (names, rows) = (trial["names"].as_array().unwrap(), trial["agreement"].as_array().unwrap());
        assert!(names.len() == rows.len() && rows.iter().all(|row| row.as_array().unwrap().len() == names.len()));
    }
    // A language model knows the order of words.
    assert!(trials[0]["scores"]["likelihood"]["auc"].as_f64().unwrap() > 0.8, "{}", trials[0]["scores"]["likelihood"]);
    let folder = Path::new(&run).join("validate");
    let picture = std::fs::read(folder.join("base.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && folder.join("base.json").exists());
    // What was captured is used again, and the same comes out.
    assert_eq!(json(&validate), found);
    let mut other = validate.clone();
    other[8] = "32";
    assert!(fails(1, &other).contains("hint: remove the folder, which was made with other settings"));
    // Whatever else goes wrong has its own cause, and no advice to remove what is there.
    let shares = [&validate[..9], &["--share", "2%,2.5%", "--corruption", "wrong-word"]].concat();
    std::fs::write(folder.join("wrong-word-2.5"), "a file in the way of the folder").unwrap();
    let said = fails(1, &shares);
    assert!(said.contains("wrong-word-2.5") && !said.contains("remove the folder"), "{said}");
    assert!(folder.join("wrong-word-2").is_dir(), "shares of 2 % and 2.5 % have folders of their own");
}
