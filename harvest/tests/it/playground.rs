//! A prompt in the playground: it becomes a sample, the model continues it, and other hidden states change the continuation.

use crate::checkpoint_copy::HOST;
use crate::golden::repository;
use harvest::{Checkpoint, ComputeDtype, Playground, Templating};
use sae_core::device::DeviceChoice;
use sae_core::store::Hook;
use sae_core::store::sample::Modality;
use std::sync::Mutex;

fn playground() -> Playground {
    let model = repository().join("assets/demo-mllm");
    Playground::open(&model, Hook::block(4), DeviceChoice::Cpu, ComputeDtype::F32, Templating::Auto).unwrap()
}

#[test]
fn a_prompt_with_an_image_is_continued_by_the_model() {
    let playground = playground();
    let image = std::fs::read_dir(repository().join("assets/demo-data/images")).unwrap().next().unwrap().unwrap();
    let prepared = playground.prepare("What is in the picture?", &[image.path()]).unwrap();
    assert!(prepared.tokens.iter().any(|token| token.modality == Modality::Image && token.rect.is_some()));
    let hidden = playground.hidden(&prepared).unwrap();
    assert_eq!(hidden.len(), 256 * prepared.tokens.len());
    let original = playground.generate(&prepared, &|_, _| Ok(()), 6, 5).unwrap();
    assert_eq!(original.next.len(), 5);
    assert!(original.next.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
    assert!(
        original.text.starts_with(&original.next[0].text) && original.text.len() > original.next[0].text.len(),
        "{original:?}"
    );
    let zeros = |_, rows: &mut [f32]| {
        rows.fill(0.0);
        Ok(())
    };
    // The model has no biases, so zeros stay zeros up to the output head, where all tokens are equally likely.
    let uniform = playground.generate(&prepared, &zeros, 1, 5).unwrap();
    assert!((uniform.next[0].probability - 1.0 / 2048.0).abs() < 1e-5, "{uniform:?}");
    assert!(original.next[0].probability > 10.0 * uniform.next[0].probability);
}

#[test]
fn a_change_that_skips_special_positions_reaches_generated_tokens() {
    let playground = playground();
    let prepared = playground.prepare("What is in the picture?", &[]).unwrap();
    assert!(prepared.tokens[0].special && prepared.tokens.iter().any(|token| !token.special));
    let changes = Mutex::new(Vec::new());
    let change = |first: usize, rows: &mut [f32]| {
        let positions = first..first + rows.len() / 256;
        for (position, row) in positions.clone().zip(rows.chunks_exact_mut(256)) {
            if prepared.tokens.get(position).is_none_or(|token| !token.special) {
                row.reverse();
            }
        }
        changes.lock().unwrap().push(positions);
        Ok(())
    };
    let found = playground.generate(&prepared, &change, 6, 1).unwrap();
    // The same without kept keys and values: all positions anew for every token.
    let checkpoint = Checkpoint::open(&repository().join("assets/demo-mllm")).unwrap();
    let model = checkpoint.load(None, &HOST).unwrap();
    let (mut input, mut text, prompt) = (checkpoint.input(&prepared), String::new(), prepared.tokens.len());
    let kept = changes.lock().unwrap().drain(..).collect::<Vec<_>>();
    for positions in kept {
        assert_eq!(positions, if input.ids.len() == prompt { 0..prompt } else { input.ids.len() - 1..input.ids.len() });
        let mut hidden = model.hidden(&[&input], &[Hook::block(4)]).unwrap();
        change(0, hidden.rows_mut(0, 0)).unwrap();
        let log_p = model.next(Hook::block(4), &input, &hidden).unwrap();
        let best = (0..log_p.len()).max_by(|a, b| log_p[*a].total_cmp(&log_p[*b]).then(b.cmp(a))).unwrap() as u32;
        text += &checkpoint.prompter().token_text(best);
        input.ids.push(best);
    }
    assert!(input.ids.len() > prompt + 2, "several tokens are generated: {text:?}");
    assert_eq!(found.text, text);
}

#[test]
fn an_empty_prompt_and_a_missing_image_are_rejected() {
    let playground = playground();
    assert!(playground.prepare("  ", &[]).is_err_and(|error| error.to_string().contains("empty")));
    assert!(playground.prepare("x", &["nowhere.png".into()]).is_err());
}
