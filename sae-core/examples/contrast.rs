//! Measures the time and memory of a contrast on synthetic samples: `contrast SAMPLES FEATURES_PER_SAMPLE [COLUMNS [SHUFFLES]]`.
//! There are 65,536 features, whose probability is inversely proportional to their number, 20 strata, and as many clusters as
//! a tenth of the samples. The first hundred features are more frequent in the first group.

#![allow(clippy::print_stdout, reason = "a measurement for a terminal")]

use sae_core::analysis::contrast::{Column, Design, Participant, Study, StudyOptions, study};
use sae_core::analysis::feature_sets::FeatureSets;
use sae_core::random::SplitMix64;
use std::error::Error;
use std::time::Instant;

const D_SAE: usize = 65_536;
const PLANTED: u32 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let argument = |n: usize| std::env::args().nth(n).map(|text| text.parse::<usize>());
    let samples = argument(1).ok_or("expected SAMPLES FEATURES_PER_SAMPLE [COLUMNS [SHUFFLES]]")??;
    let features = argument(2).ok_or("expected FEATURES_PER_SAMPLE")??;
    let columns = argument(3).transpose()?.unwrap_or(2);
    let shuffles = argument(4).transpose()?.unwrap_or(20);

    let mut random = SplitMix64::new(1);
    let mut sets = FeatureSets::from_sets(&[], D_SAE);
    let mut set = Vec::new();
    let mut active = 0;
    for n in 0..samples {
        set.clear();
        let any = |random: &mut SplitMix64| (D_SAE as f64).powf(random.next_f64()) as u32 - 1;
        set.extend((0..features * 2).map(|_| any(&mut random).min(D_SAE as u32 - 1)));
        if n % columns == 0 {
            set.extend((0..PLANTED).filter(|_| random.next_f64() < 0.05));
        }
        set.sort_unstable();
        set.dedup();
        active += set.len();
        sets.push(&set);
    }
    let participant = |n: usize| Participant {
        cluster: format!("{:08}", n / 10),
        identity: format!("{n:08}"),
        sample: n as u32,
        stratum: (SplitMix64::nth(2, n as u64) % 20) as u32,
        pair: None,
    };
    let design = Design::new((0..samples).map(participant).collect());
    let column = |k: usize| Column {
        name: k.to_string(),
        values: design.samples().iter().map(|n| f64::from(u8::from(*n as usize % columns == k))).collect(),
    };
    let asked: Vec<Column> = (0..columns).map(column).collect();
    println!("{samples} samples of {} features on average, {columns} columns, {shuffles} shuffles", active / samples);

    let options = StudyOptions { shuffles, confirm: Some(0.0), ..StudyOptions::default() };
    let (start, before) = (Instant::now(), processor_seconds());
    let report = study(Study { design: &design, sets: &sets }, &asked, &options)?;
    let seconds = start.elapsed().as_secs_f64();
    let found = report.tested.iter().filter(|row| row.differs() && row.column == 0);
    let planted = found.clone().filter(|row| row.feature < PLANTED).count();
    let tests = active as f64 * (columns * (1 + shuffles)) as f64;
    let busy = processor_seconds() - before;
    println!(
        "{seconds:.1} s, {busy:.1} s of processor time, {:.2} ns of it for each active feature and column; {planted} of {PLANTED} planted features found, {} others; \
         {:.1} with shuffled columns",
        1e9 * busy / tests,
        found.count() - planted,
        report.shuffled.iter().sum::<usize>() as f64 / shuffles.max(1) as f64
    );
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        println!("{peak}");
    }
    Ok(())
}

/// The processor time of this process; 0 where the system does not tell in hundredths of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, counted behind the name of the program, which is field 2.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
