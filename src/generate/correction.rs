//! Who writes a flagged sentence again and what they are asked: the model itself, which is told in one more turn what the guard saw,
//! or a small model that was trained to correct sentences. Runs no model.

use crate::contrast::FeatureNames;
use harvest::data::{RowError, Turn};
use harvest::generation::{Draft, Generator, Prompt};
use sae_core::store::sample::Role;

/// Who is asked to write a sentence again.
#[derive(Clone, Copy)]
pub(super) enum Asking<'a> {
    /// The model itself, which is told the names of the features that contribute most.
    Feedback(&'a FeatureNames),
    /// A model that was trained to correct sentences.
    Corrector(&'a Generator),
}

/// A sentence that is flagged.
pub(super) struct Flagged<'a> {
    /// The answer before it.
    pub before: &'a str,
    pub sentence: &'a str,
    /// The features that contribute most to its severity.
    pub features: &'a [u32],
}

impl Asking<'_> {
    /// What is read before the sentence is written again, by the corrector or by `generator`, the model.
    ///
    /// # Errors
    /// Why it cannot be asked: it would be longer than the context, or the template rejects it.
    pub fn draft(&self, generator: &Generator, prompt: &Prompt, flagged: &Flagged) -> Result<Draft, RowError> {
        match self {
            Self::Feedback(names) => {
                let said = Turn::from_text(Role::Assistant, flagged.before.to_owned() + flagged.sentence);
                let names: Vec<String> = flagged.features.iter().map(|feature| name(names, *feature)).collect();
                let feedback = Turn::from_text(Role::User, feedback(flagged.sentence, &names));
                generator.follow_up(prompt, &[said, feedback])
            }
            Self::Corrector(corrector) => {
                corrector.question(&question(&prompt.prepared.sample.text, flagged.before, flagged.sentence))
            }
        }
    }
}

/// What a feature is about: its label, or the words that it fires on, or the tokens that it promotes.
fn name(names: &FeatureNames, feature: u32) -> String {
    let words = names.words(feature);
    let promoted = || names.promoted(feature).iter().take(3).map(|token| token.trim()).collect::<Vec<_>>().join(" ");
    let known = Some(words).filter(|words| !words.trim().is_empty()).unwrap_or_else(promoted);
    if known.trim().is_empty() { format!("feature {feature}") } else { known }
}

/// The turn of the user that asks the model for another sentence.
fn feedback(sentence: &str, names: &[String]) -> String {
    let about = if names.is_empty() { String::new() } else { format!(" It is about: {}.", names.join("; ")) };
    format!(
        "Your last sentence is not acceptable: \"{}\"{about} Write this sentence again so that it fits your answer and is not about this. \
         Reply with the new sentence alone.",
        sentence.trim()
    )
}

/// What Stream Aligner's correctors were trained to continue (its `CORRECTION_USER`).
fn question(prompt: &str, before: &str, sentence: &str) -> String {
    let [prompt, before, sentence] = [prompt, before, sentence].map(str::trim);
    format!("##Question: {prompt} | ##Answer_Prefix: {before} | ##Answer_Last_Sentence: {sentence} | ##Your_Revision: ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use harvest::generation::Prompts;
    use harvest::{ComputeDtype, Plan};
    use sae_core::device::DeviceChoice;
    use sae_core::store::Hook;
    use std::path::Path;

    #[test]
    fn correctors_are_asked_in_the_published_format() {
        assert_eq!(
            question("Who is it?\n", " A man.", " He is old. "),
            "##Question: Who is it? | ##Answer_Prefix: A man. | ##Answer_Last_Sentence: He is old. | ##Your_Revision: "
        );
        assert_eq!(
            question("q", "", "s"),
            "##Question: q | ##Answer_Prefix:  | ##Answer_Last_Sentence: s | ##Your_Revision: "
        );
    }

    #[test]
    fn feedback_quotes_the_sentence_and_names_the_features() {
        assert_eq!(
            feedback(" He is old.", &["age".into(), "old young".into()]),
            "Your last sentence is not acceptable: \"He is old.\" It is about: age; old young. Write this sentence again so that it \
             fits your answer and is not about this. Reply with the new sentence alone."
        );
        assert!(!feedback("x", &[]).contains("It is about"));
    }

    /// The bundled model, and the first prompt of its data.
    fn bundled() -> (Generator, Prompt) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let (model, data) = (root.join("demo-mllm"), root.join("demo-data/data.jsonl"));
        let plan = Plan { hooks: vec![Hook::block(0)], ..Plan::new(&model, &data, Vec::new()) };
        let generator = Generator::open(&model, None, DeviceChoice::Cpu, ComputeDtype::F32).unwrap();
        let prompt = Prompts::open(&plan).unwrap().next(generator.checkpoint()).unwrap().unwrap();
        (generator, prompt)
    }

    #[test]
    fn what_is_read_is_the_prompt_with_its_image_the_answer_and_the_feedback() {
        let (generator, prompt) = bundled();
        let names = FeatureNames::default();
        let flagged = Flagged { before: "A farmer:", sentence: " dark skin tone.", features: &[3, 12] };
        let draft = Asking::Feedback(&names).draft(&generator, &prompt, &flagged).unwrap();
        let feedback = feedback(" dark skin tone.", &["feature 3".into(), "feature 12".into()]);
        let expected = format!("USER:  ASSISTANT: A farmer: dark skin tone.USER: {feedback} ASSISTANT:");
        assert_eq!(generator.text(draft.ids()), expected);
        // The image is read again.
        let images = |ids: &[u32]| {
            let vision = generator.checkpoint().config().vision.as_ref().unwrap();
            ids.iter().filter(|id| vision.is_placeholder(**id)).count()
        };
        assert!(images(draft.ids()) > 0 && images(draft.ids()) == images(generator.draft(&prompt.prepared).ids()));
        assert_eq!(draft.prompt(), draft.ids().len());
    }

    #[test]
    fn a_corrector_reads_the_published_format_alone() {
        let (generator, prompt) = bundled();
        let flagged = Flagged { before: "A farmer:", sentence: " dark skin tone", features: &[] };
        let draft = Asking::Corrector(&generator).draft(&generator, &prompt, &flagged).unwrap();
        let question = &prompt.prepared.sample.text;
        let expected = format!(
            "##Question: {} | ##Answer_Prefix: A farmer: | ##Answer_Last_Sentence: dark skin tone | ##Your_Revision:",
            question.trim()
        );
        let turn = generator.question(&(expected.clone() + " ")).unwrap();
        assert_eq!(draft.ids(), turn.ids());
        assert!(generator.text(draft.ids()).contains(&expected), "{}", generator.text(draft.ids()));
        let vision = generator.checkpoint().config().vision.as_ref().unwrap();
        assert!(!draft.ids().iter().any(|id| vision.is_placeholder(*id)));
        // One that is longer than the context is none.
        let long = "word ".repeat(generator.context());
        let flagged = Flagged { before: &long, sentence: "x", features: &[] };
        assert!(Asking::Corrector(&generator).draft(&generator, &prompt, &flagged).is_err());
    }
}
