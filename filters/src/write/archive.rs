//! WebDataset: `data-00000.tar` and so on. Each row is a `.json` and its images with the same key. Archives have the `ustar`
//! format without times or owners, so that the same rows give the same bytes. Also copies rows of archives unchanged.

use super::image::{ImageOutput, extension};
use super::row::Row;
use super::stage::Output;
use super::{Contents, Sink, chat_json};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Size of a block of an archive in bytes.
const BLOCK: usize = 512;

/// Archives of bounded size.
pub(super) struct Archives {
    folder: PathBuf,
    limit: u64,
    open: Option<Output>,
    begun: usize,
    size: u64,
    /// The different lists of members that rows have, each with the first row that has it.
    kinds: BTreeMap<Vec<String>, String>,
}

impl Archives {
    /// A writer of archives, each of which ends with the row that reaches `limit` bytes.
    pub fn new(out: &Path, limit: u64) -> Self {
        Self { folder: out.to_path_buf(), limit, open: None, begun: 0, size: 0, kinds: BTreeMap::new() }
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let out = match self.open.take() {
            Some(out) => out,
            None => {
                self.begun += 1;
                self.size = 0;
                Output::new(&self.folder.join(format!("data-{:05}.tar", self.begun - 1)))?
            }
        };
        let out = self.open.insert(out);
        out.put(&header(name, bytes.len() as u64))?;
        out.put(bytes)?;
        let padding = bytes.len().next_multiple_of(BLOCK) - bytes.len();
        out.put(&[0; BLOCK][..padding])?;
        self.size += (BLOCK + bytes.len() + padding) as u64;
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some(mut out) = self.open.take() {
            out.put(&[0; 2 * BLOCK])?;
            out.finish()?;
        }
        Ok(())
    }
}

