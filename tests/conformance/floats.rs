//! Conversions against the `half` crate and the letter of `roundf`. All 2^32 patterns:
//! `bin/exhaustive_f32.rs`.

use half::{bf16, f16};
use quantoscope_core::float::*;
use quantoscope_tests::generators::word;

/// ggml's and ours; `half` keeps the payload of a NaN.
fn f16_reference(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) as u16 & 0x8000;
    if x.is_nan() { sign | 0x7E00 } else { f16::from_f32_const(x).to_bits() }
}

fn check_narrowing(bits: u32) {
    let x = f32::from_bits(bits);
    assert_eq!(f32_to_f16(x), f16_reference(x), "f16 of {bits:08x}");
    assert_eq!(f32_to_bf16(x), bf16::from_f32(x).to_bits(), "bf16 of {bits:08x}");
}

#[test]
fn f16_and_bf16_widen_as_the_half_crate() {
    for h in 0..=u16::MAX {
        let (ours, theirs) = (f16_to_f32(h), f16::from_bits(h).to_f32_const());
        assert_eq!(ours.to_bits(), theirs.to_bits(), "f16 {h:04x}");
        assert_eq!(f16_is_finite(h), ours.is_finite());
        // `half` quiets a signalling NaN of bf16; we, as ggml, keep every bit.
        assert_eq!(bf16_to_f32(h).to_bits(), u32::from(h) << 16);
        if !bf16::from_bits(h).is_nan() {
            assert_eq!(bf16_to_f32(h).to_bits(), bf16::from_bits(h).to_f32_const().to_bits(), "bf16 {h:04x}");
        }
    }
}

#[test]
fn f16_and_bf16_widened_narrow_back() {
    for h in 0..=u16::MAX {
        if !f16::from_bits(h).is_nan() {
            assert_eq!(f32_to_f16(f16_to_f32(h)), h);
        }
        if !bf16::from_bits(h).is_nan() {
            assert_eq!(f32_to_bf16(bf16_to_f32(h)), h);
        }
    }
}

/// Every value of both types, the middle to its neighbour, and one bit to each side of those.
#[test]
fn f16_and_bf16_narrow_midpoints_as_the_half_crate() {
    for h in 0..=u16::MAX {
        for middle in [f16_to_f32(h).to_bits(), u32::from(h) << 16] {
            for half_step in [0, 0x0800, 0x1000, 0x8000] {
                for bits in [-1, 0, 1].map(|d| middle.wrapping_add(half_step).wrapping_add_signed(d)) {
                    check_narrowing(bits);
                }
            }
        }
    }
}

#[test]
fn f16_and_bf16_narrow_random_patterns_as_the_half_crate() {
    for at in 0..5_000_000 {
        let w = word(20_250_611, at);
        check_narrowing(w as u32);
        check_narrowing((w >> 32) as u32);
    }
}

#[test]
fn bf16_nan_patterns_equal_ggml() {
    for (bits, h, b) in [
        (0x7FC0_0000, 0x7E00, 0x7FC0),
        (0x7F80_0001, 0x7E00, 0x7FC0),
        (0xFF80_0001, 0xFE00, 0xFFC0),
        (0xFFC1_2345, 0xFE00, 0xFFC1),
        (0x7FFF_FFFF, 0x7E00, 0x7FFF),
    ] {
        let x = f32::from_bits(bits);
        assert_eq!((f32_to_f16(x), f32_to_bf16(x)), (h, b), "{bits:08x}");
    }
}

#[test]
fn round_away_around_midpoints_equals_roundf() {
    for k in 0..1 << 21 {
        let half = (k as f32 + 0.5).to_bits();
        for bits in [half - 1, half, half + 1, (k as f32).to_bits()] {
            let x = f32::from_bits(bits);
            assert_eq!(round_half_away(x), x.round() as i32, "{x:e}");
            assert_eq!(round_half_away(-x), (-x).round() as i32, "-{x:e}");
        }
    }
    assert_eq!(round_half_away(0.499_999_97), 0);
}

