//! `events.out.tfevents.*`: the measurements of a training as TensorBoard reads them, the same as in `log.parquet`. A file is a sequence of
//! records (length, its checksum, content, its checksum), each of which is a protocol buffer `Event`. Reads nothing.

use crate::{Error, Result, file};
use std::io::Write;
use std::path::Path;

/// The name of the file. TensorBoard takes every file whose name contains `tfevents`.
pub const EVENTS: &str = "events.out.tfevents.0.sae";

/// The measurements of a step, with their names.
pub(super) struct Scalars {
    pub step: u64,
    /// Seconds of computing since the training began.
    pub seconds: f64,
    pub values: Vec<(&'static str, f64)>,
}

/// Writes the file, and replaces an older one.
pub(super) fn write(path: &Path, steps: impl Iterator<Item = Scalars>) -> Result<()> {
    file::write(path, |out| {
        let mut put = |event: &[u8]| out.write_all(&record(event)).map_err(Error::io("write", path));
        // `wall_time` of the first event, and `file_version`.
        put(&[&double(1, 0.0)[..], &text(3, b"brain.Event:2")].concat())?;
        for Scalars { step, seconds, values } in steps {
            let summary: Vec<u8> = values
                .iter()
                // `tag` and `simple_value`.
                .flat_map(|(name, value)| text(1, &[text(1, name.as_bytes()), float(2, *value as f32)].concat()))
                .collect();
            // `wall_time`, `step` and `summary`.
            put(&[double(1, seconds), number(2, step), text(5, &summary)].concat())?;
        }
        Ok(())
    })
}

fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), content, &masked(content).to_le_bytes()].concat()
}

/// The checksum of a record's part, as the format of TensorFlow's records disguises it.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32 with Castagnoli's polynomial.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// A number of a protocol buffer, seven bits to a byte.
fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn number(field: u8, value: u64) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

fn double(field: u8, value: f64) -> Vec<u8> {
    [vec![field << 3 | 1], value.to_le_bytes().to_vec()].concat()
}

/// A text, or a message inside of another one.
fn text(field: u8, content: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(content.len() as u64), content.to_vec()].concat()
}

fn float(field: u8, value: f32) -> Vec<u8> {
    [vec![field << 3 | 5], value.to_le_bytes().to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_published_examples() {
        // RFC 3720, appendix B.4; and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// `wall_time` 1.5, `step` 300, and a summary with the value 0.5 of `loss`, by the definition of `Event`.
    #[test]
    fn an_event_has_the_bytes_of_its_protocol_buffer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EVENTS);
        write(&path, std::iter::once(Scalars { step: 300, seconds: 1.5, values: vec![("loss", 0.5)] })).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let first = 8 + 4 + 9 + 15 + 4;
        let event = &bytes[first + 12..bytes.len() - 4];
        let expected = [
            &[0x09][..],
            &1.5f64.to_le_bytes(),
            &[0x10, 0xac, 0x02, 0x2a, 13, 0x0a, 11, 0x0a, 4],
            b"loss",
            &[0x15],
            &0.5f32.to_le_bytes(),
        ];
        assert_eq!(event, expected.concat());
        assert_eq!(bytes[first..first + 8], (event.len() as u64).to_le_bytes());
    }
}
