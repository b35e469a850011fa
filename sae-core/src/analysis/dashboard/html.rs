//! A feature as a self-contained HTML file: no scripts, no fonts, no external links; images are embedded as data. All text
//! of the data set is escaped, and a content security policy in the file forbids everything else.

use super::{Page, Shown, Source};
use crate::analysis::index::FeatureRow;
use crate::store::sample::{Modality, Token};
use base64::Engine as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;

/// Images by sample and number: their type (`image/png`) and their bytes as base64; or why an image is missing.
pub type Images = BTreeMap<(u32, usize), Result<(&'static str, String), String>>;

/// Tokens of text shown before and after an example's.
const AROUND: usize = 48;
/// Number of different tokens of a feature in the list of pages.
const LISTED: usize = 6;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
<meta name=\"viewport\" content=\"width=device-width\">\n";

const STYLE: &str = "<style>
:root { color-scheme: light dark; --line: #8884; --tint: 255, 120, 0; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.said { font-size: 1.15rem; } .muted { opacity: .65; font-size: .85rem; }
table { border-collapse: collapse; } td, th { padding: .1rem .7rem .1rem 0; text-align: left; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.columns { display: flex; flex-wrap: wrap; gap: 0 3rem; }
.scroll { overflow-x: auto; }
.example { border-top: 1px solid var(--line); padding: .7rem 0; display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.example p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; flex: 1; min-width: 14rem; }
.image { position: relative; flex: none; line-height: 0; } .image img { height: 11rem; }
.image i { position: absolute; } .hit { outline: 2px solid #e00; outline-offset: -1px; }
.gone { width: 12rem; border: 1px dashed var(--line); padding: .5rem; line-height: 1.4; }
b.hit { font-weight: inherit; outline-offset: 0; } svg { max-width: 100%; height: auto; }
</style>
";

/// Bytes as base64, for a page.
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The page of a feature. It links to the pages of other features that are in `exported`.
pub fn page(source: &Source, page: &Page, images: &Images, exported: &BTreeSet<u32>) -> String {
    let row = page.row;
    let label = page.entry.filter(|entry| !entry.label.is_empty());
    let mut out = format!(
        "{HEAD}<title>Feature {}</title>\n{STYLE}</head>\n<body>\n\
         <p class=\"muted\"><a href=\"index.html\">All features</a></p>\n<h1>Feature {}</h1>\n",
        row.feature, row.feature
    );
    // Writing into a string cannot fail.
    if let Some(entry) = label {
        let score = entry.score.map_or(String::new(), |score| format!(", score {score:.2}"));
        let author = if entry.author.is_empty() { "unknown".into() } else { escape(&entry.author) };
        let _ = writeln!(
            out,
            "<p class=\"said\">{} <span class=\"muted\">by {author}{score}</span></p>",
            escape(&entry.label)
        );
    }
    if let Some(entry) = page.entry.filter(|entry| !entry.notes.is_empty()) {
        let _ = writeln!(out, "<p style=\"white-space: pre-wrap\">{}</p>", escape(&entry.notes));
    }
    let _ = writeln!(
        out,
        "<p class=\"muted\">{}, after block {} of {}; {} samples, {} positions of {}</p>",
        escape(&source.sae),
        source.layer,
        escape(&source.model),
        source.samples,
        source.tokens,
        escape(&source.dataset),
    );
    numbers(&mut out, page);
    histogram(&mut out, page);
    lists(&mut out, page, exported);
    examples(&mut out, page, images);
    out += "</body>\n</html>\n";
    out
}

/// The entry of a feature in the list of pages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// The feature.
    pub feature: u32,
    /// Its class.
    pub class: String,
    /// Its label; empty if it has none.
    pub label: String,
    /// Share of positions on which it fires.
    pub density: f64,
    /// Its cross-modal weight, if it has one.
    pub weight: Option<f64>,
    /// The different tokens on which it fires most strongly, in that order; `[image]` for patches.
    pub tokens: Vec<String>,
}

impl Line {
    /// The line of a page.
    pub fn new(page: &Page) -> Self {
        let mut tokens: Vec<String> = Vec::new();
        for shown in page.shown.iter().filter(|shown| shown.group == 0) {
            let token = &shown.context.tokens[shown.at];
            let piece = match token.modality {
                Modality::Text => visible(&token.piece).trim().to_owned(),
                _ => "[image]".to_owned(),
            };
            if !piece.is_empty() && !tokens.contains(&piece) && tokens.len() < LISTED {
                tokens.push(piece);
            }
        }
        Self {
            feature: page.row.feature,
            class: page.row.class.clone(),
            label: page.entry.map(|entry| entry.label.clone()).unwrap_or_default(),
            density: page.row.density,
            weight: weight(page.row),
            tokens,
        }
    }
}

fn weight(row: &FeatureRow) -> Option<f64> {
    row.weight_corrected.or(row.weight_paper)
}

/// The list of pages: a line for each feature, in this order.
pub fn list(source: &Source, lines: &[Line]) -> String {
    let mut out = format!(
        "{HEAD}<title>{}</title>\n{STYLE}</head>\n<body>\n<h1>{}</h1>\n",
        escape(&source.sae),
        escape(&source.sae)
    );
    let _ = writeln!(
        out,
        "<p class=\"muted\">after block {} of {}</p>\n<div class=\"scroll\"><table>\n<tr><th>feature</th><th>label</th>\
         <th>class</th><th>density</th><th>cross-modal weight</th><th>strongest tokens</th></tr>",
        source.layer,
        escape(&source.model)
    );
    for Line { feature, class, label, density, weight, tokens } in lines {
        let weight = weight.map_or(String::new(), |weight| format!("{weight:.3}"));
        let tokens = tokens.iter().map(|token| format!("<code>{}</code>", escape(token))).collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            out,
            "<tr><td class=\"n\"><a href=\"{feature}.html\">{feature}</a></td><td>{}</td><td>{}</td>\
             <td class=\"n\">{density:.2e}</td><td class=\"n\">{weight}</td><td>{tokens}</td></tr>",
            escape(label),
            escape(class),
        );
    }
    out += "</table></div>\n</body>\n</html>\n";
    out
}

/// Escapes text for an element or an attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            sign => out.push(sign),
        }
    }
    out
}

