//! What a contrast asks: a value for each sample, from the fields of its row.

use super::ContrastError;
use crate::{Result, dataset};
use filters::column::ScoreTable;
use filters::select::{Groups, field_value, number};
use sae_core::Run;
use sae_core::analysis::contrast::FEWEST_SAMPLES;
use sae_core::store::sample::Sample;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Share of the samples that must have a number for a question about numbers.
const FEWEST: f64 = 0.05;
/// Offending values that are named.
const NAMED: usize = 5;

/// What is asked about the samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Question {
    /// Each group of a field against the other groups.
    Groups {
        /// The field: a column of the rows, with a dot for a field of an object, and `year:4` for four groups of numbers.
        field: String,
    },
    /// The trend along a number, or along names in a given order.
    Order {
        /// The field.
        field: String,
        /// The names in order; if there are none, the field holds numbers.
        levels: Vec<String>,
    },
    /// The relation to a number of the sample: a field, or a column of the score table.
    Target {
        /// The field or column.
        field: String,
        /// With a lead above 0, the largest value among so many samples that follow in the same cluster, in place of the
        /// sample's own.
        lead: usize,
    },
    /// The relation to the difference of a number between two groups of the same set, such as that of the rewards of two answers
    /// to a question: where does one answer better?
    Difference {
        /// The field or column of the number. A name in braces stands for the sample's value of that field, so that
        /// `reward.{style}` is another field for each style.
        field: String,
        /// The field of the groups; `None` is the one that melting made.
        group_field: Option<String>,
        /// The groups: the mean of the second is subtracted from that of the first.
        groups: [String; 2],
        /// The field of sets.
        set: String,
    },
}

impl Question {
    /// The field that it is about.
    pub fn field(&self) -> &str {
        match self {
            Self::Groups { field }
            | Self::Order { field, .. }
            | Self::Target { field, .. }
            | Self::Difference { field, .. } => field,
        }
    }

    /// The question with the field of its groups: unless it is named, the one that melting made.
    ///
    /// # Errors
    /// It is not named, and samples were not melted.
    pub(super) fn complete(&self, run: &Run) -> Result<Self> {
        let mut question = self.clone();
        if let Self::Difference { group_field: group_field @ None, .. } = &mut question {
            let melt = dataset::melt(run)?.ok_or(ContrastError::NoGroupField)?;
            *group_field = Some(melt.field);
        }
        Ok(question)
    }
}

/// The values of all samples.
pub(super) struct Values {
    /// The columns: names, and the values of the samples that take part.
    pub columns: Vec<(String, Vec<Option<f64>>)>,
    /// The groups, with the group of each sample; empty unless the question is about groups.
    pub groups: Vec<String>,
    /// What orders samples: the number of the group, or the value.
    pub order: Vec<Option<f64>>,
    /// For each sample, the sample that stands for its set; empty unless the question is about sets.
    pub sets: Vec<Option<u32>>,
    /// The number of sets, including those that lack a group.
    pub set_count: usize,
}

impl Values {
    /// Reads the values.
    ///
    /// # Errors
    /// A field that no row has; too few groups, samples or numbers.
    pub fn read(
        question: &Question,
        samples: &[Sample],
        clusters: Option<&[String]>,
        run: &Run,
        sae: &str,
    ) -> Result<Self> {
        match question {
            Question::Groups { field } => Self::by_groups(field, samples),
            Question::Order { field, levels } if levels.is_empty() => {
                Self::of_numbers(field, check_numbers(field, samples)?)
            }
            Question::Order { field, levels } => Self::of_numbers(field, ranks(field, levels, samples)?),
            Question::Target { field, lead } => {
                let values = numbers(field, samples, run, sae)?;
                match (lead, clusters) {
                    (0, _) => Self::of_numbers(field, values),
                    (_, None) => Err(ContrastError::LeadWithoutClusters.into()),
                    (lead, Some(clusters)) => Self::of_numbers(field, ahead(&values, clusters, *lead)),
                }
            }
            Question::Difference { field, group_field, groups, set } => {
                let values = numbers(field, samples, run, sae)?;
                let group_field = group_field.as_deref().ok_or(ContrastError::NoGroupField)?;
                let sets = group(samples, set)?;
                let of = samples.iter().zip(&sets.of);
                let of = of.map(|(sample, of)| field_value(&sample.meta, set).map(|_| *of)).collect::<Vec<_>>();
                Self::by_difference(field, &values, &sides(group_field, groups, samples)?, &of)
            }
        }
    }

