//! The audit of preferences: the margin of each pair, which pairs are suspects, and how much to keep.

use super::report::Suspect;
use filters::keep::KeepEstimate;
use filters::probe::{Audit, Targets};
use sae_core::store::sample::Sample;

/// Suspects that a report names.
const NAMED: usize = 10;

/// The audited pairs of a probe.
pub(super) struct Audited {
    pub audit: Audit,
    pub suspects: Vec<Suspect>,
    /// The mean margin of the pairs of each sample.
    pub by_sample: Vec<Option<f64>>,
}

impl Audited {
    /// Audits pairs by scores of rows that their fits have not seen. `None` unless the targets are pairs with different scores.
    /// `members` are the numbers of the rows' samples, the first `own` of which are the run's.
    pub fn new(
        targets: &Targets,
        scores: &[Option<f64>],
        members: &[usize],
        samples: &[Sample],
        own: usize,
    ) -> Option<Self> {
        let Targets::Pair(pairs) = targets else { return None };
        let margin = |[better, worse]: &[usize; 2]| Some(([*better, *worse], scores[*better]? - scores[*worse]?));
        let mut margins: Vec<([usize; 2], f64)> = pairs.iter().filter_map(margin).collect();
        let audit = Audit::new(&margins.iter().map(|(_, margin)| *margin).collect::<Vec<_>>())?;
        let mut sums = vec![(0.0, 0u32); samples.len()];
        for (pair, margin) in &margins {
            for row in pair {
                let (sum, count) = &mut sums[members[*row]];
                *sum += margin;
                *count += 1;
            }
        }
        margins.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        let key = |row: usize| {
            let Sample { key, piece, .. } = &samples[members[row]];
            // All pieces of a row have its key.
            piece.as_ref().map_or_else(|| key.clone(), |piece| format!("{key} ({})", piece.branch))
        };
        let number = |row: usize| Some(members[row]).filter(|sample| *sample < own).map(|sample| sample as u32);
        let suspect = |(pair, margin): &([usize; 2], f64)| Suspect {
            preferred: key(pair[0]),
            other: key(pair[1]),
            samples: pair.map(number),
            margin: *margin,
        };
        Some(Self {
            audit,
            suspects: margins.iter().filter(|(_, margin)| *margin < 0.0).take(NAMED).map(suspect).collect(),
            by_sample: sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / f64::from(count))).collect(),
        })
    }

    /// How much to keep by the margins of samples.
    pub fn keep(&self) -> KeepEstimate {
        self.audit.keep(&self.by_sample.iter().flatten().copied().collect::<Vec<_>>())
    }
}
