//! Joins the shards of a job into one run. Checks all of them first and reports everything that is wrong at once; then links or
//! copies their files, and renumbers the samples in the small tables. Never changes a shard, and knows nothing of models.

use super::skipped::{SkipFile, SkipList, read_skipped};
use super::writer::write_manifests;
use super::{JobShard, PartRecord, STEP, Store, StoreRecord};
use crate::store::run::Run;
use crate::{Error, Result, file, table};
use arrow::array::{Array, RecordBatch, UInt32Array};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The shards of one job: complete, each exactly once, in the order of the data.
pub struct Merge {
    shards: Vec<Shard>,
}

/// What a merge did.
#[derive(Clone, Debug)]
pub struct Merged {
    /// What the new run holds.
    pub record: StoreRecord,
    /// Files of activations that it shares with the shards.
    pub linked: usize,
    /// Files of activations that were copied, because they are on another file system.
    pub copied: usize,
}

struct Shard {
    run: Run,
    record: StoreRecord,
    slice: JobShard,
}

impl Merge {
    /// Checks the shards in these folders, in any order; every byte of their activations is read and hashed. `progress` gets the
    /// number of rows that were checked and the number of all rows.
    ///
    /// # Errors
    /// Everything that prevents the merge, in one error.
    pub fn check(folders: &[PathBuf], progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let mut wrong = Vec::new();
        let mut shards = Vec::new();
        for folder in folders {
            match open(folder) {
                Ok(shard) => shards.push(shard),
                Err(cause) => wrong.push(cause),
            }
        }
        check_same_job(&shards, &mut wrong);
        check_each_once(&mut shards, &mut wrong);
        let rows = |shard: &Shard| shard.record.progress().rows * shard.record.spec.hooks.len() as u64;
        let (total, mut done) = (shards.iter().map(rows).sum(), 0);
        for shard in &shards {
            let mut report = |rows| {
                done += rows;
                progress(done, total);
            };
            shard.check_files(&mut wrong, &mut report);
        }
        let samples: u64 = shards.iter().map(|shard| shard.record.progress().samples).sum();
        if samples > u64::from(u32::MAX) {
            wrong.push(format!("{samples} samples are more than a run can hold"));
        }
        if samples == 0 && wrong.is_empty() {
            wrong.push("none of their rows became a sample".into());
        }
        if !wrong.is_empty() {
            return Err(Error::config(format!("these shards cannot be merged:\n  {}", wrong.join("\n  "))));
        }
        Ok(Self { shards })
    }

    /// Samples, token positions and rows of the data in all shards.
    pub fn progress(&self) -> super::WriteProgress {
        self.joined().progress()
    }

    /// Makes the run in `root`. After an interruption, the same call starts again.
    ///
    /// # Errors
    /// The folder holds something else, another process writes to it, or a file cannot be written.
    pub fn write(&self, root: &Path) -> Result<Merged> {
        let run = Run::create(root)?;
        let _lock = run.lock()?;
        let record = self.joined();
        if let Some(existing) = run.read_step::<StoreRecord>(STEP)? {
            let same_harvest = existing.spec.fingerprint == record.spec.fingerprint;
            if existing.complete && existing.spec.slice.is_none() && same_harvest {
                return Ok(Merged { record: existing, linked: 0, copied: 0 });
            }
            let cause = "the run holds another harvest".into();
            return Err(Error::OtherHarvest { cause, path: run.root().to_path_buf() });
        }
        // Readers take every token table in the folder, so those of an interrupted merge of other shards have to go.
        for folder in [run.tokens(0), run.activations("any")].iter().filter_map(|path| path.parent()) {
            if folder.exists() {
                fs::remove_dir_all(folder).map_err(Error::io("remove", folder))?;
            }
        }
        run.write_version(record.spec.pieces)?;
        let mut merged = Merged { record, linked: 0, copied: 0 };
        let (mut part, mut first_sample) = (0, 0);
        for shard in &self.shards {
            for (number, record) in shard.record.parts.iter().enumerate().filter(|(_, record)| record.rows > 0) {
                for (hook, file) in shard.record.spec.hooks.iter().zip(&record.shards) {
                    let folder = hook.to_string();
                    let to = run.activations(&folder).join(file_name(part));
                    if link_or_copy(&shard.run.activations(&folder).join(&file.file), &to)? {
                        merged.linked += 1;
                    } else {
                        merged.copied += 1;
                    }
                }
                let tokens = shard.run.tokens(number);
                table::write(&run.tokens(part), &renumbered(&tokens, table::read(&tokens, &[])?, first_sample)?)?;
                part += 1;
            }
            first_sample += shard.record.progress().samples as u32;
        }
        let mut samples = self.samples();
        let first = samples.next().unwrap_or_else(|| Err(Error::config("there are no samples")))?;
        table::write_all(&run.samples(), &first, samples)?;
        self.write_skipped(&run)?;
        write_manifests(&run, &merged.record)?;
        let from: Vec<_> = self.shards.iter().map(|s| s.run.root().display().to_string()).collect();
        run.write_step("merge", &serde_json::json!({ "shards": from.len(), "from": from }))?;
        // This entry completes the run.
        run.write_step(STEP, &merged.record)?;
        Ok(merged)
    }

