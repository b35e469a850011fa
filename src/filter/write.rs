//! Writes the rows of one selection, or of several in one pass over the data set.

use super::input::{Chosen, Features, Input};
use super::{FilterReport, FilterRequest, manifest, paths};
use crate::control::{Control, Notice, Stage};
use crate::dataset::{DIVISION, Dataset};
use crate::{Error, Result};
use filters::decisions::{Decisions, write_frontier};
use filters::select::Decision;
use filters::write::{Format, Job, Report, Row, Shape, StagedFolder, Writer, card};
use sae_core::Run;
use sae_core::store::{STEP, StoreRecord};
use std::collections::BTreeMap;

/// Bytes of images after which a table or an archive ends and the next begins.
const SHARD: u64 = 512 << 20;

/// What a request has chosen.
pub(super) struct Selection<'a> {
    pub request: &'a FilterRequest,
    pub chosen: Chosen,
}

/// The folders of a selection, of rows that are kept and of rows that are dropped.
struct Output<'a> {
    selection: &'a Selection<'a>,
    stages: [Option<StagedFolder>; 2],
    /// Whether each candidate is kept.
    kept: Vec<bool>,
    /// Whether each row of the data is kept, by the number of a sample that came from it.
    rows: BTreeMap<u32, bool>,
}

impl<'a> Output<'a> {
    fn new(selection: &'a Selection<'a>, input: &Input) -> Result<Self> {
        let FilterRequest { out, dropped, .. } = selection.request;
        let stages = [Some(StagedFolder::new(out)?), dropped.as_deref().map(StagedFolder::new).transpose()?];
        let kept: Vec<bool> = selection.chosen.decisions.iter().map(|made| *made == Decision::Kept).collect();
        let rows = input.candidates.rows(&kept).into_iter().collect();
        Ok(Self { selection, stages, kept, rows })
    }

    /// The side of a candidate: kept or dropped.
    fn side(&self, candidate: usize) -> usize {
        usize::from(!self.kept[candidate])
    }

    /// The side of the row that a sample stands for, if it stands for one.
    fn side_of_row(&self, sample: u32) -> Option<usize> {
        self.rows.get(&sample).map(|stays| usize::from(!stays))
    }

    /// A writer for each side that has a folder. Images that an earlier output has as well are stored once.
    fn writers(&self, data: &Dataset, shape: &Shape, earlier: Option<&Self>) -> Result<[Option<Writer>; 2]> {
        let FilterRequest { format, images, .. } = *self.selection.request;
        let earlier = earlier.and_then(|output| output.stages[0].as_ref()).map(|stage| stage.folder().join(card::ROWS));
        let open = |stage: &StagedFolder| -> Result<Writer> {
            let job = Job {
                format,
                root: &data.root,
                images,
                linked: earlier.as_deref(),
                shard: SHARD,
                mapped: &data.mapped(),
                division: DIVISION,
            };
            let folder = stage.folder().join(card::ROWS);
            std::fs::create_dir(&folder).map_err(sae_core::Error::io("create the folder", &folder))?;
            Ok(Writer::new(&job, &folder, shape)?)
        };
        let [out, dropped] = self.stages.each_ref().map(|stage| stage.as_ref().map(open).transpose());
        Ok([out?, dropped?])
    }
}

