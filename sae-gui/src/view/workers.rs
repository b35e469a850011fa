//! Between the window and its workers: asks them for what the page that is shown needs, and takes what they have read or computed.

use super::app::App;
use super::requested::Requested;
use super::sample_cache::color_image;
use super::side::Side;
use super::theme;
use crate::load::{
    ActivationReply, ActivationRequest, ActivationWorker, BudgetWorker, PlaygroundWorker, ProcessEvent, Reply,
    Subprocess, label_cost, recents,
};
use crate::state::Link;
use crate::state::budget::BudgetQuestion;
use crate::state::invocation::Invocation;
use crate::state::job::JobState;
use crate::state::location::{Location, Page};
use crate::state::map::MapKind;
use crate::state::open_run::OpenRun;
use crate::state::overlay::{Overlay, PictureView};
use crate::state::playground::PlaygroundState;
use crate::state::sample::Picture;
use crate::state::score_filter::Grouping;
use crate::state::session::Phase;
use egui::{Context, ViewportCommand};
use filters::select::Groups;
use std::path::PathBuf;
use std::sync::mpsc::channel;

/// The samples of the other side whose active features are compared with those of the open run, by their numbers there.
fn compared_samples(run: &OpenRun, side: &Side) -> Vec<u32> {
    side.strongest(run).into_iter().map(|[_, theirs]| theirs).collect()
}

impl App {
    /// Whether everything that is to be shown has been read, and everything that was edited is saved.
    pub fn is_settled(&self) -> bool {
        if self.session.is_opening() || self.fonts.is_some() || self.label_cost.is_some() || self.exports {
            return false;
        }
        let Phase::Open(run) = &self.session.phase else { return !matches!(self.session.phase, Phase::Opening) };
        let needed = self.needed(run);
        let (cache, sample) = (&self.pages.cache, &self.pages.sample);
        let has_index = run.list.total() > 0;
        let detailed = !has_index || needed.features.iter().all(|feature| run.details_of(*feature).is_some());
        let scores = !needed.scores || run.filter.is_some();
        let report = !needed.report || run.report.is_some();
        let shown = cache.missing(&needed.samples).is_empty() && cache.missing_active(&needed.active).is_empty();
        let saved = matches!(self.session.unsaved(), (0, _) | (_, Some(_)));
        let running = self.session.job.as_ref().is_some_and(|job| job.is_running());
        let explained = needed.explanations.is_none_or(|number| sample.has_explanations(number));
        let searched =
            needed.search.is_none() && needed.captions.is_empty() && !needed.layout && needed.picture.is_none();
        let searched = searched && needed.contrast.is_none() && needed.probe.is_none() && needed.budget.is_none();
        let searched = searched && !needed.guards;
        let answered = !run.playground.busy && !run.test.busy && !run.writing.busy && !run.writing.submits_at_once;
        let compared = self.is_compared(run, needed.direction);
        searched && detailed && scores && report && shown && explained && saved && !running && answered && compared
    }

    /// Whether both sides of a comparison are known.
    fn is_compared(&self, run: &OpenRun, direction: Option<u32>) -> bool {
        if run.page() != Page::Compare || run.compare_with.is_none() {
            return true;
        }
        let known = self.pages.compare.direction.as_ref().map(|(feature, _)| *feature);
        let side = self.side.as_ref().is_some_and(|side| side.is_settled(&compared_samples(run, side)));
        side && (direction.is_none() || known == direction)
    }

    /// Opens the run of the second feature of a comparison, and shows the feature that is asked for.
    pub(super) fn compare(&mut self, ctx: &Context) {
        let Some(run) = self.session.run().filter(|run| run.page() == Page::Compare) else { return };
        let Some(with) = &run.compare_with else { return };
        let own_sae = run.info.sae.clone().filter(|_| with.run.is_none());
        let link = Link {
            sae: with.sae.clone().or(own_sae),
            location: Some(Location::Feature(with.feature)),
            ..Link::to_run(with.run.as_ref().unwrap_or(&run.info.root))
        };
        if !self.side.as_ref().is_some_and(|side| side.is_of(&link)) {
            let data = self.data.clone().filter(|_| with.run.is_none());
            match Side::open(ctx, link, data) {
                Ok(side) => self.side = Some(side),
                Err(error) => {
                    self.session.notice = Some(format!("The system gives no thread ({error})."));
                    return;
                }
            }
        }
        if let Some(side) = &mut self.side {
            side.receive(ctx);
            side.show(with.feature, run);
            let also = compared_samples(run, side);
            side.request(&also);
        }
    }

