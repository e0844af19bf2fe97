//! C's `roundf` for the small arguments that quantizers have, without a call.

/// The nearest integer, halves away from zero, for `|x| < 2^21`; beyond that, and for NaN, some integer.
///
/// Adding the largest float below one half and truncating is `roundf`: with 0.5 itself the sum would round up
/// for 0.49999997. Tests prove equality with `roundf` for every binary32 in `[0, 2^21)`.
#[inline]
pub fn round_half_away(x: f32) -> i32 {
    (x + f32::from_bits(0x3EFF_FFFF).copysign(x)) as i32
}
