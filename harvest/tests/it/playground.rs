//! A prompt in the playground: it becomes a sample, the model continues it, and other hidden states change the continuation.

use crate::golden::repository;
use harvest::{ComputeDtype, Playground, Templating};
use sae_core::device::DeviceChoice;
use sae_core::store::sample::Modality;

fn playground() -> Playground {
    let model = repository().join("assets/demo-mllm");
    Playground::open(&model, 4, DeviceChoice::Cpu, ComputeDtype::F32, Templating::Auto).unwrap()
}

#[test]
fn a_prompt_with_an_image_is_continued_by_the_model() {
    let playground = playground();
    let image = std::fs::read_dir(repository().join("assets/demo-data/images")).unwrap().next().unwrap().unwrap();
    let prepared = playground.prepare("What is in the picture?", &[image.path()]).unwrap();
    assert!(prepared.tokens.iter().any(|token| token.modality == Modality::Image && token.rect.is_some()));
    let hidden = playground.hidden(&prepared).unwrap();
    assert_eq!(hidden.len(), 256 * prepared.tokens.len());
    let original = playground.generate(&prepared, &|_| Ok(()), 6, 5).unwrap();
    assert_eq!(original.next.len(), 5);
    assert!(original.next.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
    assert!(
        original.text.starts_with(&original.next[0].text) && original.text.len() > original.next[0].text.len(),
        "{original:?}"
    );
    let zeros = |rows: &mut [f32]| {
        rows.fill(0.0);
        Ok(())
    };
    // The model has no biases, so zeros stay zeros up to the output head, where all tokens are equally likely.
    let uniform = playground.generate(&prepared, &zeros, 1, 5).unwrap();
    assert!((uniform.next[0].probability - 1.0 / 2048.0).abs() < 1e-5, "{uniform:?}");
    assert!(original.next[0].probability > 10.0 * uniform.next[0].probability);
}

#[test]
fn an_empty_prompt_and_a_missing_image_are_rejected() {
    let playground = playground();
    assert!(playground.prepare("  ", &[]).is_err_and(|error| error.to_string().contains("empty")));
    assert!(playground.prepare("x", &["nowhere.png".into()]).is_err());
}
