//! Which positions of a sample count: those of a part, and on request only those between two markers in its text, such as
//! `<think>` and `</think>`. Markers are found in the text of consecutive tokens, however the tokenizer divides them.

use crate::store::sample::{Modality, Role, Token};
use crate::store::{Store, TokenColumns};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Which positions of a sample count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// All of them, template tokens included.
    Everything,
    /// Those with content: neither template, begin, end nor newline tokens.
    #[default]
    All,
    /// Words of the user, of those with content.
    User,
    /// Words of the model, of those with content.
    Answer,
    /// Words of the model between the markers `<think>` and `</think>` (or others), of those with content.
    Think,
    /// Patches of images.
    Image,
    /// Actions of an agent.
    Action,
}

impl Part {
    /// The parts that can be named.
    pub const NAMED: [(&'static str, Self); 6] = [
        ("all", Self::All),
        ("user", Self::User),
        ("answer", Self::Answer),
        ("think", Self::Think),
        ("image", Self::Image),
        ("action", Self::Action),
    ];

    /// The name of the part.
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(_, part)| *part == self).map_or("everything", |(name, _)| name)
    }

    /// The speaker whose words the part has, if it has words of one.
    pub fn role(self) -> Option<Role> {
        match self {
            Self::User => Some(Role::User),
            Self::Answer | Self::Think => Some(Role::Assistant),
            Self::Everything | Self::All | Self::Image | Self::Action => None,
        }
    }

    /// The markers between which the part lies, unless others are given.
    pub fn markers(self) -> Option<Markers> {
        (self == Self::Think).then(|| Markers { open: "<think>".into(), close: "</think>".into() })
    }

    /// Whether a position belongs to the part, markers aside.
    pub fn contains(self, modality: Modality, role: Role, special: bool) -> bool {
        match self {
            Self::Everything => true,
            Self::All => !special,
            Self::User => !special && modality == Modality::Text && role == Role::User,
            Self::Answer | Self::Think => !special && modality == Modality::Text && role == Role::Assistant,
            Self::Image => modality == Modality::Image,
            Self::Action => modality == Modality::Action,
        }
    }
}

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let known = Self::NAMED.map(|(name, _)| name).join(", ");
        let found = Self::NAMED.iter().find(|(other, _)| *other == name);
        found.map(|(_, part)| *part).ok_or_else(|| format!("unknown part {name:?}: expected {known}"))
    }
}

/// Stands in the searched text for tokens that are not searched.
const BREAK: char = '\0';

/// The texts that begin and end what is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Markers {
    /// Begins it.
    pub open: String,
    /// Ends it.
    pub close: String,
}

impl Markers {
    /// Two markers, which may be equal.
    ///
    /// # Errors
    /// A marker is empty.
    pub fn new(open: impl Into<String>, close: impl Into<String>) -> std::result::Result<Self, String> {
        let (open, close) = (open.into(), close.into());
        if open.is_empty() || close.is_empty() {
            return Err("a marker is empty: expected two texts, such as <think> and </think>".into());
        }
        Ok(Self { open, close })
    }
}

/// The positions between markers, by sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    of_samples: Vec<Vec<Range<u32>>>,
    /// Markers without a partner, which delimit nothing.
    pub unmatched: u64,
    /// Samples that have such markers.
    pub samples_with_unmatched: u64,
}

impl Spans {
    /// Looks for markers in all samples of a store. For a part of one speaker, they are looked for in this speaker's turns and in
    /// tokens of the chat template, which may write the first marker itself.
    ///
    /// # Errors
    /// A token table cannot be read.
    pub fn read(store: &Store, markers: &Markers, part: Part) -> Result<Self> {
        let mut spans = Self::default();
        for (number, samples) in store.parts()?.into_iter().enumerate() {
            let table = store.token_table(number)?;
            for sample in samples {
                spans.add(&table.tokens(table.rows(sample)?)?, markers, part);
            }
        }
        Ok(spans)
    }

    /// Looks for markers in the next sample.
    fn add(&mut self, tokens: &[Token], markers: &Markers, part: Part) {
        let (found, unmatched) = find(tokens, markers, part);
        self.unmatched += unmatched;
        self.samples_with_unmatched += u64::from(unmatched > 0);
        self.of_samples.push(found);
    }

    /// Whether a position of a sample is between two markers.
    pub fn contains(&self, sample: u32, position: u32) -> bool {
        self.of_samples.get(sample as usize).is_some_and(|spans| spans.iter().any(|span| span.contains(&position)))
    }
}

