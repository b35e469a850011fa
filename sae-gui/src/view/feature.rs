//! The page of one feature. The head with label and star stays in place; below it scroll what it counts to, why it has its class,
//! a test on the user's own text, its activations, its tokens, related features, and examples.

use super::card::{self, CardAction, Expanded};
use super::heat_map::{DEFAULT_OPACITY, HeatScale};
use super::sample_cache::SampleCache;
use super::test_box::{self, TestBox};
use super::theme::{self, note, section};
use super::widgets::{self, feature_button, tile};
use super::{Action, histogram, label};
use crate::state::Command;
use crate::state::details::ExampleGroup;
use crate::state::excerpt::display_text;
use crate::state::format;
use crate::state::location::Location;
use crate::state::open_run::{OpenRun, SIDE_BY_SIDE, STRONGEST_ON, SampleList};
use crate::state::run_info;
use egui::{Button, Frame, Label, Margin, Rect, RichText, ScrollArea, Sense, Slider, Ui, vec2};
use sae_core::analysis::index::FeatureRow;

/// Width from which on two columns are side by side.
const TWO_COLUMNS: f32 = 560.0;

/// What the page remembers between two frames.
pub struct FeatureView {
    /// How strongly heat maps cover pictures.
    pub heat_opacity: f32,
    /// The example whose card is expanded.
    expanded: Expanded,
    /// The test on the user's own text.
    pub test: TestBox,
}

impl Default for FeatureView {
    fn default() -> Self {
        Self { heat_opacity: DEFAULT_OPACITY, expanded: None, test: TestBox::default() }
    }
}

/// Draws the page.
pub fn show(ui: &mut Ui, run: &mut OpenRun, cache: &mut SampleCache, view: &mut FeatureView) -> Option<Action> {
    let Some(feature) = run.feature().cloned() else {
        let text = if run.list.total() == 0 { "There are no features to show." } else { "No feature is selected." };
        ui.centered_and_justified(|ui| ui.label(text));
        return None;
    };
    let number = feature.feature;
    let mut action = head(ui, run, &feature);
    if label::label_row(ui, run, number) {
        action = Some(Action::Edited);
    }
    ui.separator();
    let scroll = ScrollArea::vertical().auto_shrink(false).id_salt(("page", number));
    scroll.show(ui, |ui| {
        // The scroll bar floats over the right edge.
        ui.set_max_width(ui.available_width() - 12.0);
        if label::notes(ui, run, number) | label::lists(ui, run, number) {
            action = Some(Action::Edited);
        }
        tiles(ui, &feature);
        class_reason(ui, run, &feature);
        action = test_box::show(ui, run, &feature, &mut view.test).or(action.take());
        let examples = by_modality(ui, run, &feature, cache, &mut view.expanded, &mut view.heat_opacity);
        action = examples.map(|found| card_action(found, number, || run.example_samples())).or(action.take());
        histogram::activations(ui, run);
        tokens(ui, run, number);
        let related = neighbors(ui, run).or(coactive(ui, run));
        action = related.map(|number| Action::Go(Location::Feature(number))).or(action.take());
        let examples = groups(ui, run, &feature, cache, view);
        action = examples.map(|found| card_action(found, number, || run.example_samples())).or(action.take());
        ui.add_space(12.0);
    });
    action
}

/// What a click on an example does; `samples` are those that Next and Previous then walk.
fn card_action(action: CardAction, feature: u32, samples: impl Fn() -> Vec<u32>) -> Action {
    match action {
        CardAction::Copy(text) => Action::Copy(text, "Text copied."),
        CardAction::CopyPicture(of) => Action::CopyPicture(of),
        CardAction::SavePicture(of) => Action::SavePicture(of),
        CardAction::Open(sample) => Action::GoToSample(
            sample,
            SampleList { title: format!("examples of feature {feature}"), samples: samples() },
        ),
    }
}