    /// Writes the rows that the shards skipped. Their numbers already are those of the whole data set.
    fn write_skipped(&self, run: &Run) -> Result<()> {
        // This drops whatever an interrupted merge has written.
        let mut file = SkipFile::open(run, 0)?;
        for shard in &self.shards {
            for skipped in read_skipped(&shard.run)? {
                file.append(&[skipped?])?;
            }
        }
        file.sync()
    }

    /// The samples of all shards, renumbered.
    fn samples(&self) -> impl Iterator<Item = Result<RecordBatch>> {
        let mut first_sample = 0;
        self.shards.iter().flat_map(move |shard| {
            let (path, first) = (shard.run.samples(), first_sample);
            first_sample += shard.record.progress().samples as u32;
            let batches: Box<dyn Iterator<Item = Result<RecordBatch>>> = match table::scan(&path, &[]) {
                // An empty table would be an empty group of rows.
                _ if first_sample == first => Box::new(std::iter::empty()),
                Err(error) => Box::new(std::iter::once(Err(error))),
                Ok(batches) => Box::new(batches.map(move |batch| renumbered(&path, batch?, first))),
            };
            batches
        })
    }

    /// The record that a single machine would have written.
    fn joined(&self) -> StoreRecord {
        let mut spec = self.shards[0].record.spec.clone();
        spec.slice = None;
        let mut parts: Vec<PartRecord> = Vec::new();
        // Rows before the first sample, if a whole shard has no sample.
        let mut unused = 0;
        for part in self.shards.iter().flat_map(|shard| &shard.record.parts) {
            match parts.last_mut() {
                Some(last) if part.rows == 0 => last.source_rows += part.source_rows,
                None if part.rows == 0 => unused += part.source_rows,
                _ => {
                    let mut part = part.clone();
                    part.source_rows += std::mem::take(&mut unused);
                    let file = file_name(parts.len());
                    part.shards.iter_mut().for_each(|shard| shard.file.clone_from(&file));
                    parts.push(part);
                }
            }
        }
        let mut skipped = SkipList::default();
        skipped.extend(self.shards.iter().flat_map(|shard| shard.record.skipped.iter().cloned()));
        StoreRecord { spec, complete: true, parts, skipped: skipped.into_first() }
    }
}

fn file_name(part: usize) -> String {
    format!("shard-{part:05}.safetensors")
}

/// The shard in a folder, or why the folder has none.
fn open(folder: &Path) -> Result<Shard, String> {
    let run = Run::open(folder).map_err(|e| e.to_string())?;
    let record: Option<StoreRecord> = run.read_step(STEP).map_err(|e| e.to_string())?;
    let record = record.ok_or_else(|| format!("nothing was harvested: {}", folder.display()))?;
    let hooks = record.spec.hooks.len();
    if record.parts.iter().any(|part| part.shards.len() != hooks || part.norm_sums.len() != hooks) {
        return Err(format!("a part of run.json is not of {hooks} hooks: {}", folder.display()));
    }
    match record.spec.slice {
        Some(slice) if slice.shard == 0 || slice.shard > slice.of => {
            Err(format!("run.json says that it is shard {slice}: {}", folder.display()))
        }
        Some(slice) => Ok(Shard { run, record, slice }),
        None => Err(format!("no shard of a job, but a harvest without --shard: {}", folder.display())),
    }
}

