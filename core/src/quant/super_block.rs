//! Packing of codes of one, two and four bits in super-blocks of 256 values.
//!
//! Knows no layout of a single type, and no search.

/// Values of a super-block.
pub(super) const LEN: usize = 256;
/// Values of a super-block.
pub(super) type SuperBlockValues = [f32; LEN];
/// Codes of a super-block, one per byte.
pub(super) type SuperBlockCodes = [u8; LEN];

/// Packs 4-bit codes in chunks of `S` bytes: the low nibbles hold the first `S` codes of a chunk, the high
/// ones the next `S`.
#[inline(always)]
pub(super) fn pack_nibbles<const S: usize>(codes: &SuperBlockCodes, out: &mut [u8]) {
    let chunks = out.as_chunks_mut::<S>().0;
    for (bytes, [low, high]) in chunks.iter_mut().zip(codes.as_chunks::<S>().0.as_chunks::<2>().0) {
        // A separate array cannot alias, which lets the compiler vectorize.
        let mut packed = [0; S];
        for ((byte, &l), &h) in packed.iter_mut().zip(low).zip(high) {
            *byte = (l & 15) | (h << 4);
        }
        *bytes = packed;
    }
}

/// Inverse of [`pack_nibbles`].
#[inline(always)]
pub(super) fn unpack_nibbles<const S: usize>(packed: &[u8]) -> SuperBlockCodes {
    let mut codes = [0; LEN];
    let chunks = codes.as_chunks_mut::<S>().0.as_chunks_mut::<2>().0;
    for (bytes, [low, high]) in packed.chunks(S).zip(chunks) {
        for ((&byte, l), h) in bytes.iter().zip(low).zip(high) {
            *l = byte & 15;
            *h = byte >> 4;
        }
    }
    codes
}

/// Packs 2-bit codes: 32 bytes hold 128 codes, the first 32 in the lowest two bits, then the next 32.
#[inline(always)]
pub(super) fn pack_quarters(codes: &SuperBlockCodes, out: &mut [u8]) {
    let halves = codes.as_chunks::<32>().0.as_chunks::<4>().0;
    for (bytes, [a, b, c, d]) in out.as_chunks_mut::<32>().0.iter_mut().zip(halves) {
        let mut packed = [0; 32];
        for (l, byte) in packed.iter_mut().enumerate() {
            *byte = (a[l] & 3) | (b[l] & 3) << 2 | (c[l] & 3) << 4 | d[l] << 6;
        }
        *bytes = packed;
    }
}

/// Inverse of [`pack_quarters`].
#[inline(always)]
pub(super) fn unpack_quarters(packed: &[u8]) -> SuperBlockCodes {
    let mut codes = [0; LEN];
    let halves = codes.as_chunks_mut::<32>().0.as_chunks_mut::<4>().0;
    for (bytes, half) in packed.chunks(32).zip(halves) {
        for (k, run) in half.iter_mut().enumerate() {
            for (q, &byte) in run.iter_mut().zip(bytes) {
                *q = byte >> (2 * k) & 3;
            }
        }
    }
    codes
}

/// Packs the bit at `shift` of every code: bit `k` of byte `l` belongs to code `32 k + l`.
#[inline(always)]
pub(super) fn pack_plane(codes: &SuperBlockCodes, shift: u32) -> [u8; 32] {
    // Eight bytes are shifted together in a word; bits that cross into a neighbour are masked.
    let mut words = [0_u64; 4];
    for (k, run) in codes.as_chunks::<32>().0.iter().enumerate() {
        for (word, &eight) in words.iter_mut().zip(run.as_chunks::<8>().0) {
            *word |= (u64::from_le_bytes(eight) >> shift & 0x0101_0101_0101_0101) << k;
        }
    }
    let mut plane = [0; 32];
    for (bytes, word) in plane.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    plane
}

/// Adds the bits of a plane at `shift`; inverse of [`pack_plane`].
#[inline(always)]
pub(super) fn add_plane(codes: &mut SuperBlockCodes, plane: &[u8], shift: u32) {
    for (k, run) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (q, &byte) in run.iter_mut().zip(plane) {
            *q |= (byte >> k & 1) << shift;
        }
    }
}