fn numbers(out: &mut String, page: &Page) {
    let row = page.row;
    *out += "<table>\n<tr><th></th><th>fires on</th><th>largest</th></tr>\n";
    let lines = [
        ("all", row.fires, row.max),
        ("text", row.fires_text, row.max_text),
        ("images", row.fires_image, row.max_image),
    ];
    for (name, fires, max) in lines {
        let _ = writeln!(out, "<tr><td>{name}</td><td class=\"n\">{fires}</td><td class=\"n\">{max:.3}</td></tr>");
    }
    let weight = weight(row).map_or("none".into(), |weight| format!("{weight:.3}"));
    let class = escape(&row.class);
    let _ = writeln!(
        out,
        "</table>\n<p>class {class}, density {:.2e}, mean {:.3}, cross-modal weight {weight}</p>",
        row.density, row.mean
    );
}

/// Positions by strength: bars over a logarithmic axis, text below, images on top.
fn histogram(out: &mut String, page: &Page) {
    let (Some(first), Some(last)) = (page.bins.first(), page.bins.last()) else { return };
    let most = page.bins.iter().map(|bin| bin.fires).max().unwrap_or(1).max(1) as f64;
    let (wide, high, width) = (i32::from(last.number) - i32::from(first.number) + 1, 90.0, 14);
    // With a view box, a narrow window shrinks the plot instead of cutting it off.
    let across = width * wide;
    let _ = writeln!(
        out,
        "<h2>How often how strongly</h2>\n\
         <svg width=\"{across}\" height=\"110\" viewBox=\"0 0 {across} 110\" role=\"img\">"
    );
    for bin in &page.bins {
        let x = width * (i32::from(bin.number) - i32::from(first.number));
        let (low, up) = bin.edges();
        let told =
            format!("{low:.2e} to {up:.2e}: {} (text {}, images {})", bin.fires, bin.fires_text, bin.fires_image);
        let height = |fires: u64| high * fires as f64 / most;
        let (all, text) = (height(bin.fires), height(bin.fires_text));
        let _ = writeln!(
            out,
            "<g><title>{told}</title><rect x=\"{x}\" y=\"{:.1}\" width=\"12\" height=\"{:.1}\" fill=\"#e08020\"/>\
             <rect x=\"{x}\" y=\"{:.1}\" width=\"12\" height=\"{:.1}\" fill=\"#4080d0\"/></g>",
            high - all,
            all - text,
            high - text,
            text,
        );
    }
    let edges = (first.edges().0, last.edges().1);
    let _ = writeln!(
        out,
        "</svg>\n<p class=\"muted\">{:.3} to {:.3}, logarithmic; blue text, orange images</p>",
        edges.0, edges.1
    );
}

