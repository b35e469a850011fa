//! Commands, opening and saving, without a window.

use super::*;
use crate::state::run_info::{RunInfo, SaeInfo};
use sae_core::analysis::index::FeatureRow;
use sae_workbench::feature_table::PositionCounts;

fn opened(features: u32) -> OpenedRun {
    let row = |feature| FeatureRow {
        feature,
        weight_paper: Some(1.0 - feature as f64 / 100.0),
        class: "cross".into(),
        ..FeatureRow::default()
    };
    let info = RunInfo {
        root: "/runs/a".into(),
        sae: Some("base".into()),
        saes: vec![SaeInfo { name: "base".into(), trained: true, indexed: true, scored: true }],
        samples: 5,
        indexed: PositionCounts { all: 30, text: 10, image: 20, ..PositionCounts::default() },
        export_folder: "/runs/a-kept".into(),
        ..RunInfo::default()
    };
    OpenedRun { info, rows: (0..features).map(row).collect(), author: "ann".into(), ..OpenedRun::default() }
}

fn session(link: &str) -> Session {
    let mut session = Session::default();
    assert!(matches!(&session.open_text(link)[..], [Effect::Open(_)]));
    session.opened(Ok(opened(20)));
    session
}

fn current(session: &Session) -> Option<u32> {
    session.run().and_then(OpenRun::feature_number)
}

fn type_label(session: &mut Session, feature: u32, label: &str) {
    let run = session.run_mut().unwrap();
    let mut entry = run.label_edits.entry(feature);
    entry.label = label.into();
    run.label_edits.set_draft(entry);
}

/// The writer's answer to edits of the first run.
fn answer(session: &mut Session, result: Result<Saved, String>) -> Vec<Effect> {
    let edits = Edits { origin: "/runs/a".into(), sae: "base".into(), changes: vec![], on_disk: Labels::default() };
    session.saved(&edits, result)
}

fn save(session: &mut Session) -> Vec<Effect> {
    let labels = session.run().unwrap().label_edits.edited().clone();
    answer(session, Ok(Saved { labels, moved: None, conflicts: vec![] }))
}

#[test]
fn a_link_shows_its_location_and_a_run_its_first_feature() {
    assert_eq!(current(&session("sae://a/f/7")), Some(7));
    assert_eq!(current(&session("a")), Some(0));
    assert_eq!(session("sae://a/?page=filter").run().unwrap().page(), Page::Filter);
    assert_eq!(session("sae://a/s/3").run().unwrap().sample(), 3);
    for (link, expected) in [("sae://a/f/700", "no feature 700"), ("sae://a/s/5", "Sample 5 does not exist")] {
        let session = session(link);
        assert_eq!(current(&session), Some(0));
        assert!(session.notice.is_some_and(|notice| notice.contains(expected)));
    }
}

#[test]
fn a_copied_link_shows_the_same_view() {
    let mut session = session("a");
    session.go(Location::Feature(12), VisitKind::Chosen);
    assert_eq!(session.apply(Command::CopyLink), [Effect::Copy("sae:///runs/a/f/12".into())]);
    assert_eq!(session.notice.as_deref(), Some("Link copied."));
    let run = session.run_mut().unwrap();
    run.list.search("class:cross 1");
    run.list.sort_by(super::super::field::Field::Density);
    let link = run.link().to_string();
    assert_eq!(link, "sae:///runs/a/f/12?search=class:cross%201&sort=-density,class");
    let again = self::session(&link);
    let list = &again.run().unwrap().list;
    assert_eq!((list.search_text(), list.sort()), ("class:cross 1", session.run().unwrap().list.sort()));
}

#[test]
fn a_link_sets_the_threshold_once_the_scores_are_read() {
    let mut session = session("sae://a/?page=filter&by=random&keep=2");
    session.scored(Ok(scores(&["pmi", "random"])));
    let run = session.run().unwrap();
    assert_eq!((run.scores().unwrap().name(), run.scores().unwrap().kept()), ("random", 2));
    assert_eq!(run.link().to_string(), "sae:///runs/a/?page=filter&by=random&keep=2");
}