/// Checks that all shards belong to the job that most of them belong to.
fn check_same_job(shards: &[Shard], wrong: &mut Vec<String>) {
    let mut jobs: BTreeMap<(&str, u32), (usize, &Shard)> = BTreeMap::new();
    for shard in shards.iter().rev() {
        let job = jobs.entry((&shard.record.spec.fingerprint, shard.slice.of)).or_insert((0, shard));
        *job = (job.0 + 1, shard);
    }
    let Some((_, most)) = jobs.into_values().max_by_key(|(count, _)| *count) else { return };
    for shard in shards {
        if let Some(difference) = difference(shard, most) {
            wrong.push(format!("another job than {}: {difference}: {}", most.run.root().display(), shard.name()));
        }
    }
}

/// In what a shard differs from those of a job, if it does.
fn difference(shard: &Shard, job: &Shard) -> Option<String> {
    let (spec, job_spec) = (&shard.record.spec, &job.record.spec);
    if (&spec.fingerprint, shard.slice.of) == (&job_spec.fingerprint, job.slice.of) {
        return None;
    }
    let mut differ = Vec::new();
    let mut compare = |what: &str, found: String, expected: String| {
        if found != expected {
            differ.push(format!("{what} {found}, not {expected}"));
        }
    };
    compare("shards", shard.slice.of.to_string(), job.slice.of.to_string());
    compare("model", spec.model.clone(), job_spec.model.clone());
    let empty = serde_json::Map::new();
    let arguments = |spec: &'_ super::StoreSpec| spec.arguments.as_object().cloned().unwrap_or_else(|| empty.clone());
    let (found, expected) = (arguments(spec), arguments(job_spec));
    // Machines may have the model and the data in different folders.
    for key in found.keys().filter(|key| !["model_folder", "data_root", "images_root"].contains(&key.as_str())) {
        let value = |map: &serde_json::Map<_, serde_json::Value>| map.get(key).map(ToString::to_string);
        compare(key, value(&found).unwrap_or_default(), value(&expected).unwrap_or_default());
    }
    if differ.is_empty() {
        return Some("the files of its checkpoint or of its data are other ones".into());
    }
    Some(differ.join("; "))
}

/// Sorts the shards, and checks that each is present once, is finished, and begins where the one before it ends.
fn check_each_once(shards: &mut [Shard], wrong: &mut Vec<String>) {
    shards.sort_by_key(|shard| (shard.slice.of, shard.slice.shard));
    for shard in shards.iter().filter(|shard| !shard.record.complete) {
        let rows = shard.record.progress().source_rows;
        wrong.push(format!("unfinished: {rows} rows are captured; continue its harvest: {}", shard.name()));
    }
    for two in
        shards.windows(2).filter(|two| (two[0].slice.of, two[0].slice.shard) == (two[1].slice.of, two[1].slice.shard))
    {
        wrong.push(format!(
            "shard {} is there twice: {}, {}",
            two[0].slice,
            two[0].run.root().display(),
            two[1].name()
        ));
    }
    let of = shards.last().map_or(0, |shard| shard.slice.of);
    let mut counts = BTreeMap::<u32, usize>::new();
    shards.iter().for_each(|shard| *counts.entry(shard.slice.of).or_default() += 1);
    let of = counts.into_iter().max_by_key(|(_, count)| *count).map_or(of, |(of, _)| of);
    // A damaged file may claim four billion shards, so missing ones are named as ranges.
    let mut next = 1u64;
    let present = shards.iter().filter(|s| s.slice.of == of).map(|s| u64::from(s.slice.shard));
    for shard in present.chain([u64::from(of) + 1]) {
        match shard.saturating_sub(next) {
            0 => {}
            1 => wrong.push(format!("shard {next}/{of} is missing")),
            _ => wrong.push(format!("shards {next}/{of} to {}/{of} are missing", shard - 1)),
        }
        next = next.max(shard + 1);
    }
    for two in shards.windows(2).filter(|two| two[0].record.complete && two[1].slice.shard == two[0].slice.shard + 1) {
        let end = two[0].slice.first_row + two[0].record.progress().source_rows;
        if end != two[1].slice.first_row {
            let begin = two[1].slice.first_row;
            wrong.push(format!(
                "begins at row {begin}, where shard {} ends at row {end}: {}",
                two[0].slice,
                two[1].name()
            ));
        }
    }
    if let Some(first) = shards.first().filter(|first| first.slice.shard == 1 && first.slice.first_row != 0) {
        wrong.push(format!("begins at row {}, not 0: {}", first.slice.first_row, first.name()));
    }
}

