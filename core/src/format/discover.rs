//! Selects the files of a directory that form a checkpoint, by their names only.

use super::{Companion, Warning, foreign, limits};
use crate::error::{Code, Error, Result};
use alloc::collections::BTreeSet;
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
    /// All safetensors shards of a set by their names, in order.
    Shards {
        /// The index that such a set has, if the directory was not listed.
        index: Option<String>,
        files: Vec<String>,
    },
    /// Lattice files without an index.
    Lattice(Vec<String>),
}

/// Selects the checkpoint of a directory with the files `names`, of which and of its folders `listing` is the
/// list: an index before files; safetensors before GGUF before APR before
/// lattice.
///
/// # Errors
///
/// - [`Code::NotFound`] if the directory has no weight files.
/// - [`Code::Usage`] if it has several checkpoints.
pub(crate) fn choose(names: &[&str], listing: &[(String, u64)]) -> Result<WeightFiles> {
    find(names).map_err(|several| match several.as_slice() {
        [] => Error::new(Code::NotFound, no_weights(names, listing)),
        several => {
            let all = several.join(", ");
            Error::new(Code::Usage, format!("the directory holds several checkpoints; choose one of: {all}"))
        }
    })
}

/// What a user can choose from where a directory with the files and folders `listing` is not one checkpoint: the first
/// files of its checkpoints, or its folders with weights, which end in `/`.
pub fn choices(listing: &[(String, u64)]) -> Vec<String> {
    let tops: Vec<&str> = listing.iter().map(|(n, _)| n.as_str()).filter(|n| !n.contains('/')).collect();
    match find(&tops) {
        Ok(_) => Vec::new(),
        Err(several) if several.is_empty() => folders(listing).map(|f| format!("{f}/")).collect(),
        Err(several) => several,
    }
}

/// The files of the checkpoint in a directory, or the candidates where it is not one.
fn find(names: &[&str]) -> core::result::Result<WeightFiles, Vec<String>> {
    let with = |suffix: &str| names.iter().copied().filter(|n| n.ends_with(suffix)).collect::<Vec<_>>();
    let named = |name: &str| names.contains(&name).then(|| name.to_string());
    if let Some(index) =
        named("model.safetensors.index.json").map_or_else(|| single(&with(SHARD_INDEX)), some)?
    {
        return Ok(WeightFiles::Index(index));
    }
    if let Some(file) = named("model.safetensors") {
        return Ok(WeightFiles::One(file));
    }
    match sets(&with(SAFETENSORS))? {
        Some(WeightFiles::Shards { files, .. }) => return Ok(WeightFiles::Shards { index: None, files }),
        Some(set) => return Ok(set),
        None => {}
    }
    if let Some(set) = sets(&with(GGUF))? {
        return Ok(set);
    }
    if let Some(set) = sets(&with(APR))? {
        return Ok(set);
    }
    if let Some(index) = named(Q4_INDEX) {
        return Ok(WeightFiles::Index(index));
    }
    let lattice: Vec<String> = names.iter().filter(|n| is_lattice(n)).map(ToString::to_string).collect();
    if lattice.is_empty() { Err(Vec::new()) } else { Ok(WeightFiles::Lattice(lattice)) }
}

/// The folders of a listing that hold weights, sorted.
fn folders(listing: &[(String, u64)]) -> impl Iterator<Item = &str> {
    let weights = listing.iter().map(|(name, _)| name.as_str()).filter(|name| is_weights(name));
    weights.filter_map(|n| Some(n.rsplit_once('/')?.0)).collect::<BTreeSet<&str>>().into_iter()
}

/// The sentence about a directory without weight files that can be read.
fn no_weights(names: &[&str], listing: &[(String, u64)]) -> String {
    const NONE: &str = "the directory holds no .safetensors, .gguf, .apr, .q4 or .f16 file";
    let folders: Vec<&str> = folders(listing).collect();
    if !folders.is_empty() {
        let shown = folders.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        let more = if folders.len() > 5 { ", ..." } else { "" };
        return format!("{NONE}; open one of its folders, which do: {shown}{more}");
    }
    if names.is_empty() {
        return "the directory holds no files".into();
    }
    match names.iter().find_map(|n| Some((n, foreign::kind_by_name(n)?))) {
        Some((name, kind)) => {
            format!("{NONE}; it holds {name}, {kind}, which is not read: convert the model to safetensors")
        }
        None => NONE.into(),
    }
}

