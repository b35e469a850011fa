//! What the window does about a click on a page.

use super::action::Action;
use super::app::App;
use crate::load;
use crate::state::effect::Effect;
use crate::state::export_settings::decisions_csv;
use crate::state::history::VisitKind;
use crate::state::invocation::Invocation;
use crate::state::location::{Location, Page};
use crate::state::open_run::OpenRun;
use crate::state::overlay::{Overlay, SavePictureDialog};
use egui::Context;

impl App {
    /// Does what was clicked.
    pub(super) fn act(&mut self, ctx: &Context, action: Action) {
        let effects = match action {
            Action::Command(command) => self.session.apply(command),
            Action::Go(location) => {
                self.reveal |= matches!(location, Location::Feature(_));
                self.session.go(location, VisitKind::Chosen).into_iter().collect()
            }
            Action::GoToVisit(visit) => self.session.go_to_visit(visit),
            Action::GoToSample(sample, list) => self.session.go_to_sample(sample, list).into_iter().collect(),
            Action::LeaveSampleList => {
                self.with_run(|run| run.sample_list = None);
                Vec::new()
            }
            Action::Sae(name) => self.session.switch_sae(&name),
            Action::OpenText(text) => self.session.open_text(&text),
            Action::ViewPicture(of) => {
                self.session.overlay = Overlay::Picture(of);
                Vec::new()
            }
            Action::CopyPicture(of) => {
                self.export_picture(of, None);
                Vec::new()
            }
            Action::SavePicture(of) => {
                if let Some(run) = self.session.run() {
                    self.session.overlay = Overlay::SavePicture(SavePictureDialog::new(of, &run.info.root));
                }
                Vec::new()
            }
            Action::Say(notice) => {
                self.session.notice = Some(notice.into());
                Vec::new()
            }
            Action::Confirm(invocation) => {
                self.session.overlay = Overlay::Confirm(invocation);
                Vec::new()
            }
            Action::Export(invocation) => self.export(invocation),
            Action::Edited => self.session.edited().into_iter().collect(),
            Action::Submit(prompt) => {
                self.submit(ctx, prompt);
                Vec::new()
            }
            Action::Test(prompt) => {
                self.test(ctx, prompt);
                Vec::new()
            }
            Action::Write(request) => {
                self.write(ctx, request);
                Vec::new()
            }
            Action::StopWriting => {
                self.stop_writing();
                Vec::new()
            }
            Action::Copy(text, notice) => {
                self.session.notice = Some(notice.into());
                vec![Effect::Copy(text)]
            }
            Action::Star(features, star) => {
                self.with_run(|run| features.iter().for_each(|feature| run.label_edits.set_star(*feature, star)));
                self.session.edited().into_iter().collect()
            }
            Action::AddToList(name, features) => {
                self.with_run(|run| run.label_edits.add_to_list(&name, &features));
                self.session.edited().into_iter().collect()
            }
            Action::RemoveList(name) => {
                self.with_run(|run| run.label_edits.remove_list(&name));
                self.session.edited().into_iter().collect()
            }
            Action::Restrict(features) => {
                self.with_run(|run| {
                    run.list.clear_selection();
                    run.list.restrict(Some(features.into_iter().collect()));
                });
                Vec::new()
            }
            Action::AskLabels(features) => self.session.ask_labels(features),
            Action::Compare(feature, with) => {
                self.with_run(|run| run.compare_with = Some(with));
                self.session.go(Location::Compare(feature), VisitKind::Chosen).into_iter().collect()
            }
            Action::Steer { features, prompt } => self.steer(&features, prompt),
            Action::Choose(samples, keep) => {
                self.with_run(|run| {
                    if let Some(Ok(filter)) = &mut run.filter {
                        filter.choose(samples, keep);
                    }
                });
                Vec::new()
            }
            Action::Groups(fields) => {
                self.set_groups(fields);
                Vec::new()
            }
            Action::SetData(folder) => {
                self.set_data(folder);
                Vec::new()
            }
        };
        effects.into_iter().for_each(|effect| self.perform(ctx, effect));
    }

    fn with_run(&mut self, change: impl FnOnce(&mut OpenRun)) {
        if let Some(run) = self.session.run_mut() {
            change(run);
        }
    }

    fn steer(&mut self, features: &[u32], prompt: Option<String>) -> Vec<Effect> {
        self.with_run(|run| {
            if let Some(text) = prompt.filter(|text| !text.is_empty()) {
                run.playground.draft.text = text;
            }
            let rows: Vec<_> = features.iter().filter_map(|feature| run.list.row(*feature)).cloned().collect();
            rows.iter().for_each(|row| run.playground.steer(row.feature, row.max));
        });
        self.session.go(Location::Page(Page::Playground), VisitKind::Chosen).into_iter().collect()
    }

    /// Writes the decisions, if some were made by hand, and starts the command that reads them.
    fn export(&mut self, invocation: Invocation) -> Vec<Effect> {
        let Some((run, filter)) = self.session.run().and_then(|run| Some((run, run.scores()?))) else {
            return Vec::new();
        };
        if run.info.served.is_some() {
            // No decisions are written here.
            return vec![Effect::Start(invocation)];
        }
        let root = &run.info.root;
        // The command refuses a folder that exists. The decisions beside it are then those of what is in it.
        let needed = !filter.choices().is_empty() && !run.export.folder(root).exists();
        let write = || load::write_text(&run.export.decisions_file(root), &decisions_csv(filter));
        match if needed { write() } else { Ok(()) } {
            Ok(()) => vec![Effect::Start(invocation)],
            Err(reason) => {
                self.session.notice = Some(format!("The decisions cannot be written: {reason}"));
                Vec::new()
            }
        }
    }
}
