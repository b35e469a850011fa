//! The table of contents of a ZIP archive whose entries are stored as they are, which is how NumPy (`savez`) and PyTorch
//! write theirs: every entry is a range of the file. Unpacks nothing; writes archives of the same kind.

use crate::{Error, Result, file};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// An entry and the range of its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, with folders.
    pub name: String,
    /// Its bytes in the file.
    pub range: Range<usize>,
}

const END: u64 = 0x0605_4b50;
const END_64: u64 = 0x0606_4b50;
const LOCATOR_64: u64 = 0x0706_4b50;
const CENTRAL: u64 = 0x0201_4b50;
const LOCAL: u64 = 0x0403_4b50;
/// The value of a 32-bit field that is replaced by a 64-bit one.
const WIDE: u64 = u32::MAX as u64;

/// Lists the entries, comparing their checksums.
///
/// # Errors
/// The archive is damaged, packed or encrypted.
pub fn entries(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let cut = || "not a whole ZIP archive".to_string();
    // The end record is 22 bytes long and may be followed by a comment of at most 65,535.
    let earliest = bytes.len().saturating_sub(22 + 65_535);
    let end = (earliest..bytes.len().saturating_sub(21)).rev().find(|at| int::<4>(bytes, *at) == Some(END));
    let end = end.ok_or_else(cut)?;
    let mut directory = (int::<4>(bytes, end + 12).ok_or_else(cut)?, int::<4>(bytes, end + 16).ok_or_else(cut)?);
    let locator = end.checked_sub(20).filter(|at| int::<4>(bytes, *at) == Some(LOCATOR_64));
    if let Some(locator) = locator {
        let at = int::<8>(bytes, locator + 8).and_then(|at| usize::try_from(at).ok()).ok_or_else(cut)?;
        let field = |offset: usize| int::<8>(bytes, at.checked_add(offset)?);
        let whole = int::<4>(bytes, at).filter(|s| *s == END_64).and_then(|_| Some((field(40)?, field(48)?)));
        directory = whole.ok_or_else(cut)?;
    }
    let mut rest = slice(bytes, directory.1, directory.0).ok_or_else(cut)?;
    let (mut entries, mut held) = (Vec::new(), 0usize);
    while !rest.is_empty() {
        let (entry, length) = entry(bytes, rest, bytes.len() - held).ok_or_else(cut)??;
        held += entry.range.len();
        entries.push(entry);
        rest = rest.get(length..).ok_or_else(cut)?;
    }
    Ok(entries)
}

/// The entry that a record of the directory describes, and the length of the record; `None` if the record is cut off. `left`
/// is how many bytes of the archive no entry has taken yet.
fn entry(bytes: &[u8], record: &[u8], left: usize) -> Option<Result<(Entry, usize), String>> {
    let short = |at: usize| int::<2>(record, at).map(|v| v as usize);
    if int::<4>(record, 0)? != CENTRAL {
        return None;
    }
    let (name_length, extra_length, comment_length) = (short(28)?, short(30)?, short(32)?);
    let name = String::from_utf8_lossy(record.get(46..46 + name_length)?).into_owned();
    let extra = record.get(46 + name_length..46 + name_length + extra_length)?;
    // Sizes and place, wide ones from the extra field, which holds only those that did not fit.
    let mut wide = zip64(extra);
    let mut field = |at: usize| match int::<4>(record, at)? {
        WIDE => {
            let value = int::<8>(wide, 0);
            wide = wide.get(8..).unwrap_or_default();
            value
        }
        value => Some(value),
    };
    let (size, packed, place) = (field(24)?, field(20)?, field(42)?);
    let (flags, method) = (short(8)?, short(10)?);
    if flags & 1 != 0 || method != 0 || size != packed {
        return Some(Err(format!("{name} is packed or encrypted; only stored entries are read")));
    }
    let place = usize::try_from(place).ok()?;
    if int::<4>(bytes, place)? != LOCAL {
        return None;
    }
    let head = 30 + int::<2>(bytes, place.checked_add(26)?)? + int::<2>(bytes, place.checked_add(28)?)?;
    let start = place.checked_add(head as usize)?;
    let data = slice(bytes, start as u64, size)?;
    // Entries do not overlap. If they could, a small file might ask for hours of checksums.
    if data.len() > left {
        return Some(Err(format!("{name} overlaps another entry of the archive")));
    }
    if int::<4>(record, 16)? != crc32fast::hash(data) as u64 {
        return Some(Err(format!("{name} has changed since it was written (CRC-32 differs)")));
    }
    let length = 46 + name_length + extra_length + comment_length;
    Some(Ok((Entry { name, range: start..start + data.len() }, length)))
}

