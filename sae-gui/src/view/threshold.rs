//! The page of scores: their histogram with the threshold, how two of them agree, what is kept and what is dropped next to
//! each other, and the writing of the set.

use super::Action;
use super::example::{fit, paint};
use super::gallery::Gallery;
use super::plot;
use super::theme::{self, say, section};
use crate::state::format;
use crate::state::job::{FORMATS, Job, State};
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use crate::state::threshold::{End, SIDE, Side, Sieve};
use egui::{
    Button, Color32, ComboBox, Label, Panel, Pos2, Rect, RichText, Role, ScrollArea, Sense, Slider, Stroke, StrokeKind,
    TextEdit, TextureHandle, Ui, Vec2, WidgetInfo, pos2, vec2,
};

/// Samples shown of each side.
pub const EXAMPLES: usize = 24;
/// Height of a sample's card.
const CARD: f32 = 92.0;

/// What the page remembers between two frames.
#[derive(Default)]
pub struct SieveView {
    end: End,
    /// The picture of two scores, and the two that it is of.
    drawn: Option<(String, TextureHandle)>,
}

impl SieveView {
    /// The samples that the page shows.
    pub fn samples(&self, run: &OpenRun) -> Vec<u32> {
        let Some(Ok(sieve)) = &run.sieve else { return Vec::new() };
        let side = |side| sieve.examples(side, self.end, EXAMPLES).into_iter().map(|(sample, _)| sample);
        // In the order in which they are looked at: both sides from the top.
        let (kept, dropped): (Vec<u32>, Vec<u32>) = (side(Side::Kept).collect(), side(Side::Dropped).collect());
        let both = (0..EXAMPLES).flat_map(|n| [kept.get(n), dropped.get(n)]);
        both.flatten().copied().collect()
    }

    /// Forgets a run that is closed.
    pub fn clear(&mut self) {
        self.drawn = None;
    }
}

/// Draws the page.
pub fn show(
    ui: &mut Ui,
    run: &mut OpenRun,
    gallery: &mut Gallery,
    view: &mut SieveView,
    job: Option<&Job>,
) -> Option<Action> {
    let mut action = None;
    match &run.sieve {
        None => {
            say(ui, "Reading scores ...");
            return None;
        }
        Some(Err(reason)) => {
            ui.heading("Filter");
            say(ui, reason);
            return None;
        }
        Some(Ok(_)) => {}
    }
    let panel = Panel::left("threshold").default_size(430.0).size_range(330.0..=640.0).frame(egui::Frame::NONE);
    panel.show(ui, |ui| {
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - 16.0);
            let OpenRun { sieve, writing, info, .. } = run;
            let Some(Ok(sieve)) = sieve else { return };
            choice(ui, sieve);
            histogram(ui, sieve);
            keeping(ui, sieve);
            agreement(ui, sieve, view);
            section(
                ui,
                "Write the set",
                "The same program that a shell would start; what it writes appears complete or not at all",
            );
            ui.horizontal(|ui| {
                ui.label("Folder");
                let response = ui.add(TextEdit::singleline(&mut writing.out).desired_width(f32::INFINITY));
                response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Folder of the set"));
            });
            ui.horizontal(|ui| {
                ComboBox::from_label("Format").selected_text(writing.format).show_ui(ui, |ui| {
                    for format in FORMATS {
                        ui.selectable_value(&mut writing.format, format, format);
                    }
                });
                ui.checkbox(&mut writing.dropped, "dropped rows too")
                    .on_hover_text("Into a folder beside it, so that nothing is gone");
            });
            let order = writing.order(&info.root, &info.sae, sieve.name(), sieve.kept());
            let busy = job.is_some_and(Job::runs);
            let title = format!("Write {} samples", format::count(sieve.kept() as u64));
            let ready = sieve.kept() > 0 && !busy && !writing.out.trim().is_empty();
            if ui.add_enabled(ready, Button::new(RichText::new(title).strong())).clicked() {
                action = Some(Action::Start(order.clone()));
            }
            ui.add(Label::new(RichText::new(order.line()).monospace().small().color(theme::muted(ui))).wrap());
            if let Some(job) = job.filter(|job| job.order.arguments.first().is_some_and(|word| word == "filter")) {
                told(ui, job);
            }
        });
    });
    let margin = egui::Frame::NONE.inner_margin(egui::Margin { left: 12, ..egui::Margin::ZERO });
    egui::CentralPanel::default().frame(margin).show(ui, |ui| {
        action = sides(ui, run, gallery, view).map(|sample| Action::Go(Location::Sample(sample))).or(action.take());
    });
    action
}

