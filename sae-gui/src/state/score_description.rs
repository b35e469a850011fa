//! What the columns of a score table mean, in a line each, and how well `sae validate` found them to work. Computes nothing.

use filters::score_names::{
    CO_L0, COSINE, COSINE_MEAN, IFD, IMAGE_CLEANNESS, IMAGE_CONTINUITY, IMAGE_SHARPNESS, JOINED, L0, LIKELIHOOD,
    LIKELIHOOD_DROP, LIKELIHOOD_END, LIKELIHOOD_MIN, PMI, PMI_BLANK, PMI_RELATIVE, PMI_TOKEN_MIN, PREDICTED, RANDOM,
};
use std::collections::BTreeMap;

/// How well a score tells good rows from rows with one kind of error.
#[derive(Clone, Debug, PartialEq)]
pub struct Auc {
    /// The kind of error, such as `swapped-answers`.
    pub corruption: String,
    /// The probability that a random good row scores higher than a random corrupted one; 0.5 is chance.
    pub auc: f64,
    /// The 95 % bootstrap interval.
    pub interval: [f64; 2],
}

/// The results of `sae validate`, by score.
pub type Validation = BTreeMap<String, Vec<Auc>>;

/// What a score measures, in a line. High scores are kept.
pub fn meaning(score: &str) -> String {
    for (suffix, text) in
        [("_rejected", "of the rejected answer"), ("_margin", "of the chosen answer minus that of the rejected one")]
    {
        if let Some(base) = score.strip_suffix(suffix) {
            return format!("The score {base} {text}.");
        }
    }
    if let Some(predicted) = score.strip_prefix(PREDICTED) {
        return format!("What the features of the sample predict for {predicted} (a contrast of this run).");
    }
    if let Some((_, [first, second])) = JOINED.iter().find(|(name, _)| *name == score) {
        return format!("The mean of a sample's ranks by {first} and by {second}.");
    }
    let (base, mode) = match score.rsplit_once('_') {
        Some((base, mode @ ("paper" | "release" | "corrected"))) => (base, mode),
        _ => (score, ""),
    };
    let mode = match mode {
        "paper" => " Mode paper: as published.",
        "release" => " Mode authors' code: as the code that the authors published computes it.",
        "corrected" => " Mode bias-corrected: with known problems fixed, and adjusted for the number of positions.",
        _ => "",
    };
    let meaning = match base {
        PMI_BLANK => {
            "How well the features of the image and of the text belong together; the text is read with a blank image. \
             The score to filter by."
        }
        PMI_TOKEN_MIN => "The same for each token of the text by itself; the lowest of them. Finds single wrong words.",
        PMI => "How well the features of the image and of the text belong together, in nats.",
        PMI_RELATIVE => "pmi_blank, less what other texts score with this image, and other images with this text.",
        LIKELIHOOD => "How likely the model finds the answer: the mean log-likelihood of its tokens.",
        LIKELIHOOD_MIN => "The log-likelihood of the answer's least likely token. Finds wrong words and wrong orders.",
        LIKELIHOOD_END => "How likely the model finds that the answer ends where it ends. Finds truncated answers.",
        LIKELIHOOD_DROP => "How much less likely the model finds the answer with a blank image.",
        IFD => "Instruction-following difficulty: how little image and question help the model with the answer.",
        IMAGE_SHARPNESS => "How sharp the least sharp image is: the variance of its Laplacian. Finds blurred images.",
        IMAGE_CLEANNESS => "How free of noise the noisiest image is: minus its estimated noise. Finds noisy images.",
        IMAGE_CONTINUITY => {
            "How continuous the images are: minus the clearest straight seam. Finds images put together of two."
        }
        COSINE_MEAN => "Mean cross-modal weight of the features, weighted by activation.",
        COSINE => "Sum of the cross-modal weights of the active features.",
        L0 => "Number of active features.",
        CO_L0 => "Number of features that are active on text and on the image.",
        RANDOM => "A random number, for comparison.",
        _ => "A column of your own.",
    };
    format!("{meaning}{mode}")
}

/// The best result of a score, in a few words: `AUC 0.95 at detecting swapped answers`. Nothing if it was not validated.
pub fn best_result(validation: &Validation, score: &str) -> Option<String> {
    let best = validation.get(score)?.iter().max_by(|a, b| a.auc.total_cmp(&b.auc))?;
    Some(format!("AUC {:.2} at detecting {}", best.auc, best.corruption.replace('-', " ")))
}

/// All results of a score, a line each.
pub fn all_results(validation: &Validation, score: &str) -> Vec<String> {
    let line = |auc: &Auc| {
        let [low, high] = auc.interval;
        format!("{}: AUC {:.3} [{low:.3}, {high:.3}]", auc.corruption.replace('-', " "), auc.auc)
    };
    validation.get(score).into_iter().flatten().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_column_has_a_meaning() {
        for (score, expected) in [
            ("pmi_blank", "blank image"),
            ("pmi", "in nats"),
            ("cosine_paper", "Mode paper: as published"),
            ("co_l0_corrected", "adjusted"),
            ("l0_release", "Mode authors' code"),
            ("pmi_blank_margin", "minus that of the rejected"),
            ("predicted_difficulty", "predict for difficulty"),
            ("judged_by_ann", "column of your own"),
        ] {
            assert!(meaning(score).contains(expected), "{score}: {}", meaning(score));
        }
    }

    #[test]
    fn the_best_result_is_told_first_and_all_of_them_on_request() {
        let auc =
            |corruption: &str, auc| Auc { corruption: corruption.into(), auc, interval: [auc - 0.02, auc + 0.02] };
        let validation =
            Validation::from([("pmi".into(), vec![auc("noisy-images", 0.53), auc("swapped-answers", 0.9)])]);
        assert_eq!(best_result(&validation, "pmi").as_deref(), Some("AUC 0.90 at detecting swapped answers"));
        assert_eq!(best_result(&validation, "random"), None);
        let full = ["noisy images: AUC 0.530 [0.510, 0.550]", "swapped answers: AUC 0.900 [0.880, 0.920]"];
        assert_eq!(all_results(&validation, "pmi"), full);
    }
}
