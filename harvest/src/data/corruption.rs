//! Deliberate corruption of rows: images are replaced by white ones, so that a text is read without seeing its image;
//! or rows are corrupted in known ways and at known rates, to test scores on them. The content of rows is changed in memory,
//! always in the same way for the same seed. Changes of pixels are only recorded here, and made when the image is read
//! (`redraw.rs`).

use super::image::ImageFile;
use super::record::Record;
use super::redraw::{PerImage, Redraw, Size};
use super::row::{Row, Rows};
use super::text_corruption;
use crate::{Error, Result};
use rand::{Rng, RngExt};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use sae_core::random;
use sae_core::store::conversation::TurnPart;
use sae_core::store::sample::Role;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};

/// The field of a row's metadata that says whether the row was changed.
pub const ALTERED: &str = "altered";

/// Number of rows among which a corruption exchanges content. Windows begin at the first row of the data, whichever rows are
/// read.
const WINDOW: usize = 256;

/// A kind of corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CorruptionKind {
    /// Images become white and keep their size.
    BlankImages,
    /// Rectangles of images become black ([`ImageMasks`](super::ImageMasks)).
    BlackenedPatches,
    /// The row gets the images of another row.
    SwappedImages,
    /// The row gets the answers of another row.
    SwappedAnswers,
    /// The row gets the answers of the most similar row, which is the one with the most words in common.
    NearAnswers,
    /// One word of the answers is replaced by a word of another row.
    WrongWord,
    /// The words of the answers are put in another order.
    ShuffledWords,
    /// The answers end half-way.
    TruncatedAnswers,
    /// The right half of every image becomes the right half of another row's image.
    SplicedImages,
    /// Images are blurred with a standard deviation of 8 % of the shorter side.
    BlurredImages,
    /// Normal noise with a standard deviation of 96 (of 255) is added to the images.
    NoisyImages,
}

impl CorruptionKind {
    /// The kinds on which scores are tested.
    pub const TRIED: [Self; 9] = [
        Self::SwappedImages,
        Self::SwappedAnswers,
        Self::NearAnswers,
        Self::WrongWord,
        Self::ShuffledWords,
        Self::TruncatedAnswers,
        Self::SplicedImages,
        Self::BlurredImages,
        Self::NoisyImages,
    ];

    /// Whether a row gets content from another row.
    fn exchanges(self) -> bool {
        matches!(
            self,
            Self::SwappedImages | Self::SwappedAnswers | Self::NearAnswers | Self::WrongWord | Self::SplicedImages
        )
    }

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::BlankImages => "blank-images",
            Self::BlackenedPatches => "blackened-patches",
            Self::SwappedImages => "swapped-images",
            Self::SwappedAnswers => "swapped-answers",
            Self::NearAnswers => "near-answers",
            Self::WrongWord => "wrong-word",
            Self::ShuffledWords => "shuffled-words",
            Self::TruncatedAnswers => "truncated-answers",
            Self::SplicedImages => "spliced-images",
            Self::BlurredImages => "blurred-images",
            Self::NoisyImages => "noisy-images",
        }
    }
}

impl std::str::FromStr for CorruptionKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::TRIED.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::TRIED.iter().map(|kind| kind.name()).collect();
            format!("invalid kind of corruption {name:?}: expected {}", known.join(", "))
        })
    }
}

/// A corruption and the rows to which it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Corruption {
    /// What is done.
    pub kind: CorruptionKind,
    /// Share of the rows, which are drawn by their keys.
    pub share: f64,
    /// Seed of the draw and of everything random about the corruption.
    pub seed: u64,
}

impl Corruption {
    /// Makes every image white. What remains is what the model predicts from the text alone.
    pub const BLANK: Self = Self { kind: CorruptionKind::BlankImages, share: 1.0, seed: 0 };

    /// Makes rectangles of images black. What remains is what the model predicts from the rest.
    pub const BLACKENED: Self = Self { kind: CorruptionKind::BlackenedPatches, share: 1.0, seed: 0 };

