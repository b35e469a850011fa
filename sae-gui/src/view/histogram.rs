//! How often a feature fires how strongly, separately for text and image positions.

use super::plot;
use super::theme::{self, note, section};
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{Role, Sense, Ui, WidgetInfo, vec2};
use sae_core::analysis::index::Bin;

/// Height of a histogram.
const HEIGHT: f32 = 74.0;
/// Least width of a histogram; narrower ones are below each other.
const WIDTH: f32 = 220.0;

/// The name of a side, and how often the feature fires there with activations of a bin.
type Side = (&'static str, fn(&Bin) -> u64);

const SIDES: [Side; 2] = [("text", |bin| bin.fires_text), ("image", |bin| bin.fires_image)];

/// Draws the two histograms.
pub fn activations(ui: &mut Ui, run: &OpenRun) {
    let hint = "Positions by activation, in bins of a quarter of an octave";
    section(ui, "Activations", hint);
    let bins = match run.details().map(|details| &details.histogram) {
        None => return note(ui, "Reading ..."),
        Some(Err(reason)) => return note(ui, reason),
        Some(Ok(bins)) => bins,
    };
    let (Some(first), Some(last)) = (bins.first(), bins.last()) else { return note(ui, "It fires nowhere.") };
    let room = ui.available_width();
    let columns = if room >= 2.0 * WIDTH + 8.0 { 2.0 } else { 1.0 };
    let size = vec2((room - 8.0 * (columns - 1.0)) / columns - 0.5, HEIGHT);
    ui.horizontal_wrapped(|ui| {
        for (name, fires) in SIDES {
            let index = |bin: &Bin| usize::from(bin.number.abs_diff(first.number));
            let mut bars = vec![0.0; index(last) + 1];
            bins.iter().for_each(|bin| bars[index(bin)] = fires(bin) as f64);
            let (inner, response) = plot::ground(ui, size, 0.0, Sense::hover());
            response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, format!("Activations on {name}")));
            let color = theme::class(ui, name);
            plot::bars(ui, inner, &bars, |_| color);
            let ends = [first.edges().0, last.edges().1].map(|edge| format::real(edge.into()));
            plot::horizontal_axis(ui, inner, ends.each_ref().map(String::as_str), name);
            let under = response.hover_pos().map(|pointer| plot::part_under(inner, pointer, bars.len()));
            if let Some(bin) = under.and_then(|at| bins.iter().find(|bin| index(bin) == at)) {
                let (low, high) = bin.edges();
                let range = [low, high].map(|edge| format::real(edge.into())).join(" to ");
                response.on_hover_text(format!("{} {name} positions from {range}", format::count(fires(bin))));
            }
        }
    });
}
