//! Opens a run: finds the run folder and the autoencoder, reads the table of features, the typical words and the labels. A run
//! without an index is opened as well; what is missing becomes a sentence with what to do about it.

use super::{guarded, message, probe, remote, tables::FEATURES};
use crate::state::Link;
use crate::state::run_info::{CapturedModel, OpenedRun, RunInfo, SaeInfo, ServedAt};
use sae_core::Run;
use sae_core::analysis::index::{FeatureRow, Row, TypicalWord, read_features, read_lists};
use sae_core::analysis::labels::Labels;
use sae_core::path_text;
use sae_core::store::run::check_name;
use sae_core::store::{STEP, StoreRecord};
use sae_workbench::RemoteRun;
use sae_workbench::feature_table::{PositionCounts, TypicalWords};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

/// Folders above a given one that are searched for a run.
const PARENTS: usize = 3;

/// An open run, with its server if it is behind one.
pub type Open = (OpenedRun, Run, Option<Arc<RemoteRun>>);

/// Opens the run that a link is about.
pub fn open(link: &Link) -> Result<Open, String> {
    let remote = remote::open(&link.run)?;
    let Some(server) = &remote else {
        let (root, notice) = find_root(&link.run)?;
        let (opened, run) = read(root, link, None)?;
        return Ok((OpenedRun { notice, ..opened }, run, None));
    };
    let copy = |sae: Option<&str>| server.copy(sae).map_err(message);
    copy(link.sae.as_deref())?;
    let (opened, run) = read(server.root().to_path_buf(), link, Some(server))?;
    if link.sae.is_some() || opened.info.sae.is_none() {
        return Ok((opened, run, remote));
    }
    // Now it is known whose features are shown.
    copy(opened.info.sae.as_deref())?;
    let (opened, run) = read(server.root().to_path_buf(), link, Some(server))?;
    Ok((opened, run, remote))
}

