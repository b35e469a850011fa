//! Everything that a person can tell the app to do. One list feeds menus, shortcuts, tooltips, the palette and the list of
//! shortcuts. What a command does is decided by the session.

use super::location::Page;

/// A menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    /// Runs, and commands on them.
    File,
    /// What people write, and what they copy.
    Edit,
    /// Moving about.
    Go,
    /// How things look.
    View,
}

impl Menu {
    /// All menus, from left to right.
    pub const ALL: [Self; 4] = [Self::File, Self::Edit, Self::Go, Self::View];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::File => "File",
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
    /// Makes the feature index.
    MakeIndex,
    /// Makes the score table.
    MakeScores,
    /// Closes the window.
    Quit,
    /// Undoes the last edit.
    Undo,
    /// Makes it again.
    Redo,
    /// Goes to the field of the label.
    EditLabel,
    /// Asks a model for a label.
    AskLabel,
    /// Stars the feature, or removes the star.
    Star,
    /// Copies a link to what is shown.
    CopyLink,
    /// Copies all that is known of the feature.
    CopyJson,
    /// Copies the rows of the table.
    CopyTable,
    /// Copies a picture of the window.
    CopyPicture,
    /// Goes to a page.
    Page(Page),
    /// Goes to the next feature or sample.
    Next,
    /// Goes to the previous one.
    Previous,
    /// Goes many rows down.
    PageDown,
    /// Goes many rows up.
    PageUp,
    /// Goes to the first row.
    First,
    /// Goes to the last row.
    Last,
    /// Goes back to what was shown before.
    Back,
    /// Goes forward again.
    Forward,
    /// Goes to the search field.
    Search,
    /// Closes what is open, else clears the selection, else the search.
    Dismiss,
    /// Opens the palette.
    Palette,
    /// Shows or hides the table of features.
    ToggleTable,
    /// Uses the colors that the system prefers.
    ThemeSystem,
    /// Uses dark text on a light background.
    ThemeLight,
    /// Uses light text on a dark background.
    ThemeDark,
    /// Shows the shortcuts.
    Shortcuts,
}

/// How a command is presented.
struct Presentation {
    menu: Menu,
    title: &'static str,
    hint: &'static str,
    keys: &'static [&'static str],
}

impl Command {
    /// All of them, in the order of the menus.
    pub const ALL: [Self; 39] = [
        Self::Open,
        Self::Reload,
        Self::MakeIndex,
        Self::MakeScores,
        Self::Quit,
        Self::Undo,
        Self::Redo,
        Self::EditLabel,
        Self::AskLabel,
        Self::Star,
        Self::CopyLink,
        Self::CopyJson,
        Self::CopyTable,
        Self::CopyPicture,
        Self::Palette,
        Self::Page(Page::Features),
        Self::Page(Page::Samples),
        Self::Page(Page::Sample),
        Self::Page(Page::Filter),
        Self::Page(Page::Playground),
        Self::Page(Page::Run),
        Self::Page(Page::Compare),
        Self::Page(Page::Contrast),
        Self::Page(Page::Probe),
        Self::Search,
        Self::Next,
        Self::Previous,
        Self::PageDown,
        Self::PageUp,
        Self::First,
        Self::Last,
        Self::Back,
        Self::Forward,
        Self::Dismiss,
        Self::ToggleTable,
        Self::ThemeSystem,
        Self::ThemeLight,
        Self::ThemeDark,
        Self::Shortcuts,
    ];

