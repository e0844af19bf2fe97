//! Joins the headers of a checkpoint's files, and checks them against the index or GGUF split.

use super::header_buffer::Header;
use super::index::ShardIndex;
use super::json::first_repeated;
use super::limits::MAX_ENTRIES;
use super::q4::{Q4Index, Q4IndexEntry};
use super::{Checkpoint, Companion, Companions, Container, Packing, SourceFile, Warning, packed};
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

/// Everything parsed so far, before it is checked as a whole.
#[derive(Default)]
pub(crate) struct ShardSet {
    /// Files read so far, in order.
    pub files: Vec<SourceFile>,
    /// Headers of the weight files, in the order in which they were opened.
    pub parts: Vec<ShardHeader>,
    /// Number of tensors in all parts.
    tensors: u64,
    /// The index, if there is one.
    pub index: Option<Index>,
    /// Number of files that the file name of a GGUF split declares.
    pub split: Option<u64>,
    /// Content of `config.json`.
    pub config: Option<Vec<u8>>,
    pub companions: Vec<Companion>,
    /// Content of companions that a conversion reads.
    pub companion_files: Companions,
    pub warnings: Vec<Warning>,
}

/// Header of one weight file.
pub(crate) struct ShardHeader {
    /// Index of the file.
    pub file: FileId,
    /// Path relative to the root directory.
    pub name: String,
    pub header: Header,
}

impl ShardSet {
    /// Container of the weight files read so far.
    pub(super) fn container(&self) -> Option<Container> {
        self.parts.first().map(|p| p.header.container)
    }

    /// Adds the header of a weight file.
    ///
    /// # Errors
    ///
    /// [`Code::TooMany`] for more than [`MAX_ENTRIES`] tensors in all files.
    pub(super) fn take(&mut self, part: ShardHeader) -> Result<()> {
        self.tensors = self.tensors.saturating_add(part.header.tensors.len() as u64);
        if self.tensors > MAX_ENTRIES {
            let message = format!(
                "the checkpoint has at least {} tensors; at most {MAX_ENTRIES} are supported",
                self.tensors
            );
            return Err(Error::new(Code::TooMany, message).in_file(&part.name));
        }
        self.parts.push(part);
        Ok(())
    }

    /// Checks that all parts belong together, and returns the checkpoint.
    ///
    /// # Errors
    ///
    /// [`Code::Empty`], [`Code::BadIndex`], [`Code::DuplicateName`], [`Code::BadValue`]: see
    /// [`Opening::finish`](super::Opening::finish).
    pub(super) fn join(mut self) -> Result<Checkpoint> {
        let container =
            self.container().ok_or_else(|| Error::new(Code::Empty, "the checkpoint has no weight file"))?;
        if let Some(Index::Q4(index)) = &self.index {
            rename(&mut self.parts, index).map_err(|e| e.in_file(index_name(&self.files)))?;
        }
        check_names(&self.parts)?;
        match &self.index {
            Some(Index::Shards(index)) => check_shards(&self.parts, index, index_name(&self.files))?,
            None if container == Container::Gguf => check_split(&self.parts, self.split)?,
            None if container == Container::Apr => check_apr_shards(&self.parts)?,
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
            config: self.config.or_else(|| self.parts.first_mut()?.header.apr.config.take()),
            companions: self.companions,
            folder: None,
            check_text_ids: None,
            computed_tensors: BTreeMap::new(),
            exact_floats: BTreeMap::new(),
            companion_files: self.companion_files,
            q4_index,
            q4_seed,
            unknown_types: Vec::new(),
            packing: Packing::default(),
            warnings: self.warnings,
        };
        absorb(&mut checkpoint, self.parts);
        packed::unite(&mut checkpoint);
        checkpoint
            .metadata
            .0
            .extend(recipe.map(|text| ("quantoscope.recipe".into(), MetaValue::String(text))));
        Ok(checkpoint)
    }
}

/// Name of the index, which is always opened first.
fn index_name(files: &[SourceFile]) -> &str {
    files.first().map_or("", |f| &f.name)
}

/// Moves the tensors and warnings of all parts, and the metadata of the first, into the checkpoint.
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
        checkpoint.unknown_types.extend(part.header.unknown_types);
        checkpoint.warnings.extend(
            part.header
                .warnings
                .into_iter()
                .map(|w| Warning { message: format!("{}: {}", part.name, w.message), ..w }),
        );
    }
}

/// Refuses two files with a tensor of the same name. Duplicates in one file are found by its parser.
fn check_names(parts: &[ShardHeader]) -> Result<()> {
    if parts.len() < 2 {
        return Ok(());
    }
    let all = || parts.iter().flat_map(|p| p.header.tensors.iter().map(move |t| (p, t)));
    let names: Vec<&str> = all().map(|(_, t)| t.info.name.as_str()).collect();
    let duplicate = first_repeated(&names).and_then(|at| all().nth(at));
    let Some((part, t)) = duplicate else { return Ok(()) };
    let first = all().find(|(_, other)| other.info.name == t.info.name).map_or("", |(p, _)| &p.name);
    let message = format!("{first:?} also holds a tensor of this name");
    let error = Error::new(Code::DuplicateName, message).at(t.at);
    Err(error.of_tensor(&t.info.name).in_file(&part.name))
}

