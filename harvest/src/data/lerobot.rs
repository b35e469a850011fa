//! LeRobot data sets (v2.0, v2.1 and v3.0): Parquet files of steps under `data/`, with the tasks, cameras and statistics in
//! `meta/`. Completes the columns of a step with its task, its episode and the frames of its cameras. Decodes no video:
//! frames of videos have to be extracted into files.

use super::columns::{Columns, IMAGES};
use super::file_kind::FileKind;
use super::image::ImageFile;
use super::notes::Notes;
use super::row_error::RowError;
use super::{json, parquet};
use crate::{Error, Result};
use sae_core::path_text;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The file that makes a folder a LeRobot data set.
const INFO: &str = "meta/info.json";
/// Size of the largest `info.json`, in bytes.
const INFO_LIMIT: u64 = 1 << 26;
/// Tasks that a data set may have.
const TASKS: usize = 1 << 20;
/// Folders between a data file and the data set's folder: `data/chunk-000/episode_000000.parquet`.
const DEPTH: usize = 3;
/// Kinds of files in which frames may have been extracted.
const FRAME_EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// What the `meta` folder of a data set says.
#[derive(Debug)]
pub(super) struct LeRobot {
    root: PathBuf,
    /// The task of each number.
    tasks: BTreeMap<u64, String>,
    /// The columns of cameras, and whether their frames are in videos.
    cameras: Vec<(String, bool)>,
    /// Whether several episodes share a file (v3.0).
    shared_files: bool,
    /// Steps in a chunk of files.
    chunk: u64,
}

/// The folder of the data set that a file or folder belongs to or is, if it is one of LeRobot.
pub(crate) fn root_of(path: &Path) -> Option<&Path> {
    path.ancestors().take(DEPTH + 1).find(|folder| folder.join(INFO).is_file())
}

