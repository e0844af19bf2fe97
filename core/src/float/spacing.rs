//! How far apart the numbers of a float type lie, and which of its patterns are no numbers. Knows no tensors.

use crate::dtype::DType;

/// The numbers of a plain float type: `precision` significant bits, and a spacing that no longer shrinks below `2^least`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spacing {
    /// Significant bits, the leading one included.
    pub precision: i32,
    /// Exponent of the least normal number.
    pub least: i32,
}

impl Spacing {
    /// The spacing of a plain float type that can be decoded; `None` for every other type.
    pub const fn of(dtype: DType) -> Option<Spacing> {
        let (precision, least) = match dtype {
            DType::F64 => (53, -1022),
            DType::F32 => (24, -126),
            DType::F16 => (11, -14),
            DType::BF16 => (8, -126),
            DType::F8_E4M3 => (4, -6),
            DType::F8_E5M2 => (3, -14),
            _ => return None,
        };
        Some(Spacing { precision, least })
    }

    /// The most by which rounding to nearest changes a value of this magnitude: half of the distance of the type's numbers
    /// there; 0 where f64 cannot hold it.
    #[inline(always)]
    pub fn half(self, magnitude: f64) -> f64 {
        let exponent = (magnitude.to_bits() >> 52) as i32 - 1023;
        power_of_two(exponent.max(self.least) - self.precision)
    }
}

/// `2^n`, or 0 where that is no normal f64.
#[inline(always)]
fn power_of_two(n: i32) -> f64 {
    let field = n + 1023;
    if (1..2047).contains(&field) { f64::from_bits((field as u64) << 52) } else { 0.0 }
}

/// The first element of a plain float tensor that is NaN or infinite, and how many there are; `None` where there are none, and
/// for types whose elements are no single floats.
///
/// Patterns are compared as integers, without decoding: this runs over every tensor that a conversion copies.
pub fn nonfinite(dtype: DType, bytes: &[u8]) -> Option<(usize, u64)> {
    match dtype {
        DType::F64 => scan::<8>(bytes, |b| u16::from_le_bytes([b[6], b[7]]) & 0x7FF0 == 0x7FF0),
        DType::F32 => scan::<4>(bytes, |b| u32::from_le_bytes(b) & 0x7F80_0000 == 0x7F80_0000),
        DType::F16 => scan::<2>(bytes, |b| u16::from_le_bytes(b) & 0x7C00 == 0x7C00),
        DType::BF16 => scan::<2>(bytes, |b| u16::from_le_bytes(b) & 0x7F80 == 0x7F80),
        DType::F8_E4M3 => scan::<1>(bytes, |[b]| b & 0x7F == 0x7F),
        DType::F8_E5M2 => scan::<1>(bytes, |[b]| b & 0x7C == 0x7C),
        // Negative zero's pattern is the only one that is no number.
        DType::F8_E4M3FNUZ | DType::F8_E5M2FNUZ => scan::<1>(bytes, |[b]| b == 0x80),
        DType::F8_E8M0 => scan::<1>(bytes, |[b]| b == 0xFF),
        _ => None,
    }
}

#[inline(always)]
fn scan<const B: usize>(bytes: &[u8], bad: impl Fn([u8; B]) -> bool) -> Option<(usize, u64)> {
    let (values, _) = bytes.as_chunks::<B>();
    let mut found: Option<(usize, u64)> = None;
    // A whole stretch is judged without a branch, so that it vectorises; only a guilty one is searched.
    for (n, stretch) in values.chunks(1024).enumerate() {
        if stretch.iter().fold(false, |any, v| any | bad(*v)) {
            let within = stretch.iter().position(|v| bad(*v)).unwrap_or(0);
            let count = stretch.iter().filter(|v| bad(**v)).count() as u64;
            let (_, all) = found.get_or_insert((n * 1024 + within, 0));
            *all += count;
        }
    }
    found
}
