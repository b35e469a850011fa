//! The program `sae-gui`: arguments, the window, the exit code. Everything else is in the library.

use clap::{Parser, ValueEnum};
use eframe::NativeOptions;
use egui::ViewportBuilder;
use sae_gui::load::settings::{self, SETTINGS};
use sae_gui::load::{recents, signals};
use sae_gui::state::Link;
use sae_gui::state::effect::Theme;
use sae_gui::view::{App, Options, Outcome};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};

/// Width and height of the first window.
const SIZE: [f32; 2] = [1360.0, 860.0];

/// Explore the features of a run.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// A run folder, or a link into one: sae://RUN/f/1234 (a feature), sae://RUN/s/12 (a sample),
    /// sae://RUN/?page=filter, sae://RUN/?page=playground&prompt=a%20red%20ring; or the address that
    /// `sae serve` has printed, for a run on another machine
    run: Option<String>,
    /// Autoencoder whose features are shown [default: the first one with a feature index]
    #[arg(long, value_name = "NAME")]
    sae: Option<String>,
    /// Folder or file of the data set that has the images [default: the path in run.json]
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Save a screenshot as a PNG file once everything is loaded, then exit
    #[arg(long, value_name = "FILE")]
    screenshot: Option<PathBuf>,
    /// Window size in points [default: the last size, or 1360x860]
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    size: Option<[f32; 2]>,
    /// Color theme [default: the one chosen last, or that of the system]
    #[arg(long, value_enum)]
    theme: Option<ThemeChoice>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ThemeChoice {
    /// Follow the system
    System,
    /// Dark text on a light background
    Light,
    /// Light text on a dark background
    Dark,
}

fn size(text: &str) -> Result<[f32; 2], String> {
    let sides = text.split_once('x').and_then(|(width, height)| Some([width.parse().ok()?, height.parse().ok()?]));
    let in_range = |side: &u16| (200..=8000).contains(side);
    let sides: Option<[u16; 2]> = sides.filter(|sides: &[u16; 2]| sides.iter().all(in_range));
    let sides = sides.ok_or_else(|| format!("invalid size {text:?}: expected WIDTHxHEIGHT, each from 200 to 8000"))?;
    Ok(sides.map(f32::from))
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let mut link = args.run.as_deref().map(Link::parse).transpose().map_err(anyhow::Error::msg)?;
    if let Some(link) = &mut link {
        link.sae = args.sae.or(link.sae.take());
    }
    let outcome = Outcome::default();
    let takes_picture = args.screenshot.is_some();
    // A picture for a document is neither remembered nor drawn as things were left.
    let memory = recents::state_folder().filter(|_| !takes_picture);
    let remembered = memory.as_ref().map(|folder| settings::read(&folder.join(SETTINGS))).unwrap_or_default();
    let mut options = Options {
        link,
        data: args.data,
        theme: args.theme.map(|choice| match choice {
            ThemeChoice::System => None,
            ThemeChoice::Light => Some(Theme::Light),
            ThemeChoice::Dark => Some(Theme::Dark),
        }),
        system_fonts: true,
        memory,
        screenshot: args.screenshot,
        outcome: outcome.clone(),
        stop: Arc::default(),
    };
    let native = NativeOptions {
        viewport: ViewportBuilder::default()
            .with_title("SAE workbench")
            .with_app_id("sae-workbench")
            .with_inner_size(args.size.or(remembered.window).unwrap_or(SIZE))
            .with_min_inner_size([200.0, 200.0]),
        ..NativeOptions::default()
    };
    let create = Box::new(move |cc: &eframe::CreationContext| {
        let waker = cc.egui_ctx.clone();
        options.stop = signals::listen(move || waker.request_repaint())?;
        Ok(Box::new(App::new(&cc.egui_ctx, options)?) as Box<dyn eframe::App>)
    });
    eframe::run_native("sae-workbench", native, create).map_err(no_window)?;
    let told = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    match told {
        Some(Ok(notice)) => {
            notice.into_iter().for_each(|notice| eprintln!("note: {notice}"));
            Ok(())
        }
        Some(Err(reason)) => Err(anyhow::Error::msg(reason)),
        None if takes_picture => Err(anyhow::anyhow!("the window was closed before its picture was taken")),
        None => Ok(()),
    }
}

/// Why no window can be opened, with the hint that fits.
fn no_window(error: eframe::Error) -> anyhow::Error {
    let display =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()));
    let hint = if display || !cfg!(target_os = "linux") {
        "the app draws with OpenGL 2.1 or newer; without a graphics driver, Mesa's software renderer works \
         (LIBGL_ALWAYS_SOFTWARE=1)"
    } else {
        "there is no display; `xvfb-run -a sae-gui` draws into memory"
    };
    // Some causes name the file of a dependency in which they arose.
    let cause = error.to_string();
    let cause = cause.split(" at /").next().unwrap_or_default().to_owned();
    anyhow::anyhow!("no window can be opened: {cause}\nhint: {hint}")
}
