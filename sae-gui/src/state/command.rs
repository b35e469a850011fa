//! All that a person can tell the app to do: one list feeds menus, shortcuts, tooltips and the sheet of shortcuts. What
//! a command does is decided by the session.

/// Where in the menus a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Menu {
    /// The run.
    Run,
    /// Moving between features.
    Feature,
    /// How things look.
    View,
}

impl Menu {
    /// All menus, from left to right.
    pub const ALL: [Self; 3] = [Self::Run, Self::Feature, Self::View];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Run => "Run",
            Self::Feature => "Feature",
            Self::View => "View",
        }
    }
}

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Reads the run again.
    Reload,
    /// Puts a link to what is shown into the clipboard.
    CopyLink,
    /// Closes the window.
    Quit,
    /// The next feature of the table.
    Next,
    /// The previous feature of the table.
    Previous,
    /// The feature looked at before.
    Back,
    /// Undoes going back.
    Forward,
    /// To the search field.
    Search,
    /// Closes what is open; else empties the search.
    Dismiss,
    /// Light or dark as the system says.
    ThemeSystem,
    /// Dark on light.
    ThemeLight,
    /// Light on dark.
    ThemeDark,
    /// Shows the shortcuts.
    Shortcuts,
}

impl Command {
    /// All of them, in the order of the menus.
    pub const ALL: [Self; 13] = [
        Self::Reload,
        Self::CopyLink,
        Self::Quit,
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

    /// A few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Reload => "Reload",
            Self::CopyLink => "Copy link",
            Self::Quit => "Quit",
            Self::Next => "Next feature",
            Self::Previous => "Previous feature",
            Self::Back => "Back",
            Self::Forward => "Forward",
            Self::Search => "Search",
            Self::Dismiss => "Clear the search",
            Self::ThemeSystem => "Colours of the system",
            Self::ThemeLight => "Light",
            Self::ThemeDark => "Dark",
            Self::Shortcuts => "Keyboard shortcuts",
        }
    }

    /// What it does, in a sentence.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Reload => "Reads the run folder again, after a command has changed it",
            Self::CopyLink => "Copies a link that opens this feature: sae-gui LINK",
            Self::Quit => "Closes the window",
            Self::Next => "Goes one row down in the table",
            Self::Previous => "Goes one row up in the table",
            Self::Back => "Goes back to the feature looked at before",
            Self::Forward => "Undoes going back",
            Self::Search => "Goes to the search field",
            Self::Dismiss => "Closes what is open, or empties the search",
            Self::ThemeSystem => "Light or dark, as the system says",
            Self::ThemeLight => "Dark signs on a light ground",
            Self::ThemeDark => "Light signs on a dark ground",
            Self::Shortcuts => "Shows all shortcuts",
        }
    }

    /// Keys that give it, such as `Alt+Left`. Those without Ctrl or Alt are text while text is typed.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Reload => &["F5"],
            Self::CopyLink => &["Ctrl+L"],
            Self::Quit => &["Ctrl+Q"],
            Self::Next => &["J", "Down"],
            Self::Previous => &["K", "Up"],
            Self::Back => &["Alt+Left"],
            Self::Forward => &["Alt+Right"],
            Self::Search => &["/", "Ctrl+F"],
            Self::Dismiss => &["Escape"],
            Self::Shortcuts => &["?"],
            Self::ThemeSystem | Self::ThemeLight | Self::ThemeDark => &[],
        }
    }

    /// The menu that it stands in.
    pub fn menu(self) -> Menu {
        match self {
            Self::Reload | Self::CopyLink | Self::Quit => Menu::Run,
            Self::Next | Self::Previous | Self::Back | Self::Forward | Self::Search | Self::Dismiss => Menu::Feature,
            Self::ThemeSystem | Self::ThemeLight | Self::ThemeDark | Self::Shortcuts => Menu::View,
        }
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
