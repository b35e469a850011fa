//! The page of one feature: what it counts to, what points the same way, and examples of where it fires.

use super::example::{self, Lens};
use super::gallery::Gallery;
use super::heat::Heat;
use super::theme::{self, say, section};
use super::{Action, label, plot};
use crate::state::Command;
use crate::state::data::Group;
use crate::state::excerpt;
use crate::state::format;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use egui::{Align, Button, Frame, Layout, Margin, Rect, RichText, ScrollArea, Sense, Slider, Ui, vec2};
use sae_core::analysis::index::{Bin, FeatureRow};

/// Draws the page.
pub fn show(ui: &mut Ui, run: &mut OpenRun, gallery: &mut Gallery, heat: &mut Heat) -> Option<Action> {
    let Some(feature) = run.feature().cloned() else {
        ui.centered_and_justified(|ui| ui.label("No feature is selected."));
        return None;
    };
    let mut action = None;
    let scroll = ScrollArea::vertical().auto_shrink(false).id_salt(("page", feature.feature));
    scroll.show(ui, |ui| {
        // The scroll bar floats over what is at the right edge.
        ui.set_max_width(ui.available_width() - 12.0);
        action = head(ui, &feature);
        if label::show(ui, run, feature.feature) {
            action = Some(Action::Edited);
        }
        tiles(ui, &feature);
        balance(ui, &feature);
        histogram(ui, run);
        words(ui, run);
        section(
            ui,
            "Nearest features (decoder cosine)",
            "Features whose decoder directions have the largest cosine with this one's",
        );
        action = neighbors(ui, run).map(|number| Action::Go(Location::Feature(number))).or(action.take());
        section(
            ui,
            "Co-active features",
            "Features that fire at the same positions: the share of positions of either where both do",
        );
        action = coactive(ui, run).map(|number| Action::Go(Location::Feature(number))).or(action.take());
        let sample = examples(ui, run, &feature, gallery, heat);
        action = sample.map(|number| Action::Go(Location::Sample(number))).or(action.take());
        ui.add_space(12.0);
    });
    action
}

fn head(ui: &mut Ui, feature: &FeatureRow) -> Option<Action> {
    let mut click = None;
    ui.horizontal(|ui| {
        ui.heading(format!("Feature {}", feature.feature));
        let color = theme::class(ui, &feature.class);
        let badge =
            Frame::new().fill(color.gamma_multiply(0.18)).corner_radius(9).inner_margin(Margin::symmetric(9, 2));
        badge.show(ui, |ui| ui.label(RichText::new(feature.class.as_str()).color(color)));
        let copy = Command::CopyLink;
        if ui.add(Button::new(copy.title()).small()).on_hover_text(copy.hint()).clicked() {
            click = Some(Action::Command(copy));
        }
    });
    click
}

fn tiles(ui: &mut Ui, feature: &FeatureRow) {
    let error = feature.weight_se.map(|error| format!(" +- {}", format::real(error))).unwrap_or_default();
    let mut tiles = vec![
        ("fires", format::count(feature.fires), "Token positions where it fires"),
        ("of all positions", format::percent(feature.density), "Share of all token positions where it fires"),
        ("max", format::real(feature.max as f64), "Its largest activation"),
        ("mean", format::real(feature.mean as f64), "Its mean activation where it fires"),
        ("weight", format::maybe(feature.weight_paper), "Cross-modal weight as published"),
    ];
    if feature.weight_release.is_some() {
        tiles.push((
            "release",
            format::maybe(feature.weight_release),
            "Cross-modal weight as the released code computes it",
        ));
    }
    if feature.weight_corrected.is_some() {
        let value = format::maybe(feature.weight_corrected) + &error;
        tiles.push(("corrected", value, "Cross-modal weight without the baseline of random pairs"));
    }
    ui.horizontal_wrapped(|ui| {
        for (name, value, hint) in tiles {
            let (fill, stroke) = theme::card(ui);
            let frame = Frame::new().fill(fill).stroke(stroke).corner_radius(6).inner_margin(Margin::symmetric(11, 6));
            let tile = frame.show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 1.0;
                ui.vertical(|ui| {
                    ui.label(RichText::new(value).size(16.0).strong());
                    ui.label(RichText::new(name).small().color(theme::muted(ui)));
                });
            });
            tile.response.on_hover_text(hint);
        }
    });
}

