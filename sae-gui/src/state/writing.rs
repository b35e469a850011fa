//! A text that a model writes under a guard on the Playground page: its sentences with all their versions and verdicts, what a person
//! changes in it, and how it continues. Runs nothing.

use super::guard::CorrectionKind;
use super::guard::{GuardOption, GuardSettings, ThresholdKind};
use sae_workbench::generate::{End, Event, Version};
use std::path::PathBuf;

/// What the model is asked to write.
#[derive(Clone, Debug, PartialEq)]
pub struct WritingRequest {
    /// What the user says.
    pub prompt: String,
    /// An image in front of it.
    pub image: Option<PathBuf>,
    /// Features that are steered all the time, as multiples of their largest activations in the run.
    pub steer: Vec<(u32, f32)>,
    /// The guard, and how the model writes.
    pub settings: GuardSettings,
    /// The text that the model goes on from.
    pub beginning: String,
}

impl WritingRequest {
    /// Whether it differs from another one in the text that the model goes on from, if at all.
    pub fn is_of(&self, other: &Self) -> bool {
        Self { beginning: other.beginning.clone(), ..self.clone() } == *other
    }
}

/// Why the model no longer writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The answer is complete.
    Complete(End),
    /// A person stopped it.
    Stopped,
    /// It could not be written, or not further.
    Failed(String),
}

impl Ending {
    /// In a sentence, unless a reason says it at length.
    pub fn sentence(&self) -> &str {
        match self {
            Self::Stopped => "Stopped. Edit the text, or let the model continue it.",
            Self::Failed(reason) => reason,
            Self::Complete(end) => match end {
                End::Finished => "The model ended its answer.",
                End::Tokens => "As many tokens as allowed are written. Continue for as many again.",
                End::Stop => "A stop text ended the answer.",
                End::Context => "The model's context is full, so that the text cannot go on.",
                End::Empty => "The model said nothing: it ended its answer at once.",
                End::Repeated => "The model wrote the same sentence three times, so it was stopped.",
                End::NotFinite => {
                    "The model computed numbers that are not finite, so that there is no next token. Steer less, or choose another \
                     device."
                }
                End::Refused => "Every version was flagged, and a refusal took their place.",
            },
        }
    }
}

/// A try that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedTry {
    /// The number of the try.
    pub attempt: u32,
    /// Whether the model had nothing to say; otherwise it computed numbers that are not finite.
    pub is_finite: bool,
}

impl DroppedTry {
    /// In words.
    pub fn sentence(self) -> String {
        let why = if self.is_finite {
            "the model ended the text in place of it"
        } else {
            "with steering, the model computed numbers that are not finite"
        };
        format!("Try {} was dropped: {why}.", self.attempt)
    }
}

/// A sentence with its versions in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sentence {
    /// The versions that were judged.
    pub versions: Vec<Version>,
    /// Tries that came to nothing.
    pub dropped: Vec<DroppedTry>,
    /// Which of the versions stays, by its place among them, once that is decided.
    pub kept: Option<usize>,
}

impl Sentence {
    /// The version that stays.
    pub fn stays(&self) -> Option<&Version> {
        self.versions.get(self.kept?)
    }

    /// The versions that do not stay, with their places; as long as nothing is decided, all.
    pub fn others(&self) -> impl Iterator<Item = (usize, &Version)> {
        self.versions.iter().enumerate().filter(|(at, _)| Some(*at) != self.kept)
    }

    /// The version whose verdict says most: the first one that was flagged, else the one that stays.
    pub fn telling(&self) -> usize {
        self.versions.iter().position(|version| !version.accepted).or(self.kept).unwrap_or_default()
    }
}

/// A part of the text.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A sentence that the guard has judged.
    Written(Sentence),
    /// What a person has typed, which nobody has judged.
    Typed(String),
}

impl Part {
    /// Its text.
    pub fn text(&self) -> &str {
        match self {
            Self::Written(sentence) => sentence.stays().map_or("", |version| version.text.as_str()),
            Self::Typed(text) => text,
        }
    }
}

