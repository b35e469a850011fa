//! A sample as the pages show it: its tokens and its pictures. Plain data; reads no file.

use sae_core::store::sample::Modality;

/// A decoded picture, scaled down.
#[derive(Clone, PartialEq)]
pub struct Picture {
    /// Width and height in pixels.
    pub size: [usize; 2],
    /// Four bytes per pixel (red, green, blue, alpha), row by row; alpha is not premultiplied.
    pub rgba: Vec<u8>,
}

/// One position of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenView {
    /// Position in the sample, from 0.
    pub position: u32,
    /// Kind of input.
    pub modality: Modality,
    /// The token's text; bytes that are a fraction of a character are written as `<0xE2>`.
    pub text: String,
    /// Whether it has no content of its own (template, begin, end, newline).
    pub special: bool,
    /// Which of the sample's pictures it is a patch of.
    pub image: Option<usize>,
    /// The patch's rectangle in its picture: `[x0, y0, x1, y1]`, each from 0 to 1.
    pub rect: Option<[f32; 4]>,
}

impl TokenView {
    /// Whether the token is text with content of its own.
    pub fn is_content(&self) -> bool {
        self.modality == Modality::Text && !self.special
    }
}

/// The place of a sample that is a piece of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceView {
    /// Which piece it is.
    pub branch: String,
    /// The sample that it continues.
    pub parent: Option<u32>,
}

/// A sample with its tokens and pictures.
#[derive(Clone)]
pub struct SampleData {
    /// The data set's own key.
    pub key: String,
    /// Where the row is in the data set: `file:row`.
    pub source: String,
    /// Its place, if it is a piece of a row.
    pub piece: Option<PieceView>,
    /// Its positions, in order; of a piece, those of the path that leads to it and its own.
    pub tokens: Vec<TokenView>,
    /// Its pictures, or the reason why one cannot be shown.
    pub pictures: Vec<Result<Picture, String>>,
}

impl SampleData {
    /// The token at a position.
    pub fn token(&self, position: u32) -> Option<&TokenView> {
        let expected = self.tokens.get(position as usize).filter(|token| token.position == position);
        expected.or_else(|| self.tokens.iter().find(|token| token.position == position))
    }

    /// Approximate memory use in bytes.
    pub fn bytes(&self) -> usize {
        let pixels = |picture: &Result<Picture, String>| picture.as_ref().map_or(0, |picture| picture.rgba.len());
        let text: usize = self.tokens.iter().map(|token| size_of::<TokenView>() + token.text.len()).sum();
        size_of::<Self>() + text + self.pictures.iter().map(pixels).sum::<usize>()
    }
}
