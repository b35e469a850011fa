//! A run that is read from a server: everything in its tables is shown as if it were here, labels are written there, and what is
//! not done here is said.

use crate::fixture::{self, SAE};
use crate::harness::{label_on_disk, listed, open, open_another, open_folder, settle, start, write_label};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use sae_core::Run;
use sae_core::analysis::labels::{Change, Entry, Labels};
use sae_gui::state::location::{Location, Page};
use sae_gui::state::{Link, clipboard};
use sae_gui::view::{App, Outcome};
use sae_workbench::{Cancel, Control, NoProgress, ServeRequest};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lets frames pass until the window shows a text, wherever and how often.
fn wait_for(app: &mut Harness<'static, App>, text: &str) {
    let begun = Instant::now();
    while app.query_all_by_label_contains(text).next().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the window never shows {text:?}");
        std::thread::sleep(Duration::from_millis(20));
        app.step();
    }
}

/// A server, until it is dropped.
struct Serving {
    url: String,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    fn new(run: &Path) -> Self {
        Self::at(run, 0)
    }

    /// A server with this port; with 0, any that is free.
    fn at(run: &Path, port: u16) -> Self {
        let server = ServeRequest { port, ..ServeRequest::new(run) }.bind().unwrap();
        let (url, cancel) = (server.url(), Cancel::new());
        let control = cancel.clone();
        let thread = std::thread::spawn(move || server.run(&Control::new(NoProgress, control)).unwrap());
        Self { url, cancel, thread: Some(thread) }
    }

    /// A link to a path of the server.
    fn link(&self, path: &str) -> Link {
        Link::parse(&self.url.replace("/?", &format!("{path}?"))).unwrap()
    }

