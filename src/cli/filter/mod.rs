//! `sae filter`: decides which samples stay, and writes the rows of both sides with a manifest.

mod input;
mod manifest;
pub(super) mod rows;

pub use manifest::Filtered;

use super::Outcome;
use super::arguments::DeviceArg;
use crate::cli::terminal::{self, count, table};
use anyhow::{Context, Result, bail};
use clap::Args;
use filters::decisions::Decisions;
use filters::select::{Decision, Keep};
use filters::write::card;
use filters::write::{Format, Images, Job, Report, Shape, StagedFolder, Writer, check_folders};
use input::Input;
use sae_core::Run;
use sae_core::store::{STEP, StoreRecord};
use serde_json::json;
use std::path::Path;
use std::path::PathBuf;

/// `sae filter`
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sae filter --run run --by cosine_paper --keep 50% --out kept --dropped dropped
  sae filter --run run --by cosine_paper --keep 50% --by-group category --out kept
  sae filter --run run --by l0_paper --keep 10000 --dedup 0.9 --diverse --out kept --format parquet
  sae filter --run run --by pmi --keep '>=0.3' --out kept --format sharegpt --images reference")]
pub struct FilterArgs {
    /// Run folder with scores
    #[arg(long)]
    pub run: PathBuf,
    /// Autoencoder whose scores decide; may be left out if the run has one score table
    #[arg(long)]
    pub sae: Option<String>,
    /// Column of the score table, such as cosine_paper
    #[arg(long, required_unless_present = "decisions")]
    pub by: Option<String>,
    /// How much to keep: 50% (best share), 1000 (best so many), '>=0.3' (threshold) or auto
    #[arg(long, required_unless_present_any = ["decisions", "quota"])]
    pub keep: Option<Keep>,
    /// Keep what a CSV or Parquet file says: a column sample, id or key, and keep or stays (true or false) unless it lists
    /// only what stays
    #[arg(long, value_name = "FILE", conflicts_with_all = ["by", "keep", "by_group", "quota", "equal_groups", "dedup", "diverse"])]
    pub decisions: Option<PathBuf>,
    /// Keep as large a share of every group: columns of the rows, such as category or category,country; year:4 makes four
    /// groups of numbers
    #[arg(long, value_name = "FIELDS")]
    pub by_group: Option<String>,
    /// Keep equally many of every group, rather than in proportion to its size
    #[arg(long, requires = "by_group", conflicts_with = "quota")]
    pub equal_groups: bool,
    /// The best so many of every group (category=20), or with --by-group of one group (people=20); '*=5' of each other one
    #[arg(long, value_name = "NAME=N", value_parser = quota)]
    pub quota: Vec<(String, usize)>,
    /// Drop samples whose features are this similar (Jaccard, 0 to 1) to those of a better one of their group
    #[arg(long, value_name = "SIMILARITY", value_parser = similarity)]
    pub dedup: Option<f64>,
    /// Of a budget, choose the samples that together show most features, rather than those of the highest scores
    #[arg(long)]
    pub diverse: bool,
    /// New folder for the rows that stay
    #[arg(long)]
    pub out: PathBuf,
    /// New folder for the rows that go
    #[arg(long)]
    pub dropped: Option<PathBuf>,
    /// same (the rows as they stood), parquet, jsonl, llava, sharegpt, trl or webdataset
    #[arg(long, default_value = "same")]
    pub format: filters::write::Format,
    /// copy (images come along) or reference (they stay, and rows say where they lie)
    #[arg(long, default_value = "copy")]
    pub images: filters::write::Images,
    #[command(flatten)]
    pub device: DeviceArg,
}

fn quota(text: &str) -> Result<(String, usize), String> {
    let parsed = text.rsplit_once('=').and_then(|(name, count)| Some((name, count.trim().parse().ok()?)));
    match parsed {
        Some((name, count)) if !name.is_empty() => Ok((name.to_owned(), count)),
        _ => Err(format!("invalid quota {text:?}: expected NAME=N, such as category=20")),
    }
}

fn similarity(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    match value > 0.0 && value <= 1.0 {
        true => Ok(value),
        false => Err(format!("a similarity of {text}: above 0, up to 1 (the same features)")),
    }
}

/// Bytes of images after which a table or an archive ends and the next begins.
const SHARD: u64 = 512 << 20;

/// Runs the command.
pub fn run(args: &FilterArgs, dry: bool) -> Result<Outcome> {
    let run = Run::open(&args.run)?;
    check_folders(&folders(args))?;
    let input = Input::read(&run, args)?;
    if dry {
        let fates = input.choose(args, None)?;
        let keep = fates.as_ref().map(|fates| fates.iter().filter(|fate| **fate == Decision::Kept).count());
        let of = input.samples.len();
        return Outcome::plan(json!({
            "command": "filter", "by": args.by, "decisions": args.decisions, "keep": keep, "of": of,
            "pass": fates.is_none(),
        }));
    }
    input.warnings(args).iter().for_each(|warning| eprintln!("warning: {warning}"));
    let filtered = write(&run, &input, args)?;
    filtered.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    let text = describe(&filtered, args);
    Outcome::new(filtered, text)
}

/// A filter by a score alone, with rows as they stood.
pub fn plain(run: &Run, sae: &str, by: &str, keep: Keep, folders: [&Path; 2], device: DeviceArg) -> Result<Filtered> {
    let args = FilterArgs {
        run: run.root().to_path_buf(),
        sae: Some(sae.into()),
        by: Some(by.into()),
        keep: Some(keep),
        decisions: None,
        by_group: None,
        equal_groups: false,
        quota: Vec::new(),
        dedup: None,
        diverse: false,
        out: folders[0].to_path_buf(),
        dropped: Some(folders[1].to_path_buf()),
        format: Format::Same,
        images: Images::Copy,
        device,
    };
    write(run, &Input::read(run, &args)?, &args)
}

