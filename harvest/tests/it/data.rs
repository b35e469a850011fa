//! Data sets in their published forms. The same rows in JSONL, Parquet and tar archives are the same samples, a damaged row is
//! skipped, and links are followed only on request.

use crate::golden::repository;
use crate::server::{Answer, Server};
use arrow::array::{ArrayRef, BinaryArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field;
use harvest::data::{Mapping, Source, TurnPart};
use harvest::{Answers, Checkpoint, Prepared, Templating};
use parquet::arrow::ArrowWriter;
use sae_core::error::message;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Two of the bundled images.
pub const PICTURES: [&str; 2] = ["fluent-1f18e.png", "fluent-1f197.png"];

fn checkpoint() -> Checkpoint {
    Checkpoint::open(&repository().join("assets/demo-mllm")).unwrap()
}

pub fn picture(n: usize) -> Vec<u8> {
    fs::read(repository().join("assets/demo-data/images").join(PICTURES[n])).unwrap()
}

/// A folder with the images.
pub fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (n, name) in PICTURES.iter().enumerate() {
        fs::write(dir.path().join(name), picture(n)).unwrap();
    }
    dir
}

/// The samples of a data set, or the reasons why rows are skipped.
pub fn samples(path: &Path, mapping: &Mapping) -> Vec<Result<Prepared, String>> {
    of(&Source::open(path).unwrap(), mapping)
}

pub fn of(source: &Source, mapping: &Mapping) -> Vec<Result<Prepared, String>> {
    let checkpoint = checkpoint();
    let prepare = |row| {
        checkpoint
            .prepare(row, Answers::All, Templating::Auto)
            .map_err(|skipped| message(&skipped.reason, skipped.hint))
    };
    source.rows(mapping).unwrap().map(|row| prepare(row.unwrap())).collect()
}

fn ids(path: &Path) -> Vec<String> {
    samples(path, &Mapping::new()).into_iter().map(|sample| sample.unwrap().sample.id).collect()
}

/// An image in a row, represented by its number.
fn image(n: usize) -> Value {
    json!({ "$picture": n })
}

fn pictured(value: &Value) -> Option<usize> {
    value.get("$picture")?.as_u64().map(|n| n as usize)
}

/// The row with paths in place of images.
fn with_paths(value: &Value) -> Value {
    match value {
        value if pictured(value).is_some() => PICTURES[pictured(value).unwrap()].into(),
        Value::Array(items) => items.iter().map(with_paths).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), with_paths(value))).collect(),
        value => value.clone(),
    }
}

fn write_lines(path: &Path, rows: &[Value]) {
    let rows: Vec<_> = rows.iter().map(|row| with_paths(row).to_string()).collect();
    fs::write(path, rows.join("\n")).unwrap();
}

/// A column as Hugging Face's `datasets` writes it, with images as structures of bytes and path.
fn column(values: &[&Value]) -> ArrayRef {
    let structure = |fields: Vec<(String, ArrayRef)>| -> ArrayRef {
        let columns = fields.into_iter();
        let fields = columns.map(|(name, c)| (Arc::new(Field::new(name, c.data_type().clone(), true)), c));
        Arc::new(StructArray::from(fields.collect::<Vec<_>>()))
    };
    match values.iter().find(|value| !value.is_null()).unwrap_or(&&Value::Null) {
        first if pictured(first).is_some() => {
            let bytes: Vec<_> = values.iter().map(|value| pictured(value).map(picture)).collect();
            let paths: Vec<_> = values.iter().map(|value| pictured(value).map(|n| PICTURES[n])).collect();
            let bytes: ArrayRef = Arc::new(BinaryArray::from_iter(bytes));
            structure(vec![("bytes".into(), bytes), ("path".into(), Arc::new(StringArray::from(paths)))])
        }
        Value::Number(_) => Arc::new(values.iter().map(|value| value.as_i64()).collect::<Int64Array>()),
        Value::Array(_) => {
            let items: Vec<_> = values.iter().map(|value| value.as_array().unwrap()).collect();
            let lengths = OffsetBuffer::from_lengths(items.iter().map(|items| items.len()));
            let items = column(&items.into_iter().flatten().collect::<Vec<_>>());
            let field = Arc::new(Field::new("item", items.data_type().clone(), true));
            Arc::new(ListArray::new(field, lengths, items, None))
        }
        Value::Object(_) => {
            let names: BTreeSet<_> =
                values.iter().filter_map(|value| value.as_object()).flat_map(|o| o.keys()).collect();
            let fields = names.into_iter().map(|name| {
                let values: Vec<_> = values.iter().map(|value| &value[name.as_str()]).collect();
                (name.clone(), column(&values))
            });
            structure(fields.collect())
        }
        _ => Arc::new(values.iter().map(|value| value.as_str()).collect::<StringArray>()),
    }
}