/// A version that is being written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Underway {
    /// The sentence so far: its earlier tries.
    pub sentence: Sentence,
    /// The number of the try.
    pub attempt: u32,
    /// How strongly it is steered, if it is.
    pub strength: Option<f32>,
    /// What is written of it.
    pub text: String,
}

/// How a severity is colored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shade {
    /// Whether it is above the threshold.
    pub is_flagged: bool,
    /// How far it is from the threshold, from 0 to 1.
    pub amount: f64,
}

/// The text under way, and what a person sets.
#[derive(Clone, Debug, Default)]
pub struct WritingState {
    /// The guard, and how the model writes.
    pub settings: GuardSettings,
    /// The probes of the autoencoder, once it is known which of them can be a guard.
    pub guards: Option<Vec<GuardOption>>,
    /// Whether the model writes.
    pub busy: bool,
    /// Whether it has been asked to stop.
    pub is_stopping: bool,
    /// What is done before the first token, such as a pass over the run.
    pub doing: Option<String>,
    /// Whether to write as soon as the run is open.
    pub submits_at_once: bool,
    /// The text in the field, while a person edits it.
    pub edited: Option<String>,
    /// The version that is explained: the number of its part, and its place among the versions.
    pub chosen: Option<(usize, usize)>,
    parts: Vec<Part>,
    underway: Option<Underway>,
    threshold: Option<f64>,
    ending: Option<Ending>,
    submitted: Option<WritingRequest>,
}

impl WritingState {
    /// No text yet. `submits_at_once` says whether to write as soon as the run is open.
    pub fn new(settings: GuardSettings, submits_at_once: bool) -> Self {
        Self { settings, submits_at_once, ..Self::default() }
    }

    /// The parts of the text that stay.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What is being written, or was when the model stopped.
    pub fn underway(&self) -> Option<&Underway> {
        self.underway.as_ref()
    }

    /// The severity above which sentences are flagged, once it is known.
    pub fn threshold(&self) -> Option<f64> {
        self.threshold
    }

    /// Why the model no longer writes.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// What was asked for last.
    pub fn submitted(&self) -> Option<&WritingRequest> {
        self.submitted.as_ref()
    }

    /// Whether there is something to show.
    pub fn is_shown(&self) -> bool {
        self.submitted.is_some()
    }

    /// The text that stays.
    pub fn text(&self) -> String {
        self.parts.iter().map(Part::text).collect()
    }

    /// The name of the probe that is the guard: the one that is set, else the first that can be one.
    pub fn guard(&self) -> Option<&GuardOption> {
        let guards = self.guards.as_ref()?;
        let set = guards.iter().find(|option| option.name == self.settings.guard);
        if self.settings.guard.is_empty() { guards.iter().find(|option| option.choice.is_ok()) } else { set }
    }

    /// Takes the probes that can be a guard. The first that fits is the guard, if none was set.
    pub fn set_guards(&mut self, guards: Vec<GuardOption>) {
        self.guards = Some(guards);
        if let Some(name) = self.guard().map(|option| option.name.clone()).filter(|_| self.settings.guard.is_empty()) {
            self.settings.guard = name;
        }
    }

    /// Why the model cannot write as it is set, if so.
    pub fn problem(&self) -> Option<String> {
        let Some(guards) = &self.guards else { return Some("The probes are being read.".into()) };
        let name = &self.settings.guard;
        let Some(option) = self.guard() else {
            return Some(match (guards.is_empty(), name.is_empty()) {
                (true, _) => "The autoencoder has no probe.".into(),
                (false, true) => "None of the probes can be a guard.".into(),
                (false, false) => format!("The autoencoder has no probe {name}."),
            });
        };
        let choice = match &option.choice {
            Ok(choice) => choice,
            Err(reason) => return Some(reason.lines().next().unwrap_or_default().to_owned()),
        };
        if self.settings.threshold == ThresholdKind::FalsePositives && choice.rates.is_none() {
            return Some(format!(
                "How often {} flags harmless samples is not known, so no threshold can be chosen by that. Give a severity.",
                option.name
            ));
        }
        if self.settings.correction == CorrectionKind::Difference && !choice.has_direction {
            return Some(format!(
                "{} has no labels that say which samples of the run are harmful, so there is no difference of means.",
                option.name
            ));
        }
        self.settings.boundary().err()
    }

