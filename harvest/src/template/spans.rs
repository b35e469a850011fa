//! Locates the texts of a conversation in the rendered text. A template is a program: it may trim texts, move them, cut
//! them, or take another branch because of what they say. Therefore marks are inserted into the texts of the messages,
//! and the conversation is rendered again. Where the marks appear counts only if this rendering, without the marks,
//! equals the original one.

use crate::jinja::{is_space, strip};
use sae_core::store::sample::Role;
use std::collections::BTreeMap;
use std::ops::Range;

/// The first private-use character of each of two planes. These characters serve as marks.
const PLANES: [u32; 2] = [0xF_0000, 0x10_0000];
/// Number of these characters in a plane.
const MARKS: usize = 0xFFFE;

/// A text of a conversation as a template receives it.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// The turn to which it belongs, counted from 0.
    pub turn: usize,
    /// The speaker.
    pub role: Role,
    /// The text.
    pub text: String,
}

/// Returns the replacement of a text, given its number and content.
type Replace<'a> = dyn Fn(usize, &str) -> String + 'a;

/// A text to be located. Equal texts of the same role are treated as one, because a template may compare messages with
/// each other.
struct Target<'a> {
    /// The last turn that contains it, counted from 0.
    turn: usize,
    role: Role,
    text: &'a str,
    /// How often it occurs in the conversation.
    count: usize,
    /// The bytes of `text` without white space at its ends.
    core: Range<usize>,
}

/// Marks that are inserted into a text, and what they locate.
#[derive(Clone, Default)]
struct Marks {
    /// Offsets in the text.
    offsets: Vec<usize>,
    /// Whether they locate the whole text, or only its core.
    whole: bool,
}

impl Target<'_> {
    /// Marks around the whole text.
    fn whole(&self) -> Marks {
        Marks { offsets: vec![0, self.text.len()], whole: true }
    }

    /// Marks around the core.
    fn core(&self) -> Marks {
        Marks { offsets: vec![self.core.start, self.core.end], whole: false }
    }

    /// Single marks at several offsets, for templates that look at how a text begins or ends.
    fn single(&self) -> impl Iterator<Item = Marks> {
        let Range { start, end } = self.core;
        let length = end - start;
        let offsets = [end, start, start + length / 2, start + length / 4, end - length / 4];
        let boundary = move |offset: usize| (start..=offset).rev().find(|offset| self.text.is_char_boundary(*offset));
        offsets.into_iter().filter_map(boundary).map(|offset| Marks { offsets: vec![offset], whole: false })
    }

    /// The range of `rendered` that is this text, if byte `offset` of the text is byte `at` of `rendered`.
    fn range_at(&self, offset: usize, at: usize, whole: bool, rendered: &str) -> Option<Range<usize>> {
        let part = if whole { 0..self.text.len() } else { self.core.clone() };
        let start = at.checked_sub(offset - part.start)?;
        let range = start..start + part.len();
        (rendered.get(range.clone()) == Some(&self.text[part])).then_some(range)
    }
}

/// All ranges of a text in a rendering.
type Ranges = Vec<Range<usize>>;

/// What a marked rendering reveals about a text.
enum Answer {
    /// It is here.
    Found(Ranges),
    /// Only a part of it is there.
    Changed,
    /// Nothing of it is there.
    Absent,
}

/// Locates the texts in `rendered`. `render` renders the conversation with every text replaced.
///
/// # Errors
/// The template omits a text or changes it beyond trimming, or its place cannot be determined.
pub(super) fn locate(
    texts: &[Text],
    rendered: &str,
    render: impl Fn(&Replace) -> Result<String, String>,
) -> Result<Vec<(Range<usize>, Role)>, String> {
    let mut targets: Vec<Target> = Vec::new();
    let mut numbers = BTreeMap::new();
    let numbers: Vec<Option<usize>> = texts
        .iter()
        .map(|Text { turn, role, text }| {
            let core = strip(text, None, true, true);
            // A text that is only white space need not be located.
            if core.is_empty() {
                return None;
            }
            let start = text.len() - text.trim_start_matches(is_space).len();
            let number = *numbers.entry((*role as u8, text.as_str())).or_insert_with(|| {
                targets.push(Target { turn: *turn, role: *role, text, count: 0, core: start..start + core.len() });
                targets.len() - 1
            });
            targets[number].count += 1;
            targets[number].turn = *turn;
            Some(number)
        })
        .collect();
    let plane = PLANES.into_iter().find(|plane| {
        let used = |c: char| (*plane..=plane + 0xFFFF).contains(&u32::from(c));
        2 * targets.len() <= MARKS && !rendered.contains(used)
    });
    let plane = plane.ok_or("the conversation uses the private-use characters that are needed to locate its texts")?;
    let search = Search { targets: &targets, numbers: &numbers, rendered, render: &render, plane };

    // First all texts at once, which is sufficient for most templates: marks around the whole texts, then marks around
    // the cores of those texts that have not been found.
    let mut found = search.together(|target| target.whole(), |_| true);
    let cores = if found.iter().all(Option::is_some) {
        Vec::new()
    } else {
        search.together(|target| target.core(), |n| found[n].is_none())
    };
    for n in 0..targets.len() {
        if found[n].is_none() {
            found[n] = Some(match cores.get(n).cloned().flatten() {
                Some(cores) => match search.alone(n, targets[n].whole()) {
                    Some(Answer::Found(whole)) => whole,
                    _ => cores,
                },
                None => search.one_by_one(n, &found)?,
            });
        }
    }
    let is_rarer = |(ranges, target): &(&Option<Ranges>, &Target)| ranges.as_ref().map_or(0, Vec::len) < target.count;
    if let Some((_, target)) = found.iter().zip(&targets).find(is_rarer) {
        return Err(format!("the chat template omits a text of turn {}", target.turn + 1));
    }
    let mut spans: Vec<_> = found
        .into_iter()
        .zip(&targets)
        .flat_map(|(ranges, target)| ranges.into_iter().flatten().map(|range| (range, target.role)))
        .collect();
    spans.sort_by_key(|(range, _)| (range.start, range.end));
    let mut end = 0;
    spans.retain(|(range, _)| {
        range.start >= end && {
            end = range.end;
            true
        }
    });
    Ok(spans)
}

