//! The Compare page: two features side by side, of one autoencoder, of two, or of two runs; how similar their directions are, how
//! often they fire together, and the same sample under both autoencoders.

use super::card::{CardAction, Expanded};
use super::feature;
use super::sample::{self, SampleView};
use super::sample_cache::SampleCache;
use super::side::Side;
use super::theme::{self, note, section};
use super::widgets::{self, tile};
use super::{Action, sample_scores};
use crate::load::DecoderDirection;
use crate::state::Link;
use crate::state::explanation::ScoreExplanation;
use crate::state::format;
use crate::state::link::Counterpart;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use crate::state::overlay::PictureView;
use crate::state::shared_samples::SharedSamples;
use egui::{Button, ComboBox, DragValue, Frame, Key, Margin, RichText, Role, ScrollArea, TextEdit, Ui, WidgetInfo};
use sae_workbench::compare::{Coactivation, cosine};

/// What the page remembers between two frames.
#[derive(Default)]
pub struct CompareView {
    /// The direction of the first feature, once it is known.
    pub direction: Option<(u32, Result<DecoderDirection, String>)>,
    /// The expanded example of either feature.
    expanded: [Expanded; 2],
    samples: [SampleView; 2],
    /// The comparison for which a sample was chosen.
    sample_of: Option<(u32, Counterpart)>,
    /// What is typed as the run of the second feature.
    run: String,
}

impl CompareView {
    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The explanations of the scores of a sample, as far as they are known.
type Explanations<'a> = Option<&'a Result<Vec<ScoreExplanation>, String>>;

/// Draws the page.
pub fn show(
    ui: &mut Ui,
    run: &mut OpenRun,
    cache: &mut SampleCache,
    view: &mut CompareView,
    side: Option<&mut Side>,
    opacity: &mut f32,
    explanations: Explanations,
) -> Option<Action> {
    if run.list.total() == 0 {
        ui.heading("Compare");
        widgets::reason(ui, run.no_features.as_deref().unwrap_or("There are no features to compare."));
        return None;
    }
    if run.compare_with.is_none() {
        // The nearest feature is the first to be compared with.
        let nearest = run.neighbors().and_then(Result::ok).and_then(|near| near.first()).map(|near| near.feature);
        run.compare_with = nearest.map(Counterpart::new);
    }
    let mut action = head(ui, run, view, side.as_deref());
    let Some(side) = side else {
        note(ui, "Choose the feature to compare with.");
        return action;
    };
    if let Some(problem) = side.problem() {
        widgets::reason(ui, problem);
    }
    let (second_direction, second_explanations) = (side.direction.take(), side.explanations.take());
    let shared = side.shared.take();
    if let Some((other, other_cache)) = side.parts() {
        choose_sample(run, view, shared.as_ref());
        ScrollArea::vertical().id_salt("comparison").auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - 12.0);
            let directions = [view.direction.as_ref(), second_direction.as_ref()];
            relation(ui, (run, cache), (other, other_cache), shared.as_ref(), directions);
            let clicked = features(ui, [(run, &mut *cache), (other, &mut *other_cache)], &mut view.expanded, opacity);
            action = clicked.or(action.take());
            let Some(shared) = &shared else { return note(ui, "Reading the samples of both runs ...") };
            if shared.is_empty() {
                return note(
                    ui,
                    "The two runs share no samples to show under both. Samples are matched by the score tables of the runs, \
                     which `sae score` makes.",
                );
            }
            sample_field(ui, run, other, shared);
            if shared.in_second(run.sample()).is_none() {
                return note(ui, &format!("The other run has no sample like sample {}.", run.sample()));
            }
            let own = |known: &&(u32, Result<Vec<ScoreExplanation>, String>)| known.0 == other.sample();
            let second = second_explanations.as_ref().filter(own).map(|(_, found)| found);
            let sides = [(&*run, cache, explanations), (other, other_cache, second)];
            let clicked = same_sample(ui, sides, &mut view.samples, *opacity);
            action = clicked.or(action.take());
        });
        if other.hover.end_frame() {
            ui.ctx().request_repaint();
        }
    } else if side.problem().is_none() {
        note(ui, "Opening ...");
    }
    (side.direction, side.explanations, side.shared) = (second_direction, second_explanations, shared);
    action
}

