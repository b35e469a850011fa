//! Rows with the frames of a video: the same frames in any form are one sample, every position names its frame, and rows whose
//! frames cannot be used are skipped with the reason.

use crate::golden::repository;
use arrow::array::{ArrayRef, BinaryArray, Float64Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use harvest::data::{Mapping, Source};
use harvest::{Answers, Checkpoint, Plan, Prepared, Templating, harvest};
use parquet::arrow::ArrowWriter;
use sae_core::Run;
use sae_core::device::DeviceChoice;
use sae_core::error::message;
use sae_core::store::Hook;
use sae_core::store::sample::{Modality, Role};
use sae_core::store::{Store, load_samples, read_skipped};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(&repository().join("tests/golden").join(name)).unwrap()
}

fn frame(name: &str) -> PathBuf {
    repository().join(format!("tests/golden/qwen2_5_vl-video/frames/{name}.png"))
}

/// A folder with five frames of one size, and one of another size.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["walk-0", "walk-1", "walk-2", "walk-3", "walk-4", "tall-0"] {
        fs::copy(frame(name), dir.path().join(format!("{name}.png"))).unwrap();
    }
    dir
}

fn names(frames: impl Iterator<Item = usize>) -> Vec<String> {
    frames.map(|n| format!("walk-{n}.png")).collect()
}

fn prepare(dir: &Path, rows: &[Value], model: &str) -> Vec<Result<Prepared, String>> {
    let path = dir.join("data.jsonl");
    fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let checkpoint = checkpoint(model);
    let rows = Source::open(&path).unwrap().rows(&Mapping::new()).unwrap();
    let prepared = rows.map(|row| checkpoint.prepare(row.unwrap(), Answers::All, Templating::Auto));
    prepared.map(|row| row.map_err(|skipped| message(&skipped.reason, skipped.hint))).collect()
}

#[test]
fn frames_in_any_form_are_the_same_sample_and_every_position_names_its_frame() {
    let dir = folder();
    let frames = names(0..5);
    let talk = json!([{"from": "human", "value": "<video>\nWhat moves?"}, {"from": "gpt", "value": "A square."}]);
    let said =
        |content: Value| json!([{"role": "user", "content": content}, {"role": "assistant", "content": "A square."}]);
    let bytes = |name: &String| json!({"bytes": fs::read(dir.path().join(name)).unwrap(), "path": name});
    let rows = [
        json!({"id": "a", "video": frames, "fps": 2, "conversations": talk}),
        json!({"id": "b", "frames": frames, "fps": 2.0, "question": "What moves?", "answer": "A square."}),
        json!({"id": "c", "video": frames.iter().map(bytes).collect::<Vec<_>>(), "fps": 2, "conversations": talk}),
        json!({"id": "d", "messages": said(json!([{"type": "video", "video": frames, "fps": 2}, "What moves?"]))}),
        json!({"id": "e", "video": frames, "fps": 2, "messages": said(json!([{"type": "video"}, "What moves?"]))}),
        json!({"id": "f", "video": frames, "conversations": talk}),
    ];
    for (model, columns) in [("qwen2_5_vl-video", 5), ("qwen3_vl-video", 4)] {
        let found: Vec<Prepared> = prepare(dir.path(), &rows, model).into_iter().map(Result::unwrap).collect();
        for other in &found[1..5] {
            assert_eq!(
                (&found[0].sample.id, &found[0].tokens),
                (&other.sample.id, &other.tokens),
                "{}",
                other.sample.key
            );
        }
        assert_ne!(found[0].sample.id, found[5].sample.id, "the rate is part of the content");
        let Prepared { sample, tokens, .. } = &found[0];
        assert_eq!(sample.images.iter().map(|image| image.path.clone()).collect::<Vec<_>>(), frames);
        assert!(sample.images.iter().all(|image| (image.width, image.height) == (61, 37)));
        let seen: Vec<_> = tokens.iter().filter(|token| token.modality == Modality::Image).collect();
        let of_frame = |frame: i16| seen.iter().filter(|token| token.image == Some(frame)).count();
        // Three patches of two frames, the last frame twice.
        let counts: Vec<usize> = (0..5).map(of_frame).collect();
        assert_eq!((counts[1], counts[3], counts[0] + counts[2] + counts[4]), (0, 0, seen.len()), "{model}");
        assert!(
            counts[0] == counts[2] && counts[0] == counts[4] && counts[0].is_multiple_of(columns),
            "{model}: {counts:?}"
        );
        assert!(seen.iter().all(|token| token.role == Role::User && !token.special && token.rect.is_some()));
        assert_eq!(seen[0].rect.unwrap()[..2], [0.0; 2]);
        assert_eq!(seen.last().unwrap().rect.unwrap()[2..], [1.0; 2]);
        let times: String = tokens.iter().filter(|t| t.modality == Modality::Text).map(|t| t.piece.as_str()).collect();
        assert_eq!(times.contains("<1.2 seconds>"), model.starts_with("qwen3"), "{times}");
    }
}

