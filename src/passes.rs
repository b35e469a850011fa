//! Where the states of an operation's passes come from: from a pass here, or from parts of it that were made elsewhere.

use crate::control::{Control, Stage};
use crate::sae::LoadedSae;
use crate::{Error, Result};
use harvest::Shard;
use sae_core::analysis::part::{Mergeable, PartWriter, PassPart, StoreOrigin};
use sae_core::analysis::pass::Observer;
use sae_core::store::Store;
use std::collections::BTreeMap;
use std::ops::Range;

/// How an operation gets the states of its observers.
pub(crate) enum Passes {
    /// A pass over each whole store.
    Here,
    /// No pass: only which stores there are is noted, by name.
    Listed(BTreeMap<String, StoreOrigin>),
    /// A pass over a share of each store, whose states are collected. The operation must not go on with them.
    Share(Shard, PartWriter),
    /// No pass: the states of all parts are merged. The parts are in order and complete.
    Merged(Vec<PassPart>),
}

/// The shards of a store that belong to a part.
pub(crate) fn share(shard: Shard, shards: usize) -> Range<usize> {
    let share = shard.share(shards as u64);
    share.start as usize..share.end as usize
}

impl Passes {
    /// Brings observers into the state in which a pass over a store leaves them. `name` names the store in parts.
    pub fn collect(
        &mut self,
        sae: &LoadedSae,
        name: &str,
        store: &Store,
        stage: Stage,
        states: &mut [&mut dyn Mergeable],
        control: &mut Control,
    ) -> Result<()> {
        match self {
            Self::Here => sae.observe_store(store, stage, &mut observers(states), control),
            Self::Listed(stores) => {
                stores.insert(name.into(), StoreOrigin::new(store));
                Ok(())
            }
            Self::Share(shard, writer) => {
                states.iter_mut().for_each(|state| state.begin_part());
                let shards = share(*shard, store.shards());
                sae.observe_shards(store, shards, stage, &mut observers(states), control)?;
                writer.begin(name);
                Ok(states.iter_mut().try_for_each(|state| state.save(writer))?)
            }
            Self::Merged(parts) => {
                let mut staged = control.stage(Stage::Merge, parts.len() as u64)?;
                for (part, n) in parts.iter().zip(1..) {
                    let section = part.section(name, store)?;
                    states.iter_mut().try_for_each(|state| state.merge(&section))?;
                    staged.advance(n)?;
                }
                Ok::<_, Error>(())
            }
        }
    }
}

fn observers<'a>(states: &'a mut [&mut dyn Mergeable]) -> Vec<&'a mut dyn Observer> {
    states.iter_mut().map(|state| &mut **state as &mut dyn Observer).collect()
}
