//! Summaries of a small pass, stored, read again, and damaged.

use super::*;
use crate::analysis::between::{Part, PositionChoice};
use crate::analysis::pass::{Block, Observer};
use crate::autoencoder::sparse::Sparse;
use crate::fixture;
use crate::store::sample::Role;
use crate::store::{Paths, TokenColumns};
use std::fs;
use std::path::Path;

/// Keeps what it is shown.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kept(Vec<(u32, Vec<Peak>, Vec<f32>)>);

impl SummaryObserver for Kept {
    fn observe_sample(&mut self, summary: &SampleSummary) -> Result<()> {
        self.0.push((summary.sample, summary.peaks.to_vec(), summary.mean.to_vec()));
        Ok(())
    }
}

/// Shows the summaries of three samples with 300 features, of which the second has no position.
fn pass(choice: impl Into<PositionChoice>, observers: &mut [&mut dyn SummaryObserver]) -> Result<()> {
    pass_along(Paths::default(), [0, 0, 2], choice, observers)
}

/// The same positions as other samples, which may be pieces.
fn pass_along(
    paths: Paths,
    samples: [u32; 3],
    choice: impl Into<PositionChoice>,
    observers: &mut [&mut dyn SummaryObserver],
) -> Result<()> {
    let tokens = TokenColumns {
        sample: samples.to_vec(),
        position: vec![0, 200, 0],
        modality: vec![Modality::Text, Modality::Image, Modality::Text],
        role: vec![Role::User, Role::User, Role::Assistant],
        special: vec![false; 3],
    };
    let hidden = [2.0, 1.0, 4.0, 2.0, 3.0, -1.0];
    let mut active = Sparse::default();
    active.push([(0, 2.0), (299, 0.5)].into_iter());
    active.push([(0, 3.0), (7, 1.5), (299, 0.5)].into_iter());
    active.push([(1, 2.0)].into_iter());
    let mut collector = SummaryCollector::new(3, 2, 300, choice.into(), observers).along(paths);
    for rows in [0..1, 1..3] {
        let mut part = Sparse::default();
        for row in rows.clone() {
            let (features, values) = active.row(row);
            part.push(features.iter().copied().zip(values.iter().copied()));
        }
        let hidden = &hidden[2 * rows.start..2 * rows.end];
        collector.observe(&Block::new(&tokens, rows, 0, hidden, &part))?;
    }
    collector.finish().map(drop)
}

fn kept(part: Part) -> Kept {
    let mut kept = Kept::default();
    pass(part, &mut [&mut kept]).unwrap();
    kept
}

fn peak(feature: u32, activation: f32, position: u32, modality: Modality) -> Peak {
    Peak { feature, activation, position, modality }
}

#[test]
fn a_sample_in_two_blocks_has_one_summary() {
    let first = vec![
        peak(0, 3.0, 200, Modality::Image),
        peak(7, 1.5, 200, Modality::Image),
        // Of equal activations the first position is kept.
        peak(299, 0.5, 0, Modality::Text),
    ];
    let last = (2, vec![peak(1, 2.0, 0, Modality::Text)], vec![3.0, -1.0]);
    assert_eq!(kept(Part::Everything), Kept(vec![(0, first, vec![3.0, 1.5]), last]));
    let user = vec![peak(0, 2.0, 0, Modality::Text), peak(299, 0.5, 0, Modality::Text)];
    assert_eq!(kept(Part::User), Kept(vec![(0, user, vec![2.0, 1.0])]));
}

#[test]
fn the_summary_of_a_path_is_that_of_the_whole_sample() {
    for part in [Part::Everything, Part::User] {
        let paths = Paths::new(vec![None, Some(0), None]).unwrap();
        let mut found = Kept::default();
        pass_along(paths, [0, 1, 2], part, &mut [&mut found]).unwrap();
        let whole = kept(part).0.into_iter().map(|(sample, peaks, mean)| (sample.max(1), peaks, mean));
        assert_eq!(found.0, whole.collect::<Vec<_>>());
    }
}

