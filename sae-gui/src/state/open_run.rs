//! The run that is open: what is known of it, what is shown of it, what is edited. Decides nothing about commands.

use super::annotations::Annotations;
use super::budget::{BudgetAnswer, BudgetQuestion, BudgetSettings, BudgetSource};
use super::contrast::AnyContrast;
use super::details::{Details, ExampleGroup};
use super::excerpt::display_text;
use super::export_settings::ExportSettings;
use super::history::{History, VisitKind};
use super::hover::Hover;
use super::label_edits::{Edits, LabelEdits};
use super::link::Counterpart;
use super::link::Link;
use super::list::FeatureList;
use super::location::{Location, Page};
use super::lru::Lru;
use super::map::MapKind;
use super::named::Named;
use super::playground::{PlaygroundState, Prompt, Steer};
use super::report::RunReport;
use super::run_info::{OpenedRun, RunInfo};
use super::sample_browser::SampleBrowser;
use super::score_filter::{FilterSettings, ScoreFilter};
use super::writing::{WritingRequest, WritingState};
use sae_core::analysis::index::{FeatureRow, Neighbor};
use sae_core::analysis::layout::DecoderLayout;
use sae_core::store::sample::Modality;
use sae_workbench::ProbeReport;
use std::sync::Arc;

/// Features whose details are kept. Those of one take about 5 KB.
const DETAILS: usize = 256;
/// The modalities whose strongest positions are shown.
pub const STRONGEST_ON: [Modality; 3] = [Modality::Text, Modality::Image, Modality::Action];

/// Examples of each modality that are shown side by side.
pub const SIDE_BY_SIDE: usize = 6;

/// A list of samples that Next and Previous walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleList {
    /// Where it comes from, such as `dropped, near the threshold`.
    pub title: String,
    /// The samples, in order.
    pub samples: Vec<u32>,
}

/// A run that is open.
#[derive(Debug)]
pub struct OpenRun {
    /// The run.
    pub info: RunInfo,
    /// The features of its autoencoder.
    pub list: FeatureList,
    /// Why there are no features, and what to do about it.
    pub no_features: Option<String>,
    details: Lru<u32, Details>,
    /// What was shown.
    pub history: History,
    /// What is written about the features.
    pub label_edits: LabelEdits,
    /// The samples, as the page of all samples lists them.
    pub samples: SampleBrowser,
    /// The scores with a threshold, once they are read.
    pub filter: Option<Result<ScoreFilter, String>>,
    /// How a filtered data set is written.
    pub export: ExportSettings,
    /// What the worker of budgets has answered last.
    pub budget: Option<BudgetAnswer>,
    /// What the map of all features shows.
    pub map_kind: MapKind,
    /// The features by the principal components of their directions, once that is computed.
    pub layout: Option<Result<Arc<DecoderLayout>, String>>,
    /// The feature that the shown one is compared with on the Compare page.
    pub compare_with: Option<Counterpart>,
    /// The prompt that the user enters on the Playground page.
    pub playground: PlaygroundState,
    /// What the model writes under a guard on the Playground page.
    pub writing: WritingState,
    /// The prompt on which the features are tested on their page. It stays while one feature after the other is looked at.
    pub test: PlaygroundState,
    /// Provenance, curves and evaluations, once they are read.
    pub report: Option<RunReport>,
    /// Its contrasts.
    pub contrasts: Named<AnyContrast>,
    /// The probes of its autoencoder. What cannot be read is a sentence in its place.
    pub probes: Named<Result<ProbeReport, String>>,
    /// The feature under the pointer.
    pub hover: Hover,
    /// The samples that Next and Previous walk, if they came from a list.
    pub sample_list: Option<SampleList>,
    feature: Option<u32>,
    sample: u32,
    /// What is to be set on the Filter page once the scores are read: what a link says, or what was set before.
    filter_settings: FilterSettings,
}

