//! Shards of saev, protocol 2.1: `metadata.json`, `shards.json`, and files without a header that hold 32-bit floats in
//! C order, `[examples, layers, tokens, d_model]`. Every example is an image. The field `data` of the metadata, a
//! pickle, is ignored.

use super::cache::{Cache, Captured, Samples, check_finite, unknown_token};
use super::request::Import;
use crate::{Error, Result};
use memmap2::Mmap;
use sae_core::file;
use sae_core::store::sample::Modality;
use sae_core::store::{Hook, StoreDtype};
use sae_core::tensors::{Dtype, extend_f32};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

const PROTOCOL: &str = "2.1";

#[derive(Deserialize)]
struct Metadata {
    family: String,
    ckpt: String,
    layers: Vec<usize>,
    content_tokens_per_example: usize,
    cls_token: bool,
    d_model: usize,
    n_examples: u64,
    max_tokens_per_shard: usize,
    dtype: String,
}

/// The field that is read before all others, because other protocols may lack the rest.
#[derive(Deserialize)]
struct Protocol {
    protocol: Option<String>,
}

#[derive(Deserialize)]
struct ShardInfo {
    name: String,
    n_examples: u64,
}

/// The sizes of a shard.
#[derive(Clone, Copy)]
struct Sizes {
    layers: usize,
    tokens: usize,
    d_model: usize,
    examples: usize,
}

pub(super) fn open(import: &Import) -> Result<Cache> {
    let folder = &import.path;
    let path = folder.join("metadata.json");
    let wrong = |cause: String| Err(Error::data(&path)(cause));
    match file::read_json::<Protocol>(&path, 1 << 24)?.protocol {
        Some(protocol) if protocol == PROTOCOL => {}
        protocol => {
            let protocol = protocol.unwrap_or_else(|| "no protocol".into());
            return wrong(format!("expected shards of protocol {PROTOCOL}, found {protocol}"));
        }
    }
    let about: Metadata = file::read_json(&path, 1 << 24)?;
    if about.dtype != "float32" {
        return wrong(format!("expected shards of float32, found {}", about.dtype));
    }
    let tokens = about.content_tokens_per_example.saturating_add(usize::from(about.cls_token));
    let per_example = tokens.checked_mul(about.layers.len()).filter(|n| *n > 0 && about.d_model > 0);
    let Some(examples) = per_example.map(|n| about.max_tokens_per_shard / n).filter(|n| *n > 0) else {
        let (layers, most) = (about.layers.len(), about.max_tokens_per_shard);
        let d_model = about.d_model;
        return wrong(format!(
            "impossible sizes: {layers} layers of {tokens} tokens of {d_model} dimensions, {most} tokens per shard"
        ));
    };
    import.check_length(tokens)?;
    let sizes = Sizes { layers: about.layers.len(), tokens, d_model: about.d_model, examples };
    // What to import with its index in a shard, in ascending order.
    let mut chosen: Vec<(Hook, usize)> = about.layers.iter().copied().map(Hook::block).zip(0..).collect();
    if let Some(wanted) = import.hook {
        chosen.retain(|(hook, _)| *hook == wanted);
    }
    chosen.sort_unstable();
    chosen.dedup_by_key(|(hook, _)| *hook);
    if chosen.is_empty() {
        let found = &about.layers;
        return wrong(match import.hook {
            Some(hook) => format!("expected {hook}, found layers {found:?}"),
            None => "the shards have no layers".into(),
        });
    }

    let list = folder.join("shards.json");
    let shards: Vec<ShardInfo> = file::read_json(&list, 1 << 28)?;
    if let Some(shard) = shards.iter().find(|shard| Path::new(&shard.name).components().count() != 1) {
        return Err(Error::data(&list)(format!("the shard {:?} is outside the folder", shard.name)));
    }
    if let Some(shard) = shards.iter().find(|shard| shard.n_examples > examples as u64) {
        let (name, n) = (&shard.name, shard.n_examples);
        let cause = format!("the shard {name} is listed with {n} examples, but a shard holds at most {examples}");
        return Err(Error::data(&list)(cause));
    }
    let mut names = BTreeSet::new();
    if let Some(shard) = shards.iter().find(|shard| !names.insert(shard.name.as_str())) {
        return Err(Error::data(&list)(format!("the shard {:?} is listed twice", shard.name)));
    }
    let listed = shards.iter().fold(0u64, |sum, shard| sum.saturating_add(shard.n_examples));
    if listed != about.n_examples {
        let stated = about.n_examples;
        return Err(Error::data(&list)(format!(
            "the shards hold {listed} examples, but metadata.json states {stated}"
        )));
    }
    let mut files = vec![path.clone(), list.clone()];
    for shard in &shards {
        let path = folder.join(&shard.name);
        check_size(&path, sizes, shard.n_examples as usize)?;
        files.push(path);
    }
    let (hooks, indices): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
    let mut number = 0u64;
    let paths = files[2..].to_vec();
    let samples =
        shards.into_iter().zip(paths).flat_map(move |(shard, path)| {
            let (indices, first) = (indices.clone(), number);
            number += shard.n_examples;
            let examples: Samples =
                match file::map(&path) {
                    Err(error) => Box::new(std::iter::once(Err(error.into()))),
                    Ok(map) => Box::new((0..shard.n_examples as usize).map(move |n| {
                        let key = (first + n as u64).to_string();
                        let source = format!("{}:{n}", shard.name);
                        example(&path, &map, sizes, about.cls_token, &indices, n)
                            .map(|(tokens, activations)| Captured { key, source, tokens, activations })
                    })),
                };
            examples
        });
    Ok(Cache {
        hooks,
        d_in: sizes.d_model,
        dtype: StoreDtype::F32,
        model: format!("{}/{}", about.family, about.ckpt),
        files,
        rows: listed.saturating_mul(tokens as u64),
        samples: Box::new(samples),
    })
}