/// The positions between markers in a sample, and the number of markers without a partner. A token that has a part of a marker
/// is outside. The first marker after another one has been opened, or before any has been opened, has no partner, and neither has
/// one that is still open where tokens follow that are not searched.
fn find(tokens: &[Token], markers: &Markers, part: Part) -> (Vec<Range<u32>>, u64) {
    let is_searched = |token: &Token| {
        let in_turn = part.role().is_none_or(|role| token.role == role || token.role == Role::Template);
        token.modality == Modality::Text && in_turn
    };
    let mut text = String::new();
    // Where the text of each token begins and ends.
    let mut places = Vec::with_capacity(tokens.len());
    for token in tokens {
        let begin = text.len();
        if is_searched(token) {
            text += &token.piece;
        } else if !text.ends_with(BREAK) {
            text.push(BREAK);
        }
        places.push(begin..text.len());
    }
    let (mut spans, mut unmatched, mut open, mut at) = (Vec::new(), 0, None, 0);
    // Images within a turn do not end it, but words of another speaker do.
    let ends_turn = |begin: usize, end: usize| {
        let inside =
            places.partition_point(|place| place.start < begin)..places.partition_point(|place| place.start < end);
        tokens[inside].iter().any(|token| token.modality == Modality::Text && !is_searched(token))
    };
    while let Some((is_open, begin, end)) = next_marker(&text[at..], markers, open.is_some()) {
        let (begin, end) = (at + begin, at + end);
        if open.is_some_and(|opened| ends_turn(opened, begin)) {
            unmatched += 1;
            open = None;
        }
        match (open, is_open) {
            (None, true) => open = Some(end),
            (Some(opened), false) => {
                spans.extend(positions(tokens, &places, opened..begin));
                open = None;
            }
            _ => unmatched += 1,
        }
        at = end;
    }
    (spans, unmatched + u64::from(open.is_some()))
}

/// The next marker in a text: whether it opens, and where it begins and ends. Of two that begin at the same place, the longer one
/// counts; of two equal ones, the one that is expected.
fn next_marker(text: &str, markers: &Markers, is_inside: bool) -> Option<(bool, usize, usize)> {
    let found = |is_open: bool, marker: &str| text.find(marker).map(|begin| (is_open, begin, begin + marker.len()));
    let all = [found(true, &markers.open), found(false, &markers.close)];
    all.into_iter()
        .flatten()
        .min_by_key(|(is_open, begin, end)| (*begin, std::cmp::Reverse(*end), *is_open == is_inside))
}

/// The positions of tokens whose text lies within a range; none if there are no such tokens.
fn positions(tokens: &[Token], places: &[Range<usize>], text: Range<usize>) -> Option<Range<u32>> {
    let inside = |n: &usize| places[*n].start >= text.start && places[*n].end <= text.end && !places[*n].is_empty();
    let first = (0..tokens.len()).find(inside)?;
    let last = (0..tokens.len()).rfind(inside)?;
    Some(tokens[first].position..tokens[last].position + 1)
}

/// Which positions count.
#[derive(Clone, Debug, Default)]
pub struct PositionChoice {
    /// Those of a part.
    pub part: Part,
    /// Of these, only those between these markers.
    pub markers: Option<Markers>,
    /// Where these are.
    pub spans: Option<Arc<Spans>>,
}

impl PositionChoice {
    /// The positions of a part, and on request of these only those between markers, which are looked for in the store.
    ///
    /// # Errors
    /// A token table cannot be read; markers in samples that are pieces.
    pub fn new(store: &Store, part: Part, markers: Option<&Markers>) -> Result<Self> {
        if markers.is_some() && store.paths().are_pieces() {
            return Err(Error::Pieces { path: store.run().root().to_path_buf() });
        }
        let spans = markers.map(|markers| Spans::read(store, markers, part)).transpose()?;
        Ok(Self { part, markers: markers.cloned(), spans: spans.map(Arc::new) })
    }

    /// Whether the position in a row of a token table counts.
    pub fn contains(&self, tokens: &TokenColumns, row: usize) -> bool {
        self.part.contains(tokens.modality[row], tokens.role[row], tokens.special[row])
            && self.is_inside(tokens.sample[row], tokens.position[row])
    }

    /// Whether the position of a token of a sample counts.
    pub fn contains_token(&self, sample: u32, token: &Token) -> bool {
        self.part.contains(token.modality, token.role, token.special) && self.is_inside(sample, token.position)
    }

    /// The number of positions of each of a store's samples that count; of pieces, those of the path that each ends, and none for
    /// those that others continue.
    ///
    /// # Errors
    /// A token table that cannot be read or contradicts the manifest.
    pub fn counts(&self, store: &Store) -> Result<Vec<u32>> {
        let mut counts = vec![0; store.manifest().samples as usize];
        for shard in 0..store.shards() {
            let tokens = store.tokens(shard)?;
            let counted = (0..tokens.rows()).filter(|row| self.contains(&tokens, *row));
            counted.for_each(|row| counts[tokens.sample[row] as usize] += 1);
        }
        store.paths().pool_counts(&mut counts);
        Ok(counts)
    }

