//! What the 256-value types share: how codes of one, two and four bits lie in a super-block.
//!
//! Knows no layout of any one type, and no search.

/// Values in a super-block.
pub const LEN: usize = 256;
/// The values of a super-block.
pub type SuperBlockValues = [f32; LEN];
/// The codes of a super-block, one per byte.
pub type SuperBlockCodes = [u8; LEN];

/// Nibbles in chunks of `S` bytes: the low ones hold the first `S` codes of a chunk, the high ones the next `S`.
#[inline(always)]
pub fn pack_nibbles<const S: usize>(codes: &SuperBlockCodes, out: &mut [u8]) {
    let chunks = out.as_chunks_mut::<S>().0;
    for (bytes, [low, high]) in chunks.iter_mut().zip(codes.as_chunks::<S>().0.as_chunks::<2>().0) {
        // An array of its own, which nothing can alias: only so is this compiled to vectors.
        let mut packed = [0; S];
        for ((byte, &l), &h) in packed.iter_mut().zip(low).zip(high) {
            *byte = (l & 15) | (h << 4);
        }
        *bytes = packed;
    }
}

/// The inverse of [`pack_nibbles`].
#[inline(always)]
pub fn unpack_nibbles<const S: usize>(packed: &[u8]) -> SuperBlockCodes {
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

/// Two bits a code, four stretches of 32 codes in 32 bytes: the first stretch in the lowest bits.
#[inline(always)]
pub fn pack_quarters(codes: &SuperBlockCodes, out: &mut [u8]) {
    let halves = codes.as_chunks::<32>().0.as_chunks::<4>().0;
    for (bytes, [a, b, c, d]) in out.as_chunks_mut::<32>().0.iter_mut().zip(halves) {
        let mut packed = [0; 32];
        for (l, byte) in packed.iter_mut().enumerate() {
            *byte = (a[l] & 3) | (b[l] & 3) << 2 | (c[l] & 3) << 4 | d[l] << 6;
        }
        *bytes = packed;
    }
}

/// The inverse of [`pack_quarters`].
#[inline(always)]
pub fn unpack_quarters(packed: &[u8]) -> SuperBlockCodes {
    let mut codes = [0; LEN];
    let halves = codes.as_chunks_mut::<32>().0.as_chunks_mut::<4>().0;
    for (bytes, half) in packed.chunks(32).zip(halves) {
        for (k, stretch) in half.iter_mut().enumerate() {
            for (q, &byte) in stretch.iter_mut().zip(bytes) {
                *q = byte >> (2 * k) & 3;
            }
        }
    }
    codes
}

/// One bit a code, the one at `shift`: bit `k` of byte `l` is that of code `32 k + l`.
#[inline(always)]
pub fn pack_plane(codes: &SuperBlockCodes, shift: u32) -> [u8; 32] {
    // Eight bytes in a word are shifted as one; what crosses into a neighbour is masked.
    let mut words = [0_u64; 4];
    for (k, stretch) in codes.as_chunks::<32>().0.iter().enumerate() {
        for (word, &eight) in words.iter_mut().zip(stretch.as_chunks::<8>().0) {
            *word |= (u64::from_le_bytes(eight) >> shift & 0x0101_0101_0101_0101) << k;
        }
    }
    let mut plane = [0; 32];
    for (bytes, word) in plane.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    plane
}

/// Puts the bits of a plane back at `shift`.
#[inline(always)]
pub fn add_plane(codes: &mut SuperBlockCodes, plane: &[u8], shift: u32) {
    for (k, stretch) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (q, &byte) in stretch.iter_mut().zip(plane) {
            *q |= (byte >> k & 1) << shift;
        }
    }
}