    fn presentation(self) -> Presentation {
        let of = |menu, title, hint, keys| Presentation { menu, title, hint, keys };
        match self {
            Self::Open => of(Menu::File, "Open ...", "Open a run folder or a link", &["Ctrl+O"]),
            Self::Reload => of(Menu::File, "Reload", "Read the run folder again", &["F5"]),
            Self::MakeIndex => of(Menu::File, "Make the feature index ...", "Run `sae index` on this autoencoder", &[]),
            Self::MakeScores => of(Menu::File, "Make the scores ...", "Run `sae score` with this autoencoder", &[]),
            Self::Quit => of(Menu::File, "Quit", "Close the window", &["Ctrl+Q"]),
            Self::Undo => of(Menu::Edit, "Undo", "Undo the last edit of a label, note, star or list", &["Ctrl+Z"]),
            Self::Redo => of(Menu::Edit, "Redo", "Make the edit again that was undone", &["Ctrl+Y", "Ctrl+Shift+Z"]),
            Self::EditLabel => of(Menu::Edit, "Edit the label", "Go to the field of the feature's label", &["E"]),
            Self::AskLabel => of(
                Menu::Edit,
                "Ask a model for a label ...",
                "Ask a language model what the feature, or the selected ones, fire on, and test its label",
                &[],
            ),
            Self::Star => of(Menu::Edit, "Star", "Star or unstar the feature, or the selected ones", &["S"]),
            Self::CopyLink => {
                of(Menu::Edit, "Copy link", "Copy a link to what is shown, for `sae-gui LINK`", &["Ctrl+L"])
            }
            Self::CopyJson => of(Menu::Edit, "Copy as JSON", "Copy everything that is known about the feature", &[]),
            Self::CopyTable => of(Menu::Edit, "Copy table as CSV", "Copy the rows that the table shows", &[]),
            Self::CopyPicture => of(Menu::Edit, "Copy picture", "Copy a picture of the window", &["Ctrl+Shift+C"]),
            Self::Palette => of(
                Menu::Go,
                "Command palette",
                "Find commands, features (by number, label or typical word) and samples (by number)",
                &["Ctrl+K"],
            ),
            Self::Page(page) => {
                let (hint, keys): (_, &[&str]) = match page {
                    Page::Features => ("The table of features and one of them", &["Ctrl+1"]),
                    Page::Samples => ("All samples: search, sort, keep and drop by hand", &["Ctrl+2"]),
                    Page::Sample => ("One sample, its patches and words, its scores", &["Ctrl+3"]),
                    Page::Filter => ("Scores, a threshold, and what it keeps", &["Ctrl+4"]),
                    Page::Playground => ("Your own prompt or image", &["Ctrl+5"]),
                    Page::Run => ("Evaluation, training and provenance", &["Ctrl+6"]),
                    Page::Compare => ("Two features side by side", &["Ctrl+7"]),
                    Page::Contrast => ("What differs between groups, along an order, or with a target", &["Ctrl+8"]),
                    Page::Probe => ("What was learned from labels, and from which features", &["Ctrl+9"]),
                };
                of(Menu::Go, page.title(), hint, keys)
            }
            Self::Search => of(
                Menu::Go,
                "Search",
                "Go to the search field of features, or of samples on their page",
                &["/", "Ctrl+F"],
            ),
            Self::Next => of(Menu::Go, "Next", "Go one row down, or to the next sample", &["J", "Down"]),
            Self::Previous => of(Menu::Go, "Previous", "Go one row up, or to the previous sample", &["K", "Up"]),
            Self::PageDown => of(Menu::Go, "Page down", "Go 20 rows down", &["PageDown"]),
            Self::PageUp => of(Menu::Go, "Page up", "Go 20 rows up", &["PageUp"]),
            Self::First => of(Menu::Go, "First", "Go to the first row", &["Home"]),
            Self::Last => of(Menu::Go, "Last", "Go to the last row", &["End"]),
            Self::Back => of(Menu::Go, "Back", "Go back to what was shown before", &["Alt+Left"]),
            Self::Forward => of(Menu::Go, "Forward", "Go forward again", &["Alt+Right"]),
            Self::Dismiss => of(
                Menu::Go,
                "Clear the search",
                "Close what is open, else clear the selection, else the search",
                &["Escape"],
            ),
            Self::ToggleTable => of(
                Menu::View,
                "Table of features",
                "Show the table and the map beside a feature, or hide them",
                &["Ctrl+B"],
            ),
            Self::ThemeSystem => of(Menu::View, "Follow the system", "Light or dark, as the system prefers", &[]),
            Self::ThemeLight => of(Menu::View, "Light", "Dark text on a light background", &[]),
            Self::ThemeDark => of(Menu::View, "Dark", "Light text on a dark background", &[]),
            Self::Shortcuts => of(Menu::View, "Keyboard shortcuts", "Show all shortcuts", &["?"]),
        }
    }

    /// Its title.
    pub fn title(self) -> &'static str {
        self.presentation().title
    }

    /// What it does.
    pub fn hint(self) -> &'static str {
        self.presentation().hint
    }

    /// Its shortcuts, such as `Alt+Left`. Those without Ctrl and Alt are text while text is typed.
    pub fn keys(self) -> &'static [&'static str] {
        self.presentation().keys
    }

    /// The menu that has it.
    pub fn menu(self) -> Menu {
        self.presentation().menu
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_commands_share_a_key_or_a_title() {
        let keys: Vec<_> = Command::ALL.iter().flat_map(|command| command.keys()).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        let titles: HashSet<_> = Command::ALL.iter().map(|command| command.title()).collect();
        assert_eq!(titles.len(), Command::ALL.len());
    }

    #[test]
    fn every_page_has_a_command() {
        assert!(Page::ALL.iter().all(|page| Command::ALL.contains(&Command::Page(*page))));
    }
}
