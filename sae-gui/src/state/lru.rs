//! A cache with a bound: the least recently used values are removed first. Knows nothing about its values.

use std::collections::HashMap;
use std::hash::Hash;

/// Values with a cost. The sum of the costs stays below a limit.
#[derive(Debug)]
pub struct Lru<K, V> {
    entries: HashMap<K, Entry<V>>,
    clock: u64,
    cost: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    cost: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    /// An empty cache whose costs add up to at most `limit`.
    pub fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), clock: 0, cost: 0, limit }
    }

    /// Whether there is a value.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// A value; this counts as a use.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.clock;
        Some(&entry.value)
    }

    /// A value; this does not count as a use.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Inserts a value and removes the least recently used ones until it fits. The inserted value always stays.
    pub fn insert(&mut self, key: K, value: V, cost: usize) {
        self.remove(&key);
        while self.cost + cost > self.limit {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
        self.clock += 1;
        self.cost += cost;
        self.entries.insert(key, Entry { value, cost, used: self.clock });
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.cost -= entry.cost;
        }
    }

    /// The sum of the costs.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Removes all values.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.cost = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_least_recently_used_value_is_removed_first() {
        let mut cache = Lru::new(3);
        (0..3).for_each(|n| cache.insert(n, n, 1));
        assert_eq!(cache.get(&0), Some(&0));
        cache.insert(3, 3, 1);
        assert!(cache.contains(&0) && !cache.contains(&1) && cache.contains(&2));
    }

    proptest! {
        #[test]
        fn the_bound_holds(inserts in prop::collection::vec((0u8..20, 1usize..40), 1..200)) {
            let mut cache = Lru::new(100);
            for (key, cost) in inserts {
                cache.insert(key, (), cost);
                prop_assert!(cache.cost() <= 100 && cache.contains(&key));
                prop_assert_eq!(cache.cost(), cache.entries.values().map(|e| e.cost).sum::<usize>());
            }
        }
    }
}
