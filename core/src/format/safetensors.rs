//! The safetensors container: an 8-byte length, a JSON header of that length, then the tensors without gaps.
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | header length `n`, u64 little-endian |
//! | 8..8 + n | JSON: tensor name to `{"dtype", "shape", "data_offsets"}`, and `__metadata__` |
//! | 8 + n.. | tensor data, contiguous; `data_offsets` count from here |
//!
//! Parses and lays out headers; never reads data. Stricter than the official library: duplicate names are
//! refused. Specification: <https://huggingface.co/docs/safetensors>.

use super::header_buffer::{Header, LocatedTensor, ParseStep, ParseStop};
use super::json::{self, Located, Member};
use super::{Container, FileLayout, LayoutTensor, limits};
use crate::bytes::{ByteRange, Cursor};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::tensor::{MetaValue, Metadata, Shape, TensorInfo};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes of the header length.
const LENGTH: usize = 8;

/// The only key of the header that is not a tensor.
const METADATA: &str = "__metadata__";

/// True if a file of `len` bytes that starts with `head` looks like safetensors: a plausible header length
/// and an opening brace.
pub(crate) fn is_likely(head: &[u8], len: u64) -> bool {
    let mut cursor = Cursor::new(head, 0);
    let (n, first) = (cursor.u64(), cursor.u8());
    n.is_ok_and(|n| n <= len) && first == Ok(b'{')
}

/// Parses the header of a file of `len` bytes.
///
/// # Errors
///
/// - [`Code::HeaderTooLarge`] above [`limits::MAX_SAFETENSORS_HEADER`], [`Code::Truncated`] if the header
///   exceeds the file.
/// - [`Code::BadUtf8`], [`Code::BadJson`], [`Code::TooDeep`], [`Code::TooMany`], [`Code::DuplicateName`] for
///   the JSON.
/// - [`Code::UnknownDtype`], [`Code::TooManyAxes`], [`Code::Overflow`], [`Code::SizeMismatch`],
///   [`Code::OutOfBounds`] for an entry.
/// - [`Code::Hole`], [`Code::Overlap`], [`Code::TrailingBytes`] for the data.
pub(crate) fn read(input: &mut Cursor<'_>, len: u64) -> Result<ParseStep, ParseStop> {
    let mut probe = input.clone();
    let at = probe.offset();
    let size = probe.u64()?;
    if size > limits::MAX_SAFETENSORS_HEADER {
        let max = limits::MAX_SAFETENSORS_HEADER;
        let message = format!(
            "a header of {size} bytes; at most {max} are supported: the file is damaged or not safetensors"
        );
        return Err(Error::new(Code::HeaderTooLarge, message).at(at).into());
    }
    let start = probe.offset();
    let data = ByteRange { start: start.saturating_add(size), end: len };
    if data.start > len {
        let message =
            format!("the file is incomplete: its header has {size} bytes, the file {len}; download it again");
        return Err(Error::new(Code::Truncated, message).at(at).into());
    }
    let header = parse(probe.take(size)?, start, data)?;
    *input = probe;
    Ok(ParseStep::Done(header))
}

/// Parses the JSON header, which lies at file offset `at`.
fn parse(text: &[u8], at: u64, data: ByteRange) -> Result<Header> {
    let json = json::document(text, at)?;
    if text.first() != Some(&b'{') {
        return Err(json.error(Code::BadJson, "the header must start with an object"));
    }
    // The text is parsed twice, so that only the keys of a million tensors are in memory beside it.
    let keys = json.keys()?;
    if let Err((name, error)) = keys.unique() {
        return Err(if name == METADATA { error } else { error.of_tensor(name) });
    }
    let mut header = Header::of_tensors(Container::Safetensors, Vec::with_capacity(keys.len()));
    drop(keys);
    json.each(|member| {
        if member.key == METADATA {
            // MLX writes `null` where there is none.
            if member.value.is_null() {
                return Ok(());
            }
            (header.metadata, header.metadata_at) = metadata(member.value)?;
        } else {
            let info = tensor(&member, data).map_err(|e| e.of_tensor(&member.key))?;
            header.tensors.push(info);
        }
        Ok(())
    })?;
    // Empty tensors at the same offset keep the order of the header.
    header.tensors.sort_unstable_by_key(|t| (t.info.bytes.start, t.info.bytes.end, t.at));
    check_contiguous(&header.tensors, data)?;
    Ok(header)
}

/// Parses `__metadata__`; returns it with the file offset of each value.
fn metadata(json: Located<'_>) -> Result<(Metadata, Vec<u64>)> {
    let members = json.object()?;
    json::unique(&members).map_err(|(_, e)| e)?;
    let mut out = Metadata::default();
    for m in &members {
        out.0.push((m.key.as_ref().into(), MetaValue::String(m.value.string()?.into_owned())));
    }
    Ok((out, members.iter().map(|m| m.value.at).collect()))
}

