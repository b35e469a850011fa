//! What the model writes under a guard on the Playground page: the bundled model, an autoencoder and a probe that says whether a caption
//! names a skin tone.

use crate::fixture;
use crate::harness::{SIZE, key, open, open_in, press, settle};
use egui::{Key, Modifiers, Role};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use filters::probe::Kind;
use sae_core::analysis::feature_sets::Part as SamplePart;
use sae_core::autoencoder::Architecture;
use sae_core::store::Hook;
use sae_core::train::TrainConfig;
use sae_gui::state::Link;
use sae_gui::state::guard::{CorrectionKind, GuardSettings};
use sae_gui::state::invocation::Invocation;
use sae_gui::state::location::{Location, Page};
use sae_gui::state::open_run::OpenRun;
use sae_gui::state::writing::{Ending, Part, Sentence, WritingState};
use sae_gui::view::App;
use sae_workbench::generate::{End, Event};
use sae_workbench::{Control, HarvestRequest, IndexRequest, ProbeRequest, SaeChoice, TrainRequest};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the guard judges in these tests: captions end at colons and commas, not in full stops.
const UNTIL: &str = "/[:,]/";
/// Images on which the bundled model names a skin tone, among others.
const IMAGES: usize = 12;

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets")
}

/// A run with its data, made once.
struct Guarded {
    dir: TempDir,
    /// Images of captions with a skin tone.
    images: Vec<PathBuf>,
}

impl Guarded {
    fn root(&self) -> PathBuf {
        self.dir.path().join("run")
    }
}

fn guarded() -> &'static Guarded {
    static MADE: OnceLock<Guarded> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let rows = fs::read_to_string(assets().join("demo-data/data.jsonl")).unwrap();
        let rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).map(|mut row| {
            row["tone"] = json!(row["conversations"][1]["value"].as_str().unwrap().contains("skin tone"));
            row
        });
        let (toned, plain): (Vec<Value>, Vec<Value>) = rows.partition(|row| row["tone"] == true);
        let image = |row: &Value| assets().join("demo-data").join(row["image"].as_str().unwrap());
        let images = toned.iter().take(IMAGES).map(image).collect();
        let chosen = toned.into_iter().take(60).zip(plain).enumerate().flat_map(|(set, (toned, plain))| {
            [toned, plain].map(|mut row| {
                row["set"] = json!(set);
                row
            })
        });
        let data = dir.path().join("data.jsonl");
        fs::write(&data, chosen.map(|row| format!("{row}\n")).collect::<String>()).unwrap();
        let run = dir.path().join("run");
        let control = &mut Control::default();
        let mut harvest = HarvestRequest::new(assets().join("demo-mllm"), &data, vec![Hook::block(4)], &run);
        harvest.plan.images_root = Some(assets().join("demo-data"));
        harvest.run(control).unwrap();
        let config =
            TrainConfig { features: 512, k: 8, batch: 256, ..TrainConfig::for_architecture(Architecture::TopK) };
        TrainRequest::new(&run, "layers.4", "a", config.with_steps(120)).run(control).unwrap();
        let sae = SaeChoice::new(&run);
        IndexRequest::new(sae.clone()).run(control).unwrap();
        let tone = ProbeRequest::new(sae.clone(), "tone", Kind::Binary, "tone");
        ProbeRequest { part: SamplePart::Answer, ..tone }.run(control).unwrap();
        let better = ProbeRequest::new(sae, "better", Kind::Pair, "tone");
        ProbeRequest { pair: Some("set".into()), ..better }.run(control).unwrap();
        Guarded { dir, images }
    })
}

fn settings() -> GuardSettings {
    GuardSettings { guard: "tone".into(), until: UNTIL.into(), tokens: 16, tries: 2, ..GuardSettings::default() }
}

/// A link that has the model write about one of the images.
fn link(image: usize, settings: GuardSettings) -> Link {
    Link {
        location: Some(Location::Page(Page::Playground)),
        prompt: Some(String::new()),
        image: Some(guarded().images[image].clone()),
        guard: Some(Box::new(settings)),
        ..Link::to_run(guarded().root())
    }
}