fn lists(out: &mut String, page: &Page, exported: &BTreeSet<u32>) {
    let link = |feature: u32| {
        if exported.contains(&feature) {
            format!("<a href=\"{feature}.html\">{feature}</a>")
        } else {
            feature.to_string()
        }
    };
    let word = |promoted: bool| {
        page.words(promoted).map(|w| (format!("<code>{}</code>", escape(&visible(&w.piece))), w.logit))
    };
    let near = page.neighbors.iter().map(|n| (link(n.feature), n.cosine));
    let with = page.coactive.iter().map(|c| (link(c.feature), c.jaccard));
    let columns: [(&str, Vec<(String, f32)>); 4] = [
        ("Tokens promoted", word(true).collect()),
        ("Tokens suppressed", word(false).collect()),
        ("Nearest (cosine)", near.collect()),
        ("Fires with (Jaccard)", with.collect()),
    ];
    *out += "<div class=\"columns\">\n";
    for (title, lines) in columns.iter().filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(out, "<div><h2>{title}</h2><table>");
        for (what, value) in lines {
            let _ = writeln!(out, "<tr><td>{what}</td><td class=\"n\">{value:.3}</td></tr>");
        }
        *out += "</table></div>\n";
    }
    *out += "</div>\n";
}

fn examples(out: &mut String, page: &Page, images: &Images) {
    for group in page.shown.chunk_by(|a, b| a.group == b.group) {
        let Some(first) = group.first() else { continue };
        let interval = page.interval(first.group);
        let _ = match first.group {
            0 => writeln!(out, "<h2>Strongest</h2>"),
            _ => writeln!(
                out,
                "<h2>From {:.3} to {:.3} <span class=\"muted\">{:.1} % of where it fires</span></h2>",
                interval.low,
                interval.high,
                100.0 * interval.share
            ),
        };
        for shown in group {
            *out += "<div class=\"example\">\n";
            for image in 0..shown.sample.images.len() {
                picture(out, shown, image, page.row.max, images);
            }
            text(out, shown, page.row.max);
            *out += "</div>\n";
        }
    }
}

/// An image with the activations of the feature on its patches, on a scale up to the feature's maximum.
fn picture(out: &mut String, shown: &Shown, number: usize, max: f32, images: &Images) {
    let (kind, data) = match images.get(&(shown.example.sample, number)) {
        Some(Ok(image)) => image,
        Some(Err(why)) => {
            let _ = writeln!(out, "<div class=\"image gone muted\">{}</div>", escape(why));
            return;
        }
        None => return,
    };
    let name = shown.sample.images.get(number).map(|image| escape(&image.path)).unwrap_or_default();
    let _ = write!(out, "<div class=\"image\"><img alt=\"{name}\" src=\"data:{kind};base64,{data}\">");
    for (n, (token, value)) in shown.context.tokens.iter().zip(&shown.values).enumerate() {
        let in_image = token.image.and_then(|image| usize::try_from(image).ok()) == Some(number);
        let Some([x0, y0, x1, y1]) = token.rect.filter(|_| in_image && *value > 0.0) else { continue };
        let hit = if n == shown.at { " class=\"hit\"" } else { "" };
        let percent = |part: f32| 100.0 * part;
        let _ = write!(
            out,
            "<i{hit} title=\"{value:.3}\" style=\"left:{:.2}%;top:{:.2}%;width:{:.2}%;height:{:.2}%;background:rgba(var(--tint),{:.2})\"></i>",
            percent(x0),
            percent(y0),
            percent(x1 - x0),
            percent(y1 - y0),
            0.75 * shade(*value, max),
        );
    }
    *out += "</div>\n";
}

