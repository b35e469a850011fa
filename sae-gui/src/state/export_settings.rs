//! How a filtered data set is written: the settings of the Filter page, and the command line that they amount to. Writes
//! nothing.

use super::budget::BudgetSettings;
use super::invocation::{Afterwards, Invocation};
use super::run_info::RunInfo;
use super::score_filter::ScoreFilter;
use filters::select::Keep;
use sae_workbench::PromiseRule;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Formats of data sets, as `sae filter --format` names them, each with what it is.
pub const FORMATS: [(&str, &str); 7] = [
    ("same", "as in the data set"),
    ("parquet", "Parquet"),
    ("jsonl", "JSON lines"),
    ("llava", "LLaVA JSON"),
    ("sharegpt", "ShareGPT JSON"),
    ("trl", "TRL"),
    ("webdataset", "WebDataset"),
];

/// Which samples are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportRule {
    /// Those with the highest scores.
    #[default]
    Score,
    /// Those that together show the most features.
    Diverse,
    /// One after the other, those with the most new features.
    GreedSelect,
    /// Those whose features are distributed like those of another run.
    Match,
}

impl ExportRule {
    /// All rules, each with what it chooses.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Score, "highest scores"),
        (Self::Diverse, "most features together"),
        (Self::GreedSelect, "most new features (GreedSelect)"),
        (Self::Match, "features of another run"),
    ];
}

/// The settings.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportSettings {
    /// New folder of the kept rows, as typed.
    pub out: String,
    /// Whether the dropped rows are written as well, into a folder beside it.
    pub write_dropped: bool,
    /// Name of the format.
    pub format: &'static str,
    /// Samples with features this similar (Jaccard, above 0 to 1) to a better one are dropped.
    pub dedup: Option<f64>,
    /// Which samples are chosen.
    pub rule: ExportRule,
    /// The run whose features the chosen samples should have, as typed.
    pub target: String,
    /// A number of the samples; the same share is kept inside each of its quantiles. Empty for none.
    pub within: String,
    /// What the mean of another number is limited to.
    pub budget: BudgetSettings,
    /// The field whose values are kept or dropped whole within a budget, as typed; empty for none.
    pub unit: String,
    /// The field with what people judged, for which the budget has to hold, as typed; empty for none.
    pub judged: String,
    /// The probability with which it has to hold, in percent.
    pub confidence: f64,
    /// The columns that divide the data into groups, as typed; empty for none.
    pub group_by: String,
    /// Whether every group keeps equally many.
    pub equal_groups: bool,
}

