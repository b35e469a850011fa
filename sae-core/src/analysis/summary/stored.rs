//! The file of summaries: the eight bytes `SAESUM01`, a JSON object with what they were made from, the summaries, and the BLAKE3
//! hash of all that. A file that was made from something else, or whose bytes have changed, is not used.

use super::{Peak, SampleSummary, SummaryObserver};
use crate::analysis::between::PositionChoice;
use crate::store::Store;
use crate::store::sample::Modality;
use crate::{Error, Result, file};
use memmap2::Mmap;
use serde_json::{Map, Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"SAESUM01";
/// Bytes of a BLAKE3 hash.
const HASH: usize = 32;
/// Stands in place of the number of a sample after the last one.
const END: u32 = u32::MAX;
/// Bytes of the JSON object at most.
const KEY_BYTES: usize = 1 << 20;

/// What summaries are made from. Summaries of another key are not used.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryKey {
    entries: Map<String, Value>,
    samples: usize,
    d_in: usize,
    d_sae: usize,
}

impl SummaryKey {
    /// The key of a store's summaries over the positions that count, by an autoencoder of `d_sae` features with the given hash,
    /// computed on `device`.
    ///
    /// # Errors
    /// A token table cannot be read.
    pub fn new(store: &Store, choice: &PositionChoice, sae_blake3: &str, d_sae: usize, device: &str) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        for shard in std::iter::once(store).chain(store.others()).flat_map(|store| &store.manifest().shards) {
            hasher.update(shard.blake3.as_bytes());
        }
        for part in 0..store.shards() {
            hasher.update(
                blake3::Hasher::new().update_rayon(&file::map(&store.run().tokens(part))?).finalize().as_bytes(),
            );
        }
        let parents: Vec<u8> =
            store.paths().parents().iter().flat_map(|parent| parent.unwrap_or(u32::MAX).to_le_bytes()).collect();
        hasher.update(&parents);
        let manifest = store.manifest();
        let (samples, d_in) = (manifest.samples as usize, manifest.d_in);
        let entries = json!({
            "program": concat!("sae ", env!("CARGO_PKG_VERSION")),
            "run_blake3": hasher.finalize().to_hex().as_str(),
            "sae_blake3": sae_blake3,
            "device": device,
            "part": choice.part.name(),
            "between": choice.markers,
            "samples": samples,
            "d_in": d_in,
            "d_sae": d_sae,
        });
        let entries = entries.as_object().cloned().unwrap_or_default();
        Ok(Self { entries, samples, d_in, d_sae })
    }

    /// The name of the file: the part, and a hash of the markers if there are any.
    pub fn file_name(&self) -> String {
        let part = self.entries["part"].as_str().unwrap_or_default();
        match &self.entries["between"] {
            Value::Null => format!("{part}.bin"),
            between => format!("{part}-{}.bin", &blake3::hash(between.to_string().as_bytes()).to_hex()[..16]),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        Value::Object(self.entries.clone()).to_string().into_bytes()
    }
}

/// Writes summaries as they are observed. An error of writing does not end the pass; [`SummaryWriter::finish`] returns it.
pub struct SummaryWriter<W> {
    out: W,
    path: PathBuf,
    hasher: blake3::Hasher,
    record: Vec<u8>,
    failed: Option<Error>,
}

impl<W: Write> SummaryWriter<W> {
    /// Begins a file of summaries. `path` is named in errors.
    pub fn new(out: W, path: &Path, key: &SummaryKey) -> Self {
        let bytes = key.bytes();
        let record = [MAGIC, &(bytes.len() as u32).to_le_bytes()[..], &bytes].concat();
        let mut writer = Self { out, path: path.into(), hasher: blake3::Hasher::new(), record, failed: None };
        writer.put();
        writer
    }

