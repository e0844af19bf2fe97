//! APR v2, the container of [aprender](https://github.com/paiml/aprender): a header, JSON metadata, an index of
//! tensors, then their payloads.
//!
//! | bytes | content |
//! |---|---|
//! | 0..64 | header, see `header` |
//! | 64.. | metadata: JSON, see `metadata` |
//! | then | index: one packed entry for each tensor, sorted by name, see `index` |
//! | then | payloads |
//! | last 4 | CRC-32 of every byte before |
//!
//! Numbers are little-endian. Each part is padded with zeros to a multiple of 64 bytes. Reads only; the block
//! layouts belong to [`crate::quant`].

mod header;
mod index;
mod metadata;

use super::header_buffer::{Header, ParseStep, ParseStop};
use super::{Container, Warning, limits};
use crate::bytes::{ByteRange, Cursor, align_up};
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use header::AprHeader;

/// Alignment of the parts of a file in bytes.
const ALIGNMENT: u64 = 64;
/// Bytes of the checksum at the end of a file.
const TRAILER: u64 = 4;

/// A program that writes APR files, and with it the meaning of dtype bytes 3 to 9, which two readers disagree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AprWriter {
    /// aprender's core: bytes 3 to 7 are F64, I32, I64, I8 and U8.
    Core,
    /// aprender's serve: bytes 3, 6 and 7 are ggml's Q4_1, Q5_0 and Q5_1.
    Serve,
}

impl AprWriter {
    /// All of them.
    pub const ALL: [AprWriter; 2] = [AprWriter::Core, AprWriter::Serve];

    /// Parses the name of a program, ignoring case: `core` or `serve`; also their crates, `aprender` (or
    /// `aprender-core`) and `aprender-serve` (formerly `realizar`).
    ///
    /// # Errors
    ///
    /// [`Code::Usage`] for another name.
    pub fn parse(text: &str) -> Result<AprWriter> {
        let is = |names: &[&str]| names.iter().any(|n| n.eq_ignore_ascii_case(text));
        if is(&["core", "aprender-core", "aprender", "apr"]) {
            return Ok(AprWriter::Core);
        }
        if is(&["serve", "aprender-serve", "realizar"]) {
            return Ok(AprWriter::Serve);
        }
        Err(Error::new(Code::Usage, format!("{text:?} is no writer of APR files; there are core and serve")))
    }

    /// Name of the program on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            AprWriter::Core => "core",
            AprWriter::Serve => "serve",
        }
    }
}

/// What an APR file declares beside its tensors.
#[derive(Debug, Default)]
pub(crate) struct AprInfo {
    /// Configuration with the keys of Hugging Face's `config.json`; absent if the metadata names no architecture.
    pub config: Option<Vec<u8>>,
    /// Number of files of a sharded model, and the number of this one.
    pub shard: Option<ShardNumber>,
}

/// Place of a file in a sharded model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardNumber {
    /// Number of files.
    pub count: u64,
    /// Number of the file, as declared.
    pub index: u64,
}

/// True if the file starts with the magic of APR v2 or of an older version.
pub(crate) fn is_magic(head: &[u8]) -> bool {
    head.get(..4).is_some_and(header::is_magic)
}

/// Parses the header of a file of `len` bytes. `writer` decides the ambiguous dtype bytes.
///
/// Files of up to [`limits::MAX_APR_CHECKED`] bytes are compared with their checksum.
///
/// # Errors
///
/// - [`Code::BadMagic`], [`Code::UnknownVersion`], [`Code::UnsupportedContainer`] (compressed or encrypted).
/// - [`Code::BadValue`] for checksums, flags and positions of the parts, [`Code::HeaderTooLarge`].
/// - [`Code::BadJson`] for the metadata.
/// - [`Code::TooMany`], [`Code::CountTooLarge`], [`Code::Truncated`], [`Code::BadName`], [`Code::BadUtf8`],
///   [`Code::StringTooLong`], [`Code::TooManyAxes`], [`Code::Overflow`], [`Code::UnknownDtype`],
///   [`Code::UnsupportedDtype`], [`Code::SizeMismatch`], [`Code::DuplicateName`] for an entry of the index.
/// - [`Code::OutOfBounds`], [`Code::Overlap`], [`Code::TrailingBytes`] for the payloads.
pub(crate) fn read(
    input: &mut Cursor<'_>,
    len: u64,
    writer: Option<AprWriter>,
) -> Result<ParseStep, ParseStop> {
    let mut probe = input.clone();
    let head = AprHeader::read(&mut probe, len)?;
    let mut probe = input.clone();
    let start = probe.take(head.data_at)?;
    check_file(input, len)?;
    let metadata = metadata::parse(head.metadata.slice(start), head.metadata.start)?;
    let entries = index::IndexReader { file: &head, len, writer };
    let index = entries.read(head.index.slice(start))?;
    check_end(&index.tensors, &head, len)?;
    let mut header = Header::of_tensors(Container::Apr, index.tensors);
    header.alignment = ALIGNMENT;
    (header.metadata, header.metadata_at) = (metadata.values, metadata.at);
    header.warnings = index.warnings;
    if len > limits::MAX_APR_CHECKED {
        let message = "the checksum over the whole file is not compared: only the header is read";
        header.warnings.push(Warning::new("checksum_unchecked", message));
    }
    let config = metadata.config.map(|config| config.into_json(index.tied));
    header.apr = AprInfo { config, shard: metadata.shard.filter(|s| s.count > 1) };
    if header.apr.shard.is_none() && head.is_sharded() {
        let message = "the header says that the model is sharded, and the metadata does not name its shards";
        header.warnings.push(Warning::new("shards_unknown", message));
    }
    *input = probe;
    Ok(ParseStep::Done(header))
}

