//! Rows changed on purpose: images replaced by white ones, so that a text is read without what its image shows; and faults of
//! known kinds and rates, so that scores can be tried on them. Changes what rows say, in memory, the same for the same seed;
//! what is done to pixels is only noted, and done where the image is read (`redraw.rs`).

use super::image::ImageFile;
use super::record::{Record, TurnPart};
use super::redraw::{ImageSizes, Redraw, Size};
use super::source::{Row, Rows};
use super::text_corruption;
use crate::{Error, Result};
use rand::{Rng, RngExt};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use sae_core::random;
use sae_core::store::sample::Role;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// The field of a row's other columns that says whether it was changed.
pub const ALTERED: &str = "altered";

/// Rows among which faults exchange what rows say. Windows begin at the first row of the data, whichever rows are read.
const WINDOW: usize = 256;

/// What is done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CorruptionKind {
    /// Its images become white, of the same size.
    BlankImages,
    /// It gets the images of another row.
    SwappedImages,
    /// It gets the answers of another row.
    SwappedAnswers,
    /// It gets the answers of the row that says nearly the same: most words in common.
    NearAnswers,
    /// A word of its answers becomes one of another row's.
    WrongWord,
    /// The words of its answers are put in another order.
    ShuffledWords,
    /// Its answers end half-way.
    TruncatedAnswers,
    /// Its images are blurred, by 8 % of the shorter side.
    BlurredImages,
    /// Its images get normal noise, of a deviation of 96 of 255.
    NoisyImages,
}

impl CorruptionKind {
    /// The faults that scores are tried on.
    pub const TRIED: [Self; 8] = [
        Self::SwappedImages,
        Self::SwappedAnswers,
        Self::NearAnswers,
        Self::WrongWord,
        Self::ShuffledWords,
        Self::TruncatedAnswers,
        Self::BlurredImages,
        Self::NoisyImages,
    ];

    /// Whether a row gets something of another one.
    fn exchanges(self) -> bool {
        matches!(self, Self::SwappedImages | Self::SwappedAnswers | Self::NearAnswers | Self::WrongWord)
    }

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::BlankImages => "blank-images",
            Self::SwappedImages => "swapped-images",
            Self::SwappedAnswers => "swapped-answers",
            Self::NearAnswers => "near-answers",
            Self::WrongWord => "wrong-word",
            Self::ShuffledWords => "shuffled-words",
            Self::TruncatedAnswers => "truncated-answers",
            Self::BlurredImages => "blurred-images",
            Self::NoisyImages => "noisy-images",
        }
    }
}

impl std::str::FromStr for CorruptionKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::TRIED.into_iter().find(|fault| fault.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::TRIED.iter().map(|fault| fault.name()).collect();
            format!("unknown kind of corruption {name:?}: expected {}", known.join(", "))
        })
    }
}

/// A fault, and which rows get it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Corruption {
    /// What is done.
    pub fault: CorruptionKind,
    /// Share of the rows, drawn by their keys.
    pub share: f64,
    /// Of the draw, and of everything random about the fault.
    pub seed: u64,
}

impl Corruption {
    /// Every image white: what is left is what the text says by itself.
    pub const BLANK: Self = Self { fault: CorruptionKind::BlankImages, share: 1.0, seed: 0 };

