//! Lattice `.q4` and `.f16` files: one tensor each behind a short header, blocks over the flattened tensor.
//!
//! | bytes | content |
//! |---|---|
//! | 0..4 | magic: `KHQ4` (`.q4`) or `KHF1` (`.f16`) |
//! | 4..8 | version u32: 2 (`.q4`) or 1 (`.f16`) |
//! | 8..12 | number of axes `n`, u32 |
//! | 12..12 + 8n | axis lengths u64, outermost first |
//! | then 8 | number of elements u64 |
//! | to the end | payload: lattice blocks, or binary16 values |
//!
//! Numbers are little-endian. Reads and writes headers and file names; the block layout belongs to
//! [`crate::quant`]. Source: the reader in <https://github.com/ohdearquant/lattice>.

mod index;

pub(crate) use index::{Q4Index, is_likely, parse};
pub use index::{Q4IndexEntry, index_json, index_json_by};

use super::header_buffer::{Header, LocatedTensor, ParseStep, ParseStop};
use super::{Container, limits};
use crate::bytes::{ByteRange, Cursor};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::tensor::{Shape, TensorInfo};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// One of the two kinds of file.
#[derive(Clone, Copy)]
struct Q4FileKind {
    magic: [u8; 4],
    version: u32,
    dtype: DType,
}

const Q4: Q4FileKind = Q4FileKind { magic: *b"KHQ4", version: 2, dtype: DType::LATTICE_Q4 };
const F16: Q4FileKind = Q4FileKind { magic: *b"KHF1", version: 1, dtype: DType::F16 };

/// Header of a `.q4` file with a tensor of this shape.
///
/// # Errors
///
/// [`Code::TooManyAxes`] for more than [`limits::MAX_AXES`] axes.
pub fn q4_header(shape: &Shape) -> Result<Vec<u8>> {
    header(Q4, shape)
}

/// Header of a `.f16` file with a tensor of this shape.
///
/// # Errors
///
/// [`Code::TooManyAxes`] for more than [`limits::MAX_AXES`] axes.
pub fn f16_header(shape: &Shape) -> Result<Vec<u8>> {
    header(F16, shape)
}

fn header(kind: Q4FileKind, shape: &Shape) -> Result<Vec<u8>> {
    let axes = shape.axes();
    if axes.len() as u64 > limits::MAX_AXES {
        let message = format!("{} axes; at most {} are supported", axes.len(), limits::MAX_AXES);
        return Err(Error::new(Code::TooManyAxes, message));
    }
    let mut out = Vec::with_capacity(20 + 8 * axes.len());
    out.extend_from_slice(&kind.magic);
    out.extend_from_slice(&kind.version.to_le_bytes());
    out.extend_from_slice(&(axes.len() as u32).to_le_bytes());
    for n in axes.iter().copied().chain([shape.numel()]) {
        out.extend_from_slice(&n.to_le_bytes());
    }
    Ok(out)
}

