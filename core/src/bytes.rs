//! Byte ranges of files and a bounds-checked little-endian cursor. Knows no file format.

use crate::error::{Code, Error, Result};
use alloc::format;
use serde::Serialize;

/// A half-open range of bytes of a file, with `start <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub start: u64,
    /// Offset after the last byte.
    pub end: u64,
}

impl ByteRange {
    /// Returns `start..start + len`, or `None` if the sum overflows 64 bits.
    pub fn sized(start: u64, len: u64) -> Option<ByteRange> {
        Some(ByteRange { start, end: start.checked_add(len)? })
    }

    /// Length in bytes.
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// True if the range has no bytes.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Returns the smallest multiple of `align` that is at least `n`, or `None` on overflow.
///
/// `align` must be a power of two.
pub fn align_up(n: u64, align: u64) -> Option<u64> {
    Some(n.checked_add(align.checked_sub(1)?)? & !(align - 1))
}

/// Reads little-endian values from a slice and tracks the file offset of the next byte.
///
/// ```
/// use quantoscope_core::bytes::{Cursor, Short};
///
/// let mut cursor = Cursor::new(&[2, 0, 7], 100);
/// assert_eq!(cursor.u16(), Ok(2));
/// assert_eq!(cursor.u32(), Err(Short { offset: 102, need: 3 }));
/// assert_eq!(cursor.u8(), Ok(7));
/// ```
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    /// All bytes, the consumed ones included.
    data: &'a [u8],
    /// Bytes consumed.
    pos: usize,
    /// File offset of `data[0]`.
    base: u64,
}

/// The slice ends too early: `need` more bytes are required.
///
/// A resumable parser answers it by requesting more bytes; at the end of a file it becomes
/// [`Code::Truncated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// File offset at which the incomplete value starts.
    pub offset: u64,
    /// Bytes missing after the end of the slice.
    pub need: u64,
}

impl From<Short> for Error {
    fn from(s: Short) -> Error {
        Error::new(Code::Truncated, format!("the data ends {} bytes too early", s.need)).at(s.offset)
    }
}

macro_rules! numbers {
    ($($name:ident: $t:ty, $n:literal;)*) => {$(
        #[doc = concat!("Reads a little-endian `", stringify!($t), "`.")]
        ///
        /// # Errors
        ///
        /// [`Short`] if fewer bytes are left; the cursor does not move.
        pub fn $name(&mut self) -> Result<$t, Short> {
            let mut raw = [0; $n];
            raw.copy_from_slice(self.take($n)?);
            Ok(<$t>::from_le_bytes(raw))
        }
    )*};
}

impl<'a> Cursor<'a> {
    /// Creates a cursor at the start of `data`, whose first byte is at file offset `base`.
    pub fn new(data: &'a [u8], base: u64) -> Cursor<'a> {
        Cursor { data, pos: 0, base }
    }

    /// File offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.base.saturating_add(self.pos as u64)
    }

    /// Number of bytes consumed since the cursor was created.
    pub fn consumed(&self) -> usize {
        self.pos
    }

    /// Number of bytes left in the slice.
    pub fn remaining(&self) -> u64 {
        (self.data.len() - self.pos) as u64
    }

    /// Consumes the next `n` bytes and returns them.
    ///
    /// # Errors
    ///
    /// [`Short`] if fewer than `n` bytes are left; the cursor does not move.
    pub fn take(&mut self, n: u64) -> Result<&'a [u8], Short> {
        let taken = usize::try_from(n).ok().and_then(|n| self.data.get(self.pos..)?.get(..n));
        let short = || Short { offset: self.offset(), need: n.saturating_sub(self.remaining()) };
        let out = taken.ok_or_else(short)?;
        self.pos += out.len();
        Ok(out)
    }

    numbers! {
        u8: u8, 1; i8: i8, 1; u16: u16, 2; i16: i16, 2; u32: u32, 4; i32: i32, 4;
        u64: u64, 8; i64: i64, 8; f32: f32, 4; f64: f64, 8;
    }
}
