//! Joins what the files of a checkpoint say, and holds it against the index or the split that binds them.

use super::header_buffer::Header;
use super::index::ShardIndex;
use super::json::first_repeated;
use super::limits::MAX_ENTRIES;
use super::q4::{Q4Index, Q4IndexEntry};
use super::{Checkpoint, Companion, Container, SourceFile, Warning};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::tensor::{FileId, MetaValue, Metadata, TensorInfo};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// An index of either kind.
pub(crate) enum Index {
    Shards(ShardIndex),
    Q4(Q4Index),
}

/// Everything that was read, before it is held against itself.
#[derive(Default)]
pub(crate) struct ShardSet {
    pub files: Vec<SourceFile>,
    pub parts: Vec<ShardHeader>,
    /// Tensors of all of these.
    tensors: u64,
    pub index: Option<Index>,
    /// The number of files that the name of a GGUF split promises.
    pub split: Option<u64>,
    pub config: Option<Vec<u8>>,
    pub companions: Vec<Companion>,
    pub warnings: Vec<Warning>,
}

/// The header of one weight file.
pub(crate) struct ShardHeader {
    pub file: FileId,
    pub name: String,
    pub header: Header,
}

impl ShardSet {
    /// The container of the weights read so far.
    pub fn container(&self) -> Option<Container> {
        self.parts.first().map(|p| p.header.container)
    }

    /// Takes in what another weight file says, unless there are too many tensors by now.
    pub fn take(&mut self, part: ShardHeader) -> Result<()> {
        self.tensors = self.tensors.saturating_add(part.header.tensors.len() as u64);
        if self.tensors > MAX_ENTRIES {
            let words =
                format!("its files hold {} tensors so far, at most {MAX_ENTRIES} are read", self.tensors);
            return Err(Error::new(Code::TooMany, words).in_file(&part.name));
        }
        self.parts.push(part);
        Ok(())
    }

    /// The checkpoint, if all parts fit together.
    pub fn join(mut self) -> Result<Checkpoint> {
        let container = self.container().ok_or_else(|| Error::new(Code::Empty, "there is no weight file"))?;
        if let Some(Index::Q4(index)) = &self.index {
            rename(&mut self.parts, index).map_err(|e| e.in_file(index_name(&self.files)))?;
        }
        check_names(&self.parts)?;
        match &self.index {
            Some(Index::Shards(index)) => check_shards(&self.parts, index, index_name(&self.files))?,
            None if container == Container::Gguf => check_split(&self.parts, self.split)?,
            None if container == Container::LatticeQ4 => self.warnings.push(no_index()),
            _ => {}
        }
        self.warnings.extend(lost_metadata(&self.parts));
        let (q4_index, q4_seed, recipe) = match self.index {
            Some(Index::Q4(index)) => {
                self.warnings.extend(index.warnings);
                (Some(index.entries), index.seed, index.recipe)
            }
            _ => (None, None, None),
        };
        let mut checkpoint = Checkpoint {
            container,
            files: self.files,
            tensors: Vec::new(),
            metadata: Metadata::default(),
            alignment: 1,
            gguf_version: None,
            config: self.config,
            companions: self.companions,
            q4_index,
            q4_seed,
            warnings: self.warnings,
        };
        absorb(&mut checkpoint, self.parts);
        checkpoint
            .metadata
            .0
            .extend(recipe.map(|text| ("quantoscope.recipe".into(), MetaValue::String(text))));
        Ok(checkpoint)
    }
}

/// An index is always the first file that was opened.
fn index_name(files: &[SourceFile]) -> &str {
    files.first().map_or("", |f| &f.name)
}

fn absorb(checkpoint: &mut Checkpoint, parts: Vec<ShardHeader>) {
    for (i, part) in parts.into_iter().enumerate() {
        if i == 0 {
            checkpoint.metadata = part.header.metadata;
            checkpoint.alignment = part.header.alignment;
            checkpoint.gguf_version = part.header.gguf_version;
        }
        checkpoint
            .tensors
            .extend(part.header.tensors.into_iter().map(|t| TensorInfo { file: part.file, ..t.info }));
        checkpoint.warnings.extend(
            part.header
                .warnings
                .into_iter()
                .map(|w| Warning { message: format!("{}: {}", part.name, w.message), ..w }),
        );
    }
}

/// A tensor name must be unique in the whole checkpoint. Within a file it is, as its parser found.
fn check_names(parts: &[ShardHeader]) -> Result<()> {
    if parts.len() < 2 {
        return Ok(());
    }
    let all = || parts.iter().flat_map(|p| p.header.tensors.iter().map(move |t| (p, t)));
    let names: Vec<&str> = all().map(|(_, t)| t.info.name.as_str()).collect();
    let twice = first_repeated(&names).and_then(|at| all().nth(at));
    let Some((part, t)) = twice else { return Ok(()) };
    let first = all().find(|(_, other)| other.info.name == t.info.name).map_or("", |(p, _)| &p.name);
    let words = format!("{first:?} holds a tensor of this name too");
    let error = Error::new(Code::DuplicateName, words).at(t.at);
    Err(error.of_tensor(&t.info.name).in_file(&part.name))
}

