//! Where the texts of a conversation stand in what a template made of it. A template is a program: it may trim texts,
//! move them, cut them, or take another branch because of what they say. So the words are marked where they stand in the
//! messages, the conversation is rendered again, and what the marks say counts only if the rendering is the same without
//! them.

use crate::jinja::{is_space, strip};
use sae_core::store::sample::Role;
use std::collections::BTreeMap;
use std::ops::Range;

/// The first of the private-use characters of a plane, which serve as marks.
const PLANES: [u32; 2] = [0xF_0000, 0x10_0000];
/// How many there are of them in a plane.
const MARKS: usize = 0xFFFE;

/// A text of a conversation as a template gets it.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// The turn that it belongs to, counted from 0.
    pub turn: usize,
    /// Who says it.
    pub role: Role,
    /// The words.
    pub text: String,
}

/// What stands in the place of a text, which it is given with its number.
type Words<'a> = dyn Fn(usize, &str) -> String + 'a;

/// A text that is looked for. Equal texts of one role are one, since a template may compare messages with each other.
struct Sought<'a> {
    /// The last turn that says it, counted from 0.
    turn: usize,
    role: Role,
    text: &'a str,
    /// How often the conversation has it.
    count: usize,
    /// Bytes of `text` without white space at its ends.
    core: Range<usize>,
}

/// Marks in a text, and what they show: where all of it stands, or where its words do.
#[derive(Clone, Default)]
struct Marks {
    places: Vec<usize>,
    whole: bool,
}

impl Sought<'_> {
    /// Around the whole text.
    fn whole(&self) -> Marks {
        Marks { places: vec![0, self.text.len()], whole: true }
    }

    /// Around its words.
    fn words(&self) -> Marks {
        Marks { places: vec![self.core.start, self.core.end], whole: false }
    }

    /// At a single place, for templates that look at how a text begins or ends.
    fn single(&self) -> impl Iterator<Item = Marks> {
        let Range { start, end } = self.core;
        let length = end - start;
        let places = [end, start, start + length / 2, start + length / 4, end - length / 4];
        let boundary = move |place: usize| (start..=place).rev().find(|place| self.text.is_char_boundary(*place));
        places.into_iter().filter_map(boundary).map(|place| Marks { places: vec![place], whole: false })
    }

    /// The bytes of `rendered` that the text is if `place` of it stands at `at`.
    fn at(&self, place: usize, at: usize, whole: bool, rendered: &str) -> Option<Range<usize>> {
        let part = if whole { 0..self.text.len() } else { self.core.clone() };
        let start = at.checked_sub(place - part.start)?;
        let range = start..start + part.len();
        (rendered.get(range.clone()) == Some(&self.text[part])).then_some(range)
    }
}

/// Everywhere a text stands in a rendering.
type Ranges = Vec<Range<usize>>;

/// What a marked rendering said of a text.
enum Answer {
    /// It stands here.
    Found(Ranges),
    /// A part of it does.
    Changed,
    /// Nothing of it does.
    Absent,
}

/// Finds the texts in `rendered`. `render` renders the conversation with other texts, by number.
///
/// # Errors
/// The template leaves out or changes a text beyond trimming it; or nothing can be said about where it stands.
pub(super) fn locate(
    texts: &[Text],
    rendered: &str,
    render: impl Fn(&Words) -> Result<String, String>,
) -> Result<Vec<(Range<usize>, Role)>, String> {
    let mut sought: Vec<Sought> = Vec::new();
    let mut numbers = BTreeMap::new();
    let numbers: Vec<Option<usize>> = texts
        .iter()
        .map(|Text { turn, role, text }| {
            let core = strip(text, None, true, true);
            // There is nothing to find of a text without words.
            if core.is_empty() {
                return None;
            }
            let start = text.len() - text.trim_start_matches(is_space).len();
            let number = *numbers.entry((*role as u8, text.as_str())).or_insert_with(|| {
                sought.push(Sought { turn: *turn, role: *role, text, count: 0, core: start..start + core.len() });
                sought.len() - 1
            });
            sought[number].count += 1;
            sought[number].turn = *turn;
            Some(number)
        })
        .collect();
    let plane = PLANES.into_iter().find(|plane| {
        let used = |c: char| (*plane..=plane + 0xFFFF).contains(&u32::from(c));
        2 * sought.len() <= MARKS && !rendered.contains(used)
    });
    let plane = plane.ok_or("the conversation leaves no private-use characters free to mark its texts with")?;
    let probe = Probe { sought: &sought, numbers: &numbers, rendered, render: &render, plane };

    // All at once, which is enough for most templates: around the whole texts, then around the words of those that are
    // not found so.
    let mut found = probe.together(|text| text.whole(), |_| true);
    let words = match found.iter().all(Option::is_some) {
        true => Vec::new(),
        false => probe.together(|text| text.words(), |n| found[n].is_none()),
    };
    for n in 0..sought.len() {
        if found[n].is_none() {
            found[n] = Some(match words.get(n).cloned().flatten() {
                Some(words) => match probe.alone(n, sought[n].whole()) {
                    Some(Answer::Found(whole)) => whole,
                    _ => words,
                },
                None => probe.one_by_one(n, &found)?,
            });
        }
    }
    let less = |(ranges, text): &(&Option<Ranges>, &Sought)| ranges.as_ref().map_or(0, Vec::len) < text.count;
    if let Some((_, text)) = found.iter().zip(&sought).find(less) {
        return Err(format!("the chat template leaves out a text of turn {}", text.turn + 1));
    }
    let mut spans: Vec<_> = found
        .into_iter()
        .zip(&sought)
        .flat_map(|(ranges, text)| ranges.into_iter().flatten().map(|range| (range, text.role)))
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

/// Renders a conversation with marks in it.
struct Probe<'a> {
    sought: &'a [Sought<'a>],
    /// Of each text of the conversation its number in `sought`.
    numbers: &'a [Option<usize>],
    rendered: &'a str,
    render: &'a dyn Fn(&Words) -> Result<String, String>,
    plane: u32,
}

