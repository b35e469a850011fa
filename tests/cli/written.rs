//! Whatever the program writes it reads back: every output format, with images copied and left where they are, of every kind
//! of data set. What a combination cannot express is refused with a way out, and leaves nothing behind.

use crate::tool::{fails, json, sae, said, tiny_model};
use arrow::array::{
    Array, ArrayRef, BinaryArray, Decimal128Array, Float32Array, ListArray, MapBuilder, StringArray, StringBuilder,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use arrow::record_batch::RecordBatch;
use harvest::data::{Mapping, Record, Source, TurnPart};
use sae_core::store::sample::Role;
use sae_core::table;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FORMATS: [&str; 7] = ["same", "parquet", "jsonl", "llava", "sharegpt", "trl", "webdataset"];

/// What makes a data set in a folder.
type Maker = fn(&Path);

/// The kinds of data sets, and what cannot be written of them: `format` or `format images`.
const KINDS: [(&str, Maker, &[&str]); 15] = [
    ("jsonl", lines, &[]),
    ("json", array, &[]),
    ("array-in-jsonl", array_in_jsonl, &[]),
    ("objects", objects, &[]),
    (
        "embedded",
        embedded,
        &["parquet reference", "jsonl reference", "llava reference", "sharegpt reference", "trl reference"],
    ),
    ("subfolders", tables_of_paths, &[]),
    ("captions", captions, &["same reference"]),
    ("sidecars", sidecars, &["same reference"]),
    ("cells", cells, &[]),
    (
        "archive",
        archive,
        &["parquet reference", "jsonl reference", "llava reference", "sharegpt reference", "trl reference"],
    ),
    ("several", several, &[]),
    ("pairs", pairs, &[]),
    ("text", text, &[]),
    ("system", system, &["llava copy", "llava reference"]),
    ("outside", outside, &[]),
];

fn image(name: &str) -> PathBuf {
    tiny_model().join(format!("images/{name}.png"))
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(image(name)).unwrap()
}

fn copy_images(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for name in ["wide", "tall", "square"] {
        fs::copy(image(name), folder.join(format!("{name}.png"))).unwrap();
    }
}

fn llava(image: &str, n: usize) -> Value {
    json!({ "id": n, "image": image, "tag": ["x", "y"], "messages_left": 3,
        "conversations": [{ "from": "human", "value": format!("<image>\nWhat is {n}?") }, { "from": "gpt", "value": "A square." }] })
}

fn write_lines(path: &Path, rows: &[Value]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
}

fn lines(dir: &Path) {
    copy_images(&dir.join("images"));
    write_lines(&dir.join("a.jsonl"), &[llava("images/wide.png", 1), llava("images/tall.png", 2)]);
    write_lines(&dir.join("b.jsonl"), &[llava("images/wide.png", 3)]);
}

/// An array in a folder of its own, whose images lie in another.
fn array(dir: &Path) {
    copy_images(&dir.join("pictures"));
    fs::create_dir(dir.join("rows")).unwrap();
    let rows = [llava("../pictures/wide.png", 1), llava("../pictures/square.png", 2)];
    fs::write(dir.join("rows/train.json"), json!(rows).to_string()).unwrap();
}

/// An array on one line, in a file that is named as lines.
fn array_in_jsonl(dir: &Path) {
    copy_images(&dir.join("images"));
    let rows = [llava("images/wide.png", 1), llava("images/tall.png", 2), llava("images/square.png", 3)];
    fs::write(dir.join("data.jsonl"), json!(rows).to_string()).unwrap();
}

/// Objects over several lines, one behind the other.
fn objects(dir: &Path) {
    copy_images(&dir.join("images"));
    let rows = ["wide", "tall"].map(|name| llava(&format!("images/{name}.png"), 1));
    let texts: String = rows.iter().map(|row| serde_json::to_string_pretty(row).unwrap() + "\n").collect();
    fs::write(dir.join("data.json"), &texts).unwrap();
    fs::write(dir.join("more.jsonl"), &texts).unwrap();
}

fn image_column(bytes: Vec<Option<Vec<u8>>>, paths: Vec<&str>) -> ArrayRef {
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter(bytes));
    let paths: ArrayRef = Arc::new(StringArray::from(paths));
    let fields = vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)];
    Arc::new(StructArray::new(fields.into(), vec![bytes, paths], None))
}

