//! Products of vectors with matrices: every engine within its bound of binary64, and in the same bits for any parts.

use crate::engines::engines;
use quantoscope_core::kernels::{BLOCK, Kernels, Panels, ProductSums};
use quantoscope_tests::models::Rng;
use std::ops::Range;

/// Engines without fused multiply-add.
const UNFUSED: [&str; 2] = ["scalar", "simd128"];

/// Rows of the matrix, columns, vectors.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (1, 64, 16),
    (7, 63, 3),
    (13, 65, 17),
    (12, 256, 32),
    (25, 300, 33),
    (6, 576, 31),
    (37, 129, 1),
    (5, 2000, 40),
];

fn values(count: usize, rng: &mut Rng) -> Vec<f32> {
    rng.weights(count as u64)
}

/// The sums of parts of the columns that end where `ends` says.
fn sums(kernels: &dyn Kernels, x: &Panels, weights: &[f32], rows: usize, ends: &[usize]) -> Vec<f32> {
    let mut totals = vec![0.0; rows * x.padded()];
    let mut begun = vec![f32::NAN; totals.len()];
    let mut start = 0;
    for &end in ends {
        let part =
            |r: Range<usize>| weights.chunks_exact(x.width()).flat_map(move |row| row[r.clone()].to_vec());
        let part: Vec<f32> = part(start..end).collect();
        kernels.multiply(x, start..end, &part, ProductSums { totals: &mut totals, begun: &mut begun });
        start = end;
    }
    totals
}

#[test]
fn multiply_every_engine_is_within_its_bound_of_binary64() {
    let rng = &mut Rng(7);
    for (rows, width, count) in SHAPES {
        let weights = values(rows * width, rng);
        let vectors: Vec<f64> = values(count * width, rng).into_iter().map(f64::from).collect();
        let x = Panels::new(&vectors, width);
        for engine in engines() {
            let found = sums(engine.kernels, &x, &weights, rows, &[width]);
            for (row, weights) in weights.chunks_exact(width).enumerate() {
                for (vector, values) in vectors.chunks_exact(width).enumerate() {
                    let products = weights.iter().zip(values).map(|(w, x)| f64::from(*w) * x);
                    let exact: f64 = products.clone().sum();
                    let size: f64 = products.map(f64::abs).sum();
                    // A chain of a block rounds every product and sum, and then every block is added.
                    let roundings = (2 * width.min(BLOCK) + width.div_ceil(BLOCK)) as f64;
                    let bound = roundings * size * f64::from(f32::EPSILON) / 2.0;
                    let off = (f64::from(found[row * x.padded() + vector]) - exact).abs();
                    assert!(off <= bound, "{} {rows}x{width}x{count}: {off:e} above {bound:e}", engine.name);
                }
            }
        }
    }
}

#[test]
fn multiply_bits_depend_on_fused_rounding_only() {
    let rng = &mut Rng(8);
    for (rows, width, count) in SHAPES {
        let weights = values(rows * width, rng);
        let vectors: Vec<f64> = values(count * width, rng).into_iter().map(f64::from).collect();
        let x = Panels::new(&vectors, width);
        let bits = |sums: Vec<f32>| sums.iter().map(|s| s.to_bits()).collect::<Vec<u32>>();
        let mut fused: Option<Vec<u32>> = None;
        for engine in engines() {
            let whole = bits(sums(engine.kernels, &x, &weights, rows, &[width]));
            for ends in [[width / 3, width / 2, width], [1, width.saturating_sub(1).max(1), width]] {
                let mut ends = ends.to_vec();
                ends.dedup();
                ends.retain(|e| *e > 0);
                let parts = bits(sums(engine.kernels, &x, &weights, rows, &ends));
                assert!(parts == whole, "{} {rows}x{width}x{count} in parts {ends:?}", engine.name);
            }
            // Rows one by one.
            let single =
                weights.chunks_exact(width).flat_map(|row| sums(engine.kernels, &x, row, 1, &[width]));
            assert!(bits(single.collect()) == whole, "{} {rows}x{width}x{count} by rows", engine.name);
            if !UNFUSED.contains(&engine.name) {
                assert!(*fused.get_or_insert_with(|| whole.clone()) == whole, "{}", engine.name);
            }
        }
    }
}
