//! WebDataset: tar archives, packed or not, whose members of one key are a row: images, a caption, JSON. What a row lacks
//! or has too much of costs that row; an archive that is cut off ends in a row that says so.

use super::columns::Columns;
use super::file_kind::{FileKind, is_hidden};
use super::folder::CAPTION_LIMIT;
use super::image::{IMAGE_FILE_LIMIT, ImageFile};
use super::json::ROW_LIMIT;
use super::source::FileRows;
use super::tar::{Member, Members};
use super::{fields, input, lenient, text};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::io::Cursor;
use std::path::Path;

/// Members of the largest row.
const MEMBER_LIMIT: usize = 4096;

/// Keys of images without a word that are remembered.
const WORDLESS_LIMIT: usize = 1 << 20;

/// Why members that do not belong together have one key.
const CUT: &str = "because names are cut at their first dot";

/// Makes sure that a file begins as an archive does.
pub(super) fn check(path: &Path) -> Result<()> {
    members(path)?.next().map(drop).map_err(Error::data(path))
}

/// The rows of an archive.
pub(super) fn rows(path: &Path) -> Result<FileRows> {
    Ok(Box::new(Rows::new(members(path)?).map(Ok)))
}

/// The number of rows of an archive, without reading what they hold.
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
            // What is wrong is told in place of the row that it ends.
            Err(_) => return Ok(rows.max(1)),
        }
    }
}

/// How many rows of an archive in memory can be read, and how many cannot: for fuzzing.
pub fn read_archive(bytes: &[u8]) -> (usize, usize) {
    let (good, bad): (Vec<_>, Vec<_>) =
        Rows::new(Members::new(Box::new(Cursor::new(bytes.to_vec())))).partition(Result::is_ok);
    (good.len(), bad.len())
}

fn members(path: &Path) -> Result<Members> {
    Ok(Members::new(input::open(path)?))
}

/// The key of an archive's member of this name; members of one key in sequence are a row.
pub fn member_key(name: &str) -> Option<&str> {
    split(name).map(|(key, _)| key)
}

/// A member's key, and what of it this is: the base name is cut at its first dot. Hidden files belong to no row, nor do
/// those that macOS adds.
fn split(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let base = name.rfind('/').map_or(0, |at| at + 1);
    let dot = base + name[base..].find('.')?;
    let hidden = name.split('/').any(|part| is_hidden(part.as_bytes()));
    (dot > base && !hidden).then(|| (&name[..dot], &name[dot + 1..]))
}

struct Rows {
    members: Members,
    row: Option<Group>,
    ended: bool,
    /// Keys of rows that were images without a word: what is said about them may lie further on.
    wordless: HashSet<String>,
}

impl Rows {
    fn new(members: Members) -> Self {
        Self { members, row: None, ended: false, wordless: HashSet::new() }
    }

    fn finish(&mut self, group: Group) -> Result<Columns, String> {
        if group.images.is_empty() && self.wordless.contains(&group.key) {
            let cause = format!("the image of the key {} is elsewhere in the archive", group.key);
            return Err(format!("{cause}: members of one key must be next to each other\nhint: tar --sort=name"));
        }
        let wordless = group.json.is_empty() && group.fields.is_empty();
        if wordless && !group.images.is_empty() && self.wordless.len() < WORDLESS_LIMIT {
            self.wordless.insert(group.key.clone());
        }
        group.finish()
    }
}

impl Iterator for Rows {
    type Item = Result<Columns, String>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let member = self.members.next();
            let Ok(Some(member)) = member else {
                self.ended = true;
                let row = self.row.take();
                return match member {
                    Err(reason) => Some(Err(match row {
                        Some(row) => format!("{reason} (in or after the row {})", row.key),
                        None => reason,
                    })),
                    Ok(_) => row.map(|row| self.finish(row)),
                };
            };
            let Some((key, what)) = split(&member.name) else { continue };
            let done = match &self.row {
                Some(row) if row.key == key => None,
                _ => self.row.replace(Group::new(key)),
            };
            if let Some(row) = &mut self.row
                && let Err(reason) = row.add(what, &member, &mut self.members)
            {
                // An archive that ends here says so once more when the next member is asked for.
                row.failed.get_or_insert(reason);
            }
            if let Some(done) = done {
                return Some(self.finish(done));
            }
        }
        None
    }
}

