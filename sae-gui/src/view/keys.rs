//! From keys to commands. Which keys give which command is said by the commands themselves.

use crate::state::Command;
use egui::{Context, Event, Key, KeyboardShortcut, Modifiers};

/// The shortcut that a name such as `Alt+Left` stands for.
fn shortcut(name: &str) -> Option<KeyboardShortcut> {
    let (modifiers, key) = match name.split_once('+') {
        Some(("Ctrl", key)) => match key.strip_prefix("Shift+") {
            Some(key) => (Modifiers::COMMAND.plus(Modifiers::SHIFT), key),
            None => (Modifiers::COMMAND, key),
        },
        Some(("Alt", key)) => (Modifiers::ALT, key),
        _ => (Modifiers::NONE, name),
    };
    Some(KeyboardShortcut::new(modifiers, Key::from_name(key)?))
}

/// Takes the commands out of the keys pressed since the last frame.
pub fn pressed(ctx: &Context) -> Vec<Command> {
    let typing = ctx.text_edit_focused();
    let mut commands = Vec::new();
    // Longer shortcuts first, as a shorter one would match them as well.
    let mut keys: Vec<_> = Command::ALL.iter().flat_map(|c| c.keys().iter().map(move |key| (*c, *key))).collect();
    keys.sort_by_key(|(_, key)| std::cmp::Reverse(key.matches('+').count()));
    ctx.input_mut(|input| {
        for (command, name) in keys {
            let Some(shortcut) = shortcut(name) else { continue };
            let is_text = shortcut.modifiers.is_none() && !matches!(shortcut.logical_key, Key::F5 | Key::Escape);
            // A field has an undo of its own.
            let is_text = is_text || matches!(command, Command::Undo | Command::Redo);
            if !(typing && is_text) && input.consume_shortcut(&shortcut) {
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
    }
}
