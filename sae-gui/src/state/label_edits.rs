//! What the person writes: edits with undo and redo, and those of them that are not on disk yet. An edit counts as written
//! only when the file holds it; until then it is kept here and sent again. Touches no file.

use sae_core::analysis::labels::{Change, Entry, Labels, Saved, Written};
use std::collections::BTreeMap;

/// Edits that can be undone at most.
const UNDO: usize = 1000;

/// The labels of one autoencoder, being edited.
#[derive(Clone, Debug, Default)]
pub struct LabelEdits {
    sae: String,
    /// Who edits.
    author: String,
    /// As the file was last seen.
    known: Labels,
    /// The same with the edits that it lacks.
    shown: Labels,
    /// Edits that the file lacks, in order.
    pending: Vec<Change>,
    /// How many of them the writer is at.
    sent: usize,
    undo: Vec<Change>,
    redo: Vec<Change>,
    draft: Option<Entry>,
    failure: Option<String>,
}

impl LabelEdits {
    /// Labels as the file has them.
    pub fn new(sae: &str, author: &str, known: Labels) -> Self {
        Self { sae: sae.into(), author: author.into(), shown: known.clone(), known, ..Self::default() }
    }

    /// All that is written, for saving on top of.
    pub fn known(&self) -> &Labels {
        &self.known
    }

    fn written(&self) -> Option<&Written> {
        self.shown.written(&self.sae)
    }