/// Writes the rows of all selections from one input, which differ in nothing but the amount, and a report of each. Each row of the
/// data is read once. If selections are sorted from the largest to the smallest, image files that one has in common with the one
/// before are stored once.
///
/// # Errors
/// Rows that have changed since they were harvested, a full disk; a request to stop. Each folder appears complete or not at all.
pub(super) fn selections(
    input: &Input,
    selections: &[Selection],
    features: Option<&Features>,
    control: &mut Control,
) -> Result<Vec<FilterReport>> {
    let Some(Selection { request: first, .. }) = selections.first() else { return Ok(Vec::new()) };
    let (singles, groups) = (input.groups.singles(), input.groups.names.len());
    if let Some(fields) = first.fields().filter(|_| groups > 2 && 2 * singles > groups) {
        control.notice(&Notice::SingleGroups { singles, groups, fields });
    }
    let run = Run::open(&first.run)?;
    let record: Option<StoreRecord> = run.read_step(STEP)?;
    let record = record.ok_or_else(|| Error::NoHarvest { run: run.root().into() })?;
    let data = Dataset::open(&record)?;
    let shape = Shape::new(&input.candidates.samples(), first.rules().and_then(|rules| rules.column.as_deref()));
    let outputs = selections.iter().map(|selection| Output::new(selection, input)).collect::<Result<Vec<_>>>()?;
    let written = rows(input, &data, &shape, &outputs, control)?;
    let mut reports = Vec::with_capacity(outputs.len());
    for (Output { selection, stages: [out, dropped], .. }, written) in outputs.into_iter().zip(written) {
        let chosen = &selection.chosen;
        let facts = manifest::Facts { run: &run, input, chosen, features, record: &record, data: &data, shape: &shape };
        let report = FilterReport::new(selection.request, &facts, written[0].clone())?;
        for (side, (stage, written)) in [&out, &dropped].into_iter().zip(&written).enumerate() {
            let Some(stage) = stage else { continue };
            report.write(stage.folder())?;
            card::write(stage.folder(), &written.contents, &report.about(side == 0))?;
        }
        if let Some(stage) = dropped {
            stage.commit()?;
        }
        if let Some(stage) = out {
            let Input { candidates, scores, .. } = input;
            let (samples, numbers) = (&*candidates.samples(), &candidates.numbers()[..]);
            Decisions { samples, numbers, scores, groups: input.cells(), fates: &chosen.decisions }
                .write(stage.folder())?;
            if !chosen.frontier.is_empty() {
                write_frontier(stage.folder(), &chosen.frontier)?;
            }
            stage.commit()?;
        }
        reports.push(report);
    }
    Ok(reports)
}

/// Writes the rows of every output and side that has a folder.
fn rows(
    input: &Input,
    data: &Dataset,
    shape: &Shape,
    outputs: &[Output],
    control: &mut Control,
) -> Result<Vec<[Report; 2]>> {
    let earlier = std::iter::once(None).chain(outputs.iter().map(Some));
    let writers = outputs.iter().zip(earlier).map(|(output, earlier)| output.writers(data, shape, earlier));
    let mut writers = writers.collect::<Result<Vec<_>>>()?;
    let candidates = &input.candidates;
    let mut staged = control.stage(Stage::Rows, input.scores.len() as u64)?;
    let mut done = 0;
    let mut push = |row: Row, sides: &[usize]| -> Result<()> {
        done += 1;
        staged.advance(done)?;
        let takers = writers.iter_mut().zip(sides);
        let mut takers: Vec<&mut Writer> = takers.filter_map(|(writers, side)| writers[*side].as_mut()).collect();
        if let Some((last, others)) = takers.split_last_mut() {
            for writer in others {
                writer.push(row.clone())?;
            }
            last.push(row)?;
        }
        Ok(())
    };
    if candidates.are_trees() && outputs.iter().any(|output| output.selection.request.format != Format::Same) {
        paths::each(data, candidates, |candidate, row| {
            let sides: Vec<usize> = outputs.iter().map(|output| output.side(candidate)).collect();
            push(Row { score: input.scores[candidate].1, ..row }, &sides)
        })?;
    } else {
        let scores: BTreeMap<u32, Option<f64>> =
            candidates.numbers().into_iter().zip(input.scores.iter().map(|(_, score)| *score)).collect();
        let has_folder =
            |output: &Output, n: u32| output.side_of_row(n).is_some_and(|side| output.stages[side].is_some());
        let wanted = |n: usize| outputs.iter().any(|output| has_folder(output, n as u32));
        data.each::<Error>(candidates.all(), wanted, |n, row| {
            let number = n as u32;
            let sides: Vec<usize> = outputs.iter().filter_map(|output| output.side_of_row(number)).collect();
            push(Row { score: scores.get(&number).copied().flatten(), ..row }, &sides)
        })?;
    }
    drop(staged);
    let finish = |writer: Option<Writer>| writer.map(Writer::finish).transpose();
    let finished = writers.into_iter().map(|[out, dropped]| {
        let dropped = finish(dropped)?.unwrap_or_default();
        Ok([finish(out)?.unwrap_or_default(), dropped])
    });
    finished.collect()
}
