//! Several stores of the same samples as one: those of several runs, whose rows stand side by side, as a crosscoder reads them; and
//! two hooks of a run, as input and target of a transcoder. Checks that the stores agree; never copies activations.

use super::reader::Store;
use super::{read_skipped, tables::token_identities};
use crate::error::{Cause, Hint, Setting};
use crate::store::run::Run;
use crate::{Error, Result, table};
use arrow::array::StringArray;
use std::path::Path;

impl Store {
    /// Joins activations of the same samples by several models: row `n` is `[x^1; ...; x^M]`, the rows `n` of all stores, in
    /// their order. Samples, tokens, scores and autoencoders are those of the first run.
    ///
    /// # Errors
    /// No store; stores of other widths, hooks, samples, tokens or skipped rows, where the first difference is named; stores
    /// that are cut into parts at other rows.
    pub fn join(stores: Vec<Store>) -> Result<Store> {
        let mut stores = stores.into_iter();
        let mut first = stores.next().ok_or_else(|| Error::config("there is no store to join"))?;
        let width = first.manifest.d_in;
        for other in stores {
            check_agreement(&first, &other, width)?;
            first.manifest.d_in += other.manifest.d_in;
            first.others.push(other);
        }
        Ok(first)
    }

    /// The same rows with a target: the activations of another hook of the run, which a transcoder reconstructs from these. Their widths
    /// may differ.
    ///
    /// # Errors
    /// A target of another run, of several models, or with a target of its own; shards of other rows.
    pub fn with_target(mut self, target: Store) -> Result<Store> {
        let rows = |store: &Store| store.manifest.shards.iter().map(|shard| shard.rows).collect::<Vec<_>>();
        let (hook, other) = (&self.manifest.hook, &target.manifest.hook);
        let cause = if self.run().root() != target.run().root() {
            format!("{hook} and its target {other} are of different runs")
        } else if self.models() > 1 || target.models() > 1 || target.target.is_some() {
            format!("{hook} and its target {other} must be of one model each")
        } else if rows(&self) != rows(&target) {
            format!("{hook} and its target {other} are cut into parts at other rows")
        } else {
            self.target = Some(Box::new(target));
            return Ok(self);
        };
        Err(Error::run(target.run().root(), cause))
    }

    /// The activations that a transcoder reconstructs: see [`Store::with_target`].
    pub fn target(&self) -> Option<&Store> {
        self.target.as_deref()
    }

    /// The stores that the rows come from: that of each model, and the target.
    fn sources(&self) -> impl Iterator<Item = &Store> {
        std::iter::once(self).chain(&self.others).chain(self.target())
    }

    /// The models whose activations the rows hold: 1, or more in a joined store.
    pub fn models(&self) -> usize {
        1 + self.others.len()
    }

    /// The store of each model, in the order of their blocks in a row, after the first.
    pub fn others(&self) -> &[Store] {
        &self.others
    }

    /// The first of the runs whose activations do not have these hashes, if there is one; the first run if there are hashes of
    /// another number of models.
    pub fn other_run(&self, hashes: &[String]) -> Option<&Path> {
        let found = self.content_hashes();
        let known = |n: usize| found.len() == hashes.len() && found[n] == hashes[n];
        let mut stores = self.sources().enumerate();
        stores.find(|(n, _)| !known(*n)).map(|(_, store)| store.run().root())
    }

    /// A hash of the activations of each model, in the order of their blocks in a row, and of the target of a transcoder: the hexadecimal BLAKE3 of the hashes of
    /// its shards. Equal activations have equal hashes wherever their run is.
    pub fn content_hashes(&self) -> Vec<String> {
        let hash = |store: &Store| {
            let mut hasher = blake3::Hasher::new();
            for shard in &store.manifest().shards {
                hasher.update(shard.blake3.as_bytes());
            }
            hasher.finalize().to_hex().to_string()
        };
        self.sources().map(hash).collect()
    }
}

fn check_agreement(first: &Store, other: &Store, width: usize) -> Result<()> {
    let (here, there) = (first.manifest(), other.manifest());
    let root = other.run().root();
    let differ = |cause: String| Err(Error::run(root, format!("the runs differ: {cause}")));
    if here.hook != there.hook {
        return differ(format!("activations of {} here, of {} there", here.hook, there.hook));
    }
    if width != there.d_in {
        return differ(format!("activations are {width} wide here, {} there", there.d_in));
    }
    if let Some(cause) = other_samples(first.run(), other.run())?.or(other_skipped(first.run(), other.run())?) {
        return differ(cause);
    }
    let rows = |store: &Store, part: usize| store.manifest().shards.get(part).map(|shard| shard.rows);
    for part in 0..first.shards().max(other.shards()) {
        let in_both = part < first.shards().min(other.shards());
        if in_both && let Some(cause) = other_tokens(first.run(), other.run(), part)? {
            return differ(cause);
        }
        if rows(first, part) != rows(other, part) {
            let text = "the runs have the same samples, but are cut into parts at other rows";
            return Err(Error::run(root, Cause::with_hint(text, Hint::Change(Setting::ShardTokens))));
        }
    }
    Ok(())
}