/// Parses the entry of a tensor. Unknown members are ignored, as in other readers.
fn tensor(entry: &Member<'_>, data: ByteRange) -> Result<LocatedTensor> {
    let members = entry.value.object()?;
    json::unique(&members).map_err(|(_, e)| e)?;
    let member = |name: &str| {
        let found = members.iter().find(|m| m.key == name).map(|m| m.value);
        found.ok_or_else(|| entry.value.error(Code::BadJson, &format!("{name} is missing")))
    };
    let dtype = dtype(member("dtype")?)?;
    let shape = member("shape")?.shape()?;
    let offsets = member("data_offsets")?;
    let bytes = span(offsets, data)?;
    let at = offsets.at;
    check_size(dtype, &shape, bytes).map_err(|e| e.at(at))?;
    let name = String::from(&*entry.key);
    Ok(LocatedTensor {
        info: TensorInfo { name: name.into(), dtype, shape, file: 0, bytes, packed: None },
        at,
    })
}

/// Parses a dtype name.
fn dtype(json: Located<'_>) -> Result<DType> {
    let name = json.string()?;
    DType::from_safetensors(&name).ok_or_else(|| {
        json.error(Code::UnknownDtype, &format!("unknown dtype {name:?}: safetensors has no such type"))
    })
}

/// Byte range of a tensor in the file, from offsets relative to the data.
fn span(json: Located<'_>, data: ByteRange) -> Result<ByteRange> {
    let ends = json.array()?;
    let [start, end] = ends[..] else {
        return Err(json.error(Code::BadJson, "data_offsets must be an array of two numbers"));
    };
    let (start, end) = (start.u64()?, end.u64()?);
    if end < start {
        return Err(json.error(
            Code::OutOfBounds,
            &format!("the tensor ends at byte {end} of the data, before its start {start}"),
        ));
    }
    if end > data.len() {
        let message = format!(
            "the tensor ends at byte {end} of the data, but the file holds only {}: it may be truncated",
            data.len()
        );
        return Err(json.error(Code::OutOfBounds, &message));
    }
    // No overflow: both are at most the length of the data, which lies inside the file.
    Ok(ByteRange { start: data.start.saturating_add(start), end: data.start.saturating_add(end) })
}

/// Refuses a byte range that does not have the size of the tensor.
fn check_size(dtype: DType, shape: &Shape, bytes: ByteRange) -> Result<()> {
    let numel = shape.numel();
    if !numel.is_multiple_of(dtype.block_len()) {
        let message = format!("{numel} elements of {dtype} do not fill whole bytes");
        return Err(Error::new(Code::SizeMismatch, message));
    }
    let size = dtype.bytes_for(numel);
    let size = size.ok_or_else(|| Error::new(Code::Overflow, "the size of the tensor overflows 64 bits"))?;
    if size != bytes.len() {
        let message = format!("shape and dtype require {size} bytes, but data_offsets span {}", bytes.len());
        return Err(Error::new(Code::SizeMismatch, message));
    }
    Ok(())
}

/// Refuses gaps and overlaps: each tensor must start at the end of the one before, and the last one must end
/// with the file.
fn check_contiguous(sorted: &[LocatedTensor], data: ByteRange) -> Result<()> {
    let mut end = data.start;
    for t in sorted {
        let start = t.info.bytes.start;
        if start != end {
            let (code, message) = match start.checked_sub(end) {
                Some(gap) => (Code::Hole, format!("{gap} bytes before the tensor belong to no tensor")),
                None => {
                    (Code::Overlap, format!("the tensor overlaps the one before it by {} bytes", end - start))
                }
            };
            return Err(Error::new(code, message).at(t.at).of_tensor(&t.info.name));
        }
        end = t.info.bytes.end;
    }
    if end != data.end {
        let message = format!("{} bytes follow the last tensor", data.end.saturating_sub(end));
        return Err(Error::new(Code::TrailingBytes, message).at(end));
    }
    Ok(())
}

