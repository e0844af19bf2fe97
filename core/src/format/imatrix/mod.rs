//! Importance matrices: for each tensor the summed squares of what comes into its columns, and how often it came.
//!
//! Two files hold them: a GGUF with `NAME.in_sum2` and `NAME.counts` for each tensor, and the older `.dat`. [`ImatrixOpening`]
//! goes through a file once, in pieces that its driver reads, checks every number and takes the file's SHA-256; the sums
//! stay where they are, and whoever encodes reads the few it needs. The formats: `common/imatrix-loader.cpp` of llama.cpp.

mod legacy;

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
#[derive(Clone, Debug, PartialEq)]
pub struct ImatrixEntry {
    /// Byte offset of the sums, binary32, little-endian.
    pub at: u64,
    /// How many there are: the columns of a row, for each matrix of a stack.
    pub values: u64,
    /// What the sums are divided by, for equal parts of them in order; 0 where nothing came by, and every column
    /// weighs 1.
    pub counts: Vec<f32>,
}

impl ImatrixEntry {
    /// Where the sums of matrix number `index` of a stack of `stack` are, and what they are divided by; `None` where
    /// these are not sums of such a stack with rows of `cols`.
    pub fn part(&self, index: u64, stack: u64, cols: u64) -> Option<(u64, f32)> {
        if self.values == 0 || stack.checked_mul(cols) != Some(self.values) || index >= stack {
            return None;
        }
        let counts = self.counts.len() as u64;
        let each = stack.checked_div(counts).filter(|n| n * counts == stack)?;
        let count = self.counts.get((index / each) as usize)?;
        // Sums lie in a file, so their offsets fit.
        Some((self.at + index * cols * 4, *count))
    }
}

/// An importance matrix: where it has what, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Imatrix {
    /// The file it is in.
    pub file: String,
    /// Length of the file.
    pub len: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// The texts it was made of.
    pub datasets: Vec<String>,
    /// The chunks of text that went through the model, where the file says so.
    pub chunks: Option<u64>,
    /// What there is, by the tensor's name.
    pub entries: BTreeMap<String, ImatrixEntry>,
    /// What is odd about the file but legal.
    pub warnings: Vec<Warning>,
}

/// Goes through a file. After an error it wants nothing more, and `finish` repeats the error.
pub struct ImatrixOpening {
    feed: HeaderBuffer,
    state: ImatrixState,
    found: ImatrixTensors,
    failed: Option<Error>,
}

/// What was found so far.
#[derive(Default)]
struct ImatrixTensors {
    datasets: Vec<String>,
    chunks: Option<u64>,
    entries: BTreeMap<String, ImatrixEntry>,
    warnings: Vec<Warning>,
}

enum ImatrixState {
    Sniff,
    Gguf(Box<gguf::GgufReader>),
    /// The data of a GGUF: what is left of it, the next part last.
    Data(Vec<DataRun>),
    Legacy(legacy::LegacyReader),
    Done,
}

/// A run of bytes in the data of a GGUF.
struct DataRun {
    bytes: ByteRange,
    what: What,
    name: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Sums,
    Counts,
    /// Nothing of ours.
    Other,
}

impl ImatrixOpening {
    /// Starts on the file `name` of `len` bytes.
    pub fn new(name: &str, len: u64) -> ImatrixOpening {
        let feed = HeaderBuffer::new(0, name.to_string(), len, limits::FIRST_READ);
        ImatrixOpening { feed, state: ImatrixState::Sniff, found: ImatrixTensors::default(), failed: None }
    }

    /// The bytes that are needed next; `None` when there is nothing more to read.
    pub fn want(&self) -> Option<ByteRange> {
        let done = self.failed.is_some() || matches!(self.state, ImatrixState::Done);
        (!done && self.feed.len > 0).then(|| self.feed.range())
    }