/// The members of one key.
struct Group {
    key: String,
    /// From JSON, which other members overrule.
    json: Map<String, Value>,
    fields: Map<String, Value>,
    /// Pictures with what is before their last dot.
    images: Vec<(String, ImageFile)>,
    seen: Vec<String>,
    /// Bytes that it holds.
    bytes: u64,
    failed: Option<String>,
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

    fn add(&mut self, what: &str, member: &Member, members: &mut Members) -> Result<(), String> {
        if self.failed.is_some() {
            return Ok(());
        }
        if self.seen.len() >= MEMBER_LIMIT {
            return Err(format!("the row has more than {MEMBER_LIMIT} members"));
        }
        if self.seen.iter().any(|seen| seen.eq_ignore_ascii_case(what)) {
            return Err(format!("the row has two members {}", member.name));
        }
        self.seen.push(what.to_owned());
        let (order, extension) = what.rsplit_once('.').unwrap_or(("", what));
        let extension = extension.to_ascii_lowercase();
        let kind = FileKind::of_extension(&extension);
        let limit = match (kind, extension.as_str()) {
            (FileKind::Image, _) => IMAGE_FILE_LIMIT,
            (FileKind::OtherImage, _) => {
                return Err(format!("images of this kind are not read: {}\nhint: convert them to PNG", member.name));
            }
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
            // Arrays and the like are nothing that is read here.
            let needed = kind == FileKind::Image || extension == "json" || extension == "txt";
            return match needed {
                true => Err(format!("a member has {} bytes: {}", member.size, member.name)),
                false => Ok(()),
            };
        };
        self.bytes += content.len() as u64;
        if kind == FileKind::Image {
            self.images.push((order.to_owned(), ImageFile::held(member.name.clone(), content)));
            return Ok(());
        }
        let named = |reason: String| format!("{reason}: {}", member.name);
        match (extension.as_str(), text::decode(content)) {
            ("json", Ok(text)) => match lenient::value(text.as_bytes()).map_err(named)? {
                Value::Object(fields) => self.extend(fields, member)?,
                turns @ Value::Array(_) => drop(self.json.insert("conversations".into(), turns)),
                _ => return Err(named("a member is neither an object nor turns".into())),
            },
            ("txt", Ok(text)) => {
                if self.fields.insert("text".into(), text.trim().into()).is_some() {
                    return Err(named(format!("two captions have the key {}, {CUT}", self.key)));
                }
            }
            (_, Ok(text)) => drop(self.fields.insert(what.to_owned(), text.trim().into())),
            ("json" | "txt", Err(reason)) => return Err(named(reason)),
            (_, Err(_)) => {}
        }
        Ok(())
    }

    /// Adds the columns of a JSON member.
    fn extend(&mut self, fields: Map<String, Value>, member: &Member) -> Result<(), String> {
        if let Some(twice) = fields.keys().find(|name| self.json.contains_key(*name)) {
            return Err(format!("two members have a field {twice} and the key {}, {CUT}: {}", self.key, member.name));
        }
        self.json.extend(fields);
        Ok(())
    }

    /// A member whose name says that it belongs to one of several images, which share a key by accident:
    /// `22.05.000.jpg`, `22.05.000.txt`, `22.05.001.jpg`.
    fn stray(&self) -> Option<&str> {
        let order = |what: &str| what.rsplit_once('.').map(|(order, _)| order.to_owned());
        self.seen.iter().map(String::as_str).find(|what| {
            let of_image = FileKind::of_extension(what.rsplit('.').next().unwrap_or_default()) == FileKind::Image;
            order(what).filter(|_| !of_image).is_some_and(|own| {
                let (same, other): (Vec<_>, Vec<_>) = self.images.iter().partition(|(image, _)| *image == own);
                !same.is_empty() && !other.is_empty()
            })
        })
    }