    /// The app at a path of the server.
    fn open(&self, path: &str) -> Harness<'static, App> {
        open(self.link(path))
    }

    fn port(&self) -> u16 {
        self.url.split([':', '/']).find_map(|part| part.parse().ok()).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn a_run_behind_a_server_is_shown_and_its_labels_are_written_there() {
    let (_dir, run) = fixture::run(64);
    let red = Entry { label: "red rings ".into(), ..Entry::empty(6) };
    Labels::save(&run, SAE, &[Change::Entry { before: Entry::empty(6), after: red }], &Labels::default()).unwrap();
    fixture::contrast(&run, "year");
    let serving = Serving::new(run.root());
    let (here, mut app) = (open_folder(run.root()), serving.open("/f/6"));
    assert_eq!(listed(&app).len().min(10), listed(&here).len().min(10));
    let root = app.state().session().run().unwrap().info.root.clone();
    assert_ne!(root, run.root());
    app.get_by_label_contains("Feature 6");
    // What the window shows is the same as of a folder, but for heat maps.
    let served = app.state().session().run().unwrap();
    let local = here.state().session().run().unwrap();
    assert_eq!(served.list.rows(), local.list.rows());
    assert_eq!(served.info.saes, local.info.saes);
    let copied = clipboard::feature_json(served).unwrap();
    let copied: serde_json::Value = serde_json::from_str(&copied).unwrap();
    assert_eq!(
        copied["run"],
        *run.root().canonicalize().unwrap().to_str().unwrap(),
        "the folder there, not that of the copies"
    );
    write_label(&mut app, "from elsewhere");
    assert_eq!(label_on_disk(&run, 6).as_deref(), Some("red rings from elsewhere"));
    // What is written there arrives.
    let entry = Entry { label: "from there".into(), ..Entry::empty(9) };
    let change = Change::Entry { before: Entry::empty(9), after: entry };
    Labels::save(&run, SAE, &[change], &Labels::default()).unwrap();
    wait_for(&mut app, "from there");
    let link = app.state().session().run().unwrap().link().to_string();
    assert!(link.starts_with("http://127.0.0.1:") && link.ends_with("/f/6") && !link.contains("token"), "{link}");

    // The server is gone: it is said once, and nothing that is shown is lost.
    drop(serving);
    wait_for(&mut app, "he server does not answer");
    app.get_by_label_contains("Feature 6");
    drop(app);
    assert!(!root.exists(), "no copies stay behind");
}

#[test]
fn edits_that_a_server_has_not_taken_when_the_app_ends_are_made_when_its_run_is_opened_there_again() {
    let (dir, run) = fixture::run(16);
    let (_other_dir, other) = fixture::run(16);
    let memory = dir.path().join("memory");
    let serving = Serving::new(run.root());
    let port = serving.port();
    let (stop, outcome) = (Arc::new(AtomicBool::new(false)), Outcome::default());
    let mut app = start(serving.link("/f/6"), &memory, &stop, &outcome);
    drop(serving);
    write_label(&mut app, "red rings");
    stop.store(true, Ordering::SeqCst);
    app.step();
    eframe::App::on_exit(app.state_mut(), None);
    let told = outcome.lock().unwrap().take().unwrap().unwrap_err();
    assert!(
        told.contains(&format!("labels of http://127.0.0.1:{port}/")) && told.contains("at the same address"),
        "{told}"
    );
    drop(app);

    // Another run has the address for a while, and the first one another token after that.
    let opened = |run: &Run| {
        let serving = Serving::at(run.root(), port);
        let (stop, outcome) = Default::default();
        (start(serving.link("/f/6"), &memory, &stop, &outcome), serving)
    };
    drop(opened(&other));
    assert_eq!(label_on_disk(&other, 6), None);
    let (app, _serving) = opened(&run);
    app.get_by_label_contains("1 edit that could not be saved the last time: made again.");
    assert_eq!(label_on_disk(&run, 6).as_deref(), Some("red rings"));
    let kept = std::fs::read_dir(&memory).unwrap().flatten();
    let kept: Vec<_> = kept.filter(|file| file.file_name().to_string_lossy().starts_with("unsaved-")).collect();
    assert!(kept.is_empty(), "the file is gone once its edits are saved: {kept:?}");
}

#[test]
fn edits_go_on_to_a_server_that_was_started_again_with_another_token() {
    let (_dir, run) = fixture::run(16);
    let serving = Serving::new(run.root());
    let port = serving.port();
    let mut app = serving.open("/f/6");
    drop(serving);
    write_label(&mut app, "red rings");
    assert_eq!(label_on_disk(&run, 6), None);
    let serving = Serving::at(run.root(), port);
    open_another(&mut app, &serving.url);
    assert_eq!(label_on_disk(&run, 6).as_deref(), Some("red rings"));
    assert_eq!(app.state().session().unsaved().0, 0);
}

#[test]
fn samples_have_their_words_and_pictures_and_what_is_elsewhere_is_said() {
    let (_dir, run) = fixture::run(16);
    let serving = Serving::new(run.root());
    let (here, there) =
        (open(Link { location: Some(Location::Sample(3)), ..Link::to_run(run.root()) }), serving.open("/s/3"));
    there.get_by_label_contains("heat maps and active features are computed there");
    let root = |app: &Harness<'static, App>| app.state().session().run().unwrap().info.root.clone();
    let tokens = |app: &Harness<'static, App>| std::fs::read(root(app).join("tokens/part-00000.parquet")).unwrap();
    assert_eq!(tokens(&there), tokens(&here));
    let mut filter = serving.open("/filter");
    filter.get_by_label_contains("12 of 24 samples are kept");
    settle(&mut filter);
    let playground = serving.open("/features");
    let info = &playground.state().session().run().unwrap().info;
    assert!(info.captured.open().is_err_and(|reason| reason.contains("its model is not run here")));
    assert_eq!(info.path(), run.root().canonicalize().unwrap());

    // A command is not run on copies: it says what to run, and where.
    std::fs::remove_dir_all(run.features(SAE)).unwrap();
    let mut app = serving.open("/");
    app.get_by_label_contains("There is no feature index of base yet");
    app.get_by_label("Make the feature index").click();
    app.run_steps(3);
    app.get_by_label("Start").click();
    app.run_steps(3);
    app.get_by_label_contains("Run this there: sae index --run");
    assert_eq!(app.state().session().run().unwrap().page(), Page::Features);
}

#[test]
fn an_address_without_a_token_or_a_server_is_answered() {
    let (_dir, run) = fixture::run(4);
    let serving = Serving::new(run.root());
    let address = serving.url.split('?').next().unwrap().to_owned();
    let app = open(Link::parse(&address).unwrap());
    app.get_by_label_contains("has no token");
    let app = open(Link::parse(&format!("{address}?token=wrong")).unwrap());
    app.get_by_label_contains("This needs the token");
    drop(serving);
    let app = open(Link::parse(&format!("{address}?token=5f0c")).unwrap());
    app.get_by_label_contains("he server does not answer");
}