pub fn write_table(path: &Path, rows: &[Value]) {
    let names: Vec<_> = rows[0].as_object().unwrap().keys().collect();
    let columns = names.into_iter().map(|name| {
        let values: Vec<_> = rows.iter().map(|row| &row[name.as_str()]).collect();
        (name.clone(), column(&values), true)
    });
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Writes rows as an archive: JSON with paths, and the images in the order in which the JSON names them.
fn write_archive(path: &Path, rows: &[Value]) {
    fn pictures(value: &Value, found: &mut Vec<usize>) {
        match value {
            value if pictured(value).is_some() => found.extend(pictured(value)),
            Value::Array(items) => items.iter().for_each(|item| pictures(item, found)),
            Value::Object(fields) => fields.values().for_each(|item| pictures(item, found)),
            _ => {}
        }
    }
    let mut members = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let mut found = Vec::new();
        pictures(row, &mut found);
        let shown =
            found.iter().enumerate().map(|(order, picture_)| (format!("{n:04}.{order}.png"), picture(*picture_)));
        members.extend(shown);
        members.push((format!("{n:04}.json"), with_paths(row).to_string().into_bytes()));
    }
    fs::write(path, archive(&members)).unwrap();
}

/// Writes the rows in three formats, compares the samples, and returns them.
fn same_everywhere(rows: &[Value]) -> Vec<Prepared> {
    let dir = folder();
    let [lines, table, tar] = ["a.jsonl", "a.parquet", "a.tar"].map(|name| dir.path().join(name));
    write_lines(&lines, rows);
    write_table(&table, rows);
    write_archive(&tar, rows);
    let found: Vec<_> = samples(&lines, &Mapping::new()).into_iter().map(|sample| sample.unwrap()).collect();
    let expected: Vec<_> = found.iter().map(|prepared| prepared.sample.id.clone()).collect();
    assert_eq!(expected.len(), rows.len());
    assert_eq!(ids(&table), expected, "Parquet");
    assert_eq!(ids(&tar), expected, "tar");
    found
}

#[test]
fn a_pair_has_the_same_id_in_every_format() {
    let row = json!({ "image": image(0), "text": "a button" });
    let id = same_everywhere(std::slice::from_ref(&row))[0].sample.id.clone();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.png"), picture(0)).unwrap();
    fs::write(dir.path().join("x.txt"), "a button\n").unwrap();
    assert_eq!(ids(dir.path()).as_slice(), std::slice::from_ref(&id));

    let bytes = archive(&[("x.png".into(), picture(0)), ("x.txt".into(), b"a button\n".to_vec())]);
    fs::write(dir.path().join("x.tar"), &bytes).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&bytes).unwrap();
    fs::write(dir.path().join("x.tar.gz"), packed.finish().unwrap()).unwrap();
    assert_eq!(ids(&dir.path().join("x.tar")).as_slice(), std::slice::from_ref(&id));
    assert_eq!(ids(&dir.path().join("x.tar.gz")).as_slice(), std::slice::from_ref(&id));

    let sides = json!([{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "a button"}]);
    let parts = json!([{"role": "user", "content": [{"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a button"}]}]);
    let told =
        [("conversations", sides), ("messages", parts)].map(|(name, turns)| json!({"image": image(0), name: turns}));
    for row in told {
        assert_eq!(same_everywhere(&[row])[0].sample.id, id);
    }
}