fn head(ui: &mut Ui, run: &OpenRun, feature: &FeatureRow) -> Option<Action> {
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        ui.heading(format!("Feature {}", feature.feature));
        let color = theme::class(ui, &feature.class);
        let badge =
            Frame::new().fill(color.gamma_multiply(0.18)).corner_radius(9).inner_margin(Margin::symmetric(9, 2));
        let badge = badge.show(ui, |ui| ui.label(RichText::new(feature.class.as_str()).color(color)));
        badge.response.on_hover_text(run_info::class_reason(run.list.positions(), feature));
        for command in [Command::CopyLink, Command::CopyJson, Command::AskLabel] {
            if ui.add(Button::new(command.title()).small()).on_hover_text(command.hint()).clicked() {
                action = Some(Action::Command(command));
            }
        }
        let steer = ui.small_button("Steer").on_hover_text("Set this feature's activation in the playground");
        if steer.clicked() {
            action = Some(Action::Steer { features: vec![feature.feature], prompt: None });
        }
        let compare = ui.small_button("Compare").on_hover_text("Show this feature beside another one");
        if compare.clicked() {
            action = Some(Action::Go(Location::Compare(feature.feature)));
        }
    });
    action
}

/// Counts, maximum and cross-modal weights.
pub fn tiles(ui: &mut Ui, feature: &FeatureRow) {
    let error = feature.weight_se.map(|error| format!(" \u{b1} {}", format::real(error))).unwrap_or_default();
    let none = "Nothing where the feature has fewer than 5 positions above the threshold on text or on images";
    let weights = [
        ("paper", format::maybe(feature.weight_paper), "As the paper defines it"),
        ("authors' code", format::maybe(feature.weight_release), "As the code that the authors published computes it"),
        (
            "bias-corrected",
            format::maybe(feature.weight_corrected) + &error,
            "Minus the mean cosine of all pairs of text and image positions",
        ),
    ];
    ui.horizontal_wrapped(|ui| {
        tile(ui, &format::count(feature.fires), "positions", "Number of positions where it fires");
        tile(ui, &format::percent(feature.density), "density", "Share of all positions where it fires");
        tile(ui, &format::real(feature.max as f64), "maximum", "Its largest activation");
        tile(ui, &format::real(feature.mean as f64), "mean", "Its mean activation where it fires");
        for (name, value, hint) in weights {
            let hint = format!(
                "Cross-modal weight: how similar the model's hidden states are at the feature's strongest text and image \
                 positions. {hint}. {none}."
            );
            tile(ui, &value, &format!("cross-modal weight: {name}"), &hint);
        }
    });
}

/// Why the feature has its class: the sentence, and the two rates as bars on one scale.
pub fn class_reason(ui: &mut Ui, run: &OpenRun, feature: &FeatureRow) {
    let positions = run.list.positions();
    let [first, second] = positions.sides.names();
    let hint = format!("The class compares how often the feature fires on {first} and on {second} positions");
    section(ui, "Class", &hint);
    ui.add(egui::Label::new(run_info::class_reason(positions, feature)).wrap());
    let (Some(text), Some(image)) = (positions.rate_text(feature), positions.rate_image(feature)) else { return };
    let largest = text.max(image).max(f64::MIN_POSITIVE);
    for (name, rate, fires, of) in
        [(first, text, feature.fires_text, positions.text), (second, image, feature.fires_image, positions.image)]
    {
        let color = theme::class(ui, &name);
        ui.horizontal(|ui| {
            let (rect, _) = ui.allocate_exact_size(vec2(0.35 * ui.available_width(), 14.0), Sense::hover());
            let bar = rect.shrink2(vec2(0.0, 4.0));
            ui.painter().rect_filled(bar, 3.0, ui.visuals().extreme_bg_color);
            let length = (rate / largest) as f32 * bar.width();
            ui.painter().rect_filled(Rect::from_min_size(bar.min, vec2(length, bar.height())), 3.0, color);
            let counts = format!("{} of {}", format::count(fires), format::count(of));
            ui.label(RichText::new(format!("{} of {name} positions", format::percent(rate))).small().color(color));
            ui.label(theme::small(ui, &format!("({counts})")));
        });
    }
}

