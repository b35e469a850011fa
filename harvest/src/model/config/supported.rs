//! The supported families: their `model_type`, the class with which `transformers` loads them, and what reads the part of their
//! configuration that turns images into positions of the decoder.

use super::unsupported;
use super::vision::{self, VisionConfig};
use crate::fields::Fields;

/// Reads the part of a configuration that turns images into positions of the decoder.
pub(super) type ReadVision = fn(Fields) -> Result<VisionConfig, String>;

/// Families by their `model_type`. Those without images may also be the decoder of a multimodal model.
const FAMILIES: [(&str, &str, Option<ReadVision>); 22] = [
    ("llava", "LlavaForConditionalGeneration", Some(vision::llava)),
    ("llava_next", "LlavaNextForConditionalGeneration", Some(vision::llava_next)),
    ("llava_onevision", "LlavaOnevisionForConditionalGeneration", Some(vision::llava_onevision)),
    ("idefics3", "Idefics3ForConditionalGeneration", Some(vision::idefics3)),
    ("smolvlm", "SmolVLMForConditionalGeneration", Some(vision::idefics3)),
    ("mistral3", "Mistral3ForConditionalGeneration", Some(vision::mistral3)),
    ("internvl", "InternVLForConditionalGeneration", Some(vision::internvl)),
    ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", Some(vision::qwen2_5)),
    ("qwen3_vl", "Qwen3VLForConditionalGeneration", Some(vision::qwen3)),
    ("gemma3", "Gemma3ForConditionalGeneration", Some(vision::gemma3)),
    ("gemma4", "Gemma4ForConditionalGeneration", Some(vision::gemma4)),
    ("paligemma", "PaliGemmaForConditionalGeneration", Some(vision::paligemma)),
    ("chameleon", "ChameleonForConditionalGeneration", Some(vision::chameleon)),
    ("openvla", "OpenVLAForActionPrediction", Some(vision::openvla)),
    ("llama", "LlamaForCausalLM", None),
    ("mistral", "MistralForCausalLM", None),
    ("qwen2", "Qwen2ForCausalLM", None),
    ("qwen3", "Qwen3ForCausalLM", None),
    ("gemma", "GemmaForCausalLM", None),
    ("gemma2", "Gemma2ForCausalLM", None),
    ("gemma3_text", "Gemma3ForCausalLM", None),
    ("gemma4_text", "Gemma4ForCausalLM", None),
];

/// The class of a family, and what reads its images.
///
/// # Errors
/// The family is not supported.
pub(super) fn family(kind: &str) -> Result<(&'static str, Option<ReadVision>), String> {
    let family = FAMILIES.iter().find(|(name, ..)| *name == kind);
    family.map(|(_, class, vision)| (*class, *vision)).ok_or_else(|| unknown("model", kind, |_| true))
}

/// The error of a decoder that is not supported.
pub(super) fn unknown_decoder(kind: &str) -> String {
    unknown("decoder", kind, |vision| vision.is_none())
}

fn unknown(what: &str, kind: &str, is_expected: impl Fn(Option<ReadVision>) -> bool) -> String {
    let expected = FAMILIES.iter().filter(|(.., vision)| is_expected(*vision)).map(|(name, ..)| *name);
    let (reason, expected) = (unsupported::reason(kind), expected.collect::<Vec<_>>().join(", "));
    format!("unsupported {what} type {kind:?}{reason}: expected one of {expected}")
}