#[test]
fn align_anything_and_beavertails_and_rlaif_are_recognized() {
    // Align-Anything, text-image-to-text.
    let rated =
        same_everywhere(&[json!({"question": "What is it?", "image": image(0), "response_1": "no", "response_2":
        "a button", "res_1_from": "m", "p_response": 1, "prompt_following_rate_1": 2, "overall_response": 2})]);
    // SafeRLHF-V, the preference version of BeaverTails-V.
    let safer =
        same_everywhere(&[json!({"question": "What is it?", "image": image(0), "category": "x", "image_severity":
        1, "response_1": "no", "response_2": "a button", "response_1_from": "m", "more_helpful_response_id": 2,
        "is_response_1_safe": "yes", "is_response_2_safe": "yes", "safer_response_id": 1})]);
    // RLAIF-V, RLHF-V (its text is JSON) and TRL's form of them.
    let rlaif =
        same_everywhere(&[json!({"ds_name": "RLAIF-V", "image": image(0), "question": "What is it?", "chosen":
        "a button", "rejected": "no", "origin_dataset": "x", "idx": 3, "image_path": "a/b.png"})]);
    let text = json!({"question": "What is it?", "chosen": "a button", "rejected": "no"}).to_string();
    let rlhf = same_everywhere(&[json!({"ds_name": "RLHF-V", "image": image(0), "text": text, "idx": 3})]);
    let part = |text: Option<&str>| json!({"type": if text.is_some() { "text" } else { "image" }, "text": text});
    let answer = |text| json!([{"role": "assistant", "content": [part(Some(text))]}]);
    let trl = same_everywhere(&[json!({"images": [image(0)], "prompt": [{"role": "user", "content":
        [part(None), part(Some("What is it?"))]}], "chosen": answer("a button"), "rejected": answer("no")})]);
    let asked = json!([{"from": "human", "value": "<image>What is it?"}]);
    let said = |text| json!({"from": "gpt", "value": text});
    let factory =
        same_everywhere(&[json!({"conversations": asked, "chosen": said("a button"), "rejected": said("no"),
        "images": [image(0)]})]);
    for other in [&safer, &rlaif, &rlhf, &trl, &factory] {
        assert_eq!(other[0].sample.id, rated[0].sample.id);
    }
    assert_eq!(rated[0].sample.text, "What is it?\na button");
    assert_eq!(safer[0].sample.meta["safer_response_id"], 1);

    let plain =
        same_everywhere(&[json!({"question": "What is it?", "image": image(0), "category": "x", "image_severity":
        1, "response": "a button", "is_response_safe": "yes"})]);
    assert_eq!(
        (plain[0].sample.text.as_str(), &plain[0].sample.meta["is_response_safe"]),
        ("What is it?\na button", &json!("yes"))
    );
}

