//! C's `roundf` and `nearbyintf` for the small arguments that quantizers have, without a call.

/// The nearest integer, halves away from zero, for `|x| < 2^21`; beyond that, and for NaN, some integer.
///
/// Adding the largest float below one half and truncating is `roundf`: with 0.5 itself the sum would round up
/// for 0.49999997. Tests prove equality with `roundf` for every binary32 in `[0, 2^21)`.
#[inline(always)]
pub fn round_half_away(x: f32) -> i32 {
    (x + f32::from_bits(0x3EFF_FFFF).copysign(x)) as i32
}

/// The nearest integer, halves to even, for `|x| < 2^22`; beyond that, and for NaN, the integer of 23 bits that
/// the low bits of the sum happen to hold: ggml's `nearest_int`, of which quantizers use every case.
///
/// Adding 1.5 * 2^23 leaves the rounded integer in the low bits of the sum.
#[inline(always)]
pub fn nearest_even(x: f32) -> i32 {
    ((x + 12_582_912.0).to_bits() & 0x007F_FFFF) as i32 - 0x0040_0000
}
