//! The runs that a crosscoder reads: which they are, and their activations as one store. Trains nothing.

use crate::error::ModelsError;
use crate::{Result, transcoder};
use sae_core::Run;
use sae_core::autoencoder::formats::{ModelStream, Origin};
use sae_core::store::Store;
use std::path::{Component, Path, PathBuf};

/// The activations of a hook in a run, joined with those of other runs on the same samples. Only those of a single run may be pieces.
pub(crate) fn join(run: &Run, others: &[PathBuf], hook: &str) -> Result<Store> {
    if others.is_empty() {
        return Ok(Store::open_with_pieces(run, hook)?);
    }
    let mut stores = vec![Store::open(run, hook)?];
    for path in others {
        stores.push(Store::open(&Run::open(path)?, hook)?);
    }
    Ok(Store::join(stores)?)
}

/// The activations that an autoencoder of a run reads: of the run, or of all runs of a crosscoder; with the target of a transcoder, if the
/// run has it.
pub(crate) fn store(run: &Run, origin: &Origin) -> Result<Store> {
    let others = origin.models.iter().skip(1).map(|stream| run.root().join(&stream.run));
    let store = join(run, &others.collect::<Vec<_>>(), &origin.hook)?;
    transcoder::with_known_target(store, origin, run)
}

/// The models of a store that several runs make up, as the file of a crosscoder names them, without scales; none for the store of one run.
pub(crate) fn streams(store: &Store) -> Vec<ModelStream> {
    if store.models() == 1 {
        return Vec::new();
    }
    let root = store.run().root();
    let stream = |store: &Store| ModelStream {
        run: relative(root, store.run().root()),
        model: store.manifest().model.clone(),
        scale: 1.0,
    };
    std::iter::once(store).chain(store.others()).map(stream).collect()
}

/// Rejects a crosscoder where the states of a single model are read.
pub(crate) fn check_single(origin: &Origin) -> Result<()> {
    match origin.models.len() {
        0 => Ok(()),
        models => Err(ModelsError::Crosscoder { models }.into()),
    }
}

/// The way from a folder to another, so that both can be moved together. The other path as it is if one of them does not exist.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (Ok(from), Ok(target)) = (from.canonicalize(), to.canonicalize()) else { return to.to_path_buf() };
    let (here, there): (Vec<Component>, Vec<Component>) = (from.components().collect(), target.components().collect());
    let shared = here.iter().zip(&there).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(Component::ParentDir, here.len() - shared);
    let way: PathBuf = up.chain(there[shared..].iter().copied()).collect();
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_relative_to_the_first_one() {
        let dir = tempfile::tempdir().unwrap();
        let [base, chat] = ["runs/base", "other/chat"].map(|name| dir.path().join(name));
        for folder in [&base, &chat] {
            std::fs::create_dir_all(folder).unwrap();
        }
        assert_eq!(relative(&base, &chat), Path::new("../../other/chat"));
        assert_eq!(relative(&base, &base), Path::new("."));
    }
}
