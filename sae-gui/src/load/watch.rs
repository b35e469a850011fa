//! Notices that files of the open run have been written. Looks at sizes and times only.

use super::tables::FEATURES;
use sae_core::Run;
use sae_core::file::Stamp;
use std::path::PathBuf;

/// What has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// `labels.json`.
    Labels,
    /// The feature index.
    Index,
    /// The score table.
    Scores,
    /// `run.json`, a log or an evaluation.
    Report,
    /// A contrast: one is new, made again or gone.
    Contrasts,
    /// A probe of the autoencoder: one is new, made again or gone.
    Probes,
}

/// The state of the files when they were looked at last.
pub struct Watch {
    run: Run,
    sae: Option<String>,
    /// Those of the files of each kind.
    stamps: [Vec<Stamp>; KINDS.len()],
}

const KINDS: [Changed; 6] =
    [Changed::Labels, Changed::Index, Changed::Scores, Changed::Report, Changed::Contrasts, Changed::Probes];

impl Watch {
    /// The files as they are now.
    pub fn new(run: &Run, sae: Option<&str>) -> Self {
        let mut watch = Self { run: run.clone(), sae: sae.map(str::to_owned), stamps: Default::default() };
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

    /// Notes that the labels as they are now are known.
    pub fn labels_are_known(&mut self) {
        self.stamps[0] = self.stamp(Changed::Labels);
    }

    fn stamp(&self, kind: Changed) -> Vec<Stamp> {
        let files: Vec<PathBuf> = match kind {
            Changed::Labels => vec![self.run.labels()],
            Changed::Index => self.sae.iter().map(|sae| self.run.features(sae).join(FEATURES)).collect(),
            Changed::Scores => self.sae.iter().map(|sae| self.run.scores(sae)).collect(),
            Changed::Report => {
                let saes = self.run.list("saes").into_iter();
                let of_saes =
                    saes.flat_map(|name| ["log.parquet", "eval.json"].map(|file| self.run.sae_dir(&name).join(file)));
                of_saes.chain([self.run.root().join("run.json")]).collect()
            }
            // `sae contrast` writes this file after the others.
            Changed::Contrasts => {
                let folder = self.run.root().join("contrasts");
                self.run.list("contrasts").iter().map(|name| folder.join(name).join("contrast.json")).collect()
            }
            Changed::Probes => {
                let folders = self.sae.iter().map(|sae| format!("probes/{sae}"));
                let file =
                    |folder: String| self.run.list(&folder).into_iter().map(move |name| format!("{folder}/{name}"));
                folders.flat_map(file).map(|file| self.run.root().join(file)).collect()
            }
        };
        files.iter().map(|file| Stamp::of(file)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_others_write_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(&dir.path().join("run")).unwrap();
        let mut watch = Watch::new(&run, Some("base"));
        assert!(watch.look().is_empty());
        fs::write(run.labels(), "{}").unwrap();
        assert_eq!(watch.look(), [Changed::Labels]);
        assert!(watch.look().is_empty());
        fs::write(run.labels(), "{  }").unwrap();
        watch.labels_are_known();
        fs::create_dir_all(run.sae_dir("base")).unwrap();
        fs::write(run.sae_dir("base").join("log.parquet"), "x").unwrap();
        assert_eq!(watch.look(), [Changed::Report]);
        fs::create_dir_all(run.scores("base").parent().unwrap()).unwrap();
        fs::write(run.scores("base"), "x").unwrap();
        assert_eq!(watch.look(), [Changed::Scores]);
        let contrast = run.root().join("contrasts/year");
        fs::create_dir_all(&contrast).unwrap();
        fs::write(contrast.join("contrast.json"), "{}").unwrap();
        assert_eq!(watch.look(), [Changed::Contrasts]);
        let probes = run.root().join("probes/base");
        fs::create_dir_all(&probes).unwrap();
        fs::write(probes.join("harm.json"), "{}").unwrap();
        assert_eq!(watch.look(), [Changed::Probes]);
    }
}
