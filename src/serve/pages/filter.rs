//! `/filter`: the samples by a score, what a rule would keep of them, and the samples at the threshold. Writes nothing: `sae filter`
//! with the same rule does.

use super::{Shell, View};
use crate::numbers::{count, counted};
use crate::serve::params::Params;
use crate::serve::problem::Problem;
use crate::serve::ranking::Bar;
use crate::serve::site::Site;
use filters::Definition;
use filters::keep::KeepEstimate;
use filters::score_names::{COSINE, PMI, PMI_BLANK, column};
use filters::select::Keep;
use sae_core::analysis::dashboard::html::{Column, Markup, table, tag};
use sae_core::numbers::{real, share};
use sae_core::store::SampleLookup;
use serde::Serialize;

/// Samples on each side of the threshold.
const AROUND: usize = 6;
/// Characters of a sample's text.
const TEXT: usize = 160;

/// What a rule would keep.
#[derive(Clone, Debug, Serialize)]
pub struct FilterView {
    /// The autoencoder.
    pub sae: String,
    /// The score that decides.
    pub by: String,
    /// All scores.
    pub columns: Vec<String>,
    /// The rule, as `sae filter` takes it.
    pub keep: String,
    /// All samples.
    pub samples: usize,
    /// Samples with a score; the others are dropped.
    pub scored: usize,
    /// Samples that would be kept.
    pub kept: usize,
    /// The lowest score that would be kept.
    pub threshold: Option<f64>,
    /// How much to keep, as it was estimated when the samples were scored.
    pub estimate: Option<KeepEstimate>,
    /// Numbers of samples in equal parts of the range of scores.
    pub histogram: Vec<Bar>,
    /// The samples nearest to the threshold, nearest first: those that are kept.
    pub last_kept: Vec<ScoredSample>,
    /// The samples nearest to the threshold, nearest first: those that are dropped.
    pub first_dropped: Vec<ScoredSample>,
}

/// A sample with its score.
#[derive(Clone, Debug, Serialize)]
pub struct ScoredSample {
    /// Its number.
    pub sample: u32,
    /// Its score.
    pub score: f64,
    /// The key of its row.
    pub key: String,
    /// The beginning of its text.
    pub text: String,
}

impl FilterView {
    /// What the rule that is asked for would keep: half of the samples by the best score, unless the parameters say otherwise.
    ///
    /// # Errors
    /// There are no scores, no such column, or no such rule.
    pub fn new(site: &Site, params: &Params) -> Result<Self, Problem> {
        let sae = site.sae()?;
        let columns = site.score_names(&sae)?;
        let by = match params.get("by") {
            Some(by) if columns.iter().any(|known| known == by) => by.to_owned(),
            Some(by) => {
                let known = columns.join(", ");
                return Err(Problem::not_found(format!("there is no score {by:?}; there are {known}")));
            }
            None => {
                let [corrected, paper] = [Definition::Corrected, Definition::Paper].map(|d| column(COSINE, d));
                let preferred = [PMI_BLANK, PMI, &corrected, &paper];
                let best = preferred.iter().find(|name| columns.iter().any(|known| known == *name));
                let first = best.map(|name| name.to_string()).or_else(|| columns.first().cloned());
                first.ok_or_else(|| Problem::unavailable("The score table has no column of scores."))?
            }
        };
        let text = params.get("keep").unwrap_or("50%");
        let keep: Keep = text.parse().map_err(Problem::invalid)?;
        let ranking = site.ranking(&sae, &by)?;
        let unknown = || Problem::invalid(format!("There is no estimate of how much to keep by {by}."));
        let kept = ranking.count(keep).ok_or_else(unknown)?;
        let lookup = site.lookup()?;
        let [last_kept, first_dropped] = ranking.around(kept, AROUND);
        let scored = |samples: Vec<(u32, f64)>| {
            samples
                .into_iter()
                .map(|(sample, score)| ScoredSample::new(&lookup, sample, score))
                .collect::<Result<Vec<_>, Problem>>()
        };
        Ok(Self {
            columns,
            keep: keep.to_string(),
            samples: ranking.total(),
            scored: ranking.scored(),
            kept,
            threshold: ranking.threshold(kept),
            estimate: ranking.estimate(),
            histogram: ranking.histogram(kept),
            last_kept: scored(last_kept)?,
            first_dropped: scored(first_dropped)?,
            sae,
            by,
        })
    }
}

