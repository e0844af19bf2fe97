//! Microbenchmark of rotation: reproduces a published table and adds the rows that it omits.
//!
//! A matrix of normal weights with 0.5 % outliers is rounded to 4, 3 and 2 bits in groups, as it is and under
//! a block Hadamard rotation without signs. The dequantized matrix is compared with the original. All
//! arithmetic is binary64 in row order, so figures do not depend on threads.

mod matrix;
mod mersenne;
mod rules;

pub use matrix::matrix;
pub use rules::ScaleRule;

use super::float_trait::Float;
use super::hadamard::Hadamard;
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::vec::Vec;
use serde::Serialize;

/// Quantization of one line of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockFormat {
    /// Bits per code.
    pub bits: u32,
    /// Rule that chooses the scale of a group.
    pub rule: ScaleRule,
    /// Order of the rotation's blocks; `None` without a rotation.
    pub block: Option<u32>,
}

/// A benchmark: row length, group size, and the formats to compare.
#[derive(Clone, Debug)]
pub struct RotationBenchmark {
    /// Columns of the matrix.
    cols: usize,
    /// Values that share a scale.
    group: usize,
    /// Formats to compare.
    formats: Vec<BlockFormat>,
    /// Hadamard matrix of each format's blocks.
    rotations: Vec<Option<Hadamard>>,
}

/// Error sums of one format over some rows, mergeable with those of the following rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ErrorSums {
    /// Number of values.
    count: u64,
    /// Sum of squared errors.
    error: f64,
    /// Largest error magnitude.
    max: f64,
    /// Sum of squared original values.
    original: f64,
    /// Sum of squared dequantized values.
    result: f64,
    /// Sum of products of original and dequantized values.
    product: f64,
}

/// Figures of one format.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Name of the format: `Q4`, or `H128-Q4` if rotated in blocks of 128.
    pub name: alloc::string::String,
    /// Name of the scale rule.
    pub rule: &'static str,
    /// Bits per code.
    pub bits: u32,
    /// Order of the rotation's blocks.
    pub block: Option<u32>,
    /// Bits per weight with a 16-bit scale for each group.
    pub bits_per_weight: f64,
    /// Bits per weight with a 32-bit scale, as counted in the published table.
    pub published_bits_per_weight: f64,
    /// Mean squared error.
    pub mse: f64,
    /// Root mean squared error.
    pub rmse: f64,
    /// Largest error magnitude.
    pub max_error: f64,
    /// Cosine similarity of original and dequantized values.
    pub cosine: f64,
    /// Signal-to-quantization-noise ratio in dB.
    pub sqnr_db: f64,
    /// True if the mean squared error is at most that of 4 bits without rotation.
    pub matches_plain_4_bits: bool,
}

/// Result of the benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchmarkResult {
    /// Figures of every format, the published ones first.
    pub formats: Vec<Figures>,
    /// Fewest bits at which the published rotation is at least as good as 4 bits without rotation.
    pub lowest_matching_bits: Option<u32>,
    /// The same over all rotated formats of this benchmark.
    pub lowest_matching_bits_of_all: Option<u32>,
}

/// Formats of the benchmark: the six published ones; the rotation with blocks of the group size; scales that
/// use all codes; searched scales.
pub fn formats(block: u32, group: u32) -> Vec<BlockFormat> {
    let mut all = Vec::new();
    let mut push_4_3_2 = |rule, block: Option<u32>| {
        all.extend([4, 3, 2].map(|bits| BlockFormat { bits, rule, block }));
    };
    push_4_3_2(ScaleRule::MaxAbs, None);
    push_4_3_2(ScaleRule::MaxAbs, Some(block));
    if group != block {
        push_4_3_2(ScaleRule::MaxAbs, Some(group));
    }
    for rule in [ScaleRule::AllCodes, ScaleRule::Searched] {
        push_4_3_2(rule, None);
        push_4_3_2(rule, Some(group));
    }
    all
}

impl RotationBenchmark {
    /// Creates a benchmark on rows of `cols` values, quantized in groups of `group` values.
    ///
    /// # Errors
    ///
    /// [`Code::Usage`] if a group or block does not divide the row, or a block has no Hadamard matrix.
    pub fn new(cols: u32, group: u32, formats: Vec<BlockFormat>) -> Result<RotationBenchmark> {
        let refuse = |message| Err(Error::new(Code::Usage, message));
        let divides = |n: u32| n > 0 && cols.is_multiple_of(n);
        if !divides(group) {
            return refuse(format!("rows of {cols} do not divide into groups of {group}"));
        }
        let mut rotations = Vec::with_capacity(formats.len());
        for block in formats.iter().map(|f| f.block) {
            match block {
                Some(b) if !divides(b) => {
                    return refuse(format!("rows of {cols} do not divide into blocks of {b}"));
                }
                Some(b) => match Hadamard::new(b.into()) {
                    Some(h) => rotations.push(Some(h)),
                    None => return refuse(format!("no Hadamard matrix of order {b} can be constructed")),
                },
                None => rotations.push(None),
            }
        }
        Ok(RotationBenchmark { cols: cols as usize, group: group as usize, formats, rotations })
    }

