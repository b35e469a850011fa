//! The strongest samples of a feature in two groups of a contrast, side by side.

use super::Action;
use super::card::{self, CardAction, Expanded};
use super::heat_map::HeatScale;
use super::sample_cache::SampleCache;
use super::theme::{self, note, section};
use crate::state::contrast::Contrast;
use crate::state::open_run::{OpenRun, SampleList};
use egui::{ComboBox, Role, Ui, WidgetInfo};
use sae_core::analysis::contrast::GroupValue;

/// Width from which on the two groups are side by side.
const TWO_COLUMNS: f32 = 460.0;
/// The names of the two lists, for their widgets and their expanded cards.
const SIDES: [&str; 2] = ["First group", "Second group"];

/// What the examples remember between two frames.
#[derive(Default)]
pub struct ExamplesView {
    /// The groups that a person has chosen, in place of those where the feature is active most and least often.
    chosen: [Option<String>; 2],
    samples: Vec<u32>,
    expanded: Expanded,
}

impl ExamplesView {
    /// The samples of the cards.
    pub fn samples(&self) -> &[u32] {
        &self.samples
    }
}

/// Draws the examples of a feature. Returns what was clicked.
pub fn show(
    ui: &mut Ui,
    run: &OpenRun,
    contrast: &Contrast,
    feature: u32,
    cache: &mut SampleCache,
    view: &mut ExamplesView,
    opacity: f32,
) -> Option<Action> {
    view.samples.clear();
    let ends = contrast.ends(feature)?;
    section(
        ui,
        "Strongest samples by group",
        "At first the groups in which the feature is active most often and least often",
    );
    if let Err(reason) = &contrast.examples {
        note(ui, reason);
        return None;
    }
    let values = contrast.values_of(feature);
    let mut action = None;
    let max = run.list.row(feature).map_or(0.0, |row| row.max);
    let scale = HeatScale { feature, max, opacity };
    let ExamplesView { chosen, samples, expanded } = view;
    let mut column = |ui: &mut Ui, side: usize| {
        let known = |name: &&String| values.iter().any(|value| value.group == **name);
        let group = chosen[side].as_ref().filter(known).map_or(ends[side], String::as_str).to_owned();
        if let Some(other) = choose(ui, SIDES[side], &group, values) {
            chosen[side] = Some(other);
        }
        let examples = contrast.examples_of(feature, &group);
        if examples.is_empty() {
            note(ui, &format!("There are no examples of feature {feature} in {group}."));
        }
        let here: Vec<u32> = examples.iter().map(|example| example.sample).collect();
        samples.extend(&here);
        match card::grid(ui, SIDES[side], &examples, scale, cache, expanded) {
            Some(CardAction::Copy(text)) => action = Some(Action::Copy(text, "Text copied.")),
            Some(CardAction::CopyPicture(of)) => action = Some(Action::CopyPicture(of)),
            Some(CardAction::SavePicture(of)) => action = Some(Action::SavePicture(of)),
            Some(CardAction::Open(sample)) => {
                let title = format!("examples of feature {feature} in {group}");
                action = Some(Action::GoToSample(sample, SampleList { title, samples: here }));
            }
            None => {}
        }
    };
    if ui.available_width() >= TWO_COLUMNS {
        ui.columns(2, |columns| columns.iter_mut().enumerate().for_each(|(side, ui)| column(ui, side)));
    } else {
        (0..SIDES.len()).for_each(|side| column(ui, side));
    }
    action
}

/// The group of a side. Returns another one that was chosen.
fn choose(ui: &mut Ui, side: &str, group: &str, values: &[GroupValue]) -> Option<String> {
    let mut chosen = None;
    let combo = ComboBox::from_id_salt(side).selected_text(theme::small(ui, group)).show_ui(ui, |ui| {
        for value in values.iter().filter(|value| !value.is_forecast) {
            if ui.selectable_label(value.group == group, &value.group).clicked() {
                chosen = Some(value.group.clone());
            }
        }
    });
    combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, side));
    chosen
}
