//! Selects the files of a directory that form a checkpoint, by their names only.

use super::{Companion, Warning, limits};
use crate::error::{Code, Error, Result};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// File name of the lattice index.
pub(crate) const Q4_INDEX: &str = "quantize_index.json";
/// Suffix of the index of safetensors shards.
const SHARD_INDEX: &str = ".safetensors.index.json";

/// Files that are read together as one checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WeightFiles {
    /// An index that names the files.
    Index(String),
    /// One file of any container.
    One(String),
    /// All files of a GGUF split, in order.
    Split(Vec<String>),
    /// All shards of an APR model, in order.
    AprShards(Vec<String>),
    /// Lattice files without an index.
    Lattice(Vec<String>),
}

/// Selects the checkpoint of a directory: an index before files; safetensors before GGUF before
/// APR before lattice.
///
/// # Errors
///
/// - [`Code::NotFound`] if the directory has no weight files.
/// - [`Code::Usage`] if it has several checkpoints.
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
    if let Some(set) = gguf(&with(".apr"))? {
        return Ok(set);
    }
    if let Some(index) = named(Q4_INDEX) {
        return Ok(WeightFiles::Index(index));
    }
    let lattice: Vec<String> = names.iter().filter(|n| is_lattice(n)).map(ToString::to_string).collect();
    if lattice.is_empty() {
        let message = "the directory holds no .safetensors, .gguf, .apr, .q4 or .f16 file";
        return Err(Error::new(Code::NotFound, message));
    }
    Ok(WeightFiles::Lattice(lattice))
}

/// Wraps a name for [`Option::map_or_else`].
fn some(name: String) -> Result<Option<String>> {
    Ok(Some(name))
}

/// Returns the only candidate; several are an error, because the user must choose.
fn single(candidates: &[&str]) -> Result<Option<String>> {
    match candidates {
        [] => Ok(None),
        [one] => Ok(Some(one.to_string())),
        several => {
            let message =
                format!("the directory holds several checkpoints; choose one of: {}", several.join(", "));
            Err(Error::new(Code::Usage, message))
        }
    }
}

/// Selects the only GGUF or APR file, or the only split set.
fn gguf(names: &[&str]) -> Result<Option<WeightFiles>> {
    let mut sets: BTreeMap<String, &str> = BTreeMap::new();
    for name in names {
        sets.entry(split_of(name).map_or_else(|| name.to_string(), |s| s.file(1))).or_insert(name);
    }
    let firsts: Vec<&str> = sets.keys().map(String::as_str).collect();
    Ok(single(&firsts)?.map(|first| from_name(&first)))
}

/// Returns the files to read for one named file: a part of a split stands for the whole set.
pub(crate) fn from_name(name: &str) -> WeightFiles {
    match split_of(name) {
        Some(split) => {
            let files = (1..=split.count).map(|i| split.file(i)).collect();
            if split.extension == APR { WeightFiles::AprShards(files) } else { WeightFiles::Split(files) }
        }
        None => WeightFiles::One(name.to_string()),
    }
}

const GGUF: &str = ".gguf";
const APR: &str = ".apr";

/// The parts of a split file name, `PREFIX-00001-of-00003.gguf`.
struct SplitName<'a> {
    prefix: &'a str,
    count: u32,
    extension: &'static str,
}

impl SplitName<'_> {
    /// Name of file number `no` of the split, from 1.
    fn file(&self, no: u32) -> String {
        format!("{}-{no:05}-of-{:05}{}", self.prefix, self.count, self.extension)
    }
}

/// Parses the name of a split file. A split of one file is an ordinary file.
fn split_of(name: &str) -> Option<SplitName<'_>> {
    let five = |s: &str| (s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?;
    let extension = if name.ends_with(APR) { APR } else { GGUF };
    let (rest, count) = name.strip_suffix(extension)?.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    let (no, count): (u32, u32) = (five(no)?, five(count)?);
    (count > 1 && (1..=count).contains(&no)).then_some(SplitName { prefix, count, extension })
}

/// True for lattice files. `merged_qkvz_*` are caches of the lattice runtime that repeat other tensors.
fn is_lattice(name: &str) -> bool {
    (name.ends_with(".q4") || name.ends_with(".f16")) && !name.starts_with("merged_qkvz_")
}

/// True for weight files of any container.
fn is_weights(name: &str) -> bool {
    [".safetensors", ".gguf", ".apr"].iter().any(|end| name.ends_with(end)) || is_lattice(name)
}

/// Warns about weight files that are not part of the selected checkpoint.
pub(crate) fn unused(names: &[(String, u64)], used: &BTreeSet<&str>) -> Option<Warning> {
    let is_unused = |n: &&str| is_weights(n) && !used.contains(n);
    let unused: Vec<&str> = names.iter().map(|(n, _)| n.as_str()).filter(is_unused).collect();
    let shown = unused.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    let more = if unused.len() > 5 { ", ..." } else { "" };
    let message = format!(
        "{} weight files of the directory are not part of this checkpoint: {shown}{more}",
        unused.len()
    );
    (!unused.is_empty()).then_some(Warning { code: "unused_weights", message })
}

/// Files of the model that hold no weights.
pub(crate) fn companions(names: &[(String, u64)]) -> Vec<Companion> {
    let kept = names.iter().filter(|(name, _)| is_companion(name));
    kept.map(|(name, len)| Companion { name: name.clone(), len: *len }).collect()
}

/// True for tokenizer, chat template and generation files, by name.
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

/// Sorts a directory listing by name.
///
/// # Errors
///
/// [`Code::TooMany`] for more than [`limits::MAX_ENTRIES`] files.
pub(crate) fn sorted(mut names: Vec<(String, u64)>) -> Result<Vec<(String, u64)>> {
    if names.len() as u64 > limits::MAX_ENTRIES {
        let message = format!(
            "the directory holds {} files; at most {} are supported",
            names.len(),
            limits::MAX_ENTRIES
        );
        return Err(Error::new(Code::TooMany, message));
    }
    names.sort();
    Ok(names)
}
