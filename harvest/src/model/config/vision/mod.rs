//! The image part of a model, family by family. Each family is a function that reads `config.json`.

mod chameleon;
mod clip;
mod prismatic;
mod qwen;
mod types;

pub(super) use chameleon::chameleon;
pub(super) use clip::{gemma3, llava, llava_next, llava_onevision};
pub(super) use prismatic::openvla;
pub(super) use qwen::{qwen2_5, qwen3};
pub use types::{
    ImageTokens, Patches, Positions, PrefixRows, ProjectorConfig, Tiling, TowerConfig, TowerNames, VideoConfig,
    VideoTiming, VisionConfig, VisionEncoder, VqTokenizerConfig, Windows,
};
