//! Puts the parts of an operation's passes together: which belong to it, which are missing, and the operation on their states.

use super::PartOperation;
use crate::control::{Control, Stage};
use crate::error::JobsError;
use crate::passes::Passes;
use crate::sae::{LoadedSae, SaeChoice};
use crate::{IndexReport, Result, ScoreReport, SummariesReport, objects};
use harvest::Shard;
use sae_core::analysis::part::{Header, Origin, PassPart};
use sae_core::device::DeviceChoice;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};

/// Parts of an operation that become its result.
#[derive(Clone, Debug)]
pub struct ReduceRequest {
    /// The run folder.
    pub run: PathBuf,
    /// Part files, or folders of them, in any order, or addresses in buckets; the folder of the run if there are none.
    pub parts: Vec<PathBuf>,
    /// Where to compute what follows the pass.
    pub device: DeviceChoice,
}

/// What parts would be reduced to.
#[derive(Clone, Debug, Serialize)]
pub struct ReducePlan {
    /// `reduce`.
    pub command: &'static str,
    /// The operation.
    pub operation: &'static str,
    /// The autoencoder.
    pub sae: String,
    /// The number of parts.
    pub parts: u32,
}

/// The result of an operation whose passes were made in parts.
#[derive(Clone, Debug, Serialize)]
pub struct ReduceReport {
    /// The number of parts.
    pub parts: u32,
    /// What the operation reports.
    #[serde(flatten)]
    pub result: Reduced,
}

/// What the operation of the parts reports.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "operation", rename_all = "lowercase")]
pub enum Reduced {
    /// The feature index.
    Index(IndexReport),
    /// Scores.
    Score(Box<ScoreReport>),
    /// Summaries of samples.
    Summaries(SummariesReport),
}

/// Parts that belong together and are complete, in order.
struct Whole {
    sae: LoadedSae,
    operation: PartOperation,
    parts: Vec<PassPart>,
}

