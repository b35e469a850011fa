//! Object storage: folders that are pushed into a bucket and pulled from it, and the local copies of what requests name there by an
//! address in the place of a path.

use crate::Result;
use crate::control::{Control, Detail, Stage};
use harvest::Plan;
use harvest::objects::{self, Mirror, ObjectUrl, Pulled, Pushed, TransferProgress};
use sae_core::Run;
use sae_core::error::{Cause, Hint, Operation, Setting};
use sae_core::store::{STEP, StoreRecord};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A folder to write into a bucket.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// A run, a part file, or any other folder or file.
    pub path: PathBuf,
    /// The folder in the bucket.
    pub to: ObjectUrl,
}

/// What would be written into a bucket.
#[derive(Clone, Debug, Serialize)]
pub struct PushPlan {
    /// `push`.
    pub command: &'static str,
    /// The folder or file.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub path: PathBuf,
    /// The folder in the bucket.
    pub to: ObjectUrl,
}

/// What was written into a bucket.
#[derive(Clone, Debug, Serialize)]
pub struct PushReport {
    /// What, and where to.
    #[serde(flatten)]
    pub plan: PushPlan,
    /// How much, and whether it was there before.
    #[serde(flatten)]
    pub pushed: Pushed,
}

/// A folder of a bucket to read.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The folder in the bucket.
    pub from: ObjectUrl,
    /// A new folder.
    pub folder: PathBuf,
}

/// What would be read from a bucket.
#[derive(Clone, Debug, Serialize)]
pub struct PullPlan {
    /// `pull`.
    pub command: &'static str,
    /// The folder in the bucket.
    pub from: ObjectUrl,
    /// The new folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub folder: PathBuf,
}

/// What was read from a bucket.
#[derive(Clone, Debug, Serialize)]
pub struct PullReport {
    /// What, and where to.
    #[serde(flatten)]
    pub plan: PullPlan,
    /// How much.
    #[serde(flatten)]
    pub pulled: Pulled,
}

impl PushRequest {
    /// What [`PushRequest::run`] would do. Sends no request.
    ///
    /// # Errors
    /// There is no such folder or file, or it is an unfinished run.
    pub fn plan(&self) -> Result<PushPlan> {
        check(&self.path)?;
        Ok(PushPlan { command: "push", path: self.path.clone(), to: self.to.clone() })
    }

    /// Writes the folder into the bucket.
    ///
    /// # Errors
    /// As [`PushRequest::plan`] and [`objects::push`]; [`sae_core::Error::Busy`] if another process writes to the run.
    pub fn run(&self, control: &mut Control) -> Result<PushReport> {
        let plan = self.plan()?;
        // Nobody writes to a run while it is read.
        let run = if self.path.join("run.json").is_file() { Some(Run::open(&self.path)?) } else { None };
        let _lock = run.map(|run| run.lock()).transpose()?;
        let pushed = push(&self.path, &self.to, control)?;
        Ok(PushReport { plan, pushed })
    }
}

impl PullRequest {
    /// What [`PullRequest::run`] would do. Sends no request.
    pub fn plan(&self) -> PullPlan {
        PullPlan { command: "pull", from: self.from.clone(), folder: self.folder.clone() }
    }

    /// Reads the folder of the bucket.
    ///
    /// # Errors
    /// As [`objects::pull`].
    pub fn run(&self, control: &mut Control) -> Result<PullReport> {
        let pulled = pull(&self.from, &self.folder, control)?;
        Ok(PullReport { plan: self.plan(), pulled })
    }
}

/// Rejects what cannot be written into a bucket: nothing, and a harvest that is under way.
fn check(path: &Path) -> Result<()> {
    std::fs::metadata(path).map_err(sae_core::Error::io("read", path))?;
    if !path.join("run.json").is_file() {
        return Ok(());
    }
    let record: Option<StoreRecord> = Run::open(path)?.read_step(STEP)?;
    if record.is_none_or(|record| record.complete) {
        return Ok(());
    }
    let cause = Cause::with_hint("the harvest of this run is unfinished", Hint::Resume(Operation::Harvest));
    Err(sae_core::Error::run(path, cause).into())
}

/// Writes a folder or a file into a bucket.
pub(crate) fn push(path: &Path, to: &ObjectUrl, control: &mut Control) -> Result<Pushed> {
    transfer(Stage::Upload, control, |progress| objects::push(path, to, progress))
}