/// The files with the steps of the data set in a folder, in order; nothing if it is not one of LeRobot.
///
/// # Errors
/// A folder cannot be listed, or there are no files of steps.
pub(super) fn files(root: &Path) -> Result<Option<Vec<PathBuf>>> {
    if !root.join(INFO).is_file() || LeRobot::read_info(root)?.is_none() {
        return Ok(None);
    }
    let mut files = Vec::new();
    let mut folders = vec![root.join("data")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(Error::io("list the folder", &folder))?;
        for entry in entries {
            let path = entry.map_err(Error::io("list the folder", &folder))?.path();
            // Links to folders are not followed, so that no folder is listed twice.
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if FileKind::from_path(&path) == FileKind::Parquet {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::data(root)("the LeRobot data set has no Parquet files in data/"));
    }
    Ok(Some(files))
}

impl LeRobot {
    /// The data set that a file belongs to, if it is one of LeRobot.
    ///
    /// # Errors
    /// `meta/info.json` or the tasks cannot be read, or the version is not supported.
    pub fn containing(file: &Path) -> Result<Option<Self>> {
        match file.parent().and_then(root_of) {
            Some(root) => Self::open(root),
            None => Ok(None),
        }
    }

    /// The content of `meta/info.json`, if it is LeRobot's.
    fn read_info(root: &Path) -> Result<Option<Value>> {
        let info: Value = sae_core::file::read_json(&root.join(INFO), INFO_LIMIT)?;
        Ok(info["codebase_version"].is_string().then_some(info))
    }

    fn open(root: &Path) -> Result<Option<Self>> {
        let Some(info) = Self::read_info(root)? else { return Ok(None) };
        let failed = |cause: String| Error::data(&root.join(INFO))(cause);
        let version = info["codebase_version"].as_str().unwrap_or_default();
        if !version.starts_with("v2.") && !version.starts_with("v3.") {
            let cause = format!("LeRobot's codebase_version {version} is not supported: expected v2.0, v2.1 or v3.0");
            return Err(failed(cause).with_hint("convert the data set with the scripts of LeRobot"));
        }
        let features = info["features"].as_object().ok_or_else(|| failed("features is not an object".into()))?;
        let cameras = features.iter().filter_map(|(name, feature)| match feature["dtype"].as_str() {
            Some("image") => Some((name.clone(), false)),
            Some("video") => Some((name.clone(), true)),
            _ => None,
        });
        Ok(Some(Self {
            root: root.to_path_buf(),
            tasks: tasks(root)?,
            cameras: cameras.collect(),
            shared_files: version.starts_with("v3."),
            chunk: info["chunks_size"].as_u64().filter(|size| *size > 0).unwrap_or(1000),
        }))
    }

    /// Adds what a step lacks: `task`, `episode`, `step`, and the images of its cameras, or of the one that `mapping` takes
    /// for `image`.
    ///
    /// # Errors
    /// The task is not listed, or the frame of a camera is in a video alone.
    pub fn complete(&self, columns: &mut Columns, mapping: &[(String, String)]) -> Result<(), RowError> {
        let number = |columns: &Columns, name: &str| columns.fields.get(name).and_then(Value::as_u64);
        let (episode, step) = (number(columns, "episode_index"), number(columns, "frame_index"));
        for (name, number) in [("episode", episode), ("step", step)] {
            if let Some(number) = number {
                columns.fields.entry(name).or_insert_with(|| number.into());
            }
        }
        if let Some(task) = number(columns, "task_index") {
            let text =
                self.tasks.get(&task).ok_or_else(|| format!("task_index {task} is not among the tasks in meta/"))?;
            columns.fields.entry("task").or_insert_with(|| text.as_str().into());
        }
        let chosen = mapping.iter().find(|(field, _)| IMAGES.contains(&field.as_str())).map(|(_, column)| column);
        let mut frames = Vec::new();
        for (camera, is_video) in &self.cameras {
            if chosen.is_some_and(|chosen| chosen != camera) {
                columns.images.remove(camera);
                continue;
            }
            let in_table = columns.images.remove(camera).unwrap_or_default().into_iter().flatten().next();
            let frame = match (in_table.filter(|image| image.bytes.is_some()), episode, step) {
                (Some(image), ..) => image,
                (None, Some(episode), Some(step)) => {
                    let found = self.frame_file(camera, episode, step);
                    found.ok_or_else(|| self.missing_frame(camera, *is_video, episode, step))?
                }
                (None, ..) => return Err("the row has no episode_index and frame_index".into()),
            };
            columns.fields.shift_remove(camera);
            frames.push(Some(frame));
        }
        match chosen {
            Some(camera) if !frames.is_empty() => columns.images.insert(camera.clone(), frames),
            None if !frames.is_empty() => columns.images.insert("images".into(), frames),
            _ => None,
        };
        Ok(())
    }

    /// The file of an extracted frame, where LeRobot's recorder puts it (with either spelling of its versions).
    fn frame_file(&self, camera: &str, episode: u64, step: u64) -> Option<ImageFile> {
        let stems = [
            format!("images/{camera}/episode_{episode:06}/frame_{step:06}"),
            format!("images/{camera}/episode-{episode:06}/frame-{step:06}"),
        ];
        let names = stems.iter().flat_map(|stem| FRAME_EXTENSIONS.map(|extension| format!("{stem}.{extension}")));
        let found = names.map(|name| self.root.join(&name)).find(|path| path.is_file())?;
        let name = path_text::encode(found.strip_prefix(&self.root).unwrap_or(&found));
        Some(ImageFile { file: found, ..ImageFile::from_path(&name) })
    }

    fn missing_frame(&self, camera: &str, is_video: bool, episode: u64, step: u64) -> RowError {
        let folder = format!("images/{camera}/episode_{episode:06}");
        if !is_video {
            return format!(
                "the table has no image of the camera {camera}, and there is no {folder}/frame_{step:06}.png"
            )
            .into();
        }
        let chunk = episode / self.chunk;
        let (video, part) = if self.shared_files {
            let part = format!(
                "-ss START -frames:v LENGTH, where START is videos/{camera}/from_timestamp and LENGTH is length in meta/episodes"
            );
            (format!("videos/{camera}/chunk-000/file-000.mp4"), part)
        } else {
            (format!("videos/chunk-{chunk:03}/{camera}/episode_{episode:06}.mp4"), String::new())
        };
        let command = format!("ffmpeg -i {video} -start_number 0 {folder}/frame_%06d.png");
        let more = if part.is_empty() { String::new() } else { format!(", with {part}") };
        RowError::from(format!("the frames of the camera {camera} are in a video, which is not decoded"))
            .with_hint(format!("extract them first: mkdir -p {folder} && {command}{more}").into())
    }
}

/// The texts of the tasks, from `meta/tasks.jsonl` (v2) or `meta/tasks.parquet` (v3). There are none without such a file.
fn tasks(root: &Path) -> Result<BTreeMap<u64, String>> {
    let [lines, table] = ["meta/tasks.jsonl", "meta/tasks.parquet"].map(|name| root.join(name));
    let rows = if lines.is_file() {
        json::lines(&lines)?
    } else if table.is_file() {
        parquet::rows(&table, &Notes::default())?
    } else {
        return Ok(BTreeMap::new());
    };
    let mut tasks = BTreeMap::new();
    for columns in rows.take(TASKS) {
        let Ok(columns) = columns? else { continue };
        // pandas writes the index of a table under the second name if it has none of its own.
        let text = ["task", "__index_level_0__"].iter().find_map(|name| columns.fields.get(*name)?.as_str());
        if let (Some(number), Some(text)) = (columns.fields.get("task_index").and_then(Value::as_u64), text) {
            tasks.insert(number, text.to_owned());
        }
    }
    Ok(tasks)
}
