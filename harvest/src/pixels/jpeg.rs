//! Whether a JPEG file is complete. The decoder fills the missing part of a truncated file with gray, but Pillow, and
//! therefore `transformers`, rejects such a file.

/// Number of bytes that must follow the data of a file without an end marker. libjpeg reads this far ahead, and does
/// not decode data that it cannot look beyond.
const LOOKAHEAD: usize = 5;

/// Markers: start of a scan, and end of the image.
const SOS: u8 = 0xda;
const EOI: u8 = 0xd9;

/// Whether a file contains all the data of its image, according to the rules of libjpeg. `decode` returns the pixels of
/// a file, if it can be decoded.
///
/// A file with an end marker is complete. A file without one may be complete, too, because some cameras write zeros in
/// its place. In this case the pixels must not depend on what is put in the place of the marker. A file with several
/// scans must have the marker, because any number of scans could follow.
pub(super) fn is_complete(file: &[u8], decode: impl Fn(&[u8]) -> Option<Vec<u8>>) -> bool {
    match Scans::new(file) {
        Scans::Ended => true,
        Scans::Several => false,
        Scans::One => {
            let data = &file[..file.len().saturating_sub(LOOKAHEAD)];
            let with = |fill: u8| decode(&[data, &[fill; 64], &[0xff, EOI]].concat());
            with(0).is_some_and(|pixels| with(0x6d) == Some(pixels))
        }
    }
}

/// Whether a file has an end marker.
pub(super) fn has_end(file: &[u8]) -> bool {
    Scans::new(file) == Scans::Ended
}

/// What the markers of a file reveal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scans {
    /// There is an end marker.
    Ended,
    /// There is no end marker, and one scan with all colors.
    One,
    /// There is no end marker, and there are several scans or none yet.
    Several,
}

impl Scans {
    fn new(file: &[u8]) -> Self {
        let (mut at, mut progressive, mut components, mut scans) = (2, false, 0, Vec::new());
        while let Some(marker) = next_marker(file, &mut at) {
            // Restart markers and some others have no content.
            if marker == EOI {
                return Self::Ended;
            }
            if matches!(marker, 0x01 | 0xd0..=0xd8) {
                continue;
            }
            let Some(length) = file.get(at..at + 2).map(|two| usize::from(u16::from_be_bytes([two[0], two[1]]))) else {
                break;
            };
            let Some(content) = file.get(at + 2..at + length.max(2)) else { break };
            at += length.max(2);
            match marker {
                // Tables, extensions and conditions are in the same range as the frame headers.
                0xc4 | 0xc8 | 0xcc => {}
                0xc0..=0xcf => {
                    progressive |= marker & 3 == 2;
                    components = content.get(5).copied().unwrap_or_default();
                }
                SOS => scans.push(content.first().copied().unwrap_or_default()),
                _ => {}
            }
        }
        if !progressive && scans == [components] { Self::One } else { Self::Several }
    }
}

/// Finds the next marker at or behind `at`, and moves `at` behind it. Zeros after `ff` and restart markers are part of
/// the data of a scan.
fn next_marker(file: &[u8], at: &mut usize) -> Option<u8> {
    let rest = file.get(*at..)?;
    let found = rest.windows(2).position(|two| two[0] == 0xff && !matches!(two[1], 0 | 0xff | 0xd0..=0xd7))?;
    *at += found + 2;
    Some(rest[found + 1])
}
