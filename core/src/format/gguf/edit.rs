//! Changes of the metadata of one GGUF file. Descriptions of tensors and their data stay as they are, byte for byte: offsets
//! count from the start of the data, so a longer header moves the data and changes no offset.
//!
//! Reads one file without the other files of its split. Knows no keys but those of the alignment.

use super::super::header_buffer::{HeaderBuffer, ParseStep};
use super::super::limits;
use super::ALIGNMENT_KEY;
use super::layout::{check_header, check_key, put_string, put_value};
use super::read::GgufReader;
use crate::bytes::{ByteRange, align_up};
use crate::error::{Code, Error, Result};
use crate::tensor::{MetaValue, Metadata};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes of the first read.
const FIRST: u64 = 64 << 10;

/// Bytes before the first key-value: magic, version, two counts.
const HEAD: u64 = 24;

/// Reads the header of one GGUF file. The driver answers [`want`](Self::want) with [`data`](Self::data) until there is nothing
/// to read, then [`finish`](Self::finish) returns the header.
pub struct GgufHeaderOpening {
    len: u64,
    buffer: HeaderBuffer,
    reader: GgufReader,
    bytes: Vec<u8>,
    done: Option<GgufHeader>,
}

/// The header of one GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufHeader {
    /// Length of the file in bytes.
    pub len: u64,
    /// The key-values, in the order of the file.
    pub metadata: Metadata,
    /// Offset of the tensors' data, which may be the end of the file.
    pub data_at: u64,
    /// Alignment of the data in bytes.
    alignment: u64,
    /// The bytes of the file before the padding.
    bytes: Vec<u8>,
    /// Offset of each value: of its bytes behind the number of its type.
    values_at: Vec<u64>,
}

/// Changes of metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataChanges {
    /// Values of keys. A key that is there keeps its place, a new one comes last.
    pub set: Vec<(String, MetaValue)>,
    /// Keys to remove.
    pub remove: Vec<String>,
}

impl GgufHeaderOpening {
    /// For a file of `len` bytes.
    pub fn new(name: &str, len: u64) -> GgufHeaderOpening {
        let buffer = HeaderBuffer::new(0, name.to_string(), len, FIRST);
        GgufHeaderOpening { len, buffer, reader: GgufReader::new(len), bytes: Vec::new(), done: None }
    }

    /// The bytes to read next; `None` once the header is complete.
    pub fn want(&self) -> Option<ByteRange> {
        self.done.is_none().then(|| self.buffer.range())
    }

    /// Takes bytes that were read at the start of the wanted range.
    ///
    /// # Errors
    ///
    /// Those of the parser, with the name of the file.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.take(bytes).map_err(|e| e.in_file(&self.buffer.name))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let wanted = self.buffer.range();
        self.buffer.push(bytes)?;
        let kept = bytes.get(..usize::try_from(wanted.len()).unwrap_or(bytes.len())).unwrap_or(bytes);
        self.bytes.extend_from_slice(kept);
        if !self.buffer.is_enough() {
            return Ok(());
        }
        let reader = &mut self.reader;
        let mut end = 0;
        let parsed = self.buffer.parse(|cursor| {
            let step = reader.step(cursor);
            end = cursor.offset();
            step
        })?;
        if let Some(ParseStep::Done(header)) = parsed {
            let overflow = || Error::new(Code::Overflow, "the end of the header overflows 64 bits");
            self.bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
            self.done = Some(GgufHeader {
                len: self.len,
                data_at: align_up(end, header.alignment).ok_or_else(overflow)?.min(self.len),
                metadata: header.metadata,
                alignment: header.alignment,
                bytes: core::mem::take(&mut self.bytes),
                values_at: header.metadata_at,
            });
        }
        Ok(())
    }

    /// The header.
    ///
    /// # Errors
    ///
    /// `truncated` if it is not complete.
    pub fn finish(self) -> Result<GgufHeader> {
        self.done.ok_or_else(|| Error::new(Code::Truncated, "the header is not complete"))
    }
}

impl GgufHeader {
    /// The header with its padding as it stands in the file.
    pub fn padded(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(usize::try_from(self.data_at).unwrap_or(bytes.len()).max(bytes.len()), 0);
        bytes
    }

