//! The index of an APR file: one packed entry for each tensor, sorted by name.
//!
//! | field | content |
//! |---|---|
//! | u16, bytes | length of the name, name |
//! | u8 | dtype byte, see `stored_type` |
//! | u8 | number of axes `n` |
//! | n u64 | axis lengths, outermost first |
//! | u64 | offset of the payload, from the start of the payloads |
//! | u64 | length of the payload in bytes |
//!
//! An output head with a shape and no bytes stands for the embedding: such an entry is no tensor of its own.

use super::super::header_buffer::LocatedTensor;
use super::super::{Warning, limits};
use super::header::AprHeader;
use super::{ALIGNMENT, AprWriter, TRAILER, overflow, text};
use crate::bytes::{ByteRange, Cursor};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::tensor::{Name, Shape, TensorInfo};
use alloc::format;
use alloc::vec::Vec;

/// Smallest size of an entry in bytes: a name of one byte and no axes.
const MIN_ENTRY: u64 = 2 + 1 + 1 + 1 + 8 + 8;

/// Names of an output head that can be a placeholder for the embedding.
const HEADS: [&str; 3] = ["lm_head.weight", "output.weight", "embed_out.weight"];

/// Parser of the index of one file.
pub(super) struct IndexReader<'a> {
    pub file: &'a AprHeader,
    /// Length of the file in bytes.
    pub len: u64,
    pub writer: Option<AprWriter>,
}

/// The parsed index.
#[derive(Default)]
pub(super) struct AprIndex {
    /// Sorted by data offset.
    pub tensors: Vec<LocatedTensor>,
    /// True if the output head is a placeholder for the embedding.
    pub tied: bool,
    pub warnings: Vec<Warning>,
    /// Tensors whose dtype byte was told apart by their size.
    by_size: Vec<Name>,
}

/// An entry as it is stored.
struct Entry {
    name: Name,
    /// Offset of the dtype byte in the file.
    at: u64,
    byte: u8,
    shape: Shape,
    /// Relative to the payloads.
    offset: u64,
    size: u64,
    /// Offset of the payload's offset in the file.
    place_at: u64,
}

impl IndexReader<'_> {
    /// Parses the entries in `bytes`, the index with its padding.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<AprIndex> {
        let AprHeader { tensors: count, index: range, .. } = *self.file;
        if count.saturating_mul(MIN_ENTRY) > range.len() {
            let message = format!("{count} entries do not fit into an index of {} bytes", range.len());
            return Err(Error::new(Code::CountTooLarge, message).at(8));
        }
        let mut cursor = Cursor::new(bytes, range.start);
        let (mut index, mut last) = (AprIndex::default(), None);
        for _ in 0..count {
            let at = cursor.offset();
            let entry = entry(&mut cursor)?;
            check_order(last.as_ref(), &entry.name).map_err(|e| e.at(at).of_tensor(&entry.name))?;
            last = Some(entry.name.clone());
            self.take(&mut index, entry).map_err(|e| e.of_tensor(last.as_deref().unwrap_or_default()))?;
        }
        if cursor.remaining() >= ALIGNMENT {
            let message = format!("{} bytes follow the last entry of the index", cursor.remaining());
            return Err(Error::new(Code::TrailingBytes, message).at(cursor.offset()));
        }
        index.tensors.sort_unstable_by_key(|t| (t.info.bytes.start, t.info.bytes.end, t.at));
        check_apart(&index.tensors)?;
        index.warnings.extend(told_apart(&index.by_size));
        Ok(index)
    }

    /// Adds an entry to the index.
    fn take(&self, index: &mut AprIndex, entry: Entry) -> Result<()> {
        if entry.size == 0 && entry.shape.numel() != 0 && HEADS.contains(&entry.name.as_str()) {
            let message = format!("{} has no bytes: the embedding is the output head", entry.name);
            index.warnings.push(Warning::new("tied_head", message));
            index.tied = true;
            return Ok(());
        }
        let bytes = self.payload(&entry).map_err(|e| e.at(entry.place_at))?;
        let dtype = match stored_type(&entry, self.writer).map_err(|e| e.at(entry.at))? {
            StoredType::Certain(dtype) => dtype,
            StoredType::BySize(dtype) => {
                index.by_size.push(entry.name.clone());
                dtype
            }
        };
        check_size(dtype, &entry).map_err(|e| e.at(entry.place_at.saturating_add(8)))?;
        let info = TensorInfo { name: entry.name, dtype, shape: entry.shape, file: 0, bytes, packed: None };
        index.tensors.push(LocatedTensor { info, at: entry.place_at });
        Ok(())
    }

    /// Byte range of a payload in the file.
    fn payload(&self, entry: &Entry) -> Result<ByteRange> {
        let start = self.file.data_at.checked_add(entry.offset);
        let range = start.and_then(|start| ByteRange::sized(start, entry.size));
        let range = range.ok_or_else(|| overflow("the end of the payload"))?;
        let end = self.len.saturating_sub(TRAILER);
        if range.end > end {
            let message = format!(
                "the payload ends at byte {}, and the payloads of the file at {end}: it may be truncated",
                range.end
            );
            return Err(Error::new(Code::OutOfBounds, message));
        }
        Ok(range)
    }
}

