//! `/f/12`: a feature with its examples, and the form in which people write about it.

use super::{Shell, View, hidden, number};
use crate::Error;
use crate::serve::activations::Activations;
use crate::serve::params::Params;
use crate::serve::problem::Problem;
use crate::serve::site::Site;
use rayon::prelude::*;
use sae_core::analysis::context::Context;
use sae_core::analysis::dashboard::html::{self, Links, Markup, tag};
use sae_core::analysis::dashboard::{FeatureView, Page};
use sae_core::analysis::labels::{Change, Conflict, Entry, Saved};
use sae_core::autoencoder::sparse::Sparse;
use sae_core::store::sample::{Sample, Token};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a page waits for activations unless it is told to.
const PATIENCE: Duration = Duration::from_millis(40);
/// How long it waits if it is told to.
const MOST_PATIENCE: Duration = Duration::from_secs(120);

/// Whether activations are shown around examples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Shown {
    /// They are.
    Complete,
    /// They are being computed: the same address with `wait=1` has them.
    Pending,
    /// They cannot be computed.
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// A feature.
#[derive(Clone, Debug, Serialize)]
pub struct FeaturePage {
    /// Everything that is known about it.
    #[serde(flatten)]
    pub view: FeatureView,
    /// Whether the activations on the tokens around examples are known.
    pub activations: Shown,
    /// Number of all features.
    pub features: usize,
    /// What an edit met, if this page is the answer to one.
    #[serde(skip)]
    pub saved: Option<Saved>,
}

/// An edit of what is written about a feature, as a program sends it.
#[derive(Clone, Debug, Deserialize)]
pub struct Edit {
    /// What the editor saw.
    before: Entry,
    /// What the editor wants.
    after: Entry,
}

/// What became of an edit.
#[derive(Clone, Debug, Serialize)]
pub struct EditReport {
    /// What is written about the feature now.
    pub written: Entry,
    /// What somebody else wrote in between, if both changed the same text. `written` has both.
    pub conflict: Option<Conflict>,
    /// Where a file of labels that could not be read has been moved to, and what was wrong with it.
    pub moved: Option<(String, String)>,
}

/// Activations that are computed while a page reads what else it needs.
pub struct PendingActivations<'a> {
    worker: Result<Arc<Activations>, Problem>,
    samples: &'a [u32],
    until: Instant,
}

impl<'a> PendingActivations<'a> {
    /// Asks for the activations of samples. A page waits for them until a moment after this.
    pub fn ask(site: &Site, sae: &str, samples: &'a [u32], params: &Params) -> Self {
        let patience = if params.get("wait").is_some() { MOST_PATIENCE } else { PATIENCE };
        let until = Instant::now() + patience;
        let worker = site.activations(sae).and_then(|worker| {
            worker.of(samples, Duration::ZERO)?;
            Ok(worker)
        });
        Self { worker, samples, until }
    }

    /// Those that are known in time, and whether they are all there.
    pub fn take(self) -> (BTreeMap<u32, Arc<Sparse>>, Shown) {
        let left = self.until.saturating_duration_since(Instant::now());
        match self.worker.and_then(|worker| worker.of(self.samples, left)) {
            Ok(known) if self.samples.iter().all(|sample| known.contains_key(sample)) => (known, Shown::Complete),
            Ok(known) => (known, Shown::Pending),
            Err(problem) => (BTreeMap::new(), Shown::Unavailable { reason: problem.to_string() }),
        }
    }
}

impl FeaturePage {
    /// The page of a feature.
    ///
    /// # Errors
    /// There is no index or no such feature; the index is of other samples.
    pub fn new(site: &Site, feature: &str, params: &Params) -> Result<Self, Problem> {
        let feature = number(feature, "feature")?;
        let table = site.table()?;
        let (index, sae) = (&table.index, &table.source.sae);
        let features = index.features().len();
        if feature as usize >= features {
            return Err(Error::UnknownFeature { feature, count: features, holder: "index" }.into());
        }
        let labels = site.labels()?;
        let numbers: BTreeSet<u32> = index.examples(feature)?.iter().map(|(_, example)| example.sample).collect();
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let pending = PendingActivations::ask(site, sae, &numbers, params);
        let lookup = site.lookup()?;
        let read = |number: &u32| -> Result<Option<(u32, Sample, Vec<Token>)>, Problem> {
            let Some(sample) = lookup.sample(*number)? else { return Ok(None) };
            Ok(Some((*number, sample, lookup.tokens(*number)?)))
        };
        let read = numbers.par_iter().map(read).collect::<Result<Vec<_>, Problem>>()?;
        let (known, shown) = pending.take();
        let (mut samples, mut contexts) = (BTreeMap::new(), BTreeMap::new());
        for (number, sample, tokens) in read.into_iter().flatten() {
            let active = known.get(&number).filter(|active| active.rows() == tokens.len()).map(|active| {
                let mut active = (**active).clone();
                active.retain(|_, other, _| other == feature);
                active
            });
            let context = match active {
                Some(active) => Context::new(tokens, active),
                None => Context::without_activations(tokens),
            };
            samples.insert(number, sample);
            contexts.insert(number, context);
        }
        let written = labels.written(sae);
        let page = Page::new(feature, index, written, &[], |number| samples.get(&number), &contexts)?;
        Ok(Self { view: FeatureView::new(&table.source, &page), activations: shown, features, saved: None })
    }

