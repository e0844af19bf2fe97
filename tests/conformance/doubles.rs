//! F64 values: measured at every magnitude, and refused where F32 cannot hold them.

use crate::engines::{engines, every};
use quantoscope_core::DType;
use quantoscope_core::metric::{Histogram, LEAF, Merge, Moments, PairSums};
use quantoscope_core::metric::{MergeTree, moments_leaf, moments_leaf_f64, pair_leaf, pair_leaf_f64};
use quantoscope_core::quant::{EncodeError, Encoding};
use quantoscope_tests::generators::generate;

fn bytes(x: &[f64]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn whole<M: Merge>(n: usize, leaf: impl Fn(std::ops::Range<usize>) -> M) -> M {
    let mut forest = MergeTree::new(1, n as u64);
    for at in 0..n.div_ceil(LEAF) {
        assert!(forest.leaf(0, at as u64, leaf(at * LEAF..n.min((at + 1) * LEAF))));
    }
    forest.total().expect("a total")
}

fn moments(x: &[f64]) -> Moments {
    whole(x.len(), |at| moments_leaf_f64(&x[at]))
}

fn pair(r: &[f64], q: &[f64]) -> PairSums {
    whole(r.len(), |at| pair_leaf_f64(&r[at.clone()], &q[at]))
}

/// The least binary64 that binary32 rounds to infinity: half a step above the largest.
const OVER: f64 = 3.402_823_567_797_336_6e38;

#[test]
fn f64_beyond_f32_is_refused_by_every_engine() {
    let under = f64::from_bits(OVER.to_bits() - 1);
    assert_eq!((under as f32, OVER as f32), (f32::MAX, f32::INFINITY));
    for engine in engines() {
        for at in [0, 31, 255, 256, 2047, 2048, 4000, 4095] {
            let mut x: Vec<f64> = generate("normal", 3, 4096).into_iter().map(f64::from).collect();
            x[at] = -under;
            let mut out = vec![0.0; x.len()];
            assert_eq!(engine.kernels.decode(DType::F64, &bytes(&x), &mut out), Ok(()), "{}", engine.name);
            assert_eq!(out[at], f32::MIN);
            for bad in [OVER, -OVER, 1e300, f64::MAX] {
                x[at] = bad;
                let want = Err(EncodeError::F32Overflow { index: at });
                let got = engine.kernels.decode(DType::F64, &bytes(&x), &mut out);
                assert_eq!(got, want, "{} {bad:e}", engine.name);
                for to in [DType::F32, DType::BF16, DType::Q8_0].map(Encoding::Type) {
                    let got = engine.recode(DType::F64, &bytes(&x), to, x.len());
                    assert_eq!(got.err(), want.err(), "{} {bad:e} {to}", engine.name);
                }
            }
        }
        let odd = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-320, -0.0];
        let mut out = [0.0; 5];
        assert_eq!(engine.kernels.decode(DType::F64, &bytes(&odd), &mut out), Ok(()), "{}", engine.name);
        assert!(out[0] == f32::INFINITY && out[1] == f32::NEG_INFINITY && out[2].is_nan());
    }
}

#[test]
fn f64_to_bf16_overflow_names_the_value() {
    let (largest, over) = (f32::from_bits(0x7F7F_7FFF), f32::from_bits(0x7F7F_8000));
    let bf16 = Encoding::Type(DType::BF16);
    for at in [0, 255, 256, 299] {
        let mut x = vec![largest; 300];
        let made = every().encode(bf16, &x).expect("rounds to the largest");
        assert!(made.chunks(2).all(|b| b == [0x7F, 0x7F]), "{made:x?}");
        for bad in [over, -over, f32::MAX] {
            x[at] = bad;
            assert_eq!(every().encode(bf16, &x), Err(EncodeError::BF16Overflow { index: at }));
        }
    }
    assert!(every().encode(bf16, &[f32::INFINITY, f32::NAN]).is_ok(), "what is infinite already passes");
}

#[test]
fn f64_of_f32_values_measures_as_f32() {
    for family in ["normal", "heavy", "tiny", "huge", "magnitudes", "sparse"] {
        let (x, y) = (generate(family, 5, 256), generate("normal", 6, 256));
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&v| v.into()).collect() };
        assert_eq!(moments_leaf(&x), moments_leaf_f64(&wide(&x)), "{family}");
        assert_eq!(pair_leaf(&x, &y), pair_leaf_f64(&wide(&x), &wide(&y)), "{family}");
    }
}

/// Powers of two by which values are multiplied: to both ends of binary64.
const POWERS: [i32; 6] = [-1000, -300, 0, 300, 900, 1025];

fn times(x: &[f32], power: i32) -> Vec<f64> {
    let half = 2.0_f64.powi(power / 2);
    x.iter().map(|&v| f64::from(v) * half * 2.0_f64.powi(power - power / 2)).collect()
}

