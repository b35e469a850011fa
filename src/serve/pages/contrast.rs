//! `/contrast/NAME`: what a contrast found.

use super::{Shell, View};
use crate::numbers::{count, counted};
use crate::serve::params::Params;
use crate::serve::problem::Problem;
use crate::serve::site::Site;
use sae_core::analysis::dashboard::html::{Column, Markup, table, tag};
use sae_core::numbers::{real, share};
use serde::Serialize;
use serde_json::Value;

/// Tests of a part, unless another number is asked for, and at most.
const ROWS: [usize; 2] = [100, 2000];

/// A contrast.
#[derive(Clone, Debug, Serialize)]
pub struct ContrastView {
    /// Its name.
    pub name: String,
    /// What `contrast.json` says.
    pub contrast: Value,
    /// All tests; 0 for a contrast between models.
    pub total: usize,
    /// Which part this is, from 1.
    pub page: usize,
    /// Number of parts.
    pub pages: usize,
    /// The tests: those of features that differ come first, then those with the largest `|z|`.
    pub tests: Vec<TestLine>,
}

/// The test of a feature in a column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestLine {
    /// The feature.
    pub feature: u32,
    /// What people called it when the contrast was made.
    pub label: Option<String>,
    /// The group or field.
    pub column: String,
    /// Whether the feature differs: it was found, and confirmed if findings are confirmed.
    pub differs: bool,
    /// Share of the group's samples in which it is active.
    pub prevalence: f64,
    /// The same of the other samples.
    pub prevalence_rest: Option<f64>,
    /// The effect to report, with a 95 % interval: where findings are confirmed if they are, else where they were made.
    pub effect: f64,
    /// Its lower bound.
    pub low: f64,
    /// Its upper bound.
    pub high: f64,
    /// The test statistic.
    pub z: f64,
    /// The p-value, corrected for all tests.
    pub q: Option<f64>,
}

impl ContrastView {
    /// The contrast that is asked for.
    ///
    /// # Errors
    /// There is none of this name, or it cannot be read.
    pub fn new(site: &Site, name: &str, params: &Params) -> Result<Self, Problem> {
        let contrast = site.contrast(name)?;
        let per_page = params.number("per_page", ROWS[0])?.clamp(1, ROWS[1]);
        let total = contrast.order.len();
        let pages = total.div_ceil(per_page).max(1);
        let page = params.number("page", 1usize)?.clamp(1, pages);
        let rows = contrast.order.iter().skip((page - 1) * per_page).take(per_page);
        let tests = contrast.tests.iter().flat_map(|tests| {
            rows.clone().map(move |row| {
                let (test, note) = (&tests.rows[*row], tests.notes.get(*row));
                let estimate = test.reported();
                TestLine {
                    feature: test.feature,
                    label: note.and_then(|note| note.label.clone()),
                    column: tests.columns.get(test.column).cloned().unwrap_or_default(),
                    differs: test.differs(),
                    prevalence: test.prevalence,
                    prevalence_rest: test.prevalence_rest,
                    effect: estimate.effect,
                    low: estimate.lo,
                    high: estimate.hi,
                    z: test.z,
                    q: test.q,
                }
            })
        });
        let tests = tests.collect();
        Ok(Self { name: name.to_owned(), contrast: contrast.summary.clone(), total, page, pages, tests })
    }
}

impl View for ContrastView {
    fn title(&self) -> String {
        format!("Contrast {}", self.name)
    }

    fn main(&self, shell: &Shell) -> Markup {
        let number = |name: &str| self.contrast.get(name).and_then(Value::as_u64);
        let counts = [("samples", "sample"), ("tested", "tested feature"), ("differing", "differing feature")];
        let counts = counts.iter().filter_map(|(name, one)| Some(counted(number(name)?, one)));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let heading = tag("h1").text(&self.title()).and(tag("p").text(&counts));
        let body = if self.tests.is_empty() { super::run::fields(&self.contrast) } else { self.tests(shell) };
        heading.and(body)
    }
}

impl ContrastView {
    fn tests(&self, shell: &Shell) -> Markup {
        let columns = [
            Column::number("feature"),
            Column::text("label"),
            Column::text("column"),
            Column::text("differs"),
            Column::number("active in"),
            Column::number("elsewhere"),
            Column::number("effect"),
            Column::number("95 % interval"),
            Column::number("z"),
            Column::number("q"),
        ];
        let rows = self.tests.iter().map(|test| {
            vec![
                shell.feature(test.feature),
                test.label.as_deref().unwrap_or_default().into(),
                Markup::text(&test.column),
                if test.differs { "yes" } else { "" }.into(),
                share(test.prevalence).into(),
                test.prevalence_rest.map(share).unwrap_or_default().into(),
                real(test.effect).into(),
                format!("{} to {}", real(test.low), real(test.high)).into(),
                real(test.z).into(),
                test.q.map(real).unwrap_or_default().into(),
            ]
        });
        let caption = format!("{}, those of features that differ first", counted(self.total as u64, "test"));
        table(&caption, &columns, rows).and(self.pages(shell))
    }

    fn pages(&self, shell: &Shell) -> Markup {
        let link = |page: usize, name: &str| {
            shell.link(&format!("/contrast/{}", self.name), &[("page", &page.to_string())], name)
        };
        let before = (self.page > 1).then(|| link(self.page - 1, "Previous"));
        let after = (self.page < self.pages).then(|| link(self.page + 1, "Next"));
        let here = tag("span").text(&format!("{} of {}", count(self.page as u64), count(self.pages as u64)));
        let parts = [before, Some(here), after].into_iter().flatten();
        tag("nav").class("pages").attr("aria-label", "Parts of the table").of(Markup::joined(parts, " "))
    }
}
