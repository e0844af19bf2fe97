//! Encoders of ggml's legacy quants: Q4_0, Q4_1, Q5_0 and Q5_1. The types differ in the number of bits and in
//! the packing of the codes.
//!
//! Source: `quantize_row_q{4,5}_{0,1}_ref` of ggml without importance weights,
//! `quantize_row_q{4,5}_{0,1}_impl` with them. Knows no layout of a single type.

use super::EncodeError;
use super::block::{
    BlockCodes, BlockValues, LEN, codes, encode_all, extremes, field, larger_magnitude, reciprocal,
    scale_field, signed_absmax,
};
use super::imatrix_weights::{encode_rows, grid};
use super::scale_search::{AffineFit, ScaleSearch, SearchWeights};

/// Encodes blocks with one scale, `w = d * (q - HALF)`; `write(d, codes, out)` packs a block.
///
/// Without importance weights `d` is the value of largest magnitude (the first of equal ones) divided by
/// `-HALF`, so it may be negative. Codes are `min(2 HALF - 1, trunc(x * (1/d) + HALF + 0.5))` with the
/// unrounded `1/d`.
///
/// - A block of zeros of either sign has `d = -0` and codes `HALF`. If `d` underflows to 0, the codes are
///   `HALF` as well.
/// - If `1/d` is infinite, the codes are 0 (undefined in C, 0 on x86).
///
/// With importance weights, `d` and codes are those of [`ScaleSearch::symmetric`]; a block of zeros is all
/// zero bytes.
#[inline(always)]
pub(super) fn encode_symmetric<const HALF: i32, const B: usize, S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    write: impl Fn([u8; 2], &BlockCodes, &mut [u8; B]),
) -> Result<(), EncodeError> {
    let Some(importance) = importance else {
        return encode_all(
            src,
            out,
            #[inline(always)]
            |values: &BlockValues, out| {
                let max = signed_absmax(values);
                let d = max / -(HALF as f32);
                let id = reciprocal(d);
                let q = codes(values, id, (2 * HALF - 1) as u8, |x| x * id + (HALF as f32 + 0.5));
                write(field(d, values, max)?, &q, out);
                Ok(())
            },
        );
    };
    let search = |x: &[BlockValues], weights: SearchWeights<'_, LEN>, fits: &mut [AffineFit]| {
        searches.symmetric(HALF, x, weights, fits);
    };
    encode_rows(
        searches,
        src,
        importance,
        out,
        search,
        #[inline(always)]
        |values, fit, out| {
            let q = fit.codes(values, (-HALF, HALF - 1));
            write(scale_field(fit.scale, values)?, &q, out);
            Ok(())
        },
    )
}

/// Encodes blocks with scale and minimum, `w = d * q + m`; `write(d, m, codes, out)` packs a block.
///
/// Without importance weights `m` is the smallest value and `d = (max - min) / TOP`. Codes are `min(TOP,
/// trunc((x - min) * (1/d) + 0.5))` with the unrounded `min` and `1/d`. (ggml does not clamp the codes of
/// Q5_1, which never exceed 31.)
///
/// - A constant block has `d = 0` and codes 0; in a block of zeros `m` has the sign of the first.
/// - If `1/d` is infinite, the codes are 0 (undefined in C, 0 on x86).
///
/// With importance weights, scale, minimum and codes are those of [`ScaleSearch::asymmetric`]; a block of
/// zeros is all zero bytes, except that `m` has the sign of the first zero.
#[inline(always)]
pub(super) fn encode_asymmetric<const TOP: i32, const B: usize, S: ScaleSearch>(
    searches: S,
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    write: impl Fn([u8; 2], [u8; 2], &BlockCodes, &mut [u8; B]),
) -> Result<(), EncodeError> {
    let Some(importance) = importance else {
        return encode_all(
            src,
            out,
            #[inline(always)]
            |values: &BlockValues, out| {
                let (min, max) = extremes(values);
                let d = (max - min) / TOP as f32;
                let id = reciprocal(d);
                let q = codes(values, id, TOP as u8, |x| (x - min) * id + 0.5);
                let d = field(d, values, larger_magnitude(min, max))?;
                write(d, field(min, values, min)?, &q, out);
                Ok(())
            },
        );
    };
    let search = |x: &[BlockValues], weights: SearchWeights<'_, LEN>, fits: &mut [AffineFit]| {
        searches.asymmetric(&grid(TOP), x, weights, fits);
    };
    encode_rows(
        searches,
        src,
        importance,
        out,
        search,
        #[inline(always)]
        |values, fit, out| {
            let q = fit.codes(values, (0, TOP));
            let d = scale_field(fit.scale, values)?;
            write(d, scale_field(-fit.min, values)?, &q, out);
            Ok(())
        },
    )
}
