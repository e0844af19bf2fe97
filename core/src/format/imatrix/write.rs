//! Layout and bytes of a new importance matrix, as llama-imatrix writes it: GGUF, or the legacy file. Writes nothing.
//!
//! Source: `tools/imatrix/imatrix.cpp` of llama.cpp.

use super::super::{FileLayout, LayoutTensor, gguf, limits};
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::tensor::{MetaArray, MetaValue, Metadata, Shape};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Type number of a string in GGUF metadata.
const STRING: u32 = 8;
/// Bytes of the numbers before and behind the name of a legacy entry.
const LEGACY_ENTRY: u64 = 12;

/// A format of importance matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImatrixFormat {
    /// GGUF, with a count for each expert.
    #[default]
    Gguf,
    /// The legacy file: means, multiplied by a number of calls for each tensor.
    Legacy,
}

impl ImatrixFormat {
    /// The name in reports and options.
    pub const fn name(self) -> &'static str {
        match self {
            ImatrixFormat::Gguf => "gguf",
            ImatrixFormat::Legacy => "dat",
        }
    }
}

/// Name and size of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrySize {
    /// The name of the model's tensor.
    pub name: String,
    /// Number of sums: columns of a row times the matrices of a stack.
    pub values: u64,
    /// Number of counts: 1, or one for each expert.
    pub counts: u64,
}

/// Sums and counts of an entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryTotals {
    /// Sums of squared activations.
    pub sums: Vec<f64>,
    /// Number of activations in equal parts of the sums.
    pub counts: Vec<f64>,
}

impl EntryTotals {
    /// Gives each of `matrices` matrices of a legacy entry its count. Where every mean of a matrix is exactly 1, no activation
    /// was seen: sums and count become 0.
    pub fn drop_placeholders(&mut self, matrices: usize) {
        let Some(&count) = self.counts.first().filter(|_| self.counts.len() == 1) else { return };
        self.counts = alloc::vec![count; matrices];
        let columns = (self.sums.len() / matrices.max(1)).max(1);
        for (own, sums) in self.counts.iter_mut().zip(self.sums.chunks_mut(columns)) {
            if sums.iter().all(|sum| *sum == count) {
                *own = 0.0;
                sums.fill(0.0);
            }
        }
    }

    /// The sums of both. A single count is that of all parts of the other. `None` if their sizes do not fit each other.
    pub fn plus(mut self, mut other: EntryTotals) -> Option<EntryTotals> {
        let (here, there) = (self.counts.len(), other.counts.len());
        let spread = |counts: &mut Vec<f64>, len: usize| {
            if let [one] = **counts {
                counts.resize(len, one);
            }
        };
        spread(&mut self.counts, there);
        spread(&mut other.counts, here);
        if self.sums.len() != other.sums.len() || self.counts.len() != other.counts.len() {
            return None;
        }
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, more)| *sum += more);
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        Some(self)
    }
}

/// What an importance matrix was computed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    /// Names of the texts.
    pub datasets: Vec<String>,
    /// Number of chunks of all texts.
    pub chunks: u32,
    /// Tokens of a chunk.
    pub chunk_size: u32,
}

/// The layout of a new file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImatrixLayout {
    format: ImatrixFormat,
    entries: Vec<EntrySize>,
    chunk_size: u32,
    /// Offsets of the sums and the counts of each entry; of a legacy entry, of its first byte, twice.
    offsets: Vec<[u64; 2]>,
    /// The first bytes of the file.
    pub header: Vec<u8>,
    /// The last bytes of the file; empty for GGUF.
    pub tail: Vec<u8>,
    /// Length of the file in bytes, padding included.
    pub len: u64,
}

/// Consecutive bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedBytes {
    /// Offset of the first byte.
    pub at: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

fn overflow() -> Error {
    Error::new(Code::Overflow, "the importance matrix is larger than a file can be")
}

