//! The image part of a model, family by family. Each family is a function that reads `config.json`.

mod chameleon;
mod clip;
mod features;
mod gemma4;
mod idefics3;
mod internvl;
mod mistral3;
mod prismatic;
mod qwen;
mod types;

pub(super) use chameleon::chameleon;
pub(super) use clip::{gemma3, llava, llava_next, llava_onevision, paligemma};
pub(super) use gemma4::gemma4;
pub(super) use idefics3::idefics3;
pub(super) use internvl::internvl;
pub(super) use mistral3::mistral3;
pub(super) use prismatic::openvla;
pub(super) use qwen::{qwen2_5, qwen3};
pub(crate) use types::SIDE_LIMIT;
pub use types::{
    ImageTokens, Patches, Positions, PrefixRows, ProjectorConfig, Tiling, TowerConfig, TowerNames, TowerRope,
    VideoConfig, VideoTiming, VisionConfig, VisionEncoder, VqTokenizerConfig, Windows,
};
