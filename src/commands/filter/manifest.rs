//! What a filter did, for programs and people: `manifest.json`, and `decisions.csv` with a line a sample. Both depend on
//! the data and the arguments alone, so that the same command gives the same.

use super::Input;
use crate::args::Filter;
use anyhow::{Context, Result};
use filters::select::Fate;
use filters::write::{Format, Images, Written, same};
use sae_core::store::StoreRecord;
use sae_core::{Run, file};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What a filter did.
#[derive(Serialize)]
pub struct Filtered {
    schema_version: u32,
    program: String,
    run: PathBuf,
    sae: String,
    by: String,
    keep: String,
    by_group: Option<String>,
    distinct: Option<f64>,
    diverse: bool,
    format: Format,
    images: Images,
    /// Lowest score that stayed.
    pub threshold: Option<f64>,
    /// How the scores were made: `score/<sae>` of run.json, with threshold and seed.
    score: Value,
    /// BLAKE3 of the score table that decided.
    scores_blake3: String,
    /// Rows and images that stayed.
    pub kept: Written,
    /// Rows that went.
    pub dropped: u64,
    /// And why.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Samples without a score, which never stay.
    without_score: u64,
    /// Rows that never became samples when the run was made: neither kept nor dropped.
    skipped_at_harvest: u64,
    /// Group by group.
    pub groups: Vec<Group>,
    /// The folder that the data lay in.
    data_root: PathBuf,
    /// The files that rows came from.
    sources: Vec<Source>,
}

/// What became of a group.
#[derive(Serialize)]
pub struct Group {
    /// Its name; empty where nothing was grouped.
    pub name: String,
    /// Samples in it.
    pub samples: u64,
    with_score: u64,
    /// Those that stayed.
    pub kept: u64,
    /// Lowest score that stayed.
    pub threshold: Option<f64>,
}

/// A file of the data set.
#[derive(Serialize)]
struct Source {
    file: PathBuf,
    blake3: String,
    kept: u64,
    dropped: u64,
}

impl Filtered {
    #[allow(clippy::too_many_arguments)] // each is a fact of its own
    pub(super) fn new(
        run: &Run,
        sae: &str,
        input: &Input,
        fates: &[Fate],
        args: &Filter,
        record: &StoreRecord,
        root: &Path,
        kept: Written,
    ) -> Result<Self> {
        let with_reason = |reason: &str| fates.iter().filter(|fate| fate.reason() == reason).count() as u64;
        let groups = groups(input, fates);
        Ok(Self {
            schema_version: 1,
            program: format!("sae {}", env!("CARGO_PKG_VERSION")),
            run: run.root().to_path_buf(),
            sae: sae.into(),
            by: args.by.clone(),
            keep: args.keep.to_string(),
            by_group: args.by_group.clone(),
            distinct: args.distinct,
            diverse: args.diverse,
            format: args.format,
            images: args.images,
            threshold: groups.iter().filter_map(|group| group.threshold).min_by(f64::total_cmp),
            score: run.noted(&format!("score/{sae}"))?.unwrap_or_default(),
            scores_blake3: file::hash(&run.scores(sae))?,
            kept,
            dropped: fates.iter().filter(|fate| **fate != Fate::Kept).count() as u64,
            reasons: Fate::REASONS.iter().map(|reason| (*reason, with_reason(reason))).collect(),
            without_score: with_reason(Fate::NoScore.reason()),
            skipped_at_harvest: record.progress().skipped(),
            groups,
            data_root: root.to_path_buf(),
            sources: sources(input, fates, root)?,
        })
    }
}

fn groups(input: &Input, fates: &[Fate]) -> Vec<Group> {
    let none = |name: &String| Group { name: name.clone(), samples: 0, with_score: 0, kept: 0, threshold: None };
    let mut groups: Vec<Group> = input.groups.names.iter().map(none).collect();
    for ((group, fate), (_, score)) in input.groups.of.iter().zip(fates).zip(&input.scores) {
        let group = &mut groups[*group as usize];
        group.samples += 1;
        group.with_score += (*fate != Fate::NoScore) as u64;
        if let (Fate::Kept, Some(score)) = (fate, score) {
            group.kept += 1;
            group.threshold = Some(group.threshold.map_or(*score, |lowest| lowest.min(*score)));
        }
    }
    groups
}

fn sources(input: &Input, fates: &[Fate], root: &Path) -> Result<Vec<Source>> {
    let side = |stays: bool| {
        let of = input.samples.iter().zip(fates).filter(|(_, fate)| (**fate == Fate::Kept) == stays);
        same::Rows::of(of.map(|(sample, _)| sample))
    };
    let (kept, dropped) = (side(true)?, side(false)?);
    let mut files: Vec<PathBuf> = kept.files().chain(dropped.files()).map(Path::to_path_buf).collect();
    files.sort();
    files.dedup();
    let source = |file: PathBuf| {
        let blake3 = file::hash(&root.join(&file))?;
        Ok(Source { kept: kept.count(&file), dropped: dropped.count(&file), file, blake3 })
    };
    files.into_iter().map(source).collect()
}

/// Writes both files into the folder of the kept rows.
pub(super) fn write(folder: &Path, filtered: &Filtered, input: &Input, fates: &[Fate]) -> Result<()> {
    file::write_json(&folder.join("manifest.json"), filtered)?;
    let path = folder.join("decisions.csv");
    file::write(&path, |out| {
        let mut put = |line: String| out.write_all(line.as_bytes()).map_err(sae_core::Error::io("write", &path));
        put("sample,id,key,group,score,stays,reason,duplicate_of,similarity\n".into())?;
        for (n, (sample, fate)) in input.samples.iter().zip(fates).enumerate() {
            let group = quoted(&input.groups.names[input.groups.of[n] as usize]);
            let score = input.scores[n].1.map_or(String::new(), |score| score.to_string());
            let (of, similarity) = match fate {
                Fate::Alike { of, similarity } => (of.to_string(), similarity.to_string()),
                _ => Default::default(),
            };
            let reason = if *fate == Fate::Kept { "" } else { fate.reason() };
            let (key, stays) = (quoted(&sample.key), *fate == Fate::Kept);
            put(format!("{n},{},{key},{group},{score},{stays},{reason},{of},{similarity}\n", sample.id))?;
        }
        Ok(())
    })
    .with_context(|| format!("the decisions were not written: {}", folder.display()))
}

/// A cell of a CSV file.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}
