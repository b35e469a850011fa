//! LeRobot data sets: steps get their task, their episode and the frames of their cameras from the layouts of all supported
//! versions, and videos are refused with the command that extracts their frames.

use crate::data::{PICTURES, picture, samples};
use crate::golden::repository;
use arrow::array::{ArrayRef, BinaryArray, Float32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use harvest::data::{Mapping, Source};
use harvest::{Plan, Prepared};
use parquet::arrow::ArrowWriter;
use sae_core::store::Hook;
use sae_core::store::sample::Modality;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

fn write_batch(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Two steps of an episode, with the images of a camera where they are in the table.
fn write_episode(path: &Path, episode: i64, camera: Option<&str>) {
    let numbers = |values: [i64; 2]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
    let actions = Arc::new(Float32Array::from(vec![-1.0, 0.5, f32::NAN, 0.5]));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let actions: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2, 2]), actions, None));
    let mut columns = vec![
        ("action", actions),
        ("episode_index", numbers([episode; 2])),
        ("frame_index", numbers([0, 1])),
        ("index", numbers([2 * episode, 2 * episode + 1])),
        ("task_index", numbers([0, 7])),
    ];
    if let Some(camera) = camera {
        let bytes: ArrayRef = Arc::new(BinaryArray::from_iter([0, 1].map(|n| Some(picture(n)))));
        let paths: ArrayRef = Arc::new(StringArray::from(PICTURES.to_vec()));
        let field = |name, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
        let images = StructArray::from(vec![(field("bytes", &bytes), bytes), (field("path", &paths), paths)]);
        columns.push((camera, Arc::new(images)));
    }
    write_batch(path, columns);
}

fn write_json(path: &Path, content: &Value) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content.to_string()).unwrap();
}

fn statistics() -> Value {
    json!({"action": {"q01": [-1.0, -1.0], "q99": [1.0, 1.0]}, "observation.state": {"mean": [0.0]}})
}

/// The ids of a step's action, and its number of image positions.
fn action(step: &Prepared) -> (Vec<i32>, usize) {
    let of = |modality| step.tokens.iter().filter(move |token| token.modality == modality);
    (of(Modality::Action).map(|token| token.token_id).collect(), of(Modality::Image).count())
}

fn steps(data: &Path, mapping: &Mapping) -> Vec<Result<Prepared, String>> {
    // Through a plan, which finds the statistics of the data set.
    let mut plan = Plan::new(repository().join("assets/demo-mllm"), data, vec![Hook::block(0)]);
    plan.mapping.clone_from(mapping);
    let mut found = Vec::new();
    let skipped = harvest::for_each_sample(&plan, &mut |captured, _| {
        found.push(Ok(captured.sample.clone()));
        Ok::<_, harvest::Error>(())
    });
    let skipped = skipped
        .unwrap()
        .into_first()
        .into_iter()
        .map(|row| Err(format!("{} {}", row.reason, row.hint.map(|hint| hint.to_string()).unwrap_or_default())));
    found.extend(skipped);
    found
}

#[test]
fn steps_with_images_in_the_table_have_tasks_episodes_and_actions() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let features = json!({"observation.images.top": {"dtype": "image"}, "action": {"dtype": "float32"}});
    write_json(&root.join("meta/info.json"), &json!({"codebase_version": "v2.0", "features": features}));
    write_json(&root.join("meta/stats.json"), &statistics());
    fs::write(root.join("meta/tasks.jsonl"), "{\"task_index\": 0, \"task\": \"lift it\"}\n").unwrap();
    fs::write(root.join("meta/episodes.jsonl"), "{\"episode_index\": 0, \"length\": 2}\n").unwrap();
    for episode in [0, 1] {
        let path = root.join(format!("data/chunk-000/episode_{episode:06}.parquet"));
        write_episode(&path, episode, Some("observation.images.top"));
    }
    let found = steps(root, &Mapping::new());
    // The second step of each episode has an action that is not finite.
    let [first, second, skipped, ..] = &found[..] else { panic!("{}", found.len()) };
    let (first, second) = (first.as_ref().unwrap(), second.as_ref().unwrap());
    assert_eq!((found.len(), first.sample.text.as_str()), (4, "lift it"));
    assert_eq!(action(first), (vec![2047, 2048 - 192], 64));
    assert_eq!((&second.sample.meta["episode"], &second.sample.meta["step"]), (&json!(1), &json!(0)));
    assert_eq!(second.sample.source, "data/chunk-000/episode_000001.parquet:0");
    let error = skipped.as_ref().err().unwrap();
    assert!(error.contains("not finite in dimension 0") || error.contains("task_index 7 is not among"), "{error}");
    // A single file knows its data set, too.
    let file = root.join("data/chunk-000/episode_000001.parquet");
    assert_eq!(steps(&file, &Mapping::new())[0].as_ref().unwrap().sample.id, second.sample.id);
}

