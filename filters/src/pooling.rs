//! The pooled activations of every sample: for each of its features, where it is active and how strongly. They are collected
//! during a pass and stored in an unnamed temporary file, so that memory does not grow with the data. They are read back by
//! the number of the sample, so that the order of the shards does not matter. A piece goes on from what was found in the piece that
//! it continues. Computes no weights.

use crate::definition::{Definition, IMAGE, Sides, TEXT};
use sae_core::analysis::part::{Mergeable, PartWriter, Section};
use sae_core::analysis::pass::{Block, Observer};
use sae_core::store::{PathStack, Paths};
use sae_core::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The modalities of a sample on which a feature is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActiveOn {
    /// Whether it is active on at least one text token.
    pub text: bool,
    /// Whether it is active on at least one image token.
    pub image: bool,
}

impl ActiveOn {
    /// Whether it is active on both.
    pub fn both(self) -> bool {
        self.text && self.image
    }

    /// Whether it is active on at least one of them.
    pub fn any(self) -> bool {
        self.text || self.image
    }

    fn add(&mut self, side: usize) {
        match side {
            TEXT => self.text = true,
            _ => self.image = true,
        }
    }

    fn bits(self) -> u8 {
        u8::from(self.text) | u8::from(self.image) << 1
    }

    fn from_bits(bits: u8) -> Self {
        Self { text: bits & 1 != 0, image: bits & 2 != 0 }
    }
}

/// The pooled activations of one feature in one sample. Pairs are `[text, image]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PooledFeature {
    /// The feature.
    pub feature: u32,
    /// The largest activation on positions with content.
    pub max: [f32; 2],
    /// The sum of activations on positions with content.
    pub sum: [f32; 2],
    /// Where it is above the threshold, on the positions of the paper's definition.
    pub paper: ActiveOn,
    /// The same for the positions of the released definition.
    pub release: ActiveOn,
    /// The same for positions with content.
    pub corrected: ActiveOn,
}

/// The pooled activations of one sample. Pairs are `[text, image]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PooledSample {
    /// Number of positions.
    pub positions: [u32; 2],
    /// Number of positions with content.
    pub content: [u32; 2],
    /// Number of positions on which the release counts features: all positions of its definition but the first.
    pub release_positions: u32,
    /// The number of active features, summed over those positions.
    pub release_fires: u64,
    /// One entry for every feature that is active anywhere, in ascending order.
    pub features: Vec<PooledFeature>,
    /// Features and activations of each text position with content, if they are kept ([`SamplePooler::with_tokens`]).
    pub tokens: Vec<Vec<(u32, f32)>>,
}

impl PooledSample {
    /// The features above the threshold on the positions of a definition.
    pub fn active(&self, mode: Definition) -> impl Iterator<Item = (u32, ActiveOn)> {
        let sides = move |t: &PooledFeature| match mode {
            Definition::Paper => t.paper,
            Definition::Release => t.release,
            Definition::Corrected => t.corrected,
        };
        self.features.iter().map(move |t| (t.feature, sides(t))).filter(|(_, sides)| sides.any())
    }

    /// Combines the image of this sample with the text of another one. Only activations on positions with content are
    /// combined. Those of the definitions of the paper and the release are dropped.
    pub fn take_text(&mut self, other: &Self) {
        let mut traces: BTreeMap<u32, PooledFeature> = BTreeMap::new();
        for (side, from) in [(IMAGE, &*self), (TEXT, other)] {
            for old in &from.features {
                let new = traces
                    .entry(old.feature)
                    .or_insert(PooledFeature { feature: old.feature, ..PooledFeature::default() });
                (new.max[side], new.sum[side]) = (old.max[side], old.sum[side]);
            }
        }
        self.features = traces.into_values().collect();
        self.positions[TEXT] = other.positions[TEXT];
        self.content[TEXT] = other.content[TEXT];
        self.tokens.clone_from(&other.tokens);
    }

    /// Adds what another autoencoder found in the same sample. `before` is the number of features that come before its own.
    fn append(&mut self, other: &Self, before: u32) {
        let moved = |feature: &PooledFeature| PooledFeature { feature: feature.feature + before, ..*feature };
        self.features.extend(other.features.iter().map(moved));
        for (token, more) in self.tokens.iter_mut().zip(&other.tokens) {
            token.extend(more.iter().map(|(feature, z)| (feature + before, *z)));
        }
    }
}

