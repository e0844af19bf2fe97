//! Encoding error by bits: a type with more bits must not have a larger error.
//!
//! What can be promised depends on the data. On any tensor, a finer grid of the same construction is better:
//! Q8_0 than Q5_0 than Q4_0, and Q5_1 than Q4_1. A type with a minimum against one without is a
//! statement about the data: on weights (near zero mean) more bits win there too, which is tested on the
//! sample model's tensors and on N(0, s); on one-sided data Q4_1 may well beat Q5_0.

use crate::engines::every;
use quantoscope_core::DType;
use quantoscope_core::metric::{LEAF, Merge, PairSums, pair_leaf};
use quantoscope_core::quant::Encoding;
use quantoscope_tests::generators::generate;

/// Relative error after a round trip.
fn error(d: DType, x: &[f32]) -> f64 {
    let raw = every().encode(Encoding::Type(d), x).unwrap();
    let back = every().decode(d, &raw, x.len());
    let leaves = x.chunks(LEAF).zip(back.chunks(LEAF)).map(|(r, q)| pair_leaf(r, q));
    leaves.fold(PairSums::default(), |sum, leaf| sum.merge(&leaf)).relative_error().unwrap_or(0.0)
}

fn assert_ordered(types: &[DType], x: &[f32], what: &str) {
    let errors: Vec<f64> = types.iter().map(|&d| error(d, x)).collect();
    assert!(errors.is_sorted(), "{what}: {types:?} {errors:?}");
}

const BY_BITS: [DType; 5] = [DType::Q8_0, DType::Q5_1, DType::Q5_0, DType::Q4_1, DType::Q4_0];
/// Super-blocks, and the finest type above them.
const SUPER: [DType; 6] = [DType::Q8_0, DType::Q6_K, DType::Q5_K, DType::Q4_K, DType::Q3_K, DType::Q2_K];
const AROUND_ZERO: [DType; 3] = [DType::Q8_0, DType::Q5_0, DType::Q4_0];
const WITH_MINIMUM: [DType; 2] = [DType::Q5_1, DType::Q4_1];

#[test]
fn error_of_a_finer_grid_is_not_larger() {
    for family in ["normal", "heavy", "shifted", "scaled", "magnitudes", "bf16", "f16", "sparse"] {
        let x = generate(family, 3, 32_768);
        assert_ordered(&AROUND_ZERO, &x, family);
        assert_ordered(&WITH_MINIMUM, &x, family);
        assert_ordered(&[DType::Q5_K, DType::Q4_K, DType::Q2_K], &x, family);
        assert_ordered(&[DType::Q6_K, DType::Q3_K], &x, family);
    }
}

#[test]
fn error_on_normal_values_falls_with_bits_and_equals_ggml() {
    let x = generate("normal", 4, 131_072);
    assert_ordered(&BY_BITS, &x, "normal");
    assert_ordered(&SUPER, &x, "normal");
    // What ggml itself reaches on N(0, 1).
    let known = [0.0054, 0.0378, 0.0413, 0.0783, 0.0862, 0.0054, 0.0178, 0.0362, 0.0718, 0.1514, 0.2973];
    for (d, known) in BY_BITS.into_iter().chain(SUPER).zip(known) {
        assert!((error(d, &x) / known - 1.0).abs() < 0.03, "{d}: {}", error(d, &x));
    }
}

#[test]
fn error_of_other_types_on_normal_values_equals_ggml() {
    // At the scale of 1: NVFP4 has no tensor scale here, and its block scales are coarse below 2^-6.
    let x: Vec<f32> = generate("normal", 4, 131_072).iter().map(|x| x * 50.0).collect();
    for (d, known) in
        [(DType::IQ4_NL, 0.0760), (DType::IQ4_XS, 0.0765), (DType::NVFP4, 0.0960), (DType::MXFP4, 0.1173)]
    {
        assert!((error(d, &x) / known - 1.0).abs() < 0.03, "{d}: {}", error(d, &x));
    }
    assert_eq!(error(DType::TQ1_0, &x), error(DType::TQ2_0, &x), "two packings of one code");
}

/// The sample model's tensors of two axes, widened.
fn sample() -> Vec<(String, Vec<f32>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../www/sample/model.safetensors");
    let file = std::fs::read(path).unwrap();
    let model = safetensors::SafeTensors::deserialize(&file).unwrap();
    let weights = model.iter().filter(|(_, t)| t.shape().len() == 2 && t.shape()[1] % 32 == 0);
    let widen = |raw: &[u8]| every().decode(DType::BF16, raw, raw.len() / 2);
    weights.map(|(name, t)| (name.to_string(), widen(t.data()))).collect()
}

#[test]
fn error_on_the_sample_model_falls_with_bits() {
    let tensors = sample();
    assert!(tensors.len() > 10);
    for (name, x) in tensors {
        assert_ordered(&BY_BITS, &x, &name);
        // What a file would hold: rows of this model do not all divide by 256, but its tensors do.
        assert_ordered(&SUPER, &x[..x.len() / 256 * 256], &name);
    }
}