/// The index and the shards must name the same tensors in the same places.
fn check_shards(parts: &[ShardHeader], index: &ShardIndex, index_name: &str) -> Result<()> {
    let mut held = alloc::vec![false; index.tensors().len()];
    for part in parts {
        for t in &part.header.tensors {
            let Some(listed) = index.find(&t.info.name, &part.name) else {
                let error = Error::new(Code::BadIndex, "the index does not name it in this shard");
                return Err(error.at(t.at).of_tensor(&t.info.name).in_file(&part.name));
            };
            held.iter_mut().skip(listed).take(1).for_each(|held| *held = true);
        }
    }
    match index.tensors().iter().zip(held).find(|(_, held)| !held) {
        Some((tensor, _)) => {
            let words = format!("{:?} does not hold it", index.shard(tensor));
            let error = Error::new(Code::BadIndex, words).at(tensor.at);
            Err(error.of_tensor(&tensor.name).in_file(index_name))
        }
        None => Ok(()),
    }
}

/// The names of a lattice directory are in its index; each file must hold what its entry says.
fn rename(parts: &mut [ShardHeader], index: &Q4Index) -> Result<()> {
    let entries: BTreeMap<&str, _> =
        index.entries.iter().zip(&index.at).map(|(e, &at)| (e.file.as_str(), (e, at))).collect();
    for part in parts {
        let Some(&(entry, at)) = entries.get(part.name.as_str()) else { continue };
        for t in &mut part.header.tensors {
            check_entry(entry, &t.info).map_err(|e| e.at(at).of_tensor(&entry.name))?;
            t.info.name = entry.name.as_str().into();
        }
    }
    Ok(())
}

fn check_entry(entry: &Q4IndexEntry, info: &TensorInfo) -> Result<()> {
    let fail = |what| Err(Error::new(Code::BadIndex, format!("its file {:?} {what}", entry.file)));
    if entry.quantized != (info.dtype == DType::LATTICE_Q4) {
        return fail(format!("holds {}", info.dtype));
    }
    if entry.shape != info.shape {
        return fail(format!("has the shape {:?}", info.shape.axes()));
    }
    if entry.numel != info.shape.numel() {
        return fail(format!("has {} elements", info.shape.numel()));
    }
    Ok(())
}

/// Each file of a split says which one it is; the first says how many tensors there are in all.
fn check_split(parts: &[ShardHeader], split: Option<u64>) -> Result<()> {
    let count = split.unwrap_or(1);
    let total = parts.iter().map(|p| p.header.tensors.len() as u64).sum::<u64>();
    for (part, no) in parts.iter().zip(0..) {
        let fail = |key: &str, words: String| {
            let place = part.header.metadata.0.iter().position(|(k, _)| k == key);
            let at = place.and_then(|i| part.header.metadata_at.get(i)).copied();
            let error = Error::new(Code::BadValue, words).in_file(&part.name);
            Err(at.map_or(error.clone(), |at| error.at(at)))
        };
        let said = part.header.metadata.uint("split.count");
        // ggml writes 0 or nothing where there is no split.
        if said.unwrap_or(0).max(1) != count {
            return fail(
                "split.count",
                format!("split.count is {said:?}, by its name it is one of {count} files"),
            );
        }
        let said = part.header.metadata.uint("split.no");
        if count > 1 && said.is_some_and(|n| n != no) {
            return fail("split.no", format!("split.no is {said:?}, by its name it is {no}"));
        }
        let said = part.header.metadata.uint("split.tensors.count");
        if count > 1 && said.is_some_and(|n| n != total) {
            return fail(
                "split.tensors.count",
                format!("split.tensors.count is {said:?}, there are {total}"),
            );
        }
    }
    Ok(())
}

fn no_index() -> Warning {
    let message = "no index: tensors are called like their files, not like in their source".into();
    Warning { code: "file_names", message }
}

/// Only the first file's metadata is kept; what a later one says beyond it must not vanish in silence.
fn lost_metadata(parts: &[ShardHeader]) -> Option<Warning> {
    let (first, later) = parts.split_first()?;
    let kept: BTreeMap<&String, &MetaValue> = first.header.metadata.0.iter().map(|(k, v)| (k, v)).collect();
    let expected = |key: &str| key.starts_with("split.") || key == super::gguf::ALIGNMENT_KEY;
    for part in later {
        let mut all = part.header.metadata.0.iter();
        if let Some((key, _)) = all.find(|(k, v)| kept.get(k) != Some(&v) && !expected(k)) {
            let message = format!("{}: {key:?} differs from {:?} and is not kept", part.name, first.name);
            return Some(Warning { code: "shard_metadata", message });
        }
    }
    None
}