impl ExportSettings {
    /// The defaults: rows as they are, both sides, in this folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            out: folder.display().to_string(),
            write_dropped: true,
            format: FORMATS[0].0,
            dedup: None,
            rule: ExportRule::Score,
            target: String::new(),
            within: String::new(),
            budget: BudgetSettings::default(),
            unit: String::new(),
            judged: String::new(),
            confidence: 95.0,
            group_by: String::new(),
            equal_groups: false,
        }
    }

    /// The same settings for a run that was read again. The folder that was proposed gives way to one that does not exist yet.
    pub fn reopened(self, proposed_before: &Path, proposed: &Path) -> Self {
        let untouched = Path::new(&self.out) == proposed_before;
        let out = if untouched { proposed.display().to_string() } else { self.out };
        Self { out, ..self }
    }

    /// The folder of the kept rows. A relative path is relative to the folder that holds the run.
    pub fn folder(&self, run: &Path) -> PathBuf {
        run.parent().unwrap_or(run).join(self.out.trim())
    }

    /// The folder of the dropped rows.
    pub fn dropped_folder(&self, run: &Path) -> Option<PathBuf> {
        let out = self.folder(run);
        let mut name = out.file_name()?.to_os_string();
        name.push("-dropped");
        self.write_dropped.then(|| out.with_file_name(name))
    }

    /// The file that names the samples that are kept, if some were chosen by hand: beside the folder of the kept rows, so that the
    /// command can be run again.
    pub fn decisions_file(&self, run: &Path) -> PathBuf {
        let out = self.folder(run);
        let mut name = out.file_name().unwrap_or_default().to_os_string();
        name.push("-decisions.csv");
        out.with_file_name(name)
    }

    /// The field whose values are kept or dropped whole.
    pub fn unit(&self) -> Option<&str> {
        Some(self.unit.trim()).filter(|unit| !unit.is_empty() && self.budget.is_set())
    }

    /// What makes the budget hold for what people judged.
    pub fn promise(&self) -> Option<PromiseRule> {
        let judged = Some(self.judged.trim()).filter(|judged| !judged.is_empty() && self.budget.is_set())?;
        Some(PromiseRule { confidence: self.confidence / 100.0, judged: judged.to_owned() })
    }

    /// How much is kept. Units are not as many as samples, so that a share of them is kept.
    pub fn keep(&self, filter: &ScoreFilter) -> Keep {
        match self.unit() {
            Some(_) => Keep::Share(percent(filter) / 100.0),
            None => Keep::Count(filter.target()),
        }
    }

    /// Why the settings cannot be used, if so.
    pub fn problem(&self, filter: &ScoreFilter) -> Option<&'static str> {
        if self.out.trim().is_empty() {
            return Some("Name a new folder.");
        }
        if self.rule == ExportRule::Match && self.target.trim().is_empty() {
            return Some("Name the run whose features the samples should have.");
        }
        if self.budget.is_set() {
            if self.dedup.is_some() || self.rule != ExportRule::Score {
                return Some(
                    "A budget cannot be combined with near-duplicates or features: only scores choose within it.",
                );
            }
            if self.unit().is_some() && (filter.grouping().is_some() || !self.within.trim().is_empty()) {
                return Some("Units cannot be combined with groups or quantiles.");
            }
            let rule = self.budget.rule();
            if rule.is_none() || (!filter.choices().is_empty() && filter.budget() != rule.as_ref()) {
                return Some("The selection within the budget is not known.");
            }
        }
        if self.decides_later() && !filter.choices().is_empty() {
            return Some(
                "Samples that were kept or dropped by hand cannot be combined with near-duplicates, features or quantiles.",
            );
        }
        None
    }

    /// Whether some of the choice is made while the data set is written.
    pub fn decides_later(&self) -> bool {
        self.dedup.is_some() || self.rule != ExportRule::Score || !self.within.trim().is_empty()
    }

    /// The command that writes what the filter keeps. It reads [`ExportSettings::decisions_file`] if some samples were chosen by
    /// hand.
    pub fn invocation(&self, info: &RunInfo, filter: &ScoreFilter) -> Invocation {
        let (run, out) = (info.path().display().to_string(), self.folder(info.path()).display().to_string());
        let mut arguments = ["filter", "--run", &run].map(String::from).to_vec();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| word.to_string()));
        if filter.choices().is_empty() {
            let keep = match self.unit() {
                Some(_) => format!("{}%", percent(filter)),
                None => filter.target().to_string(),
            };
            add(&["--sae", info.sae_name(), "--by", filter.name(), "--keep", &keep]);
            if let Some(grouping) = filter.grouping() {
                add(&["--by-group", &grouping.fields]);
                add(if grouping.equal { &["--equal-groups"] } else { &[] });
            }
            if !self.within.trim().is_empty() {
                add(&["--within", self.within.trim()]);
            }
            if let Some(rule) = self.budget.rule() {
                add(&["--budget", &rule.to_string()]);
                if let Some(unit) = self.unit() {
                    add(&["--unit", unit]);
                }
                if let Some(promise) = self.promise() {
                    add(&["--promise", &format!("{}%", self.confidence), "--judged", &promise.judged]);
                }
            }
            if let Some(similarity) = self.dedup {
                add(&["--dedup", &similarity.to_string()]);
            }
            match self.rule {
                ExportRule::Score => {}
                ExportRule::Diverse => add(&["--diverse"]),
                ExportRule::GreedSelect => add(&["--rule", "greedselect"]),
                ExportRule::Match => {
                    let parent = info.path().parent().unwrap_or(info.path());
                    add(&["--match", &parent.join(self.target.trim()).display().to_string()]);
                }
            }
        } else {
            add(&["--decisions", &self.decisions_file(info.path()).display().to_string()]);
        }
        add(&["--out", &out]);
        if let Some(folder) = self.dropped_folder(info.path()) {
            add(&["--dropped", &folder.display().to_string()]);
        }
        add(&["--format", self.format]);
        Invocation { title: format!("Writing {out}"), arguments, afterwards: Afterwards::Nothing }
    }
}

/// The share that is kept, in percent with one decimal, as the command line has it.
fn percent(filter: &ScoreFilter) -> f64 {
    (1000.0 * filter.share()).round() / 10.0
}