impl Probe<'_> {
    /// Where texts stand by the marks of all of those that are `wanted`.
    fn together(&self, marks: impl Fn(&Sought) -> Marks, wanted: impl Fn(usize) -> bool) -> Vec<Option<Ranges>> {
        let of = |(n, text)| if wanted(n) { marks(text) } else { Marks::default() };
        let answers = self.ask(&self.sought.iter().enumerate().map(of).collect::<Vec<_>>());
        let ranges = answers.into_iter().flatten().map(|answer| match answer {
            Answer::Found(ranges) => Some(ranges),
            Answer::Changed | Answer::Absent => None,
        });
        ranges.chain(std::iter::repeat(None)).take(self.sought.len()).collect()
    }

    /// What marks in one text say of it.
    fn alone(&self, n: usize, marks: Marks) -> Option<Answer> {
        let mut all = vec![Marks::default(); self.sought.len()];
        all[n] = marks;
        self.ask(&all)?.into_iter().nth(n)
    }

    /// Finds one text by marks in it alone; `found` says where others stand.
    fn one_by_one(&self, n: usize, found: &[Option<Ranges>]) -> Result<Ranges, String> {
        let text = &self.sought[n];
        let turn = text.turn + 1;
        let (mut changed, mut absent) = (false, false);
        for marks in [text.whole(), text.words()].into_iter().chain(text.single()) {
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
            return Err(format!("the chat template leaves out a text of turn {turn}"));
        }
        self.search(n, found)
    }

    /// Looks for a text whose marks change what the template does, wherever they stand.
    fn search(&self, n: usize, found: &[Option<Ranges>]) -> Result<Ranges, String> {
        let (text, turn) = (&self.sought[n].text[self.sought[n].core.clone()], self.sought[n].turn + 1);
        let taken: Vec<&Range<usize>> = found.iter().flatten().flatten().collect();
        let mut places = self
            .rendered
            .match_indices(text)
            .map(|(at, _)| at..at + text.len())
            .filter(|place| taken.iter().all(|other| other.end <= place.start || place.end <= other.start));
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(vec![place]),
            (None, _) => Err(format!("the chat template rewrites a text of turn {turn}")),
            _ => Err(format!("it is unclear where the chat template puts a text of turn {turn}")),
        }
    }

    /// Puts marks into the texts and reads them in the rendering; nothing if they change what the template does.
    fn ask(&self, marks: &[Marks]) -> Option<Vec<Answer>> {
        let mark = |n: usize, which: usize| char::from_u32(self.plane + (2 * n + which) as u32);
        let marked = (self.render)(&|number, text| {
            let Some(n) = self.numbers.get(number).copied().flatten() else { return text.to_owned() };
            let mut marked = text.to_owned();
            for (which, place) in marks[n].places.iter().enumerate().rev() {
                if let Some(mark) = mark(n, which) {
                    marked.insert(*place, mark);
                }
            }
            marked
        });
        let marked = marked.ok()?;
        let (mut plain, mut seen) = (String::with_capacity(marked.len()), Vec::new());
        for c in marked.chars() {
            match u32::from(c).checked_sub(self.plane).map(|code| code as usize) {
                Some(code) if code < 2 * self.sought.len() => seen.push((code / 2, code % 2, plain.len())),
                _ => plain.push(c),
            }
        }
        if plain != self.rendered {
            return None;
        }
        let mut answers: Vec<Answer> = marks.iter().map(|_| Answer::Absent).collect();
        for (n, which, at) in seen {
            let place = marks[n].places.get(which)?;
            match (self.sought[n].at(*place, at, marks[n].whole, self.rendered), &mut answers[n]) {
                (Some(range), Answer::Found(ranges)) if !ranges.contains(&range) => ranges.push(range),
                (None, answer @ Answer::Absent) => *answer = Answer::Changed,
                (None, _) | (Some(_), Answer::Found(_)) => {}
                (Some(range), answer) => *answer = Answer::Found(vec![range]),
            }
        }
        Some(answers)
    }
}
