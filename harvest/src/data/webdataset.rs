//! WebDataset: tar archives, compressed or not, in which consecutive members with the same key are a row: images, a
//! caption, and JSON. A row with a missing or an unexpected member is skipped. An archive that is cut off ends with a
//! skipped row that says so.

use super::columns::Columns;
use super::file_kind::{FileKind, is_hidden};
use super::folder::CAPTION_LIMIT;
use super::image::{self, IMAGE_FILE_LIMIT, ImageFile};
use super::json::ROW_LIMIT;
use super::row::FileRows;
use super::row_error::RowError;
use super::tar::{Member, Members};
use super::{fields, input, lenient, text};
use crate::{Error, Result};
use sae_core::error::Hint;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::io::Cursor;
use std::path::Path;

/// Maximum number of members of a row.
const MEMBER_LIMIT: usize = 4096;

/// Maximum number of keys of images without text that are remembered.
const TEXTLESS_LIMIT: usize = 1 << 20;

/// Why members that do not belong together may have the same key.
const KEY_RULE: &str = "because the key ends at the first dot of the name";

/// Checks that a file begins like an archive.
///
/// # Errors
/// The first member cannot be read.
pub(super) fn check(path: &Path) -> Result<()> {
    members(path)?.next().map(drop).map_err(Error::data(path))
}

/// Reads the rows of an archive.
pub(super) fn rows(path: &Path) -> Result<FileRows> {
    Ok(Box::new(Rows::new(members(path)?).map(Ok)))
}

/// Counts the rows of an archive without reading their content.
pub(super) fn count(path: &Path) -> Result<u64> {
    let mut members = members(path)?;
    let (mut rows, mut last) = (0, None);
    loop {
        match members.next() {
            Ok(Some(member)) => {
                let key = split(&member.name).map(|(key, _)| key.to_owned());
                if key.is_some() && key != last {
                    rows += 1;
                    last = key;
                }
            }
            Ok(None) => return Ok(rows),
            // The damage is reported in place of the row in which it occurs.
            Err(_) => return Ok(rows.max(1)),
        }
    }
}

/// How many rows of an archive in memory can be read, and how many cannot. For fuzzing.
pub fn read_archive(bytes: &[u8]) -> (usize, usize) {
    let (good, bad): (Vec<_>, Vec<_>) =
        Rows::new(Members::new(Box::new(Cursor::new(bytes.to_vec())))).partition(Result::is_ok);
    (good.len(), bad.len())
}

fn members(path: &Path) -> Result<Members> {
    Ok(Members::new(input::open(path)?))
}

/// The key of an archive's member with this name. Consecutive members with the same key are a row.
pub fn member_key(name: &str) -> Option<&str> {
    split(name).map(|(key, _)| key)
}

/// The key of a member, and the rest of its name: the base name is divided at its first dot. Hidden files, such as those
/// that macOS adds, do not belong to a row.
fn split(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let base = name.rfind('/').map_or(0, |at| at + 1);
    let dot = base + name[base..].find('.')?;
    let hidden = name.split('/').any(|part| is_hidden(part.as_bytes()));
    (dot > base && !hidden).then(|| (&name[..dot], &name[dot + 1..]))
}

struct Rows {
    members: Members,
    /// The row whose members are being read.
    row: Option<Group>,
    ended: bool,
    /// Keys of rows that had images but no text. Their text may be elsewhere in the archive.
    textless: HashSet<String>,
}

impl Rows {
    fn new(members: Members) -> Self {
        Self { members, row: None, ended: false, textless: HashSet::new() }
    }

    fn finish(&mut self, group: Group) -> Result<Columns, RowError> {
        if group.images.is_empty() && self.textless.contains(&group.key) {
            let cause = format!("the image of the key {} is elsewhere in the archive", group.key);
            let error = RowError::from(format!("{cause}: members of one key must be next to each other"));
            return Err(error.with_hint(Hint::from("sort the members: tar --sort=name")));
        }
        let is_textless = group.json.is_empty() && group.fields.is_empty();
        if is_textless && !group.images.is_empty() && self.textless.len() < TEXTLESS_LIMIT {
            self.textless.insert(group.key.clone());
        }
        group.finish()
    }
}

