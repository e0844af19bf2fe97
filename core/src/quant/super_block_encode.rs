//! Super-blocks from the fits of their sub-blocks: the walk over batches, the sharing out of scales under one, and
//! the second pass over the values once the scales are stored. Knows no layout of any one type.

use super::block::{Overflow, scale_field, signed_absmax};
use super::scale_search::AffineFit;
use super::super_block::{SuperBlockCodes, SuperBlockValues};
use super::{EncodeError, check_finite};
use crate::float::{f16_to_f32, nearest_even};

/// Super-blocks that are searched together: enough lanes for any engine, little enough for the first-level cache.
pub const BATCH: usize = 8;
/// The same for blocks of 32.
pub const SMALL_BATCH: usize = 64;

/// Encodes `M` blocks after `M` blocks, after refusing NaN and infinity in all of `src`: `search` fills in what it
/// finds for each block (it is told the index of the first), `write` makes its bytes.
#[inline(always)]
pub fn encode_batches<T: Copy, const N: usize, const B: usize, const M: usize>(
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
            let refused = |Overflow(at)| EncodeError::F16Overflow { index: (n * M + i) * N + at };
            write(values, found, bytes).map_err(refused)?;
        }
    }
    Ok(())
}

/// Refuses a super-block with a sub-block so loud that its sums overflow: it has no finite fit, and ggml then writes
/// nonsense.
#[inline(always)]
pub fn check_fits(fits: &[AffineFit], values: &SuperBlockValues) -> Result<(), Overflow> {
    match fits.iter().all(|f| f.scale.is_finite() && f.min.is_finite()) {
        true => Ok(()),
        false => Err(loudest(values)),
    }
}

/// The place of the value of greatest magnitude.
pub fn loudest(values: &SuperBlockValues) -> Overflow {
    let top = signed_absmax(values);
    Overflow(values.iter().position(|&x| x == top).unwrap_or(0))
}

/// Positive numbers of a super-block as integers under one scale.
#[derive(Clone, Copy)]
pub struct SharedScales<const S: usize> {
    /// The scale, before it is rounded to its field.
    pub scale: f32,
    /// The integers, cast to a byte as ggml casts them.
    pub codes: [u8; S],
}

impl<const S: usize> SharedScales<S> {
    /// The field of the scale and its value.
    #[inline(always)]
    pub fn field(&self, values: &SuperBlockValues) -> Result<([u8; 2], f32), Overflow> {
        let field = scale_field(self.scale, values)?;
        Ok((field, f16_to_f32(u16::from_le_bytes(field))))
    }
}

/// Positive numbers of a super-block in steps of which the greatest has `top`. All 0 where none is positive.
#[inline(always)]
pub fn share<const S: usize>(numbers: [f32; S], top: f32) -> SharedScales<S> {
    let max = numbers.iter().fold(0.0, |max, &n| if n > max { n } else { max });
    if max <= 0.0 {
        return SharedScales { scale: 0.0, codes: [0; S] };
    }
    let inverse = top / max;
    SharedScales { scale: max / top, codes: each(&numbers, |n| nearest_even(inverse * n) as u8) }
}

/// As `map` of an array, and never a call: only so is it compiled with the instructions of its caller.
#[inline(always)]
pub fn each<A: Copy, B: Copy + Default, const S: usize>(all: &[A; S], f: impl Fn(A) -> B) -> [B; S] {
    let mut out = [B::default(); S];
    for (out, &x) in out.iter_mut().zip(all) {
        *out = f(x);
    }
    out
}

/// The number of greatest magnitude; the first of equals, and 0 where all are.
#[inline(always)]
pub fn signed_max<const S: usize>(numbers: &[f32; S]) -> f32 {
    numbers.iter().fold(0.0_f32, |max, &n| if n.abs() > max.abs() { n } else { max })
}

/// Makes `codes` those by the scales that were stored, `round((x + m) / d)` within `low..=top`, counted from `low`; sub-block
/// `j` of `N` values has `(d, m) = step(j)`.
///
/// Where the stored `d` is 0 the codes are what the search left, `left(j)`: any would decode to the same value, and
/// ggml leaves them.
#[inline(always)]
pub fn recode<const N: usize>(
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
        // An array of its own, which nothing can alias: only so is this compiled to vectors.
        let mut new = [0; N];
        for (q, &x) in new.iter_mut().zip(values) {
            *q = (nearest_even((x + m) / d).clamp(low, top) - low) as u8;
        }
        *codes = new;
    }
}

impl AffineFit {
    /// The codes that the search chose, within `low..=top`, counted from `low`.
    #[inline(always)]
    pub fn codes<const N: usize>(&self, x: &[f32; N], (low, top): (i32, i32)) -> [u8; N] {
        if self.inverse == 0.0 {
            return [0; N];
        }
        each(x, |x| (nearest_even(self.inverse * (x - self.base)).clamp(low, top) - low) as u8)
    }
}