fn folders(args: &FilterArgs) -> Vec<&Path> {
    [Some(&args.out), args.dropped.as_ref()].into_iter().flatten().map(|folder| folder.as_path()).collect()
}

/// Selects and writes both sides.
fn write(run: &Run, input: &Input, args: &FilterArgs) -> Result<Filtered> {
    check_folders(&folders(args))?;
    let fates = match (input.choose(args, None)?, &input.sae) {
        (Some(fates), _) => fates,
        (None, Some(sae)) => {
            let signatures = input::signatures(run, sae, input.samples.len(), args)?;
            input.choose(args, Some(&signatures))?.context("the samples' features decide")?
        }
        (None, None) => bail!("decisions need no features"),
    };
    if !fates.contains(&Decision::Kept) {
        let without = fates.iter().filter(|fate| **fate == Decision::NoScore).count();
        match (&args.by, args.keep) {
            (Some(by), Some(keep)) => {
                bail!("no sample would stay: --keep {keep} by {by} ({without} of {} have no score)", fates.len())
            }
            (Some(by), None) => bail!("no sample would stay by {by} ({without} of {} have no score)", fates.len()),
            _ => bail!("no sample would stay: the decisions keep none of {}", fates.len()),
        }
    }
    let record: StoreRecord = run.read_step(STEP)?.context("run.json does not say where the data came from")?;
    let data = rows::Data::of(&record)?;
    let shape = Shape::of(&input.samples, args.by.as_deref());
    let stages = [Some(StagedFolder::new(&args.out)?), args.dropped.as_deref().map(StagedFolder::new).transpose()?];
    let reports = write_rows(input, &fates, &data, &shape, stages.each_ref().map(Option::as_ref), args)?;
    let filtered = Filtered::new(run, input, &fates, args, &record, &data, &shape, reports[0].clone())?;
    let [out, dropped] = stages;
    for (side, (stage, report)) in [&out, &dropped].into_iter().zip(&reports).enumerate() {
        let Some(stage) = stage else { continue };
        manifest::write(stage.folder(), &filtered)?;
        card::write(stage.folder(), &report.contents, &filtered.about(side == 0))?;
    }
    if let Some(stage) = dropped {
        stage.commit()?;
    }
    if let Some(stage) = out {
        let Input { samples, scores, groups, .. } = input;
        Decisions { samples, scores, groups, fates: &fates }.write(stage.folder())?;
        stage.commit()?;
    }
    Ok(filtered)
}

/// Writes the rows of both sides, as far as they have a folder.
fn write_rows(
    input: &Input,
    fates: &[Decision],
    data: &rows::Data,
    shape: &Shape,
    stages: [Option<&StagedFolder>; 2],
    args: &FilterArgs,
) -> Result<[Report; 2]> {
    let job = Job {
        format: args.format,
        root: &data.root,
        images: args.images,
        shard: SHARD,
        mapped: &data.mapped(),
        division: rows::DIVISION,
    };
    let open = |stage: &StagedFolder| -> Result<Writer> {
        let folder = stage.folder().join(card::ROWS);
        std::fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Writer::new(&job, &folder, shape)?)
    };
    let [out, dropped] = stages;
    let mut writers = [out.map(open).transpose()?, dropped.map(open).transpose()?];
    let side = |n: usize| (fates[n] != Decision::Kept) as usize;
    let bar = terminal::bar("rows", input.samples.len() as u64);
    let wanted = |n: usize| stages[side(n)].is_some();
    data.each(&input.samples, wanted, |n, mut row| {
        bar.inc(1);
        row.score = input.scores[n].1;
        match &mut writers[side(n)] {
            Some(writer) => Ok(writer.push(row)?),
            None => Ok(()),
        }
    })?;
    bar.finish_and_clear();
    let finish = |writer: Option<Writer>| writer.map(Writer::finish).transpose();
    let [out, dropped] = writers;
    let dropped = finish(dropped)?.unwrap_or_default();
    Ok([finish(out)?.unwrap_or_default(), dropped])
}

fn describe(filtered: &Filtered, args: &FilterArgs) -> String {
    let (kept, all) = (count(filtered.kept.rows), count(filtered.kept.rows + filtered.dropped));
    let mut text = match &args.by {
        Some(by) => {
            let lowest = filtered.threshold.unwrap_or(f64::NAN);
            format!("kept {kept} of {all} samples by {by} (lowest that stayed: {lowest:.4})\n")
        }
        None => format!("kept {kept} of {all} samples\n"),
    };
    if let Some(ties) = filtered.ties {
        let score = match ties.score {
            Some(score) => format!("score {score:.4}, the threshold"),
            None => "score as much as the last of their group that stays".into(),
        };
        let (tied, stay) = (count(ties.samples), count(ties.stay));
        text += &format!("{tied} of {all} samples {score}; {stay} of them stay, chosen by id\n");
    }
    let reasons = filtered.reasons.iter().filter(|(_, n)| **n > 0);
    let reasons: Vec<_> = reasons.map(|(reason, n)| format!("{} {reason}", count(*n))).collect();
    if !reasons.is_empty() {
        text += &format!("dropped: {}\n", reasons.join(", "));
    }
    if filtered.groups.len() > 1 {
        let mut rows = vec![["group", "samples", "kept", "lowest"].map(String::from).to_vec()];
        rows.extend(filtered.groups.iter().map(|group| {
            let lowest = group.threshold.map_or("-".into(), |score| format!("{score:.4}"));
            vec![group.name.clone(), count(group.samples), count(group.kept), lowest]
        }));
        text += &table(&rows);
    }
    text + &format!("  {}", args.out.display())
}