impl Sink for Archives {
    fn push(&mut self, row: &Row, images: &mut ImageOutput) -> Result<()> {
        // A key ends at its first dot, so the data set's own keys cannot be used. They are among the row's columns.
        let key = format!("{:09}", row.number);
        let fields = chat_json::row_of_parts(row, None);
        self.add(&format!("{key}.json"), Value::Object(fields).to_string().as_bytes())?;
        let mut kinds = Vec::new();
        for (n, image) in row.images.iter().enumerate() {
            let (bytes, _) = images.embed(image)?;
            let bytes = bytes.unwrap_or_default();
            let number = if row.images.len() == 1 { String::new() } else { format!("{n}.") };
            let kind = format!("{number}{}", extension(&bytes, &image.name));
            self.add(&format!("{key}.{kind}"), &bytes)?;
            kinds.push(kind);
        }
        if self.kinds.len() < 2 {
            self.kinds.entry(kinds).or_insert_with(|| row.key.clone());
        }
        if self.size >= self.limit {
            self.close()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Contents> {
        if self.begun == 0 {
            self.begun = 1;
            self.open = Some(Output::new(&self.folder.join("data-00000.tar"))?);
        }
        self.close()?;
        let mut contents = Contents::from_files((0..self.begun).map(|n| format!("data-{n:05}.tar").into()));
        let mut kinds = self.kinds.iter().map(|(kinds, row)| {
            if kinds.is_empty() {
                format!("row {row} has no image")
            } else {
                format!("row {row} has {}", kinds.join(", "))
            }
        });
        if let (Some(one), Some(other)) = (kinds.next(), kinds.next()) {
            contents.notes.push(format!(
                "`datasets` does not read archives whose rows have different kinds of images ({one}; {other}); the \
                 package `webdataset` reads them, and `datasets` reads the format parquet"
            ));
        }
        Ok(contents)
    }
}

/// The header of a file. Names consist of a key and an extension, and are shorter than the maximum of 100 bytes.
fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    // Images have at most 256 MiB, and texts far less than the 8 GiB that eleven octal digits can express.
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| *byte as u32).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// Copies the members of selected rows of an archive with their headers, and returns the number of copied rows. A row consists
/// of consecutive members with the same key.
pub(super) fn copy_rows(
    from: &Path,
    rows: &BTreeSet<u64>,
    to: &Path,
    member_key: fn(&str) -> Option<&str>,
) -> Result<u64> {
    let failed = sae_core::Error::io("read", from);
    let mut input = BufReader::new(File::open(from).map_err(sae_core::Error::io("open", from))?);
    let mut out = Output::new(to)?;
    let (mut begun, mut copied, mut last) = (0u64, 0, None);
    // Extended headers of the next member.
    let mut ahead: Vec<u8> = Vec::new();
    let mut long_name = None;
    let read = (|| loop {
        let mut block = [0; BLOCK];
        match input.read_exact(&mut block) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let Some(size) = size(&block).filter(|size| *size < 1 << 48) else {
            return Ok(Some("the archive is damaged: the size of an entry is not a number"));
        };
        let padded = size.next_multiple_of(BLOCK as u64);
        match block[156] {
            // Long names and other attributes of the next member. They are small, and are copied with it.
            kind @ (b'L' | b'K' | b'x' | b'g') => {
                if padded > 1 << 20 {
                    return Ok(Some("the archive is damaged: a header of more than a MiB"));
                }
                let mut body = vec![0; padded as usize];
                input.read_exact(&mut body)?;
                let text = &body[..size as usize];
                match kind {
                    b'L' => long_name = Some(until_nul(text)),
                    b'x' => long_name = pax_path(text).or(long_name),
                    _ => {}
                }
                ahead.extend_from_slice(&block);
                ahead.extend_from_slice(&body);
            }
            kind => {
                let name = long_name.take().unwrap_or_else(|| name(&block));
                let key = if matches!(kind, b'0' | 0) { member_key(&name).map(str::to_owned) } else { None };
                if key.is_some() && key != last {
                    begun += 1;
                    last = key.clone();
                    copied += rows.contains(&(begun - 1)) as u64;
                }
                let is_selected = key.is_some() && rows.contains(&(begun - 1));
                if is_selected {
                    out.put(&ahead).and_then(|()| out.put(&block)).map_err(std::io::Error::other)?;
                }
                ahead.clear();
                let mut left = padded;
                let mut chunk = [0; 1 << 14];
                while left > 0 {
                    let n = left.min(chunk.len() as u64) as usize;
                    input.read_exact(&mut chunk[..n])?;
                    if is_selected {
                        out.put(&chunk[..n]).map_err(std::io::Error::other)?;
                    }
                    left -= n as u64;
                }
            }
        }
    })();
    if let Some(cause) = read.map_err(failed)? {
        return Err(Error::source(from, cause));
    }
    out.put(&[0; 2 * BLOCK])?;
    out.finish()?;
    Ok(copied)
}

/// The size of a member: octal digits, or a number in base 256, which is marked by the first bit.
fn size(header: &[u8; BLOCK]) -> Option<u64> {
    let field = &header[124..136];
    if field[0] & 0x80 != 0 {
        let wide = field[1..4].iter().any(|byte| *byte != 0) || field[0] != 0x80;
        return (!wide).then(|| field[4..].iter().fold(0, |size, byte| size << 8 | *byte as u64));
    }
    let digits = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

fn name(header: &[u8; BLOCK]) -> String {
    let (prefix, name) = (until_nul(&header[345..500]), until_nul(&header[..100]));
    // Only `ustar` has a prefix. GNU stores times at this offset.
    let has_prefix = &header[257..263] == b"ustar\0" && !prefix.is_empty();
    if has_prefix { format!("{prefix}/{name}") } else { name }
}

fn until_nul(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// The `path` in an extended header, which has one record `length key=value` per line.
fn pax_path(text: &[u8]) -> Option<String> {
    let mut records = text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    records.find_map(|record| record.split_once(' ')?.1.strip_prefix("path=")).map(str::to_owned)
}
