//! A contrast as `sae contrast` has written it: what was found, every test, the tests of one shuffle, values and examples in groups.
//! Plain data with the sentences about it; reads no file.

use super::format;
use super::models::ModelContrast;
use sae_core::analysis::contrast::{ChanceTest, GroupExample, GroupValue, TestTable};
use sae_core::analysis::index::Example;
use serde::Deserialize;

/// A contrast of either kind.
#[derive(Clone, Debug)]
pub enum AnyContrast {
    /// Between samples.
    Samples(Box<Contrast>),
    /// Between models, or why it cannot be read.
    Models(Result<Box<ModelContrast>, String>),
}

/// A contrast between samples. What cannot be read is a sentence in its place.
#[derive(Clone, Debug)]
pub struct Contrast {
    /// What was found.
    pub summary: Result<ContrastSummary, String>,
    /// Every test.
    pub tests: Result<TestTable, String>,
    /// The tests of one shuffle.
    pub shuffled: Result<Vec<ChanceTest>, String>,
    /// The values of the differing features in every group or bin, sorted by feature.
    pub groups: Result<Vec<GroupValue>, String>,
    /// The strongest samples of the differing features in every group or bin, sorted by feature.
    pub examples: Result<Vec<GroupExample>, String>,
    /// The rows of the tests that differ, those with the largest `|z|` first.
    pub differing: Vec<usize>,
}

impl Contrast {
    /// Sorts what was read.
    pub fn new(
        summary: Result<ContrastSummary, String>,
        tests: Result<TestTable, String>,
        shuffled: Result<Vec<ChanceTest>, String>,
        mut groups: Result<Vec<GroupValue>, String>,
        mut examples: Result<Vec<GroupExample>, String>,
    ) -> Self {
        groups.iter_mut().for_each(|values| values.sort_by_key(|value| value.feature));
        examples.iter_mut().for_each(|examples| examples.sort_by_key(|example| example.feature));
        let rows = tests.as_ref().map(|tests| &tests.rows[..]).unwrap_or_default();
        let mut differing: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].differs()).collect();
        differing.sort_by(|a, b| rows[*b].z.abs().total_cmp(&rows[*a].z.abs()).then(a.cmp(b)));
        Self { summary, tests, shuffled, groups, examples, differing }
    }

    /// The values of a feature in every group or bin, in their order.
    pub fn values_of(&self, feature: u32) -> &[GroupValue] {
        of_feature(self.groups.as_deref().unwrap_or_default(), feature, |value| value.feature)
    }

    /// The two groups or bins in which a feature is active most often and least often.
    pub fn ends(&self, feature: u32) -> Option<[&str; 2]> {
        let mut groups: Vec<_> = self.values_of(feature).iter().filter(|value| !value.is_forecast).collect();
        groups.sort_by(|a, b| b.adjusted.total_cmp(&a.adjusted));
        let [most, .., least] = &groups[..] else { return None };
        Some([&most.group, &least.group])
    }

    /// The strongest samples of a feature in a group or bin, strongest first.
    pub fn examples_of(&self, feature: u32, group: &str) -> Vec<Example> {
        let examples = of_feature(self.examples.as_deref().unwrap_or_default(), feature, |example| example.feature);
        examples.iter().filter(|example| example.group == group).map(|example| example.example).collect()
    }
}

/// The rows of a feature in a table that is sorted by feature.
fn of_feature<T>(rows: &[T], feature: u32, number: impl Fn(&T) -> u32) -> &[T] {
    let start = rows.partition_point(|row| number(row) < feature);
    let end = rows.partition_point(|row| number(row) <= feature);
    &rows[start..end]
}