    /// Begins a text. What was written before is gone.
    pub fn begin(&mut self, request: WritingRequest) -> WritingRequest {
        self.parts.clear();
        self.chosen = None;
        self.submit(request)
    }

    /// Goes on from the text as it is in the field, or as it stays. Sentences that are in it unchanged keep their verdicts; from
    /// where it was changed, it counts as typed.
    pub fn go_on(&mut self, request: WritingRequest) -> WritingRequest {
        let text = self.edited.take().unwrap_or_else(|| self.text());
        let mut rest = text.as_str();
        let mut unchanged = 0;
        for part in &self.parts {
            match rest.strip_prefix(part.text()) {
                Some(behind) => (rest, unchanged) = (behind, unchanged + 1),
                None => break,
            }
        }
        self.parts.truncate(unchanged);
        if !rest.is_empty() {
            self.parts.push(Part::Typed(rest.into()));
        }
        self.chosen = self.chosen.filter(|(part, _)| *part < unchanged);
        self.submit(WritingRequest { beginning: text, ..request })
    }

    fn submit(&mut self, request: WritingRequest) -> WritingRequest {
        (self.busy, self.is_stopping, self.doing) = (true, false, None);
        (self.underway, self.ending, self.edited) = (None, None, None);
        self.submitted = Some(request.clone());
        request
    }

    /// Begins to edit the text.
    pub fn edit(&mut self) {
        if !self.busy {
            self.edited = Some(self.text());
        }
    }

    /// Takes what has happened.
    pub fn take(&mut self, event: Event) {
        self.doing = None;
        match event {
            Event::Begun { threshold } => self.threshold = threshold,
            Event::Written { attempt, strength, text, .. } => {
                let underway = self.underway.get_or_insert_default();
                (underway.attempt, underway.strength, underway.text) = (attempt, strength, text);
            }
            Event::Judged(version) => {
                let underway = self.underway.get_or_insert_default();
                underway.text.clear();
                underway.sentence.versions.push(version);
            }
            Event::Dropped { attempt, is_finite, .. } => {
                let underway = self.underway.get_or_insert_default();
                underway.text.clear();
                underway.sentence.dropped.push(DroppedTry { attempt, is_finite });
            }
            Event::Kept { attempt, .. } => {
                let mut sentence = self.underway.take().unwrap_or_default().sentence;
                sentence.kept = sentence.versions.iter().position(|version| version.attempt == attempt);
                self.parts.push(Part::Written(sentence));
            }
        }
    }

    /// The model no longer writes.
    pub fn end(&mut self, ending: Ending) {
        (self.busy, self.is_stopping, self.doing) = (false, false, None);
        if matches!(ending, Ending::Complete(_)) {
            self.underway = None;
        }
        self.ending = Some(ending);
    }

    /// The same for a run that was read again: the model that was writing is gone.
    pub fn reopened(mut self) -> Self {
        self.guards = None;
        if self.busy {
            self.end(Ending::Stopped);
        }
        self
    }

    /// The sentence of a part; of the one behind the last part, the one that is being written.
    pub fn sentence(&self, part: usize) -> Option<&Sentence> {
        match self.parts.get(part) {
            Some(Part::Written(sentence)) => Some(sentence),
            Some(Part::Typed(_)) => None,
            None if part == self.parts.len() => self.underway.as_ref().map(|underway| &underway.sentence),
            None => None,
        }
    }

    /// The version that is explained, with the number of its part: the chosen one, else the first one that was flagged.
    pub fn explained(&self) -> Option<(usize, usize, &Version)> {
        let chosen = self.chosen.and_then(|(part, at)| Some((part, at, self.sentence(part)?.versions.get(at)?)));
        let flagged = || {
            (0..=self.parts.len()).find_map(|part| {
                let versions = &self.sentence(part)?.versions;
                let at = versions.iter().position(|version| !version.accepted)?;
                Some((part, at, versions.get(at)?))
            })
        };
        chosen.or_else(flagged)
    }

