//! Safetensors: an 8-byte length, a JSON header of that length, then the tensors without a gap.
//!
//! Reads and lays out the header; never looks at data. Checked beyond the official library: duplicate names, and a
//! place for every complaint. Spec: <https://huggingface.co/docs/safetensors>.

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

/// Bytes of the length that a file starts with.
const LENGTH: usize = 8;

/// The one key of the header that is no tensor.
const METADATA: &str = "__metadata__";

/// Whether a file of `len` bytes that starts with `head` can be one: a plausible length, then an object.
pub(crate) fn is_likely(head: &[u8], len: u64) -> bool {
    let mut cursor = Cursor::new(head, 0);
    let (n, first) = (cursor.u64(), cursor.u8());
    n.is_ok_and(|n| n <= len) && first == Ok(b'{')
}

/// Reads the header of a file of `len` bytes.
pub(crate) fn read(input: &mut Cursor<'_>, len: u64) -> Result<ParseStep, ParseStop> {
    let mut probe = input.clone();
    let at = probe.offset();
    let size = probe.u64()?;
    if size > limits::MAX_SAFETENSORS_HEADER {
        let max = limits::MAX_SAFETENSORS_HEADER;
        let words =
            format!("a header of {size} bytes, at most {max} are read: damaged, or no safetensors file");
        return Err(Error::new(Code::HeaderTooLarge, words).at(at).into());
    }
    let start = probe.offset();
    let data = ByteRange { start: start.saturating_add(size), end: len };
    if data.start > len {
        let words = format!("a header of {size} bytes does not fit a file of {len}");
        return Err(Error::new(Code::Truncated, words).at(at).into());
    }
    let header = parse(probe.take(size)?, start, data)?;
    *input = probe;
    Ok(ParseStep::Done(header))
}

fn parse(text: &[u8], at: u64, data: ByteRange) -> Result<Header> {
    let json = json::document(text, at)?;
    if text.first() != Some(&b'{') {
        return Err(json.error(Code::BadJson, "the header must start with an object"));
    }
    // Twice through the text, so that never more than the keys of a million tensors are in hand beside it.
    let keys = json.keys()?;
    if let Err((name, error)) = keys.unique() {
        return Err(if name == METADATA { error } else { error.of_tensor(name) });
    }
    let mut header = Header::of_tensors(Container::Safetensors, Vec::with_capacity(keys.len()));
    drop(keys);
    json.each(|member| {
        if member.key == METADATA {
            (header.metadata, header.metadata_at) = metadata(member.value)?;
        } else {
            let info = tensor(&member, data).map_err(|e| e.of_tensor(&member.key))?;
            header.tensors.push(info);
        }
        Ok(())
    })?;
    // By place in the header where the data says nothing.
    header.tensors.sort_unstable_by_key(|t| (t.info.bytes.start, t.info.bytes.end, t.at));
    check_contiguous(&header.tensors, data)?;
    Ok(header)
}

fn metadata(json: Located<'_>) -> Result<(Metadata, Vec<u64>)> {
    let members = json.object()?;
    json::unique(&members).map_err(|(_, e)| e)?;
    let mut out = Metadata::default();
    for m in &members {
        out.0.push((m.key.as_ref().into(), MetaValue::String(m.value.string()?.into_owned())));
    }
    Ok((out, members.iter().map(|m| m.value.at).collect()))
}

/// One entry; members that no version of the format names are skipped, as everyone does.
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
    Ok(LocatedTensor { info: TensorInfo { name: name.into(), dtype, shape, file: 0, bytes }, at })
}

fn dtype(json: Located<'_>) -> Result<DType> {
    let name = json.string()?;
    DType::from_safetensors(&name)
        .ok_or_else(|| json.error(Code::UnknownDtype, &format!("{name:?} is no safetensors dtype")))
}

/// The absolute span of a tensor, from offsets relative to the data.
fn span(json: Located<'_>, data: ByteRange) -> Result<ByteRange> {
    let ends = json.array()?;
    let [start, end] = ends[..] else {
        return Err(json.error(Code::BadJson, "data_offsets must be two numbers"));
    };
    let (start, end) = (start.u64()?, end.u64()?);
    if end < start {
        return Err(json.error(Code::OutOfBounds, &format!("it ends at {end}, before its start {start}")));
    }
    if end > data.len() {
        let words = format!("it ends at {end}, the file holds {} bytes of data: cut short?", data.len());
        return Err(json.error(Code::OutOfBounds, &words));
    }
    // No overflow: both are at most the data's length, and the data lies in the file.
    Ok(ByteRange { start: data.start.saturating_add(start), end: data.start.saturating_add(end) })
}

