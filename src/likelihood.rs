//! What a whole model says about the samples of a run: how likely it finds their answers, with their images and without, and how
//! sharp, how noisy and how continuous the images are that it reads. Fits nothing, and stores nothing.

use crate::control::{Control, Stage};
use crate::{Error, Result};
use filters::score_names::{
    IFD, IMAGE_CLEANNESS, IMAGE_CONTINUITY, IMAGE_SHARPNESS, LIKELIHOOD, LIKELIHOOD_DROP, LIKELIHOOD_END,
    LIKELIHOOD_MIN,
};
use harvest::pixels::{Frame, quality};
use harvest::resample::Rgb;
use harvest::{AnswerLikelihood, LikelihoodRunner, Plan, Prepared};
use sae_core::store::sample::Sample;
use std::collections::BTreeMap;

/// Values of a column: one or none for each sample.
type Values = Vec<Option<f64>>;

/// The columns that a model adds to the scores of samples.
#[derive(Default)]
pub(crate) struct ModelColumns {
    /// The columns by name. A sample that the data set does not have has no value.
    pub columns: BTreeMap<&'static str, Values>,
    /// Why no sample has a value, by column.
    pub without: BTreeMap<String, String>,
}

/// Reads the data set of `plan` with its model, once as it is and, if there are images, once with blank ones.
///
/// # Formula
/// With `p(a_j | ..)` the probability of the `j`-th of `n` answer tokens given everything before it:
/// - `likelihood = sum_j log p(a_j | ..) / n`, in nats, and `likelihood_min` the smallest term;
/// - `likelihood_end` is the log-probability that the answer ends where it ends: of the token that the template puts behind it;
/// - `likelihood_drop` is `likelihood` less what it is with white images of the same sizes;
/// - `ifd` is the mean of `-log p(a_j | ..)` over that of `-log p(a_j | a_1, .., a_j-1)`, without image and question (Li et al.
///   2024, "From Quantity to Quality");
/// - `image_sharpness`, `image_cleanness` and `image_continuity` are [`quality::sharpness`], minus [`quality::noise`] and minus
///   [`quality::seam`] of the sample's worst image.
///
/// # Errors
/// The model or the data cannot be read, the data has none of the samples, or a request to stop.
pub(crate) fn columns(plan: &Plan, samples: &[Sample], control: &mut Control) -> Result<ModelColumns> {
    let mut found: Vec<Option<AnswerLikelihood>> = vec![None; samples.len()];
    let mut images: [Values; 3] = [(); 3].map(|()| vec![None; samples.len()]);
    read(plan, samples, true, control, &mut |n, prepared, likelihood| {
        // The row may have changed since it was captured.
        if prepared.sample.id == samples[n].id {
            images[0][n] = worst(prepared, quality::sharpness);
            images[1][n] = worst(prepared, |image| Some(-quality::noise(image)?));
            images[2][n] = worst(prepared, |image| Some(-quality::seam(image)?));
            found[n] = Some(likelihood.clone());
        }
    })?;
    if found.iter().all(Option::is_none) {
        return Err(Error::NoneRead { data: plan.data.clone() });
    }
    let mut drops: Values = vec![None; samples.len()];
    if samples.iter().any(|sample| !sample.images.is_empty()) {
        read(&plan.blank(samples), samples, false, control, &mut |n, _, blank| {
            if let Some(own) = &found[n]
                && !samples[n].images.is_empty()
            {
                drops[n] = mean(&blank.tokens).zip(mean(&own.tokens)).map(|(blank, own)| blank - own);
            }
        })?;
    }
    let of = |value: fn(&AnswerLikelihood) -> Option<f64>| -> Values {
        found.iter().map(|found| value(found.as_ref()?)).collect()
    };
    let [sharpness, cleanness, continuity] = images;
    let columns = BTreeMap::from([
        (LIKELIHOOD, of(|found| mean(&found.tokens).map(|nll| -nll))),
        (LIKELIHOOD_MIN, of(|found| found.tokens.iter().copied().max_by(f32::total_cmp).map(|nll| -f64::from(nll)))),
        (LIKELIHOOD_END, of(|found| found.end.map(|nll| -f64::from(nll)))),
        (LIKELIHOOD_DROP, drops),
        (IFD, of(ifd)),
        (IMAGE_SHARPNESS, sharpness),
        (IMAGE_CLEANNESS, cleanness),
        (IMAGE_CONTINUITY, continuity),
    ]);
    let why = |name: &str| match name {
        LIKELIHOOD_DROP | IMAGE_SHARPNESS | IMAGE_CLEANNESS | IMAGE_CONTINUITY => "no sample has an image",
        LIKELIHOOD_END => "the template puts no token behind an answer",
        IFD => "no sample has an answer with a token that another precedes",
        _ => "no sample has a text token behind another text token",
    };
    let empty = columns.iter().filter(|(_, values)| values.iter().all(Option::is_none));
    let without = empty.map(|(name, _)| ((*name).to_owned(), why(name).to_owned())).collect();
    Ok(ModelColumns { columns, without })
}

/// Calls `visit` with the number of every sample that the data set has, as the model reads it.
fn read(
    plan: &Plan,
    samples: &[Sample],
    alone: bool,
    control: &mut Control,
    visit: &mut dyn FnMut(usize, &Prepared, &AnswerLikelihood),
) -> Result<()> {
    let by_source: BTreeMap<&str, usize> = samples.iter().zip(0..).map(|(s, n)| (s.source.as_str(), n)).collect();
    let runner = LikelihoodRunner::open(plan)?;
    let mut staged = control.stage(Stage::Model, samples.len() as u64)?;
    let cancel = staged.cancel();
    runner.run(alone, &|| cancel.check().map_err(Into::into), &mut |predicted, rows| match predicted {
        Some((prepared, likelihood)) => {
            if let Some(n) = by_source.get(prepared.sample.source.as_str()) {
                visit(*n, prepared, likelihood);
            }
        }
        None => staged.show(rows),
    })?;
    Ok(())
}

fn mean(nll: &[f32]) -> Option<f64> {
    (!nll.is_empty()).then(|| nll.iter().copied().map(f64::from).sum::<f64>() / nll.len() as f64)
}

/// The ratio over the tokens that both predict.
fn ifd(found: &AnswerLikelihood) -> Option<f64> {
    let both = found.tokens.iter().zip(&found.alone).filter_map(|(nll, alone)| Some((*nll, (*alone)?)));
    let (with, alone): (Vec<f32>, Vec<f32>) = both.unzip();
    mean(&with).zip(mean(&alone)).filter(|(_, alone)| *alone > 0.0).map(|(with, alone)| with / alone)
}

/// The lowest value of a sample's images.
fn worst(sample: &Prepared, value: impl Fn(&Rgb) -> Option<f64>) -> Option<f64> {
    sample.frames.iter().filter_map(Frame::whole).filter_map(value).min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_over_tokens_that_both_predict() {
        let found =
            AnswerLikelihood { tokens: vec![9.0, 1.0, 2.0], end: None, alone: vec![None, Some(4.0), Some(8.0)] };
        assert_eq!(ifd(&found), Some(0.25));
        // One token that nothing precedes, and one that the model is certain of.
        assert_eq!(ifd(&AnswerLikelihood { tokens: vec![1.0], end: None, alone: vec![None] }), None);
        assert_eq!(ifd(&AnswerLikelihood { tokens: vec![1.0], end: None, alone: vec![Some(0.0)] }), None);
        assert_eq!(ifd(&AnswerLikelihood::default()), None);
    }
}