/// The strongest positions on text and on images, side by side, and those on actions below if there are any.
pub fn by_modality(
    ui: &mut Ui,
    run: &OpenRun,
    feature: &FeatureRow,
    cache: &mut SampleCache,
    expanded: &mut Expanded,
    opacity: &mut f32,
) -> Option<CardAction> {
    ui.add_space(8.0);
    ui.horizontal_wrapped(|ui| {
        let hint = "The positions with the largest activations, one per sample, separately for each modality";
        theme::title(ui, "Strongest on text and on images", hint);
        ui.add_space(12.0);
        ui.add(Label::new(theme::small(ui, "heat-map opacity")).extend());
        ui.spacing_mut().slider_width = 90.0;
        let slider = Slider::new(opacity, 0.0..=1.0).show_value(false);
        ui.add(slider).on_hover_text("How strongly the heat map covers the pictures");
    });
    let Some(details) = run.details_of(feature.feature) else {
        note(ui, "Reading examples ...");
        return None;
    };
    let [text, image, actions] = STRONGEST_ON.map(|modality| (modality.name(), details.strongest_on(modality)));
    let found = [text, image];
    if let (_, Err(reason)) = &found[0] {
        note(ui, reason);
        return None;
    }
    let scale = HeatScale { feature: feature.feature, max: feature.max, opacity: *opacity };
    let mut column = |ui: &mut Ui, name: &'static str, examples: &Result<Vec<_>, &str>| {
        ui.label(RichText::new(format!("on {name}")).color(theme::class(ui, name)));
        match examples {
            Ok(examples) if examples.is_empty() => {
                note(ui, &format!("It fires at no {name} position."));
                None
            }
            Ok(examples) => {
                let shown = &examples[..examples.len().min(SIDE_BY_SIDE)];
                card::grid(ui, name, shown, scale, cache, expanded)
            }
            Err(reason) => {
                note(ui, reason);
                None
            }
        }
    };
    let mut action = None;
    let both = found.iter().all(|(_, examples)| examples.as_ref().is_ok_and(|examples| !examples.is_empty()));
    if both && ui.available_width() >= TWO_COLUMNS {
        ui.columns(2, |columns| {
            for (ui, (name, examples)) in columns.iter_mut().zip(&found) {
                action = column(ui, name, examples).or(action.take());
            }
        });
    } else {
        for (name, examples) in &found {
            action = column(ui, name, examples).or(action.take());
        }
    }
    if actions.1.as_ref().is_ok_and(|examples| !examples.is_empty()) {
        action = column(ui, actions.0, &actions.1).or(action.take());
    }
    action
}

fn neighbors(ui: &mut Ui, run: &OpenRun) -> Option<u32> {
    let hint = "The features whose decoder directions have the largest cosine with this one's";
    section(ui, "Nearest features (decoder cosine)", hint);
    match run.neighbors() {
        Some(Ok(list)) if !list.is_empty() => others(ui, run, list.iter().map(|near| (near.feature, near.cosine))),
        other => {
            note(ui, other.map_or("Reading ...", |list| list.err().unwrap_or("The index lists none.")));
            None
        }
    }
}

fn coactive(ui: &mut Ui, run: &OpenRun) -> Option<u32> {
    let hint =
        "The features that fire at the same positions: the share of the positions of either where both fire (Jaccard)";
    section(ui, "Co-active features (Jaccard similarity)", hint);
    match &run.details()?.coactive {
        Ok(list) if !list.is_empty() => others(ui, run, list.iter().map(|other| (other.feature, other.jaccard))),
        other => {
            note(ui, other.as_ref().err().map_or("No feature fires at the same positions.", String::as_str));
            None
        }
    }
}