/// Refuses an index and shards that do not hold the same tensors in the same files.
fn check_shards(parts: &[ShardHeader], index: &ShardIndex, index_name: &str) -> Result<()> {
    let mut found = alloc::vec![false; index.tensors().len()];
    for part in parts {
        for t in &part.header.tensors {
            let Some(listed) = index.find(&t.info.name, &part.name) else {
                let error = Error::new(Code::BadIndex, "the index does not list the tensor in this shard");
                return Err(error.at(t.at).of_tensor(&t.info.name).in_file(&part.name));
            };
            found.iter_mut().skip(listed).take(1).for_each(|found| *found = true);
        }
    }
    match index.tensors().iter().zip(found).find(|(_, found)| !found) {
        Some((tensor, _)) => {
            let message =
                format!("the index lists the tensor in {:?}, which does not hold it", index.shard(tensor));
            let error = Error::new(Code::BadIndex, message).at(tensor.at);
            Err(error.of_tensor(&tensor.name).in_file(index_name))
        }
        None => Ok(()),
    }
}

/// Gives the tensors of a lattice directory the names in its index, and checks them against their entries.
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

/// Refuses a lattice file that does not match its entry in the index.
fn check_entry(entry: &Q4IndexEntry, info: &TensorInfo) -> Result<()> {
    let fail =
        |what| Err(Error::new(Code::BadIndex, format!("the file {:?} of the tensor {what}", entry.file)));
    if entry.quantized != (info.dtype == DType::LATTICE_Q4) {
        return fail(format!("holds {}", info.dtype));
    }
    if entry.shape != info.shape {
        return fail(format!(
            "has the shape {:?}, the index says {:?}",
            info.shape.axes(),
            entry.shape.axes()
        ));
    }
    if entry.numel != info.shape.numel() {
        return fail(format!("has {} elements, the index says {}", info.shape.numel(), entry.numel));
    }
    Ok(())
}

/// Checks the files of a GGUF split: each declares its number, and the first declares the number of all
/// tensors.
fn check_split(parts: &[ShardHeader], split: Option<u64>) -> Result<()> {
    let count = split.unwrap_or(1);
    let total = parts.iter().map(|p| p.header.tensors.len() as u64).sum::<u64>();
    for (part, no) in parts.iter().zip(0..) {
        let fail = |key: &str, message: String| {
            let place = part.header.metadata.0.iter().position(|(k, _)| k == key);
            let at = place.and_then(|i| part.header.metadata_at.get(i)).copied();
            let error = Error::new(Code::BadValue, message).in_file(&part.name);
            Err(at.map_or(error.clone(), |at| error.at(at)))
        };
        let declared = part.header.metadata.uint("split.count");
        // ggml writes 0 or no key for a file that is not split.
        if declared.unwrap_or(0).max(1) != count {
            return fail(
                "split.count",
                format!("split.count is {}, but by the file name there are {count} files", number(declared)),
            );
        }
        let declared = part.header.metadata.uint("split.no");
        if count > 1 && declared.is_some_and(|n| n != no) {
            return fail(
                "split.no",
                format!("split.no is {}, but by the file name it is {no}", number(declared)),
            );
        }
        let declared = part.header.metadata.uint("split.tensors.count");
        if count > 1 && declared.is_some_and(|n| n != total) {
            return fail(
                "split.tensors.count",
                format!("split.tensors.count is {}, but the files hold {total}", number(declared)),
            );
        }
    }
    Ok(())
}

/// Checks the shards of an APR model against the numbers that each of them declares, counted from 0 or from 1.
fn check_apr_shards(parts: &[ShardHeader]) -> Result<()> {
    let count = parts.len() as u64;
    for (part, at) in parts.iter().zip(0..) {
        let Some(shard) = part.header.apr.shard else { continue };
        if shard.count != count {
            let message = format!(
                "the file is one of {} shards, and {count} are read: the names of all of them must end like \
                 -00001-of-{:05}.apr",
                shard.count, shard.count
            );
            return Err(Error::new(Code::BadIndex, message).at(64).in_file(&part.name));
        }
        if shard.index != at && shard.index != at + 1 {
            let message =
                format!("the metadata says shard {}, by the file name it is {}", shard.index, at + 1);
            return Err(Error::new(Code::BadValue, message).at(64).in_file(&part.name));
        }
    }
    Ok(())
}

/// A metadata value for a message.
fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "absent".into(), |n| format!("{n}"))
}

/// Warning about lattice files without an index.
fn no_index() -> Warning {
    let message = "no index: tensors have the names of their files, not those of their source model".into();
    Warning { code: "file_names", message }
}

/// Warns about metadata of later files that differs from the first file's, since only that is kept.
fn lost_metadata(parts: &[ShardHeader]) -> Option<Warning> {
    let (first, later) = parts.split_first()?;
    let kept: BTreeMap<&String, &MetaValue> = first.header.metadata.0.iter().map(|(k, v)| (k, v)).collect();
    let expected = |key: &str| key.starts_with("split.") || key == super::gguf::ALIGNMENT_KEY;
    for part in later {
        let mut entries = part.header.metadata.0.iter();
        if let Some((key, _)) = entries.find(|(k, v)| kept.get(k) != Some(&v) && !expected(k)) {
            let message = format!("{}: {key:?} differs from {:?} and is not kept", part.name, first.name);
            return Some(Warning { code: "shard_metadata", message });
        }
    }
    None
}