#[test]
fn means_are_kept_while_they_fit() {
    assert!((0..100).all(|sample| keeps_mean(sample, 1000, 4096)));
    let kept = (0..10_000).filter(|sample| keeps_mean(*sample, 1 << 18, 4096)).count();
    assert!((2300..2700).contains(&kept), "a quarter fits: {kept}");
}

fn key(sae: &str, d_sae: usize) -> (tempfile::TempDir, SummaryKey) {
    let (dir, store) = fixture::store(2);
    let key = SummaryKey::new(&store, &Part::All.into(), sae, d_sae, "cpu").unwrap();
    (dir, key)
}

fn write(path: &Path, key: &SummaryKey) {
    crate::file::write(path, |out| {
        let mut writer = SummaryWriter::new(out, path, key);
        pass(Part::All, &mut [&mut writer])?;
        writer.finish()
    })
    .unwrap();
}

fn unusable(path: &Path, key: &SummaryKey) -> String {
    match StoredSummaries::open(path, key) {
        Lookup::Unusable(reason) => reason,
        Lookup::Found(_) => panic!("the file was used"),
        Lookup::Absent => panic!("there is no file"),
    }
}

#[test]
fn stored_summaries_are_those_of_the_pass() {
    let (dir, key) = key("a", 300);
    let path = dir.path().join(key.file_name());
    assert!(path.ends_with("all.bin") && matches!(StoredSummaries::open(&path, &key), Lookup::Absent));
    write(&path, &key);
    let Lookup::Found(stored) = StoredSummaries::open(&path, &key) else { panic!("the file is not used") };
    let mut replayed = Kept::default();
    stored.replay(&mut [&mut replayed]).unwrap();
    assert_eq!(replayed, kept(Part::All));
}

#[test]
fn summaries_of_something_else_or_damaged_are_not_used() {
    let (dir, of_a) = key("a", 300);
    let path = dir.path().join("all.bin");
    write(&path, &of_a);
    let (_dir, of_b) = key("b", 300);
    let reason = unusable(&path, &of_b);
    assert!(reason.ends_with("(different: sae_blake3)"), "{reason}");
    let whole = fs::read(&path).unwrap();
    let mut damaged: Vec<Vec<u8>> = [0, 4, 20, whole.len() / 2, whole.len() - 1].map(|n| whole[..n].to_vec()).to_vec();
    for n in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[n] ^= 0x10;
        damaged.push(bytes);
    }
    for bytes in damaged {
        fs::write(&path, &bytes).unwrap();
        assert!(!unusable(&path, &of_a).is_empty());
    }
}

#[test]
fn contents_that_contradict_themselves_are_an_error() {
    let (dir, key) = key("a", 300);
    let path = dir.path().join("all.bin");
    write(&path, &key);
    let whole = fs::read(&path).unwrap();
    let start = 12 + u32::from_le_bytes(whole[8..12].try_into().unwrap()) as usize;
    let mut rejected = 0;
    for n in start..whole.len() - 32 {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole[..whole.len() - 32].to_vec();
            bytes[n] ^= change;
            bytes.extend(blake3::hash(&bytes).as_bytes());
            fs::write(&path, &bytes).unwrap();
            let Lookup::Found(stored) = StoredSummaries::open(&path, &key) else { panic!("the hash is right") };
            // Some changes give other summaries that are possible; none may panic or reach beyond the features there are.
            let mut replayed = Kept::default();
            match stored.replay(&mut [&mut replayed]) {
                Ok(()) => assert!(replayed.0.iter().flat_map(|row| &row.1).all(|peak| peak.feature < 300)),
                Err(error) => {
                    rejected += 1;
                    assert!(error.message().contains("contradict themselves"), "{error}");
                }
            }
        }
    }
    assert!(rejected > 20, "{rejected}");
}
