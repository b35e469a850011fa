//! What the writers reject, and how they limit the size of files. `tests/cli` compares their output byte by byte.

use super::*;
use sae_core::store::conversation::{AnswerPair, Turn, TurnPart};
use sae_core::store::sample::Role;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fs;

const PIXEL: &[u8] = b"\x89PNG\r\n\x1a\nnot much of a picture";

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A row with one image that the data set itself contains.
fn row(number: u32, text: &str) -> Row {
    let image =
        Image { name: "".into(), file: "".into(), inside: None, bytes: Some(PIXEL.to_vec()), sha256: sha256(PIXEL) };
    Row {
        number,
        id: format!("id-{number}"),
        source: ("data.jsonl".into(), number.into()),
        score: Some(0.5),
        key: format!("row.{number}"),
        turns: vec![
            Turn { role: Role::User, parts: vec![TurnPart::Image(0), TurnPart::Text(text.into())] },
            chat_json::answer("Yes."),
        ],
        pair: None,
        images: vec![image],
        columns: Map::from_iter([("n".to_owned(), Value::from(number))]),
    }
}

fn write(format: Format, images: Images, shard: u64, rows: &[Row]) -> Result<(tempfile::TempDir, Report)> {
    let dir = tempfile::tempdir().unwrap();
    let sample = |row: &Row| sae_core::store::sample::Sample {
        id: row.id.clone(),
        key: row.key.clone(),
        text: String::new(),
        images: vec![],
        source: String::new(),
        meta: Value::Object(row.columns.clone()),
        piece: None,
    };
    // There are no files from which columns could be read.
    let shape = Shape::new(&rows.iter().map(sample).collect::<Vec<_>>(), Some("pmi"));
    let job = Job {
        format,
        root: Path::new("unused"),
        images,
        linked: None,
        shard,
        mapped: &[],
        division: verbatim::tests::DIVISION,
    };
    let mut writer = Writer::new(&job, dir.path(), &shape)?;
    rows.iter().try_for_each(|row| writer.push(row.clone()))?;
    Ok((dir, writer.finish()?))
}

#[test]
fn images_inside_of_the_data_become_files_once() {
    let (dir, written) = write(Format::Jsonl, Images::Copy, 1, &[row(0, "a"), row(1, "b")]).unwrap();
    assert_eq!(written.written, Written { rows: 2, images: 1 });
    let text = fs::read_to_string(dir.path().join("data.jsonl")).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let image = first["images"][0].as_str().unwrap();
    assert!(image.starts_with("images/") && image.ends_with(".png"), "{image}");
    assert_eq!(fs::read(dir.path().join(image)).unwrap(), PIXEL);
    assert_eq!(first["messages"][0]["content"], json!([{"type": "image"}, {"type": "text", "text": "a"}]));
    let columns = [&first["n"], &first["sample_id"], &first["pmi"]];
    assert_eq!(columns, [&json!(0), &json!("id-0"), &json!(0.5)]);
}

#[test]
fn files_end_when_they_are_large_enough() {
    let rows: Vec<_> = (0..5).map(|n| row(n, "a")).collect();
    let (dir, _) = write(Format::Webdataset, Images::Copy, 4096, &rows).unwrap();
    let archive = |n: usize| fs::read(dir.path().join(format!("data-{n:05}.tar"))).unwrap();
    // A row has four blocks, so two rows reach the limit.
    assert_eq!([0, 1, 2].map(|n| archive(n).len()), [5120, 5120, 3072]);
    assert!(!dir.path().join("data-00003.tar").exists());

    let chosen = [0, 1].into();
    let copy = dir.path().join("copy.tar");
    assert_eq!(
        archive::copy_rows(&dir.path().join("data-00000.tar"), &chosen, &copy, verbatim::tests::DIVISION.member_key)
            .unwrap(),
        2
    );
    assert_eq!(fs::read(&copy).unwrap(), archive(0), "archives are copied as they stand");
    assert_eq!(
        archive::copy_rows(
            &dir.path().join("data-00001.tar"),
            &[1].into(),
            &copy,
            verbatim::tests::DIVISION.member_key
        )
        .unwrap(),
        1
    );
    assert!(fs::read(&copy).unwrap().starts_with(b"000000003.json"));
}

