//! The field for a run, and the folders below it: a click on a run opens it, and a click on another folder goes into it.

use super::theme;
use crate::load::{Loader, chooser};
use crate::state::open_dialog::{FolderEntry, OpenDialog};
use egui::text::{CCursor, CCursorRange};
use egui::text_edit::TextEditState;
use egui::{Button, Context, Id, Label, Margin, Response, RichText, Role, ScrollArea, TextEdit, Ui, WidgetInfo};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

/// Height of the list.
const HEIGHT: f32 = 220.0;

/// The id of the field for a run.
pub fn field_id() -> Id {
    Id::unique("run to open")
}

/// Draws the field for a run.
pub fn field(ui: &mut Ui, dialog: &mut OpenDialog, width: f32) -> Response {
    let hint = "path of a run folder, or a link: sae://RUN/f/1234";
    let field = TextEdit::singleline(&mut dialog.text).id(field_id()).hint_text(hint);
    let response = ui.add(field.desired_width(width).margin(Margin::symmetric(8, 6)));
    response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Run to open"));
    response
}

/// Asks for the folders that the field leads to, if they are others than before: at first those beside the open run, else
/// those in the working folder. Opens the system's dialog, if that is asked for.
pub fn request(
    ctx: &Context,
    loader: &Loader,
    chosen: &mut Option<Receiver<Option<PathBuf>>>,
    dialog: &mut OpenDialog,
    run: Option<&Path>,
) {
    let start = run.and_then(Path::parent).unwrap_or(Path::new("."));
    if std::mem::take(&mut dialog.browses) && chosen.is_none() {
        let waker = ctx.clone();
        *chosen = Some(chooser::folder(dialog.folder.clone(), move || waker.request_repaint()));
    }
    dialog.follow(start).into_iter().for_each(|folder| loader.request_folders(folder));
}

/// Draws the folders. Returns the run that was clicked.
pub fn show(ui: &mut Ui, dialog: &mut OpenDialog) -> Option<String> {
    let folder = dialog.folder.clone()?;
    let browse = ui.small_button("Browse ...").on_hover_text("Choose the folder in the dialog of the system");
    dialog.browses |= browse.clicked();
    ui.add(Label::new(theme::small(ui, &format!("Folders in {}", folder.display()))).truncate());
    let (mut run, mut entered) = (None, None);
    ScrollArea::vertical().id_salt("folders").max_height(HEIGHT).show(ui, |ui| {
        if let Some(parent) = folder.parent()
            && entry(ui, "..", false)
        {
            entered = Some(parent.to_path_buf());
        }
        match dialog.shown() {
            None => drop(ui.label(theme::small(ui, "Reading ..."))),
            Some(Err(reason)) => drop(ui.add(Label::new(theme::small(ui, reason)).wrap())),
            Some(Ok(entries)) if entries.is_empty() => drop(ui.label(theme::small(ui, "No folder."))),
            Some(Ok(entries)) => {
                for FolderEntry { name, is_run } in entries {
                    if entry(ui, name, *is_run) {
                        let path = folder.join(name);
                        if *is_run { run = Some(path.display().to_string()) } else { entered = Some(path) }
                    }
                }
            }
        }
    });
    if let Some(folder) = entered {
        dialog.enter(&folder);
        // What is typed next belongs behind the folder.
        let mut state = TextEditState::load(ui.ctx(), field_id()).unwrap_or_default();
        let end = CCursor::new(dialog.text.chars().count());
        state.cursor.set_char_range(Some(CCursorRange::one(end)));
        state.store(ui.ctx(), field_id());
    }
    run
}

fn entry(ui: &mut Ui, name: &str, is_run: bool) -> bool {
    let text = if is_run { RichText::new(name).strong() } else { RichText::new(format!("{name}/")) };
    let mut button = Button::new(text).frame(false).truncate();
    if is_run {
        button = button.shortcut_text("run");
    }
    let response = ui.add(button);
    let label = if is_run { format!("Open run {name}") } else { format!("Folder {name}") };
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, label.as_str()));
    response.clicked()
}
