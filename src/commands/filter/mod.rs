//! `sae filter`: decides which samples stay, and writes the rows of both sides with a manifest.

mod manifest;
pub(super) mod rows;

pub use manifest::Filtered;

use super::{Opened, Outcome, only};
use crate::args::{Device, Filter, OfSae};
use crate::terminal::{self, count, table};
use anyhow::{Context, Result, bail};
use filters::keep;
use filters::scores::read_column;
use filters::select::{Collect, Fate, Groups, Keep, Rules, Signatures, choose};
use filters::write::{Format, Images, Shape, Stage, Writer, Written, check_folders, same};
use sae_core::Run;
use sae_core::sample::Sample;
use sae_core::store::{STEP, StoreRecord, load_samples};
use serde_json::{Value, json};
use std::path::Path;

/// Bytes of images after which a table or an archive ends and the next begins.
const SHARD: u64 = 512 << 20;

/// Runs the command.
pub fn run(args: &Filter, dry: bool) -> Result<Outcome> {
    let run = Run::open(&args.run)?;
    let tables = run.list("scores").into_iter().filter_map(|f| f.strip_suffix(".parquet").map(String::from)).collect();
    let sae = only(&args.sae, tables, "score table", "sae score")?;
    check_folders(&folders(args))?;
    let input = Input::read(&run, &sae, args)?;
    if dry {
        let needs_features = args.distinct.is_some() || args.diverse;
        let fates = (!needs_features).then(|| input.choose(args, None)).transpose()?;
        let keep = fates.map(|fates| fates.iter().filter(|fate| **fate == Fate::Kept).count());
        let of = input.scores.len();
        return Outcome::plan(
            json!({ "command": "filter", "by": args.by, "keep": keep, "of": of, "pass": needs_features }),
        );
    }
    let filtered = write(&run, &sae, &input, args)?;
    let text = describe(&filtered, args);
    Outcome::new(filtered, text)
}

/// A filter by a score alone, with rows as they stood.
pub fn plain(run: &Run, sae: &str, by: &str, keep: Keep, folders: [&Path; 2], device: Device) -> Result<Filtered> {
    let args = Filter {
        run: run.root().to_path_buf(),
        sae: Some(sae.into()),
        by: by.into(),
        keep,
        by_group: None,
        distinct: None,
        diverse: false,
        out: folders[0].to_path_buf(),
        dropped: Some(folders[1].to_path_buf()),
        format: Format::Same,
        images: Images::Copy,
        device,
    };
    write(run, sae, &Input::read(run, sae, &args)?, &args)
}

fn folders(args: &Filter) -> Vec<&Path> {
    [Some(&args.out), args.dropped.as_ref()].into_iter().flatten().map(|folder| folder.as_path()).collect()
}

/// What decides: samples with their scores and groups.
struct Input {
    samples: Vec<Sample>,
    scores: Vec<(String, Option<f64>)>,
    groups: Groups,
    keep: Keep,
}

impl Input {
    fn read(run: &Run, sae: &str, args: &Filter) -> Result<Self> {
        let scores = read_column(&run.scores(sae), &args.by)?;
        let samples = load_samples(run)?;
        let wrong = samples.iter().zip(&scores).position(|(sample, (id, _))| sample.id != *id);
        if let Some(n) = wrong.or((samples.len() != scores.len()).then(|| samples.len().min(scores.len()))) {
            let (own, there) = (samples.len(), scores.len());
            let path = run.scores(sae);
            bail!(
                "the scores are of other samples than the run's (from sample {n} on; {there} scores, {own} samples)\n\
                 hint: run `sae score` again: {}",
                path.display()
            );
        }
        let groups = match &args.by_group {
            None => Groups::one(samples.len()),
            Some(field) => Groups::by_field(&samples, field)?,
        };
        let keep = decide(args, &run.scores(sae), &scores)?;
        Ok(Self { samples, scores, groups, keep })
    }

    fn choose(&self, args: &Filter, signatures: Option<&Signatures>) -> Result<Vec<Fate>> {
        let (groups, distinct, diverse) = (&self.groups, args.distinct, args.diverse);
        Ok(choose(&self.scores, &Rules { keep: self.keep, groups, signatures, distinct, diverse })?)
    }
}

/// `auto` as a threshold: what `sae score` estimated for the column, or else what the scores alone suggest.
fn decide(args: &Filter, table: &Path, scores: &[(String, Option<f64>)]) -> Result<Keep> {
    if args.keep != Keep::Auto {
        return Ok(args.keep);
    }
    if args.by == super::score::PMI_TOKEN {
        let by = super::score::PMI_APART;
        bail!("--keep auto knows no {} of mismatched pairs\nhint: --by {by} --keep auto, or a share", args.by);
    }
    let estimate = match keep::saved(table, &args.by)? {
        Some(saved) => Some(saved),
        None => keep::keep_auto(&scores.iter().map(|(_, score)| *score).collect::<Vec<_>>()),
    };
    let by = &args.by;
    let estimate = estimate.with_context(|| format!("too few samples have a score {by} to say how many to keep"))?;
    Ok(Keep::AtLeast(estimate.threshold))
}

