//! The alphabet of GPT-2, in which byte-level vocabularies write their tokens: one character for each byte, so that
//! ` ring` is written `Ġring`. Turns such names back into text, and counts the bytes of text.

use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;

/// Whether the names of a tokenizer's tokens are written in this alphabet.
pub(crate) fn names_tokens_of(tokenizer: &Tokenizer) -> bool {
    fn is_byte_level(decoder: &DecoderWrapper) -> bool {
        match decoder {
            DecoderWrapper::ByteLevel(_) => true,
            DecoderWrapper::Sequence(decoders) => decoders.get_decoders().iter().any(is_byte_level),
            _ => false,
        }
    }
    tokenizer.get_decoder().is_some_and(is_byte_level)
}

/// The text that a name stands for. Bytes that are only a part of a character are written `<0xE2>`, as vocabularies
/// with byte fallback write them. A name with characters outside the alphabet (an added token) is returned unchanged.
pub(crate) fn readable(name: &str) -> String {
    let Some(bytes) = name.chars().map(byte).collect::<Option<Vec<u8>>>() else { return name.to_owned() };
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text += chunk.valid();
        text.extend(chunk.invalid().iter().map(|byte| format!("<0x{byte:02X}>")));
    }
    text
}

/// The number of bytes of text in a token's part of a text, in which bytes that are only a part of a character are written
/// `<0xE2>`, as [`readable`] and vocabularies with byte fallback write them. The mark `▁` alone stands for a space that the tokenizer
/// puts before a text, which has none there.
pub(crate) fn text_bytes(piece: &str) -> usize {
    if piece == "▁" {
        return 0;
    }
    let mut parts = piece.split("<0x");
    let whole = parts.next().map_or(0, str::len);
    let bytes = parts.map(|part| match part.as_bytes() {
        [high, low, b'>', rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => 1 + rest.len(),
        _ => "<0x".len() + part.len(),
    });
    whole + bytes.sum::<usize>()
}

/// The byte that a character stands for. Printable bytes of Latin-1 stand for themselves. The other 68 bytes are, in
/// ascending order, the characters from U+0100 on.
fn byte(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        33..=126 | 161..=172 | 174..=255 => u8::try_from(code).ok(),
        256..=288 => u8::try_from(code - 256).ok(),
        289..=322 => u8::try_from(code - 289 + 127).ok(),
        323 => Some(173),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_byte_has_exactly_one_character() {
        let characters = (0..=0x2ff).filter_map(char::from_u32);
        let bytes: Vec<u8> = characters.filter_map(byte).collect();
        assert_eq!((bytes.len(), bytes.into_iter().collect::<BTreeSet<_>>().len()), (256, 256));
    }

    #[test]
    fn bytes_of_partial_characters_are_counted_once() {
        for (piece, bytes) in [
            ("ring", 4),
            ("café", 5),
            ("<0xE2><0x80>", 2),
            (" <0xE2>", 2),
            ("a<0x9>b", 7),
            ("<0x", 3),
            ("<0xé>", 6),
            ("▁", 0),
            ("", 0),
        ] {
            assert_eq!(text_bytes(piece), bytes, "{piece}");
        }
    }

    #[test]
    fn names_become_text_and_partial_characters_become_bytes() {
        for (name, text) in [
            ("Ġring", " ring"),
            ("Ċ", "\n"),
            ("cafÃ©", "café"),
            ("âĢľ", "\u{201c}"),
            ("âĢ", "<0xE2><0x80>"),
            ("Ħ", "<0x84>"),
            ("Ġâ", " <0xE2>"),
            ("<|im_start|>", "<|im_start|>"),
            // Outside the alphabet: tokens that were added to the vocabulary keep their own names.
            ("<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
            ("  ", "  "),
        ] {
            assert_eq!(readable(name), text, "{name}");
        }
    }
}