fn run<'a>(app: &'a Harness<'static, App>) -> &'a OpenRun {
    app.state().session().run().unwrap()
}

fn writing<'a>(app: &'a Harness<'static, App>) -> &'a WritingState {
    &run(app).writing
}

/// The first flagged sentence of a text that a later version stands in for, with its number.
fn corrected(writing: &WritingState) -> Option<(usize, Sentence)> {
    writing.parts().iter().enumerate().find_map(|(number, part)| match part {
        Part::Written(sentence) if sentence.kept > Some(0) && sentence.stays()?.accepted => {
            Some((number, sentence.clone()))
        }
        _ => None,
    })
}

/// The page with a text in which a flagged sentence was corrected, and a link to it.
fn flagged() -> (Harness<'static, App>, Link) {
    for seed in 0..8 {
        for image in 0..IMAGES {
            let link = link(image, GuardSettings { seed, ..settings() });
            let app = open(link.clone());
            if corrected(writing(&app)).is_some() {
                return (app, link);
            }
        }
    }
    panic!("no sentence about {IMAGES} images is corrected");
}

/// Clicks the button of this name.
fn click(app: &mut Harness<'static, App>, name: &str) {
    app.get_by_role_and_label(Role::Button, name).click();
    app.run_steps(3);
}

/// What the program `sae` writes with a command line; nothing if it is not built.
fn written_by(invocation: &Invocation, out: &Path) -> Option<String> {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().skip(1).take(2).map(|folder| folder.join("sae")).find(|path| path.is_file());
    let Some(program) = program else {
        eprintln!("skipped: the program sae is not built");
        return None;
    };
    let output = Command::new(program).args(&invocation.arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let batches = sae_core::table::scan(&out.join("answers.parquet"), &["text"]).unwrap();
    let text =
        |batch: arrow::array::RecordBatch| arrow::array::AsArray::as_string::<i32>(batch.column(0)).value(0).to_owned();
    batches.map(|batch| text(batch.unwrap())).next()
}

/// The command line of what was written last, into a new folder.
fn command(app: &Harness<'static, App>, out: &Path) -> Invocation {
    let mut info = run(app).info.clone();
    info.answer_folder = out.to_path_buf();
    Invocation::generate(&info, info.sae_name(), writing(app).submitted().unwrap())
}

#[test]
fn a_flagged_sentence_is_shown_beside_the_version_that_stays_with_what_carried_the_verdict() {
    let (mut app, link) = flagged();
    let threshold = writing(&app).threshold().unwrap();
    assert_eq!(threshold, 0.5);
    let (number, sentence) = corrected(writing(&app)).unwrap();
    let first = &sentence.versions[0];
    assert!(!first.accepted && first.severity.unwrap() > threshold, "{first:?}");
    // Every version can be found by its sentence, its try and its verdict.
    let stays = sentence.stays().unwrap();
    let said = |attempt: u32| format!("sentence {}, try {attempt}, ", number + 1);
    let taken_back = app.get_by_label_contains(&format!("{}flagged, taken back", said(0))).rect();
    let kept = app.get_by_label_contains(&said(stays.attempt)).rect();
    assert!(kept.right() <= taken_back.left(), "they stand side by side");
    let verdict = format!("Why sentence {}, first version, is flagged", number + 1);
    app.get_by_label_contains(&verdict);
    // The features are those that contribute most, as buttons that lead to them.
    let (feature, share) = first.causes[0];
    app.get_by_label(&format!("feature {feature} adds {share:.3}"));
    // Another version is explained when it is chosen, with the keyboard as well.
    app.get_by_label_contains(&said(stays.attempt)).focus();
    app.run_steps(2);
    key(&mut app, Modifiers::NONE, Key::Enter);
    assert_eq!(writing(&app).chosen, Some((number, sentence.kept.unwrap())));
    assert!(app.query_by_label_contains(&verdict).is_none());
    app.get_by_label_contains(&format!("Why sentence {}, try {}", number + 1, stays.attempt));
    let back = app.get_by_label_contains(&format!("{}flagged, taken back", said(0))).rect().center();
    press(&mut app, back);
    assert_eq!(run(&app).link(), link, "a link has the guard with its settings");
    app.get_all_by_role_and_label(Role::Button, &feature.to_string()).next().unwrap().click_accesskit();
    app.run_steps(2);
    settle(&mut app);
    assert_eq!((run(&app).page(), run(&app).feature_number()), (Page::Features, Some(feature)));
}

#[test]
fn the_copied_command_writes_what_the_page_wrote() {
    let (mut app, _) = flagged();
    let dir = tempfile::tempdir().unwrap();
    let text = writing(&app).text();
    assert!(!text.trim().is_empty());
    let shown = command(&app, &run(&app).info.answer_folder).command_line();
    let label = app.get_by_label_contains("sae generate --model").accesskit_node().label();
    assert_eq!(label.or(app.get_by_label_contains("sae generate --model").value()), Some(shown));
    let first = dir.path().join("first");
    if let Some(answer) = written_by(&command(&app, &first), &first) {
        assert_eq!(answer, text);
    }
    // Steered features are in it as well, and so is the text that the model went on from.
    let feature = run(&app).list.rows().iter().find(|row| row.max > 0.0).unwrap().feature;
    app.state_mut().session_mut().run_mut().unwrap().playground.steer(feature, 0.0);
    app.run_steps(2);
    app.get_by_label("changed since");
    click(&mut app, "Continue");
    settle(&mut app);
    let longer = writing(&app).text();
    assert!(longer.starts_with(&text), "{longer}");
    let second = dir.path().join("second");
    let invocation = command(&app, &second);
    assert!(
        invocation.arguments.contains(&format!("--begin={text}"))
            && invocation.arguments.contains(&format!("{feature}=0"))
    );
    if let Some(answer) = written_by(&invocation, &second) {
        assert_eq!(answer, longer);
    }
}

#[test]
fn the_model_stops_within_a_token_and_goes_on_from_an_edited_text() {
    // The text would be long: no end of the answer is likely under this many tokens of random text.
    let long = GuardSettings { tokens: 2000, temperature: 5.0, tries: 0, ..settings() };
    let options = sae_gui::view::Options { link: Some(link(0, long)), ..Default::default() };
    let mut app = Harness::builder().with_size(SIZE).build_eframe(|cc| App::new(&cc.egui_ctx, options).unwrap());
    let begun = Instant::now();
    let is_begun = |app: &Harness<'static, App>| {
        app.state().session().run().is_some_and(|run| run.writing.parts().len() > 1 && run.writing.busy)
    };
    while !is_begun(&app) {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing is written");
        std::thread::sleep(Duration::from_millis(2));
        app.step();
    }
    click(&mut app, "Stop");
    settle(&mut app);
    assert_eq!(writing(&app).ending(), Some(&Ending::Stopped));
    let written = writing(&app).parts().len();
    app.run_steps(20);
    assert_eq!(writing(&app).parts().len(), written, "nothing comes afterwards");
    app.get_by_label_contains("Stopped. Edit the text");
    // The first sentence stays, the rest is typed.
    click(&mut app, "Edit the text");
    let kept = writing(&app).parts()[0].text().to_owned();
    let edited = format!("{kept} a red ring:");
    app.state_mut().session_mut().run_mut().unwrap().writing.edited = Some(edited.clone());
    app.state_mut().session_mut().run_mut().unwrap().writing.settings =
        GuardSettings { tokens: 6, temperature: 0.0, ..settings() };
    app.run_steps(2);
    assert_eq!(app.get_by_label("Text for the model to continue").value().as_deref(), Some(edited.as_str()));
    click(&mut app, "Continue from here");
    settle(&mut app);
    let parts = writing(&app).parts();
    assert!(matches!(&parts[0], Part::Written(sentence) if sentence.stays().unwrap().text == kept));
    assert!(matches!(&parts[1], Part::Typed(text) if text == " a red ring:"), "{parts:?}");
    assert!(writing(&app).text().starts_with(&edited));
    app.get_by_label("yours");
}