#[test]
fn frames_of_videos_are_read_once_they_are_extracted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let features = json!({"top": {"dtype": "video"}, "wrist": {"dtype": "video"}, "action": {"dtype": "float32"}});
    write_json(&root.join("meta/info.json"), &json!({"codebase_version": "v3.0", "features": features}));
    write_json(&root.join("meta/stats.json"), &statistics());
    let (numbers, texts) = (Arc::new(Int64Array::from(vec![0, 7])), Arc::new(StringArray::from(vec!["lift", "drop"])));
    write_batch(&root.join("meta/tasks.parquet"), vec![("task_index", numbers), ("__index_level_0__", texts)]);
    write_episode(&root.join("data/chunk-000/file-000.parquet"), 0, None);
    let refused = samples(root, &Mapping::new()).remove(0).err().unwrap();
    assert!(refused.contains("the frames of the camera top are in a video"), "{refused}");
    assert!(refused.contains("ffmpeg -i videos/top/chunk-000/file-000.mp4"), "{refused}");
    let folder = root.join("images/wrist/episode-000000");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("frame-000000.png"), picture(0)).unwrap();
    let wrist = vec![("image".to_owned(), "wrist".to_owned())];
    let found = steps(root, &wrist);
    let step = found[0].as_ref().unwrap();
    assert_eq!((step.sample.text.as_str(), action(step).1, step.sample.images.len()), ("lift", 64, 1));
    assert_eq!(step.sample.images[0].path, "images/wrist/episode-000000/frame-000000.png");

    let info = json!({"codebase_version": "v2.1", "features": features, "chunks_size": 10});
    write_json(&root.join("meta/info.json"), &info);
    write_episode(&root.join("data/chunk-001/episode_000012.parquet"), 12, None);
    fs::remove_file(root.join("data/chunk-000/file-000.parquet")).unwrap();
    let refused = samples(root, &wrist).remove(0).err().unwrap();
    assert!(refused.contains("ffmpeg -i videos/chunk-001/wrist/episode_000012.mp4"), "{refused}");
}

#[test]
fn other_versions_and_damaged_descriptions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write_episode(&root.join("data/chunk-000/episode_000000.parquet"), 0, None);
    let said = |info: &Value| {
        write_json(&root.join("meta/info.json"), info);
        let rows = Source::open(root).and_then(|source| source.rows(&Mapping::new())?.next().unwrap());
        rows.err().unwrap().to_string()
    };
    let old = said(&json!({"codebase_version": "v1.6", "features": {}}));
    assert!(old.contains("v1.6 is not supported: expected v2.0, v2.1 or v3.0"), "{old}");
    assert!(said(&json!({"codebase_version": "v2.1", "features": []})).contains("features is not an object"));
    fs::remove_dir_all(root.join("data")).unwrap();
    fs::create_dir(root.join("data")).unwrap();
    assert!(said(&json!({"codebase_version": "v2.1"})).contains("no Parquet files"));
    // Another tool's meta/info.json makes no LeRobot data set.
    write_json(&root.join("meta/info.json"), &json!({"name": "other"}));
    write_batch(&root.join("data/a.parquet"), vec![("text", Arc::new(StringArray::from(vec!["a"])))]);
    assert_eq!(samples(root, &Mapping::new()).len(), 1);
}
