//! Encoding of blocks of 32 values in groups of 16: extremes of each block, then scales with one block per
//! lane, then codes. Knows no block type.

use fearless_simd::{Simd, f32x4, f32x16, i32x4, i32x16, prelude::*, u32x4, u32x16};
use quantoscope_core::quant::EncodeError;

/// Values per block.
pub(super) const LEN: usize = 32;
/// Blocks per group.
pub(super) const GROUP: usize = 16;
/// The values of a group.
pub(super) type BlockGroup = [[f32; LEN]; GROUP];
/// One number for each block of a group.
pub(super) type PerBlock<T> = [T; GROUP];

/// The values must be encoded by the CPU reference: NaN, infinity, F16 overflow, or a scale whose reciprocal
/// is infinite.
pub(super) struct NeedsScalar;

/// The CPU reference of an encoding: writes whole blocks of values.
pub(super) type Reference<'a> = &'a dyn Fn(&[f32], &mut [u8]) -> Result<(), EncodeError>;

/// An encoder of groups, to `B` bytes per block.
pub(super) trait GroupEncoder<const B: usize> {
    /// Encodes a group, or leaves it to the CPU reference.
    fn encode<S: Simd>(simd: S, group: &BlockGroup, out: &mut [[u8; B]; GROUP]) -> Result<(), NeedsScalar>;
}

/// Encodes all groups. Groups that need it, and the remainder, are encoded by `reference`.
///
/// # Errors
/// Those of `reference`.
#[inline(always)]
pub(super) fn encode<T: GroupEncoder<B>, S: Simd, const B: usize>(
    simd: S,
    reference: Reference<'_>,
    src: &[f32],
    out: &mut [u8],
) -> Result<(), EncodeError> {
    let whole = (src.len() / (LEN * GROUP)).min(out.len() / (B * GROUP));
    let (values, rest) = src.split_at(whole * LEN * GROUP);
    let (bytes, rest_out) = out.split_at_mut(whole * B * GROUP);
    let groups = values.as_chunks::<LEN>().0.as_chunks::<GROUP>().0;
    let mut accepted = true;
    for (values, bytes) in groups.iter().zip(bytes.as_chunks_mut::<B>().0.as_chunks_mut::<GROUP>().0) {
        if T::encode(simd, values, bytes).is_err() {
            accepted &= reference(values.as_flattened(), bytes.as_flattened_mut()).is_ok();
        }
    }
    // The reference is one large function for all types: calling it for nothing would cost as much as a tile.
    let no_rest = rest.is_empty() && rest_out.is_empty();
    if accepted && (no_rest || reference(rest, rest_out).is_ok()) {
        return Ok(());
    }
    // The error must name the index in the whole input.
    reference(src, out)
}

/// Half `k` of a block.
#[inline(always)]
pub(super) fn half<S: Simd>(simd: S, block: &[f32; LEN], k: usize) -> f32x16<S> {
    f32x16::load_array_ref(simd, &block.as_chunks::<16>().0[k])
}

/// Whether native vectors have four lanes. A 16-lane vector is then four of them, and loop bodies must be
/// short enough to keep all in registers in any evaluation order (V8 schedules operations of equal depth
/// together).
#[inline(always)]
pub(super) fn four_lanes<S: Simd>() -> bool {
    S::f32s::LEN == 4
}

