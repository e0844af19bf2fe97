//! The 64 bytes at the start of an APR file.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | magic: `APR` and a zero |
//! | 4..6 | version: major 2, minor |
//! | 6..8 | flags u16 |
//! | 8..12 | number of tensors u32 |
//! | 12..20 | offset of the metadata u64 |
//! | 20..24 | length of the metadata u32 |
//! | 24..32 | offset of the index u64 |
//! | 32..40 | offset of the payloads u64 |
//! | 40..44 | CRC-32 of bytes 0..40 and 44..64 |
//! | 44..64 | reserved |

use super::super::header_buffer::ParseStop;
use super::super::limits;
use super::{TRAILER, crc32};
use crate::bytes::{ByteRange, Cursor};
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::String;

const MAGIC: [u8; 4] = *b"APR\0";
/// Magics of older files, which have another layout.
const OLDER: [[u8; 4]; 3] = [*b"APRN", *b"APR1", *b"APR2"];
const MAJOR: u8 = 2;
/// Length of the header in bytes.
const HEADER: u64 = 64;

/// Flags of files whose content is not stored as the index describes it.
const REFUSED: [(u16, &str); 4] = [
    (1 << 0, "is compressed with LZ4; decompress it first"),
    (1 << 1, "is compressed with zstd; decompress it first"),
    (1 << 2, "is encrypted; decrypt it first"),
    (1 << 11, "stores its matrices column by column, which is not supported; write it again, row-major"),
];
const SHARDED: u16 = 1 << 4;

/// Counts and places that the header declares, checked against the length of the file.
pub(super) struct AprHeader {
    flags: u16,
    /// Number of entries in the index.
    pub tensors: u64,
    pub metadata: ByteRange,
    /// The index with its padding.
    pub index: ByteRange,
    /// Offset of the payloads.
    pub data_at: u64,
}

/// True for the magic of any version.
pub(super) fn is_magic(magic: &[u8]) -> bool {
    magic == MAGIC || OLDER.iter().any(|older| older == magic)
}

impl AprHeader {
    /// Parses the header of a file of `len` bytes.
    pub(super) fn read(probe: &mut Cursor<'_>, len: u64) -> Result<AprHeader, ParseStop> {
        let raw = probe.clone().take(HEADER.min(len))?;
        check_magic(raw)?;
        let raw = probe.clone().take(HEADER)?;
        let (before, rest) = raw.split_at(40);
        let stored = Cursor::new(rest, 40).u32()?;
        let computed = crc32(&[before, rest.get(4..).unwrap_or_default()]);
        if stored != computed {
            let message = format!(
                "the checksum of the header is {computed:#010x}, the file says {stored:#010x}: it is damaged"
            );
            return Err(Error::new(Code::BadValue, message).at(40).into());
        }
        probe.take(6)?;
        let flags = probe.u16()?;
        check_flags(flags)?;
        let tensors = u64::from(probe.u32()?);
        let metadata = (probe.u64()?, u64::from(probe.u32()?));
        let (index_at, data_at) = (probe.u64()?, probe.u64()?);
        Ok(AprHeader::checked(flags, tensors, metadata, index_at, data_at, len)?)
    }

    /// Checks order and limits of the parts.
    fn checked(
        flags: u16,
        tensors: u64,
        (metadata_at, metadata_len): (u64, u64),
        index_at: u64,
        data_at: u64,
        len: u64,
    ) -> Result<AprHeader> {
        let fail = |code, at, message: String| Err(Error::new(code, message).at(at));
        if tensors > limits::MAX_ENTRIES {
            let message = format!("{tensors} tensors; at most {} are supported", limits::MAX_ENTRIES);
            return fail(Code::TooMany, 8, message);
        }
        if metadata_len > limits::MAX_APR_METADATA {
            let max = limits::MAX_APR_METADATA;
            return fail(
                Code::HeaderTooLarge,
                20,
                format!("{metadata_len} bytes of metadata; at most {max}"),
            );
        }
        let metadata_end = metadata_at.checked_add(metadata_len).filter(|&end| end <= index_at);
        let Some(metadata_end) = metadata_end.filter(|_| metadata_at >= HEADER) else {
            let message =
                format!("the metadata, {metadata_len} bytes at {metadata_at}, overlaps another part");
            return fail(Code::BadValue, 12, message);
        };
        if index_at > data_at {
            let message = format!("the index at {index_at} starts after the payloads at {data_at}");
            return fail(Code::BadValue, 24, message);
        }
        if data_at > len.saturating_sub(TRAILER) {
            let message = format!("the payloads start at {data_at}, and the file has {len} bytes");
            return fail(Code::Truncated, 32, message);
        }
        if data_at > limits::MAX_APR_HEADER {
            let max = limits::MAX_APR_HEADER;
            return fail(Code::HeaderTooLarge, 32, format!("a header of {data_at} bytes; at most {max}"));
        }
        let metadata = ByteRange { start: metadata_at, end: metadata_end };
        Ok(AprHeader {
            flags,
            tensors,
            metadata,
            index: ByteRange { start: index_at, end: data_at },
            data_at,
        })
    }

    /// True if the file is one of several.
    pub(super) fn is_sharded(&self) -> bool {
        self.flags & SHARDED != 0
    }
}

/// Refuses another magic or version.
fn check_magic(raw: &[u8]) -> Result<(), ParseStop> {
    let mut probe = Cursor::new(raw, 0);
    let magic = probe.take(4)?;
    if OLDER.iter().any(|older| older == magic) {
        let message = "an APR file of version 1 is not supported: convert it to version 2 with apr";
        return Err(Error::new(Code::UnknownVersion, message).at(0).into());
    }
    if magic != MAGIC {
        return Err(Error::new(Code::BadMagic, "the file is not APR").at(0).into());
    }
    let (major, minor) = (probe.u8()?, probe.u8()?);
    if major != MAJOR {
        let message = format!("APR version {major}.{minor} is unknown; version 2 is supported");
        return Err(Error::new(Code::UnknownVersion, message).at(4).into());
    }
    Ok(())
}

/// Refuses files whose content is not stored as the index describes it.
fn check_flags(flags: u16) -> Result<()> {
    match REFUSED.iter().find(|(flag, _)| flags & flag != 0) {
        Some((_, what)) => Err(Error::new(Code::UnsupportedContainer, format!("the APR file {what}")).at(6)),
        None => Ok(()),
    }
}