    /// Random numbers that depend only on the row's key and on the seed.
    fn rng(&self, key: &str) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed_of(key))
    }

    fn seed_of(&self, key: &str) -> u64 {
        random::fnv1a(key.bytes()) ^ self.seed.rotate_left(32)
    }

    fn applies_to(&self, key: &str) -> bool {
        self.share >= 1.0 || self.rng(key).random::<f64>() < self.share
    }

    /// Exchanges content between the rows of a window, and records in each row whether it was changed.
    fn exchange(&self, rows: &mut [Result<Row>]) {
        let mut chosen: Vec<usize> = Vec::new();
        for (n, row) in rows.iter_mut().enumerate() {
            let Ok(Row { key, record: Ok(record), .. }) = row else { continue };
            mark(record, false);
            if self.applies_to(key) {
                chosen.push(n);
            }
        }
        match self.kind {
            CorruptionKind::SwappedImages => self.swap(rows, &chosen, images, |record, images| record.images = images),
            CorruptionKind::SwappedAnswers => self.swap(rows, &chosen, answers, set_answers),
            CorruptionKind::SplicedImages => self.swap(rows, &chosen, images, splice),
            CorruptionKind::NearAnswers => copy_nearest_answers(rows, &chosen),
            _ => self.wrong_word(rows, &chosen),
        }
    }

    /// Gives every chosen row content of the next chosen row in a random order, unless the content is equal or of a
    /// different length.
    fn swap<T: Clone + PartialEq + AsRef<[U]>, U>(
        &self,
        rows: &mut [Result<Row>],
        chosen: &[usize],
        get: impl Fn(&Record) -> T,
        set: impl Fn(&mut Record, T),
    ) {
        let mut contents: Vec<(usize, String, T)> = Vec::with_capacity(chosen.len());
        for n in chosen {
            if let Ok(Row { key, record: Ok(record), .. }) = &rows[*n] {
                contents.push((*n, key.clone(), get(record)));
            }
        }
        contents.sort_by_cached_key(|(_, key, _)| self.rng(&format!("order {key}")).next_u64());
        for (at, (n, _, old)) in contents.iter().enumerate() {
            let (_, _, new) = &contents[(at + 1) % contents.len()];
            if let Ok(Row { record: Ok(record), .. }) = &mut rows[*n]
                && old != new
                && old.as_ref().len() == new.as_ref().len()
            {
                set(record, new.clone());
                mark(record, true);
            }
        }
    }

    /// Replaces one word in each chosen row by a word of another row, which is drawn. The word is in one of the
    /// answers, or in both answers of a pair, because the model reads only one of them.
    fn wrong_word(&self, rows: &mut [Result<Row>], chosen: &[usize]) {
        let vocabularies: Vec<BTreeSet<String>> = window_answers(rows).map(|answers| vocabulary(&answers)).collect();
        for n in chosen {
            let Ok(Row { key, record: Ok(record), .. }) = &mut rows[*n] else { continue };
            let mut rng = self.rng(&format!("fault {key}"));
            let mut texts = answers(record);
            let at = rng.random_range(0..texts.len().max(1));
            let range = if record.pair.is_some() { texts.len() - 2..texts.len() } else { at..at + 1 };
            // Starting at the drawn row, the first row with a word that this row lacks.
            let from = rng.random_range(0..vocabularies.len());
            let other = |step| &vocabularies[(from + step) % vocabularies.len()];
            let mut foreign = (0..vocabularies.len()).map(|step| other(step) - &vocabularies[*n]);
            let foreign = foreign.find(|words| !words.is_empty()).unwrap_or_default();
            let foreign: Vec<&String> = foreign.iter().collect();
            let mut changed = false;
            for text in texts.get_mut(range).into_iter().flatten() {
                if let Some(wrong) = text_corruption::with_wrong_word(text, &foreign, &mut rng) {
                    (*text, changed) = (wrong, true);
                }
            }
            if changed {
                set_answers(record, texts);
                mark(record, true);
            }
        }
    }

    /// Corrupts a row without regard to other rows, and records in it whether it was changed. White images have the
    /// sizes that an earlier pass found, if there was one.
    fn change(&self, row: &mut Row, images: &PerImage) {
        let Row { key, source, record: Ok(record), .. } = row else { return };
        let chosen = self.applies_to(key);
        let fault = format!("fault {key}");
        let changed = chosen
            && match self.kind {
                CorruptionKind::ShuffledWords => {
                    let mut rng = self.rng(&fault);
                    reword(record, |answer| text_corruption::shuffled(answer, &mut rng))
                }
                CorruptionKind::TruncatedAnswers => reword(record, text_corruption::truncated),
                CorruptionKind::BlankImages => {
                    let size = |image| images.sizes.as_ref().map_or(Size::FromFile, |sizes| sizes.get(source, image));
                    redraw(record, |image| Redraw::White(size(image)))
                }
                CorruptionKind::BlackenedPatches => {
                    let rects = |image| images.masks.as_ref().map(|masks| masks.get(source, image));
                    redraw(record, |image| Redraw::Black(rects(image).unwrap_or_default()))
                }
                CorruptionKind::NoisyImages => {
                    let seed = self.seed_of(&fault);
                    redraw(record, |image| Redraw::Noisy { seed, image: image as u64 })
                }
                _ => redraw(record, |_| Redraw::Blurred),
            };
        if !matches!(self.kind, CorruptionKind::BlankImages | CorruptionKind::BlackenedPatches) {
            mark(record, changed);
        }
    }
}