fn check_size(dtype: DType, shape: &Shape, bytes: ByteRange) -> Result<()> {
    let numel = shape.numel();
    if !numel.is_multiple_of(dtype.block_len()) {
        let words = format!("{numel} elements of {dtype} end within a byte");
        return Err(Error::new(Code::SizeMismatch, words));
    }
    let size = dtype.bytes_for(numel);
    let size = size.ok_or_else(|| Error::new(Code::Overflow, "its size does not fit 64 bits"))?;
    if size != bytes.len() {
        let words = format!("shape and dtype make {size} bytes, its span has {}", bytes.len());
        return Err(Error::new(Code::SizeMismatch, words));
    }
    Ok(())
}

/// Each tensor starts where the one before ends, and the last one ends with the file.
fn check_contiguous(sorted: &[LocatedTensor], data: ByteRange) -> Result<()> {
    let mut end = data.start;
    for t in sorted {
        let start = t.info.bytes.start;
        if start != end {
            let (code, words) = match start.checked_sub(end) {
                Some(gap) => (Code::Hole, format!("{gap} bytes before it belong to no tensor")),
                None => (Code::Overlap, format!("it shares {} bytes with the tensor before it", end - start)),
            };
            return Err(Error::new(code, words).at(t.at).of_tensor(&t.info.name));
        }
        end = t.info.bytes.end;
    }
    if end != data.end {
        let words = format!("{} bytes follow the last tensor", data.end.saturating_sub(end));
        return Err(Error::new(Code::TrailingBytes, words).at(end));
    }
    Ok(())
}

/// Lays out a file: keys and data in the given order, the header padded with spaces to a multiple of 8 bytes.
///
/// # Errors
///
/// `unsupported_container` if a type or a name does not exist in safetensors, `duplicate_name`, `overflow`, or
/// `header_too_large` if readers would refuse the header.
pub fn layout(metadata: &[(String, String)], tensors: &[LayoutTensor<'_>]) -> Result<FileLayout> {
    layout_of(metadata, tensors.iter().copied())
}

/// [`layout`] of an iterator of tensors, so that the descriptions need not be collected.
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
    // The length is the first field, and is known last.
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

/// The end of a tensor that starts at byte `start` of the data.
fn place(t: &LayoutTensor<'_>, start: u64) -> Result<u64> {
    if t.dtype.safetensors_name().is_none() {
        return Err(Error::new(Code::UnsupportedContainer, format!("safetensors has no dtype {}", t.dtype)));
    }
    if t.name == METADATA {
        return Err(Error::new(Code::UnsupportedContainer, "safetensors keeps this name for its metadata"));
    }
    let size = t.dtype.bytes_for(t.shape.numel());
    let end = size.and_then(|n| start.checked_add(n));
    end.ok_or_else(|| Error::new(Code::Overflow, "its bytes do not fit 64 bits, or end within a byte"))
}

fn quote(text: &str) -> Result<String> {
    serde_json::to_string(text).map_err(|e| Error::new(Code::BadJson, format!("{e}")))
}

fn metadata_json(metadata: &[(String, String)]) -> Result<String> {
    let mut seen = BTreeSet::new();
    let mut json = format!("\"{METADATA}\":{{");
    for (i, (key, value)) in metadata.iter().enumerate() {
        if !seen.insert(key) {
            return Err(Error::new(Code::DuplicateName, format!("two metadata entries {key:?}")));
        }
        let comma = if i == 0 { "" } else { "," };
        json.push_str(&format!("{comma}{}:{}", quote(key)?, quote(value)?));
    }
    json.push('}');
    Ok(json)
}

fn entry_json(t: &LayoutTensor<'_>, start: u64, end: u64) -> Result<String> {
    let axes = t.shape.axes().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let (name, dtype) = (quote(t.name)?, t.dtype.safetensors_name().unwrap_or_default());
    Ok(format!("{name}:{{\"dtype\":\"{dtype}\",\"shape\":[{axes}],\"data_offsets\":[{start},{end}]}}"))
}

/// Refuses a header whose first `len` bytes are already more than readers accept.
fn check_header(len: usize) -> Result<()> {
    let size = (len - LENGTH) as u64;
    if size > limits::MAX_SAFETENSORS_HEADER {
        let max = limits::MAX_SAFETENSORS_HEADER;
        let words = format!("the header would have more than {max} bytes, more than readers accept");
        return Err(Error::new(Code::HeaderTooLarge, words));
    }
    Ok(())
}

/// Pads the header, and makes the offsets absolute, now that its length is known.
fn finish(mut out: FileLayout, data_len: u64) -> Result<FileLayout> {
    out.header.resize(out.header.len().next_multiple_of(8), b' ');
    check_header(out.header.len())?;
    let data_start = out.header.len() as u64;
    let size = data_start - LENGTH as u64;
    out.header.iter_mut().zip(size.to_le_bytes()).for_each(|(to, byte)| *to = byte);
    let file_len = data_start.checked_add(data_len);
    out.file_len = file_len.ok_or_else(|| Error::new(Code::Overflow, "the file does not fit 64 bits"))?;
    out.offsets.iter_mut().for_each(|at| *at += data_start);
    Ok(out)
}
