//! How often a feature fires how strongly, separately for text and image positions; and how it changes the logits of all tokens.

use super::plot;
use super::theme::{self, note, section};
use crate::state::format;
use crate::state::open_run::OpenRun;
use egui::{Rect, Role, Sense, Ui, WidgetInfo, pos2, vec2};
use sae_core::analysis::index::{Bin, LogitBin, Word};

/// Height of a histogram.
const HEIGHT: f32 = 74.0;
/// Least width of a histogram; narrower ones are below each other.
const WIDTH: f32 = 220.0;

/// How often a feature fires on each side with activations of a bin.
const SIDES: [fn(&Bin) -> u64; 2] = [|bin| bin.fires_text, |bin| bin.fires_image];

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
        for (name, fires) in run.list.positions().sides.names().into_iter().zip(SIDES) {
            let index = |bin: &Bin| usize::from(bin.number.abs_diff(first.number));
            let mut bars = vec![0.0; index(last) + 1];
            bins.iter().for_each(|bin| bars[index(bin)] = fires(bin) as f64);
            let (inner, response) = plot::ground(ui, size, 0.0, Sense::hover());
            response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, format!("Activations on {name}")));
            let color = theme::class(ui, &name);
            plot::bars(ui, inner, &bars, |_| color);
            let ends = [first.edges().0, last.edges().1].map(|edge| format::real(edge.into()));
            plot::horizontal_axis(ui, inner, ends.each_ref().map(String::as_str), &name);
            let under = response.hover_pos().map(|pointer| plot::part_under(inner, pointer, bars.len()));
            if let Some(bin) = under.and_then(|at| bins.iter().find(|bin| index(bin) == at)) {
                let (low, high) = bin.edges();
                let range = [low, high].map(|edge| format::real(edge.into())).join(" to ");
                response.on_hover_text(format!("{} {name} positions from {range}", format::count(fires(bin))));
            }
        }
    });
}

/// Draws how many tokens have their logit changed by how much. Bins of the promoted and suppressed tokens that are listed have
/// the colors of these.
pub fn logits(ui: &mut Ui, bins: &[LogitBin], words: &[Word]) {
    let bins: Vec<&LogitBin> = bins.iter().filter(|bin| bin.low.is_finite() && bin.high >= bin.low).collect();
    let (Some(first), Some(last)) = (bins.first(), bins.last()) else { return };
    let (inner, response) = plot::ground(ui, plot::full_width(ui, HEIGHT), 0.0, Sense::hover());
    let total = bins.iter().map(|bin| u64::from(bin.tokens)).sum();
    let said = format!("Logits of {} tokens", format::count(total));
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, &said));
    let weakest = |promoted: bool| {
        let listed = words.iter().filter(|word| word.promoted == promoted).map(|word| word.logit);
        if promoted { listed.reduce(f32::min) } else { listed.reduce(f32::max) }
    };
    let (suppressed, promoted) = (weakest(false), weakest(true));
    let x = |logit: f32| {
        inner.left() + (logit - first.low) / (last.high - first.low).max(f32::MIN_POSITIVE) * inner.width()
    };
    // By logarithms, as the few tokens at both ends are what is looked for.
    let height = |tokens: u32| (1.0 + f64::from(tokens)).ln() as f32;
    let highest = bins.iter().map(|bin| height(bin.tokens)).fold(f32::MIN_POSITIVE, f32::max);
    for bin in &bins {
        let color =
            match (promoted.is_some_and(|edge| bin.high >= edge), suppressed.is_some_and(|edge| bin.low <= edge)) {
                (true, false) => theme::promoted(ui, true),
                (false, true) => theme::promoted(ui, false),
                _ => theme::muted(ui).gamma_multiply(0.6),
            };
        let top = inner.bottom() - (height(bin.tokens) / highest * inner.height()).max(1.0);
        let bar = Rect::from_min_max(
            pos2(x(bin.low) + 0.5, top),
            pos2(x(bin.high).max(x(bin.low) + 2.0) - 0.5, inner.bottom()),
        );
        ui.painter().rect_filled(bar.intersect(inner), 1.0, color);
    }
    let ends = [first.low, last.high].map(|end| format!("{end:+.2}"));
    plot::horizontal_axis(ui, inner, ends.each_ref().map(String::as_str), "logits of all tokens (log counts)");
    let under = response.hover_pos().and_then(|pointer| bins.iter().find(|bin| pointer.x < x(bin.high)));
    if let Some(bin) = under {
        let count = format::counted(bin.tokens as usize, "token");
        response.on_hover_text(format!("{count} from {:+.3} to {:+.3}", bin.low, bin.high));
    }
}
