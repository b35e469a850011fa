//! The text around a token as pages show it: the token itself marked, the patches of a picture folded into one span, the
//! tokens of one character joined, template tokens muted. Chooses no colors and measures no text.

use super::sample::TokenView;
use sae_core::store::sample::Modality;
use std::ops::Range;

/// Characters shown before the marked token. A card has three lines of about 40 characters, so the token is in view.
const CHARACTERS_BEFORE: usize = 40;
/// Spans shown after the marked token.
const SPANS_AFTER: usize = 48;

/// How a span is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Content.
    Plain,
    /// Template tokens, folded patches, and ellipses.
    Muted,
    /// The marked token.
    Marked,
}

/// A piece of text that is shown as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The text to show.
    pub text: String,
    /// How to show it.
    pub tone: Tone,
    /// The tokens that it stands for, by index in the sample; empty for ellipses and spaces.
    pub tokens: Range<usize>,
    /// Whether these tokens are patches of a picture.
    pub patches: bool,
    /// The marked token, if it is one of them.
    pub marked: Option<usize>,
}

impl Span {
    fn filler(text: &str) -> Self {
        Self { text: text.into(), tone: Tone::Muted, tokens: 0..0, patches: false, marked: None }
    }

    /// The largest of these activations (one per token of the sample) on the span's tokens; 0 for patches and fillers.
    pub fn activation(&self, values: &[f32]) -> f32 {
        let own = if self.patches { 0..0 } else { self.tokens.clone() };
        own.filter_map(|token| values.get(token)).copied().fold(0.0, f32::max)
    }

    /// The patch to show in place of the span: the marked one, else the one with the largest activation above 0.
    pub fn patch(&self, values: &[f32]) -> Option<usize> {
        if !self.patches {
            return None;
        }
        self.marked.or_else(|| self.strongest_patches(values, 1).first().copied())
    }

    /// The patches with the largest activations above 0, at most `count`, in their order in the picture.
    pub fn strongest_patches(&self, values: &[f32], count: usize) -> Vec<usize> {
        if !self.patches {
            return Vec::new();
        }
        let value = |token: &usize| values.get(*token).copied().unwrap_or(0.0);
        let mut found: Vec<usize> = self.tokens.clone().filter(|token| value(token) > 0.0).collect();
        found.sort_by(|a, b| value(b).total_cmp(&value(a)).then(a.cmp(b)));
        found.truncate(count);
        found.sort_unstable();
        found
    }

    /// Whether a line may begin here without cutting a word.
    fn begins_word(&self) -> bool {
        self.patches || self.text.chars().next().is_none_or(|first| !first.is_alphanumeric() || !first.is_ascii())
    }
}

/// The text around a position: about `CHARACTERS_BEFORE` characters before it, and `SPANS_AFTER` spans after it.
pub fn excerpt(tokens: &[TokenView], position: u32) -> Vec<Span> {
    let spans = spans(tokens, Some(position));
    let marked = spans.iter().position(|span| span.marked.is_some()).unwrap_or(0);
    let mut characters = 0;
    let fits = |span: &&Span| {
        characters += span.text.chars().count();
        characters <= CHARACTERS_BEFORE
    };
    let before = spans[..marked].iter().rev().take_while(fits).count();
    let mut start = marked - before;
    if start > 0 {
        start = (start..marked).find(|at| spans[*at].begins_word()).unwrap_or(marked);
    }
    let end = (marked + 1 + SPANS_AFTER).min(spans.len());
    let ellipsis = |missing: bool| missing.then(|| Span::filler("... "));
    let (before, after) = (ellipsis(start > 0), ellipsis(end < spans.len()));
    before.into_iter().chain(spans[start..end].iter().cloned()).chain(after).collect()
}

/// The spans of a whole sample: one per character or token of text, one per picture. `marked` is the position to mark.
pub fn spans(tokens: &[TokenView], marked: Option<u32>) -> Vec<Span> {
    let same_picture = |a: &TokenView, b: &TokenView| is_patch(a) && is_patch(b) && a.image == b.image;
    let mut spans = Vec::new();
    let mut start = 0;
    for run in tokens.chunk_by(same_picture) {
        if is_patch(&run[0]) {
            let at = run.iter().position(|token| Some(token.position) == marked);
            let (text, tone) = match at {
                Some(at) => (format!("[patch {} of {}]", at + 1, run.len()), Tone::Marked),
                None => (format!("[{} patches]", run.len()), Tone::Muted),
            };
            let marked = at.map(|at| start + at);
            spans.push(Span { text, tone, tokens: start..start + run.len(), patches: true, marked });
            spans.push(Span::filler(" "));
        } else {
            run.iter().zip(start..).for_each(|(token, at)| push_text(token, at, marked, &mut spans));
        }
        start += run.len();
    }
    spans
}