impl OpenRun {
    /// Shows what a link asks for. Also returns what a person should know.
    pub fn new(opened: OpenedRun, link: &Link) -> (Self, Option<String>) {
        let mut list = FeatureList::new(opened.rows, opened.info.indexed.clone(), opened.typical_words);
        if let Some(sort) = link.sort {
            list.set_sort(sort);
        }
        let (labels, unreadable) = opened.labels;
        let label_edits = LabelEdits::new(&opened.info.origin(), opened.info.sae_name(), &opened.author, labels);
        list.set_annotations(Annotations::new(label_edits.written()));
        list.search(link.search.as_deref().unwrap_or_default());
        let first = list.step(None, 0);
        let mut notice = opened.notice;
        let location = match link.location {
            Some(Location::Feature(number) | Location::Compare(number)) if list.row(number).is_none() => {
                notice = Some(match opened.info.sae.as_deref().filter(|_| list.total() > 0) {
                    Some(sae) => format!("There is no feature {number} in {sae}, which has {}.", list.total()),
                    None => format!("There is no feature {number}: the run has no feature index."),
                });
                first.map(Location::Feature)
            }
            Some(Location::Sample(number)) if u64::from(number) >= opened.info.samples => {
                notice = Some(format!("Sample {number} does not exist; the run has {}.", opened.info.samples));
                first.map(Location::Feature)
            }
            None => first.map(Location::Feature),
            given => given,
        };
        let mut history = History::default();
        if let Some(location) = location {
            history.visit(location, VisitKind::Chosen);
        }
        let (mut playground, mut test) = (PlaygroundState::default(), PlaygroundState::default());
        let on_features = location.is_none_or(|location| location.page() == Page::Features);
        let prompt = if on_features { &mut test } else { &mut playground };
        prompt.draft.text = link.prompt.clone().unwrap_or_default();
        prompt.draft.image = link.image.clone();
        prompt.submits_at_once = link.prompt.is_some();
        // With a guard, the prompt is for the model to write on.
        let on_playground = link.location == Some(Location::Page(Page::Playground));
        let writes = link.guard.is_some() && on_playground && std::mem::take(&mut playground.submits_at_once);
        let writing = WritingState::new(link.guard.as_deref().cloned().unwrap_or_default(), writes);
        playground.draft.multiples = link.multiples.clone().unwrap_or(playground.draft.multiples);
        for (feature, strength) in &link.steer {
            let row = list.row(*feature);
            row.into_iter().for_each(|row| playground.steer(row.feature, strength.unwrap_or(row.max)));
        }
        let mut run = Self {
            export: ExportSettings::new(&opened.info.export_folder),
            samples: SampleBrowser::new(opened.info.samples),
            info: opened.info,
            list,
            no_features: opened.no_features,
            details: Lru::new(DETAILS),
            history,
            label_edits,
            filter: None,
            budget: None,
            map_kind: link.map.unwrap_or_default(),
            layout: None,
            compare_with: link.with.clone(),
            playground,
            writing,
            test,
            report: None,
            contrasts: Named::new(opened.contrasts, named_on(Page::Contrast, link)),
            probes: Named::new(opened.probes, named_on(Page::Probe, link)),
            hover: Hover::default(),
            sample_list: None,
            feature: first,
            sample: 0,
            filter_settings: FilterSettings { by: link.by.clone(), keep: link.keep, ..FilterSettings::default() },
        };
        run.export.budget = link.budget.as_ref().and_then(BudgetSettings::from_rule).unwrap_or_default();
        run.arrive();
        (run, unreadable.map(|cause| format!("The labels cannot be read: {cause}")).or(notice))
    }

    /// Takes over the edits of the same labels as they were opened before: what is not saved yet, and what can be undone.
    pub fn adopt_edits(&mut self, before: LabelEdits) {
        let labels = std::mem::replace(&mut self.label_edits, before).on_disk().clone();
        self.label_edits.merge(labels);
        self.list.set_annotations(Annotations::new(self.label_edits.written()));
    }

