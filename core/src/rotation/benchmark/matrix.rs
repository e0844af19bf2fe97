//! The matrix of the published benchmark: small normal weights and a few outliers at random places.
//!
//! All random integers, signs and magnitudes equal those of the original. Normal values are within 5e-7 of
//! the original ones, whose logarithms and cosines come from another math library. If two outliers hit the
//! same place, the last one stays.

use super::mersenne::Mersenne;
use crate::error::{Code, Error, Result};
use alloc::format;
use alloc::vec::Vec;

/// Standard deviation of the normal weights.
const DEVIATION: f32 = 0.02;
/// Largest number of values: 1 GiB.
const MOST: u64 = 1 << 28;

/// Sixteen normal values by the Box-Muller transform: eight random numbers for radii, eight for angles.
fn normals(generator: &mut Mersenne) -> [f32; 16] {
    let units = [(); 16].map(|()| generator.unit());
    let mut out = [0.0; 16];
    for j in 0..8 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - f64::from(units[j])));
        let (sin, cos) = libm::sincos(2.0 * core::f64::consts::PI * f64::from(units[j + 8]));
        out[j] = (radius * cos) as f32;
        out[j + 8] = (radius * sin) as f32;
    }
    out
}

/// Generates `[rows, cols]` weights, row-major.
///
/// # Errors
///
/// [`Code::Usage`] unless the number of values is a multiple of 16 between 16 and 2^28.
pub fn matrix(rows: u32, cols: u32, seed: u32) -> Result<Vec<f32>> {
    let count = u64::from(rows) * u64::from(cols);
    if count == 0 || !count.is_multiple_of(16) || count > MOST {
        let message = format!(
            "a matrix of {rows} x {cols}: between 16 and {MOST} values, a multiple of 16, are needed"
        );
        return Err(Error::new(Code::Usage, message));
    }
    let mut generator = Mersenne::new(seed);
    let mut values = Vec::with_capacity(count as usize);
    while (values.len() as u64) < count {
        values.extend(normals(&mut generator).map(|n| DEVIATION * n));
    }
    let large = (cols / 200).max(1) as usize * rows as usize;
    let mut draw_below = |limit: u32| -> Vec<u32> { (0..large).map(|_| generator.word() % limit).collect() };
    let (row, col, sign) = (draw_below(rows), draw_below(cols), draw_below(2));
    for ((row, col), sign) in row.into_iter().zip(col).zip(sign) {
        let magnitude = 0.3 + 0.4 * generator.unit();
        let at = row as usize * cols as usize + col as usize;
        values[at] = if sign == 1 { magnitude } else { -magnitude };
    }
    Ok(values)
}
