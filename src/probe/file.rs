//! The file of a probe, `probes/<sae>/<name>.json`, which has the report and everything that scores other samples: written, read,
//! and applied to another run. JSON is read to within the last bit of a number, and a probe has few weights.

use super::{ProbeError, ProbeReport, strengths};
use crate::control::{Control, Stage};
use crate::roles::Kind as RunKind;
use crate::sae::LoadedSae;
use crate::{Error, Result};
use filters::probe::{Isotonic, Kind, Probe, Rows};
use filters::score_names::PROBE;
use sae_core::analysis::between::PositionChoice;
use sae_core::analysis::feature_sets::Part;
use sae_core::store::run::check_name;
use sae_core::{Run, file};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes that the file of a probe has at most.
const MOST_BYTES: u64 = 256 << 20;

/// What scores samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedProbe {
    /// The kind.
    pub kind: Kind,
    /// Which positions of a sample are read.
    pub part: Part,
    /// The weights of features, and the offsets.
    pub probe: Probe,
    /// The calibration of scores, for kinds that have probabilities or levels.
    pub calibration: Option<Isotonic>,
}

impl SavedProbe {
    /// Whether its numbers are those of a probe of its kind.
    fn is_consistent(&self) -> bool {
        let Self { kind, probe, calibration, .. } = self;
        let fits = match kind {
            Kind::Pair => probe.offsets.is_empty(),
            Kind::Ordinal => !probe.offsets.is_empty(),
            Kind::Binary | Kind::Linear | Kind::Cost => probe.offsets.len() == 1,
        };
        let ascends = probe.weights.is_sorted_by(|a, b| a.0 < b.0);
        let matches = calibration
            .as_ref()
            .is_none_or(|points| points.scores.len() == points.values.len() && points.scores.is_sorted());
        fits && ascends && matches
    }

    /// The score of a row: calibrated, if scores are.
    fn score(&self, row: impl Iterator<Item = (u32, f32)>) -> f64 {
        let score = self.probe.score(self.kind, row);
        self.calibration.as_ref().map_or(score, |points| points.at(score))
    }
}

#[derive(Serialize)]
struct Contents<'a> {
    #[serde(flatten)]
    report: &'a ProbeReport,
    fitted: &'a SavedProbe,
}

/// Writes a probe with its report.
pub(super) fn write(report: &ProbeReport, saved: &SavedProbe) -> Result<()> {
    if let Some(folder) = report.file.parent() {
        std::fs::create_dir_all(folder).map_err(sae_core::Error::io("make the folder", folder))?;
    }
    Ok(file::write_json(&report.file, &Contents { report, fitted: saved })?)
}

impl ProbeReport {
    /// The names of the probes of an autoencoder.
    pub fn names(run: &Run, sae: &str) -> Vec<String> {
        let files = run.list(&format!("probes/{sae}"));
        files.iter().filter_map(|file| file.strip_suffix(".json").map(String::from)).collect()
    }

    /// Reads the report of a probe.
    ///
    /// # Errors
    /// There is no such probe, or its file is damaged.
    pub fn read(run: &Run, sae: &str, name: &str) -> Result<Self> {
        check_name(name)?;
        let file = path(run, sae, name);
        Ok(Self { file: file.clone(), ..file::read_json(&file, MOST_BYTES)? })
    }
}

/// The file of a probe of a run.
pub(super) fn path(run: &Run, sae: &str, name: &str) -> PathBuf {
    run.root().join("probes").join(sae).join(format!("{name}.json"))
}

/// The field that a probe of a run was fitted to. `None` if the run has no such probe, or it needed no field.
pub(crate) fn label_field(run: &Run, sae: &str, name: &str) -> Result<Option<String>> {
    let path = path(run, sae, name);
    if !path.exists() {
        return Ok(None);
    }
    let probe: Value = file::read_json(&path, MOST_BYTES)?;
    let label = probe["label"].as_str().map(|label| label.split_once('=').map_or(label, |(field, _)| field.trim()));
    Ok(label.map(String::from))
}

/// A probe of an autoencoder: what scores samples, the label that it was fitted to, and the hash of its file.
///
/// # Errors
/// There is no such probe, its file is damaged, or it belongs to another autoencoder.
pub(crate) fn open(run: &Run, sae: &str, name: &str) -> Result<(SavedProbe, Option<String>, String)> {
    check_name(name)?;
    let path = path(run, sae, name);
    if !path.exists() {
        let (kind, available) = (RunKind::Probe, ProbeReport::names(run, sae));
        if available.is_empty() {
            return Err(Error::Missing { kind });
        }
        return Err(Error::Unknown { kind, asked: name.into(), available });
    }
    let Read { fitted, label, .. } = read(&path, run, sae)?;
    Ok((fitted, label, file::hash(&path)?))
}

