//! Edits of labels, notes, stars and lists: undo and redo, and the edits that are not on disk yet. An edit counts as saved only
//! when the file holds it; until then it is kept here and sent again. Touches no file.

use sae_core::analysis::labels::{Change, Entry, Labels, Saved, Written};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Edits that can be undone at most.
const UNDO: usize = 1000;

/// Edits of labels to save, whatever run is open by then.
#[derive(Clone, Debug, PartialEq)]
pub struct Edits {
    /// Where the run is: [`RunInfo::origin`](super::run_info::RunInfo::origin).
    pub origin: PathBuf,
    /// The autoencoder.
    pub sae: String,
    /// The edits, in order.
    pub changes: Vec<Change>,
    /// What the file was known to hold.
    pub on_disk: Labels,
}

/// The labels of one autoencoder of a run, being edited.
#[derive(Clone, Debug, Default)]
pub struct LabelEdits {
    /// Where the run is.
    origin: PathBuf,
    sae: String,
    /// Who edits.
    author: String,
    /// What the file held when it was read last.
    on_disk: Labels,
    /// The same with the edits that the file lacks.
    edited: Labels,
    /// Edits that the file lacks, in order.
    pending: Vec<Change>,
    /// The number of pending edits that the writer is saving.
    sent: usize,
    undo: Vec<Change>,
    redo: Vec<Change>,
    /// What is being typed.
    draft: Option<Entry>,
    failure: Option<String>,
}

impl LabelEdits {
    /// Labels as the file of the run has them.
    pub fn new(origin: &Path, sae: &str, author: &str, on_disk: Labels) -> Self {
        let edited = on_disk.clone();
        Self { origin: origin.into(), sae: sae.into(), author: author.into(), edited, on_disk, ..Self::default() }
    }

    /// Where the run is.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Whether these are the labels of that autoencoder of that run.
    pub fn is_of(&self, origin: &Path, sae: &str) -> bool {
        self.origin == origin && self.sae == sae
    }

    /// What the file held when it was read last, for saving on top of it.
    pub fn on_disk(&self) -> &Labels {
        &self.on_disk
    }

    /// All labels of the run with the edits that the file lacks.
    pub fn edited(&self) -> &Labels {
        &self.edited
    }

    /// All that is written about the autoencoder's features, with the edits that the file lacks.
    pub fn written(&self) -> Option<&Written> {
        self.edited.written(&self.sae)
    }

    /// What is written about a feature, with what is being typed.
    pub fn entry(&self, feature: u32) -> Entry {
        match &self.draft {
            Some(draft) if draft.feature == feature => draft.clone(),
            _ => self.get(feature).cloned().unwrap_or_else(|| Entry::empty(feature)),
        }
    }

    /// What is written about a feature, if anything is.
    pub fn get(&self, feature: u32) -> Option<&Entry> {
        self.written()?.entry(feature)
    }

    /// All features that something is written about.
    pub fn entries(&self) -> &[Entry] {
        self.written().map(Written::entries).unwrap_or_default()
    }

    /// The named lists.
    pub fn lists(&self) -> Option<&BTreeMap<String, Vec<u32>>> {
        self.written().map(Written::lists)
    }

    fn list(&self, name: &str) -> Vec<u32> {
        self.lists().and_then(|lists| lists.get(name)).cloned().unwrap_or_default()
    }

    /// Takes what is being typed. It becomes an edit with [`LabelEdits::commit`].
    pub fn set_draft(&mut self, entry: Entry) {
        if self.draft.as_ref().is_some_and(|draft| draft.feature != entry.feature) {
            self.commit();
        }
        self.draft = Some(entry);
    }

    /// Forgets what was typed.
    pub fn discard_draft(&mut self) {
        self.draft = None;
    }

    /// Makes an edit of what was typed.
    pub fn commit(&mut self) {
        let Some(mut after) = self.draft.take() else { return };
        let before = self.entry(after.feature);
        after.label = after.label.trim().into();
        if after.label != before.label {
            // The score was measured with the words of the old label.
            after.score = None;
            after.author = if after.label.is_empty() { String::new() } else { self.author.clone() };
        }
        if after != before {
            self.record(Change::Entry { before, after });
        }
    }

    /// Stars a feature, or removes its star.
    pub fn toggle_star(&mut self, feature: u32) {
        self.commit();
        let star = !self.entry(feature).star;
        self.set_star(feature, star);
    }

