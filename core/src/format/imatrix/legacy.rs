//! The legacy importance matrix file (`.dat`).
//!
//! Layout, little-endian: i32 number of tensors; for each tensor i32 name length, name, i32 number of calls,
//! i32 number of sums, the sums as F32; then optionally i32 number of chunks, i32 length and name of the
//! calibration text.

use super::super::header_buffer::ParseStop;
use super::super::{Warning, limits};
use super::{ImatrixEntry, ImatrixTensors, check_sums};
use crate::bytes::Cursor;
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::string::{String, ToString};

/// Smallest size of a tensor in bytes: name length, calls, number of sums, one sum.
const LEAST: u64 = 16;

/// The item that comes next.
enum NextLegacyItem {
    Head,
    Tensor,
    /// Sums of the last tensor, and how many are left.
    Sums(String, u64),
    Tail,
    Rest,
}

/// State of the parser. Items are consumed whole.
pub(super) struct LegacyReader {
    len: u64,
    next: NextLegacyItem,
    tensors: u64,
}

impl LegacyReader {
    /// Creates a parser for a file of `len` bytes.
    pub(super) fn new(len: u64) -> LegacyReader {
        LegacyReader { len, next: NextLegacyItem::Head, tensors: 0 }
    }

    /// Parses the input up to the end of the file.
    ///
    /// # Errors
    ///
    /// [`Code::BadMagic`], [`Code::CountTooLarge`], [`Code::DuplicateName`], [`Code::StringTooLong`],
    /// [`Code::BadUtf8`], [`Code::BadValue`].
    pub(super) fn step(
        &mut self,
        input: &mut Cursor<'_>,
        found: &mut ImatrixTensors,
    ) -> Result<(), ParseStop> {
        while !(matches!(self.next, NextLegacyItem::Rest) && input.offset() >= self.len) {
            let mut probe = input.clone();
            self.item(&mut probe, found)?;
            *input = probe;
        }
        Ok(())
    }

    /// Reads one item.
    fn item(&mut self, cursor: &mut Cursor<'_>, found: &mut ImatrixTensors) -> Result<(), ParseStop> {
        match &mut self.next {
            NextLegacyItem::Head => self.head(cursor)?,
            NextLegacyItem::Tensor => self.tensor(cursor, found)?,
            NextLegacyItem::Sums(name, left) => {
                let n = (cursor.remaining() / 4).clamp(1, *left);
                let at = cursor.offset();
                let bytes = cursor.take(n * 4)?;
                check_sums(bytes, at).map_err(|e| e.of_tensor(name))?;
                if let Some(entry) = found.entries.get_mut(name.as_str()) {
                    entry.look(entry.values - *left, bytes);
                }
                *left -= n;
            }
            NextLegacyItem::Tail => self.tail(cursor, found)?,
            NextLegacyItem::Rest => {
                cursor.take(cursor.remaining().max(1))?;
            }
        }
        if matches!(self.next, NextLegacyItem::Sums(_, 0)) {
            self.next = NextLegacyItem::Tensor;
        }
        if matches!(self.next, NextLegacyItem::Tensor) && self.tensors == 0 {
            self.next = NextLegacyItem::Tail;
        }
        // The items after the tensors are optional.
        if matches!(self.next, NextLegacyItem::Tail) && self.left(cursor) == 0 {
            self.next = NextLegacyItem::Rest;
        }
        Ok(())
    }

    /// Bytes between cursor and end of the file.
    fn left(&self, cursor: &Cursor<'_>) -> u64 {
        self.len.saturating_sub(cursor.offset())
    }

    /// Reads the number of tensors. The format has no magic number, so this and the length of the first name
    /// must be plausible.
    fn head(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ParseStop> {
        let n = u64::from(cursor.u32()?);
        let name = u64::from(cursor.clone().u32()?);
        let likely = (1..=limits::MAX_ENTRIES).contains(&n) && (1..=limits::MAX_IMATRIX_NAME).contains(&name);
        if !likely || n > self.left(cursor) / LEAST {
            let message = "the file is neither GGUF nor a legacy importance matrix (.dat)";
            return Err(Error::new(Code::BadMagic, message).at(0).into());
        }
        self.tensors = n;
        self.next = NextLegacyItem::Tensor;
        Ok(())
    }

    /// Reads name, calls and number of sums of a tensor.
    fn tensor(&mut self, cursor: &mut Cursor<'_>, found: &mut ImatrixTensors) -> Result<(), ParseStop> {
        let at = cursor.offset();
        let name = text(cursor, "name")?;
        let calls = cursor.i32()?;
        let values_at = cursor.offset();
        let values = u64::from(cursor.u32()?);
        if values == 0 || values > self.left(cursor) / 4 {
            let message = format!(
                "{values} sums do not fit into the remaining {} bytes of the file",
                self.left(cursor)
            );
            return Err(Error::new(Code::CountTooLarge, message).at(values_at).of_tensor(&name).into());
        }
        // Without calls the sums are used undivided.
        let counts = alloc::vec![if calls > 0 { calls as f32 } else { 1.0 }];
        let entry = ImatrixEntry { at: cursor.offset(), values, counts, above_zero: alloc::vec![false] };
        if found.entries.insert(name.clone(), entry).is_some() {
            return Err(Error::new(Code::DuplicateName, "duplicate tensor name")
                .at(at)
                .of_tensor(&name)
                .into());
        }
        self.tensors -= 1;
        self.next = NextLegacyItem::Sums(name, values);
        Ok(())
    }

    /// Reads the number of chunks and the name of the text.
    fn tail(&mut self, cursor: &mut Cursor<'_>, found: &mut ImatrixTensors) -> Result<(), ParseStop> {
        let chunks = cursor.i32()?;
        found.chunks = u64::try_from(chunks).ok().filter(|&n| n > 0);
        if self.left(cursor) > 0 {
            found.datasets.push(text(cursor, "text name")?);
        }
        let left = self.left(cursor);
        if left > 0 {
            let message = format!("{left} bytes follow the end of the importance matrix");
            found.warnings.push(Warning { code: "trailing_bytes", message });
        }
        self.next = NextLegacyItem::Rest;
        Ok(())
    }
}

/// Reads a string with a 32-bit length.
fn text(cursor: &mut Cursor<'_>, what: &str) -> Result<String, ParseStop> {
    let at = cursor.offset();
    let n = u64::from(cursor.u32()?);
    if n == 0 || n > limits::MAX_IMATRIX_NAME {
        let message = format!("a {what} of {n} bytes; 1 to {} are allowed", limits::MAX_IMATRIX_NAME);
        return Err(Error::new(Code::StringTooLong, message).at(at).into());
    }
    let start = cursor.offset();
    core::str::from_utf8(cursor.take(n)?).map(str::to_string).map_err(|e| {
        let at = start.saturating_add(e.valid_up_to() as u64);
        Error::new(Code::BadUtf8, format!("a {what} is not UTF-8")).at(at).into()
    })
}