/// The first sample that two runs do not share.
fn other_samples(here: &Run, there: &Run) -> Result<Option<String>> {
    let ids = |run: &Run| -> Result<Vec<String>> {
        let (path, mut ids) = (run.samples(), Vec::new());
        for batch in table::scan(&path, &["id"])? {
            let batch = batch?;
            ids.extend(table::get::<StringArray>(&path, &batch, "id")?.iter().flatten().map(String::from));
        }
        Ok(ids)
    };
    let (here, there) = (ids(here)?, ids(there)?);
    let same = here.iter().zip(&there).take_while(|(a, b)| a == b).count();
    let name = |ids: &[String]| ids.get(same).map_or("no sample".to_string(), |id| id.clone());
    let differ = same < here.len().max(there.len());
    Ok(differ.then(|| format!("sample {same}: {} here, {} there", name(&here), name(&there))))
}

/// The first row of the data that only one of two runs has skipped.
fn other_skipped(here: &Run, there: &Run) -> Result<Option<String>> {
    let rows = |run: &Run| read_skipped(run)?.map(|skipped| Ok(skipped?.row)).collect::<Result<Vec<u64>>>();
    let (here, there) = (rows(here)?, rows(there)?);
    let same = here.iter().zip(&there).take_while(|(a, b)| a == b).count();
    let row = here.get(same).into_iter().chain(there.get(same)).min();
    Ok(row.map(|row| {
        let skipped =
            if here.get(same) == Some(row) { ["skipped here", "used there"] } else { ["used here", "skipped there"] };
        format!("row {row} of the data was {}, {}", skipped[0], skipped[1])
    }))
}

/// The first position of a part whose token differs.
fn other_tokens(here: &Run, there: &Run, part: usize) -> Result<Option<String>> {
    let (here, there) = (token_identities(&here.tokens(part))?, token_identities(&there.tokens(part))?);
    let difference = here.iter().zip(&there).find(|(a, b)| a != b);
    Ok(difference.map(|(a, b)| {
        let place = format!("sample {}, position {}", a.sample, a.position);
        if (a.sample, a.position) != (b.sample, b.position) {
            return format!("{place} here, sample {}, position {} there", b.sample, b.position);
        }
        if a.token_id != b.token_id {
            return format!("{place}: token {} here, {} there", a.token_id, b.token_id);
        }
        let kind = |token: &super::tables::TokenIdentity| {
            let part_of = if token.special { "the template" } else { "the content" };
            format!("{:?} token of {part_of}, role {:?}", token.modality, token.role)
        };
        format!("{place}: {} here, {} there", kind(a), kind(b))
    }))
}

#[cfg(test)]
mod tests {
    use crate::fixture;
    use crate::store::run::Run;
    use crate::store::sample::{Sample, Token};
    use crate::store::{Store, StoreWriter};
    use tempfile::TempDir;

    /// A store of the fixture's samples whose hidden states are `factor` times those of the fixture, with changed samples.
    fn run(factor: f32, cut: usize, change: impl Fn(usize, &mut Sample, &mut Vec<Token>)) -> (TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::create(dir.path()).unwrap();
        let mut writer = StoreWriter::open(&run, fixture::spec(&[2], 5)).unwrap();
        for range in [0..cut, cut..fixture::SAMPLES] {
            let mut part = fixture::part(range.clone(), 5, 1);
            part.activations.iter_mut().flatten().for_each(|v| *v *= factor);
            for (n, (sample, tokens)) in range.zip(&mut part.samples) {
                change(n, sample, tokens);
            }
            writer.write_part(&part).unwrap();
        }
        writer.finish().unwrap();
        (dir, Store::open(&run, "layers.2").unwrap())
    }

    #[test]
    fn rows_of_joined_stores_stand_side_by_side() {
        let (_a, first) = run(1.0, 4, |_, _, _| ());
        let (_b, second) = run(-2.0, 4, |_, _, _| ());
        let mut alone = Vec::new();
        first.shard(1).unwrap().read(3..6, &mut alone);
        let store = Store::join(vec![first, second]).unwrap();
        assert_eq!((store.models(), store.manifest().d_in), (2, 10));
        let (mut joined, shard) = (Vec::new(), store.shard(1).unwrap());
        shard.read(3..6, &mut joined);
        assert_eq!((joined.len(), shard.d_in()), (30, 10));
        for (row, alone) in joined.chunks(10).zip(alone.chunks(5)) {
            assert_eq!(row[..5], *alone);
            assert!(row[5..].iter().zip(alone).all(|(there, here)| *there == -2.0 * here));
        }
    }

    #[test]
    fn the_first_difference_between_runs_is_named() {
        let (_a, first) = run(1.0, 4, |_, _, _| ());
        let error = |other: Store| {
            let again = Store::open(first.run(), "layers.2").unwrap();
            Store::join(vec![again, other]).err().expect("runs that differ").message()
        };
        let (_b, tokens) = run(1.0, 4, |n, _, tokens| tokens[3].token_id = if n >= 7 { 291 } else { 3 });
        let found = error(tokens);
        assert!(found.starts_with("the runs differ: sample 7, position 3: token 3 here, 291 there"), "{found}");
        let (_c, template) = run(1.0, 4, |n, _, tokens| tokens[5].special = n == 2);
        let found = error(template);
        assert!(found.contains("sample 2, position 5: Text token of the content, role User here"), "{found}");
        let (_d, samples) = run(1.0, 4, |n, sample, _| {
            if n == 1 {
                sample.id = "another".into();
            }
        });
        let found = error(samples);
        assert!(
            found.contains(
                "sample 1: 0000000000000000000000000000000000000000000000000000000000000001 here, another there"
            ),
            "{found}"
        );
        let (_e, cut) = run(1.0, 6, |_, _, _| ());
        let found = error(cut);
        assert!(found.contains("cut into parts at other rows"), "{found}");
    }
}