/// The two features as fields.
fn head(ui: &mut Ui, run: &mut OpenRun, view: &mut CompareView, side: Option<&Side>) -> Option<Action> {
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        ui.heading("Compare");
        let last = (run.list.total().max(1) - 1) as u32;
        let mut first = run.feature_number().unwrap_or_default();
        ui.label("feature");
        let field = ui.add(DragValue::new(&mut first).range(0..=last));
        field.widget_info(|| WidgetInfo::labeled(Role::SpinButton, true, "First feature"));
        if field.changed() {
            action = Some(Action::Go(Location::Compare(first)));
        }
        let Some(mut with) = run.compare_with.clone() else { return };
        ui.label("with feature");
        let other = side.and_then(Side::run);
        let last = other.map_or(u32::MAX, |other| (other.list.total().max(1) - 1) as u32);
        let field = ui.add(DragValue::new(&mut with.feature).range(0..=last).clamp_existing_to_range(false));
        field.widget_info(|| WidgetInfo::labeled(Role::SpinButton, true, "Second feature"));
        ui.label("of");
        let saes = other.map_or(&run.info.saes, |other| &other.info.saes);
        let current = other.map_or(run.info.sae_name(), |other| other.info.sae_name()).to_owned();
        let combo = ComboBox::from_id_salt("second autoencoder").selected_text(current.as_str());
        let shown = combo.show_ui(ui, |ui| {
            for sae in saes.iter().filter(|sae| sae.indexed) {
                if ui.selectable_label(sae.name == current, &sae.name).clicked() {
                    with.sae = Some(sae.name.clone());
                }
            }
        });
        shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Second autoencoder"));
        let hint = "path of another run, or a link to a feature";
        let field = TextEdit::singleline(&mut view.run).hint_text(hint).desired_width(290.0);
        let response = ui.add(field);
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Second run"));
        if response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter)) {
            with = second_run(&view.run, with);
        }
        run.compare_with = Some(with);
    });
    action
}

/// The counterpart after a run or a link was typed; an empty text means the run that is open.
fn second_run(text: &str, with: Counterpart) -> Counterpart {
    match text.trim() {
        "" => Counterpart { run: None, sae: None, ..with },
        text => text.parse().unwrap_or(Counterpart { run: Some(text.into()), sae: None, ..with }),
    }
}

/// A sample that has something to show: the strongest one of the first feature, of those that both runs have.
fn choose_sample(run: &mut OpenRun, view: &mut CompareView, shared: Option<&SharedSamples>) {
    let (Some(feature), Some(with)) = (run.feature_number(), run.compare_with.clone()) else { return };
    let Some(shared) = shared else { return };
    let pair = (feature, with);
    if view.sample_of.as_ref() != Some(&pair)
        && let Some(sample) = run.strongest_samples().into_iter().find(|sample| shared.in_second(*sample).is_some())
    {
        run.show_sample(sample);
        view.sample_of = Some(pair);
    }
}

