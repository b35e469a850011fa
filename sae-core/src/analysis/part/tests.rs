//! An index made in parts is the index that one pass makes, bit by bit; files that were changed are rejected.

use super::*;
use crate::analysis::index::{Bin, Example, Indexer};
use crate::analysis::pass::run_over;
use crate::autoencoder::Weights;
use crate::fixture::store;
use crate::store::sample::Modality;
use crate::{Error, file};
use burn::tensor::Device;
use serde_json::json;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const D_IN: usize = 6;
const D_SAE: usize = 300;

fn weights() -> Weights {
    let noise = |n: usize| ((n * 7919 % 1013) as f32 / 1013.0) - 0.5;
    Weights {
        d_in: D_IN,
        d_sae: D_SAE,
        w_enc: (0..D_SAE * D_IN).map(noise).collect(),
        b_enc: vec![-0.4; D_SAE],
        w_dec: (0..D_SAE * D_IN).map(|n| noise(n + 5)).collect(),
        b_dec: vec![0.0; D_IN],
        ..Weights::default()
    }
}

fn pass(store: &Store, shards: Range<usize>, index: &mut Indexer) {
    let order: Vec<usize> = shards.collect();
    run_over(store, &order, &weights(), &Device::flex(), &mut [index], &mut |_| ()).unwrap();
}

fn header(store: &Store, number: u32, of: u32, shards: Range<usize>) -> Header {
    let origin = Origin {
        program: "sae".into(),
        request: json!({ "operation": "index" }),
        sae: "base".into(),
        sae_blake3: "0".into(),
        stores: BTreeMap::from([("run".into(), StoreOrigin::new(store))]),
    };
    Header { origin, number, of, shards: BTreeMap::from([("run".into(), shards)]), command: vec!["sae".into()] }
}

fn saved(dir: &Path, store: &Store, number: u32, of: u32, shards: Range<usize>) -> PathBuf {
    let mut index = Indexer::new(D_SAE);
    index.begin_part();
    pass(store, shards.clone(), &mut index);
    let (mut writer, path) = (PartWriter::new(), dir.join(format!("{number}-{of}.safetensors")));
    writer.begin("run");
    index.save(&mut writer).unwrap();
    writer.write(&path, &header(store, number, of, shards)).unwrap();
    path
}

/// All that an index says of a feature; floats as bits.
type Found = ((Vec<u64>, u64), Vec<Bin>, Vec<(u8, Example)>, Vec<Example>);

fn found(index: &Indexer, k: usize) -> Found {
    let c = &index.counts[k];
    let counts = [c.fires, c.fires_text, c.fires_image].into_iter();
    let counts = counts.chain([c.max, c.max_text, c.max_image].map(|max| u64::from(max.to_bits()))).collect();
    let examples = index.examples.groups(k).map(|(group, example)| (group, *example)).collect();
    let strongest = [Modality::Text, Modality::Image].iter().flat_map(|m| index.strongest[k].on(*m)).copied().collect();
    ((counts, c.sum.to_bits()), index.histograms[k].bins().collect(), examples, strongest)
}

fn in_three_parts() -> (TempDir, Store, Vec<PathBuf>) {
    let (dir, store) = store(D_IN);
    let files = (0..3).map(|n| saved(dir.path(), &store, n as u32 + 1, 3, n..n + 1)).collect();
    (dir, store, files)
}

#[test]
fn parts_become_the_index_of_one_pass_bit_by_bit() {
    let (dir, store, thirds) = in_three_parts();
    let mut whole = Indexer::new(D_SAE);
    pass(&store, 0..3, &mut whole);
    let halves = vec![saved(dir.path(), &store, 1, 2, 0..1), saved(dir.path(), &store, 2, 2, 1..3)];
    // A part may be empty, where there are more parts than shards.
    let with_empty = vec![saved(dir.path(), &store, 1, 4, 0..3), saved(dir.path(), &store, 2, 4, 3..3)];
    for files in [thirds, halves, with_empty] {
        let mut merged = Indexer::new(D_SAE);
        for path in &files {
            merged.merge(&PassPart::open(path).unwrap().section("run", &store).unwrap()).unwrap();
        }
        assert_eq!(merged.positions, whole.positions);
        assert_eq!(merged.together.most(), whole.together.most());
        for k in 0..D_SAE {
            assert_eq!(found(&merged, k), found(&whole, k), "feature {k} of {} parts", files.len());
        }
    }
}

#[test]
fn a_part_is_the_same_file_whoever_makes_it_and_says_what_it_is() {
    let (dir, store, files) = in_three_parts();
    let before = std::fs::read(&files[1]).unwrap();
    saved(dir.path(), &store, 2, 3, 1..2);
    assert!(std::fs::read(&files[1]).unwrap() == before);
    let part = PassPart::open(&files[1]).unwrap();
    assert_eq!(part.header(), &header(&store, 2, 3, 1..2));
    assert_ne!(part.hash(), PassPart::open(&files[0]).unwrap().hash());
    let said = |error: Error| error.to_string();
    assert!(said(part.section("blank", &store).err().unwrap()).contains("no states of blank"));
    let section = part.section("run", &store).unwrap();
    assert!(said(section.get::<u32>("index.fires", 3).unwrap_err()).contains("stored as U64: expected U32"));
    assert!(said(section.get::<u64>("index.fires", 2).unwrap_err()).contains("expected rows of 2"));
    assert!(section.has_row(1, 0) && !section.has_row(0, 0) && !section.has_row(1, u32::MAX));
}

#[test]
fn parts_that_were_changed_are_rejected() {
    let (dir, _, files) = in_three_parts();
    let bytes = std::fs::read(&files[0]).unwrap();
    let path = dir.path().join("changed.safetensors");
    let said = |bytes: &[u8]| {
        file::write_bytes(&path, bytes).unwrap();
        PassPart::open(&path).err().unwrap().to_string()
    };
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(said(&changed).contains("bytes have changed"), "{}", said(&changed));
    assert!(said(&bytes[..bytes.len() / 2]).contains("not a whole safetensors file"));
    let replaced = |from: &str, to: &str| {
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
    };
    assert!(said(&replaced("\"sae_part\":\"1\"", "\"sae_part\":\"2\"")).contains("layout 2: expected 1"));
    assert!(said(&replaced("sae_part", "sae_tarp")).contains("not a part of a pass"));
    // The header belongs to what the hash is of.
    assert!(said(&replaced("\\\"number\\\":1", "\\\"number\\\":2")).contains("bytes have changed"));
}