#[test]
fn commands_walk_and_come_back() {
    let mut session = session("a");
    session.run_mut().unwrap().list.search("1");
    assert!(session.allows(Command::Dismiss));
    session.apply(Command::Next);
    assert_eq!(current(&session), Some(1), "the first row of the search");
    session.apply(Command::Next);
    assert_eq!(current(&session), Some(10));
    session.apply(Command::Last);
    assert_eq!(current(&session), Some(19));
    session.apply(Command::PageUp);
    assert_eq!(current(&session), Some(1));
    session.apply(Command::Back);
    assert_eq!(current(&session), Some(0));
    assert!(!session.allows(Command::Back) && session.allows(Command::Forward));
    session.apply(Command::Dismiss);
    assert_eq!(session.run().unwrap().list.len(), 20);
}

#[test]
fn dismiss_clears_one_thing_at_a_time() {
    let mut session = session("a");
    let list = &mut session.run_mut().unwrap().list;
    list.search("1");
    list.restrict(Some([1, 10].into()));
    list.toggle_selected(10, None);
    session.apply(Command::Shortcuts);
    let state = |session: &Session| {
        let list = &session.run().unwrap().list;
        (session.overlay.is_open(), list.selected().len(), list.restricted_to(), list.search_text().len())
    };
    let mut states = vec![state(&session)];
    while session.allows(Command::Dismiss) {
        session.apply(Command::Dismiss);
        states.push(state(&session));
    }
    let expected = [
        (true, 1, Some(2), 1),
        (false, 1, Some(2), 1),
        (false, 0, Some(2), 1),
        (false, 0, None, 1),
        (false, 0, None, 0),
    ];
    assert_eq!(states, expected);
}

#[test]
fn pages_remember_what_was_on_them() {
    let mut session = session("a");
    session.go(Location::Feature(9), VisitKind::Chosen);
    session.go(Location::Sample(2), VisitKind::Chosen);
    session.apply(Command::Next);
    session.apply(Command::Page(Page::Run));
    assert!(!session.allows(Command::Next) && !session.allows(Command::Star));
    session.apply(Command::Page(Page::Sample));
    assert_eq!(session.run().unwrap().sample(), 3);
    session.apply(Command::Page(Page::Features));
    assert_eq!((session.run().unwrap().page(), current(&session)), (Page::Features, Some(9)));
}

#[test]
fn next_walks_the_list_that_a_sample_came_from() {
    let mut session = session("a");
    let list = SampleList { title: "dropped".into(), samples: vec![4, 1, 3] };
    session.go_to_sample(4, list.clone());
    session.apply(Command::Next);
    assert_eq!(session.run().unwrap().sample(), 1);
    session.apply(Command::Next);
    session.apply(Command::Next);
    assert_eq!(session.run().unwrap().sample(), 3, "the last one");
    assert_eq!(session.run().unwrap().sample_list, Some(list));
    session.go(Location::Sample(0), VisitKind::Chosen);
    session.apply(Command::Next);
    assert_eq!((session.run().unwrap().sample(), &session.run().unwrap().sample_list), (1, &None));
}

#[test]
fn edits_are_saved_and_undo_shows_the_feature() {
    let mut session = session("a");
    session.go(Location::Feature(4), VisitKind::Chosen);
    let starred = session.apply(Command::Star);
    assert!(matches!(&starred[..], [Effect::Save(edits)] if edits.sae == "base" && edits.changes.len() == 1));
    save(&mut session);
    session.run_mut().unwrap().list.search("star:yes");
    session.go(Location::Feature(8), VisitKind::Chosen);
    session.apply(Command::Undo);
    assert_eq!(current(&session), Some(4));
    assert!(session.run().unwrap().list.is_empty(), "the search knows of the undo");
}

#[test]
fn a_star_is_given_to_all_selected_features() {
    let mut session = session("a");
    let list = &mut session.run_mut().unwrap().list;
    list.toggle_selected(3, None);
    list.toggle_selected(5, None);
    let stars =
        |session: &Session| (0..20).filter(|k| session.run().unwrap().list.annotations().star(*k)).collect::<Vec<_>>();
    session.apply(Command::Star);
    assert_eq!(stars(&session), [3, 5]);
    session.apply(Command::Star);
    assert_eq!(stars(&session), [] as [u32; 0]);
}