    fn finish(mut self) -> Result<Columns, String> {
        if let Some(reason) = self.failed {
            return Err(format!("{reason} (row {})", self.key));
        }
        if self.images.is_empty() && self.json.is_empty() && self.fields.is_empty() {
            return Err(format!("the row has neither images nor text: {}", self.key));
        }
        if let Some(member) = self.stray() {
            return Err(format!(
                "several images have the key {}, and {member} belongs to one of them: {CUT}",
                self.key
            ));
        }
        // Numbered ones by their numbers, so that 10 does not come before 2; others as they lie there.
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
            // The members count, whatever the JSON calls them.
            let name = if fields::get(&columns.fields, "images").is_some() { "images" } else { "image" };
            if name == "images" {
                columns.fields.shift_remove("image");
            }
            columns.images.insert(name.into(), images);
        }
        Ok(columns)
    }
}

/// Images at the places where a document's JSON names one.
fn placed(places: &[Value], images: Vec<Option<ImageFile>>) -> Result<Vec<Option<ImageFile>>, String> {
    let named = places.iter().filter(|place| !place.is_null()).count();
    if images.is_empty() || named == 0 {
        return Ok(images);
    }
    if named != images.len() {
        return Err(format!("the row names {named} pictures and has {}", images.len()));
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

    fn rows(bytes: Vec<u8>) -> Vec<Result<Columns, String>> {
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
        assert_eq!(first.images["image"], [Some(ImageFile::held("a/1.jpg".into(), b"one".to_vec()))]);
        let paths: Vec<_> =
            rows[1].as_ref().unwrap().images["image"].iter().flatten().map(|i| i.path.as_str()).collect();
        assert_eq!(paths, ["b/1.2.png", "b/1.10.png"]);
        assert!(rows[2].as_ref().unwrap().images.is_empty());
        assert!(rows[3].as_ref().unwrap_err().contains("neither images nor text"));
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn members_of_a_key_that_lie_apart_are_no_text() {
        let bytes =
            archive(&[("1.jpg", b"x"), ("2.jpg", b"x"), ("1.txt", b"one"), ("2.txt", b"two"), ("3.txt", b"three")]);
        let rows = rows(bytes);
        assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, false, true]);
        assert!(rows[2].as_ref().unwrap_err().contains("next to each other"), "{:?}", rows[2]);
    }

    #[test]
    fn keys_are_cut_at_the_first_dot_of_the_last_part() {
        assert_eq!(split("./a.b/c.0.jpg"), Some(("a.b/c", "0.jpg")));
        assert_eq!((split("a.b/c"), split("a/.c.txt"), split("")), (None, None, None));
    }

    #[test]
    fn documents_in_archives_keep_their_order() {
        let json = br#"{"texts": ["a", null, "b"], "images": [null, "p.jpg", null]}"#;
        let rows = rows(archive(&[("1.json", json), ("1.jpg", b"one")]));
        let record = super::super::schema::understand(rows[0].clone().unwrap()).unwrap();
        assert_eq!(record.turns[0].parts.len(), 3);
        assert_eq!(record.images[0].bytes.as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn bad_members_cost_their_row_alone() {
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
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn an_archive_that_is_cut_off_ends_in_a_row_that_says_so() {
        let whole = archive(&[("1.jpg", b"x"), ("1.txt", b"a"), ("2.jpg", &[7; 2000]), ("2.txt", b"b")]);
        for end in 512..whole.len() - 1024 {
            let rows = rows(whole[..end].to_vec());
            let last = rows.last().unwrap().as_ref().unwrap_err();
            assert!(last.contains("cut off") && last.contains("the row"), "{end}: {last}");
            assert!(rows[..rows.len() - 1].iter().all(Result::is_ok), "{end}");
        }
    }
}
