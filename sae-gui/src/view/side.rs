//! The second feature of a comparison, with workers of its own: it can belong to another autoencoder or to another run than the
//! one that is open.

use super::requested::Requested;
use super::sample_cache::SampleCache;
use crate::load::{ActivationReply, ActivationRequest, ActivationWorker, DecoderDirection, Loader, Reply};
use crate::state::Link;
use crate::state::effect::Effect;
use crate::state::explanation::ScoreExplanation;
use crate::state::format;
use crate::state::history::VisitKind;
use crate::state::location::Location;
use crate::state::open_run::OpenRun;
use crate::state::session::{Phase, Session};
use crate::state::shared_samples::SharedSamples;
use egui::Context;
use std::path::PathBuf;

/// A run beside the one that is open.
pub struct Side {
    session: Session,
    loader: Loader,
    worker: Option<ActivationWorker>,
    requested: Requested,
    /// Why the feature that was asked for cannot be shown.
    missing: Option<String>,
    /// The run and the autoencoder that were asked for.
    of: (PathBuf, Option<String>),
    /// Its samples.
    pub cache: SampleCache,
    /// The direction of the feature, once it is known.
    pub direction: Option<(u32, Result<DecoderDirection, String>)>,
    /// The explanations of the scores of a sample, once they are known.
    pub explanations: Option<(u32, Result<Vec<ScoreExplanation>, String>)>,
    /// The samples that it shares with the open run, once both are known.
    pub shared: Option<SharedSamples>,
}

