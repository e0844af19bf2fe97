//! The twelve bytes in which k-quants store 6-bit scales: eight scales and eight minima (Q4_K, Q5_K), or
//! sixteen scales (Q3_K). Source: `get_scale_min_k4` of ggml and the packing in
//! `quantize_row_q{3,4,5}_K_ref`.

/// Bytes of the packed scales.
pub const BYTES: usize = 12;

/// Packs eight scales and eight minima (Q4_K, Q5_K).
///
/// | bytes | lower 6 bits (0..4, 4..8) or nibbles (8..12) | upper 2 bits |
/// |---|---|---|
/// | 0..4 | scales 0..4 | bits 4 and 5 of scales 4..8 |
/// | 4..8 | minima 0..4 | bits 4 and 5 of minima 4..8 |
/// | 8..12 | bits 0..4 of scales 4..8 (low nibble) and minima 4..8 | |
///
/// Bits above the sixth of the first four overlap those, as in ggml.
pub fn pack_pairs(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    for j in 0..4 {
        out[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        out[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        out[j + 8] = (scales[j + 4] & 15) | mins[j + 4] << 4;
    }
    out
}

/// Inverse of [`pack_pairs`].
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

/// Packs sixteen scales (Q3_K).
///
/// Byte `j < 8` holds the low nibbles of scales `j` and `j + 8`. Byte `8 + i` holds bits 4 and 5 of the
/// scales `i`, `i + 4`, `i + 8` and `i + 12`, the first in the lowest bits.
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

/// Inverse of [`pack_sixteen`].
#[inline(always)]
pub fn unpack_sixteen(packed: [u8; BYTES]) -> [u8; 16] {
    let mut scales = [0; 16];
    for (j, scale) in scales.iter_mut().enumerate() {
        let low = packed[j % 8] >> (4 * (j / 8)) & 15;
        *scale = low | (packed[8 + j % 4] >> (2 * (j / 4)) & 3) << 4;
    }
    scales
}
