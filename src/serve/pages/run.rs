//! `/run`: what a run has.

use super::{Shell, View};
use crate::numbers::count;
use crate::serve::params::Params;
use crate::serve::problem::Problem;
use crate::serve::site::{RunRecord, SaeLine, Site};
use sae_core::analysis::dashboard::html::{Column, Markup, table, tag};
use serde::Serialize;
use serde_json::Value;

/// Entries of a list that are shown.
const SHOWN: usize = 12;
/// How deep structures are shown.
const DEPTH: usize = 4;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct RunView {
    /// The name of its folder.
    pub run: String,
    /// The autoencoder whose features the other pages are about.
    pub sae: Option<String>,
    /// What is recorded about it.
    #[serde(flatten)]
    pub record: RunRecord,
    /// Its autoencoders.
    pub saes: Vec<SaeLine>,
    /// The names of its contrasts.
    pub contrasts: Vec<String>,
    /// Its probes, by autoencoder.
    pub probes: Vec<String>,
}

impl RunView {
    /// What the run has now.
    ///
    /// # Errors
    /// `run.json` cannot be read.
    pub fn new(site: &Site, _: &Params) -> Result<Self, Problem> {
        let record = site.run_record()?;
        let run = site.run.root();
        let run = run.canonicalize().unwrap_or_else(|_| run.to_path_buf());
        let probes = site.run.list("probes").into_iter().flat_map(|sae| {
            let files = site.run.list(&format!("probes/{sae}")).into_iter();
            files.filter_map(move |file| Some(format!("{sae}/{}", file.strip_suffix(".json")?)))
        });
        Ok(Self {
            run: run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            sae: site.sae().ok(),
            record: (*record).clone(),
            saes: site.saes().into_iter().map(|name| site.sae_line(name)).collect(),
            contrasts: site.contrasts(),
            probes: probes.collect(),
        })
    }
}

impl View for RunView {
    fn title(&self) -> String {
        format!("Run {}", self.run)
    }

    fn main(&self, shell: &Shell) -> Markup {
        let record = &self.record;
        let about = [
            ("model", record.model.clone()),
            ("samples", count(record.samples)),
            ("positions", count(record.positions)),
            ("begun", record.created.clone()),
            ("by", record.program.clone()),
            ("steps", record.steps.join(", ")),
        ];
        let about = about.into_iter().map(|(name, text)| vec![Markup::from(name), text.into()]);
        let columns =
            [Column::text("hook"), Column::number("positions"), Column::number("width"), Column::text("stored as")];
        let hooks = record.hooks.iter().map(|hook| {
            vec![
                hook.hook.clone().into(),
                count(hook.positions).into(),
                hook.d_in.to_string().into(),
                hook.dtype.clone().into(),
            ]
        });
        tag("h1")
            .text(&self.title())
            .and(table("What is recorded", &[Column::text("what"), Column::text("value")], about))
            .and(tag("h2").text("Activations"))
            .and(table("Activations by hook", &columns, hooks))
            .and(tag("h2").text("Autoencoders"))
            .and(self.saes())
            .and(self.named(shell))
    }
}

impl RunView {
    fn saes(&self) -> Markup {
        let yes = |holds: bool| Markup::from(if holds { "yes" } else { "no" });
        let columns = ["name", "trained", "indexed", "scored", "shown here"].map(Column::text);
        let rows = self.saes.iter().map(|sae| {
            let shown = self.sae.as_ref() == Some(&sae.name);
            vec![sae.name.clone().into(), yes(sae.trained), yes(sae.indexed), yes(sae.scored), yes(shown)]
        });
        let evaluations = self.saes.iter().filter_map(|sae| {
            let summary = tag("summary").text(&format!("Evaluation of {}", sae.name));
            Some(tag("details").of(summary.and(fields(sae.evaluation.as_ref()?))))
        });
        let evaluations: Markup = evaluations.collect();
        table("Autoencoders of the run", &columns, rows).and(evaluations)
    }

    fn named(&self, shell: &Shell) -> Markup {
        let contrasts = self
            .contrasts
            .iter()
            .map(|name| tag("li").of(shell.link(&format!("/contrast/{name}"), &[], &format!("Contrast {name}"))));
        let probes = self.probes.iter().map(|name| tag("li").text(&format!("Probe {name}")));
        let list: Markup = contrasts.chain(probes).collect();
        if list.is_empty() { list } else { tag("h2").text("Contrasts and probes").and(tag("ul").of(list)) }
    }
}

/// What a JSON file says, as a list of names and values.
pub fn fields(value: &Value) -> Markup {
    nested(value, DEPTH)
}

fn nested(value: &Value, depth: usize) -> Markup {
    match value {
        Value::Object(_) | Value::Array(_) if depth == 0 => Markup::from("..."),
        Value::Object(fields) => {
            let fields =
                fields.iter().map(|(name, value)| tag("dt").text(name).and(tag("dd").of(nested(value, depth - 1))));
            tag("dl").of(fields.collect::<Markup>())
        }
        Value::Array(values) => {
            let more = values.len().saturating_sub(SHOWN);
            let shown = values.iter().take(SHOWN).map(|value| nested(value, depth - 1));
            let more = (more > 0).then(|| Markup::from(format!("{more} more")));
            Markup::joined(shown.chain(more), ", ")
        }
        Value::String(text) => Markup::text(text),
        Value::Null => Markup::from("none"),
        other => Markup::from(other.to_string()),
    }
}