/// Parses one entry.
fn entry(cursor: &mut Cursor<'_>) -> Result<Entry> {
    let at = cursor.offset();
    let name = name(cursor, at)?;
    let rest = |cursor: &mut Cursor<'_>| -> Result<Entry> {
        let at = cursor.offset();
        let (byte, axes_at) = (cursor.u8()?, at.saturating_add(1));
        let rank = u64::from(cursor.u8()?);
        if rank > limits::MAX_APR_AXES {
            let message = format!("{rank} axes; at most {} are supported", limits::MAX_APR_AXES);
            return Err(Error::new(Code::TooManyAxes, message).at(axes_at));
        }
        let mut axes = Vec::with_capacity(rank as usize);
        for _ in 0..rank {
            axes.push(cursor.u64()?);
        }
        let shape = Shape::new(axes).ok_or_else(|| overflow("the product of the axes").at(axes_at))?;
        let place_at = cursor.offset();
        let (offset, size) = (cursor.u64()?, cursor.u64()?);
        Ok(Entry { name: name.clone(), at, byte, shape, offset, size, place_at })
    };
    rest(cursor).map_err(|e| e.of_tensor(&name))
}

/// Parses the name of an entry.
fn name(cursor: &mut Cursor<'_>, at: u64) -> Result<Name> {
    let len = u64::from(cursor.u16()?);
    if len == 0 {
        return Err(Error::new(Code::BadName, "a tensor without a name").at(at));
    }
    if len > limits::MAX_APR_NAME {
        let message = format!("a name of {len} bytes; at most {} are supported", limits::MAX_APR_NAME);
        return Err(Error::new(Code::StringTooLong, message).at(at));
    }
    let at = cursor.offset();
    Ok(text(cursor.take(len)?, at)?.into())
}

/// Refuses names that are not sorted, as aprender's reader does, and duplicates.
fn check_order(last: Option<&Name>, name: &Name) -> Result<()> {
    match last.map(|last| last.as_str().cmp(name.as_str())) {
        Some(core::cmp::Ordering::Equal) => {
            Err(Error::new(Code::DuplicateName, "the index lists the tensor twice"))
        }
        Some(core::cmp::Ordering::Greater) => {
            Err(Error::new(Code::BadValue, "the entries of the index are not sorted by name"))
        }
        _ => Ok(()),
    }
}

/// Dtype of a stored tensor, and the ground for it.
enum StoredType {
    /// By the dtype byte, or by the program that wrote the file.
    Certain(DType),
    /// By the size of the payload, which fits one meaning of the byte only.
    BySize(DType),
}

/// The type of dtype byte `byte` in files of `writer`; `None` if it defines none.
fn type_of(byte: u8, writer: AprWriter) -> Option<DType> {
    Some(match (byte, writer) {
        (0, _) => DType::F32,
        (1, _) => DType::F16,
        (30, _) => DType::BF16,
        (12, _) => DType::Q4_K,
        (14, _) => DType::Q6_K,
        // 8 and 9 are the numbers before 128 and 129, which left them because of ggml's Q8_0 and Q8_1.
        (8 | 128, _) => DType::APR_Q4,
        (9 | 129, _) => DType::APR_Q8,
        (3, AprWriter::Core) => DType::F64,
        (4, AprWriter::Core) => DType::I32,
        (5, AprWriter::Core) => DType::I64,
        (6, AprWriter::Core) => DType::I8,
        (7, AprWriter::Core) => DType::U8,
        (3, AprWriter::Serve) => DType::Q4_1,
        (6, AprWriter::Serve) => DType::Q5_0,
        (7, AprWriter::Serve) => DType::Q5_1,
        _ => return None,
    })
}