    /// What the page that is shown needs.
    fn needed(&self, run: &OpenRun) -> Requested {
        let picture = match self.session.overlay {
            Overlay::Picture(of) => Some(of).filter(|of| !self.pages.viewer.has(*of)),
            _ => None,
        };
        Requested { picture, ..self.needed_by_page(run) }
    }

    fn needed_by_page(&self, run: &OpenRun) -> Requested {
        let encodes = self.activation_worker.is_some();
        match run.page() {
            Page::Features => {
                let samples = run.example_samples();
                let features = run.feature_number().into_iter().collect();
                let active = if encodes { samples.clone() } else { Vec::new() };
                let captions = run.list.pending_captions();
                let layout = encodes && run.map_kind == MapKind::Directions && run.layout.is_none();
                Requested { features, active, samples, captions, layout, ..Requested::default() }
            }
            Page::Sample => {
                let sample = run.sample();
                Requested {
                    samples: vec![sample],
                    active: if encodes { vec![sample] } else { Vec::new() },
                    explanations: encodes.then_some(sample),
                    scores: true,
                    ..Requested::default()
                }
            }
            Page::Samples => Requested {
                samples: self.pages.samples.visible.clone(),
                search: run.samples.pending_search().map(str::to_owned),
                scores: true,
                ..Requested::default()
            },
            Page::Filter => Requested {
                samples: self.pages.filter.samples(run),
                scores: true,
                budget: run.pending_budget(),
                ..Requested::default()
            },
            Page::Run => Requested { report: true, ..Requested::default() },
            Page::Contrast => {
                let feature = self.pages.contrast.feature(run);
                let of_feature = feature.map(|feature| run.strongest_samples_of(feature));
                let samples = of_feature.unwrap_or_else(|| self.pages.contrast.samples().to_vec());
                Requested {
                    features: feature.into_iter().collect(),
                    contrast: run.contrasts.pending().map(str::to_owned),
                    active: if encodes { samples.clone() } else { Vec::new() },
                    samples,
                    ..Requested::default()
                }
            }
            Page::Probe => {
                let feature = self.pages.probe.feature(run);
                let strongest = feature.map(|feature| run.strongest_samples_of(feature)).unwrap_or_default();
                Requested {
                    probe: run.probes.pending().map(str::to_owned),
                    features: feature.into_iter().collect(),
                    active: if encodes { strongest.clone() } else { Vec::new() },
                    samples: strongest,
                    ..Requested::default()
                }
            }
            Page::Playground => {
                let causes = run.writing.explained().map(|(.., version)| &version.causes[..]).unwrap_or_default();
                Requested {
                    features: causes.iter().map(|(feature, _)| *feature).collect(),
                    guards: run.writing.guards.is_none(),
                    ..Requested::default()
                }
            }
            Page::Compare => {
                let strongest = self.side.as_ref().map(|side| side.strongest(run)).unwrap_or_default();
                let also: Vec<u32> = strongest.into_iter().map(|[own, _]| own).collect();
                Requested::for_comparison(run, encodes, &also)
            }
        }
    }

    /// Asks the workers for what the page needs, unless they have been asked already.
    pub(super) fn request(&mut self) {
        let Some(run) = self.session.run() else { return };
        let mut needed = self.needed(run);
        // The feature under the pointer, for a look at it without leaving the page.
        needed.features.extend(run.hover.feature().filter(|feature| run.feature_number() != Some(*feature)));
        if needed == self.requested {
            return;
        }
        let missing = |feature: &u32| run.details_of(*feature).is_none();
        self.loader.request_features(needed.features.iter().copied().filter(missing).collect());
        self.loader.request_samples(self.pages.cache.missing(&needed.samples));
        if let Some(worker) = &self.activation_worker {
            let explanations = needed.explanations.filter(|number| !self.pages.sample.has_explanations(*number));
            worker.request(ActivationRequest {
                active: self.pages.cache.missing_active(&needed.active),
                explanations,
                direction: needed.direction,
                layout: needed.layout,
            });
        }
        if needed.picture != self.requested.picture {
            needed.picture.into_iter().for_each(|of| self.loader.request_picture(of.sample, of.picture));
        }
        if needed.search != self.requested.search {
            needed.search.clone().into_iter().for_each(|text| self.loader.request_search(text));
        }
        if needed.captions != self.requested.captions {
            self.loader.request_captions(needed.captions.clone());
        }
        if needed.scores && run.filter.is_none() {
            self.loader.request_scores();
        }
        if needed.contrast != self.requested.contrast {
            needed.contrast.clone().into_iter().for_each(|name| self.loader.request_contrast(name));
        }
        if needed.probe != self.requested.probe {
            needed.probe.clone().into_iter().for_each(|name| self.loader.request_probe(name));
        }
        if needed.guards && !self.requested.guards {
            self.loader.request_guards();
        }
        if needed.report && run.report.is_none() {
            self.loader.request_report();
        }
        let question = needed.budget.clone().filter(|_| needed.budget != self.requested.budget);
        self.requested = needed;
        question.into_iter().for_each(|question| self.ask_budget(question));
    }

