//! The twelve bytes in which the k-types keep scales of six bits: eight scales and eight minima, or sixteen scales.
//! Knows no other byte of any type.

/// Bytes of the table.
pub const BYTES: usize = 12;

/// Eight scales and eight minima (Q4_K, Q5_K). The first four of each are the low bits of the first eight bytes;
/// the others have their low nibbles in the last four and their upper two bits on top of the first eight. Of values
/// above 63 the upper bits of the first four fall onto those, as in ggml.
pub fn pack_pairs(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    for j in 0..4 {
        out[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        out[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        out[j + 8] = (scales[j + 4] & 15) | mins[j + 4] << 4;
    }
    out
}

/// The inverse of [`pack_pairs`].
#[inline(always)]
pub fn unpack_pairs(packed: [u8; BYTES]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        (scales[j], mins[j]) = (packed[j] & 63, packed[j + 4] & 63);
        scales[j + 4] = (packed[j + 8] & 15) | packed[j] >> 6 << 4;
        mins[j + 4] = packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4;
    }
    (scales, mins)
}

/// Sixteen scales (Q3_K): nibbles of the first and of the second eight share a byte; the upper two bits of all
/// follow, those of four in step of four to a byte.
pub fn pack_sixteen(scales: &[u8; 16]) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    for j in 0..8 {
        out[j] = (scales[j] & 15) | scales[j + 8] << 4;
    }
    for (j, &scale) in scales.iter().enumerate() {
        out[8 + j % 4] |= (scale >> 4 & 3) << (2 * (j / 4));
    }
    out
}

/// The inverse of [`pack_sixteen`].
#[inline(always)]
pub fn unpack_sixteen(packed: [u8; BYTES]) -> [u8; 16] {
    let mut scales = [0; 16];
    for (j, scale) in scales.iter_mut().enumerate() {
        let low = packed[j % 8] >> (4 * (j / 8)) & 15;
        *scale = low | (packed[8 + j % 4] >> (2 * (j / 4)) & 3) << 4;
    }
    scales
}