/// Collects pooled activations during a pass.
pub struct SamplePooler {
    threshold: f32,
    open: Option<u32>,
    /// The counts of the current sample. Its features are in `traces` until the sample ends.
    sample: PooledSample,
    /// The current sample's activations of every feature.
    traces: Vec<PooledFeature>,
    touched: Vec<u32>,
    /// Whether the activations of single text positions are kept.
    tokens: bool,
    /// What text and image stand for.
    sides: Sides,
    out: BufWriter<File>,
    folder: PathBuf,
    length: u64,
    places: Vec<Option<u64>>,
    active: Vec<[u32; 2]>,
    active_tokens: Vec<u64>,
    kept_tokens: usize,
    paths: Paths,
    stack: PathStack<PooledSample>,
}

/// The pooled samples of a pass, which are read in the order of their numbers.
pub struct PooledStore {
    file: File,
    folder: PathBuf,
    places: Vec<Option<u64>>,
    active: Vec<[u32; 2]>,
    active_tokens: Vec<u64>,
    kept_tokens: usize,
}

/// Size of a [`PooledFeature`] in the file, in bytes.
const TRACE: usize = 4 + 16 + 1;
/// Size of the header of a sample in the file, in bytes.
const HEAD: usize = 5 * 4 + 8 + 4 + 4;
/// Size of a feature of a token in the file, in bytes.
const FIRES: usize = 4 + 4;

