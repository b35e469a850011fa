//! Samples of a run with their tokens and pictures, a piece with the path that leads to it. Keeps the token tables that were read last, [`TABLES`] of them.

use super::message;
use super::pictures::{self, LARGE, SMALL};
use crate::state::sample::{Picture, PieceView, SampleData, TokenView};
use arrow::array::{Array, BooleanArray, Float32Array, Int16Array, RecordBatch, StringArray, UInt8Array, UInt32Array};
use filters::select::Groups;
use sae_core::store::sample::{Modality, Sample};
use sae_core::store::{Paths, STEP, StoreRecord, load_samples};
use sae_core::{Error, Run, table};
use sae_workbench::RemoteRun;
use sae_workbench::sample_images::SampleImages;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Token tables kept. A part of 65,536 positions takes about 4 MB.
const TABLES: usize = 8;

const COLUMNS: [&str; 10] = ["sample", "position", "modality", "piece", "special", "image", "x0", "y0", "x1", "y1"];

/// Reads samples of one run.
pub struct Samples {
    run: Run,
    images: SampleImages,
    /// The server that has the run and its data set.
    remote: Option<Arc<RemoteRun>>,
    /// Read when the first sample is asked for.
    catalog: Option<Result<Catalog, String>>,
    tables: VecDeque<(usize, RecordBatch)>,
}

/// All samples, and which part of the store has which of them.
struct Catalog {
    samples: Vec<Sample>,
    paths: Paths,
    /// For each part, the number of the first sample behind it.
    ends: Vec<u64>,
}

impl Samples {
    /// A reader of a run. `data` overrides where the run says that its data set is.
    pub fn new(run: Run, data: Option<&Path>, remote: Option<Arc<RemoteRun>>) -> Self {
        let images = SampleImages::new(&run, data);
        Self { run, images, remote, catalog: None, tables: VecDeque::new() }
    }

    fn catalog(&mut self) -> Result<&Catalog, String> {
        let run = &self.run;
        self.catalog.get_or_insert_with(|| Catalog::read(run)).as_ref().map_err(Clone::clone)
    }

    fn sample(&mut self, number: u32) -> Result<Sample, String> {
        let catalog = self.catalog()?;
        let sample = catalog.samples.get(number as usize).cloned();
        sample.ok_or_else(|| format!("The run has no sample {number}, only {}.", catalog.samples.len()))
    }

    /// Reads a sample with small pictures.
    pub fn read(&mut self, number: u32) -> Result<SampleData, String> {
        let sample = self.sample(number)?;
        let Catalog { ends, paths, .. } = self.catalog()?;
        let part = ends.partition_point(|end| *end <= u64::from(number));
        if part == ends.len() {
            return Err(format!("No part of the store has sample {number}."));
        }
        // All pieces of a path are in one part.
        let pieces = paths.path(number);
        if let Some(remote) = &self.remote {
            remote.need(&self.run.tokens(part)).map_err(message)?;
        }
        let mut tokens = Vec::new();
        for piece in pieces {
            tokens.extend(self.tokens(part, piece).map_err(|error| error.message())?);
        }
        let pictures = (0..sample.images.len()).map(|picture| self.picture_of(number, picture, SMALL)).collect();
        let piece = sample.piece.map(|piece| PieceView { branch: piece.branch, parent: piece.parent });
        Ok(SampleData { key: sample.key, source: sample.source, piece, tokens, pictures })
    }

    /// Reads one picture of a sample, large.
    pub fn picture(&mut self, number: u32, picture: usize) -> Result<Picture, String> {
        self.picture_of(number, picture, LARGE)
    }