    /// The number of samples, or of sets.
    pub fn units(&self) -> usize {
        if self.sets.is_empty() { self.order.len() } else { self.set_count }
    }

    fn by_groups(field: &str, samples: &[Sample]) -> Result<Self> {
        let groups = group(samples, field)?;
        let has = samples.iter().map(|sample| groups_has(sample, field)).collect::<Vec<_>>();
        let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
        let present = groups.of.iter().zip(&has).filter(|(_, has)| **has);
        present.for_each(|(group, _)| *sizes.entry(*group).or_default() += 1);
        let name = |group: &u32| groups.names[*group as usize].clone();
        if let (1, Some((group, samples))) = (sizes.len(), sizes.first_key_value()) {
            return Err(ContrastError::OneGroup { field: field.into(), group: name(group), samples: *samples }.into());
        }
        let small = sizes.iter().filter(|(_, n)| **n < FEWEST_SAMPLES as usize).map(|(group, n)| (name(group), *n));
        let small: Vec<_> = small.collect();
        if !small.is_empty() {
            return Err(ContrastError::SmallGroups { field: field.into(), small }.into());
        }
        let numbers: BTreeMap<u32, usize> = sizes.keys().copied().zip(0..).collect();
        let of = groups.of.iter().zip(&has).map(|(group, has)| has.then(|| numbers[group]));
        let of: Vec<Option<usize>> = of.collect();
        let indicator = |group: usize| of.iter().map(|of| of.map(|of| f64::from(u8::from(of == group)))).collect();
        // The columns of two groups are mirror images: one says it all.
        let asked = if sizes.len() == 2 { 1..2 } else { 0..sizes.len() };
        let names: Vec<String> = sizes.keys().map(name).collect();
        Ok(Self {
            columns: asked.map(|group| (names[group].clone(), indicator(group))).collect(),
            groups: names,
            order: of.into_iter().map(|of| of.map(|of| of as f64)).collect(),
            sets: Vec::new(),
            set_count: 0,
        })
    }

    /// Values for the first sample of each set that has both sides: the mean of side 0 minus that of side 1.
    fn by_difference(
        field: &str,
        values: &[Option<f64>],
        sides: &[Option<usize>],
        sets: &[Option<u32>],
    ) -> Result<Self> {
        // For each set: the sums and numbers of both sides, and the first sample.
        let mut known: BTreeMap<u32, ([(f64, f64); 2], u32)> = BTreeMap::new();
        for (n, ((value, side), set)) in (0..).zip(values.iter().zip(sides).zip(sets)) {
            if let (Some(value), Some(side), Some(set)) = (value, side, set) {
                let ([first, second], _) = known.entry(*set).or_insert(([(0.0, 0.0); 2], n));
                let (sum, count) = if *side == 0 { first } else { second };
                (*sum, *count) = (*sum + value, *count + 1.0);
            }
        }
        known.retain(|_, (sides, _)| sides.iter().all(|(_, count)| *count > 0.0));
        if known.len() < FEWEST_SAMPLES as usize {
            return Err(ContrastError::FewSets { field: field.into(), sets: known.len() }.into());
        }
        let mut differences = vec![None; values.len()];
        for ([first, second], n) in known.values() {
            differences[*n as usize] = Some(first.0 / first.1 - second.0 / second.1);
        }
        check_varies(field, &differences)?;
        let set_count = sets.iter().flatten().collect::<BTreeSet<_>>().len();
        let sets = sets.iter().map(|set| Some(known.get(&(*set)?)?.1)).collect();
        let columns = vec![(field.into(), differences.clone())];
        Ok(Self { columns, groups: Vec::new(), order: differences, sets, set_count })
    }

    fn of_numbers(field: &str, values: Vec<Option<f64>>) -> Result<Self> {
        let count = values.iter().flatten().count();
        if (count as f64) < FEWEST * values.len() as f64 || count == 0 {
            let field = field.to_owned();
            return Err(ContrastError::MostlyAbsent { field, present: count, samples: values.len() }.into());
        }
        check_varies(field, &values)?;
        let columns = vec![(field.into(), values.clone())];
        Ok(Self { columns, groups: Vec::new(), order: values, sets: Vec::new(), set_count: 0 })
    }
}

fn check_varies(field: &str, values: &[Option<f64>]) -> Result<()> {
    let mut present = values.iter().flatten();
    match present.next() {
        Some(first) if present.all(|other| other == first) => {
            Err(ContrastError::Constant { field: field.into(), value: *first }.into())
        }
        _ => Ok(()),
    }
}

