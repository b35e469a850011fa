//! `/s/34`: a sample, with the activations of a feature if one is named, its scores, and the features that fire most strongly.

use super::feature::{PendingActivations, Shown};
use super::{Shell, View, number};
use crate::Error;
use crate::feature_table::FeatureName;
use crate::numbers::count;
use crate::serve::params::Params;
use crate::serve::problem::Problem;
use crate::serve::site::{FeatureTable, Site};
use sae_core::analysis::dashboard::Excerpt;
use sae_core::analysis::dashboard::html::{self, Column, Links, Markup, table, tag};
use sae_core::autoencoder::sparse::Sparse;
use sae_core::numbers::{real, share};
use sae_core::store::sample::ImageRef;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Features that are listed.
const FEATURES: usize = 24;

/// A sample.
#[derive(Clone, Debug, Serialize)]
pub struct SampleView {
    /// Its content hash.
    pub id: String,
    /// `file:row` in the data set.
    pub source: String,
    /// The texts of its turns.
    pub text: String,
    /// Its images, as the data set has them.
    pub image_files: Vec<ImageRef>,
    /// The other columns of its row.
    pub meta: Value,
    /// The sample that it continues, if samples are pieces.
    pub parent: Option<u32>,
    /// Number of all samples.
    pub samples: u32,
    /// The feature whose activations are shown.
    pub feature: Option<u32>,
    /// The largest activation of the feature, the upper end of the scale.
    pub feature_max: Option<f32>,
    /// Whether its activations are known.
    pub activations: Shown,
    /// Its tokens.
    pub tokens: Excerpt,
    /// Its scores by column.
    pub scores: BTreeMap<String, Option<f64>>,
    /// The features that fire most strongly, compared with their own largest activation.
    pub features: Vec<ActiveFeature>,
}

/// A feature that fires in a sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActiveFeature {
    /// The feature.
    pub feature: u32,
    /// What it is called: its label, or words that are typical of it.
    pub name: Option<String>,
    /// Its largest activation in the sample.
    pub activation: f32,
    /// The same as a share of its largest activation in the run.
    pub share: f32,
    /// Positions of the sample where it fires.
    pub positions: usize,
}

impl SampleView {
    /// The sample that is asked for.
    ///
    /// # Errors
    /// There is none of this number, or it cannot be read.
    pub fn new(site: &Site, sample: &str, params: &Params) -> Result<Self, Problem> {
        let number = number(sample, "sample")?;
        let lookup = site.lookup()?;
        let samples = lookup.samples();
        let unknown = || Error::UnknownSample { asked: number.to_string(), samples: samples as usize };
        let sample = lookup.sample(number)?.ok_or_else(unknown)?;
        // A run without an autoencoder has samples as well.
        let (table, this_one) = (site.table(), [number]);
        let pending = table.as_ref().map(|table| PendingActivations::ask(site, &table.source.sae, &this_one, params));
        let tokens = lookup.tokens(number)?;
        let feature = params.get("feature").map(|feature| super::number(feature, "feature")).transpose()?;
        let (known, activations) = match pending {
            Ok(pending) => pending.take(),
            Err(problem) => (BTreeMap::new(), Shown::Unavailable { reason: problem.to_string() }),
        };
        let active = known.get(&number).filter(|active| active.rows() == tokens.len());
        let values = feature.zip(active).map(|(feature, active)| values_of(active, feature));
        let feature_max = feature.and_then(|feature| {
            let row = table.as_ref().ok()?.index.features().get(feature as usize)?;
            Some(row.max)
        });
        let (features, scores) = match &table {
            Ok(table) => (
                active.map(|active| strongest(site, table, active)).transpose()?.unwrap_or_default(),
                site.scores_of(&table.source.sae, number, &sample.id),
            ),
            Err(_) => Default::default(),
        };
        Ok(Self {
            tokens: Excerpt::whole(number, &sample, &tokens, values.as_deref()),
            parent: sample.piece.as_ref().and_then(|piece| piece.parent),
            id: sample.id,
            source: sample.source,
            text: sample.text,
            image_files: sample.images,
            meta: sample.meta,
            samples,
            feature,
            feature_max,
            activations,
            scores,
            features,
        })
    }
}

fn values_of(active: &Sparse, feature: u32) -> Vec<f32> {
    let rows = (0..active.rows()).map(|row| active.row(row));
    rows.map(|(features, values)| features.binary_search(&feature).map_or(0.0, |at| values[at])).collect()
}

