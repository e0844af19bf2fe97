//! Does rotation help? The published microbenchmark, made anew and measured again, with the rows that it left out.
//!
//! A matrix of normal weights with 0.5 % large ones is rounded to 4, 3 and 2 bits in groups, as it is and under a
//! block Hadamard rotation without signs, and what comes back is held against the original. Everything is binary64, in
//! the order of the rows, so figures do not depend on threads.

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

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockFormat {
    /// Bits of a code.
    pub bits: u32,
    /// How a group's scale is chosen.
    pub rule: ScaleRule,
    /// The rotation's block, if it is rotated.
    pub block: Option<u32>,
}

/// What a trial is of.
#[derive(Clone, Debug)]
pub struct RotationBenchmark {
    cols: usize,
    group: usize,
    formats: Vec<BlockFormat>,
    /// The matrix of each format's block.
    rotations: Vec<Option<Hadamard>>,
}

/// Sums of one format over some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ErrorSums {
    count: u64,
    error: f64,
    max: f64,
    original: f64,
    result: f64,
    product: f64,
}

/// The figures of one format.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Its name: `Q4`, or `H128-Q4` where rotated in blocks of 128.
    pub name: alloc::string::String,
    /// How a group's scale is chosen.
    pub rule: &'static str,
    /// Bits of a code.
    pub bits: u32,
    /// The rotation's block.
    pub block: Option<u32>,
    /// Bits a weight with a 16-bit scale for each group.
    pub bits_per_weight: f64,
    /// What the published table counts: a 32-bit scale.
    pub published_bits_per_weight: f64,
    /// Mean squared error.
    pub mse: f64,
    /// Root of it.
    pub rmse: f64,
    /// Greatest error.
    pub max_error: f64,
    /// Cosine of original and result.
    pub cosine: f64,
    /// Signal to quantization noise in dB.
    pub sqnr_db: f64,
    /// Whether its error is at most that of the plain four bits.
    pub matches_plain_4_bits: bool,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchmarkResult {
    /// Every format, the published ones first.
    pub formats: Vec<Figures>,
    /// Fewest bits at which the published rotation is no worse than four plain bits.
    pub lowest_matching_bits: Option<u32>,
    /// The same over all rotated formats here.
    pub lowest_matching_bits_of_all: Option<u32>,
}

/// The published six, then the same with the block of the rotation as long as a group, with scales that use all codes,
/// and with searched ones.
pub fn formats(block: u32, group: u32) -> Vec<BlockFormat> {
    let mut all = Vec::new();
    let mut three = |rule, block: Option<u32>| {
        all.extend([4, 3, 2].map(|bits| BlockFormat { bits, rule, block }));
    };
    three(ScaleRule::MaxAbs, None);
    three(ScaleRule::MaxAbs, Some(block));
    if group != block {
        three(ScaleRule::MaxAbs, Some(group));
    }
    for rule in [ScaleRule::AllCodes, ScaleRule::Searched] {
        three(rule, None);
        three(rule, Some(group));
    }
    all
}

impl RotationBenchmark {
    /// A trial on rows of `cols` values, rounded in groups of `group`.
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
                    None => return refuse(format!("there is no Hadamard matrix of order {b} here")),
                },
                None => rotations.push(None),
            }
        }
        Ok(RotationBenchmark { cols: cols as usize, group: group as usize, formats, rotations })
    }

    /// The sums of every format over whole rows.
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

    /// The figures from the sums of all rows.
    pub fn answer(&self, sums: &[ErrorSums]) -> BenchmarkResult {
        let plain =
            self.formats.iter().position(|f| *f == PLAIN).and_then(|i| sums.get(i)).map(ErrorSums::mse);
        let formats: Vec<Figures> =
            self.formats.iter().zip(sums).map(|(f, s)| f.figures(s, self.group, plain)).collect();
        let published = self.formats.iter().find_map(|f| f.block);
        let lowest = |wanted: &dyn Fn(&Figures) -> bool| {
            formats
                .iter()
                .filter(|f| f.block.is_some() && f.matches_plain_4_bits && wanted(f))
                .map(|f| f.bits)
                .min()
        };
        let lowest_matching_bits = lowest(&|f| f.rule == ScaleRule::MaxAbs.name() && f.block == published);
        let lowest_matching_bits_of_all = lowest(&|_| true);
        BenchmarkResult { lowest_matching_bits, lowest_matching_bits_of_all, formats }
    }
}

const PLAIN: BlockFormat = BlockFormat { bits: 4, rule: ScaleRule::MaxAbs, block: None };

/// Each block of the row by the normalised matrix, or by its transpose.
fn rotate(by: Option<&Hadamard>, row: &mut [f64], back: bool) {
    let Some(h) = by else { return };
    let scale = f64::inverse_root(h.order());
    for block in row.chunks_exact_mut(h.order()) {
        h.apply(block, 1, back);
        block.iter_mut().for_each(|x| *x *= scale);
    }
}

impl ErrorSums {
    fn row(&mut self, original: &[f64], result: &[f64]) {
        let mut row = ErrorSums::default();
        for (&x, &y) in original.iter().zip(result) {
            let off = x - y;
            row.error += off * off;
            row.max = row.max.max(off.abs());
            row.original += x * x;
            row.result += y * y;
            row.product += x * y;
        }
        row.count = original.len() as u64;
        self.add(&row);
    }

    /// Adds the sums of the rows that follow.
    pub fn add(&mut self, next: &ErrorSums) {
        self.count += next.count;
        self.error += next.error;
        self.max = self.max.max(next.max);
        self.original += next.original;
        self.result += next.result;
        self.product += next.product;
    }

    fn mse(&self) -> f64 {
        self.error / self.count.max(1) as f64
    }
}

impl BlockFormat {
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
