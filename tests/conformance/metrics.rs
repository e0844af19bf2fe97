//! Moments and pair errors of a leaf: against naive sums, and at the edges of their definitions.

use proptest::prelude::*;
use quantoscope_core::metric::{LEAF, Merge, MergeTree, Moments, PairSums, moments_leaf, pair_leaf};
use quantoscope_core::wire;
use quantoscope_tests::painters::paint;
use quantoscope_tests::property::property;

fn close(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-12 * scale.abs().max(a.abs())
}

/// All leaves of one row, through the tree.
fn whole<M: Merge>(n: usize, leaf: impl Fn(std::ops::Range<usize>) -> M) -> M {
    let mut forest = MergeTree::new(1, n as u64);
    for at in 0..n.div_ceil(LEAF) {
        forest.leaf(0, at as u64, leaf(at * LEAF..n.min((at + 1) * LEAF)));
    }
    forest.total().unwrap()
}

fn pair(r: &[f32], q: &[f32]) -> PairSums {
    whole(r.len(), |at| pair_leaf(&r[at.clone()], &q[at]))
}

fn moments(x: &[f32]) -> Moments {
    whole(x.len(), |at| moments_leaf(&x[at]))
}

#[test]
fn moments_are_those_of_the_naive_formula() {
    for (family, n) in
        [("normal", 10_000), ("heavy", 4097), ("shifted", 777), ("scaled", 2048), ("bf16", 1), ("ties", 8)]
    {
        let x = paint(family, 11, n);
        let m = moments(&x);
        let wide: Vec<f64> = x.iter().map(|&v| v.into()).collect();
        let mean = wide.iter().sum::<f64>() / n as f64;
        let central = |p: i32| wide.iter().map(|v| (v - mean).powi(p)).sum::<f64>();
        let absolute = wide.iter().map(|v| (v - mean).abs().powi(3)).sum::<f64>();
        assert!(close(m.mean, mean, wide.iter().map(|v| v.abs()).sum::<f64>() / n as f64), "{family} mean");
        assert!(close(m.m2, central(2), 0.0), "{family} m2");
        assert!(close(m.m3, central(3), absolute), "{family} m3");
        assert!(close(m.m4, central(4), 0.0), "{family} m4");
        let max = wide.iter().copied().fold(f64::MIN, f64::max);
        let min = wide.iter().copied().fold(f64::MAX, f64::min);
        assert_eq!((m.n, m.range()), (n as u64, Some((min, max))));
        assert_eq!(m.absmax, max.max(-min));
        assert!(close(m.std().unwrap(), (central(2) / n as f64).sqrt(), 0.0));
    }
}

#[test]
fn kurtosis_is_plain() {
    assert!(
        (moments(&paint("normal", 12, 100_000)).kurtosis().unwrap() - 2.9).abs() < 0.05,
        "twelve uniforms"
    );
    let two: Vec<f32> = (0..100).map(|i| [1.0, -1.0][i % 2]).collect();
    assert_eq!(moments(&two).kurtosis(), Some(1.0));
    assert_eq!(moments(&two).skewness(), Some(0.0));
}

#[test]
fn pair_sums_are_those_of_the_naive_formula() {
    for n in [1, 7, 8, 9, 255, 256, 257, 5000] {
        let (r, q) = (paint("normal", 13, n), paint("heavy", 14, n));
        let s = pair(&r, &q);
        let sum =
            |f: &dyn Fn(f64, f64) -> f64| r.iter().zip(&q).map(|(&a, &b)| f(a.into(), b.into())).sum::<f64>();
        assert!(close(s.e2, sum(&|a, b| (a - b) * (a - b)), 0.0));
        assert!(close(s.r2, sum(&|a, _| a * a), 0.0) && close(s.q2, sum(&|_, b| b * b), 0.0));
        assert!(close(s.rq, sum(&|a, b| a * b), sum(&|a, b| (a * b).abs())));
        assert!(close(s.e1, sum(&|a, b| a - b), sum(&|a, b| (a - b).abs())));
        let cosine = sum(&|a, b| a * b) / (sum(&|a, _| a * a).sqrt() * sum(&|_, b| b * b).sqrt());
        assert!((s.cosine() - cosine).abs() < 1e-12);
        assert!(close(s.rmse(), (sum(&|a, b| (a - b) * (a - b)) / n as f64).sqrt(), 0.0));
        let relative = (sum(&|a, b| (a - b) * (a - b)) / sum(&|a, _| a * a)).sqrt();
        assert!(close(s.relative_error().unwrap(), relative, 0.0));
        assert!((s.sqnr_db().unwrap() + 20.0 * relative.log10()).abs() < 1e-10);
        let max = r.iter().zip(&q).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).fold(0.0, f64::max);
        assert_eq!(s.max_abs, max);
    }
}