/// A bar that says how much of the firing is on text and how much on pictures.
fn balance(ui: &mut Ui, feature: &FeatureRow) {
    if feature.fires == 0 {
        ui.label(RichText::new("It fires nowhere in this run.").color(theme::muted(ui)));
        return;
    }
    let share = |fires: u64| fires as f32 / feature.fires as f32;
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 6.0), Sense::hover());
    let mut left = rect.left();
    ui.painter().rect_filled(rect, 3.0, ui.visuals().extreme_bg_color);
    for (name, fires) in [("text", feature.fires_text), ("image", feature.fires_image)] {
        let right = left + share(fires) * rect.width();
        let bar = Rect::from_x_y_ranges(left..=right, rect.y_range());
        ui.painter().rect_filled(bar, 3.0, theme::class(ui, name));
        left = right;
    }
    ui.horizontal(|ui| {
        for (name, fires) in [("text", feature.fires_text), ("image", feature.fires_image)] {
            let text = format!("{} on {name} ({})", format::count(fires), format::percent(share(fires) as f64));
            ui.label(RichText::new(text).small().color(theme::class(ui, name)));
        }
    });
}

fn neighbors(ui: &mut Ui, run: &OpenRun) -> Option<u32> {
    let list = match run.neighbors() {
        Some(Ok(list)) if !list.is_empty() => list,
        other => {
            say(ui, other.map_or("Reading ...", |list| list.err().unwrap_or("The index lists none.")));
            return None;
        }
    };
    others(ui, run, list.iter().map(|near| (near.feature, near.cosine, "cosine")))
}

fn coactive(ui: &mut Ui, run: &OpenRun) -> Option<u32> {
    match &run.details()?.coactive {
        Ok(list) if !list.is_empty() => {
            others(ui, run, list.iter().map(|other| (other.feature, other.jaccard, "together")))
        }
        other => {
            say(ui, other.as_ref().err().map_or("No feature is active at the same positions.", String::as_str));
            None
        }
    }
}