/// Adds a token of text, at index `at` of the sample: to the last span if that ends within a character, else as a new one.
fn push_text(token: &TokenView, at: usize, marked: Option<u32>, spans: &mut Vec<Span>) {
    let is_marked = Some(token.position) == marked;
    let tone = match (is_marked, token.special) {
        (true, _) => Tone::Marked,
        (false, true) => Tone::Muted,
        (false, false) => Tone::Plain,
    };
    let (text, marked) = (token.text.clone(), is_marked.then_some(at));
    let span = Span { text, tone, tokens: at..at + 1, patches: false, marked };
    match spans.last_mut() {
        Some(last) if last.is_incomplete() && has_byte(&token.text) => last.join(span),
        _ => spans.push(span),
    }
}

impl Span {
    /// Whether the text ends within a character.
    fn is_incomplete(&self) -> bool {
        !self.patches && has_byte(&self.text) && std::str::from_utf8(&bytes(&self.text)).is_err()
    }

    fn join(&mut self, next: Self) {
        self.text += &next.text;
        self.tokens.end = next.tokens.end;
        self.marked = self.marked.or(next.marked);
        if next.tone == Tone::Marked {
            self.tone = Tone::Marked;
        }
    }
}

fn is_patch(token: &TokenView) -> bool {
    token.modality == Modality::Image
}

/// Whether a token's text names a byte, such as `<0xE2>`.
fn has_byte(text: &str) -> bool {
    text.contains("<0x")
}

/// The bytes of a token's text; `<0xE2>` is one byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<0x") {
        bytes.extend(before.bytes());
        let byte = after.split_once('>').and_then(|(hex, after)| Some((u8::from_str_radix(hex, 16).ok()?, after)));
        match byte {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => {
                bytes.extend(b"<0x");
                rest = after;
            }
        }
    }
    bytes.extend(rest.bytes());
    bytes
}

/// A token's text on one line: bytes become characters where they are complete, tokenizers' marks become spaces, line breaks
/// become visible, an empty text becomes a dot.
pub fn display_text(text: &str) -> String {
    let complete = has_byte(text).then(|| String::from_utf8(bytes(text)).ok()).flatten();
    let text = complete.as_deref().unwrap_or(text);
    let line: String = text
        .chars()
        .map(|character| match character {
            '\u{2581}' | '\u{120}' | '\t' => ' ',
            '\n' | '\u{10a}' => '\u{b6}',
            character if character.is_control() => '\u{b7}',
            character => character,
        })
        .collect();
    if line.is_empty() { "\u{b7}".into() } else { line }
}

