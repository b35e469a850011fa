//! `sae info`: says what a file or folder is: a run, a store of activations, an autoencoder of any known format, or a data set.

use super::{Invocation, Outcome};
use crate::cli::hint;
use crate::cli::terminal::{columns, count, counted, table};
use anyhow::Result;
use clap::Args;
use harvest::data::TreeCounts;
use sae_core::autoencoder::formats::{Range, Summary};
use sae_core::store::brief;
use sae_workbench::info::{ActivationsInfo, AutoencodersInfo, Column, DataInfo, DataSetsInfo, RunInfo, SaeInfo};
use sae_workbench::{InfoReport, InfoRequest};
use serde_json::Value;
use std::path::PathBuf;

/// `sae info`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae info gemma-scope-9b-pt-res/layer_20/width_16k/average_l0_68
  sae info trainer_0/ae.pt
  sae info run                              the contents of a run
  sae info run/activations/layers.16        the contents of a store
  sae info run/saes/base --json
  sae info photos.jsonl                     rows, columns, and why rows are skipped
  sae info train.parquet test.parquet       also keys, questions and images that both have")]
pub struct InfoArgs {
    /// Folder, or a file in it; several, if all of them are data sets
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Rows of each data set that are read at most
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    pub limit: u64,
    /// Active features per token, if the files do not say (qwen-scope)
    #[arg(long)]
    pub k: Option<usize>,
}

/// Runs the command. `--dry-run` changes nothing, because the command only reads.
pub fn run(args: &InfoArgs, invocation: &mut Invocation) -> Result<Outcome> {
    let request = InfoRequest { paths: args.paths.clone(), k: args.k, limit: args.limit };
    let report = request.run(invocation.control)?;
    let text = match &report {
        InfoReport::Autoencoder(found) => format!("{}: {}", found.format, autoencoder(&found.summary)),
        InfoReport::Autoencoders(found) => autoencoders(found),
        InfoReport::Activations(found) => activations(found),
        InfoReport::Run(found) => of_run(found),
        InfoReport::Data(found) => data_sets(found),
    };
    Outcome::new(report, text)
}

fn autoencoders(found: &AutoencodersInfo) -> String {
    let mut text = format!("{} in this folder\n", counted(found.autoencoders.len() as u64, "autoencoder"));
    for one in &found.autoencoders {
        let path = one.path.strip_prefix(&found.path).unwrap_or(&one.path);
        text += &format!("  {:<20} {}\n", one.format, path.display());
    }
    text
}

/// The properties of an autoencoder, one per line.
pub fn autoencoder(summary: &Summary) -> String {
    let range = |r: &Range| format!("{:.4} to {:.4} (mean {:.4})", r.min, r.max, r.mean);
    let trained = summary.architecture.name();
    let used = match (summary.k, &summary.threshold) {
        (Some(k), _) => format!("topk, the {k} largest of a token"),
        (_, Some(threshold)) => format!("jumprelu, thresholds {}", range(threshold)),
        _ => summary.activation.to_string(),
    };
    let inputs = serde_json::to_value(summary.normalization).ok();
    let inputs = inputs.as_ref().and_then(Value::as_str).unwrap_or_default();
    let known = |text: &str| if text.is_empty() { "not stated".to_string() } else { text.to_string() };
    let mut lines = vec![
        ("trained as", trained.to_string()),
        ("used as", used),
        ("inputs normalized", inputs.to_string()),
        ("decoder norms", range(&summary.decoder_norms)),
        ("norm of b_dec", format!("{:.4}", summary.b_dec_norm)),
        ("model", known(&summary.model)),
        ("hook", known(&summary.hook)),
    ];
    let crosscoder =
        summary.models.iter().map(|stream| ("reads", format!("{} ({})", known(&stream.model), stream.run.display())));
    lines.extend(crosscoder);
    if !summary.target.is_empty() {
        lines.push(("reconstructs", summary.target.clone()));
    }
    if summary.d_out != summary.d_in {
        lines.push(("width of target", count(summary.d_out as u64)));
    }
    if summary.skip {
        lines.push(("skip connection", "yes".into()));
    }
    let mut text = format!("{} features of {} dimensions\n", count(summary.d_sae as u64), count(summary.d_in as u64));
    lines.extend(summary.notes.iter().map(|note| ("note", note.clone())));
    lines.into_iter().for_each(|(what, is)| text += &format!("  {what:<18} {is}\n"));
    text
}

fn activations(found: &ActivationsInfo) -> String {
    let manifest = &found.manifest;
    format!(
        "activations of {}: {} tokens of {} samples, {} wide, {:?}, {} shards\n  mean norm  {:.4}\n  model      {}\n  made       {}",
        manifest.hook,
        count(manifest.rows),
        count(manifest.samples),
        count(manifest.d_in as u64),
        manifest.dtype,
        manifest.shards.len(),
        manifest.mean_norm,
        manifest.model,
        manifest.created,
    )
}