/// How similar the two features are.
fn relation(
    ui: &mut Ui,
    (run, cache): (&OpenRun, &mut SampleCache),
    (other, other_cache): (&OpenRun, &mut SampleCache),
    shared: Option<&SharedSamples>,
    directions: [Option<&(u32, Result<DecoderDirection, String>)>; 2],
) {
    let (Some(first), Some(second)) = (run.feature_number(), other.feature_number()) else { return };
    section(ui, "Similarity", "How similar the directions of the two features are, and how often they fire together");
    let known = |known: Option<&(u32, Result<DecoderDirection, String>)>, feature: u32| {
        known.filter(|(own, _)| *own == feature).map(|(_, direction)| direction.clone())
    };
    ui.horizontal_wrapped(|ui| {
        let name = "decoder cosine";
        match (known(directions[0], first), known(directions[1], second)) {
            (Some(Ok(a)), Some(Ok(b))) => {
                let hint = if a.hook == b.hook {
                    "The cosine of the decoder directions of the two features".to_owned()
                } else {
                    format!("The two autoencoders read different layers ({} and {})", a.hook, b.hook)
                };
                let value = cosine(&a.values, &b.values).map(|cosine| format!("{cosine:.3}"));
                tile(ui, value.as_deref().unwrap_or("different widths"), name, &hint);
            }
            (Some(Err(reason)), _) | (_, Some(Err(reason))) => drop(tile(ui, "-", name, &reason)),
            _ => drop(tile(ui, "...", name, "Reading ...")),
        }
        if run.is_same_as(other)
            && let Some(Ok(list)) = run.details().map(|details| details.coactive.as_deref())
        {
            let found = list.iter().find(|row| row.feature == second).map(|row| format!("{:.2}", row.jaccard));
            let least = list.last().map_or(0.0, |row| row.jaccard);
            let value = found.unwrap_or_else(|| format!("at most {least:.2}"));
            let hint = "The share of all positions of the run where either feature fires at which both fire (Jaccard \
                        similarity). The index lists only the most co-active features of each feature";
            tile(ui, &value, "co-activation in the run", hint);
        }
        if let Some(shared) = shared.filter(|shared| !shared.is_empty()) {
            let mut counts = Coactivation::default();
            let samples = shared.strongest(run, other);
            for [own, theirs] in &samples {
                // Two models may divide the same text into other tokens.
                if let (Some(Ok(a)), Some(Ok(b))) = (cache.active(*own), other_cache.active(*theirs))
                    && a.rows.rows() == b.rows.rows()
                {
                    counts.add(&a.of_feature(first), &b.of_feature(second));
                }
            }
            let value = counts.jaccard().map_or("-".into(), |share| format!("{share:.2}"));
            let hint = format!(
                "Of the {} positions of the {} strongest samples of the two features that both runs have, the first fires at {}, \
                 the second at {}, and both at {}. The value is the share of the positions of either where both fire",
                format::count(counts.positions),
                samples.len(),
                format::count(counts.first),
                format::count(counts.second),
                format::count(counts.both)
            );
            tile(ui, &value, "co-activation in their strongest samples", &hint);
        }
    });
}

/// Draws two items side by side, in columns of the same width.
fn columns<T>(ui: &mut Ui, items: [T; 2], mut draw: impl FnMut(&mut Ui, T)) {
    ui.columns(2, |columns| {
        // Columns justify their text; what is in them does not.
        columns.iter_mut().zip(items).for_each(|(ui, item)| drop(ui.vertical(|ui| draw(ui, item))));
    });
}

/// The two features, each in a column.
fn features(
    ui: &mut Ui,
    sides: [(&OpenRun, &mut SampleCache); 2],
    expanded: &mut [Expanded; 2],
    opacity: &mut f32,
) -> Option<Action> {
    let mut action = None;
    let open = sides[0].0;
    ui.add_space(10.0);
    let [first, second] = expanded;
    let [left, right] = sides;
    columns(ui, [(left, first), (right, second)], |ui, ((run, cache), expanded)| {
        let Some(row) = run.feature() else {
            return widgets::reason(ui, run.no_features.as_deref().unwrap_or("No feature is selected."));
        };
        action = title(ui, open, run).or(action.take());
        feature::tiles(ui, row);
        feature::class_reason(ui, run, row);
        feature::tokens(ui, run, row.feature);
        let clicked = feature::by_modality(ui, run, row, cache, expanded, opacity);
        action = clicked.map(|clicked| card_action(clicked, open, run)).or(action.take());
    });
    action
}

/// Number, class, autoencoder and name of a feature.
fn title(ui: &mut Ui, open: &OpenRun, run: &OpenRun) -> Option<Action> {
    let row = run.feature()?;
    let mut action = None;
    ui.horizontal_wrapped(|ui| {
        let title = RichText::new(format!("Feature {}", row.feature)).size(17.0).strong();
        let button = ui.add(Button::new(title).frame(false)).on_hover_text("Show the page of this feature");
        if button.clicked() {
            action = Some(go(open, run, Location::Feature(row.feature)));
        }
        let color = theme::class(ui, &row.class);
        let badge =
            Frame::new().fill(color.gamma_multiply(0.18)).corner_radius(9).inner_margin(Margin::symmetric(9, 2));
        badge.show(ui, |ui| ui.label(RichText::new(row.class.as_str()).color(color)));
        let of = if open.info.root == run.info.root {
            run.info.sae_name().to_owned()
        } else {
            format!("{} of {}", run.info.sae_name(), run.info.name())
        };
        ui.label(theme::small(ui, &of)).on_hover_text(run.info.path().display().to_string());
    });
    ui.add(egui::Label::new(widgets::feature_name(ui, run, row.feature)).truncate());
    action
}

