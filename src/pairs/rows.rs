//! The rows of pairs, for those who compare: one JSON object a line.

use super::Compared;
use super::trees::{Divided, Trees};
use crate::Result;
use filters::write::{SAMPLE_ID, messages};
use sae_core::file;
use sae_core::random::SplitMix64;
use sae_core::store::conversation::{Turn, TurnPart};
use sae_core::store::sample::{Role, Sample, continues_turn};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::Path;

/// Comparisons that are labeled together.
const BATCH: usize = 16;

/// Writes the pairs of a topology in the order in which they were chosen. Which answer comes first is drawn, so that neither place
/// means anything.
pub(super) fn write(path: &Path, trees: &Trees, samples: &[Sample], compared: &Compared, seed: u64) -> Result<()> {
    Ok(file::write(path, |out| {
        for number in 0..compared.pairs.len() {
            let line = Value::Object(row(trees, samples, compared, number, seed));
            writeln!(out, "{line}").map_err(sae_core::Error::io("write", path))?;
        }
        Ok(())
    })?)
}

fn row(trees: &Trees, samples: &[Sample], compared: &Compared, number: usize, seed: u64) -> Map<String, Value> {
    let (mut pair, step) = (compared.pairs[number], compared.steps[number]);
    if SplitMix64::nth(seed, number as u64 + 1) & 1 == 1 {
        pair.reverse();
    }
    let mut divided = trees.divide(pair);
    let depth = divided.depth();
    give_back_begun_turn(trees, samples, &mut divided);
    let turns = |pieces: &[u32]| turns(trees, samples, pieces);
    let mut row = Map::new();
    let mut put = |name: String, value: Value| drop(row.insert(name, value));
    let shows_video = |pieces: &[u32]| pieces.iter().any(|piece| trees.piece(*piece).shows_video);
    let images =
        |pieces: &[u32]| pieces.iter().flat_map(|piece| own_images(trees, samples, *piece)).collect::<Vec<_>>();
    if divided.own.iter().any(|own| shows_video(own)) {
        // Each answer has media of its own, and the frames of two videos are not one.
        for (n, own) in (1..).zip(&divided.own).filter(|(_, own)| !images(own).is_empty()) {
            put(format!("{}_{n}", if shows_video(own) { "video" } else { "images" }), json!(images(own)));
        }
    } else {
        let all: Vec<u32> = divided.pieces().collect();
        if !images(&all).is_empty() {
            put(if shows_video(&all) { "video" } else { "images" }.into(), json!(images(&all)));
        }
    }
    put("prompt".into(), messages(&turns(&divided.common)));
    for (n, own) in (1..).zip(&divided.own) {
        put(format!("answer_{n}"), messages(&turns(own)));
    }
    for (n, answer) in (1..).zip(pair) {
        let sample = &samples[trees.answers[answer] as usize];
        put(format!("{SAMPLE_ID}_{n}"), sample.id.clone().into());
        put(format!("key_{n}"), sample.key.clone().into());
    }
    put("lca_depth".into(), depth.into());
    put("uncertainty_before".into(), step.uncertainty_before.into());
    put("gain".into(), step.gain.into());
    put("batch".into(), (number / BATCH).into());
    row
}

/// The images that a piece shows and the one that it continues does not.
fn own_images<'a>(trees: &Trees, samples: &'a [Sample], piece: u32) -> impl Iterator<Item = &'a str> {
    let before = trees.parent(piece).map_or(0, |parent| samples[parent as usize].images.len());
    samples[piece as usize].images.iter().skip(before).map(|image| image.path.as_str())
}

/// Whether a piece goes on with the turn of the model in which the one before it ends.
fn goes_on(trees: &Trees, samples: &[Sample], before: u32, piece: u32) -> bool {
    let is_answer = |piece| trees.piece(piece).role == Role::Assistant;
    continues_turn(&samples[piece as usize].meta) && is_answer(before) && is_answer(piece)
}

/// Gives the beginning of a turn that both answers have in common, and go on with, to each of them, so that the prompt ends with a
/// whole turn.
fn give_back_begun_turn(trees: &Trees, samples: &[Sample], divided: &mut Divided) {
    let Some(last) = divided.common.last().copied() else { return };
    if !divided.own.iter().filter_map(|own| own.first()).any(|first| goes_on(trees, samples, last, *first)) {
        return;
    }
    let pairs = divided.common.windows(2).rposition(|pair| !goes_on(trees, samples, pair[0], pair[1]));
    let begun = divided.common.split_off(pairs.map_or(0, |before| before + 1));
    divided.own.iter_mut().for_each(|own| drop(own.splice(0..0, begun.iter().copied())));
}

/// The turns of pieces that follow one another, each with its images before its text.
fn turns(trees: &Trees, samples: &[Sample], pieces: &[u32]) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::with_capacity(pieces.len());
    for (n, piece) in pieces.iter().enumerate() {
        let turn = turn(trees, samples, *piece);
        match turns.last_mut().filter(|_| n > 0 && goes_on(trees, samples, pieces[n - 1], *piece)) {
            Some(begun) => begun.go_on(&turn),
            None => turns.push(turn),
        }
    }
    turns
}

/// The turn of a piece, with its images before its text.
fn turn(trees: &Trees, samples: &[Sample], piece: u32) -> Turn {
    let known = trees.piece(piece);
    let shown = if known.shows_video { 1 } else { own_images(trees, samples, piece).count() };
    let media = (0..shown).map(|n| if known.shows_video { TurnPart::Video } else { TurnPart::Image(n) });
    let text = TurnPart::Text(samples[piece as usize].text.clone());
    Turn { role: known.role, parts: media.chain([text]).collect() }
}