/// What `contrast.json` says.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContrastSummary {
    /// The autoencoder.
    pub sae: String,
    /// Samples that took part.
    pub samples: usize,
    /// Samples that did not.
    pub left_out: usize,
    /// Clusters in which features were found.
    pub clusters: usize,
    /// Clusters that confirmed them; 0 if findings were not confirmed.
    pub confirming_clusters: usize,
    /// Strata of comparable samples.
    pub strata: usize,
    /// The columns.
    pub columns: Vec<ContrastColumn>,
    /// Features that were tested.
    pub tested: usize,
    /// Features that differ.
    pub differing: usize,
    /// Findings with shuffled values, by shuffle.
    pub shuffled: Vec<usize>,
    /// How well each column is predicted.
    pub predictions: Vec<ContrastPrediction>,
    /// The forecast of the next bin, if the question is about an order.
    #[serde(default)]
    pub forecast: Option<ContrastForecast>,
}

/// How the next bin of an order is forecast.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContrastForecast {
    /// The method.
    pub method: String,
    /// Its skill with a 95 % interval: the share of the squared error of the last value that it avoids, measured on the last bin.
    pub skill: Option<[f64; 3]>,
}

impl ContrastForecast {
    /// Whether it is better than the last value, in a sentence.
    pub fn sentence(&self) -> String {
        let Self { method, skill } = self;
        match skill {
            Some([skill, low, high]) if *skill > 0.0 => format!(
                "The forecast (by {method}) avoids {} of the squared error of the last value (skill {skill:.2}, 95 % interval \
                 {low:.2} to {high:.2}).",
                format::percent(*skill)
            ),
            Some([skill, ..]) => {
                format!("The forecast (by {method}) is no better than the last value (skill {skill:.2}).")
            }
            None => {
                format!("The skill of the forecast (by {method}) is not known: the last bin equals the one before.")
            }
        }
    }
}

/// A column: a group, or the field.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContrastColumn {
    /// Its name.
    pub name: String,
    /// The share of its variance that strata of length explain.
    pub explained_by_length: Option<f64>,
}

/// How well a column is predicted from features, beside the baselines.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ContrastPrediction {
    /// The column.
    pub column: String,
    /// `auc` or `r2`.
    pub measure: String,
    /// From features.
    pub features: Option<f64>,
    /// From as many words.
    pub words: Option<f64>,
    /// From the length.
    pub length: Option<f64>,
    /// From mean hidden states.
    pub hidden: Option<f64>,
}

impl ContrastPrediction {
    /// The measure as texts call it.
    pub fn measure_title(&self) -> &str {
        match self.measure.as_str() {
            "auc" => "AUC",
            "r2" => "R\u{b2}",
            other => other,
        }
    }
}

impl ContrastSummary {
    /// How many features differ, and how many would by chance.
    pub fn headline(&self) -> String {
        let [differing, tested] = [self.differing, self.tested].map(|number| format::count(number as u64));
        let found = format!("{differing} of {tested} features differ");
        let shuffles = self.shuffled.len();
        if shuffles == 0 {
            return found;
        }
        let mean = self.shuffled.iter().sum::<usize>() as f64 / shuffles as f64;
        format!("{found}; with shuffled values: {mean:.1} on average ({shuffles} shuffles)")
    }

    /// The samples, and where features were found and confirmed.
    pub fn design(&self) -> Vec<String> {
        let total = self.clusters + self.confirming_clusters;
        let counts = [self.samples, total, self.strata, self.left_out].map(|number| format::count(number as u64));
        let [samples, clusters, strata, left_out] = &counts;
        let mut lines =
            vec![format!("{samples} samples in {clusters} clusters and {strata} strata; {left_out} left out")];
        if self.confirming_clusters > 0 {
            let [found, confirmed] =
                [self.clusters, self.confirming_clusters].map(|number| format::count(number as u64));
            lines.push(format!("found in {found} clusters and confirmed in {confirmed}"));
        }
        lines
    }

