//! Complete harvests of a tiny checkpoint: what is stored, what is skipped, and that an interruption does not change a byte.

use crate::bad_input;
use crate::golden::{Golden, relative_error};
use harvest::data::{Corruption, CorruptionKind, Source};
use harvest::{
    Answers, CaptureProgress, Checkpoint, Error, ModelPair, OnlineActivations, Pieces, Plan, SpliceRunner, Templating,
    for_each_sample, harvest,
};
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use sae_core::store::{PositionRule, Store, load_samples};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Writes a data set with 24 valid rows of different lengths and invalid rows between them.
fn data(folder: &Path) {
    let golden = Golden::open("llava-a").folder;
    fs::create_dir_all(folder.join("images")).unwrap();
    for name in ["wide.png", "tall.png", "square.png"] {
        fs::copy(golden.join("images").join(name), folder.join("images").join(name)).unwrap();
    }
    fs::write(folder.join("images/noise.png"), b"\x89PNG\r\n\x1a\nnothing of a picture").unwrap();
    fs::write(folder.join("images/huge.png"), huge_png()).unwrap();
    let row = |id: usize, image: &str, answer: &str| {
        format!(
            r#"{{"id": "row-{id}", "image": "images/{image}", "conversations": [{{"from": "human", "value": "<image>\nWhat?"}},
            {{"from": "gpt", "value": "{answer}"}}]}}"#
        )
        .replace('\n', "")
        .replace("<image>What", "<image>\\nWhat")
    };
    let mut rows = Vec::new();
    for n in 0..24 {
        rows.push(row(n, ["wide.png", "tall.png", "square.png"][n % 3], &"a word ".repeat(1 + n * 5 % 13)));
        match n {
            2 => rows.push("{not json".into()),
            5 => rows.push(row(100, "noise.png", "a")),
            6 => rows.push(row(101, "huge.png", "a")),
            9 => rows.push(row(102, "gone.png", "a")),
            12 => rows.push(row(103, "wide.png", "  ")),
            15 => rows.push(r#"{"id": "x", "conversations": [{"from": "human", "value": "<image>"}]}"#.into()),
            18 => rows.push(row(104, "wide.png", &"long ".repeat(600))),
            23 => rows.push(r#"{"id": "y", "image": null, "text": "no picture: <image>"}"#.into()),
            _ => {}
        }
    }
    fs::write(folder.join("data.jsonl"), rows.join("\n")).unwrap();
}

/// A file whose header claims 30,000 x 20,000 pixels.
fn huge_png() -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(30_000u32.to_be_bytes());
    chunk.extend(20_000u32.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(13u32.to_be_bytes());
    file.extend(&chunk);
    file.extend(crc32(&chunk).to_be_bytes());
    file.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

fn plan(model: &Path, data: &Path) -> Plan {
    Plan {
        device: DeviceChoice::Cpu,
        part_rows: 200,
        batch_tokens: 160,
        ..Plan::new(model, data, vec![Hook::block(0), Hook::block(2)])
    }
}

/// The content of all data files of a run, by name.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            match path.extension().and_then(|e| e.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("safetensors" | "parquet" | "jsonl") => drop(files.insert(name, fs::read(path).unwrap())),
                _ => {}
            }
        }
    }
    files
}

#[test]
fn an_interrupted_harvest_continues_with_the_same_bytes() {
    let (dir, model) = bad_input::checkpoint();
    data(&dir.path().join("data"));
    let plan = plan(&model, &dir.path().join("data/data.jsonl"));
    let whole = Run::create(&dir.path().join("whole")).unwrap();
    let record = harvest(&plan, &whole, &mut |_| Ok(())).unwrap();
    assert!(record.complete && record.parts.len() >= 4);
    let expected = files(whole.root());
    assert!(expected.len() >= 13);

    let broken = Run::create(&dir.path().join("broken")).unwrap();
    for stop in [1, 2, 5, 9] {
        let mut batches = 0;
        let interrupted = catch_unwind(AssertUnwindSafe(|| {
            harvest(&plan, &broken, &mut |_| {
                batches += 1;
                assert!(batches < stop, "interrupted here");
                Ok(())
            })
        }));
        assert!(interrupted.is_err());
    }
    let mut batches = 0;
    let stopped = harvest(&plan, &broken, &mut |_| {
        batches += 1;
        if batches < 3 { Ok(()) } else { Err(sae_core::Error::Cancelled.into()) }
    });
    assert!(matches!(stopped, Err(Error::Core(sae_core::Error::Cancelled))));
    let mut last = CaptureProgress::default();
    let mut see = |progress: &CaptureProgress| {
        last = *progress;
        Ok(())
    };
    let resumed = harvest(&plan, &broken, &mut see).unwrap();
    assert_eq!(files(broken.root()), expected);
    assert_eq!(resumed.skipped, record.skipped);
    assert_eq!((last.samples, last.source_rows, last.skipped), (24, 32, 8));
    // A finished harvest has nothing left to do, and another plan is rejected in the same run.
    let again = harvest(&plan, &broken, &mut |_| panic!("nothing to do")).unwrap();
    assert_eq!((again.progress(), again.parts.len()), (resumed.progress(), record.parts.len()));
    let other = Plan { hooks: vec![Hook::block(1)], ..plan };
    assert!(harvest(&other, &broken, &mut |_| Ok(())).unwrap_err().to_string().contains("another harvest"));
}

