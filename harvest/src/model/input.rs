//! The input of a model: token ids and images of one sample. Checks that the two fit together.

use super::config::ModelConfig;
use std::ops::Range;

/// One sample as the model reads it.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// Token ids. Positions of images and videos have the id of their placeholder.
    pub ids: Vec<u32>,
    /// The images, in the order of their positions. Each patch of a video, a few consecutive frames, is an image.
    pub images: Vec<Image>,
    /// How many of the first positions attend to each other in both directions: the images and the question of PaliGemma, which is a
    /// prefix language model; none otherwise.
    pub prefix: usize,
}

/// An image as the model reads it.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The numbers of its patches, view by view.
    pub patches: Vec<f32>,
    /// The numbers of the same patches for the second of two towers, which are normalized in another way.
    pub fused: Vec<f32>,
    /// Rows and columns of patches of each view.
    pub views: Vec<[usize; 2]>,
    /// What each of its positions shows of the tower's output.
    pub sources: Vec<Source>,
    /// Rows and columns of its positions, if the model distinguishes them.
    pub grid: [usize; 2],
    /// When it is shown, if it is a part of a video that the model follows on the axis of time.
    pub moment: Option<Moment>,
}

/// How much of a text an image takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLayout {
    /// Number of positions.
    pub positions: usize,
    /// Rows and columns of its positions, or of its tiles if these stand apart in the text: zero if it is not divided.
    pub grid: [usize; 2],
}

impl From<usize> for ImageLayout {
    /// An image of so many positions that is not divided.
    fn from(positions: usize) -> Self {
        Self { positions, grid: [0; 2] }
    }
}

/// What a position of an image shows of the tower's output for this image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// A row.
    Row(u32),
    /// A point between four rows: the sum of their projections, each times its weight.
    Between {
        /// The rows.
        rows: [u32; 4],
        /// Their weights, whose sum is 1.
        weights: [f32; 4],
    },
    /// Nothing: the end of a row of positions.
    Newline,
}

impl Source {
    /// The row that it shows, or the one with the largest weight, the first of equals. Nothing for a newline.
    pub fn row(self) -> Option<u32> {
        match self {
            Self::Row(row) => Some(row),
            Self::Between { rows, weights } => {
                let largest = weights.iter().copied().fold(0.0, f32::max);
                weights.iter().position(|weight| *weight >= largest).map(|n| rows[n])
            }
            Self::Newline => None,
        }
    }
}

/// The place of an image in a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its number in the video, from 0.
    pub number: u32,
    /// The steps of time between the beginning of the video and this image.
    pub time: u32,
}

/// Checks whether a model can read a sample. Returns the rows of each of its images, which have `images` positions, from the first
/// position to the last; other tokens are between them if the model divides its images in the text. `name` returns the name of a
/// token for error messages.
///
/// # Errors
/// There is no token, a token has no row in the embedding matrix, or the placeholders do not match the images.
pub fn check_input(
    config: &ModelConfig,
    ids: &[u32],
    images: &[usize],
    name: impl Fn(u32) -> String,
) -> Result<Vec<Range<usize>>, String> {
    if ids.is_empty() {
        return Err("the text has no tokens".into());
    }
    let vocabulary = config.text.vocab_size;
    let is_placeholder = |id: u32| config.vision.as_ref().is_some_and(|vision| vision.is_placeholder(id));
    // The placeholder itself may be outside the vocabulary, because its embedding is never used.
    if let Some(token) = ids.iter().find(|id| **id as usize >= vocabulary && !is_placeholder(**id)) {
        return Err(format!("the token {} is outside the vocabulary of {vocabulary}", name(*token)));
    }
    let mut placeholders = (0..ids.len()).filter(|row| is_placeholder(ids[*row]));
    let (found, expected) = (placeholders.clone().count(), images.iter().sum::<usize>());
    if found != expected {
        return Err(format!("the text has {found} image positions, but its {} images have {expected}", images.len()));
    }
    let has_tokens_between =
        config.vision.as_ref().is_some_and(|vision| vision.image_tokens.has_tokens_between_positions());
    let rows = images.iter().map(|length| {
        let mut rows = placeholders.by_ref().take(*length);
        let first = rows.next().unwrap_or_default();
        let end = rows.last().unwrap_or(first) + 1;
        if end - first == *length || has_tokens_between {
            Ok(first..end)
        } else {
            Err("the positions of an image are not consecutive".into())
        }
    });
    rows.collect()
}