/// Dtype of an entry.
fn stored_type(entry: &Entry, writer: Option<AprWriter>) -> Result<StoredType> {
    let byte = entry.byte;
    let unknown =
        |whose: &str| Error::new(Code::UnknownDtype, format!("the dtype byte {byte} has no meaning{whose}"));
    if let Some(writer) = writer {
        let whose = format!(" in files of aprender's {}", writer.name());
        return type_of(byte, writer).map(StoredType::Certain).ok_or_else(|| unknown(&whose));
    }
    let fits = |d: &DType| d.tensor_bytes(entry.shape.numel()) == Some(entry.size);
    if let (8 | 9, Some(native)) = (byte, type_of(byte, AprWriter::Core)) {
        let ggml = if byte == 8 { DType::Q8_0 } else { DType::Q8_1 };
        return match (fits(&native), fits(&ggml)) {
            (true, true) => Err(ambiguous(byte, native, ggml, ["aprender", "ggml"])),
            (false, true) => Ok(StoredType::BySize(ggml)),
            _ => Ok(StoredType::BySize(native)),
        };
    }
    match [AprWriter::Core, AprWriter::Serve].map(|writer| type_of(byte, writer)) {
        [Some(one), Some(other)] if one == other => Ok(StoredType::Certain(one)),
        [None, None] => Err(unknown("")),
        [Some(one), Some(other)] => Err(ambiguous(byte, one, other, ["aprender's core", "its serve"])),
        [one, other] => {
            let (dtype, writer) = match (one, other) {
                (Some(dtype), _) => (dtype, AprWriter::Core),
                (_, other) => (other.unwrap_or(DType::F32), AprWriter::Serve),
            };
            let writer = writer.name();
            let message = format!(
                "the dtype byte {byte} is {dtype} in files of aprender's {writer} only: \
                 if it wrote this one, say so with --apr-writer {writer}"
            );
            Err(Error::new(Code::UnknownDtype, message))
        }
    }
}

/// The error of a dtype byte with two meanings.
fn ambiguous(byte: u8, one: DType, other: DType, of: [&str; 2]) -> Error {
    let [first, second] = of;
    let message = format!(
        "the dtype byte {byte} is {one} to {first} and {other} to {second}: \
         say with --apr-writer core or --apr-writer serve which program wrote the file"
    );
    Error::new(Code::UnknownDtype, message)
}

/// Refuses a payload that does not have the size of the tensor.
fn check_size(dtype: DType, entry: &Entry) -> Result<()> {
    let (numel, cols) = (entry.shape.numel(), entry.shape.cols());
    let block = dtype.block_len();
    if !dtype.is_flat() && !cols.is_multiple_of(block) {
        let padded = dtype.bytes_for(block).and_then(|n| n.checked_mul(cols.div_ceil(block)));
        let padded = padded.and_then(|row| row.checked_mul(entry.shape.rows()));
        return Err(if padded == Some(entry.size) {
            let message = format!("{dtype} rows of {cols}, padded to blocks of {block}, are not supported");
            Error::new(Code::UnsupportedDtype, message)
        } else {
            let message = format!("rows of {cols} values are not a multiple of the block length {block}");
            Error::new(Code::SizeMismatch, message)
        });
    }
    let size = dtype.tensor_bytes(numel).ok_or_else(|| overflow("the size of the tensor"))?;
    if size != entry.size {
        let message =
            format!("{numel} values of {dtype} take {size} bytes, and the payload has {}", entry.size);
        return Err(Error::new(Code::SizeMismatch, message));
    }
    Ok(())
}

/// Refuses payloads that share bytes; `sorted` is sorted by start.
fn check_apart(sorted: &[LocatedTensor]) -> Result<()> {
    let mut end = 0;
    for t in sorted {
        let ByteRange { start, end: last } = t.info.bytes;
        if start < end {
            let message = format!("the payload overlaps the one before it by {} bytes", end - start);
            return Err(Error::new(Code::Overlap, message).at(t.at).of_tensor(&t.info.name));
        }
        end = last;
    }
    Ok(())
}

/// Warning about the tensors whose dtype byte was told apart by their size.
fn told_apart(names: &[Name]) -> Option<Warning> {
    let shown: Vec<&str> = names.iter().take(3).map(Name::as_str).collect();
    let more = if names.len() > shown.len() { ", ..." } else { "" };
    let message = format!(
        "{} tensors have the dtype byte 8 or 9, which aprender and ggml use for different types; \
         their size decided: {}{more}",
        names.len(),
        shown.join(", ")
    );
    (!names.is_empty()).then(|| Warning::new("ambiguous_dtype", message))
}
