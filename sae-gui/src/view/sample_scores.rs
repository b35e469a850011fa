//! The scores of one sample: their values among those of all samples, and why they are what they are, in words.

use super::Action;
use super::theme::{self, note, section};
use super::widgets::{self, feature_button, short_name};
use crate::state::explanation::{PartFeature, ScoreExplanation, ScorePart};
use crate::state::format;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use crate::state::score_description;
use crate::state::score_filter::ScoreFilter;
use egui::{Button, Grid, Label, RichText, Sense, Stroke, Ui, pos2, vec2};

/// Draws the scores and their explanations.
pub fn show(
    ui: &mut Ui,
    run: &OpenRun,
    explanations: Option<&Result<Vec<ScoreExplanation>, String>>,
) -> Option<Action> {
    section(ui, "Scores", "Whether the sample is kept, and what makes up its scores");
    let filter = match &run.filter {
        None => {
            note(ui, "Reading ...");
            return None;
        }
        Some(Err(reason)) => {
            widgets::reason(ui, reason);
            let can = run.info.sae_info().is_some_and(|sae| sae.trained);
            let make = ui.add_enabled(can, Button::new("Make the scores"));
            return make.clicked().then_some(Action::Command(crate::state::Command::MakeScores));
        }
        Some(Ok(filter)) => filter,
    };
    verdict(ui, filter, run.sample());
    let mut action = None;
    match explanations {
        None => note(ui, "Computing what makes up the scores ..."),
        Some(Err(reason)) => widgets::reason(ui, reason),
        Some(Ok(explanations)) => {
            for explanation in explanations {
                action = contributions(ui, run, filter, explanation).or(action.take());
            }
        }
    }
    section(ui, "All scores", "The scores of this sample, and their percentiles among all samples");
    table(ui, filter, run.sample());
    action
}

/// Whether the sample is kept, in a sentence.
fn verdict(ui: &mut Ui, filter: &ScoreFilter, sample: u32) {
    ui.add(Label::new(verdict_text(filter, sample)).wrap());
}

/// Whether a sample is kept by the score that decides, and why.
fn verdict_text(filter: &ScoreFilter, sample: u32) -> String {
    let name = filter.name();
    let kept = if filter.is_kept(sample) { "kept" } else { "dropped" };
    if filter.choices().contains_key(&sample) {
        return format!("It was chosen by hand to be {kept}.");
    }
    let Some(value) = filter.value_of(name, sample) else {
        return format!("It has no {name}, so it would be dropped.");
    };
    let rank = filter.percentile(name, value).unwrap_or(0.0);
    let of_group = if filter.grouping().is_some() { " of its group" } else { "" };
    let threshold = filter.threshold_for(sample);
    let threshold =
        threshold.map(|score| format!(" (threshold{of_group} {})", format::real(score))).unwrap_or_default();
    let among = if rank == 0.0 {
        "the lowest of all samples".to_owned()
    } else {
        format!("higher than that of {} of the samples", format::percent(rank / 100.0))
    };
    format!("{name} {}: {among}. It would be {kept}{threshold}.", format::real(value))
}

fn table(ui: &mut Ui, filter: &ScoreFilter, sample: u32) {
    Grid::new("scores").num_columns(4).spacing(vec2(14.0, 3.0)).show(ui, |ui| {
        for (name, value) in filter.of_sample(sample) {
            let decides = name == filter.name();
            let text = RichText::new(name);
            let label = ui.label(if decides { text.strong() } else { text });
            label.on_hover_ui(|ui| describe(ui, filter, name));
            ui.monospace(format::maybe(value));
            match value.and_then(|value| filter.percentile(name, value)) {
                Some(percentile) => {
                    let (rect, _) = ui.allocate_exact_size(vec2(90.0, 12.0), Sense::hover());
                    let bar = rect.shrink2(vec2(0.0, 4.0));
                    ui.painter().rect_filled(bar, 2.0, ui.visuals().widgets.inactive.weak_bg_fill);
                    let at = |percentile: f64| rect.left() + (percentile / 100.0) as f32 * rect.width();
                    if let Some(threshold) = filter.threshold_for(sample).filter(|_| decides)
                        && let Some(threshold) = filter.percentile(name, threshold)
                    {
                        let stroke = Stroke::new(1.5, ui.visuals().strong_text_color());
                        ui.painter().vline(at(threshold), rect.y_range(), stroke);
                    }
                    let center = pos2(at(percentile), rect.center().y);
                    ui.painter().circle_filled(center, 4.0, theme::class(ui, "cross"));
                    ui.label(theme::small(ui, &percentile_text(percentile)));
                }
                None => {
                    ui.label("");
                    ui.label("");
                }
            }
            ui.end_row();
        }
    });
}

/// Such as `94th percentile`.
fn percentile_text(percentile: f64) -> String {
    // Rounded as shares are.
    let number: u32 = format!("{percentile:.0}").parse().unwrap_or(0);
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{suffix} percentile")
}

/// What a score means, and how well it was found to work.
pub fn describe(ui: &mut Ui, filter: &ScoreFilter, score: &str) {
    ui.set_max_width(420.0);
    ui.label(score_description::meaning(score));
    let results = score_description::all_results(&filter.scores().validation, score);
    if results.is_empty() {
        ui.label(theme::small(ui, "`sae validate` measures on your data which errors it finds."));
    }
    for line in results {
        ui.label(theme::small(ui, &line));
    }
}