#[test]
fn what_is_typed_becomes_an_edit_when_another_feature_is_shown() {
    let mut session = session("a");
    type_label(&mut session, 0, "red");
    assert!(matches!(session.apply(Command::Next)[..], [Effect::Save(_), Effect::Reveal]));
    assert_eq!(session.run().unwrap().list.annotations().label(0), Some("red"));
}

#[test]
fn the_window_closes_when_everything_is_saved() {
    let mut session = session("a");
    assert_eq!(session.apply(Command::Quit), [Effect::Quit], "nothing was edited");
    type_label(&mut session, 1, "half typed");
    assert!(!session.may_close());
    assert!(matches!(&session.apply(Command::Quit)[..], [Effect::Save(Edits { changes, .. })] if changes.len() == 1));
    assert_eq!(save(&mut session), [Effect::Quit]);
    assert!(session.may_close());
}

#[test]
fn edits_that_cannot_be_saved_are_tried_again_and_the_window_asks_before_it_closes() {
    let mut session = session("a");
    session.apply(Command::Star);
    assert!(answer(&mut session, Err("no space".into())).is_empty());
    assert!(!session.overlay.is_open(), "nobody wants to close the window");
    assert!(matches!(session.retry()[..], [Effect::Save(_)]));
    assert!(session.retry().is_empty(), "the writer is at work");
    answer(&mut session, Err("no space".into()));
    assert!(matches!(session.apply(Command::Quit)[..], [Effect::Save(_)]));
    answer(&mut session, Err("no space".into()));
    assert!(matches!(session.overlay, Overlay::Unsaved(_)));
    // Room was made meanwhile.
    assert!(matches!(session.quit()[..], [Effect::Save(_)]));
    assert_eq!(save(&mut session), [Effect::Quit]);
    assert!(session.retry().is_empty());
}

#[test]
fn a_run_that_cannot_be_opened_leaves_the_open_one_as_it_is() {
    let mut session = session("a");
    session.go(Location::Feature(5), VisitKind::Chosen);
    session.run_mut().unwrap().list.search("class:cross");
    session.apply(Command::Open);
    assert!(matches!(&session.open_text(" /nope ")[..], [Effect::Open(link)] if link.run.as_os_str() == "/nope"));
    session.opened(Err("There is no such folder: /nope".into()));
    assert!(matches!(&session.overlay, Overlay::Open(dialog) if dialog.problem.is_some()));
    assert_eq!((current(&session), session.run().unwrap().list.search_text()), (Some(5), "class:cross"));
    assert!(session.open_text("sae://").is_empty());
    session.apply(Command::Dismiss);
    assert!(session.run().is_some() && session.allows(Command::Reload));
}

fn scores(names: &[&str]) -> Scores {
    let column = |name: &&str| ((*name).to_owned(), (0..5).map(|n| Some(f64::from(n))).collect());
    let ids = (0..5).map(|n| n.to_string()).collect();
    Scores { ids, columns: names.iter().map(column).collect(), ..Scores::default() }
}

#[test]
fn reloading_keeps_what_was_searched_chosen_and_typed() {
    let mut session = session("a");
    session.scored(Ok(scores(&["pmi", "random"])));
    session.go(Location::Feature(5), VisitKind::Chosen);
    session.go(Location::Feature(7), VisitKind::Chosen);
    let run = session.run_mut().unwrap();
    run.list.search("7");
    run.list.sort_by(super::super::field::Field::Density);
    run.list.restrict(Some([7, 8].into()));
    run.list.toggle_selected(7, None);
    run.samples.text = "ring".into();
    run.export.dedup = Some(0.8);
    run.playground.draft.text = "half a prom".into();
    run.playground.steer(3, 2.0);
    let Some(Ok(filter)) = &mut run.filter else { panic!("scores") };
    filter.decide_by(1);
    filter.keep(2);
    filter.choose([0], Some(true));
    session.apply(Command::Page(Page::Playground));
    let sort = session.run().unwrap().list.sort();
    assert!(matches!(&session.apply(Command::Reload)[..], [Effect::Open(_)]));
    // What is done while the run is being read is not lost either.
    session.run_mut().unwrap().playground.draft.text += "pt";
    session.opened(Ok(opened(20)));
    session.scored(Err("The file is being written.".into()));
    session.apply(Command::Reload);
    session.opened(Ok(opened(20)));
    session.scored(Ok(scores(&["pmi", "random"])));
    let run = session.run().unwrap();
    assert_eq!((run.page(), run.feature_number()), (Page::Playground, Some(7)));
    assert_eq!((run.list.search_text(), run.list.sort(), run.list.restricted_to()), ("7", sort, Some(2)));
    assert_eq!((run.list.selected().len(), run.samples.text.as_str(), run.export.dedup), (1, "ring", Some(0.8)));
    assert_eq!((run.playground.draft.text.as_str(), run.playground.draft.steers.len()), ("half a prompt", 1));
    assert!(!run.playground.submits_at_once, "it was never submitted");
    let filter = run.scores().unwrap();
    assert_eq!((filter.name(), filter.target(), filter.choices().len()), ("random", 2, 1));
    session.apply(Command::Back);
    assert_eq!(session.run().unwrap().page(), Page::Features);
    session.apply(Command::Back);
    assert_eq!(current(&session), Some(5));
}

