//! Which files make up the checkpoint of a directory. Goes by names only; what is in a file is not known here.

use super::{Companion, Warning, limits};
use crate::error::{Code, Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The name of the lattice index.
pub(crate) const Q4_INDEX: &str = "quantize_index.json";
const SHARD_INDEX: &str = ".safetensors.index.json";

/// A set of files to be read together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WeightFiles {
    /// An index, which names the files.
    Index(String),
    /// One file of any container.
    One(String),
    /// All files of a GGUF split, first to last.
    Split(Vec<String>),
    /// Lattice files without an index.
    Lattice(Vec<String>),
}

/// The checkpoint of a directory; indexes before files, safetensors before GGUF before lattice.
pub(crate) fn choose(names: &[&str]) -> Result<WeightFiles> {
    let with = |suffix: &str| names.iter().copied().filter(|n| n.ends_with(suffix)).collect::<Vec<_>>();
    let named = |name: &str| names.contains(&name).then(|| name.to_string());
    if let Some(index) =
        named("model.safetensors.index.json").map_or_else(|| single(&with(SHARD_INDEX)), some)?
    {
        return Ok(WeightFiles::Index(index));
    }
    if let Some(file) = named("model.safetensors").map_or_else(|| single(&with(".safetensors")), some)? {
        return Ok(WeightFiles::One(file));
    }
    if let Some(set) = gguf(&with(".gguf"))? {
        return Ok(set);
    }
    if let Some(index) = named(Q4_INDEX) {
        return Ok(WeightFiles::Index(index));
    }
    let lattice: Vec<String> = names.iter().filter(|n| is_lattice(n)).map(ToString::to_string).collect();
    if lattice.is_empty() {
        let words = "the directory holds no .safetensors, .gguf, .q4 or .f16 file";
        return Err(Error::new(Code::NotFound, words));
    }
    Ok(WeightFiles::Lattice(lattice))
}

fn some(name: String) -> Result<Option<String>> {
    Ok(Some(name))
}

/// The only candidate; several are the user's to choose from.
fn single(candidates: &[&str]) -> Result<Option<String>> {
    match candidates {
        [] => Ok(None),
        [one] => Ok(Some(one.to_string())),
        several => {
            let words = format!("several checkpoints in one directory, name one of: {}", several.join(", "));
            Err(Error::new(Code::Usage, words))
        }
    }
}

/// One GGUF file, or one split set.
fn gguf(names: &[&str]) -> Result<Option<WeightFiles>> {
    let mut sets: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        sets.entry(split_of(name).map_or_else(|| name.to_string(), |s| s.file(1))).or_insert(name);
    }
    let firsts: Vec<&str> = sets.keys().map(String::as_str).collect();
    Ok(single(&firsts)?.map(|first| from_name(&first)))
}

/// What opening this one file means: a part of a GGUF split stands for the whole set.
pub(crate) fn from_name(name: &str) -> WeightFiles {
    match split_of(name) {
        Some(split) => WeightFiles::Split((1..=split.count).map(|i| split.file(i)).collect()),
        None => WeightFiles::One(name.to_string()),
    }
}

/// `PREFIX-00001-of-00003.gguf`, taken apart.
struct SplitName<'a> {
    prefix: &'a str,
    count: u32,
}

impl SplitName<'_> {
    fn file(&self, no: u32) -> String {
        format!("{}-{no:05}-of-{:05}.gguf", self.prefix, self.count)
    }
}

/// The parts of a split name; a set of one is a single file.
fn split_of(name: &str) -> Option<SplitName<'_>> {
    let five = |s: &str| (s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?;
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    let (no, count): (u32, u32) = (five(no)?, five(count)?);
    (count > 1 && (1..=count).contains(&no)).then_some(SplitName { prefix, count })
}

/// Files with one tensor each; `merged_qkvz_*` are caches of a lattice run time and repeat tensors.
fn is_lattice(name: &str) -> bool {
    (name.ends_with(".q4") || name.ends_with(".f16")) && !name.starts_with("merged_qkvz_")
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf") || is_lattice(name)
}

/// Weight files that the chosen set leaves aside: someone may have meant them.
pub(crate) fn unused(names: &[(String, u64)], used: &BTreeSet<&str>) -> Option<Warning> {
    let left = |n: &&str| is_weights(n) && !used.contains(n);
    let left: Vec<&str> = names.iter().map(|(n, _)| n.as_str()).filter(left).collect();
    let shown = left.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    let more = if left.len() > 5 { ", ..." } else { "" };
    let message = format!("{} weight files of the directory are not part of this: {shown}{more}", left.len());
    (!left.is_empty()).then_some(Warning { code: "unused_weights", message })
}

/// Files that go with a model wherever it goes.
pub(crate) fn companions(names: &[(String, u64)]) -> Vec<Companion> {
    let kept = names.iter().filter(|(name, _)| is_companion(name));
    kept.map(|(name, len)| Companion { name: name.clone(), len: *len }).collect()
}

fn is_companion(name: &str) -> bool {
    const EXACT: [&str; 10] = [
        "added_tokens.json",
        "generation_config.json",
        "merges.txt",
        "preprocessor_config.json",
        "processor_config.json",
        "special_tokens_map.json",
        "tekken.json",
        "tokenizer.model",
        "vocab.json",
        "vocab.txt",
    ];
    let tokenizer = name.starts_with("tokenizer") && name.ends_with(".json");
    EXACT.contains(&name) || tokenizer || name.starts_with("chat_template")
}

/// Refuses a listing that no checkpoint has, and puts it in order.
pub(crate) fn sorted(mut names: Vec<(String, u64)>) -> Result<Vec<(String, u64)>> {
    if names.len() as u64 > limits::MAX_ENTRIES {
        let words =
            format!("a directory of {} files, at most {} are looked at", names.len(), limits::MAX_ENTRIES);
        return Err(Error::new(Code::TooMany, words));
    }
    names.sort();
    Ok(names)
}
