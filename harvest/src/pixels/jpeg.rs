//! Whether a JPEG file is whole. The decoder fills what is missing of a file that was cut off with gray; Pillow, and with
//! it `transformers`, refuses such a file.

/// Bytes that a file without an end marker has to have behind its data: libjpeg reads as far ahead, and does not decode
/// what it cannot look beyond.
const LOOKAHEAD: usize = 5;

/// Markers: start of a scan, end of the image.
const SOS: u8 = 0xda;
const EOI: u8 = 0xd9;

/// Whether a file has all the data of its image, as libjpeg judges it. `decode` gives the pixels of a file, if it can.
///
/// A file with an end marker is whole. One without it may still be: cameras write zeros there. Then nothing that is put in
/// the marker's place may change a pixel. Files of several scans have to have the marker, since any number of scans could
/// follow.
pub(super) fn is_whole(file: &[u8], decode: impl Fn(&[u8]) -> Option<Vec<u8>>) -> bool {
    match Scans::of(file) {
        Scans::Ended => true,
        Scans::Several => false,
        Scans::One => {
            let data = &file[..file.len().saturating_sub(LOOKAHEAD)];
            let with = |fill: u8| decode(&[data, &[fill; 64], &[0xff, EOI]].concat());
            with(0).is_some_and(|pixels| with(0x6d) == Some(pixels))
        }
    }
}

/// Whether a file has the marker of an image's end.
pub(super) fn has_end(file: &[u8]) -> bool {
    Scans::of(file) == Scans::Ended
}

/// What a file's markers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scans {
    /// The image has an end.
    Ended,
    /// It has none, and one scan for all colors.
    One,
    /// It has none, and several scans, or none yet.
    Several,
}

impl Scans {
    fn of(file: &[u8]) -> Self {
        let (mut at, mut progressive, mut components, mut scans) = (2, false, 0, Vec::new());
        while let Some(marker) = next_marker(file, &mut at) {
            // Markers of restarts and the like have no content.
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
                // Tables, extensions and conditions share the range of the frames.
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

/// The next marker at or behind `at`, which moves behind it. Zeros behind `ff` and restarts belong to the data of a scan.
fn next_marker(file: &[u8], at: &mut usize) -> Option<u8> {
    let rest = file.get(*at..)?;
    let found = rest.windows(2).position(|two| two[0] == 0xff && !matches!(two[1], 0 | 0xff | 0xd0..=0xd7))?;
    *at += found + 2;
    Some(rest[found + 1])
}
