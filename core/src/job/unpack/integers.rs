//! Integer codes of a few bits, with a scale and a zero or an offset for each group of columns.
//!
//! `value = scale * (code - zero)`, or `scale * code + offset`, in binary32. Libraries that compute in 16-bit floats round once
//! more.

use super::PackedPart;
use crate::dtype::DType;
use crate::error::{Code, Error, Result};
use crate::kernels::Kernels;
use crate::tensor::packed::{CodeOrder, Integers, Rectangle, Zero};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// Bits of a word of codes.
const WORD: u64 = 32;

/// The halves of a byte that hold the columns `8 k + j` of AWQ, by `j`.
const AWQ_ORDER: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Decodes rows and columns `at` of a weight to `out`, row-major.
pub(super) fn decode(
    kernels: &dyn Kernels,
    layout: &Integers,
    (at, shape): (&Rectangle, [u64; 2]),
    parts: &[PackedPart<'_>],
    out: &mut [f32],
) -> Result<()> {
    let missing = || Error::new(Code::Overflow, "a window lacks a part of its weight");
    let (codes, scales) = parts.first().zip(parts.get(1)).ok_or_else(missing)?;
    check_shape(shape, parts.get(layout.shape_part()))?;
    let (rows, width) = (at.rows.count as usize, (at.cols.end - at.cols.start) as usize);
    let values = unpacked(layout, at, codes, rows, width);
    let scales = Groups::of(kernels, layout, scales, rows)?;
    let zeros = Zeros::of(kernels, layout, at, parts.get(2), rows)?;
    let groups = Grouping::of(layout, at, parts)?;
    let lines = out.chunks_exact_mut(width.max(1)).zip(values.chunks_exact(width.max(1)));
    for (row, (line, codes)) in lines.enumerate() {
        let mut start = 0;
        while start < width {
            let (end, group) = groups.run(start, width);
            let (Some(line), Some(codes)) = (line.get_mut(start..end), codes.get(start..end)) else {
                return Err(missing());
            };
            let scale = scales.get(row, group);
            match &zeros {
                Zeros::Fixed(zero) => apply(line, codes, *zero, scale),
                Zeros::Integers(zeros) => apply(line, codes, zeros.get(row, group), scale),
                Zeros::Offsets(offsets) => {
                    let offset = offsets.get(row, group);
                    line.iter_mut().zip(codes).for_each(|(v, q)| *v = scale * f32::from(*q) + offset);
                }
            }
            start = end;
        }
    }
    // Values are stored little-endian, as in files.
    out.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().to_le()));
    Ok(())
}

/// Refuses a stored shape that is not that of the weight.
fn check_shape(shape: [u64; 2], part: Option<&PackedPart<'_>>) -> Result<()> {
    let Some(part) = part else { return Ok(()) };
    let stored: Vec<u64> = match part.dtype {
        DType::I32 => part.bytes.as_chunks().0.iter().map(|n| u64::from(u32::from_le_bytes(*n))).collect(),
        _ => part.bytes.as_chunks().0.iter().map(|n| u64::from_le_bytes(*n)).collect(),
    };
    if stored == shape {
        return Ok(());
    }
    let message = format!("weight_shape is {stored:?}, and the codes are those of {shape:?}");
    Err(Error::new(Code::BadValue, message))
}

fn apply(line: &mut [f32], codes: &[i16], zero: i16, scale: f32) {
    line.iter_mut().zip(codes).for_each(|(v, q)| *v = scale * f32::from(*q - zero));
}

/// The group of each column of a window.
enum Grouping {
    /// Groups of equal length; the window's first column within its group.
    Even { group: usize, skipped: usize },
    /// A number for each column.
    Indexed(Vec<u32>),
}

