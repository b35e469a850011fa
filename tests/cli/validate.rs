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
    let expected = [
        "cosine_paper",
        "l0_paper",
        "co_l0_paper",
        "cosine_mean",
        "pmi",
        "pmi_blank",
        "pmi_token_min",
        "pmi_relative",
        "random",
    ];
    assert_eq!(columns, expected);
    let of_model = &scored["model_score"]["paper"];
    assert!(of_model["features"].as_u64().unwrap() > 10 && of_model["se"].as_f64().unwrap() > 0.0, "{of_model}");
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
    let validate = [&validate[..], &["--corruption", "shuffled-words,blurred-images,spliced-images"]].concat();
    let plan = json(&[&validate[..], &["--dry-run"]].concat());
    assert_eq!(plan["trials"].as_array().unwrap().len(), 3);
    let found = json(&validate);
    let trials = found["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 3);
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
            "pmi_relative",
            "likelihood",
            "likelihood_min",
            "likelihood_end",
            "likelihood_drop",
            "ifd",
            "image_sharpness",
            "image_cleanness",
            "image_continuity",
            "pmi_blank+likelihood",
            "pmi_token_min+likelihood",
        ] {
            let [low, auc, high] = ["low", "auc", "high"].map(|key| trial["scores"][name][key].as_f64().unwrap());
            assert!(0.0 <= low && low <= auc && auc <= high && high <= 1.0, "{name}: {}", trial["scores"][name]);
        }
        let keep = &trial["keep"]["pmi_blank"];
        let [low, high] = [0, 1].map(|end| keep["interval"][end].as_f64().unwrap());
        assert!(0.0 <= low && low <= high && high <= 1.0, "{keep}");
        let (names, rows) = (trial["names"].as_array().unwrap(), trial["agreement"].as_array().unwrap());
        assert!(names.len() == rows.len() && rows.iter().all(|row| row.as_array().unwrap().len() == names.len()));
    }
    let auc = |trial: usize, name: &str| trials[trial]["scores"][name]["auc"].as_f64().unwrap();
    assert!(auc(1, "image_sharpness") > 0.95, "{}", auc(1, "image_sharpness"));
    assert!(auc(2, "image_continuity") > 0.85, "{}", auc(2, "image_continuity"));
    assert!((auc(0, "image_sharpness") - 0.5).abs() < 0.25, "the words of an answer do not change its image");
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

#[test]
fn likelihoods_are_columns_of_the_table_that_later_scorings_keep() {
    let dir = tempfile::tempdir().unwrap();
    let [model, data, run] = captured(dir.path());
    let score = ["score", "--run", &run, "--mode", "paper"];
    let with_model = [&score[..], &["--model", &model, "--data", &data, "--limit", "80"]].concat();
    let plan = json(&[&with_model[..], &["--dry-run"]].concat());
    assert!(plan["model"].as_str().unwrap().ends_with("demo-mllm") && plan["data"].as_str().is_some());
    let first = json(&with_model);
    let names = |scored: &serde_json::Value| -> Vec<String> {
        scored["columns"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    for column in ["likelihood", "likelihood_end", "ifd", "image_cleanness", "pmi_token_min+likelihood"] {
        assert!(names(&first).iter().any(|name| name == column), "{column}: {:?}", names(&first));
    }
    let table = |column: &str| {
        let out = dir.path().join(format!("by-{column}"));
        let out = out.to_str().unwrap();
        json(&["filter", "--run", &run, "--by", column, "--keep", "100%", "--out", out])
    };
    // Rows that the model did not read have no likelihood, and are never kept.
    let kept = table("likelihood");
    assert_eq!((kept["kept"]["rows"].as_u64(), kept["without_score"].as_u64()), (Some(80), Some(16)));
    let second = json(&score);
    assert_eq!(names(&second), names(&first), "a later scoring without a model keeps the columns");

    // A data set with other rows, and a table that has no recommended score.
    let other = dir.path().join("other.jsonl");
    std::fs::write(&other, "{\"id\": \"a\", \"text\": \"a red ring\"}\n").unwrap();
    let said = fails(1, &[&score[..], &["--model", &model, "--data", other.to_str().unwrap()]].concat());
    assert!(said.contains("none of the samples") && said.contains("hint: name the data set"), "{said}");
}

#[test]
fn a_filter_without_a_score_takes_the_recommended_one() {
    let dir = tempfile::tempdir().unwrap();
    let [_, _, run] = captured(dir.path());
    let out = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let said = fails(1, &["filter", "--run", &run, "--keep", "50%", "--out", &out("early")]);
    assert!(said.contains("sae score"), "{said}");
    json(&["score", "--run", &run]);
    let [plain, named] = [out("plain"), out("named")];
    let filtered = json(&["filter", "--run", &run, "--keep", "50%", "--out", &plain]);
    assert_eq!((filtered["by"].as_str(), filtered["kept"]["rows"].as_u64()), (Some("pmi_blank"), Some(48)));
    let by_name = json(&["filter", "--run", &run, "--by", "pmi_blank", "--keep", "50%", "--out", &named]);
    assert_eq!(filtered, by_name);

    // Several amounts: each is a part of the larger ones, and images are stored once.
    let deciles = out("deciles");
    let all = json(&["filter", "--run", &run, "--keep", "10%,50%,30%", "--out", &deciles]);
    let rows: Vec<_> = all.as_array().unwrap().iter().map(|one| one["kept"]["rows"].as_u64().unwrap()).collect();
    assert_eq!(rows, [10, 48, 29]);
    let text =
        |folder: &str| std::fs::read_to_string(Path::new(&deciles).join(folder).join("data/data.jsonl")).unwrap();
    let half = text("50-percent");
    assert_eq!(half, std::fs::read_to_string(Path::new(&plain).join("data/data.jsonl")).unwrap());
    for part in ["10-percent", "30-percent"] {
        assert!(text(part).lines().all(|line| half.lines().any(|other| other == line)));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let images = Path::new(&deciles).join("10-percent/data/images");
        let mut links = std::fs::read_dir(images).unwrap().map(|file| file.unwrap().metadata().unwrap().nlink());
        assert!(links.all(|links| links == 3));
    }
    for (keep, cause) in [("10%,auto", "auto is not one"), ("10%,10%", "10% is not one")] {
        let said = fails(1, &["filter", "--run", &run, "--keep", keep, "--out", &out("refused")]);
        assert!(said.contains(cause), "{said}");
    }
    let refused =
        ["filter", "--run", &run, "--keep", "10%,20%", "--out", &out("refused"), "--dropped", &out("dropped")];
    assert!(fails(1, &refused).contains("cannot be combined with a folder for dropped rows"));
    assert!(!Path::new(&out("refused")).exists());
}
