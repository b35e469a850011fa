//! Which share of a job this process has, by the variables that schedulers set. Starts nothing.
//!
//! Of a job whose parts are independent ([`share`]):
//!
//! | scheduler | variables |
//! |---|---|
//! | Slurm job array | `SLURM_ARRAY_TASK_ID`, `SLURM_ARRAY_TASK_MIN`, `SLURM_ARRAY_TASK_COUNT`, and `SLURM_ARRAY_TASK_STEP`, which is 1 if it is missing |
//! | Kubernetes Indexed Job | `JOB_COMPLETION_INDEX`, from 0, and [`COMPLETIONS`], which the manifest has to set |
//! | torchrun and others that have ranks | `RANK`, from 0, and `WORLD_SIZE` |
//!
//! Of processes that work together and were started as such ([`rank`]), the first of these that is set:
//!
//! | launcher | variables |
//! |---|---|
//! | torchrun | `RANK` and `WORLD_SIZE` |
//! | mpirun of Open MPI | `OMPI_COMM_WORLD_RANK` and `OMPI_COMM_WORLD_SIZE` |
//! | srun | `SLURM_PROCID` and `SLURM_STEP_NUM_TASKS` |

use crate::Result;
use crate::error::JobsError;
use harvest::Shard;

/// The variable with the number of completions of an Indexed Job. Kubernetes sets only the index.
pub const COMPLETIONS: &str = "JOB_COMPLETIONS";

const SLURM: [&str; 4] =
    ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_STEP"];
const KUBERNETES: [&str; 2] = ["JOB_COMPLETION_INDEX", COMPLETIONS];
const RANKS: [&str; 2] = ["RANK", "WORLD_SIZE"];
const LAUNCHERS: [[&str; 2]; 3] =
    [RANKS, ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"], ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"]];

/// The share that the variables name; `variable` returns the value of one, if it is set.
///
/// ```
/// let slurm = |name: &str| match name {
///     "SLURM_ARRAY_TASK_ID" => Some("6".to_string()),
///     "SLURM_ARRAY_TASK_MIN" | "SLURM_ARRAY_TASK_STEP" => Some("2".to_string()),
///     "SLURM_ARRAY_TASK_COUNT" => Some("4".to_string()),
///     _ => None,
/// };
/// assert_eq!(sae_workbench::job_array::share(slurm)?.to_string(), "3/4"); // --array=2-8:2
/// # Ok::<(), sae_workbench::Error>(())
/// ```
///
/// # Errors
/// [`JobsError::Array`] if no scheduler has set its variables, one has set only some of them, two contradict each other, or a
/// value is not a number or out of its range.
pub fn share(variable: impl Fn(&str) -> Option<String>) -> Result<Shard> {
    let found = Found(&variable);
    let shares = [found.slurm()?, found.counted_from_0(KUBERNETES)?, found.counted_from_0(RANKS)?];
    let mut shares = shares.into_iter().flatten();
    let first = shares.next().ok_or_else(|| {
        let names = [&SLURM[..3], &KUBERNETES, &RANKS].map(|names| names.join(", ")).join("; or ");
        found.wrong(&[], format!("no scheduler has said which share of the job this is: expected {names}"))
    })?;
    match shares.find(|other| *other != first) {
        None => Ok(first),
        Some(other) => {
            let all = [&SLURM[..], &KUBERNETES, &RANKS].concat();
            Err(found.wrong(&all, format!("the variables contradict each other: {first} and {other}")).into())
        }
    }
}

/// Which of several processes that work together this one is, by the first launcher that has set its variables. Where one launcher
/// runs under another one, as torchrun under srun, only the inner one knows its processes.
///
/// ```
/// let mpirun = |name: &str| match name {
///     "OMPI_COMM_WORLD_RANK" => Some("0".to_string()),
///     "OMPI_COMM_WORLD_SIZE" => Some("3".to_string()),
///     _ => None,
/// };
/// assert_eq!(sae_workbench::job_array::rank(mpirun)?.to_string(), "1/3");
/// # Ok::<(), sae_workbench::Error>(())
/// ```
///
/// # Errors
/// [`JobsError::Array`] if no launcher has set its variables, one has set only some of them, or a value is not a number or out of its
/// range.
pub fn rank(variable: impl Fn(&str) -> Option<String>) -> Result<Shard> {
    let found = Found(&variable);
    for names in LAUNCHERS {
        if let Some(rank) = found.counted_from_0(names)? {
            return Ok(rank);
        }
    }
    let names = LAUNCHERS.map(|names| names.join(", ")).join("; or ");
    Err(found.wrong(&[], format!("no launcher has assigned a number to this process: expected {names}")).into())
}

