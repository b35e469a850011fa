//! Text that other people's programs wrote: strips the byte order mark of Windows editors and decodes UTF-16, for whole
//! files and for readers that take a file line by line. Knows no formats.

use std::io::{self, BufRead, Cursor, Read};

/// Bytes that are enough to tell the encoding.
const HEAD: usize = 4;

/// How a text is encoded, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16 { little_endian: bool },
    Utf32,
}

impl Encoding {
    /// The encoding, and the length of the byte order mark. UTF-16 without a mark is recognized by the zero byte beside
    /// its first character, which is an ASCII character in JSON.
    fn detect(head: &[u8]) -> (Self, usize) {
        let utf16 = |little_endian| Self::Utf16 { little_endian };
        match head {
            [0xef, 0xbb, 0xbf, ..] => (Self::Utf8, 3),
            [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => (Self::Utf32, 4),
            [0xff, 0xfe, ..] => (utf16(true), 2),
            [0xfe, 0xff, ..] => (utf16(false), 2),
            [low, 0, high, 0] if *low != 0 && *high != 0 => (utf16(true), 0),
            [0, high, 0, low] if *low != 0 && *high != 0 => (utf16(false), 0),
            _ => (Self::Utf8, 0),
        }
    }
}

/// The text of a whole file or archive member.
///
/// # Errors
/// The text is neither UTF-8 nor UTF-16; the message says where the first invalid byte is.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let text = match Encoding::detect(&bytes[..bytes.len().min(HEAD)]) {
        (Encoding::Utf8, 0) => bytes,
        (Encoding::Utf8, mark) => bytes[mark..].to_vec(),
        _ => {
            let mut text = Vec::new();
            let mut decoded = reader(Cursor::new(bytes)).map_err(|e| e.to_string())?;
            decoded.read_to_end(&mut text).map_err(|e| e.to_string())?;
            text
        }
    };
    String::from_utf8(text).map_err(|e| format!("the text is not UTF-8 (byte {})", e.utf8_error().valid_up_to()))
}

/// A text as UTF-8 without a byte order mark, for readers that take it piece by piece. Invalid bytes pass through, so that
/// they cost one line and not the file; an unpaired surrogate of UTF-16 becomes three bytes that are not UTF-8.
///
/// # Errors
/// The text cannot be read, or is UTF-32.
pub(super) fn reader(mut input: impl BufRead + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut head = Vec::with_capacity(HEAD);
    input.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let (encoding, mark) = Encoding::detect(&head);
    let rest = Cursor::new(head.split_off(mark)).chain(input);
    match encoding {
        Encoding::Utf8 => Ok(Box::new(rest)),
        Encoding::Utf16 { little_endian } => {
            Ok(Box::new(Utf16 { input: rest, little_endian, surrogate: None, utf8: Vec::new(), read: 0 }))
        }
        Encoding::Utf32 => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the text is UTF-32, expected UTF-8 or UTF-16"))
        }
    }
}

/// Decodes UTF-16 while it is read.
struct Utf16<R> {
    input: R,
    little_endian: bool,
    /// The first half of a surrogate pair whose second half has not been read.
    surrogate: Option<u16>,
    utf8: Vec<u8>,
    /// Bytes of `utf8` that were consumed.
    read: usize,
}

/// UTF-16 units that are decoded at once.
const UNITS: usize = 1 << 14;

impl<R: Read> Utf16<R> {
    fn decode_block(&mut self) -> io::Result<()> {
        let mut block = Vec::with_capacity(2 * UNITS);
        self.input.by_ref().take(2 * UNITS as u64).read_to_end(&mut block)?;
        let (pairs, odd) = block.as_chunks::<2>();
        let unit =
            |pair: &[u8; 2]| if self.little_endian { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) };
        let mut units: Vec<u16> = self.surrogate.take().into_iter().chain(pairs.iter().map(unit)).collect();
        let continues = pairs.len() == UNITS && units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit));
        if continues {
            self.surrogate = units.pop();
        }
        self.utf8.clear();
        self.read = 0;
        for decoded in char::decode_utf16(units) {
            match decoded {
                Ok(character) => self.utf8.extend(character.encode_utf8(&mut [0; 4]).bytes()),
                Err(unpaired) => self.utf8.extend(surrogate_bytes(unpaired.unpaired_surrogate())),
            }
        }
        // Half a unit at the end is as invalid as half a pair.
        self.utf8.extend(odd.iter().map(|_| 0xff));
        Ok(())
    }
}

/// A surrogate as UTF-8 would encode it if it were allowed.
fn surrogate_bytes(unit: u16) -> [u8; 3] {
    [0xe0 | (unit >> 12) as u8, 0x80 | ((unit >> 6) & 0x3f) as u8, 0x80 | (unit & 0x3f) as u8]
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: Read> BufRead for Utf16<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.utf8.len() {
            self.decode_block()?;
        }
        Ok(&self.utf8[self.read..])
    }

    fn consume(&mut self, bytes: usize) {
        self.read += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, little_endian: bool, mark: bool) -> Vec<u8> {
        let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
        units.flat_map(|unit: u16| if little_endian { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    }

    #[test]
    fn byte_order_marks_are_stripped_and_utf16_is_decoded() {
        // The pair of surrogates lies across the border of two blocks in one of the two.
        for text in ["{\"a\": \"é\"}".to_owned(), "x".repeat(UNITS - 1) + "🙂y", "x".repeat(UNITS) + "🙂"] {
            let files = [
                text.clone().into_bytes(),
                ["\u{feff}".as_bytes(), text.as_bytes()].concat(),
                utf16(&text, true, true),
                utf16(&text, false, true),
                utf16(&text, true, false),
                utf16(&text, false, false),
            ];
            for file in files {
                assert_eq!(decode(file.clone()).unwrap(), text);
                let mut read = String::new();
                reader(Cursor::new(file)).unwrap().read_to_string(&mut read).unwrap();
                assert_eq!(read, text);
            }
        }
        assert_eq!((decode(Vec::new()).unwrap(), decode(b"\xef\xbb\xbf".to_vec()).unwrap()), ("".into(), "".into()));
    }

    #[test]
    fn other_encodings_are_refused_and_cost_one_line_of_a_reader() {
        assert_eq!(decode(b"caf\xe9".to_vec()).unwrap_err(), "the text is not UTF-8 (byte 3)");
        let utf32: Vec<u8> = "\u{feff}ab".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
        assert!(decode(utf32).unwrap_err().contains("UTF-32"));
        let mut unpaired = utf16("a\nb", true, true);
        unpaired.extend(0xd83du16.to_le_bytes());
        assert!(decode(unpaired.clone()).unwrap_err().contains("not UTF-8"));
        let mut lines = reader(Cursor::new(unpaired)).unwrap().lines();
        assert_eq!(lines.next().unwrap().unwrap(), "a");
        assert!(lines.next().unwrap().is_err());
        assert!(decode(b"\xff\xfea".to_vec()).unwrap_err().contains("not UTF-8"));
    }
}