fn shade(value: f32, max: f32) -> f32 {
    (value / max.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0)
}

/// The text around the example's token, with tinted tokens and one mark for consecutive patches.
fn text(out: &mut String, shown: &Shown, max: f32) {
    let tokens = &shown.context.tokens;
    let _ = writeln!(
        out,
        "<p><span class=\"muted\">{:.3} in {}</span>",
        shown.example.activation,
        escape(&shown.sample.key)
    );
    let range = around(tokens, shown.at);
    if range.start > 0 {
        *out += "... ";
    }
    let alike =
        |a: &Token, b: &Token| a.modality != Modality::Text && b.modality != Modality::Text && a.image == b.image;
    let mut n = range.start;
    for run in tokens[range.clone()].chunk_by(alike) {
        let (from, first) = (n, &run[0]);
        n += run.len();
        if first.modality != Modality::Text {
            let _ = write!(out, "<span class=\"muted\">[{} patches]</span>", run.len());
            continue;
        }
        let (value, piece) = (shown.values[from], escape(&visible(&first.piece)));
        let hit = if from == shown.at { " class=\"hit\"" } else { "" };
        let _ = if value > 0.0 || from == shown.at {
            write!(
                out,
                "<b{hit} title=\"{value:.3}\" style=\"background:rgba(var(--tint),{:.2})\">{piece}</b>",
                0.8 * shade(value, max)
            )
        } else if first.special {
            write!(out, "<span class=\"muted\">{piece}</span>")
        } else {
            write!(out, "{piece}")
        };
    }
    if range.end < tokens.len() {
        *out += " ...";
    }
    *out += "</p>\n";
}

/// The tokens from [`AROUND`] text tokens before a position to as many after it; patches do not count.
fn around(tokens: &[Token], at: usize) -> Range<usize> {
    let word = |n: &usize| tokens[*n].modality == Modality::Text;
    let start = (0..at).rev().filter(word).nth(AROUND).map_or(0, |n| n + 1);
    let end = (at + 1..tokens.len()).filter(word).nth(AROUND).unwrap_or(tokens.len());
    start..end
}

/// The text of a token for readers: the tokenizer's marks for spaces become spaces.
fn visible(piece: &str) -> String {
    piece.replace(['\u{2581}', '\u{120}'], " ").replace('\u{10a}', "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_data_becomes_markup() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        let evil = "</td><script>alert(1)</script>".to_string();
        let source = Source { sae: evil.clone(), model: evil.clone(), ..Source::default() };
        let (class, label, tokens) = (evil.clone(), evil.clone(), vec![evil]);
        let list = list(&source, &[Line { feature: 3, class, label, tokens, ..Line::default() }]);
        assert!(!list.contains("<script") && list.matches("&lt;script&gt;").count() == 6, "{list}");
    }

    #[test]
    fn the_list_has_what_it_takes_to_choose() {
        let line = Line {
            feature: 7,
            class: "multimodal".into(),
            label: "rings".into(),
            density: 0.0125,
            weight: Some(0.5),
            tokens: vec!["ring".into(), "[image]".into()],
        };
        let list = list(&Source::default(), &[line]);
        for shown in ["7.html", "rings", "multimodal", "1.25e-2", "0.500", "<code>ring</code> <code>[image]</code>"] {
            assert!(list.contains(shown), "{shown}: {list}");
        }
    }
}