fn write_table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    table::write(path, &RecordBatch::try_from_iter_with_nullable(columns).unwrap()).unwrap();
}

fn embedded(dir: &Path) {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for n in ["1", "2"] {
        map.keys().append_value("k");
        map.values().append_value(n);
        map.append(true).unwrap();
    }
    let times = TimestampMicrosecondArray::from(vec![1_700_000_000_123_456, 0]);
    write_table(
        &dir.join("train.parquet"),
        vec![
            ("image", image_column(vec![Some(bytes("wide")), Some(bytes("tall"))], vec!["a.png", "b.png"])),
            ("question", Arc::new(StringArray::from(vec!["What?", "Which?"]))),
            ("answer", Arc::new(StringArray::from(vec!["A square.", "A circle."]))),
            ("seen", Arc::new(times.with_timezone("Europe/Berlin"))),
            ("price", Arc::new(Decimal128Array::from(vec![150, -25]).with_precision_and_scale(10, 2).unwrap())),
            ("rate", Arc::new(Float32Array::from(vec![0.1, f32::NAN]))),
            ("info", Arc::new(map.finish())),
            ("thumb", Arc::new(BinaryArray::from(vec![&b"\xff\x00"[..], b"x"]))),
            ("sample_id", Arc::new(StringArray::from(vec!["mine", "too"]))),
        ],
    );
}

/// Tables in subfolders that name images beside them by path.
fn tables_of_paths(dir: &Path) {
    for (folder, names) in [("a", ["wide", "tall"]), ("b", ["square", "wide"])] {
        copy_images(&dir.join(folder).join("images"));
        let paths = names.map(|name| format!("images/{name}.png"));
        let images = image_column(vec![None, None], paths.iter().map(String::as_str).collect());
        let texts = names.map(|name| format!("{folder} {name}"));
        let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let path = dir.join(folder).join("train.parquet");
        match folder {
            "a" => write_table(&path, vec![("image", images), ("text", texts)]),
            _ => {
                // A list of images, in the other file.
                let item = Arc::new(Field::new("item", images.data_type().clone(), true));
                let lists = ListArray::new(item, OffsetBuffer::from_lengths([1, 1]), images, None);
                write_table(&path, vec![("images", Arc::new(lists)), ("text", texts)]);
            }
        }
    }
}

fn captions(dir: &Path) {
    copy_images(dir);
    for name in ["wide", "tall", "square"] {
        fs::write(dir.join(format!("{name}.txt")), format!("a {name} one")).unwrap();
    }
}

/// Images in a subfolder, with columns beside them.
fn sidecars(dir: &Path) {
    copy_images(&dir.join("train"));
    for name in ["wide", "tall", "square"] {
        let row = json!({ "question": format!("Is it {name}?"), "answer": "Yes.", "key": name });
        fs::write(dir.join(format!("train/{name}.json")), row.to_string()).unwrap();
    }
}

fn cells(dir: &Path) {
    copy_images(&dir.join("images"));
    let rows = "image,text\nimages/wide.png,\"a wide one,\nand \"\"more\"\"\"\nimages/tall.png,a tall one\n";
    fs::write(dir.join("data.csv"), rows).unwrap();
}

