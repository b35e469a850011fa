//! Shards of saev, protocol 2.1: `metadata.json`, `shards.json` and headerless files of 32-bit floats, C order,
//! `[examples, layers, tokens, d_model]`. Every example is an image; its metadata's `data`, a pickle, is never looked at.

use super::table::untold;
use super::{Cache, Captured, Import, check_finite};
use crate::{Error, Result};
use memmap2::Mmap;
use sae_core::file;
use sae_core::store::StoreDtype;
use sae_core::store::sample::Modality;
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

/// What is read before anything else: other protocols may lack the rest.
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
            return wrong(format!("the shards are of protocol {protocol}; {PROTOCOL} is read"));
        }
    }
    let about: Metadata = file::read_json(&path, 1 << 24)?;
    if about.dtype != "float32" {
        return wrong(format!("the shards hold {}, where protocol {PROTOCOL} has float32", about.dtype));
    }
    let tokens = about.content_tokens_per_example.saturating_add(usize::from(about.cls_token));
    let per_example = tokens.checked_mul(about.layers.len()).filter(|n| *n > 0 && about.d_model > 0);
    let Some(examples) = per_example.map(|n| about.max_tokens_per_shard / n).filter(|n| *n > 0) else {
        let (layers, most) = (about.layers.len(), about.max_tokens_per_shard);
        return wrong(format!("{layers} layers of {tokens} tokens of {} dimensions, {most} a shard", about.d_model));
    };
    import.check_length(tokens)?;
    let sizes = Sizes { layers: about.layers.len(), tokens, d_model: about.d_model, examples };
    // Which layers to take, by where they lie in a shard, in ascending order.
    let mut taken: Vec<(usize, usize)> = about.layers.iter().copied().zip(0..).collect();
    if let Some(layer) = import.layer {
        taken.retain(|(own, _)| *own == layer);
    }
    taken.sort_unstable();
    taken.dedup_by_key(|(layer, _)| *layer);
    if taken.is_empty() {
        return wrong(format!("the shards have no layer {:?}, but {:?}", import.layer, about.layers));
    }

    let list = folder.join("shards.json");
    let shards: Vec<ShardInfo> = file::read_json(&list, 1 << 28)?;
    if let Some(shard) = shards.iter().find(|shard| Path::new(&shard.name).components().count() != 1) {
        return Err(Error::data(&list)(format!("shard {:?} lies outside the folder", shard.name)));
    }
    if let Some(shard) = shards.iter().find(|shard| shard.n_examples > examples as u64) {
        let (name, n) = (&shard.name, shard.n_examples);
        return Err(Error::data(&list)(format!("{name} is said to hold {n} examples, a shard holds {examples}")));
    }
    let mut names = BTreeSet::new();
    if let Some(shard) = shards.iter().find(|shard| !names.insert(shard.name.as_str())) {
        return Err(Error::data(&list)(format!("shard {:?} is listed twice", shard.name)));
    }
    let there = shards.iter().fold(0u64, |there, shard| there.saturating_add(shard.n_examples));
    if there != about.n_examples {
        let stated = about.n_examples;
        return Err(Error::data(&list)(format!("the shards hold {there} examples, metadata.json states {stated}")));
    }
    let mut files = vec![path.clone(), list.clone()];
    for shard in &shards {
        let path = folder.join(&shard.name);
        check_size(&path, sizes, shard.n_examples as usize)?;
        files.push(path);
    }
    let (layers, places): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
    let mut number = 0u64;
    let paths = files[2..].to_vec();
    let samples = shards.into_iter().zip(paths).flat_map(move |(shard, path)| {
        let (places, first) = (places.clone(), number);
        number += shard.n_examples;
        let examples: super::Samples = match file::map(&path) {
            Err(error) => Box::new(std::iter::once(Err(error.into()))),
            Ok(map) => Box::new((0..shard.n_examples as usize).map(move |n| {
                let key = (first + n as u64).to_string();
                let source = format!("{}:{n}", shard.name);
                example(&path, &map, sizes, about.cls_token, &places, n).map(|(tokens, activations)| Captured {
                    key,
                    source,
                    tokens,
                    activations,
                })
            })),
        };
        examples
    });
    Ok(Cache {
        layers,
        d_in: sizes.d_model,
        dtype: StoreDtype::F32,
        model: format!("{}/{}", about.family, about.ckpt),
        files,
        rows: there.saturating_mul(tokens as u64),
        samples: Box::new(samples),
    })
}

/// A file is as large as a whole shard, whatever it holds; one that was cut to what it holds is as good.
fn check_size(path: &Path, sizes: Sizes, examples: usize) -> Result<()> {
    let found = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
    let bytes = |examples: usize| {
        let numbers = [sizes.layers, sizes.tokens, sizes.d_model, 4];
        numbers.into_iter().try_fold(examples as u64, |n, size| n.checked_mul(size as u64))
    };
    let (whole, needed) = (bytes(sizes.examples), bytes(examples));
    if Some(found) != whole && Some(found) != needed {
        let [whole, needed] = [whole, needed].map(|n| n.unwrap_or(u64::MAX));
        let cause = format!("{found} bytes, where a shard has {whole}, or {needed} for its {examples} examples");
        return Err(Error::data(path)(cause));
    }
    Ok(())
}

type Example = (Vec<sae_core::store::sample::Token>, Vec<Vec<f32>>);

fn example(path: &Path, map: &Mmap, sizes: Sizes, class: bool, places: &[usize], n: usize) -> Result<Example> {
    let bytes = sizes.tokens * sizes.d_model * 4;
    let mut activations = Vec::with_capacity(places.len());
    for place in places {
        let row = (n * sizes.layers + place) * sizes.tokens;
        let start = (n * sizes.layers + place) * bytes;
        let bytes = map.get(start..start + bytes).ok_or_else(|| Error::data(path)("the file became shorter"))?;
        let mut values = Vec::new();
        extend_f32(Dtype::F32, bytes, &mut values).ok_or_else(|| Error::data(path)("the file holds no floats"))?;
        check_finite(path, row as u64, sizes.d_model, &values)?;
        activations.push(values);
    }
    let tokens = (0..sizes.tokens).map(|position| {
        let mut token = untold(position as u32, Modality::Image);
        // The class position stands for the whole image.
        token.special = class && position == 0;
        token
    });
    Ok((tokens.collect(), activations))
}