/// Renders a conversation with marks in its texts.
struct Search<'a> {
    targets: &'a [Target<'a>],
    /// For each text of the conversation, its number in `targets`.
    numbers: &'a [Option<usize>],
    rendered: &'a str,
    render: &'a dyn Fn(&Replace) -> Result<String, String>,
    plane: u32,
}

impl Search<'_> {
    /// Locates all texts that are `wanted` in one rendering.
    fn together(&self, marks: impl Fn(&Target) -> Marks, wanted: impl Fn(usize) -> bool) -> Vec<Option<Ranges>> {
        let marks = |(n, target)| if wanted(n) { marks(target) } else { Marks::default() };
        let answers = self.ask(&self.targets.iter().enumerate().map(marks).collect::<Vec<_>>());
        let ranges = answers.into_iter().flatten().map(|answer| match answer {
            Answer::Found(ranges) => Some(ranges),
            Answer::Changed | Answer::Absent => None,
        });
        ranges.chain(std::iter::repeat(None)).take(self.targets.len()).collect()
    }

    /// Locates one text with marks in this text alone.
    fn alone(&self, n: usize, marks: Marks) -> Option<Answer> {
        let mut all = vec![Marks::default(); self.targets.len()];
        all[n] = marks;
        self.ask(&all)?.into_iter().nth(n)
    }

    /// Locates one text by trying several marks in this text alone. `found` has the ranges of other texts.
    fn one_by_one(&self, n: usize, found: &[Option<Ranges>]) -> Result<Ranges, String> {
        let target = &self.targets[n];
        let turn = target.turn + 1;
        let (mut changed, mut absent) = (false, false);
        for marks in [target.whole(), target.core()].into_iter().chain(target.single()) {
            match self.alone(n, marks) {
                Some(Answer::Found(ranges)) => return Ok(ranges),
                Some(Answer::Changed) => changed = true,
                Some(Answer::Absent) => absent = true,
                None => {}
            }
        }
        if changed {
            return Err(format!("the chat template rewrites a text of turn {turn}"));
        }
        if absent {
            return Err(format!("the chat template omits a text of turn {turn}"));
        }
        self.search(n, found)
    }

    /// Searches for the characters of a text. This is the last resort if every mark changes what the template does.
    fn search(&self, n: usize, found: &[Option<Ranges>]) -> Result<Ranges, String> {
        let (text, turn) = (&self.targets[n].text[self.targets[n].core.clone()], self.targets[n].turn + 1);
        let taken: Vec<&Range<usize>> = found.iter().flatten().flatten().collect();
        let mut ranges = self
            .rendered
            .match_indices(text)
            .map(|(at, _)| at..at + text.len())
            .filter(|range| taken.iter().all(|other| other.end <= range.start || range.end <= other.start));
        match (ranges.next(), ranges.next()) {
            (Some(range), None) => Ok(vec![range]),
            (None, _) => Err(format!("the chat template rewrites a text of turn {turn}")),
            _ => Err(format!("it is unclear where the chat template puts a text of turn {turn}")),
        }
    }

    /// Inserts marks into the texts and finds them in the rendering. Nothing if the marks change what the template
    /// does.
    fn ask(&self, marks: &[Marks]) -> Option<Vec<Answer>> {
        let mark = |n: usize, which: usize| char::from_u32(self.plane + (2 * n + which) as u32);
        let marked = (self.render)(&|number, text| {
            let Some(n) = self.numbers.get(number).copied().flatten() else { return text.to_owned() };
            let mut marked = text.to_owned();
            for (which, offset) in marks[n].offsets.iter().enumerate().rev() {
                if let Some(mark) = mark(n, which) {
                    marked.insert(*offset, mark);
                }
            }
            marked
        });
        let marked = marked.ok()?;
        let (mut plain, mut marks_found) = (String::with_capacity(marked.len()), Vec::new());
        for c in marked.chars() {
            match u32::from(c).checked_sub(self.plane).map(|code| code as usize) {
                Some(code) if code < 2 * self.targets.len() => marks_found.push((code / 2, code % 2, plain.len())),
                _ => plain.push(c),
            }
        }
        if plain != self.rendered {
            return None;
        }
        let mut answers: Vec<Answer> = marks.iter().map(|_| Answer::Absent).collect();
        for (n, which, at) in marks_found {
            let offset = marks[n].offsets.get(which)?;
            match (self.targets[n].range_at(*offset, at, marks[n].whole, self.rendered), &mut answers[n]) {
                (Some(range), Answer::Found(ranges)) if !ranges.contains(&range) => ranges.push(range),
                (None, answer @ Answer::Absent) => *answer = Answer::Changed,
                (None, _) | (Some(_), Answer::Found(_)) => {}
                (Some(range), answer) => *answer = Answer::Found(vec![range]),
            }
        }
        Some(answers)
    }
}