impl Iterator for Rows {
    type Item = Result<Columns, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let member = self.members.next();
            let Ok(Some(member)) = member else {
                self.ended = true;
                let row = self.row.take();
                return match member {
                    Err(cause) => Some(Err(match row {
                        Some(row) => format!("{cause} (in or after the row {})", row.key).into(),
                        None => cause.into(),
                    })),
                    Ok(_) => row.map(|row| self.finish(row)),
                };
            };
            let Some((key, suffix)) = split(&member.name) else { continue };
            let done = match &self.row {
                Some(row) if row.key == key => None,
                _ => self.row.replace(Group::new(key)),
            };
            if let Some(row) = &mut self.row
                && let Err(error) = row.add(suffix, &member, &mut self.members)
            {
                // If the archive is cut off here, the attempt to read the next member reports it again.
                row.failed.get_or_insert(error);
            }
            if let Some(done) = done {
                return Some(self.finish(done));
            }
        }
        None
    }
}

/// The members with the same key.
struct Group {
    key: String,
    /// Columns of JSON members. Those of other members take precedence.
    json: Map<String, Value>,
    /// Columns of other members.
    fields: Map<String, Value>,
    /// Images, each with the part of its suffix before the last dot.
    images: Vec<(String, ImageFile)>,
    /// The suffixes of the members so far.
    seen: Vec<String>,
    /// Size of the content that is in memory, in bytes.
    bytes: u64,
    /// Why the row cannot be used.
    failed: Option<RowError>,
}

