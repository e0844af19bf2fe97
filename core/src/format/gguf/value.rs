//! GGUF value types: type numbers, sizes, and reading one value from a cursor. Knows no keys.

use super::super::header_buffer::ParseStop;
use super::super::limits;
use crate::bytes::Cursor;
use crate::error::{Code, Error, Result};
use crate::tensor::MetaValue;
use alloc::format;

/// Type numbers of the specification (`gguf_metadata_value_type`).
pub(crate) mod types {
    pub(crate) const U8: u32 = 0;
    pub(crate) const I8: u32 = 1;
    pub(crate) const U16: u32 = 2;
    pub(crate) const I16: u32 = 3;
    pub(crate) const U32: u32 = 4;
    pub(crate) const I32: u32 = 5;
    pub(crate) const F32: u32 = 6;
    pub(crate) const BOOL: u32 = 7;
    pub(crate) const STRING: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
    pub(crate) const U64: u32 = 10;
    pub(crate) const I64: u32 = 11;
    pub(crate) const F64: u32 = 12;
}

/// Smallest size of a value in bytes: all of a number, the length of a string, type and length of an array.
///
/// Returns `None` for unknown types.
pub(crate) fn min_size(kind: u32) -> Option<u64> {
    use types::{ARRAY, BOOL, F32, F64, I8, I16, I32, I64, STRING, U8, U16, U32, U64};
    match kind {
        U8 | I8 | BOOL => Some(1),
        U16 | I16 => Some(2),
        U32 | I32 | F32 => Some(4),
        U64 | I64 | F64 | STRING => Some(8),
        ARRAY => Some(12),
        _ => None,
    }
}

/// Reads a type number.
///
/// # Errors
///
/// [`Code::UnknownDtype`] for unknown types.
pub(crate) fn kind(cursor: &mut Cursor<'_>) -> Result<u32, ParseStop> {
    let at = cursor.offset();
    let kind = cursor.u32()?;
    if min_size(kind).is_none() {
        let message = format!("unknown value type {kind}; the highest is {}", types::F64);
        return Err(Error::new(Code::UnknownDtype, message).at(at).into());
    }
    Ok(kind)
}

/// Reads a value that is neither string nor array.
///
/// # Errors
///
/// [`Code::BadValue`] for a boolean other than 0 and 1.
pub(crate) fn number(cursor: &mut Cursor<'_>, kind: u32) -> Result<MetaValue, ParseStop> {
    Ok(match kind {
        types::U8 => MetaValue::U8(cursor.u8()?),
        types::I8 => MetaValue::I8(cursor.i8()?),
        types::U16 => MetaValue::U16(cursor.u16()?),
        types::I16 => MetaValue::I16(cursor.i16()?),
        types::U32 => MetaValue::U32(cursor.u32()?),
        types::I32 => MetaValue::I32(cursor.i32()?),
        types::U64 => MetaValue::U64(cursor.u64()?),
        types::I64 => MetaValue::I64(cursor.i64()?),
        types::F32 => MetaValue::F32(cursor.f32()?),
        types::F64 => MetaValue::F64(cursor.f64()?),
        _ => {
            let at = cursor.offset();
            let byte = cursor.u8()?;
            check_bool(&[byte], at)?;
            MetaValue::Bool(byte == 1)
        }
    })
}

/// Refuses booleans other than 0 and 1.
pub(crate) fn check_bool(bytes: &[u8], at: u64) -> Result<(), ParseStop> {
    match bytes.iter().enumerate().find(|&(_, &b)| b > 1) {
        Some((i, b)) => {
            let at = at.saturating_add(i as u64);
            Err(Error::new(Code::BadValue, format!("a boolean must be 0 or 1, not {b}")).at(at).into())
        }
        None => Ok(()),
    }
}

/// Reads a string of at most `limit` bytes from a file of `len` bytes.
///
/// # Errors
///
/// Those of [`string_bytes`], and [`Code::BadUtf8`].
pub(crate) fn string<'a>(cursor: &mut Cursor<'a>, len: u64, limit: u64) -> Result<&'a str, ParseStop> {
    let bytes = string_bytes(cursor, len, limit)?;
    let start = cursor.offset().saturating_sub(bytes.len() as u64);
    core::str::from_utf8(bytes).map_err(|e| {
        let at = start.saturating_add(e.valid_up_to() as u64);
        Error::new(Code::BadUtf8, "a string is not UTF-8").at(at).into()
    })
}

/// Reads the bytes of a string of at most `limit` bytes from a file of `len` bytes. The length is checked
/// before the bytes are read.
///
/// # Errors
///
/// [`Code::StringTooLong`], [`Code::CountTooLarge`], [`Code::HeaderTooLarge`].
pub(crate) fn string_bytes<'a>(cursor: &mut Cursor<'a>, len: u64, limit: u64) -> Result<&'a [u8], ParseStop> {
    let at = cursor.offset();
    let n = cursor.u64()?;
    if n > limit {
        let message = format!("a string of {n} bytes; at most {limit} are allowed here");
        return Err(Error::new(Code::StringTooLong, message).at(at).into());
    }
    check_room(cursor, len, n).map_err(|e| e.at(at))?;
    Ok(cursor.take(n)?)
}

/// Reads the element type and length of an array in a file of `len` bytes.
///
/// # Errors
///
/// [`Code::UnknownDtype`], [`Code::TooMany`], [`Code::CountTooLarge`], [`Code::HeaderTooLarge`].
pub(crate) fn array_head(cursor: &mut Cursor<'_>, len: u64) -> Result<(u32, u64), ParseStop> {
    let element = kind(cursor)?;
    let at = cursor.offset();
    let n = cursor.u64()?;
    if n > limits::MAX_GGUF_ARRAY {
        let message = format!("an array of {n} elements; at most {} are supported", limits::MAX_GGUF_ARRAY);
        return Err(Error::new(Code::TooMany, message).at(at).into());
    }
    // At most 2^30 * 12: no overflow.
    check_room(cursor, len, n * min_size(element).unwrap_or(1)).map_err(|e| e.at(at))?;
    Ok((element, n))
}

/// Checks that at least `n` more bytes fit into the file of `len` bytes and into the largest header.
///
/// All other items have a fixed size and a limited count, so this bounds the whole header.
fn check_room(cursor: &Cursor<'_>, len: u64, n: u64) -> Result<()> {
    let left = len.saturating_sub(cursor.offset());
    if n > left {
        let message = format!("at least {n} bytes are declared, but the file has only {left} left");
        return Err(Error::new(Code::CountTooLarge, message));
    }
    if n > limits::MAX_GGUF_HEADER.saturating_sub(cursor.offset()) {
        let message =
            format!("the header exceeds {} bytes, the limit of the parser", limits::MAX_GGUF_HEADER);
        return Err(Error::new(Code::HeaderTooLarge, message));
    }
    Ok(())
}
