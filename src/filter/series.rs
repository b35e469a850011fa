//! One selection in several amounts: a folder for each, all inside of one folder, from one pass over the data. Image files that a
//! smaller selection has in common with the next larger one are stored once (hard links).

use super::write::{self, Selection};
use super::{FilterBy, FilterPlan, FilterReport, FilterRequest};
use crate::control::Control;
use crate::error::FilterError;
use crate::numbers::percent;
use crate::{Error, Result};
use filters::select::{Decision, Keep};
use filters::write::{StagedFolder, check_folders};
use std::cmp::Reverse;
use std::collections::BTreeSet;
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
        self.requests(&self.filter.out)?.iter().map(FilterRequest::plan).collect()
    }

    /// Writes all selections. The folder appears complete or not at all.
    ///
    /// # Errors
    /// As [`FilterRequest::run`] and [`FilterSeries::plan`].
    pub fn run(&self, control: &mut Control) -> Result<Vec<FilterReport>> {
        check_folders(&[&self.filter.out])?;
        // Refused before there is a folder.
        self.requests(&self.filter.out)?;
        let stage = StagedFolder::new(&self.filter.out)?;
        let requests = self.requests(stage.folder())?;
        let Some(first) = requests.first() else { return Ok(Vec::new()) };
        let (input, mut features) = (first.input()?, None);
        let chosen = requests.iter().zip(0..).map(|(request, n)| {
            Ok((n, Selection { request, chosen: request.chosen(&input, &mut features, control)? }))
        });
        let mut chosen = chosen.collect::<Result<Vec<(usize, Selection)>>>()?;
        let size = |selection: &Selection| selection.chosen.decisions.iter().filter(|d| **d == Decision::Kept).count();
        chosen.sort_by_cached_key(|(n, selection)| (Reverse(size(selection)), *n));
        let (order, selections): (Vec<usize>, Vec<Selection>) = chosen.into_iter().unzip();
        let reports = write::selections(&input, &selections, features.as_ref(), control)?;
        stage.commit()?;
        let mut reports: Vec<(usize, FilterReport)> = order.into_iter().zip(reports).collect();
        reports.sort_by_key(|(n, _)| *n);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    /// The request of each amount.
    fn requests(&self, out: &Path) -> Result<Vec<FilterRequest>> {
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
            Ok(FilterRequest { by, out: out.join(name), ..filter.clone() })
        };
        self.amounts.iter().map(&mut request).collect()
    }
}