    /// Whether another one is of the same run and autoencoder.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (self.info.origin(), &self.info.sae) == (other.info.origin(), &other.info.sae)
    }

    /// Takes over what a person did in the same run before it was read again: where they were and came from, what they searched,
    /// chose and typed. What the link says wins. Edits of labels are adopted by themselves.
    pub fn adopt(&mut self, before: Self, link: &Link) {
        let shown = link.location.filter(|location| self.has(*location)).or(before.history.current());
        let mut history = before.history;
        history.retain(|location| self.has(location));
        shown
            .filter(|location| self.has(*location))
            .into_iter()
            .for_each(|shown| history.visit(shown, VisitKind::Chosen));
        if history.current().is_some() {
            self.history = history;
        }
        let has_feature = |feature: &u32| self.list.row(*feature).is_some();
        self.feature = before.feature.filter(has_feature).or(self.feature);
        self.sample = before.sample;
        self.sample_list = before.sample_list;
        self.compare_with = link.with.clone().or(before.compare_with);
        self.contrasts.chosen = named_on(Page::Contrast, link).or(before.contrasts.chosen);
        self.probes.chosen = named_on(Page::Probe, link).or(before.probes.chosen);
        self.map_kind = link.map.unwrap_or(before.map_kind);
        self.list.adopt(before.list, link.search.as_deref(), link.sort);
        self.samples.adopt(before.samples);
        self.export = before.export.reopened(&before.info.export_folder, &self.info.export_folder);
        if let Some(budget) = link.budget.as_ref().and_then(BudgetSettings::from_rule) {
            self.export.budget = budget;
        }
        if self.playground.draft == Prompt::default() {
            self.playground = before.playground.reopened();
        }
        if self.test.draft == Prompt::default() {
            self.test = before.test.reopened();
        }
        if link.guard.is_none() {
            self.writing = before.writing.reopened();
        }
        let settings = match before.filter {
            Some(Ok(filter)) => filter.settings(),
            _ => before.filter_settings,
        };
        let (by, keep) = (link.by.clone().or(settings.by), link.keep.or(settings.keep));
        self.filter_settings = FilterSettings { by, keep, ..settings };
        self.arrive();
    }

    /// Whether a location exists.
    pub fn has(&self, location: Location) -> bool {
        match location {
            Location::Feature(number) | Location::Compare(number) => self.list.row(number).is_some(),
            Location::Sample(number) => u64::from(number) < self.info.samples,
            Location::Page(_) => true,
        }
    }

    /// What a location is called in a list.
    pub fn title(&self, location: Location) -> String {
        match location {
            Location::Feature(number) => self.list.title(number),
            Location::Sample(number) => format!("Sample {number}"),
            Location::Compare(number) => format!("Compare feature {number}"),
            Location::Page(page) => page.title().into(),
        }
    }

    /// The page that is shown.
    pub fn page(&self) -> Page {
        self.history.current().map(Location::page).unwrap_or_default()
    }

    /// The feature that is shown, or was shown last.
    pub fn feature(&self) -> Option<&FeatureRow> {
        self.list.row(self.feature?)
    }

    /// The number of that feature.
    pub fn feature_number(&self) -> Option<u32> {
        self.feature
    }

    /// The sample that is shown, or was shown last.
    pub fn sample(&self) -> u32 {
        self.sample
    }

    /// Shows a sample beside what is shown, for pages that are about something else as well.
    pub fn show_sample(&mut self, number: u32) {
        if u64::from(number) < self.info.samples {
            self.sample = number;
        }
    }

    /// Takes over where the history has gone to.
    pub fn arrive(&mut self) {
        match self.history.current() {
            Some(Location::Feature(number) | Location::Compare(number)) => self.feature = Some(number),
            Some(Location::Sample(number)) => self.sample = number,
            Some(Location::Page(_)) | None => {}
        }
        if self.sample_list.as_ref().is_some_and(|list| !list.samples.contains(&self.sample)) {
            self.sample_list = None;
        }
    }

    /// The sample `by` further in the list that is walked, or in the run.
    pub fn step_sample(&self, by: i32) -> u32 {
        if let Some(list) = &self.sample_list
            && let Some(at) = list.samples.iter().position(|sample| *sample == self.sample)
        {
            return list.samples[at.saturating_add_signed(by as isize).min(list.samples.len() - 1)];
        }
        let last = u32::try_from(self.info.samples.saturating_sub(1)).unwrap_or(u32::MAX);
        self.sample.saturating_add_signed(by).min(last)
    }

    /// Takes the score table, or the reason why there is none.
    pub fn set_scores(&mut self, filter: Result<ScoreFilter, String>) {
        let settings = &mut self.filter_settings;
        self.filter = Some(filter.map(|mut filter| {
            filter.restore(std::mem::take(settings));
            filter
        }));
    }

    /// The scores, if they are read and there are some.
    pub fn scores(&self) -> Option<&ScoreFilter> {
        self.filter.as_ref()?.as_ref().ok()
    }

    /// What the worker of budgets is to be asked, if there is a budget that it has not answered yet.
    pub fn pending_budget(&self) -> Option<BudgetQuestion> {
        let question = self.budget_question()?;
        let is_answered = self.budget.as_ref().is_some_and(|answer| answer.question == question);
        (!is_answered).then_some(question)
    }

    /// Why no selection within the budget can be written, if there is a budget.
    pub fn budget_problem(&self) -> Option<&'static str> {
        if !self.export.budget.is_set() {
            return None;
        }
        if self.pending_budget().is_some() {
            return Some("The selection within the budget is being computed.");
        }
        let is_known = self.budget.as_ref().is_some_and(|answer| matches!(answer.selection, Some(Ok(_))));
        (!is_known).then_some("No selection keeps the budget.")
    }

    /// What the worker of budgets is to be asked, if there is a budget.
    pub fn budget_question(&self) -> Option<BudgetQuestion> {
        let (filter, settings) = (self.scores()?, &self.export);
        let within = settings.within.trim();
        let source = BudgetSource {
            by_group: filter.grouping().map(|grouping| grouping.fields.clone()),
            equal_groups: filter.grouping().is_some_and(|grouping| grouping.equal),
            within: (!within.is_empty()).then(|| within.to_owned()),
            unit: settings.unit().map(str::to_owned),
            promise: settings.promise(),
            ..BudgetSource::new(filter.name(), settings.budget.column.trim(), settings.budget.side())
        };
        let (keep, limit) = (settings.keep(filter), settings.budget.limit);
        settings.budget.is_set().then_some(BudgetQuestion { source, keep, limit })
    }

    /// Takes an answer: the samples that the budget keeps and, where no limit is set yet, one half-way to the safest.
    pub fn set_budget(&mut self, answer: BudgetAnswer) {
        let question = self.budget_question();
        if let Some(question) = question.filter(|question| question.has_frontier_of(&answer.question)) {
            if let (None, Some(range)) = (question.limit, answer.range()) {
                self.export.budget.set_limit(0.5 * (range[0] + range[1]), range);
            }
            let kept =
                answer.selection.as_ref().and_then(|selection| selection.as_ref().ok()).map(|(_, kept)| kept.clone());
            let rule = self.export.budget.rule().filter(|_| question == answer.question);
            if let (Some(Ok(filter)), Some(rule)) = (&mut self.filter, rule) {
                filter.set_budgeted(kept.map(|kept| (rule, kept)));
            }
        }
        self.budget = Some(answer);
    }

    /// Edits to save, if the writer is not at work. Searches see them at once.
    pub fn edits(&mut self) -> Option<Edits> {
        self.list.set_annotations(Annotations::new(self.label_edits.written()));
        self.label_edits.send()
    }

    /// Keeps what the index holds about a feature.
    pub fn insert_details(&mut self, feature: u32, details: Details) {
        self.details.insert(feature, details, 1);
    }

    /// What the index holds about a feature; nothing while it is being read.
    pub fn details_of(&self, feature: u32) -> Option<&Details> {
        self.details.peek(&feature)
    }

    /// The tokens that a feature promotes most, once they are read.
    pub fn promoted(&self, feature: u32, most: usize) -> Vec<String> {
        let Some(Ok(tokens)) = self.details_of(feature).map(|details| &details.logits) else { return Vec::new() };
        let promoted = tokens.iter().filter(|word| word.promoted).take(most);
        promoted.map(|word| display_text(word.piece.trim())).collect()
    }

    /// What the index holds about the feature that is shown; nothing while it is being read.
    pub fn details(&self) -> Option<&Details> {
        self.details_of(self.feature?)
    }

    /// Examples of the feature that is shown; nothing while they are being read.
    pub fn example_groups(&self) -> Option<Result<Vec<ExampleGroup>, &str>> {
        let examples = self.details()?.examples.as_ref();
        Some(examples.map(|list| ExampleGroup::from_examples(list)).map_err(String::as_str))
    }

    /// The nearest features of the feature that is shown; nothing while they are being read.
    pub fn neighbors(&self) -> Option<Result<&[Neighbor], &str>> {
        Some(self.details()?.neighbors.as_deref().map_err(String::as_str))
    }

    /// The samples of the examples of the feature that is shown, in the order in which they are shown, each once.
    pub fn example_samples(&self) -> Vec<u32> {
        let mut samples = Vec::new();
        let Some(details) = self.details() else { return samples };
        let sides = STRONGEST_ON.map(|modality| details.strongest_on(modality).unwrap_or_default());
        let longest = sides.iter().map(Vec::len).max().unwrap_or(0);
        let in_turn = (0..longest).flat_map(|n| sides.each_ref().map(|side| side.get(n))).flatten().copied();
        let groups = self.example_groups().and_then(Result::ok).unwrap_or_default();
        for example in in_turn.chain(groups.into_iter().flat_map(|group| group.examples)) {
            if !samples.contains(&example.sample) {
                samples.push(example.sample);
            }
        }
        samples
    }

    /// The samples of the strongest positions of the feature that is shown, of every modality in turn, each once.
    pub fn strongest_samples(&self) -> Vec<u32> {
        self.feature.map(|feature| self.strongest_samples_of(feature)).unwrap_or_default()
    }

    /// The same of any feature.
    pub fn strongest_samples_of(&self, feature: u32) -> Vec<u32> {
        let Some(details) = self.details_of(feature) else { return Vec::new() };
        let sides = STRONGEST_ON.map(|modality| details.strongest_on(modality).unwrap_or_default());
        let pairs =
            (0..SIDE_BY_SIDE).flat_map(|n| sides.each_ref().map(|side| side.get(n).map(|example| example.sample)));
        let mut samples = Vec::new();
        for sample in pairs.flatten() {
            if !samples.contains(&sample) {
                samples.push(sample);
            }
        }
        samples
    }

    /// A steered feature in a link, with its strength unless that is the maximum.
    fn steer_in_link(&self, steer: &Steer) -> (u32, Option<f32>) {
        let is_max = self.list.row(steer.feature).is_some_and(|row| row.max == steer.strength);
        (steer.feature, (!is_max).then_some(steer.strength))
    }

    /// What the model is to write on the Playground page, or why it cannot.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub fn writing_request(&self) -> Result<WritingRequest, String> {
        self.info.captured.open()?;
        if let Some(reason) = self.info.no_weights() {
            return Err(reason);
        }
        if let Some(problem) = self.writing.problem() {
            return Err(problem);
        }
        let draft = &self.playground.draft;
        if draft.text.trim().is_empty() && draft.image.is_none() {
            return Err("Type a prompt, or choose an image.".into());
        }
        let multiple = |steer: &Steer| match self.list.row(steer.feature).map(|row| row.max) {
            Some(max) if max > 0.0 => Ok((steer.feature, steer.strength / max)),
            _ => Err(format!(
                "Feature {} never fires in the run, so that it has no largest activation to be steered by. Reset it.",
                steer.feature
            )),
        };
        Ok(WritingRequest {
            prompt: draft.text.trim().to_owned(),
            image: draft.image.clone(),
            steer: draft.steers.iter().map(multiple).collect::<Result<_, _>>()?,
            settings: self.writing.settings.clone(),
            beginning: String::new(),
        })
    }

    /// What this view is as a link.
    pub fn link(&self) -> Link {
        let page = self.page();
        let on_features = page == Page::Features;
        let draft = match page {
            Page::Features => Some(&self.test.draft),
            Page::Playground => Some(&self.playground.draft),
            _ => None,
        };
        let draft = draft.filter(|draft| !draft.text.is_empty() || draft.image.is_some());
        let search = Some(self.list.search_text()).filter(|text| on_features && !text.is_empty());
        let filter = self.scores().filter(|_| page == Page::Filter);
        let name = match page {
            Page::Contrast => self.contrasts.name(),
            Page::Probe => self.probes.name(),
            _ => None,
        };
        Link {
            run: self.info.link(),
            sae: self.info.sae.clone().filter(|_| self.info.saes.len() > 1),
            location: self.history.current(),
            with: self.compare_with.clone().filter(|_| page == Page::Compare),
            name: name.map(str::to_owned),
            search: search.map(str::to_owned),
            sort: (on_features && !self.list.has_default_sort()).then(|| self.list.sort()),
            map: Some(self.map_kind).filter(|kind| on_features && *kind != MapKind::default()),
            by: filter.map(|filter| filter.name().to_owned()),
            keep: filter.map(ScoreFilter::target),
            budget: filter.and_then(|_| self.export.budget.rule()),
            prompt: draft.map(|draft| draft.text.clone()),
            image: draft.and_then(|draft| draft.image.clone()),
            steer: draft.iter().flat_map(|draft| &draft.steers).map(|steer| self.steer_in_link(steer)).collect(),
            multiples: draft.filter(|draft| draft.has_multiples()).map(|draft| draft.multiples.clone()),
            guard: Some(&self.writing)
                .filter(|writing| page == Page::Playground && writing.is_shown())
                .map(|writing| Box::new(writing.settings.clone())),
        }
    }
}

/// The name that a link to a page asks for.
fn named_on(page: Page, link: &Link) -> Option<String> {
    link.name.clone().filter(|_| link.location == Some(Location::Page(page)))
}