/// Marks the images to be redrawn when they are read. Returns whether there are any.
fn redraw(record: &mut Record, how: impl Fn(usize) -> Redraw<ImageFile>) -> bool {
    record.images.iter_mut().enumerate().for_each(|(n, image)| image.redraw.push(how(n)));
    !record.images.is_empty()
}

/// The answers of every row of a window; none for a row that cannot be used.
fn window_answers(rows: &[Result<Row>]) -> impl Iterator<Item = Vec<String>> {
    rows.iter().map(|row| usable(row).map(answers).unwrap_or_default())
}

fn usable(row: &Result<Row>) -> Option<&Record> {
    row.as_ref().ok()?.record.as_ref().ok()
}

fn vocabulary(answers: &[String]) -> BTreeSet<String> {
    answers.iter().flat_map(|answer| text_corruption::vocabulary(answer)).collect()
}

/// Gives every chosen row the answers of the most similar row in the window that has other images and as many answers.
fn copy_nearest_answers(rows: &mut [Result<Row>], chosen: &[usize]) {
    let all: Vec<Vec<String>> = window_answers(rows).collect();
    let words: Vec<BTreeSet<String>> = all.iter().map(|answers| vocabulary(answers)).collect();
    let images: Vec<Vec<ImageFile>> = rows.iter().map(|row| usable(row).map(images).unwrap_or_default()).collect();
    for n in chosen {
        let fits = |other: usize| all[other].len() == all[*n].len() && images[other] != images[*n];
        let other = text_corruption::nearest(&words[*n], &words, fits);
        if let (Some(other), Ok(Row { record: Ok(record), .. })) = (other, &mut rows[*n]) {
            set_answers(record, all[other].clone());
            mark(record, true);
        }
    }
}

/// Changes the text of the answers. Returns whether any of them became a different one.
fn reword(record: &mut Record, change: impl FnMut(&str) -> String) -> bool {
    let old = answers(record);
    let new: Vec<String> = old.iter().map(String::as_str).map(change).collect();
    let changed = old != new;
    set_answers(record, new);
    changed
}

fn mark(record: &mut Record, altered: bool) {
    if let Some(meta) = record.meta.as_object_mut() {
        meta.insert(ALTERED.into(), altered.into());
    }
}

fn images(record: &Record) -> Vec<ImageFile> {
    record.images.clone()
}