/// Which of two groups each sample belongs to, if it belongs to one of them.
fn sides(field: &str, groups: &[String; 2], samples: &[Sample]) -> Result<Vec<Option<usize>>> {
    let found = group(samples, field)?;
    for name in groups {
        if !found.names.contains(name) {
            let (field, group, available) = (field.to_owned(), name.clone(), found.names.clone());
            return Err(ContrastError::UnknownGroup { field, group, available }.into());
        }
    }
    let side = |of: &u32| groups.iter().position(|name| *name == found.names[*of as usize]);
    Ok(found.of.iter().map(side).collect())
}

/// The numbers in a column of the scores or in a field of the rows.
fn numbers(field: &str, samples: &[Sample], run: &Run, sae: &str) -> Result<Vec<Option<f64>>> {
    match score(field, samples, run, sae)? {
        Some(scores) => Ok(scores),
        None => check_numbers(field, samples),
    }
}

/// The value of a field. A name in braces stands for the sample's value of that field.
fn value_of<'a>(sample: &'a Sample, field: &str) -> Option<&'a Value> {
    let mut name = field.to_owned();
    while let Some((before, rest)) = name.split_once('{') {
        let (inner, after) = rest.split_once('}')?;
        let value = field_value(&sample.meta, inner)?;
        // Braces in a value are not names of fields.
        let value = value.as_str().map_or_else(|| value.to_string(), String::from).replace('{', "");
        name = format!("{before}{value}{after}");
    }
    field_value(&sample.meta, &name)
}

/// Whether a sample has a value in all fields of a grouping.
fn groups_has(sample: &Sample, fields: &str) -> bool {
    let has = |field: &str| {
        let without_bins = field.rsplit_once(':').map_or(field, |(field, _)| field);
        field_value(&sample.meta, field).or(field_value(&sample.meta, without_bins)).is_some()
    };
    has(fields) || fields.split(',').all(|field| has(field.trim()))
}

/// Groups by fields, with an error that is about contrasts.
pub(crate) fn group(samples: &[Sample], fields: &str) -> Result<Groups> {
    Groups::by_fields(samples, fields).map_err(|error| match error {
        filters::Error::UnknownField { asked: field, available } => {
            ContrastError::UnknownField { field, available }.into()
        }
        error => error.into(),
    })
}

/// The column of the score table with this name, if rows have no such field.
fn score(name: &str, samples: &[Sample], run: &Run, sae: &str) -> Result<Option<Vec<Option<f64>>>> {
    let path = run.scores(sae);
    if samples.iter().any(|sample| field_value(&sample.meta, name).is_some()) || !path.exists() {
        return Ok(None);
    }
    let table = ScoreTable::open(&path, samples)?;
    let known = table.names().iter().any(|known| known == name);
    Ok(if known { Some(table.column(name)?) } else { None })
}

/// The numbers in a field.
fn check_numbers(field: &str, samples: &[Sample]) -> Result<Vec<Option<f64>>> {
    let values: Vec<_> = samples.iter().map(|sample| value_of(sample, field)).collect();
    if values.iter().all(Option::is_none) {
        // The error that names the fields there are.
        group(samples, field)?;
    }
    let wrong = values.iter().flatten().filter(|value| number(value).is_none());
    let wrong: Vec<String> = wrong.take(NAMED).map(|value| short(&value.to_string())).collect();
    if !wrong.is_empty() {
        return Err(ContrastError::NotNumbers { field: field.into(), values: wrong }.into());
    }
    Ok(values.into_iter().map(|value| value.and_then(number)).collect())
}

/// The ranks of names in an order.
fn ranks(field: &str, levels: &[String], samples: &[Sample]) -> Result<Vec<Option<f64>>> {
    let mut unknown = Vec::new();
    let rank = |sample: &Sample| {
        let value = field_value(&sample.meta, field)?;
        let name = value.as_str().map_or_else(|| value.to_string(), String::from);
        let rank = levels.iter().position(|level| *level == name);
        if rank.is_none() && unknown.len() < NAMED && !unknown.contains(&name) {
            unknown.push(short(&name));
        }
        rank.map(|rank| rank as f64)
    };
    let ranks: Vec<Option<f64>> = samples.iter().map(rank).collect();
    if ranks.iter().all(Option::is_none) && unknown.is_empty() {
        group(samples, field)?;
    }
    if !unknown.is_empty() {
        return Err(ContrastError::NotInOrder { field: field.into(), values: unknown }.into());
    }
    Ok(ranks)
}

