//! A prompt as the pages draw it: its tokens, its picture as a texture, the features that are active in it.

use super::sample_cache::{Activations, LoadedSample, texture};
use crate::state::playground::PromptActivations;
use crate::state::sample::SampleData;
use egui::Context;

/// The prompt that the model was run on last.
#[derive(Default)]
pub struct LoadedPrompt {
    /// Its tokens and its picture, or the reason why the model could not run; nothing before the first run.
    pub content: Option<Result<LoadedSample, String>>,
    /// The features that are active in it.
    pub active: Activations,
}

impl LoadedPrompt {
    /// Takes what the model has computed and uploads the picture.
    pub fn set(&mut self, ctx: &Context, prompt: Result<PromptActivations, String>) {
        let (content, active) = match prompt {
            Err(reason) => (Err(reason), None),
            Ok(prompt) => {
                let textures = prompt.picture.iter().map(|picture| Ok(texture(ctx, "prompt".into(), picture)));
                let textures = textures.collect();
                let (key, source) = Default::default();
                let data = SampleData { key, source, piece: None, tokens: prompt.tokens, pictures: vec![] };
                (Ok(LoadedSample { data, textures }), Some(Ok(prompt.activations)))
            }
        };
        (self.content, self.active) = (Some(content), active);
    }
}
