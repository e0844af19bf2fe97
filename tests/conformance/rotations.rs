//! Rotations against a dense F64 product, and in windows.

use proptest::prelude::*;
use quantoscope_core::Code;
use quantoscope_core::rotation::hadamard::Hadamard;
use quantoscope_core::rotation::signs::{block_seed, signs};
use quantoscope_core::rotation::{Form, Rotation};
use quantoscope_tests::property::property;

const LENGTHS: [u64; 14] = [1, 2, 4, 12, 16, 24, 36, 40, 52, 64, 96, 144, 160, 576];

/// The matrix of a rotation, from the definition: no butterflies.
fn dense(len: usize, form: Form, seed: u64) -> Vec<Vec<f64>> {
    let sign = |negative: bool| if negative { -1.0 } else { 1.0 };
    let order = if let Form::Block(b) = form { b as usize } else { len };
    let h = Hadamard::new(order as u64).unwrap();
    let entry = |r, c| f64::from(h.entry(r, c)) / (order as f64).sqrt();
    if form == Form::FixesOnes {
        let mut d = signs(seed, len);
        d[0] = false;
        let normal = |r: usize, c: usize| entry(r, c) * f64::from(h.entry(0, c));
        let at = |i, j| (0..len).map(|k| normal(k, i) * sign(d[k]) * normal(k, j)).sum();
        return (0..len).map(|i| (0..len).map(|j| at(i, j)).collect()).collect();
    }
    let d: Vec<bool> = match form {
        Form::Block(_) => (0..len / order).flat_map(|i| signs(block_seed(seed, i as u64), order)).collect(),
        _ => signs(seed, len),
    };
    let at = |i: usize, j: usize| {
        if i / order == j / order { entry(i % order, j % order) * sign(d[j]) } else { 0.0 }
    };
    (0..len).map(|i| (0..len).map(|j| at(i, j)).collect()).collect()
}

fn forms(len: u64) -> Vec<Form> {
    let blocks = [1, 4, 12, 32].into_iter().filter(|&b| len.is_multiple_of(u64::from(b))).map(Form::Block);
    [Form::Full, Form::FixesOnes].into_iter().chain(blocks).collect()
}

fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn rotation_rows_and_columns_equal_the_dense_product() {
    for len in LENGTHS {
        for form in forms(len) {
            let (n, seed) = (len as usize, 0x00C0_FFEE ^ len);
            let r = Rotation::new(len, form, seed).unwrap();
            let matrix = dense(n, form, seed);
            let x = values(len, n);
            let expected: Vec<f64> =
                matrix.iter().map(|row| row.iter().zip(&x).map(|(a, &b)| a * f64::from(b)).sum()).collect();
            let mut wide: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            r.rows(&mut wide);
            let mut narrow = x.clone();
            r.columns(&mut narrow, 1);
            for ((&e, &w), &f) in expected.iter().zip(&wide).zip(&narrow) {
                assert!((e - w).abs() < 1e-13, "{len} {form:?}: {e} and {w}");
                assert!((e - f64::from(f)).abs() < 2e-6, "{len} {form:?}: {e} and {f}");
            }
            r.rows_back(&mut wide);
            r.columns_back(&mut narrow, 1);
            for ((&x, &w), &f) in x.iter().zip(&wide).zip(&narrow) {
                assert!((f64::from(x) - w).abs() < 1e-13);
                assert!((x - f).abs() < 2e-6);
            }
        }
    }
}

#[test]
fn rotation_signs_are_applied_before_the_matrix() {
    // D H has one sign a row of the product, H D a row that keeps its sign: e_0 tells them apart.
    let r = Rotation::new(64, Form::Full, 0x00C0_FFEE).unwrap();
    let mut x = [0.0_f64; 64];
    x[0] = 1.0;
    r.rows(&mut x);
    assert!(x.iter().all(|&v| v == -0.125), "the first sign of this seed is -1, for all of the first column");
}

#[test]
fn rotation_fixing_ones_keeps_the_ones_vector() {
    for len in LENGTHS {
        let r = Rotation::new(len, Form::FixesOnes, 7).unwrap();
        let mut x = vec![1.0_f64; len as usize];
        r.rows(&mut x);
        assert!(x.iter().all(|v| (v - 1.0).abs() < 1e-12), "{len}");
    }
    // A rotation that is not made for it moves them.
    let mut x = vec![1.0_f64; 64];
    Rotation::new(64, Form::Full, 7).unwrap().rows(&mut x);
    assert!(x.iter().any(|v| (v - 1.0).abs() > 0.1));
}

#[test]
fn rotation_of_an_outlier_spreads_it() {
    for form in [Form::Full, Form::FixesOnes] {
        let mut x = values(3, 1024);
        x[517] = 100.0;
        Rotation::new(1024, form, 42).unwrap().rows(&mut x);
        assert!(x.iter().all(|v| v.abs() < 50.0), "{form:?}");
    }
}

#[test]
fn rotation_blocks_have_their_own_signs() {
    let r = Rotation::new(256, Form::Block(64), 0x00C0_FFEE).unwrap();
    let columns: Vec<Vec<f32>> = (0..4)
        .map(|block| {
            let mut x = vec![0.0; 256];
            x[block * 64..][..64].copy_from_slice(&values(9, 64));
            r.rows(&mut x);
            assert!(x.iter().enumerate().all(|(i, &v)| v == 0.0 || i / 64 == block), "stays in its block");
            x[block * 64..][..64].to_vec()
        })
        .collect();
    assert!(columns.windows(2).all(|w| w[0] != w[1]));
}

#[test]
fn rotation_of_impossible_order_is_refused() {
    let cases =
        [(0, Form::Full), (7, Form::Full), (92, Form::Full), (96, Form::Block(36)), (64, Form::Block(0))];
    for (len, form) in cases {
        assert_eq!(
            Rotation::new(len, form, 0).unwrap_err().code(),
            Code::UnsupportedRotation,
            "{len} {form:?}"
        );
    }
    let too_long = Rotation::new(1 << 25, Form::Full, 0).unwrap_err();
    assert_eq!(too_long.code(), Code::UnsupportedRotation);
}

proptest! {
    #![proptest_config(property(file!(), 200))]

    #[test]
    fn rotation_in_windows_equals_whole(
        which in 0..LENGTHS.len(), form in 0..6_usize, seed: u64, count in 1..9_usize, cut in 0..9_usize,
    ) {
        let len = LENGTHS[which];
        let forms = forms(len);
        let r = Rotation::new(len, forms[form % forms.len()], seed).unwrap();
        let n = len as usize;
        let whole = values(seed, n * count);
        let cut = cut.min(count);

        let mut rows = whole.clone();
        r.rows(&mut rows);
        let mut parts = whole.clone();
        let (a, b) = parts.split_at_mut(cut * n);
        r.rows(b);
        r.rows(a);
        prop_assert_eq!(bits(&rows), bits(&parts));

        // The same vectors as columns: window by window, and as rows.
        let transposed = |x: &[f32], from: usize, to: usize| -> Vec<f32> {
            (0..n).flat_map(|i| (from..to).map(move |j| (i, j))).map(|(i, j)| x[j * n + i]).collect()
        };
        let mut columns = transposed(&whole, 0, count);
        r.columns(&mut columns, count);
        prop_assert_eq!(bits(&columns), bits(&transposed(&rows, 0, count)));
        if cut > 0 && cut < count {
            let mut window = transposed(&whole, cut, count);
            r.columns(&mut window, count - cut);
            prop_assert_eq!(bits(&window), bits(&transposed(&rows, cut, count)));
        }
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}