/// Reads a folder of a bucket.
pub(crate) fn pull(from: &ObjectUrl, folder: &Path, control: &mut Control) -> Result<Pulled> {
    transfer(Stage::Download, control, |progress| objects::pull(from, folder, progress))
}

/// Whether a folder of a bucket is complete.
pub(crate) fn is_complete(url: &ObjectUrl, control: &Control) -> Result<bool> {
    let token = control.token();
    Ok(objects::is_complete(url, &mut || Ok(token.check()?))?)
}

/// The address that a path is, if it is one.
///
/// # Errors
/// It is an invalid one.
pub(crate) fn address(path: &Path) -> Result<Option<ObjectUrl>> {
    Ok(ObjectUrl::from_path(path).map_err(sae_core::Error::config)?)
}

/// Folders on this machine for what these paths name: paths as they are, and copies of all complete folders at an address.
pub(crate) fn local_folders(paths: &[PathBuf], control: &mut Control) -> Result<Vec<PathBuf>> {
    let urls = paths.iter().map(|path| address(path)).collect::<Result<Vec<_>>>()?;
    if urls.iter().all(Option::is_none) {
        return Ok(paths.to_vec());
    }
    // What one command copies is limited as a whole.
    let (mirror, token) = (Mirror::from_env(control.token().requested())?, control.token());
    let mut local = Vec::with_capacity(paths.len());
    for (path, url) in paths.iter().zip(urls) {
        let Some(url) = url else {
            local.push(path.clone());
            continue;
        };
        for folder in objects::committed(&url, &mut || Ok(token.check()?))? {
            local.push(copy(&mirror, &folder, control)?);
        }
    }
    Ok(local)
}

/// The plan with its data as files of this machine. Rows are copied, and images when they are read. Without a `control` nothing is
/// requested.
///
/// # Errors
/// As [`Mirror::copy`]; without a `control`, there is no copy.
pub(crate) fn local_data(mut plan: Plan, control: Option<&mut Control>) -> Result<Plan> {
    let (data, images) = (address(&plan.data)?, plan.images_root.as_deref().map(address).transpose()?.flatten());
    if data.is_none() && images.is_none() {
        return Ok(plan);
    }
    let stop = control.as_ref().map(|control| control.token().requested()).unwrap_or_default();
    let mirror = Mirror::from_env(stop)?;
    if let Some(url) = data {
        match control {
            Some(control) => {
                for url in harvest::data::addresses(&url)? {
                    copy(&mirror, &url, control)?;
                }
            }
            None => {
                let copies = harvest::data::addresses(&url)?;
                if let Some(url) = copies.iter().find(|url| !mirror.path(url).exists()) {
                    let cause = "a plan downloads nothing, and there is no copy of this on this machine".into();
                    let error = harvest::Error::Objects { cause, url: url.to_string() };
                    return Err(error.with_hint(Hint::Unset(Setting::Plan)).into());
                }
            }
        }
        plan.data = mirror.path(&url);
    }
    plan.images_root = images.map(|url| mirror.path(&url)).or(plan.images_root);
    plan.mirror = Some(mirror);
    Ok(plan)
}

/// The folder of a data set that a run records, with the copies that it is in if it is an address.
pub(crate) fn data_root(root: PathBuf) -> Result<(PathBuf, Option<Mirror>)> {
    let Some(url) = address(&root)? else { return Ok((root, None)) };
    let mirror = Mirror::from_env(std::sync::Arc::default())?;
    Ok((mirror.path(&url), Some(mirror)))
}

fn copy(mirror: &Mirror, url: &ObjectUrl, control: &mut Control) -> Result<PathBuf> {
    transfer(Stage::Download, control, |progress| mirror.copy(url, progress))
}

/// Shows how far a transfer is.
fn transfer<T>(
    stage: Stage,
    control: &mut Control,
    run: impl FnOnce(&mut dyn FnMut(TransferProgress) -> harvest::Result<()>) -> harvest::Result<T>,
) -> Result<T> {
    let mut staged = control.stage(stage, None)?;
    Ok(run(&mut |progress| {
        staged.extend(progress.total);
        Ok(staged.advance_with(progress.bytes, Detail::Transfer { file: progress.file })?)
    })?)
}