    /// Error sums of every format over whole rows; `rows` is `[n, cols]`, row-major.
    pub fn measure(&self, rows: &[f32]) -> Vec<ErrorSums> {
        let mut all = alloc::vec![ErrorSums::default(); self.formats.len()];
        let mut original = alloc::vec![0.0; self.cols];
        let mut result = alloc::vec![0.0; self.cols];
        for row in rows.chunks_exact(self.cols) {
            original.iter_mut().zip(row).for_each(|(x, &v)| *x = f64::from(v));
            for ((sums, format), rotation) in all.iter_mut().zip(&self.formats).zip(&self.rotations) {
                result.copy_from_slice(&original);
                rotate(rotation.as_ref(), &mut result, false);
                for group in result.chunks_exact_mut(self.group) {
                    format.rule.apply(group, format.bits);
                }
                rotate(rotation.as_ref(), &mut result, true);
                sums.row(&original, &result);
            }
        }
        all
    }

    /// Figures of the whole matrix from the merged sums of all rows, one entry per format.
    pub fn answer(&self, sums: &[ErrorSums]) -> BenchmarkResult {
        let plain =
            self.formats.iter().position(|f| *f == PLAIN).and_then(|i| sums.get(i)).map(ErrorSums::mse);
        let formats: Vec<Figures> =
            self.formats.iter().zip(sums).map(|(f, s)| f.figures(s, self.group, plain)).collect();
        let published = self.formats.iter().find_map(|f| f.block);
        let lowest_bits = |matches: &dyn Fn(&Figures) -> bool| {
            formats
                .iter()
                .filter(|f| f.block.is_some() && f.matches_plain_4_bits && matches(f))
                .map(|f| f.bits)
                .min()
        };
        let lowest_matching_bits =
            lowest_bits(&|f| f.rule == ScaleRule::MaxAbs.name() && f.block == published);
        let lowest_matching_bits_of_all = lowest_bits(&|_| true);
        BenchmarkResult { lowest_matching_bits, lowest_matching_bits_of_all, formats }
    }
}

/// The format that the others are compared with: 4 bits, no rotation.
const PLAIN: BlockFormat = BlockFormat { bits: 4, rule: ScaleRule::MaxAbs, block: None };

/// Multiplies each block of the row by the normalized matrix, or by its transpose.
fn rotate(by: Option<&Hadamard>, row: &mut [f64], back: bool) {
    let Some(h) = by else { return };
    let scale = f64::inverse_root(h.order());
    for block in row.chunks_exact_mut(h.order()) {
        h.apply(block, 1, back);
        block.iter_mut().for_each(|x| *x *= scale);
    }
}

impl ErrorSums {
    /// Adds the sums of one row.
    fn row(&mut self, original: &[f64], result: &[f64]) {
        let mut row = ErrorSums::default();
        for (&x, &y) in original.iter().zip(result) {
            let difference = x - y;
            row.error += difference * difference;
            row.max = row.max.max(difference.abs());
            row.original += x * x;
            row.result += y * y;
            row.product += x * y;
        }
        row.count = original.len() as u64;
        self.add(&row);
    }

    /// Adds the sums of the following rows.
    pub fn add(&mut self, next: &ErrorSums) {
        self.count += next.count;
        self.error += next.error;
        self.max = self.max.max(next.max);
        self.original += next.original;
        self.result += next.result;
        self.product += next.product;
    }

    /// Mean squared error; 0 without values.
    fn mse(&self) -> f64 {
        self.error / self.count.max(1) as f64
    }
}

impl BlockFormat {
    /// Figures from the sums over all rows; `plain` is the mean squared error of [`PLAIN`].
    fn figures(&self, sums: &ErrorSums, group: usize, plain: Option<f64>) -> Figures {
        let mse = sums.mse();
        let scale_bits = |bits: f64| f64::from(self.bits) + bits / group as f64;
        Figures {
            name: match self.block {
                Some(block) => format!("H{block}-Q{}", self.bits),
                None => format!("Q{}", self.bits),
            },
            rule: self.rule.name(),
            bits: self.bits,
            block: self.block,
            bits_per_weight: scale_bits(16.0),
            published_bits_per_weight: scale_bits(32.0),
            mse,
            rmse: libm::sqrt(mse),
            max_error: sums.max,
            cosine: sums.product / libm::sqrt(sums.original * sums.result),
            sqnr_db: 10.0 * libm::log10(sums.original / sums.error),
            matches_plain_4_bits: plain.is_some_and(|p| mse <= p),
        }
    }
}