/// Marks every image to become half of another one.
fn splice(record: &mut Record, others: Vec<ImageFile>) {
    for (image, other) in record.images.iter_mut().zip(others) {
        image.redraw.push(Redraw::Spliced(Box::new(other)));
    }
}

/// The texts of the answers: those of the assistant's turns, then the preferred and the rejected answer.
fn answers(record: &Record) -> Vec<String> {
    let turns = record.turns.iter().filter(|turn| turn.role == Role::Assistant).map(|turn| turn.text());
    turns.chain(record.pair.iter().flat_map(|pair| [pair.chosen.clone(), pair.rejected.clone()])).collect()
}

/// Replaces the texts of the answers. Images in an answer stay, behind its text.
fn set_answers(record: &mut Record, answers: Vec<String>) {
    let mut answers = answers.into_iter();
    for turn in record.turns.iter_mut().filter(|turn| turn.role == Role::Assistant) {
        turn.parts.retain(|part| part.text().is_none());
        turn.parts.insert(0, TurnPart::Text(answers.next().unwrap_or_default()));
    }
    if let (Some(pair), Some(chosen), Some(rejected)) = (&mut record.pair, answers.next(), answers.next()) {
        (pair.chosen, pair.rejected) = (chosen, rejected);
    }
}

/// The rows with a corruption applied. Rows that cannot be used stay as they are.
pub(crate) fn corrupted(rows: Rows, corruption: Corruption, images: PerImage) -> Rows {
    if corruption.kind.exchanges() {
        return Box::new(Exchanged { rows, corruption, window: VecDeque::new() });
    }
    Box::new(rows.map(move |row| {
        let mut row = row?;
        corruption.change(&mut row, &images);
        Ok(row)
    }))
}

/// Rows that get content from other rows, one window at a time.
struct Exchanged {
    rows: Rows,
    corruption: Corruption,
    window: VecDeque<Result<Row, Error>>,
}

