//! Edits of labels that could not be saved when the program ended: kept in the user's state folder, and made again.

use super::app::App;
use crate::load::recovery;
use crate::state::label_edits::Edits;
use egui::Context;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

impl App {
    /// Makes the edits of a run again that an earlier session could not save.
    pub(super) fn recover(&mut self, ctx: &Context, origin: &Path, sae: &str) {
        let Some(memory) = &self.memory else { return };
        let file = recovery::path(memory, origin, sae);
        let changes = if self.recovered.as_ref() == Some(&file) { Vec::new() } else { recovery::read(&file) };
        if !changes.is_empty() {
            self.recovered = Some(file);
            let effect = self.session.recover(changes);
            effect.into_iter().for_each(|effect| self.perform(ctx, effect));
        }
    }

    /// Removes the file of edits that have been saved now.
    pub(super) fn forget_recovered(&mut self, saved: &Edits) {
        let Some(memory) = &self.memory else { return };
        let file = recovery::path(memory, &saved.origin, &saved.sae);
        if self.recovered.as_ref() == Some(&file) {
            self.recovered = None;
            // Edits that are made twice change nothing.
            let _ = std::fs::remove_file(file);
        }
    }

    /// Saves edits, and waits for that. Those that cannot be saved when the program is ended from outside are kept; in the dialog of
    /// a window that is closed, a person has chosen what becomes of them.
    pub(super) fn save_at_exit(&mut self) {
        self.session.take_unsent().into_iter().for_each(|edits| self.loader.save(edits));
        let lost = self.loader.finish();
        if lost.is_empty() || !self.stop.load(Ordering::SeqCst) {
            return;
        }
        let farewell = |(edits, reason): &(Edits, String)| recovery::farewell(self.memory.as_deref(), edits, reason);
        let told: Vec<String> = lost.iter().map(farewell).collect();
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(Err(told.join("\n")));
    }
}