fn archive(dir: &Path) {
    let mut members: Vec<(String, Vec<u8>)> = Vec::new();
    for (n, name) in ["wide", "tall"].into_iter().enumerate() {
        members.push((format!("row{n}.png"), bytes(name)));
        members.push((
            format!("row{n}.json"),
            json!({ "text": format!("a {name} one"), "n": n }).to_string().into_bytes(),
        ));
    }
    let mut archive = Vec::new();
    for (name, content) in members {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = b'0';
        header[257..263].copy_from_slice(b"ustar\0");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend(header);
        archive.extend(&content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    fs::write(dir.join("rows.tar"), archive).unwrap();
}

fn several(dir: &Path) {
    copy_images(&dir.join("images"));
    let row = |images: &[&str], text: &str| {
        let images: Vec<_> = images.iter().map(|name| format!("images/{name}.png")).collect();
        json!({ "key": text, "images": images, "conversations": [
            { "from": "human", "value": text }, { "from": "gpt", "value": "Yes." },
            { "from": "human", "value": "And?" }, { "from": "gpt", "value": "No." }] })
    };
    let rows = [
        row(&["wide", "tall"], "First <image> then\n<image>"),
        row(&["square"], "<image>One"),
        row(&[], "None"),
        row(&["tall", "tall", "wide"], "<image><image><image>\nThree"),
    ];
    write_lines(&dir.join("data.jsonl"), &rows);
}

fn pairs(dir: &Path) {
    copy_images(&dir.join("images"));
    let row = |name: &str| {
        json!({ "id": name, "image": format!("images/{name}.png"), "question": "What is it?",
            "chosen": format!("A {name} one."), "rejected": "A dog." })
    };
    write_lines(&dir.join("data.jsonl"), &[row("wide"), row("tall")]);
}

fn text(dir: &Path) {
    let row = |n: usize| json!({ "instruction": format!("Say {n}."), "input": "", "output": format!("{n}"), "n": n });
    write_lines(&dir.join("data.jsonl"), &[row(1), row(2)]);
}

fn system(dir: &Path) {
    copy_images(&dir.join("images"));
    let row = |name: &str| {
        json!({ "id": name, "images": [format!("images/{name}.png")], "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "image" }, { "type": "text", "text": "What?" }] },
            { "role": "assistant", "content": [{ "type": "text", "text": "A square." }] }] })
    };
    write_lines(&dir.join("data.jsonl"), &[row("wide"), row("tall")]);
}

/// Images that do not lie in the data set's folder, by absolute paths.
fn outside(dir: &Path) {
    let rows = ["wide", "tall"].map(|name| llava(image(name).to_str().unwrap(), 1));
    write_lines(&dir.join("data.jsonl"), &rows);
}

fn harvest(data: &Path, run: &Path) {
    let model = tiny_model();
    let [model, data, run] = [&model, data, run].map(|path| path.to_str().unwrap());
    json(&["harvest", "--model", model, "--data", data, "--run", run, "--layers", "1"]);
}

/// What makes a sample's id: who says what and shows how many images, a preferred and a rejected answer, the images' hashes.
type Content = (Vec<(u8, String, usize)>, Option<[String; 2]>, Vec<u64>);

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The contents of a data set, in an order of their own.
fn contents(data: &Path) -> Vec<Content> {
    let content = |record: Record| {
        let turn = |turn: &harvest::data::Turn| {
            let images = turn.parts.iter().filter(|part| matches!(part, TurnPart::Image(_))).count();
            (turn.role as u8, turn.text(), images)
        };
        let images = record.images.iter().map(|image| hash(&image.read().unwrap())).collect();
        let pair = record.pair.as_ref().map(|pair| [pair.chosen.clone(), pair.rejected.clone()]);
        (record.turns.iter().map(turn).collect(), pair, images)
    };
    let rows = Source::open(data).unwrap().rows(&Mapping::default()).unwrap();
    let mut found: Vec<_> = rows.map(|row| content(row.unwrap().record.unwrap())).collect();
    found.sort();
    found
}

fn ids(run: &Path) -> BTreeSet<String> {
    let samples = sae_core::store::load_samples(&sae_core::Run::open(run).unwrap()).unwrap();
    samples.into_iter().map(|sample| sample.id).collect()
}

/// Every sample stays, and no score is needed.
fn keep_all(run: &Path) -> PathBuf {
    let samples = sae_core::store::load_samples(&sae_core::Run::open(run).unwrap()).unwrap();
    let path = run.join("keep.csv");
    fs::write(
        &path,
        (0..samples.len()).map(|n| format!("{n}\n")).fold("sample\n".into(), |all: String, line| all + &line),
    )
    .unwrap();
    path
}

fn arguments<'a>(run: &'a Path, decisions: &'a Path, out: &'a Path, format: &'a str, images: &'a str) -> Vec<&'a str> {
    let [run, decisions, out] = [run, decisions, out].map(|path| path.to_str().unwrap());
    vec!["filter", "--run", run, "--decisions", decisions, "--out", out, "--format", format, "--images", images]
}

