//! Pages of a small store's features: their contents agree with the index in every format.

use super::*;
use crate::analysis::context::contexts;
use crate::analysis::index::{self, Indexer, Row};
use crate::analysis::labels::Entry;
use crate::analysis::pass::run;
use crate::autoencoder::Weights;
use crate::fixture::store;
use crate::store::load_samples;
use burn::tensor::Device;
use std::collections::BTreeSet;

const EVIL: &str = "</p><script>alert('1')</script>";

#[test]
fn every_file_tells_what_the_index_tells() {
    let (dir, store) = store(4);
    let noise = |n: usize| ((n * 7919 % 1013) as f32 / 506.0) - 1.0;
    let w: Vec<f32> = (0..40 * 4).map(noise).collect();
    let weights = Weights {
        d_in: 4,
        d_sae: 40,
        w_enc: w.clone(),
        w_dec: w,
        b_enc: vec![-0.5; 40],
        b_dec: vec![0.0; 4],
        ..Weights::default()
    };
    let mut indexer = Indexer::new(40);
    run(&store, &weights, &Device::flex(), &mut [&mut indexer], &mut |_| ()).unwrap();
    let at = |name: &str| dir.path().join("index").join(name);
    let (near, with) = (index::neighbors(&weights), indexer.together.most());
    index::write_examples(&at("examples.parquet"), &indexer).unwrap();
    index::write_neighbors(&at("neighbours.parquet"), &near).unwrap();
    index::write_lists(&at(Bin::FILE), 40, |k| indexer.histograms[k].bins().collect()).unwrap();
    index::write_lists(&at(Coactive::FILE), 40, |k| with[k].clone()).unwrap();
    let words = |promoted| Word { promoted, token_id: 1, piece: EVIL.into(), logit: 0.5 };
    index::write_lists(&at(Word::FILE), 40, |_| vec![words(true), words(false)]).unwrap();
    let logit_bins = [(-1.0, 0.5, 30), (0.5, 1.0, 3)].map(|(low, high, tokens)| LogitBin { low, high, tokens });
    index::write_lists(&at(LogitBin::FILE), 40, |_| logit_bins.to_vec()).unwrap();
    let rows: Vec<_> = (0..40).map(|k| FeatureRow::counted(&indexer, k)).collect();
    index::write_features(&at("features.parquet"), &rows).unwrap();

    let index = Index::open(&dir.path().join("index")).unwrap();
    let (samples, features) = (load_samples(store.run()).unwrap(), (0..40).collect::<BTreeSet<u32>>());
    let numbers = (0..samples.len() as u32).collect();
    let contexts = contexts(&store, &weights, &Device::flex(), &numbers, &features).unwrap();
    let source = Source {
        model: "org/tiny@main".into(),
        hook: Some(Hook::block(2)),
        sae: "base".into(),
        dataset: EVIL.into(),
        samples: 12,
        tokens: 120,
        sides: Default::default(),
        created: "2026".into(),
    };
    let entry =
        Entry { label: EVIL.into(), author: EVIL.into(), notes: EVIL.into(), score: Some(0.75), ..Entry::empty(0) };
    let sample = |number: u32| samples.get(number as usize);
    let mut shown = 0;
    for feature in 0..40u32 {
        let mut page =
            Page::new(feature, &index, None, weights.direction(feature as usize), sample, &contexts).unwrap();
        page.entry = Some(&entry);
        let octaves: BTreeSet<u8> = page.shown.iter().map(|s| s.group).filter(|group| *group > 0).collect();
        let share: f64 = octaves.iter().map(|group| page.interval(*group).share).sum();
        assert!(share <= 1.0 + 1e-9 && (octaves.is_empty() || share > 0.5), "feature {feature}: {share}");
        for s in page.shown.iter().filter(|s| s.group > 0) {
            let interval = page.interval(s.group);
            assert!(interval.low <= s.example.activation && s.example.activation < interval.high);
        }

        let batch = saedashboard::batch(&source, std::slice::from_ref(&page));
        let told = &batch["features"][0];
        assert_eq!(
            (told["feature_index"].as_u64(), told["frac_nonzero"].as_f64()),
            (Some(u64::from(feature)), Some(page.row.density))
        );
        let heights = told["freq_hist_data_bar_heights"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap());
        assert_eq!(heights.sum::<u64>(), page.row.fires);
        assert_eq!(told["logits_hist_data_bar_values"], serde_json::json!([-0.25, 0.75]));
        let line = neuronpedia::feature(&source, &page, told);
        assert_eq!(line["logits_hist_data_bar_heights"], serde_json::json!([30, 3]));
        assert_eq!((line["modelId"].as_str(), line["layer"].as_str()), (Some("tiny"), Some("2-base")));
        assert_eq!(line["pos_str"], told["pos_str"]);
        let activations = neuronpedia::activations(&source, &page);
        assert_eq!(activations.len(), page.shown.len());
        for ((told, line), s) in told["activations"].as_array().unwrap().iter().zip(&activations).zip(&page.shown) {
            let at = told["qualifying_token_index"].as_u64().unwrap() as usize;
            let value = |of: &serde_json::Value| of["values"][at].as_f64().unwrap() as f32;
            assert_eq!((value(told), value(line)), (s.example.activation, s.example.activation));
            assert_eq!(told["tokens"][at], s.context.tokens[s.at].piece);
            assert_eq!(line["values"][line["maxValueTokenIndex"].as_u64().unwrap() as usize], line["maxValue"]);
            shown += 1;
        }
        for line in images::lines(&source, &page) {
            let s = &page.shown[line["activation"].as_u64().unwrap() as usize];
            assert_eq!(line["id"], activations[line["activation"].as_u64().unwrap() as usize]["id"]);
            assert_eq!(line["images"][0]["sha256"], s.sample.images[0].sha256);
            for patch in line["patches"].as_array().unwrap() {
                let at = s.cut().start + patch["token"].as_u64().unwrap() as usize;
                assert_eq!(patch["value"].as_f64().map(|v| v as f32), Some(s.values[at]));
            }
        }

        let view = FeatureView::new(&source, &page);
        let links = html::Links {
            feature: &|feature| (feature == 1).then(|| "1.html".into()),
            sample: &|_| None,
            image: &|_, _| Ok(html::data_url("image/png", b"png")),
        };
        let text = html::feature(&view, &links).and(html::examples(&view, &links)).to_string();
        assert!(!text.contains("<script") && text.contains("&lt;script&gt;"), "data is text");
        well_formed(&text);
        let (from, to) = text.split_once("<svg width=\"").map_or(("", ""), |(_, svg)| svg.split_once('"').unwrap());
        assert!(page.bins.is_empty() || to.contains(&format!("viewBox=\"0 0 {from} 110\"")), "it shrinks as a whole");
        let line = html::Line::new(&view);
        assert_eq!((line.feature, line.density, line.label.as_str()), (feature, page.row.density, EVIL));
        let strongest = page.shown.iter().find(|s| s.group == 0).map(|s| &s.context.tokens[s.at]);
        let piece = strongest.map(|token| if token.image.is_some() { "[image]" } else { token.piece.trim() });
        assert_eq!(line.tokens.first().map(String::as_str), piece);
        let hits = text.matches("class=\"hit\"").count();
        assert_eq!(hits, page.shown.len(), "every example marks its token, in the text or on the image");
        assert_eq!(text.matches("data:image/png;base64,cG5n").count(), page.shown.len());
        assert_eq!(text.matches("http").count(), 0, "nothing is asked of anybody");
    }
    assert!(shown > 100, "{shown} examples");
}

