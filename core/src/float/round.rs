//! C's `roundf` and `nearbyintf` for the small arguments of quantizers, without a library call.

/// Rounds to the nearest integer, halves away from zero, for `|x| < 2^21`. The result for larger values and
/// NaN is unspecified.
///
/// Adding the largest float below 0.5 and truncating equals `roundf`. With 0.5 itself, 0.49999997 would round
/// up. A test proves equality with `roundf` for every binary32 in `[0, 2^21)`.
#[inline(always)]
pub fn round_half_away(x: f32) -> i32 {
    (x + f32::from_bits(0x3EFF_FFFF).copysign(x)) as i32
}

/// Rounds to the nearest integer, halves to even, for `|x| < 2^22`: ggml's `nearest_int`.
///
/// Adding 1.5 * 2^23 leaves the rounded integer in the low bits of the sum. For larger values and NaN the
/// result is the 23-bit integer in those bits; ggml's quantizers depend on it, so it is part of the
/// definition.
#[inline(always)]
pub fn nearest_even(x: f32) -> i32 {
    ((x + 12_582_912.0).to_bits() & 0x007F_FFFF) as i32 - 0x0040_0000
}