/// How a command is doing.
pub fn told(ui: &mut Ui, job: &Job) {
    match &job.state {
        State::Running => {
            ui.horizontal(|ui| {
                ui.spinner();
                ui.label(job.lines.last().map_or("Running ...", String::as_str));
            });
        }
        State::Done(said) => {
            ui.label(RichText::new("Written.").strong());
            ui.add(Label::new(RichText::new(said).monospace().small()).wrap());
        }
        State::Failed(reason) => {
            ui.label(RichText::new(reason).color(ui.visuals().error_fg_color));
        }
        State::Stopped => say(ui, "Stopped; nothing was written."),
    }
}

fn choice(ui: &mut Ui, sieve: &mut Sieve) {
    ui.horizontal(|ui| {
        ui.label(RichText::new("Keep by").size(15.0).strong());
        if let Some(column) = column(ui, sieve, "by", sieve.name()) {
            sieve.decide_by(column);
        }
    });
}

fn column(ui: &mut Ui, sieve: &Sieve, id: &str, selected: &str) -> Option<usize> {
    let mut chosen = None;
    let combo = ComboBox::from_id_salt(id).selected_text(selected);
    let shown = combo.show_ui(ui, |ui| {
        for (at, (name, _)) in sieve.scores().columns.iter().enumerate() {
            if ui.selectable_label(name == selected, name).clicked() {
                chosen = Some(at);
            }
        }
    });
    shown.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, format!("{id}: {selected}")));
    chosen
}

fn histogram(ui: &mut Ui, sieve: &mut Sieve) {
    let (inner, response) = plot::ground(ui, plot::wide(ui, 150.0), Sense::click_and_drag());
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, "Histogram of scores"));
    let [low, high] = sieve.bounds();
    let threshold = sieve.threshold();
    let share = |score: f64| ((score - low) / (high - low)).clamp(0.0, 1.0) as f32;
    let edge = threshold.map_or(1.0, share);
    let (kept, dropped) = (theme::class(ui, "cross"), theme::muted(ui).gamma_multiply(0.5));
    let bars: Vec<f64> = sieve.bars().iter().map(|count| f64::from(*count)).collect();
    plot::bars(ui, inner, &bars, |middle| if middle >= edge { kept } else { dropped });
    let x = inner.left() + edge * inner.width();
    ui.painter().vline(x, inner.y_range(), Stroke::new(2.0, ui.visuals().strong_text_color()));
    plot::scale(ui, inner, [&format::real(low), &format::real(high)], sieve.name());
    if let Some(pointer) = response.interact_pointer_pos() {
        sieve.keep_above(low + f64::from((pointer.x - inner.left()) / inner.width()) * (high - low));
    }
    response.on_hover_text_at_pointer("Drag to move the threshold");
}

fn keeping(ui: &mut Ui, sieve: &mut Sieve) {
    let mut percent = 100.0 * sieve.share();
    ui.horizontal(|ui| {
        ui.spacing_mut().slider_width = (ui.available_width() - 140.0).max(80.0);
        let slider = Slider::new(&mut percent, 0.0..=100.0).suffix(" %").fixed_decimals(1).text("kept");
        if ui.add(slider).changed() {
            sieve.keep_share(percent / 100.0);
        }
    });
    let (kept, total) = (format::count(sieve.kept() as u64), format::count(sieve.total() as u64));
    let above = sieve.threshold().map(|score| format!(", {} and higher", format::real(score))).unwrap_or_default();
    let without = match sieve.without() {
        0 => String::new(),
        count => format!("; {} have no score and go", format::count(count as u64)),
    };
    ui.label(format!("{kept} of {total} samples stay{above}{without}"));
}

