//! A text of one's own: its states are those of a harvest, the model goes on from them as it would from its own, and from
//! others otherwise.

use crate::golden::repository;
use harvest::{ComputeDtype, Playground, Templating};
use sae_core::device::DeviceChoice;
use sae_core::store::sample::Modality;

fn probe() -> Playground {
    let model = repository().join("assets/demo-mllm");
    Playground::open(&model, 4, DeviceChoice::Cpu, ComputeDtype::F32, Templating::Auto).unwrap()
}

#[test]
fn a_text_with_an_image_is_a_sample_and_the_model_goes_on() {
    let probe = probe();
    let image = std::fs::read_dir(repository().join("assets/demo-data/images")).unwrap().next().unwrap().unwrap();
    let prepared = probe.prepare("What is in the picture?", &[image.path()]).unwrap();
    assert!(prepared.tokens.iter().any(|token| token.modality == Modality::Image && token.rect.is_some()));
    let hidden = probe.hidden(&prepared).unwrap();
    assert_eq!(hidden.len(), 256 * prepared.tokens.len());
    let own = probe.generate(&prepared, &|_| Ok(()), 6, 5).unwrap();
    assert_eq!(own.next.len(), 5);
    assert!(own.next.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
    assert!(own.words.starts_with(&own.next[0].word) && own.words.len() > own.next[0].word.len(), "{own:?}");
    let zeros = |rows: &mut [f32]| {
        rows.fill(0.0);
        Ok(())
    };
    // Without biases zeros stay zeros up to the head, where all words are as likely.
    let nothing = probe.generate(&prepared, &zeros, 1, 5).unwrap();
    assert!((nothing.next[0].probability - 1.0 / 2048.0).abs() < 1e-5, "{nothing:?}");
    assert!(own.next[0].probability > 10.0 * nothing.next[0].probability);
}

#[test]
fn what_is_no_text_and_no_image_is_refused() {
    let probe = probe();
    assert!(probe.prepare("  ", &[]).is_err_and(|reason| reason.contains("empty")));
    assert!(probe.prepare("x", &["nowhere.png".into()]).is_err());
}
