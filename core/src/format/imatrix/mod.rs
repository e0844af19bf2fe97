//! Importance matrices (imatrix): for each tensor the sums of squared activations of its input channels.
//!
//! Two formats exist: a GGUF file with `NAME.in_sum2` and `NAME.counts` for each tensor, and the legacy
//! `.dat` file. [`ImatrixOpening`] reads a file once, in pieces from its driver, checks every number and
//! computes the SHA-256 of the file. The sums stay in the file; a job reads those of its columns.
//!
//! The weight of a column is its sum divided by the count: the mean squared activation of the input channel.
//! Source: `common/imatrix-loader.cpp` of llama.cpp.

mod legacy;
mod write;

pub use write::{Calibration, EntrySize, EntryTotals, ImatrixFormat, ImatrixLayout, PlacedBytes};

use super::header_buffer::{Header, HeaderBuffer, ParseStep, ParseStop};
use super::{Warning, gguf, limits};
use crate::bytes::{ByteRange, Cursor};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::tensor::{MetaArray, MetaValue, TensorInfo};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The sums of one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImatrixEntry {
    /// Byte offset of the sums in the file: F32, little-endian.
    pub at: u64,
    /// Number of sums: columns of a row times the matrices of a stack (experts).
    pub values: u64,
    /// Divisors of equal parts of the sums, in order. 0 means that no activations were seen; every column
    /// then has the weight 1.
    pub counts: Vec<f32>,
    /// For the sums of each divisor, whether any is above 0.
    pub above_zero: Vec<bool>,
}

impl ImatrixEntry {
    /// Byte offset and divisor of the sums of matrix `index` in a stack of `stack` matrices with `cols`
    /// columns.
    ///
    /// Returns `None` if the entry does not have the sums of such a stack.
    pub fn part(&self, index: u64, stack: u64, cols: u64) -> Option<(u64, f32)> {
        if self.values == 0 || stack.checked_mul(cols) != Some(self.values) || index >= stack {
            return None;
        }
        let counts = self.counts.len() as u64;
        let per_count = stack.checked_div(counts).filter(|n| n * counts == stack)?;
        let count = self.counts.get((index / per_count) as usize)?;
        // No overflow: the sums lie inside a file.
        Some((self.at + index * cols * 4, *count))
    }

    /// Whether the sums of matrix `index` in a stack of `stack` matrices are all 0.
    pub fn is_zero(&self, index: u64, stack: u64) -> bool {
        let per_part = stack.checked_div(self.above_zero.len() as u64).filter(|n| *n > 0);
        let part = per_part.and_then(|n| self.above_zero.get((index / n) as usize));
        part.is_some_and(|above| !above)
    }

    /// Records sums from number `first` on.
    fn look(&mut self, first: u64, bytes: &[u8]) {
        let per_part = self.values.checked_div(self.above_zero.len() as u64).unwrap_or(0).max(1);
        for (i, _) in (first..).zip(floats(bytes)).filter(|(_, v)| *v > 0.0) {
            self.above_zero.iter_mut().skip((i / per_part) as usize).take(1).for_each(|above| *above = true);
        }
    }
}

/// An importance matrix: positions of all sums in its file, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Imatrix {
    /// Name of the file.
    pub file: String,
    /// Length of the file in bytes.
    pub len: u64,
    /// SHA-256 of the whole file.
    pub sha256: [u8; 32],
    /// Names of the calibration texts.
    pub datasets: Vec<String>,
    /// Number of text chunks evaluated, if recorded.
    pub chunks: Option<u64>,
    /// Tokens of a chunk, if recorded.
    pub chunk_size: Option<u64>,
    /// The format. Sums of the legacy file are means, multiplied by the number of calls.
    pub format: ImatrixFormat,
    /// Entries by tensor name.
    pub entries: BTreeMap<String, ImatrixEntry>,
    /// Unusual but legal properties of the file.
    pub warnings: Vec<Warning>,
}