/// Lays out a file: keys and data in the order given, the header padded with spaces to a multiple of eight
/// bytes.
///
/// ```
/// use quantoscope_core::format::{LayoutTensor, safetensors};
/// use quantoscope_core::{DType, Result, tensor::Shape};
///
/// # fn main() -> Result<()> {
/// let shape = Shape::new([2, 4]).unwrap();
/// let tensor = LayoutTensor { name: "weight", dtype: DType::BF16, shape: &shape };
/// let layout = safetensors::layout(&[], &[tensor])?;
/// assert_eq!(layout.header.len() % 8, 0);
/// assert_eq!(layout.offsets, [layout.header.len() as u64]);
/// assert_eq!(layout.file_len, layout.header.len() as u64 + 16);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// - [`Code::UnsupportedContainer`] for a dtype that safetensors does not have, or a tensor named
///   `__metadata__`.
/// - [`Code::DuplicateName`] for duplicate tensor names or metadata keys.
/// - [`Code::Overflow`] if sizes overflow 64 bits or do not fill whole bytes.
/// - [`Code::HeaderTooLarge`] if the header exceeds [`limits::MAX_SAFETENSORS_HEADER`].
pub fn layout(metadata: &[(String, String)], tensors: &[LayoutTensor<'_>]) -> Result<FileLayout> {
    layout_of(metadata, tensors.iter().copied())
}

/// [`layout`] of tensors that come from an iterator, without a list of all of them.
///
/// # Errors
///
/// Those of [`layout`].
pub fn layout_of<'a>(
    metadata: &[(String, String)],
    tensors: impl ExactSizeIterator<Item = LayoutTensor<'a>> + Clone,
) -> Result<FileLayout> {
    super::check_names_once(tensors.clone())?;
    let mut out = FileLayout::of(tensors.len());
    // Placeholder of the header length, which is known last.
    out.header.extend_from_slice(&[0; LENGTH]);
    out.header.push(b'{');
    if !metadata.is_empty() {
        out.header.extend_from_slice(metadata_json(metadata)?.as_bytes());
    }
    let mut end = 0;
    for t in tensors {
        let start = end;
        end = place(&t, start).map_err(|e| e.of_tensor(t.name))?;
        out.offsets.push(start);
        out.sizes.push(end - start);
        if out.header.len() > LENGTH + 1 {
            out.header.push(b',');
        }
        out.header.extend_from_slice(entry_json(&t, start, end)?.as_bytes());
        check_header(out.header.len())?;
    }
    out.header.push(b'}');
    finish(out, end)
}

/// End of a tensor that starts at `start` of the data.
fn place(t: &LayoutTensor<'_>, start: u64) -> Result<u64> {
    if t.dtype.safetensors_name().is_none() {
        return Err(Error::new(
            Code::UnsupportedContainer,
            format!("safetensors does not have the dtype {}", t.dtype),
        ));
    }
    if t.name == METADATA {
        return Err(Error::new(
            Code::UnsupportedContainer,
            "safetensors reserves this name for its metadata",
        ));
    }
    let size = t.dtype.bytes_for(t.shape.numel());
    let end = size.and_then(|n| start.checked_add(n));
    end.ok_or_else(|| {
        Error::new(Code::Overflow, "the size of the tensor overflows 64 bits, or does not fill whole bytes")
    })
}

/// A JSON string.
fn quote(text: &str) -> Result<String> {
    serde_json::to_string(text).map_err(|e| Error::new(Code::BadJson, format!("{e}")))
}

/// The `__metadata__` member as JSON.
fn metadata_json(metadata: &[(String, String)]) -> Result<String> {
    let mut keys = BTreeSet::new();
    let mut json = format!("\"{METADATA}\":{{");
    for (i, (key, value)) in metadata.iter().enumerate() {
        if !keys.insert(key) {
            return Err(Error::new(Code::DuplicateName, format!("duplicate metadata key {key:?}")));
        }
        let comma = if i == 0 { "" } else { "," };
        json.push_str(&format!("{comma}{}:{}", quote(key)?, quote(value)?));
    }
    json.push('}');
    Ok(json)
}

/// The header entry of a tensor as JSON.
fn entry_json(t: &LayoutTensor<'_>, start: u64, end: u64) -> Result<String> {
    let axes = t.shape.axes().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let (name, dtype) = (quote(t.name)?, t.dtype.safetensors_name().unwrap_or_default());
    Ok(format!("{name}:{{\"dtype\":\"{dtype}\",\"shape\":[{axes}],\"data_offsets\":[{start},{end}]}}"))
}

/// Refuses a header of `len` bytes that readers would refuse.
fn check_header(len: usize) -> Result<()> {
    let size = (len - LENGTH) as u64;
    if size > limits::MAX_SAFETENSORS_HEADER {
        let max = limits::MAX_SAFETENSORS_HEADER;
        let message = format!("the header would exceed {max} bytes, the limit of readers");
        return Err(Error::new(Code::HeaderTooLarge, message));
    }
    Ok(())
}

/// Pads the header, writes its length, and makes the offsets absolute.
fn finish(mut out: FileLayout, data_len: u64) -> Result<FileLayout> {
    out.header.resize(out.header.len().next_multiple_of(8), b' ');
    check_header(out.header.len())?;
    let data_start = out.header.len() as u64;
    let size = data_start - LENGTH as u64;
    out.header.iter_mut().zip(size.to_le_bytes()).for_each(|(to, byte)| *to = byte);
    let file_len = data_start.checked_add(data_len);
    out.file_len =
        file_len.ok_or_else(|| Error::new(Code::Overflow, "the length of the file overflows 64 bits"))?;
    out.offsets.iter_mut().for_each(|at| *at += data_start);
    Ok(out)
}
