//! The page of a text of one's own: which features fire on it, and how the model goes on with some of them set.

use super::Action;
use super::gallery::{Shown, texture};
use super::heat::Heat;
use super::sample::{self, Known, SampleView};
use super::theme::{self, say, section};
use crate::state::data::SampleView as Content;
use crate::state::excerpt;
use crate::state::format;
use crate::state::open_run::OpenRun;
use crate::state::playground::{Answer, GoesOn};
use egui::{
    Button, Context, DragValue, Label, Panel, Rect, RichText, Role, ScrollArea, Sense, Slider, TextEdit, Ui,
    WidgetInfo, vec2,
};

/// What the page remembers between two frames.
#[derive(Default)]
pub struct TrialView {
    answer: Option<Result<Shown, String>>,
    active: Known,
    goes_on: Option<(GoesOn, Option<GoesOn>)>,
    sample: SampleView,
    feature: u32,
    image: String,
}

impl TrialView {
    /// Takes in an answer and uploads its picture.
    pub fn put(&mut self, ctx: &Context, answer: Result<Answer, String>) {
        self.sample.clear();
        match answer {
            Err(reason) => {
                (self.active, self.goes_on) = (None, None);
                self.answer = Some(Err(reason));
            }
            Ok(answer) => {
                let textures = answer.picture.iter().map(|picture| Ok(texture(ctx, "own picture".into(), picture)));
                let textures = textures.collect();
                let view =
                    Content { key: String::new(), source: String::new(), tokens: answer.tokens, pictures: vec![] };
                self.active = Some(Ok(answer.active));
                self.goes_on = Some((answer.off, answer.on));
                self.answer = Some(Ok(Shown { view, textures }));
            }
        }
    }

    /// Whether there is an answer.
    pub fn answered(&self) -> bool {
        self.answer.is_some()
    }

    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Draws the page.
pub fn show(ui: &mut Ui, run: &mut OpenRun, view: &mut TrialView, heat: Heat) -> Option<Action> {
    let mut action = None;
    let panel = Panel::left("question").default_size(380.0).size_range(280.0..=600.0).frame(egui::Frame::NONE);
    panel.show(ui, |ui| {
        ScrollArea::vertical().id_salt("question").auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - 16.0);
            action = question(ui, run, view);
            if let Some((off, on)) = &view.goes_on {
                goes_on(ui, off, on.as_ref());
            }
        });
    });
    let margin = egui::Frame::NONE.inner_margin(egui::Margin { left: 12, ..egui::Margin::ZERO });
    egui::CentralPanel::default().frame(margin).show(ui, |ui| match &view.answer {
        None => {
            ui.heading("Try it");
            say(ui, "Type a text on the left, add an image if you like, and see which features fire.");
            say(ui, "The model of the run runs on this machine; the first time it is loaded.");
        }
        Some(Err(reason)) => {
            ui.heading("The model could not be asked");
            say(ui, reason);
        }
        Some(Ok(shown)) => {
            let clicked = sample::sides(ui, run, shown, &view.active, &mut view.sample, heat, |_| None);
            action = clicked.or(action.take());
        }
    });
    action
}

