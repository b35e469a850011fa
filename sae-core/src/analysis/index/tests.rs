//! A pass over a small store, its index written, opened and read feature by feature, against counts made by hand.

use super::*;
use crate::analysis::pass::run;
use crate::autoencoder::Weights;
use crate::file;
use crate::fixture::store;
use crate::store::sample::Modality;
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

const D_IN: usize = 6;
/// More than one row group of features.
const D_SAE: usize = 300;

/// All activations of a feature with their places and kinds of input.
type Seen = BTreeMap<u32, Vec<Example>>;

struct Everything(Seen);

impl Observer for Everything {
    fn observe(&mut self, block: &Block) -> Result<()> {
        for (r, row) in block.positions() {
            let (features, values) = block.active.row(r);
            for (feature, activation) in features.iter().zip(values) {
                let (sample, position) = (block.tokens.sample[row], block.tokens.position[row]);
                let modality = block.tokens.modality[row];
                let list = self.0.entry(*feature).or_default();
                list.push(Example { activation: *activation, sample, position, modality });
            }
        }
        Ok(())
    }
}

fn words(feature: usize) -> Vec<Word> {
    let word = |n: u32| Word { promoted: n < 2, token_id: n, piece: format!(" {feature}.{n}"), logit: 2.0 - n as f32 };
    (0..4).map(word).collect()
}

/// An index of a store, in a folder.
fn indexed() -> (TempDir, Weights, Indexer, Seen) {
    let (dir, store) = store(D_IN);
    let noise = |n: usize| ((n * 7919 % 1013) as f32 / 1013.0) - 0.5;
    let weights = Weights {
        d_in: D_IN,
        d_sae: D_SAE,
        w_enc: (0..D_SAE * D_IN).map(noise).collect(),
        b_enc: vec![-0.4; D_SAE],
        w_dec: (0..D_SAE * D_IN).map(|n| noise(n + 5)).collect(),
        b_dec: vec![0.0; D_IN],
        ..Weights::default()
    };
    let (mut index, mut seen) = (Indexer::new(D_SAE), Everything(Seen::new()));
    run(&store, &weights, &Device::flex(), &mut [&mut index, &mut seen], &mut |_| ()).unwrap();
    let at = |name: &str| dir.path().join(name);
    let (coactive, neighbors) = (index.together.most(), neighbors(&weights));
    write_examples(&at("examples.parquet"), &index).unwrap();
    write_neighbors(&at("neighbours.parquet"), &neighbors).unwrap();
    write_lists(&at(Bin::FILE), D_SAE, |k| index.histograms[k].bins().collect()).unwrap();
    write_lists(&at(Coactive::FILE), D_SAE, |k| coactive[k].clone()).unwrap();
    write_lists(&at(Word::FILE), D_SAE, words).unwrap();
    write_lists(&at(StrongestExample::FILE), D_SAE, |k| index.strongest[k].rows()).unwrap();
    let typical = typical_words(store.run(), &index).unwrap();
    write_lists(&at(TypicalWord::FILE), D_SAE, |k| typical[k].clone()).unwrap();
    let rows: Vec<_> = (0..D_SAE).map(|k| FeatureRow::counted(&index, k)).collect();
    write_features(&at("features.parquet"), &rows).unwrap();
    (dir, weights, index, seen.0)
}

#[test]
fn every_feature_is_read_back_as_it_was_counted() {
    let (dir, weights, indexer, seen) = indexed();
    let index = Index::open(dir.path()).unwrap();
    let strongest = Lists::<StrongestExample>::open(dir.path(), D_SAE).unwrap();
    let typical = Lists::<TypicalWord>::open(dir.path(), D_SAE).unwrap();
    let (neighbors, coactive) = (neighbors(&weights), indexer.together.most());
    assert!(seen.len() > 100 && seen.len() < D_SAE, "{} features fire", seen.len());
    for k in 0..D_SAE {
        let feature = k as u32;
        let all = seen.get(&feature).cloned().unwrap_or_default();
        let activations =
            |m: Modality| all.iter().filter(|e| e.modality == m).map(|e| e.activation).collect::<Vec<_>>();
        let (text, image) = (activations(Modality::Text), activations(Modality::Image));
        let most = |list: &[f32]| list.iter().copied().fold(0.0, f32::max);
        let row = &index.features()[k];
        assert_eq!((row.fires_text, row.fires_image), (text.len() as u64, image.len() as u64));
        assert_eq!((row.max_text, row.max_image), (most(&text), most(&image)));
        assert_eq!((row.fires, row.max), (all.len() as u64, most(&[most(&text), most(&image)])));

        let examples = index.examples(feature).unwrap();
        assert_eq!(examples, indexer.examples.groups(k).map(|(group, e)| (group, *e)).collect::<Vec<_>>());
        assert_eq!(strongest.rows(feature).unwrap(), indexer.strongest[k].rows());
        for (modality, max) in [(Modality::Text, row.max_text), (Modality::Image, row.max_image)] {
            let of_modality = indexer.strongest[k].on(modality);
            assert_eq!(of_modality.first().map_or(0.0, |e| e.activation), max);
            assert!(of_modality.iter().all(|e| e.modality == modality));
        }
        let typical = typical.rows(feature).unwrap();
        assert_eq!(typical.iter().any(|word| word.modality == Modality::Text), row.fires_text > 0);
        let bins = index.histogram(feature).unwrap();
        let total = |of: fn(&Bin) -> u64| bins.iter().map(of).sum::<u64>();
        let totals = (total(|b| b.fires), total(|b| b.fires_text), total(|b| b.fires_image));
        assert_eq!(totals, (row.fires, row.fires_text, row.fires_image));
        if let (Some(weakest), Some(strongest)) = (bins.first(), bins.last()) {
            assert!(strongest.edges().1 > row.max && strongest.edges().0 <= row.max);
            assert!(all.iter().all(|e| e.activation >= weakest.edges().0));
        }
        assert_eq!(index.neighbors(feature).unwrap(), neighbors[k]);
        assert_eq!(index.coactive(feature).unwrap(), coactive[k]);
        assert_eq!(index.logits(feature).unwrap(), Some(words(k)));
    }
    let examples: Vec<Vec<(u8, Example)>> = read_lists(&dir.path().join("examples.parquet"), D_SAE).unwrap();
    assert!((0..D_SAE).all(|k| examples[k] == index.examples(k as u32).unwrap()));
    assert_eq!(index.examples(D_SAE as u32).unwrap(), []);
}