    /// Stars a feature, or removes its star.
    pub fn set_star(&mut self, feature: u32, star: bool) {
        self.commit();
        let before = self.entry(feature);
        if before.star != star {
            let after = Entry { star, ..before.clone() };
            self.record(Change::Entry { before, after });
        }
    }

    /// Adds features to a named list.
    pub fn add_to_list(&mut self, name: &str, features: &[u32]) {
        let before = self.list(name);
        let mut after = before.clone();
        after.extend(features);
        after.sort_unstable();
        after.dedup();
        self.change_list(name, before, after);
    }

    /// Removes features from a named list. A list without features is gone.
    pub fn remove_from_list(&mut self, name: &str, features: &[u32]) {
        let before = self.list(name);
        let after = before.iter().copied().filter(|feature| !features.contains(feature)).collect();
        self.change_list(name, before, after);
    }

    /// Removes a named list.
    pub fn remove_list(&mut self, name: &str) {
        self.change_list(name, self.list(name), Vec::new());
    }

    fn change_list(&mut self, name: &str, before: Vec<u32>, after: Vec<u32>) {
        if after != before {
            self.record(Change::List { name: name.into(), before, after });
        }
    }

    /// Makes edits that an earlier session could not save.
    pub fn recover(&mut self, changes: Vec<Change>) {
        self.commit();
        changes.into_iter().for_each(|change| self.record(change));
    }

    fn record(&mut self, change: Change) {
        self.redo.clear();
        self.undo.push(change.clone());
        if self.undo.len() > UNDO {
            self.undo.remove(0);
        }
        self.apply(change);
    }

    fn apply(&mut self, change: Change) {
        self.edited.apply(&self.sae, std::slice::from_ref(&change));
        self.pending.push(change);
    }

    /// Whether there is an edit to undo.
    pub fn has_undo(&self) -> bool {
        !self.undo.is_empty() || self.draft.is_some()
    }

    /// Whether there is an undone edit to redo.
    pub fn has_redo(&self) -> bool {
        !self.redo.is_empty()
    }

    /// Undoes the last edit. Returns the feature that it changed.
    pub fn undo(&mut self) -> Option<u32> {
        self.commit();
        let change = self.undo.pop()?;
        self.apply(change.reversed());
        let feature = changed_feature(&change);
        self.redo.push(change);
        feature
    }

    /// Makes the edit again that was undone last. Returns the feature that it changed.
    pub fn redo(&mut self) -> Option<u32> {
        let change = self.redo.pop()?;
        self.apply(change.clone());
        let feature = changed_feature(&change);
        self.undo.push(change);
        feature
    }

    /// The edits to save, unless the writer is at work. Its answer goes to [`LabelEdits::saved`].
    pub fn send(&mut self) -> Option<Edits> {
        if self.sent > 0 { None } else { self.take_unsent() }
    }

    /// The edits that the writer has not been sent yet, although it may be at work: for the end of the program, when there is no
    /// answer to wait for.
    pub fn take_unsent(&mut self) -> Option<Edits> {
        let changes = self.pending[self.sent..].to_vec();
        self.sent = self.pending.len();
        let (origin, sae, on_disk) = (self.origin.clone(), self.sae.clone(), self.on_disk.clone());
        (!changes.is_empty()).then_some(Edits { origin, sae, changes, on_disk })
    }

    /// Takes the writer's answer. Returns what a person should know.
    pub fn saved(&mut self, result: Result<Saved, String>) -> Option<String> {
        let sent = std::mem::take(&mut self.sent);
        match result {
            Ok(saved) => {
                self.pending.drain(..sent);
                self.failure = None;
                self.merge(saved.labels);
                saved.moved.map(|(path, cause)| {
                    format!("labels.json could not be read ({cause}). It was kept as {}.", path.display())
                })
            }
            Err(reason) => {
                self.failure = Some(reason);
                None
            }
        }
    }

    /// Takes what the file holds now; the pending edits stay on top.
    pub fn merge(&mut self, labels: Labels) {
        self.edited = labels.clone();
        self.edited.apply(&self.sae, &self.pending);
        self.on_disk = labels;
    }

    /// The number of edits that are not on disk, and why the last attempt to save them failed.
    pub fn unsaved(&self) -> (usize, Option<&str>) {
        (self.pending.len() + usize::from(self.draft.is_some()), self.failure.as_deref())
    }
}

