//! `*.safetensors.index.json`: maps tensor names to shards. Knows names only, not the content of the shards.
//!
//! Source: `save_pretrained` of Hugging Face transformers: `{"metadata": {..}, "weight_map": {"tensor":
//! "file"}}`.

use super::json;
use crate::error::{Code, Error, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A parsed and checked index.
pub(crate) struct ShardIndex {
    /// File names of the shards, sorted.
    pub shards: Vec<String>,
    /// Entries, sorted by tensor name.
    tensors: Vec<IndexedTensor>,
}

/// An entry of an index.
pub(crate) struct IndexedTensor {
    /// Name of the tensor.
    pub name: Box<str>,
    /// Offset of the key in the index file.
    pub at: u64,
    /// Index in [`ShardIndex::shards`].
    shard: u32,
}

impl ShardIndex {
    /// Returns the position of a tensor's entry if the index maps it to `shard`.
    pub(super) fn find(&self, tensor: &str, shard: &str) -> Option<usize> {
        let found = self.tensors.binary_search_by(|t| (*t.name).cmp(tensor)).ok()?;
        (self.shard(self.tensors.get(found)?) == shard).then_some(found)
    }

    /// File name of the shard of an entry.
    pub(super) fn shard(&self, tensor: &IndexedTensor) -> &str {
        self.shards.get(tensor.shard as usize).map_or("", String::as_str)
    }

    /// All entries, sorted by tensor name.
    pub(super) fn tensors(&self) -> &[IndexedTensor] {
        &self.tensors
    }
}

/// Parses an index.
///
/// # Errors
///
/// - [`Code::BadJson`] without a `weight_map` of strings.
/// - [`Code::DuplicateName`] for a tensor that is listed twice.
/// - [`Code::BadName`] for a shard outside the directory.
/// - [`Code::BadIndex`] for an index without tensors.
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
            Some(&number) => number,
            None => *shards.entry(shard.into_owned()).or_insert(next),
        };
        tensors.push(IndexedTensor { name: m.key.into(), at: m.key_at, shard });
        Ok(())
    })?;
    if tensors.is_empty() {
        return Err(map.error(Code::BadIndex, "the index lists no tensors"));
    }
    // Renumbers the shards from order of appearance to order of names.
    let mut renumbered = alloc::vec![0; shards.len()];
    shards.values().zip(0..).for_each(|(&appeared, sorted)| {
        renumbered.iter_mut().skip(appeared as usize).take(1).for_each(|number| *number = sorted);
    });
    tensors.iter_mut().for_each(|t| t.shard = renumbered.get(t.shard as usize).copied().unwrap_or(0));
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(ShardIndex { shards: shards.into_keys().collect(), tensors })
}

/// Refuses file names that leave the directory on any operating system.
///
/// # Errors
///
/// [`Code::BadName`] for empty parts, `.`, `..`, backslashes, colons and zero bytes.
pub(crate) fn check_contained(name: &str) -> Result<()> {
    let normal = |part: &str| !matches!(part, "" | "." | "..");
    if name.split('/').all(normal) && !name.contains(['\\', ':', '\0']) {
        return Ok(());
    }
    let message = format!("{name:?} is not a file name inside the directory");
    Err(Error::new(Code::BadName, message))
}