fn strongest(site: &Site, table: &FeatureTable, active: &Sparse) -> Result<Vec<ActiveFeature>, Problem> {
    let mut found: BTreeMap<u32, (f32, usize)> = BTreeMap::new();
    for (feature, value) in active.features().iter().zip(active.values()) {
        let (max, positions) = found.entry(*feature).or_default();
        (*max, *positions) = (max.max(*value), *positions + 1);
    }
    site.with_list(table, "", |list| {
        let feature = |(feature, (activation, positions)): (u32, (f32, usize))| {
            let max = list.row(feature)?.max.max(f32::MIN_POSITIVE);
            Some(ActiveFeature { feature, name: None, activation, share: activation / max, positions })
        };
        let mut features: Vec<ActiveFeature> = found.into_iter().filter_map(feature).collect();
        features.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.feature.cmp(&b.feature)));
        features.truncate(FEATURES);
        for feature in &mut features {
            feature.name = list.name(feature.feature).as_ref().map(FeatureName::text).map(str::to_owned);
        }
        features
    })
}

impl View for SampleView {
    fn title(&self) -> String {
        format!("Sample {}: {}", self.tokens.sample, self.tokens.key)
    }

    fn main(&self, shell: &Shell) -> Markup {
        let about = match self.feature {
            Some(feature) => {
                let link = shell.link(&self.path(), &[], "show none");
                Markup::text("Activations of feature ").and(shell.feature(feature)).and("; ").and(link).and(".")
            }
            None => Markup::text("Choose a feature below to see where it fires."),
        };
        let links = Links {
            feature: &|feature| Some(shell.to(&format!("/f/{feature}"), &[])),
            sample: &|_| None,
            image: &|sample, image| Ok(shell.image(sample, image)),
        };
        let source = format!("{} of {}, from {}", self.tokens.sample, count(u64::from(self.samples)), self.source);
        let parent = self.parent.map(|parent| {
            tag("p").of(Markup::text("It continues ").and(shell.sample(parent, &format!("sample {parent}"))).and("."))
        });
        let excerpt = html::excerpt(&self.tokens, Markup::new(), self.feature_max.unwrap_or_default(), &links);
        tag("h1")
            .text(&self.title())
            .and(tag("p").class("muted").text(&source))
            .and(parent)
            .and(self.notice(shell, about))
            .and(excerpt)
            .and(self.features(shell))
            .and(self.scores())
            .and(self.meta())
            .and(self.others(shell))
    }
}

impl SampleView {
    fn path(&self) -> String {
        format!("/s/{}", self.tokens.sample)
    }

    fn notice(&self, shell: &Shell, about: Markup) -> Markup {
        let feature = self.feature.map(|feature| feature.to_string()).unwrap_or_default();
        match &self.activations {
            Shown::Complete => tag("p").of(about),
            Shown::Pending => {
                let later =
                    shell.link(&self.path(), &[("feature", &feature), ("wait", "1")], "Show them when they are ready");
                let text = Markup::text("The activations of this sample are being computed. ").and(later);
                tag("p").class("notice").attr("role", "status").of(text)
            }
            Shown::Unavailable { reason } => {
                let text = format!("Activations cannot be computed: {reason}");
                tag("p").class("notice problem").attr("role", "status").text(&text)
            }
        }
    }

    fn features(&self, shell: &Shell) -> Markup {
        if self.features.is_empty() {
            return Markup::new();
        }
        let columns = [
            Column::number("feature"),
            Column::text("name"),
            Column::number("activation"),
            Column::number("of its largest"),
            Column::number("positions"),
            Column::text("where"),
        ];
        let rows = self.features.iter().map(|found| {
            let feature = found.feature.to_string();
            vec![
                shell.feature(found.feature),
                found.name.as_deref().unwrap_or_default().into(),
                real(f64::from(found.activation)).into(),
                share(f64::from(found.share)).into(),
                found.positions.to_string().into(),
                shell.link(&self.path(), &[("feature", &feature)], &format!("show where {feature} fires")),
            ]
        });
        tag("h2").text("Features").and(table(
            "Those that fire most strongly, compared with their largest activation",
            &columns,
            rows,
        ))
    }

    fn scores(&self) -> Markup {
        if self.scores.is_empty() {
            return Markup::new();
        }
        let rows =
            self.scores.iter().filter_map(|(name, score)| Some(vec![name.clone().into(), real((*score)?).into()]));
        tag("h2").text("Scores").and(table(
            "Scores of this sample",
            &[Column::text("score"), Column::number("value")],
            rows,
        ))
    }

    fn meta(&self) -> Markup {
        let Some(columns) = self.meta.as_object().filter(|columns| !columns.is_empty()) else { return Markup::new() };
        let rows = columns.iter().map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            vec![Markup::text(name), Markup::text(&text)]
        });
        tag("h2").text("Data").and(table(
            "Other columns of its row",
            &[Column::text("column"), Column::text("value")],
            rows,
        ))
    }

    fn others(&self, shell: &Shell) -> Markup {
        let sample = self.tokens.sample;
        let before = sample.checked_sub(1).map(|before| shell.sample(before, "Previous sample"));
        let after = (sample + 1 < self.samples).then(|| shell.sample(sample + 1, "Next sample"));
        let links = Markup::joined(before.into_iter().chain(after), " ");
        tag("nav").class("pages").attr("aria-label", "Samples beside it").of(links)
    }
}