/// Shows a location of one of the two runs.
fn go(open: &OpenRun, run: &OpenRun, location: Location) -> Action {
    let is_of_run = matches!(location, Location::Sample(_)) && open.info.root == run.info.root;
    if open.is_same_as(run) || is_of_run {
        return Action::Go(location);
    }
    let link = Link { sae: run.info.sae.clone(), location: Some(location), ..Link::to_run(run.info.root.clone()) };
    Action::OpenText(link.to_string())
}

fn card_action(clicked: CardAction, open: &OpenRun, run: &OpenRun) -> Action {
    match clicked {
        CardAction::Copy(text) => Action::Copy(text, "Text copied."),
        // Samples of another run have other numbers.
        CardAction::CopyPicture(_) | CardAction::SavePicture(_) if open.info.root != run.info.root => {
            Action::Say("Open the other run to copy or save its pictures.")
        }
        CardAction::CopyPicture(of) => Action::CopyPicture(of),
        CardAction::SavePicture(of) => Action::SavePicture(of),
        CardAction::Open(sample) => go(open, run, Location::Sample(sample)),
    }
}

/// Which sample is shown under both autoencoders.
fn sample_field(ui: &mut Ui, run: &mut OpenRun, other: &OpenRun, shared: &SharedSamples) {
    ui.add_space(8.0);
    ui.horizontal_wrapped(|ui| {
        let hint = "Where the two features fire in one sample, which features are strongest in it, and what makes up its scores";
        theme::title(ui, "The same sample under both", hint);
        let mut sample = run.sample();
        let last = u32::try_from(run.info.samples.saturating_sub(1)).unwrap_or(u32::MAX);
        let field = ui.add(DragValue::new(&mut sample).range(0..=last));
        field.widget_info(|| WidgetInfo::labeled(Role::SpinButton, true, "Sample under both"));
        let own = run.strongest_samples().into_iter().find(|sample| shared.in_second(*sample).is_some());
        let theirs = other.strongest_samples().into_iter().find_map(|sample| shared.in_first(sample));
        for (feature, strongest) in [(run.feature_number(), own), (other.feature_number(), theirs)] {
            if let (Some(feature), Some(strongest)) = (feature, strongest)
                && ui.small_button(format!("Strongest of {feature}")).clicked()
            {
                sample = strongest;
            }
        }
        run.show_sample(sample);
    });
}

/// One sample under both autoencoders: where the features fire, and what makes up its scores.
fn same_sample(
    ui: &mut Ui,
    sides: [(&OpenRun, &mut SampleCache, Explanations); 2],
    views: &mut [SampleView; 2],
    opacity: f32,
) -> Option<Action> {
    let mut action = None;
    let open = sides[0].0;
    let [first, second] = views;
    let [left, right] = sides;
    columns(ui, [(left, first), (right, second)], |ui, ((run, cache, explanations), view)| {
        let number = run.sample();
        view.begin(number);
        view.pinned = run.feature_number();
        let active = run.info.no_weights().map(Err).or_else(|| cache.active(number));
        match cache.get(number) {
            None => note(ui, "Reading ..."),
            Some(Err(reason)) => widgets::reason(ui, reason),
            Some(Ok(loaded)) => {
                let more = |ui: &mut Ui| sample_scores::show(ui, run, explanations);
                let clicked = sample::column(ui, run, loaded, &active, view, opacity, more);
                action = clicked.and_then(|clicked| of_side(clicked, open, run)).or(action.take());
            }
        }
        if let Some(picture) = view.enlarge.take() {
            action = Some(Action::ViewPicture(PictureView { sample: open.sample(), picture }));
        }
    });
    action
}

/// What a click in the column of a run does. Commands are about the run that is open, so the other column has none.
fn of_side(clicked: Action, open: &OpenRun, run: &OpenRun) -> Option<Action> {
    match clicked {
        Action::Go(location) => Some(go(open, run, location)),
        Action::Command(_) if !open.is_same_as(run) => None,
        clicked => Some(clicked),
    }
}