impl Side {
    /// Begins to open the run of a link. `data` overrides where the run says that its data set is.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn open(ctx: &Context, link: Link, data: Option<PathBuf>) -> std::io::Result<Self> {
        let waker = ctx.clone();
        let mut loader = Loader::start(data, move || waker.request_repaint())?;
        let mut session = Session::default();
        let of = (link.run.clone(), link.sae.clone());
        for effect in session.open(link) {
            if let Effect::Open(link) = effect {
                loader.open(link);
            }
        }
        Ok(Self {
            session,
            loader,
            worker: None,
            requested: Requested::default(),
            missing: None,
            of,
            cache: SampleCache::default(),
            direction: None,
            explanations: None,
            shared: None,
        })
    }

    /// Whether a link is about this run and autoencoder.
    pub fn is_of(&self, link: &Link) -> bool {
        (&self.of.0, &self.of.1) == (&link.run, &link.sae)
    }

    /// The run, once it is open.
    pub fn run(&self) -> Option<&OpenRun> {
        self.session.run()
    }

    /// The run with its samples, once it is open.
    pub fn parts(&mut self) -> Option<(&mut OpenRun, &mut SampleCache)> {
        let Phase::Open(run) = &mut self.session.phase else { return None };
        Some((run, &mut self.cache))
    }

    /// Why there is nothing to show, or what a person should know about what is shown.
    pub fn problem(&self) -> Option<&str> {
        match &self.session.phase {
            Phase::Failed(reason) => Some(reason),
            _ => self.missing.as_deref().or(self.session.notice.as_deref()),
        }
    }

    /// Shows a feature, and the sample that the open run shows, if it is shared.
    pub fn show(&mut self, feature: u32, open: &OpenRun) {
        let Some(run) = self.session.run_mut() else { return };
        if self.shared.is_none() {
            self.shared = SharedSamples::new(open, run);
        }
        let sample = self.shared.as_ref().and_then(|shared| shared.in_second(open.sample()));
        sample.into_iter().for_each(|sample| run.show_sample(sample));
        let missing = (!run.has(Location::Feature(feature)))
            .then(|| format!("There is no feature {feature}, only {}.", format::count(run.list.total() as u64)));
        let shown = run.feature_number() == Some(feature);
        if self.missing != missing {
            self.session.notice = None;
        }
        if missing.is_none() && !shown {
            // Nothing is edited here, so nothing is to be saved.
            let _ = self.session.go(Location::Feature(feature), VisitKind::Stepped);
        }
        self.missing = missing;
    }

    /// The strongest shared samples of both features, by their numbers in the open run and here.
    pub fn strongest(&self, open: &OpenRun) -> Vec<[u32; 2]> {
        let (Some(run), Some(shared)) = (self.run(), &self.shared) else { return Vec::new() };
        shared.strongest(open, run)
    }

    /// Takes what the workers have read or computed.
    pub fn receive(&mut self, ctx: &Context) {
        for reply in self.loader.replies() {
            match reply {
                Reply::Opened(result) => {
                    let effects = self.session.opened(result.map(|opened| *opened));
                    if effects.iter().any(|effect| matches!(effect, Effect::Opened)) {
                        self.start_worker(ctx);
                    }
                }
                Reply::Feature(number, details) => self.session.detailed(number, details),
                Reply::Sample(number, sample) => self.cache.insert(ctx, number, sample),
                Reply::Scores(scores) => self.session.scored(scores),
                Reply::Labels(labels) => self.session.labels_changed(labels),
                // Nothing else is asked for, and no index is read again while it is compared.
                _ => {}
            }
        }
        let replies: Vec<_> = self.worker.iter().flat_map(ActivationWorker::replies).collect();
        for reply in replies {
            match reply {
                ActivationReply::Active(number, active) => self.cache.insert_active(number, active),
                ActivationReply::Explanations(number, found) => self.explanations = Some((number, found)),
                ActivationReply::Direction(feature, direction) => self.direction = Some((feature, direction)),
                // No map is drawn here.
                ActivationReply::Layout(_) => {}
            }
        }
    }

    fn start_worker(&mut self, ctx: &Context) {
        let Some(run) = self.session.run() else { return };
        if run.info.no_weights().is_some() {
            return;
        }
        let (root, sae, rows) = (run.info.root.clone(), run.info.sae_name().to_owned(), run.list.rows().to_vec());
        let waker = ctx.clone();
        match ActivationWorker::start(root, sae, rows, move || waker.request_repaint()) {
            Ok(worker) => self.worker = Some(worker),
            Err(error) => self.session.notice = Some(format!("No heat maps: the system gives no thread ({error}).")),
        }
    }

    /// What is needed to show the feature and the sample. `also` are samples whose active features are compared.
    fn needed(&self, run: &OpenRun, also: &[u32]) -> Requested {
        Requested::for_comparison(run, self.worker.is_some(), also)
    }

    /// Asks the workers for what is needed, unless they have been asked already.
    pub fn request(&mut self, also: &[u32]) {
        let Some(run) = self.session.run() else { return };
        let needed = self.needed(run, also);
        if needed == self.requested {
            return;
        }
        let missing = |feature: &u32| run.details_of(*feature).is_none();
        self.loader.request_features(needed.features.iter().copied().filter(missing).collect());
        self.loader.request_samples(self.cache.missing(&needed.samples));
        if needed.scores && run.filter.is_none() {
            self.loader.request_scores();
        }
        if let Some(worker) = &self.worker {
            let known = self.explanations.as_ref().map(|(sample, _)| *sample);
            let explanations = needed.explanations.filter(|number| known != Some(*number));
            let active = self.cache.missing_active(&needed.active);
            let direction = needed.direction;
            worker.request(ActivationRequest { active, explanations, direction, ..ActivationRequest::default() });
        }
        self.requested = needed;
    }

    /// Whether everything that is needed is known.
    pub fn is_settled(&self, also: &[u32]) -> bool {
        let Some(run) = self.session.run() else { return !self.session.is_opening() };
        let needed = self.needed(run, also);
        let known = |own: Option<u32>, wanted: Option<u32>| wanted.is_none() || own == wanted;
        needed.features.iter().all(|feature| run.details_of(*feature).is_some() || run.list.total() == 0)
            && self.cache.missing(&needed.samples).is_empty()
            && self.cache.missing_active(&needed.active).is_empty()
            && run.filter.is_some()
            && known(self.direction.as_ref().map(|(feature, _)| *feature), needed.direction)
            && known(self.explanations.as_ref().map(|(sample, _)| *sample), needed.explanations)
    }
}
