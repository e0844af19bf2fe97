//! Decoding of IQ1, IQ2 and IQ3 values from a grid entry, signs and a scale.
//!
//! Knows no layout of a single type, and no search.

use super::grids::IQ2_LEVELS;

/// Signs of eight values from the seven stored bits: the eighth makes the number of negative signs even.
#[inline(always)]
pub(super) fn even_signs(stored: u8) -> u8 {
    let seven = stored & 127;
    seven | (seven.count_ones() as u8) << 7
}

/// Level numbers of an entry, `BITS` each.
#[inline(always)]
fn fields<const BITS: usize, const N: usize>(entry: u16) -> [usize; N] {
    core::array::from_fn(|i| usize::from(entry >> (BITS * i)) & ((1 << BITS) - 1))
}

/// Writes eight values `step * level`, negated where the sign bit is set.
#[inline(always)]
fn signed(out: &mut [f32], levels: [f32; 8], step: f32, signs: u8) {
    for (i, (x, level)) in out.iter_mut().zip(levels).enumerate() {
        *x = step * level * if signs >> i & 1 == 0 { 1.0 } else { -1.0 };
    }
}

/// Writes eight values of an IQ2 type.
#[inline(always)]
pub(super) fn put_iq2(out: &mut [f32], entry: u16, step: f32, signs: u8) {
    signed(out, fields::<2, 8>(entry).map(|l| IQ2_LEVELS[l & 3]), step, signs);
}

/// Writes eight values of an IQ3 type, four from each entry.
#[inline(always)]
pub(super) fn put_iq3(out: &mut [f32], levels: &[f32; 8], entries: [u16; 2], step: f32, signs: u8) {
    let [a, b] = entries.map(|e| fields::<3, 4>(e).map(|l| levels[l & 7]));
    signed(out, [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]], step, signs);
}

/// Shift of the levels -1, 0 and 1 in the IQ1 types, added or subtracted (`IQ1S_DELTA` of ggml).
pub(super) const SHIFT: f32 = 0.125;

/// Writes eight values of an IQ1 type; `minus` selects the negative shift.
#[inline(always)]
pub(super) fn put_iq1(out: &mut [f32], entry: u16, step: f32, minus: bool) {
    let shift = if minus { -SHIFT } else { SHIFT };
    for (x, level) in out.iter_mut().zip(fields::<2, 8>(entry)) {
        *x = step * (level as f32 - 1.0 + shift);
    }
}
