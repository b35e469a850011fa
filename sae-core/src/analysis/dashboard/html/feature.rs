//! The page of a feature.

use super::{Column, Links, Markup, excerpt, table, tag};
use crate::analysis::dashboard::{ExampleGroup, FeatureView, TokenEffect};
use crate::numbers::{count, real, share};
use std::borrow::Cow;

/// Everything about a feature but its examples.
pub fn feature(view: &FeatureView, links: &Links) -> Markup {
    heading(view).and(numbers(view)).and(histogram(view)).and(lists(view, links))
}

/// Its name, what people wrote about it, and where it is from.
fn heading(view: &FeatureView) -> Markup {
    let (source, written) = (&view.source, &view.written);
    let mut out = tag("h1").text(&format!("Feature {}", view.feature));
    if !written.label.is_empty() {
        let score = written.score.map_or(String::new(), |score| format!(", score {score:.2}"));
        let author = if written.author.is_empty() { "unknown" } else { &written.author };
        let by = tag("span").class("muted").text(&format!("by {author}{score}"));
        out.push(tag("p").class("said").of(Markup::text(&written.label).and(" ").and(by)));
    }
    if !written.notes.is_empty() {
        out.push(tag("p").class("notes").text(&written.notes));
    }
    out.and(tag("p").class("muted").text(&format!(
        "{}, {} of {}; {} samples, {} positions of {}",
        source.sae,
        source.place(),
        source.model,
        count(source.samples),
        count(source.tokens),
        source.dataset,
    )))
}

fn numbers(view: &FeatureView) -> Markup {
    let columns = [Column::text("on"), Column::number("fires at"), Column::number("largest")];
    let rows = view.fires.iter().map(|fires| {
        let numbers = [fires.modality.clone(), count(fires.positions), real(f64::from(fires.max))];
        numbers.map(Markup::from).to_vec()
    });
    let weight = view.weights.best().map_or("none".into(), |weight| format!("{weight:.3}"));
    table("Positions where it fires", &columns, rows).and(tag("p").text(&format!(
        "class {}, density {}, mean {}, cross-modal weight {weight}",
        view.class,
        share(view.density),
        real(f64::from(view.mean))
    )))
}

/// Positions by strength: bars over a logarithmic axis, text below, images on top.
fn histogram(view: &FeatureView) -> Markup {
    let (Some(first), Some(last)) = (view.histogram.first(), view.histogram.last()) else { return Markup::new() };
    let most = view.histogram.iter().map(|bin| bin.all).max().unwrap_or(1).max(1) as f64;
    let (wide, high, width) = (i32::from(last.number) - i32::from(first.number) + 1, 90.0, 14);
    let bar = |x: i32, y: f64, height: f64, color: &str| {
        let bar = tag("rect").attr("x", x).attr("y", format!("{y:.1}")).attr("width", 12);
        bar.attr("height", format!("{height:.1}")).attr("fill", color).empty()
    };
    let [first_side, second_side] = view.source.side_names();
    let bars = view.histogram.iter().map(|bin| {
        let x = width * (i32::from(bin.number) - i32::from(first.number));
        let said = format!(
            "{:.2e} to {:.2e}: {} ({first_side} {}, {second_side} {})",
            bin.low, bin.high, bin.all, bin.text, bin.images
        );
        let height = |positions: u64| high * positions as f64 / most;
        let (all, text) = (height(bin.all), height(bin.text));
        let bars = bar(x, high - all, all - text, "#e08020").and(bar(x, high - text, text, "#4080d0"));
        tag("g").of(tag("title").text(&said).and(bars))
    });
    // With a view box, a narrow window shrinks the plot instead of cutting it off.
    let across = width * wide;
    let plot = tag("svg").attr("width", across).attr("height", 110).attr("viewBox", format!("0 0 {across} 110"));
    let plot = plot.attr("role", "img").attr("aria-label", "Positions by activation");
    let bars: Markup = bars.collect();
    tag("h2").text("Activations").and(plot.of(bars)).and(
        tag("p").class("muted").text(&format!(
            "{:.3} to {:.3}, logarithmic; blue {first_side}, orange {second_side}",
            first.low, last.high
        )),
    )
}

/// What a list names, with its number.
type Lines = Vec<(Markup, f32)>;

fn lists(view: &FeatureView, links: &Links) -> Markup {
    let link = |feature: u32| match (links.feature)(feature) {
        Some(address) => tag("a").attr("href", address).text(&feature.to_string()),
        None => feature.to_string().into(),
    };
    let token = |effect: &TokenEffect| (tag("code").text(&effect.token), effect.logit);
    let columns: [(&str, &str, Lines); 4] = [
        ("Tokens promoted", "logit", view.promoted.iter().map(token).collect()),
        ("Tokens suppressed", "logit", view.suppressed.iter().map(token).collect()),
        ("Nearest (cosine)", "cosine", view.nearest.iter().map(|near| (link(near.feature), near.cosine)).collect()),
        (
            "Fires with (Jaccard)",
            "Jaccard",
            view.fires_with.iter().map(|with| (link(with.feature), with.jaccard)).collect(),
        ),
    ];
    let columns = columns.into_iter().filter(|(_, _, lines)| !lines.is_empty()).map(|(title, value, lines)| {
        let what = if value == "logit" { "token" } else { "feature" };
        let rows = lines.into_iter().map(|(what, value)| vec![what, format!("{value:.3}").into()]);
        tag("div").of(table(title, &[Column::text(what), Column::number(value)], rows))
    });
    let columns: Markup = columns.collect();
    tag("h2").text("Tokens and related features").and(tag("div").class("columns").of(columns))
}

/// The examples of a feature, group by group.
pub fn examples(view: &FeatureView, links: &Links) -> Markup {
    view.groups.iter().map(|group| tag("section").of(examples_of(view, group, links))).collect()
}

fn examples_of(view: &FeatureView, group: &ExampleGroup, links: &Links) -> Markup {
    let title = match (group.low, group.high, group.share) {
        (Some(low), Some(high), Some(share)) => {
            let share = tag("span").class("muted").text(&format!("{:.1} % of where it fires", 100.0 * share));
            tag("h2").of(Markup::from(format!("From {low:.3} to {high:.3} ")).and(share))
        }
        _ => tag("h2").text("Strongest"),
    };
    let examples = group.examples.iter().map(|example| {
        let (sample, key) = (example.excerpt.sample, Cow::from(&example.excerpt.key));
        let key = match (links.sample)(sample) {
            Some(address) => tag("a").attr("href", address).text(&key),
            None => Markup::text(&key),
        };
        let note = Markup::from(format!("{:.3} in ", example.activation)).and(key).and(" ");
        excerpt(&example.excerpt, tag("span").class("muted").of(note), view.max(), links)
    });
    title.and(examples.collect::<Markup>())
}