/// The text of a sample with content of its own, on one line.
pub fn caption(tokens: &[TokenView]) -> String {
    let spans = spans(tokens, None);
    let is_content = |span: &&Span| tokens[span.tokens.clone()].iter().any(TokenView::is_content);
    spans.iter().filter(is_content).map(|span| display_text(&span.text)).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(texts: &[&str]) -> Vec<TokenView> {
        let token = |(position, text): (usize, &&str)| TokenView {
            position: position as u32,
            modality: if *text == "<image>" { Modality::Image } else { Modality::Text },
            text: text.to_string(),
            special: text.starts_with('<') && !text.starts_with("<0x"),
            image: (*text == "<image>").then_some(0),
            rect: None,
        };
        texts.iter().enumerate().map(token).collect()
    }

    fn shown(texts: &[&str], position: u32) -> Vec<(String, Tone)> {
        excerpt(&tokens(texts), position).into_iter().map(|span| (display_text(&span.text), span.tone)).collect()
    }

    #[test]
    fn patches_fold_and_the_token_is_marked() {
        let texts = ["<s>", "<image>", "<image>", "<image>", "\u{2581}a", " red\n"];
        let [s, a] = [("<s>".into(), Tone::Muted), (" a".into(), Tone::Plain)];
        let (patches, gap) = (("[3 patches]".into(), Tone::Muted), (" ".into(), Tone::Muted));
        assert_eq!(shown(&texts, 5), [s.clone(), patches, gap.clone(), a.clone(), (" red\u{b6}".into(), Tone::Marked)]);
        let patch = ("[patch 2 of 3]".into(), Tone::Marked);
        assert_eq!(shown(&texts, 2), [s, patch, gap, a, (" red\u{b6}".into(), Tone::Plain)]);
    }

    #[test]
    fn folded_patches_know_which_of_them_to_show() {
        let tokens = tokens(&["<s>", "<image>", "<image>", "<image>", "a"]);
        let folded = &spans(&tokens, Some(4))[1];
        assert_eq!((folded.tokens.clone(), folded.patches), (1..4, true));
        assert_eq!(folded.patch(&[9.0, 0.0, 2.0, 2.0, 9.0]), Some(2), "the first of the strongest");
        assert_eq!(folded.patch(&[9.0, 0.0, 0.0, 0.0, 9.0]), None);
        assert_eq!(folded.patch(&[]), None);
        assert_eq!(folded.strongest_patches(&[9.0, 1.0, 3.0, 2.0, 9.0], 2), [2, 3]);
        assert_eq!(spans(&tokens, Some(1))[1].patch(&[0.0; 5]), Some(1), "the marked one");
        assert_eq!(spans(&tokens, Some(4))[0].patch(&[1.0; 5]), None, "text has none");
    }

    #[test]
    fn tokens_of_one_character_are_shown_as_one() {
        let texts = [
            "\u{2581}",
            "<0xE6>",
            "<0x97>",
            "<0xA5>",
            "<0xE6>",
            "<0x9C>",
            "<0xAC>",
            " <0xF0><0x9F>",
            "<0x98><0x80>",
            "!",
        ];
        let tokens = tokens(&texts);
        assert_eq!(caption(&tokens), "\u{65e5}\u{672c} \u{1f600}!");
        let found = spans(&tokens, Some(5));
        let ranges: Vec<_> = found.iter().map(|span| span.tokens.clone()).collect();
        assert_eq!(ranges, [0..1, 1..4, 4..7, 7..9, 9..10]);
        assert_eq!((found[2].tone, found[2].marked), (Tone::Marked, Some(5)));
        assert_eq!(found[1].activation(&[9.0, 0.5, 2.0, 1.0, 9.0]), 2.0, "the largest of its tokens");
        // Bytes that are no character are shown as they are named.
        assert_eq!(shown(&["<0xE6>", "a"], 1)[0].0, "<0xE6>");
        assert_eq!(display_text("1<0x is no byte"), "1<0x is no byte");
    }

    #[test]
    fn the_marked_token_of_a_long_text_is_near_the_beginning() {
        let texts: Vec<String> = (0..200).map(|n| format!(" word{n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = shown(&texts, 150);
        let before: String =
            found.iter().take_while(|(_, tone)| *tone != Tone::Marked).map(|(text, _)| text.as_str()).collect();
        assert_eq!(before, "...  word145 word146 word147 word148 word149");
        assert!(found.iter().any(|(text, tone)| *tone == Tone::Marked && text == " word150"));
        // Words of several tokens are not cut.
        let split: Vec<&str> = std::iter::repeat_n([" un", "believ", "able"], 30).flatten().collect();
        assert_eq!(shown(&split, 60)[1].0, " un");
    }

    proptest! {
        #[test]
        fn long_texts_keep_the_token(length in 0usize..400, position in 0u32..400, text in "[a-z ]{1,9}") {
            let spans = excerpt(&tokens(&vec![text.as_str(); length]), position);
            let before: usize = spans.iter().take_while(|span| span.marked.is_none()).map(|span| span.text.len()).sum();
            let marked = spans.iter().filter(|span| span.tone == Tone::Marked).count();
            prop_assert_eq!(marked, ((position as usize) < length) as usize);
            prop_assert!(marked == 0 || before <= CHARACTERS_BEFORE + 4);
        }

        #[test]
        fn spans_cover_every_token_once(texts in prop::collection::vec("(<0x[0-9A-F]{2}>|[a-z ]{0,3}|<image>)", 0..30)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let tokens = tokens(&texts);
            let covered: Vec<usize> = spans(&tokens, None).into_iter().flat_map(|span| span.tokens).collect();
            prop_assert_eq!(covered, (0..tokens.len()).collect::<Vec<_>>());
        }
    }
}
