//! Files and folders of data sets that other programs wrote: which files of a folder are read, formats, names and types. The
//! expected values in `tests/golden/data` are those of `datasets`, pyarrow and webdataset (`tests/golden/make_data.py`).

use crate::golden::repository;
use harvest::data::{Mapping, Source};
use sae_core::error::message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::Path;

/// The content of a row: its text, the SHA-256 of its images, and its other columns; or the reason why it is skipped.
pub type Said = Result<(String, Vec<String>, Value), String>;

pub fn said(source: &Source) -> Vec<Said> {
    let rows = source.rows(&Mapping::new()).unwrap().map(|row| row.unwrap());
    let said = rows.map(|row| {
        let record = row.record.map_err(|error| message(&error, error.hint.clone()))?;
        let images = record
            .images
            .iter()
            .map(|image| Ok(sha(&image.read().map_err(|error| error.cause)?)))
            .collect::<Result<_, String>>()?;
        let text: Vec<_> = record.turns.iter().map(|turn| turn.text()).filter(|text| !text.is_empty()).collect();
        Ok((text.join("\n"), images, record.meta))
    });
    said.collect()
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rows of a data set with its notes. Asserts that there are as many rows as it counts.
pub fn read(path: &Path) -> (Vec<Said>, Vec<String>) {
    let source = Source::open(path).unwrap();
    let rows = said(&source);
    assert_eq!(source.count().unwrap(), rows.len() as u64, "{}", path.display());
    (rows, source.notes.take())
}

/// The text and the number of images of each row. Asserts that no row is skipped.
pub fn texts(path: &Path) -> Vec<(String, usize)> {
    read(path).0.into_iter().map(|row| row.unwrap()).map(|(text, images, _)| (text, images.len())).collect()
}

pub fn reasons(path: &Path) -> Vec<String> {
    read(path).0.into_iter().filter_map(Result::err).collect()
}

pub fn refusal(path: &Path) -> String {
    let source = Source::open(path).map_err(|error| error.message());
    source.map(|source| source.files).unwrap_err()
}

/// One of the bundled images.
pub fn image(n: usize) -> Vec<u8> {
    let name = ["fluent-1f18e.png", "fluent-1f197.png"][n % 2];
    fs::read(repository().join("assets/demo-data/images").join(name)).unwrap()
}

/// Writes files to a new folder.
pub fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

pub fn pair(text: &str, images: usize) -> (String, usize) {
    (text.to_owned(), images)
}

pub fn archive(members: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_old();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn files_of_other_programs_are_read_as_by_those_programs() {
    let root = repository().join("tests/golden/data");
    let expected: Value = serde_json::from_slice(&fs::read(root.join("expected.json")).unwrap()).unwrap();
    for (name, rows) in expected.as_object().unwrap() {
        let (found, _) = read(&root.join(name));
        let rows = rows.as_array().unwrap();
        assert_eq!(found.len(), rows.len(), "{name}: {found:?}");
        for (row, found) in rows.iter().zip(found) {
            let (text, images, meta) = found.unwrap_or_else(|reason| panic!("{name}: {reason}"));
            assert_eq!((json!(text), json!(images)), (row["text"].clone(), row["images"].clone()), "{name}");
            for (column, value) in row["meta"].as_object().unwrap() {
                assert_eq!(&meta[column], value, "{name}, column {column}");
            }
            assert_eq!(meta.as_object().unwrap().len(), row["meta"].as_object().unwrap().len(), "{name}: {meta}");
        }
    }
}

#[test]
fn values_that_json_cannot_express_are_reported_once_per_column() {
    let (_, notes) = read(&repository().join("tests/golden/data/types/all.parquet"));
    for column in ["column embedding: ", "column f32 (Float32): ", "column f64 (Float64): "] {
        assert_eq!(notes.iter().filter(|note| note.starts_with(column)).count(), 1, "{column}: {notes:?}");
    }
    assert_eq!(notes.len(), 3, "{notes:?}");
}

#[test]
fn a_card_names_the_files_of_the_data() {
    let row = |text: &str| format!("{{\"text\": \"{text}\"}}").into_bytes();
    let files: [(&str, Vec<u8>); 3] =
        [("en/a.jsonl", row("en")), ("de/a.jsonl", row("de")), ("extra.jsonl", row("extra"))];
    let with = |card: &str| {
        let files: Vec<_> = files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
        folder(&[&files[..], &[("README.md", card.as_bytes())]].concat())
    };
    let only = |texts: Vec<(String, usize)>| texts.into_iter().map(|(text, _)| text).collect::<Vec<_>>();
    let one = with("---\nconfigs:\n- config_name: default\n  data_files: \"en/*.jsonl\"\n---\n");
    assert_eq!(only(texts(one.path())), ["en"]);
    let two = "---\nconfigs:\n- config_name: en\n  data_files: en/*\n- config_name: de\n  data_dir: de\n---\n";
    let both = with(two);
    assert_eq!(only(texts(both.path())), ["de", "en", "extra"]);
    assert!(read(both.path()).1[0].contains("configurations en, de"));
    let default = with(&two.replace("data_dir: de", "data_dir: de\n  default: true"));
    assert_eq!(only(texts(default.path())), ["de"]);
    assert!(read(default.path()).1[0].contains("not en"));
}

#[test]
fn columns_keep_their_order_in_meta() {
    let dir = folder(&[
        ("a.csv", b"z,text,m,a,k\n1,t,2,3,4\n"),
        ("b.jsonl", br#"{"z": 1, "text": "t", "m": 2, "a": 3, "k": 4}"#),
    ]);
    for name in ["a.csv", "b.jsonl"] {
        let (rows, _) = read(&dir.path().join(name));
        let (_, _, meta) = rows[0].clone().unwrap();
        assert_eq!(meta.as_object().unwrap().keys().collect::<Vec<_>>(), ["z", "m", "a", "k"], "{name}");
    }
}

#[test]
fn splits_of_a_repository_are_read_together_and_reported() {
    let (_, notes) = read(&repository().join("tests/golden/data/hub"));
    assert!(notes[0].starts_with("read together: train (1 file), test (1 file)"), "{notes:?}");
    let (_, notes) = read(&repository().join("tests/golden/data/saved/splits"));
    assert!(notes[0].starts_with("read together: train (1 file), test (1 file)"), "{notes:?}");
}

#[test]
fn images_with_other_columns_keep_their_images() {
    let dir = folder(&[
        ("0.png", &image(0)),
        ("0.json", br#"{"text": "zero", "topic": "x"}"#),
        ("1.png", &image(1)),
        ("1.json", "\u{feff}{\"text\": \"one\"}".as_bytes()),
    ]);
    assert_eq!(texts(dir.path()), [pair("zero", 1), pair("one", 1)]);
}

#[test]
fn images_with_captions_in_nested_folders_are_one_data_set() {
    let dir = folder(&[
        ("b/x/0.png", &image(0)),
        ("b/x/0.txt", "\u{feff}deep\r\n".as_bytes()),
        ("a/1.JPG", &image(1)),
        ("a/1.TXT", b"upper case"),
        ("2.jfif", &image(0)),
        ("2.txt", b"top"),
    ]);
    assert_eq!(texts(dir.path()), [pair("top", 1), pair("upper case", 1), pair("deep", 1)]);
}

#[test]
fn files_that_describe_data_are_not_data() {
    let row = br#"{"image": "0.png", "text": "zero"}"#;
    for name in [
        "dataset_infos.json",
        "dataset_info.json",
        "state.json",
        "config.json",
        "manifest.json",
        "decisions.csv",
        "00000_stats.json",
        "README.md",
        "LICENSE",
        ".gitattributes",
        "Thumbs.db",
        "_SUCCESS",
        ".a.jsonl.crc",
        "__MACOSX/._a.jsonl",
    ] {
        let dir = folder(&[("data/a.jsonl", row), ("data/0.png", &image(0)), (name, br#"{"a": 1}"#)]);
        assert_eq!(texts(dir.path()), [pair("zero", 1)], "{name}");
        assert_eq!(read(dir.path()).1, Vec::<String>::new(), "{name}");
        let dir = folder(&[("0.txt", b"zero"), ("0.png", &image(0)), (name, br#"{"a": 1}"#)]);
        assert_eq!(texts(dir.path()), [pair("zero", 1)], "{name}");
    }
    let dir = folder(&[("manifest.json", br#"{"a": 1}"#)]);
    assert!(refusal(dir.path()).contains("manifest.json"), "{}", refusal(dir.path()));
    assert!(refusal(folder(&[]).path()).contains("it is empty"));
}

#[test]
fn a_run_next_to_its_data_is_not_part_of_it() {
    let dir = folder(&[("a.jsonl", br#"{"text": "one"}"#)]);
    sae_core::Run::create(&dir.path().join("run")).unwrap();
    fs::copy(repository().join("tests/golden/data/codecs/none.parquet"), dir.path().join("run/samples.parquet"))
        .unwrap();
    assert_eq!(texts(dir.path()), [pair("one", 0)]);
    assert!(refusal(&dir.path().join("run")).contains("folder of a run"));
}

#[test]
fn folders_that_a_filter_wrote_are_not_part_of_the_data_around_them() {
    let (row, manifest) = (br#"{"text": "one"}"#, br#"{"program": "sae 0.1.0", "data": "data"}"#);
    let dir = folder(&[
        ("a.jsonl", row),
        ("kept/data/a.jsonl", row),
        ("kept/README.md", b"---\nconfigs:\n- config_name: default\n  data_files: \"data/*\"\n---\n"),
        ("kept/decisions.csv", b"sample,stays\n0,true\n"),
        ("kept/manifest.json", manifest),
        ("rest/dropped/data/a.jsonl", row),
        ("rest/dropped/manifest.json", manifest),
    ]);
    assert_eq!(texts(dir.path()), [pair("one", 0)]);
    let (_, notes) = read(dir.path());
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("not read: kept and 1 more") && notes[0].contains("sae filter"), "{notes:?}");
    for kept in ["kept", "kept/data"] {
        assert_eq!(texts(&dir.path().join(kept)), [pair("one", 0)], "it is read by its own name");
    }
    let said = refusal(&dir.path().join("rest"));
    assert!(said.contains("rows that `sae filter` kept") && said.contains("such as dropped"), "{said}");
    // The manifest of another program has no effect.
    fs::write(dir.path().join("kept/manifest.json"), br#"{"data": "data"}"#).unwrap();
    assert_eq!(texts(dir.path()).len(), 2);
}

#[test]
fn files_that_are_left_out_of_a_folder_are_reported() {
    let row = br#"{"image": "images/0.png", "text": "zero"}"#;
    let dir = folder(&[
        ("a.jsonl", row),
        ("images/0.png", &image(0)),
        ("labels.csv", b"a,b\n1,2\n"),
        ("more.csv", b"a,b\n1,2\n"),
        ("images.zip", b"PK"),
    ]);
    let (rows, notes) = read(dir.path());
    assert!(rows.len() == 1 && rows[0].is_ok());
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("labels.csv and 1 more") && notes[0].contains("a.jsonl"), "{notes:?}");
    assert!(notes[1].contains("images.zip"), "{notes:?}");
}

#[test]
fn one_table_in_two_files_is_reported() {
    let row = br#"{"text": "one"}"#;
    let packed = zstd::encode_all(&row[..], 0).unwrap();
    let dir = folder(&[("a.jsonl", row), ("a.jsonl.zst", &packed)]);
    assert_eq!(texts(dir.path()), [pair("one", 0)]);
    assert!(read(dir.path()).1[0].contains("a.jsonl.zst"));
    let dir = folder(&[("a.jsonl", row), ("a.json", br#"[{"text": "one"}]"#)]);
    assert_eq!(texts(dir.path()).len(), 2);
    assert!(read(dir.path()).1[0].contains("a.json and a.jsonl are both read"));
}

#[test]
fn json_without_rows_is_not_read_next_to_json_with_rows() {
    let dir = folder(&[
        ("a.json", br#"[{"text": "zero"}]"#),
        ("b.jsonl", br#"{"text": "one"}"#),
        ("classes.json", br#"["cat", "dog"]"#),
        ("empty.json", b""),
        ("empty.jsonl", b""),
    ]);
    assert_eq!(texts(dir.path()), [pair("zero", 0), pair("one", 0)]);
    let notes = read(dir.path()).1;
    assert!(notes.len() == 1 && notes[0].contains("classes.json"), "{notes:?}");
}

// img2dataset #31: a table next to an archive lists its content. With `--output_format files`, it is next to the folder.
#[test]
fn tables_of_img2dataset_are_not_rows() {
    let table = fs::read(repository().join("tests/golden/data/saved/stream.arrow")).unwrap();
    let members = archive(&[(b"0.png", &image(0)), (b"0.txt", b"zero"), (b"0.json", br#"{"key": "0"}"#)]);
    let dir = folder(&[("00000.tar", &members), ("00000.arrow", &table), ("00000_stats.json", b"{}")]);
    assert_eq!((texts(dir.path()), read(dir.path()).1), (vec![pair("zero", 1)], Vec::new()));
    let dir = folder(&[
        ("00000.arrow", &table),
        ("00000_stats.json", b"{}"),
        ("00000/0.jpg", &image(0)),
        ("00000/0.txt", b"zero"),
        ("00000/0.json", br#"{"caption": "zero", "key": "0"}"#),
    ]);
    assert_eq!(texts(dir.path()), [pair("zero", 1)]);
    assert!(read(dir.path()).1[0].contains("00000.arrow"));
}

#[test]
fn a_table_that_names_images_takes_precedence_over_captions() {
    let row = br#"{"image": "images/0.png", "conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "zero"}]}"#;
    let dir = folder(&[("train.json", row), ("images/0.png", &image(0)), ("images/0.txt", b"words in the image")]);
    assert_eq!(texts(dir.path()), [pair("zero", 1)]);
}

// datasets #6777: a table with another name next to the images, and the same table in another format.
#[test]
fn one_of_two_formats_of_a_table_is_read() {
    let dir = folder(&[
        ("metadata1000.jsonl", br#"{"caption": "zero", "image": "images/0.png", "padded": "padded/0.png"}"#),
        ("metadata1000.csv", b"caption,image\nzero,images/0.png\n"),
        ("images/0.png", &image(0)),
        ("padded/0.png", &image(1)),
    ]);
    assert_eq!(texts(dir.path()), [pair("zero", 1)]);
    assert!(read(dir.path()).1[0].contains("metadata1000.csv"));
}

// datasets #7337: the metadata table of an image folder with a conversation.
#[test]
fn metadata_of_an_image_folder_may_hold_conversations() {
    let turns = br#"{"id": "x", "file_name": "0.png", "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "zero"}]}"#;
    let dir = folder(&[("metadata.jsonl", turns), ("0.png", &image(0)), ("1.png", &image(1))]);
    assert_eq!(texts(dir.path()), [pair("What?\nzero", 1)]);
    // The table is read in the same way if it is named itself.
    assert_eq!(texts(&dir.path().join("metadata.jsonl")), [pair("What?\nzero", 1)]);
}

// diffusers #3674: `file_name` is relative to another folder than that of the table.
#[test]
fn a_missing_image_skips_its_row_and_its_path_is_named() {
    let dir =
        folder(&[("train/metadata.csv", b"file_name,text\ntrain/0.png,zero\n0.png,one\n"), ("train/0.png", &image(0))]);
    let (rows, _) = read(dir.path());
    assert!(rows[0].as_ref().unwrap_err().contains("0.png"), "{rows:?}");
    assert!(rows[1].is_ok());
}

#[test]
fn wrong_columns_of_an_image_folder_are_named() {
    let dir = folder(&[("metadata.jsonl", br#"{"file_names": "0.png", "text": "zero"}"#), ("0.png", &image(0))]);
    assert!(reasons(dir.path())[0].contains("file_names holds a string"), "{:?}", reasons(dir.path()));
}

#[test]
fn compressed_files_are_read() {
    let lines = b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
    let array = b"[{\"text\": \"one\"}, {\"text\": \"two\"}]";
    let table = b"text,n\none,1\ntwo,2\n";
    let tar = archive(&[(b"0.txt", b"one"), (b"1.txt", b"two")]);
    let gzip = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 0).unwrap();
    let files: [(&str, &[u8]); 4] = [("a.jsonl", lines), ("a.json", array), ("a.csv", table), ("a.tar", &tar)];
    for (name, content) in files {
        for (ending, packed) in [("gz", gzip(content)), ("zst", zstd(content))] {
            let dir = folder(&[(&format!("{name}.{ending}"), &packed)]);
            assert_eq!(texts(dir.path()), [pair("one", 0), pair("two", 0)], "{name}.{ending}");
            // A truncated file ends with an error. An archive ends with a skipped row that says so.
            let path = dir.path().join(format!("{name}.{ending}"));
            fs::write(&path, &packed[..packed.len() / 2]).unwrap();
            let rows =
                Source::open(&path).and_then(|source| source.rows(&Mapping::new())?.collect::<Result<Vec<_>, _>>());
            assert!(rows.map_or(true, |rows| rows.iter().any(|row| row.record.is_err())), "{name}.{ending}");
        }
    }
}

#[test]
fn a_format_is_detected_by_content_if_the_name_is_wrong() {
    let table = fs::read(repository().join("tests/golden/data/types/image-struct.parquet")).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    tar.append_data(&mut header, "0.txt", &b"one"[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    let dir = folder(&[
        ("a.json", &table),
        ("table", &table),
        ("lines.txt", b"{\"text\": \"one\"}\n"),
        ("archive.bin", &tar),
        ("page.parquet", b"<!DOCTYPE html><html></html>"),
        ("empty.parquet", b""),
        ("cut.parquet", &table[..table.len() - 100]),
        ("text.arrow", b"FEA1...."),
        ("empty.arrow", b""),
        ("notes.md", b"# Notes"),
    ]);
    let at = |name: &str| dir.path().join(name);
    for name in ["a.json", "table"] {
        assert_eq!(texts(&at(name)), [pair("one", 1), pair("two", 1)], "{name}");
    }
    assert_eq!(texts(&at("archive.bin")).len(), 1);
    let error = |name: &str| {
        let rows =
            Source::open(&at(name)).and_then(|source| source.rows(&Mapping::new())?.collect::<Result<Vec<_>, _>>());
        rows.map(|rows| rows.len()).unwrap_err().to_string()
    };
    for (name, expected) in [
        ("page.parquet", "not a Parquet file"),
        ("empty.parquet", "is empty"),
        ("cut.parquet", "damaged: it is cut off"),
        ("text.arrow", "expected an Arrow IPC"),
        ("empty.arrow", "is empty"),
        ("notes.md", "unsupported data format"),
    ] {
        assert!(error(name).contains(expected) && error(name).contains(name), "{}", error(name));
    }
}

// GRPO-Zero #1: a repository that was cloned without Git LFS.
#[test]
fn git_lfs_pointers_are_reported() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 146946961\n";
    for name in ["a.parquet", "a.jsonl", "a.json", "a.csv", "a.tar"] {
        let dir = folder(&[(name, pointer)]);
        let source = Source::open(dir.path());
        let error = source.and_then(|source| source.rows(&Mapping::new())?.collect::<Result<Vec<_>, _>>());
        let error = error.map(|rows| rows.len()).unwrap_err().message();
        assert!(error.contains("Git LFS pointer") && error.contains("git lfs pull"), "{name}: {error}");
    }
}

#[test]
fn tables_without_rows_are_accepted() {
    let dir = folder(&[("a.jsonl", b""), ("b.csv", b"text\n")]);
    for name in ["a.jsonl", "b.csv"] {
        assert!(read(&dir.path().join(name)).0.is_empty());
    }
}

// arches #7854: Python's notation in a cell, as pandas writes a column of lists.
#[test]
fn lists_in_a_csv_file_are_json_or_rejected() {
    let rows = "images,conversations\n\"[\"\"0.png\"\"]\",\"[{\"\"from\"\": \"\"human\"\", \"\"value\"\": \"\"<image>one\"\"}]\"\n\
                0.png,\"[{'from': 'human', 'value': 'two'}]\"\n";
    let dir = folder(&[("a.csv", rows.as_bytes()), ("0.png", &image(0))]);
    let (rows, _) = read(&dir.path().join("a.csv"));
    assert_eq!(rows[0].as_ref().map(|(text, images, _)| (text.as_str(), images.len())), Ok(("one", 1)));
    let reason = rows[1].as_ref().unwrap_err();
    assert!(reason.contains("column conversations") && reason.contains("json.dumps"), "{reason}");
}

#[test]
fn members_that_share_a_key_by_accident_are_not_a_sample() {
    let png = image(0);
    let error = |members: &[(&[u8], &[u8])]| {
        let dir = folder(&[("a.tar", &archive(members))]);
        reasons(dir.path()).join("; ")
    };
    let by_text = error(&[
        (b"22.05.000.jpg", &png),
        (b"22.05.000.txt", b"a"),
        (b"22.05.001.jpg", &png),
        (b"22.05.001.txt", b"b"),
    ]);
    assert!(by_text.contains("22") && by_text.contains("first dot"), "{by_text}");
    let by_class = error(&[(b"1.0.jpg", &png), (b"1.0.cls", b"3"), (b"1.1.jpg", &png), (b"1.txt", b"a")]);
    assert!(by_class.contains("0.cls") && by_class.contains("first dot"), "{by_class}");
    let by_json = error(&[(b"1.0.json", br#"{"text": "a"}"#), (b"1.1.json", br#"{"text": "b"}"#)]);
    assert!(by_json.contains("field text"), "{by_json}");
    let by_case = error(&[(b"1.jpg", &png), (b"1.JPG", &png), (b"1.txt", b"a")]);
    assert!(by_case.contains("two members"), "{by_case}");
    // Numbered images and a caption with another name are one row.
    let dir = folder(&[("a.tar", &archive(&[(b"1.0.jpg", &png), (b"1.1.jpg", &png), (b"1.caption.txt", b"both")]))]);
    assert_eq!(texts(dir.path()), [pair("both", 2)]);
}

// root_painter #173: files that macOS adds, and media that no model supports.
#[test]
fn unrelated_members_of_archives_are_not_samples() {
    let png = image(0);
    let dir = folder(&[(
        "a.tar",
        &archive(&[
            (b"./._1.jpg", b"x"),
            (b"./1.jpg", &png),
            (b"./1.txt", b"one"),
            (b"__MACOSX/1.jpg", b"x"),
            (b"a/.hidden/2.txt", b"x"),
            (b"3.mp4", b"x"),
            (b"3.txt", b"a film"),
            (b"4.tif", b"II*\0"),
            (b"4.txt", b"a scan"),
        ]),
    )]);
    let (rows, _) = read(dir.path());
    assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false], "{rows:?}");
    assert!(rows[2].as_ref().unwrap_err().contains("4.tif"), "{rows:?}");
}

#[test]
fn unsupported_and_damaged_images_skip_their_rows() {
    let dir = folder(&[
        ("0.png", &image(0)),
        ("0.txt", b"zero"),
        ("1.tif", b"II*\0"),
        ("1.txt", b"a scan"),
        ("2.png", b""),
        ("2.txt", b"nothing"),
        ("3.png", &image(1)),
        ("4.png", &image(1)),
        ("4.txt", b"caf\xe9"),
    ]);
    let (rows, _) = read(dir.path());
    let good: Vec<_> = rows.iter().map(Result::is_ok).collect();
    // An empty file is read here, and rejected by the decoder.
    assert_eq!(good, [true, false, true, false, false], "{rows:?}");
    let reason = |n: usize| rows[n].as_ref().unwrap_err().as_str();
    assert!(reason(1).contains("1.tif") && reason(3).contains("3.png") && reason(4).contains("4.txt"), "{rows:?}");
}

#[test]
fn damaged_files_end_with_an_error_or_a_skipped_row() {
    let root = repository().join("tests/golden/data");
    for name in [
        "types/all.parquet",
        "types/turns-large.parquet",
        "codecs/lz4.parquet",
        "saved/stream.arrow",
        "saved/file.arrow",
    ] {
        let whole = fs::read(root.join(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(Path::new(name).file_name().unwrap());
        for at in (0..whole.len()).step_by(whole.len() / 400 + 1) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            fs::write(&path, &damaged).unwrap();
            let rows =
                Source::open(&path).and_then(|source| source.rows(&Mapping::new())?.collect::<Result<Vec<_>, _>>());
            drop(rows);
        }
    }
}
