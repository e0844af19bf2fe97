//! Layout of a GGUF file: version 3, tensors in the order given, each padded to the alignment, the last one
//! too.

use super::super::{FileLayout, LayoutTensor, check_names_once, limits};
use super::value::{min_size, types};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC};
use crate::bytes::align_up;
use crate::error::{Code, Error, Result};
use crate::tensor::{MetaArray, MetaValue, Metadata};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

/// Version that is written.
const VERSION: u32 = 3;

/// Lays out a file.
///
/// An alignment other than the default is added as `general.alignment` if the metadata does not have the key.
/// The shape `[]` becomes one axis of 1, as ggml writes scalars; other shapes keep all axes.
///
/// # Errors
///
/// - [`Code::BadAlignment`] if `alignment` is not a 32-bit power of two, or contradicts the metadata.
/// - [`Code::UnsupportedContainer`] for a dtype that ggml does not have, a name longer than
///   [`limits::MAX_GGUF_NAME`], more than [`limits::MAX_GGUF_AXES`] axes, rows that are not whole blocks, or
///   an invalid key.
/// - [`Code::DuplicateName`] for duplicate tensor names or keys.
/// - [`Code::BadValue`] for an array whose bytes do not match its length.
/// - [`Code::Overflow`], [`Code::HeaderTooLarge`] if sizes exceed 64 bits or [`limits::MAX_GGUF_HEADER`].
pub fn layout(metadata: &Metadata, alignment: u64, tensors: &[LayoutTensor<'_>]) -> Result<FileLayout> {
    layout_of(metadata, alignment, tensors.iter().copied())
}

/// [`layout`] of tensors that come from an iterator, without a list of all of them.
///
/// # Errors
///
/// Those of [`layout`].
pub fn layout_of<'a>(
    metadata: &Metadata,
    alignment: u64,
    tensors: impl ExactSizeIterator<Item = LayoutTensor<'a>> + Clone,
) -> Result<FileLayout> {
    let header = start(metadata, alignment, tensors.len() as u64)?;
    place(header, alignment, tensors)
}

/// A file without tensors, which ends behind its metadata without padding.
///
/// # Errors
///
/// Those of [`layout`].
pub fn layout_metadata(metadata: &Metadata, alignment: u64) -> Result<Vec<u8>> {
    let header = start(metadata, alignment, 0)?;
    check_header(header.len() as u64)?;
    Ok(header)
}

/// The header up to the descriptions of `tensors` tensors.
fn start(metadata: &Metadata, alignment: u64, tensors: u64) -> Result<Vec<u8>> {
    let add = check_alignment(metadata, alignment)?;
    let mut header = Vec::from(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&tensors.to_le_bytes());
    header.extend_from_slice(&(metadata.0.len() as u64 + u64::from(add.is_some())).to_le_bytes());
    let mut keys = BTreeSet::new();
    for (key, value) in metadata.0.iter().chain(&add) {
        check_key(key)?;
        if !keys.insert(key) {
            return Err(Error::new(Code::DuplicateName, format!("duplicate key {key:?}")));
        }
        put_string(&mut header, key);
        put_value(&mut header, value)?;
    }
    Ok(header)
}

/// Checks the alignment; returns the key-value to add, if any.
fn check_alignment(
    metadata: &Metadata,
    alignment: u64,
) -> Result<Option<(alloc::string::String, MetaValue)>> {
    let bad = |message| Error::new(Code::BadAlignment, message);
    let value = u32::try_from(alignment).ok().filter(|n| n.is_power_of_two());
    let value =
        value.ok_or_else(|| bad(format!("the alignment {alignment} is not a 32-bit power of two")))?;
    match metadata.get(ALIGNMENT_KEY) {
        Some(&MetaValue::U32(n)) if n == value => Ok(None),
        Some(_) => Err(bad(format!("{ALIGNMENT_KEY} contradicts the alignment {alignment}"))),
        None if alignment == DEFAULT_ALIGNMENT => Ok(None),
        None => Ok(Some((ALIGNMENT_KEY.to_string(), MetaValue::U32(value)))),
    }
}

/// Refuses keys that are empty or too long.
pub(super) fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() as u64 > limits::MAX_GGUF_KEY {
        let message = format!("a GGUF key must have 1 to {} bytes, not {}", limits::MAX_GGUF_KEY, key.len());
        return Err(Error::new(Code::UnsupportedContainer, message));
    }
    Ok(())
}

