//! Distance between neighbouring numbers of a float type, and its bit patterns that are not numbers. Knows no
//! tensors.

use crate::dtype::DType;

/// Precision and range of a plain float type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spacing {
    /// Significant bits, the leading one included.
    pub precision: i32,
    /// Exponent of the smallest normal number: below `2^least` the distance between numbers stays the same.
    pub least: i32,
}

impl Spacing {
    /// Returns the spacing of a plain float type that can be decoded, `None` for other types.
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

    /// Largest rounding error at this magnitude: half the distance between the type's numbers there.
    ///
    /// Returns 0 if that is below the normal range of f64.
    #[inline(always)]
    pub fn half(self, magnitude: f64) -> f64 {
        let exponent = (magnitude.to_bits() >> 52) as i32 - 1023;
        power_of_two(exponent.max(self.least) - self.precision)
    }
}

/// `2^n`, or 0 if that is not a normal f64.
#[inline(always)]
fn power_of_two(n: i32) -> f64 {
    let field = n + 1023;
    if (1..2047).contains(&field) { f64::from_bits((field as u64) << 52) } else { 0.0 }
}

/// Returns the index of the first NaN or infinity in a plain float tensor, and the number of all.
///
/// Returns `None` if there is none, and for types whose elements are not single floats. Bit patterns are
/// compared as integers without decoding, because this runs over every tensor that a conversion copies.
pub fn nonfinite(dtype: DType, bytes: &[u8]) -> Option<(usize, u64)> {
    match dtype {
        DType::F64 => scan::<8>(bytes, |b| u16::from_le_bytes([b[6], b[7]]) & 0x7FF0 == 0x7FF0),
        DType::F32 => scan::<4>(bytes, |b| u32::from_le_bytes(b) & 0x7F80_0000 == 0x7F80_0000),
        DType::F16 => scan::<2>(bytes, |b| u16::from_le_bytes(b) & 0x7C00 == 0x7C00),
        DType::BF16 => scan::<2>(bytes, |b| u16::from_le_bytes(b) & 0x7F80 == 0x7F80),
        DType::F8_E4M3 => scan::<1>(bytes, |[b]| b & 0x7F == 0x7F),
        DType::F8_E5M2 => scan::<1>(bytes, |[b]| b & 0x7C == 0x7C),
        // The pattern of negative zero is the only NaN.
        DType::F8_E4M3FNUZ | DType::F8_E5M2FNUZ => scan::<1>(bytes, |[b]| b == 0x80),
        DType::F8_E8M0 => scan::<1>(bytes, |[b]| b == 0xFF),
        _ => None,
    }
}

/// Searches elements of `B` bytes for patterns that are not numbers.
#[inline(always)]
fn scan<const B: usize>(bytes: &[u8], bad: impl Fn([u8; B]) -> bool) -> Option<(usize, u64)> {
    let (values, _) = bytes.as_chunks::<B>();
    let mut found: Option<(usize, u64)> = None;
    // Each chunk is tested without branches, so that the test vectorizes; only a chunk with a hit is
    // searched.
    for (n, chunk) in values.chunks(1024).enumerate() {
        if chunk.iter().fold(false, |any, v| any | bad(*v)) {
            let offset = chunk.iter().position(|v| bad(*v)).unwrap_or(0);
            let count = chunk.iter().filter(|v| bad(**v)).count() as u64;
            let (_, total) = found.get_or_insert((n * 1024 + offset, 0));
            *total += count;
        }
    }
    found
}