#[test]
fn an_unedited_text_goes_on_as_if_the_model_had_not_stopped() {
    let correction = CorrectionKind::Sample;
    let whole = open(link(1, GuardSettings { tokens: 12, correction, ..settings() }));
    let text = writing(&whole).text();
    let mut app = open(link(1, GuardSettings { tokens: 6, correction, ..settings() }));
    let beginning = writing(&app).text();
    assert!(text.starts_with(&beginning) && !beginning.is_empty(), "{beginning:?} {text:?}");
    if writing(&app).ending() == Some(&Ending::Complete(End::Tokens)) {
        click(&mut app, "Continue");
        settle(&mut app);
        assert!(writing(&app).text().starts_with(&beginning));
    }
}

#[test]
fn probes_that_are_no_guards_are_listed_with_the_reason_and_a_run_without_a_model_says_so() {
    let mut app = open(Link { location: Some(Location::Page(Page::Playground)), ..Link::to_run(guarded().root()) });
    assert_eq!(writing(&app).settings.guard, "tone", "the first one that can be a guard");
    app.get_by_label_contains("The severity is the predicted probability of tone");
    app.get_by_label("Type a prompt, or choose an image.");
    app.get_by_role_and_label(Role::ComboBox, "Guard").click();
    app.run_steps(4);
    app.get_by_label_contains("compares two answers");
    // Without probes, the page says how to make one; without a model, why nothing can be written.
    let (_dir, run) = fixture::run(16);
    let page = Link { location: Some(Location::Page(Page::Playground)), ..Link::to_run(run.root()) };
    let app = open(page.clone());
    app.get_by_label_contains("A guard is a probe of the autoencoder that predicts what is not wanted.");
    app.get_by_label_contains("sae probe --run");
    fixture::probe(&run, "help");
    let app = open(page);
    app.get_by_label_contains("run.json does not say where the model is");
}