fn of_run(run: &RunInfo) -> String {
    let mut text = format!("a run of {}, begun {}\n", run.program, run.created);
    for hook in &run.unfinished {
        text += &format!("  activations  {hook} (unfinished)\n");
    }
    for of in &run.activations {
        let (tokens, width) = (count(of.tokens), count(of.d_in as u64));
        text += &format!("  activations  {}: {tokens} tokens, {width} wide\n", of.hook);
    }
    for sae in &run.saes {
        text += &match sae {
            SaeInfo::Finished { name, features, architecture, hook, target } => {
                let (what, target) = match &target[..] {
                    "" => ("autoencoder", String::new()),
                    target => ("transcoder ", format!(" for {target}")),
                };
                let features = count(*features as u64);
                format!("  {what}  {name}: {features} {} features of {hook}{target}\n", architecture.name())
            }
            SaeInfo::Unfinished { name, step } => {
                let step = step.map_or(String::new(), |step| format!(", step {}", count(step)));
                format!("  autoencoder  {name}: unfinished{step}; --resume continues\n")
            }
        };
    }
    for (name, cause) in &run.damaged {
        text += &format!("  autoencoder  {name}: {cause}\n");
    }
    for (what, names) in [("index of", &run.features), ("scores", &run.scores)] {
        if !names.is_empty() {
            text += &format!("  {what:<12} {}\n", names.join(", "));
        }
    }
    text
}

fn data_sets(found: &DataSetsInfo) -> String {
    let mut text: String = found.sets.iter().map(data_set).collect::<Vec<_>>().join("\n");
    if !found.shared.is_empty() {
        let name = |set: usize| found.sets[set].path.display().to_string();
        let mut rows = vec![["in both", "keys", "questions", "rows", "images"].map(String::from).to_vec()];
        rows.extend(found.shared.iter().map(|shared| {
            let [a, b] = shared.sets.map(name);
            let keys = shared.keys.map_or_else(|| "-".into(), count);
            vec![format!("{a} and {b}"), keys, count(shared.questions), count(shared.rows), count(shared.images)]
        }));
        text += &format!("\n{}", table(&rows));
    }
    text
}

fn data_set(set: &DataInfo) -> String {
    let mut text = format!(
        "data set {}: {} in {}",
        set.path.display(),
        counted(set.rows, "row"),
        counted(set.files as u64, "file")
    );
    if set.read < set.rows {
        text += &format!("; of the first {}:", count(set.read));
    }
    let mut lines = vec![vec![String::from("usable"), count(set.usable)]];
    lines.extend(set.contents.iter().map(|content| vec![format!("with {}", content.what), count(content.rows)]));
    let faults = [("with a missing image", set.missing_images), ("repeating another row", set.repeated)];
    lines.extend(faults.iter().filter(|(_, rows)| *rows > 0).map(|(what, rows)| vec![what.to_string(), count(*rows)]));
    text += &format!("\n{}", table(&lines));
    text += &set.trees.as_ref().map(trees).unwrap_or_default();
    if !set.skipped.is_empty() {
        text += "skipped\n";
    }
    for kind in &set.skipped {
        text +=
            &format!("  {}, first row {}: {}\n", counted(kind.rows, "row"), count(kind.first.row), kind.first.reason);
        if let Some(hint) = &kind.first.hint {
            text += &format!("    hint: {}\n", hint::words(hint));
        }
    }
    if !set.columns.is_empty() {
        text += "columns\n";
        text += &columns(&set.columns.iter().map(column).collect::<Vec<_>>());
    }
    set.notes.iter().for_each(|note| text += &format!("note: {note}\n"));
    text
}

/// The trees that rows form, and how they are captured.
fn trees(found: &TreeCounts) -> String {
    let mut text = format!(
        "{} of {}, with at most {} on a path",
        counted(found.trees, "tree"),
        counted(found.messages, "message"),
        count(found.depth)
    );
    if found.unattached > 0 {
        text += &format!("; {} whose parent is missing or cannot be used", counted(found.unattached, "message"));
    }
    text + "\n  hint: `sae harvest --pieces tree` captures what paths have in common once\n"
}

fn column(column: &Column) -> Vec<String> {
    let values = |(value, rows): &(String, u64)| format!("{} ({})", brief(value), count(*rows));
    let is = match (column.numbers, &column.values[..]) {
        (_, [_, ..]) => column.values.iter().map(values).collect::<Vec<_>>().join(", "),
        (Some([low, mean, high]), _) => format!("{low} to {high}, mean {mean:.4}"),
        _ => "texts or lists".into(),
    };
    vec![brief(&column.name), counted(column.count, "value"), is]
}