#[test]
fn everything_that_is_written_is_read_back() {
    for (kind, make, refused) in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let (data, run) = (dir.path().join("set"), dir.path().join("run"));
        fs::create_dir(&data).unwrap();
        make(&data);
        harvest(&data, &run);
        let (expected, decisions) = (contents(&data), keep_all(&run));
        for (format, images) in FORMATS.into_iter().flat_map(|format| [(format, "copy"), (format, "reference")]) {
            let out = dir.path().join(format!("{format}-{images}"));
            let arguments = arguments(&run, &decisions, &out, format, images);
            let combination = format!("{format} {images}");
            if refused.contains(&combination.as_str()) || combination == "webdataset reference" {
                let said = fails(1, &arguments);
                assert!(said.contains("hint: ") && !out.exists(), "{kind} as {combination}: {said}");
                continue;
            }
            let done = json(&arguments);
            assert_eq!(done["kept"]["rows"], expected.len(), "{kind} as {combination}");
            if images == "reference" && format == "same" {
                // Rows as they stood name images that did not come along.
                continue;
            }
            // LLaVA's rows have one answer, the preferred one.
            let preferred = |(mut turns, pair, images): Content| match pair {
                Some([chosen, _]) if format == "llava" => {
                    turns.push((Role::Assistant as u8, chosen, 0));
                    (turns, None, images)
                }
                pair => (turns, pair, images),
            };
            let expected: Vec<_> = expected.iter().cloned().map(preferred).collect();
            assert_eq!(contents(&out), expected, "{kind} as {combination}");
            let beside: BTreeSet<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            let names = ["README.md", "data", "decisions.csv", "decisions.parquet", "manifest.json"];
            assert_eq!(beside, names.map(Into::into).into(), "{kind} as {combination}");
        }
    }
}

#[test]
fn tables_in_subfolders_bring_their_images() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run, out) = (dir.path().join("set"), dir.path().join("run"), dir.path().join("kept"));
    tables_of_paths(&data);
    harvest(&data, &run);
    let decisions = run.join("keep.csv");
    fs::write(&decisions, "sample,keep\n0,true\n1,false\n2,true\n3,true\n").unwrap();
    let done = json(&arguments(&run, &decisions, &out, "same", "copy"));
    assert_eq!(done["kept"], json!({ "rows": 3, "images": 3 }));
    assert!(out.join("data/a/images/wide.png").exists() && !out.join("data/a/images/tall.png").exists());
    let again = dir.path().join("again");
    harvest(&out, &again);
    assert!(ids(&again).is_subset(&ids(&run)) && ids(&again).len() == 3);

    fs::remove_file(data.join("b/images/square.png")).unwrap();
    for format in ["same", "jsonl"] {
        let gone = fails(1, &arguments(&run, &decisions, &dir.path().join("gone"), format, "copy"));
        assert!(gone.contains("square.png"), "{gone}");
    }
}

#[test]
#[cfg(unix)]
fn a_data_folder_whose_name_is_not_utf8_is_found_again() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let (run, out) = (dir.path().join("run"), dir.path().join("kept"));
    let data = dir.path().join(std::ffi::OsStr::from_bytes(b"donn\xe9es"));
    fs::create_dir(&data).unwrap();
    outside(&data);
    let model = tiny_model();
    let harvested = sae()
        .args(["harvest", "--layers", "1", "--model", model.to_str().unwrap(), "--run", run.to_str().unwrap()])
        .arg("--data")
        .arg(&data)
        .output()
        .unwrap();
    assert!(harvested.status.success(), "{}", said(&harvested));
    let decisions = keep_all(&run);
    let done = json(&arguments(&run, &decisions, &out, "jsonl", "reference"));
    assert_eq!(done["kept"]["rows"], 2, "{done}");
}

#[test]
fn what_stays_behind_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run, out) = (dir.path().join("set"), dir.path().join("run"), dir.path().join("kept"));
    fs::create_dir(&data).unwrap();
    outside(&data);
    harvest(&data, &run);
    let decisions = keep_all(&run);
    let output = sae().args(arguments(&run, &decisions, &out, "same", "copy")).output().unwrap();
    assert!(said(&output).contains("2 images were left in place"), "{}", said(&output));
    let manifest: Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["images_left_behind"]["count"], 2);
    assert_eq!(manifest["images_left_behind"]["paths"].as_array().unwrap().len(), 2);
}