    /// Makes the edit that a form describes.
    ///
    /// # Errors
    /// The form is not complete, there is no such feature, or the labels cannot be written.
    pub fn edit(site: &Site, feature: &str, form: &Params) -> Result<Saved, Problem> {
        let before = form.get("before").ok_or_else(|| Problem::invalid("the form lacks what was written before"))?;
        let before = serde_json::from_str(before);
        let before: Entry = before.map_err(|error| Problem::invalid(format!("what was written before: {error}")))?;
        let text = |name| form.get(name).unwrap_or_default().trim().replace("\r\n", "\n");
        let mut after =
            Entry { label: text("label"), notes: text("notes"), star: form.get("star").is_some(), ..before.clone() };
        if after.label != before.label {
            // The score was measured with the words of the old label.
            after.score = None;
            after.author = if after.label.is_empty() { String::new() } else { text("author") };
        }
        Self::change(site, feature, Edit { before, after })
    }

    /// Makes an edit.
    ///
    /// # Errors
    /// There is no such feature, or the labels cannot be written.
    pub fn change(site: &Site, feature: &str, edit: Edit) -> Result<Saved, Problem> {
        let feature = number(feature, "feature")?;
        let table = site.table()?;
        let count = table.index.features().len();
        if feature as usize >= count {
            return Err(Error::UnknownFeature { feature, count, holder: "index" }.into());
        }
        let of = |entry| Entry { feature, ..entry };
        site.save(&table.source.sae, &[Change::Entry { before: of(edit.before), after: of(edit.after) }])
    }

    /// What became of an edit, for programs.
    ///
    /// # Errors
    /// There is no such feature.
    pub fn report(site: &Site, feature: &str, saved: Saved) -> Result<EditReport, Problem> {
        let (feature, sae) = (number(feature, "feature")?, site.table()?.source.sae.clone());
        let written = saved.labels.written(&sae).and_then(|written| written.entry(feature)).cloned();
        Ok(EditReport {
            written: written.unwrap_or_else(|| Entry::empty(feature)),
            conflict: saved.conflicts.into_iter().next(),
            moved: saved.moved.map(|(path, cause)| (path.display().to_string(), cause)),
        })
    }
}

impl View for FeaturePage {
    fn title(&self) -> String {
        match self.view.written.label.as_str() {
            "" => format!("Feature {}", self.view.feature),
            label => format!("Feature {}: {label}", self.view.feature),
        }
    }

    fn main(&self, shell: &Shell) -> Markup {
        let links = Links {
            feature: &|feature| Some(shell.to(&format!("/f/{feature}"), &[])),
            sample: &|sample| {
                let feature = self.view.feature.to_string();
                Some(shell.to(&format!("/s/{sample}"), &[("feature", &feature)]))
            },
            image: &|sample, image| Ok(shell.image(sample, image)),
        };
        self.notices(shell)
            .and(html::feature(&self.view, &links))
            .and(self.form(shell))
            .and(self.examples(shell, &links))
            .and(self.others(shell))
    }
}

impl FeaturePage {
    fn path(&self) -> String {
        format!("/f/{}", self.view.feature)
    }

    /// What an edit met.
    fn notices(&self, shell: &Shell) -> Markup {
        let Some(saved) = &self.saved else { return Markup::new() };
        let conflict = saved.conflicts.iter().map(|conflict| self.conflict(conflict, shell));
        let moved = saved.moved.iter().map(|(path, cause)| {
            let text = format!("The file of labels could not be read ({cause}). It is kept as {}.", path.display());
            tag("p").class("notice problem").attr("role", "alert").text(&text)
        });
        conflict.chain(moved).collect()
    }

