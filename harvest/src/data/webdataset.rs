//! WebDataset: tar archives, packed or not, whose members of one key are a row - pictures, a caption, JSON. What a row
//! lacks or has too much of is that row's affair; an archive that is cut off ends in a row that says so.

use super::columns::Columns;
use super::folder::{CAPTION_LIMIT, is_image};
use super::image::{IMAGE_FILE_LIMIT, ImageFile};
use super::json::ROW_LIMIT;
use super::source::FileRows;
use super::tar::{Input, Member, Members};
use crate::{Error, Result};
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::Path;

/// Members of the largest row.
const MEMBER_LIMIT: usize = 4096;

/// Whether a file's name is one of an archive.
pub(super) fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|extension| name.ends_with(extension))
}

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
    let file = BufReader::with_capacity(1 << 16, File::open(path).map_err(Error::io("open", path))?);
    let packed = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz") || e.eq_ignore_ascii_case("tgz"));
    let input: Box<dyn Input> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(Members::new(input))
}

/// A member's key, and what of it this is: the base name is cut at its first dot. Hidden files belong to no row.
fn split(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let base = name.rfind('/').map_or(0, |at| at + 1);
    let dot = base + name[base..].find('.')?;
    (dot > base).then(|| (&name[..dot], &name[dot + 1..]))
}

struct Rows {
    members: Members,
    row: Option<Group>,
    ended: bool,
    /// Whether the first row had a picture: where others have none, it is missing.
    pictured: Option<bool>,
}

impl Rows {
    fn new(members: Members) -> Self {
        Self { members, row: None, ended: false, pictured: None }
    }

    fn finish(&mut self, group: Group) -> Result<Columns, String> {
        let mut columns = group.finish()?;
        let pictured = !columns.images.is_empty();
        if *self.pictured.get_or_insert(pictured) && !pictured {
            columns.images.insert("image".into(), Vec::new());
        }
        Ok(columns)
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
                        Some(row) => format!("{reason} (in or behind the row {})", row.key),
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
        if self.seen.iter().any(|seen| seen == what) {
            return Err(format!("the row has two members {}", member.name));
        }
        self.seen.push(what.to_owned());
        let kind = what.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let image = is_image(Path::new(&member.name));
        let limit = match kind.as_str() {
            _ if image => IMAGE_FILE_LIMIT,
            "json" => ROW_LIMIT as u64,
            _ => CAPTION_LIMIT,
        };
        let content = members.read(limit.min(IMAGE_FILE_LIMIT.saturating_sub(self.bytes)))?;
        let Some(content) = content else {
            // Sounds, arrays and films are nothing that is read here.
            let needed = image || kind == "json" || kind == "txt";
            return match needed {
                true => Err(format!("a member has {} bytes: {}", member.size, member.name)),
                false => Ok(()),
            };
        };
        self.bytes += content.len() as u64;
        if image {
            let order = what.rsplit_once('.').map_or("", |(order, _)| order).to_owned();
            self.images.push((order, ImageFile::held(member.name.clone(), content)));
            return Ok(());
        }
        match (kind.as_str(), String::from_utf8(content)) {
            ("json", Ok(text)) => match serde_json::from_str(&text) {
                Ok(Value::Object(fields)) => self.json.extend(fields),
                Ok(turns @ Value::Array(_)) => drop(self.json.insert("conversations".into(), turns)),
                Ok(_) => return Err(format!("a member is neither an object nor turns: {}", member.name)),
                Err(e) => return Err(format!("a member is no JSON ({e}): {}", member.name)),
            },
            ("txt", Ok(text)) => drop(self.fields.insert("text".into(), text.trim().into())),
            (_, Ok(text)) => drop(self.fields.insert(what.to_owned(), text.trim().into())),
            ("json" | "txt", Err(_)) => return Err(format!("a member is no UTF-8: {}", member.name)),
            (_, Err(_)) => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Columns, String> {
        if let Some(reason) = self.failed {
            return Err(format!("{reason} (row {})", self.key));
        }
        if self.images.is_empty() && self.json.is_empty() && self.fields.is_empty() {
            return Err(format!("the row has neither pictures nor text: {}", self.key));
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
        let images = if images.is_empty() { None } else { Some(("image".to_owned(), images)) };
        Ok(Columns { fields, images: images.into_iter().collect() })
    }
}

/// Pictures at the places where a document's JSON names one.
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
        assert!(rows[2].as_ref().unwrap().images["image"].is_empty(), "its picture is missing");
        assert!(rows[3].as_ref().unwrap_err().contains("neither pictures nor text"));
        assert_eq!(rows.len(), 4);
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
        for (reason, part) in reasons.iter().zip(["no JSON", "1048577 bytes: 3.txt", "two members 4.txt", "no UTF-8"]) {
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