impl Group {
    fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            json: Map::new(),
            fields: Map::new(),
            images: Vec::new(),
            seen: Vec::new(),
            bytes: 0,
            failed: None,
        }
    }

    /// Adds a member. `suffix` is its name without the key.
    fn add(&mut self, suffix: &str, member: &Member, members: &mut Members) -> Result<(), RowError> {
        if self.failed.is_some() {
            return Ok(());
        }
        if self.seen.len() >= MEMBER_LIMIT {
            return Err(format!("the row has more than {MEMBER_LIMIT} members").into());
        }
        if self.seen.iter().any(|seen| seen.eq_ignore_ascii_case(suffix)) {
            return Err(format!("the row has two members {}", member.name).into());
        }
        self.seen.push(suffix.to_owned());
        let (order, extension) = suffix.rsplit_once('.').unwrap_or(("", suffix));
        let extension = extension.to_ascii_lowercase();
        let kind = FileKind::from_extension(&extension);
        let limit = match (kind, extension.as_str()) {
            (FileKind::Image, _) => IMAGE_FILE_LIMIT,
            (FileKind::OtherImage, _) => return Err(image::unsupported(&member.name)),
            (FileKind::Video | FileKind::Audio, _) => {
                let column = if kind == FileKind::Video { "video" } else { "audio" };
                self.fields.insert(column.into(), member.name.as_str().into());
                return Ok(());
            }
            (_, "json") => ROW_LIMIT as u64,
            _ => CAPTION_LIMIT,
        };
        let content = members.read(limit.min(IMAGE_FILE_LIMIT.saturating_sub(self.bytes)))?;
        let Some(content) = content else {
            // Large members of other types, such as arrays, are ignored.
            let is_needed = kind == FileKind::Image || extension == "json" || extension == "txt";
            if is_needed {
                return Err(format!("a member has {} bytes: {}", member.size, member.name).into());
            }
            return Ok(());
        };
        self.bytes += content.len() as u64;
        if kind == FileKind::Image {
            self.images.push((order.to_owned(), ImageFile::from_bytes(member.name.clone(), content)));
            return Ok(());
        }
        let named = |cause: String| RowError::from(format!("{cause}: {}", member.name));
        match (extension.as_str(), text::decode(content)) {
            ("json", Ok(text)) => match lenient::value(text.as_bytes()).map_err(named)? {
                Value::Object(fields) => self.extend(fields, member)?,
                turns @ Value::Array(_) => drop(self.json.insert("conversations".into(), turns)),
                _ => return Err(named("expected an object or a list of turns in a JSON member".into())),
            },
            ("txt", Ok(text)) => {
                if self.fields.insert("text".into(), text.trim().into()).is_some() {
                    return Err(named(format!("two captions have the key {}, {KEY_RULE}", self.key)));
                }
            }
            (_, Ok(text)) => drop(self.fields.insert(suffix.to_owned(), text.trim().into())),
            ("json" | "txt", Err(cause)) => return Err(named(cause)),
            (_, Err(_)) => {}
        }
        Ok(())
    }

    /// Adds the columns of a JSON member.
    fn extend(&mut self, fields: Map<String, Value>, member: &Member) -> Result<(), RowError> {
        if let Some(name) = fields.keys().find(|name| self.json.contains_key(*name)) {
            let cause = format!("two members have a field {name} and the key {}, {KEY_RULE}", self.key);
            return Err(format!("{cause}: {}", member.name).into());
        }
        self.json.extend(fields);
        Ok(())
    }

    /// The suffix of a member that belongs to only one of several images, which have the same key by accident:
    /// `22.05.000.jpg`, `22.05.000.txt`, `22.05.001.jpg`.
    fn member_of_one_image(&self) -> Option<&str> {
        self.seen.iter().map(String::as_str).find(|suffix| {
            let Some((order, extension)) = suffix.rsplit_once('.') else { return false };
            if FileKind::from_extension(extension) == FileKind::Image {
                return false;
            }
            let (same, other): (Vec<_>, Vec<_>) = self.images.iter().partition(|(image, _)| image == order);
            !same.is_empty() && !other.is_empty()
        })
    }

    /// The columns of the row.
    fn finish(mut self) -> Result<Columns, RowError> {
        if let Some(error) = self.failed {
            return Err(RowError { cause: format!("{} (row {})", error.cause, self.key), ..error });
        }
        if self.images.is_empty() && self.json.is_empty() && self.fields.is_empty() {
            return Err(format!("the row has neither images nor text: {}", self.key).into());
        }
        if let Some(suffix) = self.member_of_one_image() {
            let cause = format!("several images have the key {}, and {suffix} belongs to one of them", self.key);
            return Err(format!("{cause}: {KEY_RULE}").into());
        }
        // If all images are numbered, their numbers determine the order, so that 10 does not come before 2.
        let numbers = self.images.iter().map(|(order, _)| order.parse::<u64>()).collect::<Result<Vec<_>, _>>();
        if numbers.is_ok() {
            self.images.sort_by_key(|(order, _)| order.parse::<u64>().unwrap_or_default());
        }
        let mut images: Vec<_> = self.images.into_iter().map(|(_, image)| Some(image)).collect();
        let mut fields = self.json;
        fields.extend(self.fields);
        if let (Some(Value::Array(places)), true) = (fields.get("images"), fields.contains_key("texts")) {
            images = placed(places, images)?;
        }
        fields.insert("__key__".into(), self.key.into());
        let mut columns = Columns { fields, ..Columns::default() };
        if !images.is_empty() {
            // The members take precedence over the images that the JSON names.
            let name = if fields::get(&columns.fields, "images").is_some() { "images" } else { "image" };
            if name == "images" {
                columns.fields.shift_remove("image");
            }
            columns.images.insert(name.into(), images);
        }
        Ok(columns)
    }
}

