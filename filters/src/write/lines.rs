//! Writes rows as JSON: `data.jsonl` with parts, `llava.json`, and `sharegpt.jsonl` with its `dataset_info.json`.

use super::image::ImageOutput;
use super::row::Row;
use super::stage::{Output, put_file};
use super::{Contents, Names, Sink, chat_json};
use crate::{Error, Result};
use sae_core::error::Cause;
use sae_core::store::sample::Role;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

fn place(row: &Row, images: &mut ImageOutput) -> Result<Vec<String>> {
    row.images.iter().map(|image| images.place(image)).collect()
}

/// Writes one object per line.
pub(super) struct Jsonl(Output);

impl Jsonl {
    pub fn new(out: &Path) -> Result<Self> {
        Output::new(&out.join("data.jsonl")).map(Self)
    }
}

impl Sink for Jsonl {
    fn push(&mut self, row: &Row, images: &mut ImageOutput) -> Result<()> {
        let images = place(row, images)?;
        put_line(&mut self.0, chat_json::row_of_parts(row, Some(images)))
    }

    fn finish(&mut self) -> Result<Contents> {
        self.0.finish()?;
        Ok(Contents::new("data.jsonl"))
    }
}

fn put_line(out: &mut Output, fields: Map<String, Value>) -> Result<()> {
    out.put(format!("{}\n", Value::Object(fields)).as_bytes())
}

/// Writes one array, as LLaVA's training reads it. Of two answers, only the preferred one is written.
pub(super) struct Llava {
    out: Output,
    begun: bool,
    /// Whether a single image is also written as a list, because readers of tables require the same type in all rows.
    lists: bool,
}

impl Llava {
    pub fn new(out: &Path, lists: bool) -> Result<Self> {
        Ok(Self { out: Output::new(&out.join("llava.json"))?, begun: false, lists })
    }
}

impl Sink for Llava {
    fn push(&mut self, row: &Row, images: &mut ImageOutput) -> Result<()> {
        let mut turns = row.turns.clone();
        turns.extend(row.pair.as_ref().map(|pair| chat_json::answer(&pair.chosen)));
        if row.turns.iter().any(|turn| turn.role == Role::System) {
            let text = format!("the row {} has a system turn, and LLaVA's training knows only human and gpt", row.key);
            let hint = super::other_format(&["jsonl", "parquet", "sharegpt"]);
            return Err(Error::request(Cause::with_hint(text, hint)));
        }
        let mut fields = Map::new();
        match &place(row, images)?[..] {
            [] => {}
            [image] if !self.lists => drop(fields.insert("image".into(), image.as_str().into())),
            several => drop(fields.insert("image".into(), several.into())),
        }
        fields.insert("conversations".into(), chat_json::with_placeholders(row, &turns)?);
        fields.extend(row.columns.clone());
        self.out.put(if self.begun { b",\n" } else { b"[\n" })?;
        self.begun = true;
        self.out.put(Value::Object(fields).to_string().as_bytes())
    }

    fn finish(&mut self) -> Result<Contents> {
        self.out.put(if self.begun { b"\n]\n" } else { b"[]\n" })?;
        self.out.finish()?;
        Ok(Contents::new("llava.json"))
    }
}

/// Writes conversations and preference pairs to separate files, each with an entry in `dataset_info.json`.
pub(super) struct Sharegpt {
    folder: PathBuf,
    names: Names,
    /// The files of conversations and of pairs. A file is opened for its first row.
    files: [Option<Output>; 2],
}

/// The names of the two, as entries and as files.
const SETS: [&str; 2] = ["sharegpt", "sharegpt_pairs"];

impl Sharegpt {
    pub fn new(out: &Path, names: Names) -> Self {
        Self { folder: out.to_path_buf(), names, files: [None, None] }
    }

    fn file(&mut self, set: usize) -> Result<&mut Output> {
        let file = match self.files[set].take() {
            Some(file) => file,
            None => Output::new(&self.folder.join(SETS[set]).with_extension("jsonl"))?,
        };
        Ok(self.files[set].insert(file))
    }
}

impl Sink for Sharegpt {
    fn push(&mut self, row: &Row, images: &mut ImageOutput) -> Result<()> {
        let conversation = chat_json::with_placeholders(row, &row.turns)?;
        let mut fields = self.names.identity(&row.columns);
        fields.insert("conversations".into(), conversation);
        if let Some(pair) = &row.pair {
            for (name, answer) in [("chosen", &pair.chosen), ("rejected", &pair.rejected)] {
                let turn = chat_json::with_placeholders(row, &[chat_json::answer(answer)])?;
                fields.insert(name.into(), turn[0].clone());
            }
        }
        fields.insert("images".into(), place(row, images)?.into());
        let file = self.file(row.pair.is_some() as usize)?;
        put_line(file, fields)
    }

    fn finish(&mut self) -> Result<Contents> {
        if self.files.iter().all(Option::is_none) {
            self.file(0)?;
        }
        let mut info = Map::new();
        let mut contents = Contents::default();
        for (set, (name, file)) in SETS.into_iter().zip(&mut self.files).enumerate() {
            let Some(file) = file else { continue };
            file.finish()?;
            contents.sets.insert(name.into(), vec![format!("{name}.jsonl").into()]);
            let mut columns = json!({ "messages": "conversations", "images": "images" });
            let mut entry = json!({ "file_name": format!("{name}.jsonl"), "formatting": "sharegpt" });
            if set == 1 {
                entry["ranking"] = true.into();
                columns["chosen"] = "chosen".into();
                columns["rejected"] = "rejected".into();
            }
            entry["columns"] = columns;
            info.insert(name.into(), entry);
        }
        let text = format!("{:#}\n", Value::Object(info));
        put_file(&self.folder.join("dataset_info.json"), text.as_bytes())?;
        Ok(contents)
    }
}