/// Compares a small file with its checksum.
fn check_file(input: &Cursor<'_>, len: u64) -> Result<(), ParseStop> {
    if len > limits::MAX_APR_CHECKED {
        return Ok(());
    }
    let mut probe = input.clone();
    let body = probe.take(len.saturating_sub(TRAILER))?;
    let at = probe.offset();
    let (stored, computed) = (probe.u32()?, crc32(&[body]));
    if stored == computed {
        return Ok(());
    }
    let message =
        format!("the checksum of the file is {computed:#010x}, its end says {stored:#010x}: it is damaged");
    Err(Error::new(Code::BadValue, message).at(at).into())
}

/// Checks that the last payload, padded or not, is followed by the checksum and nothing else.
fn check_end(tensors: &[super::header_buffer::LocatedTensor], head: &AprHeader, len: u64) -> Result<()> {
    // Payloads were checked against the end of the file.
    let end = tensors.iter().map(|t| t.info.bytes.end).fold(head.data_at, u64::max);
    let body = len.saturating_sub(TRAILER);
    let padded = align_up(end.saturating_sub(head.data_at), ALIGNMENT);
    let padded = padded.and_then(|n| head.data_at.checked_add(n)).unwrap_or(end);
    if body > padded.max(end) {
        let message = format!("{} bytes follow the last tensor", body - padded);
        return Err(Error::new(Code::TrailingBytes, message).at(padded));
    }
    Ok(())
}

/// CRC-32 (IEEE 802.3) of the concatenated parts.
#[expect(clippy::indexing_slicing, reason = "four bits index a table of 16; `get` is not const")]
fn crc32(parts: &[&[u8]]) -> u32 {
    // One step for each value of four bits.
    const STEP: [u32; 16] = {
        let mut table = [0; 16];
        let mut nibble = 0;
        while nibble < 16 {
            let (mut crc, mut bit) = (nibble as u32, 0);
            while bit < 4 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[nibble] = crc;
            nibble += 1;
        }
        table
    };
    let step = |crc: u32, nibble: u8| (crc >> 4) ^ STEP[((crc ^ u32::from(nibble)) & 15) as usize];
    let byte = |crc, byte: &u8| step(step(crc, byte & 15), byte >> 4);
    !parts.iter().copied().flatten().fold(!0, byte)
}

/// The part `range` of a file whose first bytes are `start`; empty if it is not inside.
trait Slice {
    fn slice(self, start: &[u8]) -> &[u8];
}

impl Slice for ByteRange {
    fn slice(self, start: &[u8]) -> &[u8] {
        let range = usize::try_from(self.start).ok().zip(usize::try_from(self.end).ok());
        range.and_then(|(from, to)| start.get(from..to)).unwrap_or_default()
    }
}

/// Error of a size beyond 64 bits.
fn overflow(what: &str) -> Error {
    Error::new(Code::Overflow, format!("{what} overflows 64 bits"))
}

/// Text of a name, or an error.
fn text(bytes: &[u8], at: u64) -> Result<String> {
    core::str::from_utf8(bytes).map(String::from).map_err(|e| {
        let at = at.saturating_add(e.valid_up_to() as u64);
        Error::new(Code::BadUtf8, "the name is not valid UTF-8").at(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_of_the_check_string_is_that_of_the_standard() {
        assert_eq!(crc32(&[b"1234", b"56789"]), 0xCBF4_3926);
        assert_eq!(crc32(&[]), 0);
    }
}
