//! From keys to commands. Which keys belong to which command is said by the commands themselves.

use crate::state::Command;
use egui::{Context, Event, Key, KeyboardShortcut, Modifiers, Popup};

/// The shortcut that a name such as `Alt+Left` or `Ctrl+Shift+Z` stands for.
fn shortcut(name: &str) -> Option<KeyboardShortcut> {
    let (mut modifiers, mut key) = (Modifiers::NONE, name);
    while let Some((modifier, rest)) = key.split_once('+') {
        modifiers = modifiers.plus(match modifier {
            "Ctrl" => Modifiers::COMMAND,
            "Shift" => Modifiers::SHIFT,
            "Alt" => Modifiers::ALT,
            _ => return None,
        });
        key = rest;
    }
    Some(KeyboardShortcut::new(modifiers, Key::from_name(key)?))
}

/// The commands of the keys that were pressed since the last frame. `was_typing` says whether a text field had the focus then:
/// Escape has taken it away by now.
pub fn pressed(ctx: &Context, was_typing: bool) -> Vec<Command> {
    let typing = was_typing || ctx.text_edit_focused();
    let popup = Popup::is_any_open(ctx);
    let mut commands = Vec::new();
    // Longer shortcuts first: a shorter one would match them as well.
    let mut keys: Vec<_> = Command::ALL.iter().flat_map(|c| c.keys().iter().map(move |key| (*c, *key))).collect();
    keys.sort_by_key(|(_, key)| std::cmp::Reverse(key.matches('+').count()));
    ctx.input_mut(|input| {
        for (command, name) in keys {
            let Some(shortcut) = shortcut(name) else { continue };
            // A field has these keys for itself, and undo as well.
            let edits_text = shortcut.modifiers.is_none() && shortcut.logical_key != Key::F5;
            let edits_text = edits_text || matches!(command, Command::Undo | Command::Redo);
            // Menus and drop-downs close by themselves, and use the arrow keys.
            let left_to_popup = popup && shortcut.modifiers.is_none();
            if (typing && edits_text) || left_to_popup {
                continue;
            }
            if input.consume_shortcut(&shortcut) {
                // The field that "/" leads to is not to begin with a "/".
                input.events.retain(|event| !matches!(event, Event::Text(text) if text.eq_ignore_ascii_case(name)));
                commands.push(command);
            }
        }
    });
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_a_command_names_exists() {
        for name in Command::ALL.iter().flat_map(|command| command.keys()) {
            assert!(shortcut(name).is_some(), "{name}");
        }
        let redo = shortcut("Ctrl+Shift+Z").unwrap();
        assert_eq!((redo.modifiers, redo.logical_key), (Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::Z));
        assert!(shortcut("Hyper+Z").is_none());
    }
}