/// Other features as buttons with what they are called, each with a number between 0 and 1.
fn others(ui: &mut Ui, run: &OpenRun, list: impl Iterator<Item = (u32, f32)>) -> Option<u32> {
    let mut clicked = None;
    ui.horizontal_wrapped(|ui| {
        for (feature, value) in list {
            if feature_button(ui, run, feature, Some(format!("{value:.2}"))).clicked() {
                clicked = Some(feature);
            }
            if let Some(name) = widgets::short_name(ui, run, feature) {
                ui.label(name);
            }
        }
    });
    clicked
}

/// The tokens that it promotes and suppresses.
pub fn tokens(ui: &mut Ui, run: &OpenRun, feature: u32) {
    let hint = "What an activation of 1 adds to the logits of tokens, through the output head alone (logit lens)";
    section(ui, "Promoted and suppressed tokens (logits)", hint);
    let Some(details) = run.details_of(feature) else { return note(ui, "Reading ...") };
    let tokens = match &details.logits {
        Err(reason) => return note(ui, reason),
        Ok(tokens) => tokens,
    };
    for promoted in [true, false] {
        ui.horizontal_wrapped(|ui| {
            ui.label(theme::small(ui, if promoted { "promoted" } else { "suppressed" }));
            for token in tokens.iter().filter(|token| token.promoted == promoted) {
                let text = RichText::new(display_text(&token.piece)).color(theme::promoted(ui, promoted));
                let logit = RichText::new(format!("{:+.2}", token.logit)).small();
                let chip = Button::new(text).shortcut_text(logit).sense(Sense::hover());
                ui.add(chip).on_hover_text(format!("token {}", token.token_id));
            }
        });
    }
    match &details.logit_histogram {
        Err(reason) => note(ui, reason),
        Ok(bins) => histogram::logits(ui, bins, tokens),
    }
}

/// What a feature promotes, and where it fires, beside a table in which it is selected.
pub fn beside(
    ui: &mut Ui,
    run: &OpenRun,
    cache: &mut SampleCache,
    selected: Option<u32>,
    expanded: &mut Expanded,
    opacity: &mut f32,
) -> Option<Action> {
    let number = selected?;
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        theme::title(ui, "Feature", "Choose another one in the table");
        if feature_button(ui, run, number, None).clicked() {
            action = Some(Action::Go(Location::Feature(number)));
        }
        ui.label(widgets::feature_name(ui, run, number));
    });
    let Some(row) = run.list.row(number) else {
        note(ui, "The feature index does not list it. Make the index to see where it fires.");
        return action;
    };
    tokens(ui, run, number);
    let clicked = by_modality(ui, run, row, cache, expanded, opacity);
    let samples = || run.strongest_samples_of(number);
    clicked.map(|clicked| card_action(clicked, number, samples)).or(action)
}

/// Examples from every interval of activation.
fn groups(
    ui: &mut Ui,
    run: &OpenRun,
    feature: &FeatureRow,
    cache: &mut SampleCache,
    view: &mut FeatureView,
) -> Option<CardAction> {
    let groups = match run.example_groups() {
        None => return None,
        Some(Err(reason)) => {
            note(ui, reason);
            return None;
        }
        Some(Ok(groups)) => groups,
    };
    let mut action = None;
    for group in groups {
        let hint = match group.number {
            0 => "The positions with the largest activations, one per sample, of either modality",
            _ => "Positions drawn at random from this interval of activations, one per sample",
        };
        section(ui, &title(&group), hint);
        let scale = HeatScale { feature: feature.feature, max: feature.max, opacity: view.heat_opacity };
        ui.push_id(group.number, |ui| {
            action = card::grid(ui, "groups", &group.examples, scale, cache, &mut view.expanded).or(action.take());
        });
    }
    action
}

fn title(group: &ExampleGroup) -> String {
    match group.number {
        0 => group.title.clone(),
        _ => format!("{} ({})", group.title, format::counted(group.examples.len(), "example")),
    }
}