impl SamplePooler {
    /// A pooler for `samples` samples and `d_sae` features. A feature is active above `threshold`. The temporary file is
    /// created in `folder`, which has to exist.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(samples: usize, d_sae: usize, threshold: f32, folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io("write in", folder))?;
        Ok(Self {
            threshold,
            open: None,
            sample: PooledSample::default(),
            traces: (0..d_sae as u32).map(|feature| PooledFeature { feature, ..PooledFeature::default() }).collect(),
            touched: Vec::new(),
            tokens: false,
            sides: Sides::default(),
            out: BufWriter::with_capacity(1 << 20, file),
            folder: folder.into(),
            length: 0,
            places: vec![None; samples],
            active: vec![[0; 2]; d_sae],
            active_tokens: vec![0; d_sae],
            kept_tokens: 0,
            paths: Paths::default(),
            stack: PathStack::default(),
        })
    }

    /// The same for samples that may be pieces: a piece has the pooled activations of the path that it ends, and those that
    /// others continue have none, nor do critiques.
    #[must_use]
    pub fn along(self, paths: Paths) -> Self {
        Self { paths, ..self }
    }

    /// Also keeps the activations of each text position with content.
    #[must_use]
    pub fn with_tokens(self) -> Self {
        Self { tokens: true, ..self }
    }

    /// Compares other modalities than text and image.
    #[must_use]
    pub fn comparing(self, sides: &Sides) -> Self {
        Self { sides: sides.clone(), ..self }
    }

    /// Ends the last sample and returns all samples.
    ///
    /// # Errors
    /// The disk is full.
    pub fn finish(mut self) -> Result<PooledStore> {
        self.close()?;
        let io = || Error::io("write in", &self.folder);
        let file = self.out.into_inner().map_err(|e| io()(e.into_error()))?;
        Ok(PooledStore {
            file,
            folder: self.folder,
            places: self.places,
            active: self.active,
            active_tokens: self.active_tokens,
            kept_tokens: self.kept_tokens,
        })
    }

    /// Begins a sample with what was found in the one that it continues.
    fn begin(&mut self, number: u32) -> Result<()> {
        self.close()?;
        self.open = Some(number);
        if let Some(begun) = self.stack.begin(self.paths.parent(number))? {
            for trace in &begun.features {
                self.touched.push(trace.feature);
                self.traces[trace.feature as usize] = *trace;
            }
            let PooledSample { positions, content, release_positions, release_fires, .. } = *begun;
            let (features, tokens) = (Vec::new(), begun.tokens.clone());
            self.sample = PooledSample { positions, content, release_positions, release_fires, features, tokens };
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(number) = self.open.take() else { return Ok(()) };
        self.touched.sort_unstable();
        let mut sample = std::mem::take(&mut self.sample);
        sample.features.extend(self.touched.drain(..).map(|feature| {
            let empty = PooledFeature { feature, ..PooledFeature::default() };
            std::mem::replace(&mut self.traces[feature as usize], empty)
        }));
        if self.paths.is_continued(number) {
            self.stack.push(number, sample);
            return Ok(());
        }
        self.put(number, &sample)
    }

    fn put(&mut self, number: u32, sample: &PooledSample) -> Result<()> {
        let mut bytes = Vec::with_capacity(HEAD + TRACE * sample.features.len());
        for n in sample.positions.iter().chain(&sample.content).chain([&sample.release_positions]) {
            bytes.extend(n.to_le_bytes());
        }
        bytes.extend(sample.release_fires.to_le_bytes());
        bytes.extend((sample.features.len() as u32).to_le_bytes());
        bytes.extend((sample.tokens.len() as u32).to_le_bytes());
        for trace in &sample.features {
            bytes.extend(trace.feature.to_le_bytes());
            trace.max.iter().chain(&trace.sum).for_each(|v| bytes.extend(v.to_le_bytes()));
            bytes.push(trace.paper.bits() | trace.release.bits() << 2 | trace.corrected.bits() << 4);
            for side in [TEXT, IMAGE] {
                self.active[trace.feature as usize][side] += u32::from(trace.max[side] > 0.0);
            }
        }
        for token in &sample.tokens {
            bytes.extend((token.len() as u32).to_le_bytes());
            for (feature, z) in token {
                bytes.extend(feature.to_le_bytes());
                bytes.extend(z.to_le_bytes());
                self.active_tokens[*feature as usize] += 1;
            }
        }
        self.kept_tokens += sample.tokens.len();
        self.out.write_all(&bytes).map_err(Error::io("write in", &self.folder))?;
        if self.places[number as usize].replace(self.length).is_some() {
            let cause = format!("the positions of sample {number} do not follow each other");
            return Err(Error::format(&self.folder)(cause));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Observer for SamplePooler {
    fn observe(&mut self, block: &Block) -> Result<()> {
        let tokens = block.tokens;
        for (r, row) in block.positions() {
            let number = tokens.sample[row];
            if self.paths.is_critique(number) {
                continue;
            }
            if self.open != Some(number) {
                self.begin(number)?;
            }
            let (features, values) = block.active.row(r);
            let release = Definition::Release.sees(tokens, row);
            if release && tokens.position[row] > 0 {
                self.sample.release_positions += 1;
                self.sample.release_fires += features.len() as u64;
            }
            let Some(side) = self.sides.side(tokens.modality[row]) else { continue };
            let content = Definition::Corrected.sees(tokens, row);
            self.sample.positions[side] += 1;
            self.sample.content[side] += u32::from(content);
            if self.tokens && content && side == TEXT {
                self.sample.tokens.push(features.iter().copied().zip(values.iter().copied()).collect());
            }
            for (feature, z) in features.iter().zip(values) {
                let trace = &mut self.traces[*feature as usize];
                let new = trace.max == [0.0; 2] && !trace.paper.any();
                if content {
                    trace.max[side] = trace.max[side].max(*z);
                    trace.sum[side] += z;
                }
                if *z > self.threshold {
                    trace.paper.add(side);
                    if release {
                        trace.release.add(side);
                    }
                    if content {
                        trace.corrected.add(side);
                    }
                }
                if new && (trace.max != [0.0; 2] || trace.paper.any()) {
                    self.touched.push(*feature);
                }
            }
        }
        Ok(())
    }
}

/// The pooled samples of a part, in the order of their numbers.
impl Mergeable for SamplePooler {
    fn save(&mut self, out: &mut PartWriter) -> Result<()> {
        self.close()?;
        self.out.flush().map_err(Error::io("write in", &self.folder))?;
        let pooled = || self.places.iter().zip(0u32..).filter_map(|(place, number)| Some(((*place)?, number)));
        out.put("pooled.sample", 1, pooled().map(|(_, number)| number));
        out.put("pooled.start", 1, pooled().map(|(place, _)| place));
        out.put_file("pooled.records", self.out.get_ref(), &self.folder)
    }

    fn merge(&mut self, section: &Section) -> Result<()> {
        let (numbers, starts): (Vec<u32>, Vec<u64>) =
            (section.get("pooled.sample", 1)?, section.get("pooled.start", 1)?);
        let records = section.bytes("pooled.records")?;
        let (mut sample, mut bytes) = (PooledSample::default(), Vec::new());
        // No record is taken in twice, so that what is written is no larger than the part.
        let mut left = records.len() as u64;
        for (number, start) in numbers.iter().zip(&starts) {
            clear(&mut sample);
            let record = usize::try_from(*start).ok().and_then(|start| records.get(start..));
            let read = record.and_then(|mut record| read_sample(&mut record, &mut sample, &mut bytes).ok());
            let rest = read.and_then(|length| left.checked_sub(length));
            let known = |feature: u32| (feature as usize) < self.traces.len();
            let fits = sample.features.iter().all(|trace| known(trace.feature))
                && sample.tokens.iter().flatten().all(|(feature, _)| known(*feature));
            let Some(rest) = rest.filter(|_| fits && (*number as usize) < self.places.len()) else {
                return Err(section.error(format!("the pooled activations of sample {number} are damaged")));
            };
            left = rest;
            self.put(*number, &sample)?;
        }
        if numbers.len() == starts.len() { Ok(()) } else { Err(section.error("pooled samples without a place")) }
    }
}

impl PooledStore {
    /// The number of samples, including those without positions.
    pub fn samples(&self) -> usize {
        self.places.len()
    }

    /// For every feature, in how many samples it is active on `[text, image]` positions with content.
    pub fn active(&self) -> &[[u32; 2]] {
        &self.active
    }

    /// For every feature, on how many of the kept text positions it is active.
    pub fn active_tokens(&self) -> &[u64] {
        &self.active_tokens
    }

    /// The number of kept text positions.
    pub fn kept_tokens(&self) -> usize {
        self.kept_tokens
    }

    /// Calls `visit` with the number and the activations of every sample, in ascending order.
    ///
    /// # Errors
    /// The temporary file cannot be read, or `visit` fails.
    pub fn each<E: From<Error>>(&self, mut visit: impl FnMut(usize, &PooledSample) -> Result<(), E>) -> Result<(), E> {
        let mut reader = Reader::new(self);
        let mut sample = PooledSample::default();
        for number in 0..self.samples() {
            reader.read(number, &mut sample)?;
            visit(number, &sample)?;
        }
        Ok(())
    }

    /// Combines the images of these samples with the texts of other samples ([`PooledSample::take_text`]). `pair` has the
    /// number of the other sample for each of these. A sample without a partner has no text.
    ///
    /// # Errors
    /// A temporary file cannot be read, or `folder` cannot be written.
    pub fn with_text(&self, texts: &Self, pair: &[Option<usize>], folder: &Path) -> Result<Self> {
        let mut pool = SamplePooler::new(self.samples(), self.active.len(), 0.0, folder)?;
        let (mut reader, mut text) = (Reader::new(texts), PooledSample::default());
        self.each(|n, sample| {
            match pair[n] {
                Some(other) => reader.read(other, &mut text)?,
                None => text = PooledSample::default(),
            }
            let mut joined = sample.clone();
            joined.take_text(&text);
            pool.put(n as u32, &joined)
        })?;
        pool.finish()
    }

    /// Puts what another autoencoder found in the same samples beside these features, which its own follow.
    ///
    /// # Errors
    /// A temporary file cannot be read, or `folder` cannot be written.
    pub fn beside(&self, other: &Self, folder: &Path) -> Result<Self> {
        let (before, all) = (self.active.len(), self.active.len() + other.active.len());
        let mut pool = SamplePooler::new(self.samples(), all, 0.0, folder)?;
        let (mut reader, mut more) = (Reader::new(other), PooledSample::default());
        self.each(|n, sample| {
            reader.read(n, &mut more)?;
            let mut both = sample.clone();
            both.append(&more, before as u32);
            pool.put(n as u32, &both)
        })?;
        pool.finish()
    }
}

/// Reads samples. Reading consecutive samples is fast.
struct Reader<'a> {
    of: &'a PooledStore,
    file: BufReader<&'a File>,
    /// The position in the file. It is unknown before the first sample, because earlier readers have moved it.
    at: Option<u64>,
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(of: &'a PooledStore) -> Self {
        Self { of, file: BufReader::with_capacity(1 << 20, &of.file), at: None, bytes: Vec::new() }
    }

    fn read(&mut self, number: usize, into: &mut PooledSample) -> Result<()> {
        let io = || Error::io("read in", &self.of.folder);
        clear(into);
        let Some(place) = self.of.places[number] else { return Ok(()) };
        if self.at != Some(place) {
            self.file.seek(SeekFrom::Start(place)).map_err(io())?;
        }
        let length = read_sample(&mut self.file, into, &mut self.bytes).map_err(io())?;
        self.at = Some(place + length);
        Ok(())
    }
}

impl PooledStore {
    /// Replaces every sample by the result of `of`, which receives its number, the sample, and the previous one. A sample
    /// without a result has no positions. This serves experiments with fewer samples or with other pairs.
    ///
    /// # Errors
    /// A temporary file cannot be read, or `folder` cannot be written.
    pub fn select(
        &self,
        folder: &Path,
        of: impl Fn(usize, &PooledSample, &PooledSample) -> Option<PooledSample>,
    ) -> Result<Self> {
        let mut pool = SamplePooler::new(self.samples(), self.active.len(), 0.0, folder)?;
        let mut before = PooledSample::default();
        self.each(|n, sample| {
            if let Some(made) = of(n, sample, &before) {
                pool.put(n as u32, &made)?;
            }
            before = sample.clone();
            Ok::<_, Error>(())
        })?;
        pool.finish()
    }
}

/// Empties a sample, whose memory is used again.
fn clear(sample: &mut PooledSample) {
    let PooledSample { mut features, mut tokens, .. } = std::mem::take(sample);
    features.clear();
    tokens.clear();
    *sample = PooledSample { features, tokens, ..PooledSample::default() };
}

/// Reads a sample into an empty one, and returns how many bytes it has.
fn read_sample(from: &mut impl Read, into: &mut PooledSample, bytes: &mut Vec<u8>) -> std::io::Result<u64> {
    let mut head = [0; HEAD];
    from.read_exact(&mut head)?;
    let word = |n: usize| u32::from_le_bytes(std::array::from_fn(|b| head[4 * n + b]));
    into.positions = [word(0), word(1)];
    into.content = [word(2), word(3)];
    into.release_positions = word(4);
    into.release_fires = u64::from(word(5)) | u64::from(word(6)) << 32;
    read_bytes(from, bytes, word(7), TRACE)?;
    into.features.extend(bytes.chunks_exact(TRACE).map(trace));
    let mut length = HEAD + bytes.len();
    for _ in 0..word(8) {
        let mut count = [0; 4];
        from.read_exact(&mut count)?;
        read_bytes(from, bytes, u32::from_le_bytes(count), FIRES)?;
        let fires = bytes.as_chunks::<FIRES>().0;
        let fire = |[a, b, c, d, z @ ..]: &[u8; FIRES]| (u32::from_le_bytes([*a, *b, *c, *d]), f32::from_le_bytes(*z));
        into.tokens.push(fires.iter().map(fire).collect());
        length += count.len() + bytes.len();
    }
    Ok(length as u64)
}

/// Reads `count` records of `size` bytes. Memory grows with what is there, not with what the count says.
fn read_bytes(from: &mut impl Read, bytes: &mut Vec<u8>, count: u32, size: usize) -> std::io::Result<()> {
    let length = u64::from(count) * size as u64;
    bytes.clear();
    let read = from.take(length).read_to_end(bytes)?;
    if read as u64 == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

fn trace(bytes: &[u8]) -> PooledFeature {
    let word = |n: usize| u32::from_le_bytes(std::array::from_fn(|b| bytes[4 * n + b]));
    let value = |n: usize| f32::from_bits(word(n));
    let bits = bytes[TRACE - 1];
    PooledFeature {
        feature: word(0),
        max: [value(1), value(2)],
        sum: [value(3), value(4)],
        paper: ActiveOn::from_bits(bits),
        release: ActiveOn::from_bits(bits >> 2),
        corrected: ActiveOn::from_bits(bits >> 4),
    }
}