    /// Asks for the selection within a budget; the first question starts the worker.
    fn ask_budget(&mut self, question: BudgetQuestion) {
        if self.budget_worker.is_none() {
            let Some(run) = self.session.run() else { return };
            let (root, sae, waker) = (run.info.root.clone(), run.info.sae_name().to_owned(), self.ctx.clone());
            match BudgetWorker::start(root, sae, move || waker.request_repaint()) {
                Ok(worker) => self.budget_worker = Some(worker),
                Err(error) => self.session.notice = Some(format!("No budgets: the system gives no thread ({error}).")),
            }
        }
        self.budget_worker.iter().for_each(|worker| worker.ask(question.clone()));
    }

    /// Takes what the workers have read or computed.
    pub(super) fn receive(&mut self, ctx: &Context) {
        for reply in self.loader.replies() {
            self.take_reply(ctx, reply);
        }
        let replies: Vec<_> = self.activation_worker.iter().flat_map(ActivationWorker::replies).collect();
        for reply in replies {
            match reply {
                ActivationReply::Active(number, active) => self.pages.cache.insert_active(number, active),
                ActivationReply::Explanations(number, found) => self.pages.sample.set_explanations(number, found),
                ActivationReply::Layout(layout) => {
                    self.session.run_mut().into_iter().for_each(|run| run.layout = Some(layout.clone()));
                }
                ActivationReply::Direction(feature, found) => self.pages.compare.direction = Some((feature, found)),
            }
        }
        let answers: Vec<_> = self.budget_worker.iter().flat_map(BudgetWorker::replies).collect();
        if let Some(run) = self.session.run_mut() {
            answers.into_iter().for_each(|answer| run.set_budget(answer));
        }
        let replies: Vec<_> = self.playground_worker.iter().flat_map(PlaygroundWorker::replies).collect();
        replies.into_iter().for_each(|reply| self.take_answer(ctx, reply));
        let events: Vec<_> = self.subprocess.iter().flat_map(Subprocess::events).collect();
        for event in events {
            match event {
                ProcessEvent::Line(line) => {
                    if let Some(job) = &mut self.session.job {
                        job.push_line(line);
                    }
                }
                ProcessEvent::End(state) => self.ended(ctx, state),
            }
        }
        if let Some(cost) = self.label_cost.as_ref().and_then(|cost| cost.try_recv().ok()) {
            self.session.labels_estimated(cost);
            self.label_cost = None;
        }
        if let Some(fonts) = self.fonts.as_ref().and_then(|fonts| fonts.try_recv().ok()) {
            if !fonts.is_empty() {
                theme::install_fonts(ctx, fonts);
            }
            self.fonts = None;
        }
        if let Some(chosen) = self.chooser.as_ref().and_then(|chooser| chooser.try_recv().ok()) {
            self.chooser = None;
            match chosen {
                Some(folder) => self.open_text(ctx, &folder.display().to_string()),
                None => self.session.notice = Some("No folder was chosen.".into()),
            }
        }
        if let Some(image) = self.window_picture.as_ref().and_then(|picture| picture.try_recv().ok()) {
            ctx.copy_image((*image).clone());
            self.session.notice = Some("Picture copied.".into());
            self.window_picture = None;
        }
    }