    /// Reads one picture of a sample, in the row of the piece that brings it.
    fn picture_of(&mut self, number: u32, picture: usize, side: usize) -> Result<Picture, String> {
        let sample = self.sample(number)?;
        let image = sample.images.get(picture).ok_or_else(|| format!("Sample {number} has no picture {picture}."))?;
        let remote = self.remote.clone();
        let Catalog { samples, paths, .. } = self.catalog()?;
        let owner = paths.image(samples, number, picture).map_or(number, |(piece, _)| piece);
        if let Some(remote) = remote {
            return pictures::decode(&remote.image(owner, picture, side).map_err(message)?, &image.path, side);
        }
        let source = samples[owner as usize].source.clone();
        pictures::read(&self.images, image, &source, side)
    }

    /// The samples whose caption or key has all words of a text, upper and lower case alike. The caption of a piece is that of its
    /// path.
    pub fn search(&mut self, text: &str) -> Result<Vec<u32>, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        let Catalog { samples, paths, .. } = self.catalog()?;
        let has = |sample: &Sample, number: u32| {
            let (caption, key) = (paths.text(samples, number).to_lowercase(), sample.key.to_lowercase());
            words.iter().all(|word| caption.contains(word) || key.contains(word))
        };
        Ok(samples.iter().zip(0..).filter(|(sample, number)| has(sample, *number)).map(|(_, number)| number).collect())
    }

    /// All samples, and which of them continue which.
    pub fn all(&mut self) -> Result<(&[Sample], &Paths), String> {
        let Catalog { samples, paths, .. } = self.catalog()?;
        Ok((samples, paths))
    }

    /// The groups that columns of the data set divide the samples into.
    pub fn groups(&mut self, fields: &str) -> Result<Groups, String> {
        Groups::by_fields(&self.catalog()?.samples, fields).map_err(|error| error.message())
    }

    fn tokens(&mut self, part: usize, number: u32) -> Result<Vec<TokenView>, Error> {
        let path = self.run.tokens(part);
        match self.tables.iter().position(|(known, _)| *known == part) {
            Some(at) => self.tables.rotate_left(at),
            None => {
                let columns = table::read(&path, &COLUMNS)?;
                self.tables.truncate(TABLES - 1);
                self.tables.push_front((part, columns));
            }
        }
        let (_, columns) = &self.tables[0];
        let samples = table::get::<UInt32Array>(&path, columns, "sample")?.values();
        let rows = samples.partition_point(|s| *s < number)..samples.partition_point(|s| *s <= number);
        views(&path, columns, rows)
    }
}

impl Catalog {
    fn read(run: &Run) -> Result<Self, String> {
        let harvest: Option<StoreRecord> = run.read_step(STEP).map_err(|error| error.message())?;
        let harvest = harvest.ok_or("run.json does not say how the store is divided.")?;
        if !run.samples().is_file() {
            return Err("The harvest is not finished: there is no samples.parquet yet.".into());
        }
        let ends = harvest.parts.iter().scan(0, |end, part| {
            *end += part.samples;
            Some(*end)
        });
        let ends = ends.collect();
        let samples = load_samples(run).map_err(|error| error.message())?;
        let paths = Paths::from_samples(&samples).map_err(|error| format!("samples.parquet is damaged: {error}."))?;
        Ok(Self { samples, paths, ends })
    }
}

