//! From the examples of a small store to questions: what is shown, what is held out, what is silent.

use super::*;
use crate::analysis::context::contexts;
use crate::analysis::index::{Example, Indexer};
use crate::analysis::pass::run;
use crate::autoencoder::Weights;
use crate::fixture::{SAMPLES, store};
use crate::store::sample::Modality;
use burn::tensor::Device;
use std::collections::BTreeSet;

#[test]
fn held_out_positions_were_not_shown_and_half_of_them_are_silent() {
    let (_dir, store) = store(4);
    let w: Vec<f32> = (0..160).map(|n| ((n * 7919 % 1013) as f32 / 506.0) - 1.0).collect();
    let weights = Weights {
        d_in: 4,
        d_sae: 40,
        w_enc: w.clone(),
        w_dec: w,
        b_enc: vec![-1.0; 40],
        b_dec: vec![0.0; 4],
        ..Weights::default()
    };
    let mut index = Indexer::new(40);
    run(&store, &weights, &Device::flex(), &mut [&mut index], &mut |_| ()).unwrap();
    let (pool, features) = (pool(SAMPLES as u32), (0..40).collect::<BTreeSet<_>>());
    assert_eq!(pool.len(), SAMPLES.min(POOL));
    let contexts = contexts(&store, &weights, &Device::flex(), &pool, &features).unwrap();
    let (mut tried, mut early, mut half) = (0, 0, 0);
    for k in 0..40 {
        let examples: Vec<(u8, Example)> = index.examples.groups(k as usize).map(|(group, e)| (group, *e)).collect();
        let trial = DetectionTask::new(k, &examples, &pool, &contexts);
        assert_eq!(trial, DetectionTask::new(k, &examples, &pool, &contexts), "the same each time");
        let samples = |items: &[Item]| items.iter().map(|item| item.sample).collect::<BTreeSet<_>>();
        let (shown, held_out) = (samples(&trial.shown), samples(&trial.held_out));
        assert!(shown.is_disjoint(&held_out));
        assert_eq!((shown.len(), held_out.len()), (trial.shown.len(), trial.held_out.len()), "one place a sample");
        let (firing, silent): (Vec<_>, Vec<_>) = trial.held_out.iter().partition(|item| item.fires);
        assert_eq!(firing.len(), silent.len());
        let modality = |item: &&Item| contexts[&item.sample].tokens[item.position as usize].modality;
        let images = |items: &[&Item]| items.iter().filter(|item| modality(item) == Modality::Image).count();
        assert_eq!(images(&firing), images(&silent), "kinds of input do not give it away");
        assert!(silent.iter().all(|item| !contexts[&item.sample].fires(k)));
        assert!(
            firing
                .iter()
                .chain(&trial.shown.iter().collect::<Vec<_>>())
                .all(|item| { contexts[&item.sample].values(k)[item.position as usize] > 0.0 })
        );
        tried += usize::from(!trial.held_out.is_empty());
        half += trial.held_out.len() / 2;
        early += trial.held_out[..trial.held_out.len() / 2].iter().filter(|item| item.fires).count();

        let parts = ask_which_fire("red", &trial.held_out, &contexts);
        let crops = parts.iter().filter(|part| matches!(part, PromptPart::Image(_))).count();
        assert_eq!(crops, images(&firing) + images(&silent));
        let told = format!("{parts:?}");
        assert!(told.contains("described as: red") && !told.contains("<<") && !told.contains("framed: true"));
        let parts = format!("{:?}", ask_for_label(k, &trial.shown, &contexts, 2.0));
        assert!(trial.shown.is_empty() || parts.contains("(strength "), "{parts}");
    }
    assert!(tried > 5, "{tried} features can be tried");
    // Half of the first halves, within four standard deviations of a coin's: their order does not give places away.
    let off = (early as f64 - half as f64 / 2.0).abs() / (half as f64).sqrt();
    assert!(half > 20 && off < 2.0, "{early} of {half} in first halves fire");
}
