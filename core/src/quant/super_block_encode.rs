//! Encoding of super-blocks from the fits of their sub-blocks: iteration over batches, quantization of the
//! scales, and the second pass over the values with the stored scales. Knows no layout of a single type.

use super::block::{Overflow, scale_field, signed_absmax};
use super::scale_search::AffineFit;
use super::super_block::{SuperBlockCodes, SuperBlockValues};
use super::{EncodeError, check_finite};
use crate::float::{f16_to_f32, nearest_even};

/// Super-blocks that are searched together: enough lanes for every engine, and small enough for the L1 cache.
pub(super) const BATCH: usize = 8;
/// Blocks of 32 that are searched together.
pub(super) const SMALL_BATCH: usize = 64;

/// Encodes `src` in batches of `M` blocks.
///
/// - `search(first, values, found)` writes a result for each block; `first` is the index of the first block.
/// - `write(values, found, out)` writes the bytes of a block.
///
/// # Errors
///
/// [`EncodeError::NonFinite`] for NaN or infinity anywhere in `src`, then [`EncodeError::F16Overflow`] for
/// the first block with an [`Overflow`].
#[inline(always)]
pub(super) fn encode_batches<T: Copy, const N: usize, const B: usize, const M: usize>(
    src: &[f32],
    out: &mut [u8],
    blank: [T; M],
    search: impl Fn(usize, &[[f32; N]], &mut [T]),
    write: impl Fn(&[f32; N], &T, &mut [u8; B]) -> Result<(), Overflow>,
) -> Result<(), EncodeError> {
    check_finite(src)?;
    let (src, rest) = src.as_chunks::<N>();
    let (out, over) = out.as_chunks_mut::<B>();
    assert!(rest.is_empty() && over.is_empty() && src.len() == out.len(), "whole blocks and their bytes");
    let mut found = blank;
    for (n, (values, bytes)) in src.chunks(M).zip(out.chunks_mut(M)).enumerate() {
        let found = &mut found[..values.len()];
        search(n * M, values, found);
        for (i, ((values, found), bytes)) in values.iter().zip(found).zip(bytes).enumerate() {
            let overflow = |Overflow(at)| EncodeError::F16Overflow { index: (n * M + i) * N + at };
            write(values, found, bytes).map_err(overflow)?;
        }
    }
    Ok(())
}

/// Refuses a super-block with a sub-block whose sums overflowed: it has no finite fit, and ggml writes an
/// invalid block.
#[inline(always)]
pub(super) fn check_fits(fits: &[AffineFit], values: &SuperBlockValues) -> Result<(), Overflow> {
    match fits.iter().all(|f| f.scale.is_finite() && f.min.is_finite()) {
        true => Ok(()),
        false => Err(overflow_at_absmax(values)),
    }
}

/// [`Overflow`] at the value of largest magnitude.
pub(super) fn overflow_at_absmax(values: &SuperBlockValues) -> Overflow {
    let top = signed_absmax(values);
    Overflow(values.iter().position(|&x| x == top).unwrap_or(0))
}

/// Scales or minima of a super-block as integers in units of one scale.
#[derive(Clone, Copy)]
pub(super) struct SharedScales<const S: usize> {
    /// The scale, before it is rounded to binary16.
    pub scale: f32,
    /// The integers, cast to a byte as in ggml.
    pub codes: [u8; S],
}

impl<const S: usize> SharedScales<S> {
    /// Binary16 field of the scale, and its value.
    ///
    /// # Errors
    ///
    /// [`Overflow`] if the field would be infinite.
    #[inline(always)]
    pub(super) fn field(&self, values: &SuperBlockValues) -> Result<([u8; 2], f32), Overflow> {
        let field = scale_field(self.scale, values)?;
        Ok((field, f16_to_f32(u16::from_le_bytes(field))))
    }
}

/// Quantizes scales or minima; the largest becomes `top`. All are 0 if none is positive.
#[inline(always)]
pub(super) fn quantize_scales<const S: usize>(numbers: [f32; S], top: f32) -> SharedScales<S> {
    let max = numbers.iter().fold(0.0, |max, &n| if n > max { n } else { max });
    if max <= 0.0 {
        return SharedScales { scale: 0.0, codes: [0; S] };
    }
    let inverse = top / max;
    SharedScales { scale: max / top, codes: each(&numbers, |n| nearest_even(inverse * n) as u8) }
}

/// `map` of an array that is always inlined, so that it is compiled with the instruction set of its caller.
#[inline(always)]
pub(super) fn each<A: Copy, B: Copy + Default, const S: usize>(all: &[A; S], f: impl Fn(A) -> B) -> [B; S] {
    let mut out = [B::default(); S];
    for (out, &x) in out.iter_mut().zip(all) {
        *out = f(x);
    }
    out
}

/// The number of largest magnitude, with its sign; of equal ones the first, and 0 if all are 0.
#[inline(always)]
pub(super) fn signed_max<const S: usize>(numbers: &[f32; S]) -> f32 {
    numbers.iter().fold(0.0_f32, |max, &n| if n.abs() > max.abs() { n } else { max })
}

/// Computes codes from the stored scales: `round((x + m) / d)` limited to `low..=top`, minus `low`. Sub-block
/// `j` of `N` values has `(d, m) = step(j)`.
///
/// If the stored `d` is 0, the codes are those of the search, `left(j, x)`: any codes would decode to the
/// same values, and ggml keeps them.
#[inline(always)]
pub(super) fn recode<const N: usize>(
    values: &SuperBlockValues,
    (low, top): (i32, i32),
    step: impl Fn(usize) -> (f32, f32),
    left: impl Fn(usize, &[f32; N]) -> [u8; N],
    codes: &mut SuperBlockCodes,
) {
    let parts = values.as_chunks::<N>().0.iter().zip(codes.as_chunks_mut::<N>().0);
    for (j, (values, codes)) in parts.enumerate() {
        let (d, m) = step(j);
        if d == 0.0 {
            *codes = left(j, values);
            continue;
        }
        // A separate array cannot alias, which lets the compiler vectorize.
        let mut new = [0; N];
        for (q, &x) in new.iter_mut().zip(values) {
            *q = (nearest_even((x + m) / d).clamp(low, top) - low) as u8;
        }
        *codes = new;
    }
}

impl AffineFit {
    /// Codes of the search, limited to `low..=top`, minus `low`.
    #[inline(always)]
    pub fn codes<const N: usize>(&self, x: &[f32; N], (low, top): (i32, i32)) -> [u8; N] {
        if self.inverse == 0.0 {
            return [0; N];
        }
        each(x, |x| (nearest_even(self.inverse * (x - self.base)).clamp(low, top) - low) as u8)
    }
}