fn views(path: &Path, columns: &RecordBatch, rows: Range<usize>) -> Result<Vec<TokenView>, Error> {
    let position = table::get::<UInt32Array>(path, columns, "position")?;
    let modality = table::get::<UInt8Array>(path, columns, "modality")?;
    let text = table::get::<StringArray>(path, columns, "piece")?;
    let special = table::get::<BooleanArray>(path, columns, "special")?;
    let image = table::get::<Int16Array>(path, columns, "image")?;
    let corner = |name| table::get::<Float32Array>(path, columns, name);
    let corners = [corner("x0")?, corner("y0")?, corner("x1")?, corner("y1")?];
    let view = |row: usize| {
        let rect = corners.iter().all(|c| c.is_valid(row)).then(|| corners.map(|c| c.value(row)));
        Ok(TokenView {
            position: position.value(row),
            modality: Modality::try_from(modality.value(row)).map_err(Error::format(path))?,
            text: text.value(row).into(),
            special: special.value(row),
            image: image.is_valid(row).then(|| image.value(row)).and_then(|number| usize::try_from(number).ok()),
            rect: rect.filter(|rect| rect.iter().all(|c| (0.0..=1.0).contains(c))),
        })
    };
    rows.map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::store::sample::{ImageRef, Piece, Role, Token};
    use sae_core::store::{Hook, Part, StoreDtype, StoreSpec, StoreWriter};

    /// A question with a picture, two answers, and a question to the second one with another picture.
    fn run(dir: &Path) -> Run {
        let run = Run::create(dir).unwrap();
        let spec = StoreSpec {
            model: "m".into(),
            architecture: "m".into(),
            hooks: vec![Hook::block(0)],
            d_in: 1,
            dtype: StoreDtype::F32,
            fingerprint: "f".into(),
            slice: None,
            pieces: true,
            critiques: false,
            arguments: serde_json::Value::Null,
        };
        let token = |position: u32, piece: &str| Token {
            position,
            modality: Modality::Text,
            token_id: 0,
            piece: piece.into(),
            role: Role::User,
            special: false,
            image: None,
            rect: None,
        };
        let sample = |n: usize, parent: Option<u32>, text: &str, pictures: &[&str], tokens: &[(u32, &str)]| {
            let image = |path: &&str| ImageRef { path: (*path).into(), width: 1, height: 1, sha256: String::new() };
            let sample = Sample {
                id: n.to_string(),
                key: format!("key-{n}"),
                text: text.into(),
                images: pictures.iter().map(image).collect(),
                source: format!("rows-{n}.jsonl:0"),
                meta: serde_json::Value::Null,
                piece: Some(Piece { parent, branch: format!("b{n}"), is_critique: false }),
            };
            (sample, tokens.iter().map(|(position, piece)| token(*position, piece)).collect::<Vec<_>>())
        };
        let samples = vec![
            sample(0, None, "What is it?", &["a.png"], &[(0, "What"), (1, " is it?")]),
            sample(1, Some(0), "A cat", &["a.png"], &[(2, " A cat")]),
            sample(2, Some(0), "A dog", &["a.png"], &[(2, " A dog")]),
            sample(3, Some(2), "And this?", &["a.png", "b.png"], &[(3, " And"), (4, " this?")]),
        ];
        let mut writer = StoreWriter::open(&run, spec).unwrap();
        writer.write_part(&Part { samples, activations: vec![vec![0.0; 6]], source_rows: 1, skipped: vec![] }).unwrap();
        writer.finish().unwrap();
        run
    }

    #[test]
    fn a_piece_is_shown_with_the_path_that_leads_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut samples = Samples::new(run(&dir.path().join("run")), Some(dir.path()), None);
        let read = samples.read(3).unwrap();
        let texts: String = read.tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(texts, "What is it? A dog And this?");
        assert!((0..).zip(&read.tokens).all(|(position, token)| token.position == position));
        assert_eq!(read.piece, Some(PieceView { branch: "b3".into(), parent: Some(2) }));
        // Each picture is looked for in the row of the piece that brings it.
        std::fs::write(dir.path().join("rows-0.jsonl"), "{\"text\": \"x\"}\n").unwrap();
        std::fs::write(dir.path().join("rows-3.jsonl"), "[\n").unwrap();
        let reasons: Vec<String> =
            read.pictures.into_iter().map(|picture| picture.map(|p| p.size).unwrap_err()).collect();
        assert!(reasons.len() == 2 && reasons[0].contains("a.png") && reasons[1].contains("b.png"), "{reasons:?}");
        assert!(samples.picture(3, 1).is_err_and(|reason| reason.contains("cannot be read")));
        assert!(samples.picture(3, 0).is_err_and(|reason| reason.contains("not found")));
        // Captions are searched along paths.
        assert_eq!(samples.search("what dog"), Ok(vec![2, 3]));
        assert_eq!(samples.search("CAT"), Ok(vec![1]));
        assert_eq!(samples.search("key-0"), Ok(vec![0]));
    }
}
