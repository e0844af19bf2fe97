//! The rotation benchmark against its published figures.

use quantoscope_core::Code;
use quantoscope_core::rotation::benchmark::{BenchmarkResult, ErrorSums, RotationBenchmark, formats, matrix};

fn answer(rows: u32, cols: u32, seed: u32, block: u32) -> BenchmarkResult {
    let values = matrix(rows, cols, seed).unwrap();
    let trial = RotationBenchmark::new(cols, 32, formats(block, 32)).unwrap();
    trial.answer(&trial.measure(&values))
}

fn close(ours: f64, published: f64) {
    assert!((ours / published - 1.0).abs() < 5e-7, "{ours} and {published}");
}

#[test]
fn benchmark_matrix_equals_the_published_one() {
    let values = matrix(64, 1024, 0).unwrap();
    // As published, to nine digits.
    let first =
        [-0.022516796380, -0.023047203198, -0.005011571571, -0.008677575737, 0.016974207014, 0.013840182684];
    assert!(values.iter().zip(first).all(|(&a, b): (&f32, f64)| (f64::from(a) - b).abs() < 2e-8));
    let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
    let squares: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    // Another library's logarithms and cosines, 65,536 times: each normal is within 5e-7 of the original's.
    assert!((sum - -7.314_334_322).abs() < 1e-4, "{sum}");
    close(squares, 113.312_983_445_548_94);
    for (rows, cols) in [(0, 64), (3, 5), (u32::MAX, u32::MAX)] {
        assert_eq!(matrix(rows, cols, 0).unwrap_err().code(), Code::Usage, "{rows} {cols}");
    }
}

#[test]
fn benchmark_rows_equal_the_published_ones() {
    // MSE, greatest error, cosine and SQNR of Q4 Q3 Q2 and of the same rotated.
    let plain = [
        (4.631921304551396e-05, 0.04927598685026169, 0.9865872057645988, 15.720385753124866),
        (7.305588697306968e-05, 0.08535303672154743, 0.9787104337720538, 13.741445296143722),
        (0.0002089713216018309, 0.30100899934768677, 0.9411326892730222, 9.177130581728285),
    ];
    let by_128 = [
        (1.0134637680306838e-05, 0.023740929992365108, 0.9970901200291271, 22.319915205104127),
        (5.46249070479764e-05, 0.06638626547442071, 0.9846590390280023, 15.004090365496792),
        (0.0005432221072665876, 0.4625686123656578, 0.8973950674459115, 5.028223115952107),
    ];
    let by_32 = [
        (8.000886249129208e-06, 0.02868016579356794, 0.9976955251182997, 23.346616515496446),
        (4.314566348105507e-05, 0.06312489355332218, 0.9877689695398358, 16.028625956885083),
        (0.0004122160828302266, 0.30548423585423723, 0.9384640257345673, 6.226748155106713),
    ];
    let a = answer(64, 1024, 0, 128);
    let published = plain.iter().chain(&by_128).chain(&by_32);
    for (f, &(mse, max, cosine, sqnr)) in a.formats.iter().zip(published) {
        close(f.mse, mse);
        assert!((f.max_error - max).abs() < 1e-6, "{} and {max}", f.max_error);
        close(f.cosine, cosine);
        assert!((f.sqnr_db - sqnr).abs() < 1e-5, "{} and {sqnr}", f.sqnr_db);
    }
    // Only the same width is reached by the published rotation; with the block of a group, one bit less is.
    assert_eq!((a.lowest_matching_bits, a.lowest_matching_bits_of_all), (Some(4), Some(3)));
}

#[test]
fn benchmark_row_by_row_equals_whole() {
    let values = matrix(8, 1024, 7).unwrap();
    let trial = RotationBenchmark::new(1024, 32, formats(64, 32)).unwrap();
    let whole = trial.measure(&values);
    let mut parts = vec![ErrorSums::default(); whole.len()];
    for row in values.chunks(1024) {
        parts.iter_mut().zip(trial.measure(row)).for_each(|(sum, row)| sum.add(&row));
    }
    assert_eq!(whole, parts);
}

#[test]
fn benchmark_invalid_sizes_are_refused() {
    for (cols, group, block, message) in [
        (1024, 0, 128, "rows of 1024 do not divide into groups of 0"),
        (1024, 48, 128, "rows of 1024 do not divide into groups of 48"),
        (1024, 32, 96, "rows of 1024 do not divide into blocks of 96"),
        (1472, 32, 92, "no Hadamard matrix of order 92 can be constructed"),
    ] {
        let error = RotationBenchmark::new(cols, group, formats(block, 32)).unwrap_err();
        assert_eq!((error.code(), &*error.detail().message), (Code::Usage, message));
    }
}
