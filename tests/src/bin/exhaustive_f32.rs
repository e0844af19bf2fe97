//! Every binary32 there is, narrowed by us and by the `half` crate; and rounding against `roundf`.
//!
//! `cargo run --release -p quantoscope-tests --bin exhaustive_f32` (about a minute of one core). Too long for
//! every test run, so the tests take the seams and ten million random patterns, and this is run by hand.

use half::{bf16, f16};
use quantoscope_core::float::{f32_to_bf16, f32_to_f16, round_half_away};

/// Mismatches of one pattern: F16, BF16, rounding.
fn wrong(bits: u32) -> [u64; 3] {
    let x = f32::from_bits(bits);
    // ggml drops the payload of a NaN where `half` keeps it.
    let f16 = if x.is_nan() { (bits >> 16) as u16 & 0x8000 | 0x7E00 } else { f16::from_f32(x).to_bits() };
    let rounds = x.abs() >= (1 << 21) as f32 || x.is_nan() || round_half_away(x) == x.round() as i32;
    [f32_to_f16(x) != f16, f32_to_bf16(x) != bf16::from_f32(x).to_bits(), !rounds].map(u64::from)
}

fn main() {
    let mut total = [0; 3];
    for bits in 0..=u32::MAX {
        for (sum, n) in total.iter_mut().zip(wrong(bits)) {
            *sum += n;
        }
    }
    println!("4294967296 patterns; differing: F16 {}, BF16 {}, rounding {}", total[0], total[1], total[2]);
    std::process::exit(i32::from(total != [0; 3]));
}
