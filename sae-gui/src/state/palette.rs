//! The command palette: what a text finds. Commands by the beginnings of their words, features by number, label or typical word,
//! samples by number, and links. Draws nothing.

use super::command::Command;
use super::link::Link;
use super::list::FeatureList;
use super::location::Location;

/// Lines shown at most.
pub const LINES: usize = 12;

/// What a line of the palette does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Runs a command.
    Command(Command),
    /// Shows a feature or a sample.
    Location(Location),
    /// Opens a link.
    Link(String),
}

/// A line of the palette.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub title: String,
    /// What it does.
    pub choice: Choice,
}

/// An open palette.
#[derive(Clone, Debug, Default)]
pub struct Palette {
    /// What was typed.
    pub text: String,
    /// The line that Enter chooses.
    pub selected: usize,
}

impl Palette {
    /// What the text finds, best first. `allows` says which commands do anything now.
    pub fn lines(&self, list: Option<&FeatureList>, samples: u64, allows: impl Fn(Command) -> bool) -> Vec<Line> {
        let typed = self.text.trim();
        if Link::is_link(typed) {
            return match Link::parse(typed) {
                Ok(_) => vec![Line { title: format!("Open {typed}"), choice: Choice::Link(typed.into()) }],
                Err(_) => Vec::new(),
            };
        }
        let text = typed.to_lowercase();
        let mut lines = Vec::new();
        let feature_line = |list: &FeatureList, feature: u32| Line {
            title: list.title(feature),
            choice: Choice::Location(Location::Feature(feature)),
        };
        if let (Some(list), Ok(number)) = (list, text.parse::<u32>()) {
            if list.row(number).is_some() {
                lines.push(feature_line(list, number));
            }
            if u64::from(number) < samples {
                let title = format!("Sample {number}");
                lines.push(Line { title, choice: Choice::Location(Location::Sample(number)) });
            }
        }
        let commands = Command::ALL.into_iter().filter(|command| allows(*command) && fits(command.title(), &text));
        lines.extend(commands.map(|command| Line { title: command.title().into(), choice: Choice::Command(command) }));
        if let Some(list) = list.filter(|_| !text.is_empty()) {
            let labels = list.annotations().labels().filter(|(_, label)| label.to_lowercase().contains(&text));
            let labeled: Vec<u32> = labels.take(LINES).map(|(feature, _)| feature).collect();
            let is_typical = |feature: &u32| {
                !labeled.contains(feature) && list.typical_words(*feature).is_some_and(|words| words.contains(&text))
            };
            let typical = list.rows().iter().map(|row| row.feature).filter(is_typical).take(LINES);
            lines.extend(labeled.iter().copied().chain(typical).map(|feature| feature_line(list, feature)));
        }
        lines.truncate(LINES);
        lines
    }

    /// Moves the line that Enter chooses.
    pub fn step(&mut self, by: isize, lines: usize) {
        let last = lines.saturating_sub(1);
        self.selected = self.selected.min(last).saturating_add_signed(by).min(last);
    }
}

/// Whether all typed words are beginnings of words of the title.
fn fits(title: &str, text: &str) -> bool {
    let title = title.to_lowercase();
    text.split_whitespace().all(|typed| title.split_whitespace().any(|word| word.starts_with(typed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::analysis::index::FeatureRow;
    use sae_workbench::feature_table::{PositionCounts, TypicalWords};

    fn titles(text: &str, list: Option<&FeatureList>) -> Vec<String> {
        let palette = Palette { text: text.into(), selected: 0 };
        palette.lines(list, 20, |_| true).into_iter().map(|line| line.title).collect()
    }

    #[test]
    fn numbers_lead_to_features_and_samples_and_words_to_commands() {
        let rows = (0..100).map(|feature| FeatureRow { feature, class: "text".into(), ..FeatureRow::default() });
        let words = (0..100).map(|n| TypicalWords { tokens: format!("t{n}"), image_words: String::new() });
        let list = FeatureList::new(rows.collect(), PositionCounts::default(), words.collect());
        assert_eq!(titles("12", Some(&list))[..2], ["Feature 12: t12", "Sample 12"]);
        assert_eq!(titles("99", Some(&list))[0], "Feature 99: t99");
        assert_eq!(titles("cop li", Some(&list)), ["Copy link"]);
        assert_eq!(titles("filt", Some(&list)), ["Filter"]);
        assert_eq!(titles("t77", Some(&list)), ["Feature 77: t77"]);
        assert_eq!(titles("", None).len(), LINES);
        assert!(titles("no such thing", Some(&list)).is_empty());
        assert_eq!(titles("sae://run/f/3", None), ["Open sae://run/f/3"]);
        assert!(titles("sae://run/f/x", None).is_empty());
    }

    #[test]
    fn the_selected_line_stays_among_the_lines() {
        let mut palette = Palette::default();
        palette.step(-1, 3);
        assert_eq!(palette.selected, 0);
        (0..9).for_each(|_| palette.step(1, 3));
        assert_eq!(palette.selected, 2);
        palette.step(0, 1);
        assert_eq!(palette.selected, 0);
        palette.step(1, 0);
        assert_eq!(palette.selected, 0);
    }
}
