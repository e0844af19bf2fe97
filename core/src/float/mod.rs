//! Conversions between binary32 and narrower float formats, and the rounding functions that the encodings
//! share.
//!
//! No other module of the workspace converts or rounds floats. Every function is total, vectorizes (no
//! data-dependent branches), and is exact: the result depends on the bits of the argument only, never on the
//! target platform. Knows no blocks, tensors or files.
//!
//! Sources: IEEE 754-2019; NaN patterns as in ggml's `ggml-impl.h`.

mod bf16;
mod e8m0;
mod f16;
mod f8;
mod round;
mod spacing;

pub use bf16::{bf16_to_f32, f32_to_bf16};
pub use e8m0::{e8m0_half_to_f32, e8m0_to_f32, floor_log2};
pub use f8::{f8_e4m3_to_f32, f8_e5m2_to_f32, f32_to_ue4m3, ue4m3_to_f32};
pub use f16::{f16_is_finite, f16_to_f32, f32_to_f16};
pub use round::{nearest_even, round_half_away};
pub use spacing::{Spacing, nonfinite};