/// Reads an importance matrix. After an error it requests nothing more, and [`ImatrixOpening::finish`]
/// returns the error again.
pub struct ImatrixOpening {
    buffer: HeaderBuffer,
    state: ImatrixState,
    found: ImatrixTensors,
    failed: Option<Error>,
}

/// Content read so far.
#[derive(Default)]
struct ImatrixTensors {
    datasets: Vec<String>,
    chunks: Option<u64>,
    chunk_size: Option<u64>,
    format: ImatrixFormat,
    entries: BTreeMap<String, ImatrixEntry>,
    warnings: Vec<Warning>,
}

/// Position in the file.
enum ImatrixState {
    /// The first four bytes decide the format.
    Sniff,
    Gguf(Box<gguf::GgufReader>),
    /// The data of a GGUF file: runs that are not read yet, the next one last.
    Data(Vec<DataRun>),
    Legacy(legacy::LegacyReader),
    Done,
}

/// A run of bytes in the data of a GGUF file.
struct DataRun {
    bytes: ByteRange,
    kind: RunKind,
    name: String,
}

/// Content of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RunKind {
    Sums,
    Counts,
    /// Padding, or a tensor of no interest.
    Other,
}

impl ImatrixOpening {
    /// Starts to read the file `name` of `len` bytes.
    pub fn new(name: &str, len: u64) -> ImatrixOpening {
        let buffer = HeaderBuffer::new(0, name.to_string(), len, limits::FIRST_READ);
        ImatrixOpening { buffer, state: ImatrixState::Sniff, found: ImatrixTensors::default(), failed: None }
    }

    /// Byte range to read next; `None` if nothing is required.
    pub fn want(&self) -> Option<ByteRange> {
        let done = self.failed.is_some() || matches!(self.state, ImatrixState::Done);
        (!done && self.buffer.len > 0).then(|| self.buffer.range())
    }

    /// Accepts bytes from the start of the requested range, possibly fewer than requested.
    ///
    /// No bytes at all mean that the file became shorter.
    ///
    /// # Errors
    ///
    /// - [`Code::Truncated`] if the file ends too early, [`Code::BadMagic`] if it is no importance matrix.
    /// - [`Code::BadValue`] for a negative, infinite or NaN sum or count, or sums and counts that do not
    ///   match.
    /// - [`Code::Empty`] for a GGUF file without sums; any error of a GGUF header.
    /// - [`Code::Usage`] if no bytes were requested.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = self.take(bytes).map_err(|e| e.in_file(&self.buffer.name));
        self.failed = outcome.as_ref().err().cloned();
        outcome
    }

    /// Returns the importance matrix once nothing more is requested.
    ///
    /// # Errors
    ///
    /// - The error of an earlier call.
    /// - [`Code::Truncated`] if the file is not read completely.
    /// - [`Code::Empty`] if it has no entries.
    pub fn finish(self) -> Result<Imatrix> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !matches!(self.state, ImatrixState::Done) {
            let message = "the file ends before its header is complete";
            return Err(Error::new(Code::Truncated, message).in_file(&self.buffer.name));
        }
        let source = self.buffer.into_source();
        let ImatrixTensors { datasets, chunks, chunk_size, format, entries, warnings } = self.found;
        if entries.is_empty() {
            let message = "the file holds no importance matrix";
            return Err(Error::new(Code::Empty, message).in_file(&source.name));
        }
        let (file, len, sha256) = (source.name, source.len, source.header_sha256);
        Ok(Imatrix { file, len, sha256, datasets, chunks, chunk_size, format, entries, warnings })
    }

    /// Buffers bytes and parses as far as possible.
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if matches!(self.state, ImatrixState::Done) {
            return Err(Error::new(Code::Usage, "the driver's answer does not match the request"));
        }
        self.buffer.push(bytes)?;
        while self.buffer.is_enough() && !matches!(self.state, ImatrixState::Done) {
            let (state, found, len) = (&mut self.state, &mut self.found, self.buffer.len);
            let Some(step) = self.buffer.parse(|cursor| step(state, found, cursor, len))? else {
                return Ok(());
            };
            self.state = match step {
                ParseStep::Done(header) => ImatrixState::Data(self.found.parts(header, self.buffer.len)?),
                ParseStep::Text(_) => ImatrixState::Done,
            };
        }
        Ok(())
    }
}