    /// Takes bytes from the start of the range that is wanted, fewer than it has if need be. No bytes at all mean that
    /// the file has become shorter.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = self.take(bytes).map_err(|e| e.in_file(&self.feed.name));
        self.failed = outcome.as_ref().err().cloned();
        outcome
    }

    /// The importance matrix, when nothing more is wanted.
    pub fn finish(self) -> Result<Imatrix> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !matches!(self.state, ImatrixState::Done) {
            let words = "the file ends before it has told what it is";
            return Err(Error::new(Code::Truncated, words).in_file(&self.feed.name));
        }
        let source = self.feed.into_source();
        let ImatrixTensors { datasets, chunks, entries, warnings } = self.found;
        if entries.is_empty() {
            let words = "no importance matrix is in here";
            return Err(Error::new(Code::Empty, words).in_file(&source.name));
        }
        let (file, len, sha256) = (source.name, source.len, source.header_sha256);
        Ok(Imatrix { file, len, sha256, datasets, chunks, entries, warnings })
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if matches!(self.state, ImatrixState::Done) {
            return Err(Error::new(Code::Usage, "the driver's answer does not fit what was asked for"));
        }
        self.feed.push(bytes)?;
        while self.feed.is_enough() && !matches!(self.state, ImatrixState::Done) {
            let (state, found, len) = (&mut self.state, &mut self.found, self.feed.len);
            let Some(step) = self.feed.parse(|cursor| step(state, found, cursor, len))? else {
                return Ok(());
            };
            self.state = match step {
                ParseStep::Done(header) => ImatrixState::Data(self.found.parts(header, self.feed.len)?),
                ParseStep::Text(_) => ImatrixState::Done,
            };
        }
        Ok(())
    }
}

/// Takes what is in hand, up to the end of the header or of the file.
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
    }
    match state {
        ImatrixState::Gguf(reader) => return reader.step(cursor),
        ImatrixState::Legacy(reader) => reader.step(cursor, found)?,
        ImatrixState::Data(parts) => data(parts, found, cursor)?,
        ImatrixState::Sniff | ImatrixState::Done => {}
    }
    Ok(ParseStep::Text(Vec::new()))
}