/// The table for `sae filter --decisions`: whether each sample is kept.
pub fn decisions_csv(filter: &ScoreFilter) -> String {
    filter.scores().candidates().fold("sample,keep\n".to_owned(), |mut out, sample| {
        // Writing into a string cannot fail.
        let _ = writeln!(out, "{sample},{}", filter.is_kept(sample));
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::score_filter::Scores;

    fn filter() -> ScoreFilter {
        let ids = (0..20).map(|n| n.to_string()).collect();
        let columns = vec![("pmi".into(), (0..20).map(|n| Some(f64::from(n))).collect())];
        let mut filter = ScoreFilter::new(Scores { ids, columns, ..Scores::default() }).unwrap();
        filter.keep(12);
        filter
    }

    #[test]
    fn the_command_says_what_the_page_shows() {
        let info = RunInfo { root: "/data/run".into(), sae: Some("base".into()), ..RunInfo::default() };
        let settings = ExportSettings::new(Path::new("it's kept"));
        let line = |settings: &ExportSettings, filter: &ScoreFilter| settings.invocation(&info, filter).command_line();
        let expected = "sae filter --run /data/run --sae base --by pmi --keep 12 --out '/data/it'\\''s kept' --dropped \
                        '/data/it'\\''s kept-dropped' --format same";
        assert_eq!(line(&settings, &filter()), expected);
        let rule = ExportRule::Diverse;
        let more = ExportSettings { dedup: Some(0.9), rule, write_dropped: false, ..settings.clone() };
        assert!(line(&more, &filter()).contains("--keep 12 --dedup 0.9 --diverse --out"));
        let within = ExportSettings { within: " answer_tokens ".into(), rule: ExportRule::Match, ..settings.clone() };
        assert!(within.problem(&filter()).is_some_and(|problem| problem.contains("Name the run")));
        let within = ExportSettings { target: "other".into(), ..within };
        assert!(line(&within, &filter()).contains("--keep 12 --within answer_tokens --match /data/other --out"));
        assert_eq!(within.problem(&filter()), None);
        let mut limited = ExportSettings { budget: BudgetSettings::default(), ..settings.clone() };
        limited.budget.change("harm", false);
        assert!(limited.problem(&filter()).is_some_and(|problem| problem.contains("is not known")), "no limit yet");
        limited.budget.set_limit(0.25, [0.0, 1.0]);
        assert!(line(&limited, &filter()).contains("--keep 12 --budget 'harm<=0.25' --out"));
        assert_eq!(limited.problem(&filter()), None);
        let promised = ExportSettings { unit: " episode ".into(), judged: "harm".into(), ..limited.clone() };
        let expected = "--keep 60% --budget 'harm<=0.25' --unit episode --promise 95% --judged harm --out";
        assert!(line(&promised, &filter()).contains(expected), "{}", line(&promised, &filter()));
        assert_eq!((promised.keep(&filter()), limited.keep(&filter())), (Keep::Share(0.6), Keep::Count(12)));
        let divided = ExportSettings { within: "answer_tokens".into(), ..promised };
        assert!(divided.problem(&filter()).is_some_and(|problem| problem.starts_with("Units cannot")));
        let both = ExportSettings { dedup: Some(0.9), ..limited.clone() };
        assert!(both.problem(&filter()).is_some_and(|problem| problem.contains("only scores choose within it")));
        let reopened = |settings: ExportSettings| settings.reopened(Path::new("it's kept"), Path::new("kept-2"));
        assert_eq!(reopened(more.clone()), ExportSettings { out: "kept-2".into(), ..more.clone() });
        assert_eq!(reopened(ExportSettings { out: "mine".into(), ..more.clone() }).out, "mine");
        let mut chosen = filter();
        chosen.choose([0], Some(true));
        assert!(line(&settings, &chosen).contains(" --decisions '/data/it'\\''s kept-decisions.csv' --out"));
        assert!(more.problem(&chosen).is_some() && settings.problem(&chosen).is_none());
        assert!(limited.problem(&chosen).is_some(), "which samples are within the budget is decided elsewhere");
        chosen.set_budgeted(Some((limited.budget.rule().unwrap(), vec![true; 20])));
        assert!(limited.problem(&chosen).is_none());
        chosen.set_budgeted(None);
        assert!(decisions_csv(&chosen).starts_with("sample,keep\n0,true\n1,false\n"));
    }
}
