//! Reads the members of a tar archive from a stream: names (ustar, GNU and pax), sizes, and contents on request. Whatever
//! sizes the archive claims, no more is held in memory than was requested. Unpacks nothing.

use super::input::Input;
use sae_core::path_text;
use std::io::Read;
use tar::{EntryType, Header, PaxExtensions};

/// Size of a block of an archive in bytes.
const BLOCK: u64 = 512;

/// Maximum size of a name, or of all attributes of a member, in bytes.
const NAME_LIMIT: u64 = 1 << 16;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub name: String,
    pub size: u64,
}

/// The members of an archive.
pub(super) struct Members {
    input: Box<dyn Input>,
    /// Bytes of the current member that have not been read, and bytes that pad its last block.
    unread: u64,
    padding: u64,
}

impl Members {
    pub fn new(input: Box<dyn Input>) -> Self {
        Self { input, unread: 0, padding: 0 }
    }

    /// The next file, or nothing at the end of the archive. What was not read of the previous file is skipped. Must not be
    /// called again after an error.
    ///
    /// # Errors
    /// The archive is damaged or ends too early. The error says where and why.
    pub fn next(&mut self) -> Result<Option<Member>, String> {
        let (mut long, mut attributes) = (None, Vec::new());
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let mut size = header
                .entry_size()
                .map_err(|e| format!("the size of an entry in the archive is not a number ({e})"))?;
            if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
                self.enter(size);
                let content = self.read(NAME_LIMIT)?;
                let content = content.ok_or_else(|| format!("a name in the archive claims {size} bytes"))?;
                if kind.is_gnu_longname() {
                    long = Some(content)
                } else {
                    attributes = content
                }
                continue;
            }
            let is_member = kind != EntryType::XGlobalHeader && !kind.is_gnu_longlink();
            let mut name = None;
            let mut sparse = kind.is_gnu_sparse();
            for attribute in PaxExtensions::new(&attributes).filter(|_| is_member) {
                let attribute = attribute.map_err(|e| format!("an attribute in the archive is damaged ({e})"))?;
                match attribute.key_bytes() {
                    b"path" => name = Some(attribute.value_bytes().to_vec()),
                    b"size" => {
                        let value = attribute.value().ok().and_then(|value| value.parse().ok());
                        size = value.ok_or("the size of an entry in the archive is not a number")?;
                    }
                    key => sparse |= key.starts_with(b"GNU.sparse."),
                }
            }
            self.enter(size);
            if !is_member {
                continue;
            }
            let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous) && !sparse;
            let name = name.or(long.take()).unwrap_or_else(|| header.path_bytes().into_owned());
            attributes.clear();
            let name = path_text::encode_bytes(name.split(|byte| *byte == 0).next().unwrap_or_default());
            if is_file && !name.ends_with('/') {
                return Ok(Some(Member { name, size }));
            }
        }
    }

    /// Reads the rest of the current member. Returns nothing if this is more than `limit` bytes.
    ///
    /// # Errors
    /// The archive ends too early, or cannot be read.
    pub fn read(&mut self, limit: u64) -> Result<Option<Vec<u8>>, String> {
        if self.unread > limit {
            return Ok(None);
        }
        let mut content = Vec::new();
        let read = self.input.by_ref().take(self.unread).read_to_end(&mut content).map_err(unreadable)?;
        self.unread -= read as u64;
        match self.unread {
            0 => Ok(Some(content)),
            _ => Err("the archive is cut off".into()),
        }
    }

    fn enter(&mut self, size: u64) {
        (self.unread, self.padding) = (size, (BLOCK - size % BLOCK) % BLOCK);
    }

    /// The next header, or nothing after the last one.
    fn header(&mut self) -> Result<Option<Header>, String> {
        let rest = std::mem::take(&mut self.unread).saturating_add(std::mem::take(&mut self.padding));
        self.input.skip(rest).map_err(unreadable)?;
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(e)),
            }
        }
        if filled < block.len() {
            return Err("the archive is cut off: it has no end mark".into());
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The checksum is the sum of all bytes, in which its own bytes count as spaces.
        let sum =
            block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) });
        match (sum.sum::<u32>(), header.cksum()) {
            (sum, Ok(expected)) if sum == expected => Ok(Some(header)),
            _ => Err("the archive is damaged: a header's checksum is wrong".into()),
        }
    }
}

fn unreadable(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the archive is cut off".into(),
        _ => format!("the rest of the archive cannot be read ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn members(bytes: &[u8]) -> Result<Vec<(String, usize)>, String> {
        let mut members = Members::new(Box::new(Cursor::new(bytes.to_vec())));
        let mut found = Vec::new();
        while let Some(member) = members.next()? {
            let content = members.read(1 << 20)?;
            found.push((member.name, content.map_or(usize::MAX, |content| content.len())));
        }
        Ok(found)
    }

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (n, name) in names.iter().enumerate() {
            let mut header = Header::new_gnu();
            header.set_size(n as u64 * 300);
            builder.append_data(&mut header, name, &vec![1; n * 300][..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn short_and_long_names_are_read() {
        let long = format!("{}/{}.jpg", "folder".repeat(30), "é".repeat(60));
        let found = members(&archive(&["a.txt", &long, "b.txt"])).unwrap();
        assert_eq!(found, [("a.txt".into(), 0), (long, 300), ("b.txt".into(), 600)]);

        let mut builder = tar::Builder::new(Vec::new());
        let name = format!("{}.txt", "p".repeat(300));
        builder.append_pax_extensions([("path", name.as_bytes()), ("comment", b"x")]).unwrap();
        let mut header = Header::new_ustar();
        header.set_size(3);
        builder.append_data(&mut header, "short", &b"abc"[..]).unwrap();
        assert_eq!(members(&builder.into_inner().unwrap()).unwrap(), [(name, 3)]);
    }

    #[test]
    fn an_archive_that_is_cut_off_anywhere_is_an_error() {
        let whole = archive(&["a.txt", "b.txt", "c.txt"]);
        let content = whole.len() - 1024;
        for end in 0..content {
            assert!(members(&whole[..end]).unwrap_err().contains("cut off"), "{end}");
        }
        assert_eq!(members(&whole).unwrap().len(), 3);
    }

    #[test]
    fn absurd_sizes_and_damage_do_not_panic() {
        let whole = archive(&["a.txt", "b.txt", &"n".repeat(200)]);
        for size in [1 << 40, u64::MAX, u64::MAX - 511] {
            let mut header = Header::new_gnu();
            header.set_path("a.txt").unwrap();
            header.set_size(size);
            header.set_cksum();
            assert!(members(header.as_bytes()).unwrap_err().contains("cut off"), "{size}");
            header.set_entry_type(EntryType::GNULongName);
            header.set_cksum();
            assert!(members(header.as_bytes()).unwrap_err().contains("claims"), "{size}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            let _ = members(&damaged);
        }
    }
}