    fn take_reply(&mut self, ctx: &Context, reply: Reply) {
        let effects = match reply {
            Reply::Opened(result) => self.session.opened(result.map(|opened| *opened)),
            Reply::Saved(edits, result) => {
                if result.is_ok() {
                    self.forget_recovered(&edits);
                }
                self.session.saved(&edits, result)
            }
            Reply::Feature(number, details) => {
                self.session.detailed(number, details);
                Vec::new()
            }
            Reply::Sample(number, sample) => {
                self.pages.cache.insert(ctx, number, sample);
                Vec::new()
            }
            Reply::Picture(sample, picture, view) => {
                self.pages.viewer.set_picture(ctx, PictureView { sample, picture }, view);
                Vec::new()
            }
            Reply::Exported(file, picture) => {
                self.take_exported(ctx, file, picture);
                Vec::new()
            }
            Reply::FoundSamples(text, found) => {
                self.session.run_mut().into_iter().for_each(|run| run.samples.set_found(text.clone(), found.clone()));
                Vec::new()
            }
            Reply::Captions(text, shares) => {
                self.session.run_mut().into_iter().for_each(|run| run.list.set_captions(text.clone(), shares.clone()));
                Vec::new()
            }
            Reply::Scores(scores) => {
                self.session.scored(scores);
                Vec::new()
            }
            Reply::Groups(fields, groups) => {
                self.take_groups(fields, groups);
                Vec::new()
            }
            Reply::Report(report) => {
                if let Some(run) = self.session.run_mut() {
                    run.report = Some(report);
                }
                Vec::new()
            }
            Reply::Contrasts(names) => {
                if let Some(run) = self.session.run_mut() {
                    run.contrasts.renew(names);
                    self.requested.contrast = None;
                }
                Vec::new()
            }
            Reply::Contrast(name, contrast) => {
                if let Some(run) = self.session.run_mut() {
                    run.contrasts.set(name, contrast);
                }
                Vec::new()
            }
            Reply::Probes(names) => {
                if let Some(run) = self.session.run_mut() {
                    run.probes.renew(names);
                    run.writing.guards = None;
                    (self.requested.probe, self.requested.guards) = (None, false);
                }
                Vec::new()
            }
            Reply::Probe(name, probe) => {
                if let Some(run) = self.session.run_mut() {
                    run.probes.set(name, *probe);
                }
                Vec::new()
            }
            Reply::Guards(guards) => {
                self.take_guards(ctx, guards);
                Vec::new()
            }
            Reply::Labels(labels) => {
                self.session.labels_changed(labels);
                Vec::new()
            }
            Reply::Folders(folder, found) => {
                if let Overlay::Open(dialog) = &mut self.session.overlay {
                    dialog.set_listing(&folder, found.clone());
                }
                self.start.set_listing(&folder, found);
                Vec::new()
            }
            Reply::Changed(notice) => {
                self.session.notice = Some(notice);
                Vec::new()
            }
        };
        effects.into_iter().for_each(|effect| self.perform(ctx, effect));
    }

    /// A run has been opened: forgets what was shown of the one before, and starts its workers.
    pub(super) fn start_workers(&mut self, ctx: &Context) {
        self.pages.clear();
        self.playground_worker = None;
        self.budget_worker = None;
        self.activation_worker = None;
        self.side = None;
        self.requested = Requested::default();
        self.exports = false;
        ctx.send_viewport_cmd(ViewportCommand::Title(self.title()));
        let Some(run) = self.session.run_mut() else { return };
        let (root, rows) = (run.info.root.clone(), run.list.rows().to_vec());
        let (origin, name) = (run.info.origin(), run.info.sae_name().to_owned());
        // A run behind a server has another token the next time.
        if let (Some(path), None) = (&self.recents.0, &run.info.served) {
            self.recents.1 = recents::add(path, &root.display().to_string());
        }
        let sae = run.info.sae.clone().filter(|_| run.info.no_weights().is_none());
        let submitted = |prompt: &mut PlaygroundState, shown: bool| {
            let submits = std::mem::take(&mut prompt.submits_at_once) && shown;
            if submits { prompt.submit() } else { None }
        };
        let page = run.page();
        let prompt = submitted(&mut run.playground, page == Page::Playground);
        let test = submitted(&mut run.test, page == Page::Features);
        if let Some(sae) = sae {
            let waker = ctx.clone();
            match ActivationWorker::start(root, sae, rows, move || waker.request_repaint()) {
                Ok(worker) => self.activation_worker = Some(worker),
                Err(error) => {
                    self.session.notice = Some(format!("No heat maps: the system gives no thread ({error})."))
                }
            }
        }
        self.recover(ctx, &origin, &name);
        prompt.into_iter().for_each(|prompt| self.submit(ctx, prompt));
        if let Some(test) = test {
            self.pages.feature.test.focus();
            self.test(ctx, test);
        }
    }