#[test]
fn nan_and_infinity_are_counted_and_change_nothing_else() {
    let mut x = paint("normal", 15, 600);
    let clean: Vec<f32> = x.iter().enumerate().map(|(i, &v)| if i % 97 == 5 { 0.0 } else { v }).collect();
    for i in (5..600).step_by(97) {
        x[i] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][i % 3];
    }
    let m = moments(&x);
    assert_eq!((m.n, m.nan + m.inf, m.finite()), (600, 7, 593));
    let kept: Vec<f32> = x.iter().copied().filter(|v| v.is_finite()).collect();
    let mean = kept.iter().map(|&v| f64::from(v)).sum::<f64>() / 593.0;
    assert!((m.mean - mean).abs() < 1e-15);
    let s = pair(&x, &clean);
    assert_eq!((s.n, s.nonfinite_reference, s.nonfinite_candidate), (593, 7, 0));
    assert_eq!((s.rmse(), s.cosine(), s.max_abs), (0.0, 1.0, 0.0));
    let s = pair(&x, &x);
    assert_eq!((s.n, s.nonfinite_reference, s.nonfinite_candidate), (593, 7, 7));
}

#[test]
fn nothing_but_bad_values_is_unknown_and_not_zero() {
    for x in [vec![], vec![f32::NAN; 300], vec![f32::INFINITY; 3]] {
        let m = moments(&x);
        assert_eq!((m.mean(), m.range(), m.variance(), m.std()), (None, None, None, None));
        assert_eq!(
            (m.kurtosis(), m.skewness(), m.asymmetry(), m.worth_asymmetric()),
            (None, None, None, None)
        );
        let s = pair(&x, &x);
        assert_eq!((s.rmse(), s.mse(), s.cosine()), (0.0, 0.0, 1.0));
        assert_eq!((s.relative_error(), s.sqnr_db()), (None, None));
    }
    let zeros = moments(&[-0.0; 9]);
    assert_eq!((zeros.min.to_bits(), zeros.max.to_bits()), (0, 0), "no negative zero is shown");
    assert_eq!(moments(&[2.0; 64]).kurtosis(), None);
    assert_eq!(moments(&[0.0; 64]).asymmetry(), None);
    assert_eq!(moments(&[0.0, -0.0, 1.0]).zeros, 2);
}

#[test]
fn cosine_keeps_its_rules() {
    let (zero, x) = (vec![0.0; 300], paint("normal", 16, 300));
    assert_eq!(pair(&zero, &zero).cosine(), 1.0);
    assert_eq!((pair(&zero, &x).cosine(), pair(&x, &zero).cosine()), (0.0, 0.0));
    assert_eq!(pair(&x, &zero).relative_error(), Some(1.0));
    for family in ["normal", "heavy", "tiny", "huge", "magnitudes", "ties"] {
        let x = paint(family, 17, 10_000);
        let minus: Vec<f32> = x.iter().map(|v| -v).collect();
        assert_eq!(pair(&x, &x).cosine(), 1.0, "{family}");
        assert_eq!(pair(&x, &minus).cosine(), -1.0, "{family}");
        assert_eq!(pair(&x, &x).sqnr_db(), None);
    }
    let rounded_up = PairSums { r2: 1.0, q2: 1.0, rq: 1.0 + f64::EPSILON, ..PairSums::default() };
    assert_eq!(rounded_up.cosine(), 1.0);
    let ends = [f32::MAX, f32::MIN_POSITIVE / 8e6, -f32::MAX];
    assert!(pair(&ends, &ends).cosine() == 1.0 && pair(&ends, &[0.0, 1e-45, 0.0]).cosine() > 0.0);
}

#[test]
fn asymmetry_is_of_rows() {
    let mut forest = MergeTree::new(4, 300);
    for row in 0..4 {
        // Rows of mean +-0.1, and 1.0 once: the mean of |row mean| is about 0.1, that of all about 0.
        let sign = [0.1, -0.1][row % 2];
        let mut x = vec![sign; 300];
        x[0] = 1.0;
        for (leaf, part) in x.chunks(LEAF).enumerate() {
            forest.leaf(row as u64, leaf as u64, moments_leaf(part));
        }
    }
    let m = forest.total().unwrap();
    assert_eq!(m.rows, 4);
    let expect = ((0.1 * 299.0 + 1.0) / 300.0 + (0.1 * 299.0 - 1.0) / 300.0) / 2.0;
    assert!((m.asymmetry().unwrap() - expect).abs() < 1e-8);
    assert_eq!(m.worth_asymmetric(), Some(true));
}

proptest! {
    #![proptest_config(property(file!(), 256))]

    #[test]
    fn byte_forms_are_exact(bits in prop::collection::vec(any::<u32>(), 1..300), cut in any::<prop::sample::Index>()) {
        let x: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let (m, s) = (moments(&x), pair(&x, &x));
        let bytes = wire::encode(&(m, s)).unwrap();
        prop_assert_eq!(wire::decode::<(Moments, PairSums)>(&bytes).unwrap(), (m, s));
        prop_assert!(wire::decode::<(Moments, PairSums)>(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(wire::decode::<(Moments, PairSums)>(&[&bytes[..], &[0]].concat()).is_err());
    }
}