/// Parses the buffered bytes, up to the end of the header or of the file.
fn step(
    state: &mut ImatrixState,
    found: &mut ImatrixTensors,
    cursor: &mut Cursor<'_>,
    len: u64,
) -> Result<ParseStep, ParseStop> {
    if matches!(state, ImatrixState::Sniff) {
        *state = match cursor.clone().take(4)? == gguf::MAGIC {
            true => ImatrixState::Gguf(Box::new(gguf::GgufReader::new(len))),
            false => ImatrixState::Legacy(legacy::LegacyReader::new(len)),
        };
        if matches!(state, ImatrixState::Legacy(_)) {
            found.format = ImatrixFormat::Legacy;
        }
    }
    match state {
        ImatrixState::Gguf(reader) => return reader.step(cursor),
        ImatrixState::Legacy(reader) => reader.step(cursor, found)?,
        ImatrixState::Data(parts) => data(parts, found, cursor)?,
        ImatrixState::Sniff | ImatrixState::Done => {}
    }
    Ok(ParseStep::Text(Vec::new()))
}

/// Reads the data of a GGUF file: checks sums, keeps counts.
fn data(
    parts: &mut Vec<DataRun>,
    found: &mut ImatrixTensors,
    cursor: &mut Cursor<'_>,
) -> Result<(), ParseStop> {
    while let Some(part) = parts.last() {
        let left = part.bytes.end.saturating_sub(cursor.offset());
        if left > 0 {
            // Numbers are consumed whole, other bytes in any pieces.
            let unit = if part.kind == RunKind::Other { 1 } else { 4.min(left) };
            let n = (cursor.remaining() / unit * unit).clamp(unit, left);
            let at = cursor.offset();
            let bytes = cursor.take(n)?;
            let named = |e: Error| e.of_tensor(&part.name);
            match part.kind {
                RunKind::Other => {}
                RunKind::Sums => {
                    check_sums(bytes, at).map_err(named)?;
                    let first = at.saturating_sub(part.bytes.start) / 4;
                    if let Some(entry) = found.entries.get_mut(&part.name) {
                        entry.look(first, bytes);
                    }
                }
                RunKind::Counts => found.count(&part.name, bytes, at).map_err(named)?,
            }
            if n < left {
                continue;
            }
        }
        parts.pop();
    }
    Ok(())
}

/// The F32 values of little-endian bytes.
fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))
}

/// Refuses sums that are negative, infinite or NaN.
fn check_sums(bytes: &[u8], at: u64) -> Result<()> {
    let Some(bad) = floats(bytes).position(|v| !v.is_finite() || v < 0.0) else { return Ok(()) };
    let message = "a sum of squares is negative, infinite or NaN";
    Err(Error::new(Code::BadValue, message).at(at.saturating_add(4 * bad as u64)))
}

impl ImatrixTensors {
    /// Keeps the counts of a tensor.
    fn count(&mut self, name: &str, bytes: &[u8], at: u64) -> Result<()> {
        let entry = self.entries.entry(name.to_string());
        let entry = entry.or_default();
        for (i, count) in floats(bytes).enumerate() {
            if !count.is_finite() || count < 0.0 {
                let message = "a count is negative, infinite or NaN";
                return Err(Error::new(Code::BadValue, message).at(at.saturating_add(4 * i as u64)));
            }
            // Rounded to the nearest integer, as llama.cpp does.
            entry.counts.push(libm::roundf(count));
        }
        Ok(())
    }