/// Checks the size of a shard. A file is as large as a full shard, or it was truncated to the examples that it holds.
fn check_size(path: &Path, sizes: Sizes, examples: usize) -> Result<()> {
    let found = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
    let bytes = |examples: usize| {
        let numbers = [sizes.layers, sizes.tokens, sizes.d_model, 4];
        numbers.into_iter().try_fold(examples as u64, |n, size| n.checked_mul(size as u64))
    };
    let (full, needed) = (bytes(sizes.examples), bytes(examples));
    if Some(found) != full && Some(found) != needed {
        let [full, needed] = [full, needed].map(|n| n.unwrap_or(u64::MAX));
        let cause = format!("expected {full} bytes (a full shard) or {needed} ({examples} examples), found {found}");
        return Err(Error::data(path)(cause));
    }
    Ok(())
}

type Example = (Vec<sae_core::store::sample::Token>, Vec<Vec<f32>>);

fn example(path: &Path, map: &Mmap, sizes: Sizes, has_class: bool, indices: &[usize], n: usize) -> Result<Example> {
    let bytes = sizes.tokens * sizes.d_model * 4;
    let mut activations = Vec::with_capacity(indices.len());
    for index in indices {
        let row = (n * sizes.layers + index) * sizes.tokens;
        let start = (n * sizes.layers + index) * bytes;
        let bytes = map.get(start..start + bytes);
        let bytes = bytes.ok_or_else(|| Error::data(path)("the file became shorter while it was read"))?;
        let mut values = Vec::new();
        extend_f32(Dtype::F32, bytes, &mut values).ok_or_else(|| Error::data(path)("the file does not hold floats"))?;
        check_finite(path, row as u64, sizes.d_model, &values)?;
        activations.push(values);
    }
    let tokens = (0..sizes.tokens).map(|position| {
        let mut token = unknown_token(position as u32, Modality::Image);
        // The class token stands for the whole image.
        token.special = has_class && position == 0;
        token
    });
    Ok((tokens.collect(), activations))
}