/// What is read of a file.
#[derive(Deserialize)]
struct Read {
    name: String,
    #[serde(default)]
    label: Option<String>,
    /// The run that it was fitted to.
    #[serde(with = "sae_core::path_text")]
    run: PathBuf,
    sae_blake3: String,
    fitted: SavedProbe,
}

fn read(path: &Path, run: &Run, sae: &str) -> Result<Read> {
    let read: Read = file::read_json(path, MOST_BYTES)?;
    check_name(&read.name)?;
    if !read.fitted.is_consistent() {
        let cause = format!("the numbers of `fitted` are not those of a {} probe", read.fitted.kind.name());
        return Err(sae_core::Error::format(path)(cause).into());
    }
    let weights = run.sae_dir(sae).join("sae_weights.safetensors");
    if !weights.exists() || file::hash(&weights)? != read.sae_blake3 {
        return Err(ProbeError::OtherAutoencoder { path: path.to_path_buf(), sae: sae.into() }.into());
    }
    Ok(read)
}

/// Checks that probes can be applied.
///
/// # Errors
/// As [`apply`], but for the pass.
pub(crate) fn check(sae: &LoadedSae, probes: &[PathBuf]) -> Result<()> {
    probes.iter().try_for_each(|path| read(path, &sae.run, &sae.name).map(drop))
}

/// A column with the scores of each probe. Its samples are not those that the probes were fitted to.
///
/// # Errors
/// A file without a probe of this autoencoder; a pass that fails.
pub(crate) fn apply(
    sae: &LoadedSae,
    probes: &[PathBuf],
    samples: usize,
    control: &mut Control,
) -> Result<Vec<(String, Vec<Option<f64>>)>> {
    let mut probes = probes.iter().map(|path| read(path, &sae.run, &sae.name)).collect::<Result<Vec<Read>>>()?;
    // The run of a probe has better scores of it: those of samples that the fits have not seen.
    let own = sae.run.root().canonicalize().ok();
    probes.retain(|read| read.run.canonicalize().ok() != own);
    if probes.is_empty() {
        return Ok(Vec::new());
    }
    // The rows and the numbers of positions of each part.
    let mut parts: BTreeMap<&str, (Rows, Vec<u32>)> = BTreeMap::new();
    for part in probes.iter().map(|read| read.fitted.part) {
        if !parts.contains_key(part.name()) {
            let choice = PositionChoice::new(&sae.store, part, part.markers().as_ref())?;
            let mut strengths = strengths(samples, sae.saved.weights.d_sae);
            sae.summarize(&sae.store, Stage::Features, &choice, &mut [&mut strengths], control)?;
            parts.insert(part.name(), (Rows::from_sets(&strengths.finish()), choice.counts(&sae.store)?));
        }
    }
    let column = |read: Read| {
        let (rows, positions) = &parts[read.fitted.part.name()];
        let score = |sample: usize| (positions[sample] > 0).then(|| read.fitted.score(rows.row(sample)));
        let scores = (0..samples).map(score).collect();
        (format!("{PROBE}{}", read.name), scores)
    };
    Ok(probes.into_iter().map(column).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::random::SplitMix64;

    /// The file is no target of the fuzzers, which do not know the operations.
    #[test]
    fn changed_files_are_rejected_or_score_every_row() {
        const BYTES: &[u8] = b"0123456789-.,[]{}e\"nul ";
        let kinds = [Kind::Binary, Kind::Linear, Kind::Cost, Kind::Pair, Kind::Ordinal];
        let mut random = SplitMix64::new(5);
        let (mut scored, mut rejected) = (0, 0);
        for _ in 0..20_000 {
            let mut numbers = |most: usize| (0..random.below(most)).map(|_| random.next_f64()).collect::<Vec<f64>>();
            let probe = Probe { weights: vec![(3, 0.5), (9, -1.25)], offsets: numbers(4) };
            let calibration = Some(Isotonic { scores: numbers(4), values: numbers(4) });
            let calibration = calibration.filter(|_| random.below(2) == 0);
            let saved = SavedProbe { kind: kinds[random.below(5)], part: Part::default(), probe, calibration };
            let mut bytes = serde_json::to_vec(&saved).unwrap();
            for _ in 0..random.below(4) {
                let place = random.below(bytes.len());
                bytes[place] = BYTES[random.below(BYTES.len())];
            }
            match serde_json::from_slice::<SavedProbe>(&bytes) {
                Ok(changed) if changed.is_consistent() => {
                    let _ = changed.score([(3, 1.0), (4, 2.0), (9, 0.5)].into_iter());
                    scored += 1;
                }
                _ => rejected += 1,
            }
        }
        assert!(scored > 500 && rejected > 500, "{scored} {rejected}");
    }
}