    /// Adds records that were made before.
    pub(super) fn copy(&mut self, records: &mut impl Read) -> Result<()> {
        loop {
            self.record.resize(1 << 20, 0);
            let read = records.read(&mut self.record).map_err(Error::io("read for", &self.path))?;
            self.record.truncate(read);
            self.put();
            if read == 0 {
                return Ok(());
            }
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The file could not be written, now or before.
    pub fn finish(mut self) -> Result<()> {
        self.record.extend(END.to_le_bytes());
        self.put();
        let hash = self.hasher.finalize();
        let written = self.out.write_all(hash.as_bytes()).map_err(Error::io("write", &self.path));
        self.failed.map_or(written, Err)
    }

    /// Writes what is in `record`.
    fn put(&mut self) {
        self.hasher.update(&self.record);
        if self.failed.is_none() {
            self.failed = self.out.write_all(&self.record).map_err(Error::io("write", &self.path)).err();
        }
        self.record.clear();
    }
}

impl<W: Write> SummaryObserver for SummaryWriter<W> {
    fn observe_sample(&mut self, summary: &SampleSummary) -> Result<()> {
        put_summary(&mut self.record, summary);
        self.put();
        Ok(())
    }
}

/// Appends the record of a summary.
pub(super) fn put_summary(record: &mut Vec<u8>, summary: &SampleSummary) {
    record.extend(summary.sample.to_le_bytes());
    record.extend((summary.peaks.len() as u32).to_le_bytes());
    record.push(u8::from(!summary.mean.is_empty()));
    let mut last = 0;
    for peak in summary.peaks {
        put_number(record, peak.feature - last);
        last = peak.feature;
        put_number(record, peak.position);
        record.push(peak.modality as u8);
        record.extend(peak.activation.to_le_bytes());
    }
    summary.mean.iter().for_each(|value| record.extend(value.to_le_bytes()));
}

/// Appends a number in base 128, the lowest digit first; all digits but the last have the upper bit.
fn put_number(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// What there is in place of a file of summaries.
pub enum Lookup {
    /// Summaries of the same key.
    Found(StoredSummaries),
    /// No file.
    Absent,
    /// A file that cannot be used, and why.
    Unusable(String),
}

/// Summaries in a file whose hash has been compared.
pub struct StoredSummaries {
    path: PathBuf,
    map: Mmap,
    /// Where the summaries begin.
    start: usize,
    samples: usize,
    d_in: usize,
    d_sae: usize,
}

impl StoredSummaries {
    /// Looks for summaries of a key.
    pub fn open(path: &Path, key: &SummaryKey) -> Lookup {
        if !path.exists() {
            return Lookup::Absent;
        }
        match Self::read(path, key) {
            Ok(found) => Lookup::Found(found),
            Err(reason) => Lookup::Unusable(reason),
        }
    }

    fn read(path: &Path, key: &SummaryKey) -> Result<Self, String> {
        let map = file::map(path).map_err(|error| error.to_string())?;
        let damaged = || "its bytes have changed since they were written".to_string();
        let (contents, hash) = map.split_last_chunk::<HASH>().ok_or_else(damaged)?;
        let mut rest = Bytes(contents);
        if rest.array::<8>().as_ref() != Some(MAGIC) {
            return Err("it is not a file of summaries".into());
        }
        let length = rest.array().map(u32::from_le_bytes).ok_or_else(damaged)? as usize;
        let entries = Some(length).filter(|length| *length <= KEY_BYTES).and_then(|length| rest.take(length));
        let entries = entries.ok_or_else(damaged)?;
        if entries != key.bytes() {
            let found: Map<String, Value> = serde_json::from_slice(entries).map_err(|_| damaged())?;
            let differs = |name: &&String| found.get(*name) != key.entries.get(*name);
            let names: Vec<&str> = key.entries.keys().filter(differs).map(String::as_str).collect();
            return Err(format!("it was made from something else (different: {})", names.join(", ")));
        }
        if blake3::Hasher::new().update_rayon(contents).finalize() != *hash {
            return Err(damaged());
        }
        let start = contents.len() - rest.0.len();
        let (samples, d_in, d_sae) = (key.samples, key.d_in, key.d_sae);
        Ok(Self { path: path.into(), map, start, samples, d_in, d_sae })
    }

    /// Shows all summaries to observers, in the order in which they were written.
    ///
    /// # Errors
    /// Those of the observers; contents that contradict themselves.
    pub fn replay(&self, observers: &mut [&mut dyn SummaryObserver]) -> Result<()> {
        let mut rest = Bytes(&self.map[self.start..self.map.len() - HASH]);
        let (mut peaks, mut mean) = (Vec::new(), Vec::new());
        loop {
            let wrong = || Error::format(&self.path)("the summaries contradict themselves; delete the file");
            let sample = rest.array().map(u32::from_le_bytes).ok_or_else(wrong)?;
            if sample == END {
                return Ok(());
            }
            if sample as usize >= self.samples {
                return Err(wrong());
            }
            self.summary(&mut rest, &mut peaks, &mut mean).ok_or_else(wrong)?;
            let summary = SampleSummary { sample, peaks: &peaks, mean: &mean };
            for observer in observers.iter_mut() {
                observer.observe_sample(&summary)?;
            }
        }
    }

    /// Reads the next summary but for the number of its sample.
    fn summary(&self, rest: &mut Bytes, peaks: &mut Vec<Peak>, mean: &mut Vec<f32>) -> Option<()> {
        let count = rest.array().map(u32::from_le_bytes).filter(|count| *count as usize <= self.d_sae)?;
        let has_mean = rest.array().map(|[flag]| flag == 1)?;
        peaks.clear();
        mean.clear();
        for n in 0..count {
            let gap = rest.number().filter(|gap| n == 0 || *gap > 0)?;
            let last = peaks.last().map_or(0, |peak: &Peak| peak.feature);
            let feature = last.checked_add(gap).filter(|feature| (*feature as usize) < self.d_sae)?;
            let position = rest.number()?;
            let modality = Modality::try_from(rest.array().map(|[code]| code)?).ok()?;
            let activation = rest.array().map(f32::from_le_bytes).filter(|z| z.is_finite())?;
            peaks.push(Peak { feature, activation, position, modality });
        }
        if has_mean {
            let bytes = rest.take(self.d_in.checked_mul(4)?)?;
            mean.extend(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)));
        }
        Some(())
    }
}

/// Bytes that have not been read yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// The next number that [`put_number`] wrote.
    fn number(&mut self) -> Option<u32> {
        let mut number = 0u64;
        for digit in 0..5 {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << (7 * digit);
            if byte < 0x80 {
                return number.try_into().ok();
            }
        }
        None
    }
}
