//! `*.safetensors.index.json`: which shard holds which tensor. Knows names only, never what is in a shard.

use super::json;
use crate::error::{Code, Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A checked index.
pub(crate) struct ShardIndex {
    /// The shards, in name order.
    pub shards: Vec<String>,
    /// For each tensor, the name of its shard and the offset of its key in the index.
    pub tensors: BTreeMap<String, (String, u64)>,
}

/// Reads an index.
pub(crate) fn parse(json: json::Located<'_>) -> Result<ShardIndex> {
    let top = json.object()?;
    json::unique(&top).map_err(|(_, e)| e)?;
    let map = top.iter().find(|m| m.key == "weight_map").map(|m| m.value);
    let map = map.ok_or_else(|| json.error(Code::BadJson, "weight_map is missing"))?;
    let members = map.object()?;
    json::unique(&members).map_err(|(name, e)| e.of_tensor(name))?;
    let (mut shards, mut tensors) = (BTreeSet::new(), BTreeMap::new());
    for m in &members {
        let shard = m.value.string().map_err(|e| e.of_tensor(&m.key))?;
        check_contained(&shard).map_err(|e| e.at(m.value.at).of_tensor(&m.key))?;
        shards.insert(shard.to_string());
        tensors.insert(m.key.to_string(), (shard.into_owned(), m.key_at));
    }
    if tensors.is_empty() {
        return Err(map.error(Code::BadIndex, "the index names no tensor"));
    }
    Ok(ShardIndex { shards: shards.into_iter().collect(), tensors })
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
