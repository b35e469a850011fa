//! The command palette: what its text finds. Commands by the beginnings of their words, features by number or label, samples
//! by number. Draws nothing.

use super::command::Command;
use super::list::FeatureList;
use super::location::Location;

/// Lines shown at most.
pub const LINES: usize = 12;

/// What a line of the palette does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A command.
    Command(Command),
    /// Going somewhere.
    Location(Location),
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
    /// The line that Enter takes.
    pub at: usize,
}

impl Palette {
    /// What the text finds, best first. `allows` says which commands do anything now.
    pub fn lines(&self, list: Option<&FeatureList>, samples: u64, allows: impl Fn(Command) -> bool) -> Vec<Line> {
        let text = self.text.trim().to_lowercase();
        let mut lines = Vec::new();
        if let (Some(list), Ok(number)) = (list, text.parse::<u32>()) {
            if let Some(row) = list.row(number) {
                let label = list.marks().label(number).map(|label| format!(" {label}")).unwrap_or_default();
                let title = format!("Feature {number}{label} ({})", row.class);
                lines.push(Line { title, choice: Choice::Location(Location::Feature(number)) });
            }
            if u64::from(number) < samples {
                let title = format!("Sample {number}");
                lines.push(Line { title, choice: Choice::Location(Location::Sample(number)) });
            }
        }
        let commands = Command::ALL.into_iter().filter(|command| allows(*command) && fits(command.title(), &text));
        lines.extend(commands.map(|command| Line { title: command.title().into(), choice: Choice::Command(command) }));
        if let Some(list) = list {
            let labeled = |line: &(u32, &str)| !text.is_empty() && line.1.to_lowercase().contains(&text);
            let labels = list.marks().labels().filter(labeled);
            lines.extend(labels.take(LINES).map(|(feature, label)| Line {
                title: format!("Feature {feature} {label}"),
                choice: Choice::Location(Location::Feature(feature)),
            }));
        }
        lines.truncate(LINES);
        lines
    }

    /// Moves the line that Enter takes.
    pub fn step(&mut self, by: isize, lines: usize) {
        self.at = self.at.min(lines.saturating_sub(1)).saturating_add_signed(by).min(lines.saturating_sub(1));
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

    fn titles(text: &str, list: Option<&FeatureList>) -> Vec<String> {
        let palette = Palette { text: text.into(), at: 0 };
        palette.lines(list, 20, |_| true).into_iter().map(|line| line.title).collect()
    }

    #[test]
    fn numbers_lead_to_features_and_samples_and_words_to_commands() {
        let rows = (0..100).map(|feature| FeatureRow { feature, class: "text".into(), ..FeatureRow::default() });
        let list = FeatureList::new(rows.collect());
        assert_eq!(titles("12", Some(&list)), ["Feature 12 (text)", "Sample 12"]);
        assert_eq!(titles("99", Some(&list)), ["Feature 99 (text)"]);
        assert_eq!(titles("cop li", Some(&list)), ["Copy link"]);
        assert_eq!(titles("filt", Some(&list)), ["Filter"]);
        assert_eq!(titles("", None).len(), LINES);
        assert!(titles("no such thing", Some(&list)).is_empty());
    }

    #[test]
    fn the_chosen_line_stays_among_the_lines() {
        let mut palette = Palette::default();
        palette.step(-1, 3);
        assert_eq!(palette.at, 0);
        (0..9).for_each(|_| palette.step(1, 3));
        assert_eq!(palette.at, 2);
        palette.step(0, 1);
        assert_eq!(palette.at, 0);
        palette.step(1, 0);
        assert_eq!(palette.at, 0);
    }
}