/// Defines a reduction over each block by an operation that is associative and commutative.
macro_rules! folded {
    ($(#[$doc:meta])* $name:ident, $element:ty, $wide:ident, $narrow:ident, $op:ident, $of:ident) => {
        $(#[$doc])*
        #[inline(always)]
        pub(super) fn $name<S: Simd>(simd: S, group: &BlockGroup) -> PerBlock<$element> {
            #[inline(always)]
            fn quarter<S: Simd>(simd: S, block: &[f32; LEN]) -> $narrow<S> {
                let (low, high): ($wide<S>, $wide<S>) = ($of(half(simd, block, 0)), $of(half(simd, block, 1)));
                let (low, high) = low.$op(high).split();
                let (low, high) = low.$op(high).split();
                low.$op(high)
            }
            #[inline(always)]
            fn across<S: Simd>([a, b, c, d]: [$narrow<S>; 4], out: &mut [$element; 4]) {
                // Each zip halves the lanes per block; pairing even blocks with even ones leaves them in
                // order.
                let even = a.zip_low(c).$op(a.zip_high(c));
                let odd = b.zip_low(d).$op(b.zip_high(d));
                *out = even.zip_low(odd).$op(even.zip_high(odd)).to_array();
            }
            let mut all = [<$element>::default(); GROUP];
            let fours = all.as_chunks_mut::<4>().0;
            if !four_lanes::<S>() {
                for ([a, b, c, d], out) in group.as_chunks::<4>().0.iter().zip(fours) {
                    across([quarter(simd, a), quarter(simd, b), quarter(simd, c), quarter(simd, d)], out);
                }
                return all;
            }
            let mut quarters = [[<$element>::default(); 4]; GROUP];
            for (lanes, block) in quarters.iter_mut().zip(group) {
                *lanes = quarter(simd, block).to_array();
            }
            for ([a, b, c, d], out) in quarters.as_chunks::<4>().0.iter().zip(fours) {
                let (a, b) = ($narrow::load_array_ref(simd, a), $narrow::load_array_ref(simd, b));
                let (c, d) = ($narrow::load_array_ref(simd, c), $narrow::load_array_ref(simd, d));
                across([a, b, c, d], out);
            }
            all
        }
    };
}

#[inline(always)]
fn identity<S: Simd>(v: f32x16<S>) -> f32x16<S> {
    v
}

#[inline(always)]
fn magnitude<S: Simd>(v: f32x16<S>) -> i32x16<S> {
    v.abs().bitcast()
}

/// The bits of the magnitudes times two: one operation, where V8 needs three for an absolute value.
#[inline(always)]
fn doubled<S: Simd>(v: f32x16<S>) -> u32x16<S> {
    v.bitcast::<u32x16<S>>() << 1
}

#[inline(always)]
fn signed<S: Simd>(v: f32x16<S>) -> i32x16<S> {
    v.bitcast()
}

#[inline(always)]
fn unsigned<S: Simd>(v: f32x16<S>) -> u32x16<S> {
    v.bitcast()
}

folded!(
    /// The largest magnitude of each block, as bits; infinity and NaN are above all finite values.
    magnitudes, i32, i32x16, i32x4, max, magnitude
);
folded!(
    /// [`magnitudes`] times two.
    doubled_magnitudes, u32, u32x16, u32x4, max, doubled
);
folded!(
    /// The largest bits as signed integers: those of the largest positive value.
    most_signed, i32, i32x16, i32x4, max, signed
);
folded!(
    /// The largest bits as unsigned integers: those of the most negative value.
    most_unsigned, u32, u32x16, u32x4, max, unsigned
);
folded!(
    /// The minimum of each block; values must be finite.
    minimum, f32, f32x16, f32x4, min, identity
);
folded!(
    /// The maximum of each block; values must be finite.
    maximum, f32, f32x16, f32x4, max, identity
);

/// The largest magnitude of each of four vectors, as bits.
#[inline(always)]
pub(super) fn magnitudes_of_four<S: Simd>(v: [f32x16<S>; 4]) -> [i32; 4] {
    #[inline(always)]
    fn quarter<S: Simd>(v: f32x16<S>) -> i32x4<S> {
        let (low, high) = magnitude(v).split();
        let (low, high) = low.max(high).split();
        low.max(high)
    }
    let (a, b, c, d) = (quarter(v[0]), quarter(v[1]), quarter(v[2]), quarter(v[3]));
    let (even, odd) = (a.zip_low(c).max(a.zip_high(c)), b.zip_low(d).max(b.zip_high(d)));
    even.zip_low(odd).max(even.zip_high(odd)).to_array()
}

/// The integer part of numbers with magnitude below 2^22.
#[inline(always)]
pub(super) fn truncated<S: Simd>(x: f32x16<S>) -> i32x16<S> {
    if cfg!(target_arch = "wasm32") {
        // The saturating conversion of WebAssembly costs more than this.
        return (x.trunc() + 12_582_912.0).bitcast::<i32x16<S>>() - 0x4B40_0000;
    }
    x.to_int()
}

/// The nearest integers, ties away from zero, as the CPU reference rounds.
#[inline(always)]
pub(super) fn rounded<S: Simd>(simd: S, x: f32x16<S>) -> i32x16<S> {
    let almost_half = f32x16::splat(simd, f32::from_bits(0x3EFF_FFFF));
    truncated(x + almost_half.copysign(x))
}

/// The bits of infinity, above those of all finite magnitudes.
pub(super) const INFINITE: i32 = 0x7F80_0000;

/// The value of largest magnitude of each block; the first of equals, +0 for a block of zeros.
#[inline(always)]
pub(super) fn signed_absmax<S: Simd>(simd: S, group: &BlockGroup) -> Result<PerBlock<f32>, NeedsScalar> {
    let (signed, unsigned) = (most_signed(simd, group), most_unsigned(simd, group));
    let (mut max, mut tie, mut needs_scalar, mut tied) = ([0.0; GROUP], [false; GROUP], false, false);
    for b in 0..GROUP {
        // -1 if a block has no value of that sign.
        let positive = signed[b].max(-1);
        let bits = unsigned[b] as i32;
        let negative = if bits < 0 { bits & i32::MAX } else { -1 };
        let top = positive.max(negative);
        let sign = if negative > positive && top > 0 { i32::MIN } else { 0 };
        max[b] = f32::from_bits((top | sign) as u32);
        tie[b] = positive == negative && top > 0;
        tied |= tie[b];
        needs_scalar |= top >= INFINITE;
    }
    if needs_scalar {
        return Err(NeedsScalar);
    }
    if tied {
        for b in (0..GROUP).filter(|&b| tie[b]) {
            max[b] = group[b].iter().copied().find(|x| x.abs() == max[b]).unwrap_or(max[b]);
        }
    }
    Ok(max)
}

/// The largest magnitude of each block.
#[inline(always)]
pub(super) fn absmax<S: Simd>(simd: S, group: &BlockGroup) -> Result<PerBlock<f32>, NeedsScalar> {
    let bits = if four_lanes::<S>() {
        doubled_magnitudes(simd, group).map(|twice| (twice >> 1) as i32)
    } else {
        magnitudes(simd, group)
    };
    let needs_scalar = bits.iter().fold(false, |needs_scalar, &top| needs_scalar | (top >= INFINITE));
    if needs_scalar { Err(NeedsScalar) } else { Ok(bits.map(|top| f32::from_bits(top as u32))) }
}

/// Minimum and maximum of each block; of zeros of both signs, the first is the minimum.
#[inline(always)]
pub(super) fn ranges<S: Simd>(
    simd: S,
    group: &BlockGroup,
) -> Result<(PerBlock<f32>, PerBlock<f32>), NeedsScalar> {
    absmax(simd, group)?;
    let (mut min, max) = (minimum(simd, group), maximum(simd, group));
    if min.contains(&0.0) {
        for (min, block) in min.iter_mut().zip(group).filter(|(min, _)| **min == 0.0) {
            *min = block.iter().copied().find(|x| *x == 0.0).unwrap_or(*min);
        }
    }
    Ok((min, max))
}