impl ImatrixLayout {
    /// The layout of a file with these entries, which are sorted by their names.
    ///
    /// # Errors
    ///
    /// `empty` without entries; `unsupported_container` for a name that GGUF does not allow; `too_many` for an entry with more
    /// sums than the legacy file can count; `string_too_long` for a name that no reader takes; `overflow`.
    pub fn new(
        format: ImatrixFormat,
        mut entries: Vec<EntrySize>,
        calibration: &Calibration,
    ) -> Result<ImatrixLayout> {
        if entries.is_empty() {
            return Err(Error::new(Code::Empty, "no matrix was reached, so there is nothing to write"));
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        match format {
            ImatrixFormat::Gguf => gguf_layout(entries, calibration),
            ImatrixFormat::Legacy => legacy_layout(entries, calibration),
        }
    }

    /// The entries in the order of the file.
    pub fn entries(&self) -> &[EntrySize] {
        &self.entries
    }

    /// The bytes of entry `index`.
    ///
    /// # Errors
    ///
    /// `size_mismatch` if `totals` do not have the sizes of the entry, `non_finite` or `f32_overflow` if a sum is no binary32
    /// number.
    pub fn entry(&self, index: usize, totals: &EntryTotals) -> Result<Vec<PlacedBytes>> {
        let wrong = || Error::new(Code::SizeMismatch, "the sums are not those of the entry");
        let (entry, &[at, counts_at]) =
            self.entries.get(index).zip(self.offsets.get(index)).ok_or_else(wrong)?;
        if totals.sums.len() as u64 != entry.values || totals.counts.len() as u64 != entry.counts {
            return Err(wrong().of_tensor(&entry.name));
        }
        let sums = rounded(&totals.sums).map_err(|e| e.of_tensor(&entry.name))?;
        let counts = rounded(&totals.counts).map_err(|e| e.of_tensor(&entry.name))?;
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        Ok(match self.format {
            ImatrixFormat::Gguf => Vec::from([
                PlacedBytes { at, bytes: bytes(&sums) },
                PlacedBytes { at: counts_at, bytes: bytes(&counts) },
            ]),
            ImatrixFormat::Legacy => {
                let calls = calls(&totals.counts, self.chunk_size);
                let mut out = Vec::new();
                put_text(&mut out, &entry.name);
                out.extend_from_slice(&calls.to_le_bytes());
                out.extend_from_slice(&(entry.values as u32).to_le_bytes());
                out.extend_from_slice(&bytes(&means(&sums, &counts, calls as f32)));
                Vec::from([PlacedBytes { at, bytes: out }])
            }
        })
    }
}

/// Values rounded to binary32.
fn rounded(values: &[f64]) -> Result<Vec<f32>> {
    let round = |&value: &f64| {
        let (rounded, message) = (value as f32, "a sum of squares");
        match (value.is_finite(), rounded.is_finite()) {
            (true, true) => Ok(rounded),
            (true, false) => Err(Error::new(Code::F32Overflow, format!("{message} is too large for F32"))),
            (false, _) => Err(Error::new(Code::NonFinite, format!("{message} is NaN or infinite"))),
        }
    };
    values.iter().map(round).collect()
}

/// Calls of a legacy entry: chunks, rounded up.
fn calls(counts: &[f64], chunk_size: u32) -> i32 {
    let most = counts.iter().copied().fold(0.0, f64::max);
    libm::ceil(most / f64::from(chunk_size.max(1))) as i32
}

/// Means times the number of calls; 1 for the sums of experts that no activation reached.
fn means(sums: &[f32], counts: &[f32], calls: f32) -> Vec<f32> {
    let each = sums.len().checked_div(counts.len()).unwrap_or(0).max(1);
    let parts = sums.chunks(each).zip(counts);
    let mean = |(sums, &count): (&[f32], &f32)| {
        let of = move |sum: &f32| if count == 0.0 { calls } else { sum / count * calls };
        sums.iter().map(of).collect::<Vec<f32>>()
    };
    parts.flat_map(mean).collect()
}

fn gguf_layout(entries: Vec<EntrySize>, calibration: &Calibration) -> Result<ImatrixLayout> {
    let mut datasets = MetaArray { element: STRING, len: calibration.datasets.len() as u64, raw: Vec::new() };
    for text in &calibration.datasets {
        datasets.raw.extend_from_slice(&(text.len() as u64).to_le_bytes());
        datasets.raw.extend_from_slice(text.as_bytes());
    }
    let metadata = Metadata(Vec::from([
        ("general.type".to_string(), MetaValue::String("imatrix".to_string())),
        ("imatrix.datasets".to_string(), MetaValue::Array(datasets)),
        ("imatrix.chunk_count".to_string(), MetaValue::U32(calibration.chunks)),
        ("imatrix.chunk_size".to_string(), MetaValue::U32(calibration.chunk_size)),
    ]));
    let mut tensors: Vec<(String, Shape)> = Vec::with_capacity(entries.len() * 2);
    for EntrySize { name, values, counts } in &entries {
        let each = values.checked_div(*counts).unwrap_or(0);
        let (sums, one) = match counts {
            1 => (Shape::new([*values]), Shape::new([1])),
            n => (Shape::new([*n, each]), Shape::new([*n, 1])),
        };
        tensors.push((format!("{name}.in_sum2"), sums.ok_or_else(overflow)?));
        tensors.push((format!("{name}.counts"), one.ok_or_else(overflow)?));
    }
    let described: Vec<LayoutTensor<'_>> =
        tensors.iter().map(|(name, shape)| LayoutTensor { name, dtype: DType::F32, shape }).collect();
    let FileLayout { header, offsets, file_len, .. } =
        gguf::layout(&metadata, gguf::DEFAULT_ALIGNMENT, &described)?;
    Ok(ImatrixLayout {
        format: ImatrixFormat::Gguf,
        entries,
        chunk_size: calibration.chunk_size,
        offsets: offsets.as_chunks().0.to_vec(),
        header,
        tail: Vec::new(),
        len: file_len,
    })
}

fn legacy_layout(entries: Vec<EntrySize>, calibration: &Calibration) -> Result<ImatrixLayout> {
    let header = (entries.len() as u32).to_le_bytes().to_vec();
    let mut end = header.len() as u64;
    let mut offsets = Vec::with_capacity(entries.len());
    for entry in &entries {
        if entry.values > i32::MAX as u64 {
            let message = format!("{} sums are more than the legacy file can count", entry.values);
            return Err(Error::new(Code::TooMany, message).of_tensor(&entry.name));
        }
        let name = entry.name.len() as u64;
        if name > limits::MAX_IMATRIX_NAME {
            let message = format!("the name has {name} bytes; at most {} are read", limits::MAX_IMATRIX_NAME);
            return Err(Error::new(Code::StringTooLong, message).of_tensor(&entry.name));
        }
        offsets.push([end; 2]);
        end = end.checked_add(LEGACY_ENTRY + name + 4 * entry.values).ok_or_else(overflow)?;
    }
    let mut tail = calibration.chunks.to_le_bytes().to_vec();
    if i32::try_from(calibration.chunks).is_err() {
        let message = format!("{} chunks are more than the legacy file can count", calibration.chunks);
        return Err(Error::new(Code::TooMany, message));
    }
    // A name that no reader takes is left out: it is for people.
    let readable = |t: &&String| !t.is_empty() && t.len() as u64 <= limits::MAX_IMATRIX_NAME;
    if let Some(text) = calibration.datasets.last().filter(readable) {
        put_text(&mut tail, text);
    }
    let len = end.checked_add(tail.len() as u64).ok_or_else(overflow)?;
    Ok(ImatrixLayout {
        format: ImatrixFormat::Legacy,
        entries,
        chunk_size: calibration.chunk_size,
        offsets,
        header,
        tail,
        len,
    })
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