impl ReduceRequest {
    /// All parts in the folder of a run.
    pub fn new(run: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), parts: Vec::new(), device: DeviceChoice::Auto }
    }

    /// What [`ReduceRequest::run`] would do. Reads and hashes every byte of the parts.
    ///
    /// # Errors
    /// Whatever is wrong with the parts.
    pub fn plan(&self, control: &mut Control) -> Result<ReducePlan> {
        let whole = self.check(control)?;
        let (operation, parts) = (whole.operation.name(), whole.parts.len() as u32);
        Ok(ReducePlan { command: "reduce", operation, sae: whole.sae.name, parts })
    }

    /// Puts the parts together, and computes and writes what the operation would have written alone.
    ///
    /// # Errors
    /// [`JobsError::OtherPart`] for a part of another run, autoencoder, version or request; [`JobsError::UnequalParts`] for two
    /// states of one part; [`JobsError::MissingParts`]; whatever the operation itself finds wrong.
    pub fn run(&self, control: &mut Control) -> Result<ReduceReport> {
        let Whole { sae, operation, parts } = self.check(control)?;
        let count = parts.len() as u32;
        let mut passes = Passes::Merged(parts);
        let result = match operation {
            PartOperation::Index(request) => Reduced::Index(request.run_on(&sae, &mut passes, control)?),
            PartOperation::Score(request) => {
                Reduced::Score(Box::new(crate::score::score_with(&sae, &request.options, &mut passes, control)?))
            }
            PartOperation::Summaries(request) => Reduced::Summaries(request.run_on(&sae, &mut passes, control)?),
        };
        Ok(ReduceReport { parts: count, result })
    }

    fn check(&self, control: &mut Control) -> Result<Whole> {
        let (files, place) = self.files(control)?;
        let mut staged = control.stage(Stage::Check, files.len() as u64)?;
        let mut parts: BTreeMap<u32, PassPart> = BTreeMap::new();
        for (path, n) in files.iter().zip(1..) {
            let part = PassPart::open(path)?;
            let (number, of) = (part.header().number, part.header().of);
            if let Some(first) = parts.values().next() {
                differ(first.header(), part.header(), path)?;
            }
            match parts.entry(number) {
                Entry::Vacant(entry) => drop(entry.insert(part)),
                // Whoever made a part twice made the same.
                Entry::Occupied(entry) if entry.get().hash() == part.hash() => (),
                Entry::Occupied(entry) => {
                    let (first, second) = (entry.get().path().to_path_buf(), path.clone());
                    return Err(JobsError::UnequalParts { part: shard(number, of), first, second }.into());
                }
            }
            staged.advance(n)?;
        }
        drop(staged);
        let parts: Vec<PassPart> = parts.into_values().collect();
        let first = parts.first().ok_or(JobsError::NoParts { place })?;
        let Header { origin, of, command, .. } = first.header().clone();
        let sae = SaeChoice { run: self.run.clone(), sae: Some(origin.sae.clone()), device: self.device };
        let other = |differences| JobsError::OtherPart { differences, path: first.path().to_path_buf() };
        let operation =
            PartOperation::from_arguments(&origin.request, sae.clone()).ok_or_else(|| other(vec!["request"]))?;
        let sae = sae.load_with_pieces()?;
        let differences = differences(&operation.origin(&sae)?, &origin);
        if !differences.is_empty() {
            return Err(other(differences).into());
        }
        let is_missing = |number: &u32| parts.iter().all(|part| part.header().number != *number);
        let missing: Vec<Shard> = (1..=of).filter(is_missing).map(|number| shard(number, of)).collect();
        if !missing.is_empty() {
            let fill = |part: &Shard| command.iter().map(|word| word.replace("{part}", &part.to_string())).collect();
            let commands = if command.is_empty() { Vec::new() } else { missing.iter().map(fill).collect() };
            return Err(JobsError::MissingParts { missing, commands }.into());
        }
        Ok(Whole { sae, operation, parts })
    }

    /// The files of the parts, sorted, and where they were looked for.
    fn files(&self, control: &mut Control) -> Result<(Vec<PathBuf>, PathBuf)> {
        let own = [sae_core::Run::open(&self.run)?.parts()];
        let local = objects::local_folders(&self.parts, control)?;
        let named = if self.parts.is_empty() { &own[..] } else { &local };
        let mut files = Vec::new();
        for path in named {
            if path.is_dir() {
                files.extend(part_files(path)?);
            } else if path != &own[0] {
                files.push(path.clone());
            }
        }
        files.sort();
        files.dedup();
        Ok((files, named[0].clone()))
    }
}

fn part_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = || sae_core::Error::io("read the folder", folder);
    let entries = fs::read_dir(folder).map_err(io())?.collect::<std::io::Result<Vec<_>>>().map_err(io())?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    Ok(files)
}

/// A part whose number was checked when its file was opened.
fn shard(number: u32, of: u32) -> Shard {
    Shard::new(number, of).expect("a part is one of those that there are")
}

/// Rejects a part that does not belong to the first one.
fn differ(first: &Header, other: &Header, path: &Path) -> Result<()> {
    let mut differences = differences(&first.origin, &other.origin);
    differences.extend((first.of != other.of).then_some("number of parts"));
    if differences.is_empty() {
        return Ok(());
    }
    Err(JobsError::OtherPart { differences, path: path.to_path_buf() }.into())
}

/// In what two origins differ.
fn differences(one: &Origin, other: &Origin) -> Vec<&'static str> {
    let all = [
        (one.program != other.program, "version of the program"),
        (one.stores != other.stores, "run"),
        ((&one.sae, &one.sae_blake3) != (&other.sae, &other.sae_blake3), "autoencoder"),
        (one.request != other.request, "request"),
    ];
    all.into_iter().filter_map(|(differs, what)| differs.then_some(what)).collect()
}