    /// Splits the data of a GGUF file into runs without gaps, the first one last.
    fn parts(&mut self, header: Header, len: u64) -> Result<Vec<DataRun>> {
        self.describe(&header);
        let tensors = || header.tensors.iter().map(|t| &t.info);
        let mut counts = 0_u64;
        let mut parts = Vec::new();
        for t in tensors() {
            let (name, kind) = part_of(&t.name);
            if kind == RunKind::Counts {
                counts = counts.saturating_add(t.shape.numel());
                if counts > limits::MAX_ENTRIES {
                    let message = format!("more than {} counts in all tensors", limits::MAX_ENTRIES);
                    return Err(Error::new(Code::TooMany, message).of_tensor(&t.name));
                }
            }
            let previous_end = parts.last().map_or(0, |p: &DataRun| p.bytes.end);
            parts.push(DataRun {
                bytes: ByteRange { start: previous_end, end: t.bytes.start },
                kind: RunKind::Other,
                name: String::new(),
            });
            parts.push(DataRun { bytes: t.bytes, kind, name: name.to_string() });
        }
        self.pair(tensors())?;
        let end = parts.last().map_or(0, |p| p.bytes.end);
        parts.push(DataRun {
            bytes: ByteRange { start: end, end: len },
            kind: RunKind::Other,
            name: String::new(),
        });
        parts.reverse();
        Ok(parts)
    }

    /// Creates an entry for every pair of sums and counts.
    fn pair<'a>(&mut self, tensors: impl Iterator<Item = &'a TensorInfo> + Clone) -> Result<()> {
        let mut pairs: BTreeMap<&str, [Option<&TensorInfo>; 2]> = BTreeMap::new();
        for t in tensors {
            match part_of(&t.name) {
                (name, RunKind::Sums) => pairs.entry(name).or_default()[0] = Some(t),
                (name, RunKind::Counts) => pairs.entry(name).or_default()[1] = Some(t),
                _ => {}
            }
        }
        if pairs.is_empty() {
            return Err(Error::new(
                Code::Empty,
                "the GGUF file has no sums, so it is not an importance matrix",
            ));
        }
        for (name, pair) in pairs {
            let bad = |message: &str| Error::new(Code::BadValue, message).of_tensor(name);
            let [Some(sums), Some(counts)] = pair else {
                return Err(bad("the tensor has only one of .in_sum2 and .counts"));
            };
            if sums.dtype != DType::F32 || counts.dtype != DType::F32 {
                return Err(bad("the sums and counts must be F32"));
            }
            let (values, n) = (sums.shape.numel(), counts.shape.numel());
            if values == 0 || n == 0 || !values.is_multiple_of(n) {
                return Err(bad("the number of sums is not a multiple of the number of counts"));
            }
            self.entries.insert(
                name.to_string(),
                ImatrixEntry {
                    at: sums.bytes.start,
                    values,
                    counts: Vec::new(),
                    above_zero: alloc::vec![false; n as usize],
                },
            );
        }
        Ok(())
    }

    /// Keeps warnings, number of chunks and names of datasets.
    fn describe(&mut self, header: &Header) {
        self.warnings.extend(header.warnings.iter().cloned());
        self.chunks = header.metadata.uint("imatrix.chunk_count").filter(|&n| n > 0);
        self.chunk_size = header.metadata.uint("imatrix.chunk_size").filter(|&n| n > 0);
        if let Some(MetaValue::Array(array)) = header.metadata.get("imatrix.datasets") {
            self.datasets = texts(array);
        }
    }
}

/// Splits the name of a GGUF tensor into the model's tensor and the kind of data.
fn part_of(name: &str) -> (&str, RunKind) {
    let of = |suffix: &str, kind| name.strip_suffix(suffix).filter(|n| !n.is_empty()).map(|n| (n, kind));
    of(".in_sum2", RunKind::Sums).or_else(|| of(".counts", RunKind::Counts)).unwrap_or((name, RunKind::Other))
}

/// The strings of an array that the GGUF parser has checked.
fn texts(array: &MetaArray) -> Vec<String> {
    const STRING: u32 = 8;
    let mut cursor = Cursor::new(&array.raw, 0);
    let mut all = Vec::new();
    while array.element == STRING && cursor.remaining() > 0 {
        let text = cursor.u64().and_then(|n| cursor.take(n));
        match text.ok().and_then(|t| core::str::from_utf8(t).ok()) {
            Some(text) => all.push(text.to_string()),
            None => break,
        }
    }
    all
}
