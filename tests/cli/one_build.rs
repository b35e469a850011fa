//! Whichever packages are selected, Cargo compiles each dependency once: every selection asks for the same features of it
//! (`workspace-hack/Cargo.toml` says why that matters). Compiles nothing: Cargo says what it would compile.

use crate::tool::repository;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What the tests compile, which has to contain what every one of [`OTHERS`] compiles.
const TESTS: &str = "test --workspace --no-run";
const OTHERS: [&str; 7] = [
    "build",
    "build -p sae-gui",
    "build --workspace",
    "test --no-run",
    "test -p sae-core --no-run",
    "test -p sae-harvest --no-run",
    "test -p sae-filters --no-run",
];

/// What is compiled for GPUs by `.ci/run`: Burn and CubeCL with other features, and whatever is above them.
const GPU: [&str; 3] = [
    "test -p sae-core --features vulkan --lib --no-run",
    "test -p sae-harvest --features vulkan --test it --no-run",
    "build --features cuda,rocm,metal",
];

/// A crate as it is compiled: package, target and profile, its features, and the crates that it is compiled against.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Unit {
    name: String,
    features: BTreeSet<String>,
    dependencies: Vec<usize>,
}

/// The crates of a command, numbered by `numbers`: crates of two commands that share a build have one number.
fn units(command: &str, numbers: &mut BTreeMap<Unit, usize>) -> BTreeSet<usize> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(cargo);
    // What Cargo would compile is told by an unstable option, which the stable release allows with this variable.
    cargo.env("RUSTC_BOOTSTRAP", "1").args(["-Zunstable-options", "--offline", "--quiet"]);
    cargo.args(command.split(' ')).args(["--release", "--unit-graph"]).current_dir(repository(""));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "cargo {command}: {}", String::from_utf8_lossy(&output.stderr));
    let graph: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(graph["version"], 1, "the format of Cargo's unit graph has changed");
    let units = graph["units"].as_array().unwrap();
    let mut found = vec![None; units.len()];
    (0..units.len()).map(|n| number(n, units, &mut found, numbers)).collect()
}

/// The number of a crate, those that it depends on first.
fn number(n: usize, units: &[Value], found: &mut [Option<usize>], numbers: &mut BTreeMap<Unit, usize>) -> usize {
    if let Some(number) = found[n] {
        return number;
    }
    let unit = &units[n];
    let dependencies = unit["dependencies"].as_array().unwrap().iter();
    let mut dependencies: Vec<_> = dependencies
        .map(|dependency| number(dependency["index"].as_u64().unwrap() as usize, units, found, numbers))
        .collect();
    dependencies.sort();
    let features = unit["features"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().into()).collect();
    let [package, mode] = ["pkg_id", "mode"].map(|key| unit[key].as_str().unwrap());
    let package = package.rsplit('/').next().unwrap();
    let [target, kinds] = ["name", "kind"].map(|key| &unit["target"][key]);
    let optimization = &unit["profile"]["opt_level"];
    let name = format!("{package}, {mode} of {target} {kinds} with opt-level {optimization}");
    let next = numbers.len();
    let number = *numbers.entry(Unit { name, features, dependencies }).or_insert(next);
    found[n] = Some(number);
    number
}

/// The crates that a command would compile again after `first`, which differ in their features, with what is missing.
fn differences(first: &str, others: &[&str]) -> BTreeSet<String> {
    let mut numbers = BTreeMap::new();
    let all = units(first, &mut numbers);
    assert!(all.len() > 300, "{first} compiles {} crates", all.len());
    let others: Vec<_> = others.iter().map(|command| (command, units(command, &mut numbers))).collect();
    let by_number: BTreeMap<usize, &Unit> = numbers.iter().map(|(unit, number)| (*number, unit)).collect();
    let mut out = BTreeSet::new();
    for (command, numbers) in others {
        for own in numbers.difference(&all).map(|number| by_number[number]) {
            let same = all.iter().map(|number| by_number[number]).filter(|unit| unit.name == own.name);
            let sets: Vec<_> = same.map(|unit| &unit.features).collect();
            if sets.contains(&&own.features) {
                continue; // It differs because of what it depends on.
            }
            if sets.is_empty() {
                out.insert(format!("{}: cargo {command} needs it, and cargo {first} does not", own.name));
                continue;
            }
            let missing = sets.iter().flat_map(|set| set.difference(&own.features)).collect::<BTreeSet<_>>();
            let extra: BTreeSet<_> =
                own.features.iter().filter(|name| sets.iter().all(|set| !set.contains(*name))).collect();
            out.insert(format!("{}: cargo {command} lacks {missing:?} and adds {extra:?}", own.name));
        }
    }
    out
}

#[test]
#[cfg(target_os = "linux")] // the dependencies of other systems are not aligned (workspace-hack/Cargo.toml)
fn every_selection_of_packages_enables_the_same_features() {
    let lines = differences(TESTS, &OTHERS).into_iter().collect::<Vec<_>>().join("\n");
    assert!(lines.is_empty(), "add the missing features to workspace-hack/Cargo.toml:\n{lines}");
}

#[test]
#[cfg(target_os = "linux")]
fn features_for_gpus_belong_to_burn_and_cubecl_alone() {
    let own = ["sae-core", "harvest", "filters", "sae-workbench", "burn", "cubecl"];
    // `crates.io-index#burn@0.22.1`, `sae-core#0.1.0`, or `folder#sae-workbench@0.1.0`
    let is_own = |line: &str| {
        let package = line.split(',').next().unwrap_or(line);
        package.split(['#', '@']).any(|part| own.iter().any(|name| part.starts_with(name)))
    };
    // A crate with fewer features than the tests ask for has them added by whatever else is selected.
    let adds = |line: &String| line.contains("and adds {\"");
    let lines = differences(TESTS, &GPU).into_iter().filter(|line| adds(line) && !is_own(line));
    let lines = lines.collect::<Vec<_>>().join("\n");
    assert!(lines.is_empty(), "add the extra features to workspace-hack/Cargo.toml:\n{lines}");
}

/// `.ci/run` tests with two commands on a GPU, and what is below our own crates is compiled by the first of them alone.
#[test]
#[cfg(target_os = "linux")]
fn both_tests_on_gpus_share_one_build() {
    let lines = differences(GPU[1], &GPU[..1]).into_iter().filter(|line| !line.starts_with("sae-core#"));
    let lines = lines.collect::<Vec<_>>().join("\n");
    assert!(lines.is_empty(), "add the missing features to workspace-hack/Cargo.toml:\n{lines}");
}