/// Reads the run in a folder.
fn read(root: PathBuf, link: &Link, remote: Option<&Arc<RemoteRun>>) -> Result<(OpenedRun, Run), String> {
    let run = Run::open(&root).map_err(|error| error.message())?;
    let trained = remote.map_or_else(|| run.saes(), |remote| remote.trained());
    let saes = saes(&run, trained);
    let sae = choose(&run, link.sae.as_deref(), &saes)?;
    let served = remote.map(|remote| remote::served_at(remote));
    let path = served.as_ref().map_or(&root, |served| &served.path).clone();
    // A harvest that run.json does not describe is no reason to show no features.
    let harvest: Option<StoreRecord> = run.read_step(STEP).ok().flatten();
    let stored = harvest.as_ref().map(StoreRecord::progress).unwrap_or_default();
    let (rows, no_features) = match &sae {
        Some(sae) => features(&run, sae, &saes),
        None => (Vec::new(), Some(without_autoencoder(&path))),
    };
    let step: Option<Value> = sae.as_ref().and_then(|sae| run.read_step(&format!("index/{sae}")).ok().flatten());
    let typical_words = match &sae {
        Some(sae) if !rows.is_empty() => typical_words(&run, sae, rows.len()),
        _ => Vec::new(),
    };
    let info = RunInfo {
        captured: captured(harvest.as_ref(), served.as_ref()),
        model: harvest.map(|harvest| harvest.spec.model).unwrap_or_default(),
        samples: stored.samples,
        positions: stored.rows,
        sae,
        saes,
        indexed: step.as_ref().and_then(indexed_positions).unwrap_or_default(),
        threshold: step.and_then(|step| step.get("threshold")?.as_f64()),
        read_only: read_only(&root),
        export_folder: folder_beside(&path, "kept"),
        answer_folder: folder_beside(&path, "answer"),
        root,
        served,
    };
    // Labels that cannot be read are no reason to show no features; they are moved aside when something is saved.
    let labels = match Labels::read(&run) {
        Ok(labels) => (labels, None),
        Err(error) => (Labels::default(), Some(error.message())),
    };
    let (contrasts, probes) = (run.list("contrasts"), probe::names(&run, info.sae.as_deref()));
    let author = ["USER", "USERNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    Ok((OpenedRun { info, contrasts, probes, rows, typical_words, no_features, labels, author, notice: None }, run))
}

/// The run folder that a path means: itself, or a folder above it.
fn find_root(path: &Path) -> Result<(PathBuf, Option<String>), String> {
    let given = absolute(path).unwrap_or_else(|_| path.to_path_buf());
    if !given.exists() {
        return Err(format!("There is no such folder: {}", given.display()));
    }
    let is_run = |folder: &Path| folder.join("run.json").is_file();
    if given.is_dir() && is_run(&given) {
        return Ok((given, None));
    }
    if let Some(root) = given.ancestors().skip(1).take(PARENTS).find(|folder| is_run(folder)) {
        let notice = (given != root.join("run.json"))
            .then(|| format!("{} is part of the run {}, which was opened.", given.display(), root.display()));
        return Ok((root.to_path_buf(), notice));
    }
    Err(format!("{} is not a run folder (it has no run.json).\nhint: `sae harvest` makes one", given.display()))
}

/// The autoencoders of a run, finished ones first.
fn saes(run: &Run, finished: Vec<String>) -> Vec<SaeInfo> {
    let unfinished = run.list("saes").into_iter().filter(|name| !finished.contains(name));
    let unfinished: Vec<(String, bool)> = unfinished.map(|name| (name, false)).collect();
    let mut names: Vec<(String, bool)> = finished.into_iter().map(|name| (name, true)).collect();
    names.extend(unfinished);
    // An index without its autoencoder can still be read.
    let is_unknown = |name: &String| names.iter().all(|(known, _)| known != name);
    let indexed = run.list("features").into_iter().filter(|name| run.features(name).join(FEATURES).is_file());
    let indexed = indexed.filter(is_unknown);
    names.extend(indexed.collect::<Vec<_>>().into_iter().map(|name| (name, false)));
    let info = |(name, trained): (String, bool)| SaeInfo {
        indexed: run.features(&name).join(FEATURES).is_file(),
        scored: run.scores(&name).is_file(),
        trained,
        name,
    };
    names.into_iter().map(info).collect()
}

/// The autoencoder that a link names, else the first one with an index, else the first one.
fn choose(run: &Run, wanted: Option<&str>, saes: &[SaeInfo]) -> Result<Option<String>, String> {
    if let Some(name) = wanted {
        check_name(name).map_err(|error| error.message())?;
        if saes.iter().any(|sae| sae.name == name) {
            return Ok(Some(name.into()));
        }
        let root = run.root().display();
        let names: Vec<&str> = saes.iter().map(|sae| sae.name.as_str()).collect();
        let hint = if names.is_empty() { String::new() } else { format!("\nhint: it has {}", names.join(", ")) };
        return Err(format!("The run has no autoencoder {name}: {root}{hint}"));
    }
    let indexed = saes.iter().find(|sae| sae.indexed);
    let trained = || saes.iter().find(|sae| sae.trained);
    Ok(indexed.or_else(trained).or(saes.first()).map(|sae| sae.name.clone()))
}

fn without_autoencoder(run: &Path) -> String {
    format!("This run has no autoencoder yet.\nhint: `sae train --run {}` trains one", run.display())
}

/// The table of features, or why there is none.
fn features(run: &Run, sae: &str, saes: &[SaeInfo]) -> (Vec<FeatureRow>, Option<String>) {
    let trained = saes.iter().any(|known| known.name == sae && known.trained);
    let path = run.features(sae).join(FEATURES);
    if !path.is_file() {
        let reason = match (trained, run.features(sae).is_dir()) {
            (false, _) => format!(
                "The training of {sae} is not finished. The Run page shows its curves.\nhint: if it was interrupted, the same \
                 `sae train` with --resume continues it"
            ),
            (true, true) => format!("The feature index of {sae} is not complete."),
            (true, false) => format!("There is no feature index of {sae} yet."),
        };
        return (Vec::new(), Some(reason));
    }
    match guarded(|| read_features(&path).map_err(|error| error.message())) {
        Ok(rows) if rows.is_empty() => (rows, Some(format!("The feature index of {sae} lists no features."))),
        Ok(rows) => (rows, None),
        Err(error) => (Vec::new(), Some(format!("The feature index of {sae} cannot be read: {error}"))),
    }
}

/// Typical words by feature. They are a convenience: a table that cannot be read costs only the stand-ins for labels.
fn typical_words(run: &Run, sae: &str, features: usize) -> Vec<TypicalWords> {
    let path = run.features(sae).join(TypicalWord::FILE);
    let read = || read_lists::<TypicalWord>(&path, features).map_err(|error| error.message());
    let lists = if path.is_file() { guarded(read).unwrap_or_default() } else { Vec::new() };
    lists.iter().map(|rows| TypicalWords::new(rows)).collect()
}

fn indexed_positions(step: &Value) -> Option<PositionCounts> {
    let counts: Vec<u64> = step.get("positions")?.as_array()?.iter().filter_map(Value::as_u64).collect();
    let [all, text, image] = counts[..] else { return None };
    let sides = step.get("sides").and_then(Value::as_str).and_then(|sides| sides.parse().ok()).unwrap_or_default();
    Some(PositionCounts { all, text, image, sides })
}

/// Why nothing can be written into a folder, if so.
fn read_only(root: &Path) -> Option<String> {
    let probe = root.join(format!(".write-test-{}", std::process::id()));
    match fs::write(&probe, "") {
        Ok(()) => {
            // It can be removed as it could be made.
            let _ = fs::remove_file(&probe);
            None
        }
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => None,
        Err(error) => Some(error.to_string()),
    }
}

/// The model that a run was captured from.
fn captured(harvest: Option<&StoreRecord>, served: Option<&ServedAt>) -> CapturedModel {
    let text = |name: &str| harvest?.spec.arguments.get(name)?.as_str();
    CapturedModel {
        folder: text("model_folder").map(path_text::decode),
        dtype: text("dtype").unwrap_or("f32").into(),
        template: text("template").unwrap_or("auto").into(),
        served: served.map(|served| served.address.clone()),
    }
}

/// A folder beside the run that does not exist yet.
fn folder_beside(root: &Path, ending: &str) -> PathBuf {
    let name = |number: u32| {
        let mut name = root.file_name().unwrap_or_default().to_os_string();
        name.push(if number > 1 { format!("-{ending}-{number}") } else { format!("-{ending}") });
        root.with_file_name(name)
    };
    (1..1000).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_run_opens_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run");
        Run::create(&root).unwrap();
        fs::create_dir_all(root.join("saes/base")).unwrap();
        assert_eq!(find_root(&root), Ok((root.clone(), None)));
        assert_eq!(find_root(&root.join("run.json")), Ok((root.clone(), None)));
        let (found, notice) = find_root(&root.join("saes/base")).unwrap();
        assert_eq!(found, root);
        assert!(notice.unwrap().contains("is part of the run"));
        assert!(find_root(dir.path()).unwrap_err().contains("is not a run folder"));
        assert!(find_root(&dir.path().join("nowhere")).unwrap_err().contains("no such folder"));
    }

    #[test]
    fn a_run_without_anything_but_run_json_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("run");
        Run::create(&root).unwrap();
        let (opened, ..) = open(&Link::to_run(&root)).unwrap();
        assert!(opened.no_features.unwrap().starts_with("This run has no autoencoder yet."));
        assert_eq!(opened.info.export_folder, dir.path().join("run-kept"));
        assert_eq!(opened.info.read_only, None);
        fs::create_dir_all(root.join("saes/first/checkpoint")).unwrap();
        let (opened, ..) = open(&Link::to_run(&root)).unwrap();
        assert_eq!(opened.info.sae.as_deref(), Some("first"));
        assert!(opened.no_features.unwrap().contains("not finished"));
    }

    #[test]
    fn a_folder_that_exists_is_not_proposed_for_the_kept_rows() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        fs::create_dir_all(dir.path().join("run-kept")).unwrap();
        assert_eq!(folder_beside(&run, "kept"), dir.path().join("run-kept-2"));
    }
}
