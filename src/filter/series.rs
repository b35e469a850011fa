//! One selection in several amounts: a folder for each, from the largest to the smallest, all inside of one folder. Image files
//! that a smaller selection has in common with the next larger one are stored once (hard links).

use super::{FilterBy, FilterPlan, FilterReport, FilterRequest};
use crate::control::Control;
use crate::error::FilterError;
use crate::numbers::percent;
use crate::{Error, Result};
use filters::select::Keep;
use filters::write::{StagedFolder, card, check_folders};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

/// A selection in several amounts, such as the ten deciles of a score. By a score alone, each smaller selection is a part of every
/// larger one.
#[derive(Clone, Debug)]
pub struct FilterSeries {
    /// The selection. Its own amount does not matter. Its folder gets a folder for each amount.
    pub filter: FilterRequest,
    /// The amounts: shares and numbers of samples.
    pub amounts: Vec<Keep>,
}

impl FilterSeries {
    /// The name of an amount's folder: `10-percent`, or `1000-samples`. `None` for amounts that only scores can say.
    pub fn folder(amount: Keep) -> Option<String> {
        match amount {
            Keep::Share(share) => Some(format!("{}-percent", percent(share))),
            Keep::Count(count) => Some(format!("{count}-samples")),
            Keep::AtLeast(_) | Keep::Auto | Keep::Quotas => None,
        }
    }

    /// What [`FilterSeries::run`] would do, by amount, in the order of the request.
    ///
    /// # Errors
    /// As [`FilterRequest::plan`], or amounts that are equal or neither shares nor numbers.
    pub fn plan(&self) -> Result<Vec<FilterPlan>> {
        check_folders(&[&self.filter.out])?;
        self.requests(&self.filter.out)?.iter().map(|(_, request)| request.plan()).collect()
    }

    /// Writes all selections. The folder appears complete or not at all.
    ///
    /// # Errors
    /// As [`FilterRequest::run`] and [`FilterSeries::plan`].
    pub fn run(&self, control: &mut Control) -> Result<Vec<FilterReport>> {
        check_folders(&[&self.filter.out])?;
        self.requests(&self.filter.out)?;
        let stage = StagedFolder::new(&self.filter.out)?;
        let requests = self.requests(stage.folder())?;
        let mut reports: Vec<Option<FilterReport>> = requests.iter().map(|_| None).collect();
        let mut features = None;
        let mut larger: Option<&Path> = None;
        let mut order: Vec<usize> = (0..requests.len()).collect();
        let sizes =
            requests.iter().map(|(_, request)| request.plan().map(|plan| plan.keep)).collect::<Result<Vec<_>>>()?;
        let share = |n: usize| match self.amounts[n] {
            Keep::Share(share) => share,
            _ => 0.0,
        };
        order.sort_by(|a, b| sizes[*b].cmp(&sizes[*a]).then(share(*b).total_cmp(&share(*a))));
        for n in order {
            let (_, request) = &requests[n];
            reports[n] = Some(request.filtered(&mut features, control)?);
            if let Some(larger) = larger {
                share_files(&larger.join(card::ROWS), &request.out.join(card::ROWS))?;
            }
            larger = Some(&request.out);
        }
        stage.commit()?;
        Ok(reports.into_iter().flatten().collect())
    }

    /// The request of each amount, with the name of its folder.
    fn requests(&self, out: &Path) -> Result<Vec<(String, FilterRequest)>> {
        let filter = self.filter.with_score()?;
        let excluded = |what| Error::from(FilterError::AmountsExclude { what });
        let FilterBy::Rules(rules) = &filter.by else { return Err(excluded("decisions that were made elsewhere")) };
        if filter.dropped.is_some() {
            return Err(excluded("a folder for dropped rows"));
        }
        let mut names = BTreeSet::new();
        let mut request = |amount: &Keep| {
            let unusable = FilterError::Amounts { amount: *amount };
            let name = Self::folder(*amount).filter(|name| names.insert(name.clone())).ok_or(unusable)?;
            let mut rules = rules.clone();
            rules.keep = Some(*amount);
            let by = FilterBy::Rules(rules);
            Ok((name.clone(), FilterRequest { by, out: out.join(name), ..filter.clone() }))
        };
        self.amounts.iter().map(&mut request).collect()
    }
}

/// Replaces files of a folder by hard links to the files of another folder with the same relative paths and contents. Where the
/// file system has no hard links, the copies stay.
fn share_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(to).map_err(sae_core::Error::io("list", to))? {
        let entry = entry.map_err(sae_core::Error::io("list", to))?;
        let (path, other) = (entry.path(), from.join(entry.file_name()));
        let kind = entry.file_type().map_err(sae_core::Error::io("read", &path))?;
        if kind.is_dir() {
            if other.is_dir() {
                share_files(&other, &path)?;
            }
        } else if kind.is_file() && other.is_file() && same_content(&path, &other)? {
            let link = path.with_file_name(format!(".{}.link", entry.file_name().to_string_lossy()));
            if fs::hard_link(&other, &link).is_ok() {
                fs::rename(&link, &path).map_err(sae_core::Error::io("replace", &path))?;
            }
        }
    }
    Ok(())
}

fn same_content(a: &Path, b: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).map_err(sae_core::Error::io("open", path));
    let size = |path: &Path| fs::metadata(path).map(|of| of.len()).map_err(sae_core::Error::io("read", path));
    if size(a)? != size(b)? {
        return Ok(false);
    }
    let (mut left, mut right) = (BufReader::new(open(a)?), BufReader::new(open(b)?));
    let (mut mine, mut other) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = left.read(&mut mine).map_err(sae_core::Error::io("read", a))?;
        if read == 0 {
            return Ok(true);
        }
        right.read_exact(&mut other[..read]).map_err(sae_core::Error::io("read", b))?;
        if mine[..read] != other[..read] {
            return Ok(false);
        }
    }
}