impl Iterator for Exchanged {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.window.is_empty() {
            let mut window: Vec<_> = self.rows.by_ref().take(WINDOW).collect();
            self.corruption.exchange(&mut window);
            self.window = window.into();
        }
        self.window.pop_front()
    }

    /// Windows that are passed over completely are not corrupted.
    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        let from_window = n.min(self.window.len());
        self.window.drain(..from_window);
        let (windows, rest) = ((n - from_window) / WINDOW, (n - from_window) % WINDOW);
        if windows > 0 {
            drop(self.rows.nth(windows * WINDOW - 1)?);
        }
        for _ in 0..rest {
            drop(self.next()?);
        }
        self.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels;
    use crate::resample::Rgb;
    use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
    use sae_core::store::conversation::{AnswerPair, Turn};
    use serde_json::json;

    fn png(shade: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let pixels: Vec<u8> = (0..600).map(|at| if at < 300 { shade } else { 255 - shade / 2 }).collect();
        PngEncoder::new(&mut bytes).write_image(&pixels, 20, 10, ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    fn rows(count: usize) -> Rows {
        Box::new((0..count).map(|n| {
            let answer = Turn::from_text(Role::Assistant, format!("row {n} has these words in it"));
            let record = Record {
                turns: vec![Turn { role: Role::User, parts: vec![TurnPart::Image(0)] }, answer],
                pair: None,
                unanswered: false,
                about_answers: Default::default(),
                unattributed: false,
                tree: Default::default(),
                verbatim: None,
                action: None,
                images: vec![ImageFile::from_bytes(String::new(), png((n % 200) as u8))],
                video: None,
                meta: json!({}),
            };
            Ok(Row {
                number: n as u64,
                source: format!("a:{n}"),
                key: n.to_string(),
                has_own_key: false,
                record: Ok(record),
            })
        }))
    }

    fn records(count: usize, kind: CorruptionKind, share: f64) -> Vec<Record> {
        corrupted(rows(count), Corruption { kind, share, seed: 3 }, PerImage::default())
            .map(|row| row.unwrap().record.unwrap())
            .collect()
    }

    #[test]
    fn about_the_given_share_of_rows_is_changed_and_only_these_are_marked() {
        let plain: Vec<_> = rows(600).map(|row| row.unwrap().record.unwrap()).collect();
        for kind in CorruptionKind::TRIED {
            let records = records(600, kind, 0.25);
            let marked = records.iter().filter(|r| r.meta[ALTERED] == json!(true)).count();
            assert!((100..200).contains(&marked), "{kind:?}: {marked}");
            for (old, new) in plain.iter().zip(&records) {
                let same = (&old.turns, &old.images) == (&new.turns, &new.images);
                assert_eq!(new.meta[ALTERED], json!(!same), "{kind:?}");
            }
            assert_eq!(records, self::records(600, kind, 0.25), "the result is reproducible");
        }
    }

    #[test]
    fn swapping_is_a_permutation_and_changes_only_answers_or_only_images() {
        for (kind, by_answer) in [(CorruptionKind::SwappedAnswers, true), (CorruptionKind::SwappedImages, false)] {
            let sorted = |records: &[Record]| {
                let mut all: Vec<_> = records.iter().map(|r| (answers(r), r.images[0].bytes.clone())).collect();
                let (mut answers, mut images): (Vec<_>, Vec<_>) = all.drain(..).unzip();
                answers.sort();
                images.sort();
                (answers, images)
            };
            let plain: Vec<_> = rows(300).map(|row| row.unwrap().record.unwrap()).collect();
            let swapped = records(300, kind, 0.5);
            assert_eq!(sorted(&plain), sorted(&swapped));
            for (old, new) in plain.iter().zip(&swapped) {
                assert!(by_answer || old.turns == new.turns);
                assert!(!by_answer || old.images == new.images);
            }
        }
    }

    #[test]
    fn a_spliced_image_has_its_left_half_and_the_right_half_of_another_row() {
        let pixels = |record: &Record| pixels::decode(&record.images[0].read().unwrap()).unwrap();
        // Columns of the left and of the right half, of all rows.
        let halves = |image: &Rgb, right: bool| -> Vec<u8> {
            let rows = image.data.chunks_exact(3 * image.width);
            rows.flat_map(|row| if right { &row[3 * image.width / 2..] } else { &row[..3 * image.width / 2] })
                .copied()
                .collect()
        };
        let plain: Vec<Rgb> = rows(300).map(|row| pixels(&row.unwrap().record.unwrap())).collect();
        let spliced = records(300, CorruptionKind::SplicedImages, 0.5);
        let changed: Vec<usize> = (0..300).filter(|n| spliced[*n].meta[ALTERED] == json!(true)).collect();
        assert!(changed.len() > 100);
        for n in changed {
            let (old, new) = (&plain[n], pixels(&spliced[n]));
            assert_eq!((new.width, new.height), (old.width, old.height));
            assert_eq!(halves(&new, false), halves(old, false));
            assert_ne!(halves(&new, true), halves(old, true));
            assert!(plain.iter().any(|other| halves(other, true) == halves(&new, true)), "row {n}");
        }
    }

    #[test]
    fn words_are_shuffled_or_truncated_and_images_keep_their_size() {
        let words = |text: &str| {
            let mut words: Vec<_> = text.split(' ').map(String::from).collect();
            words.sort();
            words
        };
        let corrupt = |kind| records(1, kind, 1.0).remove(0);
        assert_eq!(words(&answers(&corrupt(CorruptionKind::ShuffledWords))[0]), words("row 0 has these words in it"));
        assert_eq!(answers(&corrupt(CorruptionKind::TruncatedAnswers)), ["row 0 has these"]);
        for kind in [CorruptionKind::BlankImages, CorruptionKind::BlurredImages, CorruptionKind::NoisyImages] {
            let image = corrupt(kind).images.remove(0);
            let Rgb { width, height, data } = pixels::decode(&image.read().unwrap()).unwrap();
            assert_eq!((width, height), (20, 10));
            assert_eq!(data.iter().all(|v| *v == 255), kind == CorruptionKind::BlankImages);
        }
    }

    #[test]
    fn both_answers_of_a_pair_get_a_wrong_word_and_similar_answers_come_from_other_images() {
        let record = |n: usize| Record {
            turns: vec![Turn { role: Role::User, parts: vec![TurnPart::Image(0)] }],
            pair: Some(AnswerPair { chosen: format!("good {n} here"), rejected: format!("bad {n} there") }),
            unanswered: false,
            about_answers: Default::default(),
            unattributed: false,
            tree: Default::default(),
            verbatim: None,
            action: None,
            // Every image is in two rows.
            images: vec![ImageFile::from_bytes(String::new(), vec![(n / 2) as u8])],
            video: None,
            meta: json!({}),
        };
        let rows = || -> Rows {
            Box::new((0..40).map(move |n| {
                Ok(Row {
                    number: n as u64,
                    source: String::new(),
                    key: n.to_string(),
                    has_own_key: false,
                    record: Ok(record(n)),
                })
            }))
        };
        let corrupt = |kind| {
            corrupted(rows(), Corruption { kind, share: 1.0, seed: 3 }, PerImage::default())
                .map(|row| row.unwrap().record.unwrap())
        };
        for (n, new) in corrupt(CorruptionKind::WrongWord).enumerate() {
            let (old, new) = (record(n).pair.unwrap(), new.pair.unwrap());
            assert!(old.chosen != new.chosen && old.rejected != new.rejected, "{new:?}");
        }
        for (n, new) in corrupt(CorruptionKind::NearAnswers).enumerate() {
            let chosen = new.pair.unwrap().chosen;
            let from: usize = chosen.split(' ').nth(1).unwrap().parse().unwrap();
            assert_ne!(from / 2, n / 2, "it belongs to another image");
        }
    }

    #[test]
    fn unusable_rows_and_undecodable_images_stay_as_they_are() {
        let broken = |n: usize| {
            let mut row = rows(n + 1).last().unwrap().unwrap();
            match n {
                0 => row.record = Err("no text".into()),
                _ => row.record.as_mut().unwrap().images[0].bytes = Some(b"no image".to_vec()),
            }
            Ok(row)
        };
        let rows: Rows = Box::new((0..2).map(broken));
        let found: Vec<_> =
            corrupted(rows, Corruption::BLANK, PerImage::default()).map(|row| row.unwrap().record).collect();
        assert_eq!(found[0].as_ref().unwrap_err().cause, "no text");
        let image = found[1].as_ref().unwrap().images[0].read().unwrap_err().cause;
        assert!(image.contains("cannot be decoded"), "{image}");
    }

    #[test]
    fn passing_over_rows_does_not_change_the_other_rows() {
        let record = |row: Result<Row>| row.unwrap().record.unwrap();
        for kind in CorruptionKind::TRIED {
            let corruption = Corruption { kind, share: 0.5, seed: 3 };
            let all: Vec<_> = corrupted(rows(600), corruption, PerImage::default()).map(record).collect();
            for skip in [0, 1, 255, 256, 300, 512, 599] {
                let mut found = corrupted(rows(600), corruption, PerImage::default()).skip(skip);
                assert_eq!(found.next().map(record).as_ref(), Some(&all[skip]), "{kind:?}");
                // Inside a window, to its end, and beyond it.
                for step in [3, 200, 280] {
                    let mut found = corrupted(rows(600), corruption, PerImage::default());
                    assert_eq!(found.nth(skip).map(record).as_ref(), Some(&all[skip]));
                    assert_eq!(found.nth(step).map(record).as_ref(), all.get(skip + step + 1), "{kind:?}");
                }
            }
            assert!(corrupted(rows(600), corruption, PerImage::default()).nth(600).is_none());
        }
    }
}
