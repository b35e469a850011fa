//! Why an image file cannot be used. Data only.

/// The formats that are decoded, for messages.
const EXPECTED: &str = "expected a PNG, JPEG, WebP, GIF or BMP file";

/// Why an image file cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file ends before the image does.
    #[error("the image file is truncated")]
    Truncated,
    /// The file has another format, or is not an image, such as a page that a server sent instead.
    #[error("the image file is {found}: {EXPECTED}")]
    OtherFormat {
        /// What the file is, with its article.
        found: &'static str,
    },
    /// The format is unknown.
    #[error("the image cannot be decoded because its format is unknown: {EXPECTED}")]
    UnknownFormat,
    /// The decoder rejects the file.
    #[error("the image cannot be decoded ({0})")]
    Undecodable(String),
    /// The image has too many pixels.
    #[error(
        "the image has {width}x{height} pixels ({} megapixels), more than the limit of {} megapixels",
        u64::from(*.width) * u64::from(*.height) / 1_000_000,
        .limit / 1_000_000
    )]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Maximum number of pixels.
        limit: u64,
    },
    /// The image has no pixels.
    #[error("the image has no pixels ({width}x{height})")]
    Empty {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The image processor does not resize, and the image does not have the size that the model takes.
    #[error("expected an image of {side}x{side} pixels, found {width}x{height}")]
    OtherSize {
        /// The side of the model's images in pixels.
        side: usize,
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// The image processor does not resize, and the sides are not multiples of the side of a position.
    #[error("the image has {width}x{height} pixels: expected multiples of {cell}")]
    NotDivisible {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The side of a position in pixels.
        cell: usize,
    },
    /// The image processor does not resize, and a side has more patches than the vision tower has positions.
    #[error("the image has {width}x{height} pixels: expected sides of at most {limit}")]
    LongSide {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The longest side in pixels.
        limit: usize,
    },
    /// One side is too long in relation to the other one.
    #[error("the image is too elongated: {width}x{height} pixels")]
    Elongated {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// The image would have too many pixels after it is resized, because it is too elongated.
    #[error("the image is too elongated: it would be resized to {width}x{height} pixels")]
    ElongatedWhenResized {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// The image would be divided into too many tiles.
    #[error("the image would be divided into {rows} rows of {columns} tiles: expected at most {limit} tiles")]
    TooManyTiles {
        /// Number of rows of tiles.
        rows: usize,
        /// Number of tiles in a row.
        columns: usize,
        /// Maximum number of tiles.
        limit: usize,
    },
    /// The image alone has more positions than the model's context.
    #[error("the image has {positions} positions, more than the model's context of {context}")]
    TooManyPositions {
        /// Number of positions.
        positions: usize,
        /// The model's context.
        context: usize,
    },
    /// The image processor divides images into tiles, which the model does not take.
    #[error("the image processor produces tiles, which the model does not take")]
    Tiles,
    /// A picture cannot be encoded.
    #[error("the picture cannot be encoded ({0})")]
    Unencodable(String),
}
