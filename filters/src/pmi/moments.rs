//! The features that a fit uses, and the sums of their products over samples. Adds in the order of the samples.

use super::Options;
use crate::definition::{IMAGE, TEXT};
use crate::pooling::PooledSample;
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, Par};

/// Number of samples whose products are added at once.
pub(super) const BATCH: usize = 128;

/// The pooled values of one sample, `[text, image]`: one value for each feature of the side.
pub(super) type Vectors = [Vec<f64>; 2];

/// The features of each side, `[text, image]`, in ascending order.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The numbers of the features.
    pub features: [Vec<u32>; 2],
    /// For every feature, its index in `features`, or `u32::MAX`.
    slots: [Vec<u32>; 2],
}

impl Chosen {
    /// Selects at most `wanted` features of each side: those whose share `a` of samples in which they are active is closest
    /// to one half, that is, with the largest `a (1 - a)`. Ties are broken by number. Features that are active in every
    /// sample or in none are left out.
    ///
    /// `active`: for every feature, in how many of the `of` samples (or tokens) it is active on `[text, image]`.
    pub fn balanced(active: &[[u64; 2]], of: [usize; 2], wanted: usize) -> Self {
        let features = [TEXT, IMAGE].map(|side| {
            let spread = |k: u32| {
                let n = active[k as usize][side];
                n * (of[side] as u64).saturating_sub(n)
            };
            let mut all: Vec<u32> = (0..active.len() as u32).filter(|k| spread(*k) > 0).collect();
            all.sort_by(|a, b| spread(*b).cmp(&spread(*a)).then(a.cmp(b)));
            all.truncate(wanted);
            all.sort_unstable();
            all
        });
        Self::new(features, active.len())
    }

    /// The given features, out of `d_sae`.
    pub fn new(features: [Vec<u32>; 2], d_sae: usize) -> Self {
        let slots = features.each_ref().map(|features| {
            let mut slots = vec![u32::MAX; d_sae];
            features.iter().zip(0..).for_each(|(k, slot)| slots[*k as usize] = slot);
            slots
        });
        Self { features, slots }
    }

    /// The pooled values of a sample. Nothing if it lacks content on one side.
    pub(super) fn vectors(&self, sample: &PooledSample, options: &Options) -> Option<Vectors> {
        if sample.content.contains(&0) {
            return None;
        }
        let mut out = self.features.each_ref().map(|features| vec![0.0; features.len()]);
        for trace in &sample.features {
            for side in [TEXT, IMAGE] {
                if let Some(slot) = out[side].get_mut(self.slots[side][trace.feature as usize] as usize) {
                    *slot = options.value(trace, side, sample);
                }
            }
        }
        Some(out)
    }

    /// The values of the text side for one token that are not zero, with their indices.
    pub(super) fn token(&self, token: &[(u32, f32)], options: &Options) -> Vec<(usize, f64)> {
        let slots = token.iter().map(|(feature, z)| (self.slots[TEXT][*feature as usize] as usize, *z));
        let chosen = slots.filter(|(slot, _)| *slot < self.features[TEXT].len());
        chosen.map(|(slot, z)| (slot, options.scaled(f64::from(z)))).collect()
    }
}

/// Adds the products of rows over all columns to the lower triangle of `sum`.
fn add_products(sum: &mut Mat<f64>, rows: &Mat<f64>) {
    let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    let (left, right) = (rows.as_ref(), rows.transpose());
    triangular::matmul(sum.as_mut(), lower, Accum::Add, left, whole, right, whole, 1.0, Par::Seq);
}

/// Sums over pairs of an image with a text or with a token.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Number of samples from which the pairs come.
    pub samples: usize,
    pairs: usize,
    sums: [Vec<f64>; 2],
    /// `sum x x^T` of each side: only the lower triangle is computed.
    own: [Mat<f64>; 2],
    /// `sum u t^T`, `[image, text]`.
    cross: Mat<f64>,
    waiting: Vec<Waiting>,
}

/// An image with its texts, of which there are several if they are tokens.
#[derive(Clone, Debug)]
struct Waiting {
    image: Vec<f64>,
    /// The sum of the texts.
    texts: Vec<f64>,
    count: usize,
    /// Whether the products of the texts with themselves are in the sums already.
    is_counted: bool,
}