/// Puts images at the positions of a document at which its JSON names one.
fn placed(places: &[Value], images: Vec<Option<ImageFile>>) -> Result<Vec<Option<ImageFile>>, RowError> {
    let named = places.iter().filter(|place| !place.is_null()).count();
    if images.is_empty() || named == 0 {
        return Ok(images);
    }
    if named != images.len() {
        return Err(format!("the row names {named} images but has {}", images.len()).into());
    }
    let mut images = images.into_iter();
    Ok(places.iter().map(|place| if place.is_null() { None } else { images.next().flatten() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn rows(bytes: Vec<u8>) -> Vec<Result<Columns, RowError>> {
        Rows::new(Members::new(Box::new(Cursor::new(bytes)))).collect()
    }

    #[test]
    fn members_of_a_key_are_a_row() {
        let bytes = archive(&[
            ("a/1.json", br#"{"id": 7, "text": "old", "image": "x.jpg"}"#),
            ("a/1.jpg", b"one"),
            ("a/1.txt", b" a cat \n"),
            ("a/1.cls", b"3"),
            ("a/1.npy", &[0x93, 0xff, 0]),
            ("a/.hidden", b"x"),
            ("README", b"x"),
            ("b/1.10.png", b"ten"),
            ("b/1.2.png", b"two"),
            ("b/1.txt", b"two pictures"),
            ("c.txt", b"alone"),
            ("d.npy", &[0xff]),
        ]);
        let rows = rows(bytes);
        let first = rows[0].as_ref().unwrap();
        let fields = json!({"id": 7, "text": "a cat", "image": "x.jpg", "cls": "3", "__key__": "a/1"});
        assert_eq!((Value::Object(first.fields.clone()), first.key().unwrap().as_str()), (fields, "7"));
        assert_eq!(first.images["image"], [Some(ImageFile::from_bytes("a/1.jpg".into(), b"one".to_vec()))]);
        let paths: Vec<_> =
            rows[1].as_ref().unwrap().images["image"].iter().flatten().map(|i| i.path.as_str()).collect();
        assert_eq!(paths, ["b/1.2.png", "b/1.10.png"]);
        assert!(rows[2].as_ref().unwrap().images.is_empty());
        assert!(rows[3].as_ref().unwrap_err().cause.contains("neither images nor text"));
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn text_that_is_not_next_to_its_image_is_rejected() {
        let bytes =
            archive(&[("1.jpg", b"x"), ("2.jpg", b"x"), ("1.txt", b"one"), ("2.txt", b"two"), ("3.txt", b"three")]);
        let rows = rows(bytes);
        assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, false, true]);
        let error = rows[2].as_ref().unwrap_err();
        assert!(error.cause.contains("next to each other") && error.hint.is_some(), "{error:?}");
    }

    #[test]
    fn keys_end_at_the_first_dot_of_the_base_name() {
        assert_eq!(split("./a.b/c.0.jpg"), Some(("a.b/c", "0.jpg")));
        assert_eq!((split("a.b/c"), split("a/.c.txt"), split("")), (None, None, None));
    }

    #[test]
    fn documents_in_archives_keep_the_order_of_their_images() {
        let json = br#"{"texts": ["a", null, "b"], "images": [null, "p.jpg", null]}"#;
        let rows = rows(archive(&[("1.json", json), ("1.jpg", b"one")]));
        let record = super::super::schema::record(rows[0].clone().unwrap(), None).unwrap();
        assert_eq!(record.turns[0].parts.len(), 3);
        assert_eq!(record.images[0].bytes.as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn a_bad_member_affects_only_its_own_row() {
        let bytes = archive(&[
            ("1.json", b"{nonsense"),
            ("1.jpg", b"x"),
            ("2.jpg", b"x"),
            ("2.txt", b"fine"),
            ("3.txt", &vec![b'x'; CAPTION_LIMIT as usize + 1]),
            ("4.txt", b"one"),
            ("4.txt", b"two"),
            ("5.txt", &[0xff]),
            ("6.txt", b"fine"),
        ]);
        let rows = rows(bytes);
        assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false, false, false, true]);
        let reasons: Vec<_> = rows.iter().filter_map(|row| row.as_ref().err()).collect();
        for (reason, part) in
            reasons.iter().zip(["invalid JSON", "1048577 bytes: 3.txt", "two members 4.txt", "not UTF-8"])
        {
            assert!(reason.cause.contains(part), "{reason}");
        }
    }

    #[test]
    fn an_archive_that_is_cut_off_ends_with_a_skipped_row_that_says_so() {
        let whole = archive(&[("1.jpg", b"x"), ("1.txt", b"a"), ("2.jpg", &[7; 2000]), ("2.txt", b"b")]);
        for end in 512..whole.len() - 1024 {
            let rows = rows(whole[..end].to_vec());
            let last = &rows.last().unwrap().as_ref().unwrap_err().cause;
            assert!(last.contains("cut off") && last.contains("the row"), "{end}: {last}");
            assert!(rows[..rows.len() - 1].iter().all(Result::is_ok), "{end}");
        }
    }
}