#[test]
fn own_columns_keep_their_types_or_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = (dir.path().join("set"), dir.path().join("run"));
    fs::create_dir(&data).unwrap();
    embedded(&data);
    harvest(&data, &run);
    let decisions = run.join("keep.csv");
    fs::write(&decisions, "sample\n1\n").unwrap();
    let before = table::read(&data.join("train.parquet"), &[]).unwrap();
    for format in ["parquet", "trl"] {
        let out = dir.path().join(format);
        let done = json(&arguments(&run, &decisions, &out, format, "copy"));
        assert_eq!(done["renamed_columns"], json!({ "sample_id": "original_sample_id" }));
        let after = table::read(&out.join("data/data-00000.parquet"), &[]).unwrap();
        for name in ["seen", "price", "rate", "info", "thumb", "sample_id"] {
            let new = if name == "sample_id" { "original_sample_id" } else { name };
            let (old, new) = (before.column_by_name(name).unwrap(), after.column_by_name(new).unwrap());
            assert_eq!(old.data_type(), new.data_type(), "{name}");
            // NaN is not equal to itself.
            assert!(name == "rate" || old.slice(1, 1).as_ref() == new.as_ref(), "{name}");
        }
    }
    let out = dir.path().join("jsonl");
    let done = json(&arguments(&run, &decisions, &out, "jsonl", "copy"));
    assert!(done["notes"][0].as_str().unwrap().contains("the column thumb holds bytes"), "{}", done["notes"]);
    let row: Value = serde_json::from_slice(&fs::read(out.join("data/data.jsonl")).unwrap()).unwrap();
    assert_eq!(row["original_sample_id"], "too");
}

#[test]
fn decisions_of_an_earlier_filter_are_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = (dir.path().join("set"), dir.path().join("run"));
    fs::create_dir(&data).unwrap();
    lines(&data);
    harvest(&data, &run);
    let first = run.join("keep.csv");
    fs::write(&first, "key\n1\n3\n").unwrap();
    let out = dir.path().join("first");
    let done = json(&arguments(&run, &first, &out, "jsonl", "copy"));
    assert_eq!((done["kept"]["rows"].as_u64(), done["reasons"]["decisions"].as_u64()), (Some(2), Some(1)));
    for file in ["decisions.csv", "decisions.parquet"] {
        let again = dir.path().join(file.replace('.', "-"));
        json(&arguments(&run, &out.join(file), &again, "jsonl", "copy"));
        assert_eq!(fs::read(again.join("data/data.jsonl")).unwrap(), fs::read(out.join("data/data.jsonl")).unwrap());
    }
    fs::write(&first, "key\n1\nnobody\n").unwrap();
    let unknown = fails(1, &arguments(&run, &first, &dir.path().join("no"), "jsonl", "copy"));
    assert!(unknown.contains("1 of 2 rows do not name a sample") && unknown.contains("nobody"), "{unknown}");
}

#[test]
fn images_under_a_root_of_their_own_come_along() {
    for root_inside in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (data, run) = (dir.path().join("set"), dir.path().join("run"));
        let images = if root_inside { data.join("pictures") } else { dir.path().join("pictures") };
        copy_images(&images);
        write_lines(&data.join("sub/a.jsonl"), &[llava("wide.png", 1), llava("tall.png", 2)]);
        let model = tiny_model();
        let arguments_of = |data: &Path, run: &Path, more: &[&str]| {
            let [model, data, run] = [&model, data, run].map(|path| path.to_str().unwrap().to_owned());
            let all = ["harvest", "--layers", "1", "--model", &model, "--data", &data, "--run", &run];
            json(&[&all, more].concat())
        };
        arguments_of(&data, &run, &["--images-root", images.to_str().unwrap()]);
        let decisions = keep_all(&run);
        for format in FORMATS {
            let (out, again) = (dir.path().join(format), dir.path().join(format!("{format}-run")));
            let done = json(&arguments(&run, &decisions, &out, format, "copy"));
            assert_eq!(done["kept"], json!({ "rows": 2, "images": 2 }), "{format}");
            arguments_of(&out, &again, &[]);
            assert_eq!(ids(&again), ids(&run), "{format}");
        }
    }
}
