//! How fast a model generates with kept keys and values, and with the whole text computed again for every token:
//!
//! ```text
//! cargo run --release -p sae-harvest --example generation -- CHECKPOINT [TOKENS]
//! ```
//!
//! The prompt is a question without an image. Special tokens do not end the text, so that both ways generate as many tokens; the
//! tokens have to be equal.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use harvest::data::{Turn, TurnPart};
use harvest::model::{Compute, Input, KvCache};
use harvest::prompt::{Media, Text};
use harvest::{Checkpoint, Result};
use sae_core::store::Hook;
use sae_core::store::sample::Role;
use std::time::Instant;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "assets/demo-mllm".into());
    let length: usize = arguments.next().and_then(|length| length.parse().ok()).unwrap_or(200);
    let checkpoint = Checkpoint::open(folder.as_ref())?;
    let hook = Hook::block(checkpoint.config().text.layers.len() / 2);
    let model = checkpoint.load(None, &Compute::Host { bf16: false })?;
    let turns = [Turn { role: Role::User, parts: vec![TurnPart::Text("What is in the picture?".into())] }];
    let text = Text::Conversation { turns: &turns, generate: true };
    let tokens = checkpoint.prompter().tokens(&text, Media::Images(&[]));
    let tokens = tokens.map_err(|error| harvest::Error::InvalidInput(error.cause))?;
    let prompt = Input { ids: tokens.iter().map(|token| token.token_id as u32).collect(), ..Input::default() };
    let is_image = |id: u32| checkpoint.config().vision.as_ref().is_some_and(|vision| vision.is_placeholder(id));

    let mut texts = Vec::new();
    for keeps in [true, false] {
        let (mut input, mut cache) = (prompt.clone(), KvCache::default());
        let start = Instant::now();
        for _ in 0..length {
            if !keeps {
                cache = KvCache::default();
            }
            let hidden = model.pause(&mut [&mut cache], &[&input], &[hook])?;
            let log_p = model.next_after(&mut cache, hook, &input, &hidden)?;
            let ids = (0..log_p.len() as u32).filter(|id| !is_image(*id));
            input.ids.extend(ids.max_by(|a, b| log_p[*a as usize].total_cmp(&log_p[*b as usize])));
        }
        let seconds = start.elapsed().as_secs_f64();
        let how = if keeps { "keys and values kept" } else { "computed again" };
        println!("{how}: {length} tokens after {}, {:.1} tokens/s", prompt.ids.len(), length as f64 / seconds);
        texts.push(input.ids);
    }
    assert!(texts[0] == texts[1], "both ways generate the same tokens");
    Ok(())
}
