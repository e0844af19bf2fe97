//! `*.safetensors.index.json`: which shard holds which tensor. Knows names only, never what is in a shard.

use super::json;
use crate::error::{Code, Error, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A checked index.
pub(crate) struct ShardIndex {
    /// The shards, in name order.
    pub shards: Vec<String>,
    /// The tensors, in name order.
    tensors: Vec<IndexedTensor>,
}

/// A tensor that an index names.
pub(crate) struct IndexedTensor {
    pub name: Box<str>,
    /// Offset of its key in the index.
    pub at: u64,
    /// Index in [`ShardIndex::shards`].
    shard: u32,
}

impl ShardIndex {
    /// The number of a tensor, where `shard` holds it as the index says.
    pub fn find(&self, tensor: &str, shard: &str) -> Option<usize> {
        let found = self.tensors.binary_search_by(|t| (*t.name).cmp(tensor)).ok()?;
        (self.shard(self.tensors.get(found)?) == shard).then_some(found)
    }

    /// The name of the shard that holds a tensor.
    pub fn shard(&self, tensor: &IndexedTensor) -> &str {
        self.shards.get(tensor.shard as usize).map_or("", String::as_str)
    }

    /// All tensors.
    pub fn tensors(&self) -> &[IndexedTensor] {
        &self.tensors
    }
}

/// Reads an index.
pub(crate) fn parse(json: json::Located<'_>) -> Result<ShardIndex> {
    let top = json.object()?;
    json::unique(&top).map_err(|(_, e)| e)?;
    let map = top.iter().find(|m| m.key == "weight_map").map(|m| m.value);
    let map = map.ok_or_else(|| json.error(Code::BadJson, "weight_map is missing"))?;
    let keys = map.keys()?;
    keys.unique().map_err(|(name, e)| e.of_tensor(name))?;
    let (mut shards, mut tensors) = (BTreeMap::<String, u32>::new(), Vec::with_capacity(keys.len()));
    drop(keys);
    map.each(|m| {
        let shard = m.value.string().map_err(|e| e.of_tensor(&m.key))?;
        check_contained(&shard).map_err(|e| e.at(m.value.at).of_tensor(&m.key))?;
        let next = shards.len() as u32;
        let shard = match shards.get(&*shard) {
            Some(&known) => known,
            None => *shards.entry(shard.into_owned()).or_insert(next),
        };
        tensors.push(IndexedTensor { name: m.key.into(), at: m.key_at, shard });
        Ok(())
    })?;
    if tensors.is_empty() {
        return Err(map.error(Code::BadIndex, "the index names no tensor"));
    }
    // From the order in which they were named to that of their names.
    let mut places = alloc::vec![0; shards.len()];
    shards.values().zip(0..).for_each(|(&named, sorted)| {
        places.iter_mut().skip(named as usize).take(1).for_each(|place| *place = sorted);
    });
    tensors.iter_mut().for_each(|t| t.shard = places.get(t.shard as usize).copied().unwrap_or(0));
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(ShardIndex { shards: shards.into_keys().collect(), tensors })
}

/// Refuses names that could lead out of the directory, on any operating system.
pub(crate) fn check_contained(name: &str) -> Result<()> {
    let normal = |part: &str| !matches!(part, "" | "." | "..");
    if name.split('/').all(normal) && !name.contains(['\\', ':', '\0']) {
        return Ok(());
    }
    let words = format!("{name:?} is no file name inside the directory");
    Err(Error::new(Code::BadName, words))
}
