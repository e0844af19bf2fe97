//! The GGUF header parser. It can resume after every item, so a header of any size is parsed in small reads.

use super::super::header_buffer::{Header, LocatedTensor, ParseStep, ParseStop};
use super::super::json::first_repeated;
use super::super::{Container, UnknownType, Warning, limits};
use super::value::{self, types};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC};
use crate::bytes::{ByteRange, Cursor, align_up};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::tensor::{MetaArray, MetaValue, Metadata, Shape, TensorInfo};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Smallest size of a key-value in bytes: key length, one byte of key, type, one byte of value.
const MIN_KEY_VALUE: u64 = 8 + 1 + 4 + 1;
/// Smallest size of a tensor description in bytes: name length, axis count, type, offset.
const MIN_TENSOR: u64 = 8 + 4 + 4 + 8;

/// The item that comes next.
enum NextItem {
    Head,
    KeyValue,
    /// Elements of an array; the innermost array is last.
    Elements(Vec<ArrayLevel>),
    Tensor,
}

/// An array that is being read.
struct ArrayLevel {
    /// GGUF type number of the elements.
    element: u32,
    /// Elements that are not read yet.
    remaining: u64,
}

/// Type, shape and size of a tensor.
struct Description {
    dtype: DType,
    /// ggml's number of the type.
    id: u32,
    shape: Shape,
    /// Size in bytes; 0 for an unknown type.
    size: u64,
}

/// State of the parser. Items are consumed whole and parsed once.
pub(crate) struct GgufReader {
    /// Length of the file in bytes.
    len: u64,
    next: NextItem,
    version: u32,
    /// Key-values that are not read yet.
    key_values: u64,
    /// Tensor descriptions that are not read yet.
    tensors: u64,
    keys: BTreeSet<String>,
    metadata: Metadata,
    metadata_at: Vec<u64>,
    alignment: u64,
    /// Tensors described so far; their byte ranges are relative to the data.
    described: Vec<LocatedTensor>,
    /// Offset at which the next tensor must start, relative to the data.
    data_end: u64,
    /// True if the last tensor has an unknown type, so that it ends where the next one starts.
    open_end: bool,
    unknown_types: Vec<UnknownType>,
}

impl GgufReader {
    /// Creates a parser for a file of `len` bytes.
    pub(crate) fn new(len: u64) -> GgufReader {
        GgufReader {
            len,
            next: NextItem::Head,
            version: 0,
            key_values: 0,
            tensors: 0,
            keys: BTreeSet::new(),
            metadata: Metadata::default(),
            metadata_at: Vec::new(),
            alignment: DEFAULT_ALIGNMENT,
            described: Vec::new(),
            data_end: 0,
            open_end: false,
            unknown_types: Vec::new(),
        }
    }

    /// Consumes as many items as the input holds.
    ///
    /// # Errors
    ///
    /// - [`Code::BadMagic`], [`Code::UnknownVersion`] for the start of the file.
    /// - [`Code::CountTooLarge`], [`Code::TooMany`], [`Code::StringTooLong`], [`Code::TooDeep`],
    ///   [`Code::HeaderTooLarge`] for sizes.
    /// - [`Code::BadName`], [`Code::DuplicateName`], [`Code::BadUtf8`], [`Code::BadValue`],
    ///   [`Code::UnknownDtype`], [`Code::BadAlignment`] for key-values.
    /// - [`Code::TooManyAxes`], [`Code::Overflow`], [`Code::SizeMismatch`], [`Code::Hole`],
    ///   [`Code::Overlap`], [`Code::OutOfBounds`] for tensors.
    pub(crate) fn step(&mut self, input: &mut Cursor<'_>) -> Result<ParseStep, ParseStop> {
        while !self.is_complete() {
            let mut probe = input.clone();
            self.item(&mut probe)?;
            *input = probe;
        }
        Ok(ParseStep::Done(self.finish(input.offset())?))
    }

    /// True if all descriptions are read.
    fn is_complete(&self) -> bool {
        matches!(self.next, NextItem::Tensor) && self.tensors == 0
    }