#[test]
fn an_interrupted_harvest_is_not_continued_with_images_of_another_folder() {
    let model = Golden::open("llava-a").folder;
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let images = |name: &str| {
        let root = dir.path().join(name);
        fs::create_dir_all(root.join("images")).unwrap();
        for image in ["wide.png", "tall.png", "square.png"] {
            fs::copy(dir.path().join("images").join(image), root.join("images").join(image)).unwrap();
        }
        Some(root)
    };
    let begun = Plan { images_root: images("first"), ..plan(&model, &dir.path().join("data.jsonl")) };
    let run = Run::create(&dir.path().join("run")).unwrap();
    let stop_after_a_part = |progress: &CaptureProgress| match progress.source_rows {
        0 => Ok(()),
        _ => Err(Error::InvalidInput("stopped".into())),
    };
    let stopped = harvest(&begun, &run, &mut |progress| stop_after_a_part(progress)).unwrap_err();
    assert!(stopped.to_string().contains("stopped"), "{stopped}");
    for other in [images("second"), None] {
        let refused = harvest(&Plan { images_root: other, ..begun.clone() }, &run, &mut |_| Ok(())).unwrap_err();
        assert!(matches!(refused, Error::OtherImages { .. }), "{refused}");
    }
    assert!(harvest(&begun, &run, &mut |_| Ok(())).unwrap().complete);
}

#[test]
fn bad_rows_are_skipped_and_listed_with_their_reasons() {
    let (dir, model) = bad_input::checkpoint();
    data(&dir.path().join("data"));
    let run = Run::create(&dir.path().join("run")).unwrap();
    let record = harvest(&plan(&model, &dir.path().join("data")), &run, &mut |_| Ok(())).unwrap();
    let skipped: Vec<_> = record.skipped.iter().map(|s| (s.row, s.key.as_str(), s.reason.as_str())).collect();
    let expected = [
        (3, "3", "invalid JSON"),
        (7, "row-100", "cannot be decoded"),
        (9, "row-101", "600 megapixels"),
        (13, "row-102", "cannot read the image"),
        (17, "row-103", "the text is empty"),
        (21, "x", "has no image"),
        (25, "row-104", "context of 512"),
        (31, "y", "has no image"),
    ];
    assert_eq!(skipped.len(), expected.len(), "{skipped:?}");
    for ((row, key, reason), expected) in skipped.into_iter().zip(expected) {
        assert_eq!((row, key), (expected.0, expected.1));
        assert!(reason.contains(expected.2), "{reason}");
    }
}

#[test]
fn the_store_has_the_hidden_states_that_the_model_computes_for_each_sample_alone() {
    let (dir, model) = bad_input::checkpoint();
    data(&dir.path().join("data"));
    let path = dir.path().join("data/data.jsonl");
    let run = Run::create(&dir.path().join("run")).unwrap();
    harvest(&plan(&model, &path), &run, &mut |_| Ok(())).unwrap();
    let samples = load_samples(&run).unwrap();
    assert_eq!(samples.len(), 24);
    assert_eq!((samples[3].key.as_str(), samples[3].source.as_str()), ("row-3", "data.jsonl:4"));
    assert_eq!((samples[0].images[0].width, samples[0].images[0].height), (61, 37));

    let checkpoint = Checkpoint::open(&model).unwrap();
    let model = checkpoint.load(Some(2), &harvest::model::Compute::Host { bf16: false }).unwrap();
    let store = Store::open(&run, "layers.2").unwrap();
    let mut stored = Vec::new();
    for shard in 0..store.shards() {
        let shard = store.shard(shard).unwrap();
        shard.read(0..shard.rows(), &mut stored);
    }
    let mut at = 0;
    for row in Source::open(&path).unwrap().rows(&Vec::new()).unwrap() {
        let Ok(prepared) = checkpoint.prepare(row.unwrap(), Answers::All, Templating::Auto) else { continue };
        let hidden = model.hidden(&[&checkpoint.input(&prepared)], &[Hook::block(2)]).unwrap();
        let expected = hidden.rows(0, 0);
        assert!(relative_error(&stored[at..at + expected.len()], expected) < 1e-5);
        at += expected.len();
    }
    assert_eq!(at, stored.len());
}