#[test]
fn tables_hold_the_bytes_of_frames_and_rows_without_a_video() {
    let dir = folder();
    let files: Vec<Vec<u8>> = names(0..3).iter().map(|name| fs::read(dir.path().join(name)).unwrap()).collect();
    let bytes = BinaryArray::from_iter_values(&files);
    let field = Arc::new(Field::new_list_field(DataType::Binary, true));
    let videos =
        ListArray::new(field, OffsetBuffer::from_lengths([3, 0]), Arc::new(bytes), Some(vec![true, false].into()));
    let texts = |texts: [&str; 2]| Arc::new(StringArray::from_iter_values(texts)) as ArrayRef;
    let columns = [
        ("question", texts(["What moves?", "Say hello."])),
        ("answer", texts(["A square.", "Hello."])),
        ("fps", Arc::new(Float64Array::from(vec![Some(2.0), None])) as ArrayRef),
        ("video", Arc::new(videos) as ArrayRef),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
    let table = dir.path().join("data.parquet");
    let mut writer = ArrowWriter::try_new(fs::File::create(&table).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (checkpoint, source) = (checkpoint("qwen2_5_vl-video"), Source::open(&table).unwrap());
    let rows = source.rows(&Mapping::new()).unwrap();
    let found: Vec<Prepared> =
        rows.map(|row| checkpoint.prepare(row.unwrap(), Answers::All, Templating::Auto).unwrap()).collect();
    let row = json!({"video": names(0..3), "fps": 2, "question": "What moves?", "answer": "A square."});
    let of_paths = prepare(dir.path(), &[row], "qwen2_5_vl-video").remove(0).unwrap();
    assert_eq!((&found[0].sample.id, &found[0].tokens), (&of_paths.sample.id, &of_paths.tokens));
    assert!(found[1].sample.images.is_empty() && found[0].sample.meta.get("video").is_none());
    assert_eq!(source.notes.take(), Vec::<String>::new());
}

#[test]
fn rows_whose_video_cannot_be_used_are_skipped_with_the_reason() {
    let dir = folder();
    let row = |more: Value| {
        let mut row = json!({"question": "What moves?", "answer": "A square."});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let frames = names(0..4);
    let one = json!({"video": names(0..1)});
    let two_marks = json!({"video": frames, "question": "<video> and <video>"});
    let rows = [
        (row(json!({"video": "clip.mp4"})), "mkdir -p clip && ffmpeg -i clip.mp4 -vf fps=2 clip/%06d.png"),
        (row(json!({"video": [], "question": "<video>\nWhat moves?"})), "the row has no frames (column video)"),
        (
            row(json!({"video": ["walk-0.png", "tall-0.png"]})),
            "frame 2 of the video has 18x40 pixels, the first one 61x37",
        ),
        (row(json!({"video": ["walk-0.png", "missing.png"]})), "cannot read the image"),
        (row(json!({"video": ["walk-0.png", "data.jsonl"]})), "frame 2 of the video: the image"),
        (row(json!({"video": frames, "fps": 0})), "fps is 0: expected a positive number of frames per second"),
        (row(json!({"video": frames, "fps": "fast"})), "fps is \"fast\": expected a positive number"),
        (row(json!({"video": frames, "image": "walk-0.png"})), "the row has a video (column video) and images"),
        (row(two_marks), "the row has one video, but its text refers to 2"),
        (row(json!({"video": names((0..5).cycle().take(2000))})), "the video has 2000 frames, at least 1000 positions"),
        (row(json!({"video": names((0..5).cycle().take(100))})), "the video has 100 frames, at least 750 positions"),
        (row(json!({"video": frames, "question": "<|video_pad|>"})), "contains <|video_pad|>, the placeholder of"),
    ];
    let found = prepare(dir.path(), &rows.iter().map(|(row, _)| row.clone()).collect::<Vec<_>>(), "qwen2_5_vl-video");
    for ((row, expected), found) in rows.iter().zip(found) {
        let reason = found.err().unwrap_or_else(|| panic!("{row} can be used"));
        assert!(reason.contains(expected), "{reason}");
    }
    // One frame is a video for Qwen2.5-VL, which repeats it, and too few for Qwen3-VL.
    let one = [row(one)];
    assert!(prepare(dir.path(), &one, "qwen2_5_vl-video")[0].is_ok());
    let reason = prepare(dir.path(), &one, "qwen3_vl-video").remove(0).unwrap_err();
    assert!(reason.contains("the video has 1 frame: the model takes 2 or more"), "{reason}");
    // A column `frames` that lists something else is metadata.
    let named = prepare(dir.path(), &[row(json!({"frames": ["Motion", "Arriving"]}))], "qwen2_5_vl-video").remove(0);
    assert_eq!(named.unwrap().sample.meta["frames"], json!(["Motion", "Arriving"]));
}

#[test]
fn models_that_take_no_videos_skip_them_and_count_them() {
    let dir = folder();
    let rows = [
        json!({"id": "video", "video": names(0..2), "question": "q", "answer": "a"}),
        json!({"id": "image", "image": "walk-0.png", "question": "q", "answer": "a"}),
    ];
    for model in ["llava-a", "llava_onevision-a", "text-qwen2", "qwen2_5_vl-b"] {
        let reason = prepare(dir.path(), &rows, model).remove(0).unwrap_err();
        assert!(reason.starts_with("the row has a video, but the "), "{model}: {reason}");
    }
    let run = Run::create(&dir.path().join("run")).unwrap();
    let model = repository().join("tests/golden/llava-a");
    let plan =
        Plan { device: DeviceChoice::Cpu, ..Plan::new(model, dir.path().join("data.jsonl"), vec![Hook::block(1)]) };
    harvest(&plan, &run, &mut |_| Ok(())).unwrap();
    assert_eq!(load_samples(&run).unwrap()[0].key, "image");
    let skipped: Vec<_> = read_skipped(&run).unwrap().map(Result::unwrap).collect();
    assert_eq!((skipped.len(), skipped[0].key.as_str()), (1, "video"));
    assert!(Store::open(&run, "layers.1").is_ok());
}