impl Grouping {
    fn of(layout: &Integers, at: &Rectangle, parts: &[PackedPart<'_>]) -> Result<Grouping> {
        let group = layout.group.max(1);
        let Some(index) = layout.index_part().and_then(|part| parts.get(part)) else {
            let group_len = usize::try_from(group).unwrap_or(usize::MAX);
            return Ok(Grouping::Even { group: group_len, skipped: (at.cols.start % group) as usize });
        };
        let (words, _) = index.bytes.as_chunks::<4>();
        let numbers: Vec<u32> = words.iter().map(|w| u32::from_le_bytes(*w)).collect();
        match numbers.iter().enumerate().find(|(_, g)| u64::from(**g) >= layout.groups) {
            None => Ok(Grouping::Indexed(numbers)),
            Some((col, group)) => {
                let (col, count) = (at.cols.start + col as u64, layout.groups);
                let message = format!("g_idx has the group {group} for column {col}, and there are {count}");
                Err(Error::new(Code::BadValue, message))
            }
        }
    }

    /// The end of the run of columns that share the group of column `start`, and that group.
    fn run(&self, start: usize, width: usize) -> (usize, usize) {
        match self {
            Grouping::Even { group, skipped } => {
                let number = (start + skipped) / group;
                ((number + 1).saturating_mul(*group).saturating_sub(*skipped).min(width), number)
            }
            Grouping::Indexed(numbers) => {
                let rest = numbers.get(start..).unwrap_or_default();
                let group = rest.first().copied().unwrap_or_default();
                let len = rest.iter().take_while(|g| **g == group).count().max(1);
                ((start + len).min(width), group as usize)
            }
        }
    }
}

/// A number for each row and group of a window.
struct Groups<T> {
    values: Vec<T>,
    /// Distances of neighbouring rows and groups in `values`.
    strides: (usize, usize),
}

impl<T: Copy + Default> Groups<T> {
    fn get(&self, row: usize, group: usize) -> T {
        self.values.get(row * self.strides.0 + group * self.strides.1).copied().unwrap_or_default()
    }
}

impl Groups<f32> {
    /// The floats of a part: `[rows, groups]`, or `[groups, rows]` where the codes are transposed.
    fn of(
        kernels: &dyn Kernels,
        layout: &Integers,
        part: &PackedPart<'_>,
        rows: usize,
    ) -> Result<Groups<f32>> {
        let mut values = vec![0.0; part.bytes.len() / part.dtype.block_bytes().max(1) as usize];
        kernels.decode(part.dtype, part.bytes, &mut values).map_err(|e| e.error())?;
        let strides = if layout.order.is_transposed() { (1, rows) } else { (part.width(), 1) };
        Ok(Groups { values, strides })
    }
}

/// The zeros of a window.
enum Zeros {
    Fixed(i16),
    Integers(Groups<i16>),
    Offsets(Groups<f32>),
}

impl Zeros {
    fn of(
        kernels: &dyn Kernels,
        layout: &Integers,
        at: &Rectangle,
        part: Option<&PackedPart<'_>>,
        rows: usize,
    ) -> Result<Zeros> {
        let missing = || Error::new(Code::Overflow, "a window lacks the zeros of its weight");
        let bits = u64::from(layout.bits);
        Ok(match layout.zero {
            Zero::Fixed(zero) => Zeros::Fixed(zero),
            Zero::Offset => Zeros::Offsets(Groups::of(kernels, layout, part.ok_or_else(missing)?, rows)?),
            Zero::Bytes => {
                let part = part.ok_or_else(missing)?;
                let values = part.bytes.iter().map(|b| i16::from(*b as i8)).collect();
                Zeros::Integers(Groups { values, strides: (part.width(), 1) })
            }
            Zero::Packed { add } => {
                // A row of codes for each group.
                let part = part.ok_or_else(missing)?;
                let mut values = Vec::with_capacity(rows * part.at.rows.count as usize);
                for words in part.rows() {
                    values.extend((0..rows).map(|row| {
                        let row = at.rows.first + row as u64;
                        let code = match layout.order {
                            CodeOrder::Interleaved => nibble(words, part, row),
                            _ => field(words, row * bits - part.at.cols.start * WORD, bits),
                        };
                        code + add
                    }));
                }
                Zeros::Integers(Groups { values, strides: (1, rows) })
            }
            Zero::PackedRows => {
                // A column of codes for each group.
                let part = part.ok_or_else(missing)?;
                let lines: Vec<&[u8]> = part.rows().collect();
                let mut values = Vec::with_capacity(rows * part.width());
                for row in at.rows.first..at.rows.first + rows as u64 {
                    let bit = row * bits - part.at.rows.first * WORD;
                    values.extend((0..part.width()).map(|group| field_of(&lines, group, bit, bits)));
                }
                Zeros::Integers(Groups { values, strides: (part.width(), 1) })
            }
        })
    }
}

/// The word at `index` of a row; 0 behind its end.
fn word(row: &[u8], index: usize) -> u32 {
    row.as_chunks::<4>().0.get(index).map_or(0, |w| u32::from_le_bytes(*w))
}

/// The `bits` bits from bit `at` on of a stream of words.
fn bits_of(low: u32, high: u32, at: u64, bits: u64) -> i16 {
    let both = u64::from(low) | u64::from(high) << WORD;
    ((both >> (at % WORD)) & ((1 << bits) - 1)) as i16
}

/// A code of a row of words.
fn field(row: &[u8], at: u64, bits: u64) -> i16 {
    let index = (at / WORD) as usize;
    bits_of(word(row, index), word(row, index + 1), at, bits)
}

/// A code of a column of words.
fn field_of(rows: &[&[u8]], column: usize, at: u64, bits: u64) -> i16 {
    let index = (at / WORD) as usize;
    let of = |index: usize| rows.get(index).map_or(0, |row| word(row, column));
    bits_of(of(index), of(index + 1), at, bits)
}

/// The code of output `col` in a row of AWQ's words.
fn nibble(row: &[u8], part: &PackedPart<'_>, col: u64) -> i16 {
    let at = AWQ_ORDER.get((col % 8) as usize).map_or(0, |n| n * 4);
    let index = (col / 8 - part.at.cols.start) as usize;
    ((word(row, index) >> at) & 0xF) as i16
}

/// The codes of a window, row-major.
fn unpacked(layout: &Integers, at: &Rectangle, part: &PackedPart<'_>, rows: usize, width: usize) -> Vec<i16> {
    let bits = u64::from(layout.bits);
    let mut values = vec![0_i16; rows * width];
    match layout.order {
        CodeOrder::Bytes => {
            values.iter_mut().zip(part.bytes).for_each(|(v, b)| *v = i16::from(*b as i8));
        }
        CodeOrder::Rows => {
            let first = at.cols.start * bits - part.at.cols.start * WORD;
            for (line, words) in values.chunks_exact_mut(width.max(1)).zip(part.rows()) {
                let cols = (0_u64..).zip(line.iter_mut());
                cols.for_each(|(col, v)| *v = field(words, first + col * bits, bits));
            }
        }
        CodeOrder::Columns => {
            let lines: Vec<&[u8]> = part.rows().collect();
            for col in 0..width {
                let bit = (at.cols.start + col as u64) * bits - part.at.rows.first * WORD;
                let index = (bit / WORD) as usize;
                let low = lines.get(index).copied().unwrap_or_default();
                let high = lines.get(index + 1).copied().unwrap_or_default();
                let column = values.iter_mut().skip(col).step_by(width.max(1));
                for (row, v) in column.enumerate() {
                    *v = bits_of(word(low, row), word(high, row), bit, bits);
                }
            }
        }
        CodeOrder::Interleaved => {
            for (col, words) in part.rows().enumerate().take(width) {
                let column = values.iter_mut().skip(col).step_by(width.max(1));
                (at.rows.first..).zip(column).for_each(|(row, v)| *v = nibble(words, part, row));
            }
        }
    }
    values
}