/// Other features as buttons, each with a number between 0 and 1.
fn others(ui: &mut Ui, run: &OpenRun, list: impl Iterator<Item = (u32, f32, &'static str)>) -> Option<u32> {
    let mut clicked = None;
    ui.horizontal_wrapped(|ui| {
        for (feature, value, what) in list {
            let class = run.list.row(feature).map_or("dead", |row| row.class.as_str());
            let text = RichText::new(feature.to_string()).color(theme::class(ui, class));
            let button = Button::new(text).shortcut_text(RichText::new(format!("{value:.2}")).small());
            let label = run.list.marks().label(feature).map(|label| format!(" ({label})")).unwrap_or_default();
            let hint = format!("Feature {feature}{label}, {class}: {what} {value:.3}");
            let response = ui.add(button);
            if response.hovered() {
                run.pointing.set(feature);
            }
            if response.on_hover_text(hint).clicked() {
                clicked = Some(feature);
            }
        }
    });
    clicked
}

/// How often it fires how strongly, text and images apart.
fn histogram(ui: &mut Ui, run: &OpenRun) {
    section(
        ui,
        "How strongly it fires",
        "Positions by activation, in bins of a quarter of an octave, separately for text and image tokens",
    );
    let bins = match run.details().map(|details| &details.histogram) {
        None => return say(ui, "Reading ..."),
        Some(Err(reason)) => return say(ui, reason),
        Some(Ok(bins)) => bins,
    };
    let (Some(first), Some(last)) = (bins.first(), bins.last()) else { return say(ui, "It fires nowhere.") };
    let width = usize::from(last.number.abs_diff(first.number)) + 1;
    let of = |fires: fn(&Bin) -> u64| {
        let mut bars = vec![0.0; width];
        bins.iter().for_each(|bin| bars[usize::from(bin.number.abs_diff(first.number))] = fires(bin) as f64);
        bars
    };
    ui.horizontal(|ui| {
        let size = vec2((ui.available_width() - 8.0) / 2.0, 74.0);
        for (name, bars) in [("text", of(|bin| bin.fires_text)), ("image", of(|bin| bin.fires_image))] {
            let (inner, response) = plot::ground(ui, size, Sense::hover());
            let color = theme::class(ui, name);
            plot::bars(ui, inner, &bars, |_| color);
            let (low, high) = (first.edges().0, last.edges().1);
            plot::scale(
                ui,
                inner,
                [low, high].map(|edge| format::real(edge.into())).each_ref().map(String::as_str),
                name,
            );
            let under = response.hover_pos().map(|pointer| {
                let at = ((pointer.x - inner.left()) / inner.width() * width as f32).max(0.0) as usize;
                at.min(width - 1)
            });
            if let Some(bin) =
                under.and_then(|at| bins.iter().find(|bin| usize::from(bin.number.abs_diff(first.number)) == at))
            {
                let (low, high) = bin.edges();
                let count = format::count(if name == "text" { bin.fires_text } else { bin.fires_image });
                response.on_hover_text(format!(
                    "{count} {name} positions from {} to {}",
                    format::real(low.into()),
                    format::real(high.into())
                ));
            }
        }
    });
}

/// Tokens that it promotes and suppresses.
fn words(ui: &mut Ui, run: &OpenRun) {
    section(
        ui,
        "Promoted and suppressed tokens",
        "What it adds to the logits of words, through the output head alone, for an activation of 1",
    );
    let words = match run.details().map(|details| &details.words) {
        None => return say(ui, "Reading ..."),
        Some(Err(reason)) => return say(ui, reason),
        Some(Ok(words)) => words,
    };
    for (promoted, sign, color) in [(true, "+", "text"), (false, "", "image")] {
        ui.horizontal_wrapped(|ui| {
            for word in words.iter().filter(|word| word.promoted == promoted) {
                let text = RichText::new(excerpt::words(&word.piece)).color(theme::class(ui, color));
                let logit = format!("{sign}{:.2}", word.logit);
                let chip = Button::new(text).shortcut_text(RichText::new(logit).small()).sense(Sense::hover());
                ui.add(chip).on_hover_text(format!("token {}", word.token_id));
            }
        });
    }
}

fn examples(ui: &mut Ui, run: &OpenRun, feature: &FeatureRow, gallery: &mut Gallery, heat: &mut Heat) -> Option<u32> {
    let groups = match run.groups() {
        None => {
            say(ui, "Reading examples ...");
            return None;
        }
        Some(Err(reason)) => {
            say(ui, reason);
            return None;
        }
        Some(Ok(groups)) => groups,
    };
    let mut clicked = None;
    for group in groups {
        let hint = match group.number {
            0 => "Where it fires most, one position per sample",
            _ => "Positions drawn at random from this interval of activation, one per sample",
        };
        ui.add_space(8.0);
        ui.horizontal(|ui| {
            theme::title(ui, &title(&group), hint);
            if group.number == 0 {
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    let slider = Slider::new(&mut heat.opacity, 0.0..=1.0).show_value(false);
                    ui.add(slider).on_hover_text("How much of the pictures the heat map hides");
                    ui.label(theme::small(ui, "heat"));
                });
            }
        });
        let lens = Lens { feature: feature.feature, max: feature.max, heat: *heat };
        clicked = example::grid(ui, &group.examples, lens, gallery).or(clicked);
    }
    clicked
}

fn title(group: &Group) -> String {
    match (group.number, group.examples.len()) {
        (0, _) => group.title.clone(),
        (_, 1) => format!("{} (1 example)", group.title),
        (_, count) => format!("{} ({count} examples)", group.title),
    }
}