#[test]
fn conversations_of_mminstruct_llama_factory_and_trainers_are_recognized() {
    let turns = json!([{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a button"}]);
    let mminstruct = same_everywhere(&[json!({"id": "1", "image": image(0), "width": 64, "conversations": turns})]);
    let with_system = json!({"system": "Be brief.", "images": [image(0)], "conversations": turns});
    let factory = same_everywhere(&[with_system]);
    let parts = json!([{"type": "image", "text": null}, {"type": "text", "text": "What is it?"}]);
    let said = |role: &str, text: &str| json!({"role": role, "content": [{"type": "text", "text": text}]});
    let messages =
        json!([said("system", "Be brief."), {"role": "user", "content": parts}, said("assistant", "a button")]);
    let trl = same_everywhere(&[json!({"images": [image(0)], "messages": messages})]);
    assert_eq!(trl[0].sample.id, factory[0].sample.id);
    assert_eq!(mminstruct[0].sample.text, "What is it?\na button");
    // Some tables store conversations as text.
    let packed = same_everywhere(&[json!({"id": "1", "image": image(0), "conversations": turns.to_string()})]);
    assert_eq!(packed[0].sample.id, mminstruct[0].sample.id);
}

#[test]
fn documents_of_obelics_keep_text_and_images_in_order() {
    let row = json!({"images": [null, image(0), null], "texts": ["One.", null, "Two."], "metadata": "[]"});
    let found = same_everywhere(&[row]);
    assert_eq!(found[0].sample.text, "One.\nTwo.");
    // In the published data, images are links.
    let dir = folder();
    let path = dir.path().join("a.jsonl");
    write_lines(
        &path,
        &[
            json!({"images": [null, "http://example.org/a.png"], "texts": ["One.", null]}),
            json!({"images": [null], "texts": ["b"]}),
        ],
    );
    let rows = samples(&path, &Mapping::new());
    assert!(rows[0].as_ref().unwrap_err().contains("hint: allow images behind links to be fetched"), "{:?}", rows[0]);
    assert!(rows[1].is_ok());
    // The template determines the positions of the images. LLaVA's puts them first.
    let row = Source::open(&path).unwrap().rows(&Mapping::new()).unwrap().next().unwrap().unwrap();
    assert_eq!(row.record.unwrap().turns[0].parts, [TurnPart::Text("One.".into()), TurnPart::Image(0)]);
}

#[test]
fn shards_by_folder_and_pattern_are_one_data_set_and_damage_affects_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let pair =
        |n: usize| vec![(format!("{n}.png"), picture(n % 2)), (format!("{n}.txt"), format!("no {n}").into_bytes())];
    for shard in 0..3 {
        let bytes = archive(&[pair(2 * shard), pair(2 * shard + 1)].concat());
        let end = if shard == 1 { bytes.len() - 1024 - 600 } else { bytes.len() };
        fs::write(dir.path().join(format!("s-{shard:03}.tar")), &bytes[..end]).unwrap();
    }
    // img2dataset writes these files next to its shards.
    fs::write(dir.path().join("s-000_stats.json"), "{}").unwrap();
    for path in [dir.path().to_path_buf(), dir.path().join("s-{000..002}.tar")] {
        let source = Source::open(&path).unwrap();
        let rows: Vec<_> = source.rows(&Mapping::new()).unwrap().map(|row| row.unwrap()).collect();
        let places: Vec<_> = rows.iter().map(|row| (row.source.as_str(), row.record.is_ok())).collect();
        let expected = ["s-000.tar:0", "s-000.tar:1", "s-001.tar:0", "s-001.tar:1", "s-002.tar:0", "s-002.tar:1"];
        assert_eq!(places, expected.map(|place| (place, place != "s-001.tar:1")));
        assert!(rows[3].record.as_ref().unwrap_err().cause.contains("cut off"));
    }
    assert!(Source::open(&dir.path().join("s-{000..003}.tar")).unwrap_err().to_string().contains("s-003.tar"));
    fs::write(dir.path().join("no.tar"), "this is no archive".repeat(100)).unwrap();
    assert!(Source::open(&dir.path().join("no.tar")).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn damaged_tables_and_lines_are_reported() {
    let dir = folder();
    let row = json!({ "image": image(0), "text": "a button" });
    let [lines, table] = ["a.jsonl", "a.parquet"].map(|name| dir.path().join(name));
    let good = with_paths(&row).to_string();
    fs::write(&lines, format!("{good}\n{{\"image\": \"{}\", \"te\n{good}", PICTURES[0])).unwrap();
    assert_eq!(samples(&lines, &Mapping::new()).iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    write_table(&table, &[row]);
    let bytes = fs::read(&table).unwrap();
    for end in [0, 3, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&table, &bytes[..end]).unwrap();
        let source = Source::open(&table).unwrap();
        let first = source.rows(&Mapping::new()).unwrap().next().unwrap();
        assert!(first.unwrap_err().to_string().contains("a.parquet"), "{end}");
    }
}

#[test]
fn links_are_followed_only_on_request_and_each_failure_skips_its_row() {
    let server = Server::new(|path, _| match path {
        "/a.png" => Answer::ok(picture(0)),
        "/moved.png" => Answer::new(302).header("location", "/a.png"),
        "/round.png" => Answer::new(302).header("location", "/round.png"),
        "/large.png" => Answer::ok(b"x".to_vec()).header("content-length", "99999999999"),
        "/endless.png" => Answer::ok(vec![b'x'; 70 << 20]).header("transfer-encoding", "close"),
        "/cut.png" => Answer::ok(picture(0)[..50].to_vec()).header("content-length", "5000"),
        "/page.png" => Answer::ok(b"<html>".to_vec()),
        _ => Answer::new(404),
    });
    let dir = folder();
    let path = dir.path().join("a.jsonl");
    let names = ["a", "moved", "round", "large", "endless", "cut", "page", "missing"];
    let rows: Vec<_> = names
        .iter()
        .map(|name| json!({"image": format!("{}/{name}.png", server.address), "text": "a button"}))
        .collect();
    write_lines(&path, &[&rows[..], &[json!({"image": image(0), "text": "a button"})]].concat());
    let closed = samples(&path, &Mapping::new());
    assert!(
        closed[..8]
            .iter()
            .all(|row| row.as_ref().unwrap_err().contains("hint: allow images behind links to be fetched"))
    );
    assert_eq!(server.requests(), Vec::<String>::new());

    let found = of(&Source::open(&path).unwrap().fetching(true), &Mapping::new());
    let good: Vec<_> = found.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, true, false, false, false, false, false, false, true], "{found:?}");
    let id = |n: usize| found[n].as_ref().unwrap().sample.id.clone();
    assert_eq!((id(0), id(1)), (id(8), id(8)));
    let reason = |n: usize| found[n].as_ref().unwrap_err().as_str();
    assert!(
        reason(2).contains("redirect") && reason(3).contains("99999999999 bytes") && reason(7).contains("404"),
        "{found:?}"
    );
}

#[test]
fn a_link_that_fails_temporarily_is_tried_again_and_a_page_is_not_an_image() {
    let asked = std::sync::Mutex::new(std::collections::BTreeMap::<String, u32>::new());
    let server = Server::new(move |path, _| {
        let mut asked = asked.lock().unwrap();
        let times = asked.entry(path.to_owned()).or_default();
        *times += 1;
        match (path, *times) {
            ("/busy.png", 1) => Answer::new(503).header("retry-after", "0"),
            ("/busy.png", 2) => Answer::new(429).header("retry-after", "0"),
            ("/cut.png", 1) => Answer::ok(picture(0)[..50].to_vec()).header("content-length", "5000"),
            ("/down.png", _) => Answer::new(500).header("retry-after", "0"),
            ("/login.png", _) => {
                Answer::ok(b"\n<!doctype html><p>Sign in".to_vec()).header("content-type", "text/html; charset=utf-8")
            }
            // Some servers send a wrong content type.
            ("/mislabeled.png", _) => Answer::ok(picture(0)).header("content-type", "text/html"),
            ("/gone.png", _) => Answer::new(410),
            _ => Answer::ok(picture(0)),
        }
    });
    let dir = folder();
    let path = dir.path().join("a.jsonl");
    let names = ["busy", "cut", "down", "login", "mislabeled", "gone"];
    let long = "x".repeat(5000);
    let links = names.iter().map(|name| format!("{}/{name}.png", server.address));
    let links = links.chain([format!("{}/missing-host/{long}.png", "http://127.0.0.1:1")]);
    let rows: Vec<_> = links.map(|link| json!({"image": link, "text": "a button"})).collect();
    write_lines(&path, &rows);
    let found = of(&Source::open(&path).unwrap().fetching(true), &Mapping::new());
    let good: Vec<_> = found.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, true, false, false, true, false, false], "{found:?}");
    let reason = |n: usize| found[n].as_ref().unwrap_err().as_str();
    assert!(reason(2).contains("500 Internal Server Error, 3 times"), "{}", reason(2));
    assert!(reason(3).contains("web page (text/html), such as a login page"), "{}", reason(3));
    assert!(reason(5).contains("410 Gone"), "{}", reason(5));
    assert!(reason(6).len() < 300, "{}", reason(6));
    let asked = server.requests();
    let times = |name: &str| asked.iter().filter(|path| path.contains(name)).count();
    assert_eq!(["busy", "cut", "down", "login", "gone"].map(times), [3, 2, 3, 1, 1]);
}
