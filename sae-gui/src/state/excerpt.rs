//! The words around a token, as an example shows them: the token itself marked, patches of pictures folded into one
//! word, template tokens muted. Decides no colors.

use super::data::TokenView;
use sae_core::store::sample::Modality;
use std::ops::Range;

/// Tokens shown before and after the marked one.
const CONTEXT: usize = 48;

/// How a piece of an excerpt is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Content.
    Plain,
    /// Template tokens, folded patches, and dots where something was left out.
    Muted,
    /// The token in question.
    Hit,
}

/// A piece of an excerpt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its words.
    pub text: String,
    /// How to show them.
    pub tone: Tone,
    /// The token that it is, by its place; nothing for what stands for several or none.
    pub token: Option<usize>,
    /// The patches that it stands for, by their places; empty for words.
    pub patches: Range<usize>,
}

impl Span {
    /// The patch to show in its place: the one that is marked, or the one with the largest of these values, one a token; none
    /// where all are zero.
    pub fn patch(&self, values: &[f32]) -> Option<usize> {
        let value = |token: &usize| values.get(*token).copied().unwrap_or(0.0);
        let strongest = || self.patches.clone().max_by(|a, b| value(a).total_cmp(&value(b)).then(b.cmp(a)));
        let marked = self.token.filter(|token| self.patches.contains(token));
        marked.or_else(|| strongest().filter(|token| value(token) > 0.0))
    }

    /// The patches with the largest of these values, `count` at most, in their order; none that are zero.
    pub fn strongest(&self, values: &[f32], count: usize) -> Vec<usize> {
        let value = |token: &usize| values.get(*token).copied().unwrap_or(0.0);
        let mut found: Vec<usize> = self.patches.clone().filter(|token| value(token) > 0.0).collect();
        found.sort_by(|a, b| value(b).total_cmp(&value(a)).then(a.cmp(b)));
        found.truncate(count);
        found.sort_unstable();
        found
    }
}

/// The words around a position.
pub fn excerpt(tokens: &[TokenView], position: u32) -> Vec<Span> {
    let words = fold(tokens, position);
    let hit = words.iter().position(|span| span.tone == Tone::Hit);
    let center = hit.unwrap_or(0);
    let range = center.saturating_sub(CONTEXT)..(center + CONTEXT + 1).min(words.len());
    let dots =
        |missing: bool| missing.then(|| Span { text: "... ".into(), tone: Tone::Muted, token: None, patches: 0..0 });
    let (before, after) = (dots(range.start > 0), dots(range.end < words.len()));
    before.into_iter().chain(words[range].iter().cloned()).chain(after).collect()
}

/// A span a token, except that patches in a row become one.
pub fn fold(tokens: &[TokenView], position: u32) -> Vec<Span> {
    let alike = |a: &TokenView, b: &TokenView| patch(a) && patch(b) && a.image == b.image;
    let mut spans = Vec::new();
    let mut start = 0;
    for run in tokens.chunk_by(alike) {
        let hit = run.iter().position(|token| token.position == position);
        let (text, tone, token) = match (run, hit) {
            ([first, ..], Some(at)) if patch(first) => {
                (format!("[patch {} of {}]", at + 1, run.len()), Tone::Hit, Some(start + at))
            }
            ([first, ..], None) if patch(first) => (format!("[{} patches]", run.len()), Tone::Muted, None),
            ([token, ..], hit) => {
                let tone = if token.special { Tone::Muted } else { Tone::Plain };
                (words(&token.piece), if hit.is_some() { Tone::Hit } else { tone }, Some(start))
            }
            ([], _) => continue,
        };
        let patches = if patch(&run[0]) { start..start + run.len() } else { 0..0 };
        let folded = !patches.is_empty();
        spans.push(Span { text, tone, token, patches });
        if folded {
            spans.push(Span { text: " ".into(), tone: Tone::Muted, token: None, patches: 0..0 });
        }
        start += run.len();
    }
    spans
}

fn patch(token: &TokenView) -> bool {
    token.modality == Modality::Image
}

/// A piece on one line: marks of tokenizers become spaces, line breaks become visible, an empty piece is a dot.
pub fn words(piece: &str) -> String {
    let line: String = piece
        .chars()
        .map(|sign| match sign {
            '\u{2581}' | '\u{120}' | '\t' => ' ',
            '\n' | '\u{10a}' => '\u{b6}',
            sign if sign.is_control() => '\u{b7}',
            sign => sign,
        })
        .collect();
    if line.is_empty() { "\u{b7}".into() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(pieces: &[&str]) -> Vec<TokenView> {
        let token = |(position, piece): (usize, &&str)| TokenView {
            position: position as u32,
            modality: if *piece == "<image>" { Modality::Image } else { Modality::Text },
            piece: piece.to_string(),
            special: piece.starts_with('<'),
            image: (*piece == "<image>").then_some(0),
            rect: None,
        };
        pieces.iter().enumerate().map(token).collect()
    }

    fn shown(pieces: &[&str], position: u32) -> Vec<(String, Tone)> {
        excerpt(&tokens(pieces), position).into_iter().map(|span| (span.text, span.tone)).collect()
    }

    #[test]
    fn patches_fold_and_the_token_is_marked() {
        let pieces = ["<s>", "<image>", "<image>", "<image>", "\u{2581}a", " red\n"];
        let [s, a] = [("<s>".into(), Tone::Muted), (" a".into(), Tone::Plain)];
        let (patches, gap) = (("[3 patches]".into(), Tone::Muted), (" ".into(), Tone::Muted));
        assert_eq!(shown(&pieces, 5), [s.clone(), patches, gap.clone(), a.clone(), (" red\u{b6}".into(), Tone::Hit)]);
        let patch = ("[patch 2 of 3]".into(), Tone::Hit);
        assert_eq!(shown(&pieces, 2), [s, patch, gap, a, (" red\u{b6}".into(), Tone::Plain)]);
    }

    #[test]
    fn folded_patches_know_which_of_them_to_show() {
        let tokens = tokens(&["<s>", "<image>", "<image>", "<image>", "a"]);
        let folded = &fold(&tokens, 4)[1];
        assert_eq!(folded.patches, 1..4);
        assert_eq!(folded.patch(&[9.0, 0.0, 2.0, 2.0, 9.0]), Some(2), "the first of the strongest");
        assert_eq!(folded.patch(&[9.0, 0.0, 0.0, 0.0, 9.0]), None);
        assert_eq!(folded.patch(&[]), None);
        assert_eq!(folded.strongest(&[9.0, 1.0, 3.0, 2.0, 9.0], 2), [2, 3]);
        assert_eq!(fold(&tokens, 1)[1].patch(&[0.0; 5]), Some(1), "the marked one");
        assert_eq!(fold(&tokens, 4)[0].patch(&[1.0; 5]), None, "words have none");
    }

    proptest! {
        #[test]
        fn long_texts_keep_the_token(length in 0usize..400, position in 0u32..400) {
            let spans = excerpt(&tokens(&vec!["w"; length]), position);
            prop_assert!(spans.len() <= 2 * CONTEXT + 3);
            let hits = spans.iter().filter(|span| span.tone == Tone::Hit).count();
            prop_assert_eq!(hits, ((position as usize) < length) as usize);
        }
    }
}