    /// The columns that length explains so well that the two cannot be told apart.
    pub fn warnings(&self, limit: f64) -> Vec<String> {
        let explained = |column: &ContrastColumn| {
            let share = column.explained_by_length.filter(|share| *share > limit)?;
            Some(format!(
                "Length explains {} of {}, so the two cannot be told apart.",
                format::percent(share),
                column.name
            ))
        };
        self.columns.iter().filter_map(explained).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::analysis::contrast::TestedFeature;

    #[test]
    fn the_sentences_say_what_was_found_and_what_chance_finds() {
        let mut summary = ContrastSummary {
            differing: 15,
            tested: 1219,
            samples: 843,
            clusters: 408,
            confirming_clusters: 435,
            strata: 9,
            shuffled: vec![0, 0, 0, 1],
            columns: vec![ContrastColumn { name: "year".into(), explained_by_length: Some(0.95) }],
            ..ContrastSummary::default()
        };
        let chance = "; with shuffled values: 0.2 on average (4 shuffles)";
        assert_eq!(summary.headline(), format!("15 of 1,219 features differ{chance}"));
        let design = summary.design();
        assert_eq!(design[0], "843 samples in 843 clusters and 9 strata; 0 left out");
        assert_eq!(design[1], "found in 408 clusters and confirmed in 435");
        assert_eq!(summary.warnings(0.9).len(), 1);
        assert!(summary.warnings(0.96).is_empty());
        (summary.shuffled, summary.confirming_clusters) = (Vec::new(), 0);
        assert_eq!(summary.headline(), "15 of 1,219 features differ");
        assert_eq!(summary.design().len(), 1);
    }

    #[test]
    fn differing_features_are_sorted_by_the_size_of_z() {
        let row = |feature, z, is_found, is_confirmed| TestedFeature {
            feature,
            z,
            is_found,
            is_confirmed,
            ..TestedFeature::default()
        };
        let rows = vec![
            row(1, 2.0, true, None),
            row(2, -3.0, true, Some(true)),
            row(3, 9.0, false, None),
            row(4, 5.0, true, Some(false)),
        ];
        let tests = TestTable { rows, ..TestTable::default() };
        let missing = || "missing".to_owned();
        let contrast = Contrast::new(Err(missing()), Ok(tests), Err(missing()), Err(missing()), Err(missing()));
        assert_eq!(contrast.differing, [1, 0]);
        assert!(contrast.values_of(1).is_empty() && contrast.examples_of(1, "a").is_empty());
    }

    #[test]
    fn a_forecast_says_whether_it_is_better_than_the_last_value() {
        let sentence = |skill| ContrastForecast { method: "drift".into(), skill }.sentence();
        let better = "avoids 25% of the squared error of the last value (skill 0.25, 95 % interval 0.10 to 0.40)";
        assert!(sentence(Some([0.25, 0.1, 0.4])).contains(better));
        assert!(sentence(Some([0.0, -0.1, 0.1])).contains("no better than the last value (skill 0.00)"));
        assert!(sentence(Some([-0.3, -0.5, 0.1])).contains("no better than the last value (skill -0.30)"));
        assert!(sentence(None).contains("not known"));
    }

    #[test]
    fn a_feature_has_its_own_values_and_the_groups_where_it_is_most_and_least_active() {
        let value = |feature, group: &str, adjusted, is_forecast| GroupValue {
            group: group.into(),
            feature,
            samples: Some(9),
            prevalence: None,
            adjusted,
            interval: None,
            is_forecast,
        };
        let groups = vec![
            value(7, "a", 0.2, false),
            value(3, "a", 0.5, false),
            value(3, "b", 0.1, false),
            value(3, "c", 0.7, false),
            value(3, "next", 0.9, true),
        ];
        let missing = || "missing".to_owned();
        let contrast = Contrast::new(Err(missing()), Err(missing()), Err(missing()), Ok(groups), Err(missing()));
        assert_eq!(contrast.values_of(3).len(), 4);
        assert_eq!(contrast.ends(3), Some(["c", "b"]));
        assert_eq!((contrast.ends(7), contrast.ends(4)), (None, None), "there is nothing to compare");
    }
}