    fn is_inside(&self, sample: u32, position: u32) -> bool {
        self.spans.as_ref().is_none_or(|spans| spans.contains(sample, position))
    }
}

impl From<Part> for PositionChoice {
    fn from(part: Part) -> Self {
        Self { part, markers: None, spans: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of a conversation: `u:` and `a:` are pieces of the user and of the model, `t:` of the template, and `i:` patches.
    fn tokens(pieces: &[&str]) -> Vec<Token> {
        let token = |(position, piece): (u32, &&str)| {
            let (speaker, piece) = piece.split_once(':').unwrap();
            let role = match speaker {
                "u" => Role::User,
                "t" => Role::Template,
                _ => Role::Assistant,
            };
            let modality = if speaker == "i" { Modality::Image } else { Modality::Text };
            let (piece, special) = (piece.to_owned(), speaker == "t");
            Token { position, modality, token_id: 1, piece, role, special, image: None, rect: None }
        };
        (0..).zip(pieces).map(token).collect()
    }

    fn found(pieces: &[&str], part: Part) -> (Vec<u32>, u64) {
        let markers = Markers::new("<think>", "</think>").unwrap();
        let (spans, unmatched) = find(&tokens(pieces), &markers, part);
        (spans.into_iter().flatten().collect(), unmatched)
    }

    #[test]
    fn markers_are_found_however_tokens_divide_them() {
        let whole = ["a:<think>", "a:so", "a: it", "a:</think>", "a:yes"];
        assert_eq!(found(&whole, Part::Think), (vec![1, 2], 0));
        let divided = ["a:<th", "a:ink", "a:>", "a:so", "a: it", "a:.</", "a:think", "a:>yes"];
        // The tokens `.</` and `>yes` have a part of a marker.
        assert_eq!(found(&divided, Part::Think), (vec![3, 4], 0));
        assert_eq!(found(&["a:x<think>so", "a:it", "a:</think>"], Part::All), (vec![1], 0));
        assert_eq!(found(&["a:<think>", "a:</think>"], Part::Think), (vec![], 0));
        let twice = ["a:<think>", "a:1", "a:</think>", "a:2", "a:<think>", "a:3", "a:</think>"];
        assert_eq!(found(&twice, Part::Think), (vec![1, 5], 0));
    }

    #[test]
    fn markers_without_a_partner_are_counted_and_delimit_nothing() {
        assert_eq!(found(&["a:so", "a:</think>", "a:yes"], Part::Think), (vec![], 1));
        assert_eq!(found(&["a:<think>", "a:so"], Part::Think), (vec![], 1));
        let opened_twice = ["a:<think>", "a:1", "a:<think>", "a:2", "a:</think>"];
        assert_eq!(found(&opened_twice, Part::Think), (vec![1, 2, 3], 1));
        assert_eq!(found(&["a:yes"], Part::Think), (vec![], 0));
    }

    #[test]
    fn markers_of_other_speakers_do_not_count_and_those_of_the_template_do() {
        let asked = ["u:<think>", "u:a tag", "t:<bot>", "a:yes", "a:</think>"];
        assert_eq!(found(&asked, Part::Think), (vec![], 1));
        assert_eq!(found(&asked, Part::All), (vec![1, 2, 3], 0));
        assert_eq!(found(&["u:q", "t:<think>\n", "a:so", "a:</think>"], Part::Think), (vec![2], 0));
        let across = ["a:<think>", "a:so", "u:q", "a:it", "a:</think>"];
        assert_eq!(found(&across, Part::Think), (vec![], 2));
        let image = ["a:<think>", "i:", "a:it", "a:</think>"];
        assert_eq!(found(&image, Part::Think), (vec![1, 2], 0));
    }

    #[test]
    fn equal_markers_alternate_and_longer_ones_win() {
        let spans = |pieces: &[&str], open: &str, close: &str| {
            let markers = Markers::new(open, close).unwrap();
            let (spans, unmatched) = find(&tokens(pieces), &markers, Part::All);
            (spans.into_iter().flatten().collect::<Vec<u32>>(), unmatched)
        };
        assert_eq!(spans(&["a:|", "a:x", "a:|", "a:y", "a:|"], "|", "|"), (vec![1], 1));
        assert_eq!(spans(&["a:plan", "a:x", "a:planned"], "plan", "planned"), (vec![1], 0));
        assert!(Markers::new("", "x").unwrap_err().contains("a marker is empty"));
    }
}
