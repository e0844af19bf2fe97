//! The blocks of a weight that the elements of its scale belong to, by the shapes of both.

use super::config::Quantization;
use crate::tensor::packed::ScaleBlocks;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The usual length of a block, where a shape leaves it open.
const USUAL: u64 = 128;

/// The blocks of a weight of the shape `weight` with a scale of the shape `scale`.
///
/// # Errors
///
/// What the scale's shape should be.
pub(super) fn scale_blocks(
    weight: &[u64],
    scale: &[u64],
    quantization: &Quantization,
) -> Result<ScaleBlocks, String> {
    let (stack, rows, cols) = match *weight {
        [ref stack @ .., rows, cols] => (stack, rows, cols),
        [cols] => (&[][..], 1, cols),
        [] => (&[][..], 1, 1),
    };
    let one = ScaleBlocks { matrix_rows: rows, rows, cols, scale_rows: 0 };
    let single = scale.iter().all(|n| *n == 1);
    if let Some([block_rows, block_cols]) = quantization.block {
        let (scale_rows, scale_cols) = (rows.div_ceil(block_rows), cols.div_ceil(block_cols));
        let wanted: Vec<u64> = stack.iter().copied().chain([scale_rows, scale_cols]).collect();
        if wanted == scale {
            return Ok(ScaleBlocks { matrix_rows: rows, rows: block_rows, cols: block_cols, scale_rows });
        }
        if single && wanted.iter().all(|n| *n == 1) {
            return Ok(one);
        }
        return Err(format!(
            "its shape is {scale:?}; blocks of {block_rows}x{block_cols} of {weight:?} need {wanted:?}"
        ));
    }
    if single {
        return Ok(one);
    }
    let of_matrix = |rows_of: u64, cols_of: u64, scale_rows: u64| ScaleBlocks {
        matrix_rows: rows,
        rows: rows_of,
        cols: cols_of,
        scale_rows,
    };
    let within = scale.strip_prefix(stack).filter(|_| !stack.is_empty() || !weight.is_empty());
    let found = match within {
        Some([]) | Some([1]) if !stack.is_empty() => Some(of_matrix(rows, cols, 1)),
        Some([n]) if *n == rows => Some(of_matrix(1, cols, rows)),
        Some([scale_rows, scale_cols]) => {
            let hint = |at: usize| quantization.hints.iter().filter_map(move |h| h.get(at).copied());
            let blocks = block_len(rows, *scale_rows, hint(0)).zip(block_len(cols, *scale_cols, hint(1)));
            blocks.map(|(rows, cols)| of_matrix(rows, cols, *scale_rows))
        }
        _ => None,
    };
    found.ok_or_else(|| {
        format!("its shape is {scale:?}, which is not one scale, one per row, or one per block of {weight:?}")
    })
}

/// The length of `count` blocks of an axis of length `len`: a hinted length that fits, the usual one, or the only power of two
/// unless equal blocks of another length fit too. What is left open without a configuration is not guessed.
pub(super) fn block_len(len: u64, count: u64, mut hints: impl Iterator<Item = u64>) -> Option<u64> {
    let fits = |block: &u64| *block > 0 && len.div_ceil(*block) == count;
    if count == 0 || count > len {
        return None;
    }
    if count == 1 || count == len {
        return Some(len / count);
    }
    let mut powers = (0..63).map(|bit| 1_u64 << bit).filter(fits);
    let power = powers.next().filter(|_| powers.next().is_none());
    let even = Some(len / count).filter(|block| block * count == len);
    let only = match (power, even) {
        (Some(a), Some(b)) => Some(a).filter(|a| *a == b),
        (found, other) => found.or(other),
    };
    hints.find(fits).or(Some(USUAL).filter(fits)).or(only)
}
