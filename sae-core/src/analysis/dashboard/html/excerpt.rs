//! A sample with the activations of a feature: heat maps over its images, tinted tokens.

use super::{Links, Markup, tag};
use crate::analysis::dashboard::{Excerpt, ImageView, Piece};

/// The images and the text of a sample, side by side. `note` stands before the text; activations are on a scale up to `max`.
pub fn excerpt(excerpt: &Excerpt, note: impl Into<Markup>, max: f32, links: &Links) -> Markup {
    let images: Markup = excerpt.images.iter().map(|image| picture(excerpt.sample, image, max, links)).collect();
    let mut text = note.into();
    if excerpt.cut[0] {
        text.push("... ");
    }
    excerpt.text.iter().for_each(|piece| text.push(word(piece, max)));
    if excerpt.cut[1] {
        text.push(" ...");
    }
    tag("div").class("example").of(images.and(tag("p").of(text)))
}

fn word(piece: &Piece, max: f32) -> Markup {
    match piece {
        Piece::Patches { patches } => tag("span").class("muted").text(&format!("[{patches} patches]")),
        Piece::Token { token, activation, hit, .. } if *hit || *activation > 0.0 => tag("b")
            .maybe("class", hit.then_some("hit"))
            .attr("title", format!("{activation:.3}"))
            .attr("style", format!("background:rgba(var(--tint),{:.2})", 0.8 * shade(*activation, max)))
            .text(token),
        Piece::Token { token, special: true, .. } => tag("span").class("muted").text(token),
        Piece::Token { token, .. } => Markup::text(token),
    }
}

/// An image with the activations of the feature on its patches.
fn picture(sample: u32, image: &ImageView, max: f32, links: &Links) -> Markup {
    let source = match (links.image)(sample, image.number) {
        Ok(source) => source,
        Err(why) => return tag("div").class("image gone muted").text(&why),
    };
    let strongest = image.patches.iter().map(|patch| patch.activation).fold(0.0, f32::max);
    let name = match image.patches.len() {
        0 => image.name.clone(),
        patches => format!("{}; the feature fires on {patches} patches, at most {strongest:.3}", image.name),
    };
    let patches = image.patches.iter().map(|patch| {
        let [x0, y0, x1, y1] = patch.rect.map(|part| 100.0 * part);
        let style = format!(
            "left:{x0:.2}%;top:{y0:.2}%;width:{:.2}%;height:{:.2}%;background:rgba(var(--tint),{:.2})",
            x1 - x0,
            y1 - y0,
            0.75 * shade(patch.activation, max),
        );
        let title = format!("{:.3}", patch.activation);
        tag("i").maybe("class", patch.hit.then_some("hit")).attr("title", title).attr("style", style).empty()
    });
    let patches: Markup = patches.collect();
    // Images further down are loaded when they come into view; a file has them already.
    let loading = (!source.starts_with("data:")).then_some("lazy");
    let image = tag("img").attr("alt", name).attr("src", source).maybe("loading", loading).empty();
    tag("div").class("image").of(image.and(patches))
}

fn shade(value: f32, max: f32) -> f32 {
    (value / max.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0)
}