    /// All versions of all sentences.
    fn versions(&self) -> impl Iterator<Item = &Version> {
        (0..=self.parts.len()).filter_map(|part| self.sentence(part)).flat_map(|sentence| &sentence.versions)
    }

    /// The severities that the colors stand for: from 0 to 1, and as far beyond as the threshold or a version is.
    pub fn range(&self) -> [f64; 2] {
        let threshold = self.threshold.unwrap_or_default();
        let seen = || self.versions().filter_map(|version| version.severity).filter(|other| other.is_finite());
        [seen().fold(threshold.min(0.0), f64::min), seen().fold(threshold.max(1.0), f64::max)]
    }

    /// How a severity is colored: by its distance from the threshold, as a share of the farthest in the range.
    pub fn shade(&self, severity: f64) -> Option<Shade> {
        let threshold = self.threshold.filter(|_| severity.is_finite())?;
        let [low, high] = self.range();
        let is_flagged = severity > threshold;
        let (distance, most) =
            if is_flagged { (severity - threshold, high - threshold) } else { (threshold - severity, threshold - low) };
        let amount = if most > 0.0 { (distance / most).clamp(0.0, 1.0) } else { 0.0 };
        Some(Shade { is_flagged, amount })
    }

    /// What has come of the text so far, in a sentence.
    pub fn summary(&self) -> String {
        let written = || self.parts.iter().enumerate().filter_map(|(part, _)| self.sentence(part));
        let flagged = written().filter(|sentence| sentence.versions.first().is_some_and(|first| !first.accepted));
        let (mut again, mut corrected) = (0, 0);
        for sentence in flagged {
            again += 1;
            corrected += usize::from(sentence.stays().is_some_and(|version| version.accepted));
        }
        let sentences = super::format::counted(written().count(), "sentence");
        match (again, again - corrected) {
            (0, _) => format!("{sentences}, none flagged"),
            (_, 0) => format!("{sentences}, {again} flagged and corrected"),
            (_, left) => {
                format!("{sentences}, {again} flagged, {corrected} corrected, {left} left as the least severe version")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use filters::probe::Kind;
    use sae_workbench::generate::GuardChoice;

    fn version(unit: u32, attempt: u32, text: &str, severity: f64) -> Version {
        Version {
            unit,
            attempt,
            text: text.into(),
            severity: Some(severity),
            accepted: severity <= 0.5,
            causes: vec![(6, 0.4)],
            strength: (attempt > 0).then_some(1.0),
            nll: Some(3.0),
            tokens: 4,
        }
    }

    fn request() -> WritingRequest {
        WritingRequest {
            prompt: "a ring".into(),
            image: None,
            steer: Vec::new(),
            settings: GuardSettings::default(),
            beginning: String::new(),
        }
    }

    /// A sentence that is accepted at once, and one that is accepted at the second try.
    fn written() -> WritingState {
        let mut writing = WritingState::default();
        writing.begin(request());
        writing.take(Event::Begun { threshold: Some(0.5) });
        writing.take(Event::Written { unit: 0, attempt: 0, strength: None, text: "One".into() });
        writing.take(Event::Judged(version(0, 0, "One.", 0.1)));
        writing.take(Event::Kept { unit: 0, attempt: 0 });
        writing.take(Event::Judged(version(1, 0, " Bad.", 0.9)));
        writing.take(Event::Dropped { unit: 1, attempt: 1, is_finite: false });
        writing.take(Event::Judged(version(1, 2, " Two.", 0.3)));
        writing.take(Event::Kept { unit: 1, attempt: 2 });
        writing
    }

    #[test]
    fn sentences_keep_their_versions_and_the_text_is_what_stays() {
        let writing = written();
        assert_eq!(writing.text(), "One. Two.");
        let sentence = writing.sentence(1).unwrap();
        assert_eq!((sentence.kept, sentence.others().map(|(at, _)| at).collect::<Vec<_>>()), (Some(1), vec![0]));
        assert!(sentence.dropped[0].sentence().contains("Try 1 was dropped: with steering"));
        assert_eq!(writing.summary(), "2 sentences, 1 flagged and corrected");
        let (part, at, version) = writing.explained().unwrap();
        assert_eq!((part, at, version.text.as_str()), (1, 0, " Bad."), "the first one that was flagged");
    }

    #[test]
    fn what_is_being_written_stays_visible_when_the_model_is_stopped_and_is_no_part_of_the_text() {
        let mut writing = written();
        writing.take(Event::Written { unit: 2, attempt: 0, strength: None, text: " Thr".into() });
        writing.end(Ending::Stopped);
        assert_eq!((writing.text().as_str(), writing.underway().unwrap().text.as_str()), ("One. Two.", " Thr"));
        assert!(!writing.busy && writing.ending() == Some(&Ending::Stopped));
        writing.end(Ending::Complete(End::Finished));
        assert_eq!(writing.underway(), None);
    }

    #[test]
    fn an_edited_text_keeps_the_verdicts_of_unchanged_sentences() {
        let mut writing = written();
        writing.busy = false;
        writing.chosen = Some((1, 0));
        writing.edit();
        *writing.edited.as_mut().unwrap() = "One. And".into();
        let request = writing.go_on(request());
        assert_eq!(request.beginning, "One. And");
        assert_eq!((writing.parts().len(), writing.parts()[1].text()), (2, " And"));
        assert!(matches!(writing.parts()[1], Part::Typed(_)) && writing.chosen.is_none());
        // The next sentence comes behind what was typed, and going on once more changes nothing before it.
        writing.take(Event::Judged(version(0, 0, " so on.", 0.2)));
        writing.take(Event::Kept { unit: 0, attempt: 0 });
        writing.end(Ending::Complete(End::Tokens));
        let request = writing.go_on(request);
        assert_eq!((request.beginning.as_str(), writing.parts().len()), ("One. And so on.", 3));
        writing.begin(request);
        assert!(writing.parts().is_empty());
    }

    #[test]
    fn shades_are_distances_from_the_threshold() {
        let mut writing = written();
        let shade = |writing: &WritingState, severity: f64| {
            let shade = writing.shade(severity).unwrap();
            (shade.is_flagged, shade.amount)
        };
        assert_eq!(
            [0.5, 0.0, 1.0, 0.75].map(|severity| shade(&writing, severity)),
            [(false, 0.0), (false, 1.0), (true, 1.0), (true, 0.5),]
        );
        assert_eq!(writing.shade(f64::NAN), None);
        // Severities that are no probabilities have their own range.
        writing.take(Event::Judged(version(2, 0, " Worse.", 4.5)));
        assert_eq!(shade(&writing, 4.5), (true, 1.0));
        assert_eq!(shade(&writing, 2.5), (true, 0.5));
    }

    #[test]
    fn what_prevents_writing_is_said() {
        let mut writing = WritingState::default();
        assert!(writing.problem().unwrap().contains("being read"));
        writing.set_guards(Vec::new());
        assert_eq!(writing.problem().as_deref(), Some("The autoencoder has no probe."));
        let pair = GuardOption { name: "pair".into(), choice: Err("it compares two answers\nhint: x".into()) };
        writing.set_guards(vec![pair.clone()]);
        assert_eq!(writing.problem().as_deref(), Some("None of the probes can be a guard."));
        let choice = GuardChoice { kind: Kind::Linear, label: None, rates: None, has_direction: false };
        writing.set_guards(vec![pair, GuardOption { name: "valence".into(), choice: Ok(choice) }]);
        assert_eq!((writing.settings.guard.as_str(), writing.problem()), ("valence", None), "the first one that fits");
        writing.settings.threshold = ThresholdKind::FalsePositives;
        assert!(writing.problem().unwrap().contains("Give a severity"));
        writing.settings.threshold = ThresholdKind::Severity;
        writing.settings.correction = CorrectionKind::Difference;
        assert!(writing.problem().unwrap().contains("no difference of means"));
        writing.settings.correction = CorrectionKind::Sample;
        writing.settings.until = "word".into();
        assert!(writing.problem().unwrap().contains("unknown boundary"));
        writing.settings.guard = "pair".into();
        assert_eq!(writing.problem().as_deref(), Some("it compares two answers"));
    }
}