impl ScoredSample {
    fn new(lookup: &SampleLookup, sample: u32, score: f64) -> Result<Self, Problem> {
        let found = lookup.sample(sample)?;
        let (key, text) = found.map(|found| (found.key, found.text)).unwrap_or_default();
        let text = match text.char_indices().nth(TEXT) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        };
        Ok(Self { sample, score, key, text })
    }
}

impl View for FilterView {
    fn title(&self) -> String {
        format!("Filter by {}", self.by)
    }

    fn main(&self, shell: &Shell) -> Markup {
        let side = |title: &str, samples: &[ScoredSample]| {
            let columns = [Column::text("sample"), Column::number("score"), Column::text("text")];
            let rows = samples.iter().map(|sample| {
                vec![shell.sample(sample.sample, &sample.key), real(sample.score).into(), Markup::text(&sample.text)]
            });
            table(title, &columns, rows)
        };
        tag("h1")
            .text(&self.title())
            .and(self.form(shell))
            .and(tag("p").attr("role", "status").text(&self.summary()))
            .and(self.plot())
            .and(tag("h2").text("At the threshold"))
            .and(side("The last that are kept", &self.last_kept))
            .and(side("The first that are dropped", &self.first_dropped))
    }
}

impl FilterView {
    fn form(&self, shell: &Shell) -> Markup {
        let options = self.columns.iter().map(|name| tag("option").flag("selected", *name == self.by).text(name));
        let options: Markup = options.collect();
        let label = |name: &str, text: &str| tag("label").attr("for", name).text(text);
        let by = tag("select").attr("id", "by").attr("name", "by").of(options);
        let keep = tag("input").attr("type", "text").attr("id", "keep").attr("name", "keep").attr("value", &self.keep);
        let keep = keep.attr("title", "50% (a share), 1000 (a number of samples), >=0.3 (a threshold) or auto").empty();
        let button = tag("button").attr("type", "submit").text("Show");
        let fields = [label("by", "Score"), by, label("keep", "Keep"), keep, button];
        let form = tag("form").attr("method", "get").attr("action", "/filter");
        form.of(Markup::joined(fields, " ").and(shell.hidden_token()))
    }

    fn summary(&self) -> String {
        let mut text =
            format!("{} of {} would be kept", count(self.kept as u64), counted(self.samples as u64, "sample"));
        if let Some(threshold) = self.threshold {
            text += &format!(", down to the score {}", real(threshold));
        }
        text += ".";
        if self.scored < self.samples {
            text += &format!(" {} without a score would be dropped.", count((self.samples - self.scored) as u64));
        }
        if let Some(KeepEstimate { share_kept, threshold, mismatched, .. }) = self.estimate {
            text += &format!(
                " Estimated: {} of them do not match; a threshold of {} keeps {}.",
                share(mismatched),
                real(threshold),
                share(share_kept)
            );
        }
        text
    }

    /// Bars of samples, those that are kept in the color of the text on top of the others.
    fn plot(&self) -> Markup {
        let most = self.histogram.iter().map(|bar| bar.samples).max().unwrap_or_default().max(1) as f64;
        let (width, high) = (12, 140.0);
        let bars = self.histogram.iter().zip(0..).map(|(bar, n)| {
            let said = format!(
                "{} to {}: {}, {} kept",
                real(bar.low),
                real(bar.high),
                counted(bar.samples as u64, "sample"),
                count(bar.kept as u64)
            );
            let height = |samples: usize| high * samples as f64 / most;
            let (kept, dropped) = (height(bar.kept), height(bar.samples - bar.kept));
            let rect = |y: f64, height: f64, color: &str| {
                let rect = tag("rect").attr("x", n * width).attr("y", format!("{y:.1}")).attr("width", width - 1);
                rect.attr("height", format!("{height:.1}")).attr("fill", color).empty()
            };
            let kept = rect(high - kept, kept, "#4080d0").and(rect(high - kept - dropped, dropped, "#999"));
            tag("g").of(tag("title").text(&said).and(kept))
        });
        let (Some(first), Some(last)) = (self.histogram.first(), self.histogram.last()) else { return Markup::new() };
        let across = width * self.histogram.len() as i32;
        let plot = tag("svg").attr("width", across).attr("height", 140).attr("viewBox", format!("0 0 {across} 140"));
        let said = format!("Samples by {}; blue would be kept, gray dropped", self.by);
        let bars: Markup = bars.collect();
        let plot = plot.attr("role", "img").attr("aria-label", said).of(bars);
        let legend = format!("{} to {}; blue would be kept, gray dropped", real(first.low), real(last.high));
        plot.and(tag("p").class("muted").text(&legend))
    }
}