#[test]
fn a_verbatim_text_contains_its_own_placeholder() {
    let (dir, model) = bad_input::checkpoint();
    let folder = dir.path().join("data");
    data(&folder);
    let rows = [
        r#"{"image": "images/wide.png", "caption": "<image> a red square"}"#,
        r#"{"image": "images/wide.png", "caption": "no placeholder"}"#,
    ];
    fs::write(folder.join("data.jsonl"), rows.join("\n")).unwrap();
    let plan =
        Plan { template: Templating::None, mapping: vec![("text".into(), "caption".into())], ..plan(&model, &folder) };
    let run = Run::create(&dir.path().join("run")).unwrap();
    let record = harvest(&plan, &run, &mut |_| Ok(())).unwrap();
    assert_eq!(load_samples(&run).unwrap()[0].text, "<image> a red square");
    assert!(
        record.skipped[0].reason.contains("1 images, but its text has 0 placeholders <image>"),
        "{:?}",
        record.skipped
    );
}

#[test]
fn an_invalid_plan_writes_nothing() {
    let (dir, model) = bad_input::checkpoint();
    data(&dir.path().join("data"));
    let run = Run::create(&dir.path().join("run")).unwrap();
    let before = fs::read(run.root().join("run.json")).unwrap();
    let plan = Plan { hooks: vec![Hook::block(0), Hook::block(3)], ..plan(&model, &dir.path().join("data")) };
    assert!(harvest(&plan, &run, &mut |_| Ok(())).unwrap_err().to_string().contains("no layer 3"));
    assert_eq!(fs::read(run.root().join("run.json")).unwrap(), before);
}

#[test]
fn what_reads_whole_samples_refuses_pieces() {
    let (dir, model) = bad_input::checkpoint();
    data(&dir.path().join("data"));
    let one = Plan { hooks: vec![Hook::block(1)], ..plan(&model, &dir.path().join("data/data.jsonl")) };
    for pieces in [Pieces::Answers, Pieces::Sentences, Pieces::Tree] {
        let plan = Plan { pieces: Some(pieces), ..one.clone() };
        let refused = [
            for_each_sample::<Error>(&plan, &mut |_, _| panic!("no sample is read")).err(),
            SpliceRunner::open(&plan).err(),
            ModelPair::open(&model, &plan).err(),
            OnlineActivations::open(&plan, PositionRule::default()).err(),
        ];
        for error in refused {
            assert!(matches!(error, Some(Error::PiecesUnread { .. })), "{error:?}");
        }
    }
    // Corruptions change rows, of which trees consist.
    let corruption = Corruption { kind: CorruptionKind::ShuffledWords, share: 1.0, seed: 0 };
    let plan = Plan { pieces: Some(Pieces::Tree), corruptions: vec![corruption], ..one };
    let run = Run::create(&dir.path().join("run")).unwrap();
    let error = harvest(&plan, &run, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::CorruptedTree { kind: "shuffled-words" }), "{error}");
    assert!(matches!(plan.preview(), Err(Error::CorruptedTree { .. })));
}

#[test]
fn a_tree_that_shows_one_of_its_images_alone_is_skipped_where_only_a_lone_image_is_divided() {
    let dir = tempfile::tempdir().unwrap();
    let model = Golden::open("llava_onevision-a").folder;
    data(&dir.path().join("data"));
    let (wide, tall) = (Some("images/wide.png"), Some("images/tall.png"));
    let rows = [
        ("two", None, "What is this?", wide),
        ("answer", Some("two"), "A red square", None),
        ("question", Some("answer"), "And this?", tall),
        ("one", None, "What is this?", wide),
        ("reply", Some("one"), "A red square", None),
    ];
    let row =
        |(id, parent, text, image)| json!({"id": id, "parent_id": parent, "text": text, "image": image}).to_string();
    fs::write(dir.path().join("data/data.jsonl"), rows.map(row).join("\n")).unwrap();
    let tree = Plan {
        hooks: vec![Hook::block(0)],
        pieces: Some(Pieces::Tree),
        ..plan(&model, &dir.path().join("data/data.jsonl"))
    };
    let run = Run::create(&dir.path().join("run")).unwrap();
    let record = harvest(&tree, &run, &mut |_| Ok(())).unwrap();
    let reasons: Vec<&str> = record.skipped.iter().map(|row| row.reason.as_str()).collect();
    assert!(matches!(reasons[..], [reason] if reason.contains("two: the piece shows one of 2 images")), "{reasons:?}");
    let keys: Vec<String> = load_samples(&run).unwrap().into_iter().map(|sample| sample.key).collect();
    assert_eq!(keys, ["one", "reply"]);
}

#[test]
fn a_preview_counts_the_memory_of_pieces() {
    let (dir, model) = bad_input::checkpoint();
    data(&dir.path().join("data"));
    let memory = |pieces| {
        let plan = Plan { pieces, ..plan(&model, &dir.path().join("data/data.jsonl")) };
        plan.preview().unwrap().memory
    };
    let [whole, answers, tree] = [None, Some(Pieces::Answers), Some(Pieces::Tree)].map(memory);
    assert!(whole.part < answers.part && answers.part < tree.part);
    assert!(whole.batch < answers.batch && answers.batch < tree.batch);
    let bytes = fs::metadata(dir.path().join("data/data.jsonl")).unwrap().len();
    assert!(tree.samples >= bytes && tree.total > answers.total);
}