    /// The header of the same file with `changes`, with its padding: the data follows it.
    ///
    /// # Errors
    ///
    /// `usage` for a key that is removed and not there, or set and removed; those of the parser if the result could not be
    /// read, as for a text that is too long.
    pub fn edited(&self, changes: &MetadataChanges) -> Result<Vec<u8>> {
        self.check(changes)?;
        let removed = |key: &String| changes.remove.contains(key);
        let change = |key: &String| changes.set.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value);
        let mut body = Vec::with_capacity(self.bytes.len());
        let mut count = 0_u64;
        for (index, (key, value)) in self.metadata.0.iter().enumerate() {
            if removed(key) {
                continue;
            }
            count += 1;
            match change(key) {
                Some(new) => put(&mut body, key, new)?,
                None => body.extend_from_slice(self.stored(index, key, value)?),
            }
        }
        let mut added: Vec<&String> = Vec::new();
        for (key, _) in changes.set.iter().filter(|(key, _)| self.metadata.get(key).is_none()) {
            if let Some(value) = change(key).filter(|_| !added.contains(&key)) {
                count += 1;
                added.push(key);
                put(&mut body, key, value)?;
            }
        }
        let mut bytes = self.slice(0, HEAD - 8)?.to_vec();
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(self.slice(self.descriptions_at(), self.bytes.len() as u64)?);
        self.checked(bytes)
    }

    fn check(&self, changes: &MetadataChanges) -> Result<()> {
        let usage = |message: String| Err(Error::new(Code::Usage, message));
        for key in &changes.remove {
            if changes.set.iter().any(|(k, _)| k == key) {
                return usage(format!("{key} is set and removed"));
            }
            if self.metadata.get(key).is_none() {
                return usage(format!("there is no key {key:?}"));
            }
        }
        let set = changes.set.iter().map(|(key, _)| key);
        if set.clone().chain(&changes.remove).any(|key| key == ALIGNMENT_KEY) {
            return usage(format!("{ALIGNMENT_KEY} belongs to the layout of the file and cannot be changed"));
        }
        set.into_iter().try_for_each(|key| check_key(key))
    }

    /// The padded header, if a reader takes it.
    fn checked(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
        let overflow = || Error::new(Code::Overflow, "the end of the header overflows 64 bits");
        let data_at = align_up(bytes.len() as u64, self.alignment).ok_or_else(overflow)?;
        check_header(data_at)?;
        bytes.resize(usize::try_from(data_at).map_err(|_| overflow())?, 0);
        let len = (self.len - self.data_at).checked_add(data_at).ok_or_else(overflow)?;
        let mut opening = GgufHeaderOpening::new("the changed header", len);
        while let Some(range) = opening.want() {
            let piece = usize::try_from(range.start).ok().and_then(|start| bytes.get(start..));
            opening.data(piece.unwrap_or_default())?;
        }
        Ok(bytes)
    }

    /// Offset of the descriptions of tensors: the end of the last value.
    fn descriptions_at(&self) -> u64 {
        let last = self.values_at.last().zip(self.metadata.0.last());
        last.map_or(HEAD, |(at, (_, value))| at.saturating_add(encoded_len(value)))
    }

    /// The stored bytes of a key-value.
    fn stored(&self, index: usize, key: &str, value: &MetaValue) -> Result<&[u8]> {
        let value_at = self.values_at.get(index).copied().unwrap_or(0);
        // The length of the key, the key, the number of the type.
        let start = value_at.saturating_sub(8 + key.len() as u64 + 4);
        self.slice(start, value_at.saturating_add(encoded_len(value)))
    }

    fn slice(&self, start: u64, end: u64) -> Result<&[u8]> {
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let found = range.and_then(|(start, end)| self.bytes.get(start..end));
        found.ok_or_else(|| Error::new(Code::Truncated, "the header is not complete").at(start))
    }
}

/// Appends a key-value.
fn put(bytes: &mut Vec<u8>, key: &str, value: &MetaValue) -> Result<()> {
    let text = match value {
        MetaValue::String(text) => text.len() as u64,
        _ => 0,
    };
    if text > limits::MAX_GGUF_STRING {
        let message =
            format!("{key}: a text of {text} bytes; at most {} are allowed", limits::MAX_GGUF_STRING);
        return Err(Error::new(Code::StringTooLong, message));
    }
    put_string(bytes, key);
    put_value(bytes, value)
}

/// Bytes of a value behind the number of its type.
fn encoded_len(value: &MetaValue) -> u64 {
    match value {
        MetaValue::U8(_) | MetaValue::I8(_) | MetaValue::Bool(_) => 1,
        MetaValue::U16(_) | MetaValue::I16(_) => 2,
        MetaValue::U32(_) | MetaValue::I32(_) | MetaValue::F32(_) => 4,
        MetaValue::U64(_) | MetaValue::I64(_) | MetaValue::F64(_) => 8,
        MetaValue::String(text) => 8 + text.len() as u64,
        MetaValue::Bytes(bytes) => 8 + bytes.len() as u64,
        MetaValue::Array(array) => 12 + array.raw.len() as u64,
    }
}
