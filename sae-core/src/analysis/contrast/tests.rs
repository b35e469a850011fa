//! The test of features against a plain, dense implementation, and its laws.

use super::design::{Column, Design, Participant};
use super::study::{Study, StudyOptions, study};
use super::sums::{Counts, sums};
use crate::analysis::feature_sets::FeatureSets;
use crate::random::SplitMix64;
use proptest::prelude::*;

/// The dense formulas: `U`, `V`, `W` of one feature, from `u_cj = sum_{i in c} t~_i (y_ij - m_sj)`.
fn dense(design: &Design, sets: &FeatureSets, residuals: &[f64], feature: u32) -> [f64; 3] {
    let n = design.samples.len();
    let y: Vec<f64> = (0..n)
        .map(|i| sets.measured(design.samples[i] as usize).find(|(other, _)| *other == feature).map_or(0.0, |(_, y)| y))
        .collect();
    let prevalence = |stratum: u32| {
        let members = (0..n).filter(|i| design.strata[*i] == stratum);
        let (sum, count) = members.fold((0.0, 0.0), |(sum, count), i| (sum + y[i], count + 1.0));
        sum / count
    };
    let expected = |i: usize| if design.is_paired() { 0.0 } else { prevalence(design.strata[i]) };
    let errors: Vec<f64> = (0..n).map(|i| y[i] - expected(i)).collect();
    let u: f64 = (0..n).map(|i| residuals[i] * y[i]).sum();
    let effect = u / residuals.iter().map(|t| t * t).sum::<f64>();
    let variance = |effect: f64| -> f64 {
        let of_cluster = |range: &std::ops::Range<usize>| {
            range.clone().map(|i| residuals[i] * (errors[i] - effect * residuals[i])).sum::<f64>().powi(2)
        };
        design.clusters.iter().map(of_cluster).sum()
    };
    [u, variance(0.0), variance(effect)]
}

/// Samples with random features, strata, and clusters of different sizes.
fn random_design(
    samples: u32,
    (clusters, strata): (u64, usize),
    pairs: bool,
    seed: u64,
) -> (Vec<Participant>, FeatureSets, Vec<f64>) {
    let mut random = SplitMix64::new(seed);
    let mut sets = Vec::new();
    let mut participants = Vec::new();
    let mut values = Vec::new();
    for sample in 0..samples {
        let common = random.next_f64();
        sets.push((0..24).filter(|feature| random.next_f64() < common * f64::from(feature % 6 + 1) / 6.0).collect());
        let pair = u64::from(sample / 3);
        let cluster = if pairs { pair % clusters } else { random.next_u64() % clusters };
        participants.push(Participant {
            cluster: format!("{cluster:05}"),
            identity: format!("{sample:06}"),
            sample,
            stratum: random.below(strata) as u32,
            pair: pairs.then_some(pair as u32),
        });
        values.push(if random.next_f64() < 0.4 { 1.0 } else { random.next_f64() });
    }
    (participants, FeatureSets::from_sets(&sets, 24), values)
}

/// The same sets, with random strengths.
fn with_strengths(sets: &FeatureSets, seed: u64) -> FeatureSets {
    let mut random = SplitMix64::new(seed ^ 1);
    let strong = |n: usize| sets.features(n).map(|feature| (feature, 3.0 * random.next_f64() as f32)).collect();
    FeatureSets::from_strengths(&(0..sets.len()).map(strong).collect::<Vec<_>>(), sets.d_sae())
}

