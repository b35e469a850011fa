//! `--screenshot`: writes a picture of the window as soon as everything is shown, and closes the window.

use egui::{ColorImage, Context, ViewportCommand};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Frames drawn after everything has been read, since sizes of tables and texts settle in the first ones.
const SETTLING_FRAMES: u32 = 4;
/// How long to wait for everything to be read.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Whether the picture was written and shows what was asked for, with what the window said beside it; without a picture, the edits
/// that could not be saved. The program reads this when the window is closed.
pub type Outcome = Arc<Mutex<Option<Result<Option<String>, String>>>>;

/// A picture that has not been written yet.
pub struct PendingScreenshot {
    path: PathBuf,
    outcome: Outcome,
    begun: Instant,
    settled_frames: u32,
    pending: Option<Receiver<Arc<ColorImage>>>,
}

impl PendingScreenshot {
    /// A picture for `path`.
    pub fn new(path: PathBuf, outcome: Outcome) -> Self {
        Self { path, outcome, begun: Instant::now(), settled_frames: 0, pending: None }
    }

    /// Called in every frame. `failure` is what the window says cannot be shown; the picture is taken all the same. `notice` is
    /// what else the window says.
    pub fn frame(&mut self, ctx: &Context, settled: bool, failure: Option<&str>, notice: Option<&str>) {
        ctx.request_repaint_after(Duration::from_millis(20));
        if let Some(image) = self.pending.as_ref().and_then(|pending| pending.try_recv().ok()) {
            let written = write(&self.path, &image);
            let shown = failure.map_or(Ok(notice.map(str::to_owned)), |failure| Err(failure.to_owned()));
            self.finish(ctx, written.and(shown));
        } else if self.begun.elapsed() > TIMEOUT {
            self.finish(ctx, Err("the window was not ready in time for its picture".into()));
        } else if settled && self.pending.is_none() {
            self.settled_frames += 1;
            if self.settled_frames > SETTLING_FRAMES {
                let (sender, receiver) = channel();
                // The receiver is gone once the window is closed.
                ctx.request_screenshot(move |image| drop(sender.send(image)));
                self.pending = Some(receiver);
            }
        }
    }

    fn finish(&self, ctx: &Context, outcome: Result<Option<String>, String>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        ctx.send_viewport_cmd(ViewportCommand::Close);
    }
}

fn write(path: &Path, image: &ColorImage) -> Result<(), String> {
    let [width, height] = image.size.map(|side| side as u32);
    let mut png = Vec::new();
    let encoded = PngEncoder::new(&mut png).write_image(image.as_raw(), width, height, ExtendedColorType::Rgba8);
    encoded.map_err(|error| format!("{error}: {}", path.display()))?;
    sae_core::file::write_bytes(path, &png).map_err(|error| error.to_string())
}