/// The 64-bit fields among a record's extra fields.
fn zip64(mut extra: &[u8]) -> &[u8] {
    while let (Some(id), Some(length)) = (int::<2>(extra, 0), int::<2>(extra, 2)) {
        let end = 4 + length as usize;
        match extra.get(4..end) {
            Some(fields) if id == 1 => return fields,
            Some(_) => extra = &extra[end..],
            None => break,
        }
    }
    &[]
}

fn slice(bytes: &[u8], from: u64, length: u64) -> Option<&[u8]> {
    let from = usize::try_from(from).ok()?;
    bytes.get(from..from.checked_add(usize::try_from(length).ok()?)?)
}

/// Writes an archive of entries that are stored as they are, each with its name. Sizes and places are 64-bit ones throughout, since weights
/// may take more than 4 GiB. The same entries give the same bytes.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, entries: &[(String, Vec<u8>)]) -> Result<()> {
    // Version 4.5, no flags, stored, and midnight of January 1, 1980, the earliest date there is.
    let common = |crc: u32| {
        let head = [45u16, 0, 0, 0, 33].map(u16::to_le_bytes).concat();
        [head, crc.to_le_bytes().to_vec(), [0xff; 8].to_vec()].concat()
    };
    let wide = |fields: &[u64]| {
        let head = [1u16, 8 * fields.len() as u16].map(u16::to_le_bytes).concat();
        [head, fields.iter().flat_map(|field| field.to_le_bytes()).collect()].concat()
    };
    let signature = |signature: u64| (signature as u32).to_le_bytes();
    let (mut directory, mut at) = (Vec::new(), 0u64);
    file::write(path, |out| {
        let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(Error::io("write", path));
        for (name, data) in entries {
            let (size, common) = (data.len() as u64, common(crc32fast::hash(data)));
            let (here, there) = (wide(&[size, size]), wide(&[size, size, at]));
            let lengths = |extra: &[u8]| [name.len() as u16, extra.len() as u16].map(u16::to_le_bytes).concat();
            let local = [&signature(LOCAL)[..], &common, &lengths(&here), name.as_bytes(), &here].concat();
            directory.extend_from_slice(&signature(CENTRAL));
            directory.extend_from_slice(&45u16.to_le_bytes());
            directory.extend_from_slice(&[common, lengths(&there), vec![0; 10], vec![0xff; 4]].concat());
            directory.extend_from_slice(name.as_bytes());
            directory.extend_from_slice(&there);
            put(&local)?;
            put(data)?;
            at += local.len() as u64 + size;
        }
        let (count, length) = (entries.len() as u64, directory.len() as u64);
        put(&directory)?;
        put(&signature(END_64))?;
        put(&44u64.to_le_bytes())?;
        put(&[45u16, 45].map(u16::to_le_bytes).concat())?;
        put(&[0; 8])?;
        put(&[count, count, length, at].map(u64::to_le_bytes).concat())?;
        put(&signature(LOCATOR_64))?;
        put(&[0; 4])?;
        put(&(at + length).to_le_bytes())?;
        put(&1u32.to_le_bytes())?;
        put(&signature(END))?;
        put(&[0; 4])?;
        put(&[0xff; 12])?;
        put(&[0; 2])
    })
}

/// A little-endian number of `N` bytes.
fn int<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(N)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | *byte as u64))
}