#[test]
fn f64_moments_scale_with_the_magnitude() {
    let x = generate("normal", 7, 3000);
    let plain = moments(&times(&x, 0));
    for power in POWERS {
        let scaled = times(&x, power);
        let m = moments(&scaled);
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-12;
        let by = |v: f64| v * 2.0_f64.powi(power / 2) * 2.0_f64.powi(power - power / 2);
        assert!(close(m.std().unwrap(), by(plain.std().unwrap())), "{power}");
        assert!(close(m.mean().unwrap(), by(plain.mean().unwrap())), "{power}");
        assert!(close(m.kurtosis().unwrap(), plain.kurtosis().unwrap()), "{power}");
        assert!(close(m.skewness().unwrap(), plain.skewness().unwrap()), "{power}");
        assert!(close(m.asymmetry().unwrap(), plain.asymmetry().unwrap()), "{power}");
        let top = scaled.iter().copied().fold(f64::MIN, f64::max);
        assert_eq!((m.zeros, m.inf, m.max), (plain.zeros, 0, top), "{power}");
    }
}

#[test]
fn f64_moments_with_one_huge_value_keep_the_others() {
    let mut x = vec![1.0; 600];
    x[300] = 1e300;
    let m = moments(&x);
    assert_eq!((m.min, m.max, m.absmax, m.inf, m.zeros), (1.0, 1e300, 1e300, 0, 0));
    assert!((m.mean().unwrap() / (1e300 / 600.0) - 1.0).abs() < 1e-12);
    let variance = (1.0 / 600.0 - 1.0 / 360_000.0_f64).sqrt() * 1e300;
    assert!((m.std().unwrap() / variance - 1.0).abs() < 1e-12);
    assert_eq!(m.variance(), None, "its square is beyond binary64");
    let tiny = moments(&[1e-320; 64]);
    assert_eq!((tiny.mean(), tiny.min, tiny.zeros, tiny.std()), (Some(1e-320), 1e-320, 0, Some(0.0)));
}

#[test]
fn f64_errors_scale_with_the_magnitude() {
    let (x, y) = (generate("normal", 8, 3000), generate("normal", 9, 3000));
    let noisy: Vec<f32> = x.iter().zip(&y).map(|(a, b)| a + b / 64.0).collect();
    let plain = pair(&times(&x, 0), &times(&noisy, 0));
    for power in POWERS {
        let p = pair(&times(&x, power), &times(&noisy, power));
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-12;
        assert!(close(p.cosine(), plain.cosine()) && close(p.figure(), plain.figure()), "{power}");
        assert!(close(p.relative_error().unwrap(), plain.relative_error().unwrap()), "{power}");
        assert!(close(p.sqnr_db().unwrap(), plain.sqnr_db().unwrap()), "{power}");
        let by = |v: f64| v * 2.0_f64.powi(power / 2) * 2.0_f64.powi(power - power / 2);
        assert!(close(p.rmse(), by(plain.rmse())) && close(p.max_abs, by(plain.max_abs)), "{power}");
    }
}

#[test]
fn f64_histogram_beyond_f32_counts_exactly() {
    let x = [1e300, -1e300, 1e-50, -1e-50, 1e-320, 0.0, 1.0, f64::NAN, f64::INFINITY, f64::MAX, 1e-40];
    let mut h = Histogram::new();
    h.add_f64(&x);
    assert_eq!((h.finite(), h.zeros(), h.nan(), h.inf()), (9, 1, 1, 1));
    let buckets: Vec<_> = h.buckets().collect();
    assert!(buckets.windows(2).all(|w| w[0].1 <= w[1].0), "in the order of their values: {buckets:?}");
    let mut finite: Vec<f64> = x.iter().copied().filter(|v| v.is_finite()).collect();
    finite.sort_by(f64::total_cmp);
    for (value, (low, high, count)) in finite.iter().zip(&buckets) {
        assert!(low <= value && value <= high && *count == 1, "{value:e} in {low:e}..{high:e}");
    }
    for bins in [1, 7, 64] {
        assert_eq!(h.linear(bins, -1e300, f64::MAX).iter().sum::<u64>(), 9);
        assert_eq!(h.linear(bins, f64::MIN, f64::MAX).iter().sum::<u64>(), 9);
    }
    for x in [5e-324, 1.5e-323, 1e-320, 3e-310, 2.3e-308, 1e-300, 1e300] {
        let mut h = Histogram::new();
        h.add_f64(&[x]);
        assert!((h.quantile(0.5).unwrap() / x - 1.0).abs() < 1.0 / 63.0, "{x:e}: {:?}", h.quantile(0.5));
    }
    // What binary32 holds has the buckets of binary32.
    let plain = generate("normal", 10, 5000);
    let (mut single, mut double) = (Histogram::new(), Histogram::new());
    single.add(&plain);
    double.add_f64(&times(&plain, 0));
    assert_eq!(single, double);
}
