//! A contrast as `sae contrast` has written it: what was found, every test, the tests of one shuffle, the values in groups. Plain
//! data with the sentences about it; reads no file.

use super::format;
use sae_core::analysis::contrast::{ChanceTest, GroupValue, TestTable};
use serde::Deserialize;

/// A contrast. What cannot be read is a sentence in its place.
#[derive(Clone, Debug)]
pub struct Contrast {
    /// What was found.
    pub summary: Result<ContrastSummary, String>,
    /// Every test.
    pub tests: Result<TestTable, String>,
    /// The tests of one shuffle.
    pub shuffled: Result<Vec<ChanceTest>, String>,
    /// The values of the differing features in every group or bin.
    pub groups: Result<Vec<GroupValue>, String>,
    /// The rows of the tests that differ, those with the largest `|z|` first.
    pub differing: Vec<usize>,
}

impl Contrast {
    /// Sorts what was read.
    pub fn new(
        summary: Result<ContrastSummary, String>,
        tests: Result<TestTable, String>,
        shuffled: Result<Vec<ChanceTest>, String>,
        groups: Result<Vec<GroupValue>, String>,
    ) -> Self {
        let rows = tests.as_ref().map(|tests| &tests.rows[..]).unwrap_or_default();
        let mut differing: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].differs()).collect();
        differing.sort_by(|a, b| rows[*b].z.abs().total_cmp(&rows[*a].z.abs()).then(a.cmp(b)));
        Self { summary, tests, shuffled, groups, differing }
    }

    /// The values of a feature in every group or bin, in their order.
    pub fn values_of(&self, feature: u32) -> Vec<&GroupValue> {
        self.groups.iter().flatten().filter(|value| value.feature == feature).collect()
    }
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
        let contrast = Contrast::new(Err(missing()), Ok(tests), Err(missing()), Err(missing()));
        assert_eq!(contrast.differing, [1, 0]);
        assert!(contrast.values_of(1).is_empty());
    }
}
