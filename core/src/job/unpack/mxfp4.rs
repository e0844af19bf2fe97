//! MXFP4 of gpt-oss as MXFP4 of ggml: the same codes and powers of two in another order. Nothing is rounded.

use super::PackedPart;

/// Bytes of the codes of a block, and of a block of ggml: the power of two comes first.
const CODES: usize = 16;
const BLOCK: usize = 17;

/// Rearranges the blocks of `codes` and `scales` to `out`.
pub(super) fn decode(codes: &PackedPart<'_>, scales: &PackedPart<'_>, out: &mut [u8]) {
    debug_assert_eq!(codes.row_bytes(), scales.row_bytes() * CODES);
    let (codes, _) = codes.bytes.as_chunks::<CODES>();
    let (blocks, _) = out.as_chunks_mut::<BLOCK>();
    for ((block, codes), scale) in blocks.iter_mut().zip(codes).zip(scales.bytes) {
        let [first, rest @ ..] = block;
        *first = *scale;
        let (low, high) = codes.split_at(CODES / 2);
        // Two values in each byte become the low halves, or the high halves, of two bytes.
        for (pair, (a, b)) in rest.chunks_exact_mut(2).zip(low.iter().zip(high)) {
            if let [even, odd] = pair {
                *even = (a & 0x0F) | (b << 4);
                *odd = (a >> 4) | (b & 0xF0);
            }
        }
    }
}
