//! The alphabet of GPT-2, in which byte-level vocabularies name their tokens: a character for each byte, so that ` ring` is
//! named `Ġring`. Turns such names into text again.

use tokenizers::Tokenizer;
use tokenizers::decoders::DecoderWrapper;

/// Whether a tokenizer's tokens are named in it.
pub(crate) fn names_tokens_of(tokenizer: &Tokenizer) -> bool {
    fn of_bytes(decoder: &DecoderWrapper) -> bool {
        match decoder {
            DecoderWrapper::ByteLevel(_) => true,
            DecoderWrapper::Sequence(decoders) => decoders.get_decoders().iter().any(of_bytes),
            _ => false,
        }
    }
    tokenizer.get_decoder().is_some_and(of_bytes)
}

/// What a name stands for: its bytes as text, and those that are a fraction of a character as `<0xE2>`, as vocabularies with
/// byte fallback write them. A name in other characters (an added token) is left as it is.
pub(crate) fn readable(name: &str) -> String {
    let Some(bytes) = name.chars().map(byte).collect::<Option<Vec<u8>>>() else { return name.to_owned() };
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text += chunk.valid();
        text.extend(chunk.invalid().iter().map(|byte| format!("<0x{byte:02X}>")));
    }
    text
}

/// The byte of a character. Printable bytes of Latin-1 stand for themselves; the other 68 are, in their order, the characters
/// from U+0100 on.
fn byte(sign: char) -> Option<u8> {
    let code = u32::from(sign);
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
    fn every_byte_has_one_character() {
        let signs = (0..=0x2ff).filter_map(char::from_u32);
        let bytes: Vec<u8> = signs.filter_map(byte).collect();
        assert_eq!((bytes.len(), bytes.into_iter().collect::<BTreeSet<_>>().len()), (256, 256));
    }

    #[test]
    fn names_are_text_and_fractions_of_characters_are_bytes() {
        for (name, text) in [
            ("Ġring", " ring"),
            ("Ċ", "\n"),
            ("cafÃ©", "café"),
            ("âĢľ", "\u{201c}"),
            ("âĢ", "<0xE2><0x80>"),
            ("Ħ", "<0x84>"),
            ("Ġâ", " <0xE2>"),
            ("<|im_start|>", "<|im_start|>"),
            // No bytes: tokens that were added to the vocabulary keep their own names.
            ("<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
            ("  ", "  "),
        ] {
            assert_eq!(readable(name), text, "{name}");
        }
    }
}
