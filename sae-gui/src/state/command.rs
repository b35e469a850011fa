//! All that a person can tell the app to do: one list feeds menus, shortcuts, tooltips, the palette and the sheet of
//! shortcuts. What a command does is decided by the session.

use super::location::Page;

/// Where in the menus a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    /// The run.
    Run,
    /// What people write.
    Edit,
    /// Moving about.
    Go,
    /// How things look.
    View,
}

impl Menu {
    /// All menus, from left to right.
    pub const ALL: [Self; 4] = [Self::Run, Self::Edit, Self::Go, Self::View];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Run => "Run",
            Self::Edit => "Edit",
            Self::Go => "Go",
            Self::View => "View",
        }
    }
}

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Asks for another run.
    Open,
    /// Reads the run again.
    Reload,
    /// Computes the index again.
    Index,
    /// Closes the window.
    Quit,
    /// Takes the last edit back.
    Undo,
    /// Makes it again.
    Redo,
    /// To the field of the label.
    Label,
    /// Sets or takes the star.
    Star,
    /// Puts a link to what is shown into the clipboard.
    CopyLink,
    /// The same with all that the index says, as JSON.
    CopyJson,
    /// The shown rows of the table, as CSV.
    CopyTable,
    /// A picture of the window.
    CopyPicture,
    /// To a page.
    Page(Page),
    /// The next feature or sample.
    Next,
    /// The previous one.
    Previous,
    /// What was looked at before.
    Back,
    /// Undoes going back.
    Forward,
    /// To the search field.
    Search,
    /// Closes what is open; else empties the search.
    Dismiss,
    /// Opens the palette.
    Palette,
    /// Light or dark as the system says.
    ThemeSystem,
    /// Dark on light.
    ThemeLight,
    /// Light on dark.
    ThemeDark,
    /// Shows the shortcuts.
    Shortcuts,
}

/// What is said about a command.
struct Words {
    menu: Menu,
    title: &'static str,
    hint: &'static str,
    /// Keys that give it.
    keys: &'static [&'static str],
}

impl Command {
    /// All of them, in the order of the menus.
    pub const ALL: [Self; 28] = [
        Self::Open,
        Self::Reload,
        Self::Index,
        Self::Quit,
        Self::Undo,
        Self::Redo,
        Self::Label,
        Self::Star,
        Self::CopyLink,
        Self::CopyJson,
        Self::CopyTable,
        Self::CopyPicture,
        Self::Palette,
        Self::Page(Page::Features),
        Self::Page(Page::Sample),
        Self::Page(Page::Filter),
        Self::Page(Page::Try),
        Self::Page(Page::Run),
        Self::Search,
        Self::Next,
        Self::Previous,
        Self::Back,
        Self::Forward,
        Self::Dismiss,
        Self::ThemeSystem,
        Self::ThemeLight,
        Self::ThemeDark,
        Self::Shortcuts,
    ];

    fn words(self) -> Words {
        let words = |menu, title, hint, keys| Words { menu, title, hint, keys };
        match self {
            Self::Open => words(Menu::Run, "Open ...", "Asks for a run folder or a link", &["Ctrl+O"]),
            Self::Reload => {
                words(Menu::Run, "Reload", "Reads the run folder again, after a command has changed it", &["F5"])
            }
            Self::Index => words(Menu::Run, "Index again", "Computes the feature index again: sae index", &[]),
            Self::Quit => words(Menu::Run, "Quit", "Closes the window", &["Ctrl+Q"]),
            Self::Undo => {
                words(Menu::Edit, "Undo", "Takes the last edit of a label, note, star or list back", &["Ctrl+Z"])
            }
            Self::Redo => words(Menu::Edit, "Redo", "Makes the edit again that was taken back", &["Ctrl+Y"]),
            Self::Label => words(Menu::Edit, "Edit the label", "Goes to the field of the feature's label", &["E"]),
            Self::Star => words(Menu::Edit, "Star", "Sets or takes the feature's star", &["S"]),
            Self::CopyLink => {
                words(Menu::Edit, "Copy link", "Copies a link that opens what is shown: sae-gui LINK", &["Ctrl+L"])
            }
            Self::CopyJson => words(Menu::Edit, "Copy as JSON", "Copies all that is known of the feature as JSON", &[]),
            Self::CopyTable => {
                words(Menu::Edit, "Copy table as CSV", "Copies the rows that the table shows as CSV", &[])
            }
            Self::CopyPicture => words(Menu::Edit, "Copy picture", "Copies a picture of the window", &["Ctrl+Shift+C"]),
            Self::Palette => words(
                Menu::Go,
                "Command palette",
                "Finds commands, and features and samples by number or label",
                &["Ctrl+K"],
            ),
            Self::Page(page) => match page {
                Page::Features => words(Menu::Go, "Features", "The table of features and one of them", &["Ctrl+1"]),
                Page::Sample => words(Menu::Go, "Sample", "One sample, its patches and words, its scores", &["Ctrl+2"]),
                Page::Filter => words(Menu::Go, "Filter", "Scores, a threshold, and what it keeps", &["Ctrl+3"]),
                Page::Try => words(Menu::Go, "Try it", "Your own text or image", &["Ctrl+4"]),
                Page::Run => words(Menu::Go, "Run", "How the run came about, and how good it is", &["Ctrl+5"]),
            },
            Self::Search => words(Menu::Go, "Search", "Goes to the search field", &["/", "Ctrl+F"]),
            Self::Next => {
                words(Menu::Go, "Next", "Goes one row down in the table, or to the next sample", &["J", "Down"])
            }
            Self::Previous => {
                words(Menu::Go, "Previous", "Goes one row up in the table, or to the previous sample", &["K", "Up"])
            }
            Self::Back => words(Menu::Go, "Back", "Goes back to what was looked at before", &["Alt+Left"]),
            Self::Forward => words(Menu::Go, "Forward", "Undoes going back", &["Alt+Right"]),
            Self::Dismiss => {
                words(Menu::Go, "Clear the search", "Closes what is open, or empties the search", &["Escape"])
            }
            Self::ThemeSystem => words(Menu::View, "Colors of the system", "Light or dark, as the system says", &[]),
            Self::ThemeLight => words(Menu::View, "Light", "Dark signs on a light ground", &[]),
            Self::ThemeDark => words(Menu::View, "Dark", "Light signs on a dark ground", &[]),
            Self::Shortcuts => words(Menu::View, "Keyboard shortcuts", "Shows all shortcuts", &["?"]),
        }
    }

    /// A few words.
    pub fn title(self) -> &'static str {
        self.words().title
    }

    /// What it does, in a sentence.
    pub fn hint(self) -> &'static str {
        self.words().hint
    }

    /// Keys that give it, such as `Alt+Left`. Those without Ctrl or Alt are text while text is typed.
    pub fn keys(self) -> &'static [&'static str] {
        self.words().keys
    }

    /// The menu that it stands in.
    pub fn menu(self) -> Menu {
        self.words().menu
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_commands_share_a_key() {
        let keys: Vec<_> = Command::ALL.iter().flat_map(|command| command.keys()).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        let titles: HashSet<_> = Command::ALL.iter().map(|command| command.title()).collect();
        assert_eq!(titles.len(), Command::ALL.len());
    }
}
