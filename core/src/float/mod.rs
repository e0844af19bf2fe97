//! Conversions between binary32 and the small floats, and the rounding helpers that encodings share.
//!
//! Nothing else in the house converts or rounds. Every function here is total, branch-free enough for the
//! compiler to vectorise, and exact: the result depends on the argument's bits alone, never on the target.
//! Knows nothing of blocks, tensors or files. IEEE 754-2019; NaN patterns are those of ggml's `ggml-impl.h`.

mod bf16;
mod e8m0;
mod f16;
mod f8;
mod round;
mod spacing;

pub use bf16::{bf16_to_f32, f32_to_bf16};
pub use e8m0::{e8m0_half_to_f32, floor_log2};
pub use f8::{f8_e4m3_to_f32, f8_e5m2_to_f32, f32_to_ue4m3, ue4m3_to_f32};
pub use f16::{f16_is_finite, f16_to_f32, f32_to_f16};
pub use round::{nearest_even, round_half_away};
pub use spacing::{Spacing, nonfinite};