#[test]
fn what_a_format_cannot_express_is_rejected_with_a_hint() {
    let refused = |format, images, rows: &[Row]| write(format, images, 1 << 20, rows).unwrap_err().message();
    let marked = refused(Format::Llava, Images::Copy, &[row(0, "an <image> of words")]);
    assert!(marked.contains("row.0") && marked.contains("hint"), "{marked}");
    let held = refused(Format::Jsonl, Images::Reference, &[row(0, "a")]);
    assert!(held.contains("hint: set the handling of images to copy"), "{held}");
    assert!(refused(Format::Webdataset, Images::Reference, &[]).contains("images to copy"));
    let alone = Row { turns: vec![Turn { role: Role::User, parts: vec![TurnPart::Image(0)] }], ..row(0, "a") };
    assert!(refused(Format::Trl, Images::Copy, &[alone]).contains("does not end in an answer"));
    let mut system = row(0, "a");
    system.turns.insert(0, Turn { role: Role::System, parts: vec![TurnPart::Text("Be brief.".into())] });
    assert!(refused(Format::Llava, Images::Copy, &[system]).contains("system turn"));
    let pair = Row { pair: Some(AnswerPair { chosen: "x".into(), rejected: "y".into() }), ..row(1, "a") };
    for format in [Format::Parquet, Format::Trl] {
        assert!(
            refused(format, Images::Copy, &[row(0, "a"), pair.clone()])
                .contains("hint: set the output format to jsonl")
        );
    }
    let mut changed = row(0, "a");
    changed.images[0].bytes = Some(b"other".to_vec());
    assert!(refused(Format::Parquet, Images::Copy, &[changed]).contains("has changed"));
    let mut link = row(0, "a");
    link.images[0] = Image { name: "https://example.org/a.png".into(), bytes: None, ..link.images[0].clone() };
    assert!(
        refused(Format::Jsonl, Images::Copy, &[link.clone()]).contains("hint: set the handling of images to reference")
    );
    let (dir, _) = write(Format::Jsonl, Images::Reference, 1, &[link]).unwrap();
    assert!(fs::read_to_string(dir.path().join("data.jsonl")).unwrap().contains("\"https://example.org/a.png\""));
}

#[test]
fn names_that_lead_out_of_the_folder_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.png"), PIXEL).unwrap();
    let mut outside = row(0, "a");
    outside.images[0] = Image {
        name: "../../a.png".into(),
        file: dir.path().join("a.png"),
        inside: None,
        bytes: None,
        sha256: sha256(PIXEL),
    };
    let (out, written) = write(Format::Sharegpt, Images::Copy, 1, &[outside]).unwrap();
    assert_eq!(written.written.images, 1);
    assert_eq!(fs::read_dir(out.path().join("images")).unwrap().count(), 1);
}

#[test]
fn archives_with_different_kinds_of_images_are_noted() {
    let mut jpeg = row(1, "a");
    let bytes = b"\xff\xd8\xffnot much of a picture either".to_vec();
    jpeg.images[0] = Image { sha256: sha256(&bytes), bytes: Some(bytes), ..jpeg.images[0].clone() };
    let (_dir, report) = write(Format::Webdataset, Images::Copy, 1 << 20, &[row(0, "a"), jpeg, row(2, "a")]).unwrap();
    let note = &report.contents.notes[0];
    assert!(
        note.contains("row.0 has png; row row.1 has jpg") || note.contains("row.1 has jpg; row row.0 has png"),
        "{note}"
    );
    let (_dir, report) = write(Format::Webdataset, Images::Copy, 1 << 20, &[row(0, "a"), row(2, "a")]).unwrap();
    assert!(report.contents.notes.is_empty());
}

#[test]
fn a_name_that_is_not_utf_8_is_replaced() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let name = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9.png"));
    fs::write(dir.path().join(name), PIXEL).unwrap();
    let file = dir.path().join(name);
    let image = Image { name: name.into(), inside: below(dir.path(), &file), file, bytes: None, sha256: sha256(PIXEL) };
    let named = Row { images: vec![image], ..row(0, "a") };
    let (out, _) = write(Format::Jsonl, Images::Copy, 1, std::slice::from_ref(&named)).unwrap();
    assert_eq!(fs::read_dir(out.path().join("images")).unwrap().count(), 1);
}

#[test]
fn no_rows_give_an_empty_file() {
    for (format, file) in [(Format::Parquet, "data-00000.parquet"), (Format::Webdataset, "data-00000.tar")] {
        let (dir, written) = write(format, Images::Copy, 1, &[]).unwrap();
        assert!(dir.path().join(file).exists() && written.written == Written::default());
    }
    let (dir, _) = write(Format::Llava, Images::Copy, 1, &[]).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("llava.json")).unwrap(), "[]\n");
}

#[test]
fn damaged_archives_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a.tar"), dir.path().join("b.tar"));
    let mut header = [0u8; 512];
    header[..6].copy_from_slice(b"a.json");
    header[156] = b'0';
    for size in [&b"77777777777\0"[..], b"nonsense...\0", &[0xff; 12]] {
        header[124..136].copy_from_slice(size);
        fs::write(&from, header).unwrap();
        assert!(archive::copy_rows(&from, &[0].into(), &to, verbatim::tests::DIVISION.member_key).is_err(), "{size:?}");
    }
}