/// The largest value among the next `lead` samples of the same cluster; nothing at its end.
fn ahead(values: &[Option<f64>], clusters: &[String], lead: usize) -> Vec<Option<f64>> {
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    clusters.iter().enumerate().for_each(|(n, cluster)| members.entry(cluster).or_default().push(n));
    let mut found = vec![None; values.len()];
    for members in members.values() {
        for (place, n) in members.iter().enumerate() {
            let next = members[place + 1..].iter().take(lead).filter_map(|next| values[*next]);
            found[*n] = next.reduce(f64::max);
        }
    }
    found
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sae_core::analysis::contrast::{Column, Design, Participant, Study, StudyOptions, study};
    use sae_core::analysis::feature_sets::FeatureSets;
    use sae_core::random::SplitMix64;
    use serde_json::json;

    fn samples(metas: impl Iterator<Item = Value>) -> Vec<Sample> {
        let sample = |(n, meta): (usize, Value)| {
            let [text, source] = Default::default();
            Sample { id: n.to_string(), key: n.to_string(), text, images: vec![], source, meta, piece: None }
        };
        metas.enumerate().map(sample).collect()
    }

    fn read(question: Question, samples: &[Sample], clusters: Option<&[String]>) -> Result<Values> {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::create(&folder.path().join("run")).unwrap();
        Values::read(&question, samples, clusters, &run, "base")
    }

    fn groups(field: &str) -> Question {
        Question::Groups { field: field.into() }
    }

    #[test]
    fn two_groups_are_one_column_and_three_are_three() {
        let rows = |names: &'static [&'static str]| samples((0..90).map(|n| json!({"g": names[n % names.len()]})));
        let two = read(groups("g"), &rows(&["a", "b"]), None).unwrap();
        assert_eq!(two.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!((two.columns[0].1[0], two.columns[0].1[1]), (Some(0.0), Some(1.0)));
        let three = read(groups("g"), &rows(&["a", "b", "c"]), None).unwrap();
        assert_eq!((three.columns.len(), three.groups.join("")), (3, "abc".into()));
    }

    #[test]
    fn questions_that_cannot_be_answered_are_rejected_with_counts_and_values() {
        let said = |question: Question, metas: &dyn Fn(usize) -> Value| {
            read(question, &samples((0..100).map(metas)), None).map(|_| ()).unwrap_err().to_string()
        };
        let order = |levels: &[&str]| Question::Order {
            field: "y".into(),
            levels: levels.iter().map(|level| (*level).to_owned()).collect(),
        };
        let target = |lead| Question::Target { field: "y".into(), lead };
        assert!(
            said(groups("y"), &|_| json!({"y": "a"})).contains("all 100 samples with a value of y are in one group, a")
        );
        let small = said(groups("y"), &|n| json!({"y": if n < 7 { "few" } else { "many" }}));
        assert!(small.contains("20 samples or more, but few has 7"), "{small}");
        assert!(said(groups("z"), &|_| json!({"y": 1})).contains("no row has a field z"));
        let words = said(order(&[]), &|n| json!({"y": format!("v{n}")}));
        assert!(
            words.contains("not numbers: \"v0\", \"v1\", \"v2\", \"v3\", \"v4\"") && !words.contains("v5"),
            "{words}"
        );
        let unnamed = said(order(&["low", "high"]), &|n| json!({"y": if n == 3 { "odd" } else { "low" }}));
        assert!(unnamed.contains("does not name: odd"), "{unnamed}");
        assert!(
            said(target(0), &|n| json!({"y": (n < 3).then_some(n)})).contains("only 3 of 100 samples have a number")
        );
        assert!(said(target(0), &|_| json!({"y": 2})).contains("y is 2 for every sample"));
        assert!(said(target(5), &|n| json!({"y": n})).contains("a lead needs clusters"));
    }

    fn difference(field: &str, groups: [&str; 2]) -> Question {
        let (group_field, set) = (Some("style".into()), "set".into());
        Question::Difference { field: field.into(), group_field, groups: groups.map(String::from), set }
    }

    #[test]
    fn differences_are_those_of_sets_that_have_both_groups() {
        // 30 sets of three styles; set 3 has no reward for the style b, and set 4 has two samples of it.
        let mut rows = Vec::new();
        for set in 0..30 {
            for style in ["a", "b", "c"] {
                let reward = (set != 3 || style != "b").then_some(json!(set * i32::from(style == "b")));
                rows.push(json!({"set": set, "style": style, "reward": reward, "of": {"a": 1, "b": set}}));
            }
        }
        rows.push(json!({"set": 4, "style": "b", "reward": 10, "of": {"a": 1, "b": 7}}));
        let samples = samples(rows.into_iter());
        let found = read(difference("reward", ["b", "a"]), &samples, None).unwrap();
        let value = |n: usize| found.order[n];
        // Samples of the style a are the first of their sets.
        assert_eq!((value(0), value(1), value(3), value(9), value(12)), (Some(0.0), None, Some(1.0), None, Some(7.0)));
        assert_eq!((found.sets[4], found.sets[10], found.sets[90]), (Some(3), None, Some(12)));
        let nested = read(difference("of.{style}", ["b", "a"]), &samples, None).unwrap();
        assert_eq!((nested.order[6], nested.order[12]), (Some(1.0), Some(4.5)));
        let said = |field: &str, groups: [&str; 2]| {
            read(difference(field, groups), &samples, None).map(|_| ()).unwrap_err().to_string()
        };
        assert!(said("reward", ["b", "d"]).contains("no group d (it has a, b, c)"));
        assert!(said("reward", ["c", "a"]).contains("reward is 0 for every sample"));
        assert!(said("prize", ["b", "a"]).contains("no row has a field prize"));
        let few = read(difference("reward", ["b", "a"]), &samples[..40], None).map(|_| ()).unwrap_err().to_string();
        assert!(few.contains("only 12 sets have a number of reward in both groups"), "{few}");
    }

    #[test]
    fn a_pattern_that_helps_only_with_several_steps_is_found_in_2000_questions() {
        // Feature 0 is active in questions of several steps, 40 % of all, and 1 to 39 in any. The pattern a is rewarded in 40 % of
        // the questions, b also in 40 %, but in 70 % of those with several steps.
        let mut random = SplitMix64::new(3);
        let (mut metas, mut sets) = (Vec::new(), Vec::new());
        for set in 0..2000 {
            let has_several = random.next_f64() < 0.4;
            let mut active: Vec<u32> = (1..40).filter(|_| random.next_f64() < 0.3).collect();
            if has_several {
                active.insert(0, 0);
            }
            for style in ["a", "b"] {
                let share = if has_several && style == "b" { 0.7 } else { 0.4 };
                let reward = u8::from(random.next_f64() < share);
                metas.push(json!({"set": set, "style": style, "reward": reward}));
                sets.push(active.clone());
            }
        }
        let samples = samples(metas.into_iter());
        let values = read(difference("reward", ["b", "a"]), &samples, None).unwrap();
        let asked = (0..samples.len()).filter(|n| values.order[*n].is_some());
        let participant = |n: usize| Participant {
            cluster: format!("{n:05}"),
            identity: String::new(),
            sample: n as u32,
            stratum: 0,
            pair: None,
        };
        let design = Design::new(asked.map(participant).collect());
        assert_eq!((design.samples().len(), values.units()), (2000, 2000));
        let in_order = design.samples().iter().map(|n| values.order[*n as usize].unwrap());
        let column = Column { name: "reward".into(), values: in_order.collect() };
        let sets = FeatureSets::from_sets(&sets, 40);
        let report = study(Study { design: &design, sets: &sets }, &[column], &StudyOptions::default()).unwrap();
        let differing: Vec<u32> = report.tested.iter().filter(|row| row.differs()).map(|row| row.feature).collect();
        assert!(differing.contains(&0) && differing.len() <= 2, "{differing:?}");
        assert!(report.shuffled.iter().sum::<usize>() <= 10, "{:?}", report.shuffled);
    }

    #[test]
    fn names_have_ranks_and_a_lead_looks_ahead_in_the_cluster() {
        let rows = samples((0..40).map(|n| json!({"size": if n % 2 == 0 { "small" } else { "large" }})));
        let levels = ["small", "large"].map(String::from).to_vec();
        let ranks = read(Question::Order { field: "size".into(), levels }, &rows, None).unwrap();
        assert_eq!(ranks.order[..3], [Some(0.0), Some(1.0), Some(0.0)]);
        let clusters: Vec<String> = (0..6).map(|n| if n < 4 { "a".into() } else { "b".into() }).collect();
        let values = [0.0, 0.0, 1.0, 0.0, 7.0, 0.0].map(Some);
        assert_eq!(ahead(&values, &clusters, 2), [Some(1.0), Some(1.0), Some(0.0), None, Some(0.0), None]);
    }
}