impl Shard {
    fn name(&self) -> String {
        self.run.root().display().to_string()
    }

    /// Compares every file with what was recorded when it was written.
    fn check_files(&self, wrong: &mut Vec<String>, report: &mut dyn FnMut(u64)) {
        let progress = self.record.progress();
        if !self.record.complete || progress.rows == 0 {
            return;
        }
        for (n, hook) in self.record.spec.hooks.iter().enumerate() {
            let store = match Store::open_with_pieces(&self.run, &hook.to_string()) {
                Ok(store) => store,
                Err(error) => {
                    wrong.push(error.to_string());
                    continue;
                }
            };
            let recorded = self.record.parts.iter().map(|part| part.shards.get(n));
            if !store.manifest().shards.iter().map(Some).eq(recorded) {
                wrong.push(format!("run.json and the manifest of {hook} tell of other files: {}", self.name()));
                continue;
            }
            for (part, record) in self.record.parts.iter().enumerate() {
                wrong.extend(store.shard(part).err().map(|error| error.to_string()));
                if n == 0 {
                    wrong.extend(store.tokens(part).err().map(|error| error.to_string()));
                }
                report(record.rows);
            }
        }
        wrong.extend(self.check_samples(progress.samples).err().map(|error| error.to_string()));
    }

    fn check_samples(&self, samples: u64) -> Result<()> {
        let path = self.run.samples();
        let mut next = 0;
        for batch in table::scan(&path, &["sample"])? {
            let batch = batch?;
            for number in table::get::<UInt32Array>(&path, &batch, "sample")?.values() {
                if u64::from(*number) != next {
                    return Err(Error::format(&path)(format!("sample {number} stands where {next} belongs")));
                }
                next += 1;
            }
        }
        if next != samples {
            return Err(Error::format(&path)(format!("{next} samples, where run.json counts {samples}")));
        }
        Ok(())
    }
}

/// A batch with `first` added to its column `sample`.
fn renumbered(path: &Path, batch: RecordBatch, first: u32) -> Result<RecordBatch> {
    let sample: &UInt32Array = table::get(path, &batch, "sample")?;
    let numbers = sample.values().iter().map(|number| number.checked_add(first));
    let numbers: Option<Vec<u32>> = numbers.collect();
    let numbers = numbers.ok_or_else(|| Error::format(path)("a sample's number is too large"))?;
    let mut columns = batch.columns().to_vec();
    let schema = batch.schema();
    let column = schema.index_of("sample").map_err(Error::format(path))?;
    columns[column] = Arc::new(UInt32Array::from(numbers)) as Arc<dyn Array>;
    if let Ok(column) = schema.index_of("parent") {
        // A parent has a smaller number than the sample.
        let parents: &UInt32Array = table::get(path, &batch, "parent")?;
        let parents = parents.iter().map(|parent| Some(parent?.saturating_add(first)));
        columns[column] = Arc::new(UInt32Array::from_iter(parents));
    }
    RecordBatch::try_new(schema, columns).map_err(Error::format(path))
}

/// Brings a file into the run: as a hard link where that is possible, otherwise as a copy. Returns whether it is a link.
fn link_or_copy(from: &Path, to: &Path) -> Result<bool> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create folder", parent))?;
    }
    // Files of a run are never changed in place, so that two runs can share one.
    if fs::hard_link(from, to).is_ok() {
        return Ok(true);
    }
    let mut source = File::open(from).map_err(Error::io("open", from))?;
    file::write(to, |out| io::copy(&mut source, out).map(drop).map_err(Error::io("copy to", to)))?;
    Ok(false)
}
