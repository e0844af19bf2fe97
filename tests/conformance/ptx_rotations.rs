//! The PTX rotation kernel in the interpreter: bits equal the CPU reference, however passes are divided.

use quantoscope_accel::cuda::launch::{MatrixLayout, rotate};
use quantoscope_core::job::Axis;
use quantoscope_core::kernels::{Kernels, Scalar};
use quantoscope_core::rotation::{Form, Rotation};
use quantoscope_tests::generators::generate;
use quantoscope_tests::ptx::{LaunchInputs, Programs};
use quantoscope_tests::vectors::f32_bytes;

fn floats(raw: &[u8]) -> Vec<f32> {
    raw.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// What the definition makes of a matrix.
fn definition(rotation: &Rotation, matrix: MatrixLayout, x: &[f32]) -> Vec<f32> {
    let (width, at) = (matrix.width as usize, matrix.at as usize);
    let mut want = x.to_vec();
    match matrix.along {
        Axis::In => Scalar.rotate_rows(rotation, &mut want, width, at),
        Axis::Out => {
            let rows = &mut want[at * width..(at + rotation.len()) * width];
            Scalar.rotate_columns(rotation, rows, width);
        }
    }
    want
}

/// What the launches make of it, and whether they say that a result is not finite.
fn launched(programs: &Programs, rotation: &Rotation, matrix: MatrixLayout, x: &[f32]) -> (Vec<f32>, bool) {
    let (launches, table) = rotate(rotation, matrix).expect("a matrix that it can turn");
    let raw = f32_bytes(x);
    let given = LaunchInputs { src: &raw, out: raw.clone(), weights: &[], table: &table, between: 0 };
    let (out, flag) = programs.run(&launches, given).unwrap();
    (floats(&out), flag)
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn check(programs: &Programs, rotation: &Rotation, matrix: MatrixLayout, scale: f32) {
    let seed = rotation.len() as u64 + u64::from(matrix.width);
    let x = generate("normal", seed, matrix.rows as usize * matrix.width as usize);
    let x: Vec<f32> = x.iter().map(|v| v * scale).collect();
    let (got, flag) = launched(programs, rotation, matrix, &x);
    let what = (rotation.len(), rotation.form(), matrix, scale);
    assert!(same(&got, &definition(rotation, matrix, &x)), "{what:?}");
    assert!(!flag, "{what:?}");
}

fn columns(len: u32, rows: u32) -> MatrixLayout {
    MatrixLayout { rows, width: len, along: Axis::In, at: 0 }
}

fn rows(len: u32, width: u32) -> MatrixLayout {
    MatrixLayout { rows: len, width, along: Axis::Out, at: 0 }
}

#[test]
fn ptx_rotations_of_every_order_equal_the_reference() {
    let programs = Programs::unchanged();
    for len in [1, 2, 4, 36, 64, 128, 896, 1536, 2560, 3584, 4096] {
        let rotation = Rotation::new(u64::from(len), Form::Full, 7).unwrap();
        check(&programs, &rotation, columns(len, 2), 1.0);
        check(&programs, &rotation, rows(len, 3), 1.0);
    }
}

/// Those that take more than one pass, dense parts of hundreds of rows among them.
#[test]
#[ignore = "make proof"]
fn ptx_rotations_of_long_orders_equal_the_reference() {
    let programs = Programs::unchanged();
    for len in [8192, 11008, 14336, 32768] {
        let rotation = Rotation::new(u64::from(len), Form::Full, 7).unwrap();
        check(&programs, &rotation, columns(len, 1), 1.0);
        if std::env::var("PTX_BLOCKS").is_ok() {
            check(&programs, &rotation, rows(len, 3), 1.0);
        }
    }
}

#[test]
#[ignore = "make proof"]
fn ptx_rotations_of_heads_equal_the_reference() {
    let programs = Programs::unchanged();
    for (len, form) in [
        (96, Form::Block(24)),
        (256, Form::Block(32)),
        (1024, Form::Block(128)),
        (36, Form::FixesOnes),
        (64, Form::FixesOnes),
        (896, Form::FixesOnes),
        (11008, Form::Block(344)),
    ] {
        let rotation = Rotation::new(len, form, 9).unwrap();
        let len = len as u32;
        check(&programs, &rotation, columns(len, 2), 1.0);
        check(&programs, &rotation, rows(len, 3), 1.0);
    }
    // Heads lie at offsets, and what is beside them stays.
    let rotation = Rotation::new(64, Form::Full, 9).unwrap();
    for at in [0, 5, 64, 100] {
        check(&programs, &rotation, MatrixLayout { rows: 7, width: 164, along: Axis::In, at }, 1.0);
        check(&programs, &rotation, MatrixLayout { rows: 164, width: 7, along: Axis::Out, at }, 1.0);
    }
}

#[test]
fn ptx_rotations_of_any_magnitude_equal_the_reference() {
    let programs = Programs::unchanged();
    for len in [128, 576] {
        let rotation = Rotation::new(len, Form::Full, 3).unwrap();
        for scale in [0.02, 1e-30, 1e-37, 1e-44, 1e30] {
            check(&programs, &rotation, columns(len as u32, 2), scale);
        }
    }
}

#[test]
fn ptx_rotations_that_overflow_are_refused() {
    let programs = Programs::unchanged();
    let rotation = Rotation::new(64, Form::Full, 3).unwrap();
    for bad in [f32::MAX, f32::INFINITY, f32::NAN] {
        let mut x = vec![1.0; 3 * 64];
        // All of one sign after the flips, so that their sum is large.
        x[64..128].iter_mut().zip(rotation.signs()).for_each(|(v, s)| *v = if *s { -bad } else { bad });
        assert!(launched(&programs, &rotation, columns(64, 3), &x).1, "{bad}");
    }
}

#[test]
fn rotation_that_does_not_fit_has_no_launch() {
    let rotation = Rotation::new(64, Form::Full, 3).unwrap();
    let matrix = |rows, width, along, at| MatrixLayout { rows, width, along, at };
    assert!(rotate(&rotation, matrix(2, 63, Axis::In, 0)).is_none());
    assert!(rotate(&rotation, matrix(2, 64, Axis::In, 1)).is_none());
    assert!(rotate(&rotation, matrix(64, 2, Axis::Out, u32::MAX)).is_none());
    assert!(rotate(&rotation, matrix(0, 64, Axis::In, 0)).is_none());
    assert!(rotate(&rotation, matrix(u32::MAX, 1 << 20, Axis::Out, 0)).is_some());
    assert!(rotate(&rotation, matrix(64, u32::MAX, Axis::Out, 0)).is_some());
    assert!(rotate(&rotation, matrix(128, u32::MAX, Axis::Out, 0)).is_some());
    let long = Rotation::new(1 << 20, Form::Block(64), 3).unwrap();
    assert!(rotate(&long, matrix(1 << 20, 1 << 20, Axis::Out, 0)).is_none());
}

/// The largest dense part that there is needs most of what a group may share.
#[test]
fn rotation_of_the_largest_dense_part_has_launches() {
    let order = (1..=2048)
        .rev()
        .map(|n| 4 * (n / 4))
        .find(|&n| n % 8 != 0 && quantoscope_core::rotation::hadamard::exists(n));
    let rotation = Rotation::new(order.unwrap(), Form::Full, 3).unwrap();
    let len = rotation.len() as u32;
    assert!(rotation.hadamard().base() > 1900);
    let (launches, _) = rotate(&rotation, rows(len, 64)).unwrap();
    assert!(launches.iter().all(|l| l.shared <= 47 << 10));
    assert!(rotate(&rotation, columns(len, 2)).is_some());
}
