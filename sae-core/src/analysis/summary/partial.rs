//! The summaries of the samples of some shards, for parts of a pass: their records, in an unnamed temporary file.

use super::stored::put_summary;
use super::{SampleSummary, SummaryCollector, SummaryKey, SummaryObserver, SummaryWriter};
use crate::analysis::between::PositionChoice;
use crate::analysis::part::{Mergeable, PartWriter, Section};
use crate::analysis::pass::{Block, Observer};
use crate::store::Store;
use crate::{Error, Result, file};
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

/// The name of the records in a part.
const RECORDS: &str = "summaries.records";

/// Summarizes samples during a pass over some shards, or takes in what such passes found. Memory does not grow with the samples.
pub struct PartialSummaries {
    collector: SummaryCollector<Records>,
}

/// Records as they stand in a file of summaries, without what comes before and after them.
struct Records {
    out: BufWriter<File>,
    folder: PathBuf,
    record: Vec<u8>,
}

impl SummaryObserver for Records {
    fn observe_sample(&mut self, summary: &SampleSummary) -> Result<()> {
        self.record.clear();
        put_summary(&mut self.record, summary);
        self.out.write_all(&self.record).map_err(Error::io("write in", &self.folder))
    }
}

impl PartialSummaries {
    /// No summaries of a store's samples over the positions that count. `file` is an empty temporary file in `folder`.
    pub fn new(store: &Store, d_sae: usize, choice: PositionChoice, file: File, folder: &Path) -> Self {
        let out = BufWriter::with_capacity(1 << 20, file);
        let records = Records { out, folder: folder.into(), record: Vec::new() };
        let manifest = store.manifest();
        let collector = SummaryCollector::new(manifest.samples as usize, manifest.d_in, d_sae, choice, records);
        Self { collector: collector.along(store.paths().clone()) }
    }

    /// Writes the file of summaries.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(self, path: &Path, key: &SummaryKey) -> Result<()> {
        let Records { out, folder, .. } = self.collector.finish()?;
        let io = || Error::io("read in", &folder);
        let mut records = out.into_inner().map_err(|error| io()(error.into_error()))?;
        records.rewind().map_err(io())?;
        file::write(path, |out| {
            let mut writer = SummaryWriter::new(out, path, key);
            writer.copy(&mut records)?;
            writer.finish()
        })
    }
}

impl Observer for PartialSummaries {
    fn observe(&mut self, block: &Block) -> Result<()> {
        self.collector.observe(block)
    }
}

impl Mergeable for PartialSummaries {
    fn save(&mut self, out: &mut PartWriter) -> Result<()> {
        self.collector.close()?;
        let Records { out: records, folder, .. } = self.collector.observer();
        records.flush().map_err(Error::io("write in", folder))?;
        out.put_file(RECORDS, records.get_ref(), folder)
    }

    fn merge(&mut self, section: &Section) -> Result<()> {
        let Records { out, folder, .. } = self.collector.observer();
        out.write_all(section.bytes(RECORDS)?).map_err(Error::io("write in", folder))
    }
}