    /// Random numbers that depend on the row's key and on the seed alone.
    fn rng(&self, key: &str) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed_of(key))
    }

    fn seed_of(&self, key: &str) -> u64 {
        random::fnv1a(key.bytes()) ^ self.seed.rotate_left(32)
    }

    fn draws(&self, key: &str) -> bool {
        self.share >= 1.0 || self.rng(key).random::<f64>() < self.share
    }

    /// Exchanges what the rows of a window say, and says in each whether it was changed.
    fn exchange(&self, rows: &mut [Result<Row>]) {
        let mut chosen: Vec<usize> = Vec::new();
        for (n, row) in rows.iter_mut().enumerate() {
            let Ok(Row { key, record: Ok(record), .. }) = row else { continue };
            mark(record, false);
            if self.draws(key) {
                chosen.push(n);
            }
        }
        match self.fault {
            CorruptionKind::SwappedImages => self.swap(rows, &chosen, images, |record, images| record.images = images),
            CorruptionKind::SwappedAnswers => self.swap(rows, &chosen, answers, set_answers),
            CorruptionKind::NearAnswers => near(rows, &chosen),
            _ => self.wrong_word(rows, &chosen),
        }
    }

    /// Gives every chosen row what the next one in a random order has, unless that is the same or does not fit.
    fn swap<T: Clone + PartialEq + AsRef<[U]>, U>(
        &self,
        rows: &mut [Result<Row>],
        chosen: &[usize],
        get: impl Fn(&Record) -> T,
        set: impl Fn(&mut Record, T),
    ) {
        let mut parts: Vec<(usize, String, T)> = Vec::with_capacity(chosen.len());
        for n in chosen {
            if let Ok(Row { key, record: Ok(record), .. }) = &rows[*n] {
                parts.push((*n, key.clone(), get(record)));
            }
        }
        parts.sort_by_cached_key(|(_, key, _)| self.rng(&format!("order {key}")).next_u64());
        for (at, (n, _, own)) in parts.iter().enumerate() {
            let (_, _, other) = &parts[(at + 1) % parts.len()];
            if let Ok(Row { record: Ok(record), .. }) = &mut rows[*n]
                && own != other
                && own.as_ref().len() == other.as_ref().len()
            {
                set(record, other.clone());
                mark(record, true);
            }
        }
    }

    /// Puts a word of another row, drawn, in the place of one in each chosen row: in one of its answers, or in the preferred and
    /// in the rejected one, of which the model reads either.
    fn wrong_word(&self, rows: &mut [Result<Row>], chosen: &[usize]) {
        let all: Vec<BTreeSet<String>> = said(rows).map(|answers| vocabulary(&answers)).collect();
        for n in chosen {
            let Ok(Row { key, record: Ok(record), .. }) = &mut rows[*n] else { continue };
            let mut rng = self.rng(&format!("fault {key}"));
            let mut texts = answers(record);
            let at = rng.random_range(0..texts.len().max(1));
            let places = if record.pair.is_some() { texts.len() - 2..texts.len() } else { at..at + 1 };
            // From the drawn row on, the first one with a word that this one lacks.
            let from = rng.random_range(0..all.len());
            let mut strange = (0..all.len()).map(|step| &all[(from + step) % all.len()] - &all[*n]);
            let strange = strange.find(|words| !words.is_empty()).unwrap_or_default();
            let strange: Vec<&String> = strange.iter().collect();
            let mut changed = false;
            for text in texts.get_mut(places).into_iter().flatten() {
                if let Some(wrong) = text_corruption::with_wrong_word(text, &strange, &mut rng) {
                    (*text, changed) = (wrong, true);
                }
            }
            if changed {
                set_answers(record, texts);
                mark(record, true);
            }
        }
    }

    /// Changes a row by itself, and says in it whether it was changed. White images are of the sizes that a first pass found,
    /// where there was one.
    fn change(&self, row: &mut Row, sizes: Option<&ImageSizes>) {
        let Row { key, source, record: Ok(record), .. } = row else { return };
        let chosen = self.draws(key);
        let fault = format!("fault {key}");
        let changed = chosen
            && match self.fault {
                CorruptionKind::ShuffledWords => {
                    let mut rng = self.rng(&fault);
                    reword(record, |answer| text_corruption::shuffled(answer, &mut rng))
                }
                CorruptionKind::TruncatedAnswers => reword(record, text_corruption::truncated),
                CorruptionKind::BlankImages => {
                    let size = |image| sizes.map_or(Size::OfFile, |sizes| sizes.get(source, image));
                    redraw(record, |image| Redraw::White(size(image)))
                }
                CorruptionKind::NoisyImages => {
                    let seed = self.seed_of(&fault);
                    redraw(record, |image| Redraw::Noisy { seed, image: image as u64 })
                }
                _ => redraw(record, |_| Redraw::Blurred),
            };
        if self.fault != CorruptionKind::BlankImages {
            mark(record, changed);
        }
    }
}

