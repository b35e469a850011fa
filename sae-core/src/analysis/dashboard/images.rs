//! Images for file formats that have none: for every example with an image, a line with its image files and the position of each
//! token in them. This is an extension; programs that read the original formats ignore it.

use super::{Page, Shown, Source, decimal, decimals, neuronpedia};
use serde_json::{Value, json};

/// Name of an image's file, in the folder `images`.
pub fn file_name(sample: u32, image: usize) -> String {
    format!("{sample}-{image}.png")
}

/// The lines of a feature: one for each example whose sample has images. `token` is an index into the tokens of the example.
pub fn lines(source: &Source, page: &Page) -> Vec<Value> {
    let shown = page.shown.iter().enumerate().filter(|(_, shown)| !shown.sample.images.is_empty());
    shown.map(|(n, shown)| line(source, page, n, shown)).collect()
}

fn line(source: &Source, page: &Page, number: usize, shown: &Shown) -> Value {
    let images = shown.sample.images.iter().enumerate().map(|(n, image)| {
        let file = format!("images/{}", file_name(shown.example.sample, n));
        json!({ "file": file, "path": image.path, "width": image.width, "height": image.height, "sha256": image.sha256 })
    });
    let start = shown.cut().start;
    let patches = shown.context.tokens.iter().zip(&shown.values).enumerate().filter_map(|(n, (token, value))| {
        let (image, rect) = (token.image?, token.rect?);
        let at = shown.cut().contains(&n).then(|| n - start);
        Some(json!({ "token": at, "image": image, "rect": decimals(&rect), "value": decimal(*value) }))
    });
    json!({
        "feature": page.row.feature, "activation": number, "id": neuronpedia::activation_id(source, page, number),
        "sample": shown.example.sample, "images": images.collect::<Vec<_>>(), "patches": patches.collect::<Vec<_>>(),
    })
}