    /// Begins to estimate what it costs to ask a model for labels.
    pub(super) fn estimate_labels(&mut self, ctx: &Context, features: Vec<u32>) {
        let Some(run) = self.session.run() else { return };
        let (root, sae) = (run.info.root.clone(), run.info.sae_name().to_owned());
        let waker = ctx.clone();
        self.label_cost = Some(label_cost::estimate(root, sae, features, move || waker.request_repaint()));
    }

    /// Starts a command of the program `sae`.
    pub(super) fn start(&mut self, ctx: &Context, invocation: Invocation) {
        let elsewhere = self.session.run().and_then(|run| run.info.elsewhere(&invocation.command_line()));
        if elsewhere.is_some() {
            self.session.notice = elsewhere;
            return;
        }
        let waker = ctx.clone();
        self.session.started(invocation.clone());
        match Subprocess::start(&invocation, move || waker.request_repaint()) {
            Ok(subprocess) => self.subprocess = Some(subprocess),
            Err(reason) => self.ended(ctx, JobState::Failed(reason)),
        }
    }

    /// A command of `sae` has ended.
    fn ended(&mut self, ctx: &Context, state: JobState) {
        self.subprocess = None;
        let effects = self.session.ended(state);
        effects.into_iter().for_each(|effect| self.perform(ctx, effect));
    }

    /// Divides the samples into groups by columns of the data set; empty for no groups.
    pub(super) fn set_groups(&mut self, fields: String) {
        self.pages.filter.export.group_problem = None;
        if !fields.is_empty() {
            return self.loader.request_groups(fields);
        }
        if let Some(Ok(filter)) = self.session.run_mut().and_then(|run| run.filter.as_mut()) {
            filter.set_grouping(None);
        }
    }

    fn take_groups(&mut self, fields: String, groups: Result<Groups, String>) {
        let Some(run) = self.session.run_mut() else { return };
        let equal = run.export.equal_groups;
        let Some(Ok(filter)) = run.filter.as_mut() else { return };
        match groups {
            Ok(groups) => filter.set_grouping(Some(Grouping { fields, equal, groups })),
            Err(problem) => self.pages.filter.export.group_problem = Some(problem),
        }
    }

    /// Looks for the pictures of the data set in a folder.
    pub(super) fn set_data(&mut self, folder: PathBuf) {
        if folder.exists() {
            self.session.notice = Some(format!("Pictures are now looked for in {}.", folder.display()));
            self.loader.set_data(folder.clone());
            (self.data, self.side) = (Some(folder), None);
            self.pages.cache.clear_samples();
            self.requested = Requested::default();
        } else {
            self.session.notice = Some(format!("There is no such folder: {}", folder.display()));
        }
    }

    /// Copies a picture of a sample, or saves it as a new file, once the loader has read it.
    pub(super) fn export_picture(&mut self, of: PictureView, file: Option<PathBuf>) {
        self.exports = true;
        self.loader.export_picture(of.sample, of.picture, file);
    }

    /// Takes a picture to copy, or the result of saving one.
    fn take_exported(&mut self, ctx: &Context, file: Option<PathBuf>, picture: Result<Picture, String>) {
        self.exports = false;
        let told = match (picture, file, &mut self.session.overlay) {
            (Ok(picture), None, _) => {
                ctx.copy_image(color_image(&picture));
                "Picture copied.".into()
            }
            (Ok(_), Some(file), overlay) => {
                if matches!(overlay, Overlay::SavePicture(_)) {
                    *overlay = Overlay::None;
                }
                format!("Picture saved: {}", file.display())
            }
            (Err(reason), Some(_), Overlay::SavePicture(dialog)) => {
                dialog.problem = Some(reason);
                return;
            }
            (Err(reason), ..) => reason,
        };
        self.session.notice = Some(told);
    }

    /// Puts a picture of the window into the clipboard, once it has been drawn.
    pub(super) fn copy_picture(&mut self, ctx: &Context) {
        let (sender, receiver) = channel();
        // The receiver is gone once the window is closed.
        ctx.request_screenshot(move |image| drop(sender.send(image)));
        self.window_picture = Some(receiver);
    }
}