/// What makes up a score: a sentence, then the parts.
fn contributions(ui: &mut Ui, run: &OpenRun, filter: &ScoreFilter, explanation: &ScoreExplanation) -> Option<Action> {
    let score = explanation.score.as_str();
    let hint = if explanation.is_joint() {
        "Groups of image and text features that usually occur together. A group raises the score if its features are active \
         on both sides, and lowers it if they are active on one side only. In nats"
    } else {
        "The cross-modal weights of the active features, which the score adds up"
    };
    section(ui, &format!("Contributions to {score}"), hint);
    let parts = match &explanation.parts {
        Ok(parts) => parts,
        Err(reason) => {
            widgets::reason(ui, reason);
            return None;
        }
    };
    if explanation.is_joint() {
        ui.add(Label::new(sentence(run, filter, explanation)).wrap());
    }
    let mut action = None;
    for part in parts {
        ui.horizontal_wrapped(|ui| {
            ui.monospace(format!("{:+.3}", part.amount));
            for (side, features) in ["image", "text"].into_iter().zip(&part.features) {
                if explanation.is_joint() {
                    ui.label(RichText::new(side).small().color(theme::class(ui, side)));
                }
                for feature in features {
                    action = part_feature(ui, run, *feature).or(action.take());
                }
            }
        });
    }
    action
}

fn part_feature(ui: &mut Ui, run: &OpenRun, feature: PartFeature) -> Option<Action> {
    let mut action = None;
    if !feature.active {
        ui.label(theme::small(ui, "absent:"));
    }
    if feature_button(ui, run, feature.feature, None).clicked() {
        action = Some(Action::Go(Location::Feature(feature.feature)));
    }
    if let Some(name) = short_name(ui, run, feature.feature) {
        ui.label(name);
    }
    action
}

/// Why a joint score is high or low, in a sentence.
fn sentence(run: &OpenRun, filter: &ScoreFilter, explanation: &ScoreExplanation) -> String {
    let value = filter.value_of(&explanation.score, run.sample());
    let low = value.is_some_and(|value| value < 0.0);
    let [lowest, highest] = explanation.extremes();
    let part = if low { lowest.or(highest) } else { highest.or(lowest) };
    let Some(part) = part else { return "No group of features stands out.".into() };
    let [image, text] = [0, 1].map(|side| names(run, part, side));
    let amount = format::real(part.amount.abs());
    let [change, frequency] = if part.amount < 0.0 { ["Lowered", "rarely"] } else { ["Raised", "often"] };
    format!("{change} most (by {amount}), as these {frequency} occur together: the image's {image}; the text's {text}.")
}

/// The features of one side of a part, by what they are called: those that are active, and those that are not.
fn names(run: &OpenRun, part: &ScorePart, side: usize) -> String {
    let name = |feature: &PartFeature| {
        let number = feature.feature;
        let short = run.list.name(number).map(|name| name.text().chars().take(28).collect::<String>());
        short.map_or_else(|| number.to_string(), |short| format!("{number} ({short})"))
    };
    let [active, absent] = [true, false].map(|active| {
        let features = part.features[side].iter().filter(|feature| feature.active == active);
        features.map(name).collect::<Vec<_>>()
    });
    joined(&active, &absent)
}

/// The features that are active, and those that are not, as a part of a sentence.
fn joined(active: &[String], absent: &[String]) -> String {
    let plural = |names: &[String]| if names.len() == 1 { "feature" } else { "features" };
    match (active, absent) {
        ([], []) => "features".into(),
        (active, []) => format!("{} {}", plural(active), active.join(", ")),
        ([], absent) => format!("lack of {} {}", plural(absent), absent.join(", ")),
        (active, absent) => format!("{} {} without {}", plural(active), active.join(", "), absent.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::score_filter::Scores;

    #[test]
    fn percentiles_are_ordinal_numbers() {
        let found = [0.0, 1.2, 22.0, 93.4, 93.6, 11.0, 12.5, 100.0].map(percentile_text);
        let numbers = ["0th", "1st", "22nd", "93rd", "94th", "11th", "12th", "100th"];
        assert_eq!(found, numbers.map(|number| format!("{number} percentile")));
    }

    #[test]
    fn features_that_are_not_active_are_told_apart() {
        let told = |active: &[&str], absent: &[&str]| {
            let [active, absent] =
                [active, absent].map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            joined(&active, &absent)
        };
        assert_eq!(told(&["299 (ten)"], &["143 (skin)", "367"]), "feature 299 (ten) without 143 (skin), 367");
        assert_eq!(told(&["1", "2"], &[]), "features 1, 2");
        assert_eq!(told(&[], &["3"]), "lack of feature 3");
        assert_eq!(told(&[], &[]), "features");
    }

    #[test]
    fn the_verdict_names_score_percentile_and_threshold() {
        let ids = (0..10).map(|n| n.to_string()).collect();
        let values = (0..10).map(|n| (n < 9).then(|| f64::from(n))).collect();
        let mut filter =
            ScoreFilter::new(Scores { ids, columns: vec![("pmi".into(), values)], ..Scores::default() }).unwrap();
        filter.keep(3);
        let low = "pmi 2.00: higher than that of 22% of the samples. It would be dropped (threshold 6.00).";
        assert_eq!(verdict_text(&filter, 2), low);
        assert!(verdict_text(&filter, 0).contains("the lowest of all samples"));
        assert!(verdict_text(&filter, 8).contains("It would be kept"));
        assert!(verdict_text(&filter, 9).contains("has no pmi"));
        filter.choose([2], Some(true));
        assert_eq!(verdict_text(&filter, 2), "It was chosen by hand to be kept.");
    }
}