/// Wraps a name for [`Option::map_or_else`].
fn some(name: String) -> core::result::Result<Option<String>, Vec<String>> {
    Ok(Some(name))
}

/// Returns the only candidate; several are an error, because the user must choose.
fn single(candidates: &[&str]) -> core::result::Result<Option<String>, Vec<String>> {
    match candidates {
        [] => Ok(None),
        [one] => Ok(Some(one.to_string())),
        several => Err(several.iter().map(ToString::to_string).collect()),
    }
}

/// Selects the only file, or the only set of shards. Weights of Hugging Face (`model*`) come before those of
/// Mistral's own format (`consolidated*`), which repeat them.
fn sets(names: &[&str]) -> core::result::Result<Option<WeightFiles>, Vec<String>> {
    let first = |name: &&str| split_of(name).map_or_else(|| name.to_string(), |s| s.file(1));
    let firsts: BTreeSet<String> = names.iter().map(first).collect();
    let main: Vec<&str> =
        firsts.iter().map(String::as_str).filter(|n| !n.starts_with("consolidated")).collect();
    let chosen = match main.as_slice() {
        [one] if one.starts_with("model") => Some(one.to_string()),
        _ => single(&firsts.iter().map(String::as_str).collect::<Vec<_>>())?,
    };
    Ok(chosen.map(|first| from_name(&first)))
}

/// Returns the files to read for one named file: a part of a set stands for the whole set.
pub(crate) fn from_name(name: &str) -> WeightFiles {
    let Some(split) = split_of(name) else { return WeightFiles::One(name.to_string()) };
    let files = (1..=split.count).map(|i| split.file(i)).collect();
    match split.extension {
        GGUF => WeightFiles::Split(files),
        APR => WeightFiles::AprShards(files),
        _ => WeightFiles::Shards { index: Some(format!("{}{SHARD_INDEX}", split.prefix)), files },
    }
}

const GGUF: &str = ".gguf";
const APR: &str = ".apr";
const SAFETENSORS: &str = ".safetensors";

/// The parts of the file name of a shard, `PREFIX-00001-of-00003.gguf`.
struct SplitName<'a> {
    prefix: &'a str,
    /// Digits of the number.
    width: usize,
    count: u32,
    /// The count with its own number of digits: some models have `-00001-of-000163`.
    count_text: &'a str,
    extension: &'static str,
}

impl SplitName<'_> {
    /// Name of file number `no` of the set, from 1.
    fn file(&self, no: u32) -> String {
        let SplitName { prefix, width, count_text, extension, .. } = self;
        format!("{prefix}-{no:0width$}-of-{count_text}{extension}")
    }
}

/// Parses the name of a shard. A set of one file is an ordinary file.
fn split_of(name: &str) -> Option<SplitName<'_>> {
    let of = |extension, widths| Some((name.strip_suffix(extension)?, extension, widths));
    let (stem, extension, widths) =
        of(GGUF, 5..=5).or_else(|| of(APR, 4..=6)).or_else(|| of(SAFETENSORS, 4..=6))?;
    let number = |s: &str| -> Option<u32> {
        let digits = widths.contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| s.parse().ok())?
    };
    let (rest, count_text) = stem.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    let (width, no, count) = (no.len(), number(no)?, number(count_text)?);
    let is_part = count > 1 && count <= MAX_SHARDS && (1..=count).contains(&no);
    is_part.then_some(SplitName { prefix, width, count, count_text, extension })
}

/// Most files of a set.
const MAX_SHARDS: u32 = 99_999;

/// The name of the set that a shard belongs to: what all of its names begin with.
pub(crate) fn set_of(name: &str) -> Option<&str> {
    split_of(name).map(|s| s.prefix)
}

/// True for lattice files. `merged_qkvz_*` are caches of the lattice runtime that repeat other tensors.
fn is_lattice(name: &str) -> bool {
    (name.ends_with(".q4") || name.ends_with(".f16")) && !name.starts_with("merged_qkvz_")
}

/// True for weight files of any container, by name.
pub fn is_weights(name: &str) -> bool {
    [SAFETENSORS, GGUF, APR].iter().any(|end| name.ends_with(end)) || is_lattice(name)
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