/// Has the images drawn anew when they are read; whether there are any.
fn redraw(record: &mut Record, how: impl Fn(usize) -> Redraw) -> bool {
    record.images.iter_mut().enumerate().for_each(|(n, image)| image.redraw.push(how(n)));
    !record.images.is_empty()
}

/// What the rows of a window say, each in the place of its row.
fn said(rows: &[Result<Row>]) -> impl Iterator<Item = Vec<String>> {
    rows.iter().map(|row| shown(row).map(answers).unwrap_or_default())
}

fn shown(row: &Result<Row>) -> Option<&Record> {
    row.as_ref().ok()?.record.as_ref().ok()
}

fn vocabulary(answers: &[String]) -> BTreeSet<String> {
    answers.iter().flat_map(|answer| text_corruption::vocabulary(answer)).collect()
}

/// Gives every chosen row the answers of the one among all that says nearly the same of another image, and as often.
fn near(rows: &mut [Result<Row>], chosen: &[usize]) {
    let all: Vec<Vec<String>> = said(rows).collect();
    let words: Vec<BTreeSet<String>> = all.iter().map(|answers| vocabulary(answers)).collect();
    let images: Vec<Vec<ImageFile>> = rows.iter().map(|row| shown(row).map(images).unwrap_or_default()).collect();
    for n in chosen {
        let fits = |other: usize| all[other].len() == all[*n].len() && images[other] != images[*n];
        let other = text_corruption::nearest(&words[*n], &words, fits);
        if let (Some(other), Ok(Row { record: Ok(record), .. })) = (other, &mut rows[*n]) {
            set_answers(record, all[other].clone());
            mark(record, true);
        }
    }
}

/// Changes the words of the answers; whether that made a difference.
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

/// The words of the answers: those of the model's turns, and the preferred and the rejected one.
fn answers(record: &Record) -> Vec<String> {
    let turns = record.turns.iter().filter(|turn| turn.role == Role::Assistant).map(|turn| turn.text());
    turns.chain(record.pair.iter().flat_map(|pair| [pair.chosen.clone(), pair.rejected.clone()])).collect()
}

/// Puts other answers in their places. Images in an answer stay, behind its words.
fn set_answers(record: &mut Record, answers: Vec<String>) {
    let mut answers = answers.into_iter();
    for turn in record.turns.iter_mut().filter(|turn| turn.role == Role::Assistant) {
        turn.parts.retain(|part| matches!(part, TurnPart::Image(_)));
        turn.parts.insert(0, TurnPart::Text(answers.next().unwrap_or_default()));
    }
    if let (Some(pair), Some(chosen), Some(rejected)) = (&mut record.pair, answers.next(), answers.next()) {
        (pair.chosen, pair.rejected) = (chosen, rejected);
    }
}

/// The rows, changed. Rows that say nothing stay as they are.
pub(crate) fn altered(rows: Rows, alteration: Corruption, sizes: Option<Arc<ImageSizes>>) -> Rows {
    if alteration.fault.exchanges() {
        return Box::new(Exchanged { rows, alteration, window: VecDeque::new() });
    }
    Box::new(rows.map(move |row| {
        let mut row = row?;
        alteration.change(&mut row, sizes.as_deref());
        Ok(row)
    }))
}

/// Rows that get what others say, a window at a time.
struct Exchanged {
    rows: Rows,
    alteration: Corruption,
    window: VecDeque<Result<Row, Error>>,
}

