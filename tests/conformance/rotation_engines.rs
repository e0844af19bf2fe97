//! Rotations of every engine against the CPU reference, bit for bit, and F32 against the dense product in F64.
//!
//! Errors that were measured, as the norm of the error over the norm of the vector, in units of 2^-24 (5.96e-8):
//!
//! | length | 64 | 96 | 128 | 576 | 896 | 1024 | 1536 | 2880 | 5120 |
//! |---|---|---|---|---|---|---|---|---|---|
//! | rows of the dense part | 1 | 12 | 1 | 36 | 28 | 1 | 12 | 180 | 20 |
//! | whole axis | 1.14 | 1.73 | 1.40 | 2.23 | 2.03 | 1.54 | 1.88 | 4.32 | 1.99 |
//! | fixing the ones | 1.42 | 2.36 | 1.81 | 3.06 | 2.95 | 2.11 | 2.75 | 6.07 | 2.81 |
//! | blocks of 32 | 1.35 | 1.41 | 1.27 | 1.20 | 1.22 | 1.13 | 1.11 | 1.15 | 1.11 |

use crate::engines::engines;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::rotation::{Form, Rotation};
use quantoscope_tests::generators::generate;

/// Lengths whose dense parts are 1, 12, 20, 28, 36, 180 and what is left when they are small.
const LENGTHS: [u64; 12] = [4, 24, 36, 64, 96, 128, 576, 896, 1024, 1536, 2880, 5120];

fn forms(len: u64) -> Vec<Form> {
    let blocks = [4, 32, 64].into_iter().filter(|&b| len.is_multiple_of(u64::from(b))).map(Form::Block);
    [Form::Full, Form::FixesOnes].into_iter().chain(blocks).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

/// What every engine must make of `x`, rows of `stride` values.
fn rows(rotation: &Rotation, x: &[f32], stride: usize, at: usize) {
    let mut want = x.to_vec();
    Scalar.rotate_rows(rotation, &mut want, stride, at);
    for engine in engines() {
        let mut got = x.to_vec();
        engine.kernels.rotate_rows(rotation, &mut got, stride, at);
        let what = (engine.name, rotation.len(), rotation.form(), stride, at);
        assert!(bits(&got) == bits(&want), "{what:?}");
    }
}

#[test]
fn rotate_rows_on_every_engine_equals_the_reference() {
    for len in LENGTHS {
        let n = len as usize;
        for form in forms(len) {
            let rotation = Rotation::new(len, form, !len).expect("a rotation");
            for (count, stride, at) in [(1, n, 0), (3, n, 0), (2, n + 7, 5), (2, 2 * n, n), (1, n + 1, 2)] {
                // A row that is not whole, and a vector that leaves its row, stay as they are.
                rows(&rotation, &generate("normal", len, count * stride + 1), stride, at);
            }
        }
    }
}

#[test]
fn rotate_columns_on_every_engine_equals_the_reference() {
    for len in LENGTHS {
        for form in forms(len) {
            let rotation = Rotation::new(len, form, len).expect("a rotation");
            for width in [1, 15, 16, 17, 33] {
                let x = generate("normal", len + width as u64, len as usize * width);
                let mut want = x.clone();
                Scalar.rotate_columns(&rotation, &mut want, width);
                for engine in engines() {
                    let mut got = x.clone();
                    engine.kernels.rotate_columns(&rotation, &mut got, width);
                    assert!(bits(&got) == bits(&want), "{} {len} {form:?} {width}", engine.name);
                }
            }
        }
    }
}

#[test]
fn rotate_f64_on_every_engine_equals_the_reference() {
    let bits = |x: &[f64]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let wide = |x: Vec<f32>| x.into_iter().map(|v| f64::from(v) / 3.0).collect::<Vec<_>>();
    for len in LENGTHS {
        for form in forms(len) {
            let rotation = Rotation::new(len, form, len).expect("a rotation");
            for width in [1, 7, 8, 9, 17] {
                let x = wide(generate("normal", len + width as u64, len as usize * width));
                let (mut columns, mut rows) = (x.clone(), x.clone());
                Scalar.rotate_columns_f64(&rotation, &mut columns, width);
                Scalar.rotate_rows_f64(&rotation, &mut rows, len as usize, 0);
                for engine in engines() {
                    let (mut a, mut b) = (x.clone(), x.clone());
                    engine.kernels.rotate_columns_f64(&rotation, &mut a, width);
                    engine.kernels.rotate_rows_f64(&rotation, &mut b, len as usize, 0);
                    assert!(bits(&a) == bits(&columns), "{} {len} {form:?} {width}", engine.name);
                    assert!(bits(&b) == bits(&rows), "{} {len} {form:?}", engine.name);
                }
            }
        }
    }
}

#[test]
fn rotate_empty_matrices_does_not_panic() {
    let rotation = Rotation::new(64, Form::Full, 1).expect("a rotation");
    for engine in engines() {
        engine.kernels.rotate_rows(&rotation, &mut [], 64, 0);
        engine.kernels.rotate_rows(&rotation, &mut [], 0, 0);
        engine.kernels.rotate_columns(&rotation, &mut [], 0);
    }
}

/// The norm of the error of binary32 over the norm of the vector, in units of 2^-24.
fn relative(len: u64, form: Form) -> f64 {
    let rotation = Rotation::new(len, form, 0x00C0_FFEE).expect("a rotation");
    let x = generate("normal", len, len as usize);
    let mut y = x.clone();
    Scalar.rotate_rows(&rotation, &mut y, len as usize, 0);
    // Rotated back by the dense product: what is not there again is the fast one's error.
    let back = rotation.dense_transposed(&y.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
    let off: f64 = back.iter().zip(&x).map(|(b, &x)| (b - f64::from(x)).powi(2)).sum();
    let norm: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
    (off / norm).sqrt() * 16_777_216.0
}

#[test]
fn rotate_f32_error_is_small() {
    for len in LENGTHS.into_iter().filter(|&l| l >= 64) {
        for form in [Form::Full, Form::FixesOnes, Form::Block(32)] {
            let found = relative(len, form);
            println!("{len} {form:?}: {found:.2}");
            assert!(found < 8.0, "{len} {form:?}: {found}");
        }
    }
}