/// File name of a tensor, without extension: characters that are neither alphanumeric (in any script) nor `-`
/// become `_`.
///
/// Different tensors can get the same name; callers must check.
pub fn file_stem(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// True if the file starts with the magic of `.q4` or `.f16`.
pub(crate) fn is_magic(head: &[u8]) -> bool {
    head.starts_with(&Q4.magic) || head.starts_with(&F16.magic)
}

/// Parses the header of a file of `len` bytes. The tensor has the name of its file until an index renames it.
///
/// # Errors
///
/// [`Code::BadMagic`], [`Code::UnknownVersion`], [`Code::CountTooLarge`], [`Code::TooManyAxes`],
/// [`Code::Overflow`], [`Code::SizeMismatch`], [`Code::Truncated`], [`Code::TrailingBytes`].
pub(crate) fn read(input: &mut Cursor<'_>, len: u64, file_name: &str) -> Result<ParseStep, ParseStop> {
    let mut probe = input.clone();
    let magic_at = probe.offset();
    let kind = kind_of(probe.take(4)?, magic_at)?;
    check_version(&mut probe, kind)?;
    let shape_at = magic_at + 12;
    let axes = read_axes(&mut probe, len)?;
    let count_at = probe.offset();
    let numel = probe.u64()?;
    let shape = Shape::new(axes).ok_or_else(|| overflow("the product of the axes", shape_at))?;
    if shape.numel() != numel {
        let message = format!("the header declares {numel} elements, but the shape has {}", shape.numel());
        return Err(Error::new(Code::SizeMismatch, message).at(count_at).into());
    }
    let bytes = payload(kind.dtype, numel, probe.offset(), count_at)?;
    check_extent(bytes, len)?;
    *input = probe;
    let name = String::from(stem(file_name));
    let info = TensorInfo { name: name.into(), dtype: kind.dtype, shape, file: 0, bytes, packed: None };
    Ok(ParseStep::Done(Header::of_tensors(
        Container::LatticeQ4,
        alloc::vec![LocatedTensor { info, at: shape_at }],
    )))
}

/// Kind of file by its magic.
fn kind_of(magic: &[u8], at: u64) -> Result<Q4FileKind> {
    let found = [Q4, F16].into_iter().find(|k| k.magic == magic);
    found.ok_or_else(|| {
        Error::new(Code::BadMagic, "the file is neither a .q4 nor a .f16 file of lattice").at(at)
    })
}

/// Refuses other versions than the current one.
fn check_version(probe: &mut Cursor<'_>, kind: Q4FileKind) -> Result<(), ParseStop> {
    let at = probe.offset();
    let version = probe.u32()?;
    if version == kind.version {
        return Ok(());
    }
    let message = match (kind.dtype, version) {
        (DType::LATTICE_Q4, 1) => String::from(
            ".q4 version 1 (symmetric 18-byte blocks) is not supported: quantize the source model again",
        ),
        _ => format!("version {version} is unknown; version {} is supported", kind.version),
    };
    Err(Error::new(Code::UnknownVersion, message).at(at).into())
}

/// Reads the axes. Their number is checked against the file first.
fn read_axes(probe: &mut Cursor<'_>, len: u64) -> Result<Vec<u64>, ParseStop> {
    let at = probe.offset();
    let ndim = u64::from(probe.u32()?);
    if ndim * 8 > len {
        let message = format!("{ndim} axes do not fit into a file of {len} bytes");
        return Err(Error::new(Code::CountTooLarge, message).at(at).into());
    }
    if ndim > limits::MAX_AXES {
        let message = format!("{ndim} axes; at most {} are supported", limits::MAX_AXES);
        return Err(Error::new(Code::TooManyAxes, message).at(at).into());
    }
    let raw = probe.take(ndim * 8)?;
    Ok(raw.chunks_exact(8).map(|c| c.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))).collect())
}

/// Byte range of the payload. Separate from the check against the file length, which a product that wraps
/// around could pass.
fn payload(dtype: DType, numel: u64, start: u64, count_at: u64) -> Result<ByteRange> {
    let range = dtype.bytes_for(numel).and_then(|n| ByteRange::sized(start, n));
    range.ok_or_else(|| overflow("the size of the payload", count_at))
}

/// Refuses a payload that does not end with the file.
fn check_extent(bytes: ByteRange, len: u64) -> Result<()> {
    if bytes.end > len {
        let message = format!("the payload ends {} bytes too early", bytes.end - len);
        return Err(Error::new(Code::Truncated, message).at(len));
    }
    if bytes.end < len {
        let message = format!("{} bytes follow the payload", len - bytes.end);
        return Err(Error::new(Code::TrailingBytes, message).at(bytes.end));
    }
    Ok(())
}

/// Error of a size beyond 64 bits.
fn overflow(what: &str, at: u64) -> Error {
    Error::new(Code::Overflow, format!("{what} overflows 64 bits")).at(at)
}

/// File name without directory and extension.
pub(crate) fn stem(file_name: &str) -> &str {
    let base = file_name.rsplit('/').next().unwrap_or(file_name);
    base.rsplit_once('.').map_or(base, |(stem, _)| stem)
}