/// Appends a string: u64 length and bytes.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Appends the type number and the value.
pub(super) fn put_value(out: &mut Vec<u8>, value: &MetaValue) -> Result<()> {
    let mut number = |kind: u32, bytes: &[u8]| {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        MetaValue::U8(v) => number(types::U8, &v.to_le_bytes()),
        MetaValue::I8(v) => number(types::I8, &v.to_le_bytes()),
        MetaValue::U16(v) => number(types::U16, &v.to_le_bytes()),
        MetaValue::I16(v) => number(types::I16, &v.to_le_bytes()),
        MetaValue::U32(v) => number(types::U32, &v.to_le_bytes()),
        MetaValue::I32(v) => number(types::I32, &v.to_le_bytes()),
        MetaValue::U64(v) => number(types::U64, &v.to_le_bytes()),
        MetaValue::I64(v) => number(types::I64, &v.to_le_bytes()),
        MetaValue::F32(v) => number(types::F32, &v.to_le_bytes()),
        MetaValue::F64(v) => number(types::F64, &v.to_le_bytes()),
        MetaValue::Bool(v) => number(types::BOOL, &[u8::from(*v)]),
        MetaValue::String(v) => {
            number(types::STRING, &[]);
            put_string(out, v);
        }
        MetaValue::Bytes(v) => {
            number(types::STRING, &(v.len() as u64).to_le_bytes());
            out.extend_from_slice(v);
        }
        MetaValue::Array(array) => {
            check_array(array)?;
            number(types::ARRAY, &array.element.to_le_bytes());
            out.extend_from_slice(&array.len.to_le_bytes());
            out.extend_from_slice(&array.raw);
        }
    }
    Ok(())
}

/// Refuses an array whose bytes do not match its length. Arrays read from a file always match.
fn check_array(array: &MetaArray) -> Result<()> {
    let size = min_size(array.element).and_then(|n| n.checked_mul(array.len));
    let exact = array.element != types::STRING && array.element != types::ARRAY;
    let have = array.raw.len() as u64;
    match size {
        Some(n) if n == have || (!exact && n <= have) => Ok(()),
        _ => Err(Error::new(Code::BadValue, "the bytes of a metadata array do not match its length")),
    }
}

/// Bytes of the description of a tensor with [`limits::MAX_GGUF_AXES`] axes, without those of its name.
const DESCRIPTION_BYTES: usize = 8 + 4 + 8 * limits::MAX_GGUF_AXES as usize + 4 + 8;

/// Appends the descriptions and assigns the offsets.
fn place<'a>(
    mut header: Vec<u8>,
    alignment: u64,
    tensors: impl ExactSizeIterator<Item = LayoutTensor<'a>> + Clone,
) -> Result<FileLayout> {
    check_names_once(tensors.clone())?;
    let FileLayout { mut offsets, mut sizes, .. } = FileLayout::of(tensors.len());
    // A million descriptions at once: a vector that doubles would take half of them again.
    let described: usize = tensors.clone().map(|t| DESCRIPTION_BYTES + t.name.len()).sum();
    header.reserve_exact(described.min(limits::MAX_GGUF_HEADER as usize));
    let mut end = 0_u64;
    for t in tensors {
        let size = describe(&mut header, &t, end).map_err(|e| e.of_tensor(t.name))?;
        offsets.push(end);
        sizes.push(size);
        let next = end.checked_add(size).and_then(|e| align_up(e, alignment));
        end = next.ok_or_else(|| too_large().of_tensor(t.name))?;
        check_header(header.len() as u64)?;
    }
    let data = align_up(header.len() as u64, alignment).ok_or_else(too_large)?;
    check_header(data)?;
    header.resize(data as usize, 0);
    let file_len = data.checked_add(end).ok_or_else(too_large)?;
    offsets.iter_mut().for_each(|at| *at += data);
    Ok(FileLayout { header, offsets, sizes, file_len })
}

/// Refuses a header of `bytes` bytes that the parser would refuse.
pub(super) fn check_header(bytes: u64) -> Result<()> {
    let max = limits::MAX_GGUF_HEADER;
    if bytes > max {
        let message = format!("the header would exceed {max} bytes, the limit of the parser");
        return Err(Error::new(Code::HeaderTooLarge, message));
    }
    Ok(())
}

/// Appends the description of a tensor that starts at `offset` of the data; returns its size in bytes.
fn describe(out: &mut Vec<u8>, t: &LayoutTensor<'_>, offset: u64) -> Result<u64> {
    let refuse = |message| Error::new(Code::UnsupportedContainer, message);
    let id = t.dtype.ggml_id().ok_or_else(|| refuse(format!("GGUF does not have the type {}", t.dtype)))?;
    if t.name.len() as u64 > limits::MAX_GGUF_NAME {
        let (have, max) = (t.name.len(), limits::MAX_GGUF_NAME);
        return Err(refuse(format!("the name has {have} bytes; ggml reads at most {max}")));
    }
    let axes = if t.shape.axes().is_empty() { &[1][..] } else { t.shape.axes() };
    if axes.len() as u64 > limits::MAX_GGUF_AXES {
        return Err(refuse(format!("{} axes; GGUF allows at most {}", axes.len(), limits::MAX_GGUF_AXES)));
    }
    if !t.shape.cols().is_multiple_of(t.dtype.block_len()) {
        let message = format!(
            "rows of {} values are not a multiple of the block length {}",
            t.shape.cols(),
            t.dtype.block_len()
        );
        return Err(refuse(message));
    }
    let size = t.dtype.bytes_for(t.shape.numel()).filter(|_| t.shape.numel() <= i64::MAX as u64);
    let size = size.ok_or_else(too_large)?;
    put_string(out, t.name);
    out.extend_from_slice(&(axes.len() as u32).to_le_bytes());
    axes.iter().rev().for_each(|a| out.extend_from_slice(&a.to_le_bytes()));
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    Ok(size)
}

/// Error of a size beyond 64 bits.
fn too_large() -> Error {
    Error::new(Code::Overflow, "the size overflows 64 bits")
}