/// What opening an index says.
fn said(folder: &Path) -> String {
    Index::open(folder).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn an_index_without_words_opens_and_one_without_its_lists_does_not() {
    let (dir, ..) = indexed();
    std::fs::remove_file(dir.path().join("logits.parquet")).unwrap();
    assert_eq!(Index::open(dir.path()).unwrap().logits(3).unwrap(), None);
    assert_eq!(Index::open(dir.path()).unwrap().logit_histogram(3).unwrap(), None);
    let bins = |k: usize| vec![LogitBin { low: -1.5, high: 0.25, tokens: 7 + k as u32 }; k % 3];
    write_lists(&dir.path().join(LogitBin::FILE), D_SAE, bins).unwrap();
    let index = Index::open(dir.path()).unwrap();
    assert_eq!([5, 6].map(|k| index.logit_histogram(k).unwrap().unwrap()), [5, 6].map(|k| bins(k as usize)));
    std::fs::remove_file(dir.path().join("coactive.parquet")).unwrap();
    assert!(said(dir.path()).contains("cannot open") && said(dir.path()).ends_with("coactive.parquet"));
}

#[test]
fn damaged_tables_are_named() {
    let (dir, ..) = indexed();
    let path = dir.path().join("neighbours.parquet");
    let bytes = std::fs::read(&path).unwrap();
    file::write_bytes(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(said(dir.path()).ends_with("neighbours.parquet"));
    file::write_bytes(&path, &bytes).unwrap();
    let far = [Neighbor { feature: D_SAE as u32, cosine: 0.5 }];
    write_neighbors(&path, &vec![far.to_vec(); D_SAE]).unwrap();
    let index = Index::open(dir.path()).unwrap();
    let refused = index.neighbors(1).unwrap_err().to_string();
    assert!(refused.starts_with("neighbor is 300 of 300 features"), "{refused}");
    write_features(&dir.path().join("features.parquet"), &index.features()[1..]).unwrap();
    assert!(said(dir.path()).starts_with("row 0 is of feature 1"));
}

#[test]
fn classes_compare_the_sides_that_are_named() {
    let (_dir, weights, _, seen) = indexed();
    let (_store_dir, store) = store(D_IN);
    let count = |sides: &str| {
        let mut index = Indexer::new(D_SAE).comparing(&sides.parse().unwrap());
        run(&store, &weights, &Device::flex(), &mut [&mut index], &mut |_| ()).unwrap();
        index
    };
    // The sides change places, and features keep their names.
    let (plain, swapped) = (count("text:image"), count("image:text"));
    let classes = |index: &Indexer| (0..D_SAE).map(|k| index.class(k).name(&index.sides)).collect::<Vec<_>>();
    assert_eq!(classes(&plain), classes(&swapped));
    for (a, b) in plain.counts.iter().zip(&swapped.counts) {
        assert_eq!((a.fires_text, a.fires_image, a.max_text), (b.fires_image, b.fires_text, b.max_image));
    }
    assert_eq!((plain.positions[1], plain.positions[2]), (swapped.positions[2], swapped.positions[1]));
    // Images are on neither side here, and nothing is on the second one.
    let other = count("text:audio");
    assert_eq!(other.positions[2], 0);
    for (k, class) in classes(&other).iter().enumerate() {
        let fires = |modality| seen.get(&(k as u32)).is_some_and(|list| list.iter().any(|e| e.modality == modality));
        let expected = match (fires(Modality::Text), fires(Modality::Image)) {
            (true, _) => "text",
            (false, true) => "other",
            (false, false) => "dead",
        };
        assert_eq!(class, expected, "feature {k}");
    }
    assert!(classes(&other).iter().any(|class| class == "other"));
}