/// The value of an 8-bit float by its fields.
fn f8(b: u8, exponent_bits: u32, bias: i32) -> f64 {
    let mantissa_bits = 7 - exponent_bits;
    let sign = if b & 0x80 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(b & 0x7F) >> mantissa_bits;
    let mantissa = f64::from(b & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
    let lead = if exponent == 0 { 0.0 } else { 1.0 };
    sign * (lead + mantissa) * 2_f64.powi(exponent.max(1) - bias)
}

#[test]
fn f8_all_patterns_equal_their_fields() {
    for b in 0..=u8::MAX {
        let e4m3 = f8_e4m3_to_f32(b);
        if b & 0x7F == 0x7F {
            assert!(e4m3.is_nan());
        } else {
            assert_eq!(f64::from(e4m3).to_bits(), f8(b, 4, 7).to_bits(), "e4m3 {b:02x}");
        }
        let e5m2 = f8_e5m2_to_f32(b);
        match b & 0x7F {
            0x7C => assert_eq!(e5m2, f32::INFINITY.copysign(f8(b, 5, 15) as f32)),
            0x7D.. => assert!(e5m2.is_nan()),
            _ => assert_eq!(f64::from(e5m2).to_bits(), f8(b, 5, 15).to_bits(), "e5m2 {b:02x}"),
        }
    }
}

#[test]
fn floor_log2_near_powers_of_two_equals_log2f() {
    let correct = |x: f32| (f64::from(x).log2() as f32).floor() as i32;
    for k in -149..128 {
        let power = 2.0_f64.powi(k) as f32;
        for n in -60..60 {
            let x = f32::from_bits(power.to_bits().wrapping_add_signed(n));
            if x > 0.0 && x.is_finite() {
                assert_eq!(floor_log2(x), correct(x), "{x:e}");
            }
        }
    }
    assert_eq!((floor_log2(f32::MAX), floor_log2(f32::from_bits(1))), (128, -149));
}

#[test]
fn e8m0_all_exponents_are_halved() {
    for e in 0..=u8::MAX {
        assert_eq!(f64::from(e8m0_half_to_f32(e)), 2.0_f64.powi(i32::from(e) - 128));
    }
}

#[test]
fn ue4m3_all_patterns_equal_ggml() {
    for b in 0..0x7F {
        assert_eq!(ue4m3_to_f32(b), f8_e4m3_to_f32(b));
        assert_eq!(f32_to_ue4m3(ue4m3_to_f32(b)), if b < 0x78 { b } else { 0x7E });
        assert_eq!(ue4m3_to_f32(b | 0x80), ue4m3_to_f32(b));
        if b < 0x78 {
            let middle = (ue4m3_to_f32(b) + ue4m3_to_f32(b + 1)) / 2.0;
            let up = match b {
                // The last subnormal number takes all below the first normal one.
                7 => 7,
                0x77 => 0x7E,
                _ => b + 1,
            };
            let below = middle * 0.999_999;
            assert_eq!((f32_to_ue4m3(middle), f32_to_ue4m3(below)), (up, b), "{middle}");
        }
    }
    assert_eq!((ue4m3_to_f32(0x7F), ue4m3_to_f32(0xFF)), (0.0, 480.0));
    assert_eq!([-1.0, -0.0, f32::MAX, f32::INFINITY].map(f32_to_ue4m3), [0, 0, 0x7E, 0x7E]);
}

#[test]
fn nearest_integer_rounds_ties_to_even() {
    for i in -40_000..40_000 {
        let x = i as f32 / 16.0;
        assert_eq!(nearest_even(x), x.round_ties_even() as i32);
    }
    assert_eq!((nearest_even(4_194_303.0), nearest_even(-4_194_303.0)), (4_194_303, -4_194_303));
    assert_eq!((nearest_even(f32::NAN), nearest_even(f32::INFINITY)), (0, -0x40_0000), "as ggml's does");
}