impl Moments {
    /// Sums without any pair.
    pub fn new(chosen: &Chosen) -> Self {
        let widths = chosen.features.each_ref().map(Vec::len);
        Self {
            samples: 0,
            pairs: 0,
            sums: widths.map(|n| vec![0.0; n]),
            own: widths.map(|n| Mat::zeros(n, n)),
            cross: Mat::zeros(widths[IMAGE], widths[TEXT]),
            waiting: Vec::new(),
        }
    }

    /// Adds a pair.
    pub(super) fn push(&mut self, [texts, image]: Vectors) {
        self.wait(Waiting { image, texts, count: 1, is_counted: false });
    }

    /// Adds the pairs of an image with each of several tokens ([`Chosen::token`]). The image enters the products once, whatever the
    /// number of tokens, and tokens only with their few values that are not zero.
    pub(super) fn push_tokens(&mut self, image: Vec<f64>, tokens: &[Vec<(usize, f64)>]) {
        let mut texts = vec![0.0; self.sums[TEXT].len()];
        for token in tokens {
            for (n, (i, value)) in token.iter().enumerate() {
                texts[*i] += value;
                for (j, other) in &token[..=n] {
                    self.own[TEXT][(*i.max(j), *i.min(j))] += value * other;
                }
            }
        }
        if !tokens.is_empty() {
            self.wait(Waiting { image, texts, count: tokens.len(), is_counted: true });
        }
    }

    fn wait(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
        if self.waiting.len() == BATCH {
            self.flush();
        }
    }

    /// Adds the pairs that are still buffered.
    pub(super) fn flush(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let columns = |side: usize, value: &dyn Fn(&Waiting, usize) -> f64| {
            Mat::from_fn(self.sums[side].len(), waiting.len(), |k, n| value(&waiting[n], k))
        };
        let texts = columns(TEXT, &|pair, k| pair.texts[k]);
        let images = columns(IMAGE, &|pair, k| pair.image[k]);
        // `count u u^T` is the product of `sqrt(count) u` with itself.
        let repeated = columns(IMAGE, &|pair, k| (pair.count as f64).sqrt() * pair.image[k]);
        let uncounted = columns(TEXT, &|pair, k| if pair.is_counted { 0.0 } else { pair.texts[k] });
        for pair in &waiting {
            self.sums[TEXT].iter_mut().zip(&pair.texts).for_each(|(sum, v)| *sum += v);
            self.sums[IMAGE].iter_mut().zip(&pair.image).for_each(|(sum, v)| *sum += pair.count as f64 * v);
            self.pairs += pair.count;
        }
        let texts_are_counted = waiting.iter().all(|pair| pair.is_counted);
        let ([own_text, own_image], cross) = (&mut self.own, &mut self.cross);
        rayon::join(
            || {
                add_products(own_image, &repeated);
                if !texts_are_counted {
                    add_products(own_text, &uncounted);
                }
            },
            || matmul(cross.as_mut(), Accum::Add, images.as_ref(), texts.transpose(), 1.0, Par::Seq),
        );
    }

    /// Adds the sums over other pairs.
    pub fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.pairs += other.pairs;
        for side in [TEXT, IMAGE] {
            self.sums[side].iter_mut().zip(&other.sums[side]).for_each(|(sum, v)| *sum += v);
            self.own[side] += &other.own[side];
        }
        self.cross += &other.cross;
    }

    /// The sums without those over other pairs, which are among them.
    pub(super) fn without(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        rest.samples -= other.samples;
        rest.pairs -= other.pairs;
        for side in [TEXT, IMAGE] {
            rest.sums[side].iter_mut().zip(&other.sums[side]).for_each(|(sum, v)| *sum -= v);
            rest.own[side] -= &other.own[side];
        }
        rest.cross -= &other.cross;
        rest
    }

    /// The means, `[text, image]`.
    pub(super) fn means(&self) -> [Vec<f64>; 2] {
        self.sums.each_ref().map(|sums| sums.iter().map(|sum| sum / self.pairs as f64).collect())
    }

    /// The covariances of each side, `[text, image]`, of which only the lower triangles are right, and of image and text.
    pub(super) fn covariances(&self) -> ([Mat<f64>; 2], Mat<f64>) {
        let (n, means) = (self.pairs as f64, self.means());
        let covariance = |sums: &Mat<f64>, a: &[f64], b: &[f64]| {
            Mat::from_fn(sums.nrows(), sums.ncols(), |i, j| sums[(i, j)] / n - a[i] * b[j])
        };
        let within = [TEXT, IMAGE].map(|side| covariance(&self.own[side], &means[side], &means[side]));
        (within, covariance(&self.cross, &means[IMAGE], &means[TEXT]))
    }
}
