//! Notices that files of an open run were written anew. Looks at sizes and times only.

use sae_core::Run;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What was written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// `labels.json`.
    Labels,
    /// The feature index.
    Index,
    /// `run.json`, a log or an evaluation.
    Report,
}

type Stamp = Vec<Option<(u64, Option<SystemTime>)>>;

/// What the files were like when they were looked at last.
pub struct Watch {
    run: Run,
    sae: String,
    stamps: [Stamp; 3],
}

const KINDS: [Changed; 3] = [Changed::Labels, Changed::Index, Changed::Report];

impl Watch {
    /// The files as they are now.
    pub fn new(run: &Run, sae: &str) -> Self {
        let mut watch = Self { run: run.clone(), sae: sae.into(), stamps: Default::default() };
        watch.stamps = KINDS.map(|kind| watch.stamp(kind));
        watch
    }

    /// What has changed since the last look.
    pub fn look(&mut self) -> Vec<Changed> {
        let now = KINDS.map(|kind| self.stamp(kind));
        let changed = (0..KINDS.len()).filter(|at| now[*at] != self.stamps[*at]).map(|at| KINDS[at]).collect();
        self.stamps = now;
        changed
    }

    /// The labels were written by this program.
    pub fn labels_are_ours(&mut self) {
        self.stamps[0] = self.stamp(Changed::Labels);
    }

    fn stamp(&self, kind: Changed) -> Stamp {
        let files: Vec<PathBuf> = match kind {
            Changed::Labels => vec![self.run.labels()],
            Changed::Index => vec![self.run.features(&self.sae).join("features.parquet")],
            Changed::Report => {
                let saes = self.run.list("saes").into_iter();
                let own =
                    saes.flat_map(|name| ["log.parquet", "eval.json"].map(|file| self.run.sae_dir(&name).join(file)));
                own.chain([self.run.root().join("run.json")]).collect()
            }
        };
        files.iter().map(|file| stamp(file)).collect()
    }
}

fn stamp(file: &Path) -> Option<(u64, Option<SystemTime>)> {
    let meta = fs::metadata(file).ok()?;
    Some((meta.len(), meta.modified().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        let mut watch = Watch::new(&run, "base");
        assert!(watch.look().is_empty());
        fs::write(run.labels(), "{}").unwrap();
        assert_eq!(watch.look(), [Changed::Labels]);
        assert!(watch.look().is_empty());
        fs::write(run.labels(), "{  }").unwrap();
        watch.labels_are_ours();
        fs::create_dir_all(run.sae_dir("base")).unwrap();
        fs::write(run.sae_dir("base").join("log.parquet"), "x").unwrap();
        assert_eq!(watch.look(), [Changed::Report]);
    }
}