    /// Reads one item; the caller restores the cursor if it is incomplete.
    fn item(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ParseStop> {
        match &self.next {
            NextItem::Head => self.head(cursor)?,
            NextItem::KeyValue => self.key_value(cursor)?,
            NextItem::Elements(_) => self.elements(cursor)?,
            NextItem::Tensor => self.tensor(cursor)?,
        }
        self.advance();
        Ok(())
    }

    /// Selects the next item after one was read.
    fn advance(&mut self) {
        if let NextItem::Elements(levels) = &mut self.next {
            while levels.last().is_some_and(|l| l.remaining == 0) {
                levels.pop();
            }
            if levels.is_empty() {
                self.next = NextItem::KeyValue;
            }
        }
        if matches!(self.next, NextItem::KeyValue) && self.key_values == 0 {
            self.next = NextItem::Tensor;
        }
    }

    /// Reads magic, version and counts.
    fn head(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ParseStop> {
        let at = cursor.offset();
        if cursor.take(4)? != MAGIC {
            return Err(Error::new(Code::BadMagic, "not a GGUF file").at(at).into());
        }
        let at = cursor.offset();
        let version = cursor.u32()?;
        check_version(version).map_err(|e| e.at(at))?;
        let tensors_at = cursor.offset();
        let tensors = cursor.u64()?;
        let left = self.len.saturating_sub(cursor.offset()).saturating_sub(8);
        check_count("tensors", tensors, MIN_TENSOR, left).map_err(|e| e.at(tensors_at))?;
        let key_values_at = cursor.offset();
        let key_values = cursor.u64()?;
        let left = left - tensors * MIN_TENSOR;
        check_count("key-values", key_values, MIN_KEY_VALUE, left).map_err(|e| e.at(key_values_at))?;
        (self.version, self.tensors, self.key_values) = (version, tensors, key_values);
        self.next = NextItem::KeyValue;
        Ok(())
    }

    /// Reads a key-value; of an array only its type and length.
    fn key_value(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ParseStop> {
        let key_at = cursor.offset();
        let key = value::string(cursor, self.len, limits::MAX_GGUF_KEY)?;
        if key.is_empty() {
            return Err(Error::new(Code::BadName, "a metadata key is empty").at(key_at).into());
        }
        if self.keys.contains(key) {
            let message = format!("duplicate key {key:?}");
            return Err(Error::new(Code::DuplicateName, message).at(key_at).into());
        }
        let kind_at = cursor.offset();
        let kind = value::kind(cursor)?;
        let value_at = cursor.offset();
        let mut next = NextItem::KeyValue;
        let value = match kind {
            types::STRING => {
                MetaValue::of_bytes(value::string_bytes(cursor, self.len, limits::MAX_GGUF_STRING)?)
            }
            types::ARRAY => {
                let (element, left) = value::array_head(cursor, self.len)?;
                next = NextItem::Elements(alloc::vec![ArrayLevel { element, remaining: left }]);
                MetaValue::Array(MetaArray { element, len: left, raw: Vec::new() })
            }
            kind => value::number(cursor, kind)?,
        };
        if key == ALIGNMENT_KEY {
            self.alignment = alignment(&value).map_err(|e| e.at(kind_at))?;
        }
        self.keys.insert(key.to_string());
        self.metadata.0.push((key.to_string(), value));
        self.metadata_at.push(value_at);
        self.key_values -= 1;
        self.next = next;
        Ok(())
    }

    /// Reads elements of the innermost array: all numbers in the input, or one string, or the header of a
    /// nested array.
    fn elements(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ParseStop> {
        let NextItem::Elements(levels) = &mut self.next else { return Ok(()) };
        let depth = levels.len();
        let Some(level) = levels.last_mut().filter(|l| l.remaining > 0) else { return Ok(()) };
        let start = cursor.clone();
        let mut inner = None;
        let taken = match level.element {
            types::STRING => {
                value::string_bytes(cursor, self.len, limits::MAX_GGUF_STRING)?;
                1
            }
            types::ARRAY => {
                let at = cursor.offset();
                let (element, left) = value::array_head(cursor, self.len)?;
                if depth >= limits::MAX_ARRAY_DEPTH {
                    let message = format!("arrays nested more than {} deep", limits::MAX_ARRAY_DEPTH);
                    return Err(Error::new(Code::TooDeep, message).at(at).into());
                }
                inner = Some(ArrayLevel { element, remaining: left });
                1
            }
            kind => numbers(cursor, kind, level.remaining)?,
        };
        level.remaining -= taken;
        levels.extend(inner);
        let used = cursor.consumed() - start.consumed();
        if let Some((_, MetaValue::Array(array))) = self.metadata.0.last_mut() {
            array.raw.extend_from_slice(start.clone().take(used as u64)?);
        }
        Ok(())
    }

    /// Reads a tensor description.
    fn tensor(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ParseStop> {
        let name = value::string(cursor, self.len, limits::MAX_GGUF_NAME)?;
        let named = |stop| match stop {
            ParseStop::Bad(e) => ParseStop::Bad(e.of_tensor(name)),
            short => short,
        };
        let Description { dtype, id, shape, size } = self.description(cursor).map_err(named)?;
        let at = cursor.offset();
        let offset = cursor.u64()?;
        let closed = self.open_end && offset > self.data_end;
        let start = if closed { offset } else { self.data_end };
        let end = self.place(start, offset, size).map_err(|e| named(e.at(at).into()))?;
        if let Some(last) = self.described.last_mut().filter(|_| closed) {
            last.info.bytes.end = offset;
        }
        self.open_end = dtype == DType::UNKNOWN;
        if self.open_end {
            self.unknown_types.push(UnknownType { tensor: name.into(), id });
        }
        // Relative to the data, whose start is known after the last description.
        let bytes = ByteRange { start: offset, end: end.0 };
        let info = TensorInfo { name: name.into(), dtype, shape, file: 0, bytes, packed: None };
        self.described.push(LocatedTensor { info, at });
        self.data_end = end.1;
        self.tensors -= 1;
        Ok(())
    }

    /// Reads axes and type of a tensor.
    fn description(&self, cursor: &mut Cursor<'_>) -> Result<Description, ParseStop> {
        let at = cursor.offset();
        let n = u64::from(cursor.u32()?);
        if n > limits::MAX_GGUF_AXES {
            let message = format!("{n} axes; GGUF allows at most {}", limits::MAX_GGUF_AXES);
            return Err(Error::new(Code::TooManyAxes, message).at(at).into());
        }
        let axes_at = cursor.offset();
        let mut axes = (0..n).map(|_| cursor.u64()).collect::<Result<Vec<u64>, _>>()?;
        // The file stores the innermost axis first.
        axes.reverse();
        let shape =
            Shape::new(axes).filter(|s| s.axes().iter().chain([&s.numel()]).all(|&a| a <= i64::MAX as u64));
        let shape = shape.ok_or_else(|| {
            Error::new(Code::Overflow, "the number of elements overflows 63 bits").at(axes_at)
        })?;
        let at = cursor.offset();
        let id = cursor.u32()?;
        let dtype = dtype(id).map_err(|e| e.at(at))?;
        if dtype == DType::UNKNOWN {
            return Ok(Description { dtype, id, shape, size: 0 });
        }
        if !shape.cols().is_multiple_of(dtype.block_len()) {
            let message = format!(
                "rows of {} values are not a multiple of the block length {}",
                shape.cols(),
                dtype.block_len()
            );
            return Err(Error::new(Code::SizeMismatch, message).at(axes_at).into());
        }
        let size = dtype.bytes_for(shape.numel());
        let size = size.ok_or_else(|| {
            Error::new(Code::Overflow, "the size of the tensor overflows 64 bits").at(axes_at)
        })?;
        Ok(Description { dtype, id, shape, size })
    }

    /// Checks that a tensor starts exactly at `due`, the padded end of the one before; returns its end and its
    /// padded end.
    fn place(&self, due: u64, offset: u64, size: u64) -> Result<(u64, u64)> {
        if !offset.is_multiple_of(self.alignment) {
            let message =
                format!("the offset {offset} is not a multiple of the alignment {}", self.alignment);
            return Err(Error::new(Code::BadAlignment, message));
        }
        if offset > due {
            let message = format!("{} bytes before the tensor belong to no tensor", offset - due);
            return Err(Error::new(Code::Hole, message));
        }
        if offset < due {
            let message = format!("the tensor overlaps those before it by {} bytes", due - offset);
            return Err(Error::new(Code::Overlap, message));
        }
        let end = offset.checked_add(size);
        let padded = end.and_then(|e| align_up(e, self.alignment));
        end.zip(padded).ok_or_else(|| Error::new(Code::Overflow, "the end of the tensor overflows 64 bits"))
    }

    /// Makes the offsets absolute, and checks them against the length of the file.
    fn finish(&mut self, header_end: u64) -> Result<Header> {
        let mut tensors = core::mem::take(&mut self.described);
        check_names(&tensors)?;
        let overflow = || Error::new(Code::Overflow, "the end of the data overflows 64 bits");
        let data = align_up(header_end, self.alignment).ok_or_else(overflow)?;
        if let Some(last) = tensors.last_mut().filter(|_| self.open_end) {
            last.info.bytes.end = self.len.saturating_sub(data).max(last.info.bytes.start);
            self.data_end = last.info.bytes.end;
        }
        for t in &mut tensors {
            let range = data.checked_add(t.info.bytes.start).zip(data.checked_add(t.info.bytes.end));
            let (start, end) = range.ok_or_else(|| overflow().at(t.at).of_tensor(&t.info.name))?;
            if end > self.len {
                let message = format!(
                    "the tensor ends at byte {end}, but the file has only {} bytes: it may be truncated",
                    self.len
                );
                return Err(Error::new(Code::OutOfBounds, message).at(t.at).of_tensor(&t.info.name));
            }
            t.info.bytes = ByteRange { start, end };
        }
        let end = data.saturating_add(self.data_end);
        let mut header = Header::of_tensors(Container::Gguf, tensors);
        if self.len > end {
            let message = format!("{} bytes follow the last tensor, at {end}", self.len - end);
            header.warnings.push(Warning { code: "trailing_bytes", message });
        }
        header.metadata = core::mem::take(&mut self.metadata);
        header.metadata_at = core::mem::take(&mut self.metadata_at);
        header.alignment = self.alignment;
        header.gguf_version = Some(self.version);
        header.unknown_types = core::mem::take(&mut self.unknown_types);
        Ok(header)
    }
}

/// Refuses two tensors of one name. All names are compared at the end: a set that grows with the header would leave as much
/// memory in pieces as the names take.
fn check_names(tensors: &[LocatedTensor]) -> Result<()> {
    let names: Vec<&str> = tensors.iter().map(|t| t.info.name.as_str()).collect();
    let Some(LocatedTensor { info, at }) = first_repeated(&names).and_then(|i| tensors.get(i)) else {
        return Ok(());
    };
    // From the offset of the data back to the length of the name: type, axes, their count, the name.
    let back = 4 + 8 * info.shape.axes().len() + 4 + info.name.len() + 8;
    let error = Error::new(Code::DuplicateName, "duplicate tensor name").of_tensor(&info.name);
    Err(error.at(at.saturating_sub(back as u64)))
}

/// Refuses versions other than 2 and 3.
fn check_version(version: u32) -> Result<()> {
    let message = match version {
        2 | 3 => return Ok(()),
        1 => "GGUF version 1 is not supported: convert the model again from its source".into(),
        v if v != 0 && v & 0xffff == 0 => {
            format!("big-endian GGUF (version {}) is not supported", v.swap_bytes())
        }
        v => format!("GGUF version {v} is unknown; versions 2 and 3 are supported"),
    };
    Err(Error::new(Code::UnknownVersion, message))
}

/// Checks a count against the remaining bytes of the file, then against the limit.
fn check_count(what: &str, n: u64, least: u64, left: u64) -> Result<()> {
    if n > left / least {
        let message = format!("{n} {what} do not fit into the remaining {left} bytes of the file");
        return Err(Error::new(Code::CountTooLarge, message));
    }
    if n > limits::MAX_ENTRIES {
        let message = format!("{n} {what}; at most {} are supported", limits::MAX_ENTRIES);
        return Err(Error::new(Code::TooMany, message));
    }
    Ok(())
}

/// Value of `general.alignment` in bytes.
fn alignment(value: &MetaValue) -> Result<u64> {
    match *value {
        MetaValue::U32(n) if n.is_power_of_two() => Ok(n.into()),
        MetaValue::U32(n) => {
            Err(Error::new(Code::BadAlignment, format!("the alignment {n} is not a power of two")))
        }
        _ => Err(Error::new(Code::BadAlignment, "general.alignment must be a u32")),
    }
}

/// Consumes the numbers that are in the input completely, at least one and at most `left`; returns how many.
fn numbers(cursor: &mut Cursor<'_>, kind: u32, left: u64) -> Result<u64, ParseStop> {
    let size = value::min_size(kind).unwrap_or(1);
    let n = (cursor.remaining() / size).clamp(1, left);
    let at = cursor.offset();
    let bytes = cursor.take(n * size)?;
    if kind == types::BOOL {
        value::check_bool(bytes, at)?;
    }
    Ok(n)
}

/// Highest type number that a fork of ggml may have added.
const MAX_TYPE: u32 = 0xFFFF;

/// The dtype with a ggml type number; [`DType::UNKNOWN`] for removed types and those of forks.
fn dtype(id: u32) -> Result<DType> {
    match DType::from_ggml(id) {
        Some(dtype) => Ok(dtype),
        None if id <= MAX_TYPE => Ok(DType::UNKNOWN),
        None => Err(Error::new(Code::UnknownDtype, format!("unknown ggml type {id}"))),
    }
}