fn in_order(design: &Design, values: &[f64]) -> Vec<f64> {
    design.samples().iter().map(|sample| values[*sample as usize]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sums_over_active_features_equal_the_dense_formulas(
        samples in 20u32..150, clusters in 3u64..40, strata in 1usize..40, pairs: bool, strengths: bool, seed: u64,
    ) {
        let (participants, mut sets, values) = random_design(samples, (clusters, strata), pairs, seed);
        if strengths {
            sets = with_strengths(&sets, seed);
        }
        let design = Design::new(participants);
        let values = in_order(&design, &values);
        let columns: Vec<Vec<f64>> =
            (0..10).map(|k| design.residuals(&values.iter().map(|t| t * t - f64::from(k) * t).collect::<Vec<_>>())).collect();
        let found = sums(&design, &sets, &Counts::new(&design, &sets), &columns);
        prop_assert_eq!(found.len(), columns.len());
        for (column, residuals) in found.iter().zip(&columns) {
            for feature in 0..24u32 {
                let j = feature as usize;
                let [u, v, w] = dense(&design, &sets, residuals, feature);
                let scale = column.squares.max(1.0) * column.squares.max(1.0);
                let effect = column.u[j] / column.squares;
                let own = column.v[j] - 2.0 * effect * column.uq[j] + effect * effect * column.q_squares;
                prop_assert!((column.u[j] - u).abs() <= 1e-10 * column.squares.max(1.0), "U {} {u}", column.u[j]);
                prop_assert!((column.v[j] - v).abs() <= 1e-10 * scale, "V {} {v}", column.v[j]);
                prop_assert!((own - w).abs() <= 1e-10 * scale, "W {own} {w}");
            }
        }
    }

    #[test]
    fn neither_the_order_of_samples_nor_the_number_of_threads_changes_a_bit(seed: u64, threads in 1usize..4) {
        let (participants, sets, values) = random_design(300, (60, 4), false, seed);
        let sets = with_strengths(&sets, seed);
        let options = StudyOptions { shuffles: 2, confirm: Some(0.0), ..StudyOptions::default() };
        let run = |participants: Vec<Participant>, sets: &FeatureSets, values: &[f64]| {
            let design = Design::new(participants);
            let column = Column { name: "t".into(), values: in_order(&design, values) };
            study(Study { design: &design, sets }, &[column], &options).unwrap()
        };
        let expected = run(participants.clone(), &sets, &values);
        // The same samples in another order of the store.
        let place = |sample: u32| (sample * 7 + 3) % 300;
        let mut moved = participants;
        moved.iter_mut().for_each(|p| p.sample = place(p.sample));
        let (mut new_sets, mut new_values) = (vec![Vec::new(); 300], vec![0.0; 300]);
        for sample in 0..300 {
            let strong = sets.measured(sample as usize).map(|(feature, y)| (feature, y as f32));
            new_sets[place(sample) as usize] = strong.collect();
            new_values[place(sample) as usize] = values[sample as usize];
        }
        let new_sets = FeatureSets::from_strengths(&new_sets, 24);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        prop_assert_eq!(pool.install(|| run(moved, &new_sets, &new_values)), expected);
    }
}

#[test]
fn no_table_has_a_number_for_every_two_strata() {
    // A table of 30,000 times 30,000 strata would take 58 GB.
    let (count, strata) = (60_000u32, 30_000u32);
    for pairs in [true, false] {
        let mut random = SplitMix64::new(8);
        let participant = |sample: u32| Participant {
            cluster: format!("{:05}", sample / 3),
            identity: format!("{sample:05}"),
            sample,
            stratum: sample % strata,
            pair: pairs.then_some(sample / 3),
        };
        let design = Design::new((0..count).map(participant).collect());
        let has: Vec<bool> = (0..count).map(|_| random.next_f64() < 0.3).collect();
        let sets = FeatureSets::from_sets(&has.iter().map(|has| vec![0; usize::from(*has)]).collect::<Vec<_>>(), 1);
        let t: Vec<f64> = (0..count).map(|_| random.next_f64() - 0.5).collect();
        let found = &sums(&design, &sets, &Counts::new(&design, &sets), std::slice::from_ref(&t))[0];
        let y = |n: usize| f64::from(u8::from(has[n]));
        let strata = strata as usize;
        let expected = |n: usize| if pairs { 0.0 } else { (y(n % strata) + y(n % strata + strata)) / 2.0 };
        let u: f64 = (0..t.len()).map(|n| t[n] * y(n)).sum();
        let in_cluster = |c: usize| (3 * c..3 * c + 3).map(|n| t[n] * (y(n) - expected(n))).sum::<f64>();
        let v: f64 = (0..t.len() / 3).map(|c| in_cluster(c).powi(2)).sum();
        assert!(
            (found.u[0] - u).abs() < 1e-9 * u.abs() && (found.v[0] - v).abs() < 1e-9 * v,
            "{pairs}: {found:?} {u} {v}"
        );
    }
}

#[test]
fn columns_are_tested_alike_whether_they_are_many_or_one() {
    let (design, sets, column) = planted(3);
    let some: Vec<Column> = (0..30)
        .map(|n| Column {
            name: n.to_string(),
            values: column.values.iter().enumerate().map(|(i, t)| if i % 30 < n { *t } else { 1.0 - t }).collect(),
        })
        .collect();
    let options = StudyOptions { shuffles: 2, ..StudyOptions::default() };
    let test = |columns: &[Column]| study(Study { design: &design, sets: &sets }, columns, &options).unwrap();
    let together = test(&some);
    assert_eq!(together.shuffled.len(), 2);
    for n in [0, 7, 24, 29] {
        let alone = test(&some[n..=n]);
        let own = together.tested.iter().filter(|row| row.column == n);
        let numbers = |row: &super::TestedFeature| (row.estimate, row.z, row.p, row.prevalence, row.odds_ratio);
        assert!(own.map(numbers).eq(alone.tested.iter().map(numbers)), "column {n}");
    }
}

/// 1,200 samples in 200 clusters. Features 0 to 9 are more frequent in the group, 10 to 19 grow with the length alone,
/// which is larger in the group, 20 to 29 are frequent in some clusters, and the others are noise.
fn planted(seed: u64) -> (Design, FeatureSets, Column) {
    let mut random = SplitMix64::new(seed);
    let (mut participants, mut sets, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for cluster in 0..200u32 {
        let group = cluster % 2;
        let mood: Vec<f64> = (0..10).map(|_| random.next_f64()).collect();
        for _ in 0..6 {
            let sample = participants.len() as u32;
            let stratum = random.below(4) as u32 + 2 * group;
            let rate = |feature: u32| match feature {
                0..10 => 0.2 + 0.2 * f64::from(group),
                10..20 => 0.15 * f64::from(stratum + 1),
                20..30 => mood[feature as usize - 20],
                _ => 0.3,
            };
            sets.push((0..60).filter(|feature| random.next_f64() < rate(*feature)).collect::<Vec<u32>>());
            let (cluster, identity) = (format!("{cluster:03}"), format!("{sample:05}"));
            participants.push(Participant { cluster, identity, sample, stratum, pair: None });
            values.push(f64::from(group));
        }
    }
    let design = Design::new(participants);
    let values = in_order(&design, &values);
    (design, FeatureSets::from_sets(&sets, 60), Column { name: "group".into(), values })
}

#[test]
fn planted_differences_are_found_and_those_of_length_and_clusters_are_not() {
    let (mut hits, mut others, mut shuffled) = (0, 0, 0);
    for seed in 0..5 {
        let (design, sets, column) = planted(seed);
        let options = StudyOptions { confirm: Some(0.0), shuffles: 10, ..StudyOptions::default() };
        let report = study(Study { design: &design, sets: &sets }, &[column], &options).unwrap();
        let differing = || report.tested.iter().filter(|row| row.differs());
        hits += differing().filter(|row| row.feature < 10).count();
        others += differing().filter(|row| row.feature >= 10).count();
        shuffled += report.shuffled.iter().sum::<usize>();
        for row in differing().filter(|row| row.feature < 10) {
            assert!(row.estimate.effect > 0.0 && row.odds_ratio.unwrap() > 1.0);
            assert!(row.prevalence > row.prevalence_rest.unwrap());
        }
    }
    assert!(hits >= 45, "{hits} of 50");
    assert!(others <= 10, "{others} false findings of 250");
    // 50 shuffles: one in ten may find something at a rate of 0.1.
    assert!(shuffled <= 25, "{shuffled} findings in 50 shuffles");
}

#[test]
fn features_that_differ_in_strength_alone_are_found_by_strength() {
    // Feature 0 is active equally often in both groups, but stronger in one; feature 1 is the same in both.
    let mut random = SplitMix64::new(4);
    let (mut participants, mut sets, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for sample in 0..800u32 {
        let (group, cluster) = (sample % 2, format!("{:03}", sample / 2 % 40));
        let set = (0..2).filter_map(|feature| {
            let strength = random.next_f64() as f32 + if feature == 0 { 0.3 * group as f32 } else { 0.0 };
            (random.next_f64() < 0.6).then_some((feature, strength))
        });
        sets.push(set.collect::<Vec<_>>());
        participants.push(Participant { cluster, identity: format!("{sample:04}"), sample, stratum: 0, pair: None });
        values.push(f64::from(group));
    }
    let design = Design::new(participants);
    let column = Column { name: "group".into(), values: in_order(&design, &values) };
    let names = |sets: &[Vec<(u32, f32)>]| sets.iter().map(|set| set.iter().map(|s| s.0).collect()).collect::<Vec<_>>();
    let differing = |sets: &FeatureSets| {
        let options = StudyOptions { shuffles: 5, false_discovery_rate: 0.01, ..StudyOptions::default() };
        let report = study(Study { design: &design, sets }, std::slice::from_ref(&column), &options).unwrap();
        // 40 clusters are few enough for permutations, whose p-value is 1 / 5000 at least.
        assert!(report.tested.iter().all(|row| row.p.unwrap() >= 2e-4));
        let found = report.tested.iter().filter(|row| row.differs());
        found.map(|row| (row.feature, row.estimate)).collect::<Vec<_>>()
    };
    assert!(differing(&FeatureSets::from_sets(&names(&sets), 2)).is_empty());
    let found = differing(&FeatureSets::from_strengths(&sets, 2));
    assert_eq!(found.iter().map(|(feature, _)| *feature).collect::<Vec<_>>(), [0]);
    // The strength differs by 0.3 in 60 % of the samples.
    let estimate = found[0].1;
    assert!(estimate.lo < 0.18 && estimate.hi > 0.18, "{estimate:?}");
}

#[test]
fn findings_are_confirmed_in_clusters_that_were_not_used_to_find_them() {
    let (design, sets, column) = planted(7);
    let options = StudyOptions { confirm: Some(0.5), shuffles: 0, ..StudyOptions::default() };
    let report = study(Study { design: &design, sets: &sets }, &[column], &options).unwrap();
    assert_eq!(report.clusters + report.confirming_clusters, 200);
    assert_eq!(report.halves.iter().map(Vec::len).sum::<usize>(), 1200);
    let found: Vec<_> = report.tested.iter().filter(|row| row.is_found).collect();
    assert!(found.iter().all(|row| row.confirmation.is_some() && row.is_confirmed.is_some()));
    assert!(report.tested.iter().filter(|row| !row.is_found).all(|row| row.confirmation.is_none()));
    let differing = found.iter().filter(|row| row.differs()).count();
    assert!((7..=13).contains(&differing), "{differing}");
    // 200 clusters leave about 100 on each side; the default asks for 100 on both.
    let too_many = StudyOptions { confirm: Some(0.99), ..options };
    let (design, sets, column) = planted(7);
    let refused = study(Study { design: &design, sets: &sets }, &[column], &too_many).unwrap_err().to_string();
    assert!(refused.contains("each needs 10 or more"), "{refused}");
}

#[test]
fn intervals_cover_the_true_effect() {
    let (mut covered, mut all) = (0, 0);
    for seed in 100..120 {
        let (design, sets, column) = planted(seed);
        let options = StudyOptions { confirm: Some(0.0), shuffles: 0, ..StudyOptions::default() };
        let report = study(Study { design: &design, sets: &sets }, &[column], &options).unwrap();
        for row in report.tested.iter().filter(|row| row.feature < 10 || row.feature >= 30) {
            let truth = if row.feature < 10 { 0.2 } else { 0.0 };
            covered += usize::from((row.estimate.lo..=row.estimate.hi).contains(&truth));
            all += 1;
        }
    }
    let share = covered as f64 / all as f64;
    assert!((0.92..0.975).contains(&share), "{share}");
}

#[test]
fn few_clusters_are_permuted_and_very_few_have_no_p_value() {
    let (participants, sets, _) = random_design(400, (12, 4), false, 3);
    let design = Design::new(participants);
    let by_cluster = |cluster: usize| f64::from(u8::from(cluster.is_multiple_of(2)));
    let mut values = vec![0.0; 400];
    design.clusters().iter().enumerate().for_each(|(c, range)| values[range.clone()].fill(by_cluster(c)));
    let column = Column { name: "even".into(), values };
    let options = StudyOptions { shuffles: 1, ..StudyOptions::default() };
    let report = study(Study { design: &design, sets: &sets }, std::slice::from_ref(&column), &options).unwrap();
    assert_eq!((report.clusters, report.confirming_clusters), (12, 0));
    // 12 clusters can be divided into two groups of six in 924 ways, half of which are the other half's mirror images.
    assert!(report.tested.iter().all(|row| row.p.unwrap() >= 1.0 / 924.0));

    let (few, members) = design.subset(|cluster| cluster < 6);
    let column = Column { name: "even".into(), values: members.iter().map(|n| column.values[*n]).collect() };
    let report = study(Study { design: &few, sets: &sets }, &[column], &options).unwrap();
    assert!(report.tested.iter().all(|row| row.p.is_none() && row.q.is_none() && !row.is_found));
    assert!(!report.tested.is_empty());
}

#[test]
fn a_feature_that_does_not_vary_has_no_p_value() {
    // Feature 0 is active everywhere, feature 1 in one stratum alone, feature 2 at random.
    let mut random = SplitMix64::new(9);
    let (mut participants, mut sets, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for sample in 0..300u32 {
        let stratum = sample % 3;
        let has = [true, stratum == 1, random.next_f64() < 0.5];
        sets.push((0..3).filter(|feature| has[*feature as usize]).collect::<Vec<u32>>());
        let (cluster, identity) = (format!("{sample:04}"), String::new());
        participants.push(Participant { cluster, identity, sample, stratum, pair: None });
        values.push(random.next_f64());
    }
    let sets = FeatureSets::from_sets(&sets, 3);
    let has_p_values = |participants: Vec<Participant>| {
        let design = Design::new(participants);
        let column = Column { name: "t".into(), values: in_order(&design, &values) };
        let options = StudyOptions { confirm: Some(0.0), shuffles: 0, ..StudyOptions::default() };
        let report = study(Study { design: &design, sets: &sets }, &[column], &options).unwrap();
        assert!(report.tested.iter().all(|row| row.z.is_finite()));
        report.tested.iter().map(|row| row.p.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(has_p_values(participants.clone()), [false, false, true]);
    // In pairs, one of each stratum, feature 1 varies.
    for participant in &mut participants {
        let pair = participant.sample / 3;
        (participant.pair, participant.cluster) = (Some(pair), format!("{pair:03}"));
    }
    assert_eq!(has_p_values(participants), [false, true, true]);
}

#[test]
fn a_column_that_does_not_vary_is_rejected() {
    let (participants, sets, _) = random_design(100, (20, 4), true, 1);
    let design = Design::new(participants);
    let pairs = design.pairs.clone().unwrap();
    let column = Column { name: "pair".into(), values: pairs.iter().map(|pair| f64::from(*pair)).collect() };
    let study = study(Study { design: &design, sets: &sets }, &[column], &StudyOptions::default());
    let said = study.unwrap_err().to_string();
    assert!(said.contains("pair does not vary within strata and pairs"), "{said}");
}