#[test]
fn a_link_into_the_open_run_shows_what_it_says_and_keeps_the_rest() {
    let mut session = session("a");
    session.scored(Ok(scores(&["pmi", "random"])));
    let Some(Ok(filter)) = &mut session.run_mut().unwrap().filter else { panic!("scores") };
    filter.choose([0], Some(true));
    session.run_mut().unwrap().playground.draft.text = "a ring".into();
    let _ = session.open_text("sae://a/?page=filter&by=random&keep=1&prompt=other");
    session.opened(Ok(opened(20)));
    session.scored(Ok(scores(&["pmi", "random"])));
    let run = session.run().unwrap();
    let filter = run.scores().unwrap();
    assert_eq!((run.page(), run.playground.draft.text.as_str()), (Page::Filter, "other"));
    assert_eq!((filter.name(), filter.target(), filter.choices().len()), ("random", 1, 1));
}

#[test]
fn a_finished_job_reads_its_own_run_again_and_no_other() {
    let invocation = |session: &Session| Invocation::index(&session.run().unwrap().info, "base");
    let mut session = session("a");
    session.started(invocation(&session));
    assert!(matches!(&session.ended(JobState::Done(String::new()))[..], [Effect::Open(_)]));
    session.opened(Ok(opened(20)));
    session.started(invocation(&session));
    assert!(session.ended(JobState::Failed("no space".into())).is_empty());
    session.started(invocation(&session));
    let _ = session.open_text("b");
    session.opened(Ok(other()));
    assert!(session.ended(JobState::Done(String::new())).is_empty());
    assert_eq!(session.run().unwrap().info.root, std::path::Path::new("/runs/b"));
    assert_eq!(session.notice.as_deref(), Some("Indexing base is done: /runs/a"));
}

#[test]
fn a_run_that_is_gone_stays_open_and_can_be_tried_again() {
    let mut session = session("a");
    session.go(Location::Feature(5), VisitKind::Chosen);
    session.apply(Command::Reload);
    session.opened(Err("gone".into()));
    assert_eq!((session.notice.as_deref(), current(&session)), (Some("gone"), Some(5)));

    let mut first = Session::default();
    let _ = first.open_text("a");
    first.opened(Err("gone".into()));
    assert!(matches!(&first.phase, Phase::Failed(reason) if reason == "gone"));
    assert!(first.allows(Command::Reload) && !first.allows(Command::Next));
    assert!(matches!(first.apply(Command::Reload)[..], [Effect::Open(_)]));
}

#[test]
fn edits_that_are_not_saved_survive_a_reload() {
    let mut session = session("a");
    session.apply(Command::Star);
    answer(&mut session, Err("no space".into()));
    session.apply(Command::Reload);
    session.opened(Ok(opened(20)));
    assert!(session.run().unwrap().list.annotations().star(0) && session.allows(Command::Undo));
    assert!(!session.may_close());
}

/// Another run than that of [`opened`].
fn other() -> OpenedRun {
    let mut other = opened(20);
    other.info.root = "/runs/b".into();
    other
}