/// The variables of a process.
struct Found<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Found<'_> {
    /// An error that shows the values of these variables.
    fn wrong(&self, names: &[&str], cause: String) -> JobsError {
        let shown = |name: &&str| Some(format!("{name}={}", (self.0)(name)?));
        let mut variables: Vec<String> = names.iter().filter_map(shown).collect();
        if variables.is_empty() {
            variables.push("none of them is set".into());
        }
        JobsError::Array { cause, variables }
    }

    /// The values of a scheduler's variables: of all, or nothing if none is set.
    fn numbers<const N: usize>(&self, names: [&str; N]) -> Result<Option<[u64; N]>> {
        let values = names.map(|name| (self.0)(name));
        if values.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut numbers = [0; N];
        for ((number, value), name) in numbers.iter_mut().zip(values).zip(names) {
            let value = value
                .ok_or_else(|| self.wrong(&names, format!("{name} is not set, but others of the same job are")))?;
            let parsed = value.trim().parse();
            *number =
                parsed.map_err(|_| self.wrong(&names, format!("{name} is {value:?}: expected a number from 0")))?;
        }
        Ok(Some(numbers))
    }

    fn slurm(&self) -> Result<Option<Shard>> {
        let step = (self.0)(SLURM[3]).unwrap_or_else(|| "1".into());
        let names = [SLURM[0], SLURM[1], SLURM[2]];
        let Some([id, min, count]) = self.numbers(names)? else { return Ok(None) };
        let step = step.trim().parse::<u64>().ok().filter(|step| *step > 0);
        let step = step.ok_or_else(|| self.wrong(&SLURM, format!("{} is not a number from 1", SLURM[3])))?;
        let place = id.checked_sub(min).filter(|place| place.is_multiple_of(step)).map(|place| place / step);
        let share = place.and_then(|place| shard(place, count));
        let wrong = || {
            format!(
                "task {id} is not one of {count} tasks from {min} in steps of {step}: expected an array such as 1-8"
            )
        };
        Ok(Some(share.ok_or_else(|| self.wrong(&SLURM, wrong()))?))
    }

    fn counted_from_0(&self, names: [&str; 2]) -> Result<Option<Shard>> {
        let Some([index, count]) = self.numbers(names)? else { return Ok(None) };
        let wrong = || format!("{} is {index}: expected 0 to {}", names[0], count.saturating_sub(1));
        Ok(Some(shard(index, count).ok_or_else(|| self.wrong(&names, wrong()))?))
    }
}

/// The share at a place that is counted from 0.
fn shard(place: u64, count: u64) -> Option<Shard> {
    Shard::new(u32::try_from(place.checked_add(1)?).ok()?, u32::try_from(count).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<String, String> {
        let value =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        share(value).map(|share| share.to_string()).map_err(|error| error.to_string())
    }

    fn slurm<'a>(id: &'a str, min: &'a str, count: &'a str) -> [(&'a str, &'a str); 3] {
        [("SLURM_ARRAY_TASK_ID", id), ("SLURM_ARRAY_TASK_MIN", min), ("SLURM_ARRAY_TASK_COUNT", count)]
    }

    #[test]
    fn every_scheduler_names_the_share() {
        assert_eq!(found(&slurm("1", "1", "8")), Ok("1/8".into()));
        assert_eq!(found(&slurm("0", "0", "8")), Ok("1/8".into()));
        assert_eq!(found(&[&slurm("35", "5", "4")[..], &[("SLURM_ARRAY_TASK_STEP", "10")]].concat()), Ok("4/4".into()));
        assert_eq!(found(&[("JOB_COMPLETION_INDEX", "2"), ("JOB_COMPLETIONS", "3")]), Ok("3/3".into()));
        assert_eq!(found(&[("RANK", "0"), ("WORLD_SIZE", "2")]), Ok("1/2".into()));
        let agreeing = [&slurm("2", "1", "4")[..], &[("RANK", "1"), ("WORLD_SIZE", "4")]].concat();
        assert_eq!(found(&agreeing), Ok("2/4".into()));
    }

    #[test]
    fn the_first_launcher_names_the_rank() {
        let variables = |found: &'static [(&str, &str)]| {
            move |name: &str| found.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let srun: &[_] = &[("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "4")];
        assert_eq!(rank(variables(srun)).unwrap().to_string(), "2/4");
        // torchrun under srun.
        let both: &[_] = &[("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "2"), ("RANK", "15"), ("WORLD_SIZE", "16")];
        assert_eq!(rank(variables(both)).unwrap().to_string(), "16/16");
        let none = rank(variables(&[])).unwrap_err().to_string();
        assert!(none.contains("no launcher has assigned") && none.contains("OMPI_COMM_WORLD_RANK"), "{none}");
    }

    /// Variables, and what is said of them.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

    #[test]
    fn variables_that_do_not_name_a_share_are_shown() {
        let contradiction = [&slurm("2", "1", "4")[..], &[("RANK", "0"), ("WORLD_SIZE", "1")]].concat();
        let cases: [Case; 8] = [
            (&[], &["no scheduler has said", "WORLD_SIZE", "none of them is set"]),
            (&[("RANK", "3")], &["WORLD_SIZE is not set", "RANK=3"]),
            (&[("JOB_COMPLETION_INDEX", "3")], &["JOB_COMPLETIONS is not set"]),
            (&slurm("1", "1", "8")[..2], &["SLURM_ARRAY_TASK_COUNT is not set", "SLURM_ARRAY_TASK_MIN=1"]),
            (&contradiction, &["contradict each other: 2/4 and 1/1", "RANK=0", "SLURM_ARRAY_TASK_ID=2"]),
            (&[("RANK", "two"), ("WORLD_SIZE", "4")], &["RANK is \"two\": expected a number from 0"]),
            (&[("RANK", "4"), ("WORLD_SIZE", "4")], &["RANK is 4: expected 0 to 3"]),
            // --array=1,5,40 is no range: the id says nothing about the place.
            (&slurm("40", "1", "3"), &["task 40 is not one of 3 tasks from 1 in steps of 1"]),
        ];
        for (variables, expected) in cases {
            let said = found(variables).unwrap_err();
            assert!(expected.iter().all(|part| said.contains(part)), "{variables:?}: {said}");
        }
    }
}
