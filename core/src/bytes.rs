//! Ranges of files and a checked little-endian cursor. Knows nothing of any format.

use crate::error::{Code, Error, Result};
use alloc::format;
use serde::Serialize;

/// A half-open range of bytes of a file, `start <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl ByteRange {
    /// The range `start..start + len`, or `None` where the sum does not fit.
    pub fn sized(start: u64, len: u64) -> Option<ByteRange> {
        Some(ByteRange { start, end: start.checked_add(len)? })
    }

    /// Number of bytes.
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range holds no byte.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The least multiple of `align` (a power of two) at or above `n`.
pub fn align_up(n: u64, align: u64) -> Option<u64> {
    Some(n.checked_add(align.checked_sub(1)?)? & !(align - 1))
}

/// Reads little-endian values from a slice that lies at `base` in its file.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    data: &'a [u8],
    pos: usize,
    base: u64,
}

/// The slice ended: `need` more bytes were wanted at file offset `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// File offset of the first byte that was wanted.
    pub offset: u64,
    /// Bytes that were wanted beyond the end of the slice.
    pub need: u64,
}

impl From<Short> for Error {
    fn from(s: Short) -> Error {
        Error::new(Code::Truncated, format!("the data ends {} bytes short", s.need)).at(s.offset)
    }
}

macro_rules! numbers {
    ($($name:ident: $t:ty, $n:literal;)*) => {$(
        #[doc = concat!("Reads a little-endian `", stringify!($t), "`.")]
        pub fn $name(&mut self) -> Result<$t, Short> {
            let mut raw = [0; $n];
            raw.copy_from_slice(self.take($n)?);
            Ok(<$t>::from_le_bytes(raw))
        }
    )*};
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `data`, which lies at file offset `base`.
    pub fn new(data: &'a [u8], base: u64) -> Cursor<'a> {
        Cursor { data, pos: 0, base }
    }

    /// File offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.base.saturating_add(self.pos as u64)
    }

    /// Bytes taken so far.
    pub fn consumed(&self) -> usize {
        self.pos
    }

    /// Bytes left in the slice.
    pub fn remaining(&self) -> u64 {
        (self.data.len() - self.pos) as u64
    }

    /// Takes the next `n` bytes.
    pub fn take(&mut self, n: u64) -> Result<&'a [u8], Short> {
        let left = self.remaining();
        if n > left {
            return Err(Short { offset: self.offset(), need: n - left });
        }
        let end = self.pos + n as usize;
        let out = &self.data[self.pos..end];
        self.pos = end;
        Ok(out)
    }

    numbers! {
        u8: u8, 1; i8: i8, 1; u16: u16, 2; i16: i16, 2; u32: u32, 4; i32: i32, 4;
        u64: u64, 8; i64: i64, 8; f32: f32, 4; f64: f64, 8;
    }
}