#[test]
fn labels_that_are_edited_while_another_run_opens_are_saved() {
    let mut session = session("a");
    type_label(&mut session, 0, "first");
    let effects = session.open_text("b");
    assert!(matches!(&effects[..], [Effect::Save(_), Effect::Open(_)]));
    // The writer is still at work on the first label; one more is written, and another one half typed.
    type_label(&mut session, 1, "second");
    session.go(Location::Feature(2), VisitKind::Chosen);
    type_label(&mut session, 2, "half typed");
    session.opened(Ok(other()));
    assert_eq!(session.unsaved().0, 3);
    let mut disk = Labels::default();
    disk.apply("base", &effects.into_iter().find_map(changes).unwrap());
    let effects = answer(&mut session, Ok(Saved { labels: disk.clone(), moved: None, conflicts: vec![] }));
    disk.apply("base", &effects.into_iter().find_map(changes).unwrap());
    let labels = disk.written("base").unwrap().entries().iter().map(|entry| entry.label.as_str());
    assert_eq!(labels.collect::<Vec<_>>(), ["first", "second", "half typed"]);
    answer(&mut session, Ok(Saved { labels: disk, moved: None, conflicts: vec![] }));
    assert!(session.may_close());
    // The answers about the first run did not change the second one.
    assert!(session.run().unwrap().label_edits.entries().is_empty());
}

fn changes(effect: Effect) -> Option<Vec<sae_core::analysis::labels::Change>> {
    match effect {
        Effect::Save(edits) => Some(edits.changes),
        _ => None,
    }
}

#[test]
fn unsaved_edits_of_a_closed_run_keep_the_window_open_and_come_back_with_the_run() {
    let mut session = session("a");
    session.apply(Command::Star);
    answer(&mut session, Err("no space".into()));
    let _ = session.open_text("b");
    session.opened(Ok(other()));
    answer(&mut session, Err("no space".into()));
    assert_eq!(session.unsaved(), (1, Some("/runs/a: no space".into())));
    assert!(!session.may_close());
    assert!(matches!(&session.apply(Command::Quit)[..], [Effect::Save(edits)] if edits.origin.ends_with("a")));
    answer(&mut session, Err("no space".into()));
    assert!(matches!(session.overlay, Overlay::Unsaved(_)));
    assert!(matches!(session.retry()[..], [Effect::Save(_)]));
    // The run is opened again: its edits are undone there.
    let _ = session.open_text("a");
    session.opened(Ok(opened(20)));
    assert!(session.run().unwrap().list.annotations().star(0) && session.allows(Command::Undo));
    save(&mut session);
    assert!(session.may_close() && session.unsaved_labels().next().is_none());
}

#[test]
fn what_the_writer_does_not_have_yet_is_saved_at_the_end() {
    let mut session = session("a");
    session.apply(Command::Star);
    type_label(&mut session, 1, "half typed");
    let [edits] = &session.take_unsent()[..] else { panic!("one file") };
    assert_eq!(edits.changes.len(), 1, "the star is on its way");
    assert!(session.take_unsent().is_empty());
}

#[test]
fn a_run_without_an_index_can_be_opened() {
    let mut session = Session::default();
    let _ = session.open_text("sae://a/f/3");
    let info = RunInfo { root: "/runs/a".into(), samples: 5, ..RunInfo::default() };
    session.opened(Ok(OpenedRun { info, no_features: Some("no index".into()), ..OpenedRun::default() }));
    assert!(session.notice.as_deref().is_some_and(|notice| notice.contains("has no feature index")));
    let run = session.run().unwrap();
    assert_eq!(
        (run.page(), run.feature_number(), run.no_features.as_deref()),
        (Page::Features, None, Some("no index"))
    );
    assert!(!session.allows(Command::MakeIndex), "there is no autoencoder");
    for command in Command::ALL {
        session.apply(command);
    }
}

#[test]
fn jobs_are_confirmed_before_they_start() {
    let mut session = session("a");
    assert!(session.apply(Command::MakeIndex).is_empty());
    assert!(matches!(&session.overlay, Overlay::Confirm(invocation) if invocation.command() == "index"));
}

#[test]
fn nothing_that_needs_a_run_is_allowed_before_there_is_one() {
    let mut session = Session::default();
    for command in Command::ALL {
        session.apply(command);
    }
    assert!(session.run().is_none());
}