impl Iterator for Exchanged {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.window.is_empty() {
            let mut window: Vec<_> = self.rows.by_ref().take(WINDOW).collect();
            self.alteration.exchange(&mut window);
            self.window = window.into();
        }
        self.window.pop_front()
    }

    /// Whole windows that are passed over stay as they are.
    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        let here = n.min(self.window.len());
        self.window.drain(..here);
        let (windows, rest) = ((n - here) / WINDOW, (n - here) % WINDOW);
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
    use super::super::record::{Pair, Turn};
    use super::*;
    use crate::pixels;
    use crate::resample::Rgb;
    use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
    use serde_json::json;

    fn png(shade: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let pixels: Vec<u8> = (0..600).map(|at| if at < 300 { shade } else { 255 - shade / 2 }).collect();
        PngEncoder::new(&mut bytes).write_image(&pixels, 20, 10, ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    fn rows(count: usize) -> Rows {
        Box::new((0..count).map(|n| {
            let answer = Turn::of_text(Role::Assistant, format!("row {n} has these words in it"));
            let record = Record {
                turns: vec![Turn { role: Role::User, parts: vec![TurnPart::Image(0)] }, answer],
                pair: None,
                verbatim: None,
                images: vec![ImageFile::held(String::new(), png((n % 200) as u8))],
                meta: json!({}),
            };
            Ok(Row { number: n as u64, source: format!("a:{n}"), key: n.to_string(), record: Ok(record) })
        }))
    }

    fn records(count: usize, fault: CorruptionKind, share: f64) -> Vec<Record> {
        altered(rows(count), Corruption { fault, share, seed: 3 }, None)
            .map(|row| row.unwrap().record.unwrap())
            .collect()
    }

    #[test]
    fn about_the_share_is_changed_and_marked_and_nothing_else() {
        let plain: Vec<_> = rows(600).map(|row| row.unwrap().record.unwrap()).collect();
        for fault in CorruptionKind::TRIED {
            let records = records(600, fault, 0.25);
            let marked = records.iter().filter(|r| r.meta[ALTERED] == json!(true)).count();
            assert!((100..200).contains(&marked), "{fault:?}: {marked}");
            for (old, new) in plain.iter().zip(&records) {
                let same = (&old.turns, &old.images) == (&new.turns, &new.images);
                assert_eq!(new.meta[ALTERED], json!(!same), "{fault:?}");
            }
            assert_eq!(records, self::records(600, fault, 0.25), "the same again");
        }
    }

    #[test]
    fn swapping_loses_nothing_and_changes_one_side_alone() {
        for (fault, by_answer) in [(CorruptionKind::SwappedAnswers, true), (CorruptionKind::SwappedImages, false)] {
            let sorted = |records: &[Record]| {
                let mut all: Vec<_> = records.iter().map(|r| (answers(r), r.images[0].bytes.clone())).collect();
                let (mut answers, mut images): (Vec<_>, Vec<_>) = all.drain(..).unzip();
                answers.sort();
                images.sort();
                (answers, images)
            };
            let plain: Vec<_> = rows(300).map(|row| row.unwrap().record.unwrap()).collect();
            let swapped = records(300, fault, 0.5);
            assert_eq!(sorted(&plain), sorted(&swapped));
            for (old, new) in plain.iter().zip(&swapped) {
                assert!(by_answer || old.turns == new.turns);
                assert!(!by_answer || old.images == new.images);
            }
        }
    }

    #[test]
    fn words_are_shuffled_or_cut_and_images_keep_their_size() {
        let words = |text: &str| {
            let mut words: Vec<_> = text.split(' ').map(String::from).collect();
            words.sort();
            words
        };
        let of = |fault| records(1, fault, 1.0).remove(0);
        assert_eq!(words(&answers(&of(CorruptionKind::ShuffledWords))[0]), words("row 0 has these words in it"));
        assert_eq!(answers(&of(CorruptionKind::TruncatedAnswers)), ["row 0 has these"]);
        for fault in [CorruptionKind::BlankImages, CorruptionKind::BlurredImages, CorruptionKind::NoisyImages] {
            let image = of(fault).images.remove(0);
            let Rgb { width, height, data } = pixels::decode(&image.read().unwrap()).unwrap();
            assert_eq!((width, height), (20, 10));
            assert_eq!(data.iter().all(|v| *v == 255), fault == CorruptionKind::BlankImages);
        }
    }

    #[test]
    fn a_pair_gets_a_wrong_word_on_both_sides_and_another_image_a_near_answer() {
        let record = |n: usize| Record {
            turns: vec![Turn { role: Role::User, parts: vec![TurnPart::Image(0)] }],
            pair: Some(Pair { chosen: format!("good {n} here"), rejected: format!("bad {n} there") }),
            verbatim: None,
            // Two rows for each image.
            images: vec![ImageFile::held(String::new(), vec![(n / 2) as u8])],
            meta: json!({}),
        };
        let rows = || -> Rows {
            Box::new((0..40).map(move |n| {
                Ok(Row { number: n as u64, source: String::new(), key: n.to_string(), record: Ok(record(n)) })
            }))
        };
        let of = |fault| {
            altered(rows(), Corruption { fault, share: 1.0, seed: 3 }, None).map(|row| row.unwrap().record.unwrap())
        };
        for (n, new) in of(CorruptionKind::WrongWord).enumerate() {
            let (old, new) = (record(n).pair.unwrap(), new.pair.unwrap());
            assert!(old.chosen != new.chosen && old.rejected != new.rejected, "{new:?}");
        }
        for (n, new) in of(CorruptionKind::NearAnswers).enumerate() {
            let chosen = new.pair.unwrap().chosen;
            let from: usize = chosen.split(' ').nth(1).unwrap().parse().unwrap();
            assert_ne!(from / 2, n / 2, "another picture's");
        }
    }

    #[test]
    fn a_row_that_says_nothing_and_an_image_that_does_not_decode_are_left_to_the_skipped() {
        let broken = |n: usize| {
            let mut row = rows(n + 1).last().unwrap().unwrap();
            match n {
                0 => row.record = Err("no text".into()),
                _ => row.record.as_mut().unwrap().images[0].bytes = Some(b"no image".to_vec()),
            }
            Ok(row)
        };
        let rows: Rows = Box::new((0..2).map(broken));
        let found: Vec<_> = altered(rows, Corruption::BLANK, None).map(|row| row.unwrap().record).collect();
        assert_eq!(found[0].as_ref().unwrap_err(), "no text");
        let image = found[1].as_ref().unwrap().images[0].read().unwrap_err();
        assert!(image.contains("does not decode"), "{image}");
    }

    #[test]
    fn rows_that_are_passed_over_change_nothing_in_the_others() {
        let record = |row: Result<Row>| row.unwrap().record.unwrap();
        for fault in CorruptionKind::TRIED {
            let alteration = Corruption { fault, share: 0.5, seed: 3 };
            let all: Vec<_> = altered(rows(600), alteration, None).map(record).collect();
            for skip in [0, 1, 255, 256, 300, 512, 599] {
                let mut found = altered(rows(600), alteration, None).skip(skip);
                assert_eq!(found.next().map(record).as_ref(), Some(&all[skip]), "{fault:?}");
                // Within a window, to the end of it, and over one.
                for step in [3, 200, 280] {
                    let mut found = altered(rows(600), alteration, None);
                    assert_eq!(found.nth(skip).map(record).as_ref(), Some(&all[skip]));
                    assert_eq!(found.nth(step).map(record).as_ref(), all.get(skip + step + 1), "{fault:?}");
                }
            }
            assert!(altered(rows(600), alteration, None).nth(600).is_none());
        }
    }
}