    /// What is written about a feature, with what is being typed.
    pub fn entry(&self, feature: u32) -> Entry {
        match &self.draft {
            Some(draft) if draft.feature == feature => draft.clone(),
            _ => self.written().and_then(|w| w.entry(feature).cloned()).unwrap_or_else(|| Entry::empty(feature)),
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

    /// Takes what is being typed; it becomes an edit with [`LabelEdits::commit`].
    pub fn type_in(&mut self, entry: Entry) {
        if self.draft.as_ref().is_some_and(|draft| draft.feature != entry.feature) {
            self.commit();
        }
        self.draft = Some(entry);
    }

    /// Makes an edit of what was typed.
    pub fn commit(&mut self) {
        let Some(mut after) = self.draft.take() else { return };
        let before = self.entry(after.feature);
        after.label = after.label.trim().into();
        if after.label != before.label {
            // A score was of the words that it was measured with.
            after.score = None;
            after.author = if after.label.is_empty() { String::new() } else { self.author.clone() };
        }
        if after != before {
            self.make(Change::Entry { before, after });
        }
    }

    /// Sets or takes the star of a feature.
    pub fn toggle_star(&mut self, feature: u32) {
        self.commit();
        let before = self.entry(feature);
        let after = Entry { star: !before.star, ..before.clone() };
        self.make(Change::Entry { before, after });
    }

    /// Adds features to a named list.
    pub fn add_to_list(&mut self, name: &str, features: &[u32]) {
        let before = self.lists().and_then(|lists| lists.get(name)).cloned().unwrap_or_default();
        let mut after = before.clone();
        after.extend(features);
        after.sort_unstable();
        after.dedup();
        if after != before {
            self.make(Change::List { name: name.into(), before, after });
        }
    }

    /// Removes a named list.
    pub fn remove_list(&mut self, name: &str) {
        if let Some(before) = self.lists().and_then(|lists| lists.get(name)).cloned() {
            self.make(Change::List { name: name.into(), before, after: Vec::new() });
        }
    }

    fn make(&mut self, change: Change) {
        self.redo.clear();
        self.undo.push(change.clone());
        if self.undo.len() > UNDO {
            self.undo.remove(0);
        }
        self.put(change);
    }

    fn put(&mut self, change: Change) {
        self.shown.apply(&self.sae, std::slice::from_ref(&change));
        self.pending.push(change);
    }

    /// Whether there is an edit to undo.
    pub fn has_undo(&self) -> bool {
        !self.undo.is_empty() || self.draft.is_some()
    }

    /// Whether an undone edit can come back.
    pub fn has_redo(&self) -> bool {
        !self.redo.is_empty()
    }

    /// Takes the last edit back; returns the feature that it was about.
    pub fn undo(&mut self) -> Option<u32> {
        self.commit();
        let change = self.undo.pop()?;
        self.put(change.reversed());
        self.redo.push(change);
        about(self.redo.last()?)
    }

    /// Makes the edit again that was taken back last.
    pub fn redo(&mut self) -> Option<u32> {
        let change = self.redo.pop()?;
        self.put(change.clone());
        self.undo.push(change);
        about(self.undo.last()?)
    }

    /// Edits for the writer, unless it is at work; the answer comes to [`LabelEdits::saved`].
    pub fn send(&mut self) -> Option<Vec<Change>> {
        if self.sent > 0 || self.pending.is_empty() {
            return None;
        }
        self.sent = self.pending.len();
        Some(self.pending.clone())
    }

    /// Takes the writer's answer; returns what there is to tell.
    pub fn saved(&mut self, result: Result<Saved, String>) -> Option<String> {
        let sent = std::mem::take(&mut self.sent);
        match result {
            Ok(saved) => {
                self.pending.drain(..sent);
                self.failure = None;
                self.seen(saved.labels);
                saved.moved.map(|(path, cause)| {
                    format!("labels.json could not be read ({cause}); it was kept as {}", path.display())
                })
            }
            Err(reason) => {
                self.failure = Some(reason);
                None
            }
        }
    }

    /// Takes in what others wrote.
    pub fn seen(&mut self, labels: Labels) {
        self.shown = labels.clone();
        self.shown.apply(&self.sae, &self.pending);
        self.known = labels;
    }

    /// Edits that are not on disk, and why the last attempt failed.
    pub fn unsaved(&self) -> (usize, Option<&str>) {
        (self.pending.len() + usize::from(self.draft.is_some()), self.failure.as_deref())
    }
}

fn about(change: &Change) -> Option<u32> {
    match change {
        Change::Entry { after, .. } => Some(after.feature),
        Change::List { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labeling() -> LabelEdits {
        LabelEdits::new("base", "ann", Labels::default())
    }

    fn write(labeling: &mut LabelEdits, feature: u32, label: &str) {
        let entry = Entry { label: label.into(), ..labeling.entry(feature) };
        labeling.type_in(entry);
        labeling.commit();
    }

    fn on_disk(labeling: &mut LabelEdits, disk: &mut Labels) {
        let changes = labeling.send().unwrap();
        disk.apply("base", &changes);
        labeling.saved(Ok(Saved { labels: disk.clone(), moved: None }));
    }

    #[test]
    fn edits_are_undone_and_redone_in_order() {
        let mut l = labeling();
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
        let (mut l, mut disk) = (labeling(), Labels::default());
        write(&mut l, 1, "one");
        assert_eq!(l.send().unwrap().len(), 1);
        write(&mut l, 2, "two");
        assert!(l.send().is_none(), "one writer at a time");
        l.saved(Err("the disk is full".into()));
        assert_eq!(l.unsaved(), (2, Some("the disk is full")));
        on_disk(&mut l, &mut disk);
        assert_eq!(l.unsaved(), (0, None));
        assert_eq!(disk.written("base").unwrap().entries().len(), 2);
    }

    #[test]
    fn what_others_write_is_shown_under_ones_own_edits() {
        let mut l = labeling();
        write(&mut l, 1, "mine");
        let mut theirs = Labels::default();
        let entry = |feature, label: &str| Entry { feature, label: label.into(), ..Entry::default() };
        for (feature, label) in [(1, "theirs"), (2, "other")] {
            let change = Change::Entry { before: Entry::empty(feature), after: entry(feature, label) };
            theirs.apply("base", &[change]);
        }
        l.seen(theirs);
        assert_eq!((l.entry(1).label.as_str(), l.entry(2).label.as_str()), ("mine", "other"));
        assert!(l.entry(1).notes.contains("theirs"));
    }

    #[test]
    fn typing_for_another_feature_keeps_what_was_typed_for_the_first() {
        let mut l = labeling();
        l.type_in(Entry { label: "half".into(), ..Entry::empty(1) });
        assert_eq!(l.unsaved().0, 1);
        l.type_in(Entry { notes: "other".into(), ..Entry::empty(2) });
        assert_eq!(l.get(1).unwrap().label, "half");
    }
}
