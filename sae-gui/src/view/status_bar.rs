//! The line at the bottom: the model and the size of the run, the command that runs, edits that are not saved, notices.

use super::sample_cache;
use super::theme;
use crate::state::format;
use crate::state::job::JobState;
use crate::state::session::Session;
use egui::{Align, Label, Layout, ProgressBar, RichText, Sense, Ui};

/// Draws the line. `used` is the memory of the sample cache in bytes. Returns whether to stop the command that runs.
pub fn show(ui: &mut Ui, session: &Session, used: usize) -> bool {
    let mut stop = false;
    let muted = theme::muted(ui);
    let small = |text: String| RichText::new(text).small().color(muted);
    ui.horizontal_wrapped(|ui| {
        match session.run() {
            Some(run) => {
                let info = &run.info;
                let model = if info.model.is_empty() { "model unknown" } else { &info.model };
                ui.label(small(model.into())).on_hover_text("The model that the activations come from");
                let (samples, positions) = (format::count(info.samples), format::count(info.positions));
                ui.label(small(format!("{samples} samples, {positions} positions")));
            }
            None => drop(ui.label(small("Drop a run folder on this window to open it.".into()))),
        }
        if session.is_opening() && session.run().is_some() {
            ui.spinner();
            ui.label(small("Opening ...".into()));
        }
        stop = job(ui, session);
        if let (count @ 1.., Some(reason)) = session.unsaved() {
            let what = if count == 1 { "1 edit is".into() } else { format!("{count} edits are") };
            let text = format!("{what} not saved: {reason}");
            ui.label(RichText::new(text).small().strong().color(ui.visuals().error_fg_color));
        } else if let Some(reason) = session.run().and_then(|run| run.info.read_only.as_ref()) {
            let text = format!("Read-only folder: labels cannot be saved ({reason})");
            ui.label(RichText::new(text).small().color(ui.visuals().warn_fg_color));
        }
        if let Some(notice) = &session.notice {
            ui.label(RichText::new(notice).small().strong());
        }
        if session.run().is_some() {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let limit = (sample_cache::LIMIT + sample_cache::ACTIVE_LIMIT) >> 20;
                let text = format!("cache {:.0} of {limit} MB", used as f64 / f64::from(1 << 20));
                let hint = "Samples, pictures and activations in memory. The least recently used are removed first";
                ui.add(Label::new(small(text)).sense(Sense::hover())).on_hover_text(hint);
            });
        }
    });
    stop
}

/// The command that runs, or the reason why the last one failed. Returns whether to stop it.
fn job(ui: &mut Ui, session: &Session) -> bool {
    let Some(job) = &session.job else { return false };
    match &job.state {
        JobState::Running => {
            let title = RichText::new(&job.invocation.title).small();
            ui.label(title).on_hover_text(job.invocation.command_line());
            match job.progress() {
                Some(share) => drop(ui.add(ProgressBar::new(share).desired_width(110.0).show_percentage())),
                None => drop(ui.spinner()),
            }
            if let Some(line) = job.lines.last() {
                ui.label(theme::small(ui, line));
            }
            ui.small_button("Stop").clicked()
        }
        JobState::Failed(reason) => {
            let first = reason.lines().next().unwrap_or_default();
            let text = RichText::new(first).small().color(ui.visuals().error_fg_color);
            ui.label(text).on_hover_text(reason);
            false
        }
        JobState::Done(_) | JobState::Stopped => false,
    }
}
