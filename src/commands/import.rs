//! `sae import`: another tool's autoencoder into a run, where `eval`, `index` and `score` find it like one that was
//! trained there.

use super::{Outcome, check_width};
use crate::args::Import;
use crate::commands::info;
use anyhow::{Result, bail};
use sae_core::formats::{self, Format, Summary};
use sae_core::store::Store;
use sae_core::{Run, run};
use serde_json::json;

/// Runs the command.
pub fn run(args: &Import, dry: bool) -> Result<Outcome> {
    let run = Run::open(&args.run)?;
    run::check_name(&args.name)?;
    if run.sae(&args.name).exists() {
        bail!("the run has an autoencoder {} already\nhint: another --name, or remove its folder", args.name);
    }
    let store = Store::open(&run, &args.hook)?;
    let from = match args.from {
        Some(format) => format,
        None => formats::detect(&args.path)?,
    };
    let mut saved = formats::load_as(from, &args.path)?;
    check_width(&saved, &store)?;
    let summary = Summary::of(&saved);
    // What its own file says is kept in the record; the run is the authority on where activations come from.
    let said = (saved.origin.model.clone(), saved.origin.hook.clone());
    let manifest = store.manifest();
    saved.origin.hook.clone_from(&manifest.hook);
    saved.origin.layer = manifest.layer;
    if saved.origin.model.is_empty() {
        saved.origin.model.clone_from(&manifest.model);
    }
    let dir = run.sae(&args.name);
    let json = json!({
        "command": "import", "from": from.name(), "source": args.path, "sae": args.name, "hook": manifest.hook,
        "is": summary, "said_model": said.0, "said_hook": said.1,
    });
    formats::check(Format::SaeLens, &saved)?;
    if dry {
        return Outcome::plan(json);
    }
    let lock = run.lock()?;
    formats::create(Format::SaeLens, &dir, &saved)?;
    run.note(&format!("import/{}", args.name), &json)?;
    drop(lock);
    let mut text = format!("{} from {}: {}", args.name, from.name(), info::autoencoder(&summary));
    if !said.1.is_empty() && said.1 != manifest.hook {
        text += &format!("  note: its file says that it is of {}, not of {}\n", said.1, manifest.hook);
    }
    Outcome::new(json, text + &format!("  {}", dir.display()))
}