#[test]
fn what_fails_is_said_in_words_and_leaves_the_page_usable() {
    // A guard that is not there, and a regular expression that is none.
    let mut app = open(link(0, GuardSettings { guard: "none".into(), ..settings() }));
    app.get_all_by_label_contains("The autoencoder has no probe none.").next().unwrap();
    let change = |app: &mut Harness<'static, App>, settings: GuardSettings| {
        app.state_mut().session_mut().run_mut().unwrap().writing.settings = settings;
        app.run_steps(3);
    };
    change(&mut app, GuardSettings { until: "/(/".into(), ..settings() });
    app.get_all_by_label_contains("unclosed group").next().unwrap();
    assert!(app.get_by_role_and_label(Role::Button, "Write").accesskit_node().is_disabled());
    // A try that came to nothing stands where it would have been, with the reason.
    change(&mut app, settings());
    click(&mut app, "Write");
    settle(&mut app);
    assert!(!writing(&app).text().is_empty());
    let state = &mut app.state_mut().session_mut().run_mut().unwrap().writing;
    state.take(Event::Dropped { unit: 9, attempt: 1, is_finite: false });
    app.run_steps(2);
    app.get_by_label_contains("Try 1 was dropped: with steering, the model computed numbers that are not finite.");
    // An image that is gone.
    app.state_mut().session_mut().run_mut().unwrap().playground.draft.image = Some("/nowhere.png".into());
    app.run_steps(2);
    click(&mut app, "Write");
    settle(&mut app);
    app.get_all_by_label_contains("/nowhere.png").next().unwrap();
    assert!(matches!(writing(&app).ending(), Some(Ending::Failed(_))));
    assert!(app.query_by_role_and_label(Role::Button, "Write").is_some());
}

#[test]
fn the_page_fits_into_narrow_and_wide_windows() {
    let (app, link) = flagged();
    drop(app);
    for width in [1280.0, 900.0, 640.0] {
        let app = open_in(Harness::builder().with_size([width, 800.0]), link.clone());
        let versions = app.query_all_by_label_contains(", severity ");
        let rects: Vec<_> = versions.map(|node| node.rect()).collect();
        assert!(!rects.is_empty());
        for (n, rect) in rects.iter().enumerate() {
            assert!(rect.right() <= width && rect.width() > 24.0, "{width}: {rect:?}");
            assert!(rects[..n].iter().all(|other| !other.intersects(*rect)), "{width}: {rects:?}");
        }
    }
}
