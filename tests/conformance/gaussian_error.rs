//! The error that encodings make of Gaussian noise, measured again.

use quantoscope_core::DType;
use quantoscope_core::plan::measure::sweep_encodings;
use quantoscope_core::quant::gaussian_error::gaussian_floor;
use quantoscope_core::quant::{Encoding, decoder, encoder};

const COLS: usize = 4096;
/// Deviations from 1 up to 2, evenly by their logarithms.
const PHASES: usize = 16;

/// Normal values, by Box and Muller.
fn normals(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed;
    let mut unit = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let pair = |_| {
        let (radius, angle) = ((-2.0 * (1.0 - unit()).ln()).sqrt(), std::f64::consts::TAU * unit());
        [radius * angle.cos(), radius * angle.sin()]
    };
    (0..count / 2).flat_map(pair).collect()
}

/// Squared error relative to the square, over rows that share an octave of deviations.
fn measured(encoding: Encoding, values: &[f64]) -> f64 {
    let (encode, decode) =
        (encoder(encoding).expect("an encoder"), decoder(encoding.dtype()).expect("a decoder"));
    let mut bytes = vec![0; encoding.dtype().bytes_for(COLS as u64).expect("a size") as usize];
    let mut back = vec![0.0_f32; COLS];
    let (mut error, mut square) = (0.0, 0.0);
    for (i, row) in values.chunks_exact(COLS).enumerate() {
        let deviation = ((i % PHASES) as f64 / PHASES as f64).exp2();
        let row: Vec<f32> = row.iter().map(|&x| (x * deviation) as f32).collect();
        encode(&row, None, &mut bytes).expect("finite values");
        decode(&bytes, &mut back);
        let off = |(&x, &y): (&f32, &f32)| (f64::from(x) - f64::from(y)).powi(2);
        // Each row by its own norm, so that no phase weighs more.
        error += row.iter().zip(&back).map(off).sum::<f64>() / (deviation * deviation);
        square += row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / (deviation * deviation);
    }
    error / square
}

fn encodings() -> Vec<Encoding> {
    let mut all = sweep_encodings();
    all.extend([Encoding::Type(DType::F16), Encoding::Type(DType::BF16)]);
    all
}

#[test]
fn the_table_is_what_fresh_noise_gives() {
    let values = normals(77, 32 * COLS);
    for encoding in encodings() {
        let (found, told) = (measured(encoding, &values), gaussian_floor(encoding).expect("an entry"));
        assert!((found / told - 1.0).abs() < 0.02, "{encoding}: {found:e}, in the table {told:e}");
    }
}

/// The table of `core/src/quant/floor.rs`, made again as it was made.
#[test]
#[ignore = "make proof"]
fn the_table_is_made_again_to_its_last_digit() {
    let values = normals(1, 1024 * COLS);
    for encoding in encodings() {
        let (found, told) = (measured(encoding, &values), gaussian_floor(encoding).expect("an entry"));
        assert_eq!(format!("{found:.5e}"), format!("{told:.5e}"), "{encoding}");
    }
}

#[test]
#[ignore = "by hand: prints the table of core/src/quant/floor.rs"]
fn by_hand_print_the_table() {
    let values = normals(1, 1024 * COLS);
    for encoding in encodings() {
        let entry = match encoding {
            Encoding::Type(d) => format!("t(DType::{}, ", d.name()),
            other => format!("(Encoding::{other:?}, "),
        };
        println!("    {entry}{:.5e}),", measured(encoding, &values));
    }
}