fn changed_feature(change: &Change) -> Option<u32> {
    match change {
        Change::Entry { after, .. } => Some(after.feature),
        Change::List { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label_edits() -> LabelEdits {
        LabelEdits::new("run".as_ref(), "base", "ann", Labels::default())
    }

    fn write(label_edits: &mut LabelEdits, feature: u32, label: &str) {
        let entry = Entry { label: label.into(), ..label_edits.entry(feature) };
        label_edits.set_draft(entry);
        label_edits.commit();
    }

    fn on_disk(label_edits: &mut LabelEdits, disk: &mut Labels) {
        let edits = label_edits.send().unwrap();
        disk.apply("base", &edits.changes);
        label_edits.saved(Ok(Saved { labels: disk.clone(), moved: None, conflicts: vec![] }));
    }

    #[test]
    fn edits_are_undone_and_redone_in_order() {
        let mut l = label_edits();
        write(&mut l, 3, " red ");
        write(&mut l, 3, "red ring");
        l.toggle_star(4);
        assert_eq!((l.entry(3).label.as_str(), l.entry(3).author.as_str()), ("red ring", "ann"));
        assert_eq!(l.undo(), Some(4));
        assert_eq!(l.undo(), Some(3));
        assert_eq!(l.entry(3).label, "red");
        assert_eq!(l.redo(), Some(3));
        assert_eq!(l.entry(3).label, "red ring");
        write(&mut l, 9, "new");
        assert!(!l.has_redo());
        while l.has_undo() {
            l.undo();
        }
        assert!(l.entries().is_empty());
    }

    #[test]
    fn an_edit_stays_until_the_file_holds_it() {
        let (mut l, mut disk) = (label_edits(), Labels::default());
        write(&mut l, 1, "one");
        assert_eq!(l.send().unwrap().changes.len(), 1);
        write(&mut l, 2, "two");
        assert!(l.send().is_none(), "one writer at a time");
        l.saved(Err("the disk is full".into()));
        assert_eq!(l.unsaved(), (2, Some("the disk is full")));
        on_disk(&mut l, &mut disk);
        assert_eq!(l.unsaved(), (0, None));
        assert_eq!(disk.written("base").unwrap().entries().len(), 2);
    }

    #[test]
    fn a_draft_that_is_discarded_changes_nothing() {
        let mut l = label_edits();
        write(&mut l, 3, "red");
        l.set_draft(Entry { label: "half".into(), ..l.entry(3) });
        l.discard_draft();
        assert_eq!((l.entry(3).label.as_str(), l.unsaved().0), ("red", 1));
        l.undo();
        assert!(l.entries().is_empty(), "the draft is no edit");
    }

    #[test]
    fn features_leave_lists_and_come_back() {
        let mut l = label_edits();
        l.add_to_list("rings", &[3, 1]);
        l.remove_from_list("rings", &[3]);
        assert_eq!(l.lists().unwrap()["rings"], [1]);
        l.remove_from_list("rings", &[1]);
        assert!(!l.lists().unwrap().contains_key("rings"));
        l.undo();
        l.undo();
        assert_eq!(l.lists().unwrap()["rings"], [1, 3]);
        l.set_star(1, true);
        l.set_star(1, true);
        assert_eq!(l.unsaved().0, 6, "a star that is there is no edit");
    }

    #[test]
    fn what_others_write_is_shown_under_ones_own_edits() {
        let mut l = label_edits();
        write(&mut l, 1, "mine");
        let mut theirs = Labels::default();
        let entry = |feature, label: &str| Entry { feature, label: label.into(), ..Entry::default() };
        for (feature, label) in [(1, "theirs"), (2, "other")] {
            let change = Change::Entry { before: Entry::empty(feature), after: entry(feature, label) };
            theirs.apply("base", &[change]);
        }
        l.merge(theirs);
        assert_eq!((l.entry(1).label.as_str(), l.entry(2).label.as_str()), ("mine", "other"));
        assert!(l.entry(1).notes.contains("theirs"));
    }

    #[test]
    fn typing_for_another_feature_keeps_what_was_typed_for_the_first() {
        let mut l = label_edits();
        l.set_draft(Entry { label: "half".into(), ..Entry::empty(1) });
        assert_eq!(l.unsaved().0, 1);
        l.set_draft(Entry { notes: "other".into(), ..Entry::empty(2) });
        assert_eq!(l.get(1).unwrap().label, "half");
    }
}
