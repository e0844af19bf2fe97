//! Detection of NaN and infinity in stored floats, and the largest rounding error of a type.

use crate::engines::every;
use quantoscope_core::DType;
use quantoscope_core::float::{Spacing, nonfinite};
use quantoscope_core::metric::pair_leaf_f64;
use quantoscope_core::quant::Encoding;
use quantoscope_core::quant::gaussian_error::scale_floor;
use quantoscope_tests::generators::generate;

const FLOATS: [DType; 6] = [DType::F64, DType::F32, DType::F16, DType::BF16, DType::F8_E4M3, DType::F8_E5M2];

/// Every pattern of the top 16 bits of a type, with the rest of them 0 and 1.
fn patterns(d: DType) -> Vec<u8> {
    let wide = d.block_bytes() as usize;
    let mut all = Vec::new();
    for top in 0..=u16::MAX {
        for rest in [0_u8, 1] {
            let mut bytes = vec![0; wide];
            bytes[0] = rest;
            let top = top.to_le_bytes();
            match wide {
                1 => bytes[0] = top[0],
                _ => bytes[wide - 2..].copy_from_slice(&top),
            }
            all.extend(bytes);
        }
    }
    all
}

#[test]
fn non_finite_values_are_found_without_decoding() {
    for d in FLOATS {
        let raw = patterns(d);
        let wide = d.block_bytes() as usize;
        let n = raw.len() / wide;
        let is_bad = |x: &[u8]| match d {
            DType::F64 => !f64::from_le_bytes(x.try_into().unwrap()).is_finite(),
            _ => !every().decode(d, x, 1)[0].is_finite(),
        };
        let bad: Vec<usize> = (0..n).filter(|i| is_bad(&raw[i * wide..(i + 1) * wide])).collect();
        assert_eq!(nonfinite(d, &raw), Some((bad[0], bad.len() as u64)), "{d}");
        let good: Vec<u8> = raw.chunks(wide).filter(|x| !is_bad(x)).flatten().copied().collect();
        assert_eq!(nonfinite(d, &good), None, "{d}");
    }
    for (d, bad) in [(DType::F8_E4M3FNUZ, 0x80), (DType::F8_E5M2FNUZ, 0x80), (DType::F8_E8M0, 0xFF)] {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(nonfinite(d, &all), Some((bad, 1)), "{d}");
    }
    assert_eq!(nonfinite(DType::U8, &[0xFF; 64]), None, "bytes are no floats");
}

#[test]
fn spacing_bounds_rounding_by_half_a_step() {
    for d in [DType::F16, DType::BF16] {
        let spacing = Spacing::of(d).expect("a float");
        for family in ["normal", "magnitudes", "ties", "tiny"] {
            let x: Vec<f32> = generate(family, 31, 4096).into_iter().filter(|v| v.abs() < 65_000.0).collect();
            let rounded = every().decode(d, &every().encode(Encoding::Type(d), &x).unwrap(), x.len());
            for (&x, &y) in x.iter().zip(&rounded) {
                let (x, y) = (f64::from(x), f64::from(y));
                assert!((x - y).abs() <= spacing.half(x.abs().min(y.abs())), "{d} {x:e} {y:e}");
            }
        }
    }
    let single = Spacing::of(DType::F32).expect("a float");
    assert_eq!((single.half(1.0), single.half(0.0)), (2.0_f64.powi(-24), 2.0_f64.powi(-150)));
    assert_eq!(Spacing::of(DType::Q4_0), None);
}

/// The root mean square error of an encoding on these values, and the figure that `compare` gives them.
fn lost(e: Encoding, x: &[f32]) -> (f64, f64) {
    let made = every().encode(e, x).expect("small values fit");
    let y = every().decode(e.dtype(), &made, x.len());
    let sums = pair_leaf_f64(&widened(x), &widened(&y));
    (sums.rmse(), sums.figure())
}

fn widened(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| v.into()).collect()
}

/// Rows of every magnitude: what a type loses of a small one is within its floor, or the row is about as good
/// as a large one.
#[test]
fn spacing_floor_covers_small_rows() {
    for e in crate::engines::BLOCKS {
        for family in ["normal", "heavy"] {
            let x = generate(family, 33, 1024);
            let (_, usual) = lost(e, &x);
            for power in -40..4 {
                let small: Vec<f32> = x.iter().map(|v| v * 2.0_f32.powi(power)).collect();
                let (rmse, figure) = lost(e, &small);
                let fine = figure >= (usual - 0.1).min(0.5) || rmse <= scale_floor(e.dtype());
                assert!(fine, "{e} 2^{power} {family}: {figure} {rmse:e} {:e}", scale_floor(e.dtype()));
            }
        }
    }
}