/// Fails unless every element is closed in the order in which elements were opened.
fn well_formed(markup: &str) {
    let mut open = Vec::new();
    for part in markup.split('<').skip(1) {
        let (element, text) = part.split_once('>').unwrap_or_else(|| panic!("an element without an end: {part}"));
        assert!(!text.contains('>'), "a sign that is not escaped: {part}");
        let name = element.split_whitespace().next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{part}"),
            None if ["img", "meta", "input", "br"].contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn an_example_without_activations_marks_its_own_token_alone() {
    let (_dir, store) = store(4);
    let table = store.token_table(0).unwrap();
    let samples = load_samples(store.run()).unwrap();
    let tokens = table.tokens(table.rows(0).unwrap()).unwrap();
    let context = Context::without_activations(tokens.clone());
    assert!(!context.has_activations() && context.values(3) == vec![0.0; tokens.len()]);
    let excerpt = Excerpt::whole(0, &samples[0], &tokens, None);
    let texts = tokens.iter().filter(|token| token.modality == crate::store::sample::Modality::Text).count();
    let pieces = excerpt.text.iter().filter(|piece| matches!(piece, Piece::Token { activation: 0.0, hit: false, .. }));
    assert_eq!((pieces.count(), excerpt.cut, excerpt.has_activations), (texts, [false; 2], false));
    let fires = vec![0.5; tokens.len()];
    let excerpt = Excerpt::whole(0, &samples[0], &tokens, Some(&fires));
    let patches: usize = excerpt.images.iter().map(|image| image.patches.len()).sum();
    assert_eq!(patches, tokens.iter().filter(|token| token.image.is_some() && token.rect.is_some()).count());
}