fn question(ui: &mut Ui, run: &mut OpenRun, view: &mut TrialView) -> Option<Action> {
    let mut action = None;
    section(ui, "Text", "What the person says; the model is to answer");
    let text = TextEdit::multiline(&mut run.trial.draft.text).hint_text("your own prompt").desired_rows(3);
    let response = ui.add(text.desired_width(f32::INFINITY));
    response.widget_info(|| WidgetInfo::labeled(Role::MultilineTextInput, true, "Text to try"));
    ui.horizontal(|ui| {
        ui.label("Image");
        view.image = run.trial.draft.image.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let field = TextEdit::singleline(&mut view.image).hint_text("drop one on the window, or its path");
        let response = ui.add(field.desired_width(f32::INFINITY));
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Image to try"));
        let path = view.image.trim();
        run.trial.draft.image = (!path.is_empty()).then(|| path.into());
    });
    section(
        ui,
        "Features to set",
        "Their activation at every position with content: 0 takes a feature away, its maximum boosts it",
    );
    let steers = run.trial.draft.steers.clone();
    for (at, steer) in steers.iter().enumerate() {
        ui.horizontal(|ui| {
            sample::name(ui, run, steer.feature, true);
            let max = run.list.row(steer.feature).map_or(1.0, |row| row.max).max(1e-3);
            let strength = &mut run.trial.draft.steers[at].strength;
            let range = 0.0..=2.0 * max.max(*strength);
            ui.add(Slider::new(strength, range).custom_formatter(|value, _| format!("{value:.2}")).text("strength"));
            if ui.small_button("Ablate").clicked() {
                *strength = 0.0;
            }
            if ui.small_button("Max").on_hover_text("Its largest activation in the run").clicked() {
                *strength = max;
            }
        });
        if ui.small_button(format!("Let {} be", steer.feature)).clicked() {
            run.trial.release(steer.feature);
            break;
        }
    }
    ui.horizontal(|ui| {
        let last = run.list.total().saturating_sub(1) as u32;
        let field = ui.add(DragValue::new(&mut view.feature).range(0..=last).prefix("feature "));
        field.widget_info(|| WidgetInfo::labeled(Role::SpinButton, true, "Feature to set"));
        if ui.button("Set").clicked()
            && let Some(max) = run.list.row(view.feature).map(|row| row.max)
        {
            run.trial.steer(view.feature, max);
        }
        if let Some((feature, max)) = run.feature().map(|row| (row.feature, row.max))
            && ui.button(format!("Set {feature}")).on_hover_text("The feature that was looked at last").clicked()
        {
            run.trial.steer(feature, max);
        }
    });
    ui.add_space(6.0);
    ui.horizontal(|ui| {
        let run_it = ui.add_enabled(run.trial.ready(), Button::new(RichText::new("Run the model").strong()));
        if run_it.clicked() {
            action = run.trial.ask().map(Action::Ask);
        }
        if run.trial.busy {
            ui.spinner();
            say(ui, "running ...");
        } else if view.answered() && run.trial.changed() {
            ui.label(theme::small(ui, "changed since"));
        }
    });
    action
}

fn goes_on(ui: &mut Ui, off: &GoesOn, on: Option<&GoesOn>) {
    section(ui, "What the model says next", "The likeliest next tokens; then the likeliest one after the other");
    let sides = [("as it is", Some(off)), ("with the features set", on)];
    let width = (ui.available_width() - 10.0) / 2.0;
    ui.horizontal_top(|ui| {
        for (title, side) in sides.into_iter().filter_map(|(title, side)| Some((title, side?))) {
            ui.vertical(|ui| {
                ui.set_width(width);
                ui.label(theme::small(ui, title));
                for (word, probability) in &side.next {
                    let (rect, _) = ui.allocate_exact_size(vec2(width, 18.0), Sense::hover());
                    let bar = Rect::from_min_size(rect.min, vec2(probability * width, rect.height()));
                    ui.painter().rect_filled(bar, 3.0, theme::class(ui, "text").gamma_multiply(0.3));
                    let font = egui::FontId::proportional(12.5);
                    let ink = ui.visuals().text_color();
                    ui.painter().text(
                        rect.left_center() + vec2(4.0, 0.0),
                        egui::Align2::LEFT_CENTER,
                        excerpt::words(word),
                        font.clone(),
                        ink,
                    );
                    ui.painter().text(
                        rect.right_center(),
                        egui::Align2::RIGHT_CENTER,
                        format::percent((*probability).into()),
                        font,
                        ink,
                    );
                }
                ui.add(Label::new(RichText::new(excerpt::words(&side.words)).italics()).wrap());
            });
        }
    });
}