/// Takes the data of a GGUF as it comes: sums are looked at, counts are kept.
fn data(
    parts: &mut Vec<DataRun>,
    found: &mut ImatrixTensors,
    cursor: &mut Cursor<'_>,
) -> Result<(), ParseStop> {
    while let Some(part) = parts.last() {
        let left = part.bytes.end.saturating_sub(cursor.offset());
        if left > 0 {
            // Numbers are taken whole, everything else as it comes.
            let unit = if part.what == What::Other { 1 } else { 4.min(left) };
            let n = (cursor.remaining() / unit * unit).clamp(unit, left);
            let at = cursor.offset();
            let bytes = cursor.take(n)?;
            let named = |e: Error| e.of_tensor(&part.name);
            match part.what {
                What::Other => {}
                What::Sums => check_sums(bytes, at).map_err(named)?,
                What::Counts => found.count(&part.name, bytes, at).map_err(named)?,
            }
            if n < left {
                continue;
            }
        }
        parts.pop();
    }
    Ok(())
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Sums of squares are finite, and none is negative.
fn check_sums(bytes: &[u8], at: u64) -> Result<()> {
    let Some(bad) = floats(bytes).position(|v| !v.is_finite() || v < 0.0) else { return Ok(()) };
    let words = "a sum of squares that is negative, infinite or no number";
    Err(Error::new(Code::BadValue, words).at(at.saturating_add(4 * bad as u64)))
}

impl ImatrixTensors {
    /// Keeps the counts of a tensor.
    fn count(&mut self, name: &str, bytes: &[u8], at: u64) -> Result<()> {
        let entry = self.entries.entry(name.to_string());
        let entry = entry.or_insert(ImatrixEntry { at: 0, values: 0, counts: Vec::new() });
        for (i, count) in floats(bytes).enumerate() {
            if !count.is_finite() || count < 0.0 {
                let words = "a count that is negative, infinite or no number";
                return Err(Error::new(Code::BadValue, words).at(at.saturating_add(4 * i as u64)));
            }
            // Half and more of one counts as one, as llama.cpp reads it.
            entry.counts.push(libm::roundf(count));
        }
        Ok(())
    }

    /// What a GGUF header says of the data, in order, the first part last; whatever is not there is filled up.
    fn parts(&mut self, header: Header, len: u64) -> Result<Vec<DataRun>> {
        self.describe(&header);
        let tensors = || header.tensors.iter().map(|t| &t.info);
        let mut counts = 0_u64;
        let mut parts = Vec::new();
        for t in tensors() {
            let (name, what) = part_of(&t.name);
            if what == What::Counts {
                counts = counts.saturating_add(t.shape.numel());
                if counts > limits::MAX_ENTRIES {
                    let words = format!("more than {} counts", limits::MAX_ENTRIES);
                    return Err(Error::new(Code::TooMany, words).of_tensor(&t.name));
                }
            }
            let padding = parts.last().map_or(0, |p: &DataRun| p.bytes.end);
            parts.push(DataRun {
                bytes: ByteRange { start: padding, end: t.bytes.start },
                what: What::Other,
                name: String::new(),
            });
            parts.push(DataRun { bytes: t.bytes, what, name: name.to_string() });
        }
        self.pair(tensors())?;
        let end = parts.last().map_or(0, |p| p.bytes.end);
        parts.push(DataRun {
            bytes: ByteRange { start: end, end: len },
            what: What::Other,
            name: String::new(),
        });
        parts.reverse();
        Ok(parts)
    }

    /// Makes an entry of every pair of sums and counts.
    fn pair<'a>(&mut self, tensors: impl Iterator<Item = &'a TensorInfo> + Clone) -> Result<()> {
        let mut pairs: BTreeMap<&str, [Option<&TensorInfo>; 2]> = BTreeMap::new();
        for t in tensors {
            match part_of(&t.name) {
                (name, What::Sums) => pairs.entry(name).or_default()[0] = Some(t),
                (name, What::Counts) => pairs.entry(name).or_default()[1] = Some(t),
                _ => {}
            }
        }
        if pairs.is_empty() {
            return Err(Error::new(Code::Empty, "a GGUF without sums: no importance matrix is in here"));
        }
        for (name, pair) in pairs {
            let bad = |words: &str| Error::new(Code::BadValue, words).of_tensor(name);
            let [Some(sums), Some(counts)] = pair else {
                return Err(bad("it has sums or counts, not both"));
            };
            if sums.dtype != DType::F32 || counts.dtype != DType::F32 {
                return Err(bad("its sums and counts must be F32"));
            }
            let (values, n) = (sums.shape.numel(), counts.shape.numel());
            if values == 0 || n == 0 || !values.is_multiple_of(n) {
                return Err(bad("its sums are no equal parts, one for each count"));
            }
            self.entries
                .insert(name.to_string(), ImatrixEntry { at: sums.bytes.start, values, counts: Vec::new() });
        }
        Ok(())
    }

    fn describe(&mut self, header: &Header) {
        self.warnings.extend(header.warnings.iter().cloned());
        self.chunks = header.metadata.uint("imatrix.chunk_count").filter(|&n| n > 0);
        if let Some(MetaValue::Array(array)) = header.metadata.get("imatrix.datasets") {
            self.datasets = texts(array);
        }
    }
}

/// The tensor that a tensor of the file speaks of, and what it says.
fn part_of(name: &str) -> (&str, What) {
    let of = |suffix: &str, what| name.strip_suffix(suffix).filter(|n| !n.is_empty()).map(|n| (n, what));
    of(".in_sum2", What::Sums).or_else(|| of(".counts", What::Counts)).unwrap_or((name, What::Other))
}

/// The texts of an array that was checked when it was read.
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
