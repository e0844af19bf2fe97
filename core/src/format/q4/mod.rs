//! Lattice `.q4` and `.f16` files: one tensor each behind a short header, blocks over the flattened tensor.
//!
//! Reads and writes the headers and the file names; knows no blocks. Layout of both kinds, all numbers
//! little-endian: magic, version u32, ndim u32, ndim axes u64 (outermost first), element count u64, payload to the
//! exact end of the file. Spec: the reader in <https://github.com/ohdearquant/lattice>.

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

/// The header of a `.q4` file for a tensor of this shape.
///
/// # Errors
///
/// `too_many_axes`.
pub fn q4_header(shape: &Shape) -> Result<Vec<u8>> {
    header(Q4, shape)
}

/// The header of a `.f16` file for a tensor of this shape.
///
/// # Errors
///
/// `too_many_axes`.
pub fn f16_header(shape: &Shape) -> Result<Vec<u8>> {
    header(F16, shape)
}

fn header(kind: Q4FileKind, shape: &Shape) -> Result<Vec<u8>> {
    let axes = shape.axes();
    if axes.len() as u64 > limits::MAX_AXES {
        let words = format!("{} axes, more than the {} that we read back", axes.len(), limits::MAX_AXES);
        return Err(Error::new(Code::TooManyAxes, words));
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

/// The file name, without extension, of a tensor: what is neither alphanumeric (in any script) nor `-` becomes `_`.
///
/// Two tensors can get the same name; the caller must make them unique.
pub fn file_stem(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// Whether the file starts like one of ours.
pub(crate) fn is_magic(head: &[u8]) -> bool {
    head.starts_with(&Q4.magic) || head.starts_with(&F16.magic)
}

/// Reads the header of a file of `len` bytes; the tensor takes the name of its file until an index says otherwise.
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
        let words = format!("{numel} elements are claimed, the shape makes {}", shape.numel());
        return Err(Error::new(Code::SizeMismatch, words).at(count_at).into());
    }
    let bytes = payload(kind.dtype, numel, probe.offset(), count_at)?;
    check_extent(bytes, len)?;
    *input = probe;
    let name = String::from(stem(file_name));
    let info = TensorInfo { name: name.into(), dtype: kind.dtype, shape, file: 0, bytes };
    Ok(ParseStep::Done(Header::of_tensors(
        Container::LatticeQ4,
        alloc::vec![LocatedTensor { info, at: shape_at }],
    )))
}

fn kind_of(magic: &[u8], at: u64) -> Result<Q4FileKind> {
    let found = [Q4, F16].into_iter().find(|k| k.magic == magic);
    found.ok_or_else(|| Error::new(Code::BadMagic, "neither a .q4 nor a .f16 file of lattice").at(at))
}

fn check_version(probe: &mut Cursor<'_>, kind: Q4FileKind) -> Result<(), ParseStop> {
    let at = probe.offset();
    let version = probe.u32()?;
    if version == kind.version {
        return Ok(());
    }
    let words = match (kind.dtype, version) {
        (DType::LATTICE_Q4, 1) => String::from(
            "version 1 has symmetric 18-byte blocks and is read no more: re-quantize from the source",
        ),
        _ => format!("version {version} is unknown, {} is read", kind.version),
    };
    Err(Error::new(Code::UnknownVersion, words).at(at).into())
}

/// The axes, whose claimed number is held against the file before anything is read.
fn read_axes(probe: &mut Cursor<'_>, len: u64) -> Result<Vec<u64>, ParseStop> {
    let at = probe.offset();
    let ndim = u64::from(probe.u32()?);
    if ndim * 8 > len {
        let words = format!("{ndim} axes do not fit a file of {len} bytes");
        return Err(Error::new(Code::CountTooLarge, words).at(at).into());
    }
    if ndim > limits::MAX_AXES {
        let words = format!("{ndim} axes, at most {} are read", limits::MAX_AXES);
        return Err(Error::new(Code::TooManyAxes, words).at(at).into());
    }
    let raw = probe.take(ndim * 8)?;
    Ok(raw.chunks_exact(8).map(|c| c.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))).collect())
}

/// The range of the payload. Apart from the test against the file's length on purpose: a product that wraps to a
/// small number would pass that one.
fn payload(dtype: DType, numel: u64, start: u64, count_at: u64) -> Result<ByteRange> {
    let range = dtype.bytes_for(numel).and_then(|n| ByteRange::sized(start, n));
    range.ok_or_else(|| overflow("the size of the payload", count_at))
}

fn check_extent(bytes: ByteRange, len: u64) -> Result<()> {
    if bytes.end > len {
        let words = format!("the payload ends {} bytes short", bytes.end - len);
        return Err(Error::new(Code::Truncated, words).at(len));
    }
    if bytes.end < len {
        let words = format!("{} bytes follow the payload", len - bytes.end);
        return Err(Error::new(Code::TrailingBytes, words).at(bytes.end));
    }
    Ok(())
}

fn overflow(what: &str, at: u64) -> Error {
    Error::new(Code::Overflow, format!("{what} does not fit 64 bits")).at(at)
}

/// The name of a file without directory and extension.
pub(crate) fn stem(file_name: &str) -> &str {
    let base = file_name.rsplit('/').next().unwrap_or(file_name);
    base.rsplit_once('.').map_or(base, |(stem, _)| stem)
}