fn agreement(ui: &mut Ui, sieve: &mut Sieve, view: &mut SieveView) {
    ui.add_space(8.0);
    ui.horizontal(|ui| {
        theme::title(
            ui,
            "Agreement with",
            "Each sample by the score that decides (to the right) and by the other (upwards)",
        );
        if let Some(column) = column(ui, sieve, "with", sieve.other()) {
            sieve.compare_with(column);
        }
    });
    let dark = ui.visuals().dark_mode;
    let made = format!("{} {} {dark}", sieve.name(), sieve.other());
    if view.drawn.as_ref().is_none_or(|(own, _)| *own != made) {
        let cells = &sieve.agreement().cells;
        let most = cells.iter().copied().max().unwrap_or(1);
        let color = theme::class(ui, "text");
        let texture =
            plot::picture(ui, "agreement", [SIDE, SIDE], |cell| color.gamma_multiply(plot::shade(cells[cell], most)));
        view.drawn = Some((made, texture));
    }
    let width = ui.available_width().min(260.0);
    ui.horizontal(|ui| {
        let (inner, response) = plot::ground(ui, vec2(width, 0.8 * width), Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, "Two scores"));
        if let Some((_, texture)) = &view.drawn {
            let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            ui.painter().image(texture.id(), inner, whole, Color32::WHITE);
        }
        plot::scale(ui, inner, ["", ""], sieve.name());
        ui.vertical(|ui| {
            let agreement = sieve.agreement();
            let correlation = agreement.correlation.map_or("-".into(), |value| format!("{value:+.3}"));
            ui.label(RichText::new(correlation).size(18.0).strong());
            ui.label(theme::small(ui, "rank correlation"));
            ui.label(theme::small(ui, &format!("{} samples", format::count(agreement.pairs as u64))));
        });
    });
}

fn sides(ui: &mut Ui, run: &mut OpenRun, gallery: &mut Gallery, view: &mut SieveView) -> Option<u32> {
    ui.horizontal(|ui| {
        ui.selectable_value(&mut view.end, End::Near, "next to the threshold");
        ui.selectable_value(&mut view.end, End::Far, "best and worst");
    });
    let Some(Ok(sieve)) = &run.sieve else { return None };
    let mut clicked = None;
    ScrollArea::vertical().id_salt("sides").auto_shrink(false).show(ui, |ui| {
        let width = (ui.available_width() - 26.0) / 2.0;
        ui.horizontal_top(|ui| {
            for (side, title, color) in [(Side::Kept, "Kept", "cross"), (Side::Dropped, "Dropped", "dead")] {
                ui.vertical(|ui| {
                    ui.set_width(width);
                    ui.label(RichText::new(title).size(15.0).strong().color(theme::class(ui, color)));
                    for (sample, score) in sieve.examples(side, view.end, EXAMPLES) {
                        if card(ui, gallery, sample, score) {
                            clicked = Some(sample);
                        }
                    }
                });
            }
        });
    });
    clicked
}

fn card(ui: &mut Ui, gallery: &mut Gallery, sample: u32, score: f64) -> bool {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), CARD), Sense::click());
    let score = format::real(score);
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, format!("sample {sample}: {score}")));
    if !ui.is_rect_visible(rect) {
        return response.clicked();
    }
    let (fill, stroke) = theme::card(ui);
    ui.painter().rect(rect, 6.0, fill, stroke, StrokeKind::Inside);
    let mut inner = rect.shrink(7.0);
    let mut words = String::from("Reading ...");
    match gallery.get(sample) {
        None => {}
        Some(Err(reason)) => words = reason.to_owned(),
        Some(Ok(shown)) => {
            if let Some(Ok(texture)) = shown.textures.first() {
                let frame = Rect::from_min_size(inner.min, Vec2::splat(inner.height()));
                paint(ui.painter(), fit(frame, texture), texture, None, 1.0);
                inner.min.x = frame.right() + 9.0;
            }
            words = shown.view.words();
        }
    }
    let painter = ui.painter_at(inner);
    let ink = ui.visuals().text_color();
    painter.text(
        inner.left_top(),
        egui::Align2::LEFT_TOP,
        &score,
        egui::FontId::proportional(14.5),
        ui.visuals().strong_text_color(),
    );
    painter.text(
        inner.right_top(),
        egui::Align2::RIGHT_TOP,
        format!("sample {sample}"),
        egui::FontId::proportional(theme::SMALL),
        theme::muted(ui),
    );
    let mut job = egui::text::LayoutJob::simple(words, egui::FontId::proportional(12.5), ink, inner.width());
    job.wrap.max_rows = 3;
    let galley = painter.layout_job(job);
    painter.galley(Pos2::new(inner.left(), inner.top() + 22.0), galley, ink);
    response.on_hover_text_at_pointer("Click to see why it scores so").clicked()
}