/// Selects and writes both sides.
fn write(run: &Run, sae: &str, input: &Input, args: &Filter) -> Result<Filtered> {
    check_folders(&folders(args))?;
    let signatures = match args.distinct.is_some() || args.diverse {
        true => Some(signatures(run, sae, input.samples.len(), args)?),
        false => None,
    };
    let fates = input.choose(args, signatures.as_ref())?;
    drop(signatures);
    if !fates.contains(&Fate::Kept) {
        let without = fates.iter().filter(|fate| **fate == Fate::NoScore).count();
        bail!("no sample would stay: --keep {} by {} ({without} of {} have no score)", args.keep, args.by, fates.len());
    }
    let record: StoreRecord = run.noted(STEP)?.context("run.json does not say where the data came from")?;
    let root = record.spec.arguments["data_root"].as_str().context("run.json does not say where the data lies")?;
    let root = Path::new(root);
    if !root.is_dir() {
        bail!("the data set is not where it was when the run was made\nhint: put it back: {}", root.display());
    }

    let kept: Vec<bool> = fates.iter().map(|fate| *fate == Fate::Kept).collect();
    let stages = [Some(Stage::new(&args.out)?), args.dropped.as_deref().map(Stage::new).transpose()?];
    let places = stages.each_ref().map(|stage| stage.as_ref().map(Stage::folder));
    let written = match args.format {
        Format::Same => write_same(root, &input.samples, &kept, places, args.images)?,
        format => {
            let mapping = serde_json::from_value(record.spec.arguments["map"].clone()).unwrap_or_default();
            write_as(format, root, &mapping, &input.samples, &kept, places, args.images)?
        }
    };
    let filtered = Filtered::new(run, sae, input, &fates, args, &record, root, written)?;
    let [out, dropped] = stages;
    if let Some(stage) = dropped {
        stage.commit()?;
    }
    if let Some(stage) = out {
        manifest::write(stage.folder(), &filtered, input, &fates)?;
        stage.commit()?;
    }
    Ok(filtered)
}

/// The features of every sample, by one pass over the activations with the threshold that the scores were made with.
fn signatures(run: &Run, sae: &str, samples: usize, args: &Filter) -> Result<Signatures> {
    let of = OfSae { run: run.root().to_path_buf(), sae: Some(sae.into()), device: args.device };
    let opened = Opened::new(&of)?;
    let note: Value = run.noted(&format!("score/{sae}"))?.unwrap_or_default();
    let threshold =
        note["threshold"].as_f64().context("run.json lacks the scores' threshold\nhint: run `sae score`")?;
    let mut collect = Collect::new(samples, opened.saved.weights.d_sae, threshold as f32);
    opened.pass("features", &mut [&mut collect])?;
    Ok(collect.finish())
}

fn write_same(
    root: &Path,
    samples: &[Sample],
    kept: &[bool],
    places: [Option<&Path>; 2],
    images: Images,
) -> Result<Written> {
    let mut written = [Written::default(); 2];
    for ((place, written), stays) in places.into_iter().zip(&mut written).zip([true, false]) {
        if let Some(place) = place {
            let side = samples.iter().zip(kept).filter(|(_, kept)| **kept == stays).map(|(sample, _)| sample);
            *written = same::Rows::of(side)?.write(root, place, images)?;
        }
    }
    Ok(written[0])
}

fn write_as(
    format: Format,
    root: &Path,
    mapping: &harvest::data::Mapping,
    samples: &[Sample],
    kept: &[bool],
    places: [Option<&Path>; 2],
    images: Images,
) -> Result<Written> {
    let shape = Shape::of(samples);
    let open = |place: &Path| Writer::new(format, place, &shape, images, SHARD);
    let mut writers = [places[0].map(open).transpose()?, places[1].map(open).transpose()?];
    let bar = terminal::bar("rows", samples.len() as u64);
    let wanted = |n: usize| places[!kept[n] as usize].is_some();
    rows::each(root, mapping, samples, wanted, |n, row| {
        bar.inc(1);
        match &mut writers[!kept[n] as usize] {
            Some(writer) => Ok(writer.push(&row)?),
            None => Ok(()),
        }
    })?;
    bar.finish_and_clear();
    let [out, dropped] = writers;
    if let Some(writer) = dropped {
        writer.finish()?;
    }
    Ok(out.map(Writer::finish).transpose()?.unwrap_or_default())
}

fn describe(filtered: &Filtered, args: &Filter) -> String {
    let mut text = format!(
        "kept {} of {} samples by {} (lowest that stayed: {:.4})\n",
        count(filtered.kept.rows),
        count(filtered.kept.rows + filtered.dropped),
        args.by,
        filtered.threshold.unwrap_or(f64::NAN),
    );
    let reasons = filtered.reasons.iter().filter(|(_, n)| **n > 0);
    let reasons: Vec<_> = reasons.map(|(reason, n)| format!("{} {reason}", count(*n))).collect();
    if !reasons.is_empty() {
        text += &format!("dropped: {}\n", reasons.join(", "));
    }
    if args.by_group.is_some() {
        let mut rows = vec![["group", "samples", "kept", "lowest"].map(String::from).to_vec()];
        rows.extend(filtered.groups.iter().map(|group| {
            let lowest = group.threshold.map_or("-".into(), |score| format!("{score:.4}"));
            vec![group.name.clone(), count(group.samples), count(group.kept), lowest]
        }));
        text += &table(&rows);
    }
    text + &format!("  {}", args.out.display())
}