    fn conflict(&self, conflict: &Conflict, shell: &Shell) -> Markup {
        let said = |entry: &Entry| {
            let by = if entry.author.is_empty() { String::new() } else { format!(" (by {})", entry.author) };
            let notes =
                if entry.notes.is_empty() { String::new() } else { format!(", with the notes: {}", entry.notes) };
            format!("\u{201c}{}\u{201d}{by}{notes}", entry.label)
        };
        let Conflict { theirs, yours, merged, .. } = conflict;
        let text = "Somebody else wrote about this feature while you did. Nothing is lost: your text is in its place, theirs is \
                    in the notes.";
        let lines = [("Yours: ", yours), ("Theirs: ", theirs)]
            .map(|(whose, entry)| tag("li").text(&format!("{whose}{}", said(entry))));
        let fields =
            [("label", theirs.label.as_str()), ("author", theirs.author.as_str()), ("notes", merged.notes.as_str())];
        let fields: Markup = fields.iter().map(|(name, value)| hidden(name, value)).collect();
        let star = merged.star.then(|| hidden("star", "yes"));
        let button = tag("button").attr("type", "submit").text("Use their label instead");
        let form = self.post(shell, merged, fields.and(star).and(button));
        let lines: Markup = lines.into_iter().collect();
        let parts = tag("p").text(text).and(tag("ul").of(lines)).and(form);
        tag("div").class("notice problem").attr("role", "alert").of(parts)
    }

    /// A form that is an edit of `before`.
    fn post(&self, shell: &Shell, before: &Entry, fields: Markup) -> Markup {
        // An entry was read from JSON, so it can be written as such.
        let before = serde_json::to_string(before).unwrap_or_default();
        let hidden = hidden("token", &shell.token).and(hidden("before", &before));
        let form = tag("form").attr("method", "post").attr("action", shell.to(&self.path(), &[]));
        form.of(hidden.and(fields))
    }

    fn form(&self, shell: &Shell) -> Markup {
        let written = &self.view.written;
        let label = |name: &str, text: &str| tag("label").class("block").attr("for", name).text(text);
        let input = |name: &str, value: &str| {
            let input = tag("input").class("wide").attr("type", "text").attr("id", name).attr("name", name);
            input.attr("value", value).empty()
        };
        let author = match written.author.as_str() {
            "" => ["USER", "USERNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default(),
            author => author.to_owned(),
        };
        let notes = tag("textarea").attr("id", "notes").attr("name", "notes").attr("rows", 3).text(&written.notes);
        let star = tag("input").attr("type", "checkbox").attr("id", "star").attr("name", "star").attr("value", "yes");
        let star = star.flag("checked", written.star).empty().and(" ");
        let star = star.and(tag("label").attr("for", "star").text("Star: a feature to come back to"));
        let fields = label("label", "Label: a few words for what it fires on")
            .and(input("label", &written.label))
            .and(label("author", "Your name"))
            .and(input("author", &author))
            .and(label("notes", "Notes"))
            .and(notes)
            .and(tag("p").of(star))
            .and(tag("button").attr("type", "submit").text("Save"));
        let summary = tag("summary").text("Edit the label and the notes");
        tag("details").of(summary.and(self.post(shell, written, fields)))
    }

    /// The examples. Those whose activations are still computed are fetched again, by the script or by the link.
    fn examples(&self, shell: &Shell, links: &Links) -> Markup {
        let later = shell.to(&self.path(), &[("wait", "1")]);
        let notice = match &self.activations {
            Shown::Complete => Markup::new(),
            Shown::Pending => {
                let link = tag("a").attr("href", &later).text("Show them when they are ready");
                let text = "The activations around the marked tokens are being computed. ";
                tag("p").class("notice").attr("role", "status").of(Markup::text(text).and(link))
            }
            Shown::Unavailable { reason } => {
                let text =
                    format!("Only the marked tokens are shown, because activations cannot be computed: {reason}");
                tag("p").class("notice problem").attr("role", "status").text(&text)
            }
        };
        let later = (self.activations == Shown::Pending).then_some(later);
        let examples = tag("div").attr("id", "examples").maybe("data-later", later);
        examples.of(notice.and(html::examples(&self.view, links)))
    }

    /// The features before and after it.
    fn others(&self, shell: &Shell) -> Markup {
        let link = |feature: u32, name: &str, relation: &'static str, key: char| {
            let address = shell.to(&format!("/f/{feature}"), &[]);
            tag("a").attr("href", address).attr("rel", relation).attr("accesskey", key).text(name)
        };
        let feature = self.view.feature;
        let before = feature.checked_sub(1).map(|before| link(before, "Previous feature", "prev", 'p'));
        let after = (feature as usize + 1 < self.features).then(|| link(feature + 1, "Next feature", "next", 'n'));
        let links = Markup::joined(before.into_iter().chain(after), " ");
        tag("nav").class("pages").attr("aria-label", "Features beside it").of(links)
    }
}
