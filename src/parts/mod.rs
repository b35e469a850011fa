//! A pass that several machines share: each makes the states of some shards of the store and writes them into a part file, and one
//! machine reduces all parts to what the operation would have written alone, byte for byte.
//!
//! Which shards belong to a part follows from its number and the number of parts, so that nothing coordinates the machines. A part
//! may be made several times; the result is the same file.

mod operation;
mod reduce;

pub use operation::PartOperation;
pub use reduce::{ReducePlan, ReduceReport, ReduceRequest, Reduced};

use crate::control::Control;
use crate::passes::{Passes, share};
use crate::{Result, objects};
use harvest::Shard;
use harvest::objects::ObjectUrl;
use sae_core::analysis::part::{Header, PartWriter, PassPart};
use sae_core::store::run::{Lock, is_object_address};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A part of an operation's passes.
///
/// ```
#[doc = include_str!("../example_run.md")]
/// use sae_workbench::{Control, IndexRequest, PartOperation, PassRequest, ReduceRequest, SaeChoice};
///
/// # let run = example_run()?;
/// let mut control = Control::default();
/// let index = PartOperation::Index(IndexRequest::new(SaeChoice::new(run.path())));
/// for part in ["1/2", "2/2"] {
///     PassRequest::new(index.clone(), part.parse().expect("a part")).run(&mut control)?;
/// }
/// ReduceRequest::new(run.path()).run(&mut control)?;
/// # Ok::<(), sae_workbench::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PassRequest {
    /// The operation.
    pub operation: PartOperation,
    /// Which part.
    pub part: Shard,
    /// The folder of the part files, or an address in a bucket, below which each part is a folder; the folder of the run if left out.
    pub folder: Option<PathBuf>,
    /// The command that makes the part, with `{part}` in the place of its number, for whoever finds that a part is missing.
    pub command: Vec<String>,
}

/// What a part would be made of.
#[derive(Clone, Debug, Serialize)]
pub struct PassPlan {
    /// `pass`.
    pub command: &'static str,
    /// The operation.
    pub operation: &'static str,
    /// The autoencoder.
    pub sae: String,
    /// Which part, such as `3/8`.
    pub part: String,
    /// The file.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub file: PathBuf,
    /// The shards that it covers, by store: `run`, and whichever others take part.
    pub shards: BTreeMap<String, Range<usize>>,
}

/// A part that was made.
#[derive(Clone, Debug, Serialize)]
pub struct PassReport {
    /// What it is made of.
    #[serde(flatten)]
    pub plan: PassPlan,
    /// Whether an equal request had made it before.
    pub existed: bool,
    /// Size of the file, in bytes.
    pub bytes: u64,
}

impl PassRequest {
    /// A part in the folder of the run.
    pub fn new(operation: PartOperation, part: Shard) -> Self {
        Self { operation, part, folder: None, command: Vec::new() }
    }

    /// What [`PassRequest::run`] would do.
    ///
    /// # Errors
    /// No such run or autoencoder, or other runs that do not fit.
    pub fn plan(&self) -> Result<PassPlan> {
        let sae = self.operation.sae().load_with_pieces()?;
        let header = self.header(&sae)?;
        Ok(self.planned(&header, self.file(&sae)))
    }

    /// Makes the part. If its file exists, and was made from the same things, nothing is done.
    ///
    /// # Errors
    /// As [`PassRequest::plan`]; [`sae_core::Error::Busy`] if another process makes the part at this moment; a full disk; a request
    /// to stop, which leaves no file.
    pub fn run(&self, control: &mut Control) -> Result<PassReport> {
        match self.folder.as_deref().map(objects::address).transpose()?.flatten() {
            Some(url) => self.run_into(&url, control),
            None => self.run_here(control),
        }
    }

    /// Makes the part in a temporary folder, unless it is in the bucket, and writes it into the bucket.
    fn run_into(&self, url: &ObjectUrl, control: &mut Control) -> Result<PassReport> {
        let planned = self.plan()?;
        let place = url.join(&planned.file.file_stem().unwrap_or_default().to_string_lossy());
        let folder = tempfile::tempdir().map_err(sae_core::Error::io("create a folder in", &std::env::temp_dir()))?;
        if objects::is_complete(&place, control)? {
            objects::pull(&place, folder.path(), control)?;
        }
        // The command names the run's folder on this machine, and the part has to have the same bytes on every one.
        let here = Self { folder: Some(folder.path().to_path_buf()), command: Vec::new(), ..self.clone() };
        let mut report = here.run_here(control)?;
        objects::push(&report.plan.file, &place, control)?;
        report.plan.file = planned.file;
        Ok(report)
    }

    fn run_here(&self, control: &mut Control) -> Result<PassReport> {
        let sae = self.operation.sae().load_with_pieces()?;
        let (header, file) = (self.header(&sae)?, self.file(&sae));
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(sae_core::Error::io("create folder", folder))?;
        let lock_path = file.with_extension("lock");
        let _lock = Lock::take(&lock_path, &file)?;
        let existed = PassPart::open(&file).is_ok_and(|found| {
            let found = found.header();
            (&found.origin, &found.shards) == (&header.origin, &header.shards)
        });
        if !existed {
            let mut passes = Passes::Share(self.part, PartWriter::new());
            self.operation.collect(&sae, &mut passes, control)?;
            if let Passes::Share(_, writer) = passes {
                writer.write(&file, &header)?;
            }
        }
        // Whoever takes the lock from here on finds the file.
        let _ = std::fs::remove_file(&lock_path);
        let bytes = std::fs::metadata(&file).map_err(sae_core::Error::io("read", &file))?.len();
        Ok(PassReport { plan: self.planned(&header, file), existed, bytes })
    }

    fn header(&self, sae: &crate::LoadedSae) -> Result<Header> {
        let origin = self.operation.origin(sae)?;
        let shards = origin.stores.iter().map(|(name, store)| (name.clone(), share(self.part, store.shards)));
        let (shards, command) = (shards.collect(), self.command.clone());
        Ok(Header { shards, number: self.part.number(), of: self.part.count(), command, origin })
    }

    fn file(&self, sae: &crate::LoadedSae) -> PathBuf {
        let folder = self.folder.clone().unwrap_or_else(|| sae.run.parts());
        let (operation, number, of) = (self.operation.name(), self.part.number(), self.part.count());
        let name = format!("{operation}-{}-{number:05}-of-{of:05}", sae.name);
        // In a bucket, each part is in a folder of its own.
        let is_address = folder.to_str().is_some_and(is_object_address);
        let folder = if is_address { folder.join(&name) } else { folder };
        folder.join(format!("{name}.safetensors"))
    }

    fn planned(&self, header: &Header, file: PathBuf) -> PassPlan {
        PassPlan {
            command: "pass",
            operation: self.operation.name(),
            sae: header.origin.sae.clone(),
            part: self.part.to_string(),
            file,
            shards: header.shards.clone(),
        }
    }
}
